/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver that has the loopback device obey commands, sends frames, and sees where they are
 * received.
 *
 * There is one receive buffer at a time in each receive queue, and nothing that is sent or
 * received lies in one piece with its header.
 */
#ifndef TESTS_LIB_LOOPBACK_WORLD_H
#define TESTS_LIB_LOOPBACK_WORLD_H

#include "lib/frame.h"
#include "lib/loopback-rig.h"

#define LOOPBACK_WORLD_TX(pair) (0x800u + 0x2800u * (pair))
#define LOOPBACK_WORLD_RX(queue) (0x6000u + 0x3000u * (queue))
#define LOOPBACK_WORLD_RX_BYTES 0x3000
#define LOOPBACK_NOWHERE (-1)

/* Feature bits that command @id needs. */
#define LOOPBACK_NEEDS(id) (net_ctrl_spec(NET_CTRL_##id)->needs)

/* Its rings. */
enum { RX0, TX0, RX1, TX1, CTRL };

/* The header of a packet (5.1.6), of which the last 8 bytes are there with HASH_REPORT. */
typedef struct LoopbackHeader {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
    uint32_t hash_value;
    uint16_t hash_report, padding;
} LoopbackHeader;

typedef struct LoopbackWorld {
    LoopbackRig rig;
    unsigned int header_bytes;
    bool posted[LOOPBACK_RIG_PAIRS];    /* there is a receive buffer */
    LoopbackHeader sent, received;      /* the next one, and the last one */
    uint8_t frame[LOOPBACK_WORLD_RX_BYTES];     /* the last one that was received */
    size_t n_frame;
} LoopbackWorld;

/* All that a command needs, but HASH_REPORT, with which headers are longer. */
uint64_t loopback_world_features(void);

/* @format: pointer to ring features.  All rings are started. */
void loopback_world_init(LoopbackWorld *w, const void *format, uint64_t features, bool icmp_echo);
void loopback_world_cleanup(LoopbackWorld *w);

void loopback_world_start(LoopbackWorld *w);
void loopback_world_stop(LoopbackWorld *w);

/* A receive buffer, and whether it was used: then the frame is in @w. */
void loopback_world_post(LoopbackWorld *w, unsigned int queue);
bool loopback_world_collect(LoopbackWorld *w, unsigned int queue);

/* Puts a frame in the transmit queue of @pair, which must be empty. */
void loopback_world_transmit(LoopbackWorld *w, unsigned int pair, const void *frame, size_t n);

/* Sends one: the queue where it is received, or LOOPBACK_NOWHERE. */
int loopback_world_send_bytes(LoopbackWorld *w, unsigned int pair, const void *frame, size_t n);

/* The same, and it must be received as it was sent. */
int loopback_world_send(LoopbackWorld *w, unsigned int pair, const Frame *frame);

/* A command as net_ctrl_from_string() reads it, which must be obeyed, or refused. */
void loopback_world_say(LoopbackWorld *w, const char *text);
void loopback_world_say_wrong(LoopbackWorld *w, const char *text);

#endif
