/* SPDX-License-Identifier: BSD-3-Clause */
/* Putting the bytes of frames one behind the other. */
#include "lib/frame.h"

#include <arpa/inet.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>

#define IPV4_BYTES 20

void frame_append(Frame *frame, const void *bytes, size_t n)
{
    g_assert_cmpuint(frame->n + n, <=, sizeof(frame->bytes));
    memcpy(frame->bytes + frame->n, bytes, n);
    frame->n += n;
}

void frame_append16(Frame *frame, unsigned int value)
{
    const uint8_t bytes[] = { (uint8_t)(value >> 8), (uint8_t)value };

    frame_append(frame, bytes, sizeof(bytes));
}

static void append_zeros(Frame *frame, size_t n)
{
    static const uint8_t zeros[sizeof(frame->bytes)];

    frame_append(frame, zeros, n);
}

static void append_address(Frame *frame, int family, const char *text)
{
    uint8_t bytes[16];

    g_assert_cmpint(inet_pton(family, text, bytes), ==, 1);
    frame_append(frame, bytes, family == AF_INET ? 4 : 16);
}

void frame_begin(Frame *frame, const char *destination)
{
    static const uint8_t source[] = { 2, 0, 0, 0, 0, 2 };
    unsigned int b[6];

    g_assert_cmpint(sscanf(destination, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4],
                           &b[5]), ==, 6);
    memset(frame, 0, sizeof(*frame));
    for (unsigned int i = 0; i < 6; i++) {
        frame->bytes[frame->n++] = (uint8_t)b[i];
    }
    frame_append(frame, source, sizeof(source));
}

void frame_tag(Frame *frame, uint16_t type, uint16_t tci)
{
    frame_append16(frame, type);
    frame_append16(frame, tci);
}

void frame_ipv4(Frame *frame, const char *source, const char *destination, uint8_t protocol,
                unsigned int option_words, size_t bytes)
{
    const size_t header = IPV4_BYTES + 4 * option_words;

    frame_append16(frame, 0x0800);
    frame_append16(frame, (0x40 | (unsigned int)header / 4) << 8);
    frame_append16(frame, (unsigned int)(header + bytes));
    append_zeros(frame, 4);
    frame_append16(frame, 64 << 8 | protocol);
    append_zeros(frame, 2);
    append_address(frame, AF_INET, source);
    append_address(frame, AF_INET, destination);
    while (option_words--) {
        frame_append(frame, "\1\1\1\1", 4);
    }
}

void frame_ipv6(Frame *frame, const char *source, const char *destination, uint8_t next,
                size_t bytes)
{
    frame_append16(frame, 0x86dd);
    frame_append16(frame, 0x6000);
    append_zeros(frame, 2);
    frame_append16(frame, (unsigned int)bytes);
    frame_append16(frame, (unsigned int)next << 8 | 64);
    append_address(frame, AF_INET6, source);
    append_address(frame, AF_INET6, destination);
}

size_t frame_l4_bytes(uint8_t protocol)
{
    return protocol == FRAME_TCP ? 20 : 8;
}

void frame_ports(Frame *frame, uint8_t protocol, uint16_t source, uint16_t destination,
                 size_t bytes)
{
    frame_append16(frame, source);
    frame_append16(frame, destination);
    append_zeros(frame, frame_l4_bytes(protocol) - 4 + bytes);
}
