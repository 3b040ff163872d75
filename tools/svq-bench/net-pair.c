/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net queue pair as a guest's driver has it.
 */
#include "net-pair.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"

#define HEADER_SIZE 12      /* struct virtio_net_hdr of VERSION_1 */
#define CACHE_LINE 64

uint64_t net_pair_memory_size(const BenchOptions *options)
{
    const uint64_t num = (uint64_t)options->queue_size;
    const uint64_t packet = HEADER_SIZE + (uint64_t)options->packet_size +
                            (uint64_t)options->descriptors * CACHE_LINE;
    const uint64_t tables = num * VRING_INDIRECT_MAX * sizeof(VringDesc) + CACHE_LINE;

    return 2 * (guest_ring_size((uint32_t)num, false) + tables + num * packet);
}

/* --- set-up --- */

/*
 * Bytes of element @i of a buffer of @total bytes.  With the header alone in the first,
 * the others share the packet; else all share everything, and none is empty.
 */
static uint32_t element_size(unsigned int total, unsigned int elements, unsigned int i,
                             bool header_alone)
{
    if (header_alone && elements > 1) {
        if (i == 0) {
            return HEADER_SIZE;
        }
        total -= HEADER_SIZE;
        elements--;
        i--;
    }
    return total * (i + 1) / elements - total * i / elements;
}

static void alloc_slots(NetQueue *queue, GuestMemory *memory, unsigned int total, uint16_t flags,
                        GRand *rand)
{
    const unsigned int elements = queue->elements;
    unsigned int slot, i;

    queue->segments = g_new(VringSegment, (gsize)queue->n_slots * elements);
    queue->host = g_new(uint8_t *, (gsize)queue->n_slots * elements);
    for (slot = 0; slot < queue->n_slots; slot++) {
        for (i = 0; i < elements; i++) {
            const uint32_t len = element_size(total, elements, i, slot % 2 == 0);
            const unsigned int region = (unsigned int)g_rand_int_range(rand, 0, (gint32)memory->n);
            GuestBlock block = guest_memory_alloc(memory, region, len, CACHE_LINE);

            queue->segments[slot * elements + i] = (VringSegment){ block.gpa, len, flags };
            queue->host[slot * elements + i] = block.host;
        }
    }
}

static bool queue_init(NetQueue *queue, const BenchOptions *options, GuestMemory *memory,
                       uint16_t flags, GRand *rand, GError **errp)
{
    const uint32_t num = (uint32_t)options->queue_size;
    VringConfig config = {
        .num = num,
        .packed = options->guest_packed,
        .event_idx = options->event_idx,
        .in_order = options->in_order,
        .indirect = options->indirect,
    };
    GuestBlock tables = { 0 };
    int ret;

    queue->packed = options->guest_packed;
    queue->indirect = options->indirect;
    queue->elements = (unsigned int)options->descriptors;
    queue->n_slots = options->indirect ? num : num / queue->elements;
    queue->ring = guest_memory_alloc_ring(memory, num, queue->packed);
    config.areas = queue->ring.areas;
    if (options->indirect) {
        tables = guest_memory_alloc(memory, 0,
                                    (uint64_t)num * VRING_INDIRECT_MAX * sizeof(VringDesc),
                                    CACHE_LINE);
    }
    alloc_slots(queue, memory, HEADER_SIZE + (unsigned int)options->packet_size, flags, rand);
    if (vring_driver_init(&queue->driver, &config, tables.host, tables.gpa) < 0) {
        return bench_fail(errp, "ring: %s", queue->driver.error.what);
    }
    ret = event_notifier_init(&queue->kick);
    if (ret == 0) {
        ret = event_notifier_init(&queue->call);
    }
    return ret == 0 || bench_fail(errp, "no eventfd: %s", g_strerror(-ret));
}

