/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of naps: an AioContext that sleeps for a while between polls, notifications being off. */
#include "aio-probe.h"

enum { LONG_NS = 1000000000 };

static AioContext *napping_context_new(int64_t nap_ns)
{
    const AioPollParams params = { .max_ns = 32768, .nap_ns = nap_ns };
    AioContext *ctx = context_new(0);

    aio_context_set_poll_params(ctx, &params);
    return ctx;
}

/* One poll that finds work; from then on naps are worth it. */
static void find_work(Probe *probe)
{
    probe->work = 1;
    g_assert_true(aio_poll(probe->ctx, true));
    g_assert_cmpuint(probe->work, ==, 0);
}

static void test_notifications_stay_off(void)
{
    AioContext *ctx = napping_context_new(1);
    Probe probe;
    int i;

    probe_add(&probe, ctx, &poll_ops);
    for (i = 1; i <= 100; i++) {
        unsigned int polled;

        find_work(&probe);
        polled = probe.polled;
        g_assert_false(aio_poll(ctx, true));
        g_assert_cmpuint(probe.polled, ==, polled + 1);
        g_assert_cmpuint(aio_context_sleeps(ctx), ==, i);
    }
    g_assert_cmpuint(probe.begun, ==, 1);
    g_assert_cmpuint(probe.ended, ==, 0);
    g_assert_cmpuint(probe.ready, ==, 0);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_naps_in_vain(void)
{
    AioContext *ctx = napping_context_new(1);
    Probe probe;
    int i;

    probe_add(&probe, ctx, &poll_ops);
    find_work(&probe);
    for (i = 0; i < AIO_POLL_NAPS; i++) {
        g_assert_false(aio_poll(ctx, true));
    }
    g_assert_cmpuint(probe.ended, ==, 0);

    /* Now it would sleep until woken, and polls once more before. */
    probe.work_at_end = 1;
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.ended, ==, 1);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, AIO_POLL_NAPS);

    /* There was work, so naps are worth it again. */
    g_assert_false(aio_poll(ctx, true));
    g_assert_cmpuint(probe.begun, ==, 2);
    g_assert_cmpuint(probe.ended, ==, 1);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_descriptor_ends_nap(void)
{
    AioContext *ctx = napping_context_new(INT64_C(3600) * LONG_NS);
    Probe napper, other;

    probe_add(&napper, ctx, &poll_ops);
    probe_add(&other, ctx, &ready_ops);
    find_work(&napper);
    event_notifier_set(&other.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(other.ready, ==, 1);
    g_assert_cmpuint(napper.ended, ==, 0);
    probe_remove(&napper);
    probe_remove(&other);
    aio_context_free(ctx);
}

static void *notify_sleeper(void *opaque)
{
    AioContext *ctx = opaque;

    while (!atomic_load(&ctx->asleep)) {
        g_thread_yield();
    }
    aio_notify(ctx);
    return NULL;
}

static void test_notification_ends_nap(void)
{
    AioContext *ctx = napping_context_new(INT64_C(3600) * LONG_NS);
    GThread *thread;
    Probe probe;

    probe_add(&probe, ctx, &poll_ops);
    find_work(&probe);
    thread = g_thread_new("notify", notify_sleeper, ctx);
    g_assert_false(aio_poll(ctx, true));
    g_thread_join(thread);
    g_assert_cmpuint(probe.ended, ==, 0);
    probe_remove(&probe);
    aio_context_free(ctx);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aio-nap/notifications-stay-off", test_notifications_stay_off);
    g_test_add_func("/aio-nap/ends-after-eight-in-vain", test_naps_in_vain);
    g_test_add_func("/aio-nap/descriptor-ends-it", test_descriptor_ends_nap);
    g_test_add_func("/aio-nap/notification-ends-it", test_notification_ends_nap);
    return g_test_run();
}
