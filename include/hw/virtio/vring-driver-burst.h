/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bursts of a virtqueue in the driver's role: adding and collecting, in as few instructions as we
 * can.
 *
 * How it works.  As in vring-device-burst.h, what a burst moves on in the queue lives, until it
 * ends, in a local structure that a compiler keeps in registers.
 *
 *   begin_adding(); add_one() or add_next() ...; end_adding();      then vring_driver_publish()
 *   begin_collecting(); while (collect_next() > 0) ...; end_collecting();
 *
 * @in_order, VringDriver.in_order, is a constant of who collects like the format.  Then the ids
 * follow one another: the free list needs no upkeep, and used elements name only the last buffer
 * of those that they stand for.
 *
 * Threads: as vring-driver.h, which includes this.  Virtio 1.3, sections 2.7 and 2.8.
 */
#ifndef HW_VIRTIO_VRING_DRIVER_H
/* This is the middle of that header. */
#include "hw/virtio/vring-driver.h"
#elif !defined(HW_VIRTIO_VRING_DRIVER_BURST_H)
#define HW_VIRTIO_VRING_DRIVER_BURST_H

/* How far a burst of adds has come. */
typedef struct VringAdding {
    uint32_t idx;           /* as VringDriver.avail_idx */
    uint32_t flags;         /* packed: as VringDriver.avail_flags */
    uint32_t num_free;      /* descriptors */
    uint32_t free_head;
    bool held;              /* packed: as VringDriver.held */
} VringAdding;

VRING_INLINE VringAdding vring_driver_begin_adding(const VringDriver *vr, const bool packed)
{
    return (VringAdding){
        .idx = vr->avail_idx,
        .flags = packed ? vr->avail_flags : 0,
        .num_free = vr->num_free,
        .free_head = vr->free_head,
        .held = packed && vr->held,
    };
}

/* @n buffers were added. */
VRING_INLINE void vring_driver_end_adding(VringDriver *vr, const bool packed, const VringAdding *a,
                                          unsigned int n)
{
    vr->avail_idx = (uint16_t)a->idx;
    vr->free_head = (uint16_t)a->free_head;
    if (packed) {
        vr->avail_flags = (uint16_t)a->flags;
        vr->added_descs += (uint16_t)(vr->num_free - a->num_free);
        vr->ids_taken += n;
        vr->held = a->held;
    }
    vr->num_free = a->num_free;
}

/*
 * Writes a descriptor of @seg at @addr: split, that of @place; packed, the next of the ring.  @first:
 * it may be the burst's first, which waits for publish.
 */
VRING_INLINE void vring_driver_write_desc(VringDriver *vr, const bool packed, const bool first,
                                          VringAdding *a, VringSegment seg, uint64_t addr,
                                          uint32_t id, uint32_t place, uint32_t flags,
                                          uint32_t next)
{
    VringDesc *desc = &vr->desc[packed ? a->idx : place];
    uint64_t meta;

    le64_store(&desc->addr, addr);
    if (!packed) {
        le64_store(&desc->meta, vring_split_meta(seg.len, seg.flags | flags, next));
        return;
    }
    meta = vring_packed_meta(seg.len, id, seg.flags | flags | a->flags);
    if (!first || a->held) {
        le64_store(&desc->meta, meta);
    } else {
        a->held = true;
        vr->held_idx = (uint16_t)a->idx;
        vr->held_meta = meta;
    }
    a->idx++;
    if (a->idx >= vr->num) {
        a->idx = 0;
        a->flags ^= VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
    }
}

/* Split: makes the chain that begins at @head available. */
VRING_INLINE void vring_driver_write_avail(VringDriver *vr, VringAdding *a, uint32_t head)
{
    le16_store(&vr->avail->ring[a->idx & vr->mask], (uint16_t)head);
    a->idx++;
}

/*
 * As vring_driver_add() for a buffer of one element, which the device finds at @addr.  @flags,
 * @writable: INDIRECT and what the table holds; otherwise 0.
 */
