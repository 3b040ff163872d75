/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loopback device as a VhostDevice: configuration, features, starting and stopping of its
 * queues; loopback-pair.c moves the packets, loopback-ctrl.c carries the commands of its control
 * queue, loopback-commands.c obeys them.
 *
 * How it works.  A receive queue belongs to one thread, and RSS lets any pair receive on any
 * other's: where it is negotiated all pairs run in one thread, that of the ring which is started
 * first.
 */
#include "hw/net/loopback.h"

#include <errno.h>
#include <string.h>

#include "hw/virtio/features.h"
#include "loopback-ctrl.h"
#include "loopback-pair.h"

#define VIRTIO_NET_S_LINK_UP 1

#define HASH_REPORT VIRTIO_F_BIT(57)
#define RSS VIRTIO_F_BIT(60)

/*
 * No GUEST_ANNOUNCE: that is for who moves the guest.  No HOST_TSO, which would be work;
 * GUEST_TSO is never made use of, and is offered because Linux switches no offload unless it has
 * one of these.
 */
#define LOOPBACK_FEATURES \
    (VIRTIO_F_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_CSUM) | \
     VIRTIO_F_BIT(2) /* CTRL_GUEST_OFFLOADS */ | VIRTIO_F_BIT(VIRTIO_NET_F_MTU) | \
     VIRTIO_F_BIT(VIRTIO_NET_F_MAC) | VIRTIO_F_BIT(7) /* GUEST_TSO4 */ | \
     VIRTIO_F_BIT(8) /* GUEST_TSO6 */ | VIRTIO_F_BIT(VIRTIO_NET_F_MRG_RXBUF) | \
     VIRTIO_F_BIT(VIRTIO_NET_F_STATUS) | VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | \
     VIRTIO_F_BIT(18) /* CTRL_RX */ | VIRTIO_F_BIT(19) /* CTRL_VLAN */ | \
     VIRTIO_F_BIT(20) /* CTRL_RX_EXTRA */ | VIRTIO_F_BIT(23) /* CTRL_MAC_ADDR */ | \
     VIRTIO_F_BIT(52) /* VQ_NOTF_COAL */ | VIRTIO_F_BIT(53) /* NOTF_COAL */ | HASH_REPORT | \
     VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC) | VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) | \
     VIRTIO_F_BIT(VIRTIO_F_VERSION_1) | VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) | \
     VIRTIO_F_BIT(VIRTIO_F_IN_ORDER))

/* With more than one pair: with one there is nothing to steer. */
#define LOOPBACK_PAIRS_FEATURES (VIRTIO_F_BIT(VIRTIO_NET_F_MQ) | RSS)

/* struct virtio_net_config (5.1.4); fields that no offered feature covers are zero. */
typedef struct LoopbackConfigSpace {
    uint8_t mac[6];
    uint16_t status;                /* little-endian, all of them */
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
    uint32_t speed;
    uint8_t duplex;
    uint8_t rss_max_key_size;
    uint16_t rss_max_indirection_table_length;
    uint32_t supported_hash_types;
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
    AioContext *pairs_ctx;          /* RSS: where all pairs run, once a ring was started */
    LoopbackCommands commands;
    LoopbackCtrl ctrl;
} Loopback;

static bool has_feature(const Loopback *lo, unsigned int bit)
{
    return lo->features & VIRTIO_F_BIT(bit);
}

/* What a driver has commanded ends with it. */
static void begin(Loopback *lo, uint64_t features)
{
    NetCtrlLimits limits;

    lo->features = features;
    lo->pairs_ctx = NULL;
    net_ctrl_limits_init(&limits, features, &lo->config, sizeof(lo->config));
    loopback_commands_reset(&lo->commands, &limits, lo->n_pairs);
}

