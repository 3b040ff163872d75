/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the seed and the length of a generated history come from.
 */
#include "lib/random.h"

#include <glib.h>
#include <inttypes.h>

#include "lib/sanitizer.h"

static uint64_t number_from_env(const char *name, uint64_t otherwise)
{
    const char *text = g_getenv(name);

    return text ? g_ascii_strtoull(text, NULL, 0) : otherwise;
}

uint64_t random_seed(void)
{
    uint64_t seed = number_from_env("SVQ_TEST_SEED", (uint64_t)g_get_real_time());

    g_test_message("repeat with SVQ_TEST_SEED=%" PRIu64, seed);
    return seed;
}

uint64_t random_steps(uint64_t wanted)
{
    return number_from_env("SVQ_TEST_STEPS", SANITIZED ? wanted / 10 : wanted);
}
