/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net queue pair as a guest's driver has it (virtio 1.3, section 5.1): sends numbered,
 * patterned packets, and checks that they come back whole, once, and in order.
 *
 * How it works.  A packet's number and its pair determine each of its bytes, so what comes
 * back is compared with what must have been sent, not with a copy.  Never more packets are
 * under way than receive buffers are with the device, or than --window says: a back end that
 * returns what it gets has no reason to drop one.  With --udp a packet is an Ethernet frame, and
 * frames of other origin are passed over.  Every buffer is cut into the same number of elements,
 * in random regions of guest memory; half of them have the header in an element of its own,
 * half together with the packet's first bytes.
 *
 * Threads: net_pair_new() and net_pair_free() any; the rest one thread.
 */
#ifndef TOOLS_SVQ_BENCH_NET_PAIR_H
#define TOOLS_SVQ_BENCH_NET_PAIR_H

#include <glib.h>

#include "guest-memory.h"
#include "guest-queue.h"
#include "options.h"
#include "report.h"

enum { NET_PAIR_RX, NET_PAIR_TX };      /* as virtio-net orders them */

typedef struct NetQueue {
    GuestQueue q;
    unsigned int elements;      /* of a buffer */
    unsigned int n_slots;       /* buffers */
    VringSegment *segments;     /* @elements for each slot */
    uint8_t **host;             /* where they lie */
} NetQueue;

typedef struct NetPair {
    /* Constant after net_pair_new(). */
    unsigned int index;
    unsigned int packet_size;   /* bytes, virtio_net_hdr not counted */
    unsigned int prefix;        /* of it Ethernet, IPv4 and UDP; 0: no frame, all is pattern */
    unsigned int burst;
    uint64_t target;            /* packets to send */
    unsigned int window;        /* packets that may be under way */
    const _Atomic uint32_t *log_epoch;  /* odd while the device logs; NULL: it never does */

    /* The thread's. */
    _Alignas(128) NetQueue queue[2];
    uint16_t *free_slots;       /* to send from: a stack */
    unsigned int n_free;
    uint8_t *outgoing;          /* scratch: header and packet in one piece */
    uint8_t *incoming;
    uint8_t *pattern;           /* scratch: what a packet should be */
    uint64_t sent;              /* the next packet's number */
    uint64_t received;
    uint64_t foreign;           /* frames that are none of ours, not among the received */
    uint64_t expected;          /* number of the next packet to come */
    uint64_t syscalls;
    uint32_t sent_epoch;        /* when it sent last */
    uint64_t logged_from;       /* the first packet that was sent in sent_epoch */
    _Atomic uint32_t *slot_epoch;   /* in which a receive buffer was filled last, if it was odd */
    BenchErrors errors;
    _Alignas(128) _Atomic uint64_t progress;    /* received, for other threads */
    _Atomic uint64_t progress_errors;

    uint64_t unlogged;          /* switches.c: pages that were missing in the log */
} NetPair;

/* Bytes of memory that a pair needs at most; in the worst case all in one region. */
uint64_t net_pair_memory_size(const BenchOptions *options);

/* NULL and @errp: no descriptors left. */
NetPair *net_pair_new(const BenchOptions *options, unsigned int index, GuestMemory *memory,
                      GError **errp);
void net_pair_free(NetPair *pair);

/* Gives the device all receive buffers: before the rest. */
void net_pair_fill(NetPair *pair);

/*
 * From now on buffers that surely are filled while *@epoch has one odd value are marked with it in
 * pair->slot_epoch: the packet was sent after it began, and had come before it ended.
 */
void net_pair_watch_log(NetPair *pair, const _Atomic uint32_t *epoch);

/* Sends what there is room for, at most a burst.  Returns how many packets. */
unsigned int net_pair_send(NetPair *pair);

/* Collects what was sent and what came back.  Returns how many buffers of either. */
unsigned int net_pair_collect(NetPair *pair);

/* True if there is work already. */
bool net_pair_enable_calls(NetPair *pair);
void net_pair_disable_calls(NetPair *pair);

static inline uint64_t net_pair_under_way(const NetPair *pair)
{
    return pair->sent - pair->expected;
}

/* Every packet has come back or is known to be lost, and every buffer has been returned. */
bool net_pair_is_drained(const NetPair *pair);

/* Counts what has not come back by now as lost. */
void net_pair_finish(NetPair *pair);

/* The back end broke the ring's rules; pair->errors.other says so. */
static inline bool net_pair_is_broken(const NetPair *pair)
{
    return pair->errors.other > 0;
}

#endif
