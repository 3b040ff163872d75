/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads of a guest's driver.
 */
#include "guest-run.h"

#include <sched.h>
#include <stdatomic.h>

#include "allocations.h"
#include "thread.h"

#define PROGRESS_MS 200

static const EventNotifier nobody = EVENT_NOTIFIER_NONE;

/* --- a thread --- */

static void work(GuestThread *t)
{
    const GuestWorkOps *ops = t->run->ops;

    while (!atomic_load_explicit(&t->run->abandon, memory_order_relaxed)) {
        const bool stop = atomic_load_explicit(&t->run->stop, memory_order_relaxed);

        if (ops->is_done(t->work, stop)) {
            return;
        }
        if (ops->move(t->work, stop)) {
            waiter_reset(&t->waiter);
            continue;
        }
        if (waiter_gives_up(&t->waiter)) {
            return;     /* what is missing is lost */
        }
        if (waiter_wants_sleep(&t->waiter)) {
            if (!ops->enable_calls(t->work)) {
                waiter_sleep(&t->waiter);
            }
            ops->disable_calls(t->work);
        }
    }
}

static gboolean thread_finished(void *opaque)
{
    GuestRun *run = opaque;

    if (--run->running == 0) {
        g_main_loop_quit(run->loop);
    }
    return G_SOURCE_REMOVE;
}

static void *thread_main(void *opaque)
{
    GuestThread *t = opaque;
    uint64_t allocations = allocations_of_thread();
    uint64_t start = bench_now_ns();

    work(t);
    t->ns = bench_now_ns() - start;
    t->allocations = allocations_of_thread() - allocations;
    t->cpu = sched_getcpu();
    t->run->ops->finish(t->work);
    g_idle_add(thread_finished, t->run);
    return NULL;
}

/* --- the run --- */

void guest_run_init(GuestRun *run, const BenchOptions *options, const GuestWorkOps *ops)
{
    *run = (GuestRun){
        .options = options,
        .ops = ops,
        .loop = g_main_loop_new(NULL, FALSE),
        .n = (unsigned int)options->queues,
        .threads = g_aligned_alloc0((gsize)options->queues, sizeof(GuestThread),
                                    _Alignof(GuestThread)),
    };
}

void guest_run_cleanup(GuestRun *run)
{
    g_main_loop_unref(run->loop);
    g_aligned_free(run->threads);
}

void guest_run_set_work(GuestRun *run, unsigned int i, void *work, const EventNotifier *first,
                        const EventNotifier *second)
{
    GuestThread *t = &run->threads[i];

    t->run = run;
    t->work = work;
    t->waiter = (Waiter){
        .policy = waiter_policy(run->options),
        .notifiers = { first, second ? second : &nobody },
    };
}

void guest_run_stop(GuestRun *run)
{
    atomic_store_explicit(&run->stop, true, memory_order_relaxed);
}

void guest_run_abandon(GuestRun *run)
{
    atomic_store_explicit(&run->abandon, true, memory_order_relaxed);
}

static void back_end_gone(void *opaque)
{
    GuestRun *run = opaque;

    run->gone = true;
    guest_run_abandon(run);
}

const VhostDeviceNotify guest_run_notify = { .gone = back_end_gone };

static gboolean show_progress(void *opaque)
{
    GuestRun *run = opaque;
    uint64_t buffers = 0, errors = 0;
    unsigned int i;

    for (i = 0; i < run->n; i++) {
        run->ops->progress(run->threads[i].work, &buffers, &errors);
    }
    bench_progress(buffers, errors);
    return G_SOURCE_CONTINUE;
}

static bool start_threads(GuestRun *run, GError **errp)
{
    for (run->running = 0; run->running < run->n; run->running++) {
        GuestThread *t = &run->threads[run->running];
        int cpu = run->options->cpus[run->running].peer;

        if (!bench_thread_start(&t->thread, cpu, thread_main, t, errp)) {
            return false;
        }
    }
    return true;
}

bool guest_run_all(GuestRun *run, GError **errp)
{
    guint progress = g_timeout_add(PROGRESS_MS, show_progress, run);
    bool ok = start_threads(run, errp);
    const unsigned int started = run->running;
    unsigned int i;

    if (!ok) {
        guest_run_abandon(run);
    }
    if (started) {
        g_main_loop_run(run->loop);
    }
    for (i = 0; i < started; i++) {
        pthread_join(run->threads[i].thread, NULL);
    }
    g_source_remove(progress);
    return ok;
}

void guest_run_report(const GuestRun *run, BenchReport *report)
{
    unsigned int i;

    for (i = 0; i < run->n; i++) {
        const GuestThread *t = &run->threads[i];
        BenchQueue *queue = &report->queues[i];

        queue->ns = t->ns;
        queue->syscalls += t->waiter.syscalls;
        queue->allocations = t->allocations;
        queue->cpu = t->cpu;
        report->ns = MAX(report->ns, t->ns);
    }
}
