/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ethernet frames, made header by header.  What is not said is zero; no checksum is right.
 */
#ifndef TESTS_LIB_FRAME_H
#define TESTS_LIB_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_TCP 6
#define FRAME_UDP 17

typedef struct Frame {
    uint8_t bytes[1600];
    size_t n;
} Frame;

/* A new frame from 02:00:00:00:00:02 to @destination, "02:00:00:00:00:01"; its type comes later. */
void frame_begin(Frame *frame, const char *destination);

/* A tag of @type (0x8100). */
void frame_tag(Frame *frame, uint16_t type, uint16_t tci);

/* @bytes of payload follow; of IPv4: behind @option_words of options, which are no-operations. */
void frame_ipv4(Frame *frame, const char *source, const char *destination, uint8_t protocol,
                unsigned int option_words, size_t bytes);
void frame_ipv6(Frame *frame, const char *source, const char *destination, uint8_t next,
                size_t bytes);

/* A TCP or UDP header, and @bytes of payload. */
void frame_ports(Frame *frame, uint8_t protocol, uint16_t source, uint16_t destination,
                 size_t bytes);

void frame_append(Frame *frame, const void *bytes, size_t n);
void frame_append16(Frame *frame, unsigned int value);

/* Bytes of such a header. */
size_t frame_l4_bytes(uint8_t protocol);

#endif
