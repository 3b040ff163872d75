/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiting for something that another process does, with a time-out. */
#ifndef TESTS_QTEST_WAIT_H
#define TESTS_QTEST_WAIT_H

#include <glib.h>

#define WAIT_MS 10000

/* Looks again and again until @condition holds; the test fails if that takes too long. */
#define WAIT_FOR(condition)                                                                      \
    do {                                                                                         \
        const int64_t wait_end = g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND;     \
                                                                                                 \
        while (!(condition)) {                                                                   \
            if (g_get_monotonic_time() > wait_end) {                                             \
                g_error("%s:%d: not after %d ms: %s", __FILE__, __LINE__, WAIT_MS, #condition);  \
            }                                                                                    \
            g_usleep(200);                                                                       \
        }                                                                                        \
    } while (0)

#endif
