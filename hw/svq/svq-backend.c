/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side as a whole: its features, its memory, and the arena with the shadow rings.
 *
 * How it works.  The first queue that starts starts the device side: features, memory.  The
 * memory that the device gets is the guest's and the arena with all shadow rings (svq-iova.c says
 * where).  The guest's addresses are looked up in the guest's memory alone, so it cannot name
 * the arena.
 *
 * The arena is one sparse memory file with room for each virtqueue that the device can
 * have, so that queues may come and go, and pass through or not, without the device being told
 * of new memory.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hw/virtio/vring-driver.h"

/* Shadow rings have room for this many descriptors even if the guest's are shorter. */
#define ARENA_MIN_NUM 1024

/* Where the parts of a virtqueue lie in its share of the arena, bytes. */
typedef struct ArenaLayout {
    uint64_t desc, driver, device, tables, size;
} ArenaLayout;

static uint64_t page_align(uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) & ~(page - 1);
}

/* Device-readable and device-writable areas on pages of their own. */
static ArenaLayout arena_layout(uint32_t num, bool packed, bool indirect)
{
    ArenaLayout layout = { .driver = vring_desc_size(num) };

    layout.device = page_align(layout.driver + vring_driver_size(num, packed));
    layout.tables = page_align(layout.device + vring_device_size(num, packed));
    layout.size = layout.tables;
    if (indirect) {
        layout.size += page_align(num * VRING_INDIRECT_MAX * sizeof(VringDesc));
    }
    return layout;
}

static uint32_t power_of_two(uint32_t num)
{
    uint32_t power = 1;

    while (power < num) {
        power *= 2;
    }
    return power;
}

/* Descriptors that each queue's share has room for. */
static uint32_t choose_arena_num(const SvqDevice *dev)
{
    uint32_t num = MAX(ARENA_MIN_NUM, dev->queue_size);
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        num = MAX(num, dev->queues[i].num);
    }
    return power_of_two(num);
}

MemoryRegion *svq_backend_new_region(const SvqDevice *dev, uint64_t size, GError **errp)
{
    uint64_t iova;
    int fd, ret = svq_iova_place_arena(dev, size, &iova);

    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "%s: no room for the shadow rings beside the guest's memory", dev->id);
        return NULL;
    }
    /* Sealed, or a device could shrink it under us. */
    fd = memfd_create("svq-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        ret = -errno;
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "%s: no memory for the shadow rings: %s", dev->id, g_strerror(-ret));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    return memory_region_new(fd, 0, iova, size, iova, errp);
}

/* The control queue's ring lies elsewhere, if we look into it. */
static int create_arena(SvqDevice *dev, GError **errp)
{
    const uint32_t num = choose_arena_num(dev);
    const uint64_t stride = MAX(arena_layout(num, false, true).size,
                                arena_layout(num, true, true).size);

    dev->arena = svq_backend_new_region(dev, stride * dev->n_queues, errp);
    if (!dev->arena) {
        return -ENOMEM;
    }
    dev->arena->rings = true;
    dev->arena_stride = stride;
    dev->arena_num = num;
    return 0;
}

MemoryMap *svq_backend_make_map(const SvqDevice *dev, const MemoryMap *guest, GError **errp)
{
    g_autofree MemoryRegion **regions = g_new(MemoryRegion *, guest->n + 2);
    unsigned int i;

    for (i = 0; i < guest->n; i++) {
        regions[i] = guest->regions[i];
    }
    if (dev->arena) {
        regions[i++] = dev->arena;
    }
    if (dev->control.region) {
        regions[i++] = dev->control.region;
    }
    if (i > dev->backend->max_regions) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: %u memory regions (%u are ours), but the device takes %u", dev->id, i,
                    i - guest->n, dev->backend->max_regions);
        return NULL;
    }
    return memory_map_new(regions, i, errp);
}

static uint64_t choose(OnOffAuto wish, unsigned int bit, uint64_t possible)
{
    return wish == ON_OFF_AUTO_OFF ? 0 : possible & VIRTIO_F_BIT(bit);
}

