/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A rig: one shadow virtqueue with a guest's driver before it and a device behind it, both
 * of which check what passes.
 *
 * How it works.  The driver adds buffers from a table made in advance, the first of which
 * follows the last; both peers work in order, so each knows what must come next: the
 * device compares every element with the table (addresses as the device knows them), the driver
 * every number and length that comes back.  Half of the buffers are read by the device; of
 * the others it reads the first descriptor, if there are several, and writes the rest.
 *
 * Threads: rig_new() and rig_free() the main thread, with the shadow virtqueue's rules;
 * the rest one thread, the peer.
 */
#ifndef TOOLS_SVQ_BENCH_RIG_H
#define TOOLS_SVQ_BENCH_RIG_H

#include "guest-memory.h"
#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "options.h"
#include "util/event-notifier.h"

typedef struct Rig {
    /* Constant after rig_new(). */
    bool guest_packed, shadow_packed, indirect;
    unsigned int descriptors;       /* of a buffer */
    VringSegment *table;            /* elements of the buffers */
    uint32_t *writable;             /* bytes of each that the device may write */
    VringSegment *segments;         /* scratch: what the device takes */
    GuestMemory *memory;            /* the guest's */
    GuestMemory *shadow_memory;     /* the shadow ring's, and its indirect tables */
    ShadowVirtqueue *svq;
    EventNotifier guest_kick, guest_call;       /* the driver's ends */
    EventNotifier device_kick, device_call;     /* the device's ends */

    /* The peer's. */
    _Alignas(128) VringDriver driver;
    _Alignas(128) VringDevice device;
    uint64_t added;                 /* buffers */
    uint64_t taken;
    uint64_t collected;
    uint64_t errors;
    _Alignas(128) _Atomic uint64_t progress;    /* as collected, for other threads */
} Rig;

/*
 * Builds it and starts its queue, @name, in @ctx (NULL: the caller steps it).  NULL and @errp
 * if there is no memory or no descriptor, or the queue does not start.
 */
Rig *rig_new(const BenchOptions *options, const char *name, uint64_t seed, AioContext *ctx,
             GError **errp);

/* Stops the queue; whatever is in flight is forgotten. */
void rig_free(Rig *rig);

/* The driver adds up to @n buffers and publishes them.  *kick: the device (SVQ) is to be told. */
unsigned int rig_driver_add(Rig *rig, unsigned int n, bool *kick);

/* The driver collects and checks what is used. */
unsigned int rig_driver_collect(Rig *rig);

/* The device takes, checks and puts back what is available.  *call: tell the driver (SVQ). */
unsigned int rig_device_work(Rig *rig, bool *call);

/* Nothing can pass any more: the queue is broken, or one of the peers saw an error. */
bool rig_is_broken(const Rig *rig);

#endif
