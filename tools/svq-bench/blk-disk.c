/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a queue's part of a disk must hold.
 */
#include "blk-disk.h"

#include <string.h>

#include "options.h"

#define SECTOR_SIZE 512
#define MAX_BLOCKS  16384       /* of a queue */

BlkDisk *blk_disk_new(uint64_t sectors, uint32_t block_size, unsigned int index,
                      unsigned int queues, guint32 seed, GError **errp)
{
    const uint64_t sectors_each = block_size / SECTOR_SIZE;
    const uint64_t room = sectors / sectors_each / queues;
    BlkDisk *disk;

    if (!room) {
        bench_fail(errp, "a disk of %" G_GUINT64_FORMAT " sectors has no room for a request of "
                   "each queue", sectors);
        return NULL;
    }
    disk = g_new0(BlkDisk, 1);
    disk->n = (uint32_t)MIN(room, MAX_BLOCKS);
    disk->block_size = block_size;
    disk->first = index * room * sectors_each;
    disk->stride = room / disk->n * sectors_each;
    disk->blocks = g_new0(BlkBlock, disk->n);
    disk->unread = g_new(uint32_t, disk->n);
    disk->rand = g_rand_new_with_seed(seed);
    return disk;
}

void blk_disk_free(BlkDisk *disk)
{
    if (!disk) {
        return;
    }
    g_rand_free(disk->rand);
    g_free(disk->blocks);
    g_free(disk->unread);
    g_free(disk);
}

static uint32_t random_below(BlkDisk *disk, uint32_t n)
{
    return (uint32_t)g_rand_int_range(disk->rand, 0, (gint32)n);
}

uint32_t blk_disk_pick_write(BlkDisk *disk)
{
    uint32_t block = random_below(disk, disk->n);

    while (disk->blocks[block].busy) {
        block = (block + 1) % disk->n;
    }
    disk->blocks[block].busy = true;
    disk->blocks[block].generation++;
    return block;
}

void blk_disk_written(BlkDisk *disk, uint32_t block)
{
    disk->unread[disk->n_unread++] = block;
}

uint32_t blk_disk_pick_read(BlkDisk *disk)
{
    const uint32_t i = random_below(disk, disk->n_unread);
    const uint32_t block = disk->unread[i];

    disk->unread[i] = disk->unread[--disk->n_unread];
    return block;
}

void blk_disk_read(BlkDisk *disk, uint32_t block)
{
    disk->blocks[block].busy = false;
}

bool blk_disk_next_final(BlkDisk *disk, uint32_t *block)
{
    while (disk->final < disk->n && !disk->blocks[disk->final].generation) {
        disk->final++;
    }
    if (disk->final == disk->n) {
        return false;
    }
    *block = disk->final++;
    return true;
}

void blk_disk_make_content(const BlkDisk *disk, uint32_t block, uint8_t *out)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    const uint64_t sector = blk_disk_sector(disk, block);
    uint64_t word = (sector + 1) * step ^ (uint64_t)disk->blocks[block].generation << 32;
    uint32_t i;

    for (i = 0; i < disk->block_size; i += sizeof(word)) {
        memcpy(out + i, &word, sizeof(word));
        word = (word << 7 | word >> 57) + step;
    }
}
