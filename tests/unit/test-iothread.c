/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of IOThread. */
#include "util/iothread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/rcu.h"

typedef struct Seen {
    char name[16];
    cpu_set_t cpus;
    pid_t tid;
    sigset_t blocked;
} Seen;

static void look(void *opaque)
{
    Seen *seen = opaque;

    seen->tid = gettid();
    g_assert_cmpint(pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name)), ==, 0);
    g_assert_cmpint(pthread_getaffinity_np(pthread_self(), sizeof(seen->cpus), &seen->cpus), ==,
                    0);
    g_assert_cmpint(pthread_sigmask(SIG_BLOCK, NULL, &seen->blocked), ==, 0);
}

static void look_in(IOThread *iothread, Seen *seen)
{
    aio_run_in(iothread_get_aio_context(iothread), look, seen);
}

static int first_cpu(void)
{
    cpu_set_t cpus;
    int cpu;

    g_assert_cmpint(sched_getaffinity(0, sizeof(cpus), &cpus), ==, 0);
    for (cpu = 0; !CPU_ISSET(cpu, &cpus); cpu++) {
    }
    return cpu;
}

static void test_identity(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(IOThread) iothread = iothread_new("queue0", NULL, NULL, &err);
    Seen seen;

    g_assert_no_error(err);
    look_in(iothread, &seen);
    g_assert_cmpstr(iothread_get_id(iothread), ==, "queue0");
    g_assert_cmpint(iothread_get_thread_id(iothread), ==, seen.tid);
    g_assert_cmpint(seen.tid, !=, gettid());
    g_assert_cmpstr(seen.name, ==, "IO queue0");
}

static void test_long_name(void)
{
    g_autoptr(IOThread) iothread = iothread_new("a-very-long-name", NULL, NULL, NULL);
    Seen seen;

    look_in(iothread, &seen);
    g_assert_cmpstr(seen.name, ==, "IO a-very-long-");
    g_assert_cmpstr(iothread_get_id(iothread), ==, "a-very-long-name");
}

static void test_signals(void)
{
    g_autoptr(IOThread) iothread = iothread_new("signals", NULL, NULL, NULL);
    sigset_t mine;
    Seen seen;

    look_in(iothread, &seen);
    g_assert_true(sigismember(&seen.blocked, SIGTERM));
    g_assert_true(sigismember(&seen.blocked, SIGINT));
    g_assert_false(sigismember(&seen.blocked, SIGBUS));
    g_assert_false(sigismember(&seen.blocked, SIGSEGV));

    pthread_sigmask(SIG_BLOCK, NULL, &mine);
    g_assert_false(sigismember(&mine, SIGTERM));
}

static void test_affinity(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(IOThread) iothread = NULL;
    cpu_set_t cpus;
    Seen seen;

    CPU_ZERO(&cpus);
    CPU_SET(first_cpu(), &cpus);
    iothread = iothread_new("bound", NULL, &cpus, &err);
    g_assert_no_error(err);
    look_in(iothread, &seen);
    g_assert_true(CPU_EQUAL(&seen.cpus, &cpus));
}

/* A set that has a bad CPU beside a good one fails as well as one that has it alone. */
static void test_bad_cpu(void)
{
    int good;

    for (good = 0; good < 2; good++) {
        g_autoptr(GError) err = NULL;
        cpu_set_t cpus;

        CPU_ZERO(&cpus);
        CPU_SET(CPU_SETSIZE - 1, &cpus);
        if (good) {
            CPU_SET(first_cpu(), &cpus);
        }
        g_assert_null(iothread_new("bad", NULL, &cpus, &err));
        g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL);
        g_assert_nonnull(strstr(err->message, "'bad'"));
        g_assert_nonnull(strstr(err->message, "CPU 1023"));
    }
}

static void test_no_cpu(void)
{
    g_autoptr(GError) err = NULL;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    g_assert_null(iothread_new("nowhere", NULL, &cpus, &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL);
}

static void count(void *opaque)
{
    unsigned int *n = opaque;

    (*n)++;
}

/* The last reference stops the thread, and what was scheduled before has run. */
static void test_stop(void)
{
    IOThread *iothread = iothread_new("stop", NULL, NULL, NULL);
    unsigned int n = 0;
    AioBh bhs[100];
    size_t i;

    iothread_ref(iothread);
    iothread_unref(iothread);
    for (i = 0; i < G_N_ELEMENTS(bhs); i++) {
        aio_bh_init(&bhs[i], count, &n);
        aio_bh_schedule(iothread_get_aio_context(iothread), &bhs[i]);
    }
    iothread_unref(iothread);
    g_assert_cmpuint(n, ==, G_N_ELEMENTS(bhs));
}

static void run_grace_period(void *opaque)
{
    synchronize_rcu();
}

/* Neither a sleeping IOThread nor one that waits for a grace period holds up the other. */
static void test_rcu(void)
{
    g_autoptr(IOThread) iothread = iothread_new("rcu", NULL, NULL, NULL);
    int i;

    rcu_thread_enter();
    rcu_thread_enter();
    for (i = 0; i < 10; i++) {
        synchronize_rcu();
        aio_run_in(iothread_get_aio_context(iothread), run_grace_period, NULL);
    }
    rcu_thread_leave();
    rcu_thread_leave();
}

static void test_many(void)
{
    IOThread *iothreads[16];
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(iothreads); i++) {
        iothreads[i] = iothread_new("many", NULL, NULL, NULL);
        g_assert_nonnull(iothreads[i]);
    }
    for (i = 0; i < G_N_ELEMENTS(iothreads); i++) {
        iothread_unref(iothreads[i]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iothread/has-name-and-id", test_identity);
    g_test_add_func("/iothread/cuts-long-names", test_long_name);
    g_test_add_func("/iothread/leaves-signals-to-the-main-thread", test_signals);
    g_test_add_func("/iothread/runs-on-its-cpus", test_affinity);
    g_test_add_func("/iothread/names-a-bad-cpu", test_bad_cpu);
    g_test_add_func("/iothread/refuses-an-empty-cpu-set", test_no_cpu);
    g_test_add_func("/iothread/stops-with-the-last-reference", test_stop);
    g_test_add_func("/iothread/does-not-hold-up-grace-periods", test_rcu);
    g_test_add_func("/iothread/many-start-and-stop", test_many);
    return g_test_run();
}
