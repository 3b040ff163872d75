/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VhostDevice over vhost-user: each operation as the messages that make it.
 *
 * A device address (iova) goes over the wire as guest address, and with a number of the
 * region in its upper bits as user address, which is what vhost-user names rings by.  The
 * number tells regions apart that are alike but for their file: DPDK's vhost (22.11) keeps
 * its old mapping if a table repeats all addresses and sizes, be it of another file, of
 * another guest even.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "vhost-user-client-internal.h"

#define BIT(n)  (UINT64_C(1) << (n))
#define VIRTIO_F_RING_PACKED    34

static VhostUserClient *client_of(VhostDevice *dev)
{
    return (VhostUserClient *)dev;
}

static bool has_bit_30(const VhostUserClient *c)
{
    return c->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static int client_set_features(VhostDevice *dev, uint64_t features, GError **errp)
{
    VhostUserClient *c = client_of(dev);
    uint64_t wire = features | (c->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES));
    int ret;

    if (features & ~dev->features) {
        return vhost_user_error(errp, EINVAL, "%s does not offer features 0x%" PRIx64, dev->id,
                                features & ~dev->features);
    }
    ret = vhost_user_client_request_u64(c, VHOST_USER_SET_FEATURES, wire, errp);
    if (ret == 0) {
        c->packed = features & BIT(VIRTIO_F_RING_PACKED);
    }
    return ret;
}

/* Bits of an iova; the user address has the number above them. */
#define IOVA_BITS 48

static uint64_t tagged_address(const MemoryRegion *region)
{
    if ((region->iova + (region->size - 1)) >> IOVA_BITS) {
        return region->iova;
    }
    return region->iova | (region->serial & INT16_MAX) << IOVA_BITS;
}

static int describe_region(const MemoryRegion *region, VhostUserSentRegion *out, GError **errp)
{
    struct stat st;

    if (fstat(region->fd, &st) < 0) {
        return vhost_user_error(errp, errno, "memory region at 0x%" PRIx64, region->gpa);
    }
    *out = (VhostUserSentRegion){
        .wire = {
            .gpa = region->iova,
            .size = region->size,
            .user_addr = tagged_address(region),
            .fd_offset = region->fd_offset,
        },
        .dev = st.st_dev,
        .ino = st.st_ino,
    };
    return 0;
}

static bool same_region(const VhostUserSentRegion *a, const VhostUserSentRegion *b)
{
    return a->wire.gpa == b->wire.gpa && a->wire.size == b->wire.size &&
           a->wire.fd_offset == b->wire.fd_offset && a->dev == b->dev && a->ino == b->ino;
}

static bool contains(const VhostUserSentRegion *list, unsigned int n, const VhostUserSentRegion *r)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        if (same_region(&list[i], r)) {
            return true;
        }
    }
    return false;
}

/* ADD_MEM_REG, or REM_MEM_REG if @fd is -1. */
static int change_region(VhostUserClient *c, const VhostUserSentRegion *region, int fd,
                         GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(fd < 0 ? VHOST_USER_REM_MEM_REG
                                                          : VHOST_USER_ADD_MEM_REG);

    m.header.size = sizeof(m.payload.mem_reg);
    m.payload.mem_reg.region = region->wire;
    if (fd >= 0) {
        m.fds[m.n_fds++] = fd;
    }
    return vhost_user_client_request(c, &m, NULL, errp);
}

/* Takes region @i off the list of what was sent. */
static void forget_region(VhostUserClient *c, unsigned int i)
{
    c->sent[i] = c->sent[--c->n_sent];
}

/* Removes and adds what differs; what the back end has is on record after each step. */
static int send_difference(VhostUserClient *c, const MemoryMap *map,
                           const VhostUserSentRegion *regions, unsigned int n, GError **errp)
{
    unsigned int i;
    int ret;

    for (i = c->n_sent; i-- > 0;) {
        if (contains(regions, n, &c->sent[i])) {
            continue;
        }
        ret = change_region(c, &c->sent[i], -1, errp);
        if (ret < 0) {
            return ret;
        }
        forget_region(c, i);
    }
    /* What is left of the old, and the new: no more than n. */
    c->sent = g_renew(VhostUserSentRegion, c->sent, MAX(n, 1));
    for (i = 0; i < n; i++) {
        if (contains(c->sent, c->n_sent, &regions[i])) {
            continue;
        }
        ret = change_region(c, &regions[i], map->regions[i]->fd, errp);
        if (ret < 0) {
            return ret;
        }
        c->sent[c->n_sent++] = regions[i];
    }
    return 0;
}

static int send_table(VhostUserClient *c, const MemoryMap *map,
                      const VhostUserSentRegion *regions, unsigned int n, GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_SET_MEM_TABLE);
    unsigned int i;
    int ret;

    m.header.size = (uint32_t)VHOST_USER_MEM_TABLE_SIZE(n);
    m.payload.mem_table.count = n;
    m.n_fds = n;
    for (i = 0; i < n; i++) {
        m.payload.mem_table.regions[i] = regions[i].wire;
        m.fds[i] = map->regions[i]->fd;
    }
    ret = vhost_user_client_request(c, &m, NULL, errp);
    if (ret == 0) {
        g_free(c->sent);
        c->sent = g_memdup2(regions, MAX(n, 1) * sizeof(regions[0]));
        c->n_sent = n;
    }
    return ret;
}

