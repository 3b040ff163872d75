/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of AioContext share: a handler that counts what happens to it, and a clock. */
#ifndef TESTS_UNIT_AIO_PROBE_H
#define TESTS_UNIT_AIO_PROBE_H

#include "util/aio-context.h"
#include "util/event-notifier.h"

#include "../../util/aio-internal.h"
#include "../../util/aio-poll.h"

/* Descriptors are looked at this often, at least, while polling makes progress. */
enum { LOOK_ROUNDS = 64 };

/* A handler that counts what happens to it. */
typedef struct Probe {
    AioContext *ctx;
    AioHandler *handler;
    EventNotifier notifier;
    unsigned int ready;
    unsigned int polled;
    unsigned int begun;
    unsigned int ended;
    unsigned int work;              /* polls that will find something */
    unsigned int find_at;           /* this poll will find something, too */
    unsigned int work_at_end;       /* work that comes while poll_end runs */
    void (*also)(struct Probe *probe);
    struct Probe *victim;
    AioBh *bh;
} Probe;

static inline void probe_ready(void *opaque)
{
    Probe *probe = opaque;

    event_notifier_test_and_clear(&probe->notifier);
    probe->ready++;
    if (probe->also) {
        probe->also(probe);
    }
}

static inline bool probe_poll(void *opaque)
{
    Probe *probe = opaque;

    probe->polled++;
    if (probe->work == 0 && probe->polled != probe->find_at) {
        return false;
    }
    probe->work -= probe->work > 0;
    if (probe->also) {
        probe->also(probe);
    }
    return true;
}

static inline void probe_begin(void *opaque)
{
    Probe *probe = opaque;

    g_assert_cmpuint(probe->begun, ==, probe->ended);
    probe->begun++;
}

static inline void probe_end(void *opaque)
{
    Probe *probe = opaque;

    probe->ended++;
    g_assert_cmpuint(probe->begun, ==, probe->ended);
    probe->work += probe->work_at_end;
    probe->work_at_end = 0;
}

static const AioHandlerOps ready_ops = { .ready = probe_ready };

static const AioHandlerOps poll_ops = {
    .ready = probe_ready,
    .poll = probe_poll,
    .poll_begin = probe_begin,
    .poll_end = probe_end,
};

static inline void probe_add(Probe *probe, AioContext *ctx, const AioHandlerOps *ops)
{
    *probe = (Probe){ .ctx = ctx };
    g_assert_cmpint(event_notifier_init(&probe->notifier), ==, 0);
    probe->handler = aio_add_handler(ctx, probe->notifier.fd, ops, probe);
    g_assert_nonnull(probe->handler);
}

static inline void probe_remove(Probe *probe)
{
    if (probe->handler) {
        aio_remove_handler(probe->ctx, probe->handler);
        probe->handler = NULL;
    }
    event_notifier_cleanup(&probe->notifier);
}

/* Each look at the clock takes a microsecond, so that tests do not depend on the machine. */
static int64_t fake_ns;

static inline int64_t fake_clock(void)
{
    return fake_ns += 1000;
}

static inline AioContext *context_new(int64_t max_ns)
{
    const AioPollParams params = { .max_ns = max_ns };
    g_autoptr(GError) err = NULL;
    AioContext *ctx = aio_context_new(&err);

    g_assert_no_error(err);
    fake_ns = 1;
    aio_context_set_clock(ctx, fake_clock);
    aio_context_set_poll_params(ctx, &params);
    return ctx;
}

/* One event after a short sleep makes the policy poll @probe from now on. */
static inline void probe_warm_up(Probe *probe)
{
    event_notifier_set(&probe->notifier);
    g_assert_true(aio_poll(probe->ctx, true));
    g_assert_cmpuint(probe->ready, ==, 1);
}

typedef struct CountingBh {
    AioBh bh;
    AioContext *ctx;
    unsigned int runs;
    unsigned int again;
    unsigned int order;
} CountingBh;

static unsigned int bh_order;

static inline void counting_bh(void *opaque)
{
    CountingBh *c = opaque;

    c->runs++;
    c->order = bh_order++;
    if (c->again > 0) {
        c->again--;
        aio_bh_schedule(c->ctx, &c->bh);
    }
}

#endif
