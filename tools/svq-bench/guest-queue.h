/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue as a guest's driver has it: its ring in guest memory, and the two eventfds.
 *
 * Threads: guest_queue_start() the main thread; the rest one at a time.
 */
#ifndef TOOLS_SVQ_BENCH_GUEST_QUEUE_H
#define TOOLS_SVQ_BENCH_GUEST_QUEUE_H

#include "driver.h"
#include "guest-memory.h"
#include "hw/vhost/vhost-device.h"
#include "options.h"
#include "util/event-notifier.h"

typedef struct GuestQueue {
    bool packed, indirect;
    VringDriver driver;
    GuestRing ring;
    EventNotifier kick, call;
} GuestQueue;

/* The feature bits of the ring that @options ask for, VERSION_1 among them. */
uint64_t guest_queue_features(const BenchOptions *options);

/* Bytes of region 0 that a queue of @num descriptors takes at most, indirect tables included. */
uint64_t guest_queue_memory_size(uint32_t num);

/* All zeroes, or after a failure, it may be cleaned up. */
bool guest_queue_init(GuestQueue *queue, const BenchOptions *options, uint32_t num,
                      GuestMemory *memory, GError **errp);
void guest_queue_cleanup(GuestQueue *queue);

/* Hands it to the device as virtqueue @index, enabled. */
bool guest_queue_start(const GuestQueue *queue, VhostDevice *dev, unsigned int index,
                       GError **errp);

static inline void guest_queue_add(GuestQueue *queue, const VringSegment *seg, unsigned int n,
                                   uint32_t cookie)
{
    bench_driver_add(&queue->driver, queue->packed, queue->indirect, seg, n, cookie);
}

/* Returns the system calls that it took: 1 if the device wanted to be notified. */
unsigned int guest_queue_publish(GuestQueue *queue);

#endif
