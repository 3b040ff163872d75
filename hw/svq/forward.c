/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The burst loops: the way of a buffer from the guest's ring to the shadow ring and back.
 *
 * How it works.  Each loop is written once, as a function that is always inlined and takes
 * the format of both rings as constants; what is needed is compiled from it.  So there is no
 * indirect call, no format test, no allocation, no lock and no atomic read-modify-write for a
 * buffer; and for a burst one publication, one full fence (inside vring_*_needs_*), one decision
 * whether to notify, one system call at most.
 *
 * Most buffers have one descriptor.  forward_plain() moves those, all in registers, until it meets
 * another kind; forward_any() goes on from there to the end of the burst.  On the way back IN_ORDER
 * has loops of its own, and so has dirty logging.
 *
 * Threads: the queue's owner.  The memory map is read under RCU; what is learnt from it
 * is dead at the end of the burst.
 */
#include "shadow-virtqueue-internal.h"

#include <string.h>

/*
 * Splits the i-th of @n segments where its region ends; the caller goes on with the rest,
 * which becomes segment i + 1.  Returns the new number of segments.
 */
static __attribute__((cold, noinline)) int split_segment(ShadowVirtqueue *svq,
                                                         const MemoryMap *map, unsigned int i,
                                                         unsigned int n)
{
    VringSegment *seg = svq->segments;
    const MemoryRange *range = memory_map_find(map, seg[i].addr, 1);
    uint64_t room;

    if (!range) {
        return vring_fail(&svq->guest.error, "buffer leaves the guest's memory",
                          svq->guest.packed ? "2.8.4" : "2.7.5", svq->guest.avail_idx,
                          seg[i].addr);
    }
    if (n == svq->max_segments) {
        return vring_fail(&svq->guest.error, "buffer straddles too many memory regions", NULL,
                          svq->guest.avail_idx, seg[i].addr);
    }
    memmove(&seg[i + 1], &seg[i], (n - i) * sizeof(seg[0]));
    room = range->size - (seg[i].addr - range->gpa);
    seg[i].len = (uint32_t)room;
    seg[i + 1].addr += room;
    seg[i + 1].len -= (uint32_t)room;
    return (int)n + 1;
}

/*
 * Finds out what the device calls @seg[0..n), which is svq->segments.  Returns their number, which
 * is larger if one straddles regions; -EPROTO.
 */
VRING_INLINE int translate_chain(ShadowVirtqueue *svq, const MemoryMap *map,
                                 const VringSegment *seg, int n, uint64_t *bytes)
{
    uint64_t *const addrs = svq->addrs;
    uint64_t total = 0;
    int i;

    for (i = 0; i < n; i++) {
        const MemoryRange *range = memory_map_find(map, seg[i].addr, seg[i].len);

        if (G_UNLIKELY(!range)) {
            n = split_segment(svq, map, (unsigned int)i, (unsigned int)n);
            if (n < 0) {
                return n;
            }
            range = memory_map_find(map, seg[i].addr, seg[i].len);
        }
        addrs[i] = seg[i].addr + range->iova_delta;
        total += seg[i].len;
    }
    if (G_UNLIKELY(total > UINT32_MAX)) {
        return vring_fail(&svq->guest.error, "buffer has 2^32 bytes or more", NULL,
                          svq->guest.avail_idx, total);
    }
    *bytes = total;
    return n;
}

/* What a burst of offering has come to that is not plain. */
typedef struct Offering {
    const MemoryMap *map;
    unsigned int done;      /* buffers */
    uint64_t bytes;
} Offering;

/*
 * Forwards what is available, as long as it is buffers of one descriptor each for which there is
 * room; *@done of them, with *@bytes.  Returns 1: there may be more, but of another kind; 0: there
 * is none; -EPROTO.
 */
VRING_INLINE int forward_plain(ShadowVirtqueue *svq, const bool guest_packed,
                               const bool shadow_packed, const MemoryMap *map, unsigned int *done,
                               uint64_t *bytes)
{
    VringDevice *guest = &svq->guest;
    VringDriver *shadow = &svq->shadow;
    VringAdding adding = vring_driver_begin_adding(shadow, shadow_packed);
    VringTaking taking;
    unsigned int max, n;
    int ret = vring_device_begin_taking(guest, guest_packed, SVQ_BURST, &taking);

    if (ret < 0 || (!guest_packed && ret == 0)) {
        return ret;
    }
    max = guest->order ? 0 : MIN(MIN((unsigned int)ret, svq->burst_limit), adding.num_free);
    for (n = 0; n < max; n++) {
        const MemoryRange *range;
        VringAvailable buffer;
        VringSegment seg;

        ret = vring_device_peek(guest, guest_packed, &taking, &buffer);
        if (ret <= 0 || vring_device_is_chain(guest_packed, &buffer)) {
            break;
        }
        ret = vring_device_peek_one(guest, guest_packed, &taking, &buffer, &seg);
        if (ret < 0) {
            break;
        }
        range = memory_map_find(map, seg.addr, seg.len);
        if (G_UNLIKELY(!range)) {
            break;
        }
        *bytes += seg.len;
        vring_driver_add_one(shadow, shadow_packed, &adding, seg,
                             seg.addr + range->iova_delta, buffer.id, 0, 0);
        vring_device_accept(guest, guest_packed, NULL, &taking, &buffer);
    }
    if (n) {
        vring_device_end_taking(guest, guest_packed, &taking);
        vring_driver_end_adding(shadow, shadow_packed, &adding, n);
        *done = n;
    }
    if (n == max) {
        return guest_packed || guest->avail_idx != guest->avail_seen;
    }
    return ret;
}

