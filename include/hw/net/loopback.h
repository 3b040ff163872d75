/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The built-in loopback device: a multi-queue virtio-net device (virtio 1.3, section 5.1)
 * that receives on queue pair N what is sent on queue pair N, or the answer to it, as far as its
 * driver wants it: it obeys all commands of a control queue, and steers by hash if told so.
 */
#ifndef HW_NET_LOOPBACK_H
#define HW_NET_LOOPBACK_H

#include "hw/vhost/vhost-device.h"
#include "util/iothread.h"

typedef struct LoopbackConfig {
    const char *id;
    uint32_t queue_pairs;   /* 1..127 */
    uint8_t mac[6];
    uint16_t mtu;           /* bytes, 68..65535 */
    bool icmp_echo;         /* the answer, as a neighbour that has every address gives it */
    IOThread *iothread;     /* where it runs; NULL: each pair in the thread of its queues */
} LoopbackConfig;

#define LOOPBACK_CONFIG_DEFAULT \
    ((LoopbackConfig){ .queue_pairs = 1, .mac = { 0x02, 0, 0, 0, 0, 1 }, .mtu = 1500 })

/* NULL and @errp: a value is out of range.  It is connected at once. */
VhostDevice *loopback_new(const LoopbackConfig *config, GError **errp);

#endif
