/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Moving packets from the transmit to the receive queue of a loopback pair.
 *
 * How it works.  A packet is taken from the transmit queue together with as many receive
 * buffers as hold it, copied, and both are put back.  If receive buffers are lacking
 * everything is untaken and the packet waits: nothing is lost and nothing is kept between
 * bursts.  While either queue is disabled, packets are taken and dropped, as vhost-user
 * demands of a network device.
 */
#include "loopback-pair.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

#define LOOPBACK_BURST 64       /* packets between two publications */
#define LOOPBACK_BUDGET 4       /* bursts of one wake-up */
#define LOOPBACK_MAX_MERGE 64   /* receive buffers of a packet */
#define LOOPBACK_MAX_TABLE 1024 /* elements of an indirect table */
#define NUM_BUFFERS_OFFSET 10   /* in struct virtio_net_hdr (5.1.6) */

/* Where copying stands in a list of segments. */
typedef struct Cursor {
    const VringSegment *seg;
    const VringSegment *end;
    uint32_t done;              /* bytes of *seg */
} Cursor;

/* The receive buffers taken for one packet. */
typedef struct RxBuffers {
    unsigned int n;
    unsigned int n_segments;
    uint64_t bytes;
    uint16_t id[LOOPBACK_MAX_MERGE];
    uint32_t size[LOOPBACK_MAX_MERGE];
} RxBuffers;

static void pair_break(LoopbackPair *pair, const char *queue, const VringError *error)
{
    pair->broken = true;
    g_warning("%s pair %u: %s queue: %s (index %" PRIu32 ", value 0x%" PRIx64
              "; virtio 1.3, section %s)",
              pair->name, pair->index, queue, error->what, error->index, error->value,
              error->section);
}

/*
 * Turns @n segments' addresses into host pointers, in place.  Returns the bytes of those
 * that have @flags, in one direction as they must be; -EPROTO.
 */
static int64_t resolve(const MemoryMap *map, VringSegment *seg, unsigned int n, uint32_t flags,
                       VringError *error)
{
    int64_t bytes = 0;
    unsigned int i;

    for (i = 0; i < n; i++) {
        void *host = memory_map_host(map, seg[i].addr, seg[i].len);

        if (!host) {
            return vring_fail(error, "buffer leaves the memory", "2.7.4.1", i, seg[i].addr);
        }
        if (seg[i].flags != flags) {
            return vring_fail(error, "buffer has an element of the wrong direction", "5.1.6", i,
                              seg[i].flags);
        }
        seg[i].addr = (uintptr_t)host;
        bytes += seg[i].len;
    }
    return bytes;
}

/* Copies up to @n bytes; either pointer may be NULL, for bytes that come or go elsewhere. */
static void copy(Cursor *dst, Cursor *src, const void *data, uint32_t n)
{
    while (n) {
        uint32_t chunk = MIN(n, dst->seg->len - dst->done);
        const void *from = data;

        if (src) {
            chunk = MIN(chunk, src->seg->len - src->done);
            from = (const uint8_t *)(uintptr_t)src->seg->addr + src->done;
            src->done += chunk;
            if (src->done == src->seg->len) {
                src->seg++;
                src->done = 0;
            }
        } else {
            data = (const uint8_t *)data + chunk;
        }
        memcpy((uint8_t *)(uintptr_t)dst->seg->addr + dst->done, from, chunk);
        dst->done += chunk;
        if (dst->done == dst->seg->len) {
            dst->seg++;
            dst->done = 0;
        }
        n -= chunk;
    }
}

static void skip(Cursor *cursor, uint32_t n)
{
    while (n) {
        uint32_t chunk = MIN(n, cursor->seg->len - cursor->done);

        cursor->done += chunk;
        n -= chunk;
        if (cursor->done == cursor->seg->len) {
            cursor->seg++;
            cursor->done = 0;
        }
    }
}

static void copy_packet(LoopbackPair *pair, const RxBuffers *rx, unsigned int n_tx, uint32_t bytes)
{
    Cursor dst = { pair->rx_segments, pair->rx_segments + rx->n_segments, 0 };
    Cursor src = { pair->tx_segments, pair->tx_segments + n_tx, 0 };
    const uint16_t num_buffers = htole16((uint16_t)rx->n);

    copy(&dst, &src, NULL, NUM_BUFFERS_OFFSET);
    if (pair->header_size > NUM_BUFFERS_OFFSET) {
        copy(&dst, NULL, &num_buffers, sizeof(num_buffers));
        skip(&src, sizeof(num_buffers));
    }
    copy(&dst, &src, NULL, bytes - pair->header_size);
}

static void untake_rx(LoopbackPair *pair, RxBuffers *rx)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;

    while (rx->n) {
        vring_device_untake(vr, vr->packed, rx->id[--rx->n]);
    }
}

/*
 * Takes receive buffers for @bytes: 1; 0 if there are too few as yet; -EMSGSIZE if the
 * packet does not fit what may be used for one; -EPROTO.  Unless it is 1 none is taken.
 */
