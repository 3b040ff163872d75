/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bursts of a virtqueue in the device's role: taking and putting back, in as few instructions as
 * we can.
 *
 * How it works.  What a burst moves on in the queue lives, until it ends, in a local structure,
 * which a compiler keeps in registers; in the queue it would have to store it before each access
 * to memory that others see, and to load it again after.
 *
 *   begin_taking(); while (peek() > 0) { look at the buffer; accept(); } end_taking();
 *   begin_putting(); put_next() ...; end_putting();     then vring_device_publish()
 *
 * The common buffer has one descriptor and stays in registers, too; for others there is
 * peek_chain().  What was only peeked at is still available.
 *
 * Threads: as vring-device.h, which includes this.  Virtio 1.3, sections 2.7 and 2.8.
 */
#ifndef HW_VIRTIO_VRING_DEVICE_H
/* This is the middle of that header. */
#include "hw/virtio/vring-device.h"
#elif !defined(HW_VIRTIO_VRING_DEVICE_BURST_H)
#define HW_VIRTIO_VRING_DEVICE_BURST_H

/* Packed: of the buffers taken and not put back, when @taken were taken in all. */
static inline uint32_t vring_device_descs_in_flight(const VringDevice *vr, uint64_t taken)
{
    return (uint32_t)(taken - vr->put);
}

/* How far a burst of takes has come. */
typedef struct VringTaking {
    uint64_t taken;         /* as in the record */
    uint32_t idx;           /* as VringDevice.avail_idx, but that split it grows beyond 16 bits */
    uint32_t flags;         /* packed: as VringDevice.avail_flags */
} VringTaking;

/* A buffer that is available. */
typedef struct VringAvailable {
    uint32_t id;            /* packed: of a chain it is the last descriptor that tells */
    uint32_t descs;         /* of the ring that it takes; split: 1 */
    uint32_t writes;        /* VRING_DESC_F_WRITE if the device may write to it */
    uint64_t addr, meta;    /* its first descriptor */
} VringAvailable;

/*
 * Returns how many buffers are available for all we know (split), or can be at most (packed);
 * -EPROTO: the driver broke the rules.  The driver's index is read if fewer than @want are known of.
 */
VRING_INLINE int vring_device_begin_taking(VringDevice *vr, const bool packed, unsigned int want,
                                           VringTaking *t)
{
    const uint16_t known = vr->avail_seen - vr->avail_idx;
    uint16_t seen = vr->avail_seen;

    *t = (VringTaking){
        .taken = atomic_load_explicit(&vr->inflight->taken, memory_order_relaxed),
        .idx = vr->avail_idx,
        .flags = packed ? vr->avail_flags : 0,
    };
    if (packed) {
        return (int)(vr->num - vring_device_descs_in_flight(vr, t->taken));
    }
    if (known < want) {
        /* Acquire: pairs with the driver's release of idx after it filled ring and table. */
        seen = le16_load_acquire(&vr->avail->idx);
        if (G_UNLIKELY((uint16_t)(seen - vr->avail_idx) > vr->num)) {
            return vring_fail(&vr->error, "available index jumps further than the queue is long",
                              "2.7.6", vr->avail_idx, seen);
        }
        if (G_UNLIKELY((uint16_t)(seen - vr->avail_idx) < known)) {
            return vring_fail(&vr->error, "available index goes back", "2.7.6", vr->avail_seen,
                              seen);
        }
        vr->avail_seen = seen;
    }
    return (uint16_t)(seen - vr->avail_idx);
}

VRING_INLINE void vring_device_end_taking(VringDevice *vr, const bool packed, const VringTaking *t)
{
    vr->avail_idx = (uint16_t)t->idx;
    if (packed) {
        vr->avail_flags = (uint16_t)t->flags;
    }
}

static inline bool vring_device_desc_is_avail(uint32_t avail_flags, uint64_t meta)
{
    return ((uint32_t)(meta >> 48) & (VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED)) == avail_flags;
}

/* Where the flags of a descriptor are in its word meta. */
static inline unsigned int vring_flags_shift(const bool packed)
{
    return packed ? 48 : 32;
}

VRING_INLINE int vring_device_peek_split(VringDevice *vr, const VringTaking *t,
                                         VringAvailable *buffer)
{
    const uint32_t head = le16_load(&vr->avail->ring[t->idx & vr->mask]);

    if (G_UNLIKELY(head >= vr->num)) {
        return vring_fail(&vr->error, "available head is not below the queue size", "2.7.6",
                          (uint16_t)t->idx, head);
    }
    if (G_UNLIKELY(vring_device_is_in_flight(vr, head))) {
        return vring_fail(&vr->error, "available head is in flight already", "2.7.13.1",
                          (uint16_t)t->idx, head);
    }
    buffer->id = head;
    buffer->addr = le64_load(&vr->desc[head].addr);
    buffer->meta = le64_load(&vr->desc[head].meta);
    return 1;
}

