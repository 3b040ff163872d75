/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The burst loops: the way of a buffer from the guest's ring to the shadow ring and back.
 *
 * How it works.  Each loop is written once, as a function that is always inlined and takes
 * the format of both rings as constants; the four pairs of formats are compiled from it.  So
 * there is no indirect call, no format test, no allocation, no lock and no atomic
 * read-modify-write for a buffer; and for a burst one publication, one full fence (inside
 * vring_*_needs_*), one decision whether to notify, one system call at most.
 *
 * Threads: the queue's owner.  The memory map is read under RCU; what is learnt from it
 * is dead at the end of the burst, but for the last hit, which is kept together with the
 * map's generation and not followed unless that is the same.
 */
#include "shadow-virtqueue-internal.h"

#include <string.h>

/*
 * Splits the i-th of @n segments where its region ends; the caller goes on with the rest,
 * which becomes segment i + 1.  Returns the new number of segments.
 */
static __attribute__((cold, noinline)) int split_segment(ShadowVirtqueue *svq,
                                                         const MemoryRange *range, unsigned int i,
                                                         unsigned int n)
{
    VringSegment *seg = svq->segments;
    uint64_t room;

    if (!memory_range_holds(range, seg[i].addr, 1)) {
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
 * Translates @seg[0..n), which is svq->segments, from guest addresses to the device's, in
 * place.  Returns the number of segments, which is larger if one straddles regions; -EPROTO.
 */
static inline __attribute__((always_inline)) int translate(ShadowVirtqueue *svq,
                                                           const MemoryMap *map,
                                                           const MemoryRange **hit,
                                                           VringSegment *seg, int n,
                                                           uint64_t *bytes)
{
    const MemoryRange *range = *hit;
    uint64_t total = 0;
    int i;

    for (i = 0; i < n; i++) {
        if (!memory_range_holds(range, seg[i].addr, seg[i].len)) {
            range = memory_map_find(map, seg[i].addr);
            if (G_UNLIKELY(!memory_range_holds(range, seg[i].addr, seg[i].len))) {
                n = split_segment(svq, range, (unsigned int)i, (unsigned int)n);
                if (n < 0) {
                    return n;
                }
            }
        }
        seg[i].addr += range->iova_delta;
        total += seg[i].len;
    }
    if (G_UNLIKELY(total > UINT32_MAX)) {
        return vring_fail(&svq->guest.error, "buffer has 2^32 bytes or more", NULL,
                          svq->guest.avail_idx, total);
    }
    *hit = range;
    *bytes += total;
    return n;
}

static __attribute__((cold, noinline)) uint64_t segments_bytes(const VringSegment *seg, int n)
{
    uint64_t bytes = 0;

    while (n--) {
        bytes += seg[n].len;
    }
    return bytes;
}

static inline __attribute__((always_inline)) unsigned int
offer_burst(ShadowVirtqueue *svq, const bool guest_packed, const bool shadow_packed)
{
    const MemoryMap *map = rcu_dereference(*svq->map);
    VringSegment *const seg = svq->segments;
    VringDevice *guest = &svq->guest;
    VringDriver *shadow = &svq->shadow;
    const MemoryRange *hit = map->ranges;
    uint64_t bytes = 0;
    unsigned int done;
    int n = 0;

    if (shadow->num_free < svq->need_room) {
        return 0;
    }
    svq->need_room = 1;
    if (svq->hit_generation == map->generation) {
        hit = svq->hit;
    }

    for (done = 0; done < SVQ_BURST; done++) {
        uint16_t id;

        n = vring_device_take(guest, guest_packed, map, seg, SVQ_MAX_TABLE, &id);
        if (n <= 0) {
            break;
        }
        n = translate(svq, map, &hit, seg, n, &bytes);
        if (G_UNLIKELY(n < 0)) {
            break;
        }
        if (G_UNLIKELY(!vring_driver_has_room(shadow, (unsigned int)n))) {
            svq->need_room = vring_driver_descs(shadow, (unsigned int)n);
            vring_device_untake(guest, guest_packed, id);
            /* It is counted when it is offered. */
            bytes -= segments_bytes(seg, n);
            break;
        }
        vring_driver_add(shadow, shadow_packed, seg, (unsigned int)n, id);
    }
    svq->hit = hit;
    svq->hit_generation = map->generation;

    if (done) {
        vring_driver_publish(shadow, shadow_packed);
        if (vring_driver_needs_kick(shadow, shadow_packed)) {
            svq_kick_device(svq, shadow_packed);
            svq_counter_add(&svq->counters.kicks_sent, 1);
        } else {
            svq_counter_add(&svq->counters.kicks_suppressed, 1);
        }
        svq_counter_add(&svq->counters.bursts, 1);
        svq_counter_add(&svq->counters.buffers, done);
        svq_counter_add(&svq->counters.bytes, bytes);
    }
    if (G_UNLIKELY(svq->need_room > shadow->num)) {
        n = vring_fail(&guest->error, "buffer has more elements than the shadow ring is long",
                       NULL, guest->avail_idx, svq->need_room);
    }
    if (G_UNLIKELY(n < 0)) {
        svq_break(svq, "guest", &guest->error);
    } else if (G_UNLIKELY(n > 0 && done < SVQ_BURST)) {
        svq_counter_add(&svq->counters.full, 1);
    }
    return done;
}

static inline __attribute__((always_inline)) unsigned int
return_burst(ShadowVirtqueue *svq, const bool guest_packed, const bool shadow_packed,
             const SvqLogging *logging)
{
    VringDevice *guest = &svq->guest;
    VringDriver *shadow = &svq->shadow;
    unsigned int done;
    int ret = 0;

    for (done = 0; done < SVQ_BURST; done++) {
        VringCollected buffer;

        ret = vring_driver_collect_buffer(shadow, shadow_packed, &buffer);
        if (ret <= 0) {
            break;
        }
        if (logging) {
            svq_log_written(svq, logging, &buffer);
        }
        vring_device_put(guest, guest_packed, buffer.cookie, buffer.len);
    }

    if (done) {
        if (logging) {
            dirty_log_flush(logging->log, &svq->dirty);
        }
        svq_counter_add(&svq->counters.returned, done);
        svq_publish_to_guest(svq, guest_packed, logging);
    }
    if (G_UNLIKELY(ret < 0)) {
        svq_break(svq, "device", &shadow->error);
    }
    return done;
}

/* Compiled twice, so that who does not log pays nothing for it but this question. */
static inline __attribute__((always_inline)) unsigned int
return_burst_logged(ShadowVirtqueue *svq, const bool guest_packed, const bool shadow_packed)
{
    const SvqLogging *logging = rcu_dereference(*svq->logging);

    if (G_UNLIKELY(logging)) {
        return return_burst(svq, guest_packed, shadow_packed, logging);
    }
    return return_burst(svq, guest_packed, shadow_packed, NULL);
}

/* The four pairs, named guest_shadow. */

static unsigned int offer_split_split(ShadowVirtqueue *svq)
{
    return offer_burst(svq, false, false);
}

static unsigned int return_split_split(ShadowVirtqueue *svq)
{
    return return_burst_logged(svq, false, false);
}

static unsigned int offer_split_packed(ShadowVirtqueue *svq)
{
    return offer_burst(svq, false, true);
}

static unsigned int return_split_packed(ShadowVirtqueue *svq)
{
    return return_burst_logged(svq, false, true);
}

static unsigned int offer_packed_split(ShadowVirtqueue *svq)
{
    return offer_burst(svq, true, false);
}

static unsigned int return_packed_split(ShadowVirtqueue *svq)
{
    return return_burst_logged(svq, true, false);
}

static unsigned int offer_packed_packed(ShadowVirtqueue *svq)
{
    return offer_burst(svq, true, true);
}

static unsigned int return_packed_packed(ShadowVirtqueue *svq)
{
    return return_burst_logged(svq, true, true);
}

const SvqForward svq_forward[2][2] = {
    [false] = {
        [false] = { offer_split_split, return_split_split },
        [true] = { offer_split_packed, return_split_packed },
    },
    [true] = {
        [false] = { offer_packed_split, return_packed_split },
        [true] = { offer_packed_packed, return_packed_packed },
    },
};
