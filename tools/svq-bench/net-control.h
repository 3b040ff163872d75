/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of a virtio-net driver (virtio 1.3, section 5.1.6.5), for the one command
 * that a driver with several queue pairs needs: how many it uses.
 *
 * Threads: the main thread.
 */
#ifndef TOOLS_SVQ_BENCH_NET_CONTROL_H
#define TOOLS_SVQ_BENCH_NET_CONTROL_H

#include "guest-queue.h"

typedef struct NetControl {
    GuestQueue queue;
    GuestBlock command;
    GuestBlock ack;
} NetControl;

/* Bytes of memory that it needs at most, in region 0. */
uint64_t net_control_memory_size(void);

bool net_control_init(NetControl *control, const BenchOptions *options, GuestMemory *memory,
                      GError **errp);
void net_control_cleanup(NetControl *control);

/* After DRIVER_OK: the device is to use @pairs queue pairs; waits for it to say yes. */
bool net_control_set_pairs(NetControl *control, unsigned int pairs, GError **errp);

#endif
