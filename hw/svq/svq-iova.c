/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the guest's memory and our rings lie for the device.
 *
 * How it works.  The guest's memory has its guest addresses as IOVAs as far as the device reaches,
 * and only what it does not reach is put elsewhere: then a device can be given the guest's
 * own rings, and a shadow ring costs no translation but a check.  Our rings go as high up as can be, out
 * of the way of memory that the guest is given later.  What has been placed stays where it is.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"

#include <errno.h>
#include <inttypes.h>

/* What a pointer of user space can be: devices in processes take no more, and it is plenty. */
#define IOVA_LAST       UINT64_C(0x7fffffffffff)
#define IOVA_ALIGN      UINT64_C(0x200000)
#define IOVA_ALIGN_MIN  UINT64_C(0x1000)

typedef struct Range {
    uint64_t first, last;
} Range;

static Range device_range(const SvqDevice *dev)
{
    const VhostDevice *backend = dev->backend;

    if (!backend->iova_last) {
        return (Range){ 0, IOVA_LAST };
    }
    return (Range){ backend->iova_first, backend->iova_last };
}

static int insert(IOVATree *tree, uint64_t iova, uint64_t size)
{
    const IOVAMapping mapping = { .iova = iova, .last = iova + (size - 1), .perm = IOVA_PERM_RW };

    return iova_tree_insert(tree, &mapping);
}

/* Of [addr, addr + size), what lies in @range. */
static void insert_within(IOVATree *tree, Range range, uint64_t addr, uint64_t size)
{
    const uint64_t first = MAX(addr, range.first);
    const uint64_t last = MIN(addr + (size - 1), range.last);

    if (first <= last) {
        insert(tree, first, last - first + 1);
    }
}

/* Of what is ours already, what lies in @range. */
static void insert_ours(IOVATree *tree, Range range, const SvqDevice *dev)
{
    if (dev->arena) {
        insert_within(tree, range, dev->arena->iova, dev->arena->size);
    }
    if (dev->control.region) {
        insert_within(tree, range, dev->control.region->iova, dev->control.region->size);
    }
}

static int place_elsewhere(IOVATree *tree, MemoryRegion *region)
{
    const uint64_t align = region->size >= IOVA_ALIGN ? IOVA_ALIGN : IOVA_ALIGN_MIN;
    IOVAMapping mapping = { .perm = IOVA_PERM_RW };
    int ret = iova_tree_alloc(tree, &mapping, region->size, align);

    if (ret == 0) {
        region->iova = mapping.iova;
    }
    return ret;
}

static bool is_in_use(const SvqDevice *dev, const MemoryRegion *region)
{
    unsigned int i;

    for (i = 0; i < dev->map->n; i++) {
        if (dev->map->regions[i] == region) {
            return true;
        }
    }
    return false;
}

int svq_iova_place_guest(const SvqDevice *dev, MemoryRegion *const *regions, unsigned int n,
                         GError **errp)
{
    const Range range = device_range(dev);
    IOVATree *tree = iova_tree_new(range.first, range.last);
    g_autofree bool *placed = g_new0(bool, n + 1);
    unsigned int pass, i;
    int ret = 0;

    insert_ours(tree, range, dev);
    /* First what has its place already, then at the guest's addresses, then anywhere. */
    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < n; i++) {
            MemoryRegion *region = regions[i];

            if (!placed[i] && (pass > 0 || is_in_use(dev, region))) {
                placed[i] = insert(tree, region->iova, region->size) == 0 || pass == 0;
            }
        }
    }
    for (i = 0; i < n && ret == 0; i++) {
        if (!placed[i]) {
            ret = place_elsewhere(tree, regions[i]);
        }
    }
    iova_tree_free(tree);
    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "%s: the device reaches addresses 0x%" PRIx64 " to 0x%" PRIx64
                    ", which is too little for the guest's memory (0x%" PRIx64 " bytes at 0x%" PRIx64
                    " found no place)",
                    dev->id, range.first, range.last, regions[i - 1]->size, regions[i - 1]->gpa);
        return -ENOSPC;
    }
    return 0;
}

/* In @range, beside the guest's memory, wherever that lies for the device and for the guest. */
static int alloc_beside_guest(const SvqDevice *dev, Range range, uint64_t size, uint64_t *iova)
{
    IOVATree *tree = iova_tree_new(range.first, range.last);
    IOVAMapping arena = { .perm = IOVA_PERM_RW };
    unsigned int i;
    int ret;

    for (i = 0; i < dev->map->n; i++) {
        const MemoryRegion *region = dev->map->regions[i];

        insert_within(tree, range, region->iova, region->size);
        if (region->gpa != region->iova) {
            /* The arena has one address, for both, and a map has nothing twice. */
            insert_within(tree, range, region->gpa, region->size);
        }
    }
    insert_ours(tree, range, dev);
    ret = iova_tree_alloc(tree, &arena, size, IOVA_ALIGN);
    iova_tree_free(tree);
    *iova = arena.iova;
    return ret;
}

int svq_iova_place_arena(const SvqDevice *dev, uint64_t size, uint64_t *iova)
{
    const Range all = device_range(dev);
    const uint64_t last = MIN(all.last, IOVA_LAST);
    /* With room to align it, and what was placed before it. */
    const uint64_t placed = dev->arena ? dev->arena->size + IOVA_ALIGN : 0;
    const uint64_t room = size + IOVA_ALIGN + placed;
    const Range high = { last > room ? MAX(all.first, last - room) : all.first, last };

    if (high.first <= high.last && alloc_beside_guest(dev, high, size, iova) == 0) {
        return 0;
    }
    return alloc_beside_guest(dev, all, size, iova);
}
