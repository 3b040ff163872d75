/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rings of a vDPA device.
 *
 * How it works.  A ring may be described to the kernel before DRIVER_OK, and then is enabled just
 * before that; or while the device is suspended, by its owner or, for this one ring, by us.
 * A device that cannot be suspended and resumed has its rings fixed while it runs: only a reset
 * takes one away.  It may not be told to disable a ring either (4.1.4.3.2), so nothing is
 * enabled before it is certain.
 *
 * Threads: the main thread.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static bool is_packed(const VhostVdpa *d)
{
    return d->features & VIRTIO_F_BIT(VIRTIO_F_RING_PACKED);
}

static int check_ring(VhostVdpa *d, unsigned int index, GError **errp)
{
    int ret = vhost_vdpa_check_connected(d, errp);

    if (ret == 0 && index >= d->dev.queue_count) {
        ret = vhost_vdpa_error(errp, EINVAL, "%s has %" PRIu32 " virtqueues, no virtqueue %u",
                               d->dev.id, d->dev.queue_count, index);
    }
    return ret;
}

/* Sees that no ring moves.  *@held: it was us. */
static int hold(VhostVdpa *d, bool *held, GError **errp)
{
    *held = vhost_vdpa_is_running(d) && !d->suspended;
    return *held ? vhost_vdpa_suspend(&d->dev, errp) : 0;
}

/*
 * A device whose rings are fixed stays as it is until its reset.  One that does not resume is given
 * up: its other rings would stand still without anybody knowing.
 */
static int let_go(VhostVdpa *d, bool held, int ret, GError **errp)
{
    int resumed;

    if (!held || !d->dev.connected || d->dev.rings_fixed) {
        return ret;
    }
    resumed = vhost_vdpa_resume(&d->dev, ret < 0 ? NULL : errp);
    if (resumed < 0) {
        vhost_vdpa_lose(d, "it was suspended and does not resume");
    }
    return ret < 0 ? ret : resumed;
}

/*
 * Linux before 6.4 takes 16 bits of a position, and tells as many: of a packed ring half of it.  A
 * ring that has not begun since the reset stands at the start without being told.
 */
static bool is_too_wide(const VhostVdpa *d, unsigned int index, uint32_t num, bool at_start,
                        int ret)
{
    return ret == -EINVAL && num > UINT16_MAX && at_start && !d->rings[index].num;
}

static int set_base(VhostVdpa *d, unsigned int index, VringBase base, GError **errp)
{
    const VringBase start = vring_base_start(is_packed(d));
    const bool at_start = base.avail == start.avail && base.used == start.used;
    uint32_t num = base.avail;
    int ret;

    if (is_packed(d)) {
        num |= (uint32_t)base.used << 16;
    }
    ret = vhost_vdpa_call_state(d, VHOST_SET_VRING_BASE, index, num, errp);
    if (is_too_wide(d, index, num, at_start, ret)) {
        g_clear_error(errp);
        d->dev.tells_base = false;
        return 0;
    }
    if (ret == -EOPNOTSUPP && !at_start) {
        g_clear_error(errp);
        vhost_vdpa_error(errp, EOPNOTSUPP,
                         "%s: virtqueue %u is to go on at 0x%" PRIx32 ", but the device takes "
                         "rings at their beginning only", d->dev.id, index, num);
    }
    return ret;
}

static int set_addresses(VhostVdpa *d, unsigned int index, const VhostRing *ring, GError **errp)
{
    struct vhost_vring_addr addr = {
        .index = index,
        .desc_user_addr = ring->desc_iova,
        .avail_user_addr = ring->driver_iova,
        .used_user_addr = ring->device_iova,
    };

    return vhost_vdpa_call(d, VHOST_SET_VRING_ADDR, &addr, errp);
}

static int bind_fd(VhostVdpa *d, unsigned int index, VhostRingFd which, int fd, GError **errp)
{
    struct vhost_vring_file file = { .index = index, .fd = fd };

    return which == VHOST_RING_KICK ? vhost_vdpa_call(d, VHOST_SET_VRING_KICK, &file, errp)
                                    : vhost_vdpa_call(d, VHOST_SET_VRING_CALL, &file, errp);
}

/* A parent may make interrupts at DRIVER_OK, and only for rings that have a descriptor then. */
static int set_fd(VhostVdpa *d, unsigned int index, VhostRingFd which, int fd, GError **errp)
{
    const int nobody = which == VHOST_RING_CALL ? d->nobody.fd : VHOST_FILE_UNBIND;

    return bind_fd(d, index, which, fd < 0 ? nobody : fd, errp);
}

