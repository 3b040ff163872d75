/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode threads: for each queue an IOThread that runs the shadow virtqueue, and a peer thread
 * that is both its driver and its device.
 *
 * How it works.  A run builds the rigs anew, lets all peers begin at once, and lets them
 * drain what is under way at its end.  Peers notify and are notified by eventfds, as real
 * ones are.  Queues share nothing: each has its thread pair, guest memory and rig.
 *
 * With --scaling runs of one queue and of all queues alternate, so that whatever else the
 * machine does disturbs both alike.
 */
#include "modes.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "allocations.h"
#include "rig.h"
#include "thread.h"
#include "util/iothread.h"
#include "waiter.h"

#define PROGRESS_NS UINT64_C(100000000)

/* Shared by the threads of a run. */
typedef struct Run {
    _Atomic bool stop;          /* add no more */
    pthread_mutex_t lock;       /* pthread's: ThreadSanitizer does not know GLib's */
    pthread_cond_t changed;
    bool begun;                 /* under @lock */
    unsigned int running;       /* peers, under @lock */
} Run;

typedef struct Queue {
    Run *run;
    Rig *rig;
    IOThread *iothread;
    pthread_t thread;
    uint64_t target;            /* buffers to add; UINT64_MAX: until told to stop */
    unsigned int burst;
    _Alignas(128) Waiter waiter;    /* no other queue's peer looks at its cache lines */
    uint64_t allocations;       /* the IOThread's, before the run */
    uint64_t ns;
} Queue;

static void read_allocations(void *opaque)
{
    *(uint64_t *)opaque = allocations_of_thread();
}

/* Fills the guest's ring, a burst at a time.  *kick: SVQ is to be told. */
static unsigned int add_bursts(Queue *queue, bool *kick)
{
    Rig *rig = queue->rig;
    unsigned int n, all = 0;

    *kick = false;
    if (atomic_load_explicit(&queue->run->stop, memory_order_relaxed)) {
        return 0;
    }
    do {
        const uint64_t left = queue->target - rig->added;
        bool kick_burst;

        n = rig_driver_add(rig, (unsigned int)MIN(left, queue->burst), &kick_burst);
        *kick |= kick_burst;
        all += n;
    } while (n);
    return all;
}

/*
 * All that can be done now.  SVQ is told at the end: sooner it would, on the same CPU, push us
 * aside for a single burst.
 */
static unsigned int peer_step(Queue *queue)
{
    Rig *rig = queue->rig;
    unsigned int n = rig_driver_collect(rig);
    bool kick, call;

    n += add_bursts(queue, &kick);
    n += rig_device_work(rig, &call);
    if (call) {
        event_notifier_set(&rig->device_call);
    }
    if (kick) {
        event_notifier_set(&rig->guest_kick);
    }
    return n;
}

/* Asks SVQ for notifications.  True if there is work already. */
static bool peer_enable_notifications(Rig *rig)
{
    bool more = vring_device_enable_kick(&rig->device, rig->shadow_packed);

    return vring_driver_enable_call(&rig->driver, rig->guest_packed) || more;
}

static void peer_disable_notifications(Rig *rig)
{
    vring_device_disable_kick(&rig->device, rig->shadow_packed);
    vring_driver_disable_call(&rig->driver, rig->guest_packed);
}

static bool peer_is_done(const Queue *queue)
{
    const Rig *rig = queue->rig;

    if (rig_is_broken(rig)) {
        return true;
    }
    return rig->collected == rig->added &&
           (rig->added == queue->target ||
            atomic_load_explicit(&queue->run->stop, memory_order_relaxed));
}

static void peer_work(Queue *queue)
{
    Rig *rig = queue->rig;

    while (!peer_is_done(queue)) {
        if (peer_step(queue)) {
            waiter_reset(&queue->waiter);
            continue;
        }
        if (waiter_gives_up(&queue->waiter)) {
            return;     /* what is missing is lost */
        }
        if (waiter_wants_sleep(&queue->waiter)) {
            if (!peer_enable_notifications(rig)) {
                waiter_sleep(&queue->waiter);
            }
            peer_disable_notifications(rig);
        }
    }
}

