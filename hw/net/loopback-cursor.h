/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading and writing what the buffers of a virtqueue hold, wherever its parts lie.
 *
 * Threads: any; a map must not change between loopback_resolve() and the last copy.
 */
#ifndef HW_NET_LOOPBACK_CURSOR_H
#define HW_NET_LOOPBACK_CURSOR_H

#include <string.h>

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring.h"

/* Where copying stands in a list of segments, whose addresses are pointers of ours. */
typedef struct LoopbackCursor {
    const VringSegment *seg;
    uint32_t done;              /* bytes of *seg */
} LoopbackCursor;

/*
 * Writes to @host where the segments seg[0..n) lie.  One that straddles regions becomes several,
 * up to @max in all.  Their number, or -EPROTO.
 */
static inline int loopback_resolve(const MemoryMap *map, const VringSegment *seg, unsigned int n,
                                   VringSegment *host, unsigned int max, VringError *error)
{
    unsigned int done = 0;

    for (unsigned int i = 0; i < n; i++) {
        uint64_t addr = seg[i].addr;
        uint32_t left = seg[i].len;

        while (left) {
            const MemoryRange *range = memory_map_find(map, addr, 1);
            uint64_t offset;
            uint32_t part;

            if (!range) {
                return vring_fail(error, "buffer leaves the memory", "2.7.5", i, addr);
            }
            if (done == max) {
                return vring_fail(error, "buffer straddles too many memory regions", NULL, i, addr);
            }
            offset = addr - range->gpa;
            part = (uint32_t)MIN(left, range->size - offset);
            host[done++] = (VringSegment){ (uintptr_t)(range->host + offset), part, seg[i].flags };
            addr += part;
            left -= part;
        }
    }
    return (int)done;
}

static inline uint8_t *loopback_cursor_at(const LoopbackCursor *cursor)
{
    return (uint8_t *)(uintptr_t)cursor->seg->addr + cursor->done;
}

static inline uint32_t loopback_cursor_left(const LoopbackCursor *cursor)
{
    return cursor->seg->len - cursor->done;
}

static inline void loopback_cursor_move(LoopbackCursor *cursor, uint32_t n)
{
    cursor->done += n;
    if (cursor->done == cursor->seg->len) {
        cursor->seg++;
        cursor->done = 0;
    }
}

/* Copies @n bytes; a driver may well receive into what it sends. */
static inline void loopback_copy(LoopbackCursor *dst, LoopbackCursor *src, uint32_t n)
{
    while (n) {
        const uint32_t left = MIN(loopback_cursor_left(dst), loopback_cursor_left(src));
        const uint32_t part = MIN(n, left);

        memmove(loopback_cursor_at(dst), loopback_cursor_at(src), part);
        loopback_cursor_move(dst, part);
        loopback_cursor_move(src, part);
        n -= part;
    }
}

static inline void loopback_read(LoopbackCursor *src, void *to, uint32_t n)
{
    const VringSegment segment = { (uintptr_t)to, n, 0 };
    LoopbackCursor dst = { &segment, 0 };

    loopback_copy(&dst, src, n);
}

static inline void loopback_write(LoopbackCursor *dst, const void *from, uint32_t n)
{
    const VringSegment segment = { (uintptr_t)from, n, 0 };
    LoopbackCursor src = { &segment, 0 };

    loopback_copy(dst, &src, n);
}

#endif
