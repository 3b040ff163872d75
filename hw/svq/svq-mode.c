/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who works the guest's rings, the device itself or we, and the switch from one to the other.
 *
 * How it works.  The device is suspended; it tells where each ring stands; each ring is given up by the
 * one and taken by the other there; the device resumes.  The features stay, so a guest is
 * offered only those rings that the device has, too; the mappings stay; the guest's descriptors are
 * there all the time.  So the guest can see nothing but a pause.
 *
 * A switch that cannot be now, because the device has buffers in flight and may have completed
 * others before them, is undone and tried again: until then everything goes on as before.  If that
 * keeps a device from being a shadow while the VMM logs, all of memory is marked in the log as soon
 * as it is one, or stops.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"
#include "hw/virtio/vring-takeover.h"

#include <errno.h>

#define SWITCH_AGAIN_MS 100

enum { PHASE_SUSPEND, PHASE_STATE, PHASE_RINGS, PHASE_RESUME, PHASES };

typedef struct Switch {
    SvqDevice *dev;
    bool passthrough;           /* where to */
    gint64 start;               /* of this phase, us */
    gint64 took[PHASES];
} Switch;

static bool is_switchable(const VhostDevice *backend)
{
    return backend->tells_base && !backend->rings_fixed;
}

static bool wants_passthrough(const SvqDevice *dev)
{
    return dev->mode == SVQ_MODE_PASSTHROUGH ||
           (dev->mode == SVQ_MODE_AUTO && !dev->log_all && !dev->only_shadow);
}

void svq_mode_choose(SvqDevice *dev)
{
    const uint64_t rings = virtio_features_mask(VIRTIO_FEATURE_RING);
    const VhostDevice *backend = dev->backend;

    dev->mode = dev->mode_wish;
    if (dev->mode == SVQ_MODE_AUTO && !is_switchable(backend)) {
        g_message("%s: mode=auto: %s cannot be suspended and asked where its rings stand; they are "
                  "shadowed all the time", dev->id, backend->id);
        dev->mode = SVQ_MODE_SHADOW;
    } else if (dev->mode == SVQ_MODE_AUTO && dev->guest_features & rings & ~backend->features) {
        g_message("%s: mode=auto: %s has not the rings that the guest has; they are shadowed all "
                  "the time", dev->id, backend->id);
        dev->mode = SVQ_MODE_SHADOW;
    }
    dev->passthrough = wants_passthrough(dev);
}

static const char *refuses_passthrough(const SvqQueue *queue)
{
    const SvqDevice *dev = queue->dev;

    if (!dev->map->identity) {
        return "the device does not reach all of the guest's memory at the guest's addresses";
    }
    if (queue->kick.fd < 0) {
        return "the VMM gives no kick descriptor that the device could wait for";
    }
    return svq_backend_refuses_guest_ring(queue);
}

int svq_mode_check(SvqQueue *queue, GError **errp)
{
    SvqDevice *dev = queue->dev;
    const char *why;

    if (dev->mode == SVQ_MODE_SHADOW || dev->only_shadow) {
        return 0;
    }
    why = refuses_passthrough(queue);
    if (!why) {
        return 0;
    }
    if (dev->mode == SVQ_MODE_PASSTHROUGH) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_NOSYS, "%s queue %u cannot pass through: %s",
                    dev->id, queue->index, why);
        return -ENOTSUP;
    }
    g_message("%s: mode=auto: queue %u cannot pass through: %s; all are shadowed", dev->id,
              queue->index, why);
    dev->only_shadow = true;
    return 0;
}

static bool is_moving(const Switch *sw, const SvqQueue *queue)
{
    return queue->started && queue->passthrough != sw->passthrough && !svq_control_is(queue);
}

static void end_phase(Switch *sw, unsigned int phase)
{
    const gint64 now = g_get_monotonic_time();

    sw->took[phase] = now - sw->start;
    sw->start = now;
}