static void unbind(VhostVdpa *d, unsigned int index)
{
    bind_fd(d, index, VHOST_RING_KICK, VHOST_FILE_UNBIND, NULL);
    bind_fd(d, index, VHOST_RING_CALL, VHOST_FILE_UNBIND, NULL);
}

static int describe_ring(VhostVdpa *d, unsigned int index, const VhostRing *ring, bool apart,
                         GError **errp)
{
    int ret = vhost_vdpa_choose_space(d, index, apart, errp);

    if (ret == 0) {
        ret = vhost_vdpa_call_state(d, VHOST_SET_VRING_NUM, index, ring->num, errp);
    }
    if (ret == 0) {
        ret = set_base(d, index, ring->base, errp);
    }
    if (ret == 0) {
        ret = set_addresses(d, index, ring, errp);
    }
    if (ret == 0) {
        ret = set_fd(d, index, VHOST_RING_CALL, ring->call_fd, errp);
    }
    if (ret == 0) {
        ret = set_fd(d, index, VHOST_RING_KICK, ring->kick_fd, errp);
    }
    if (ret == 0) {
        d->rings[index].num = ring->num;
    }
    return ret;
}

static int write_enable(VhostVdpa *d, unsigned int index, bool enable, GError **errp)
{
    int ret = vhost_vdpa_call_state(d, VHOST_VDPA_SET_VRING_ENABLE, index, enable, errp);

    if (ret == 0) {
        d->rings[index].live = enable;
    }
    return ret;
}

static int refuse_fixed(VhostVdpa *d, unsigned int index, const char *what, GError **errp)
{
    return vhost_vdpa_error(errp, EBUSY,
                            "%s: virtqueue %u cannot be %s while the device runs, which cannot be "
                            "suspended and resumed", d->dev.id, index, what);
}

static int check_start(VhostVdpa *d, unsigned int index, const VhostRing *ring, GError **errp)
{
    const uint32_t num = d->rings[index].num;

    if (vhost_vdpa_is_running(d) && d->dev.rings_fixed) {
        return refuse_fixed(d, index, "started", errp);
    }
    if (vhost_vdpa_is_running(d) && num && num != ring->num) {
        return vhost_vdpa_error(errp, EOPNOTSUPP,
                                "%s: virtqueue %u has %" PRIu32 " descriptors, and has %" PRIu32
                                " after a reset only", d->dev.id, index, num, ring->num);
    }
    /* The kernel's own kick has no data. */
    if (d->features & VIRTIO_F_BIT(VIRTIO_F_NOTIFICATION_DATA) &&
        !vhost_vdpa_ring_doorbell(&d->dev, index)) {
        return vhost_vdpa_error(errp, EOPNOTSUPP,
                                "%s: virtqueue %u has no doorbell, which NOTIFICATION_DATA needs",
                                d->dev.id, index);
    }
    return 0;
}

static int begin_ring(VhostVdpa *d, unsigned int index, const VhostRing *ring, GError **errp)
{
    VdpaRing *is = &d->rings[index];
    const bool apart = vhost_vdpa_is_apart(d, ring->desc_iova);
    int ret = describe_ring(d, index, ring, apart, errp);

    if (ret == 0 && vhost_vdpa_is_running(d) && is->enabled) {
        ret = write_enable(d, index, true, errp);
    }
    if (ret < 0) {
        unbind(d, index);
        return ret;
    }
    is->started = true;
    is->apart = apart;
    is->base = ring->base;
    return 0;
}

