/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loopback device as a VhostDevice: configuration, features, starting and stopping of its
 * queues, and what the commands of its control queue mean; loopback-pair.c moves the packets,
 * loopback-ctrl.c carries the commands.
 *
 * How it works.  @active_pairs is written by the main thread before rings start and then by
 * the control queue's thread; each pair reads it for each packet.  A pair's read lies within a
 * callback of its loop, so a grace period after the number has shrunk no packet is under way
 * any more to a queue that is out of use.  A VMM that keeps the control queue to itself (QEMU)
 * does not negotiate CTRL_VQ with us: it enables and disables queues instead.
 */
#include "hw/net/loopback.h"

#include <errno.h>
#include <string.h>

#include "hw/virtio/features.h"
#include "loopback-ctrl.h"
#include "loopback-pair.h"

/* vhost-user messages can name 256 virtqueues, and one is the control queue. */
#define LOOPBACK_MAX_PAIRS 127

#define VIRTIO_NET_S_LINK_UP 1

/* Commands of the control queue (5.1.6.5). */
#define VIRTIO_NET_CTRL_MQ 4
#define VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET 0

/* struct virtio_net_config (5.1.4); fields that no offered feature covers are zero. */
typedef struct LoopbackConfigSpace {
    uint8_t mac[6];
    uint16_t status;                /* little-endian, all of them */
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
    uint32_t speed;
    uint8_t duplex;
    uint8_t rss[7];
} LoopbackConfigSpace;

G_STATIC_ASSERT(sizeof(LoopbackConfigSpace) == 24);

typedef struct Loopback {
    VhostDevice dev;
    LoopbackConfigSpace config;
    IOThread *iothread;
    uint64_t features;              /* negotiated */
    const MemoryMap *map;           /* published to the pairs by RCU */
    LoopbackPair *pairs;
    unsigned int n_pairs;
    atomic_uint active_pairs;
    LoopbackCtrl ctrl;
} Loopback;

static bool has_feature(const Loopback *lo, unsigned int bit)
{
    return lo->features & VIRTIO_F_BIT(bit);
}

/* Before the driver has said how many pairs it uses, it is one (5.1.6.5.6). */
static unsigned int pairs_at_start(const Loopback *lo)
{
    return has_feature(lo, VIRTIO_NET_F_CTRL_VQ) && has_feature(lo, VIRTIO_NET_F_MQ) ? 1
                                                                                      : lo->n_pairs;
}

static int loopback_set_features(VhostDevice *dev, uint64_t features, GError **errp)
{
    Loopback *lo = (Loopback *)dev;

    if (features & ~dev->features) {
        g_autofree char *names = virtio_features_to_string(features & ~dev->features);

        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: features not offered: %s",
                    dev->id, names);
        return -EINVAL;
    }
    lo->features = features;
    atomic_store_explicit(&lo->active_pairs, pairs_at_start(lo), memory_order_relaxed);
    return 0;
}

static int loopback_set_memory(VhostDevice *dev, const MemoryMap *map, GError **errp)
{
    Loopback *lo = (Loopback *)dev;

    rcu_assign_pointer(lo->map, map);
    return 0;
}

static int loopback_set_status(VhostDevice *dev, uint8_t status, GError **errp)
{
    return 0;       /* a ring works from its start on */
}

/* 5.1.2: behind all pairs that there are, and without MQ there is one. */
static bool is_ctrl(const Loopback *lo, unsigned int index)
{
    return has_feature(lo, VIRTIO_NET_F_CTRL_VQ) &&
           index == 2 * (has_feature(lo, VIRTIO_NET_F_MQ) ? lo->n_pairs : 1);
}

static LoopbackPair *pair_of(Loopback *lo, unsigned int index)
{
    return index / 2 < lo->n_pairs ? &lo->pairs[index / 2] : NULL;
}

/* In the control queue's thread. */
static bool set_active_pairs(Loopback *lo, unsigned int n)
{
    if (!has_feature(lo, VIRTIO_NET_F_MQ) || n < 1 || n > lo->n_pairs) {
        return false;
    }
    if (n < atomic_exchange_explicit(&lo->active_pairs, n, memory_order_relaxed)) {
        /* Once the command is answered nothing may come on the other queues (5.1.6.5.6). */
        synchronize_rcu();
    }
    return true;
}

