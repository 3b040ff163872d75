/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue as a guest's driver has it.
 */
#include "guest-queue.h"

#include "hw/virtio/features.h"

#define CACHE_LINE 64

uint64_t guest_queue_features(const BenchOptions *options)
{
    uint64_t features = VIRTIO_F_BIT(VIRTIO_F_VERSION_1);

    features |= options->guest_packed ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0;
    features |= options->event_idx ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0;
    features |= options->indirect ? VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC) : 0;
    features |= options->in_order ? VIRTIO_F_BIT(VIRTIO_F_IN_ORDER) : 0;
    return features;
}

static uint64_t tables_size(uint32_t num)
{
    return (uint64_t)num * VRING_INDIRECT_MAX * sizeof(VringDesc);
}

uint64_t guest_queue_memory_size(uint32_t num)
{
    return guest_ring_size(num, false) + tables_size(num) + CACHE_LINE;
}

bool guest_queue_init(GuestQueue *queue, const BenchOptions *options, uint32_t num,
                      GuestMemory *memory, GError **errp)
{
    VringConfig config = {
        .num = num,
        .packed = options->guest_packed,
        .event_idx = options->event_idx,
        .in_order = options->in_order,
        .indirect = options->indirect,
    };
    GuestBlock tables = { 0 };
    int ret;

    queue->kick = queue->call = EVENT_NOTIFIER_NONE;
    queue->packed = options->guest_packed;
    queue->indirect = options->indirect;
    queue->ring = guest_memory_alloc_ring(memory, num, queue->packed);
    config.areas = queue->ring.areas;
    if (options->indirect) {
        tables = guest_memory_alloc(memory, 0, tables_size(num), CACHE_LINE);
    }
    if (vring_driver_init(&queue->driver, &config, tables.host, tables.gpa) < 0) {
        return bench_fail(errp, "ring: %s", queue->driver.error.what);
    }
    ret = event_notifier_init(&queue->kick);
    if (ret == 0) {
        ret = event_notifier_init(&queue->call);
    }
    return ret == 0 || bench_fail(errp, "no eventfd: %s", g_strerror(-ret));
}

void guest_queue_cleanup(GuestQueue *queue)
{
    if (!queue->driver.num) {
        return;
    }
    vring_driver_cleanup(&queue->driver);
    event_notifier_cleanup(&queue->kick);
    event_notifier_cleanup(&queue->call);
}

bool guest_queue_start(const GuestQueue *queue, VhostDevice *dev, unsigned int index,
                       GError **errp)
{
    const VhostRing ring = {
        .num = queue->driver.num,
        .base = vring_base_start(queue->packed),
        .areas = queue->ring.areas,
        .desc_iova = queue->ring.desc_gpa,
        .driver_iova = queue->ring.driver_gpa,
        .device_iova = queue->ring.device_gpa,
        .kick_fd = queue->kick.fd,
        .call_fd = queue->call.fd,
    };

    return dev->ops->ring_start(dev, index, &ring, errp) == 0 &&
           dev->ops->ring_enable(dev, index, true, errp) == 0;
}

unsigned int guest_queue_publish(GuestQueue *queue)
{
    vring_driver_publish(&queue->driver, queue->packed);
    if (!vring_driver_needs_kick(&queue->driver, queue->packed)) {
        return 0;
    }
    event_notifier_set(&queue->kick);
    return 1;
}
