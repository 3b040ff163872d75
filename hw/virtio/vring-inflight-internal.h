/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of going on from a record, shared by what is common and split (vring-inflight.c)
 * and what is packed (vring-inflight-packed.c).
 */
#ifndef HW_VIRTIO_VRING_INFLIGHT_INTERNAL_H
#define HW_VIRTIO_VRING_INFLIGHT_INTERNAL_H

#include "hw/virtio/vring-device.h"

/* A buffer in flight; @age: descriptors (split: buffers) taken since, itself included. */
typedef struct Pending {
    uint64_t age;
    uint32_t n_descs;
    uint16_t id;
    bool writable;
} Pending;

/* Where a live record stands.  Positions are indexes (split) or numbers as above (packed). */
typedef struct Standing {
    Pending *pending;
    uint32_t n;                 /* buffers in flight */
    uint32_t in_flight;         /* their descriptors (split: buffers) */
    uint32_t avail, used;       /* positions */
    uint32_t between;           /* how far they are apart */
    uint32_t first, published;  /* of vring_inflight_published() */
    bool dropped;               /* packed: see find_dropped() */
    uint32_t before_dropped;    /* how far they are behind the used position */
} Standing;

static inline uint64_t inflight_taken(const VringDevice *vr)
{
    return atomic_load_explicit(&vr->inflight->taken, memory_order_relaxed);
}

static inline uint64_t inflight_slot(const VringDevice *vr, uint32_t id)
{
    return atomic_load_explicit(&vr->inflight->slots[id], memory_order_relaxed);
}

static inline void inflight_clear_slot(VringDevice *vr, uint32_t id)
{
    atomic_store_explicit(&vr->inflight->slots[id], 0, memory_order_relaxed);
}

/* What is in flight, the youngest first, into pending[0..n).  Slots of age 0 do not count. */
uint32_t inflight_list(const VringDevice *vr, Pending *pending);

#define INFLIGHT_DAMAGED "it is damaged"

/* Where the record says that a packed queue stands; NULL, or why that cannot be. */
const char *inflight_stand_packed(const VringDevice *vr, Standing *standing);

/* Whether the ring is one where a queue stands there; NULL, or why not. */
const char *inflight_check_packed(VringDevice *vr, const VringConfig *config, Standing *standing);

/* Goes there, and publishes what was put. */
void inflight_step_in_packed(VringDevice *vr, const Standing *standing);

/* Puts back what lies before that which the VMM dropped; then the queue stands where that says. */
void inflight_complete_before_dropped(VringDevice *vr, const Standing *standing);

#endif
