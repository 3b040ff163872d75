/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the polling policy. */
#include "../../util/aio-poll.h"

#include <glib.h>

typedef struct AdjustCase {
    const char *what;
    AioPollParams params;
    int64_t poll_ns;
    int64_t blocked_ns;
    bool event;
    int64_t expect_ns;
} AdjustCase;

static const AdjustCase adjust_cases[] = {
    { "no polling at all", { .max_ns = 0 }, 0, 100, true, 0 },
    { "polling switched off", { .max_ns = 0 }, 8000, 100, true, 0 },
    { "negative bound", { .max_ns = -1 }, 8000, 100, true, 0 },
    { "first growth", { .max_ns = 32768 }, 0, 20000, true, 4000 },
    { "first growth is bounded", { .max_ns = 3000 }, 0, 2000, true, 3000 },
    { "growth by 2 by default", { .max_ns = 32768 }, 4000, 20000, true, 8000 },
    { "growth by a factor", { .max_ns = 32768, .grow = 3 }, 4000, 20000, true, 12000 },
    { "growth by 1 is none", { .max_ns = 32768, .grow = 1 }, 4000, 20000, true, 4000 },
    { "growth is bounded", { .max_ns = 32768 }, 32000, 32700, true, 32768 },
    { "growth does not wrap", { .max_ns = INT64_MAX, .grow = INT64_MAX }, 4000, 5000, true,
      INT64_MAX },
    { "sweet spot", { .max_ns = 32768 }, 8000, 8000, true, 8000 },
    { "sweet spot without event", { .max_ns = 32768 }, 8000, 8000, false, 8000 },
    { "just too short", { .max_ns = 32768 }, 8000, 8001, true, 16000 },
    { "longest that grows", { .max_ns = 32768 }, 8000, 32768, true, 16000 },
    { "in vain", { .max_ns = 32768 }, 8000, 32769, true, 0 },
    { "in vain, another's event", { .max_ns = 32768 }, 8000, 32769, false, 0 },
    { "in vain, by a divisor", { .max_ns = 32768, .shrink = 2 }, 8000, 32769, true, 4000 },
    { "another's event", { .max_ns = 32768 }, 8000, 20000, false, 8000 },
    { "bound lowered", { .max_ns = 5000 }, 8000, 100, true, 5000 },
    { "bound lowered, in vain", { .max_ns = 5000, .shrink = 2 }, 8000, 6000, true, 2500 },
};

static void test_adjust(void)
{
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(adjust_cases); i++) {
        const AdjustCase *c = &adjust_cases[i];

        g_test_message("%s", c->what);
        g_assert_cmpint(aio_poll_adjust(&c->params, c->poll_ns, c->blocked_ns, c->event), ==,
                        c->expect_ns);
    }
}

/* Events every 20 us: polling grows until it meets them, and stays there. */
static void test_converges(void)
{
    const AioPollParams params = AIO_POLL_PARAMS_DEFAULT;
    static const int64_t expect_ns[] = { 4000, 8000, 16000, 32000, 32000, 32000 };
    int64_t poll_ns = 0;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(expect_ns); i++) {
        poll_ns = aio_poll_adjust(&params, poll_ns, 20000, true);
        g_assert_cmpint(poll_ns, ==, expect_ns[i]);
    }
}

static void test_idle(void)
{
    const int64_t start_ns = 1234;

    g_assert_false(aio_poll_is_idle(start_ns, start_ns));
    g_assert_false(aio_poll_is_idle(start_ns, start_ns + AIO_POLL_IDLE_NS - 1));
    g_assert_true(aio_poll_is_idle(start_ns, start_ns + AIO_POLL_IDLE_NS));
    g_assert_cmpint(AIO_POLL_IDLE_NS, ==, 7 * INT64_C(1000000000));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aio-poll/adjusts-by-table", test_adjust);
    g_test_add_func("/aio-poll/converges-on-regular-events", test_converges);
    g_test_add_func("/aio-poll/idle-after-seven-seconds", test_idle);
    return g_test_run();
}
