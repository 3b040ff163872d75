/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of adaptive polling: what an AioContext makes of the policy. */
#include "aio-probe.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/rcu.h"

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
    g_assert_cmpint(idle.handler->state.poll_ns, ==, 1000000000);

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
    enum { MAX_NS = 32768, IDLE_NS = AIO_POLL_IDLE * MAX_NS };
    AioContext *ctx = context_new(MAX_NS);
    unsigned int polled;
    Probe busy, idle;

    probe_add(&busy, ctx, &poll_ops);
    probe_add(&idle, ctx, &poll_ops);
    probe_warm_up(&busy);
    busy.work = 10 * LOOK_ROUNDS;

    polls(ctx, 2 * LOOK_ROUNDS);
    fake_ns += IDLE_NS - 10000;
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

static void take_ten_microseconds(Probe *probe)
{
    fake_ns += 10000;
}

/* What a descriptor waits for is time, not iterations. */
static void test_slow_polls_look_sooner(void)
{
    AioContext *ctx = context_new(32768);
    Probe busy, other;

    probe_add(&busy, ctx, &poll_ops);
    probe_add(&other, ctx, &ready_ops);
    probe_warm_up(&busy);
    busy.work = 10 * LOOK_ROUNDS;
    busy.also = take_ten_microseconds;
    polls(ctx, 4 * LOOK_ROUNDS);

    event_notifier_set(&other.notifier);
    polls(ctx, AIO_LOOK_ROUNDS_MIN);
    g_assert_cmpuint(other.ready, ==, 1);
    probe_remove(&busy);
    probe_remove(&other);
    aio_context_free(ctx);
}

/* A loop whose bottom halves keep it awake polls for nothing, and so does not ask the policy. */
static void test_pending_work_begins_polling(void)
{
    AioContext *ctx = context_new(32768);
    CountingBh c = { .ctx = ctx, .again = G_MAXUINT };
    Probe probe;

    aio_bh_init(&c.bh, counting_bh, &c);
    probe_add(&probe, ctx, &poll_ops);
    aio_bh_schedule(ctx, &c.bh);
    polls(ctx, 3);
    g_assert_cmpuint(probe.begun, ==, 1);
    g_assert_cmpuint(probe.polled, ==, 3);
    g_assert_cmpuint(probe.ended, ==, 0);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 0);

    /* With the last of them that is over. */
    c.again = 0;
    polls(ctx, 1);
    event_notifier_set(&probe.notifier);
    polls(ctx, 1);
    g_assert_cmpuint(probe.ready, ==, 1);
    g_assert_cmpuint(probe.ended, ==, 1);
    g_assert_cmpuint(aio_context_sleeps(ctx), ==, 1);
    probe_remove(&probe);
    aio_context_free(ctx);
}

static void test_turns(void)
{
    AioContext *ctx = context_new(0);
    int a, b;
    unsigned int i, n;

    /* Alone, or among those with much to do. */
    for (i = 0; i < 1000; i++) {
        g_assert_false(aio_take_turn(ctx, &a, i % 7 == 0));
    }
    for (i = 0; i < 1000; i++) {
        aio_take_turn(ctx, &a, false);
        aio_take_turn(ctx, &b, false);
    }
    g_assert_false(aio_take_turn(ctx, &a, false));
    g_assert_false(aio_take_turn(ctx, &b, false));

    /* Light work of another counts for some time, whatever a's own is. */
    g_assert_false(aio_take_turn(ctx, &b, true));
    for (n = 1; aio_take_turn(ctx, &a, n % 7 == 0); n++) {
    }
    g_assert_cmpuint(n, ==, 64);
    for (i = 0; i < 1000; i++) {
        aio_take_turn(ctx, &b, true);
        for (n = 0; n < 50; n++) {
            g_assert_true(aio_take_turn(ctx, &a, n % 7 == 0));
        }
    }
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

#ifndef RCU_TSAN    /* ThreadSanitizer makes system calls of its own */
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
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#ifndef RCU_TSAN
    g_test_add_func("/aio-poll/progress-makes-no-system-call", test_no_system_calls);
#endif
    g_test_add_func("/aio-poll/never-if-forbidden", test_never_polls);
    g_test_add_func("/aio-poll/hits-avoid-the-kernel", test_hits_avoid_the_kernel);
    g_test_add_func("/aio-poll/ends-with-a-last-poll", test_last_poll);
    g_test_add_func("/aio-poll/can-be-forbidden-later", test_polling_forbidden);
    g_test_add_func("/aio-poll/busy-polling-starves-no-descriptor",
                    test_busy_poll_looks_at_descriptors);
    g_test_add_func("/aio-poll/long-polling-starves-no-descriptor",
                    test_long_poll_looks_at_descriptors);
    g_test_add_func("/aio-poll/slow-polls-look-at-descriptors-sooner", test_slow_polls_look_sooner);
    g_test_add_func("/aio-poll/pending-work-begins-polling", test_pending_work_begins_polling);
    g_test_add_func("/aio-poll/turns-tell-of-light-work", test_turns);
    g_test_add_func("/aio-poll/idle-handlers-leave-and-return", test_idle_handlers_leave);
    g_test_add_func("/aio-poll/no-descriptor-never-sleeps", test_no_descriptor);
    return g_test_run();
}
