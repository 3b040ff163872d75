/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The handlers of an AioContext: polling them, and calling those whose descriptors fire.
 *
 * How it works.  A handler with a poll callback is on the poll list until it has been idle
 * for a while, and again when its descriptor fires.  poll_begin is called when the
 * loop first asks it, poll_end before the loop sleeps or the handler leaves the list; then
 * it is asked once more, for what came before its notifications were on again.
 *
 * A callback may remove any handler.  Within an iteration a removed one is only marked, so
 * that lists and batches that are being walked stay good; aio_handlers_reap() frees it.
 */
#include "aio-internal.h"

#include <errno.h>
#include <urcu/arch.h>

#include "util/rcu.h"

/* Reading the clock costs as much as asking several handlers in vain. */
enum { ASKS_PER_CLOCK = 16 };

static void poll_list_update_time(AioContext *ctx)
{
    AioHandler *handler;

    ctx->poll_ns = 0;
    cds_list_for_each_entry(handler, &ctx->poll_list, poll_node) {
        if (!handler->removed) {
            ctx->poll_ns = MAX(ctx->poll_ns, handler->state.poll_ns);
        }
    }
}

static void poll_list_join(AioContext *ctx, AioHandler *handler)
{
    handler->listed = true;
    handler->active = true;
    cds_list_add_tail(&handler->poll_node, &ctx->poll_list);
    ctx->n_listed++;
}

static void poll_list_remove(AioContext *ctx, AioHandler *handler)
{
    handler->listed = false;
    cds_list_del(&handler->poll_node);
    ctx->n_listed--;
}

static bool handler_poll(AioHandler *handler)
{
    handler->fired = handler->ops->poll(handler->opaque);
    handler->active |= handler->fired;
    return handler->fired;
}

static void handler_begin(AioHandler *handler)
{
    handler->polling = true;
    if (handler->ops->poll_begin) {
        handler->ops->poll_begin(handler->opaque);
    }
}

static void handler_end(AioHandler *handler)
{
    if (!handler->polling) {
        return;
    }
    handler->polling = false;
    if (handler->ops->poll_end) {
        handler->ops->poll_end(handler->opaque);
    }
}

static void handler_free(AioContext *ctx, AioHandler *handler)
{
    if (handler->listed) {
        poll_list_remove(ctx, handler);
    }
    cds_list_del(&handler->node);
    g_free(handler);
}

AioHandler *aio_add_handler(AioContext *ctx, int fd, const AioHandlerOps *ops, void *opaque)
{
    AioHandler *handler = g_new0(AioHandler, 1);
    int ret;

    g_assert(aio_is_owner(ctx));
    handler->ops = ops;
    handler->opaque = opaque;
    handler->fd = fd;
    if (fd < 0) {
        ctx->n_unwatched++;
    } else {
        ret = ctx->monitor->ops->add(ctx->monitor, fd, handler);
        if (ret < 0) {
            g_free(handler);
            errno = -ret;
            return NULL;
        }
    }
    cds_list_add_tail(&handler->node, &ctx->handlers);
    if (ops->poll) {
        poll_list_join(ctx, handler);
    }
    return handler;
}

void aio_remove_handler(AioContext *ctx, AioHandler *handler)
{
    g_assert(aio_is_owner(ctx) && !handler->removed);
    handler->removed = true;
    if (handler->fd < 0) {
        ctx->n_unwatched--;
    } else {
        ctx->monitor->ops->remove(ctx->monitor, handler->fd);
    }
    handler_end(handler);
    if (ctx->iterating) {
        ctx->n_removed++;
        return;
    }
    handler_free(ctx, handler);
    poll_list_update_time(ctx);
}

void aio_handlers_reap(AioContext *ctx)
{
    AioHandler *handler, *next;

    if (!ctx->n_removed) {
        return;
    }
    cds_list_for_each_entry_safe(handler, next, &ctx->handlers, node) {
        if (handler->removed) {
            handler_free(ctx, handler);
        }
    }
    ctx->n_removed = 0;
    poll_list_update_time(ctx);
}

/* Ends polling and asks once more; see AioHandlerOps. */
static bool handler_end_and_poll(AioHandler *handler)
{
    if (!handler->polling) {
        return false;
    }
    handler_end(handler);
    return !handler->removed && handler_poll(handler);
}

/* Before a sleep. */
static bool poll_list_end(AioContext *ctx)
{
    AioHandler *handler;
    bool progress = false;

    cds_list_for_each_entry(handler, &ctx->poll_list, poll_node) {
        handler->fired = false;     /* what it did before is no part of this wait */
        if (!handler->removed && handler->fd >= 0) {
            progress |= handler_end_and_poll(handler);
        }
    }
    return progress;
}

