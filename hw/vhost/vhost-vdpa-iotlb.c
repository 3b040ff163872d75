/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a vDPA device: what the kernel has mapped for it, and how that changes.
 *
 * How it works.  A change is the difference between what is mapped and what shall be, in one
 * batch for each address space.  If the kernel refuses a part, what was done is undone in the
 * same batch, so that a device that applies batches never sees the attempt.  Our record is what the
 * kernel has, after each message.  The kernel's answer to any message that fails is
 * EFAULT, so the cause is looked for afterwards.
 *
 * Rings lie in our address space where DESC_ASID allows it.  Then regions of rings are mapped
 * there, and among the buffers only if some virtqueue's ring cannot be looked for apart.  Regions
 * of the control queue hold its buffers, too: they lie among the guest's memory unless that ring
 * is isolated; its ring alone may be looked for in ours all the same.  The guest's memory never is.
 *
 * Threads: the main thread.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* The difference between two states of an address space: of the one, and of the other alone. */
typedef struct Difference {
    uint32_t asid;
    VdpaMapping **removed, **added;
    unsigned int n_removed, n_added;
} Difference;

static int send_message(VhostVdpa *d, uint32_t asid, uint8_t type, const VdpaMapping *mapping)
{
    struct vhost_msg_v2 message;
    int ret;

    if (d->fd < 0) {
        return -ENOTCONN;
    }
    memset(&message, 0, sizeof(message));
    message.type = VHOST_IOTLB_MSG_V2;
    message.asid = asid;
    message.iotlb.type = type;
    if (mapping) {
        message.iotlb.iova = mapping->iova;
        message.iotlb.size = mapping->size;
        message.iotlb.uaddr = mapping->host;
        message.iotlb.perm = VHOST_ACCESS_RW;
    }
    ret = d->kernel->write(d->kernel, d->fd, &message);
    if (ret == -ENODEV || ret == -ENXIO) {
        vhost_vdpa_lose(d, "its device is not there any more");
        return -ENOTCONN;
    }
    return ret;
}

static int begin(VhostVdpa *d, uint32_t asid)
{
    return vhost_vdpa_has(d, VHOST_BACKEND_F_IOTLB_BATCH)
               ? send_message(d, asid, VHOST_IOTLB_BATCH_BEGIN, NULL) : 0;
}

static int end(VhostVdpa *d, uint32_t asid)
{
    return vhost_vdpa_has(d, VHOST_BACKEND_F_IOTLB_BATCH)
               ? send_message(d, asid, VHOST_IOTLB_BATCH_END, NULL) : 0;
}

/* Pages of this process that drivers have locked, of any device; 0 if nobody says. */
static uint64_t locked_bytes(void)
{
    g_autofree char *status = NULL;
    const char *line;

    if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL)) {
        return 0;
    }
    line = strstr(status, "\nVmPin:");
    return line ? strtoull(line + strlen("\nVmPin:"), NULL, 10) * 1024 : 0;
}

/* For messages. */
static char *describe_range(const VhostVdpa *d, uint64_t iova, uint64_t size)
{
    return g_strdup_printf("%s: memory at 0x%" PRIx64 "-0x%" PRIx64, d->dev.id, iova,
                           iova + (size - 1));
}

/* Why the kernel refused @added[i], as far as it can be told. */
static int explain_refusal(VhostVdpa *d, const Difference *diff, unsigned int i, int ret,
                           GError **errp)
{
    const VdpaMapping *mapping = diff->added[i];
    g_autofree char *range = describe_range(d, mapping->iova, mapping->size);
    const uint64_t locked = locked_bytes();
    uint64_t needed = locked;
    struct rlimit limit;

    if (ret == -ENOTCONN) {
        return vhost_vdpa_error(errp, ENOTCONN, "%s is gone", d->dev.id);
    }
    for (; i < diff->n_added; i++) {
        needed += diff->added[i]->size;
    }
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        locked + mapping->size > limit.rlim_cur) {
        return vhost_vdpa_error(errp, ENOMEM,
                                "%s cannot be mapped: %" PRIu64 " MiB have to be locked in memory, "
                                "and the limit is %" PRIu64 " MiB; raise it (ulimit -l, "
                                "LimitMEMLOCK=)",
                                range, (needed + MIB - 1) / MIB, (uint64_t)limit.rlim_cur / MIB);
    }
    return vhost_vdpa_error(errp, EFAULT,
                            "%s cannot be mapped: the kernel refuses (%s); it may be in more "
                            "pieces than max_iotlb_entries of module vhost_vdpa allows",
                            range, g_strerror(-ret));
}

/* Sends a message about each of @maps; *@done: how many were taken. */
static int send_messages(VhostVdpa *d, uint32_t asid, uint8_t type, VdpaMapping *const *maps,
                         unsigned int n, unsigned int *done)
{
    int ret = 0;

    for (*done = 0; *done < n; ++*done) {
        ret = send_message(d, asid, type, maps[*done]);
        if (ret < 0) {
            break;
        }
    }
    return ret;
}

