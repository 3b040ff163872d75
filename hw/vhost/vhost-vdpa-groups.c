/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In which address space a vDPA device looks for its rings.
 *
 * How it works.  Where rings have an address space of their own, the descriptor group of a
 * virtqueue is put there when its ring starts in our memory, and back among the buffers when it
 * starts in the guest's.  Groups whose rings have not begun at DRIVER_OK go where the others are,
 * for some parents let no group move while they run.  One that does not is asked no more after its
 * next reset.
 *
 * Threads: the main thread.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>

/* Which groups the virtqueues belong to, and whether a ring's can be without any buffers. */
void vhost_vdpa_find_groups(VhostVdpa *d)
{
    const unsigned int n = d->dev.queue_count;
    /* SET_GROUP_ASID checks a group as if it were a virtqueue. */
    const uint32_t n_groups = MIN(d->n_groups, n);
    g_autofree uint32_t *groups = g_new0(uint32_t, n);
    unsigned int i, j;

    if (!d->has_spaces) {
        return;
    }
    for (i = 0; i < n; i++) {
        VdpaRing *ring = &d->rings[i];

        vhost_vdpa_ask_state(d, VHOST_VDPA_GET_VRING_GROUP, i, &groups[i], NULL);
        ring->separable = vhost_vdpa_ask_state(d, VHOST_VDPA_GET_VRING_DESC_GROUP, i,
                                               &ring->desc_group, NULL) == 0 &&
                          ring->desc_group < n_groups;
    }
    for (i = 0; i < n; i++) {
        for (j = 0; j < n && d->rings[i].separable; j++) {
            d->rings[i].separable = groups[j] != d->rings[i].desc_group;
        }
    }
}

/*
 * A parent may look at the group's space at the next change of maps only, so there is one, of
 * nothing; the space of rings is the smaller.  Without batches there is no such change.
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
        ret = vhost_vdpa_touch_space(d, VDPA_SPACE_RINGS, errp);
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

int vhost_vdpa_choose_space(VhostVdpa *d, unsigned int index, bool apart, GError **errp)
{
    VdpaRing *ring = &d->rings[index];
    const uint32_t asid = apart ? VDPA_SPACE_RINGS : VDPA_SPACE_BUFFERS;
    unsigned int i;

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
    bool any_apart = false;
    unsigned int i;
    int ret = 0;

    for (i = 0; i < d->dev.queue_count; i++) {
        any_apart |= d->rings[i].started && d->rings[i].apart;
    }
    for (i = 0; i < d->dev.queue_count && any_apart && ret == 0; i++) {
        const VdpaRing *ring = &d->rings[i];

        if (ring->separable && d->group_asid[ring->desc_group] < 0) {
            ret = put_group(d, ring->desc_group, VDPA_SPACE_RINGS, errp);
        }
    }
    return ret;
}
