/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread that is both driver and device of a shadow virtqueue.
 *
 * How it works.  In each turn it does all that can be done of its queue.  It may flood a second
 * one besides; of that it does one piece in a turn, a burst collected, added or worked on, so that it
 * is never away from the first for longer.
 *
 * Threads: peer_init() the main thread; peer_work() the peer.
 */
#ifndef TOOLS_SVQ_BENCH_PEER_H
#define TOOLS_SVQ_BENCH_PEER_H

#include "load.h"
#include "waiter.h"

typedef struct Peer {
    _Alignas(128) Load load;    /* no other thread looks at its cache lines */
    Load flood;                 /* its rig is NULL: there is none */
    unsigned int flood_turn;
    _Atomic bool flood_stop;
    Waiter waiter;
    Latency latency;            /* with --ping-pong */
} Peer;

/* All zeroes before.  @rig: its queue.  @flood: one that is flooded besides, or NULL. */
void peer_init(Peer *peer, Rig *rig, Rig *flood, const BenchOptions *options, unsigned int index,
               const _Atomic bool *stop);

/* Until all has come back that it had to add, or could add before it was to stop. */
void peer_work(Peer *peer);

#endif
