/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shadowed device: its life, and what it hears from its device side and its queues.
 */
#include "svq-device-internal.h"

#include <errno.h>
#include <glib-unix.h>

static void make_queues(SvqDevice *dev)
{
    unsigned int i;

    dev->n_queues = MIN(dev->backend->queue_count, SVQ_MAX_QUEUES);
    dev->queues = g_new0(SvqQueue, dev->n_queues);
    for (i = 0; i < dev->n_queues; i++) {
        SvqQueue *queue = &dev->queues[i];
        g_autofree char *name = g_strdup_printf("%s queue %u", dev->id, i);

        queue->dev = dev;
        queue->index = i;
        queue->iothread = dev->iothreads[i % dev->n_iothreads];
        queue->svq = shadow_virtqueue_new(name);
        queue->kick = queue->call = queue->err = EVENT_NOTIFIER_NONE;
        queue->device_kick = queue->device_call = EVENT_NOTIFIER_NONE;
        queue->told_base = -1;
    }
}

/*
 * A device that comes back may have changed.  Queues it has lost are not started; the VMM
 * keeps the number and the features that it was told.
 */
static bool still_fits(const SvqDevice *dev)
{
    const uint64_t device_bits = virtio_features_mask(VIRTIO_FEATURE_DEVICE) &
                                 ~svq_control_own_features(dev);

    if (dev->backend->queue_count < dev->n_queues) {
        g_warning("%s: the device came back with %u virtqueues, it had %u", dev->id,
                  dev->backend->queue_count, dev->n_queues);
        return false;
    }
    if (dev->guest_features & device_bits & ~dev->backend->features) {
        g_warning("%s: the device came back without features that the guest uses", dev->id);
        return false;
    }
    if (dev->mode == SVQ_MODE_PASSTHROUGH &&
        dev->guest_features & ~svq_guest_offered(dev)) {
        g_warning("%s: the device came back without the rings that the guest has", dev->id);
        return false;
    }
    return svq_control_still_fits(dev);
}

static void device_ready(void *opaque)
{
    SvqDevice *dev = opaque;

    g_info("%s: device side %s is there", dev->id, dev->backend->id);
    svq_mode_choose(dev);
    if (!dev->queues) {
        make_queues(dev);
    } else if (!still_fits(dev)) {
        return;
    }
    svq_control_adopt(dev);
    svq_device_forget_refusals(dev);
    svq_device_update_queues(dev);
    if (dev->server) {
        vhost_user_server_hold(dev->server, false);
    }
}

static void device_gone(void *opaque)
{
    SvqDevice *dev = opaque;

    g_warning("%s: device side %s is gone", dev->id, dev->backend->id);
    /* The VMM stays connected; a new one waits until there is a device to tell it of. */
    svq_device_stop(dev);
    svq_control_orphan(dev);
    if (dev->server) {
        vhost_user_server_hold(dev->server, true);
    }
}

static void device_config_changed(void *opaque)
{
    SvqDevice *dev = opaque;

    if (dev->server) {
        vhost_user_server_config_changed(dev->server);
    }
}

static const VhostDeviceNotify device_notify = {
    .ready = device_ready,
    .gone = device_gone,
    .config_changed = device_config_changed,
};

/* A broken queue makes the device need a reset (2.1.1): shown in the status, told once. */
static gboolean queue_broke(int fd, GIOCondition condition, void *opaque)
{
    SvqDevice *dev = opaque;

    event_notifier_test_and_clear(&dev->broken);
    if (dev->status & VIRTIO_STATUS_DRIVER_OK && !(dev->status & VIRTIO_STATUS_NEEDS_RESET)) {
        dev->status |= VIRTIO_STATUS_NEEDS_RESET;
        device_config_changed(dev);
    }
    return G_SOURCE_CONTINUE;
}

