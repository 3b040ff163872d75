/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net queue pair as a guest's driver has it.
 */
#include "net-pair.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "net-frame.h"

#define HEADER_SIZE 12      /* struct virtio_net_hdr of VERSION_1 */
#define CACHE_LINE 64

uint64_t net_pair_memory_size(const BenchOptions *options)
{
    const uint64_t num = (uint64_t)options->queue_size;
    const uint64_t packet = HEADER_SIZE + (uint64_t)options->packet_size +
                            (uint64_t)options->descriptors * CACHE_LINE;

    return 2 * (guest_queue_memory_size((uint32_t)num) + num * packet);
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
    const unsigned int num = (unsigned int)options->queue_size;

    queue->elements = (unsigned int)options->descriptors;
    queue->n_slots = options->indirect ? num : num / queue->elements;
    alloc_slots(queue, memory, HEADER_SIZE + (unsigned int)options->packet_size, flags, rand);
    return guest_queue_init(&queue->q, options, num, memory, errp);
}

/* Packets that may be under way: not more than can come back. */
static unsigned int window_size(const NetPair *pair, const BenchOptions *options)
{
    const unsigned int buffers = pair->queue[NET_PAIR_RX].n_slots;

    return options->window ? MIN((unsigned int)options->window, buffers) : buffers;
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
    pair->target = options->buffers ? (uint64_t)options->buffers : UINT64_MAX;
    pair->target = options->control_only ? 0 : pair->target;
    /* Patterns are made by words: the last one may reach beyond the packet. */
    pair->outgoing = g_malloc0(HEADER_SIZE + pair->packet_size + sizeof(uint64_t));
    pair->incoming = g_malloc(HEADER_SIZE + pair->packet_size);
    pair->pattern = g_malloc(pair->packet_size + sizeof(uint64_t));
    if (options->udp) {
        pair->prefix = NET_FRAME_HEADERS;
        net_frame_make_headers(pair->outgoing + HEADER_SIZE, options->mac, index,
                               pair->packet_size);
    }
    ok = queue_init(&pair->queue[NET_PAIR_RX], options, memory, VRING_DESC_F_WRITE, rand, errp) &&
         queue_init(&pair->queue[NET_PAIR_TX], options, memory, 0, rand, errp);
    g_rand_free(rand);
    if (!ok) {
        net_pair_free(pair);
        return NULL;
    }
    pair->window = window_size(pair, options);
    pair->n_free = pair->queue[NET_PAIR_TX].n_slots;
    pair->free_slots = g_new(uint16_t, pair->n_free);
    for (i = 0; i < pair->n_free; i++) {
        pair->free_slots[i] = (uint16_t)i;
    }
    return pair;
}

static void queue_cleanup(NetQueue *queue)
{
    guest_queue_cleanup(&queue->q);
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
    g_free(pair->slot_epoch);
    g_free(pair->outgoing);
    g_free(pair->incoming);
    g_free(pair->pattern);
    g_aligned_free(pair);
}

/* --- packets --- */

/* Behind the headers: number, pair, then words that differ in every packet and at every place. */
static void make_pattern(const NetPair *pair, uint64_t number, uint8_t *out)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t word = (number + 1) * step ^ (uint64_t)(pair->index + 1) << 48;
    unsigned int i;

    memcpy(out, &number, sizeof(number));
    for (i = sizeof(number); i < pair->packet_size - pair->prefix; i += sizeof(word)) {
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

    guest_queue_add(&queue->q, seg, queue->elements, slot);
}

void net_pair_fill(NetPair *pair)
{
    NetQueue *rx = &pair->queue[NET_PAIR_RX];
    unsigned int i;

    for (i = 0; i < rx->n_slots; i++) {
        add_slot(rx, i);
    }
    pair->syscalls += guest_queue_publish(&rx->q);
}

void net_pair_watch_log(NetPair *pair, const _Atomic uint32_t *epoch)
{
    pair->log_epoch = epoch;
    pair->slot_epoch = g_new0(_Atomic uint32_t, pair->queue[NET_PAIR_RX].n_slots);
}

/* What is sent after this is sent to a device that logs, if the epoch is odd. */
static void note_epoch(NetPair *pair)
{
    /* Acquire: pairs with the release in switches_make_one(). */
    const uint32_t epoch = atomic_load_explicit(pair->log_epoch, memory_order_acquire);

    if (epoch != pair->sent_epoch) {
        pair->sent_epoch = epoch;
        pair->logged_from = pair->sent;
    }
}

