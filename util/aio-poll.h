/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The policy of adaptive polling: how long it is worth polling a handler before a sleep.
 *
 * Pure functions; they know no clock and no descriptor.  All times are nanoseconds.
 *
 * How it works.  Each handler has a polling time of its own, and a loop polls for as long as
 * the greatest of them.  A "wait" is how long the loop had nothing to do before an event of
 * the handler: the polling and the sleep after it.  Had the event come within the polling
 * time, all is well; had it come a little later, a longer polling would have met it; had it
 * come so late that max_ns of polling would not have met it, polling was in vain.
 *
 * What one wait says is little: events come in bursts, and at random.  So polling is given up
 * or begun by the moving average of the waits, a long one counting as twice max_ns: it pays
 * while about half of the waits are short.
 *
 * A wait that ended in a sleep contains the waking up, which may take longer than max_ns.  Who
 * has slept therefore cannot know that an instant of polling would do.  So who does not poll
 * tries it, once in a while, for the whole of max_ns.
 */
#ifndef UTIL_AIO_POLL_H
#define UTIL_AIO_POLL_H

#include <stdbool.h>
#include <stdint.h>

#include "util/aio-context.h"

enum {
    AIO_POLL_FIRST_NS = 4000,           /* where growth begins */
    AIO_POLL_TRIAL = 16,                /* who does not poll tries it at one wait of these */
    AIO_POLL_WEIGHT = 3,                /* of the newest wait in the average: 1/2^3 */
    AIO_POLL_IDLE = 8,                  /* times max_ns without an event: idle */
    AIO_POLL_NAPS = 8,                  /* in vain: it is time to sleep until woken */
    AIO_POLL_SLICE_NS = 8000,           /* polling in vain looks at descriptors this often */
    AIO_LOOK_NS = 32000,                /* and polling with success about so often, ... */
    AIO_LOOK_ROUNDS_MIN = 4,            /* ... but once in so many iterations at the most ... */
    AIO_LOOK_ROUNDS_MAX = 64,           /* ... and so many at the least */
};

/* What is known of a handler; all zero at first. */
typedef struct AioPollState {
    int64_t poll_ns;        /* how long to poll */
    int64_t average_ns;     /* of the waits */
    unsigned int unpolled;  /* waits since it was polled last */
} AioPollState;

/* Learns from an event of a handler that came after the loop had waited for @wait_ns. */
void aio_poll_learn(AioPollState *state, const AioPollParams *params, int64_t wait_ns);

/*
 * Whether a handler whose last event was at @since_ns is to leave the poll list.  Others
 * pay for its being asked; its coming back costs an eventfd written and read.
 */
bool aio_poll_is_idle(int64_t max_ns, int64_t since_ns, int64_t now_ns);

/* After how many iterations to look at descriptors again, when @rounds took @elapsed_ns. */
unsigned int aio_poll_look_rounds(unsigned int rounds, int64_t elapsed_ns);

/* Owner; for tests: what @ctx reads the time from. */
void aio_context_set_clock(AioContext *ctx, int64_t (*now_ns)(void));

#endif
