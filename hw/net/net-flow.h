/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What tells the flow of a frame from others: its IP addresses and its ports.
 *
 * Threads: any; nothing is kept between calls.
 */
#ifndef HW_NET_NET_FLOW_H
#define HW_NET_NET_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum NetFlowIp { NET_FLOW_NO_IP, NET_FLOW_IPV4, NET_FLOW_IPV6 } NetFlowIp;
typedef enum NetFlowL4 { NET_FLOW_OTHER, NET_FLOW_TCP, NET_FLOW_UDP } NetFlowL4;

/* All pointers are into the frame. */
typedef struct NetFlow {
    NetFlowIp ip;
    NetFlowL4 l4;               /* other: also all fragments, for only the first has ports */
    bool has_extensions;        /* one follows the header of IPv6, be it there whole or not */
    unsigned int address_bytes;
    const uint8_t *source, *destination;
    const uint8_t *ports;       /* TCP and UDP: source and destination, 4 bytes */
    /* Mobile IPv6: a home address instead of the one that is written; else the same. */
    const uint8_t *home_source, *home_destination;
} NetFlow;

/*
 * Of the frame's first @n bytes, up to two VLAN tags included.  What does not lie within them, or
 * is shorter than it says itself, is not there.
 */
void net_flow_read(NetFlow *flow, const uint8_t *frame, size_t n);

#endif
