/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Moving a packet from the transmit queue of a loopback pair to a receive queue: the same pair's,
 * or that to which its hash leads.
 *
 * How it works.  A packet is taken from the transmit queue and read as far as it has to be known:
 * not at all, mostly; its first bytes, to be answered, filtered or hashed; or whole, if its
 * checksum is to be completed.  What was read is what is written: a driver that changes a packet
 * meanwhile confuses itself alone.  Then as many receive buffers are taken as hold it, it is
 * copied, and all are put back.
 *
 * If receive buffers are lacking in the pair's own queue, what was taken is kept until more come,
 * so nothing is lost; then the packet is read and judged anew.  In another pair's queue none are
 * kept, since that pair may be waiting there itself: such a packet is dropped, as by any
 * adapter.  While a queue is disabled or not in use packets are taken and dropped, as vhost-user
 * demands of a network device.
 *
 * Threads: the pair's, which is that of all pairs if packets can change between them.
 */
#include "loopback-pair.h"

#include <errno.h>

#include "loopback-cursor.h"
#include "net-checksum.h"
#include "net-echo.h"

#define LOOPBACK_HEAD 256       /* bytes of a frame that are read to know it */

G_STATIC_ASSERT(LOOPBACK_HEAD >= NET_ECHO_BYTES && LOOPBACK_HEAD >= NET_FILTER_BYTES);

#define HEADER_NEEDS_CSUM 1
#define HEADER_GSO_NONE 0

/* struct virtio_net_hdr (5.1.6): as much of it as there is. */
typedef struct PacketHeader {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;   /* little-endian */
    uint32_t hash_value;
    uint16_t hash_report, padding;
} PacketHeader;

G_STATIC_ASSERT(sizeof(PacketHeader) == 20);

typedef struct Packet {
    PacketHeader header;        /* as it will be received */
    bool needs_csum;            /* which is to be completed */
    uint32_t bytes;             /* of the frame */
    uint32_t n_read;            /* the first of them, in the pair's @frame */
    LoopbackCursor rest;        /* the others */
    LoopbackPair *to;
} Packet;

/* The bytes of @n segments, all of which must have @flags; -EPROTO. */
static int64_t measure(const VringSegment *seg, unsigned int n, uint32_t flags, VringError *error)
{
    int64_t bytes = 0;
    unsigned int i;

    for (i = 0; i < n; i++) {
        if (seg[i].flags != flags) {
            return vring_fail(error, "buffer has an element of the wrong direction", "5.1.6", i,
                              seg[i].flags);
        }
        bytes += seg[i].len;
    }
    return bytes;
}

/* The next packet, if there is none yet: 1; 0 if none is sent; -EPROTO. */
static int take_packet(LoopbackPair *pair, const MemoryMap *map)
{
    VringDevice *tx = &pair->rings[LOOPBACK_TX].vr;
    int64_t bytes;
    int n;

    if (pair->has_packet) {
        return 1;
    }
    n = vring_device_take(tx, tx->packed, map, pair->tx_segments, LOOPBACK_MAX_TABLE,
                          &pair->tx_id);
    if (n <= 0) {
        return n;
    }
    bytes = measure(pair->tx_segments, (unsigned int)n, 0, &tx->error);
    if (bytes < 0) {
        return -EPROTO;
    }
    pair->has_packet = true;
    pair->n_tx_segments = (unsigned int)n;
    pair->packet_bytes = (uint64_t)bytes;
    return 1;
}

static bool can_send(const LoopbackPair *pair, const LoopbackSettings *settings)
{
    return pair->index < settings->tx_pairs && pair->rings[LOOPBACK_TX].enabled &&
           pair->packet_bytes >= pair->header_size &&
           pair->packet_bytes <= pair->header_size + LOOPBACK_MAX_FRAME;
}

static bool can_receive(const LoopbackPair *pair, const LoopbackSettings *settings)
{
    return pair->attached && !pair->broken && pair->index < settings->rx_pairs &&
           pair->rings[LOOPBACK_RX].enabled;
}

