/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue pair of the loopback device: what the driver sends it receives, or an answer to it.
 *
 * Threads: start, enable and stop are for the main thread and hand over to the AioContext
 * that was given with the transmit queue; everything else happens there.
 */
#ifndef HW_NET_LOOPBACK_PAIR_H
#define HW_NET_LOOPBACK_PAIR_H

#include <stdatomic.h>

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring-device.h"
#include "util/aio-context.h"
#include "util/event-notifier.h"

/* Of a pair: queue 2N receives, 2N + 1 transmits (5.1.2), as the driver sees it. */
enum { LOOPBACK_RX, LOOPBACK_TX };

typedef struct LoopbackPair LoopbackPair;

typedef struct LoopbackRing {
    LoopbackPair *pair;
    VringDevice vr;
    AioContext *ctx;            /* as given at its start */
    EventNotifier kick, call;   /* borrowed */
    AioHandler *handler;
    bool started, enabled;
    bool polled;                /* the loop polls: no kicks wanted */
} LoopbackRing;

/* Receive buffers taken for the packet. */
#define LOOPBACK_MAX_MERGE 64

typedef struct LoopbackRx {
    unsigned int n;             /* buffers */
    unsigned int n_segments;
    uint64_t bytes;             /* that they hold */
    uint16_t id[LOOPBACK_MAX_MERGE];
    uint32_t size[LOOPBACK_MAX_MERGE];
} LoopbackRx;

struct LoopbackPair {
    const char *name;           /* of the device */
    unsigned int index;
    const MemoryMap *const *map;
    const atomic_uint *active_pairs;    /* those from this one on drop what is sent */
    bool echo;                  /* receives the answer of net-echo.h, not what was sent */
    bool merge;                 /* MRG_RXBUF */
    unsigned int header_size;   /* of struct virtio_net_hdr, bytes */
    AioContext *ctx;            /* where it runs; NULL: not both rings are started */
    AioBh work;
    bool broken;
    LoopbackRing rings[2];

    /*
     * The packet that was taken, and the receive buffers taken for it so far.  They are kept
     * while more buffers have to be waited for; addresses are the driver's, for the memory
     * map may change meanwhile.
     */
    bool has_packet;
    uint16_t tx_id;
    unsigned int n_tx_segments;
    uint64_t packet_bytes;
    LoopbackRx rx;
    VringSegment *tx_segments, *rx_segments;
    unsigned int max_segments;
};

int loopback_pair_start_ring(LoopbackPair *pair, unsigned int which, AioContext *ctx,
                             const VringConfig *config, int kick_fd, int call_fd, GError **errp);
void loopback_pair_enable_ring(LoopbackPair *pair, unsigned int which, bool enable);

/* When it returns, the ring's memory is not touched any more. */
void loopback_pair_stop_ring(LoopbackPair *pair, unsigned int which);

#endif
