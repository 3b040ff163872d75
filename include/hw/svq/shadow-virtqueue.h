/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ShadowVirtqueue: one virtqueue of a guest, forwarded to a device and back.
 *
 * How it works.  Two rings: the guest's, which we work in the device's role, and the
 * shadow ring, which we work in the driver's role.  Offering takes a burst of buffers from
 * the guest's ring, translates their addresses and adds them to the shadow ring; returning
 * collects used buffers from the shadow ring and puts them back in the guest's.  Each
 * publishes once and notifies once, if that is wanted at all.  A queue whose guest or device
 * breaks the rules is broken: it says so once and does nothing any more until it is stopped.
 *
 * Threads.  While it runs a queue belongs to the owner of its AioContext, who alone touches
 * the rings.  The others call what is said to be for "the main thread": start,
 * detach and the descriptors' setters hand over by a bottom half.
 */
#ifndef HW_SVQ_SHADOW_VIRTQUEUE_H
#define HW_SVQ_SHADOW_VIRTQUEUE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/svq/dirty-log.h"
#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring.h"
#include "util/aio-context.h"

/* Buffers of a burst: published with one store, notified of at most once. */
#define SVQ_BURST 64

typedef struct ShadowVirtqueue ShadowVirtqueue;
typedef struct ControlQueue ControlQueue;

/* What of a queue is logged, and where; not changed once a queue may see it. */
typedef struct SvqLogging {
    DirtyLog *log;
    bool data;                  /* what the device writes (VHOST_F_LOG_ALL) */
    bool ring;                  /* what we write in the guest's ring (VHOST_VRING_F_LOG) */
    uint64_t desc_gpa;          /* of its descriptor area: packed rings are written there, too */
    uint64_t device_gpa;        /* of its device area, as the VMM wants it logged */
} SvqLogging;

typedef struct ShadowVirtqueueConfig {
    AioContext *ctx;            /* where it runs; NULL: the caller steps it */
    MemoryMap *const *map;      /* where the guest's current memory map is published (RCU) */
    /* Where the logging is published (RCU); NULL there, or NULL: nothing is logged. */
    SvqLogging *const *logging;
    VringConfig guest;          /* the guest's ring, and where it goes on */
    VringConfig shadow;         /* the ring towards the device */
    VringDesc *tables;          /* for indirect tables towards the device, or NULL */
    uint64_t tables_iova;
    /* Borrowed until shadow_virtqueue_stop() or replaced; non-blocking; -1: none. */
    int guest_kick_fd;          /* none: the guest's ring is polled */
    int guest_call_fd;
    int guest_err_fd;
    int device_kick_fd;
    int device_call_fd;         /* none: the shadow ring is polled */
    /* Where a store rings the device's bell, see VhostDeviceOps.ring_doorbell; NULL: the kick fd. */
    void *doorbell;
    uint16_t index;             /* of the virtqueue, which the store names */
    bool notification_data;     /* NOTIFICATION_DATA is negotiated with the device */
    bool held;                  /* nothing is forwarded before shadow_virtqueue_release() */
    ControlQueue *control;      /* looks into the buffers, and is configured; NULL: nobody does */
    /* The queue has just broken; in the owner's thread. */
    void (*broken)(void *opaque);
    void *opaque;
} ShadowVirtqueueConfig;

typedef enum SvqQueueState { SVQ_QUEUE_STOPPED, SVQ_QUEUE_RUNNING, SVQ_QUEUE_BROKEN } SvqQueueState;

/* Since the queue was made.  The owner writes them, any thread may read them. */
typedef struct ShadowVirtqueueCounters {
    uint64_t buffers;           /* offered to the device */
    uint64_t returned;          /* put back in the guest's ring */
    uint64_t bytes;             /* offered to the device */
    uint64_t bursts;            /* of offering */
    uint64_t kicks_sent, kicks_suppressed;      /* to the device */
    uint64_t calls_sent, calls_suppressed;      /* to the guest */
    uint64_t polls_hit, polls_missed;
    uint64_t full;              /* times that the shadow ring had no room */
    uint64_t errors;
} ShadowVirtqueueCounters;