static void *peer_main(void *opaque)
{
    Queue *queue = opaque;
    Run *run = queue->run;
    uint64_t start;

    pthread_mutex_lock(&run->lock);
    while (!run->begun) {
        pthread_cond_wait(&run->changed, &run->lock);
    }
    pthread_mutex_unlock(&run->lock);

    start = bench_now_ns();
    peer_work(queue);
    queue->ns = bench_now_ns() - start;

    pthread_mutex_lock(&run->lock);
    run->running--;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
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

/* All but its peer's thread. */
static bool queue_init(Queue *queue, const BenchOptions *options, unsigned int index, Run *run,
                       GError **errp)
{
    const BenchCpus *cpus = &options->cpus[index];
    const bool one_cpu = cpus->iothread >= 0 && cpus->iothread == cpus->peer;
    g_autofree char *name = g_strdup_printf("bench%u", index);
    AioContext *ctx;

    queue->run = run;
    queue->target = options->buffers ? (uint64_t)options->buffers : UINT64_MAX;
    queue->burst = (unsigned int)options->burst;
    if (!start_iothread(queue, options, name, cpus->iothread, errp)) {
        return false;
    }
    ctx = iothread_get_aio_context(queue->iothread);
    queue->rig = rig_new(options, name, (uint64_t)options->seed + index, ctx, errp);
    if (!queue->rig) {
        return false;
    }
    queue->waiter = (Waiter){
        .policy = options->wait == BENCH_WAIT_ADAPTIVE && one_cpu ? BENCH_WAIT_SLEEP
                                                                  : waiter_policy(options),
        .notifiers = { &queue->rig->guest_call, &queue->rig->device_kick },
    };
    aio_run_in(ctx, read_allocations, &queue->allocations);
    return true;
}

static void queue_cleanup(Queue *queue)
{
    rig_free(queue->rig);
    g_clear_pointer(&queue->iothread, iothread_unref);
}

/* Adds what the run found out to what earlier ones did. */
static void queue_report(Queue *queue, const BenchOptions *options, unsigned int index,
                         BenchQueue *result)
{
    const Rig *rig = queue->rig;
    AioContext *ctx = iothread_get_aio_context(queue->iothread);
    ShadowVirtqueueCounters counters = shadow_virtqueue_get_counters(rig->svq);
    uint64_t allocations;

    aio_run_in(ctx, read_allocations, &allocations);
    result->buffers += rig->collected;
    result->ns += queue->ns;
    result->syscalls += counters.kicks_sent + counters.calls_sent + aio_context_sleeps(ctx);
    result->bursts += counters.bursts;
    result->allocations += allocations - queue->allocations;
    result->errors.corrupted += rig->errors;
    result->errors.lost += rig->added - rig->collected;
    result->errors.other += shadow_virtqueue_get_state(rig->svq) != SVQ_QUEUE_RUNNING;
    result->cpu = options->cpus[index].peer;
}

static void begin(Run *run)
{
    pthread_mutex_lock(&run->lock);
    run->begun = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* Until a peer is done or CLOCK_MONOTONIC says @ns.  The lock is held. */
static void wait_until(Run *run, uint64_t ns)
{
    const struct timespec time = {
        .tv_sec = (time_t)(ns / 1000000000u),
        .tv_nsec = (long)(ns % 1000000000u),
    };

    pthread_cond_clockwait(&run->changed, &run->lock, CLOCK_MONOTONIC, &time);
}

/* Until all peers are done; tells them when the time is over. */
static void wait_for_peers(Run *run, const Queue *queues, unsigned int n,
                           const BenchOptions *options)
{
    const uint64_t end = bench_now_ns() + (uint64_t)(options->duration_s * 1e9);

    pthread_mutex_lock(&run->lock);
    while (run->running) {
        const uint64_t now = bench_now_ns();
        uint64_t until = now + PROGRESS_NS;
        uint64_t progress = 0;
        unsigned int i;

        if (!options->buffers) {
            if (now >= end) {
                atomic_store_explicit(&run->stop, true, memory_order_relaxed);
            } else {
                until = MIN(until, end);
            }
        }
        for (i = 0; i < n; i++) {
            progress += atomic_load_explicit(&queues[i].rig->progress, memory_order_relaxed);
        }
        bench_progress(progress, 0);
        wait_until(run, until);
    }
    pthread_mutex_unlock(&run->lock);
}

static bool start_queues(Run *run, Queue *queues, unsigned int n, const BenchOptions *options,
                         GError **errp)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        if (!queue_init(&queues[i], options, i, run, errp)) {
            return false;
        }
    }
    /* None of them looks at it before begin(). */
    for (run->running = 0; run->running < n; run->running++) {
        i = run->running;
        if (!bench_thread_start(&queues[i].thread, options->cpus[i].peer, peer_main, &queues[i],
                                errp)) {
            return false;
        }
    }
    return true;
}

/* One run of @n queues.  Adds to @results and to *@ns. */
static bool run_queues(const BenchOptions *options, unsigned int n, BenchQueue *results,
                       uint64_t *ns, GError **errp)
{
    Queue *queues = g_aligned_alloc0(n, sizeof(*queues), _Alignof(Queue));
    Run run = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    const bool ok = start_queues(&run, queues, n, options, errp);
    const unsigned int started = run.running;
    uint64_t start = bench_now_ns();
    unsigned int i;

    if (!ok) {
        /* Those peers that are there find nothing to do. */
        atomic_store_explicit(&run.stop, true, memory_order_relaxed);
    }
    begin(&run);
    if (ok) {
        wait_for_peers(&run, queues, n, options);
        *ns += bench_now_ns() - start;
    }
    for (i = 0; i < started; i++) {
        pthread_join(queues[i].thread, NULL);
    }
    for (i = 0; i < n; i++) {
        if (ok) {
            queue_report(&queues[i], options, i, &results[i]);
        }
        queue_cleanup(&queues[i]);
    }
    g_aligned_free(queues);
    return ok;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned int n)
{
    qsort(values, n, sizeof(values[0]), compare_double);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* Million buffers a second that @n queues moved in one run; their results go to @report. */
static bool run_round(const BenchOptions *options, unsigned int n, BenchReport *report,
                      double *mpps, GError **errp)
{
    uint64_t before = bench_report_total(report).buffers;
    uint64_t ns = 0;

    if (!run_queues(options, n, report->queues, &ns, errp)) {
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
    scaling.one_mpps = median(one, rounds);
    scaling.all_mpps = median(all, rounds);
    scaling.ratio = scaling.all_mpps / scaling.one_mpps;
    report->scaling = &scaling;
    return true;
}

bool bench_threads_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    if (options->scaling) {
        return run_scaling(options, report, errp);
    }
    return run_queues(options, report->n, report->queues, &report->ns, errp);
}