/* Whether the ring of @queue, which the device has let go of, can be taken on. */
static int check_queue(SvqQueue *queue, GError **errp)
{
    const bool net = queue->dev->backend->device_type == VIRTIO_ID_NET;
    g_autofree char *words = NULL;
    VringError error = { 0 };
    VringConfig config;
    VringBase base;

    if (queue->passthrough) {
        if (!svq_queue_describe_guest(queue, &config, errp)) {
            return -EBUSY;
        }
        if (vring_takeover(&config, queue->told, net, &base, &error) == 0) {
            return 0;
        }
        words = vring_error_to_string(&error);
    } else if (shadow_virtqueue_drain(queue->svq) < 0) {
        words = g_strdup("the device has completed buffers out of order");
    }
    if (words) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_AGAIN, "queue %u: %s", queue->index, words);
    }
    return words ? -EBUSY : 0;
}

static int suspend_device(Switch *sw, GError **errp)
{
    SvqDevice *dev = sw->dev;
    unsigned int i;
    int ret = 0;

    for (i = 0; i < dev->n_queues; i++) {
        if (is_moving(sw, &dev->queues[i]) && !dev->queues[i].passthrough) {
            shadow_virtqueue_begin_detach(dev->queues[i].svq);
        }
    }
    for (i = 0; i < dev->n_queues; i++) {
        if (is_moving(sw, &dev->queues[i])) {
            svq_queue_detach(&dev->queues[i]);
        }
    }
    if (dev->backend->ops->suspend) {
        ret = dev->backend->ops->suspend(dev->backend, errp);
    }
    end_phase(sw, PHASE_SUSPEND);
    return ret;
}

/* Where its ring stands.  A device that is not suspended as a whole lets go of it by that. */
static int ask_queue(SvqQueue *queue, GError **errp)
{
    VhostDevice *backend = queue->dev->backend;

    if (backend->ops->suspend) {
        return backend->ops->ring_base(backend, queue->index, &queue->told, errp);
    }
    if (backend->ops->ring_stop(backend, queue->index, &queue->told, errp) < 0) {
        return -EIO;
    }
    queue->parted = true;
    return 0;
}

/*
 * Asks where the moving rings stand.  -EBUSY: one of them cannot be taken on; else the device failed.
 */
static int ask_rings(Switch *sw, GError **errp)
{
    SvqDevice *dev = sw->dev;
    unsigned int i;
    int ret = 0;

    for (i = 0; i < dev->n_queues && ret == 0; i++) {
        SvqQueue *queue = &dev->queues[i];

        if (is_moving(sw, queue)) {
            if (ask_queue(queue, errp) < 0) {
                return -EIO;
            }
            ret = check_queue(queue, errp);
        }
    }
    end_phase(sw, PHASE_STATE);
    return ret;
}

/* Takes the ring away, unless that is done, which has not moved since the device was asked. */
static int part_queue(SvqQueue *queue, GError **errp)
{
    VhostDevice *backend = queue->dev->backend;
    const VringBase asked = queue->told;

    if (queue->parted) {
        return 0;
    }
    if (backend->ops->ring_stop(backend, queue->index, &queue->told, errp) < 0) {
        return -EIO;
    }
    queue->parted = true;
    if (queue->told.avail != asked.avail || queue->told.used != asked.used) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_IO,
                    "queue %u: the device goes on though it is suspended", queue->index);
        return -EIO;
    }
    return 0;
}

static int resume_device(Switch *sw, GError **errp)
{
    VhostDevice *backend = sw->dev->backend;
    int ret = backend->ops->resume ? backend->ops->resume(backend, errp) : 0;

    end_phase(sw, PHASE_RESUME);
    return ret < 0 ? -EIO : 0;
}