/* What the back end was told is the user address of @iova. */
static uint64_t user_address(const VhostUserClient *c, uint64_t iova)
{
    unsigned int i;

    for (i = 0; i < c->n_sent; i++) {
        uint64_t offset = iova - c->sent[i].wire.gpa;

        if (offset < c->sent[i].wire.size) {
            return c->sent[i].wire.user_addr + offset;
        }
    }
    return iova;        /* nowhere: the back end will say so */
}

static int client_set_memory(VhostDevice *dev, const MemoryMap *map, GError **errp)
{
    VhostUserClient *c = client_of(dev);
    unsigned int n = map->n;
    g_autofree VhostUserSentRegion *regions = g_new0(VhostUserSentRegion, MAX(n, 1));
    unsigned int i;

    if (n > dev->max_regions) {
        return vhost_user_error(errp, ENOSPC, "%s takes %" PRIu32 " memory regions, not %u",
                                dev->id, dev->max_regions, n);
    }
    for (i = 0; i < n; i++) {
        int ret = describe_region(map->regions[i], &regions[i], errp);

        if (ret < 0) {
            return ret;
        }
    }
    if (vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        return send_difference(c, map, regions, n, errp);
    }
    return send_table(c, map, regions, n, errp);
}

/* A back end without STATUS learns of DRIVER_OK by rings that start. */
static int client_set_status(VhostDevice *dev, uint8_t status, GError **errp)
{
    VhostUserClient *c = client_of(dev);

    if (c->fd >= 0 && !vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_STATUS)) {
        return 0;
    }
    return vhost_user_client_request_u64(c, VHOST_USER_SET_STATUS, status, errp);
}

static int check_index(VhostDevice *dev, unsigned int index, GError **errp)
{
    if (index >= dev->queue_count) {
        return vhost_user_error(errp, EINVAL, "%s has %" PRIu32 " virtqueues, no virtqueue %u",
                                dev->id, dev->queue_count, index);
    }
    return 0;
}

static int send_vring_addr(VhostUserClient *c, unsigned int index, const VhostRing *ring,
                           GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_SET_VRING_ADDR);

    m.header.size = sizeof(m.payload.addr);
    m.payload.addr.index = index;
    m.payload.addr.desc = user_address(c, ring->desc_iova);
    m.payload.addr.avail = user_address(c, ring->driver_iova);
    m.payload.addr.used = user_address(c, ring->device_iova);
    return vhost_user_client_request(c, &m, NULL, errp);
}

static int send_vring_fd(VhostUserClient *c, uint32_t request, unsigned int index, int fd,
                         GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(request);

    m.header.size = sizeof(m.payload.u64);
    m.payload.u64 = index;
    if (fd < 0) {
        m.payload.u64 |= VHOST_USER_VRING_NO_FD;
    } else {
        m.fds[m.n_fds++] = fd;
    }
    return vhost_user_client_request(c, &m, NULL, errp);
}

/*
 * In the order that DPDK waits for: it takes a ring to be ready when the last of these is there.
 * The kick comes last but one, for it is what starts a ring.
 */
static int client_ring_start(VhostDevice *dev, unsigned int index, const VhostRing *ring,
                             GError **errp)
{
    VhostUserClient *c = client_of(dev);
    uint32_t base = ring->base.avail;
    int ret = check_index(dev, index, errp);

    if (c->packed) {
        base |= (uint32_t)ring->base.used << 16;
    }
    if (ret == 0) {
        ret = vhost_user_client_request_state(c, VHOST_USER_SET_VRING_NUM, index, ring->num,
                                              errp);
    }
    if (ret == 0) {
        ret = vhost_user_client_request_state(c, VHOST_USER_SET_VRING_BASE, index, base, errp);
    }
    if (ret == 0) {
        ret = send_vring_addr(c, index, ring, errp);
    }
    if (ret == 0) {
        /* From here on it may be running: only GET_VRING_BASE makes sure that it is not. */
        c->started[index] = true;
        ret = send_vring_fd(c, VHOST_USER_SET_VRING_KICK, index, ring->kick_fd, errp);
    }
    if (ret == 0) {
        ret = send_vring_fd(c, VHOST_USER_SET_VRING_CALL, index, ring->call_fd, errp);
    }
    return ret;
}

/* Without feature bit 30 a ring is enabled as long as it is started. */
static int client_ring_enable(VhostDevice *dev, unsigned int index, bool enable, GError **errp)
{
    VhostUserClient *c = client_of(dev);
    int ret = check_index(dev, index, errp);

    if (ret < 0 || (c->fd >= 0 && !has_bit_30(c))) {
        return ret;
    }
    return vhost_user_client_request_state(c, VHOST_USER_SET_VRING_ENABLE, index, enable, errp);
}

