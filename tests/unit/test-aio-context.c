/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of AioContext: descriptors, removal from callbacks, bottom halves, other threads. */
#include "aio-probe.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "util/iothread.h"
#include "util/rcu.h"

static void test_descriptor(void)
{
    AioContext *ctx = context_new(0);
    Probe probe;

    probe_add(&probe, ctx, &ready_ops);
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 0);

    event_notifier_set(&probe.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.ready, ==, 1);
    g_assert_false(aio_poll(ctx, false));

    event_notifier_set(&probe.notifier);
    aio_remove_handler(ctx, probe.handler);
    probe.handler = NULL;
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpuint(probe.ready, ==, 1);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_end_of_file(void)
{
    AioContext *ctx = context_new(0);
    Probe probe = { .ctx = ctx };
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    g_assert_cmpint(event_notifier_init_fd(&probe.notifier, fds[0]), ==, 0);
    probe.handler = aio_add_handler(ctx, fds[0], &ready_ops, &probe);
    close(fds[1]);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.ready, ==, 1);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_refused(void)
{
    AioContext *ctx = context_new(0);
    char name[] = "/tmp/test-aio-context-XXXXXX";
    int fd = g_mkstemp(name);
    Probe probe;

    g_assert_cmpint(fd, >=, 0);
    unlink(name);
    g_assert_null(aio_add_handler(ctx, fd, &ready_ops, NULL));
    g_assert_cmpint(errno, ==, EPERM);
    close(fd);

    probe_add(&probe, ctx, &ready_ops);
    g_assert_null(aio_add_handler(ctx, probe.notifier.fd, &ready_ops, NULL));
    g_assert_cmpint(errno, ==, EEXIST);
    probe_remove(&probe);
    aio_context_free(ctx);
}

/* More descriptors than one look takes: each has its turn. */
static void test_many_descriptors(void)
{
    static Probe probes[3 * AIO_MONITOR_BATCH];
    AioContext *ctx = context_new(0);
    unsigned int rounds = 0;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(probes); i++) {
        probe_add(&probes[i], ctx, &ready_ops);
        event_notifier_set(&probes[i].notifier);
    }
    while (aio_poll(ctx, false)) {
        rounds++;
    }
    g_assert_cmpuint(rounds, ==, 3);
    for (i = 0; i < G_N_ELEMENTS(probes); i++) {
        g_assert_cmpuint(probes[i].ready, ==, 1);
        probe_remove(&probes[i]);
    }
    aio_context_free(ctx);
}

static void remove_all(Probe *probe)
{
    probe_remove(probe->victim);
    probe_remove(probe);
}

