/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue worked in the device's role: take available buffers, put them back used.
 *
 * How it works.  The other side of the ring is a driver that we do not trust: a guest, or
 * (for a built-in device) the shadow virtqueue.  Every field is loaded once, checked, and
 * used from the copy.  What we know of the buffers in flight lives in @inflight, by buffer id
 * (split: the head's descriptor index), never in the ring.  If the caller gives the memory for
 * that, the queue goes on after a kill: see vring-inflight.h for the order of stores.
 *
 * Buffers are put back in a burst: nothing of it is visible to the driver before
 * vring_device_publish().
 *
 *   while ((n = vring_device_take(vr, packed, seg, max, &id)) > 0)    take, untake
 *   vring_device_put(vr, packed, id, len) ...; vring_device_publish(vr, packed);
 *   if (vring_device_needs_call(vr, packed)) notify the driver
 *
 * Who moves bursts and counts instructions takes and puts by vring-device-burst.h, on which these
 * two are made.  The functions are inline and take the format as an argument that the caller
 * knows at compile time, so each caller gets code for its format alone.
 *
 * Barriers: taking acquires (split: the available index; packed: the descriptor's flags)
 * what the driver released; publishing releases what the driver acquires likewise.  The
 * full fences stand between our index and the driver's event field and pair with the
 * driver's own between its event field and our index (2.7.13.4.1, 2.8.21.3.1).
 *
 * Threads: one at a time.  Virtio 1.3, sections 2.7 and 2.8.
 */
#ifndef HW_VIRTIO_VRING_DEVICE_H
#define HW_VIRTIO_VRING_DEVICE_H

#include <errno.h>
#include <glib.h>

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring-inflight.h"
#include "hw/virtio/vring.h"

/* IN_ORDER: what was put back too early for the driver waits here. */
typedef struct VringDeviceOrder {
    uint32_t len;
    uint16_t id;
    bool done;
} VringDeviceOrder;

typedef struct VringDevice {
    /* Constant after vring_device_init(). */
    uint32_t num;
    uint32_t mask;              /* split: num - 1 */
    uint32_t order_mask;        /* of @order */
    bool packed, event_idx, in_order, indirect;
    VringDesc *desc;
    VringAvail *avail;          /* split */
    VringUsed *used;            /* split */
    VringPackedEvent *driver_event;     /* packed */
    VringPackedEvent *device_event;     /* packed */
    VringInflight *inflight;    /* the slots, by id, and more that outlives us */
    VringInflight *own;         /* that, if the caller gave no memory for it */
    VringDeviceOrder *order;    /* in_order, unless it is put so: by seq & order_mask */

    /* Written by take. */
    uint16_t avail_idx;         /* split: free running; packed: ring position */
    uint16_t avail_seen;        /* split: the driver's index as last read */
    uint16_t avail_flags;       /* packed: AVAIL and USED bits of an available descriptor */

    /* Written by put. */
    uint16_t used_idx;          /* split: free running; packed: ring position */
    uint16_t used_published;    /* used_idx at the last publish */
    uint16_t used_flags;        /* packed: AVAIL and USED bits of a used descriptor */
    uint64_t next_done;         /* @order: seq of the oldest that is not put back */
    uint64_t put;               /* packed: descriptors put back, counted like those taken */
    uint16_t put_descs;         /* packed: since the last publish */
    bool held;                  /* packed: the burst's first descriptor waits for publish */
    uint16_t held_idx;

    VringRecovery recovery;
    VringError error;
} VringDevice;

/*
 * Allocates what the queue needs until vring_device_cleanup().  0; -EINVAL: a size or an
 * alignment that section 2.7 or 2.8 does not allow; -EPROTO: the used index in the ring
 * does not fit the base.  vr->error says more.
 *
 * If config->inflight is live and is of this ring, the queue goes on where that says: what was
 * put is published, and what was in flight is settled as lost.  Then the driver is to be
 * notified, since nobody knows whether it was.  vr->recovery tells.
 */
int vring_device_init(VringDevice *vr, const VringConfig *config);

/* The record, if the caller gave one, stays live: the queue may go on from it. */
void vring_device_cleanup(VringDevice *vr);

/* The areas lie at other host addresses now; what they hold is the same. */
void vring_device_move(VringDevice *vr, const VringAreas *areas);

/*
 * Settles the buffers still in flight when nobody will complete them any more: each is offered
 * again by a later start at vring_device_base(), or put back with length 0 (not yet
 * published).  Offered again can be the youngest, as long as none of them was completed; what
 * was overtaken cannot.  @lost: nobody knows how far the device got, so what it only reads is
 * not offered again either (see vring-inflight.h), nor is what is older than that.
 * Returns how many were put back; @offered, unless NULL: how many are offered again.
 */
unsigned int vring_device_settle(VringDevice *vr, bool lost, unsigned int *offered);

/* Whether that, not lost, would offer all of them again. */
bool vring_device_can_offer_again(const VringDevice *vr);

/* Where the ring stands when nothing is in flight. */
VringBase vring_device_base(const VringDevice *vr);

/* vring_device_init()'s part for a live record: NULL, or why it is not of the ring. */
const char *vring_device_recover(VringDevice *vr, const VringConfig *config);

/* Whether buffer @id, below vr->num, was taken and not put back. */
static inline bool vring_device_is_in_flight(const VringDevice *vr, uint32_t id)
{
    return atomic_load_explicit(&vr->inflight->slots[id], memory_order_relaxed);
}

#include "hw/virtio/vring-device-burst.h"

/*
 * Takes the next available buffer: its elements into seg[0..n), with guest addresses, and
 * its id.  Returns n; 0: none is available; -EPROTO: the driver broke the rules, vr->error
 * says how, and nothing was taken.  @max: the elements that a buffer with an indirect table
 * may have; seg has room for the larger of that and vr->num.  @map: for indirect tables.
 */
VRING_INLINE int vring_device_take(VringDevice *vr, const bool packed, const MemoryMap *map,
                                   VringSegment *seg, unsigned int max, uint16_t *id)
{
    VringTaking t;
    VringAvailable buffer;
    int n = vring_device_begin_taking(vr, packed, 1, &t);

    if (packed ? n >= 0 : n > 0) {
        n = vring_device_peek(vr, packed, &t, &buffer);
    }
    if (n > 0) {
        n = vring_device_peek_chain(vr, packed, &t, map, seg, max, &buffer);
    }
    if (n > 0) {
        vring_device_accept(vr, packed, vr->order, &t, &buffer);
        *id = (uint16_t)buffer.id;
    }
    vring_device_end_taking(vr, packed, &t);
    return n;
}

/* Undoes the last take, of buffer @id: the next take returns it again. */
void vring_device_untake(VringDevice *vr, const bool packed, uint16_t id);

/*
 * Puts buffer @id, which is in flight, back as used; the device wrote its first @len bytes.
 * The driver sees it after vring_device_publish().
 */
VRING_INLINE void vring_device_put(VringDevice *vr, const bool packed, uint32_t id, uint32_t len)
{
    VringPutting p = vring_device_begin_putting(vr, packed);

    vring_device_put_next(vr, packed, vr->order, &p, id, len);
    vring_device_end_putting(vr, packed, &p);
}

/*
 * IN_ORDER: puts back ids[0..n), which were taken longest ago, in that order, with one used element;
 * the driver takes it that all but the last are full (2.7.9, 2.8.8).  Only if config->put_in_order
 * was set, and for a queue whose record nobody needs after a kill: it may find half of this done.
 */
VRING_INLINE void vring_device_put_batch(VringDevice *vr, const bool packed, const uint16_t *ids,
                                         unsigned int n, uint32_t len)
{
    VringPutting p = vring_device_begin_putting(vr, packed);
    uint32_t skipped = 0;
    unsigned int i;

    for (i = 0; i + 1 < n; i++) {
        _Atomic uint64_t *slot = &vr->inflight->slots[ids[i]];

        skipped += vring_slot_descs(atomic_load_explicit(slot, memory_order_relaxed));
        atomic_store_explicit(slot, 0, memory_order_relaxed);
    }
    vring_device_write_used(vr, packed, &p, ids[i], len);
    vring_device_skip_used(vr, packed, &p, skipped);
    vring_device_end_putting(vr, packed, &p);
}

/* Whether something was put (and not held back for IN_ORDER) that is not published. */
static inline bool vring_device_has_unpublished(const VringDevice *vr, const bool packed)
{
    return packed ? vr->held : vr->used_idx != vr->used_published;
}

/* Makes what was put visible to the driver: one store. */
static inline void vring_device_publish(VringDevice *vr, const bool packed)
{
    VringInflight *inflight = vr->inflight;
    uint16_t first = 0, next = vr->used_idx;

    if (!packed) {
        /* Release: pairs with the driver's acquire of the used index. */
        le16_store_release(&vr->used->idx, vr->used_idx);
    } else if (vr->held) {
        uint64_t meta = atomic_load_explicit(&inflight->held, memory_order_relaxed);

        vr->held = false;
        /*
         * Release: pairs with the driver's acquire of a used descriptor's flags.  The
         * driver stops at this one, so it sees the whole burst or nothing of it.
         */
        le64_store_release(&vr->desc[vr->held_idx].meta, meta);
        /* The flag USED of a used descriptor is the wrap counter (2.8.1). */
        first = vr->held_idx | (meta >> 48 & VRING_PACKED_F_USED);
        next |= vring_packed_wrap(vr->used_flags);
    } else {
        return;
    }
    /* After the ring: of what is not @published the ring is asked whether it is. */
    vring_inflight_step();
    atomic_store_explicit(&inflight->published, vring_inflight_published(first, next),
                          memory_order_relaxed);
}

/*
 * Whether the driver wants to be notified of what was published since the last time.
 * Contains the burst's full fence.  Call once after each publish.
 */
static inline bool vring_device_needs_call(VringDevice *vr, const bool packed)
{
    uint16_t old = vr->used_published;
    uint16_t moved = 0;

    vr->used_published = vr->used_idx;
    if (packed) {
        moved = vr->put_descs;
        vr->put_descs = 0;
    }
    /* Pairs with the driver's fence between its event field and the used index. */
    atomic_thread_fence(memory_order_seq_cst);
    if (packed) {
        return vring_packed_event_due(le32_load(&vr->driver_event->word), vr->event_idx,
                                      vr->used_idx, vring_packed_wrap(vr->used_flags), moved,
                                      vr->num);
    }
    if (vr->event_idx) {
        return vring_need_event(le16_load(&vr->avail->ring[vr->num]), vr->used_idx, old);
    }
    return !(le16_load(&vr->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Whether a buffer is available.  One load. */
static inline bool vring_device_has_avail(const VringDevice *vr, const bool packed)
{
    if (packed) {
        return vring_device_desc_is_avail(vr->avail_flags, le64_load(&vr->desc[vr->avail_idx].meta));
    }
    return vr->avail_idx != vr->avail_seen || vr->avail_idx != le16_load(&vr->avail->idx);
}

/* Asks the driver not to notify us; it may all the same. */
static inline void vring_device_disable_kick(VringDevice *vr, const bool packed)
{
    if (packed) {
        le32_store(&vr->device_event->word, (uint32_t)VRING_PACKED_EVENT_DISABLE << 16);
    } else if (!vr->event_idx) {
        le16_store(&vr->used->flags, VRING_USED_F_NO_NOTIFY);
    }
    /* With EVENT_IDX the stale avail_event does it: it is 2^16 buffers away. */
}

/*
 * Asks the driver to notify us of the next available buffer.  True if there is one already:
 * then it may not notify, so look again.
 */
static inline bool vring_device_enable_kick(VringDevice *vr, const bool packed)
{
    if (packed && vr->event_idx) {
        le32_store(&vr->device_event->word,
                   (uint32_t)VRING_PACKED_EVENT_DESC << 16 | vr->avail_idx |
                       vring_packed_wrap(vr->avail_flags));
    } else if (packed) {
        le32_store(&vr->device_event->word, (uint32_t)VRING_PACKED_EVENT_ENABLE << 16);
    } else if (vr->event_idx) {
        le16_store((le16 *)&vr->used->ring[vr->num], vr->avail_idx);
    } else {
        le16_store(&vr->used->flags, 0);
    }
    /* Pairs with the driver's fence between its available index and our event field. */
    atomic_thread_fence(memory_order_seq_cst);
    return vring_device_has_avail(vr, packed);
}

#endif
