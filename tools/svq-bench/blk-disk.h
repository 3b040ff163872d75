/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a queue's part of a disk must hold: a model of its blocks, and what is done with which.
 *
 * How it works.  A block is as long as a request.  Each write gives it a new generation, and
 * generation and sector determine all its bytes, so what is read is compared with what must have
 * been written, not with a copy.  No block has two requests under way, for their order is the
 * device's affair.  What was written is read before it is written again, and at the end once
 * more, which shows what ended up at the wrong place.
 *
 * Threads: one.
 */
#ifndef TOOLS_SVQ_BENCH_BLK_DISK_H
#define TOOLS_SVQ_BENCH_BLK_DISK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct BlkBlock {
    uint32_t generation;        /* 0: never written */
    bool busy;                  /* has a request under way, or waits to be read */
} BlkBlock;

typedef struct BlkDisk {
    /* Constant after blk_disk_new(). */
    uint32_t n;                 /* blocks */
    uint32_t block_size;        /* bytes */
    uint64_t first, stride;     /* sectors: where block 0 lies, and from one to the next */

    BlkBlock *blocks;
    uint32_t *unread;           /* blocks that were written and are to be read, in no order */
    uint32_t n_unread;
    uint32_t final;             /* of the last reading: the next block */
    GRand *rand;
} BlkDisk;

/*
 * The blocks of queue @index of @queues on a disk of @sectors; they are as far apart as so many
 * can be.  NULL and @errp: there is no room.
 */
BlkDisk *blk_disk_new(uint64_t sectors, uint32_t block_size, unsigned int index,
                      unsigned int queues, guint32 seed, GError **errp);
void blk_disk_free(BlkDisk *disk);

static inline uint64_t blk_disk_sector(const BlkDisk *disk, uint32_t block)
{
    return disk->first + block * disk->stride;
}

/* Half of the blocks wait to be read at most: then one to write is soon found. */
static inline bool blk_disk_can_write(const BlkDisk *disk, unsigned int under_way)
{
    return disk->n_unread + under_way < MAX(disk->n / 2, 1);
}

/* Picks a block to write, and gives it its next generation. */
uint32_t blk_disk_pick_write(BlkDisk *disk);
/* It was written: it is to be read. */
void blk_disk_written(BlkDisk *disk, uint32_t block);

/* Picks one of those to read; there must be one. */
uint32_t blk_disk_pick_read(BlkDisk *disk);
/* It was read. */
void blk_disk_read(BlkDisk *disk, uint32_t block);

/* The next block that was ever written: true; or there is none left. */
bool blk_disk_next_final(BlkDisk *disk, uint32_t *block);

/* What @block holds; @out has room for a block. */
void blk_disk_make_content(const BlkDisk *disk, uint32_t block, uint8_t *out);

#endif