/* Those that were idle for long leave.  A last poll of one may find work: true. */
static bool poll_list_leave(AioContext *ctx, int64_t max_ns, int64_t now_ns)
{
    AioHandler *handler, *next;
    bool progress = false;
    bool left = false;

    cds_list_for_each_entry_safe(handler, next, &ctx->poll_list, poll_node) {
        if (handler->removed || handler->fd < 0) {
            continue;
        }
        if (handler->active) {
            handler->active = false;
            handler->idle_since_ns = now_ns;
            continue;
        }
        if (!aio_poll_is_idle(max_ns, handler->idle_since_ns, now_ns)) {
            continue;
        }
        poll_list_remove(ctx, handler);
        left = true;
        progress |= handler_end_and_poll(handler);
    }
    if (left) {
        poll_list_update_time(ctx);
    }
    return progress;
}

/* The loop had nothing to do for @wait_ns, and then some handlers fired. */
static void poll_list_learn(AioContext *ctx, int64_t wait_ns)
{
    const AioPollParams params = {
        .max_ns = atomic_load_explicit(&ctx->poll_max_ns, memory_order_relaxed),
        .grow = atomic_load_explicit(&ctx->poll_grow, memory_order_relaxed),
        .shrink = atomic_load_explicit(&ctx->poll_shrink, memory_order_relaxed),
        .weight = atomic_load_explicit(&ctx->poll_weight, memory_order_relaxed),
    };
    AioHandler *handler;

    cds_list_for_each_entry(handler, &ctx->poll_list, poll_node) {
        if (handler->fired) {
            aio_poll_learn(&handler->state, &params, wait_ns);
            handler->fired = false;
        }
    }
    poll_list_update_time(ctx);
}

/* Asks each handler once; @begin: also those that are not being polled yet. */
static bool poll_list_round(AioContext *ctx, bool begin)
{
    AioHandler *handler;
    bool progress = false;

    cds_list_for_each_entry(handler, &ctx->poll_list, poll_node) {
        if (!handler->polling && !handler->removed && (begin || handler->fd < 0)) {
            handler_begin(handler);
        }
        if (handler->polling) {
            progress |= handler_poll(handler);
        }
    }
    return progress;
}

/* Polls in vain until @limit_ns have passed, or not in vain: true. */
static bool poll_list_spin(AioContext *ctx, bool begin, int64_t limit_ns)
{
    const unsigned int rounds = MAX(1, ASKS_PER_CLOCK / ctx->n_listed);
    int64_t start_ns = ctx->now_ns();
    int64_t slice_ns = start_ns;
    int64_t now_ns = start_ns;
    unsigned int i;

    do {
        for (i = 0; i < rounds; i++) {
            caa_cpu_relax();
            if (aio_work_is_pending(ctx)) {
                return false;
            }
            if (poll_list_round(ctx, begin)) {
                poll_list_learn(ctx, now_ns - start_ns);
                return true;
            }
        }
        now_ns = ctx->now_ns();
        /* Long polling holds up neither grace periods nor those that are not polled. */
        if (now_ns - slice_ns >= AIO_POLL_SLICE_NS) {
            slice_ns = now_ns;
            rcu_thread_quiescent();
            if (aio_handlers_dispatch(ctx, false)) {
                return true;
            }
        }
    } while (now_ns - start_ns < limit_ns);
    ctx->blocked_since_ns = start_ns;
    return false;
}

/* Whether to begin to poll what is on the list and not being polled. */
static bool worth_beginning(const AioContext *ctx, bool pending, int64_t limit_ns, int64_t max_ns)
{
    if (max_ns <= 0) {
        return false;
    }
    /* A loop that has work or never sleeps need not ask: polling holds up nothing. */
    return limit_ns > 0 || pending || ctx->rounds > 0 || ctx->n_unwatched;
}

bool aio_handlers_poll(AioContext *ctx, bool blocking, bool pending)
{
    int64_t max_ns = atomic_load_explicit(&ctx->poll_max_ns, memory_order_relaxed);
    bool naps = atomic_load_explicit(&ctx->poll_nap_ns, memory_order_relaxed) > 0;
    int64_t limit_ns = MIN(ctx->poll_ns, max_ns);
    bool begin = blocking && (naps || worth_beginning(ctx, pending, limit_ns, max_ns));

    ctx->blocked_since_ns = 0;
    if (cds_list_empty(&ctx->poll_list)) {
        return false;
    }
    /* Polling was forbidden while it went on. */
    if (max_ns <= 0 && !naps && poll_list_end(ctx)) {
        return true;
    }
    if (poll_list_round(ctx, begin)) {
        return true;
    }
    if (!blocking || pending || (naps && !ctx->n_unwatched)) {
        return false;
    }
    if (ctx->n_unwatched) {
        limit_ns = MAX(limit_ns, AIO_POLL_SLICE_NS);
    }
    return limit_ns > 0 && poll_list_spin(ctx, begin, limit_ns);
}