NetPair *net_pair_new(const BenchOptions *options, unsigned int index, GuestMemory *memory,
                      GError **errp)
{
    GRand *rand = g_rand_new_with_seed((guint32)options->seed + index);
    NetPair *pair = g_aligned_alloc0(1, sizeof(*pair), _Alignof(NetPair));
    unsigned int i;
    bool ok;

    pair->index = index;
    pair->packet_size = (unsigned int)options->packet_size;
    pair->burst = (unsigned int)options->burst;
    /* Patterns are made by words: the last one may reach beyond the packet. */
    pair->outgoing = g_malloc0(HEADER_SIZE + pair->packet_size + sizeof(uint64_t));
    pair->incoming = g_malloc(HEADER_SIZE + pair->packet_size);
    pair->pattern = g_malloc(pair->packet_size + sizeof(uint64_t));
    for (i = 0; i < 2; i++) {
        pair->queue[i].kick = pair->queue[i].call = EVENT_NOTIFIER_NONE;
    }
    ok = queue_init(&pair->queue[NET_PAIR_RX], options, memory, VRING_DESC_F_WRITE, rand, errp) &&
         queue_init(&pair->queue[NET_PAIR_TX], options, memory, 0, rand, errp);
    g_rand_free(rand);
    if (!ok) {
        net_pair_free(pair);
        return NULL;
    }
    pair->n_free = pair->queue[NET_PAIR_TX].n_slots;
    pair->free_slots = g_new(uint16_t, pair->n_free);
    for (i = 0; i < pair->n_free; i++) {
        pair->free_slots[i] = (uint16_t)i;
    }
    return pair;
}

static void queue_cleanup(NetQueue *queue)
{
    vring_driver_cleanup(&queue->driver);
    event_notifier_cleanup(&queue->kick);
    event_notifier_cleanup(&queue->call);
    g_free(queue->segments);
    g_free(queue->host);
}

void net_pair_free(NetPair *pair)
{
    if (!pair) {
        return;
    }
    queue_cleanup(&pair->queue[NET_PAIR_RX]);
    queue_cleanup(&pair->queue[NET_PAIR_TX]);
    g_free(pair->free_slots);
    g_free(pair->outgoing);
    g_free(pair->incoming);
    g_free(pair->pattern);
    g_aligned_free(pair);
}

/* --- packets --- */

/* Number, pair, then words that differ in every packet and at every place. */
static void make_pattern(const NetPair *pair, uint64_t number, uint8_t *out)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t word = (number + 1) * step ^ (uint64_t)(pair->index + 1) << 48;
    unsigned int i;

    memcpy(out, &number, sizeof(number));
    for (i = sizeof(number); i < pair->packet_size; i += sizeof(word)) {
        memcpy(out + i, &word, sizeof(word));
        word = (word << 7 | word >> 57) + step;
    }
}

/* Copies between a slot's elements and one piece of memory. */
static void scatter(const NetQueue *queue, unsigned int slot, const uint8_t *from)
{
    const unsigned int first = slot * queue->elements;
    unsigned int i;

    for (i = 0; i < queue->elements; i++) {
        memcpy(queue->host[first + i], from, queue->segments[first + i].len);
        from += queue->segments[first + i].len;
    }
}

static void gather(const NetQueue *queue, unsigned int slot, uint8_t *to)
{
    const unsigned int first = slot * queue->elements;
    unsigned int i;

    for (i = 0; i < queue->elements; i++) {
        memcpy(to, queue->host[first + i], queue->segments[first + i].len);
        to += queue->segments[first + i].len;
    }
}

static void add_slot(NetQueue *queue, unsigned int slot)
{
    const VringSegment *seg = &queue->segments[slot * queue->elements];

    bench_driver_add(&queue->driver, queue->packed, queue->indirect, seg, queue->elements, slot);
}

static void publish(NetPair *pair, NetQueue *queue)
{
    vring_driver_publish(&queue->driver, queue->packed);
    if (vring_driver_needs_kick(&queue->driver, queue->packed)) {
        pair->syscalls++;
        event_notifier_set(&queue->kick);
    }
}

void net_pair_fill(NetPair *pair)
{
    NetQueue *rx = &pair->queue[NET_PAIR_RX];
    unsigned int i;

    for (i = 0; i < rx->n_slots; i++) {
        add_slot(rx, i);
    }
    publish(pair, rx);
}

