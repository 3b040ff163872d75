/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's side of a device: what the VMM says over vhost-user, in whatever order it says it.
 *
 * How it works.  Each message only records what it says; svq_queue_update() then starts the
 * queue if that was the last thing missing.  VMMs differ: one enables queues before it gives
 * memory, one repeats the features for each pair, one stops by disabling and frees the
 * ring's memory without another word.  So what does not change anything is always allowed, what
 * changes a ring is allowed while it is stopped, and a queue that is disabled is stopped: it
 * stands where it is until it is enabled.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"

#include <errno.h>
#include <inttypes.h>

uint64_t svq_guest_offered(const SvqDevice *dev)
{
    const SvqRingFeatures *offer = &dev->guest;
    uint64_t features = dev->backend->features & virtio_features_mask(VIRTIO_FEATURE_DEVICE) &
                        ~dev->withheld;
    uint64_t rings = 0;

    features |= svq_control_own_features(dev);
    rings |= offer->packed != ON_OFF_AUTO_OFF ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0;
    rings |= offer->event_idx != ON_OFF_AUTO_OFF ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0;
    rings |= offer->indirect_desc != ON_OFF_AUTO_OFF ? VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC) : 0;
    rings |= offer->in_order != ON_OFF_AUTO_OFF ? VIRTIO_F_BIT(VIRTIO_F_IN_ORDER) : 0;
    if (dev->mode != SVQ_MODE_SHADOW) {
        /* The device will have these rings, now and then or always. */
        rings &= dev->backend->features;
    }
    features = virtio_features_close(features | rings);
    if (dev->mode != SVQ_MODE_PASSTHROUGH) {
        /* Whatever the device can: it is we who see what it writes. */
        features |= VIRTIO_F_BIT(VHOST_F_LOG_ALL);
    }
    return features;
}

static uint64_t guest_must_have(const SvqDevice *dev)
{
    const SvqRingFeatures *offer = &dev->guest;

    return (offer->packed == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0) |
           (offer->event_idx == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0) |
           (offer->indirect_desc == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC) : 0) |
           (offer->in_order == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_IN_ORDER) : 0);
}

/* Stops everything; only with a new kick descriptor a queue starts again. */
static void stop_until_kicked(SvqDevice *dev)
{
    unsigned int i;

    svq_device_stop(dev);
    for (i = 0; i < dev->n_queues; i++) {
        dev->queues[i].kick_set = false;
    }
}

static void forget_queue(SvqQueue *queue)
{
    queue->num = 0;
    queue->addr_set = queue->kick_set = queue->enabled = queue->refused = false;
    queue->base = queue->vmm_base = 0;
    queue->base_is_ours = queue->base_untold = queue->base_lost = queue->was_started = false;
    queue->told_base = -1;
    queue->base_is_new = false;
    event_notifier_cleanup(&queue->kick);
    event_notifier_cleanup(&queue->call);
    event_notifier_cleanup(&queue->err);
}

static void guest_connected(void *opaque)
{
    SvqDevice *dev = opaque;

    g_info("%s: VMM connected", dev->id);
}

static void guest_disconnected(void *opaque)
{
    SvqDevice *dev = opaque;
    unsigned int i;

    g_info("%s: VMM disconnected", dev->id);
    svq_device_stop(dev);
    for (i = 0; i < dev->n_queues; i++) {
        forget_queue(&dev->queues[i]);
    }
    dev->features_set = false;
    dev->guest_features = 0;
    dev->status = 0;
    svq_device_forget_log(dev);
    svq_mode_forget(dev);
    svq_control_disconnected(dev);
    if (dev->backend->connected && dev->backend->ops->forget_memory) {
        dev->backend->ops->forget_memory(dev->backend);
    }
    svq_device_set_map(dev, memory_map_new(NULL, 0, NULL), NULL);
}

static uint64_t guest_get_features(void *opaque)
{
    return svq_guest_offered(opaque);
}

static int refuse_features(const SvqDevice *dev, const char *why, uint64_t features, GError **errp)
{
    g_autofree char *names = virtio_features_to_string(features);

    g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: the guest %s: %s", dev->id, why,
                names);
    return -EINVAL;
}

