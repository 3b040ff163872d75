/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a test needs to play a guest: ring areas, memory, and a pen to write descriptors with.
 */
#ifndef TESTS_LIB_GUEST_H
#define TESTS_LIB_GUEST_H

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring.h"

/*
 * Allocates the three areas of a ring, cleared, each a heap block of exactly its size, so
 * that the address sanitizer sees a step over the edge.  Sets base to the beginning.
 */
void guest_ring_alloc(VringConfig *config);
void guest_ring_free(VringConfig *config);

typedef struct GuestRegion {
    uint64_t gpa, size, iova;
} GuestRegion;

/* A map of fresh, cleared memory; its regions' user addresses are their GPAs + 2^40. */
#define GUEST_USER_OFFSET (UINT64_C(1) << 40)
MemoryMap *guest_memory_new(const GuestRegion *regions, unsigned int n);

/* Frees it and waits until it is gone, so that leak checkers see that. */
void guest_memory_free(MemoryMap *map);

/* Writes a descriptor as a split or a packed ring (with all of its flags) has it. */
void guest_split_desc(const VringConfig *config, uint32_t i, uint64_t addr, uint32_t len,
                      uint16_t flags, uint16_t next);
void guest_packed_desc(const VringConfig *config, uint32_t i, uint64_t addr, uint32_t len,
                       uint16_t id, uint16_t flags);

/* Split: makes @head the next available buffer of a driver that is at index @idx. */
void guest_split_avail(const VringConfig *config, uint16_t idx, uint16_t head);

#endif
