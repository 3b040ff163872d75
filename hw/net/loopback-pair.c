/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a loopback pair: its rings come and go, and in between kicks and polls move bursts of
 * packets; loopback-packet.c moves one.
 *
 * How it works.  It is the transmit queue's kick that is waited for, or, while a packet has to wait
 * for receive buffers, the receive queue's.  When either ring is stopped both are settled: nothing
 * is in flight any more, and the base that is told is all that a later start needs.
 */
#include "loopback-pair.h"

#include <errno.h>

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

#define LOOPBACK_BURST 64       /* packets between two publications */
#define LOOPBACK_BUDGET 4       /* bursts of one wake-up */

void loopback_pair_break(LoopbackPair *pair, const char *queue, const VringError *error)
{
    g_autofree char *words = vring_error_to_string(error);

    pair->broken = true;
    g_warning("%s pair %u: %s queue: %s", pair->name, pair->index, queue, words);
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

static void publish_others(LoopbackPair *pair)
{
    for (unsigned int i = 0; i < pair->n_pairs; i++) {
        if (pair->pairs[i].attached) {
            publish(&pair->pairs[i].rings[LOOPBACK_RX]);
        }
    }
}

static bool move_burst(LoopbackPair *pair)
{
    const MemoryMap *map = rcu_dereference(*pair->map);
    /* Pairs with publish() of loopback-commands.c. */
    const LoopbackSettings *settings = rcu_dereference(*pair->settings);
    unsigned int moved = 0;

    while (moved < LOOPBACK_BURST && !pair->broken && loopback_packet_move(pair, map, settings)) {
        moved++;
    }
    if (moved) {
        if (settings->rss.steers) {
            publish_others(pair);
        }
        publish(&pair->rings[LOOPBACK_RX]);
        publish(&pair->rings[LOOPBACK_TX]);
    }
    return moved > 0;
}

/* Allows the kicks that are wanted.  True if there is something to do already. */
static bool rearm(LoopbackPair *pair)
{
    LoopbackRing *rx = &pair->rings[LOOPBACK_RX], *tx = &pair->rings[LOOPBACK_TX];
    VringDevice *waits_for = pair->has_packet ? &rx->vr : &tx->vr;

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

    if (!pair->attached || pair->broken) {
        return;
    }
    for (i = 0; i < LOOPBACK_BUDGET && move_burst(pair); i++) {
    }
    if (!pair->broken && (i == LOOPBACK_BUDGET || rearm(pair))) {
        silence(pair);
        aio_bh_schedule(pair->ctx, &pair->work);
    }
}

static const char *ring_name(const LoopbackRing *ring)
{
    return ring == &ring->pair->rings[LOOPBACK_TX] ? "transmit" : "receive";
}

static void ring_ready(void *opaque)
{
    LoopbackRing *ring = opaque;
    LoopbackPair *pair = ring->pair;

    if (event_notifier_test_and_clear(&ring->kick) < 0) {
        vring_fail(&ring->vr.error, "its kick descriptor is dead", NULL, 0,
                   (uint64_t)ring->kick.fd);
        loopback_pair_break(pair, ring_name(ring), &ring->vr.error);
        /* Readable for ever. */
        aio_remove_handler(pair->ctx, g_steal_pointer(&ring->handler));
        return;
    }
    silence(pair);
    work(pair);
}

static bool ring_poll(void *opaque)
{
    LoopbackRing *ring = opaque;
    LoopbackPair *pair = ring->pair;
    unsigned int held = pair->has_packet + pair->rx.n;
    bool hit = !pair->broken && move_burst(pair);

    /* After polling has ended kicks were allowed at a place, or in a queue, left behind. */
    if ((hit || held != pair->has_packet + pair->rx.n) && !ring->polled) {
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
    pair->attached = true;
    aio_bh_schedule(pair->ctx, &pair->work);
}

static void detach_in_owner(void *opaque)
{
    LoopbackPair *pair = opaque;
    AioContext *ctx = pair->ctx;
    unsigned int i;

    rcu_assign_pointer(pair->ctx, NULL);
    pair->attached = false;
    loopback_packet_forget(pair);
    for (i = 0; i < 2; i++) {
        LoopbackRing *ring = &pair->rings[i];

        /* What was taken for the packet is offered again, whatever broke the pair. */
        vring_device_settle(&ring->vr, false, NULL);
        if (ring->handler) {
            aio_remove_handler(ctx, g_steal_pointer(&ring->handler));
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

    pair->broken = false;
    loopback_packet_forget(pair);
    pair->max_segments = 2 * MAX(MAX(ring->vr.num, other->vr.num), LOOPBACK_MAX_TABLE);
    pair->tx_segments = g_new(VringSegment, pair->max_segments);
    pair->rx_segments = g_new(VringSegment, pair->max_segments);
    pair->tx_host = g_new(VringSegment, pair->max_segments);
    pair->rx_host = g_new(VringSegment, pair->max_segments);
    pair->frame = g_malloc(LOOPBACK_MAX_FRAME);
    aio_bh_init(&pair->work, work, pair);
    /* Pairs with loopback_pair_wake(): @work is ready. */
    rcu_assign_pointer(pair->ctx, pair->rings[LOOPBACK_TX].ctx);
    aio_run_in(pair->ctx, attach_in_owner, pair);
    if (!ring->handler || !other->handler) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s pair %u: cannot wait for its kick descriptors", pair->name, pair->index);
        loopback_pair_stop_ring(pair, which, NULL);
        return -EINVAL;
    }
    return 0;
}

void loopback_pair_wake(LoopbackPair *pair)
{
    /* Pairs with start and with the grace period of stop, which take it. */
    AioContext *ctx = rcu_dereference(pair->ctx);

    if (ctx) {
        aio_bh_schedule(ctx, &pair->work);
    }
}

typedef struct EnableCommand {
    LoopbackRing *ring;
    bool enable;
} EnableCommand;

static void enable_in_owner(void *opaque)
{
    EnableCommand *command = opaque;

    command->ring->enabled = command->enable;
    /* A packet that waits for buffers of a queue now disabled is to be dropped. */
    if (command->ring->pair && command->ring->pair->ctx) {
        aio_bh_schedule(command->ring->pair->ctx, &command->ring->pair->work);
    }
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

typedef struct FdCommand {
    LoopbackRing *ring;
    int fd;
    bool failed;
} FdCommand;

static void set_kick_in_owner(void *opaque)
{
    FdCommand *command = opaque;
    LoopbackRing *ring = command->ring;
    AioContext *ctx = ring->pair->ctx;
    AioHandler *handler = aio_add_handler(ctx, command->fd, &ring_ops, ring);

    if (!handler) {
        command->failed = true;
        return;
    }
    if (ring->handler) {
        aio_remove_handler(ctx, ring->handler);
    }
    ring->handler = handler;
    ring->kick.fd = command->fd;
    /* A kick may have gone to the old descriptor just now. */
    aio_bh_schedule(ctx, &ring->pair->work);
}

static void set_call_in_owner(void *opaque)
{
    FdCommand *command = opaque;

    command->ring->call.fd = command->fd;
    /* What the driver was not told through the old descriptor it is told through the new. */
    event_notifier_set(&command->ring->call);
}

int loopback_pair_set_fd(LoopbackPair *pair, unsigned int which, VhostRingFd fd_of, int fd,
                         GError **errp)
{
    FdCommand command = { &pair->rings[which], fd, false };

    if (!pair->ctx) {
        *(fd_of == VHOST_RING_KICK ? &command.ring->kick : &command.ring->call) =
            (EventNotifier){ fd };
        return 0;
    }
    aio_run_in(pair->ctx, fd_of == VHOST_RING_KICK ? set_kick_in_owner : set_call_in_owner,
               &command);
    if (command.failed) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s pair %u: cannot wait for the new kick descriptor of its %s queue",
                    pair->name, pair->index, ring_name(command.ring));
        return -EINVAL;
    }
    return 0;
}

void loopback_pair_stop_ring(LoopbackPair *pair, unsigned int which, VringBase *base)
{
    LoopbackRing *ring = &pair->rings[which];

    if (!ring->started) {
        ring->enabled = false;
        return;
    }
    if (pair->ctx) {
        AioContext *ctx = pair->ctx;

        aio_run_in(ctx, detach_in_owner, pair);
        /* What wakes the pair from another thread has done so. */
        synchronize_rcu();
        /* Bottom halves run in order: after this one, the work scheduled before has run. */
        aio_run_in(ctx, nothing, NULL);
        g_clear_pointer(&pair->tx_segments, g_free);
        g_clear_pointer(&pair->rx_segments, g_free);
        g_clear_pointer(&pair->tx_host, g_free);
        g_clear_pointer(&pair->rx_host, g_free);
        g_clear_pointer(&pair->frame, g_free);
    }
    if (base) {
        *base = vring_device_base(&ring->vr);
    }
    vring_device_cleanup(&ring->vr);
    ring->started = ring->enabled = false;
}