/*
 * The header to receive, from the one that was sent.  False: what it asks for was not offered, or
 * cannot be.
 */
static bool convert_header(const LoopbackPair *pair, Packet *packet)
{
    PacketHeader *header = &packet->header;

    if (header->gso_type != HEADER_GSO_NONE) {
        return false;
    }
    packet->needs_csum = pair->csum && header->flags & HEADER_NEEDS_CSUM;
    if (packet->needs_csum &&
        !net_checksum_fits(packet->bytes, le16toh(header->csum_start),
                           le16toh(header->csum_offset))) {
        return false;
    }
    header->flags = packet->needs_csum ? HEADER_NEEDS_CSUM : 0;
    header->gso_size = 0;
    header->hash_value = 0;
    header->hash_report = header->padding = 0;
    return true;
}

static void complete_csum(LoopbackPair *pair, Packet *packet)
{
    PacketHeader *header = &packet->header;

    net_checksum_complete(pair->frame, packet->bytes, le16toh(header->csum_start),
                          le16toh(header->csum_offset));
    header->flags = 0;
}

static void hash_packet(LoopbackPair *pair, const NetRss *rss, Packet *packet)
{
    /* Of no more when more was read: a flow's hash does not depend on that. */
    const NetRssHash found = net_rss_hash(rss, pair->frame, MIN(packet->n_read, LOOPBACK_HEAD));

    packet->header.hash_value = htole32(found.value);
    packet->header.hash_report = htole16(found.report);
    if (rss->steers) {
        packet->to = &pair->pairs[net_rss_queue(rss, &found)];
    }
}

/*
 * Reads the packet that was taken, and finds out what becomes of it: 1; 0 if it is to be dropped;
 * -EPROTO.
 */
static int read_packet(LoopbackPair *pair, const MemoryMap *map, const LoopbackSettings *settings,
                       Packet *packet)
{
    const bool judged = pair->echo || settings->hashes || !settings->filter.promiscuous;

    if (!can_send(pair, settings)) {
        return 0;
    }
    if (loopback_resolve(map, pair->tx_segments, pair->n_tx_segments, pair->tx_host,
                         pair->max_segments, &pair->rings[LOOPBACK_TX].vr.error) < 0) {
        return -EPROTO;
    }
    packet->rest = (LoopbackCursor){ pair->tx_host, 0 };
    packet->bytes = (uint32_t)pair->packet_bytes - pair->header_size;
    packet->to = pair;
    loopback_read(&packet->rest, &packet->header, pair->header_size);
    if (!convert_header(pair, packet)) {
        return 0;
    }
    packet->needs_csum = packet->needs_csum && !settings->guest_csum;
    packet->n_read = packet->needs_csum ? packet->bytes
                     : judged           ? MIN(packet->bytes, LOOPBACK_HEAD)
                                        : 0;
    loopback_read(&packet->rest, pair->frame, packet->n_read);

    if (pair->echo) {
        net_echo_answer(pair->frame, MIN(packet->n_read, NET_ECHO_BYTES),
                        packet->header.flags & HEADER_NEEDS_CSUM);
    }
    if (judged && !net_filter_accepts(&settings->filter, pair->frame, packet->n_read)) {
        return 0;
    }
    if (settings->hashes) {
        hash_packet(pair, &settings->rss, packet);
    }
    if (packet->needs_csum) {
        complete_csum(pair, packet);
    }
    return can_receive(packet->to, settings);
}

/*
 * Takes receive buffers until they hold @bytes: 1; 0 if there are too few as yet; -EMSGSIZE if
 * that does not fit what may be used for one packet; -EPROTO.
 */
