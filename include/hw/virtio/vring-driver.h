/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue worked in the driver's role: add buffers, publish them, collect them used.
 *
 * How it works.  The other side of the ring is a device that we do not trust.  What we
 * know of the buffers that it has lives in @slots, by buffer id (split: the index of the
 * chain's first descriptor), and in @mirror, the elements; never in the ring: a used id is
 * looked up there, its length is compared with what was offered, and the ring is not read for
 * anything else.
 *
 * Free descriptors (split) and free ids (packed, as many for a buffer as it has descriptors)
 * form one list, taken at its head and given back at its tail: with a device that works
 * in order, descriptors are taken in ring order for ever, as IN_ORDER demands and caches like.
 * If IN_ORDER is negotiated that is so by itself, and nothing is written to the list.
 *
 * Buffers are added in a burst: the device sees nothing of it before
 * vring_driver_publish().
 *
 *   while (vring_driver_has_room(vr, n)) vring_driver_add(vr, packed, seg, n, cookie);
 *   vring_driver_publish(vr, packed); if (vring_driver_needs_kick(vr, packed)) ring the bell
 *   while ((ret = vring_driver_collect(vr, packed, &cookie, &len)) > 0) ...
 *
 * Who moves bursts and counts instructions uses vring-driver-burst.h, on which add and collect are
 * made.  As in vring-device.h the format is a compile-time constant of each caller.
 *
 * Barriers: publishing releases what the device acquires (split: the available index;
 * packed: a descriptor's flags); collecting acquires what the device released.  The full
 * fences stand between our index and the device's event field and pair with the device's
 * own (2.7.13.4.1, 2.8.21.3.1).
 *
 * Threads: one at a time.  Virtio 1.3, sections 2.7 and 2.8.
 */
#ifndef HW_VIRTIO_VRING_DRIVER_H
#define HW_VIRTIO_VRING_DRIVER_H

#include <errno.h>
#include <glib.h>

#include "hw/virtio/vring.h"

/*
 * Chains from this length on are offered as an indirect table where that is negotiated, so
 * that they take one descriptor of the ring: see docs/devel/architecture.rst for when that pays.
 */
#define VRING_INDIRECT_MIN 3
#define VRING_INDIRECT_MAX 8    /* entries of a table; longer chains are offered flat */

/* A buffer that the device has. */
typedef struct VringDriverSlot {
    uint32_t cookie;        /* the caller's */
    uint32_t writable;      /* bytes that the device may write */
    uint32_t n_descs;       /* descriptors of the ring that it takes; 0: the device has it not */
    uint32_t last;          /* of the chain's places in the list */
} VringDriverSlot;

typedef struct VringDriver {
    /* Constant after vring_driver_init(). */
    uint32_t num;
    uint32_t mask;              /* split: num - 1 */
    bool packed, event_idx, in_order, indirect;
    VringDesc *desc;
    VringAvail *avail;          /* split */
    VringUsed *used;            /* split */
    VringPackedEvent *driver_event;     /* packed */
    VringPackedEvent *device_event;     /* packed */
    VringDriverSlot *slots;     /* by id */
    uint16_t *next;             /* the free list and the links of chains */
    VringSegment *mirror;       /* elements in flight, along those links; or INDIRECT and none;
                                 * with the caller's addresses, if the device has others */
    VringSegment *table_mirror; /* indirect: VRING_INDIRECT_MAX for each id */
    VringDesc *tables;          /* indirect: VRING_INDIRECT_MAX entries for each id */
    uint64_t tables_addr;       /* what the device calls them */

    /* Written by add. */
    uint16_t avail_idx;         /* split: free running; packed: ring position */
    uint16_t avail_published;   /* avail_idx at the last publish */
    uint16_t avail_flags;       /* packed: AVAIL and USED bits of an available descriptor */
    uint16_t added_descs;       /* packed: descriptors added since the last publish */
    uint16_t held_idx;
    bool held;                  /* packed: the burst's first descriptor waits for publish */
    uint64_t held_meta;

    /* Written by add and collect. */
    uint32_t num_free;          /* descriptors */
    uint16_t free_head;
    uint32_t ids_taken;         /* packed: buffers in flight */

    /* Written by collect. */
    uint16_t free_tail;
    uint32_t batch_len;
    uint16_t used_idx;          /* split: free running; packed: ring position */
    uint16_t used_seen;         /* split: the device's index as last read */
    uint16_t used_flags;        /* packed: AVAIL and USED bits of a used descriptor */
    uint16_t oldest;            /* in_order: the id that is used next */
    bool in_batch;              /* in_order: the device used all up to batch_id at once */
    uint16_t batch_id;

    VringError error;
} VringDriver;

/*
 * Clears the ring's areas and allocates what the queue needs until vring_driver_cleanup().
 * @tables: num * VRING_INDIRECT_MAX descriptors that the device knows at @tables_addr; NULL
 * (or indirect not set): all chains are offered flat. config->base is not used: a driver
 * begins at the beginning.  0, or -EINVAL with vr->error.
 */
int vring_driver_init(VringDriver *vr, const VringConfig *config, VringDesc *tables,
                      uint64_t tables_addr);
void vring_driver_cleanup(VringDriver *vr);

/* Buffers added and not collected. */
static inline uint32_t vring_driver_in_flight(const VringDriver *vr, const bool packed)
{
    return packed ? vr->ids_taken : (uint16_t)(vr->avail_idx - vr->used_idx);
}

static inline bool vring_driver_uses_table(const VringDriver *vr, unsigned int n)
{
    return vr->indirect && n >= VRING_INDIRECT_MIN && n <= VRING_INDIRECT_MAX;
}

/* Descriptors of the ring that a buffer of @n elements takes. */
static inline unsigned int vring_driver_descs(const VringDriver *vr, unsigned int n)
{
    return vring_driver_uses_table(vr, n) ? 1 : n;
}

/* Whether a buffer of @n elements fits into so many descriptors. */
static inline bool vring_driver_fits(const VringDriver *vr, uint32_t num_free, unsigned int n)
{
    return n <= num_free || vring_driver_descs(vr, n) <= num_free;
}

static inline bool vring_driver_has_room(const VringDriver *vr, unsigned int n)
{
    return vring_driver_fits(vr, vr->num_free, n);
}

/* A buffer that was collected. */
typedef struct VringCollected {
    uint32_t id;            /* of ours */
    uint32_t cookie;        /* the caller's */
    uint32_t len;           /* bytes that the device wrote */
} VringCollected;

/* Makes what was added visible to the device: one store. */
static inline void vring_driver_publish(VringDriver *vr, const bool packed)
{
    if (!packed) {
        /* Release: pairs with the device's acquire of the available index. */
        le16_store_release(&vr->avail->idx, vr->avail_idx);
    } else if (vr->held) {
        vr->held = false;
        /*
         * Release: pairs with the device's acquire of an available descriptor's flags.
         * The device stops at this one, so it sees the whole burst or nothing of it.
         */
        le64_store_release(&vr->desc[vr->held_idx].meta, vr->held_meta);
    }
}

/*
 * Whether the device wants to be notified of what was published since the last time.
 * Contains the burst's full fence.  Call once after each publish.
 */
static inline bool vring_driver_needs_kick(VringDriver *vr, const bool packed)
{
    uint16_t old = vr->avail_published;
    uint16_t moved = 0;

    vr->avail_published = vr->avail_idx;
    if (packed) {
        moved = vr->added_descs;
        vr->added_descs = 0;
    }
    /* Pairs with the device's fence between its event field and the available index. */
    atomic_thread_fence(memory_order_seq_cst);
    if (packed) {
        return vring_packed_event_due(le32_load(&vr->device_event->word), vr->event_idx,
                                      vr->avail_idx, vring_packed_wrap(vr->avail_flags), moved,
                                      vr->num);
    }
    if (vr->event_idx) {
        return vring_need_event(le16_load((le16 *)&vr->used->ring[vr->num]), vr->avail_idx, old);
    }
    return !(le16_load(&vr->used->flags) & VRING_USED_F_NO_NOTIFY);
}

/* Where the next buffer will be added, as NOTIFICATION_DATA tells it (2.9). */
static inline uint16_t vring_driver_next_offset(const VringDriver *vr, const bool packed)
{
    return packed ? vr->avail_idx | vring_packed_wrap(vr->avail_flags) : vr->avail_idx;
}

static inline bool vring_driver_desc_is_used(uint32_t used_flags, uint64_t meta)
{
    return ((uint32_t)(meta >> 48) & (VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED)) == used_flags;
}

/* Whether a used buffer can be collected.  One load at most. */
static inline bool vring_driver_has_used(const VringDriver *vr, const bool packed)
{
    if (vr->in_batch) {
        return true;
    }
    if (packed) {
        return vring_driver_desc_is_used(vr->used_flags, le64_load(&vr->desc[vr->used_idx].meta));
    }
    return vr->used_idx != vr->used_seen || vr->used_idx != le16_load(&vr->used->idx);
}

#include "hw/virtio/vring-driver-burst.h"

/*
 * Adds a buffer of @n elements, with addresses as the device knows them; there must be
 * room.  @cookie comes back with it.  Its writable elements hold less than 2^32 bytes.
 */
VRING_INLINE void vring_driver_add(VringDriver *vr, const bool packed, const VringSegment *seg,
                                   unsigned int n, uint32_t cookie)
{
    VringAdding a = vring_driver_begin_adding(vr, packed);

    vring_driver_add_next(vr, packed, &a, seg, &seg->addr, VRING_SEGMENT_STEP, n, cookie);
    vring_driver_end_adding(vr, packed, &a, 1);
}

VRING_INLINE int vring_driver_collect_burst_of_one(VringDriver *vr, const bool packed,
                                                   const bool in_order, VringCollected *buffer)
{
    VringCollecting c;
    int ret = vring_driver_begin_collecting(vr, packed, in_order, 1, &c);

    if (ret <= 0) {
        return ret;
    }
    ret = vring_driver_collect_next(vr, packed, in_order, &c, buffer);
    vring_driver_end_collecting(vr, packed, in_order, &c, ret > 0);
    return ret;
}

/*
 * Collects the next used buffer: 1; 0: none; -EPROTO: the device broke the rules, vr->error
 * says how.
 */
VRING_INLINE int vring_driver_collect_buffer(VringDriver *vr, const bool packed,
                                             VringCollected *buffer)
{
    return vr->in_order ? vring_driver_collect_burst_of_one(vr, packed, true, buffer)
                        : vring_driver_collect_burst_of_one(vr, packed, false, buffer);
}

/* The same for who needs no more than the cookie and the length. */
VRING_INLINE int vring_driver_collect(VringDriver *vr, const bool packed, uint32_t *cookie,
                                      uint32_t *len)
{
    VringCollected buffer = { 0 };
    int ret = vring_driver_collect_buffer(vr, packed, &buffer);

    if (ret > 0) {
        *cookie = buffer.cookie;
        *len = buffer.len;
    }
    return ret;
}

/* Goes through what the device wrote of a buffer, see vring_driver_next_written(). */
typedef struct VringWritten {
    const VringSegment *seg;    /* the next element */
    const uint16_t *next;       /* its successor by place in @mirror; NULL: the one behind it */
    const VringSegment *mirror;
    uint32_t left;              /* bytes written there and further on */
} VringWritten;

/* @buffer was collected last: until the next vring_driver_add() its elements are remembered. */
static inline VringWritten vring_driver_written(const VringDriver *vr,
                                                const VringCollected *buffer)
{
    const VringSegment *first = &vr->mirror[buffer->id];

    if (first->flags & VRING_DESC_F_INDIRECT) {
        return (VringWritten){
            .seg = &vr->table_mirror[(size_t)buffer->id * VRING_INDIRECT_MAX],
            .left = buffer->len,
        };
    }
    return (VringWritten){ first, vr->next, vr->mirror, buffer->len };
}

/*
 * The next piece that the device wrote, as the caller names it: it fills the writable elements one after the other
 * (2.7.8.2), and not more than they hold, as vring_driver_collect() has made sure.
 */
static inline bool vring_driver_next_written(VringWritten *w, uint64_t *addr, uint32_t *len)
{
    while (w->left) {
        const VringSegment *seg = w->seg;

        w->seg = w->next ? &w->mirror[w->next[seg - w->mirror]] : seg + 1;
        if (seg->flags & VRING_DESC_F_WRITE) {
            *addr = seg->addr;
            *len = seg->len < w->left ? seg->len : w->left;
            w->left -= *len;
            return true;
        }
    }
    return false;
}

/* Asks the device not to notify us; it may all the same. */
static inline void vring_driver_disable_call(VringDriver *vr, const bool packed)
{
    if (packed) {
        le32_store(&vr->driver_event->word, (uint32_t)VRING_PACKED_EVENT_DISABLE << 16);
    } else if (!vr->event_idx) {
        le16_store(&vr->avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
    }
    /* With EVENT_IDX the stale used_event does it: it is 2^16 buffers away. */
}

/*
 * Asks the device to notify us of the next used buffer.  True if there is one already: then
 * it may not notify, so look again.
 */
static inline bool vring_driver_enable_call(VringDriver *vr, const bool packed)
{
    if (packed && vr->event_idx) {
        le32_store(&vr->driver_event->word,
                   (uint32_t)VRING_PACKED_EVENT_DESC << 16 | vr->used_idx |
                       vring_packed_wrap(vr->used_flags));
    } else if (packed) {
        le32_store(&vr->driver_event->word, (uint32_t)VRING_PACKED_EVENT_ENABLE << 16);
    } else if (vr->event_idx) {
        le16_store(&vr->avail->ring[vr->num], vr->used_idx);
    } else {
        le16_store(&vr->avail->flags, 0);
    }
    /* Pairs with the device's fence between its used index and our event field. */
    atomic_thread_fence(memory_order_seq_cst);
    return vring_driver_has_used(vr, packed);
}

#endif
