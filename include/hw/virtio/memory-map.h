/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MemoryMap: an immutable snapshot of the memory that a guest shares with us.
 *
 * How it works.  Regions are sorted by guest-physical address and do not overlap.  A map
 * is built by the main thread, published with rcu_assign_pointer() and never changed;
 * memory_map_free() frees it after a grace period, and only
 * then is a region's memory unmapped (if no other map shares it).  Data-path threads read
 * it under RCU (util/rcu.h) and never take references.
 *
 * Addresses are translated by guest-physical address, never by way of a host virtual
 * address: two guest addresses may alias one host address.
 */
#ifndef HW_VIRTIO_MEMORY_MAP_H
#define HW_VIRTIO_MEMORY_MAP_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/rcu.h"

#define MEMORY_MAP_MAX_REGIONS 16384

/* One mapping of shared memory; counted, shared by the maps that contain it. */
typedef struct MemoryRegion {
    uint64_t gpa;           /* first guest-physical address */
    uint64_t size;          /* bytes */
    uint64_t iova;          /* what the device calls gpa */
    uint64_t user_addr;     /* what the VMM calls gpa (vhost-user ring addresses) */
    uint8_t *host;          /* what we call gpa */
    int fd;                 /* the memory's file, owned */
    uint64_t fd_offset;     /* of gpa, bytes */
    bool rings;             /* holds rings of ours, nothing of the guest's */
    bool control;           /* holds the control queue's ring and commands, nothing else */
    uint64_t serial;        /* differs between any two regions of this process */
    /* private */
    void *mapping;
    size_t mapping_size;
    _Atomic unsigned int refs;
} MemoryRegion;

/* What a translation needs of a region, on half a cache line. */
typedef struct MemoryRange {
    uint64_t gpa;
    uint64_t size;          /* bytes */
    uint64_t iova_delta;    /* iova - gpa, modulo 2^64 */
    uint8_t *host;
} MemoryRange;

typedef struct MemoryMap {
    unsigned int n;         /* regions */
    bool identity;          /* every iova is the gpa */
    /*
     * For each granule, which is 2^granule_bits bytes long, the range to look at first.  There
     * are some granules for each range, so most of them lie within one range.
     */
    uint64_t base;          /* gpa of the first */
    uint64_t n_granules;
    unsigned int granule_bits;
    const MemoryRange **granules;
    MemoryRange *ranges;    /* sorted by gpa, disjoint; an empty map has one of size 0 */
    MemoryRegion **regions; /* as ranges */
    struct rcu_head rcu;
} MemoryMap;

/*
 * Maps @size bytes at @offset of @fd as guest memory [gpa, gpa + size).  Takes ownership
 * of @fd, on failure too.  iova is set to gpa.  NULL and @errp: size 0, address or offset
 * wraps, file too short, mmap fails.
 */
MemoryRegion *memory_region_new(int fd, uint64_t offset, uint64_t gpa, uint64_t size,
                                uint64_t user_addr, GError **errp);
MemoryRegion *memory_region_ref(MemoryRegion *region);
void memory_region_unref(MemoryRegion *region);

/*
 * A map of @n regions in any order; takes a reference to each. NULL and @errp: more than
 * MEMORY_MAP_MAX_REGIONS, or two overlap in gpa.  n may be 0.
 */
MemoryMap *memory_map_new(MemoryRegion *const *regions, unsigned int n, GError **errp);

/* Any thread; NULL is allowed.  Frees the map after a grace period. */
void memory_map_free(MemoryMap *map);

/* Whether [gpa, gpa + len) lies within @range. */
static inline bool memory_range_holds(const MemoryRange *range, uint64_t gpa, uint64_t len)
{
    uint64_t end;

    return !__builtin_add_overflow(gpa - range->gpa, len, &end) && end <= range->size;
}

/* memory_map_find() for addresses whose granule does not tell: a search. */
const MemoryRange *memory_map_search(const MemoryMap *map, uint64_t gpa, uint64_t len);

/* The range that holds [gpa, gpa + len), or NULL.  Data path. */
static inline const MemoryRange *memory_map_find(const MemoryMap *map, uint64_t gpa, uint64_t len)
{
    const uint64_t granule = (gpa - map->base) >> map->granule_bits;

    if (G_LIKELY(granule < map->n_granules)) {
        const MemoryRange *range = map->granules[granule];

        if (G_LIKELY(memory_range_holds(range, gpa, len))) {
            return range;
        }
    }
    return memory_map_search(map, gpa, len);
}

/* The host address of [gpa, gpa + size), or NULL if that is not within one region. */
void *memory_map_host(const MemoryMap *map, uint64_t gpa, uint64_t size);

/* The same for a VMM's user address.  *gpa, unless NULL, is what the guest calls it. */
void *memory_map_host_of_user(const MemoryMap *map, uint64_t user_addr, uint64_t size,
                              uint64_t *gpa);

/* The host address of [iova, iova + size) as a device names it, or NULL. */
void *memory_map_host_of_iova(const MemoryMap *map, uint64_t iova, uint64_t size);

#endif
