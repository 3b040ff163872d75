/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changing the guest's memory under queues that run.
 *
 * How it works.  Shadows are detached, and rings that pass through and lie elsewhere in the new
 * memory are taken from the device; the device is told of the memory; all go on where they were.
 * What has no ring there any more is stopped.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"
#include "hw/virtio/vring-takeover.h"

#include <errno.h>

static void give_up(SvqQueue *queue)
{
    g_autoptr(GError) error = g_error_new(
        G_FILE_ERROR, G_FILE_ERROR_FAULT,
        "%s queue %u: its ring is not within the guest's memory any more, or misaligned",
        queue->dev->id, queue->index);

    svq_queue_stop(queue);
    svq_queue_refuse(queue, error);
}

/* A ring that passes through lies elsewhere now. */
static void give_moved_ring(SvqQueue *queue, const VringAreas *areas)
{
    g_autoptr(GError) error = NULL;

    queue->ring.base = queue->told;
    queue->ring.areas = *areas;
    queue->ring.desc_iova = queue->desc_gpa;
    queue->ring.driver_iova = queue->driver_gpa;
    queue->ring.device_iova = queue->device_gpa;
    if (svq_queue_give_ring(queue, &error) < 0) {
        svq_queue_stop(queue);
        svq_queue_refuse(queue, error);
        return;
    }
    queue->parted = false;
    svq_queue_notify_both(queue);
}

void svq_queue_resume(SvqQueue *queue)
{
    VringConfig config;
    VringError error;

    if (queue->alone) {
        svq_control_describe_no_guest(&queue->dev->control, &config);
        shadow_virtqueue_resume(queue->svq, &config.areas);
        return;
    }
    if (!svq_queue_describe_guest(queue, &config, NULL) || vring_config_check(&config, &error) < 0) {
        give_up(queue);
        return;
    }
    if (queue->passthrough) {
        if (queue->parted) {
            give_moved_ring(queue, &config.areas);
        }
        return;
    }
    if (queue->logging) {
        svq_device_update_logging(queue->dev);      /* it may have moved */
    }
    shadow_virtqueue_resume(queue->svq, &config.areas);
}

/* Memory has come that the device does not reach where the guest will name it. */
static void check_passthrough(SvqQueue *queue)
{
    g_autoptr(GError) error = NULL;

    if (queue->started && !svq_control_is(queue) && svq_mode_check(queue, &error) < 0) {
        svq_queue_stop(queue);
        svq_queue_refuse(queue, error);
    }
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

/* Whether the ring of @queue, which passes through, lies elsewhere in @map, for us or the guest. */
static bool is_moved(const SvqQueue *queue, const MemoryMap *map)
{
    const VhostRing *old = &queue->ring;
    SvqGuestRing new;

    return !svq_queue_find_ring(queue, map, &new) || new.areas.desc != old->areas.desc ||
           new.areas.driver != old->areas.driver || new.areas.device != old->areas.device ||
           new.desc_gpa != old->desc_iova || new.driver_gpa != old->driver_iova ||
           new.device_gpa != old->device_iova;
}

/* What the device has in flight of a ring that it will get again, it shall find there. */
static void take_back_in_flight(SvqQueue *queue)
{
    const bool net = queue->dev->backend->device_type == VIRTIO_ID_NET;
    VringConfig config;
    VringError error;
    VringBase base;

    if (svq_queue_describe_guest(queue, &config, NULL) &&
        vring_config_check(&config, &error) == 0 &&
        vring_takeover(&config, queue->told, net, &base, &error) == 0) {
        queue->told = base;
    }
}

/* Takes the rings that lie elsewhere in @map from the device. */
static void part_moved_rings(SvqDevice *dev, const MemoryMap *map)
{
    unsigned int i;

    if (!dev->backend->connected) {
        return;
    }
    for (i = 0; i < dev->n_queues; i++) {
        SvqQueue *queue = &dev->queues[i];
        g_autoptr(GError) error = NULL;

        if (!queue->started || !queue->passthrough || !is_moved(queue, map)) {
            continue;
        }
        if ((dev->backend->rings_fixed && dev->device_driver_ok) ||
            dev->backend->ops->ring_stop(dev->backend, i, &queue->told, &error) < 0) {
            if (error) {
                g_warning("%s queue %u: %s", dev->id, i, error->message);
            }
            svq_device_stop(dev);
            svq_device_settle_later(dev);
            return;
        }
        queue->parted = true;
        take_back_in_flight(queue);
    }
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
    svq_device_begin_detach(dev);
    for (i = 0; i < dev->n_queues; i++) {
        svq_queue_detach(&dev->queues[i]);
    }
    part_moved_rings(dev, map);
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
            svq_queue_resume(&dev->queues[i]);
        }
    }
    for (i = 0; i < dev->n_queues; i++) {
        check_passthrough(&dev->queues[i]);
    }
    svq_mode_update(dev);
    /* Last: a queue that was stopped just now wrote to its old ring. */
    memory_map_free(old);
    memory_map_free(old_device_map);
    return ret;
}