/*
 * The same for buffers of any kind, until the burst is full.  Returns 1: the next has no room; 0;
 * -EPROTO.
 */
VRING_INLINE int forward_any(ShadowVirtqueue *svq, const bool guest_packed,
                             const bool shadow_packed, Offering *offering)
{
    VringDevice *guest = &svq->guest;
    VringDriver *shadow = &svq->shadow;
    VringAdding adding = vring_driver_begin_adding(shadow, shadow_packed);
    const MemoryMap *map = offering->map;
    VringDeviceOrder *const reorder = svq->guest.order;
    VringSegment *const seg = svq->segments;
    VringTaking taking;
    VringAvailable buffer;
    uint64_t bytes = 0, total = 0;
    bool full = false;
    unsigned int max, i;
    /* Of what is known already: the driver's index was read in this burst, and not twice. */
    int n = vring_device_begin_taking(guest, guest_packed, 0, &taking);

    svq->need_room = 1;
    max = MIN(guest_packed ? SVQ_BURST : (unsigned int)n, svq->burst_limit - offering->done);
    for (i = 0; i < max; i++) {
        n = vring_device_peek(guest, guest_packed, &taking, &buffer);
        if (n <= 0) {
            break;
        }
        n = vring_device_peek_chain(guest, guest_packed, &taking, map, seg, SVQ_MAX_TABLE, &buffer);
        if (n < 0) {
            break;
        }
        n = translate_chain(svq, map, seg, n, &bytes);
        if (n < 0) {
            break;
        }
        if (!vring_driver_fits(shadow, adding.num_free, (unsigned int)n)) {
            svq->need_room = vring_driver_descs(shadow, (unsigned int)n);
            full = true;
            break;
        }
        total += bytes;
        vring_driver_add_next(shadow, shadow_packed, &adding, seg, svq->addrs, 1, (unsigned int)n,
                              buffer.id);
        vring_device_accept(guest, guest_packed, reorder, &taking, &buffer);
    }
    vring_device_end_taking(guest, guest_packed, &taking);
    vring_driver_end_adding(shadow, shadow_packed, &adding, i);
    offering->done += i;
    offering->bytes += total;
    return n < 0 ? n : full;
}

static __attribute__((noinline)) int forward_any_split_split(ShadowVirtqueue *svq, Offering *o)
{
    return forward_any(svq, false, false, o);
}

static __attribute__((noinline)) int forward_any_split_packed(ShadowVirtqueue *svq, Offering *o)
{
    return forward_any(svq, false, true, o);
}

static __attribute__((noinline)) int forward_any_packed_split(ShadowVirtqueue *svq, Offering *o)
{
    return forward_any(svq, true, false, o);
}

static __attribute__((noinline)) int forward_any_packed_packed(ShadowVirtqueue *svq, Offering *o)
{
    return forward_any(svq, true, true, o);
}

static int (*const forward_any_of[2][2])(ShadowVirtqueue *svq, Offering *o) = {
    [false] = { forward_any_split_split, forward_any_split_packed },
    [true] = { forward_any_packed_split, forward_any_packed_packed },
};

/* A burst ended before its time, with @ret: 1, there is no room; -EPROTO. */
static __attribute__((cold, noinline)) void offer_stopped(ShadowVirtqueue *svq, int ret)
{
    if (svq->need_room > svq->shadow.num) {
        ret = vring_fail(&svq->guest.error,
                         "buffer has more elements than the shadow ring is long", NULL,
                         svq->guest.avail_idx, svq->need_room);
    }
    if (ret < 0) {
        svq_break(svq, "guest", &svq->guest.error);
    } else {
        svq_counter_add(&svq->counters.full, 1);
    }
}

VRING_INLINE unsigned int offer_burst(ShadowVirtqueue *svq, const bool guest_packed,
                                      const bool shadow_packed)
{
    const MemoryMap *map = rcu_dereference(*svq->map);
    VringDriver *shadow = &svq->shadow;
    unsigned int done = 0;
    uint64_t bytes = 0;
    int ret;

    if (shadow->num_free < svq->need_room) {
        return 0;
    }
    ret = forward_plain(svq, guest_packed, shadow_packed, map, &done, &bytes);
    if (G_UNLIKELY(ret > 0)) {
        Offering offering = { map, done, bytes };

        ret = done < svq->burst_limit ? forward_any_of[guest_packed][shadow_packed](svq, &offering)
                                      : 0;
        done = offering.done;
        bytes = offering.bytes;
    }
    if (done) {
        vring_driver_publish(shadow, shadow_packed);
        svq_counter_add(&svq->counters.buffers, done);
        svq_counter_add(&svq->counters.bytes, bytes);
        if (vring_driver_needs_kick(shadow, shadow_packed)) {
            svq_kick_device(svq, shadow_packed);
            svq_counter_add(&svq->counters.kicks_sent, 1);
        } else {
            svq_counter_add(&svq->counters.kicks_suppressed, 1);
        }
    }
    if (G_UNLIKELY(ret)) {
        offer_stopped(svq, ret);
    }
    return done;
}

