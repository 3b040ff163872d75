/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue pair of the loopback device: what the driver sends it receives, or an answer to it,
 * on the same pair or, if packets are steered by their hash, on another.
 *
 * Threads: start, enable, set_fd and stop are for the main thread and hand over to the
 * AioContext that was given with the transmit queue, as does wake, from any thread; everything
 * else happens there.  If packets may be steered, that is the same for all pairs of a device: a
 * pair then works others' receive queues.
 */
#ifndef HW_NET_LOOPBACK_PAIR_H
#define HW_NET_LOOPBACK_PAIR_H

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring-device.h"
#include "hw/vhost/vhost-device.h"
#include "loopback-commands.h"
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

#define LOOPBACK_MAX_TABLE 1024     /* elements of an indirect table */
#define LOOPBACK_MAX_MERGE 64       /* receive buffers of a packet */
#define LOOPBACK_MAX_FRAME 65535    /* bytes, without header: longer ones are dropped */

/* Receive buffers taken for the packet. */
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
    LoopbackSettings *const *settings;      /* by RCU */
    LoopbackPair *pairs;        /* all of the device, by index */
    unsigned int n_pairs;
    bool echo;                  /* receives the answer of net-echo.h, not what was sent */
    bool merge;                 /* MRG_RXBUF */
    bool csum;                  /* CSUM */
    unsigned int header_size;   /* of struct virtio_net_hdr, bytes */
    AioContext *ctx;            /* where it runs, by RCU; NULL: not both rings are started */
    AioBh work;
    bool attached;              /* it runs; its thread alone knows */
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

    /* Of the packet that is being moved: where its segments lie, and what was read of its frame. */
    VringSegment *tx_host, *rx_host;
    uint8_t *frame;
};

int loopback_pair_start_ring(LoopbackPair *pair, unsigned int which, AioContext *ctx,
                             const VringConfig *config, int kick_fd, int call_fd, GError **errp);
void loopback_pair_enable_ring(LoopbackPair *pair, unsigned int which, bool enable);

/* Of a started ring; see VhostDeviceOps.  0, or -EINVAL with @errp: it goes on with the old one. */
int loopback_pair_set_fd(LoopbackPair *pair, unsigned int which, VhostRingFd fd_of, int fd,
                         GError **errp);

/*
 * When it returns, the ring's memory is not touched any more, and nothing of it is in flight.
 * @base, unless NULL: where a started ring stands.
 */
void loopback_pair_stop_ring(LoopbackPair *pair, unsigned int which, VringBase *base);

/* Any thread that RCU knows: the pair, if it runs, looks again at what there is to do. */
void loopback_pair_wake(LoopbackPair *pair);

/* Says what is wrong with the ring @queue; nothing more is moved until the pair is stopped. */
void loopback_pair_break(LoopbackPair *pair, const char *queue, const VringError *error);

/*
 * loopback-packet.c.  One packet: 1 if one was moved or dropped, 0 if there is none or it has to
 * wait.
 */
int loopback_packet_move(LoopbackPair *pair, const MemoryMap *map,
                         const LoopbackSettings *settings);

/* What was taken is put back or untaken: begin with the next packet. */
void loopback_packet_forget(LoopbackPair *pair);

#endif
