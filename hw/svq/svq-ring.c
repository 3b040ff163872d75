/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue's rings: where the guest's lies and stands, and what a shadow or the device is given of it.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"
#include "hw/virtio/vring-takeover.h"

#include <errno.h>
#include <inttypes.h>

/* The guest's rings are named by the VMM's user addresses (vhost-user, SET_VRING_ADDR). */
bool svq_queue_find_ring(const SvqQueue *queue, const MemoryMap *map, SvqGuestRing *ring)
{
    const VhostVringAddr *addr = &queue->addr;
    const bool packed = queue->guest_packed;

    ring->areas.desc = memory_map_host_of_user(map, addr->desc, vring_desc_size(queue->num),
                                               &ring->desc_gpa);
    ring->areas.driver = memory_map_host_of_user(map, addr->avail,
                                                 vring_driver_size(queue->num, packed),
                                                 &ring->driver_gpa);
    ring->areas.device = memory_map_host_of_user(map, addr->used,
                                                 vring_device_size(queue->num, packed),
                                                 &ring->device_gpa);
    return ring->areas.desc && ring->areas.driver && ring->areas.device;
}

/*
 * A packed base comes in three spellings: both halves (QEMU: 0x80008000), the available
 * half alone, meant for both (DPDK: 0x8000), and, from User Mode Linux, 0 for the start.
 */
VringBase svq_queue_decode_base(const SvqQueue *queue, uint32_t base, bool is_ours)
{
    if (!svq_has_feature(queue->dev->guest_features, VIRTIO_F_RING_PACKED)) {
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

bool svq_queue_describe_guest(SvqQueue *queue, VringConfig *config, GError **errp)
{
    SvqDevice *dev = queue->dev;
    const uint64_t features = dev->guest_features;
    SvqGuestRing ring;

    queue->guest_packed = svq_has_feature(features, VIRTIO_F_RING_PACKED);
    *config = (VringConfig){
        .num = queue->num,
        .packed = queue->guest_packed,
        .event_idx = svq_has_feature(features, VIRTIO_F_EVENT_IDX),
        .in_order = svq_has_feature(features, VIRTIO_F_IN_ORDER),
        .indirect = svq_has_feature(features, VIRTIO_F_INDIRECT_DESC),
        .base = svq_queue_decode_base(queue, queue->base, queue->base_is_ours),
        .identity = {
            .desc = queue->addr.desc,
            .driver = queue->addr.avail,
            .device = queue->addr.used,
            .base = svq_queue_decode_base(queue, queue->vmm_base, false),
        },
    };
    if (svq_queue_find_ring(queue, dev->map, &ring)) {
        config->areas = ring.areas;
        queue->desc_gpa = ring.desc_gpa;
        queue->driver_gpa = ring.driver_gpa;
        queue->device_gpa = ring.device_gpa;
        return true;
    }
    g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_FAULT,
                "%s queue %u: its ring is not within the guest's memory (descriptor area 0x%" PRIx64
                ", driver area 0x%" PRIx64 ", device area 0x%" PRIx64 ")",
                dev->id, queue->index, queue->addr.desc, queue->addr.avail, queue->addr.used);
    return false;
}

/* Enabled first: a device may drop what it finds in a ring that is started and disabled. */
int svq_queue_give_ring(SvqQueue *queue, GError **errp)
{
    VhostDevice *backend = queue->dev->backend;
    int ret = backend->ops->ring_enable(backend, queue->index, true, errp);

    return ret < 0 ? ret : backend->ops->ring_start(backend, queue->index, &queue->ring, errp);
}

/* Starts the shadow of the guest's ring that @config describes. */
static int start_forwarding(SvqQueue *queue, ShadowVirtqueueConfig *config, GError **errp)
{
    SvqDevice *dev = queue->dev;
    int ret = make_notifiers(queue);

    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "%s queue %u: no eventfd: %s", dev->id, queue->index, g_strerror(-ret));
        return ret;
    }
    config->ctx = iothread_get_aio_context(queue->iothread);
    config->map = &dev->map;
    config->broken = queue_broken;
    config->opaque = queue;
    queue->shadow_packed = svq_has_feature(dev->shadow_features, VIRTIO_F_RING_PACKED);
    if (svq_control_is(queue)) {
        svq_control_describe_ring(queue, config, &queue->ring);
    } else {
        svq_backend_describe_ring(queue, config, &queue->ring);
    }
    return shadow_virtqueue_start(queue->svq, config, errp);
}

/* Gives the device the ring of a shadow that has started. */
static int give_shadow_ring(SvqQueue *queue, GError **errp)
{
    VringBase unused;
    int ret = queue->dev->control.orphaned ? 0 : svq_queue_give_ring(queue, errp);

    if (ret < 0) {
        shadow_virtqueue_detach(queue->svq);
        shadow_virtqueue_stop(queue->svq, false, &unused);
    }
    return ret;
}

int svq_queue_start_alone(SvqQueue *queue, GError **errp)
{
    SvqControl *control = &queue->dev->control;
    ShadowVirtqueueConfig config = {
        .guest_kick_fd = control->quiet.fd,
        .guest_call_fd = -1,
        .guest_err_fd = -1,
    };
    int ret;

    svq_control_describe_no_guest(control, &config.guest);
    ret = start_forwarding(queue, &config, errp);
    if (ret == 0) {
        ret = give_shadow_ring(queue, errp);
    }
    if (ret == 0) {
        queue->started = queue->alone = true;
        queue->passthrough = queue->parted = false;
        g_info("%s queue %u: started for commands of our own", queue->dev->id, queue->index);
    }
    return ret;
}

