/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of a ShadowVirtqueue, shared by the burst loops (forward.c) and what starts,
 * stops and wakes them (shadow-virtqueue.c).
 */
#ifndef HW_SVQ_SHADOW_VIRTQUEUE_INTERNAL_H
#define HW_SVQ_SHADOW_VIRTQUEUE_INTERNAL_H

#include <stdatomic.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "control-queue.h"
#include "util/event-notifier.h"

#define SVQ_CACHE_LINE 64

/*
 * Elements that a guest's buffer may have by way of an indirect table.  A table longer than
 * the queue breaks the specification (2.7.5.3.1), but drivers of short queues do that.
 */
#define SVQ_MAX_TABLE 512

/* Elements of a buffer that may straddle memory regions, or a guest could keep us busy. */
#define SVQ_MAX_STRADDLES 64

/* Written by the owner with relaxed stores, read by anybody: as ShadowVirtqueueCounters. */
typedef struct SvqCounters {
    _Atomic uint64_t buffers, returned, bytes;
    _Atomic uint64_t kicks_sent, kicks_suppressed, calls_sent, calls_suppressed;
    _Atomic uint64_t polls_hit, polls_missed, full, errors;
} SvqCounters;

struct ShadowVirtqueue {
    /* Constant while started. */
    char *name;
    unsigned int (*offer)(ShadowVirtqueue *svq);        /* of svq_forward, ours */
    unsigned int (*give_back)(ShadowVirtqueue *svq);
    AioContext *ctx;
    MemoryMap *const *map;
    SvqLogging *const *logging;
    VringSegment *segments;         /* scratch of one buffer: its elements ... */
    uint64_t *addrs;                /* ... and what the device calls their addresses */
    unsigned int max_segments;      /* room in both: more, for buffers that straddle */
    EventNotifier device_kick, device_call;
    void *doorbell;                 /* NULL: device_kick */
    uint16_t index;
    bool notification_data;
    bool held;                      /* running, but no handler is there yet */
    ControlQueue *control;          /* looks into the buffers; NULL: nobody does */
    void (*broken)(void *opaque);
    void *opaque;
    AioHandler *kick_handler, *call_handler;
    EventNotifier guest_kick, guest_call, guest_err;
    AioBh work;                     /* goes on where a budget ended or a race was lost */
    /* What the main thread asks of the owner without waiting for each queue. */
    AioBh attach, detach, kick;
    bool detaching;                 /* main thread: @detach was scheduled */
    _Atomic bool detached;          /* nothing of the queue is in the owner's loop any more */

    /* Written by the owner. */
    bool kick_polled, call_polled;  /* the loop polls: no notifications wanted */
    unsigned int need_room;         /* shadow descriptors that the next buffer takes, if known */
    unsigned int burst_limit;       /* SVQ_BURST, or less while a neighbour has light work */
    unsigned int light_bursts;      /* that were short of SVQ_SHARED_BURST, in a row */

    _Alignas(SVQ_CACHE_LINE) VringDevice guest;
    _Alignas(SVQ_CACHE_LINE) VringDriver shadow;

    /* Read by other threads. */
    _Alignas(SVQ_CACHE_LINE) SvqCounters counters;
    _Atomic int state;              /* SvqQueueState */
};

typedef struct SvqForward {
    unsigned int (*offer)(ShadowVirtqueue *svq);
    unsigned int (*give_back)(ShadowVirtqueue *svq);
} SvqForward;

/* The burst loops: [guest is packed][shadow is packed][shadow is in order]. */
extern const SvqForward svq_forward[2][2][2];

static inline void svq_counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline bool svq_is_running(const ShadowVirtqueue *svq)
{
    return atomic_load_explicit(&svq->state, memory_order_relaxed) == SVQ_QUEUE_RUNNING;
}

/* Owner.  Has the device look at the shadow ring; what is there was published before. */
static inline void svq_kick_device(const ShadowVirtqueue *svq, const bool packed)
{
    if (!svq->doorbell) {
        event_notifier_set(&svq->device_kick);
        return;
    }
    /* Pairs with the device's reading of the ring after it has heard the bell. */
    vring_io_write_barrier();
    if (svq->notification_data) {
        *(volatile uint32_t *)svq->doorbell =
            htole32(svq->index | (uint32_t)vring_driver_next_offset(&svq->shadow, packed) << 16);
    } else {
        *(volatile uint16_t *)svq->doorbell = htole16(svq->index);
    }
}

/* Owner.  Breaks the queue, once, with words: @side "guest" or "device" is at fault. */
void svq_break(ShadowVirtqueue *svq, const char *side, const VringError *error);

/* forward-log.c, while @logging is on.  Owner. */

/* Out of line, in the log when it returns: what the device wrote of any @buffer. */
void svq_log_written_pieces(const ShadowVirtqueue *svq, const DirtyLog *log,
                            const VringCollected *buffer);

/* The device wrote what it says of @buffer.  In the log when dirty_log_flush() returns. */
VRING_INLINE void svq_log_written(const ShadowVirtqueue *svq, const DirtyLog *log,
                                  DirtyLogCache *dirty, const VringCollected *buffer)
{
    const VringSegment *first = &svq->shadow.mirror[buffer->id];

    if (first->flags == VRING_DESC_F_WRITE && buffer->len - 1 < first->len) {
        dirty_log_mark(log, dirty, first->addr, buffer->len);
    } else if (buffer->len) {
        const VringCollected copy = *buffer;

        svq_log_written_pieces(svq, log, &copy);
    }
}

/* In the log when they return: */

/* What was put in the guest's ring since the last time, and published. */
void svq_log_used(const ShadowVirtqueue *svq, const SvqLogging *logging);

/* Our wish for kicks was written. */
void svq_log_kick_wish(const ShadowVirtqueue *svq, const SvqLogging *logging);

/* Owner.  Publishes what was put in the guest's ring and calls the guest if it wants that. */
VRING_INLINE void svq_publish_to_guest(ShadowVirtqueue *svq, const bool packed,
                                       const SvqLogging *logging)
{
    if (!vring_device_has_unpublished(&svq->guest, packed)) {
        return;
    }
    vring_device_publish(&svq->guest, packed);
    if (logging) {
        svq_log_used(svq, logging);
    }
    if (vring_device_needs_call(&svq->guest, packed)) {
        event_notifier_set(&svq->guest_call);
        svq_counter_add(&svq->counters.calls_sent, 1);
    } else {
        svq_counter_add(&svq->counters.calls_suppressed, 1);
    }
}

#endif
