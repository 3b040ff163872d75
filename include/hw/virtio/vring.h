/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory layout of virtqueues, split and packed (virtio 1.3, sections 2.7 and 2.8).
 *
 * Ring memory is shared with somebody we do not trust.  Its fields have types of
 * their own (le16, le32, le64) that can only be reached through the single-copy
 * atomic accessors below, so each access is visible, happens once, and is converted
 * to host order.  A descriptor is two 64-bit words, and each word is fetched or stored
 * whole: the word `meta` holds length, flags and next (or id) together.
 */
#ifndef HW_VIRTIO_VRING_H
#define HW_VIRTIO_VRING_H

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VRING_MAX_SIZE 32768

/*
 * For what is done with each buffer: without it the compiler keeps these functions whole,
 * and a caller that knows the ring's format pays for calls and for the other format.
 */
#define VRING_INLINE static inline __attribute__((always_inline))

/* Descriptor flags (2.7.5, 2.8.13). */
#define VRING_DESC_F_NEXT       0x0001
#define VRING_DESC_F_WRITE      0x0002
#define VRING_DESC_F_INDIRECT   0x0004
#define VRING_PACKED_F_AVAIL    0x0080
#define VRING_PACKED_F_USED     0x8000

/* Split: suppression flags without VIRTIO_F_EVENT_IDX (2.7.7, 2.7.10). */
#define VRING_AVAIL_F_NO_INTERRUPT  1
#define VRING_USED_F_NO_NOTIFY      1

/* Packed: event suppression (2.8.10). */
#define VRING_PACKED_EVENT_ENABLE   0
#define VRING_PACKED_EVENT_DISABLE  1
#define VRING_PACKED_EVENT_DESC     2

typedef struct { _Atomic uint16_t v; } le16;
typedef struct { _Atomic uint32_t v; } le32;
typedef struct { _Atomic uint64_t v; } le64;

static inline uint16_t le16_load(const le16 *p)
{
    return le16toh(atomic_load_explicit(&p->v, memory_order_relaxed));
}

static inline uint16_t le16_load_acquire(const le16 *p)
{
    return le16toh(atomic_load_explicit(&p->v, memory_order_acquire));
}

static inline void le16_store(le16 *p, uint16_t value)
{
    atomic_store_explicit(&p->v, htole16(value), memory_order_relaxed);
}

static inline void le16_store_release(le16 *p, uint16_t value)
{
    atomic_store_explicit(&p->v, htole16(value), memory_order_release);
}

static inline uint32_t le32_load(const le32 *p)
{
    return le32toh(atomic_load_explicit(&p->v, memory_order_relaxed));
}

static inline void le32_store(le32 *p, uint32_t value)
{
    atomic_store_explicit(&p->v, htole32(value), memory_order_relaxed);
}

static inline uint64_t le64_load(const le64 *p)
{
    return le64toh(atomic_load_explicit(&p->v, memory_order_relaxed));
}

static inline uint64_t le64_load_acquire(const le64 *p)
{
    return le64toh(atomic_load_explicit(&p->v, memory_order_acquire));
}

static inline void le64_store(le64 *p, uint64_t value)
{
    atomic_store_explicit(&p->v, htole64(value), memory_order_relaxed);
}

static inline void le64_store_release(le64 *p, uint64_t value)
{
    atomic_store_explicit(&p->v, htole64(value), memory_order_release);
}

/*
 * Between stores to a ring and the store to a device's register that makes it look there.  x86
 * keeps that order by itself; elsewhere a device is not among those whom an SMP fence reaches.
 */
