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
 *
 * Buffers are added in a burst: the device sees nothing of it before
 * vring_driver_publish().
 *
 *   while (vring_driver_has_room(vr, n)) vring_driver_add(vr, packed, seg, n, cookie);
 *   vring_driver_publish(vr, packed); if (vring_driver_needs_kick(vr, packed)) ring the bell
 *   while ((ret = vring_driver_collect(vr, packed, &cookie, &len)) > 0) ...
 *
 * As in vring-device.h the format is a compile-time constant of each caller.
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
#define VRING_INDIRECT_MAX 16   /* entries of a table; longer chains are offered flat */

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
    VringSegment *mirror;       /* elements in flight, along those links; or INDIRECT and none */
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

static inline bool vring_driver_has_room(const VringDriver *vr, unsigned int n)
{
    return n <= vr->num_free || vring_driver_descs(vr, n) <= vr->num_free;
}

/*
 * Adds a buffer of @n elements flat.  @extra_flags, @writable: what an indirect table adds
 * to its one descriptor; otherwise 0.
 */
VRING_INLINE void vring_driver_add_split(VringDriver *vr, const VringSegment *seg, unsigned int n,
                                         uint32_t cookie, uint32_t extra_flags, uint32_t writable)
{
    const uint32_t head = vr->free_head;
    VringDriverSlot *slot = &vr->slots[head];
    VringDesc *desc;
    uint32_t i = head;

    vr->num_free -= n;
    slot->n_descs = n;
    for (; n > 1; n--, seg++) {
        const uint32_t next = vr->next[i];

        desc = &vr->desc[i];
        le64_store(&desc->addr, seg->addr);
        le64_store(&desc->meta, vring_split_meta(seg->len, seg->flags | VRING_DESC_F_NEXT, next));
        vr->mirror[i] = *seg;
        writable += seg->flags & VRING_DESC_F_WRITE ? seg->len : 0;
        i = next;
    }
    desc = &vr->desc[i];
    le64_store(&desc->addr, seg->addr);
    le64_store(&desc->meta, vring_split_meta(seg->len, seg->flags | extra_flags, 0));
    vr->mirror[i] = *seg;
    writable += seg->flags & VRING_DESC_F_WRITE ? seg->len : 0;
    vr->free_head = vr->next[i];
    slot->cookie = cookie;
    slot->writable = writable;
    slot->last = i;
    le16_store(&vr->avail->ring[vr->avail_idx & vr->mask], (uint16_t)head);
    vr->avail_idx++;
}

VRING_INLINE void vring_driver_add_packed(VringDriver *vr, const VringSegment *seg, unsigned int n,
                                          uint32_t cookie, uint32_t extra_flags, uint32_t writable)
{
    const uint32_t id = vr->free_head;
    const uint32_t num = vr->num;
    VringDriverSlot *slot = &vr->slots[id];
    uint32_t i = vr->avail_idx, avail_flags = vr->avail_flags, place = id;

    vr->num_free -= n;
    vr->added_descs += (uint16_t)n;
    slot->n_descs = n;
    for (;; seg++) {
        const uint32_t more = --n ? VRING_DESC_F_NEXT : 0;
        const uint64_t meta = vring_packed_meta(seg->len, id,
                                                seg->flags | more | extra_flags | avail_flags);
        VringDesc *desc = &vr->desc[i];

        le64_store(&desc->addr, seg->addr);
        if (vr->held) {
            le64_store(&desc->meta, meta);
        } else {
            vr->held = true;
            vr->held_idx = (uint16_t)i;
            vr->held_meta = meta;
        }
        vr->mirror[place] = *seg;
        writable += seg->flags & VRING_DESC_F_WRITE ? seg->len : 0;
        if (++i >= num) {
            i = 0;
            avail_flags ^= VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
        }
        if (!more) {
            break;
        }
        place = vr->next[place];
    }
    vr->avail_idx = (uint16_t)i;
    vr->avail_flags = (uint16_t)avail_flags;
    vr->free_head = vr->next[place];
    slot->cookie = cookie;
    slot->writable = writable;
    slot->last = place;
    vr->ids_taken++;
}

/* As vring_driver_add(), by way of an indirect table. */
void vring_driver_add_table(VringDriver *vr, bool packed, const VringSegment *seg, unsigned int n,
                            uint32_t cookie);

/*
 * Adds a buffer of @n elements, with addresses as the device knows them; there must be
 * room.  @cookie comes back with it.  Its writable elements hold less than 2^32 bytes.
 */
VRING_INLINE void vring_driver_add(VringDriver *vr, const bool packed, const VringSegment *seg,
                                   unsigned int n, uint32_t cookie)
{
    if (vring_driver_uses_table(vr, n)) {
        vring_driver_add_table(vr, packed, seg, n, cookie);
    } else if (packed) {
        vring_driver_add_packed(vr, seg, n, cookie, 0, 0);
    } else {
        vring_driver_add_split(vr, seg, n, cookie, 0, 0);
    }
}

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
    uint16_t moved = vr->added_descs;

    vr->avail_published = vr->avail_idx;
    vr->added_descs = 0;
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

