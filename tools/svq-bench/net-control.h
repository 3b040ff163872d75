/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of a virtio-net driver (virtio 1.3, section 5.1.6.5): sends what a driver
 * with several queue pairs has to say, and the commands of --control, and checks each answer.
 *
 * Threads: the main thread.
 */
#ifndef TOOLS_SVQ_BENCH_NET_CONTROL_H
#define TOOLS_SVQ_BENCH_NET_CONTROL_H

#include "guest-queue.h"
#include "report.h"

typedef struct NetControl {
    GuestQueue queue;
    unsigned int pieces;        /* that a command is cut into; 1: as Linux does */
    bool pipelined;
    GArray *commands;           /* NetControlCommand */
    BenchControl done;          /* what was answered so far; the rest is zeroes */
} NetControl;

/* Reads what @options say is to be sent.  False and @errp: no command. */
bool net_control_parse(NetControl *control, const BenchOptions *options, GError **errp);

/* Bytes of memory that it needs at most, in region 0. */
uint64_t net_control_memory_size(const NetControl *control);

bool net_control_init(NetControl *control, const BenchOptions *options, GuestMemory *memory,
                      GError **errp);

/* All zeroes, or after a failure, it may be cleaned up. */
void net_control_cleanup(NetControl *control);

/* After DRIVER_OK: sends all, and awaits the answers.  False and @errp at the first wrong one. */
bool net_control_run(NetControl *control, GError **errp);

#endif