static inline void vring_io_write_barrier(void)
{
#if defined(__aarch64__)
    __asm__ __volatile__("dmb oshst" ::: "memory");
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* A descriptor of either format.  meta: see the functions below. */
typedef struct VringDesc {
    le64 addr;
    le64 meta;
} VringDesc;

/* Split: len in bits 0..31, flags in 32..47, next in 48..63. */
static inline uint64_t vring_split_meta(uint32_t len, uint32_t flags, uint64_t next)
{
    return len | (uint64_t)flags << 32 | next << 48;
}

/* Packed: len in bits 0..31, buffer id in 32..47, flags in 48..63. */
static inline uint64_t vring_packed_meta(uint32_t len, uint64_t id, uint64_t flags)
{
    return len | id << 32 | flags << 48;
}

typedef struct VringAvail {
    le16 flags;
    le16 idx;
    le16 ring[];        /* num heads, then used_event */
} VringAvail;

/* id in bits 0..31, len in 32..63; only 4-byte aligned, hence two words. */
typedef struct VringUsedElem {
    le32 id;
    le32 len;
} VringUsedElem;

typedef struct VringUsed {
    le16 flags;
    le16 idx;
    VringUsedElem ring[];   /* num elements, then avail_event (le16) */
} VringUsed;

typedef struct VringPackedEvent {
    le32 word;          /* off_wrap in bits 0..15, flags in 16..31 */
} VringPackedEvent;

/*
 * Where the three areas of a virtqueue lie, in our address space: descriptor area,
 * driver area (available ring or driver event), device area (used ring or device event).
 */
typedef struct VringAreas {
    void *desc;
    void *driver;
    void *device;
} VringAreas;

/* Bytes of each area for @num descriptors (2.7, 2.8.10.1). */
static inline size_t vring_desc_size(unsigned int num)
{
    return (size_t)num * sizeof(VringDesc);
}

static inline size_t vring_driver_size(unsigned int num, bool packed)
{
    return packed ? sizeof(VringPackedEvent) : 6 + 2 * (size_t)num;
}

static inline size_t vring_device_size(unsigned int num, bool packed)
{
    return packed ? sizeof(VringPackedEvent) : 6 + 8 * (size_t)num;
}

#define VRING_DESC_ALIGN            16
#define VRING_SPLIT_DRIVER_ALIGN    2
#define VRING_SPLIT_DEVICE_ALIGN    4
#define VRING_PACKED_EVENT_ALIGN    4

/* A size a ring may have: 1..32768; a power of two if split (2.7, 2.8.10.1). */
static inline bool vring_num_valid(uint32_t num, bool packed)
{
    return num >= 1 && num <= VRING_MAX_SIZE && (packed || (num & (num - 1)) == 0);
}

/*
 * A ring position as it travels in vhost messages: split, the available index (used
 * is found in the ring); packed, index in bits 0..14 and wrap counter in bit 15 of each.
 */
typedef struct VringBase {
    uint16_t avail;
    uint16_t used;
} VringBase;

/* Where every ring begins: split 0; packed, index 0 with wrap counter 1. */
static inline VringBase vring_base_start(bool packed)
{
    uint16_t pos = packed ? 0x8000 : 0;

    return (VringBase){ pos, pos };
}

/*
 * Whether a notification at @event is due when an index moves from @old to @now
 * (2.7.7.2): @event lies in the window [old, now).
 */
static inline bool vring_need_event(uint16_t event, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

/* The wrap counter of a position whose descriptors carry @flags, as bit 15. */
static inline uint16_t vring_packed_wrap(uint16_t flags)
{
    return flags & VRING_PACKED_F_AVAIL ? 0x8000 : 0;
}

/* Packed: whether @word of an event structure asks for a notification of (old, now]. */
static inline bool vring_packed_event_due(uint32_t word, bool event_idx, uint16_t now,
                                          uint16_t now_wrap, uint16_t moved, uint32_t num)
{
    uint16_t flags = word >> 16 & 3;
    uint16_t event = word & 0x7fff;

    if (flags != VRING_PACKED_EVENT_DESC || !event_idx) {
        return flags != VRING_PACKED_EVENT_DISABLE;
    }
    if ((word & 0x8000) != now_wrap) {
        event -= (uint16_t)num;
    }
    return vring_need_event(event, now, (uint16_t)(now - moved));
}

/* One element of a buffer: so many bytes at an address, read or written by the device. */
typedef struct VringSegment {
    uint64_t addr;
    uint32_t len;
    uint32_t flags;     /* VRING_DESC_F_WRITE or 0 */
} VringSegment;

/* What is wrong with a ring: filled in when a function returns -EPROTO. */
typedef struct VringError {
    const char *what;       /* in words */
    const char *section;    /* of the virtio 1.3 specification; NULL: it is a rule of ours */
    uint32_t index;         /* where: descriptor index or ring position */
    uint64_t value;         /* what stood there */
} VringError;

/* How the other side names a queue, to tell whether a record is of this one. */
typedef struct VringIdentity {
    uint64_t desc, driver, device;      /* addresses, of whatever kind */
    VringBase base;                     /* where it said last that the queue starts */
} VringIdentity;

/* How to set up a virtqueue of either role. */
typedef struct VringConfig {
    uint32_t num;
    bool packed, event_idx, in_order, indirect;
    VringAreas areas;
    /* Device role only. */
    bool put_in_order;          /* its user puts back in the order of taking: IN_ORDER is kept */
    VringBase base;             /* where it goes on, unless a live record knows better */
    struct VringInflight *inflight;     /* its record, see vring-inflight.h; NULL: none is kept */
    VringIdentity identity;             /* for the record */
} VringConfig;

/* 0, or -EINVAL with @error: a size or an alignment that section 2.7 or 2.8 forbids. */
int vring_config_check(const VringConfig *config, VringError *error);

/* One line for a person; free it. */
char *vring_error_to_string(const VringError *error);

__attribute__((cold, noinline)) void vring_error_set(VringError *error, const char *what,
                                                     const char *section, uint32_t index,
                                                     uint64_t value);

/* Fills @error in; -EPROTO, in sight of the compiler. */
static inline int vring_fail(VringError *error, const char *what, const char *section,
                             uint32_t index, uint64_t value)
{
    vring_error_set(error, what, section, index, value);
    return -EPROTO;
}

#endif