static inline bool vring_driver_desc_is_used(const VringDriver *vr, uint64_t meta)
{
    return ((uint16_t)(meta >> 48) & (VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED)) ==
           vr->used_flags;
}

/* Whether a used buffer can be collected.  One load at most. */
static inline bool vring_driver_has_used(const VringDriver *vr, const bool packed)
{
    if (vr->in_batch) {
        return true;
    }
    if (packed) {
        return vring_driver_desc_is_used(vr, le64_load(&vr->desc[vr->used_idx].meta));
    }
    return vr->used_idx != vr->used_seen || vr->used_idx != le16_load(&vr->used->idx);
}

/* The next used element as the device wrote it: 1; 0 if there is none; -EPROTO. */
VRING_INLINE int vring_driver_read_used(VringDriver *vr, const bool packed, uint32_t *id,
                                         uint32_t *len)
{
    const VringUsedElem *elem;

    if (packed) {
        /* Acquire: pairs with the device's release of a used descriptor's flags. */
        uint64_t meta = le64_load_acquire(&vr->desc[vr->used_idx].meta);

        *id = (uint16_t)(meta >> 32);
        *len = (uint32_t)meta;
        return vring_driver_desc_is_used(vr, meta);
    }
    if (vr->used_idx == vr->used_seen) {
        /* Acquire: pairs with the device's release of the used index. */
        vr->used_seen = le16_load_acquire(&vr->used->idx);
        if (vr->used_idx == vr->used_seen) {
            return 0;
        }
        if (G_UNLIKELY((uint16_t)(vr->used_seen - vr->used_idx) >
                       vring_driver_in_flight(vr, false))) {
            uint16_t seen = vr->used_seen;

            vr->used_seen = vr->used_idx;
            return vring_fail(&vr->error, "used index jumps further than buffers are in flight",
                              "2.7.8", vr->used_idx, seen);
        }
    }
    elem = &vr->used->ring[vr->used_idx & vr->mask];
    *id = le32_load(&elem->id);
    *len = le32_load(&elem->len);
    return 1;
}

typedef struct VringUsedBuffer {
    uint32_t id, len;
} VringUsedBuffer;

/* IN_ORDER: turns a used element that stands for a batch into its buffers, one a call. */
int vring_driver_read_in_order(VringDriver *vr, bool packed, VringUsedBuffer *used);

/* A buffer that was collected. */
typedef struct VringCollected {
    uint32_t id;            /* of ours */
    uint32_t cookie;        /* the caller's */
    uint32_t len;           /* bytes that the device wrote */
} VringCollected;

/*
 * Collects the next used buffer: 1; 0: none; -EPROTO: the device broke the rules, vr->error
 * says how.
 */
VRING_INLINE int vring_driver_collect_buffer(VringDriver *vr, const bool packed,
                                             VringCollected *buffer)
{
    VringDriverSlot *slot;
    uint32_t id, used_len, descs;
    int ret;

    if (G_UNLIKELY(vr->in_order)) {
        VringUsedBuffer used;

        ret = vring_driver_read_in_order(vr, packed, &used);
        id = used.id;
        used_len = used.len;
    } else {
        ret = vring_driver_read_used(vr, packed, &id, &used_len);
    }
    if (ret <= 0) {
        return ret;
    }
    if (G_UNLIKELY(id >= vr->num)) {
        return vring_fail(&vr->error, "used id is not below the queue size",
                          packed ? "2.8.22" : "2.7.8", vr->used_idx, id);
    }
    slot = &vr->slots[id];
    descs = slot->n_descs;
    if (G_UNLIKELY(!descs)) {
        return vring_fail(&vr->error, "used id is not in flight", packed ? "2.8.22" : "2.7.8",
                          vr->used_idx, id);
    }
    /*
     * Packed: of a buffer that the device only reads, the length is reserved (2.8.4), and DPDK leaves
     * ours there.  The flag WRITE, which should tell, is not looked at: QEMU (7.2) never sets it.
     */
    if (packed && !slot->writable) {
        used_len = 0;
    }
    if (G_UNLIKELY(used_len > slot->writable)) {
        return vring_fail(&vr->error, "used length is more than was writable",
                          packed ? "2.8.4" : "2.7.8.2", vr->used_idx, used_len);
    }
    *buffer = (VringCollected){ .id = id, .cookie = slot->cookie, .len = used_len };

    slot->n_descs = 0;
    if (G_UNLIKELY(vr->num_free == 0)) {
        vr->free_head = (uint16_t)id;
    } else {
        vr->next[vr->free_tail] = (uint16_t)id;
    }
    vr->free_tail = (uint16_t)slot->last;
    vr->num_free += descs;
    if (packed) {
        vr->ids_taken--;
        vr->used_idx += (uint16_t)descs;
        if (vr->used_idx >= vr->num) {
            vr->used_idx -= (uint16_t)vr->num;
            vr->used_flags ^= VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
        }
    } else {
        vr->used_idx++;
    }
    return 1;
}

/* The same for who needs no more than the cookie and the length. */
VRING_INLINE int vring_driver_collect(VringDriver *vr, const bool packed, uint32_t *cookie,
                                      uint32_t *len)
{
    VringCollected buffer;
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
 * The next piece that the device wrote: it fills the writable elements one after the other
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
