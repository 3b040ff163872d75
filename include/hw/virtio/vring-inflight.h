/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The record of a virtqueue in the device's role: what it takes to go on with the queue after the
 * process that worked it was killed.
 *
 * How it works.  The record is not a copy of what a VringDevice knows, it is where it knows it:
 * the buffers in flight and how far it got.  It lies in memory of the caller's choice, and if
 * that is a shared file it is still there after a SIGKILL.  All else follows from it:
 *
 *   a slot       one word for each buffer id, written with one store, so that a kill finds it
 *                whole; 0: not in flight
 *   available    the position where the queue began, plus @taken
 *   used         that, less the descriptors of the slots
 *
 * Each step is one store that makes it true, and what it rests on is stored before; so a kill
 * between any two instructions finds it done or not done:
 *
 *   take      the slot, then @taken: a slot that begins at @taken does not count yet
 *   untake    @taken, then the slot: the same
 *   put       the used element in the ring, then the slot is cleared.  Split: elements past the
 *             used index are nobody's yet.  Packed: a used element may lie on a descriptor that
 *             would be needed if the put were taken back; but its flags show it, and the
 *             put is completed.  A burst's first is not written to the ring but to @held
 *   publish   the ring, then @published
 *
 * A kill is no power failure.  The stores of a killed process are in the page cache in the order
 * in which it made them, on any CPU, so only the compiler must be told of that order:
 * vring_inflight_step().
 *
 * What happens to buffers in flight does not depend on the type of the device: one that has room
 * for the device to write (a network device's receive buffers, the status of a block request)
 * asks for something, and asking again does no harm.  One that the device only reads (what a
 * network device sends) may have had its effect already, and must not have it twice.
 *
 * Threads: one at a time.
 */
#ifndef HW_VIRTIO_VRING_INFLIGHT_H
#define HW_VIRTIO_VRING_INFLIGHT_H

#include "hw/virtio/vring.h"

/* A slot: n_descs in bits 0..15, VRING_DESC_F_WRITE in 16..17, the number of its first
 * descriptor (split: of the buffer), counted like @taken, in 18..63. */
#define VRING_SLOT_FLAGS_SHIFT  16
#define VRING_SLOT_SEQ_SHIFT    18
#define VRING_SLOT_SEQ_MASK     (UINT64_MAX >> VRING_SLOT_SEQ_SHIFT)

typedef struct VringInflight {
    /* Written at a start, while the record is not live. */
    _Atomic uint32_t live;          /* VRING_INFLIGHT_LIVE: the rest holds */
    uint32_t num;
    uint32_t packed;
    VringBase base;                 /* where the queue stood when @taken was 0 */
    VringIdentity identity;

    /* Written on the way of a buffer. */
    _Alignas(64) _Atomic uint64_t taken;    /* descriptors (split: buffers) since then */
    _Atomic uint64_t held;          /* packed: the used element of a burst's first buffer */
    _Atomic uint32_t published;     /* see vring_inflight_published() */
    _Alignas(64) _Atomic uint64_t slots[];  /* by buffer id */
} VringInflight;

#define VRING_INFLIGHT_LIVE 0x6c697665

static inline size_t vring_inflight_size(uint32_t num)
{
    return sizeof(VringInflight) + num * sizeof(uint64_t);
}

/*
 * What the program stores before this is in memory before what it stores after it, for
 * whoever finds the record after a kill.  No instruction: see above.
 */
static inline void vring_inflight_step(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* @writes: VRING_DESC_F_WRITE if the device may write to the buffer, or 0. */
static inline uint64_t vring_slot(uint64_t seq, uint32_t writes, uint32_t n_descs)
{
    return seq << VRING_SLOT_SEQ_SHIFT | writes << VRING_SLOT_FLAGS_SHIFT | n_descs;
}

static inline uint64_t vring_slot_seq(uint64_t slot)
{
    return slot >> VRING_SLOT_SEQ_SHIFT;
}

static inline uint32_t vring_slot_descs(uint64_t slot)
{
    return slot & UINT16_MAX;
}

static inline bool vring_slot_is_writable(uint64_t slot)
{
    return slot & (uint64_t)VRING_DESC_F_WRITE << VRING_SLOT_FLAGS_SHIFT;
}

/*
 * Where the burst published last begins, and where it ends: the used position.  Split: the used
 * index; packed: with the wrap counter in bit 15.
 */
static inline uint32_t vring_inflight_published(uint16_t first, uint16_t next)
{
    return first | (uint32_t)next << 16;
}

static inline bool vring_inflight_is_live(const VringInflight *record)
{
    return atomic_load_explicit(&record->live, memory_order_relaxed) == VRING_INFLIGHT_LIVE;
}

/* The queue was stopped and whoever starts it again knows where: nothing of the record holds. */
static inline void vring_inflight_clear(VringInflight *record)
{
    atomic_store_explicit(&record->live, 0, memory_order_relaxed);
}

/* What came of a record when its queue was started. */
typedef struct VringRecovery {
    bool recovered;             /* the queue goes on where the record says */
    const char *discarded;      /* why it does not, though the record was live; or NULL */
    unsigned int completed;     /* buffers in flight that were put back with length 0 */
    unsigned int offered;       /* buffers in flight that are available again */
} VringRecovery;

#endif
