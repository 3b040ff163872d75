/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode blk: a guest's virtio-blk driver towards any vhost-user back end with a disk that may be
 * overwritten.
 *
 * Each queue has a thread, and a part of the disk for itself.
 */
#include "modes.h"

#include <endian.h>
#include <stdatomic.h>
#include <stddef.h>

#include "blk-queue.h"
#include "guest-device.h"
#include "guest-run.h"
#include "hw/virtio/features.h"

enum {
    VIRTIO_BLK_F_SIZE_MAX = 1,
    VIRTIO_BLK_F_SEG_MAX = 2,
    VIRTIO_BLK_F_RO = 5,
    VIRTIO_BLK_F_BLK_SIZE = 6,
    VIRTIO_BLK_F_FLUSH = 9,
    VIRTIO_BLK_F_MQ = 12,
};

/* The beginning of struct virtio_blk_config (5.2.4), little-endian. */
typedef struct __attribute__((packed)) BlkConfig {
    uint64_t capacity;
    uint32_t size_max;
    uint32_t seg_max;
    uint32_t geometry;
    uint32_t blk_size;
    uint64_t topology;
    uint8_t writeback;
    uint8_t unused;
    uint16_t num_queues;
} BlkConfig;

G_STATIC_ASSERT(sizeof(BlkConfig) == 36);

typedef struct Bench {
    const BenchOptions *options;
    GuestRun run;
    GuestMemory *memory;
    VhostDevice *dev;
    uint64_t features;          /* negotiated */
    BlkConfig config;
    unsigned int n_queues;
    BlkQueue **queues;
} Bench;

/* --- a queue's thread --- */

static bool queue_is_done(const void *work, bool stop)
{
    return blk_queue_is_broken(work) || blk_queue_is_done(work);
}

static unsigned int queue_move(void *work, bool stop)
{
    unsigned int n = blk_queue_collect(work);

    return blk_queue_is_broken(work) ? n : n + blk_queue_submit(work);
}

static bool queue_enable_calls(void *work)
{
    GuestQueue *q = &((BlkQueue *)work)->q;

    return vring_driver_enable_call(&q->driver, q->packed);
}

static void queue_disable_calls(void *work)
{
    GuestQueue *q = &((BlkQueue *)work)->q;

    vring_driver_disable_call(&q->driver, q->packed);
}

static void queue_finish(void *work)
{
    blk_queue_finish(work);
}

static void queue_progress(const void *work, uint64_t *buffers, uint64_t *errors)
{
    const BlkQueue *queue = work;

    *buffers += atomic_load_explicit(&queue->progress, memory_order_relaxed);
    *errors += atomic_load_explicit(&queue->progress_errors, memory_order_relaxed);
}

static const GuestWorkOps queue_ops = {
    .is_done = queue_is_done,
    .move = queue_move,
    .enable_calls = queue_enable_calls,
    .disable_calls = queue_disable_calls,
    .finish = queue_finish,
    .progress = queue_progress,
};

/* --- the device --- */

static bool has_feature(const Bench *bench, unsigned int bit)
{
    return bench->features & VIRTIO_F_BIT(bit);
}