VRING_INLINE int vring_device_peek_packed(VringDevice *vr, const VringTaking *t,
                                          VringAvailable *buffer)
{
    /* Acquire: pairs with the driver's release of the flags of a chain's first descriptor. */
    buffer->meta = le64_load_acquire(&vr->desc[t->idx].meta);
    if (!vring_device_desc_is_avail(t->flags, buffer->meta)) {
        return 0;
    }
    buffer->addr = le64_load(&vr->desc[t->idx].addr);
    return 1;
}

/*
 * Looks at the first descriptor of the next available buffer: 1; 0: none is available; -EPROTO:
 * the driver broke the rules, vr->error says how.  Split: one is known to be available.
 */
VRING_INLINE int vring_device_peek(VringDevice *vr, const bool packed, const VringTaking *t,
                                   VringAvailable *buffer)
{
    return packed ? vring_device_peek_packed(vr, t, buffer)
                  : vring_device_peek_split(vr, t, buffer);
}

/* Whether @buffer has more than its first descriptor, or a table. */
VRING_INLINE bool vring_device_is_chain(const bool packed, const VringAvailable *buffer)
{
    return buffer->meta & (uint64_t)(VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)
                              << vring_flags_shift(packed);
}

/* Packed: 0 if a buffer may have this @id; -EPROTO. */
VRING_INLINE int vring_device_check_id(VringDevice *vr, const VringTaking *t, uint32_t id)
{
    if (G_UNLIKELY(id >= vr->num)) {
        return vring_fail(&vr->error, "buffer id is not below the queue size", "2.8.22", t->idx,
                          id);
    }
    if (G_UNLIKELY(vring_device_is_in_flight(vr, id))) {
        return vring_fail(&vr->error, "buffer id is in flight already", "2.8.21.1", t->idx, id);
    }
    return 0;
}

/*
 * The only element of a @buffer that is no chain; 1; -EPROTO.  Packed: a descriptor is known to be
 * not in flight.
 */
VRING_INLINE int vring_device_peek_one(VringDevice *vr, const bool packed, const VringTaking *t,
                                       VringAvailable *buffer, VringSegment *seg)
{
    const uint32_t len = (uint32_t)buffer->meta;
    const uint32_t write = (uint32_t)(buffer->meta >> vring_flags_shift(packed)) &
                           VRING_DESC_F_WRITE;

    if (packed) {
        buffer->id = (uint32_t)(buffer->meta >> 32) & UINT16_MAX;
        if (vring_device_check_id(vr, t, buffer->id) < 0) {
            return -EPROTO;
        }
    }
    if (G_UNLIKELY(len == 0)) {
        return vring_fail(&vr->error, "descriptor of length 0", NULL, packed ? t->idx : buffer->id,
                          0);
    }
    buffer->descs = 1;
    buffer->writes = write;
    *seg = (VringSegment){ buffer->addr, len, write };
    return 1;
}

/*
 * Out of line: one indirect table (2.7.5.3, 2.8.7), appended to seg[n..]; @idx: for the error.
 * *@writes: as VringAvailable.
 */
int vring_device_peek_table(VringDevice *vr, const MemoryMap *map, uint32_t idx, uint64_t addr,
                            uint32_t len, VringSegment *seg, unsigned int n, unsigned int max,
                            uint32_t *writes);

/* The same for @buffer, a copy of which is used so that it need not leave the registers. */
VRING_INLINE int vring_device_peek_last(VringDevice *vr, const MemoryMap *map, uint32_t idx,
                                        uint64_t addr, uint32_t len, VringSegment *seg,
                                        unsigned int n, unsigned int max, VringAvailable *buffer)
{
    uint32_t writes = buffer->writes;
    const int ret = vring_device_peek_table(vr, map, idx, addr, len, seg, n, max, &writes);

    buffer->writes = writes;
    return ret;
}

