/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * AioContext: an event loop that one thread owns.
 *
 * Handlers watch file descriptors.  A handler with a poll callback is also asked
 * while the loop busy-polls, adaptively, before it sleeps.  Bottom halves carry
 * work into the loop from any thread.
 *
 * Threads: "owner" is the thread that calls aio_poll(); before the first
 * aio_poll() it is the thread that made the context.  Unless a function says
 * "any thread", only the owner may call it.
 */
#ifndef UTIL_AIO_CONTEXT_H
#define UTIL_AIO_CONTEXT_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <urcu/wfcqueue.h>

typedef struct AioContext AioContext;
typedef struct AioHandler AioHandler;

typedef struct AioHandlerOps {
    /*
     * The descriptor is readable (or at its end, or in error).  It is called again for as
     * long as that is so: a handler that cannot drain its descriptor removes itself, or
     * the loop spins.
     */
    void (*ready)(void *opaque);
    /*
     * Look for work, do some, tell whether there was any.  NULL: never polled.  While there
     * is, the loop comes back at once and looks at descriptors only every 64 iterations, or
     * sooner if these take long: what one call does must be bounded.
     */
    bool (*poll)(void *opaque);
    /*
     * The loop begins to poll this handler: its notifications may be suppressed.
     * The loop ends polling it: notifications must be allowed again; the loop
     * calls poll once more afterwards, so nothing is lost in between.
     * Both or neither; only with poll.  aio_remove_handler() ends polling too, without
     * that last poll.
     */
    void (*poll_begin)(void *opaque);
    void (*poll_end)(void *opaque);
} AioHandlerOps;

/* How long the loop polls before it sleeps; the knobs are QEMU's. */
typedef struct AioPollParams {
    int64_t max_ns;     /* upper bound of polling before a sleep; 0: never poll */
    int64_t grow;       /* factor when polling was too short; 0: 2 */
    int64_t shrink;     /* divisor when polling is in vain on average; 0: back to no polling */
    int64_t weight;     /* the newest event counts 1/2^weight in that average; 0: 3 */
    int64_t nap_ns;     /* while there is work now and then: sleep this long between polls; 0: no */
} AioPollParams;

#define AIO_POLL_PARAMS_DEFAULT ((AioPollParams){ .max_ns = 32768 })

/* A bottom half: embed it, initialise it once, schedule it as often as you like. */
typedef struct AioBh {
    struct cds_wfcq_node node;
    atomic_bool scheduled;              /* waits to be run */
    void (*fn)(void *opaque);
    void *opaque;
} AioBh;

/* NULL and @errp if the kernel has no epoll instance or eventfd left. */
AioContext *aio_context_new(GError **errp);

/* Any thread, once nobody uses it any more; all its handlers are removed. */
void aio_context_free(AioContext *ctx);

/* Any thread; takes effect at the next iteration. */
void aio_context_set_poll_params(AioContext *ctx, const AioPollParams *params);

/*
 * Watches @fd until aio_remove_handler(). @ops and @opaque outlive it, and so does @fd:
 * it is closed only after the removal.
 * -1: no descriptor, only polled, whatever AioPollParams say; the loop then never sleeps
 * while the handler is there.
 * NULL if epoll refuses the descriptor (a regular file, the same one twice, or no
 * memory): errno says why.
 */
AioHandler *aio_add_handler(AioContext *ctx, int fd, const AioHandlerOps *ops, void *opaque);

/*
 * No callback of @handler runs after this, though it may be called from one, of this
 * handler or of another.
 */
void aio_remove_handler(AioContext *ctx, AioHandler *handler);

/*
 * Not from within a callback.  One iteration: polling, a sleep in the kernel if @blocking and
 * there is nothing to do, ready handlers, bottom halves.  True if anything was done.
 */
bool aio_poll(AioContext *ctx, bool blocking);

void aio_bh_init(AioBh *bh, void (*fn)(void *opaque), void *opaque);

/*
 * Any thread: runs bh->fn in the owner's loop, once however often it is scheduled
 * before it runs, in the order of scheduling.  Lock-free; a system call only if the loop may
 * be asleep.  What the caller wrote before is seen by fn.  One that fn schedules, itself
 * say, runs in the next iteration.  fn may free @bh.
 */
void aio_bh_schedule(AioContext *ctx, AioBh *bh);

/*
 * Any thread but the owner: runs fn in the owner's loop and waits until it has run; what
 * fn wrote is seen by the caller.  The caller is offline for RCU meanwhile.
 * From the owner: calls it at once.
 */
void aio_run_in(AioContext *ctx, void (*fn)(void *opaque), void *opaque);

/*
 * Owner, in a callback: @who has done a piece of work; @light: it never has much to do.
 * True if others had light work lately: then let the next piece be small, for they may be
 * waiting for its end.  Those who have much to do would gain nothing by that.
 */
bool aio_take_turn(AioContext *ctx, const void *who, bool light);

/*
 * Any thread but the owner: returns when all bottom halves that were scheduled before have run, and
 * those that they scheduled.  The caller is offline for RCU meanwhile.
 */
void aio_drain(AioContext *ctx);

/* Any thread: makes a sleeping or polling aio_poll() return. */
void aio_notify(AioContext *ctx);

/* Any thread: sleeps in the kernel so far (relaxed counter). */
uint64_t aio_context_sleeps(const AioContext *ctx);

#endif