static bool execute(void *opaque, const uint8_t *command, unsigned int n)
{
    if (command[0] == VIRTIO_NET_CTRL_MQ && command[1] == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET &&
        n == 4) {
        return set_active_pairs(opaque, command[2] | (unsigned int)command[3] << 8);
    }
    return false;
}

static int loopback_ring_start(VhostDevice *dev, unsigned int index, const VhostRing *ring,
                               GError **errp)
{
    Loopback *lo = (Loopback *)dev;
    AioContext *ctx = lo->iothread ? iothread_get_aio_context(lo->iothread) : ring->ctx;
    LoopbackPair *pair = pair_of(lo, index);
    const VringConfig config = {
        .num = ring->num,
        .packed = has_feature(lo, VIRTIO_F_RING_PACKED),
        .event_idx = has_feature(lo, VIRTIO_F_EVENT_IDX),
        .in_order = has_feature(lo, VIRTIO_F_IN_ORDER),
        .indirect = has_feature(lo, VIRTIO_F_INDIRECT_DESC),
        .areas = ring->areas,
        .base = ring->base,
    };

    if (is_ctrl(lo, index)) {
        return loopback_ctrl_start(&lo->ctrl, ctx, &config, ring->kick_fd, ring->call_fd, errp);
    }
    if (!pair) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: no virtqueue %u", dev->id, index);
        return -EINVAL;
    }
    /* num_buffers is there with MRG_RXBUF and always with VERSION_1 (5.1.6). */
    pair->merge = has_feature(lo, VIRTIO_NET_F_MRG_RXBUF);
    pair->header_size = pair->merge || has_feature(lo, VIRTIO_F_VERSION_1) ? 12 : 10;
    return loopback_pair_start_ring(pair, index % 2, ctx, &config, ring->kick_fd, ring->call_fd,
                                    errp);
}

static int loopback_ring_enable(VhostDevice *dev, unsigned int index, bool enable, GError **errp)
{
    Loopback *lo = (Loopback *)dev;
    LoopbackPair *pair = pair_of(lo, index);

    if (is_ctrl(lo, index)) {
        loopback_ctrl_enable(&lo->ctrl, enable);
    } else if (pair) {
        loopback_pair_enable_ring(pair, index % 2, enable);
    }
    return 0;
}

static int loopback_ring_stop(VhostDevice *dev, unsigned int index, VringBase *base,
                              GError **errp)
{
    Loopback *lo = (Loopback *)dev;
    LoopbackPair *pair = pair_of(lo, index);

    if (is_ctrl(lo, index)) {
        loopback_ctrl_stop(&lo->ctrl, base);
    } else if (pair) {
        loopback_pair_stop_ring(pair, index % 2, base);
    }
    return 0;
}

static int loopback_ring_set_fd(VhostDevice *dev, unsigned int index, VhostRingFd which, int fd,
                                GError **errp)
{
    Loopback *lo = (Loopback *)dev;

    if (is_ctrl(lo, index)) {
        return loopback_ctrl_set_fd(&lo->ctrl, which, fd, errp);
    }
    return loopback_pair_set_fd(pair_of(lo, index), index % 2, which, fd, errp);
}

static bool config_holds(uint32_t offset, uint32_t size)
{
    return offset <= sizeof(LoopbackConfigSpace) && size <= sizeof(LoopbackConfigSpace) - offset;
}

static int loopback_get_config(VhostDevice *dev, void *data, uint32_t offset, uint32_t size,
                               GError **errp)
{
    Loopback *lo = (Loopback *)dev;

    if (!config_holds(offset, size)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: configuration space has no bytes %" G_GUINT32_FORMAT
                    " to %" G_GUINT32_FORMAT,
                    dev->id, offset, offset + size);
        return -EINVAL;
    }
    memcpy(data, (const uint8_t *)&lo->config + offset, size);
    return 0;
}

static int loopback_set_config(VhostDevice *dev, const void *data, uint32_t offset, uint32_t size,
                               GError **errp)
{
    /* Of the fields we have, a driver of a modern device may write none (5.1.4.2). */
    g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_ACCES, "%s: configuration space is read-only",
                dev->id);
    return -EACCES;
}

/* There are no switches between the guest and itself. */
static int loopback_send_rarp(VhostDevice *dev, uint64_t mac, GError **errp)
{
    return 0;
}