/* Both are ready in the same batch; the first one called removes both. */
static void test_remove_in_ready(void)
{
    AioContext *ctx = context_new(0);
    Probe a, b;

    probe_add(&a, ctx, &ready_ops);
    probe_add(&b, ctx, &ready_ops);
    a.also = b.also = remove_all;
    a.victim = &b;
    b.victim = &a;
    event_notifier_set(&a.notifier);
    event_notifier_set(&b.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(a.ready + b.ready, ==, 1);
    g_assert_false(aio_poll(ctx, false));
    aio_context_free(ctx);
}

static void test_remove_in_poll(void)
{
    AioContext *ctx = context_new(32768);
    Probe a, b;

    probe_add(&a, ctx, &poll_ops);
    probe_add(&b, ctx, &poll_ops);
    probe_warm_up(&a);
    a.also = remove_all;
    a.victim = &b;
    a.work = b.work = 10;
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(a.polled, ==, 1);
    g_assert_cmpuint(b.polled, ==, 0);
    g_assert_cmpuint(a.ended, ==, a.begun);
    g_assert_false(aio_poll(ctx, false));
    aio_context_free(ctx);
}

static void remove_victim(void *opaque)
{
    Probe *probe = opaque;

    probe_remove(probe->victim);
}

static void test_remove_in_poll_begin_and_end(void)
{
    const AioHandlerOps begin_ops = {
        .ready = probe_ready, .poll = probe_poll, .poll_begin = remove_victim,
        .poll_end = probe_end,
    };
    const AioHandlerOps end_ops = {
        .ready = probe_ready, .poll = probe_poll, .poll_begin = probe_begin,
        .poll_end = remove_victim,
    };
    AioContext *ctx = context_new(32768);
    Probe warm, begin, end;

    probe_add(&warm, ctx, &poll_ops);
    probe_add(&begin, ctx, &begin_ops);
    begin.victim = &begin;
    probe_add(&end, ctx, &end_ops);
    end.victim = &end;
    probe_warm_up(&warm);

    warm.work = 1;
    begin.begun = 1;    /* its poll_end still comes */
    g_assert_true(aio_poll(ctx, true));
    g_assert_null(begin.handler);
    g_assert_cmpuint(begin.polled, ==, 0);
    g_assert_cmpuint(end.polled, ==, 1);

    event_notifier_set(&warm.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_null(end.handler);
    probe_remove(&warm);
    aio_context_free(ctx);
}

static void add_victim(Probe *probe)
{
    probe_add(probe->victim, probe->ctx, &ready_ops);
    event_notifier_set(&probe->victim->notifier);
    probe->also = NULL;
}

static void test_add_in_callback(void)
{
    AioContext *ctx = context_new(0);
    Probe a, b;

    probe_add(&a, ctx, &ready_ops);
    a.also = add_victim;
    a.victim = &b;
    event_notifier_set(&a.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(b.ready, ==, 1);
    probe_remove(&a);
    probe_remove(&b);
    aio_context_free(ctx);
}

static void test_bh_coalesces_in_order(void)
{
    AioContext *ctx = context_new(0);
    CountingBh c[3] = { 0 };
    int i;

    bh_order = 0;
    for (i = 0; i < 3; i++) {
        aio_bh_init(&c[i].bh, counting_bh, &c[i]);
        aio_bh_schedule(ctx, &c[i].bh);
        aio_bh_schedule(ctx, &c[0].bh);
    }
    g_assert_true(aio_poll(ctx, true));
    for (i = 0; i < 3; i++) {
        g_assert_cmpuint(c[i].runs, ==, 1);
        g_assert_cmpuint(c[i].order, ==, i);
    }
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 0);
    aio_context_free(ctx);
}

/* Once an iteration, and that iteration does not sleep. */
static void test_bh_reschedules_itself(void)
{
    AioContext *ctx = context_new(0);
    CountingBh c = { .ctx = ctx, .again = 200 };
    unsigned int i;
    Probe probe;

    probe_add(&probe, ctx, &ready_ops);
    event_notifier_set(&probe.notifier);
    aio_bh_init(&c.bh, counting_bh, &c);
    aio_bh_schedule(ctx, &c.bh);
    for (i = 1; i <= 201; i++) {
        g_assert_true(aio_poll(ctx, true));
        g_assert_cmpuint(c.runs, ==, i);
    }
    g_assert_cmpuint(probe.ready, ==, 1);
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 0);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void freeing_bh(void *opaque)
{
    g_free(opaque);
}

static void schedule_in_end(void *opaque)
{
    Probe *probe = opaque;

    probe_end(probe);
    aio_bh_schedule(probe->ctx, probe->bh);
}

/* After the loop has seen nothing to do, and just before it sleeps. */
static void test_bh_at_the_last_moment(void)
{
    const AioHandlerOps ops = {
        .ready = probe_ready, .poll = probe_poll, .poll_begin = probe_begin,
        .poll_end = schedule_in_end,
    };
    AioContext *ctx = context_new(32768);
    CountingBh c = { .ctx = ctx };
    uint64_t sleeps;
    Probe probe;

    aio_bh_init(&c.bh, counting_bh, &c);
    probe_add(&probe, ctx, &ops);
    probe.bh = &c.bh;
    probe_warm_up(&probe);
    sleeps = aio_context_sleeps(ctx);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.ended, ==, 1);
    g_assert_cmpuint(c.runs, ==, 1);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, sleeps);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_bh_frees_itself(void)
{
    AioContext *ctx = context_new(0);
    AioBh *bh = g_new(AioBh, 1);

    aio_bh_init(bh, freeing_bh, bh);
    aio_bh_schedule(ctx, bh);
    g_assert_true(aio_poll(ctx, true));
    aio_context_free(ctx);
}

/* The owner is awake: nobody needs the kernel to reach it. */
static void test_bh_wakes_only_sleepers(void)
{
    AioContext *ctx = context_new(0);
    CountingBh c = { .ctx = ctx };

    aio_bh_init(&c.bh, counting_bh, &c);
    aio_bh_schedule(ctx, &c.bh);
    aio_notify(ctx);
    g_assert_cmpint(event_notifier_test_and_clear(&ctx->notifier), ==, 0);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(c.runs, ==, 1);
    aio_context_free(ctx);
}

enum { POSTERS = 4, POSTER_BHS = 8, POSTS = 250000 };

typedef struct PostBh {
    AioBh bh;
    atomic_uint posted;
    unsigned int *total;
} PostBh;

typedef struct Poster {
    GThread *thread;
    AioContext *ctx;
    PostBh bhs[POSTER_BHS];
} Poster;

static void post_bh(void *opaque)
{
    PostBh *post = opaque;

    /* Relaxed: that the count is seen at all is what scheduling promises. */
    *post->total += atomic_exchange_explicit(&post->posted, 0, memory_order_relaxed);
}

static void *poster_run(void *opaque)
{
    Poster *poster = opaque;
    int i;

    for (i = 0; i < POSTS; i++) {
        PostBh *post = &poster->bhs[i % POSTER_BHS];

        atomic_fetch_add_explicit(&post->posted, 1, memory_order_relaxed);
        aio_bh_schedule(poster->ctx, &post->bh);
    }
    return NULL;
}

static void test_bh_from_many_threads(void)
{
    static Poster posters[POSTERS];
    AioContext *ctx = context_new(0);
    unsigned int total = 0;
    int i, j;

    for (i = 0; i < POSTERS; i++) {
        posters[i].ctx = ctx;
        for (j = 0; j < POSTER_BHS; j++) {
            posters[i].bhs[j].total = &total;
            aio_bh_init(&posters[i].bhs[j].bh, post_bh, &posters[i].bhs[j]);
        }
        posters[i].thread = g_thread_new("poster", poster_run, &posters[i]);
    }
    /* Sleeps forever if a wake-up is lost. */
    while (total < POSTERS * POSTS) {
        aio_poll(ctx, true);
    }
    for (i = 0; i < POSTERS; i++) {
        g_thread_join(posters[i].thread);
    }
    g_assert_cmpuint(total, ==, POSTERS * POSTS);
    aio_context_free(ctx);
}

static void *notify_sleeper(void *opaque)
{
    AioContext *ctx = opaque;

    while (aio_context_sleeps(ctx) == 0) {
        sched_yield();
    }
    aio_notify(ctx);
    return NULL;
}

static void test_notify(void)
{
    AioContext *ctx = context_new(0);
    GThread *thread = g_thread_new("notifier", notify_sleeper, ctx);

    g_assert_false(aio_poll(ctx, true));
    g_thread_join(thread);

    /* One that comes before the iteration counts too; and only once. */
    aio_notify(ctx);
    g_assert_false(aio_poll(ctx, true));
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 1);
    g_assert_false(aio_work_is_pending(ctx));
    aio_context_free(ctx);
}

