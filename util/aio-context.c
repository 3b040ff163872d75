/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * AioContext: the iteration of the loop, and how other threads reach it.
 *
 * How it works.  While polled handlers find work, an iteration makes no system call, takes
 * no lock and reads no clock; only every look_rounds iterations it looks at descriptors, for
 * those of handlers that are not polled.  Otherwise it polls for a while, and then sleeps.
 *
 * Bottom halves wait in liburcu's wait-free queue.  The owner moves all that is there into a
 * batch and runs that, so what a bottom half schedules runs in the next iteration.  It takes
 * only non-blocking steps: a thread that is preempted while it enqueues hides what comes
 * behind it, and then the loop goes round rather than waits (liburcu would, in steps of 10 ms).
 */
#include "aio-internal.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/rcu.h"

/*
 * For so many turns of all light work counts.  Who has it more rarely has peers that sleep, or
 * do something else, for longer than a large piece of another's work takes.
 */
enum { LIGHT_TURNS = 64 };

/* Its address tells threads apart. */
static _Thread_local char self;

static int64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

AioContext *aio_context_new(GError **errp)
{
    static const AioPollParams params = AIO_POLL_PARAMS_DEFAULT;
    AioMonitor *monitor = aio_epoll_new(errp);
    AioContext *ctx;
    int ret;

    if (!monitor) {
        return NULL;
    }
    ctx = aligned_alloc(AIO_CACHE_LINE, sizeof(*ctx));
    g_assert(ctx);
    memset(ctx, 0, sizeof(*ctx));
    ctx->monitor = monitor;
    ctx->now_ns = monotonic_ns;
    ctx->look_rounds = AIO_LOOK_ROUNDS_MAX;
    __cds_wfcq_init(&ctx->bhs_head, &ctx->bhs_tail);
    __cds_wfcq_init(&ctx->batch_head, &ctx->batch_tail);
    CDS_INIT_LIST_HEAD(&ctx->handlers);
    CDS_INIT_LIST_HEAD(&ctx->poll_list);
    atomic_init(&ctx->owner, &self);
    aio_context_set_poll_params(ctx, &params);

    ret = event_notifier_init(&ctx->notifier);
    if (ret == 0) {
        ret = monitor->ops->add(monitor, ctx->notifier.fd, NULL);
    }
    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "cannot create an event loop: %s", g_strerror(-ret));
        aio_context_free(ctx);
        return NULL;
    }
    return ctx;
}

void aio_context_free(AioContext *ctx)
{
    AioHandler *handler, *next;

    cds_list_for_each_entry_safe(handler, next, &ctx->handlers, node) {
        g_free(handler);
    }
    ctx->monitor->ops->free(ctx->monitor);
    event_notifier_cleanup(&ctx->notifier);
    free(ctx);
}

void aio_context_set_poll_params(AioContext *ctx, const AioPollParams *params)
{
    /* The owner may see one knob new and another old for an iteration: no harm done. */
    atomic_store_explicit(&ctx->poll_max_ns, params->max_ns, memory_order_relaxed);
    atomic_store_explicit(&ctx->poll_grow, params->grow, memory_order_relaxed);
    atomic_store_explicit(&ctx->poll_shrink, params->shrink, memory_order_relaxed);
    atomic_store_explicit(&ctx->poll_weight, params->weight, memory_order_relaxed);
    atomic_store_explicit(&ctx->poll_nap_ns, params->nap_ns, memory_order_relaxed);
}

void aio_context_set_clock(AioContext *ctx, int64_t (*now_ns)(void))
{
    ctx->now_ns = now_ns;
}

uint64_t aio_context_sleeps(const AioContext *ctx)
{
    return atomic_load_explicit(&ctx->sleeps, memory_order_relaxed);
}

bool aio_is_owner(AioContext *ctx)
{
    return atomic_load_explicit(&ctx->owner, memory_order_relaxed) == &self;
}

bool aio_take_turn(AioContext *ctx, const void *who, bool light)
{
    ctx->light_turns -= ctx->light_turns > 0;
    ctx->other_light_turns -= ctx->other_light_turns > 0;
    if (light) {
        if (ctx->light != who) {
            ctx->light = who;
            ctx->other_light_turns = ctx->light_turns;
        }
        ctx->light_turns = LIGHT_TURNS;
    }
    return (ctx->light == who ? ctx->other_light_turns : ctx->light_turns) > 0;
}

/* After enqueuing to bhs or a store to notified: see AioContext. */
static void aio_wake(AioContext *ctx)
{
    /* The exchange lets one of many wakers write; the plain load spares a busy owner it. */
    if (atomic_load(&ctx->asleep) && atomic_exchange(&ctx->asleep, false)) {
        event_notifier_set(&ctx->notifier);
    }
}

void aio_notify(AioContext *ctx)
{
    atomic_store(&ctx->notified, true);
    aio_wake(ctx);
}