static int loopback_reset(VhostDevice *dev, GError **errp)
{
    Loopback *lo = (Loopback *)dev;
    unsigned int i;

    loopback_ctrl_stop(&lo->ctrl, NULL);
    for (i = 0; i < 2 * lo->n_pairs; i++) {
        loopback_pair_stop_ring(&lo->pairs[i / 2], i % 2, NULL);
    }
    lo->features = 0;
    return 0;
}

static void loopback_free(VhostDevice *dev)
{
    Loopback *lo = (Loopback *)dev;

    loopback_reset(dev, NULL);
    g_clear_pointer(&lo->iothread, iothread_unref);
    g_free(lo->pairs);
    g_free(dev->id);
    g_free(lo);
}

static const VhostDeviceOps loopback_ops = {
    .type = "loopback",
    .set_features = loopback_set_features,
    .set_memory = loopback_set_memory,
    .set_status = loopback_set_status,
    .ring_start = loopback_ring_start,
    .ring_enable = loopback_ring_enable,
    .ring_stop = loopback_ring_stop,
    .ring_set_fd = loopback_ring_set_fd,
    .get_config = loopback_get_config,
    .set_config = loopback_set_config,
    .send_rarp = loopback_send_rarp,
    .reset = loopback_reset,
    .free = loopback_free,
};

static bool config_check(const LoopbackConfig *config, GError **errp)
{
    if (config->queue_pairs < 1 || config->queue_pairs > LOOPBACK_MAX_PAIRS) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "'queue-pairs' is %" G_GUINT32_FORMAT ", must be 1 to %d",
                    config->queue_pairs, LOOPBACK_MAX_PAIRS);
        return false;
    }
    if (config->mtu < 68) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "'mtu' is %u, must be 68 to 65535 bytes", config->mtu);
        return false;
    }
    if (config->mac[0] & 1) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "'mac' is a multicast address, must be a unicast one");
        return false;
    }
    return true;
}

VhostDevice *loopback_new(const LoopbackConfig *config, GError **errp)
{
    Loopback *lo;
    unsigned int i;

    if (!config_check(config, errp)) {
        return NULL;
    }
    lo = g_new0(Loopback, 1);
    lo->dev = (VhostDevice){
        .ops = &loopback_ops,
        .id = g_strdup(config->id),
        .connected = true,
        .has_config = true,
        .has_rarp = true,
        .tells_base = true,
        .device_type = VIRTIO_ID_NET,
        .features = VIRTIO_F_BIT(VIRTIO_NET_F_MAC) | VIRTIO_F_BIT(VIRTIO_NET_F_MTU) |
                    VIRTIO_F_BIT(VIRTIO_NET_F_STATUS) | VIRTIO_F_BIT(VIRTIO_NET_F_MRG_RXBUF) |
                    VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC) |
                    VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) | VIRTIO_F_BIT(VIRTIO_F_VERSION_1) |
                    VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_F_BIT(VIRTIO_F_IN_ORDER),
        .queue_count = 2 * config->queue_pairs + 1,
        .max_regions = MEMORY_MAP_MAX_REGIONS,
    };
    if (config->queue_pairs > 1) {
        lo->dev.features |= VIRTIO_F_BIT(VIRTIO_NET_F_MQ);
    }
    lo->config = (LoopbackConfigSpace){
        .status = htole16(VIRTIO_NET_S_LINK_UP),
        .max_virtqueue_pairs = htole16((uint16_t)config->queue_pairs),
        .mtu = htole16(config->mtu),
        .speed = htole32(UINT32_MAX),   /* unknown */
        .duplex = UINT8_MAX,
    };
    memcpy(lo->config.mac, config->mac, sizeof(lo->config.mac));
    lo->iothread = config->iothread ? iothread_ref(config->iothread) : NULL;
    lo->n_pairs = config->queue_pairs;
    lo->active_pairs = lo->n_pairs;
    lo->pairs = g_new0(LoopbackPair, lo->n_pairs);
    for (i = 0; i < lo->n_pairs; i++) {
        lo->pairs[i].name = lo->dev.id;
        lo->pairs[i].index = i;
        lo->pairs[i].map = &lo->map;
        lo->pairs[i].active_pairs = &lo->active_pairs;
        lo->pairs[i].echo = config->icmp_echo;
    }
    lo->ctrl.name = lo->dev.id;
    lo->ctrl.map = &lo->map;
    lo->ctrl.execute = execute;
    lo->ctrl.opaque = lo;
    return &lo->dev;
}