VRING_INLINE int vring_device_peek_chain_split(VringDevice *vr, const VringTaking *t,
                                               const MemoryMap *map, VringSegment *seg,
                                               unsigned int max, VringAvailable *buffer)
{
    const uint32_t num = vr->num;
    uint64_t addr = buffer->addr, meta = buffer->meta;
    uint32_t i = buffer->id;
    unsigned int n = 0;

    buffer->descs = 1;
    buffer->writes = 0;
    for (;;) {
        const uint32_t len = (uint32_t)meta;
        const uint32_t flags = (uint32_t)(meta >> 32);      /* and next above them */
        const uint32_t write = flags & VRING_DESC_F_WRITE;

        if (G_UNLIKELY(flags & VRING_DESC_F_INDIRECT)) {
            if (flags & VRING_DESC_F_NEXT) {
                return vring_fail(&vr->error, "descriptor has both INDIRECT and NEXT",
                                  "2.7.5.3.1", i, (uint16_t)flags);
            }
            return vring_device_peek_last(vr, map, (uint16_t)t->idx, addr, len, seg, n, max,
                                          buffer);
        }
        if (G_UNLIKELY(len == 0)) {
            return vring_fail(&vr->error, "descriptor of length 0", NULL, i, len);
        }
        if (G_UNLIKELY(n == num)) {
            return vring_fail(&vr->error, "descriptor chain loops or is longer than the queue",
                              "2.7.5.2", i, n);
        }
        if (G_UNLIKELY(write < buffer->writes)) {
            return vring_fail(&vr->error, "device-readable descriptor after a writable one",
                              "2.7.4.2", i, (uint16_t)flags);
        }
        buffer->writes = write;
        seg[n++] = (VringSegment){ addr, len, write };
        if (!(flags & VRING_DESC_F_NEXT)) {
            return (int)n;
        }
        if (G_UNLIKELY(meta >> 48 >= num)) {
            return vring_fail(&vr->error, "next is not below the queue size", "2.7.5", i,
                              meta >> 48);
        }
        i = (uint32_t)(meta >> 48);
        addr = le64_load(&vr->desc[i].addr);
        meta = le64_load(&vr->desc[i].meta);
    }
}

VRING_INLINE int vring_device_peek_chain_packed(VringDevice *vr, const VringTaking *t,
                                                const MemoryMap *map, VringSegment *seg,
                                                unsigned int max, VringAvailable *buffer)
{
    const uint32_t room = vr->num - vring_device_descs_in_flight(vr, t->taken);
    uint64_t addr = buffer->addr, meta = buffer->meta;
    uint32_t i = t->idx;
    unsigned int n = 0;

    buffer->writes = 0;
    for (;;) {
        const uint32_t len = (uint32_t)meta;
        const uint32_t flags = (uint32_t)(meta >> 48);
        const uint32_t write = flags & VRING_DESC_F_WRITE;

        if (G_UNLIKELY(n == room)) {
            return vring_fail(&vr->error,
                              "descriptor chain is longer than what is free of the queue",
                              "2.8.17", t->idx, n + 1);
        }
        if (G_UNLIKELY(flags & VRING_DESC_F_INDIRECT)) {
            if (flags & VRING_DESC_F_NEXT || n) {
                return vring_fail(&vr->error, "indirect descriptor in a chain", "2.8.19", t->idx,
                                  flags);
            }
            buffer->id = (uint32_t)(meta >> 32) & UINT16_MAX;
            buffer->descs = 1;
            return vring_device_peek_last(vr, map, t->idx, addr, len, seg, n, max, buffer);
        }
        if (G_UNLIKELY(len == 0)) {
            return vring_fail(&vr->error, "descriptor of length 0", NULL, t->idx, len);
        }
        if (G_UNLIKELY(write < buffer->writes)) {
            return vring_fail(&vr->error, "device-readable descriptor after a writable one",
                              "2.8.17", t->idx, flags);
        }
        buffer->writes = write;
        seg[n++] = (VringSegment){ addr, len, write };
        if (!(flags & VRING_DESC_F_NEXT)) {
            break;
        }
        if (++i >= vr->num) {
            i = 0;
        }
        addr = le64_load(&vr->desc[i].addr);
        meta = le64_load(&vr->desc[i].meta);
    }
    /* The id of a chain stands in its last descriptor (2.8.6). */
    buffer->id = (uint32_t)(meta >> 32) & UINT16_MAX;
    buffer->descs = n;
    return (int)n;
}

/*
 * The elements of @buffer, be it a chain or not, into seg[0..n), with guest addresses.  Returns n;
 * -EPROTO.  @max and @map: as vring_device_take().
 */
VRING_INLINE int vring_device_peek_chain(VringDevice *vr, const bool packed, const VringTaking *t,
                                         const MemoryMap *map, VringSegment *seg,
                                         unsigned int max, VringAvailable *buffer)
{
    int n;

    if (!packed) {
        n = vring_device_peek_chain_split(vr, t, map, seg, max, buffer);
    } else {
        n = vring_device_peek_chain_packed(vr, t, map, seg, max, buffer);
        if (n > 0 && vring_device_check_id(vr, t, buffer->id) < 0) {
            return -EPROTO;
        }
    }
    return n;
}

/*
 * Takes @buffer, which was peeked at: it is in flight from now on.  @reorder: vr->order, or NULL
 * where the caller knows that.
 */