/*
 * liburcu is not built for ThreadSanitizer, which therefore does not see that its queue
 * orders what comes before an enqueue before what comes after the dequeue: tell it just that.
 */
#ifdef RCU_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#else
#define __tsan_acquire(addr) ((void)0)
#define __tsan_release(addr) ((void)0)
#endif

void aio_bh_init(AioBh *bh, void (*fn)(void *opaque), void *opaque)
{
    atomic_init(&bh->scheduled, false);
    bh->fn = fn;
    bh->opaque = opaque;
}

void aio_bh_schedule(AioContext *ctx, AioBh *bh)
{
    /*
     * Releases what the caller wrote, also if @bh is scheduled already; acquires the end of
     * the owner's use of bh->node.  Pairs with the exchange in bottom_halves_run().
     */
    if (atomic_exchange_explicit(&bh->scheduled, true, memory_order_acq_rel)) {
        return;
    }
    cds_wfcq_node_init(&bh->node);
    __tsan_release(&bh->node);
    cds_wfcq_enqueue(&ctx->bhs_head, &ctx->bhs_tail, &bh->node);
    aio_wake(ctx);
}

static AioBh *batch_next(AioContext *ctx)
{
    struct cds_wfcq_node *node =
        __cds_wfcq_dequeue_nonblocking(&ctx->batch_head, &ctx->batch_tail);

    if (!node || node == CDS_WFCQ_WOULDBLOCK) {
        return NULL;
    }
    __tsan_acquire(node);
    return caa_container_of(node, AioBh, node);
}

static bool bottom_halves_run(AioContext *ctx)
{
    bool any = false;
    AioBh *bh;

    __cds_wfcq_splice_nonblocking(&ctx->batch_head, &ctx->batch_tail, &ctx->bhs_head,
                                  &ctx->bhs_tail);
    while ((bh = batch_next(ctx))) {
        /* Pairs with aio_bh_schedule(); from here on @bh may be scheduled again. */
        atomic_exchange_explicit(&bh->scheduled, false, memory_order_acq_rel);
        bh->fn(bh->opaque);
        any = true;
    }
    return any;
}

typedef struct RunIn {
    AioBh bh;
    AioContext *ctx;
    void (*fn)(void *opaque);
    void *opaque;
    sem_t done;
} RunIn;

static void run_in_bh(void *opaque)
{
    RunIn *run = opaque;

    run->fn(run->opaque);
    sem_post(&run->done);
}

/* Schedules run->bh, and waits until something has posted run->done. */
static void run_in_wait(RunIn *run)
{
    sem_init(&run->done, 0, 0);
    aio_bh_schedule(run->ctx, &run->bh);
    rcu_thread_park();
    while (sem_wait(&run->done) < 0 && errno == EINTR) {
    }
    rcu_thread_unpark();
    sem_destroy(&run->done);
}

void aio_run_in(AioContext *ctx, void (*fn)(void *opaque), void *opaque)
{
    RunIn run = { .ctx = ctx, .fn = fn, .opaque = opaque };

    if (aio_is_owner(ctx)) {
        fn(opaque);
        return;
    }
    aio_bh_init(&run.bh, run_in_bh, &run);
    run_in_wait(&run);
}

static void nothing(void *opaque)
{
}

/* Comes behind what the bottom halves before it have scheduled. */
static void drain_bh(void *opaque)
{
    RunIn *run = opaque;

    run->bh.fn = run_in_bh;
    aio_bh_schedule(run->ctx, &run->bh);
}

void aio_drain(AioContext *ctx)
{
    RunIn run = { .ctx = ctx, .fn = nothing };

    g_assert(!aio_is_owner(ctx));
    aio_bh_init(&run.bh, drain_bh, &run);
    run_in_wait(&run);
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    bool pending, progress;

    g_assert(!ctx->iterating);
    ctx->iterating = true;
    if (!aio_is_owner(ctx)) {
        atomic_store_explicit(&ctx->owner, &self, memory_order_relaxed);
    }
    rcu_thread_quiescent();

    pending = aio_work_is_pending(ctx);
    progress = aio_handlers_poll(ctx, blocking, pending);
    if (!progress || ++ctx->rounds >= ctx->look_rounds) {
        progress |= aio_handlers_dispatch(ctx, blocking && !pending && !progress);
    }
    if (progress) {
        ctx->naps = 0;
    }
    /* Whoever notified us before this wants us to return, and we do. */
    if (atomic_load_explicit(&ctx->notified, memory_order_relaxed)) {
        /* A plain store could be overtaken by the load before a sleep, and hide a notification. */
        atomic_exchange(&ctx->notified, false);
    }
    progress |= bottom_halves_run(ctx);

    aio_handlers_reap(ctx);
    ctx->iterating = false;
    return progress;
}
