/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode vhost-user: a guest's virtio-net driver towards any vhost-user back end that returns on
 * each queue pair what was sent there.
 *
 * How it works.  The main thread sets the device up, watches the connection and the clock,
 * and takes the device down.  Each queue pair has a thread, which alone touches its rings
 * between the start and the stop of the device.  At the end a pair sends no more and waits
 * for what is under way; what does not come for a while is lost.
 */
#include "modes.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "allocations.h"
#include "hw/vhost/vhost-user-client.h"
#include "hw/virtio/features.h"
#include "net-pair.h"
#include "thread.h"
#include "waiter.h"

#define PROGRESS_MS 200

typedef struct Bench {
    const BenchOptions *options;
    GMainLoop *loop;
    GuestMemory *memory;
    VhostDevice *dev;
    bool gone;                  /* the back end */
    unsigned int running;       /* threads */
    struct NetThread *threads;
    _Atomic bool stop;          /* send no more */
    _Atomic bool abandon;       /* do not wait either */
} Bench;

typedef struct NetThread {
    Bench *bench;
    NetPair *pair;
    pthread_t thread;
    _Alignas(128) Waiter waiter;    /* no other pair's thread looks at its cache lines */
    uint64_t target;            /* packets to send */
    uint64_t ns;
    uint64_t allocations;
    int cpu;
} NetThread;

/* --- a pair's thread --- */

static bool is_done(const NetThread *t)
{
    const bool stop = atomic_load_explicit(&t->bench->stop, memory_order_relaxed);

    if (net_pair_is_broken(t->pair) ||
        atomic_load_explicit(&t->bench->abandon, memory_order_relaxed)) {
        return true;
    }
    return (stop || t->pair->sent == t->target) && net_pair_is_drained(t->pair);
}

static unsigned int move_packets(NetThread *t)
{
    unsigned int n = net_pair_collect(t->pair);

    if (!atomic_load_explicit(&t->bench->stop, memory_order_relaxed)) {
        n += net_pair_send(t->pair, t->target - t->pair->sent);
    }
    return n;
}

static void work(NetThread *t)
{
    while (!is_done(t)) {
        if (move_packets(t)) {
            waiter_reset(&t->waiter);
            continue;
        }
        if (waiter_gives_up(&t->waiter)) {
            return;     /* what is missing is lost */
        }
        if (waiter_wants_sleep(&t->waiter)) {
            if (!net_pair_enable_calls(t->pair)) {
                waiter_sleep(&t->waiter);
            }
            net_pair_disable_calls(t->pair);
        }
    }
}

static gboolean thread_finished(void *opaque)
{
    Bench *bench = opaque;

    if (--bench->running == 0) {
        g_main_loop_quit(bench->loop);
    }
    return G_SOURCE_REMOVE;
}

static void *thread_main(void *opaque)
{
    NetThread *t = opaque;
    uint64_t allocations = allocations_of_thread();
    uint64_t start = bench_now_ns();

    work(t);
    t->ns = bench_now_ns() - start;
    t->allocations = allocations_of_thread() - allocations;
    t->cpu = sched_getcpu();
    net_pair_finish(t->pair);
    g_idle_add(thread_finished, t->bench);
    return NULL;
}

/* --- the device --- */

static void back_end_gone(void *opaque)
{
    Bench *bench = opaque;

    bench->gone = true;
    atomic_store_explicit(&bench->abandon, true, memory_order_relaxed);
}

static const VhostDeviceNotify notify = { .gone = back_end_gone };

static uint64_t wanted_features(const BenchOptions *options)
{
    uint64_t features = VIRTIO_F_BIT(VIRTIO_F_VERSION_1);

    features |= options->guest_packed ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0;
    features |= options->event_idx ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0;
    features |= options->indirect ? VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC) : 0;
    features |= options->in_order ? VIRTIO_F_BIT(VIRTIO_F_IN_ORDER) : 0;
    return features;
}

