/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A run: threads that begin together, work until their work is done or the time is over, and
 * are waited for.
 *
 *   Run run = RUN_INIT;
 *   for each thread: run_thread_start(...)
 *   run_begin(&run); run_wait(&run, ...); for each thread: run_thread_join(...)
 *
 * Threads: all functions the main thread; run_is_stopped() any.
 */
#ifndef TOOLS_SVQ_BENCH_RUN_H
#define TOOLS_SVQ_BENCH_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "options.h"

typedef struct Run {
    _Atomic bool stop;          /* begin no more */
    pthread_mutex_t lock;       /* pthread's: ThreadSanitizer does not know GLib's */
    pthread_cond_t changed;
    bool begun;                 /* under @lock */
    unsigned int running;       /* threads, under @lock */
} Run;

#define RUN_INIT { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER }

typedef struct RunThread {
    Run *run;
    pthread_t thread;
    void (*work)(void *opaque);
    void *opaque;
    uint64_t ns;                /* that its work took */
    uint64_t allocations;       /* that its work made */
} RunThread;

/* Starts a thread on @cpu (-1: any) that calls work(opaque) once the run begins. */
bool run_thread_start(RunThread *thread, Run *run, int cpu, void (*work)(void *opaque),
                      void *opaque, GError **errp);
void run_thread_join(RunThread *thread);

void run_begin(Run *run);
void run_stop(Run *run);

/* Until all threads are done; stops the run when its time is over.  Shows progress(opaque). */
void run_wait(Run *run, const BenchOptions *options, uint64_t (*progress)(const void *opaque),
              const void *opaque);

static inline bool run_is_stopped(const Run *run)
{
    return atomic_load_explicit(&run->stop, memory_order_relaxed);
}

#endif
