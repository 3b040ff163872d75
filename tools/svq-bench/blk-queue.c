/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-blk virtqueue as a guest's driver has it.
 */
#include "blk-queue.h"

#include <endian.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define CACHE_LINE  64
#define OTHER_EVERY 256         /* requests: one flushes, and one asks for the identity */

enum { BLK_S_OK = 0, BLK_S_UNSUPP = 2, BLK_S_NONE = 0xff };

typedef struct BlkHeader {
    uint32_t type;                  /* little-endian, all of them */
    uint32_t reserved;
    uint64_t sector;
} BlkHeader;

/* Not more than the ring holds, each with a header and a status. */
static unsigned int count_slots(const BenchOptions *options)
{
    const int room = options->queue_size / (options->indirect ? 1 : options->descriptors + 2);

    return (unsigned int)MIN(options->depth, room);
}

uint64_t blk_queue_memory_size(const BenchOptions *options)
{
    const uint64_t blocks = (uint64_t)options->descriptors + 3;

    return guest_queue_memory_size((uint32_t)options->queue_size) +
           count_slots(options) * (blocks * CACHE_LINE + (uint64_t)options->request_size);
}

/* --- set-up --- */

static void alloc_segment(BlkSlot *slot, unsigned int i, GuestMemory *memory, uint32_t len,
                          uint16_t flags, GRand *rand)
{
    const unsigned int region = (unsigned int)g_rand_int_range(rand, 0, (gint32)memory->n);
    GuestBlock block = guest_memory_alloc(memory, region, len, CACHE_LINE);

    slot->segments[i] = (VringSegment){ block.gpa, len, flags };
    slot->host[i] = block.host;
}

/* Places of a slot's segments: header, data, status, identity. */
static unsigned int status_place(const BlkQueue *queue)
{
    return queue->elements + 1;
}

static unsigned int id_place(const BlkQueue *queue)
{
    return queue->elements + 2;
}

static void init_slot(BlkQueue *queue, BlkSlot *slot, GuestMemory *memory, GRand *rand)
{
    const uint32_t size = queue->disk->block_size, n = queue->elements;
    uint32_t i;

    slot->segments = g_new(VringSegment, n + 3);
    slot->host = g_new(uint8_t *, n + 3);
    alloc_segment(slot, 0, memory, sizeof(BlkHeader), 0, rand);
    for (i = 0; i < n; i++) {
        /* Of 64 bits: a request has up to a MiB. */
        const uint32_t len = (uint32_t)((uint64_t)size * (i + 1) / n - (uint64_t)size * i / n);

        alloc_segment(slot, 1 + i, memory, len, 0, rand);
    }
    alloc_segment(slot, status_place(queue), memory, 1, VRING_DESC_F_WRITE, rand);
    alloc_segment(slot, id_place(queue), memory, BLK_ID_SIZE, VRING_DESC_F_WRITE, rand);
}

static void make_slots(BlkQueue *queue, const BenchOptions *options, unsigned int index,
                       GuestMemory *memory)
{
    GRand *rand = g_rand_new_with_seed((guint32)options->seed + index);
    unsigned int i;

    queue->n_slots = queue->n_free = count_slots(options);
    queue->slots = g_new0(BlkSlot, queue->n_slots);
    queue->free_slots = g_new(uint16_t, queue->n_slots);
    for (i = 0; i < queue->n_slots; i++) {
        init_slot(queue, &queue->slots[i], memory, rand);
        queue->free_slots[i] = (uint16_t)i;
    }
    g_rand_free(rand);
}

BlkQueue *blk_queue_new(const BenchOptions *options, unsigned int index, BlkDisk *disk,
                        bool can_flush, GuestMemory *memory, GError **errp)
{
    BlkQueue *queue = g_aligned_alloc0(1, sizeof(*queue), _Alignof(BlkQueue));

    queue->disk = disk;
    queue->elements = (unsigned int)options->descriptors;
    queue->can_flush = can_flush;
    queue->target = (uint64_t)options->requests;
    queue->scratch = g_new(VringSegment, queue->elements + 2);
    queue->content = g_malloc(disk->block_size);
    make_slots(queue, options, index, memory);
    if (!guest_queue_init(&queue->q, options, (uint32_t)options->queue_size, memory, errp)) {
        blk_queue_free(queue);
        return NULL;
    }
    return queue;
}

