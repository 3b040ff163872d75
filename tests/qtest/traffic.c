/* SPDX-License-Identifier: BSD-3-Clause */
/* Sending and receiving packets that are known to the last byte. */
#include "traffic.h"

#include <inttypes.h>
#include <string.h>

#include "wait.h"

#define BURST 32
#define MIN_PAYLOAD 60
#define MAX_PAYLOAD 1514
#define MAGIC 0x53565171u
#define NUM_BUFFERS_OFFSET 10   /* in struct virtio_net_hdr (5.1.6) */
#define PROBE_MS 10

/* What a packet begins with, in our own byte order: only we read it. */
typedef struct Label {
    uint32_t magic;
    uint32_t pair;
    uint64_t seq;
} Label;

/* Its length depends on its number, so that a buffer mistaken for another shows. */
static uint32_t make_payload(uint8_t *payload, unsigned int pair, uint64_t seq)
{
    const Label label = { MAGIC, pair, seq };
    const uint32_t len = MIN_PAYLOAD + (uint32_t)((seq * 131 + pair * 17) %
                                                  (MAX_PAYLOAD - MIN_PAYLOAD + 1));
    uint32_t i;

    memcpy(payload, &label, sizeof(label));
    for (i = sizeof(label); i < len; i++) {
        payload[i] = (uint8_t)(seq * 7 + pair * 31 + i);
    }
    return len;
}

/* Packets with odd numbers are two buffer elements: header and payload. */
static void add_packet(Traffic *traffic, NetQueue *tx, unsigned int pair)
{
    const uint64_t seq = traffic->pairs[pair].sent++;
    const uint32_t cookie = tx->free[--tx->n_free];
    uint8_t *buffer = virtio_net_buffer(traffic->net, tx, cookie);
    const uint64_t addr = tx->buffers + cookie * NET_BUFFER_SIZE;
    uint32_t len = make_payload(buffer + NET_HEADER_SIZE, pair, seq);
    const VringSegment whole = { addr, NET_HEADER_SIZE + len, 0 };
    const VringSegment parts[] = {
        { addr, NET_HEADER_SIZE, 0 },
        { addr + NET_HEADER_SIZE, len, 0 },
    };

    memset(buffer, 0, NET_HEADER_SIZE);
    vring_driver_add(&tx->vr, tx->vr.packed, seq % 2 ? parts : &whole, seq % 2 ? 2 : 1, cookie);
}

unsigned int traffic_send(Traffic *traffic, unsigned int pair, unsigned int max)
{
    NetQueue *tx = virtio_net_tx(traffic->net, pair);
    unsigned int n = 0;

    while (n < max && tx->n_free && vring_driver_has_room(&tx->vr, 2)) {
        add_packet(traffic, tx, pair);
        n++;
    }
    if (n) {
        virtio_net_publish(traffic->net, tx);
    }
    return n;
}

static void collect_tx(Traffic *traffic, unsigned int pair)
{
    NetQueue *tx = virtio_net_tx(traffic->net, pair);
    uint32_t cookie, len;

    while (virtio_net_collect(traffic->net, tx, &cookie, &len)) {
        g_assert_cmpuint(len, ==, 0);
        tx->free[tx->n_free++] = cookie;
    }
}

static void check_packet(Traffic *traffic, unsigned int pair, const uint8_t *payload, uint32_t len)
{
    TrafficPair *state = &traffic->pairs[pair];
    uint8_t expected[MAX_PAYLOAD];
    Label label;

    g_assert_cmpuint(len, >=, sizeof(label));
    memcpy(&label, payload, sizeof(label));
    g_assert_cmphex(label.magic, ==, MAGIC);
    g_assert_cmpuint(label.pair, ==, pair);
    if (label.seq < state->next || label.seq >= state->sent ||
        (label.seq > state->next && !traffic->may_lose)) {
        g_error("pair %u: packet %" PRIu64 " comes where %" PRIu64 " is due (%" PRIu64 " sent)",
                pair, label.seq, state->next, state->sent);
    }
    g_assert_cmpuint(len, ==, make_payload(expected, pair, label.seq));
    g_assert_cmpmem(payload, len, expected, len);
    state->lost += label.seq - state->next;
    state->next = label.seq + 1;
    state->received++;
}

/* The packet that begins in buffer @cookie, and as many more as its header says (5.1.6.4). */
static void receive_packet(Traffic *traffic, unsigned int pair, uint32_t cookie, uint32_t len,
                           bool add_again)
{
    NetQueue *rx = virtio_net_rx(traffic->net, pair);
    uint8_t packet[NET_HEADER_SIZE + MAX_PAYLOAD];
    uint32_t size = 0;
    uint16_t left;

    g_assert_cmpuint(len, >=, NET_HEADER_SIZE);
    memcpy(&left, virtio_net_buffer(traffic->net, rx, cookie) + NUM_BUFFERS_OFFSET, sizeof(left));
    left = GUINT16_FROM_LE(left);
    g_assert_cmpuint(left, >=, 1);
    for (;;) {
        g_assert_cmpuint(size + len, <=, sizeof(packet));
        memcpy(packet + size, virtio_net_buffer(traffic->net, rx, cookie), len);
        memset(virtio_net_buffer(traffic->net, rx, cookie), 0xee, len);
        size += len;
        if (add_again) {
            virtio_net_add_rx(traffic->net, rx, cookie);
        }
        if (--left == 0) {
            break;
        }
        WAIT_FOR(virtio_net_collect(traffic->net, rx, &cookie, &len));
    }
    check_packet(traffic, pair, packet + NET_HEADER_SIZE, size - NET_HEADER_SIZE);
}

