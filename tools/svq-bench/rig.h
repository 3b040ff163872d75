/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A rig: one shadow virtqueue with a guest's driver before it and a device behind it, both
 * of which check what passes.  Or the two without a shadow virtqueue: direct, on one ring.
 *
 * How it works.  The driver adds buffers from a table made in advance, the first of which
 * follows the last; both peers work in order, so each knows what must come next: the
 * device compares every element with the table (addresses as the device knows them), the driver
 * every number and length that comes back.  Half of the buffers (or what --written says) are read
 * by the device; of the others it reads the first descriptor, if there are several, and writes
 * the rest.
 *
 * Threads: rig_new() and rig_free() the main thread, with the shadow virtqueue's rules.
 * Driver and device may have a thread each, and share nothing but the ring then.
 */
#ifndef TOOLS_SVQ_BENCH_RIG_H
#define TOOLS_SVQ_BENCH_RIG_H

#include "guest-memory.h"
#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "options.h"
#include "rig-log.h"
#include "util/event-notifier.h"

typedef struct Rig {
    /* Constant after rig_new(). */
    bool guest_packed, shadow_packed, indirect;
    unsigned int descriptors;       /* of a buffer */
    VringSegment *table;            /* elements of the buffers */
    uint32_t *writable;             /* bytes of each that the device may write */
    VringSegment *segments;         /* the device's scratch: what it takes */
    uint16_t *batch;                /* in order: what it puts back with one used element */
    GuestMemory *memory;            /* the guest's */
    GuestMemory *shadow_memory;     /* the shadow ring's, and its indirect tables; direct: NULL */
    const MemoryMap *device_map;    /* where the device finds indirect tables */
    uint64_t iova_offset;           /* from the driver's addresses to the device's */
    ShadowVirtqueue *svq;           /* direct: NULL */
    RigLog log;                     /* the VMM's */
    EventNotifier guest_kick, guest_call;       /* the driver's ends; direct: the device's, too */
    EventNotifier device_kick, device_call;     /* the device's ends */

    /* There are none, so here they disturb nobody. */
    _Atomic uint64_t errors;        /* that driver and device saw */
    _Atomic bool broken;            /* the shadow virtqueue */

    /* The driver's. */
    _Alignas(128) VringDriver driver;
    uint64_t added;                 /* buffers */
    uint64_t collected;

    /* The device's. */
    _Alignas(128) VringDevice device;
    uint64_t taken;                 /* buffers */

    _Alignas(128) _Atomic uint64_t progress;    /* as collected, for other threads */
} Rig;

/*
 * Builds it and starts its queue, @name, in @ctx (NULL: the caller steps it).  NULL and @errp
 * if there is no memory or no descriptor, or the queue does not start.
 */
Rig *rig_new(const BenchOptions *options, const char *name, uint64_t seed, AioContext *ctx,
             GError **errp);

/* The same without a shadow virtqueue; the ring is as the guest's would be. */
Rig *rig_new_direct(const BenchOptions *options, uint64_t seed, GError **errp);

/* Stops the queue; whatever is in flight is forgotten. */
void rig_free(Rig *rig);

/* Buffers that the driver has room for. */
static inline unsigned int rig_driver_room(const Rig *rig)
{
    return rig->driver.num_free / (rig->indirect ? 1 : rig->descriptors);
}

/* The driver adds up to @n buffers and publishes them.  *kick: the device (SVQ) is to be told. */
unsigned int rig_driver_add(Rig *rig, unsigned int n, bool *kick);

/* The driver collects and checks what is used, @max buffers at most. */
unsigned int rig_driver_collect_burst(Rig *rig, unsigned int max);

static inline unsigned int rig_driver_collect(Rig *rig)
{
    return rig_driver_collect_burst(rig, UINT_MAX);
}

/*
 * The device takes, checks and puts back what is available, @max buffers at most.  *call: tell
 * the driver (SVQ).
 */
unsigned int rig_device_work_burst(Rig *rig, unsigned int max, bool *call);

static inline unsigned int rig_device_work(Rig *rig, bool *call)
{
    return rig_device_work_burst(rig, UINT_MAX, call);
}

/* Pages of the buffers that came back, written by the device, that the dirty log has not. */
uint64_t rig_unlogged_pages(const Rig *rig);

/* Nothing can pass any more: the queue is broken, or one of the peers saw an error. */
static inline bool rig_is_broken(const Rig *rig)
{
    return atomic_load_explicit(&rig->errors, memory_order_relaxed) ||
           atomic_load_explicit(&rig->broken, memory_order_relaxed);
}

#endif
