/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Moving a packet from the transmit to the receive queue of a loopback pair.
 *
 * How it works.  A packet is taken from the transmit queue, then as many receive buffers as
 * hold it; then it is copied and all are put back.  If receive buffers are lacking, what
 * was taken is kept until more come, so nothing is lost.  While either queue is disabled,
 * packets are taken and dropped, as vhost-user demands of a network device; and likewise while
 * the pair is not active.
 *
 * Threads: the pair's.
 */
#include "loopback-pair.h"

#include <errno.h>
#include <string.h>

#include "net-echo.h"

#define LOOPBACK_MAX_PACKET 65535   /* bytes, without header: the longest that GSO makes */
#define NUM_BUFFERS_OFFSET 10   /* in struct virtio_net_hdr (5.1.6) */

/* Where copying stands in a list of segments. */
typedef struct Cursor {
    const VringSegment *seg;
    uint32_t done;              /* bytes of *seg */
} Cursor;

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

/*
 * Turns the addresses of *n segments into host pointers, in place.  One that straddles regions
 * becomes several, up to @max in all.  0, or -EPROTO.
 */
static int resolve(const MemoryMap *map, VringSegment *seg, unsigned int *n, unsigned int max,
                   VringError *error)
{
    unsigned int i;

    for (i = 0; i < *n; i++) {
        const uint64_t addr = seg[i].addr;
        const MemoryRange *range = memory_map_find(map, addr);
        const uint64_t offset = addr - range->gpa;

        if (offset >= range->size) {
            return vring_fail(error, "buffer leaves the memory", "2.7.5", i, addr);
        }
        if (seg[i].len > range->size - offset) {
            const uint32_t part = (uint32_t)(range->size - offset);

            if (*n == max) {
                return vring_fail(error, "buffer straddles too many memory regions", NULL, i, addr);
            }
            memmove(&seg[i + 2], &seg[i + 1], (*n - i - 1) * sizeof(*seg));
            seg[i + 1] = (VringSegment){ addr + part, seg[i].len - part, seg[i].flags };
            seg[i].len = part;
            (*n)++;
        }
        seg[i].addr = (uintptr_t)(range->host + offset);
    }
    return 0;
}

static uint8_t *cursor_at(const Cursor *cursor)
{
    return (uint8_t *)(uintptr_t)cursor->seg->addr + cursor->done;
}

static uint32_t cursor_left(const Cursor *cursor)
{
    return cursor->seg->len - cursor->done;
}

static void cursor_move(Cursor *cursor, uint32_t n)
{
    cursor->done += n;
    if (cursor->done == cursor->seg->len) {
        cursor->seg++;
        cursor->done = 0;
    }
}

/* Copies @n bytes; a driver may well receive into what it sends. */
static void copy(Cursor *dst, Cursor *src, uint32_t n)
{
    while (n) {
        uint32_t chunk = MIN(n, MIN(cursor_left(dst), cursor_left(src)));

        memmove(cursor_at(dst), cursor_at(src), chunk);
        cursor_move(dst, chunk);
        cursor_move(src, chunk);
        n -= chunk;
    }
}

/*
 * Copies a frame's first bytes, answered; returns how many.  They are read once, answered in a
 * copy, and written: a driver that changes them meanwhile confuses itself alone.
 */
static uint32_t copy_answer(Cursor *dst, Cursor *src, uint32_t frame_bytes)
{
    uint8_t bytes[NET_ECHO_BYTES];
    const VringSegment segment = { (uintptr_t)bytes, sizeof(bytes), 0 };
    const uint32_t n = MIN(frame_bytes, (uint32_t)sizeof(bytes));
    Cursor in = { &segment, 0 }, out = { &segment, 0 };

    copy(&in, src, n);
    net_echo_answer(bytes, n);
    copy(dst, &out, n);
    return n;
}

