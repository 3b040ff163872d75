/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ethernet frames with UDP datagrams in them, for paths that look at what they carry.
 *
 * Each queue pair has a flow of its own, by its ports.  What sends a frame back may swap its
 * addresses and ports, so it is known by both ports and judged by its lengths and payload.
 *
 * Threads: any.
 */
#ifndef TOOLS_SVQ_BENCH_NET_FRAME_H
#define TOOLS_SVQ_BENCH_NET_FRAME_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NET_FRAME_HEADERS   42      /* Ethernet, IPv4, UDP */
#define NET_FRAME_MAX       65549   /* as long as IPv4 allows */

/*
 * Makes the headers of a frame of @size bytes, these included, of queue pair @pair.  They do
 * not depend on the payload: UDP has no checksum.
 */
void net_frame_make_headers(uint8_t headers[NET_FRAME_HEADERS], const uint8_t destination[6],
                            unsigned int pair, unsigned int size);

/* Whether @frame of @size bytes is a datagram of ours, there or back, whatever its length says. */
bool net_frame_is_ours(const uint8_t *frame, uint32_t size);

/* Whether the headers of @frame, which is ours, say that it has @size bytes. */
bool net_frame_lengths_are(const uint8_t *frame, uint32_t size);

#endif