unsigned int net_pair_send(NetPair *pair, uint64_t max)
{
    NetQueue *tx = &pair->queue[NET_PAIR_TX];
    const uint64_t room = pair->queue[NET_PAIR_RX].n_slots - net_pair_under_way(pair);
    uint64_t n = MIN(MIN(max, pair->burst), MIN(room, pair->n_free));
    uint64_t i;

    for (i = 0; i < n; i++) {
        const unsigned int slot = pair->free_slots[--pair->n_free];

        make_pattern(pair, pair->sent++, pair->outgoing + HEADER_SIZE);
        scatter(tx, slot, pair->outgoing);
        add_slot(tx, slot);
    }
    if (n) {
        publish(pair, tx);
    }
    return (unsigned int)n;
}

/* The device broke the rules of @queue's ring: once is enough. */
static void fail_ring(NetPair *pair, const NetQueue *queue)
{
    if (!net_pair_is_broken(pair)) {
        fprintf(stderr, "svq-bench: pair %u, %s queue: %s\n", pair->index,
                queue == &pair->queue[NET_PAIR_RX] ? "receive" : "transmit",
                queue->driver.error.what);
    }
    pair->errors.other++;
}

static unsigned int collect_sent(NetPair *pair)
{
    NetQueue *tx = &pair->queue[NET_PAIR_TX];
    unsigned int n = 0;
    uint32_t slot, len;
    int ret;

    while ((ret = vring_driver_collect(&tx->driver, tx->packed, &slot, &len)) > 0) {
        pair->free_slots[pair->n_free++] = (uint16_t)slot;
        n++;
    }
    if (ret < 0) {
        fail_ring(pair, tx);
    }
    return n;
}

/* Compares the packet in pair->incoming, of which the device wrote @len bytes. */
static void check_packet(NetPair *pair, uint32_t len)
{
    const uint8_t *packet = pair->incoming + HEADER_SIZE;
    uint64_t number;

    memcpy(&number, packet, sizeof(number));
    if (len != HEADER_SIZE + pair->packet_size || number >= pair->sent) {
        pair->errors.corrupted++;
        return;
    }
    make_pattern(pair, number, pair->pattern);
    if (memcmp(packet, pair->pattern, pair->packet_size)) {
        pair->errors.corrupted++;
        return;
    }
    if (number < pair->expected) {
        pair->errors.misordered++;
        return;
    }
    pair->errors.lost += number - pair->expected;
    pair->expected = number + 1;
}

static unsigned int collect_received(NetPair *pair)
{
    NetQueue *rx = &pair->queue[NET_PAIR_RX];
    unsigned int n = 0;
    uint32_t slot, len;
    int ret;

    while ((ret = vring_driver_collect(&rx->driver, rx->packed, &slot, &len)) > 0) {
        gather(rx, slot, pair->incoming);
        check_packet(pair, len);
        add_slot(rx, slot);
        n++;
    }
    if (ret < 0) {
        fail_ring(pair, rx);
    }
    if (n) {
        publish(pair, rx);
        pair->received += n;
        atomic_store_explicit(&pair->progress, pair->received, memory_order_relaxed);
        atomic_store_explicit(&pair->progress_errors, bench_errors_sum(&pair->errors),
                              memory_order_relaxed);
    }
    return n;
}

unsigned int net_pair_collect(NetPair *pair)
{
    unsigned int n = collect_received(pair);

    return n + collect_sent(pair);
}

bool net_pair_enable_calls(NetPair *pair)
{
    bool more = false;
    unsigned int i;

    for (i = 0; i < 2; i++) {
        NetQueue *queue = &pair->queue[i];

        more |= vring_driver_enable_call(&queue->driver, queue->packed);
    }
    return more;
}

void net_pair_disable_calls(NetPair *pair)
{
    unsigned int i;

    for (i = 0; i < 2; i++) {
        NetQueue *queue = &pair->queue[i];

        vring_driver_disable_call(&queue->driver, queue->packed);
    }
}

/* Buffers to send from that the device has. */
static unsigned int tx_in_flight(const NetPair *pair)
{
    return pair->queue[NET_PAIR_TX].n_slots - pair->n_free;
}

bool net_pair_is_drained(const NetPair *pair)
{
    return net_pair_under_way(pair) == 0 && tx_in_flight(pair) == 0;
}

void net_pair_finish(NetPair *pair)
{
    pair->errors.lost += net_pair_under_way(pair);
    /* The packet may have come, but the buffer that it was sent in has not. */
    pair->errors.lost += tx_in_flight(pair);
}