void blk_queue_free(BlkQueue *queue)
{
    unsigned int i;

    if (!queue) {
        return;
    }
    guest_queue_cleanup(&queue->q);
    for (i = 0; i < queue->n_slots; i++) {
        g_free(queue->slots[i].segments);
        g_free(queue->slots[i].host);
    }
    blk_disk_free(queue->disk);
    g_free(queue->slots);
    g_free(queue->free_slots);
    g_free(queue->scratch);
    g_free(queue->content);
    g_aligned_free(queue);
}

/* --- submit --- */

/* Block content between a slot's elements and one piece of memory. */
static void scatter(const BlkQueue *queue, const BlkSlot *slot)
{
    const uint8_t *from = queue->content;
    unsigned int i;

    for (i = 1; i <= queue->elements; i++) {
        memcpy(slot->host[i], from, slot->segments[i].len);
        from += slot->segments[i].len;
    }
}

static bool content_is_right(const BlkQueue *queue, const BlkSlot *slot)
{
    const uint8_t *expected = queue->content;
    bool same = true;
    unsigned int i;

    for (i = 1; i <= queue->elements; i++) {
        same &= !memcmp(slot->host[i], expected, slot->segments[i].len);
        expected += slot->segments[i].len;
    }
    return same;
}

/* What an earlier request left is no answer to this one. */
static void spoil(const BlkQueue *queue, const BlkSlot *slot)
{
    unsigned int i;

    for (i = 1; i <= queue->elements; i++) {
        memset(slot->host[i], 0, slot->segments[i].len);
    }
    memset(slot->host[id_place(queue)], 0, BLK_ID_SIZE);
    *slot->host[status_place(queue)] = BLK_S_NONE;
}

/* Puts the request's elements into queue->scratch.  Returns how many. */
static unsigned int lay_out(BlkQueue *queue, const BlkSlot *slot)
{
    const uint16_t flags = slot->type == BLK_T_IN ? VRING_DESC_F_WRITE : 0;
    unsigned int n = 0, i;

    queue->scratch[n++] = slot->segments[0];
    if (slot->type == BLK_T_GET_ID) {
        queue->scratch[n++] = slot->segments[id_place(queue)];
    } else if (slot->type != BLK_T_FLUSH) {
        for (i = 1; i <= queue->elements; i++) {
            queue->scratch[n] = slot->segments[i];
            queue->scratch[n++].flags = flags;
        }
    }
    queue->scratch[n++] = slot->segments[status_place(queue)];
    return n;
}

static void submit(BlkQueue *queue, uint32_t type, uint32_t block)
{
    const uint16_t number = queue->free_slots[--queue->n_free];
    const bool has_block = type == BLK_T_IN || type == BLK_T_OUT;
    BlkSlot *slot = &queue->slots[number];
    const BlkHeader header = {
        .type = htole32(type),
        .sector = has_block ? htole64(blk_disk_sector(queue->disk, block)) : 0,
    };

    slot->type = type;
    slot->block = block;
    memcpy(slot->host[0], &header, sizeof(header));
    spoil(queue, slot);
    if (type == BLK_T_OUT) {
        blk_disk_make_content(queue->disk, block, queue->content);
        scatter(queue, slot);
    }
    guest_queue_add(&queue->q, queue->scratch, lay_out(queue, slot), number);
    queue->begun++;
}

/* A request of the last reading.  False: there is none left. */
static bool submit_final(BlkQueue *queue)
{
    uint32_t block;

    if (!blk_disk_next_final(queue->disk, &block)) {
        return false;
    }
    submit(queue, BLK_T_IN, block);
    return true;
}