static bool check_device(const Bench *bench, uint64_t features, GError **errp)
{
    const BenchOptions *options = bench->options;
    const VhostDevice *dev = bench->dev;

    if (features & ~dev->features) {
        g_autofree char *missing = virtio_features_to_string(features & ~dev->features);

        return bench_fail(errp, "%s: the back end does not offer %s", options->socket_path,
                          missing);
    }
    if (dev->queue_count < 2u * (unsigned int)options->queues) {
        return bench_fail(errp, "--queue-pairs: the back end has %u virtqueues, 2 for a pair",
                          dev->queue_count);
    }
    if (dev->max_regions < (unsigned int)options->ranges) {
        return bench_fail(errp, "--ranges: the back end takes %u memory regions at most",
                          dev->max_regions);
    }
    return true;
}

static int start_ring(Bench *bench, unsigned int index, const NetQueue *queue, GError **errp)
{
    VhostDevice *dev = bench->dev;
    VhostRing ring = {
        .num = queue->driver.num,
        .base = vring_base_start(queue->packed),
        .areas = queue->ring.areas,
        .desc_iova = queue->ring.desc_gpa,
        .driver_iova = queue->ring.driver_gpa,
        .device_iova = queue->ring.device_gpa,
        .kick_fd = queue->kick.fd,
        .call_fd = queue->call.fd,
    };
    int ret = dev->ops->ring_start(dev, index, &ring, errp);

    return ret < 0 ? ret : dev->ops->ring_enable(dev, index, true, errp);
}

static bool start_device(Bench *bench, GError **errp)
{
    const uint8_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                           VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK;
    const uint64_t features = wanted_features(bench->options);
    VhostDevice *dev = bench->dev;
    unsigned int i;

    if (!check_device(bench, features, errp) || dev->ops->set_features(dev, features, errp) < 0 ||
        dev->ops->set_memory(dev, bench->memory->map, errp) < 0) {
        return false;
    }
    for (i = 0; i < 2u * (unsigned int)bench->options->queues; i++) {
        if (start_ring(bench, i, &bench->threads[i / 2].pair->queue[i % 2], errp) < 0) {
            return false;
        }
    }
    return dev->ops->set_status(dev, status, errp) >= 0;
}

/* After this nobody touches the rings: a buffer that comes back now comes too late. */
static bool stop_device(Bench *bench, GError **errp)
{
    VhostDevice *dev = bench->dev;
    unsigned int i;

    for (i = 0; i < 2u * (unsigned int)bench->options->queues; i++) {
        if (dev->ops->ring_stop(dev, i, NULL, errp) < 0) {
            return false;
        }
    }
    if (dev->ops->reset(dev, errp) < 0) {
        return false;
    }
    for (i = 0; i < (unsigned int)bench->options->queues; i++) {
        NetPair *pair = bench->threads[i].pair;

        if (!net_pair_is_broken(pair)) {
            pair->errors.other += net_pair_collect(pair);
        }
    }
    return true;
}

/* --- the run --- */

static gboolean show_progress(void *opaque)
{
    Bench *bench = opaque;
    uint64_t buffers = 0, errors = 0;
    int i;

    for (i = 0; i < bench->options->queues; i++) {
        NetPair *pair = bench->threads[i].pair;

        buffers += atomic_load_explicit(&pair->progress, memory_order_relaxed);
        errors += atomic_load_explicit(&pair->progress_errors, memory_order_relaxed);
    }
    bench_progress(buffers, errors);
    return G_SOURCE_CONTINUE;
}

static gboolean time_is_over(void *opaque)
{
    Bench *bench = opaque;

    atomic_store_explicit(&bench->stop, true, memory_order_relaxed);
    return G_SOURCE_CONTINUE;
}

static bool start_threads(Bench *bench, GError **errp)
{
    const unsigned int n = (unsigned int)bench->options->queues;

    for (bench->running = 0; bench->running < n; bench->running++) {
        NetThread *t = &bench->threads[bench->running];
        int cpu = bench->options->cpus[bench->running].peer;

        if (!bench_thread_start(&t->thread, cpu, thread_main, t, errp)) {
            return false;
        }
    }
    return true;
}