/*
 * What GET_VRING_BASE answers.  Split: the available index.  Packed: both positions; DPDK (22.11)
 * tells the available one alone, and means it for both: it has nothing in flight then.
 */
static VringBase reply_base(const VhostUserClient *c, uint32_t num)
{
    const uint16_t avail = (uint16_t)num, used = (uint16_t)(num >> 16);

    return (VringBase){ avail, c->packed && used ? used : avail };
}

static int client_ring_stop(VhostDevice *dev, unsigned int index, VringBase *base,
                            GError **errp)
{
    VhostUserClient *c = client_of(dev);
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_GET_VRING_BASE);
    VhostUserMessage reply;
    int ret = check_index(dev, index, errp);

    if (ret < 0) {
        return ret;
    }
    /* Disabled only then: a network device drops what it finds in a disabled transmit queue. */
    m.header.size = sizeof(m.payload.state);
    m.payload.state.index = index;
    ret = vhost_user_client_request(c, &m, &reply, errp);
    if (ret < 0) {
        return ret;
    }
    c->started[index] = false;
    if (base) {
        *base = reply_base(c, reply.payload.state.num);
    }
    return client_ring_enable(dev, index, false, errp);
}

static int client_ring_set_fd(VhostDevice *dev, unsigned int index, VhostRingFd which, int fd,
                              GError **errp)
{
    int ret = check_index(dev, index, errp);

    if (ret < 0) {
        return ret;
    }
    return send_vring_fd(client_of(dev), which == VHOST_RING_KICK ? VHOST_USER_SET_VRING_KICK
                                                                  : VHOST_USER_SET_VRING_CALL,
                         index, fd, errp);
}

static int check_config_range(VhostDevice *dev, uint32_t offset, uint32_t size, GError **errp)
{
    VhostUserClient *c = client_of(dev);

    if (c->fd >= 0 && !vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_CONFIG)) {
        return vhost_user_error(errp, ENOTSUP, "%s has no configuration space", dev->id);
    }
    if (size > VHOST_USER_CONFIG_MAX || offset > VHOST_USER_CONFIG_MAX - size) {
        return vhost_user_error(errp, EINVAL, "%s: %" PRIu32 " bytes of configuration at %" PRIu32,
                                dev->id, size, offset);
    }
    return 0;
}

static int client_get_config(VhostDevice *dev, void *data, uint32_t offset, uint32_t size,
                             GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_GET_CONFIG);
    VhostUserMessage reply;
    int ret = check_config_range(dev, offset, size, errp);

    if (ret < 0) {
        return ret;
    }
    m.header.size = (uint32_t)VHOST_USER_CONFIG_HEADER_SIZE + size;
    m.payload.config.offset = offset;
    m.payload.config.size = size;
    ret = vhost_user_client_request(client_of(dev), &m, &reply, errp);
    if (ret < 0) {
        return ret;
    }
    if (reply.header.size != m.header.size || reply.payload.config.size != size) {
        return vhost_user_error(errp, EINVAL,
                                "%s does not give %" PRIu32 " bytes of configuration at %" PRIu32,
                                dev->id, size, offset);
    }
    memcpy(data, reply.payload.config.data, size);
    return 0;
}

static int client_set_config(VhostDevice *dev, const void *data, uint32_t offset, uint32_t size,
                             GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_SET_CONFIG);
    int ret = check_config_range(dev, offset, size, errp);

    if (ret < 0) {
        return ret;
    }
    m.header.size = (uint32_t)VHOST_USER_CONFIG_HEADER_SIZE + size;
    m.payload.config.offset = offset;
    m.payload.config.size = size;
    memcpy(m.payload.config.data, data, size);
    return vhost_user_client_request(client_of(dev), &m, NULL, errp);
}

static int client_send_rarp(VhostDevice *dev, uint64_t mac, GError **errp)
{
    return vhost_user_client_request_u64(client_of(dev), VHOST_USER_SEND_RARP, mac, errp);
}

/* DPDK's rings go on through a status of 0: they are stopped one by one first. */
static int client_reset(VhostDevice *dev, GError **errp)
{
    VhostUserClient *c = client_of(dev);
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_RESET_DEVICE);
    unsigned int i;

    for (i = 0; i < VHOST_USER_VRINGS_MAX; i++) {
        int ret = c->started[i] ? client_ring_stop(dev, i, NULL, errp) : 0;

        if (ret < 0) {
            return ret;
        }
    }
    if (vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_RESET_DEVICE)) {
        return vhost_user_client_request(c, &m, NULL, errp);
    }
    return client_set_status(dev, 0, errp);
}

const VhostDeviceOps vhost_user_client_ops = {
    .type = "vhost-user",
    .set_features = client_set_features,
    .set_memory = client_set_memory,
    .set_status = client_set_status,
    .ring_start = client_ring_start,
    .ring_enable = client_ring_enable,
    .ring_stop = client_ring_stop,
    .ring_set_fd = client_ring_set_fd,
    .get_config = client_get_config,
    .set_config = client_set_config,
    .send_rarp = client_send_rarp,
    .reset = client_reset,
    .free = vhost_user_client_free,
};