/* Packet @number has come in @slot.  Read behind the acquire of collecting it. */
static void mark_logged(NetPair *pair, unsigned int slot, uint64_t number)
{
    if (pair->sent_epoch % 2 && number >= pair->logged_from &&
        atomic_load_explicit(pair->log_epoch, memory_order_relaxed) == pair->sent_epoch) {
        atomic_store_explicit(&pair->slot_epoch[slot], pair->sent_epoch, memory_order_relaxed);
    }
}

unsigned int net_pair_send(NetPair *pair)
{
    NetQueue *tx = &pair->queue[NET_PAIR_TX];
    const uint64_t room = pair->window - net_pair_under_way(pair);
    uint64_t n = MIN(MIN(pair->target - pair->sent, pair->burst), MIN(room, pair->n_free));
    uint64_t i;

    if (pair->log_epoch) {
        note_epoch(pair);
    }
    for (i = 0; i < n; i++) {
        const unsigned int slot = pair->free_slots[--pair->n_free];

        make_pattern(pair, pair->sent++, pair->outgoing + HEADER_SIZE + pair->prefix);
        scatter(tx, slot, pair->outgoing);
        add_slot(tx, slot);
    }
    if (n) {
        pair->syscalls += guest_queue_publish(&tx->q);
    }
    return (unsigned int)n;
}

/* The device broke the rules of @queue's ring: once is enough. */
static void fail_ring(NetPair *pair, const NetQueue *queue)
{
    if (!net_pair_is_broken(pair)) {
        fprintf(stderr, "svq-bench: pair %u, %s queue: %s\n", pair->index,
                queue == &pair->queue[NET_PAIR_RX] ? "receive" : "transmit",
                queue->q.driver.error.what);
    }
    pair->errors.other++;
}

static unsigned int collect_sent(NetPair *pair)
{
    NetQueue *tx = &pair->queue[NET_PAIR_TX];
    unsigned int n = 0;
    uint32_t slot, len;
    int ret;

    while ((ret = vring_driver_collect(&tx->q.driver, tx->q.packed, &slot, &len)) > 0) {
        pair->free_slots[pair->n_free++] = (uint16_t)slot;
        n++;
    }
    if (ret < 0) {
        fail_ring(pair, tx);
    }
    return n;
}

/* Whether the packet in pair->incoming, of which the device wrote @len bytes, is as it was sent. */
static bool packet_is_whole(NetPair *pair, uint32_t len, uint64_t *number)
{
    const uint8_t *packet = pair->incoming + HEADER_SIZE;

    memcpy(number, packet + pair->prefix, sizeof(*number));
    if (len != HEADER_SIZE + pair->packet_size || *number >= pair->sent ||
        (pair->prefix && !net_frame_lengths_are(packet, pair->packet_size))) {
        return false;
    }
    make_pattern(pair, *number, pair->pattern);
    return !memcmp(packet + pair->prefix, pair->pattern, pair->packet_size - pair->prefix);
}

static void check_packet(NetPair *pair, unsigned int slot, uint32_t len)
{
    uint64_t number;

    if (!packet_is_whole(pair, len, &number)) {
        pair->errors.corrupted++;
        return;
    }
    if (pair->log_epoch) {
        mark_logged(pair, slot, number);
    }
    if (number < pair->expected) {
        pair->errors.misordered++;
        return;
    }
    pair->errors.lost += number - pair->expected;
    pair->expected = number + 1;
}

/* A network may carry frames that we did not send.  If one is ours, but mutilated, it is missed. */
static bool is_foreign(const NetPair *pair, uint32_t len)
{
    return pair->prefix && !(len >= HEADER_SIZE &&
                             net_frame_is_ours(pair->incoming + HEADER_SIZE, len - HEADER_SIZE));
}

static unsigned int collect_received(NetPair *pair)
{
    NetQueue *rx = &pair->queue[NET_PAIR_RX];
    unsigned int n = 0;
    uint32_t slot, len;
    int ret;

    while ((ret = vring_driver_collect(&rx->q.driver, rx->q.packed, &slot, &len)) > 0) {
        gather(rx, slot, pair->incoming);
        if (is_foreign(pair, len)) {
            pair->foreign++;
        } else {
            check_packet(pair, slot, len);
            pair->received++;
        }
        add_slot(rx, slot);
        n++;
    }
    if (ret < 0) {
        fail_ring(pair, rx);
    }
    if (n) {
        pair->syscalls += guest_queue_publish(&rx->q);
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
        GuestQueue *queue = &pair->queue[i].q;

        more |= vring_driver_enable_call(&queue->driver, queue->packed);
    }
    return more;
}

void net_pair_disable_calls(NetPair *pair)
{
    unsigned int i;

    for (i = 0; i < 2; i++) {
        GuestQueue *queue = &pair->queue[i].q;

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
