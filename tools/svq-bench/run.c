/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads that begin together.
 */
#include "run.h"

#include "allocations.h"
#include "report.h"
#include "thread.h"

#define PROGRESS_NS UINT64_C(100000000)

static void *thread_main(void *opaque)
{
    RunThread *thread = opaque;
    Run *run = thread->run;
    uint64_t start, allocations;

    pthread_mutex_lock(&run->lock);
    while (!run->begun) {
        pthread_cond_wait(&run->changed, &run->lock);
    }
    pthread_mutex_unlock(&run->lock);

    allocations = allocations_of_thread();
    start = bench_now_ns();
    thread->work(thread->opaque);
    thread->ns = bench_now_ns() - start;
    thread->allocations = allocations_of_thread() - allocations;

    pthread_mutex_lock(&run->lock);
    run->running--;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

bool run_thread_start(RunThread *thread, Run *run, int cpu, void (*work)(void *opaque),
                      void *opaque, GError **errp)
{
    thread->run = run;
    thread->work = work;
    thread->opaque = opaque;
    if (!bench_thread_start(&thread->thread, cpu, thread_main, thread, errp)) {
        thread->run = NULL;
        return false;
    }
    /* It looks at nothing before run_begin(). */
    run->running++;
    return true;
}

void run_thread_join(RunThread *thread)
{
    if (thread->run) {
        pthread_join(thread->thread, NULL);
        thread->run = NULL;
    }
}

void run_begin(Run *run)
{
    pthread_mutex_lock(&run->lock);
    run->begun = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

void run_stop(Run *run)
{
    atomic_store_explicit(&run->stop, true, memory_order_relaxed);
}

/* Until a thread is done or CLOCK_MONOTONIC says @ns.  The lock is held. */
static void wait_until(Run *run, uint64_t ns)
{
    const struct timespec time = {
        .tv_sec = (time_t)(ns / 1000000000u),
        .tv_nsec = (long)(ns % 1000000000u),
    };

    pthread_cond_clockwait(&run->changed, &run->lock, CLOCK_MONOTONIC, &time);
}

void run_wait(Run *run, const BenchOptions *options, uint64_t (*progress)(const void *opaque),
              const void *opaque)
{
    const uint64_t end = bench_now_ns() + (uint64_t)(options->duration_s * 1e9);

    pthread_mutex_lock(&run->lock);
    while (run->running) {
        const uint64_t now = bench_now_ns();
        uint64_t until = now + PROGRESS_NS;

        if (!options->buffers) {
            if (now >= end) {
                run_stop(run);
            } else {
                until = MIN(until, end);
            }
        }
        bench_progress(progress(opaque), 0);
        wait_until(run, until);
    }
    pthread_mutex_unlock(&run->lock);
}
