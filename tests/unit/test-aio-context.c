/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of AioContext: handlers, adaptive polling, bottom halves, and other threads. */
#include "util/aio-context.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/event-notifier.h"
#include "util/iothread.h"
#include "util/rcu.h"
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
} Probe;

static void probe_ready(void *opaque)
{
    Probe *probe = opaque;

    event_notifier_test_and_clear(&probe->notifier);
    probe->ready++;
    if (probe->also) {
        probe->also(probe);
    }
}

static bool probe_poll(void *opaque)
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

static void probe_begin(void *opaque)
{
    Probe *probe = opaque;

    g_assert_cmpuint(probe->begun, ==, probe->ended);
    probe->begun++;
}

static void probe_end(void *opaque)
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

static void probe_add(Probe *probe, AioContext *ctx, const AioHandlerOps *ops)
{
    *probe = (Probe){ .ctx = ctx };
    g_assert_cmpint(event_notifier_init(&probe->notifier), ==, 0);
    probe->handler = aio_add_handler(ctx, probe->notifier.fd, ops, probe);
    g_assert_nonnull(probe->handler);
}

static void probe_remove(Probe *probe)
{
    if (probe->handler) {
        aio_remove_handler(probe->ctx, probe->handler);
        probe->handler = NULL;
    }
    event_notifier_cleanup(&probe->notifier);
}

/* Each look at the clock takes a microsecond, so that tests do not depend on the machine. */
static int64_t fake_ns;

static int64_t fake_clock(void)
{
    return fake_ns += 1000;
}

static AioContext *context_new(int64_t max_ns)
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
static void probe_warm_up(Probe *probe)
{
    event_notifier_set(&probe->notifier);
    g_assert_true(aio_poll(probe->ctx, true));
    g_assert_cmpuint(probe->ready, ==, 1);
}

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

static void test_never_polls(void)
{
    AioContext *ctx = context_new(0);
    Probe probe;
    int i;

    probe_add(&probe, ctx, &poll_ops);
    for (i = 0; i < 5; i++) {
        event_notifier_set(&probe.notifier);
        g_assert_true(aio_poll(ctx, true));
    }
    g_assert_cmpuint(probe.ready, ==, 5);
    g_assert_cmpuint(probe.polled, ==, 0);
    g_assert_cmpuint(probe.begun, ==, 0);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_hits_avoid_the_kernel(void)
{
    AioContext *ctx = context_new(32768);
    uint64_t sleeps;
    Probe probe;
    int i;

    probe_add(&probe, ctx, &poll_ops);
    probe_warm_up(&probe);
    sleeps = aio_context_sleeps(ctx);

    probe.work = 1000;
    for (i = 0; i < 1000; i++) {
        g_assert_true(aio_poll(ctx, true));
    }
    /* It finds its work only after some rounds in vain. */
    probe.find_at = probe.polled + 10;
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, sleeps);
    g_assert_cmpuint(probe.ready, ==, 1);
    g_assert_cmpuint(probe.begun, ==, 1);
    g_assert_cmpuint(probe.ended, ==, 0);
    probe_remove(&probe);
    g_assert_cmpuint(probe.ended, ==, 1);
    aio_context_free(ctx);
}