static int take_rx(LoopbackPair *pair, const MemoryMap *map, uint64_t bytes, RxBuffers *rx)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;
    const unsigned int max = pair->merge ? LOOPBACK_MAX_MERGE : 1;
    int ret = 1;

    *rx = (RxBuffers){ 0 };
    while (ret > 0 && rx->bytes < bytes) {
        VringSegment *seg = pair->rx_segments + rx->n_segments;
        int64_t size;
        int n;

        if (rx->n == max || pair->max_segments - rx->n_segments < MAX(vr->num, LOOPBACK_MAX_TABLE)) {
            ret = -EMSGSIZE;
            break;
        }
        n = vring_device_take(vr, vr->packed, map, seg, LOOPBACK_MAX_TABLE, &rx->id[rx->n]);
        if (n <= 0) {
            ret = n;
            break;
        }
        rx->n++;
        size = resolve(map, seg, (unsigned int)n, VRING_DESC_F_WRITE, &vr->error);
        if (size < 0) {
            ret = -EPROTO;
            break;
        }
        rx->size[rx->n - 1] = (uint32_t)size;
        rx->n_segments += (unsigned int)n;
        rx->bytes += (uint64_t)size;
    }
    if (ret <= 0) {
        untake_rx(pair, rx);
    }
    return ret;
}

static void put_rx(LoopbackPair *pair, const RxBuffers *rx, uint32_t bytes)
{
    VringDevice *vr = &pair->rings[LOOPBACK_RX].vr;
    unsigned int i;

    for (i = 0; i < rx->n; i++) {
        uint32_t part = MIN(bytes, rx->size[i]);

        vring_device_put(vr, vr->packed, rx->id[i], part);
        bytes -= part;
    }
}

/* One packet: 1 if one was moved or dropped, 0 if there is none or it has to wait. */
static int move_packet(LoopbackPair *pair, const MemoryMap *map)
{
    VringDevice *tx = &pair->rings[LOOPBACK_TX].vr;
    const bool deliver = pair->rings[LOOPBACK_RX].enabled && pair->rings[LOOPBACK_TX].enabled;
    RxBuffers rx;
    int64_t bytes;
    uint16_t id;
    int ret;
    int n = vring_device_take(tx, tx->packed, map, pair->tx_segments, LOOPBACK_MAX_TABLE, &id);

    bytes = n > 0 ? resolve(map, pair->tx_segments, (unsigned int)n, 0, &tx->error) : n;
    if (bytes < 0) {
        pair_break(pair, "transmit", &tx->error);
    }
    if (bytes <= 0) {
        return 0;
    }
    ret = deliver && bytes >= pair->header_size && bytes <= UINT32_MAX
              ? take_rx(pair, map, (uint64_t)bytes, &rx)
              : -EMSGSIZE;
    if (ret == -EPROTO) {
        pair_break(pair, "receive", &pair->rings[LOOPBACK_RX].vr.error);
        return 0;
    }
    if (ret == 0) {
        vring_device_untake(tx, tx->packed, id);
        pair->starved = true;
        return 0;
    }
    if (ret > 0) {
        copy_packet(pair, &rx, (unsigned int)n, (uint32_t)bytes);
        put_rx(pair, &rx, (uint32_t)bytes);
    }
    vring_device_put(tx, tx->packed, id, 0);
    return 1;
}

static void publish(LoopbackRing *ring)
{
    VringDevice *vr = &ring->vr;

    if (!vring_device_has_unpublished(vr, vr->packed)) {
        return;
    }
    vring_device_publish(vr, vr->packed);
    if (vring_device_needs_call(vr, vr->packed)) {
        event_notifier_set(&ring->call);
    }
}

static bool move_burst(LoopbackPair *pair)
{
    const MemoryMap *map = rcu_dereference(*pair->map);
    unsigned int moved = 0;

    pair->starved = false;
    while (moved < LOOPBACK_BURST && !pair->broken && move_packet(pair, map)) {
        moved++;
    }
    if (moved) {
        publish(&pair->rings[LOOPBACK_RX]);
        publish(&pair->rings[LOOPBACK_TX]);
    }
    return moved > 0;
}

/* Allows the kicks that are wanted.  True if there is something to do already. */
static bool rearm(LoopbackPair *pair)
{
    LoopbackRing *rx = &pair->rings[LOOPBACK_RX], *tx = &pair->rings[LOOPBACK_TX];
    VringDevice *waits_for = pair->starved ? &rx->vr : &tx->vr;

    return !tx->polled && !rx->polled && vring_device_enable_kick(waits_for, waits_for->packed);
}

static void silence(LoopbackPair *pair)
{
    unsigned int i;

    for (i = 0; i < 2; i++) {
        vring_device_disable_kick(&pair->rings[i].vr, pair->rings[i].vr.packed);
    }
}