/* @name goes into messages, such as "net0 queue 1". */
ShadowVirtqueue *shadow_virtqueue_new(const char *name);

/* The queue is stopped. */
void shadow_virtqueue_free(ShadowVirtqueue *svq);

/*
 * Main thread.  Starts a stopped queue; all memory it will ever need is allocated here.
 * 0; or -EINVAL, -EPROTO with @errp if a ring cannot be.  The owner is not waited for: it breaks a
 * queue whose kick or call descriptor cannot be waited for.
 */
int shadow_virtqueue_start(ShadowVirtqueue *svq, const ShadowVirtqueueConfig *config,
                           GError **errp);

/* Main thread, while started or detached.  A queue that was started held forwards from now on. */
void shadow_virtqueue_release(ShadowVirtqueue *svq);

/* Main thread, while started.  Whether there was an in-flight record of an earlier life. */
bool shadow_virtqueue_has_recovered(const ShadowVirtqueue *svq);

/* Whether the queue goes on from that record, so that its driver is the same as then. */
bool shadow_virtqueue_goes_on(const ShadowVirtqueue *svq);

/*
 * Main thread, not the queue's own.  The queue is to be detached, and that may begin: whoever says so
 * of several before he detaches each waits for their threads once, not for each queue.
 */
void shadow_virtqueue_begin_detach(ShadowVirtqueue *svq);

/*
 * Main thread, not the queue's own.  Takes a started queue from its thread: nothing is
 * forwarded any more, but the device may still work what it has.  Then the device is to be
 * stopped.
 */
void shadow_virtqueue_detach(ShadowVirtqueue *svq);

/*
 * Main thread, after detach and once the device touches the shadow ring no more: gives
 * back what the device has used.  0 if all the rest could be offered to another device; -EBUSY:
 * the device has completed some out of order, so stop() would complete some unprocessed.
 */
int shadow_virtqueue_drain(ShadowVirtqueue *svq);

/*
 * Main thread, after detach, instead of stop: goes on with the guest's ring at @guest, the
 * same ring at another host address.
 */
void shadow_virtqueue_resume(ShadowVirtqueue *svq, const VringAreas *guest);

/*
 * Main thread, after detach and once the device touches the shadow ring no more: gives
 * back to the guest what the device has used, settles the rest, frees.  @device_lost: nobody
 * knows how far it got.  @base: where a later start goes on; exact, see
 * vring_device_settle().
 */
void shadow_virtqueue_stop(ShadowVirtqueue *svq, bool device_lost, VringBase *base);

/*
 * Main thread, while started: from the return on, @fd (borrowed; -1: none) is used and the
 * one before is not.  A kick descriptor that cannot be waited for breaks the queue.
 */
void shadow_virtqueue_set_guest_kick(ShadowVirtqueue *svq, int fd);
void shadow_virtqueue_set_guest_call(ShadowVirtqueue *svq, int fd);
void shadow_virtqueue_set_guest_err(ShadowVirtqueue *svq, int fd);

/* Main thread, while started: the device looks at the shadow ring, whatever it was told before. */
void shadow_virtqueue_kick_device(ShadowVirtqueue *svq);

/*
 * Owner.  One burst from the guest to the device, or from the device to the guest.  Returns
 * the buffers moved; 0: nothing to do, or no room, or broken.
 */
unsigned int shadow_virtqueue_offer(ShadowVirtqueue *svq);
unsigned int shadow_virtqueue_return(ShadowVirtqueue *svq);

/* Any thread. */
SvqQueueState shadow_virtqueue_get_state(const ShadowVirtqueue *svq);
ShadowVirtqueueCounters shadow_virtqueue_get_counters(const ShadowVirtqueue *svq);

#endif