static bool choose_shadow_features(SvqDevice *dev, GError **errp)
{
    const SvqRingFeatures *wish = &dev->shadow;
    const uint64_t device_bits = virtio_features_mask(VIRTIO_FEATURE_DEVICE) &
                                 ~svq_control_own_features(dev);
    const uint64_t possible = virtio_features_close(
        (dev->backend->features & ~device_bits) | (dev->guest_features & device_bits));
    const uint64_t must =
        (wish->packed == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0) |
        (wish->event_idx == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0) |
        (wish->indirect_desc == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC) : 0) |
        (wish->in_order == ON_OFF_AUTO_ON ? VIRTIO_F_BIT(VIRTIO_F_IN_ORDER) : 0);
    uint64_t features;

    if (must & ~possible) {
        g_autofree char *names = virtio_features_to_string(must & ~possible);

        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: asked to be on, but the device (or a guest without VERSION_1) has not: %s",
                    dev->id, names);
        return false;
    }
    features = (dev->guest_features & device_bits) |
               choose(wish->packed, VIRTIO_F_RING_PACKED, possible) |
               choose(wish->event_idx, VIRTIO_F_EVENT_IDX, possible) |
               choose(wish->indirect_desc, VIRTIO_F_INDIRECT_DESC, possible) |
               choose(wish->in_order, VIRTIO_F_IN_ORDER, possible) |
               (possible & VIRTIO_F_BIT(VIRTIO_F_NOTIFICATION_DATA));
    /*
     * Not unasked in packed rings: DPDK's vhost (seen: 22.11) writes short packets into the
     * table itself where it finds one in a packed receive queue.
     */
    if (wish->indirect_desc == ON_OFF_AUTO_AUTO && svq_has_feature(features, VIRTIO_F_RING_PACKED)) {
        features &= ~VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC);
    }
    dev->shadow_features = features;
    return true;
}

void svq_backend_forget(SvqDevice *dev)
{
    g_clear_pointer(&dev->device_map, memory_map_free);
    g_clear_pointer(&dev->arena, memory_region_unref);
    svq_control_forget(dev);
    dev->device_started = dev->device_driver_ok = false;
}

int svq_backend_start(SvqDevice *dev, GError **errp)
{
    VhostDevice *backend = dev->backend;
    uint64_t lost;
    int ret;

    if (dev->mode != SVQ_MODE_SHADOW) {
        /* The device has the guest's rings at one time and ours at another. */
        dev->shadow_features = dev->guest_features & ~svq_control_own_features(dev);
    } else if (!choose_shadow_features(dev, errp)) {
        return -EINVAL;
    }
    dev->shadow_features |= svq_control_bridge_features(dev, dev->guest_features);
    lost = dev->shadow_features & ~backend->features;
    if (lost) {
        g_autofree char *names = virtio_features_to_string(lost);

        /* It came back with less, and the VMM has not begun anew. */
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: the guest uses what the device does not have any more: %s", dev->id, names);
        return -EINVAL;
    }
    ret = dev->mode == SVQ_MODE_PASSTHROUGH ? 0 : create_arena(dev, errp);
    if (ret == 0) {
        ret = svq_control_prepare(dev, errp);
    }
    if (ret == 0) {
        ret = backend->ops->set_features(backend, dev->shadow_features, errp);
    }
    if (ret == 0) {
        svq_control_choose(dev);
        dev->device_map = svq_backend_make_map(dev, dev->map, errp);
        ret = dev->device_map ? 0 : -EINVAL;
    }
    if (ret == 0) {
        ret = backend->ops->set_memory(backend, dev->device_map, errp);
    }
    if (ret == 0) {
        ret = backend->ops->set_status(
            backend, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK,
            errp);
    }
    if (ret < 0) {
        svq_backend_forget(dev);
        return ret;
    }
    dev->device_started = true;
    return 0;
}

int svq_backend_forgive_gone(const SvqDevice *dev, int ret, GError **errp)
{
    if (ret == 0 || dev->backend->connected) {
        return ret;
    }
    g_clear_error(errp);
    return 0;
}

/* A VMM that does not speak of the status means: as soon as a queue runs. */
static bool driver_is_ok(const SvqDevice *dev)
{
    return vhost_user_server_has_status(dev->server) ? dev->status & VIRTIO_STATUS_DRIVER_OK
                                                     : svq_device_any_started(dev) ||
                                                           svq_control_is_started(dev);
}

