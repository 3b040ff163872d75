/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net device as a guest's driver has it, towards a vhost-user back end: memory, queue
 * pairs, control queue, and the order in which a device is started and stopped.
 *
 * Threads: the main thread.
 */
#ifndef TOOLS_SVQ_BENCH_NET_DEVICE_H
#define TOOLS_SVQ_BENCH_NET_DEVICE_H

#include "net-control.h"
#include "net-pair.h"

typedef struct NetDevice {
    const BenchOptions *options;
    GuestMemory *memory;
    unsigned int n_pairs;
    NetPair **pairs;
    NetControl control;
    int control_index;          /* its virtqueue; -1: it is not used */
    uint64_t features;          /* negotiated */
    VhostDevice *dev;           /* NULL until it is connected */
} NetDevice;

/* Makes memory and queues, and connects.  All zeroes, or after a failure, it may be cleaned up. */
bool net_device_init(NetDevice *device, const BenchOptions *options,
                     const VhostDeviceNotify *notify, void *opaque, GError **errp);
void net_device_cleanup(NetDevice *device);

/* From the features to the last control command: after this packets can go. */
bool net_device_start(NetDevice *device, GError **errp);

/* After this nobody touches the rings: a buffer that comes back now comes too late. */
bool net_device_stop(NetDevice *device, GError **errp);

#endif