/* The device has then what it had before the change; or it is lost, which is a state, too. */
static void undo(VhostVdpa *d, const Difference *diff, unsigned int n_removed,
                 unsigned int n_added)
{
    unsigned int done;
    int ret = send_messages(d, diff->asid, VHOST_IOTLB_INVALIDATE, diff->added, n_added, &done);

    if (ret == 0) {
        ret = send_messages(d, diff->asid, VHOST_IOTLB_UPDATE, diff->removed, n_removed, &done);
    }
    if (ret < 0 && d->fd >= 0) {
        vhost_vdpa_lose(d, "memory that it had could not be mapped again");
    }
}

/* Within a batch, if there are batches. */
static int exchange(VhostVdpa *d, const Difference *diff, GError **errp)
{
    unsigned int n_removed, n_added = 0;
    int ret = send_messages(d, diff->asid, VHOST_IOTLB_INVALIDATE, diff->removed, diff->n_removed,
                            &n_removed);

    if (ret < 0) {
        vhost_vdpa_error(errp, -ret, "%s: memory cannot be unmapped: %s", d->dev.id,
                         g_strerror(-ret));
    } else {
        ret = send_messages(d, diff->asid, VHOST_IOTLB_UPDATE, diff->added, diff->n_added,
                            &n_added);
        if (ret < 0) {
            ret = explain_refusal(d, diff, n_added, ret, errp);
        }
    }
    if (ret < 0) {
        undo(d, diff, n_removed, n_added);
    }
    return ret;
}

static int apply(VhostVdpa *d, const Difference *diff, GError **errp)
{
    int ret = begin(d, diff->asid), end_ret;

    if (ret < 0) {
        return vhost_vdpa_error(errp, -ret, "%s: memory cannot be changed: %s", d->dev.id,
                                g_strerror(-ret));
    }
    ret = exchange(d, diff, errp);
    end_ret = end(d, diff->asid);
    if (end_ret < 0 && ret == 0) {
        ret = vhost_vdpa_error(errp, ENOTCONN, "%s: memory cannot be changed: %s", d->dev.id,
                               g_strerror(-end_ret));
    }
    if (end_ret < 0 && d->fd >= 0) {
        /* What the device has of the batch nobody knows. */
        vhost_vdpa_lose(d, "the end of a batch of mappings was refused");
    }
    return ret;
}

static void difference_init(Difference *diff, uint32_t asid, const VdpaSpace *from,
                            const VdpaSpace *to)
{
    unsigned int i = 0, j = 0;

    *diff = (Difference){
        .asid = asid,
        .removed = g_new(VdpaMapping *, from->n),
        .added = g_new(VdpaMapping *, to->n),
    };
    while (i < from->n || j < to->n) {
        VdpaMapping *a = i < from->n ? &from->maps[i] : NULL;
        VdpaMapping *b = j < to->n ? &to->maps[j] : NULL;

        if (a && b && a->serial == b->serial && a->iova == b->iova) {
            i++;
            j++;
        } else if (!b || (a && a->serial <= b->serial)) {
            diff->removed[diff->n_removed++] = a;
            i++;
        } else {
            diff->added[diff->n_added++] = b;
            j++;
        }
    }
}

static void difference_clear(Difference *diff)
{
    g_free(diff->removed);
    g_free(diff->added);
}

static int compare_serials(const void *a, const void *b)
{
    const VdpaMapping *x = a, *y = b;

    return (x->serial > y->serial) - (x->serial < y->serial);
}

static bool any_ring_is_not_apart(const VhostVdpa *d)
{
    unsigned int i;

    for (i = 0; i < d->dev.queue_count; i++) {
        if (!d->rings[i].separable && !d->rings[i].isolated) {
            return true;
        }
    }
    return false;
}

static bool any_ring_is_isolated(const VhostVdpa *d)
{
    unsigned int i;

    for (i = 0; i < d->dev.queue_count; i++) {
        if (d->rings[i].isolated) {
            return true;
        }
    }
    return false;
}

/* Which kinds of regions are mapped in an address space. */
typedef struct SpaceContents {
    bool guest, rings, control;
} SpaceContents;

static SpaceContents contents_of(const VhostVdpa *d, uint32_t asid)
{
    const bool apart = d->dev.rings_apart, isolated = any_ring_is_isolated(d);

    return asid == VDPA_SPACE_OURS
               ? (SpaceContents){ .rings = apart, .control = apart || isolated }
               : (SpaceContents){ .guest = true, .rings = !apart || any_ring_is_not_apart(d),
                                  .control = !isolated };
}

