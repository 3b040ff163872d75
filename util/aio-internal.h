/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of an AioContext know of each other: the loop, its handlers, its bottom halves. */
#ifndef UTIL_AIO_INTERNAL_H
#define UTIL_AIO_INTERNAL_H

#include <urcu/list.h>
#include <urcu/wfcqueue.h>

#include "util/aio-context.h"
#include "util/event-notifier.h"
#include "aio-monitor.h"
#include "aio-poll.h"

#define AIO_CACHE_LINE 64

struct AioHandler {
    struct cds_list_head node;          /* in AioContext.handlers */
    struct cds_list_head poll_node;     /* in AioContext.poll_list, if listed */
    const AioHandlerOps *ops;
    void *opaque;
    int fd;
    bool removed;       /* no callback any more; freed when the iteration ends */
    bool listed;
    bool polling;       /* between poll_begin and poll_end */
    bool fired;         /* it had work when it was last asked, or its descriptor fired */
    bool active;        /* it fired since idle_since_ns was looked at */
    int64_t idle_since_ns;
    AioPollState state;
};

struct AioContext {
    /* The owner's alone. */
    AioMonitor *monitor;
    struct __cds_wfcq_head bhs_head;    /* of the queue with bhs_tail */
    struct __cds_wfcq_head batch_head;  /* bottom halves of this iteration */
    struct cds_wfcq_tail batch_tail;
    struct cds_list_head handlers;
    struct cds_list_head poll_list;     /* those worth polling */
    unsigned int n_listed;              /* handlers in poll_list */
    unsigned int n_unwatched;           /* handlers without descriptor */
    unsigned int n_removed;             /* removed, not yet freed */
    unsigned int rounds;                /* iterations since descriptors were looked at */
    unsigned int look_rounds;           /* after so many they are looked at again */
    int64_t looked_ns;                  /* when they were; 0: not known */
    const void *light;                  /* who had light work last */
    unsigned int light_turns;           /* for so many more turns that counts */
    unsigned int other_light_turns;     /* and so many the last light work of another */
    bool iterating;
    unsigned int naps;                  /* in vain, since there was work */
    int64_t poll_ns;                    /* the greatest of poll_list */
    int64_t blocked_since_ns;           /* when polling in vain began; 0: there was none */
    int64_t (*now_ns)(void);

    /* Read by all, seldom written. */
    _Alignas(AIO_CACHE_LINE) EventNotifier notifier;
    _Atomic(const void *) owner;
    _Atomic int64_t poll_max_ns;
    _Atomic int64_t poll_grow;
    _Atomic int64_t poll_shrink;
    _Atomic int64_t poll_weight;
    _Atomic int64_t poll_nap_ns;
    _Atomic uint64_t sleeps;

    /*
     * How a sleeping owner is woken.  The owner stores asleep, then looks at bhs and
     * notified; who wants it enqueues to bhs or stores notified, then loads asleep.  A full
     * barrier stands between the two in either (seq_cst operations; liburcu's enqueue
     * exchanges the tail): either the owner sees the work, or the other sees it asleep.
     */
    _Alignas(AIO_CACHE_LINE) struct cds_wfcq_tail bhs_tail;
    atomic_bool notified;
    atomic_bool asleep;
};

/* A bottom half or a notification waits: do not sleep. */
static inline bool aio_work_is_pending(AioContext *ctx)
{
    return !cds_wfcq_empty(&ctx->bhs_head, &ctx->bhs_tail) ||
           !cds_wfcq_empty(&ctx->batch_head, &ctx->batch_tail) || atomic_load(&ctx->notified);
}

bool aio_is_owner(AioContext *ctx);

/*
 * Asks the handlers that are being polled.  @blocking: begins to poll the others too if that
 * is worth it, and unless work is @pending goes on for as long as the policy says.  True if
 * there was work.
 */
bool aio_handlers_poll(AioContext *ctx, bool blocking, bool pending);

/* Calls the handlers whose descriptors are ready; @block: sleeps until there is something. */
bool aio_handlers_dispatch(AioContext *ctx, bool block);

/* Frees those that were removed from within a callback. */
void aio_handlers_reap(AioContext *ctx);

#endif