int svq_device_driver_ok_now(SvqDevice *dev, GError **errp)
{
    unsigned int i;
    int ret;

    if (!dev->device_started || dev->device_driver_ok || !driver_is_ok(dev)) {
        return 0;
    }
    ret = svq_control_start_alone(dev, errp);
    dev->backend->later_rings_ours = !dev->passthrough || dev->only_shadow;
    if (ret == 0) {
        ret = dev->backend->ops->set_status(
            dev->backend, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                              VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK,
            errp);
    }
    dev->device_driver_ok = ret == 0;
    /* Before this it need not have listened (3.1.1). */
    for (i = 0; i < dev->n_queues && ret == 0; i++) {
        if (dev->queues[i].started) {
            svq_queue_kick_device(&dev->queues[i]);
        }
    }
    if (ret == 0) {
        svq_control_begin(dev);
    }
    return svq_backend_forgive_gone(dev, ret, errp);
}

int svq_device_driver_ok(SvqDevice *dev, GError **errp)
{
    if (!dev->backend->rings_fixed) {
        return svq_device_driver_ok_now(dev, errp);
    }
    svq_device_settle_later(dev);
    return 0;
}

uint32_t svq_backend_max_num(const SvqQueue *queue)
{
    VhostDevice *backend = queue->dev->backend;

    return backend->ops->ring_max_num ? backend->ops->ring_max_num(backend, queue->index) : 0;
}

/* A guest's ring that was not known when the arena was made may have to do with a shorter one. */
static uint32_t shadow_num(const SvqQueue *queue)
{
    const SvqDevice *dev = queue->dev;
    const uint32_t max = svq_backend_max_num(queue);
    uint32_t num = dev->queue_size ? dev->queue_size : MIN(queue->num, dev->arena_num);

    if (max || !queue->shadow_packed) {
        num = power_of_two(num);
    }
    return max ? MIN(num, max) : num;
}

const char *svq_backend_refuses_guest_ring(const SvqQueue *queue)
{
    const uint32_t max = svq_backend_max_num(queue);

    if (max && queue->num > max) {
        return "the device takes shorter rings only";
    }
    return max && queue->num & (queue->num - 1)
               ? "the device takes rings only whose size is a power of two" : NULL;
}

void svq_backend_describe_device(const SvqQueue *queue, ShadowVirtqueueConfig *config)
{
    const SvqDevice *dev = queue->dev;
    VhostDevice *backend = dev->backend;
    const uint64_t features = dev->shadow_features;

    config->shadow = (VringConfig){
        .packed = queue->shadow_packed,
        .event_idx = svq_has_feature(features, VIRTIO_F_EVENT_IDX),
        .in_order = svq_has_feature(features, VIRTIO_F_IN_ORDER),
        .base = vring_base_start(queue->shadow_packed),
    };
    config->device_kick_fd = queue->device_kick.fd;
    config->device_call_fd = queue->device_call.fd;
    config->index = (uint16_t)queue->index;
    config->notification_data = svq_has_feature(features, VIRTIO_F_NOTIFICATION_DATA);
    config->doorbell = backend->ops->ring_doorbell && backend->connected
                           ? backend->ops->ring_doorbell(backend, queue->index) : NULL;
}

void svq_backend_describe_ring(const SvqQueue *queue, ShadowVirtqueueConfig *config,
                               VhostRing *ring)
{
    const SvqDevice *dev = queue->dev;
    const uint64_t features = dev->shadow_features;
    const uint64_t share = queue->index * dev->arena_stride;
    const uint64_t iova = dev->arena->iova + share;
    const uint32_t num = shadow_num(queue);
    const bool indirect = svq_has_feature(features, VIRTIO_F_INDIRECT_DESC) &&
                          !dev->backend->rings_apart;
    const ArenaLayout layout = arena_layout(num, queue->shadow_packed, indirect);
    uint8_t *host = dev->arena->host + share;

    svq_backend_describe_device(queue, config);
    config->shadow.num = num;
    config->shadow.indirect = indirect;
    config->shadow.areas = (VringAreas){ host + layout.desc, host + layout.driver,
                                         host + layout.device };
    config->tables = indirect ? (VringDesc *)(host + layout.tables) : NULL;
    config->tables_iova = iova + layout.tables;

    *ring = (VhostRing){
        .num = num,
        .base = config->shadow.base,
        .areas = config->shadow.areas,
        .desc_iova = iova + layout.desc,
        .driver_iova = iova + layout.driver,
        .device_iova = iova + layout.device,
        .kick_fd = queue->device_kick.fd,
        .call_fd = queue->device_call.fd,
        .ctx = iothread_get_aio_context(queue->iothread),
    };
}

bool svq_backend_has_outgrown_arena(const SvqDevice *dev)
{
    return dev->arena && choose_arena_num(dev) > dev->arena_num;
}