/* The next request.  False: none can be begun now. */
static bool submit_next(BlkQueue *queue)
{
    BlkDisk *disk = queue->disk;
    const bool can_read = disk->n_unread > 0;
    const bool can_write = queue->written < queue->target &&
                           blk_disk_can_write(disk, blk_queue_under_way(queue));

    if (queue->begun % OTHER_EVERY == 0) {
        submit(queue, BLK_T_GET_ID, 0);
    } else if (queue->begun % OTHER_EVERY == OTHER_EVERY / 2 && queue->can_flush) {
        submit(queue, BLK_T_FLUSH, 0);
    } else if (can_write && (!can_read || g_rand_boolean(disk->rand))) {
        queue->written++;
        submit(queue, BLK_T_OUT, blk_disk_pick_write(disk));
    } else if (can_read) {
        queue->read++;
        submit(queue, BLK_T_IN, blk_disk_pick_read(disk));
    } else {
        return false;
    }
    return true;
}

unsigned int blk_queue_submit(BlkQueue *queue)
{
    unsigned int n = 0;

    if (!queue->final && queue->read == queue->target && blk_queue_under_way(queue) == 0) {
        queue->final = true;
    }
    while (queue->n_free && !queue->done) {
        if (!(queue->final ? submit_final(queue) : submit_next(queue))) {
            queue->done = queue->final;
            break;
        }
        n++;
    }
    if (n) {
        queue->syscalls += guest_queue_publish(&queue->q);
    }
    return n;
}

/* --- collect --- */

static void fail_ring(BlkQueue *queue)
{
    if (!blk_queue_is_broken(queue)) {
        fprintf(stderr, "svq-bench: %s\n", queue->q.driver.error.what);
    }
    queue->errors.other++;
}

/* It is the same each time, if it is told. */
static void check_id(BlkQueue *queue, const BlkSlot *slot)
{
    const void *id = slot->host[id_place(queue)];

    if (!queue->has_id) {
        memcpy(queue->id, id, sizeof(queue->id));
        queue->has_id = true;
    } else if (memcmp(queue->id, id, sizeof(queue->id))) {
        queue->errors.corrupted++;
    }
}

static void check_content(BlkQueue *queue, const BlkSlot *slot)
{
    blk_disk_make_content(queue->disk, slot->block, queue->content);
    if (!content_is_right(queue, slot)) {
        queue->errors.corrupted++;
    }
}

/* Bytes that the device has written, the status among them, if it did what it was told. */
static uint32_t expected_length(const BlkQueue *queue, const BlkSlot *slot)
{
    switch (slot->type) {
    case BLK_T_IN:
        return queue->disk->block_size + 1;
    case BLK_T_GET_ID:
        return BLK_ID_SIZE + 1;
    default:
        return 1;
    }
}

static void check_request(BlkQueue *queue, const BlkSlot *slot, uint32_t len)
{
    const uint8_t status = *slot->host[status_place(queue)];

    if (status != BLK_S_OK) {
        queue->errors.failed += slot->type != BLK_T_GET_ID || status != BLK_S_UNSUPP;
    } else if (len != expected_length(queue, slot)) {
        queue->errors.corrupted++;
    } else if (slot->type == BLK_T_IN) {
        check_content(queue, slot);
    } else if (slot->type == BLK_T_GET_ID) {
        check_id(queue, slot);
    }
}

static void complete(BlkQueue *queue, uint16_t number)
{
    const BlkSlot *slot = &queue->slots[number];

    queue->free_slots[queue->n_free++] = number;
    if (slot->type == BLK_T_OUT) {
        blk_disk_written(queue->disk, slot->block);
    } else if (slot->type == BLK_T_IN) {
        blk_disk_read(queue->disk, slot->block);
    }
}

unsigned int blk_queue_collect(BlkQueue *queue)
{
    unsigned int n = 0;
    uint32_t slot, len;
    int ret;

    while ((ret = vring_driver_collect(&queue->q.driver, queue->q.packed, &slot, &len)) > 0) {
        check_request(queue, &queue->slots[slot], len);
        complete(queue, (uint16_t)slot);
        n++;
    }
    if (ret < 0) {
        fail_ring(queue);
    }
    if (n) {
        queue->completed += n;
        atomic_store_explicit(&queue->progress, queue->completed, memory_order_relaxed);
        atomic_store_explicit(&queue->progress_errors, bench_errors_sum(&queue->errors),
                              memory_order_relaxed);
    }
    return n;
}

void blk_queue_finish(BlkQueue *queue)
{
    queue->errors.lost += blk_queue_under_way(queue);
    if (!queue->done && !queue->errors.lost) {
        queue->errors.other++;
    }
}