/* What shall be mapped of @map in address space @asid. */
static void plan_space(const VhostVdpa *d, const MemoryMap *map, uint32_t asid, VdpaSpace *space)
{
    const SpaceContents contents = contents_of(d, asid);
    unsigned int i;

    space->maps = g_new(VdpaMapping, MAX(map->n, 1));
    space->n = 0;
    for (i = 0; i < map->n; i++) {
        MemoryRegion *region = map->regions[i];

        if (region->control ? contents.control
            : region->rings ? contents.rings : contents.guest) {
            space->maps[space->n++] = (VdpaMapping){
                .serial = region->serial,
                .iova = region->iova,
                .size = region->size,
                .host = (uintptr_t)region->host,
                .region = memory_region_ref(region),
            };
        }
    }
    qsort(space->maps, space->n, sizeof(space->maps[0]), compare_serials);
}

static void clear_space(VdpaSpace *space)
{
    unsigned int i;

    for (i = 0; i < space->n; i++) {
        memory_region_unref(space->maps[i].region);
    }
    g_clear_pointer(&space->maps, g_free);
    space->n = 0;
}

void vhost_vdpa_forget_spaces(VdpaSpace *spaces)
{
    unsigned int i;

    for (i = 0; i < VDPA_SPACES; i++) {
        clear_space(&spaces[i]);
    }
}

static int change_space(VhostVdpa *d, uint32_t asid, const VdpaSpace *from, const VdpaSpace *to,
                        GError **errp)
{
    Difference diff;
    int ret;

    difference_init(&diff, asid, from, to);
    ret = diff.n_removed || diff.n_added ? apply(d, &diff, errp) : 0;
    difference_clear(&diff);
    return ret;
}

int vhost_vdpa_touch_space(VhostVdpa *d, uint32_t asid, GError **errp)
{
    return apply(d, &(Difference){ .asid = asid }, errp);
}

/* A batch is of one address space, so they are changed one after the other: the smaller first. */
static int change_spaces(VhostVdpa *d, const VdpaSpace *from, const VdpaSpace *to, GError **errp)
{
    int ret = change_space(d, VDPA_SPACE_OURS, &from[VDPA_SPACE_OURS], &to[VDPA_SPACE_OURS],
                           errp);

    if (ret < 0) {
        return ret;
    }
    ret = change_space(d, VDPA_SPACE_BUFFERS, &from[VDPA_SPACE_BUFFERS],
                       &to[VDPA_SPACE_BUFFERS], errp);
    if (ret < 0 && d->fd >= 0 &&
        change_space(d, VDPA_SPACE_OURS, &to[VDPA_SPACE_OURS], &from[VDPA_SPACE_OURS],
                     NULL) < 0) {
        vhost_vdpa_lose(d, "memory of ours that it had could not be mapped again");
    }
    return ret;
}

static int check_region(const VhostVdpa *d, const MemoryRegion *region, GError **errp)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t first = region->iova, last = first + (region->size - 1);
    g_autofree char *range = describe_range(d, first, region->size);

    if ((first | region->size | (uintptr_t)region->host) & (page - 1)) {
        return vhost_vdpa_error(errp, EINVAL, "%s is not of whole pages", range);
    }
    if (last < first || (d->dev.iova_last && (first < d->dev.iova_first ||
                                              last > d->dev.iova_last))) {
        return vhost_vdpa_error(errp, ERANGE,
                                "%s is out of its reach, 0x%" PRIx64 "-0x%" PRIx64, range,
                                d->dev.iova_first, d->dev.iova_last);
    }
    return 0;
}

int vhost_vdpa_set_memory(VhostDevice *dev, const MemoryMap *map, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    VdpaSpace spaces[VDPA_SPACES];
    unsigned int i;
    int ret = vhost_vdpa_check_connected(d, errp);

    for (i = 0; i < map->n && ret == 0; i++) {
        ret = check_region(d, map->regions[i], errp);
    }
    if (ret < 0) {
        return ret;
    }
    for (i = 0; i < VDPA_SPACES; i++) {
        plan_space(d, map, i, &spaces[i]);
    }
    ret = change_spaces(d, d->spaces, spaces, errp);
    if (ret < 0) {
        vhost_vdpa_forget_spaces(spaces);
        return ret;
    }
    vhost_vdpa_forget_spaces(d->spaces);
    memcpy(d->spaces, spaces, sizeof(spaces));
    return 0;
}

int vhost_vdpa_unmap_all(VhostVdpa *d, GError **errp)
{
    const VdpaSpace nothing[VDPA_SPACES] = { { 0 } };
    int ret = change_spaces(d, d->spaces, nothing, errp);

    if (ret == 0) {
        vhost_vdpa_forget_spaces(d->spaces);
    }
    return ret;
}

bool vhost_vdpa_is_apart(const VhostVdpa *d, uint64_t iova)
{
    const VdpaSpace *space = &d->spaces[VDPA_SPACE_OURS];
    unsigned int i;

    for (i = 0; i < space->n; i++) {
        if (iova - space->maps[i].iova < space->maps[i].size) {
            return true;
        }
    }
    return false;
}