VRING_INLINE void vring_device_accept(VringDevice *vr, const bool packed,
                                      VringDeviceOrder *reorder, VringTaking *t,
                                      const VringAvailable *buffer)
{
    VringInflight *inflight = vr->inflight;
    const uint32_t descs = packed ? buffer->descs : 1;

    if (reorder) {
        reorder[t->taken & vr->order_mask] = (VringDeviceOrder){ .id = (uint16_t)buffer->id };
    }
    /* After the take before this: one slot at most begins at @taken. */
    vring_inflight_step();
    atomic_store_explicit(&inflight->slots[buffer->id], vring_slot(t->taken, buffer->writes, descs),
                          memory_order_relaxed);
    t->taken += descs;
    /* Before @taken, which makes it count, and that before the device hears of it. */
    vring_inflight_step();
    atomic_store_explicit(&inflight->taken, t->taken, memory_order_relaxed);
    t->idx += descs;
    if (packed && t->idx >= vr->num) {
        t->idx -= vr->num;
        t->flags ^= VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
    }
}

/* How far a burst of puts has come. */
typedef struct VringPutting {
    uint32_t idx;           /* as VringDevice.used_idx */
    uint32_t flags;         /* packed: as VringDevice.used_flags */
    uint32_t descs;         /* packed: put in this burst */
    bool held;              /* packed: as VringDevice.held */
} VringPutting;

VRING_INLINE VringPutting vring_device_begin_putting(const VringDevice *vr, const bool packed)
{
    return (VringPutting){
        .idx = vr->used_idx,
        .flags = packed ? vr->used_flags : 0,
        .held = packed && vr->held,
    };
}

VRING_INLINE void vring_device_end_putting(VringDevice *vr, const bool packed,
                                           const VringPutting *p)
{
    vr->used_idx = (uint16_t)p->idx;
    if (packed) {
        vr->used_flags = (uint16_t)p->flags;
        vr->held = p->held;
        vr->put_descs += (uint16_t)p->descs;
        vr->put += p->descs;
    }
}

/* Moves on in the ring by @descs descriptors, which are used. */
VRING_INLINE void vring_device_skip_used(const VringDevice *vr, const bool packed,
                                         VringPutting *p, uint32_t descs)
{
    p->idx += descs;
    if (packed) {
        p->descs += descs;
        if (p->idx >= vr->num) {
            p->idx -= vr->num;
            p->flags ^= VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
        }
    }
}

/* Writes the used element of buffer @id; returns the descriptors (split: 1) that it took. */
VRING_INLINE uint32_t vring_device_write_used(VringDevice *vr, const bool packed, VringPutting *p,
                                              uint32_t id, uint32_t len)
{
    VringInflight *inflight = vr->inflight;
    uint32_t descs = 1;

    /* After the put before this: one used element at most belongs to a buffer in flight. */
    vring_inflight_step();
    if (!packed) {
        VringUsedElem *elem = &vr->used->ring[p->idx & vr->mask];

        le32_store(&elem->id, id);
        le32_store(&elem->len, len);
    } else {
        const uint64_t meta = vring_packed_meta(len, id, p->flags | (len ? VRING_DESC_F_WRITE : 0));

        descs = vring_slot_descs(atomic_load_explicit(&inflight->slots[id],
                                                      memory_order_relaxed));
        if (p->held) {
            le64_store(&vr->desc[p->idx].meta, meta);
        } else {
            p->held = true;
            vr->held_idx = (uint16_t)p->idx;
            atomic_store_explicit(&inflight->held, meta, memory_order_relaxed);
        }
    }
    vring_device_skip_used(vr, packed, p, descs);
    /* Before the slot: without it the used position is behind the element. */
    vring_inflight_step();
    atomic_store_explicit(&inflight->slots[id], 0, memory_order_relaxed);
    return descs;
}

/* As vring_device_put().  @reorder: as vring_device_accept(). */
VRING_INLINE void vring_device_put_next(VringDevice *vr, const bool packed,
                                        VringDeviceOrder *reorder, VringPutting *p, uint32_t id,
                                        uint32_t len)
{
    VringDeviceOrder *order;
    uint64_t slot;

    if (!reorder) {
        vring_device_write_used(vr, packed, p, id, len);
        return;
    }
    slot = atomic_load_explicit(&vr->inflight->slots[id], memory_order_relaxed);
    order = &reorder[vring_slot_seq(slot) & vr->order_mask];
    order->len = len;
    order->done = true;
    for (;;) {
        order = &reorder[vr->next_done & vr->order_mask];
        if (!order->done) {
            break;
        }
        order->done = false;
        vr->next_done += vring_device_write_used(vr, packed, p, order->id, order->len);
    }
}

#endif
