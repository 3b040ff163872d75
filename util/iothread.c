/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IOThread: a thread that runs one AioContext.
 *
 * The new thread sets itself up (name, CPUs, RCU), says how that went, and runs its loop
 * until a bottom half stops it.  What was scheduled before the last reference went has run
 * by then, for bottom halves run in order.
 */
#include "util/iothread.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "util/rcu.h"

enum { THREAD_NAME_BYTES = 16 };        /* the kernel's bound, with the zero */

struct IOThread {
    atomic_int refs;
    char *id;
    AioContext *ctx;
    pthread_t thread;
    pid_t tid;
    AioBh stop_bh;
    bool stop;          /* the thread's own */
};

/* What creator and thread tell each other; lives until @done is posted. */
typedef struct IOThreadStart {
    IOThread *iothread;
    const cpu_set_t *cpus;
    GError *error;
    sem_t done;
} IOThreadStart;

static void iothread_stop_bh(void *opaque)
{
    IOThread *iothread = opaque;

    iothread->stop = true;
}

/* The kernel takes CPUs that are not there silently out of a set, unless none is left. */
static bool set_cpus(const cpu_set_t *cpus, const char *id, GError **errp)
{
    cpu_set_t have;
    int ret = pthread_setaffinity_np(pthread_self(), sizeof(*cpus), cpus);
    int cpu;

    CPU_ZERO(&have);
    if (ret == 0) {
        ret = pthread_getaffinity_np(pthread_self(), sizeof(have), &have);
    }
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, cpus) && !CPU_ISSET(cpu, &have)) {
            g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "IOThread '%s' cannot run on CPU %d: %s", id, cpu,
                        ret ? g_strerror(ret) : "it is not there, or not allowed");
            return false;
        }
    }
    if (ret != 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(ret),
                    "IOThread '%s' cannot be bound to its CPUs: %s", id, g_strerror(ret));
    }
    return ret == 0;
}

static void set_name(const char *id)
{
    char name[THREAD_NAME_BYTES];

    g_strlcpy(name, "IO ", sizeof(name));
    g_strlcat(name, id, sizeof(name));
    pthread_setname_np(pthread_self(), name);
}

static void *iothread_run(void *opaque)
{
    IOThreadStart *start = opaque;
    IOThread *iothread = start->iothread;

    set_name(iothread->id);
    if (start->cpus && !set_cpus(start->cpus, iothread->id, &start->error)) {
        sem_post(&start->done);
        return NULL;
    }
    iothread->tid = gettid();
    rcu_thread_enter();
    /* Makes this thread the owner before anybody else knows the loop. */
    aio_poll(iothread->ctx, false);
    sem_post(&start->done);
    while (!iothread->stop) {
        aio_poll(iothread->ctx, true);
    }
    rcu_thread_leave();
    return NULL;
}

/* Signals are the main thread's, but for those that a thread brings upon itself. */
static void block_signals(sigset_t *old)
{
    static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
    sigset_t set;
    size_t i;

    sigfillset(&set);
    for (i = 0; i < G_N_ELEMENTS(own); i++) {
        sigdelset(&set, own[i]);
    }
    pthread_sigmask(SIG_SETMASK, &set, old);
}

static void iothread_free(IOThread *iothread)
{
    if (iothread->ctx) {
        aio_context_free(iothread->ctx);
    }
    g_free(iothread->id);
    g_free(iothread);
}

static void iothread_join(IOThread *iothread)
{
    /* The thread may wait for a grace period: do not hold that up. */
    rcu_thread_park();
    pthread_join(iothread->thread, NULL);
    rcu_thread_unpark();
}

/* 0 with the loop running, or an error number; start->error if the thread itself failed. */
static int iothread_start(IOThread *iothread, IOThreadStart *start)
{
    sigset_t signals;
    int ret;

    sem_init(&start->done, 0, 0);
    block_signals(&signals);
    ret = pthread_create(&iothread->thread, NULL, iothread_run, start);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
    if (ret == 0) {
        rcu_thread_park();
        while (sem_wait(&start->done) < 0 && errno == EINTR) {
        }
        rcu_thread_unpark();
    }
    sem_destroy(&start->done);
    return ret;
}

IOThread *iothread_new(const char *id, const AioPollParams *params, const cpu_set_t *cpus,
                       GError **errp)
{
    IOThread *iothread = g_new0(IOThread, 1);
    IOThreadStart start = { .iothread = iothread, .cpus = cpus };
    int ret;

    atomic_init(&iothread->refs, 1);
    iothread->id = g_strdup(id);
    aio_bh_init(&iothread->stop_bh, iothread_stop_bh, iothread);
    iothread->ctx = aio_context_new(errp);
    if (!iothread->ctx) {
        iothread_free(iothread);
        return NULL;
    }
    if (params) {
        aio_context_set_poll_params(iothread->ctx, params);
    }
    ret = iothread_start(iothread, &start);
    if (ret != 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(ret),
                    "cannot start IOThread '%s': %s", id, g_strerror(ret));
        iothread_free(iothread);
        return NULL;
    }
    if (start.error) {
        iothread_join(iothread);
        g_propagate_error(errp, start.error);
        iothread_free(iothread);
        return NULL;
    }
    return iothread;
}

IOThread *iothread_ref(IOThread *iothread)
{
    atomic_fetch_add_explicit(&iothread->refs, 1, memory_order_relaxed);
    return iothread;
}

void iothread_unref(IOThread *iothread)
{
    /* Each holder's use of the thread comes before the last one's stopping it. */
    if (atomic_fetch_sub_explicit(&iothread->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    g_assert(!pthread_equal(pthread_self(), iothread->thread));
    aio_bh_schedule(iothread->ctx, &iothread->stop_bh);
    iothread_join(iothread);
    iothread_free(iothread);
}

AioContext *iothread_get_aio_context(IOThread *iothread)
{
    return iothread->ctx;
}

const char *iothread_get_id(const IOThread *iothread)
{
    return iothread->id;
}

pid_t iothread_get_thread_id(const IOThread *iothread)
{
    return iothread->tid;
}
