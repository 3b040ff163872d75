/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting and stopping a queue, and changing the memory under those that run.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"

#include <errno.h>
#include <inttypes.h>

/* The guest's rings are named by the VMM's user addresses (vhost-user, SET_VRING_ADDR). */
static bool find_guest_areas(SvqQueue *queue, VringAreas *areas)
{
    const MemoryMap *map = queue->dev->map;
    const VhostVringAddr *addr = &queue->addr;
    const bool packed = queue->guest_packed;

    areas->desc = memory_map_host_of_user(map, addr->desc, vring_desc_size(queue->num),
                                          &queue->desc_gpa);
    areas->driver = memory_map_host_of_user(map, addr->avail,
                                            vring_driver_size(queue->num, packed), NULL);
    areas->device = memory_map_host_of_user(map, addr->used,
                                            vring_device_size(queue->num, packed), NULL);
    return areas->desc && areas->driver && areas->device;
}

/*
 * A packed base comes in three spellings: both halves (QEMU: 0x80008000), the available
 * half alone, meant for both (DPDK: 0x8000), and, from User Mode Linux, 0 for the start.
 */
static VringBase decode_base(const SvqQueue *queue, uint32_t base, bool is_ours)
{
    if (!queue->guest_packed) {
        return (VringBase){ .avail = (uint16_t)base };
    }
    if (base == 0 && queue->dev->lenient_base && !is_ours) {
        return vring_base_start(true);
    }
    if (base >> 16 == 0) {
        return (VringBase){ (uint16_t)base, (uint16_t)base };
    }
    return (VringBase){ (uint16_t)base, (uint16_t)(base >> 16) };
}

static uint32_t encode_base(const SvqQueue *queue, VringBase base)
{
    return queue->guest_packed ? base.avail | (uint32_t)base.used << 16 : base.avail;
}

/* In an IOThread. */
static void queue_broken(void *opaque)
{
    SvqQueue *queue = opaque;

    event_notifier_set(&queue->dev->broken);
}

static int make_notifiers(SvqQueue *queue)
{
    int ret = 0;

    event_notifier_cleanup(&queue->device_kick);
    event_notifier_cleanup(&queue->device_call);
    ret = event_notifier_init(&queue->device_kick);
    return ret < 0 ? ret : event_notifier_init(&queue->device_call);
}

static int start_rings(SvqQueue *queue, GError **errp)
{
    SvqDevice *dev = queue->dev;
    const uint64_t features = dev->guest_features;
    ShadowVirtqueueConfig config = {
        .ctx = iothread_get_aio_context(queue->iothread),
        .map = &dev->map,
        .logging = &queue->logging,
        .guest_kick_fd = queue->kick.fd,
        .guest_call_fd = queue->call.fd,
        .guest_err_fd = queue->err.fd,
        .broken = queue_broken,
        .opaque = queue,
    };
    VringBase unused;
    VhostRing ring;
    int ret;

    queue->guest_packed = svq_has_feature(features, VIRTIO_F_RING_PACKED);
    queue->shadow_packed = svq_has_feature(dev->shadow_features, VIRTIO_F_RING_PACKED);
    config.guest = (VringConfig){
        .num = queue->num,
        .packed = queue->guest_packed,
        .event_idx = svq_has_feature(features, VIRTIO_F_EVENT_IDX),
        .in_order = svq_has_feature(features, VIRTIO_F_IN_ORDER),
        .indirect = svq_has_feature(features, VIRTIO_F_INDIRECT_DESC),
        .base = decode_base(queue, queue->base, queue->base_is_ours),
        .inflight = svq_inflight_get(dev->inflight, queue->index, queue->num),
        .identity = {
            .desc = queue->addr.desc,
            .driver = queue->addr.avail,
            .device = queue->addr.used,
            .base = decode_base(queue, queue->vmm_base, false),
        },
    };
    if (!find_guest_areas(queue, &config.guest.areas)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_FAULT,
                    "%s queue %u: its ring is not within the guest's memory (descriptor area 0x%" PRIx64
                    ", driver area 0x%" PRIx64 ", device area 0x%" PRIx64 ")",
                    dev->id, queue->index, queue->addr.desc, queue->addr.avail, queue->addr.used);
        return -EFAULT;
    }
    if (queue->logging) {
        svq_device_update_logging(dev);     /* its place is known now */
    }
    ret = make_notifiers(queue);
    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "%s queue %u: no eventfd: %s", dev->id, queue->index, g_strerror(-ret));
        return ret;
    }
    svq_backend_describe_ring(queue, &config, &ring);
    ret = shadow_virtqueue_start(queue->svq, &config, errp);
    if (ret < 0) {
        return ret;
    }
    queue->unlogged |= dev->log_all;
    if (shadow_virtqueue_has_recovered(queue->svq) && !queue->base_is_ours) {
        /* We were killed, or cut off, and had perhaps not marked all that was written. */
        queue->unlogged = true;
        if (queue->logging) {
            svq_device_log_all_memory(dev);
        }
    }
    /* Enabled first: a device may drop what it finds in a ring that is started and disabled. */
    ret = dev->backend->ops->ring_enable(dev->backend, queue->index, true, errp);
    if (ret == 0) {
        ret = dev->backend->ops->ring_start(dev->backend, queue->index, &ring, errp);
    }
    if (ret < 0) {
        shadow_virtqueue_detach(queue->svq);
        shadow_virtqueue_stop(queue->svq, false, &unused);
    }
    return ret;
}