static int start_shadow(SvqQueue *queue, const VringConfig *guest, GError **errp)
{
    SvqDevice *dev = queue->dev;
    ShadowVirtqueueConfig config = {
        .logging = &queue->logging,
        .guest = *guest,
        .guest_kick_fd = queue->kick.fd,
        .guest_call_fd = queue->call.fd,
        .guest_err_fd = queue->err.fd,
    };
    int ret;

    config.held = svq_control_shall_hold(queue);
    config.guest.inflight = svq_inflight_get(dev->inflight, queue->index, queue->num);
    ret = start_forwarding(queue, &config, errp);
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
    return give_shadow_ring(queue, errp);
}

/* The guest's own ring, where the device calls the guest's addresses what the guest does. */
static int start_passthrough(SvqQueue *queue, const VringConfig *guest, GError **errp)
{
    SvqDevice *dev = queue->dev;
    VringError error;

    if (vring_config_check(guest, &error) < 0) {
        g_autofree char *words = vring_error_to_string(&error);

        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s queue %u: ring of the guest: %s",
                    dev->id, queue->index, words);
        return -EINVAL;
    }
    queue->ring = (VhostRing){
        .num = queue->num,
        .base = guest->base,
        .areas = guest->areas,
        .desc_iova = queue->desc_gpa,
        .driver_iova = queue->driver_gpa,
        .device_iova = queue->device_gpa,
        .kick_fd = queue->kick.fd,
        .call_fd = queue->call.fd,
        .ctx = iothread_get_aio_context(queue->iothread),
    };
    queue->shadow_packed = queue->guest_packed;
    /* Nobody keeps it while the device goes on. */
    svq_inflight_clear(dev->inflight, queue->index);
    return svq_queue_give_ring(queue, errp);
}

int svq_queue_start(SvqQueue *queue, GError **errp)
{
    SvqDevice *dev = queue->dev;
    const bool passthrough = dev->passthrough && !dev->only_shadow && !svq_control_is(queue);
    VringConfig guest;
    int ret;

    if (!svq_queue_describe_guest(queue, &guest, errp)) {
        return -EFAULT;
    }
    if (queue->logging) {
        svq_device_update_logging(dev);     /* its place is known now */
    }
    ret = passthrough ? start_passthrough(queue, &guest, errp) : start_shadow(queue, &guest, errp);
    if (ret < 0) {
        return ret;
    }
    queue->started = queue->was_started = true;
    queue->told_base = -1;
    queue->base_is_new = false;
    queue->passthrough = passthrough;
    g_info("%s queue %u: started, guest %s, device %s, %" PRIu32 " descriptors, %s %s", dev->id,
           queue->index, queue->guest_packed ? "packed" : "split",
           queue->shadow_packed ? "packed" : "split", queue->num,
           passthrough ? "passed" : "in", passthrough ? "through" : iothread_get_id(queue->iothread));
    return 0;
}

/* Where the guest's ring stands after the device has had it.  @told: the device has said it. */
static uint32_t find_passthrough_base(SvqQueue *queue, bool told)
{
    const bool net = queue->dev->backend->device_type == VIRTIO_ID_NET;
    VringBase base = told ? queue->told : queue->ring.base;
    VringError error = { 0 };
    VringConfig config;
    int ret;

    if (!svq_queue_describe_guest(queue, &config, NULL) ||
        vring_config_check(&config, &error) < 0) {
        return encode_base(queue, base);      /* there is no ring to be read any more */
    }
    ret = told ? vring_takeover(&config, queue->told, net, &base, &error)
               : vring_takeover_untold(&config, queue->ring.base, &base, &error);
    if (ret < 0) {
        g_autofree char *words = vring_error_to_string(&error);

        g_warning("%s queue %u: where it goes on is uncertain: %s", queue->dev->id, queue->index,
                  words);
        queue->base_lost = true;
    }
    return encode_base(queue, base);
}

void svq_queue_update_base(SvqQueue *queue)
{
    if (queue->base_untold && !queue->base_lost) {
        queue->base = find_passthrough_base(queue, false);
    }
}

static void stop_passthrough(SvqQueue *queue, bool told)
{
    SvqDevice *dev = queue->dev;

    queue->base = find_passthrough_base(queue, told);
    if (dev->unseen) {
        svq_device_log_unseen(dev);
    }
}

static void stop_shadow(SvqQueue *queue, bool device_lost)
{
    VringBase base;

    shadow_virtqueue_stop(queue->svq, device_lost, &base);
    queue->base = encode_base(queue, base);
}

void svq_queue_settle(SvqQueue *queue, bool told, bool lost)
{
    svq_control_stopping(queue);
    if (queue->alone) {
        VringBase unused;

        shadow_virtqueue_stop(queue->svq, lost, &unused);
        queue->started = queue->alone = queue->parted = false;
        return;
    }
    if (queue->passthrough) {
        stop_passthrough(queue, told);
    } else {
        stop_shadow(queue, lost);
    }
    queue->base_is_ours = true;
    queue->base_untold = queue->passthrough && lost && !told;
    queue->started = queue->parted = false;
    g_info("%s queue %u: stopped at 0x%" PRIx32, queue->dev->id, queue->index, queue->base);
}

void svq_queue_kick_device(SvqQueue *queue)
{
    if (queue->passthrough) {
        event_notifier_set(&queue->kick);
    } else {
        shadow_virtqueue_kick_device(queue->svq);
    }
}

void svq_queue_notify_both(SvqQueue *queue)
{
    svq_queue_kick_device(queue);
    event_notifier_set(&queue->call);
}