/* Before a sleep polling ends, and a last poll finds what came before that was known. */
static void test_last_poll(void)
{
    AioContext *ctx = context_new(32768);
    uint64_t sleeps;
    Probe probe;

    probe_add(&probe, ctx, &poll_ops);
    probe_warm_up(&probe);
    sleeps = aio_context_sleeps(ctx);

    probe.work_at_end = 1;
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.ended, ==, 1);
    g_assert_cmpuint(probe.work, ==, 0);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, sleeps);

    event_notifier_set(&probe.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.begun, ==, 2);
    g_assert_cmpuint(probe.ended, ==, 2);
    g_assert_cmpuint(probe.ready, ==, 2);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, sleeps + 1);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_polling_forbidden(void)
{
    const AioPollParams never = { .max_ns = 0 };
    AioContext *ctx = context_new(32768);
    unsigned int polled;
    Probe probe;

    probe_add(&probe, ctx, &poll_ops);
    probe_warm_up(&probe);
    probe.work = 1;
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.begun, ==, 1);

    aio_context_set_poll_params(ctx, &never);
    g_assert_false(aio_poll(ctx, false));
    g_assert_cmpuint(probe.ended, ==, 1);
    polled = probe.polled;
    event_notifier_set(&probe.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(probe.polled, ==, polled);
    g_assert_cmpuint(probe.begun, ==, 1);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_busy_poll_looks_at_descriptors(void)
{
    AioContext *ctx = context_new(32768);
    Probe busy, other;
    int i;

    probe_add(&busy, ctx, &poll_ops);
    probe_add(&other, ctx, &ready_ops);
    probe_warm_up(&busy);
    busy.work = 2 * LOOK_ROUNDS;
    event_notifier_set(&other.notifier);
    for (i = 0; i < LOOK_ROUNDS; i++) {
        g_assert_true(aio_poll(ctx, true));
    }
    g_assert_cmpuint(other.ready, ==, 1);
    probe_remove(&busy);
    probe_remove(&other);
    aio_context_free(ctx);
}

/* Polling for a second in vain must not hold up who is not polled. */
static void test_long_poll_looks_at_descriptors(void)
{
    const AioPollParams params = { .max_ns = 1000000000, .grow = 1000000 };
    AioContext *ctx = context_new(0);
    uint64_t sleeps;
    Probe idle, other;

    aio_context_set_poll_params(ctx, &params);
    probe_add(&idle, ctx, &poll_ops);
    probe_add(&other, ctx, &ready_ops);
    probe_warm_up(&idle);
    event_notifier_set(&idle.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpint(idle.handler->poll_ns, ==, 1000000000);

    sleeps = aio_context_sleeps(ctx);
    event_notifier_set(&other.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(other.ready, ==, 1);
    g_assert_cmpuint(idle.ended, ==, 1);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, sleeps);
    probe_remove(&idle);
    probe_remove(&other);
    aio_context_free(ctx);
}

static void polls(AioContext *ctx, int n)
{
    while (n--) {
        g_assert_true(aio_poll(ctx, true));
    }
}

static void test_idle_handlers_leave(void)
{
    AioContext *ctx = context_new(32768);
    unsigned int polled;
    Probe busy, idle;

    probe_add(&busy, ctx, &poll_ops);
    probe_add(&idle, ctx, &poll_ops);
    probe_warm_up(&busy);
    busy.work = 10 * LOOK_ROUNDS;

    polls(ctx, 2 * LOOK_ROUNDS);
    fake_ns += AIO_POLL_IDLE_NS - 10000;
    polls(ctx, LOOK_ROUNDS);
    g_assert_cmpuint(idle.begun, ==, 1);
    g_assert_cmpuint(idle.ended, ==, 0);

    /* The last poll, after poll_end, finds what came just then. */
    idle.work_at_end = 1;
    fake_ns += 10000;
    polls(ctx, LOOK_ROUNDS);
    g_assert_cmpuint(idle.ended, ==, 1);
    g_assert_cmpuint(idle.work, ==, 0);
    polled = idle.polled;
    polls(ctx, LOOK_ROUNDS);
    g_assert_cmpuint(idle.polled, ==, polled);

    /* Its descriptor brings it back. */
    event_notifier_set(&idle.notifier);
    polls(ctx, LOOK_ROUNDS + 1);
    g_assert_cmpuint(idle.ready, ==, 1);
    g_assert_cmpuint(idle.begun, ==, 2);
    g_assert_cmpuint(idle.polled, >, polled);
    g_assert_cmpuint(busy.ended, ==, 0);
    probe_remove(&busy);
    probe_remove(&idle);
    aio_context_free(ctx);
}

static void test_no_descriptor(void)
{
    AioContext *ctx = context_new(0);
    Probe unwatched = { .ctx = ctx, .notifier = EVENT_NOTIFIER_NONE };
    Probe other;
    int i;

    unwatched.handler = aio_add_handler(ctx, -1, &poll_ops, &unwatched);
    probe_add(&other, ctx, &ready_ops);
    for (i = 0; i < 3; i++) {
        g_assert_false(aio_poll(ctx, true));
    }
    unwatched.work = 1;
    g_assert_true(aio_poll(ctx, true));
    event_notifier_set(&other.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(other.ready, ==, 1);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 0);
    g_assert_cmpuint(unwatched.begun, ==, 1);

    probe_remove(&unwatched);
    g_assert_cmpuint(unwatched.ended, ==, 1);
    event_notifier_set(&other.notifier);
    g_assert_true(aio_poll(ctx, true));
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 1);
    probe_remove(&other);
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

typedef struct CountingBh {
    AioBh bh;
    AioContext *ctx;
    unsigned int runs;
    unsigned int again;
    unsigned int order;
} CountingBh;

static unsigned int bh_order;

static void counting_bh(void *opaque)
{
    CountingBh *c = opaque;

    c->runs++;
    c->order = bh_order++;
    if (c->again > 0) {
        c->again--;
        aio_bh_schedule(c->ctx, &c->bh);
    }
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

/* In a child whose every system call but read, write and exit is deadly. */
static void run_without_system_calls(void)
{
    AioContext *ctx = context_new(32768);
    CountingBh c = { .ctx = ctx, .again = G_MAXUINT };
    Probe probe;
    int i;

    rcu_thread_enter();
    aio_bh_init(&c.bh, counting_bh, &c);
    probe_add(&probe, ctx, &poll_ops);
    probe_warm_up(&probe);
    probe.work = 2 * LOOK_ROUNDS;
    g_assert_true(aio_poll(ctx, true));
    aio_bh_schedule(ctx, &c.bh);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) < 0) {
        syscall(SYS_exit, 77);
    }
    for (i = 0; i < LOOK_ROUNDS - 2; i++) {
        if (!aio_poll(ctx, true)) {
            syscall(SYS_exit, 1);
        }
    }
    syscall(SYS_exit, c.runs == LOOK_ROUNDS - 2 && probe.ended == 0 ? 0 : 2);
}

static void test_no_system_calls(void)
{
    const struct rlimit no_core = { 0 };
    pid_t pid;
    int status;

#ifdef RCU_TSAN
    g_test_skip("ThreadSanitizer makes system calls of its own");
    return;
#endif
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        run_without_system_calls();
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        g_test_skip("this kernel has no seccomp");
        return;
    }
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aio-context/progress-makes-no-system-call", test_no_system_calls);
    g_test_add_func("/aio-context/descriptor-fires", test_descriptor);
    g_test_add_func("/aio-context/end-of-file-fires", test_end_of_file);
    g_test_add_func("/aio-context/bad-descriptors-are-refused", test_refused);
    g_test_add_func("/aio-context/many-descriptors-all-fire", test_many_descriptors);
    g_test_add_func("/aio-context/poll/never-if-forbidden", test_never_polls);
    g_test_add_func("/aio-context/poll/hits-avoid-the-kernel", test_hits_avoid_the_kernel);
    g_test_add_func("/aio-context/poll/ends-with-a-last-poll", test_last_poll);
    g_test_add_func("/aio-context/poll/can-be-forbidden-later", test_polling_forbidden);
    g_test_add_func("/aio-context/poll/busy-polling-starves-no-descriptor",
                    test_busy_poll_looks_at_descriptors);
    g_test_add_func("/aio-context/poll/long-polling-starves-no-descriptor",
                    test_long_poll_looks_at_descriptors);
    g_test_add_func("/aio-context/poll/idle-handlers-leave-and-return", test_idle_handlers_leave);
    g_test_add_func("/aio-context/poll/no-descriptor-never-sleeps", test_no_descriptor);
    g_test_add_func("/aio-context/remove/in-ready", test_remove_in_ready);
    g_test_add_func("/aio-context/remove/in-poll", test_remove_in_poll);
    g_test_add_func("/aio-context/remove/in-poll-begin-and-end",
                    test_remove_in_poll_begin_and_end);
    g_test_add_func("/aio-context/add-in-callback", test_add_in_callback);
    g_test_add_func("/aio-context/bh/coalesces-in-order", test_bh_coalesces_in_order);
    g_test_add_func("/aio-context/bh/reschedules-itself", test_bh_reschedules_itself);
    g_test_add_func("/aio-context/bh/frees-itself", test_bh_frees_itself);
    g_test_add_func("/aio-context/bh/wakes-only-sleepers", test_bh_wakes_only_sleepers);
    g_test_add_func("/aio-context/bh/none-lost-from-many-threads", test_bh_from_many_threads);
    g_test_add_func("/aio-context/notify-wakes-once", test_notify);
    g_test_add_func("/aio-context/run-in-waits", test_run_in);
    return g_test_run();
}
