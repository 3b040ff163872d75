/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode threads: for each queue an IOThread that runs the shadow virtqueue, and a peer thread
 * that is both its driver and its device.
 *
 * How it works.  A run builds the rigs anew, lets all peers begin at once, and lets them
 * drain what is under way at its end.  Peers notify and are notified by eventfds, as real
 * ones are.  Queues share nothing: each has its thread pair, guest memory and rig.
 *
 * A flooded queue is the exception: it has the threads of the queue whose round trips are timed.
 * With --flood-apart it has no shadow virtqueue, so the peer has the same to do, and the IOThread
 * nothing.
 *
 * With --scaling runs of one queue and of all queues alternate, so that whatever else the
 * machine does disturbs both alike.
 */
#include "modes.h"

#include "allocations.h"
#include "peer.h"
#include "run.h"
#include "util/iothread.h"

typedef struct Queue {
    Peer peer;
    RunThread thread;           /* the peer's */
    Rig *rig;
    Rig *flood;                 /* or NULL */
    IOThread *iothread;
    uint64_t allocations;       /* the IOThread's, before the run */
    uint64_t sleeps;            /* the IOThread's, before the run */
} Queue;

static void read_allocations(void *opaque)
{
    *(uint64_t *)opaque = allocations_of_thread();
}

static void run_peer(void *opaque)
{
    Queue *queue = opaque;

    peer_work(&queue->peer);
}

static bool start_iothread(Queue *queue, const BenchOptions *options, const char *name, int cpu,
                           GError **errp)
{
    const AioPollParams params = { .max_ns = options->poll_max_ns };
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    if (cpu >= 0) {
        CPU_SET(cpu, &cpus);
    }
    queue->iothread = iothread_new(name, &params, cpu >= 0 ? &cpus : NULL, errp);
    return queue->iothread != NULL;
}

/* The queue that is flooded while queue @index, of IOThread @ctx, is timed. */
static Rig *flood_new(const BenchOptions *options, unsigned int index, AioContext *ctx,
                      GError **errp)
{
    const uint64_t seed = (uint64_t)options->seed + index + 1;

    return options->flood_apart ? rig_new_direct(options, seed, errp)
                                : rig_new(options, "flood", seed, ctx, errp);
}

/* All but its peer's thread. */
static bool queue_init(Queue *queue, const BenchOptions *options, unsigned int index, Run *run,
                       GError **errp)
{
    g_autofree char *name = g_strdup_printf("bench%u", index);
    AioContext *ctx;

    if (!start_iothread(queue, options, name, options->cpus[index].iothread, errp)) {
        return false;
    }
    ctx = iothread_get_aio_context(queue->iothread);
    queue->rig = rig_new(options, name, (uint64_t)options->seed + index, ctx, errp);
    if (!queue->rig) {
        return false;
    }
    if (bench_options_flood(options)) {
        queue->flood = flood_new(options, index, ctx, errp);
        if (!queue->flood) {
            return false;
        }
    }
    peer_init(&queue->peer, queue->rig, queue->flood, options, index, &run->stop);
    aio_run_in(ctx, read_allocations, &queue->allocations);
    queue->sleeps = aio_context_sleeps(ctx);
    return true;
}

static void queue_cleanup(Queue *queue)
{
    rig_free(queue->rig);
    rig_free(queue->flood);
    g_clear_pointer(&queue->iothread, iothread_unref);
}

/* Adds what passed through @rig. */
static void report_rig(const Rig *rig, const Queue *queue, BenchQueue *result)
{
    result->buffers += rig->collected;
    result->ns += queue->thread.ns;
    result->errors.corrupted += rig->errors;
    result->errors.lost += rig->added - rig->collected;
    if (rig->svq) {
        ShadowVirtqueueCounters counters = shadow_virtqueue_get_counters(rig->svq);

        result->syscalls += counters.kicks_sent + counters.calls_sent;
        result->bursts += counters.bursts;
        result->errors.other += shadow_virtqueue_get_state(rig->svq) != SVQ_QUEUE_RUNNING;
    }
}