VRING_INLINE void vring_driver_add_one(VringDriver *vr, const bool packed, VringAdding *a,
                                       VringSegment seg, uint64_t addr, uint32_t cookie,
                                       uint32_t flags, uint32_t writable)
{
    const uint32_t id = a->free_head;

    a->free_head = vr->next[id];
    a->num_free--;
    vr->slots[id] = (VringDriverSlot){
        .cookie = cookie,
        .writable = writable + (seg.flags & VRING_DESC_F_WRITE ? seg.len : 0),
        .n_descs = 1,
        .last = id,
    };
    vr->mirror[id] = (VringSegment){ seg.addr, seg.len, seg.flags | flags };
    vring_driver_write_desc(vr, packed, true, a, seg, addr, id, id, flags, 0);
    if (!packed) {
        vring_driver_write_avail(vr, a, id);
    }
}

/*
 * What the device calls the addresses of a buffer's elements: that of element i is at
 * addrs[i * step].  If it calls them as the caller does they are in the elements themselves.
 */
#define VRING_SEGMENT_STEP (sizeof(VringSegment) / sizeof(uint64_t))

/* As vring_driver_add_next() for a buffer of two elements or more, flat. */
VRING_INLINE void vring_driver_add_chain(VringDriver *vr, const bool packed, VringAdding *a,
                                         const VringSegment *seg, const uint64_t *addrs,
                                         const size_t step, unsigned int n, uint32_t cookie)
{
    const uint32_t id = a->free_head;
    uint32_t place = id, next = vr->next[id];
    uint32_t writable = seg->flags & VRING_DESC_F_WRITE ? seg->len : 0;
    unsigned int left;

    vr->mirror[id] = *seg;
    vring_driver_write_desc(vr, packed, true, a, *seg, *addrs, id, id, VRING_DESC_F_NEXT, next);
    for (left = n - 1; left; left--) {
        const uint32_t more = left > 1 ? VRING_DESC_F_NEXT : 0;

        seg++;
        addrs += step;
        place = next;
        next = vr->next[place];
        vr->mirror[place] = *seg;
        writable += seg->flags & VRING_DESC_F_WRITE ? seg->len : 0;
        vring_driver_write_desc(vr, packed, false, a, *seg, *addrs, id, place, more, next);
    }
    a->free_head = next;
    a->num_free -= n;
    vr->slots[id] = (VringDriverSlot){
        .cookie = cookie, .writable = writable, .n_descs = n, .last = place,
    };
    if (!packed) {
        vring_driver_write_avail(vr, a, id);
    }
}

/* Out of line: writes the indirect table of buffer @id.  Returns the element that names it. */
VringSegment vring_driver_write_table(VringDriver *vr, bool packed, uint32_t id,
                                      const VringSegment *seg, const uint64_t *addrs,
                                      size_t step, unsigned int n, uint32_t *writable);

/* By way of an indirect table, however short. */
VRING_INLINE void vring_driver_add_table(VringDriver *vr, const bool packed, VringAdding *a,
                                         const VringSegment *seg, const uint64_t *addrs,
                                         const size_t step, unsigned int n, uint32_t cookie)
{
    uint32_t writable;
    const VringSegment table = vring_driver_write_table(vr, packed, a->free_head, seg, addrs, step,
                                                        n, &writable);

    vring_driver_add_one(vr, packed, a, table, table.addr, cookie, VRING_DESC_F_INDIRECT,
                         writable);
}

/* As vring_driver_add(). */
VRING_INLINE void vring_driver_add_next(VringDriver *vr, const bool packed, VringAdding *a,
                                        const VringSegment *seg, const uint64_t *addrs,
                                        const size_t step, unsigned int n, uint32_t cookie)
{
    if (n == 1) {
        vring_driver_add_one(vr, packed, a, *seg, *addrs, cookie, 0, 0);
    } else if (vring_driver_uses_table(vr, n)) {
        vring_driver_add_table(vr, packed, a, seg, addrs, step, n, cookie);
    } else {
        vring_driver_add_chain(vr, packed, a, seg, addrs, step, n, cookie);
    }
}