static int guest_set_features(void *opaque, uint64_t features, GError **errp)
{
    SvqDevice *dev = opaque;
    const uint64_t offered = svq_guest_offered(dev);
    const uint64_t missing = guest_must_have(dev) & ~features;
    const bool log_all = svq_has_feature(features, VHOST_F_LOG_ALL);

    if (features & ~offered) {
        return refuse_features(dev, "takes what was not offered", features & ~offered, errp);
    }
    if (missing) {
        return refuse_features(dev, "refuses what is asked to be on", missing, errp);
    }
    /* Stopped, it may have the log of another time; the next comes before or after its start. */
    if (log_all && svq_device_any_started(dev) &&
        svq_device_check_log(dev, dev->log, dev->map, errp) < 0) {
        return -EINVAL;
    }
    features &= ~VIRTIO_F_BIT(VHOST_F_LOG_ALL);
    if ((dev->device_started || dev->control.orphaned) && features != dev->guest_features) {
        if (svq_device_any_started(dev)) {
            return refuse_features(dev, "changes features of running queues",
                                   features ^ dev->guest_features, errp);
        }
        stop_until_kicked(dev);
    }
    if (!dev->features_set || features != dev->guest_features) {
        g_autofree char *has = virtio_features_to_string(features);
        g_autofree char *lost = virtio_features_to_string(dev->backend->features & ~features &
                                                          ~guest_must_have(dev));

        g_info("%s: features of the guest: %s; of the device, but not used: %s", dev->id, has,
               lost);
    }
    dev->features_set = true;
    dev->guest_features = features;
    if (log_all != dev->log_all) {
        /* While they run: this is how a live migration begins and ends. */
        dev->log_all = log_all;
        svq_device_update_logging(dev);
        g_info("%s: logging of what the device writes is %s", dev->id, log_all ? "on" : "off");
        svq_mode_update(dev);
    }
    svq_device_update_queues(dev);
    return 0;
}

static uint32_t guest_get_queue_count(void *opaque)
{
    SvqDevice *dev = opaque;

    return dev->n_queues;
}

/* One or two are ours: the arena, and what the control queue needs. */
static uint32_t guest_get_max_regions(void *opaque)
{
    SvqDevice *dev = opaque;

    return dev->backend->max_regions - 1 - svq_control_has_state(dev);
}

static bool guest_has_config(void *opaque)
{
    SvqDevice *dev = opaque;

    return dev->backend->has_config;
}

static int guest_set_memory(void *opaque, MemoryRegion *const *regions, unsigned int n,
                            GError **errp)
{
    SvqDevice *dev = opaque;
    MemoryMap *map;
    int ret = svq_iova_place_guest(dev, regions, n, errp);

    if (ret < 0) {
        return ret;
    }
    map = memory_map_new(regions, n, errp);
    if (!map) {
        return -EINVAL;
    }
    ret = svq_device_set_map(dev, map, errp);
    if (ret < 0) {
        return ret;
    }
    /* A VMM that changes a region takes it away and adds it again, with the rings in it. */
    svq_device_forget_refusals(dev);
    svq_device_update_queues(dev);
    return 0;
}

static int guest_set_log(void *opaque, MemoryRegion *log, GError **errp)
{
    return svq_device_set_log(opaque, log, errp);
}

/* Whether it works a ring of the guest's. */
static bool is_running(const SvqQueue *queue)
{
    return queue->started && !queue->alone;
}

/* Whether what defines @queue's ring may be set: not while it runs. */
static int check_stopped(SvqQueue *queue, const char *what, GError **errp)
{
    if (is_running(queue)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s queue %u: %s changes while it runs", queue->dev->id, queue->index, what);
        return -EBUSY;
    }
    queue->refused = false;
    if (queue->was_started) {
        svq_inflight_clear(queue->dev->inflight, queue->index);
    }
    return 0;
}

static int guest_set_vring_num(void *opaque, unsigned int index, uint32_t num, GError **errp)
{
    SvqDevice *dev = opaque;
    SvqQueue *queue = &dev->queues[index];
    int ret;

    if (num == queue->num) {
        return 0;
    }
    /* 0: not to be used.  DPDK's virtio-user says so of a pair that it may not have. */
    if (num > VRING_MAX_SIZE) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s queue %u: size is %" PRIu32 ", must be at most %d", dev->id, index, num,
                    VRING_MAX_SIZE);
        return -EINVAL;
    }
    ret = check_stopped(queue, "size", errp);
    if (ret == 0) {
        queue->num = num;
        svq_queue_update(queue);
    }
    return ret;
}

