/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a network neighbour that has every address answers to a frame, so that a guest can
 * ping any address on its link.
 *
 * Threads: any; nothing is kept between calls.
 */
#ifndef HW_NET_NET_ECHO_H
#define HW_NET_NET_ECHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All that an answer differs in: Ethernet, a VLAN tag, the longest IPv4 header, ports. */
#define NET_ECHO_BYTES (14 + 4 + 60 + 8)

/*
 * Makes of a frame's first @n bytes those of the answer; the bytes behind them are the same in
 * both, and so is the length.  @n is NET_ECHO_BYTES, or the length of a shorter frame.
 * @csum_open: there is no checksum yet of what follows the header of IPv4; one that is made of the
 * answer is right.
 *
 *   ARP request for an address that is not the asker's own    the reply
 *   ICMP echo request over IPv4                               the echo reply
 *   anything else over IPv4                                   the same with its addresses
 *                                                             and UDP or TCP ports swapped
 *   any other frame, and one shorter than its headers say     itself
 */
void net_echo_answer(uint8_t *frame, size_t n, bool csum_open);

#endif
