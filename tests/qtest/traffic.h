/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets that are sent on queue pairs and come back on the same ones, each of them told from
 * every other.
 *
 * How it works: a packet's bytes follow from its pair and its sequence number, which it
 * carries, so whoever receives it can say what it must be to the last byte.  Numbers never go
 * back: a packet that comes twice, or late, fails the test.  One that never comes is a gap,
 * and fails the test unless it may be lost.
 */
#ifndef TESTS_QTEST_TRAFFIC_H
#define TESTS_QTEST_TRAFFIC_H

#include "virtio-net.h"

typedef struct TrafficPair {
    uint64_t sent;              /* packets; also the next sequence number */
    uint64_t next;              /* the sequence number that is due */
    uint64_t received, lost;    /* packets; lost: known from gaps */
} TrafficPair;

typedef struct Traffic {
    VirtioNet *net;
    bool may_lose;
    TrafficPair pairs[NET_MAX_PAIRS];
} Traffic;

/* Sends up to @max packets on @pair, as many as there is room for; how many. */
unsigned int traffic_send(Traffic *traffic, unsigned int pair, unsigned int max);

/* Takes and checks what has come on @pair, adding the buffers again, and what was transmitted. */
void traffic_receive(Traffic *traffic, unsigned int pair);

/* As traffic_receive(), but leaves the receive buffers with the driver; packets received. */
unsigned int traffic_drain(Traffic *traffic, unsigned int pair);

/* A burst in each direction on each pair from @first on, @n of them, as far as there is room. */
void traffic_pump(Traffic *traffic, unsigned int first, unsigned int n);

/* Sends @packets on each pair from @first on, @n of them, and waits until they are all back. */
void traffic_run(Traffic *traffic, unsigned int first, unsigned int n, uint64_t packets);

/* Waits until @pair has neither packets under way nor transmit buffers with the device. */
void traffic_settle(Traffic *traffic, unsigned int pair);

/* What is under way is lost: a gap up to here is no fault. */
void traffic_forget(Traffic *traffic);

/* Uses up all receive buffers of @pair, a packet in each, and adds them again. */
void traffic_use_all_rx(Traffic *traffic, unsigned int pair);

/*
 * Sends single packets on @pair until one comes back; those before it may be lost.  Afterwards
 * nothing is under way.
 */
void traffic_wait_open(Traffic *traffic, unsigned int pair);

#endif
