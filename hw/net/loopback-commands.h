/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver makes of the loopback device by commands of its control queue (virtio 1.3, section
 * 5.1.6.5).
 *
 * How it works.  The pairs see immutable settings, published by RCU: a command makes new ones,
 * and is answered when no pair sees the old ones any more.  Coalescing of notifications is kept
 * and told, and has no effect, which is allowed (5.1.6.5.9): a device that has the packets of a
 * burst all at once notifies once.
 *
 * Threads: init, reset and cleanup in the main thread, while the control queue is stopped;
 * execute in the control queue's; the address: any.  Settings: see rcu.h.
 */
#ifndef HW_NET_LOOPBACK_COMMANDS_H
#define HW_NET_LOOPBACK_COMMANDS_H

#include <stdatomic.h>

#include "hw/net/net-ctrl.h"
#include "net-filter.h"
#include "net-rss.h"

#define LOOPBACK_MAX_PAIRS 127  /* vhost-user messages can name 256 queues, one is for control */

typedef struct LoopbackSettings {
    unsigned int tx_pairs, rx_pairs;    /* in use: the others do not send, or not receive */
    bool guest_csum;            /* the driver takes packets whose checksum is incomplete */
    bool hashes;                /* packets have one, or are steered */
    NetFilter filter;
    NetRss rss;
} LoopbackSettings;

typedef struct LoopbackCommands {
    NetCtrlLimits limits;
    LoopbackSettings *settings;         /* by RCU */
    void (*changed)(void *opaque);      /* there are new settings, and no pair sees the old ones */
    void *opaque;
    uint8_t reset_mac[6];
    _Atomic uint64_t mac;               /* as net_filter_address() gives it */
    NetCtrlCoal coal[2];                /* of receive and of transmit queues */
    NetCtrlCoal queue_coal[2 * LOOPBACK_MAX_PAIRS];
} LoopbackCommands;

/* @changed is called where commands are executed. */
void loopback_commands_init(LoopbackCommands *commands, const uint8_t mac[6],
                            void (*changed)(void *opaque), void *opaque);
void loopback_commands_cleanup(LoopbackCommands *commands);

/* As before any command: a driver that has agreed on @limits begins.  @n_pairs: there are. */
void loopback_commands_reset(LoopbackCommands *commands, const NetCtrlLimits *limits,
                             unsigned int n_pairs);

/*
 * Carries out the command in @bytes[0..n).  NET_CTRL_OK, and in *n_result how many bytes of
 * @result are to be told; NET_CTRL_ERR: it is wrong or not known, and nothing has changed.
 */
uint8_t loopback_commands_execute(LoopbackCommands *commands, const uint8_t *bytes, size_t n,
                                  uint8_t result[NET_CTRL_MAX_RESULT], size_t *n_result);

#endif