/* Adds what the run found out to what earlier ones did. */
static void queue_report(Queue *queue, const BenchOptions *options, unsigned int index,
                         BenchReport *report)
{
    AioContext *ctx = iothread_get_aio_context(queue->iothread);
    /* Asking it is one that it would not have had. */
    const uint64_t sleeps = aio_context_sleeps(ctx);
    BenchQueue *result = &report->queues[index];
    uint64_t allocations;

    aio_run_in(ctx, read_allocations, &allocations);
    report_rig(queue->rig, queue, result);
    result->syscalls += sleeps;
    result->allocations += allocations - queue->allocations;
    result->cpu = options->cpus[index].peer;
    if (queue->flood) {
        report_rig(queue->flood, queue, &report->queues[index + 1]);
        report->queues[index + 1].cpu = result->cpu;
    }
    if (options->ping_pong) {
        report->latency = latency_summary(&queue->peer.latency);
        report->wakeups[0] = (BenchWakeups){ "peer", queue->peer.waiter.wakeups };
        report->wakeups[1] = (BenchWakeups){ "iothread", sleeps - queue->sleeps };
    }
}

/* The queues of a run. */
typedef struct Queues {
    unsigned int n;
    Queue *queues;
} Queues;

static uint64_t progress(const void *opaque)
{
    const Queues *all = opaque;
    uint64_t buffers = 0;
    unsigned int i;

    for (i = 0; i < all->n; i++) {
        buffers += atomic_load_explicit(&all->queues[i].rig->progress, memory_order_relaxed);
    }
    return buffers;
}

static bool start_queues(Run *run, const Queues *all, const BenchOptions *options, GError **errp)
{
    unsigned int i;

    for (i = 0; i < all->n; i++) {
        if (!queue_init(&all->queues[i], options, i, run, errp)) {
            return false;
        }
    }
    for (i = 0; i < all->n; i++) {
        Queue *queue = &all->queues[i];

        if (!run_thread_start(&queue->thread, run, options->cpus[i].peer, run_peer, queue, errp)) {
            return false;
        }
    }
    return true;
}

/* One run of @n queues.  Adds to the report and to *@ns. */
static bool run_queues(const BenchOptions *options, unsigned int n, BenchReport *report,
                       uint64_t *ns, GError **errp)
{
    const Queues all = { n, g_aligned_alloc0(n, sizeof(Queue), _Alignof(Queue)) };
    Run run = RUN_INIT;
    const bool ok = start_queues(&run, &all, options, errp);
    uint64_t start = bench_now_ns();
    unsigned int i;

    if (!ok) {
        /* Those peers that are there find nothing to do. */
        run_stop(&run);
    }
    run_begin(&run);
    if (ok) {
        run_wait(&run, options, progress, &all);
        *ns += bench_now_ns() - start;
    }
    for (i = 0; i < n; i++) {
        run_thread_join(&all.queues[i].thread);
    }
    for (i = 0; i < n; i++) {
        if (ok) {
            queue_report(&all.queues[i], options, i, report);
        }
        queue_cleanup(&all.queues[i]);
    }
    g_aligned_free(all.queues);
    return ok;
}

/* Million buffers a second that @n queues moved in one run; their results go to @report. */
static bool run_round(const BenchOptions *options, unsigned int n, BenchReport *report,
                      double *mpps, GError **errp)
{
    uint64_t before = bench_report_total(report).buffers;
    uint64_t ns = 0;

    if (!run_queues(options, n, report, &ns, errp)) {
        return false;
    }
    report->ns += ns;
    *mpps = 1e3 * (double)(bench_report_total(report).buffers - before) / (double)ns;
    return true;
}

static bool run_scaling(const BenchOptions *options, BenchReport *report, GError **errp)
{
    static BenchScaling scaling;
    const unsigned int rounds = (unsigned int)options->rounds;
    g_autofree double *one = g_new(double, rounds);
    g_autofree double *all = g_new(double, rounds);
    unsigned int i;

    for (i = 0; i < rounds; i++) {
        if (!run_round(options, 1, report, &one[i], errp) ||
            !run_round(options, report->n, report, &all[i], errp)) {
            return false;
        }
    }
    scaling.one_mpps = bench_median(one, rounds);
    scaling.all_mpps = bench_median(all, rounds);
    scaling.ratio = scaling.all_mpps / scaling.one_mpps;
    report->scaling = &scaling;
    return true;
}

bool bench_threads_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    if (options->scaling) {
        return run_scaling(options, report, errp);
    }
    /* A flooded queue has no threads of its own. */
    return run_queues(options, bench_options_flood(options) ? 1 : report->n, report, &report->ns,
                      errp);
}
