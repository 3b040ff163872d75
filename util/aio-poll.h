/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The policy of adaptive polling: how long it is worth polling a handler before a sleep.
 *
 * Pure functions; they know no clock and no descriptor.  All times are nanoseconds.
 *
 * How it works.  Each handler has a polling time of its own, and a loop polls for as long as
 * the greatest of them.  "Blocked" is how long the loop had nothing to do before the
 * event: the polling and the sleep after it.  Had the event come within the polling time,
 * all is well; had it come a little later, a longer polling would have met it; had it
 * come so late that max_ns of polling would not have met it, polling was in vain.
 */
#ifndef UTIL_AIO_POLL_H
#define UTIL_AIO_POLL_H

#include <stdbool.h>
#include <stdint.h>

#include "util/aio-context.h"

enum {
    AIO_POLL_FIRST_NS = 4000,           /* where growth begins */
    AIO_POLL_SLICE_NS = 50000,          /* polling looks at descriptors this often */
};

/* A handler without events for so long is polled no more, until its descriptor fires. */
#define AIO_POLL_IDLE_NS INT64_C(7000000000)

/*
 * The new polling time of a handler whose time is @poll_ns, after the loop was blocked for
 * @blocked_ns; @event: what ended that was an event of this handler.
 */
int64_t aio_poll_adjust(const AioPollParams *params, int64_t poll_ns, int64_t blocked_ns,
                        bool event);

/* Whether a handler whose last event was at @since_ns is to leave the poll list. */
bool aio_poll_is_idle(int64_t since_ns, int64_t now_ns);

/* Owner; for tests: what @ctx reads the time from. */
void aio_context_set_clock(AioContext *ctx, int64_t (*now_ns)(void));

#endif