bool svq_device_any_started(const SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started) {
            return true;
        }
    }
    return false;
}

static int start_queue(SvqQueue *queue, GError **errp)
{
    SvqDevice *dev = queue->dev;
    int ret;

    /* An arena that nobody uses makes way for a larger one. */
    if (dev->device_started && svq_backend_has_outgrown_arena(dev) &&
        !svq_device_any_started(dev)) {
        svq_device_stop(dev);
    }
    ret = dev->device_started ? 0 : svq_backend_start(dev, errp);
    if (ret == 0) {
        ret = start_rings(queue, errp);
    }
    if (ret < 0) {
        return ret;
    }
    queue->started = queue->was_started = true;
    g_info("%s queue %u: started, guest %s, device %s, %" PRIu32 " descriptors, in %s", dev->id,
           queue->index, queue->guest_packed ? "packed" : "split",
           queue->shadow_packed ? "packed" : "split", queue->num,
           iothread_get_id(queue->iothread));
    return svq_device_driver_ok(dev, errp);
}

void svq_queue_update(SvqQueue *queue)
{
    const SvqDevice *dev = queue->dev;
    g_autoptr(GError) error = NULL;

    if (queue->started || queue->refused || !dev->backend->connected || !dev->features_set ||
        !dev->map->n || !queue->num || !queue->addr_set || !queue->kick_set || !queue->enabled) {
        return;
    }
    if (start_queue(queue, &error) == 0) {
        return;
    }
    svq_queue_stop(queue);      /* if only the last step has failed */
    if (!dev->backend->connected) {
        return;                 /* gone meanwhile: tried again when it is back */
    }
    /* Not to be tried again: the same words would come again, for each message. */
    queue->refused = true;
    event_notifier_set(&queue->err);
    g_warning("%s", error->message);
}

void svq_queue_stop(SvqQueue *queue)
{
    SvqDevice *dev = queue->dev;
    g_autoptr(GError) error = NULL;
    bool lost = !dev->backend->connected;
    VringBase base;

    if (!queue->started) {
        return;
    }
    shadow_virtqueue_detach(queue->svq);
    if (!lost && dev->backend->ops->ring_stop(dev->backend, queue->index, NULL, &error) < 0) {
        g_warning("%s queue %u: %s", dev->id, queue->index, error->message);
        lost = true;
    }
    shadow_virtqueue_stop(queue->svq, lost, &base);
    queue->base = encode_base(queue, base);
    queue->base_is_ours = true;
    queue->started = false;
    g_info("%s queue %u: stopped at 0x%" PRIx32, dev->id, queue->index, queue->base);
}

void svq_device_stop(SvqDevice *dev)
{
    g_autoptr(GError) error = NULL;
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        svq_queue_stop(&dev->queues[i]);
        dev->queues[i].refused = false;
    }
    if (dev->device_started && dev->backend->connected &&
        dev->backend->ops->reset(dev->backend, &error) < 0) {
        g_warning("%s: %s", dev->id, error->message);
    }
    svq_backend_forget(dev);
    /* What broke before this is over. */
    event_notifier_test_and_clear(&dev->broken);
}

/* Goes on with the rings at their new host addresses, or gives up on the queue. */
static void resume_queue(SvqQueue *queue)
{
    VringConfig config = { .num = queue->num, .packed = queue->guest_packed };
    VringError error;

    if (find_guest_areas(queue, &config.areas) && vring_config_check(&config, &error) == 0) {
        if (queue->logging) {
            svq_device_update_logging(queue->dev);      /* it may have moved */
        }
        shadow_virtqueue_resume(queue->svq, &config.areas);
        return;
    }
    g_warning("%s queue %u: its ring is not within the guest's memory any more, or misaligned",
              queue->dev->id, queue->index);
    svq_queue_stop(queue);
    queue->refused = true;
    event_notifier_set(&queue->err);
}

static bool same_regions(const MemoryMap *a, const MemoryMap *b)
{
    unsigned int i;

    if (a->n != b->n) {
        return false;
    }
    for (i = 0; i < a->n; i++) {
        if (a->regions[i] != b->regions[i]) {
            return false;
        }
    }
    return true;
}

int svq_device_set_map(SvqDevice *dev, MemoryMap *map, GError **errp)
{
    MemoryMap *old = dev->map, *old_device_map = dev->device_map, *device_map = NULL;
    unsigned int i;
    int ret = 0;

    if (same_regions(map, old)) {
        memory_map_free(map);
        return 0;
    }
    if (dev->log_all && svq_device_any_started(dev) &&
        svq_device_check_log(dev, dev->log, map, errp) < 0) {
        memory_map_free(map);
        return -EINVAL;
    }
    if (dev->device_started) {
        device_map = svq_backend_make_map(dev, map, errp);
        if (!device_map) {
            memory_map_free(map);
            return -EINVAL;
        }
    }
    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started) {
            shadow_virtqueue_detach(dev->queues[i].svq);
        }
    }
    if (device_map) {
        ret = dev->backend->ops->set_memory(dev->backend, device_map, errp);
        ret = svq_backend_forgive_gone(dev, ret, errp);
    }
    if (ret == 0) {
        rcu_assign_pointer(dev->map, map);
        dev->device_map = device_map;
    } else {
        old = map;
        old_device_map = device_map;
    }
    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started) {
            resume_queue(&dev->queues[i]);
        }
    }
    /* Last: a queue that was stopped just now wrote to its old ring. */
    memory_map_free(old);
    memory_map_free(old_device_map);
    return ret;
}