static unsigned int receive(Traffic *traffic, unsigned int pair, bool add_again)
{
    NetQueue *rx = virtio_net_rx(traffic->net, pair);
    unsigned int n = 0;
    uint32_t cookie, len;

    while (virtio_net_collect(traffic->net, rx, &cookie, &len)) {
        receive_packet(traffic, pair, cookie, len, add_again);
        n++;
    }
    if (n && add_again) {
        virtio_net_publish(traffic->net, rx);
    }
    collect_tx(traffic, pair);
    return n;
}

void traffic_receive(Traffic *traffic, unsigned int pair)
{
    receive(traffic, pair, true);
}

unsigned int traffic_drain(Traffic *traffic, unsigned int pair)
{
    return receive(traffic, pair, false);
}

void traffic_pump(Traffic *traffic, unsigned int first, unsigned int n)
{
    unsigned int i;

    for (i = first; i < first + n; i++) {
        traffic_send(traffic, i, BURST);
        traffic_receive(traffic, i);
    }
}

static bool step(Traffic *traffic, unsigned int first, unsigned int n, const uint64_t *goal)
{
    bool done = true;
    unsigned int i;

    for (i = first; i < first + n; i++) {
        TrafficPair *pair = &traffic->pairs[i];

        traffic_send(traffic, i, (unsigned int)MIN(goal[i] - pair->sent, BURST));
        traffic_receive(traffic, i);
        done = done && pair->next == goal[i];
    }
    return done;
}

void traffic_run(Traffic *traffic, unsigned int first, unsigned int n, uint64_t packets)
{
    uint64_t goal[NET_MAX_PAIRS];
    unsigned int i;

    g_assert_cmpuint(first + n, <=, NET_MAX_PAIRS);
    for (i = first; i < first + n; i++) {
        goal[i] = traffic->pairs[i].sent + packets;
    }
    WAIT_FOR(step(traffic, first, n, goal));
    for (i = first; i < first + n; i++) {
        traffic_settle(traffic, i);
    }
}

static bool is_settled(Traffic *traffic, unsigned int pair)
{
    const VringDriver *vr = &virtio_net_tx(traffic->net, pair)->vr;

    traffic_receive(traffic, pair);
    return vring_driver_in_flight(vr, vr->packed) == 0 &&
           traffic->pairs[pair].next == traffic->pairs[pair].sent;
}

void traffic_settle(Traffic *traffic, unsigned int pair)
{
    WAIT_FOR(is_settled(traffic, pair));
}

void traffic_forget(Traffic *traffic)
{
    unsigned int i;

    for (i = 0; i < NET_MAX_PAIRS; i++) {
        TrafficPair *pair = &traffic->pairs[i];

        pair->lost += pair->sent - pair->next;
        pair->next = pair->sent;
    }
}

static bool drained(Traffic *traffic, unsigned int pair, uint64_t goal)
{
    TrafficPair *state = &traffic->pairs[pair];

    traffic_send(traffic, pair, (unsigned int)MIN(goal - state->sent, BURST));
    traffic_drain(traffic, pair);
    return state->next == goal;
}

void traffic_use_all_rx(Traffic *traffic, unsigned int pair)
{
    NetQueue *rx = virtio_net_rx(traffic->net, pair);
    const uint64_t goal = traffic->pairs[pair].sent + rx->vr.num;

    g_assert_cmpuint(vring_driver_in_flight(&rx->vr, rx->vr.packed), ==, rx->vr.num);
    WAIT_FOR(drained(traffic, pair, goal));
    g_assert_cmpuint(vring_driver_in_flight(&rx->vr, rx->vr.packed), ==, 0);
    virtio_net_fill_rx(traffic->net, pair);
    traffic_settle(traffic, pair);
}

static bool probe(Traffic *traffic, unsigned int pair)
{
    const int64_t end = g_get_monotonic_time() + PROBE_MS * G_TIME_SPAN_MILLISECOND;
    const TrafficPair *state = &traffic->pairs[pair];

    traffic_send(traffic, pair, 1);
    do {
        traffic_receive(traffic, pair);
    } while (state->next != state->sent && g_get_monotonic_time() < end);
    return state->next == state->sent;
}

void traffic_wait_open(Traffic *traffic, unsigned int pair)
{
    const bool may_lose = traffic->may_lose;

    traffic->may_lose = true;
    WAIT_FOR(probe(traffic, pair));
    traffic_settle(traffic, pair);
    traffic->may_lose = may_lose;
}