VRING_INLINE unsigned int return_burst(ShadowVirtqueue *svq, const bool guest_packed,
                                       const bool shadow_packed, const bool in_order,
                                       VringDeviceOrder *reorder, const SvqLogging *logging,
                                       const DirtyLog *log)
{
    VringDevice *guest = &svq->guest;
    VringDriver *shadow = &svq->shadow;
    VringPutting putting = vring_device_begin_putting(guest, guest_packed);
    DirtyLogCache dirty = { 0 };
    VringCollecting collecting;
    unsigned int max, n = 0;
    int ret;

    ret = vring_driver_begin_collecting(shadow, shadow_packed, in_order, SVQ_BURST,
                                        &collecting);
    if (ret > 0) {
        max = MIN((unsigned int)ret, svq->burst_limit);
        for (n = 0; n < max; n++) {
            VringCollected buffer;

            ret = vring_driver_collect_next(shadow, shadow_packed, in_order, &collecting, &buffer);
            if (ret <= 0) {
                break;
            }
            if (log) {
                svq_log_written(svq, log, &dirty, &buffer);
            }
            vring_device_put_next(guest, guest_packed, reorder, &putting, buffer.cookie,
                                  buffer.len);
        }
        vring_driver_end_collecting(shadow, shadow_packed, in_order, &collecting, n);
        vring_device_end_putting(guest, guest_packed, &putting);
    }
    if (n) {
        if (log) {
            dirty_log_flush(log, &dirty);
        }
        svq_counter_add(&svq->counters.returned, n);
        svq_publish_to_guest(svq, guest_packed, logging);
    }
    if (G_UNLIKELY(ret < 0)) {
        svq_break(svq, "device", &shadow->error);
    }
    return n;
}

/* Compiled thrice: who neither logs nor reorders pays nothing for it but these questions. */
VRING_INLINE unsigned int return_burst_as_needed(ShadowVirtqueue *svq, const bool guest_packed,
                                                 const bool shadow_packed, const bool in_order)
{
    const SvqLogging *logging = rcu_dereference(*svq->logging);
    VringDeviceOrder *reorder = in_order ? NULL : svq->guest.order;
    const DirtyLog *log = logging && logging->data ? logging->log : NULL;

    if (G_UNLIKELY(reorder)) {
        return return_burst(svq, guest_packed, shadow_packed, in_order, reorder, logging, log);
    }
    if (G_UNLIKELY(log)) {
        return return_burst(svq, guest_packed, shadow_packed, in_order, NULL, logging, log);
    }
    return return_burst(svq, guest_packed, shadow_packed, in_order, NULL, logging, NULL);
}

/* Named guest_shadow. */

static unsigned int offer_split_split(ShadowVirtqueue *svq)
{
    return offer_burst(svq, false, false);
}

static unsigned int return_split_split(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, false, false, false);
}

static unsigned int return_split_split_in_order(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, false, false, true);
}

static unsigned int offer_split_packed(ShadowVirtqueue *svq)
{
    return offer_burst(svq, false, true);
}

static unsigned int return_split_packed(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, false, true, false);
}

static unsigned int return_split_packed_in_order(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, false, true, true);
}

static unsigned int offer_packed_split(ShadowVirtqueue *svq)
{
    return offer_burst(svq, true, false);
}

static unsigned int return_packed_split(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, true, false, false);
}

static unsigned int return_packed_split_in_order(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, true, false, true);
}

static unsigned int offer_packed_packed(ShadowVirtqueue *svq)
{
    return offer_burst(svq, true, true);
}

static unsigned int return_packed_packed(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, true, true, false);
}

static unsigned int return_packed_packed_in_order(ShadowVirtqueue *svq)
{
    return return_burst_as_needed(svq, true, true, true);
}

const SvqForward svq_forward[2][2][2] = {
    [false] = {
        [false] = {
            { offer_split_split, return_split_split },
            { offer_split_split, return_split_split_in_order },
        },
        [true] = {
            { offer_split_packed, return_split_packed },
            { offer_split_packed, return_split_packed_in_order },
        },
    },
    [true] = {
        [false] = {
            { offer_packed_split, return_packed_split },
            { offer_packed_split, return_packed_split_in_order },
        },
        [true] = {
            { offer_packed_packed, return_packed_packed },
            { offer_packed_packed, return_packed_packed_in_order },
        },
    },
};