/* Rings that a device which cannot be suspended has let go of are its own again, where it left them. */
static int give_back_rings(Switch *sw, GError **errp)
{
    SvqDevice *dev = sw->dev;
    VhostDevice *backend = dev->backend;
    unsigned int i;
    int ret = 0;

    for (i = 0; i < dev->n_queues && ret == 0; i++) {
        SvqQueue *queue = &dev->queues[i];

        if (queue->parted) {
            queue->ring.base = queue->told;
            ret = backend->ops->ring_enable(backend, i, true, errp);
            if (ret == 0) {
                ret = backend->ops->ring_start(backend, i, &queue->ring, errp);
            }
        }
    }
    return ret;
}

/*
 * Either side may have missed a notification: the one had it that is not there any more, or it came
 * while the device was suspended.
 */
static void notify_all(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        SvqQueue *queue = &dev->queues[i];

        queue->moved = false;
        if (queue->started) {
            svq_queue_notify_both(queue);
        }
    }
}

/* Goes on in the old mode.  @suspended: the device is. */
static int undo(Switch *sw, bool suspended, GError **errp)
{
    SvqDevice *dev = sw->dev;
    unsigned int i;
    int ret = give_back_rings(sw, errp);

    if (ret == 0 && suspended) {
        ret = resume_device(sw, errp);
    }
    for (i = 0; i < dev->n_queues && ret == 0; i++) {
        SvqQueue *queue = &dev->queues[i];

        if (!is_moving(sw, queue)) {
            continue;
        }
        queue->parted = false;
        svq_queue_resume(queue);
    }
    if (ret == 0) {
        notify_all(dev);
    }
    return ret;
}

/*
 * Each moving ring goes from one to the other.  All are taken before the first is given: a device may
 * have rings that share an address space.
 */
static int exchange_rings(Switch *sw, GError **errp)
{
    SvqDevice *dev = sw->dev;
    unsigned int i;
    int ret = 0;

    for (i = 0; i < dev->n_queues && ret == 0; i++) {
        SvqQueue *queue = &dev->queues[i];

        if (is_moving(sw, queue)) {
            ret = part_queue(queue, errp);
            queue->moved = true;
        }
    }
    for (i = 0; i < dev->n_queues && ret == 0; i++) {
        if (dev->queues[i].moved) {
            svq_queue_settle(&dev->queues[i], true, false);
        }
    }
    dev->passthrough = sw->passthrough;
    for (i = 0; i < dev->n_queues && ret == 0; i++) {
        if (dev->queues[i].moved) {
            ret = svq_queue_start(&dev->queues[i], errp);
        }
    }
    end_phase(sw, PHASE_RINGS);
    return ret < 0 ? -EIO : 0;
}

/* 0; -EBUSY: undone, for now; else the device has failed in the middle. */
static int try_switch(Switch *sw, GError **errp)
{
    g_autoptr(GError) undo_error = NULL;
    bool suspended;
    int ret = suspend_device(sw, errp);

    suspended = ret == 0;
    if (ret == 0) {
        ret = ask_rings(sw, errp);
    } else if (sw->dev->backend->connected) {
        ret = -EBUSY;
    }
    if (ret == -EBUSY) {
        if (undo(sw, suspended, &undo_error) < 0) {
            g_clear_error(errp);
            g_propagate_error(errp, g_steal_pointer(&undo_error));
            return -EIO;
        }
        return -EBUSY;
    }
    if (ret == 0) {
        ret = exchange_rings(sw, errp);
    }
    if (ret == 0) {
        ret = resume_device(sw, errp);
    }
    if (ret == 0) {
        notify_all(sw->dev);
    }
    return ret;
}

static const char *mode_name(bool passthrough)
{
    return passthrough ? "passthrough" : "shadow";
}

static void report(const Switch *sw)
{
    const gint64 *took = sw->took;

    g_message("%s: %s, switched in %" G_GINT64_FORMAT " us: suspend %" G_GINT64_FORMAT
              ", state %" G_GINT64_FORMAT ", rings %" G_GINT64_FORMAT ", resume %" G_GINT64_FORMAT,
              sw->dev->id, mode_name(sw->passthrough),
              took[PHASE_SUSPEND] + took[PHASE_STATE] + took[PHASE_RINGS] + took[PHASE_RESUME],
              took[PHASE_SUSPEND], took[PHASE_STATE], took[PHASE_RINGS], took[PHASE_RESUME]);
}