/* How far a burst of collecting has come. */
typedef struct VringCollecting {
    uint32_t idx;           /* as VringDriver.used_idx, but that split it grows beyond 16 bits */
    uint32_t flags;         /* packed: as VringDriver.used_flags */
    uint32_t num_free;      /* descriptors */
    uint32_t free_head, free_tail;      /* not in_order */
    uint32_t oldest;        /* in_order: as in VringDriver, and so the others */
    uint32_t batch_id, batch_len;
    bool in_batch;
} VringCollecting;

/*
 * Returns how many buffers are used for all we know (split), or can be at most (packed; but 1 at
 * least, for one that cannot be is to be noticed); -EPROTO: the device broke the rules.  The
 * device's index is read if fewer than @want are known of.
 */
VRING_INLINE int vring_driver_begin_collecting(VringDriver *vr, const bool packed,
                                               const bool in_order, unsigned int want,
                                               VringCollecting *c)
{
    const uint16_t known = vr->used_seen - vr->used_idx;
    uint16_t seen = vr->used_seen;

    *c = (VringCollecting){
        .idx = vr->used_idx,
        .flags = packed ? vr->used_flags : 0,
        .num_free = vr->num_free,
    };
    if (in_order) {
        c->oldest = vr->oldest;
        c->in_batch = vr->in_batch;
        c->batch_id = vr->batch_id;
        c->batch_len = vr->batch_len;
    } else {
        c->free_head = vr->free_head;
        c->free_tail = vr->free_tail;
    }
    if (packed) {
        return vr->ids_taken ? (int)vr->ids_taken : 1;
    }
    if (known < want) {
        /* Acquire: pairs with the device's release of the used index. */
        seen = le16_load_acquire(&vr->used->idx);
        if (G_UNLIKELY((uint16_t)(seen - vr->used_idx) > vring_driver_in_flight(vr, false))) {
            return vring_fail(&vr->error, "used index jumps further than buffers are in flight",
                              "2.7.8", vr->used_idx, seen);
        }
        /* Or a batch would lose its end: see vring_driver_has_used(). */
        if (G_UNLIKELY((uint16_t)(seen - vr->used_idx) < known)) {
            return vring_fail(&vr->error, "used index goes back", "2.7.8", vr->used_seen, seen);
        }
        vr->used_seen = seen;
    }
    return (uint16_t)(seen - vr->used_idx);
}

/* @n buffers were collected. */
VRING_INLINE void vring_driver_end_collecting(VringDriver *vr, const bool packed,
                                              const bool in_order, const VringCollecting *c,
                                              unsigned int n)
{
    vr->used_idx = (uint16_t)c->idx;
    vr->num_free = c->num_free;
    if (packed) {
        vr->used_flags = (uint16_t)c->flags;
        vr->ids_taken -= n;
    }
    if (in_order) {
        vr->oldest = (uint16_t)c->oldest;
        vr->in_batch = c->in_batch;
        vr->batch_id = (uint16_t)c->batch_id;
        vr->batch_len = c->batch_len;
    } else {
        vr->free_head = (uint16_t)c->free_head;
        vr->free_tail = (uint16_t)c->free_tail;
    }
}

/* The next used element as the device wrote it.  False: there is none (split: one is known of). */
VRING_INLINE bool vring_driver_read_used(const VringDriver *vr, const bool packed,
                                         const VringCollecting *c, uint32_t *id, uint32_t *len)
{
    if (packed) {
        /* Acquire: pairs with the device's release of a used descriptor's flags. */
        const uint64_t meta = le64_load_acquire(&vr->desc[c->idx].meta);

        *id = (uint16_t)(meta >> 32);
        *len = (uint32_t)meta;
        return vring_driver_desc_is_used(c->flags, meta);
    }
    *id = le32_load(&vr->used->ring[c->idx & vr->mask].id);
    *len = le32_load(&vr->used->ring[c->idx & vr->mask].len);
    return true;
}