static void work(void *opaque)
{
    LoopbackPair *pair = opaque;
    unsigned int i;

    if (!pair->ctx || pair->broken) {
        return;
    }
    for (i = 0; i < LOOPBACK_BUDGET && move_burst(pair); i++) {
    }
    if (!pair->broken && (i == LOOPBACK_BUDGET || rearm(pair))) {
        silence(pair);
        aio_bh_schedule(pair->ctx, &pair->work);
    }
}

static void ring_ready(void *opaque)
{
    LoopbackRing *ring = opaque;

    event_notifier_test_and_clear(&ring->kick);
    silence(ring->pair);
    work(ring->pair);
}

static bool ring_poll(void *opaque)
{
    LoopbackRing *ring = opaque;
    LoopbackPair *pair = ring->pair;
    bool starved = pair->starved;
    bool hit = !pair->broken && move_burst(pair);

    /* After polling has ended kicks were allowed at a place, or in a queue, left behind. */
    if ((hit || starved != pair->starved) && !ring->polled) {
        aio_bh_schedule(pair->ctx, &pair->work);
    }
    return hit;
}

static void ring_poll_begin(void *opaque)
{
    LoopbackRing *ring = opaque;

    ring->polled = true;
    silence(ring->pair);
}

static void ring_poll_end(void *opaque)
{
    LoopbackRing *ring = opaque;

    ring->polled = false;
    rearm(ring->pair);
}

static const AioHandlerOps ring_ops = {
    .ready = ring_ready,
    .poll = ring_poll,
    .poll_begin = ring_poll_begin,
    .poll_end = ring_poll_end,
};

static void attach_in_owner(void *opaque)
{
    LoopbackPair *pair = opaque;
    unsigned int i;

    for (i = 0; i < 2; i++) {
        LoopbackRing *ring = &pair->rings[i];

        ring->polled = false;
        ring->handler = aio_add_handler(pair->ctx, ring->kick.fd, &ring_ops, ring);
    }
    aio_bh_schedule(pair->ctx, &pair->work);
}

static void detach_in_owner(void *opaque)
{
    LoopbackPair *pair = opaque;
    AioContext *ctx = pair->ctx;
    unsigned int i;

    pair->ctx = NULL;
    for (i = 0; i < 2; i++) {
        if (pair->rings[i].handler) {
            aio_remove_handler(ctx, pair->rings[i].handler);
            pair->rings[i].handler = NULL;
        }
    }
}

static void nothing(void *opaque)
{
}

int loopback_pair_start_ring(LoopbackPair *pair, unsigned int which, AioContext *ctx,
                             const VringConfig *config, int kick_fd, int call_fd, GError **errp)
{
    LoopbackRing *ring = &pair->rings[which];
    LoopbackRing *other = &pair->rings[!which];
    int ret;

    g_assert(!ring->started);
    ret = vring_device_init(&ring->vr, config);
    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s pair %u: %s", pair->name,
                    pair->index, ring->vr.error.what);
        return ret;
    }
    ring->pair = pair;
    ring->ctx = ctx;
    ring->kick.fd = kick_fd;
    ring->call.fd = call_fd;
    ring->started = true;
    if (!other->started) {
        return 0;
    }

    pair->broken = pair->starved = false;
    pair->max_segments = 2 * MAX(MAX(ring->vr.num, other->vr.num), LOOPBACK_MAX_TABLE);
    pair->tx_segments = g_new(VringSegment, pair->max_segments);
    pair->rx_segments = g_new(VringSegment, pair->max_segments);
    aio_bh_init(&pair->work, work, pair);
    pair->ctx = pair->rings[LOOPBACK_TX].ctx;
    aio_run_in(pair->ctx, attach_in_owner, pair);
    if (!ring->handler || !other->handler) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s pair %u: cannot wait for its kick descriptors", pair->name, pair->index);
        loopback_pair_stop_ring(pair, which);
        return -EINVAL;
    }
    return 0;
}

typedef struct EnableCommand {
    LoopbackRing *ring;
    bool enable;
} EnableCommand;

static void enable_in_owner(void *opaque)
{
    EnableCommand *command = opaque;

    command->ring->enabled = command->enable;
}

void loopback_pair_enable_ring(LoopbackPair *pair, unsigned int which, bool enable)
{
    EnableCommand command = { &pair->rings[which], enable };

    if (pair->ctx) {
        aio_run_in(pair->ctx, enable_in_owner, &command);
    } else {
        enable_in_owner(&command);
    }
}

void loopback_pair_stop_ring(LoopbackPair *pair, unsigned int which)
{
    LoopbackRing *ring = &pair->rings[which];

    if (!ring->started) {
        return;
    }
    if (pair->ctx) {
        AioContext *ctx = pair->ctx;

        aio_run_in(ctx, detach_in_owner, pair);
        /* Bottom halves run in order: after this one, the work scheduled before has run. */
        aio_run_in(ctx, nothing, NULL);
        g_clear_pointer(&pair->tx_segments, g_free);
        g_clear_pointer(&pair->rx_segments, g_free);
    }
    vring_device_cleanup(&ring->vr);
    ring->started = ring->enabled = false;
}
