/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In which address space a vDPA device looks for its rings.
 *
 * How it works.  Where rings can lie in our address space, the descriptor group of a virtqueue is
 * put there when its ring starts in our memory, and back among the buffers when it starts in the
 * guest's.  Groups whose rings have not begun at DRIVER_OK go where the others are, for some
 * parents let no group move while they run.  One that does not is asked no more after its next
 * reset.  Until a group was put somewhere nobody relies on where it is.
 *
 * An isolated virtqueue has its buffers looked for in our address space, too.  That takes
 * groups that no other virtqueue has anything in, and holds until the reset, which puts every
 * group back.
 *
 * Threads: the main thread.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>

/* SET_GROUP_ASID checks a group as if it were a virtqueue. */
static bool can_be_put(const VhostVdpa *d, uint32_t group)
{
    return group < MIN(d->n_groups, d->dev.queue_count);
}

static void find_groups_of(VhostVdpa *d, VdpaRing *ring, unsigned int index)
{
    ring->grouped = vhost_vdpa_ask_state(d, VHOST_VDPA_GET_VRING_GROUP, index, &ring->group,
                                         NULL) == 0;
    ring->desc_group = ring->group;
    if (vhost_vdpa_has(d, VHOST_BACKEND_F_DESC_ASID)) {
        ring->separable = vhost_vdpa_ask_state(d, VHOST_VDPA_GET_VRING_DESC_GROUP, index,
                                               &ring->desc_group, NULL) == 0;
        ring->grouped &= ring->separable;
    }
}

void vhost_vdpa_find_groups(VhostVdpa *d)
{
    const unsigned int n = d->dev.queue_count;
    unsigned int i, j;

    for (i = 0; i < n && d->has_spaces; i++) {
        find_groups_of(d, &d->rings[i], i);
    }
    for (i = 0; i < n; i++) {
        VdpaRing *ring = &d->rings[i];

        ring->separable &= can_be_put(d, ring->desc_group);
        for (j = 0; j < n && ring->separable; j++) {
            ring->separable = d->rings[j].group != ring->desc_group;
        }
    }
}

/*
 * A parent may look at the group's space at the next change of maps only, so there is one, of
 * nothing; our space is the smaller.  Without batches there is no such change.
 */
static int put_group_while_running(VhostVdpa *d, uint32_t group, uint32_t asid, GError **errp)
{
    int ret = -EOPNOTSUPP;

    if (vhost_vdpa_has(d, VHOST_BACKEND_F_IOTLB_BATCH)) {
        ret = vhost_vdpa_call_state(d, VHOST_VDPA_SET_GROUP_ASID, group, asid, errp);
    } else {
        vhost_vdpa_error(errp, EOPNOTSUPP, "%s: rings cannot change their address space without "
                         "IOTLB_BATCH", d->dev.id);
    }
    if (ret == 0) {
        d->group_asid[group] = -1;
        ret = vhost_vdpa_touch_space(d, VDPA_SPACE_OURS, errp);
    }
    if (ret < 0 && d->dev.connected && d->dev.rings_apart && !d->apart_lost) {
        g_message("%s: rings cannot change their address space while the device runs; from the "
                  "next start on ours lie among the guest's memory", d->dev.id);
        d->apart_lost = true;
    }
    return ret;
}

static int put_group(VhostVdpa *d, uint32_t group, uint32_t asid, GError **errp)
{
    int ret = vhost_vdpa_is_running(d)
                  ? put_group_while_running(d, group, asid, errp)
                  : vhost_vdpa_call_state(d, VHOST_VDPA_SET_GROUP_ASID, group, asid, errp);

    if (ret == 0) {
        d->group_asid[group] = asid;
    }
    return ret;
}

static bool has_a_group_of(const VdpaRing *ring, const VdpaRing *other)
{
    return ring->group == other->group || ring->group == other->desc_group ||
           ring->desc_group == other->group || ring->desc_group == other->desc_group;
}

static bool can_isolate(const VhostVdpa *d, unsigned int index)
{
    const VdpaRing *ring = &d->rings[index];
    unsigned int i;

    if (vhost_vdpa_is_running(d) || !can_be_put(d, ring->group) ||
        !can_be_put(d, ring->desc_group)) {
        return false;
    }
    for (i = 0; i < d->dev.queue_count; i++) {
        if (!d->rings[i].grouped || (i != index && has_a_group_of(ring, &d->rings[i]))) {
            return false;
        }
    }
    return true;
}

/* If the second cannot be put there, the first will go where the ring starts. */
bool vhost_vdpa_ring_isolate(VhostDevice *dev, unsigned int index)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    VdpaRing *ring;

    if (!dev->connected || index >= dev->queue_count || !can_isolate(d, index)) {
        return false;
    }
    ring = &d->rings[index];
    ring->isolated = (ring->desc_group == ring->group ||
                      put_group(d, ring->desc_group, VDPA_SPACE_OURS, NULL) == 0) &&
                     put_group(d, ring->group, VDPA_SPACE_OURS, NULL) == 0;
    return ring->isolated;
}

int vhost_vdpa_choose_space(VhostVdpa *d, unsigned int index, bool apart, GError **errp)
{
    VdpaRing *ring = &d->rings[index];
    const uint32_t asid = apart ? VDPA_SPACE_OURS : VDPA_SPACE_BUFFERS;
    unsigned int i;

    if (ring->isolated && !apart) {
        return vhost_vdpa_error(errp, EINVAL,
                                "%s: virtqueue %u is isolated, and its ring lies elsewhere",
                                d->dev.id, index);
    }
    if (!ring->separable || d->group_asid[ring->desc_group] == asid) {
        return 0;
    }
    for (i = 0; i < d->dev.queue_count; i++) {
        const VdpaRing *other = &d->rings[i];

        if (i != index && other->started && other->separable &&
            other->desc_group == ring->desc_group && other->apart != apart) {
            return vhost_vdpa_error(errp, EBUSY,
                                    "%s: the rings of virtqueues %u and %u are looked for in one "
                                    "address space; both are to move, or none",
                                    d->dev.id, index, i);
        }
    }
    return put_group(d, ring->desc_group, asid, errp);
}

int vhost_vdpa_put_idle_groups(VhostVdpa *d, GError **errp)
{
    bool any = false, any_apart = false;
    unsigned int i;
    int ret = 0;

    for (i = 0; i < d->dev.queue_count; i++) {
        const bool data = d->rings[i].started && !d->rings[i].isolated;

        any |= data;
        any_apart |= data && d->rings[i].apart;
    }
    if (!any) {
        any_apart = d->dev.rings_apart && d->dev.later_rings_ours;
    }
    for (i = 0; i < d->dev.queue_count && ret == 0; i++) {
        const VdpaRing *ring = &d->rings[i];

        if (ring->separable && d->group_asid[ring->desc_group] < 0) {
            ret = put_group(d, ring->desc_group,
                            any_apart ? VDPA_SPACE_OURS : VDPA_SPACE_BUFFERS, errp);
        }
    }
    return ret;
}