typedef struct Runner {
    GThread *thread;
    AioContext *ctx;
    unsigned int runs;
    unsigned int *total;
} Runner;

static void add_run(void *opaque)
{
    unsigned int *total = opaque;

    (*total)++;
}

static void add_run_nested(void *opaque)
{
    Runner *runner = opaque;

    /* From the owner it is a call. */
    aio_run_in(runner->ctx, add_run, runner->total);
}

static void *runner_run(void *opaque)
{
    Runner *runner = opaque;
    unsigned int i;

    rcu_thread_enter();
    for (i = 0; i < runner->runs; i++) {
        unsigned int before = *runner->total;

        aio_run_in(runner->ctx, add_run_nested, runner);
        g_assert_cmpuint(*runner->total, ==, before + 1);
    }
    rcu_thread_leave();
    return NULL;
}

/* A bottom half that schedules another. */
typedef struct Chain {
    AioContext *ctx;
    AioBh first, second;
    unsigned int ran;
} Chain;

static void chain_second(void *opaque)
{
    Chain *chain = opaque;

    chain->ran++;
}

static void chain_first(void *opaque)
{
    Chain *chain = opaque;

    chain->ran++;
    aio_bh_schedule(chain->ctx, &chain->second);
}

static void test_drain(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(IOThread) iothread = NULL;
    Chain chains[8];
    unsigned int round;
    size_t i;

    iothread = iothread_new("drain", &(AioPollParams){ .max_ns = 0 }, NULL, &err);
    g_assert_no_error(err);
    for (round = 0; round < 500; round++) {
        for (i = 0; i < G_N_ELEMENTS(chains); i++) {
            Chain *chain = &chains[i];

            *chain = (Chain){ .ctx = iothread_get_aio_context(iothread) };
            aio_bh_init(&chain->first, chain_first, chain);
            aio_bh_init(&chain->second, chain_second, chain);
            aio_bh_schedule(chain->ctx, &chain->first);
        }
        aio_drain(chains[0].ctx);
        for (i = 0; i < G_N_ELEMENTS(chains); i++) {
            g_assert_cmpuint(chains[i].ran, ==, 2);
        }
    }
}