VRING_INLINE int vring_driver_check_used(VringDriver *vr, const bool packed,
                                         const VringCollecting *c, uint32_t id)
{
    if (G_UNLIKELY(id >= vr->num)) {
        return vring_fail(&vr->error, "used id is not below the queue size",
                          packed ? "2.8.22" : "2.7.8", (uint16_t)c->idx, id);
    }
    if (G_UNLIKELY(!vr->slots[id].n_descs)) {
        const char *any_order = packed ? "2.8.22" : "2.7.8", *in_order = packed ? "2.8.8" : "2.7.9";

        return vring_fail(&vr->error, "used id is not in flight",
                          vr->in_order ? in_order : any_order, (uint16_t)c->idx, id);
    }
    return 1;
}

/* IN_ORDER: the oldest buffer in flight if it is used, be it by an element that names a later one. */
VRING_INLINE int vring_driver_read_in_order(VringDriver *vr, const bool packed,
                                            VringCollecting *c, uint32_t *id, uint32_t *len)
{
    if (!c->in_batch) {
        if (!vring_driver_read_used(vr, packed, c, &c->batch_id, &c->batch_len)) {
            return 0;
        }
        if (vring_driver_check_used(vr, packed, c, c->batch_id) < 0) {
            return -EPROTO;
        }
        c->in_batch = true;
    }
    *id = c->oldest;
    if (c->oldest == c->batch_id) {
        *len = c->batch_len;
        c->in_batch = false;
        return 1;
    }
    if (!packed && (uint16_t)(c->idx + 1) == vr->used_seen) {
        return vring_fail(&vr->error, "used index does not cover the batch", "2.7.9",
                          (uint16_t)c->idx, c->batch_id);
    }
    /* Of all but the last of a batch the length is not told: they are full. */
    *len = vr->slots[c->oldest].writable;
    return 1;
}

/* As vring_driver_collect_buffer(), but that split a used buffer is known of. */
VRING_INLINE int vring_driver_collect_next(VringDriver *vr, const bool packed, const bool in_order,
                                           VringCollecting *c, VringCollected *buffer)
{
    VringDriverSlot *slot;
    uint32_t id, len, descs;

    if (in_order) {
        int ret = vring_driver_read_in_order(vr, packed, c, &id, &len);

        if (ret <= 0) {
            return ret;
        }
    } else {
        if (!vring_driver_read_used(vr, packed, c, &id, &len)) {
            return 0;
        }
        if (vring_driver_check_used(vr, packed, c, id) < 0) {
            return -EPROTO;
        }
    }
    slot = &vr->slots[id];
    descs = slot->n_descs;
    /*
     * Packed: of a buffer that the device only reads, the length is reserved (2.8.4), and DPDK leaves
     * ours there.  The flag WRITE, which should tell, is not looked at: QEMU (7.2) never sets it.
     */
    if (packed && !slot->writable) {
        len = 0;
    }
    if (G_UNLIKELY(len > slot->writable)) {
        return vring_fail(&vr->error, "used length is more than was writable",
                          packed ? "2.8.4" : "2.7.8.2", (uint16_t)c->idx, len);
    }
    *buffer = (VringCollected){ .id = id, .cookie = slot->cookie, .len = len };

    slot->n_descs = 0;
    if (in_order) {
        c->oldest += descs;
        if (c->oldest >= vr->num) {
            c->oldest -= vr->num;
        }
    } else {
        if (G_UNLIKELY(c->num_free == 0)) {
            c->free_head = id;
        } else {
            vr->next[c->free_tail] = (uint16_t)id;
        }
        c->free_tail = slot->last;
    }
    c->num_free += descs;
    if (packed) {
        c->idx += descs;
        if (c->idx >= vr->num) {
            c->idx -= vr->num;
            c->flags ^= VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
        }
    } else {
        c->idx++;
    }
    return 1;
}

#endif