/* A packet that waits for buffers may be to go elsewhere now, or to be dropped. */
static void settings_changed(void *opaque)
{
    Loopback *lo = opaque;

    for (unsigned int i = 0; i < lo->n_pairs; i++) {
        loopback_pair_wake(&lo->pairs[i]);
    }
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
    begin(lo, features);
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

static bool is_ctrl(const Loopback *lo, unsigned int index)
{
    return net_ctrl_vq_index(&lo->commands.limits) == (int)index;
}

static LoopbackPair *pair_of(Loopback *lo, unsigned int index)
{
    return index / 2 < lo->n_pairs ? &lo->pairs[index / 2] : NULL;
}

static AioContext *pair_context(Loopback *lo, AioContext *ctx)
{
    if (!(lo->features & RSS)) {
        return ctx;
    }
    if (!lo->pairs_ctx) {
        lo->pairs_ctx = ctx;
    }
    return lo->pairs_ctx;
}

/*
 * hash_report is there with its feature, num_buffers with MRG_RXBUF and always with VERSION_1
 * (5.1.6).
 */
static unsigned int header_size(const Loopback *lo)
{
    if (lo->features & HASH_REPORT) {
        return 20;
    }
    return has_feature(lo, VIRTIO_NET_F_MRG_RXBUF) || has_feature(lo, VIRTIO_F_VERSION_1) ? 12
                                                                                          : 10;
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
    pair->merge = has_feature(lo, VIRTIO_NET_F_MRG_RXBUF);
    pair->csum = has_feature(lo, VIRTIO_NET_F_CSUM);
    pair->header_size = header_size(lo);
    return loopback_pair_start_ring(pair, index % 2, pair_context(lo, ctx), &config, ring->kick_fd,
                                    ring->call_fd, errp);
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
    const uint64_t mac = atomic_load_explicit(&lo->commands.mac, memory_order_relaxed);
    LoopbackConfigSpace config = lo->config;

    if (!config_holds(offset, size)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: configuration space has no bytes %" G_GUINT32_FORMAT
                    " to %" G_GUINT32_FORMAT,
                    dev->id, offset, offset + size);
        return -EINVAL;
    }
    for (unsigned int i = 0; i < sizeof(config.mac); i++) {
        config.mac[i] = (uint8_t)(mac >> 8 * (sizeof(config.mac) - 1 - i));
    }
    memcpy(data, (const uint8_t *)&config + offset, size);
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
    begin(lo, 0);
    return 0;
}

static void loopback_free(VhostDevice *dev)
{
    Loopback *lo = (Loopback *)dev;

    loopback_reset(dev, NULL);
    g_clear_pointer(&lo->iothread, iothread_unref);
    loopback_commands_cleanup(&lo->commands);
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
        .serves_control = true,
        .device_type = VIRTIO_ID_NET,
        .features = LOOPBACK_FEATURES,
        .queue_count = 2 * config->queue_pairs + 1,
        .max_regions = MEMORY_MAP_MAX_REGIONS,
    };
    if (config->queue_pairs > 1) {
        lo->dev.features |= LOOPBACK_PAIRS_FEATURES;
    }
    lo->config = (LoopbackConfigSpace){
        .status = htole16(VIRTIO_NET_S_LINK_UP),
        .max_virtqueue_pairs = htole16((uint16_t)config->queue_pairs),
        .mtu = htole16(config->mtu),
        .speed = htole32(UINT32_MAX),   /* unknown */
        .duplex = UINT8_MAX,
        .rss_max_key_size = NET_RSS_MAX_KEY,
        .rss_max_indirection_table_length = htole16(NET_RSS_MAX_TABLE),
        .supported_hash_types = htole32(NET_RSS_HASH_TYPES),
    };
    lo->iothread = config->iothread ? iothread_ref(config->iothread) : NULL;
    lo->n_pairs = config->queue_pairs;
    lo->pairs = g_new0(LoopbackPair, lo->n_pairs);
    for (i = 0; i < lo->n_pairs; i++) {
        lo->pairs[i].name = lo->dev.id;
        lo->pairs[i].index = i;
        lo->pairs[i].map = &lo->map;
        lo->pairs[i].settings = &lo->commands.settings;
        lo->pairs[i].pairs = lo->pairs;
        lo->pairs[i].n_pairs = lo->n_pairs;
        lo->pairs[i].echo = config->icmp_echo;
    }
    lo->ctrl.name = lo->dev.id;
    lo->ctrl.map = &lo->map;
    lo->ctrl.commands = &lo->commands;
    loopback_commands_init(&lo->commands, config->mac, settings_changed, lo);
    begin(lo, 0);
    return &lo->dev;
}