static int take_rx(LoopbackPair *pair, const MemoryMap *map, uint64_t bytes)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;
    const unsigned int max = pair->merge ? LOOPBACK_MAX_MERGE : 1;
    LoopbackRx *rx = &pair->rx;

    while (rx->bytes < bytes) {
        VringSegment *seg = pair->rx_segments + rx->n_segments;
        int64_t size;
        int n;

        if (rx->n == max ||
            pair->max_segments - rx->n_segments < MAX(vr->num, LOOPBACK_MAX_TABLE)) {
            return -EMSGSIZE;
        }
        n = vring_device_take(vr, vr->packed, map, seg, LOOPBACK_MAX_TABLE, &rx->id[rx->n]);
        if (n <= 0) {
            return n;
        }
        size = measure(seg, (unsigned int)n, VRING_DESC_F_WRITE, &vr->error);
        if (size < 0) {
            return -EPROTO;
        }
        rx->size[rx->n++] = (uint32_t)MIN(size, UINT32_MAX);
        rx->n_segments += (unsigned int)n;
        rx->bytes += (uint64_t)size;
    }
    return 1;
}

static void forget_rx(LoopbackRx *rx)
{
    rx->n = rx->n_segments = 0;
    rx->bytes = 0;
}

static void put_rx(LoopbackPair *pair, uint32_t bytes)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;
    unsigned int i;

    for (i = 0; i < pair->rx.n; i++) {
        uint32_t part = MIN(bytes, pair->rx.size[i]);

        vring_device_put(vr, vr->packed, pair->rx.id[i], part);
        bytes -= part;
    }
    forget_rx(&pair->rx);
}

static void untake_rx(LoopbackPair *pair)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;

    while (pair->rx.n) {
        vring_device_untake(vr, vr->packed, pair->rx.id[--pair->rx.n]);
    }
    forget_rx(&pair->rx);
}

/* Into the receive buffers that were taken: 1; -EPROTO. */
static int write_packet(LoopbackPair *pair, const MemoryMap *map, Packet *packet)
{
    LoopbackPair *to = packet->to;
    LoopbackCursor dst = { to->rx_host, 0 };

    if (loopback_resolve(map, to->rx_segments, to->rx.n_segments, to->rx_host, to->max_segments,
                         &to->rings[LOOPBACK_RX].vr.error) < 0) {
        return -EPROTO;
    }
    packet->header.num_buffers = htole16((uint16_t)to->rx.n);
    loopback_write(&dst, &packet->header, pair->header_size);
    loopback_write(&dst, pair->frame, packet->n_read);
    loopback_copy(&dst, &packet->rest, packet->bytes - packet->n_read);
    put_rx(to, pair->header_size + packet->bytes);
    return 1;
}

/*
 * False: it has to wait.  Else it was received, or is to be dropped, or the receive queue is
 * broken.
 */
static bool deliver(LoopbackPair *pair, const MemoryMap *map, Packet *packet)
{
    LoopbackPair *to = packet->to;
    int ret;

    if (to != pair && to->rx.n) {
        return true;            /* what buffers there are that pair's own packet has */
    }
    ret = take_rx(to, map, pair->packet_bytes);
    if (ret == 0 && to == pair) {
        return false;
    }
    if (ret > 0) {
        ret = write_packet(pair, map, packet);
    }
    if (ret == -EPROTO) {
        loopback_pair_break(to, "receive", &to->rings[LOOPBACK_RX].vr.error);
    } else if (ret <= 0) {
        untake_rx(to);
    }
    return true;
}

void loopback_packet_forget(LoopbackPair *pair)
{
    pair->has_packet = false;
    forget_rx(&pair->rx);
}

int loopback_packet_move(LoopbackPair *pair, const MemoryMap *map,
                         const LoopbackSettings *settings)
{
    VringDevice *tx = &pair->rings[LOOPBACK_TX].vr;
    int ret = take_packet(pair, map);
    Packet packet;

    if (ret == 0) {
        return 0;
    }
    if (ret > 0) {
        ret = read_packet(pair, map, settings, &packet);
    }
    if (ret < 0) {
        loopback_pair_break(pair, "transmit", &tx->error);
        return 0;
    }
    if (ret == 0 || packet.to != pair) {
        untake_rx(pair);        /* what was taken when it was to be received here */
    }
    if ((ret > 0 && !deliver(pair, map, &packet)) || pair->broken) {
        return 0;
    }
    vring_device_put(tx, tx->packed, pair->tx_id, 0);
    pair->has_packet = false;
    return 1;
}