/* From a reset: slower, and what the device had in flight is settled as it is at any stop. */
static void restart(SvqDevice *dev)
{
    unsigned int i;

    svq_device_stop(dev);
    for (i = 0; i < dev->n_queues; i++) {
        dev->queues[i].moved = false;
    }
    svq_device_update_queues(dev);
}

/* There is no switch to be made any more. */
static void cancel(SvqDevice *dev)
{
    if (dev->switch_source) {
        g_source_remove(dev->switch_source);
        dev->switch_source = 0;
    }
    dev->put_off_said = false;
}

static gboolean again(void *opaque)
{
    SvqDevice *dev = opaque;

    dev->switch_source = 0;
    svq_mode_update(dev);
    return G_SOURCE_REMOVE;
}

static void put_off(SvqDevice *dev, bool passthrough, const GError *why)
{
    if (!dev->put_off_said) {
        g_message("%s: to %s: put off, and tried every %d ms: %s", dev->id, mode_name(passthrough),
                  SWITCH_AGAIN_MS, why->message);
        dev->put_off_said = true;
    }
    if (!dev->switch_source) {
        dev->switch_source = g_timeout_add(SWITCH_AGAIN_MS, again, dev);
    }
}

/* A queue that its guest or device has broken stays as it is until it is reset. */
static bool any_broken(const SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        /* The control queue does not move, and so keeps nobody from it. */
        if (!svq_control_is(&dev->queues[i]) &&
            shadow_virtqueue_get_state(dev->queues[i].svq) == SVQ_QUEUE_BROKEN) {
            return true;
        }
    }
    return false;
}

static bool any_moving(const Switch *sw)
{
    unsigned int i;

    for (i = 0; i < sw->dev->n_queues; i++) {
        if (is_moving(sw, &sw->dev->queues[i])) {
            return true;
        }
    }
    return false;
}

/* What cannot pass through keeps the device from it, before it begins to. */
static void check_all(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started && dev->mode == SVQ_MODE_AUTO && !svq_control_is(&dev->queues[i])) {
            svq_mode_check(&dev->queues[i], NULL);
        }
    }
}

void svq_mode_update(SvqDevice *dev)
{
    Switch sw = { .dev = dev, .start = g_get_monotonic_time() };
    g_autoptr(GError) error = NULL;
    int ret;

    check_all(dev);
    sw.passthrough = wants_passthrough(dev);
    dev->unseen = dev->unseen && dev->log_all;
    if (!dev->backend->connected) {
        return;     /* it will be said that it is gone */
    }
    if (!any_moving(&sw)) {
        dev->passthrough = sw.passthrough;
        dev->unseen = false;
        cancel(dev);
        return;
    }
    if (any_broken(dev)) {
        g_set_error(&error, G_FILE_ERROR, G_FILE_ERROR_AGAIN, "a queue is broken");
        ret = -EBUSY;
    } else {
        ret = try_switch(&sw, &error);
    }
    if (ret < 0) {
        dev->unseen = dev->log_all;
    }
    if (ret == -EBUSY) {
        put_off(dev, sw.passthrough, error);
        return;
    }
    if (!dev->backend->connected) {
        return;
    }
    cancel(dev);
    if (ret == 0) {
        report(&sw);
    } else {
        g_warning("%s: to %s: failed, the device is reset: %s", dev->id,
                  mode_name(sw.passthrough), error->message);
        dev->passthrough = sw.passthrough;
        restart(dev);
    }
    if (dev->unseen) {
        svq_device_log_unseen(dev);
        dev->unseen = false;
    }
}

void svq_mode_forget(SvqDevice *dev)
{
    dev->only_shadow = dev->unseen = false;
    cancel(dev);
    dev->passthrough = wants_passthrough(dev);
}