static int guest_set_vring_addr(void *opaque, unsigned int index, const VhostVringAddr *addr,
                                GError **errp)
{
    SvqDevice *dev = opaque;
    SvqQueue *queue = &dev->queues[index];
    int ret = 0;

    if (!queue->addr_set || addr->desc != queue->addr.desc || addr->avail != queue->addr.avail ||
        addr->used != queue->addr.used) {
        ret = check_stopped(queue, "ring address", errp);
    }
    if (ret == 0) {
        const bool relog = addr->log != queue->addr.log || addr->log_gpa != queue->addr.log_gpa;

        queue->addr = *addr;
        queue->addr_set = true;
        if (relog) {
            svq_device_update_logging(dev);
        }
        svq_queue_update(queue);
    }
    return ret;
}

static int guest_set_vring_base(void *opaque, unsigned int index, uint32_t base, GError **errp)
{
    SvqDevice *dev = opaque;
    SvqQueue *queue = &dev->queues[index];
    int ret = check_stopped(queue, "base", errp);

    if (ret == 0) {
        queue->base_is_new |= queue->told_base != base;
        queue->base = queue->vmm_base = base;
        queue->base_is_ours = queue->base_untold = queue->base_lost = false;
        svq_queue_update(queue);
    }
    return ret;
}

static int guest_get_vring_base(void *opaque, unsigned int index, uint32_t *base, GError **errp)
{
    SvqDevice *dev = opaque;
    SvqQueue *queue = &dev->queues[index];

    if (!queue->alone) {
        svq_queue_stop(queue);
    }
    svq_queue_update_base(queue);
    queue->kick_set = false;
    queue->refused = false;
    /* From here on the VMM knows. */
    svq_inflight_clear(dev->inflight, index);
    queue->told_base = queue->base;
    *base = queue->base;
    return 0;
}

/* The device works the guest's ring: it gets the descriptor before the one before is closed. */
static int set_device_fd(SvqQueue *queue, VhostVringFd which, int fd, GError **errp)
{
    const VhostRingFd device_fd = which == VHOST_VRING_KICK ? VHOST_RING_KICK : VHOST_RING_CALL;
    SvqDevice *dev = queue->dev;
    int ret;

    if (which == VHOST_VRING_ERR) {
        return 0;
    }
    if (device_fd == VHOST_RING_KICK && fd < 0 && dev->mode == SVQ_MODE_PASSTHROUGH) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s queue %u passes through and needs a kick descriptor", dev->id, queue->index);
        return -EINVAL;
    }
    ret = dev->backend->ops->ring_set_fd(dev->backend, queue->index, device_fd, fd, errp);
    ret = svq_backend_forgive_gone(dev, ret, errp);
    if (ret < 0) {
        return ret;
    }
    if (device_fd == VHOST_RING_KICK) {
        queue->ring.kick_fd = fd;
    } else {
        queue->ring.call_fd = fd;
    }
    return 0;
}

static void set_shadow_fd(SvqQueue *queue, VhostVringFd which, int fd)
{
    switch (which) {
    case VHOST_VRING_KICK:
        shadow_virtqueue_set_guest_kick(queue->svq, fd);
        break;
    case VHOST_VRING_CALL:
        shadow_virtqueue_set_guest_call(queue->svq, fd);
        break;
    case VHOST_VRING_ERR:
        shadow_virtqueue_set_guest_err(queue->svq, fd);
        break;
    }
}

static int guest_set_vring_fd(void *opaque, unsigned int index, VhostVringFd which, int fd,
                              GError **errp)
{
    SvqDevice *dev = opaque;
    SvqQueue *queue = &dev->queues[index];
    EventNotifier *notifier = which == VHOST_VRING_KICK   ? &queue->kick
                              : which == VHOST_VRING_CALL ? &queue->call
                                                          : &queue->err;
    EventNotifier old = *notifier, new;
    int ret = event_notifier_init_fd(&new, fd);

    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "%s queue %u: descriptor cannot be made non-blocking: %s", dev->id, index,
                    g_strerror(-ret));
        return ret;
    }
    if (is_running(queue) && queue->passthrough) {
        ret = set_device_fd(queue, which, new.fd, errp);
        if (ret < 0) {
            event_notifier_cleanup(&new);
            return ret;
        }
    }
    *notifier = new;
    queue->kick_set |= which == VHOST_VRING_KICK;
    if (is_running(queue) && queue->passthrough) {
        /* What was said through the descriptor before may not have been heard. */
        svq_queue_notify_both(queue);
    } else if (is_running(queue)) {
        set_shadow_fd(queue, which, new.fd);
    }
    event_notifier_cleanup(&old);
    svq_queue_update(queue);
    if (which == VHOST_VRING_KICK) {
        svq_mode_update(dev);       /* there may be none, for which a shadow is needed */
    }
    return 0;
}