int vhost_vdpa_ring_start(VhostDevice *dev, unsigned int index, const VhostRing *ring,
                          GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    bool held;
    int ret = check_ring(d, index, errp);

    if (ret == 0) {
        ret = check_start(d, index, ring, errp);
    }
    if (ret == 0) {
        ret = hold(d, &held, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = let_go(d, held, begin_ring(d, index, ring, errp), errp);
    if (ret == 0 && held) {
        /* A kick that came before the ring was enabled is dropped. */
        event_notifier_set(&(EventNotifier){ ring->kick_fd });
    }
    return ret;
}

int vhost_vdpa_ring_enable(VhostDevice *dev, unsigned int index, bool enable, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret = check_ring(d, index, errp);

    if (ret < 0) {
        return ret;
    }
    if (vhost_vdpa_is_running(d) && d->rings[index].started && d->rings[index].live != enable) {
        if (dev->rings_fixed) {
            return refuse_fixed(d, index, enable ? "enabled" : "disabled", errp);
        }
        ret = write_enable(d, index, enable, errp);
    }
    if (ret == 0) {
        d->rings[index].enabled = enable;
    }
    return ret;
}

int vhost_vdpa_enable_rings(VhostVdpa *d, GError **errp)
{
    unsigned int i;
    int ret = vhost_vdpa_put_idle_groups(d, errp);

    for (i = 0; i < d->dev.queue_count && ret == 0; i++) {
        if (d->rings[i].live && !d->rings[i].started) {
            ret = vhost_vdpa_error(errp, EBUSY, "%s: only a reset takes the ring of virtqueue %u "
                                   "away", d->dev.id, i);
        } else if (d->rings[i].started && d->rings[i].enabled) {
            ret = write_enable(d, i, true, errp);
        }
    }
    return ret;
}

/* Where a ring stands that does not move. */
static int get_base(VhostVdpa *d, unsigned int index, VringBase *base, GError **errp)
{
    uint32_t num;
    int ret;

    *base = d->rings[index].base;
    if (!vhost_vdpa_is_running(d) || !d->dev.tells_base) {
        return 0;
    }
    ret = vhost_vdpa_ask_state(d, VHOST_GET_VRING_BASE, index, &num, errp);
    if (ret == 0) {
        base->avail = (uint16_t)num;
        base->used = is_packed(d) ? (uint16_t)(num >> 16) : 0;
    }
    return ret;
}

int vhost_vdpa_ring_base(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret = check_ring(d, index, errp);

    return ret < 0 ? ret : get_base(d, index, base, errp);
}

int vhost_vdpa_ring_stop(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    VringBase stands;
    bool held;
    int ret = check_ring(d, index, errp);

    if (ret < 0) {
        return ret;
    }
    if (vhost_vdpa_is_running(d) && !vhost_vdpa_has(d, VHOST_BACKEND_F_SUSPEND)) {
        return refuse_fixed(d, index, "stopped", errp);
    }
    ret = hold(d, &held, errp);
    if (ret < 0) {
        return ret;
    }
    ret = get_base(d, index, &stands, errp);
    if (ret == 0 && d->rings[index].live && vhost_vdpa_has(d, VHOST_BACKEND_F_SUSPEND)) {
        ret = write_enable(d, index, false, errp);
    }
    if (ret == 0) {
        d->rings[index].started = d->rings[index].enabled = false;
        unbind(d, index);
        if (base) {
            *base = stands;
        }
    }
    return let_go(d, held, ret, errp);
}

int vhost_vdpa_ring_set_fd(VhostDevice *dev, unsigned int index, VhostRingFd which, int fd,
                           GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret = check_ring(d, index, errp);

    return ret < 0 ? ret : set_fd(d, index, which, fd, errp);
}

static uint32_t power_of_two_within(uint32_t num)
{
    return 1u << (g_bit_storage(num) - 1);
}

/* Asked before the ring is described: after that some parents answer what it is. */
uint32_t vhost_vdpa_ring_max_num(VhostDevice *dev, unsigned int index)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    VdpaRing *ring;
    uint32_t num;

    if (check_ring(d, index, NULL) < 0) {
        return 0;
    }
    ring = &d->rings[index];
    if (!ring->max_num) {
        if (vhost_vdpa_ask_state(d, VHOST_VDPA_GET_VRING_SIZE, index, &num, NULL) < 0 || !num) {
            num = d->max_num;
        }
        /* The kernel takes no other number, of packed rings either. */
        ring->max_num = power_of_two_within(MIN(num, d->max_num));
    }
    return ring->max_num;
}

void *vhost_vdpa_ring_doorbell(VhostDevice *dev, unsigned int index)
{
    VhostVdpa *d = vhost_vdpa_of(dev);

    if (d->fd < 0 || !d->has_doorbells || index >= dev->queue_count) {
        return NULL;
    }
    if (!d->doorbells[index]) {
        d->doorbells[index] = d->kernel->map_doorbell(d->kernel, d->fd, index);
    }
    return d->doorbells[index];
}

void vhost_vdpa_unbind_rings(VhostVdpa *d, VhostRingFd which)
{
    unsigned int i;

    for (i = 0; i < d->dev.queue_count; i++) {
        if (d->rings[i].started) {
            bind_fd(d, i, which, VHOST_FILE_UNBIND, NULL);
        }
    }
}

void vhost_vdpa_forget_rings(VhostVdpa *d)
{
    unsigned int i;

    memset(d->rings, 0, d->dev.queue_count * sizeof(d->rings[0]));
    for (i = 0; i < d->n_groups; i++) {
        d->group_asid[i] = -1;
    }
}
