/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of a guest that does not exist: regions of shared memory, and a map of them.
 */
#ifndef TOOLS_SVQ_BENCH_GUEST_MEMORY_H
#define TOOLS_SVQ_BENCH_GUEST_MEMORY_H

#include <glib.h>
#include <stdint.h>

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring.h"

typedef struct GuestMemory {
    unsigned int n;             /* regions */
    MemoryRegion **regions;
    uint64_t *used;             /* bytes handed out of each */
    MemoryMap *map;
} GuestMemory;

/* What guest_memory_alloc() found. */
typedef struct GuestBlock {
    void *host;
    uint64_t gpa;
} GuestBlock;

/*
 * @n regions of @size bytes each, with holes between them; the device knows guest address A
 * as A + @iova_offset.  Pages that are never touched cost nothing.
 */
GuestMemory *guest_memory_new(unsigned int n, uint64_t size, uint64_t iova_offset, GError **errp);
void guest_memory_free(GuestMemory *memory);

/* Zeroed, never given back.  There must be room. */
GuestBlock guest_memory_alloc(GuestMemory *memory, unsigned int region, uint64_t size,
                              uint64_t align);

/* The three areas of a virtqueue, in region 0, each on cache lines of its own. */
typedef struct GuestRing {
    VringAreas areas;
    uint64_t desc_gpa, driver_gpa, device_gpa;
} GuestRing;

GuestRing guest_memory_alloc_ring(GuestMemory *memory, uint32_t num, bool packed);

/* At least what guest_memory_alloc_ring() takes. */
uint64_t guest_ring_size(uint32_t num, bool packed);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestMemory, guest_memory_free)

#endif
