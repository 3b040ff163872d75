/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of adaptive polling: the policy, and what an AioContext makes of it. */
#include "aio-probe.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/rcu.h"

typedef struct AdjustCase {
    const char *what;
    AioPollParams params;
    int64_t poll_ns;
    int64_t blocked_ns;
    bool event;
    int64_t expect_ns;
} AdjustCase;

static const AdjustCase adjust_cases[] = {
    { "no polling at all", { .max_ns = 0 }, 0, 100, true, 0 },
    { "polling switched off", { .max_ns = 0 }, 8000, 100, true, 0 },
    { "negative bound", { .max_ns = -1 }, 8000, 100, true, 0 },
    { "first growth", { .max_ns = 32768 }, 0, 20000, true, 4000 },
    { "first growth is bounded", { .max_ns = 3000 }, 0, 2000, true, 3000 },
    { "growth by 2 by default", { .max_ns = 32768 }, 4000, 20000, true, 8000 },
    { "growth by a factor", { .max_ns = 32768, .grow = 3 }, 4000, 20000, true, 12000 },
    { "growth by 1 is none", { .max_ns = 32768, .grow = 1 }, 4000, 20000, true, 4000 },
    { "growth is bounded", { .max_ns = 32768 }, 32000, 32700, true, 32768 },
    { "growth does not wrap", { .max_ns = INT64_MAX, .grow = INT64_MAX }, 4000, 5000, true,
      INT64_MAX },
    { "sweet spot", { .max_ns = 32768 }, 8000, 8000, true, 8000 },
    { "sweet spot without event", { .max_ns = 32768 }, 8000, 8000, false, 8000 },
    { "just too short", { .max_ns = 32768 }, 8000, 8001, true, 16000 },
    { "longest that grows", { .max_ns = 32768 }, 8000, 32768, true, 16000 },
    { "in vain", { .max_ns = 32768 }, 8000, 32769, true, 0 },
    { "in vain, another's event", { .max_ns = 32768 }, 8000, 32769, false, 0 },
    { "in vain, by a divisor", { .max_ns = 32768, .shrink = 2 }, 8000, 32769, true, 4000 },
    { "another's event", { .max_ns = 32768 }, 8000, 20000, false, 8000 },
    { "bound lowered", { .max_ns = 5000 }, 8000, 100, true, 5000 },
    { "bound lowered, in vain", { .max_ns = 5000, .shrink = 2 }, 8000, 6000, true, 2500 },
};

static void test_adjust(void)
{
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(adjust_cases); i++) {
        const AdjustCase *c = &adjust_cases[i];

        g_test_message("%s", c->what);
        g_assert_cmpint(aio_poll_adjust(&c->params, c->poll_ns, c->blocked_ns, c->event), ==,
                        c->expect_ns);
    }
}

/* Events every 20 us: polling grows until it meets them, and stays there. */
static void test_converges(void)
{
    const AioPollParams params = AIO_POLL_PARAMS_DEFAULT;
    static const int64_t expect_ns[] = { 4000, 8000, 16000, 32000, 32000, 32000 };
    int64_t poll_ns = 0;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(expect_ns); i++) {
        poll_ns = aio_poll_adjust(&params, poll_ns, 20000, true);
        g_assert_cmpint(poll_ns, ==, expect_ns[i]);
    }
}

static void test_idle(void)
{
    const int64_t start_ns = 1234;

    g_assert_false(aio_poll_is_idle(start_ns, start_ns));
    g_assert_false(aio_poll_is_idle(start_ns, start_ns + AIO_POLL_IDLE_NS - 1));
    g_assert_true(aio_poll_is_idle(start_ns, start_ns + AIO_POLL_IDLE_NS));
    g_assert_cmpint(AIO_POLL_IDLE_NS, ==, 7 * INT64_C(1000000000));
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
    g_test_add_func("/aio-poll/policy/adjusts-by-table", test_adjust);
    g_test_add_func("/aio-poll/policy/converges-on-regular-events", test_converges);
    g_test_add_func("/aio-poll/policy/idle-after-seven-seconds", test_idle);
#ifndef RCU_TSAN
    g_test_add_func("/aio-poll/loop/progress-makes-no-system-call", test_no_system_calls);
#endif
    g_test_add_func("/aio-poll/loop/never-if-forbidden", test_never_polls);
    g_test_add_func("/aio-poll/loop/hits-avoid-the-kernel", test_hits_avoid_the_kernel);
    g_test_add_func("/aio-poll/loop/ends-with-a-last-poll", test_last_poll);
    g_test_add_func("/aio-poll/loop/can-be-forbidden-later", test_polling_forbidden);
    g_test_add_func("/aio-poll/loop/busy-polling-starves-no-descriptor",
                    test_busy_poll_looks_at_descriptors);
    g_test_add_func("/aio-poll/loop/long-polling-starves-no-descriptor",
                    test_long_poll_looks_at_descriptors);
    g_test_add_func("/aio-poll/loop/idle-handlers-leave-and-return", test_idle_handlers_leave);
    g_test_add_func("/aio-poll/loop/no-descriptor-never-sleeps", test_no_descriptor);
    return g_test_run();
}
