/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which queues run: starts those that lack nothing, stops those that shall not, and takes rings from
 * devices that let go of one alone, or of all by a reset only.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"
#include "hw/virtio/vring-takeover.h"

#include <errno.h>

/*
 * A VMM says what it has to say of its queues one by one, and a restart of the device for each would
 * cost more than this.  Nothing else depends on it.
 */
#define SETTLE_MS           5
#define SETTLE_STOPPED_MS   50      /* one stop is rarely the last */

bool svq_device_any_started(const SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started && !dev->queues[i].alone) {
            return true;
        }
    }
    return false;
}

static int start_queue(SvqQueue *queue, GError **errp)
{
    SvqDevice *dev = queue->dev;
    int ret = 0;

    /* An arena that nobody uses makes way for a larger one. */
    if (dev->device_started && svq_backend_has_outgrown_arena(dev) &&
        !svq_device_any_started(dev)) {
        svq_device_stop(dev);
    }
    svq_queue_update_base(queue);
    if (queue->base_lost) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "%s queue %u: nobody knows where it stands; the guest has to reset it", dev->id,
                    queue->index);
        return -ENODATA;
    }
    if (!dev->device_started) {
        ret = svq_backend_start(dev, errp);
        dev->start_refused = ret < 0 && dev->backend->connected;
    }
    if (ret == 0 && svq_control_is(queue)) {
        ret = svq_control_start(queue, errp);
    } else if (ret == 0) {
        if (svq_control_holds(queue)) {
            return 0;
        }
        ret = svq_mode_check(queue, errp);
        if (ret == 0) {
            ret = svq_queue_start(queue, errp);
        }
    }
    if (ret == 0) {
        ret = svq_device_driver_ok(dev, errp);
    }
    if (ret == 0) {
        svq_control_begin(dev);
    }
    return ret;
}

bool svq_queue_is_described(const SvqQueue *queue)
{
    const SvqDevice *dev = queue->dev;

    return dev->features_set && dev->map->n && queue->num && queue->addr_set && queue->kick_set &&
           queue->enabled;
}

/* Whether it is to be started, and nothing that it needs is missing. */
static bool is_due(const SvqQueue *queue)
{
    return (!queue->started || queue->alone) && !queue->refused && queue->dev->backend->connected &&
           svq_queue_is_described(queue);
}

/* Not to be tried again: the same words would come again, for each message. */
static void refuse(SvqQueue *queue)
{
    queue->refused = true;
    event_notifier_set(&queue->err);
}

void svq_queue_refuse(SvqQueue *queue, const GError *error)
{
    refuse(queue);
    g_warning("%s", error->message);
    if (svq_control_is(queue)) {
        /* The others do without it. */
        svq_control_release(queue->dev);
        svq_device_update_queues(queue->dev);
    }
}

void svq_queue_update(SvqQueue *queue)
{
    SvqDevice *dev = queue->dev;
    g_autoptr(GError) error = NULL;

    if (!dev->backend->connected) {
        svq_control_orphan(dev);
        return;
    }
    if (!is_due(queue)) {
        return;
    }
    if (dev->start_refused) {
        refuse(queue);
        return;
    }
    if (dev->backend->rings_fixed && dev->device_driver_ok) {
        svq_device_settle_later(dev);
        return;
    }
    if (svq_control_begins_anew(queue)) {
        /* The guest's driver was reset, and with it the device should have been. */
        svq_device_stop(dev);
        svq_device_update_queues(dev);
        return;
    }
    if (queue->alone) {
        svq_queue_stop(queue);
        if (!dev->device_started) {
            return;     /* it did not let go of the ring; all is tried again */
        }
    }
    if (start_queue(queue, &error) == 0) {
        svq_mode_update(dev);   /* if it has something that cannot pass through */
        svq_control_pairs_changed(dev);
        return;
    }
    svq_queue_stop(queue);      /* if only the last step has failed */
    if (dev->backend->connected) {      /* else it is tried again when that is back */
        svq_queue_refuse(queue, error);
    }
}

void svq_device_update_queues(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        svq_queue_update(&dev->queues[i]);
    }
}

/* Whether an IOThread works it. */
static bool is_attached(const SvqQueue *queue)
{
    return queue->started && !queue->passthrough && !queue->parted;
}

void svq_device_begin_detach(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        if (is_attached(&dev->queues[i])) {
            shadow_virtqueue_begin_detach(dev->queues[i].svq);
        }
    }
}

void svq_queue_detach(SvqQueue *queue)
{
    if (is_attached(queue)) {
        shadow_virtqueue_detach(queue->svq);
    }
}

/* Takes one ring from a device that lets go of it alone.  False: it does not, and has to be reset. */
static bool stop_queue(SvqQueue *queue)
{
    VhostDevice *backend = queue->dev->backend;
    g_autoptr(GError) error = NULL;
    bool lost = !backend->connected || queue->dev->control.orphaned;

    if (!queue->started) {
        return true;
    }
    svq_queue_detach(queue);
    if (!lost && !queue->parted &&
        backend->ops->ring_stop(backend, queue->index, &queue->told, &error) < 0) {
        g_warning("%s queue %u: %s", queue->dev->id, queue->index, error->message);
        if (backend->connected) {
            return false;
        }
        lost = true;
    }
    svq_queue_settle(queue, (!lost && backend->tells_base) || queue->parted, lost);
    return true;
}