static int guest_set_vring_enable(void *opaque, unsigned int index, bool enable, GError **errp)
{
    SvqDevice *dev = opaque;
    SvqQueue *queue = &dev->queues[index];

    queue->enabled = enable;
    if (enable) {
        svq_queue_update(queue);
    } else if (!queue->alone) {
        svq_queue_stop(queue);
    }
    return 0;
}

static bool guest_has_rarp(void *opaque)
{
    SvqDevice *dev = opaque;

    return dev->backend->ops->send_rarp && dev->backend->has_rarp;
}

static int guest_send_rarp(void *opaque, uint64_t mac, GError **errp)
{
    SvqDevice *dev = opaque;
    int ret = dev->backend->ops->send_rarp(dev->backend, mac, errp);

    return svq_backend_forgive_gone(dev, ret, errp);
}

static bool guest_has_state(void *opaque)
{
    return svq_control_has_state(opaque);
}

static GBytes *guest_save_state(void *opaque, GError **errp)
{
    return svq_control_save(opaque, errp);
}

static int guest_load_state(void *opaque, const uint8_t *data, size_t n, GError **errp)
{
    return svq_control_load(opaque, data, n, errp);
}

static int guest_get_config(void *opaque, void *data, uint32_t offset, uint32_t size,
                            GError **errp)
{
    SvqDevice *dev = opaque;
    int ret = dev->backend->ops->get_config(dev->backend, data, offset, size, errp);

    if (ret == 0) {
        svq_control_patch_config(dev, data, offset, size);
    }
    return ret;
}

static int guest_set_config(void *opaque, const void *data, uint32_t offset, uint32_t size,
                            GError **errp)
{
    SvqDevice *dev = opaque;

    return dev->backend->ops->set_config(dev->backend, data, offset, size, errp);
}

static uint8_t guest_get_status(void *opaque)
{
    SvqDevice *dev = opaque;

    return dev->status;
}

static int guest_set_status(void *opaque, uint8_t status, GError **errp)
{
    SvqDevice *dev = opaque;

    if (status != 0) {
        /* Only a reset takes NEEDS_RESET away (2.1.2). */
        dev->status = status | (dev->status & VIRTIO_STATUS_NEEDS_RESET);
        return svq_device_driver_ok(dev, errp);
    }
    /* Reset (2.4).  What GET_VRING_BASE will ask for is kept: QEMU asks after this. */
    dev->status = 0;
    stop_until_kicked(dev);
    svq_control_driver_reset(dev);
    return 0;
}

static int guest_reset(void *opaque, GError **errp)
{
    SvqDevice *dev = opaque;
    unsigned int i;

    svq_device_stop(dev);
    for (i = 0; i < dev->n_queues; i++) {
        forget_queue(&dev->queues[i]);
        svq_inflight_clear(dev->inflight, i);
    }
    dev->features_set = false;
    dev->guest_features = 0;
    dev->log_all = false;
    svq_device_update_logging(dev);
    svq_mode_update(dev);
    svq_control_driver_reset(dev);
    dev->status = 0;
    return 0;
}

const VhostUserServerOps svq_guest_ops = {
    .connected = guest_connected,
    .disconnected = guest_disconnected,
    .get_features = guest_get_features,
    .set_features = guest_set_features,
    .get_queue_count = guest_get_queue_count,
    .get_max_regions = guest_get_max_regions,
    .has_config = guest_has_config,
    .set_memory = guest_set_memory,
    .set_log = guest_set_log,
    .set_vring_num = guest_set_vring_num,
    .set_vring_addr = guest_set_vring_addr,
    .set_vring_base = guest_set_vring_base,
    .get_vring_base = guest_get_vring_base,
    .set_vring_fd = guest_set_vring_fd,
    .set_vring_enable = guest_set_vring_enable,
    .has_rarp = guest_has_rarp,
    .send_rarp = guest_send_rarp,
    .has_state = guest_has_state,
    .save_state = guest_save_state,
    .load_state = guest_load_state,
    .get_config = guest_get_config,
    .set_config = guest_set_config,
    .get_status = guest_get_status,
    .set_status = guest_set_status,
    .reset = guest_reset,
};