static bool run_threads(Bench *bench, GError **errp)
{
    const BenchOptions *options = bench->options;
    guint progress = g_timeout_add(PROGRESS_MS, show_progress, bench);
    guint clock = 0;
    bool ok = start_threads(bench, errp);
    const unsigned int started = bench->running;
    unsigned int i;

    if (!ok) {
        atomic_store_explicit(&bench->abandon, true, memory_order_relaxed);
    } else if (!options->buffers) {
        clock = g_timeout_add((guint)(options->duration_s * 1000), time_is_over, bench);
    }
    if (started) {
        g_main_loop_run(bench->loop);
    }
    for (i = 0; i < started; i++) {
        pthread_join(bench->threads[i].thread, NULL);
    }
    if (clock) {
        g_source_remove(clock);
    }
    g_source_remove(progress);
    return ok;
}

static bool make_pairs(Bench *bench, GError **errp)
{
    const BenchOptions *options = bench->options;
    const uint64_t size = net_pair_memory_size(options) * (uint64_t)options->queues;
    int i;

    bench->memory = guest_memory_new((unsigned int)options->ranges, size, 0, errp);
    if (!bench->memory) {
        return false;
    }
    for (i = 0; i < options->queues; i++) {
        NetThread *t = &bench->threads[i];

        t->bench = bench;
        t->target = options->buffers ? (uint64_t)options->buffers : UINT64_MAX;
        t->pair = net_pair_new(options, (unsigned int)i, bench->memory, errp);
        if (!t->pair) {
            return false;
        }
        t->waiter = (Waiter){
            .policy = waiter_policy(options),
            .notifiers = { &t->pair->queue[0].call, &t->pair->queue[1].call },
        };
        net_pair_fill(t->pair);
    }
    return true;
}

static bool run(Bench *bench, GError **errp)
{
    const VhostSocketAddress address = { .path = bench->options->socket_path, .fd = -1 };

    if (!make_pairs(bench, errp)) {
        return false;
    }
    bench->dev = vhost_user_client_new("svq-bench", &address, errp);
    if (!bench->dev) {
        return false;
    }
    bench->dev->notify_opaque = bench;
    bench->dev->notify = &notify;
    return start_device(bench, errp) && run_threads(bench, errp);
}

static void fill_report(const Bench *bench, BenchReport *report)
{
    unsigned int i;

    for (i = 0; i < report->n; i++) {
        const NetThread *t = &bench->threads[i];

        report->queues[i] = (BenchQueue){
            .buffers = t->pair->received,
            .ns = t->ns,
            .syscalls = t->pair->syscalls + t->waiter.syscalls,
            .allocations = t->allocations,
            .errors = t->pair->errors,
            .cpu = t->cpu,
        };
        report->ns = MAX(report->ns, t->ns);
    }
}

static void clean_up(Bench *bench)
{
    int i;

    if (bench->dev) {
        bench->dev->ops->free(bench->dev);
    }
    for (i = 0; i < bench->options->queues; i++) {
        net_pair_free(bench->threads[i].pair);
    }
    guest_memory_free(bench->memory);
    g_main_loop_unref(bench->loop);
}

bool bench_vhost_user_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    NetThread *threads = g_aligned_alloc0((gsize)options->queues, sizeof(*threads),
                                          _Alignof(NetThread));
    g_autoptr(GError) stop_error = NULL;
    Bench bench = {
        .options = options,
        .loop = g_main_loop_new(NULL, FALSE),
        .threads = threads,
    };
    bool ok = run(&bench, errp);

    if (ok) {
        if (bench.gone || !stop_device(&bench, &stop_error)) {
            bench_progress_end();
            g_printerr("svq-bench: %s\n",
                       stop_error ? stop_error->message : "the back end has gone");
            threads[0].pair->errors.other++;
        }
        fill_report(&bench, report);
    }
    clean_up(&bench);
    g_aligned_free(threads);
    return ok;
}
