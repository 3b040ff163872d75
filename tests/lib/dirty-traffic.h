/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Traffic that dirties memory: a guest's driver in one thread, a device in another, random buffers
 * on four rings between them.
 *
 * How it works.  A buffer has one to five elements anywhere in the memory, readable before
 * writable, over page and region boundaries; the low bits of its first address are its cookie,
 * by which the device knows where to write down what it did.  The device writes a random
 * part of what it may write, never a page that is spared, and uses buffers out of order.  Both
 * threads sleep when they have nothing to do, and can be halted, as the vCPUs of a VM are
 * when it is stopped.
 *
 * Threads: the VMM's, which is that of the device under test, too.
 */
#ifndef TESTS_LIB_DIRTY_TRAFFIC_H
#define TESTS_LIB_DIRTY_TRAFFIC_H

#include <pthread.h>

#include "lib/dirty-memory.h"
#include "lib/fake-device.h"
#include "lib/random.h"
#include "util/event-notifier.h"

#define DIRTY_ELEMENTS  5
#define DIRTY_HELD      8       /* buffers that the device keeps for later, a ring */
#define DIRTY_GRANT     1024    /* buffers that come between two rounds of a harvest, at most */

/* A thread that works in steps and sleeps in between. */
typedef struct DirtyWorker {
    GThread *thread;
    EventNotifier wake;
    pthread_mutex_t lock;       /* no GMutex: ThreadSanitizer does not know that */
    pthread_cond_t changed;
    _Atomic bool wanted;        /* look at what follows, under the lock */
    bool halt, halted, quit;
} DirtyWorker;

typedef struct DirtyHeld {
    uint16_t id;
    unsigned int n;
    VringSegment seg[2 * DIRTY_ELEMENTS];
} DirtyHeld;

typedef struct DirtyTraffic {
    Vmm *vmm;
    FakeDevice *fake;
    DirtyMemory *memory;
    uint64_t total;             /* buffers on all rings */
    _Atomic uint64_t granted, collected;
    DirtyWorker driver_worker, device_worker;
    DirtyRecord records[VMM_RINGS][DIRTY_RING_NUM];

    /* The driver's. */
    Random driver_random;
    uint64_t added;
    struct {
        unsigned int n_free;
        uint16_t free[DIRTY_RING_NUM];      /* cookies */
    } rings[VMM_RINGS];

    /* The device's. */
    Random device_random;
    uint64_t pattern;
    unsigned int n_held[VMM_RINGS];
    DirtyHeld held[VMM_RINGS][DIRTY_HELD];
} DirtyTraffic;

/* Both halted; the rings' drivers are made, with DIRTY_RING_NUM descriptors. */
void dirty_traffic_init(DirtyTraffic *t, Vmm *v, FakeDevice *fake, DirtyMemory *m, uint64_t total);

/* Ends the threads, too. */
void dirty_traffic_cleanup(DirtyTraffic *t);

void dirty_driver_halt(DirtyTraffic *t);
void dirty_driver_go_on(DirtyTraffic *t);
/* So many have come back: lets the driver add up to DIRTY_GRANT more. */
void dirty_driver_grant(DirtyTraffic *t, uint64_t collected);
/* The device's rings are started and stopped only while it is halted. */
void dirty_device_halt(DirtyTraffic *t);
void dirty_device_go_on(DirtyTraffic *t);

/* While the device is halted: what it has of ring @q it will not complete. */
void dirty_device_forget(DirtyTraffic *t, unsigned int q);

/* The device writes the first @len writable bytes of a buffer, and writes down that it has. */
void dirty_device_write(DirtyTraffic *t, unsigned int q, const VringSegment *seg, unsigned int n,
                        uint32_t len);

/* The driver publishes, from its position @first on, what it has added, and kicks. */
void dirty_driver_publish(DirtyTraffic *t, unsigned int q, uint16_t first);

#endif