static void copy_packet(LoopbackPair *pair)
{
    const uint16_t num_buffers = htole16((uint16_t)pair->rx.n);
    const VringSegment field = { (uintptr_t)&num_buffers, sizeof(num_buffers), 0 };
    Cursor dst = { pair->rx_segments, 0 };
    Cursor src = { pair->tx_segments, 0 };
    Cursor own = { &field, 0 };
    uint32_t bytes = (uint32_t)pair->packet_bytes - pair->header_size;
    uint32_t skip = sizeof(num_buffers);

    copy(&dst, &src, NUM_BUFFERS_OFFSET);
    if (pair->header_size > NUM_BUFFERS_OFFSET) {
        copy(&dst, &own, sizeof(num_buffers));
        while (skip--) {
            cursor_move(&src, 1);
        }
    }
    if (pair->echo) {
        bytes -= copy_answer(&dst, &src, bytes);
    }
    copy(&dst, &src, bytes);
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

/*
 * Takes receive buffers until they hold the packet: 1; 0 if there are too few as yet;
 * -EMSGSIZE if it does not fit what may be used for one; -EPROTO.
 */
static int take_rx(LoopbackPair *pair, const MemoryMap *map)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;
    const unsigned int max = pair->merge ? LOOPBACK_MAX_MERGE : 1;
    LoopbackRx *rx = &pair->rx;

    while (rx->bytes < pair->packet_bytes) {
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

static void put_rx(LoopbackPair *pair)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;
    uint32_t bytes = (uint32_t)pair->packet_bytes;
    unsigned int i;

    for (i = 0; i < pair->rx.n; i++) {
        uint32_t part = MIN(bytes, pair->rx.size[i]);

        vring_device_put(vr, vr->packed, pair->rx.id[i], part);
        bytes -= part;
    }
}

static void untake_rx(LoopbackPair *pair)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;

    while (pair->rx.n) {
        vring_device_untake(vr, vr->packed, pair->rx.id[--pair->rx.n]);
    }
}

void loopback_packet_forget(LoopbackPair *pair)
{
    pair->has_packet = false;
    pair->rx.n = pair->rx.n_segments = 0;
    pair->rx.bytes = 0;
}

static bool deliverable(const LoopbackPair *pair)
{
    return pair->index < atomic_load_explicit(pair->active_pairs, memory_order_relaxed) &&
           pair->rings[LOOPBACK_RX].enabled && pair->rings[LOOPBACK_TX].enabled &&
           pair->packet_bytes >= pair->header_size &&
           pair->packet_bytes <= pair->header_size + LOOPBACK_MAX_PACKET;
}

int loopback_packet_move(LoopbackPair *pair, const MemoryMap *map)
{
    VringDevice *tx = &pair->rings[LOOPBACK_TX].vr, *rx = &pair->rings[LOOPBACK_RX].vr;
    int ret = take_packet(pair, map);

    if (ret <= 0) {
        if (ret < 0) {
            loopback_pair_break(pair, "transmit", &tx->error);
        }
        return 0;
    }
    ret = deliverable(pair) ? take_rx(pair, map) : -EMSGSIZE;
    if (ret == 0) {
        return 0;
    }
    if (ret > 0 && resolve(map, pair->tx_segments, &pair->n_tx_segments, pair->max_segments,
                           &tx->error) < 0) {
        loopback_pair_break(pair, "transmit", &tx->error);
        return 0;
    }
    if (ret == -EPROTO ||
        (ret > 0 && resolve(map, pair->rx_segments, &pair->rx.n_segments, pair->max_segments,
                            &rx->error) < 0)) {
        loopback_pair_break(pair, "receive", &rx->error);
        return 0;
    }
    if (ret > 0) {
        copy_packet(pair);
        put_rx(pair);
    } else {
        untake_rx(pair);
    }
    vring_device_put(tx, tx->packed, pair->tx_id, 0);
    loopback_packet_forget(pair);
    return 1;
}