static bool reset_device(SvqDevice *dev)
{
    g_autoptr(GError) error = NULL;

    if (!dev->backend->connected) {
        return false;
    }
    if (dev->device_started && dev->backend->ops->reset(dev->backend, &error) < 0) {
        g_warning("%s: %s", dev->id, error->message);
        return false;
    }
    return true;
}

/* A device that can be suspended, if not resumed, says where its ring stands. */
static void ask_base(SvqQueue *queue)
{
    VhostDevice *backend = queue->dev->backend;
    g_autoptr(GError) error = NULL;

    if (!backend->connected || !backend->tells_base) {
        return;
    }
    if (backend->ops->ring_stop(backend, queue->index, &queue->told, &error) == 0) {
        queue->parted = true;
    } else {
        g_warning("%s queue %u: %s", queue->dev->id, queue->index, error->message);
    }
}

/* Takes what the device has not let go of. */
static void settle_after_reset(SvqDevice *dev)
{
    const bool lost = !reset_device(dev);
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started) {
            svq_queue_settle(&dev->queues[i], dev->queues[i].parted, lost);
        }
    }
}

/* Takes all rings from a device that lets go of them by a reset alone. */
static void stop_fixed(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started) {
            svq_queue_detach(&dev->queues[i]);
            ask_base(&dev->queues[i]);
        }
    }
    settle_after_reset(dev);
}

void svq_device_forget_refusals(SvqDevice *dev)
{
    unsigned int i;

    dev->start_refused = false;
    for (i = 0; i < dev->n_queues; i++) {
        dev->queues[i].refused = false;
    }
}

void svq_device_stop(SvqDevice *dev)
{
    unsigned int i;

    svq_device_begin_detach(dev);
    if (dev->backend->rings_fixed && dev->device_driver_ok) {
        stop_fixed(dev);
    } else {
        for (i = 0; i < dev->n_queues; i++) {
            stop_queue(&dev->queues[i]);
        }
        settle_after_reset(dev);
    }
    svq_device_forget_refusals(dev);
    svq_backend_forget(dev);
    /* What broke before this is over. */
    event_notifier_test_and_clear(&dev->broken);
    /* Nothing runs that could keep it from being what it shall be. */
    svq_mode_update(dev);
}

/* Whether all that pass through could go on after a reset of a device that does not tell. */
static bool survives_restart(const SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues && !dev->backend->tells_base; i++) {
        SvqQueue *queue = &dev->queues[i];
        VringConfig config;
        VringError error;
        VringBase base;

        if (queue->started && queue->passthrough &&
            svq_queue_describe_guest(queue, &config, NULL) &&
            (vring_takeover_untold(&config, queue->ring.base, &base, &error) < 0 ||
             base.used != vring_base_start(config.packed).used)) {
            /* One that cannot tell where it stands cannot be told either. */
            return false;
        }
    }
    return true;
}

static void refuse_late(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        SvqQueue *queue = &dev->queues[i];
        g_autoptr(GError) error = NULL;

        if (is_due(queue)) {
            error = g_error_new(G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                                "%s queue %u: cannot be added while others pass through: the device "
                                "does not tell where they would go on", dev->id, i);
            svq_queue_refuse(queue, error);
        }
    }
}

static gboolean settle(void *opaque)
{
    SvqDevice *dev = opaque;
    g_autoptr(GError) error = NULL;
    bool late = false;
    unsigned int i;

    dev->settle_source = 0;
    for (i = 0; i < dev->n_queues; i++) {
        late |= is_due(&dev->queues[i]);
    }
    if (late && dev->device_driver_ok && !survives_restart(dev)) {
        refuse_late(dev);
    } else if (late && dev->device_driver_ok) {
        svq_device_stop(dev);
    }
    svq_device_update_queues(dev);
    if (svq_device_driver_ok_now(dev, &error) < 0) {
        svq_device_stop(dev);
        for (i = 0; i < dev->n_queues; i++) {
            if (is_due(&dev->queues[i])) {
                svq_queue_refuse(&dev->queues[i], error);
            }
        }
    }
    return G_SOURCE_REMOVE;
}

static void settle_in(SvqDevice *dev, guint ms)
{
    if (dev->settle_source) {
        g_source_remove(dev->settle_source);
    }
    dev->settle_source = g_timeout_add(ms, settle, dev);
}

void svq_device_settle_later(SvqDevice *dev)
{
    if (!dev->settle_source) {
        settle_in(dev, SETTLE_MS);
    }
}

void svq_queue_stop(SvqQueue *queue)
{
    SvqDevice *dev = queue->dev;

    if (!queue->started) {
        if (dev->settle_source) {
            settle_in(dev, SETTLE_STOPPED_MS);
        }
        return;
    }
    if ((dev->backend->rings_fixed && dev->device_driver_ok) || !stop_queue(queue)) {
        svq_device_stop(dev);
        settle_in(dev, SETTLE_STOPPED_MS);      /* the others go on */
    }
    svq_control_pairs_changed(dev);
}