SvqDevice *svq_device_new(const SvqDeviceConfig *config, GError **errp)
{
    SvqDevice *dev;
    unsigned int i;

    if (config->n_iothreads < 1) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: needs at least one iothread",
                    config->id);
        return NULL;
    }
    if (config->queue_size > VRING_MAX_SIZE ||
        (config->shadow.packed != ON_OFF_AUTO_ON && config->queue_size & (config->queue_size - 1))) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "'queue-size' is %u, must be a power of two up to %d (any number with "
                    "packed=on)",
                    config->queue_size, VRING_MAX_SIZE);
        return NULL;
    }
    dev = g_new0(SvqDevice, 1);
    if (event_notifier_init(&dev->broken) < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: no eventfd: %s",
                    config->id, g_strerror(errno));
        g_free(dev);
        return NULL;
    }
    dev->inflight = svq_inflight_new(config->inflight, errp);
    if (!dev->inflight) {
        event_notifier_cleanup(&dev->broken);
        g_free(dev);
        return NULL;
    }
    dev->id = g_strdup(config->id);
    dev->mode_wish = dev->mode = config->mode;
    dev->backend = config->backend;
    dev->shadow = config->shadow;
    dev->guest = config->guest;
    dev->queue_size = config->queue_size;
    dev->lenient_base = config->lenient_base;
    dev->withheld = config->withheld;
    dev->n_iothreads = config->n_iothreads;
    dev->iothreads = g_new(IOThread *, dev->n_iothreads);
    for (i = 0; i < dev->n_iothreads; i++) {
        dev->iothreads[i] = iothread_ref(config->iothreads[i]);
    }
    dev->map = memory_map_new(NULL, 0, NULL);
    if (!svq_control_init(dev, &config->control, errp)) {
        svq_device_free(dev);
        return NULL;
    }
    dev->broken_source = g_unix_fd_add(dev->broken.fd, G_IO_IN, queue_broke, dev);
    dev->backend->notify = &device_notify;
    dev->backend->notify_opaque = dev;
    if (dev->backend->connected) {
        device_ready(dev);
    }
    return dev;
}

int svq_device_listen(SvqDevice *dev, const VhostSocketAddress *address, GError **errp)
{
    dev->server = vhost_user_server_new(address, !dev->backend->connected, &svq_guest_ops, dev,
                                        errp);
    return dev->server ? 0 : -EIO;
}

void svq_device_free(SvqDevice *dev)
{
    unsigned int i;

    if (!dev) {
        return;
    }
    /* First: a VMM that sees its connection end reads the rings to learn where they stand. */
    svq_device_stop(dev);
    g_clear_pointer(&dev->server, vhost_user_server_free);
    dev->backend->notify = NULL;
    if (dev->broken_source) {
        g_source_remove(dev->broken_source);
    }
    svq_mode_forget(dev);
    if (dev->settle_source) {
        g_source_remove(dev->settle_source);
    }
    event_notifier_cleanup(&dev->broken);
    svq_control_free(dev);
    for (i = 0; i < dev->n_queues; i++) {
        SvqQueue *queue = &dev->queues[i];

        shadow_virtqueue_free(queue->svq);
        event_notifier_cleanup(&queue->kick);
        event_notifier_cleanup(&queue->call);
        event_notifier_cleanup(&queue->err);
        event_notifier_cleanup(&queue->device_kick);
        event_notifier_cleanup(&queue->device_call);
    }
    for (i = 0; i < dev->n_iothreads; i++) {
        iothread_unref(dev->iothreads[i]);
    }
    memory_map_free(dev->map);
    svq_inflight_free(dev->inflight);
    g_free(dev->iothreads);
    g_free(dev->queues);
    g_free(dev->id);
    g_free(dev);
}

const char *svq_device_get_id(const SvqDevice *dev)
{
    return dev->id;
}

unsigned int svq_device_get_queue_count(const SvqDevice *dev)
{
    return dev->n_queues;
}

char *svq_device_describe_state(SvqDevice *dev)
{
    return svq_control_describe_state(dev);
}

static SvqQueueState state_of(const SvqQueue *queue)
{
    if (queue->refused) {
        return SVQ_QUEUE_BROKEN;
    }
    if (queue->started && queue->passthrough) {
        return SVQ_QUEUE_RUNNING;
    }
    return shadow_virtqueue_get_state(queue->svq);
}

bool svq_device_get_queue_stats(const SvqDevice *dev, unsigned int index, SvqQueueStats *stats)
{
    const SvqQueue *queue;

    if (index >= dev->n_queues) {
        return false;
    }
    queue = &dev->queues[index];
    *stats = (SvqQueueStats){
        .state = state_of(queue),
        .passthrough = queue->started && queue->passthrough,
        .iothread = iothread_get_id(queue->iothread),
        .guest_packed = queue->guest_packed,
        .shadow_packed = queue->shadow_packed,
        .counters = shadow_virtqueue_get_counters(queue->svq),
    };
    return true;
}