/* The disk's limits are accepted where there are some; a request that breaks one is not made. */
static bool choose_features(Bench *bench, GError **errp)
{
    const BenchOptions *options = bench->options;
    const uint64_t taken = VIRTIO_F_BIT(VIRTIO_BLK_F_SIZE_MAX) |
                           VIRTIO_F_BIT(VIRTIO_BLK_F_SEG_MAX) |
                           VIRTIO_F_BIT(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_F_BIT(VIRTIO_BLK_F_FLUSH);

    bench->features = guest_queue_features(options) | (bench->dev->features & taken);
    bench->features |= options->queues > 1 ? VIRTIO_F_BIT(VIRTIO_BLK_F_MQ) : 0;
    if (!guest_device_check(bench->dev, options, bench->features, errp)) {
        return false;
    }
    if (bench->dev->features & VIRTIO_F_BIT(VIRTIO_BLK_F_RO)) {
        return bench_fail(errp, "%s: the disk is read-only", options->socket_path);
    }
    return true;
}

/* A limit that the disk has set; QEMU offers SIZE_MAX and leaves it 0. */
static uint32_t limit(const Bench *bench, unsigned int bit, uint32_t le_value)
{
    return has_feature(bench, bit) && le_value ? le32toh(le_value) : UINT32_MAX;
}

static bool check_request(const Bench *bench, GError **errp)
{
    const BenchOptions *options = bench->options;
    const BlkConfig *config = &bench->config;
    const uint32_t seg_max = limit(bench, VIRTIO_BLK_F_SEG_MAX, config->seg_max);
    const uint32_t size_max = limit(bench, VIRTIO_BLK_F_SIZE_MAX, config->size_max);
    const uint32_t size = (uint32_t)options->request_size;
    const uint32_t descriptors = (uint32_t)options->descriptors;

    if (descriptors > seg_max) {
        return bench_fail(errp, "--descriptors: the disk takes %u of a request's data", seg_max);
    }
    if ((size + descriptors - 1) / descriptors > size_max) {
        return bench_fail(errp, "--request-size: the disk takes %u bytes in a descriptor",
                          size_max);
    }
    if (has_feature(bench, VIRTIO_BLK_F_BLK_SIZE) && config->blk_size &&
        size % le32toh(config->blk_size)) {
        return bench_fail(errp, "--request-size: the disk's blocks have %u bytes",
                          le32toh(config->blk_size));
    }
    return true;
}

static bool read_config(Bench *bench, GError **errp)
{
    VhostDevice *dev = bench->dev;
    unsigned int queues = dev->queue_count;

    /* From its start on: libvhost-user gives the first bytes, whichever are asked for. */
    if (dev->ops->get_config(dev, &bench->config, 0, sizeof(bench->config), errp) < 0) {
        return false;
    }
    if (has_feature(bench, VIRTIO_BLK_F_MQ)) {
        queues = MIN(queues, le16toh(bench->config.num_queues));
    }
    return (queues >= (unsigned int)bench->options->queues ||
            bench_fail(errp, "--queues: the disk has %u", queues)) &&
           check_request(bench, errp);
}

static bool make_queue(Bench *bench, unsigned int i, GError **errp)
{
    const BenchOptions *options = bench->options;
    BlkDisk *disk = blk_disk_new(le64toh(bench->config.capacity), (uint32_t)options->request_size,
                                 i, (unsigned int)options->queues, (guint32)options->seed + i,
                                 errp);

    if (!disk) {
        return false;
    }
    bench->queues[i] = blk_queue_new(options, i, disk, has_feature(bench, VIRTIO_BLK_F_FLUSH),
                                     bench->memory, errp);
    if (!bench->queues[i]) {
        return false;
    }
    bench->n_queues++;
    guest_run_set_work(&bench->run, i, bench->queues[i], &bench->queues[i]->q.call, NULL);
    return true;
}

static bool make_queues(Bench *bench, GError **errp)
{
    const BenchOptions *options = bench->options;
    const uint64_t size = blk_queue_memory_size(options) * (uint64_t)options->queues;
    unsigned int i;

    bench->memory = guest_memory_new((unsigned int)options->ranges, size, 0, errp);
    if (!bench->memory) {
        return false;
    }
    bench->queues = g_new0(BlkQueue *, (gsize)options->queues);
    for (i = 0; i < (unsigned int)options->queues; i++) {
        if (!make_queue(bench, i, errp)) {
            return false;
        }
    }
    return true;
}

static bool start_device(Bench *bench, GError **errp)
{
    VhostDevice *dev = bench->dev;
    unsigned int i;

    if (dev->ops->set_features(dev, bench->features, errp) < 0 ||
        dev->ops->set_memory(dev, bench->memory->map, errp) < 0) {
        return false;
    }
    for (i = 0; i < bench->n_queues; i++) {
        if (!guest_queue_start(&bench->queues[i]->q, dev, i, errp)) {
            return false;
        }
    }
    return guest_device_driver_ok(dev, errp);
}

/* After this nobody touches the rings: a request that completes now does so too late. */
static bool stop_device(Bench *bench, GError **errp)
{
    VhostDevice *dev = bench->dev;
    unsigned int i;

    for (i = 0; i < bench->n_queues; i++) {
        if (dev->ops->ring_stop(dev, i, NULL, errp) < 0) {
            return false;
        }
    }
    if (dev->ops->reset(dev, errp) < 0) {
        return false;
    }
    for (i = 0; i < bench->n_queues; i++) {
        BlkQueue *queue = bench->queues[i];

        if (!blk_queue_is_broken(queue)) {
            queue->errors.other += blk_queue_collect(queue);
        }
    }
    return true;
}

/* --- the run --- */

static bool run(Bench *bench, GError **errp)
{
    bench->dev = guest_device_connect(bench->options, &guest_run_notify, &bench->run, errp);
    return bench->dev && choose_features(bench, errp) && read_config(bench, errp) &&
           make_queues(bench, errp) && start_device(bench, errp) &&
           guest_run_all(&bench->run, errp);
}

static void finish(Bench *bench)
{
    g_autoptr(GError) err = NULL;

    if (!bench->run.gone && stop_device(bench, &err)) {
        return;
    }
    bench_progress_end();
    g_printerr("svq-bench: %s\n", err ? err->message : "the back end has gone");
    bench->queues[0]->errors.other++;
}

static void fill_report(const Bench *bench, BenchReport *report)
{
    unsigned int i;

    for (i = 0; i < report->n; i++) {
        const BlkQueue *queue = bench->queues[i];

        report->queues[i] = (BenchQueue){
            .buffers = queue->completed,
            .syscalls = queue->syscalls,
            .errors = queue->errors,
        };
    }
    guest_run_report(&bench->run, report);
}

static void clean_up(Bench *bench)
{
    unsigned int i;

    if (bench->dev) {
        bench->dev->ops->free(bench->dev);
    }
    for (i = 0; i < bench->n_queues; i++) {
        blk_queue_free(bench->queues[i]);
    }
    g_free(bench->queues);
    guest_memory_free(bench->memory);
    guest_run_cleanup(&bench->run);
}

bool bench_blk_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    Bench bench = { .options = options };
    bool ok;

    guest_run_init(&bench.run, options, &queue_ops);
    ok = run(&bench, errp);
    if (ok) {
        finish(&bench);
        fill_report(&bench, report);
    }
    clean_up(&bench);
    return ok;
}
