/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting and stopping a queue, and changing the memory under those that run.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"
#include "hw/virtio/vring-takeover.h"

#include <errno.h>
#include <inttypes.h>

/*
 * A VMM says what it has to say of its queues one by one, and a restart of the device for each would
 * cost more than this.  Nothing else depends on it.
 */
#define SETTLE_MS           5
#define SETTLE_STOPPED_MS   50      /* one stop is rarely the last */

/* Where a guest's ring lies: for us, and for the guest. */
typedef struct GuestRing {
    VringAreas areas;
    uint64_t desc_gpa, driver_gpa, device_gpa;
} GuestRing;

/* The guest's rings are named by the VMM's user addresses (vhost-user, SET_VRING_ADDR). */
static bool find_guest_ring(const SvqQueue *queue, const MemoryMap *map, GuestRing *ring)
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

uint32_t svq_queue_encode_base(const SvqQueue *queue, VringBase base)
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
    GuestRing ring;

    queue->guest_packed = svq_has_feature(features, VIRTIO_F_RING_PACKED);
    *config = (VringConfig){
        .num = queue->num,
        .packed = queue->guest_packed,
        .event_idx = svq_has_feature(features, VIRTIO_F_EVENT_IDX),
        .in_order = svq_has_feature(features, VIRTIO_F_IN_ORDER),
        .indirect = svq_has_feature(features, VIRTIO_F_INDIRECT_DESC),
        .base = decode_base(queue, queue->base, queue->base_is_ours),
        .identity = {
            .desc = queue->addr.desc,
            .driver = queue->addr.avail,
            .device = queue->addr.used,
            .base = decode_base(queue, queue->vmm_base, false),
        },
    };
    if (find_guest_ring(queue, dev->map, &ring)) {
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
static int give_ring(SvqQueue *queue, GError **errp)
{
    VhostDevice *backend = queue->dev->backend;
    int ret = backend->ops->ring_enable(backend, queue->index, true, errp);

    return ret < 0 ? ret : backend->ops->ring_start(backend, queue->index, &queue->ring, errp);
}

static int start_shadow(SvqQueue *queue, const VringConfig *guest, GError **errp)
{
    SvqDevice *dev = queue->dev;
    ShadowVirtqueueConfig config = {
        .ctx = iothread_get_aio_context(queue->iothread),
        .map = &dev->map,
        .logging = &queue->logging,
        .guest = *guest,
        .guest_kick_fd = queue->kick.fd,
        .guest_call_fd = queue->call.fd,
        .guest_err_fd = queue->err.fd,
        .broken = queue_broken,
        .opaque = queue,
    };
    VringBase unused;
    int ret = make_notifiers(queue);

    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "%s queue %u: no eventfd: %s", dev->id, queue->index, g_strerror(-ret));
        return ret;
    }
    queue->shadow_packed = svq_has_feature(dev->shadow_features, VIRTIO_F_RING_PACKED);
    config.guest.inflight = svq_inflight_get(dev->inflight, queue->index, queue->num);
    svq_backend_describe_ring(queue, &config, &queue->ring);
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
    ret = give_ring(queue, errp);
    if (ret < 0) {
        shadow_virtqueue_detach(queue->svq);
        shadow_virtqueue_stop(queue->svq, false, &unused);
    }
    return ret;
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
    return give_ring(queue, errp);
}

int svq_queue_start(SvqQueue *queue, GError **errp)
{
    SvqDevice *dev = queue->dev;
    const bool passthrough = dev->passthrough && !dev->only_shadow;
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
    queue->passthrough = passthrough;
    g_info("%s queue %u: started, guest %s, device %s, %" PRIu32 " descriptors, %s %s", dev->id,
           queue->index, queue->guest_packed ? "packed" : "split",
           queue->shadow_packed ? "packed" : "split", queue->num,
           passthrough ? "passed" : "in", passthrough ? "through" : iothread_get_id(queue->iothread));
    return 0;
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
    if (ret == 0) {
        ret = svq_mode_check(queue, errp);
    }
    if (ret == 0) {
        ret = svq_queue_start(queue, errp);
    }
    return ret < 0 ? ret : svq_device_driver_ok(dev, errp);
}

/* Whether it is to be started, and nothing that it needs is missing. */
static bool is_due(const SvqQueue *queue)
{
    const SvqDevice *dev = queue->dev;

    return !queue->started && !queue->refused && dev->backend->connected && dev->features_set &&
           dev->map->n && queue->num && queue->addr_set && queue->kick_set && queue->enabled;
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
}

void svq_queue_update(SvqQueue *queue)
{
    SvqDevice *dev = queue->dev;
    g_autoptr(GError) error = NULL;

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
    if (start_queue(queue, &error) == 0) {
        svq_mode_update(dev);   /* if it has something that cannot pass through */
        return;
    }
    svq_queue_stop(queue);      /* if only the last step has failed */
    if (dev->backend->connected) {      /* else it is tried again when that is back */
        svq_queue_refuse(queue, error);
    }
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
        return svq_queue_encode_base(queue, base);      /* there is no ring to be read any more */
    }
    ret = told ? vring_takeover(&config, queue->told, net, &base, &error)
               : vring_takeover_untold(&config, queue->ring.base, &base, &error);
    if (ret < 0) {
        g_autofree char *words = vring_error_to_string(&error);

        g_warning("%s queue %u: where it goes on is uncertain: %s", queue->dev->id, queue->index,
                  words);
        queue->base_lost = true;
    }
    return svq_queue_encode_base(queue, base);
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
    queue->base = svq_queue_encode_base(queue, base);
}

/*
 * The device does not touch the ring any more, and a shadow is detached.  @told: it has said where
 * the ring stands; @lost: it is gone, and nobody knows.
 */
static void settle_queue(SvqQueue *queue, bool told, bool lost)
{
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

void svq_queue_settle(SvqQueue *queue)
{
    settle_queue(queue, true, false);
}

static void detach_queue(SvqQueue *queue)
{
    if (!queue->passthrough && !queue->parted) {
        shadow_virtqueue_detach(queue->svq);
    }
}

/* Takes one ring from a device that lets go of it alone.  False: it does not, and has to be reset. */
static bool stop_queue(SvqQueue *queue)
{
    VhostDevice *backend = queue->dev->backend;
    g_autoptr(GError) error = NULL;
    bool lost = !backend->connected;

    if (!queue->started) {
        return true;
    }
    detach_queue(queue);
    if (!lost && !queue->parted &&
        backend->ops->ring_stop(backend, queue->index, &queue->told, &error) < 0) {
        g_warning("%s queue %u: %s", queue->dev->id, queue->index, error->message);
        if (backend->connected) {
            return false;
        }
        lost = true;
    }
    settle_queue(queue, (!lost && backend->tells_base) || queue->parted, lost);
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
            settle_queue(&dev->queues[i], dev->queues[i].parted, lost);
        }
    }
}

/* Takes all rings from a device that lets go of them by a reset alone. */
static void stop_fixed(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started) {
            detach_queue(&dev->queues[i]);
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
    for (i = 0; i < dev->n_queues; i++) {
        svq_queue_update(&dev->queues[i]);
    }
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
    if (give_ring(queue, &error) < 0) {
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

    if (queue->started && svq_mode_check(queue, &error) < 0) {
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
    GuestRing new;

    return !find_guest_ring(queue, map, &new) || new.areas.desc != old->areas.desc ||
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
    for (i = 0; i < dev->n_queues; i++) {
        if (dev->queues[i].started) {
            detach_queue(&dev->queues[i]);
        }
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