static void test_run_in(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(IOThread) iothread = NULL;
    Runner runners[4];
    unsigned int totals[4] = { 0 };
    size_t i;

    iothread = iothread_new("run-in", &(AioPollParams){ .max_ns = 0 }, NULL, &err);
    g_assert_no_error(err);
    for (i = 0; i < G_N_ELEMENTS(runners); i++) {
        runners[i] = (Runner){
            .ctx = iothread_get_aio_context(iothread), .runs = 2000, .total = &totals[i],
        };
        runners[i].thread = g_thread_new("runner", runner_run, &runners[i]);
    }
    for (i = 0; i < G_N_ELEMENTS(runners); i++) {
        g_thread_join(runners[i].thread);
        g_assert_cmpuint(totals[i], ==, 2000);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aio-context/descriptor-fires", test_descriptor);
    g_test_add_func("/aio-context/end-of-file-fires", test_end_of_file);
    g_test_add_func("/aio-context/bad-descriptors-are-refused", test_refused);
    g_test_add_func("/aio-context/many-descriptors-all-fire", test_many_descriptors);
    g_test_add_func("/aio-context/remove/in-ready", test_remove_in_ready);
    g_test_add_func("/aio-context/remove/in-poll", test_remove_in_poll);
    g_test_add_func("/aio-context/remove/in-poll-begin-and-end",
                    test_remove_in_poll_begin_and_end);
    g_test_add_func("/aio-context/add-in-callback", test_add_in_callback);
    g_test_add_func("/aio-context/bh/coalesces-in-order", test_bh_coalesces_in_order);
    g_test_add_func("/aio-context/bh/reschedules-itself", test_bh_reschedules_itself);
    g_test_add_func("/aio-context/bh/frees-itself", test_bh_frees_itself);
    g_test_add_func("/aio-context/bh/at-the-last-moment-prevents-sleep",
                    test_bh_at_the_last_moment);
    g_test_add_func("/aio-context/bh/wakes-only-sleepers", test_bh_wakes_only_sleepers);
    g_test_add_func("/aio-context/bh/none-lost-from-many-threads", test_bh_from_many_threads);
    g_test_add_func("/aio-context/notify-wakes-once", test_notify);
    g_test_add_func("/aio-context/run-in-waits", test_run_in);
    g_test_add_func("/aio-context/drain-waits-for-what-is-scheduled", test_drain);
    return g_test_run();
}