/* How long to sleep: a nap, through which notifications stay off, or until woken (-1). */
static int64_t sleep_time(AioContext *ctx)
{
    int64_t nap_ns = atomic_load_explicit(&ctx->poll_nap_ns, memory_order_relaxed);

    if (nap_ns <= 0 || ctx->naps >= AIO_POLL_NAPS || cds_list_empty(&ctx->poll_list)) {
        return -1;
    }
    ctx->naps++;
    return nap_ns;
}

static unsigned int descriptors_sleep(AioContext *ctx, int64_t timeout_ns,
                                      void *tags[AIO_MONITOR_BATCH])
{
    uint64_t sleeps = atomic_load_explicit(&ctx->sleeps, memory_order_relaxed);
    unsigned int n = 0;

    /* Stores asleep before it looks for work: see AioContext. */
    atomic_store(&ctx->asleep, true);
    atomic_thread_fence(memory_order_seq_cst);
    if (!aio_work_is_pending(ctx)) {
        atomic_store_explicit(&ctx->sleeps, sleeps + 1, memory_order_relaxed);
        rcu_thread_park();
        n = ctx->monitor->ops->wait(ctx->monitor, timeout_ns, tags);
        rcu_thread_unpark();
    }
    atomic_store_explicit(&ctx->asleep, false, memory_order_relaxed);
    return n;
}

/* Marks what fired, before any callback runs that might remove it. */
static void descriptors_note(AioContext *ctx, void **tags, unsigned int n, bool slept)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        AioHandler *handler = tags[i];

        if (!handler) {
            event_notifier_test_and_clear(&ctx->notifier);
            continue;
        }
        handler->fired = slept;
        handler->active = true;
        if (handler->ops->poll && !handler->listed) {
            poll_list_join(ctx, handler);
        }
    }
}

/* Descriptors were looked at: what polling learns from the time.  True if there was work. */
static bool poll_list_note_time(AioContext *ctx, unsigned int rounds, bool slept)
{
    int64_t nap_ns = atomic_load_explicit(&ctx->poll_nap_ns, memory_order_relaxed);
    int64_t max_ns =
        MAX(atomic_load_explicit(&ctx->poll_max_ns, memory_order_relaxed), nap_ns);
    int64_t now_ns;

    if (max_ns <= 0) {
        return false;
    }
    now_ns = ctx->now_ns();
    if (slept) {
        poll_list_learn(ctx, now_ns - ctx->blocked_since_ns);
    } else if (rounds >= ctx->look_rounds) {
        ctx->look_rounds = aio_poll_look_rounds(rounds, now_ns - ctx->looked_ns);
    }
    ctx->looked_ns = now_ns;
    return poll_list_leave(ctx, max_ns, now_ns);
}

bool aio_handlers_dispatch(AioContext *ctx, bool block)
{
    const unsigned int rounds = ctx->rounds;
    void *tags[AIO_MONITOR_BATCH];
    bool progress;
    int64_t timeout_ns;
    bool until_woken;
    unsigned int i, n;

    ctx->rounds = 0;
    block = block && !ctx->n_unwatched && !aio_work_is_pending(ctx);
    timeout_ns = block ? sleep_time(ctx) : 0;
    until_woken = timeout_ns < 0;
    if (until_woken && poll_list_end(ctx)) {
        return true;
    }
    if (until_woken && !ctx->blocked_since_ns &&
        atomic_load_explicit(&ctx->poll_max_ns, memory_order_relaxed) > 0) {
        ctx->blocked_since_ns = ctx->now_ns();
    }
    n = block ? descriptors_sleep(ctx, timeout_ns, tags)
              : ctx->monitor->ops->wait(ctx->monitor, 0, tags);
    descriptors_note(ctx, tags, n, until_woken);
    progress = poll_list_note_time(ctx, rounds, until_woken);
    for (i = 0; i < n; i++) {
        AioHandler *handler = tags[i];

        if (handler && !handler->removed) {
            handler->ops->ready(handler->opaque);
            progress = true;
        }
    }
    return progress;
}
