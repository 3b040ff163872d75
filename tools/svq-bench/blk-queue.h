/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-blk virtqueue as a guest's driver has it (virtio 1.3, section 5.2.6): writes a disk's
 * blocks at random, reads them back in another order, and compares.
 *
 * How it works.  A request has a slot: the header, the data in one or several elements, and the
 * status have memory of their own, in random regions.  Requests may complete in any order.  Now
 * and then one of them flushes, if the device can, or asks for the device's identity.
 * One that fails, or whose content is wrong, is counted, and the disk is taken to be as it
 * should be all the same.
 *
 * Threads: blk_queue_new() and blk_queue_free() any; the rest one thread.
 */
#ifndef TOOLS_SVQ_BENCH_BLK_QUEUE_H
#define TOOLS_SVQ_BENCH_BLK_QUEUE_H

#include "blk-disk.h"
#include "guest-queue.h"
#include "report.h"

#define BLK_ID_SIZE 20          /* bytes (5.2.6.1) */

/* Request types. */
enum { BLK_T_IN = 0, BLK_T_OUT = 1, BLK_T_FLUSH = 4, BLK_T_GET_ID = 8 };

typedef struct BlkSlot {
    uint32_t type;              /* of the request under way */
    uint32_t block;
    VringSegment *segments;     /* header, data, status; and one for an identity */
    uint8_t **host;
} BlkSlot;

typedef struct BlkQueue {
    /* Constant after blk_queue_new(). */
    unsigned int elements;      /* of a request's data */
    bool can_flush;
    uint64_t target;            /* requests that write; as many will read */

    /* The thread's. */
    _Alignas(128) GuestQueue q;
    BlkDisk *disk;
    BlkSlot *slots;
    uint16_t *free_slots;       /* a stack */
    unsigned int n_slots, n_free;
    VringSegment *scratch;      /* a request as it is added */
    uint8_t *content;           /* a block's */
    uint64_t begun;             /* requests of all types */
    uint64_t written, read;     /* blocks, begun */
    bool final;                 /* everything has been read, and is now once more */
    bool done;
    bool has_id;
    char id[BLK_ID_SIZE];       /* as it was told first */
    uint64_t completed;
    uint64_t syscalls;
    BenchErrors errors;
    _Alignas(128) _Atomic uint64_t progress;    /* completed, for other threads */
    _Atomic uint64_t progress_errors;
} BlkQueue;

/* Bytes of memory that a queue needs at most; in the worst case all in one region. */
uint64_t blk_queue_memory_size(const BenchOptions *options);

/* Takes @disk.  NULL and @errp: no descriptors left. */
BlkQueue *blk_queue_new(const BenchOptions *options, unsigned int index, BlkDisk *disk,
                        bool can_flush, GuestMemory *memory, GError **errp);
void blk_queue_free(BlkQueue *queue);

/* Begins as many requests as there is room for.  Returns how many. */
unsigned int blk_queue_submit(BlkQueue *queue);

/* Checks what is complete.  Returns how many. */
unsigned int blk_queue_collect(BlkQueue *queue);

static inline unsigned int blk_queue_under_way(const BlkQueue *queue)
{
    return queue->n_slots - queue->n_free;
}

/* The back end broke the ring's rules; queue->errors.other says so. */
static inline bool blk_queue_is_broken(const BlkQueue *queue)
{
    return queue->errors.other > 0;
}

static inline bool blk_queue_is_done(const BlkQueue *queue)
{
    return queue->done && blk_queue_under_way(queue) == 0;
}

/* Counts what is not complete as lost: what was not begun because of that, too. */
void blk_queue_finish(BlkQueue *queue);

#endif
