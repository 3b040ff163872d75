/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DirtyLog: the bitmap in which a VMM learns which pages of the guest's memory were written
 * while it copies that memory elsewhere (vhost-user, VHOST_USER_SET_LOG_BASE).
 *
 * How it works.  A bit for each page of guest-physical address, page N in bit N % 8 of byte N / 8.
 * The VMM takes bits out while we put bits in, so they are put in by atomic OR, 64 at a time:
 * each queue gathers in a DirtyLogCache what a burst has written and flushes that once.
 * A page is marked after it was written, never before: what was taken out of the log
 * before the write would be copied without it.
 *
 * Threads: a DirtyLog is constant and may be used by any; a cache belongs to its queue's owner.
 */
#ifndef HW_SVQ_DIRTY_LOG_H
#define HW_SVQ_DIRTY_LOG_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/virtio/memory-map.h"

#define DIRTY_LOG_PAGE_BITS 12      /* VHOST_LOG_PAGE: 4096 bytes, whatever the host's pages */
#define DIRTY_LOG_CACHE     32      /* words that a cache gathers */

typedef struct DirtyLog {
    _Atomic uint64_t *words;    /* little-endian */
    uint64_t n_pages;
    MemoryRegion *region;       /* what @words lie in */
    _Atomic unsigned int refs;
} DirtyLog;

/* Bits of words that the log has not got yet, by word number modulo DIRTY_LOG_CACHE. */
typedef struct DirtyLogCache {
    uint32_t used;              /* bit i: entry i has bits */
    struct {
        uint64_t word;
        uint64_t bits;
    } entries[DIRTY_LOG_CACHE];
} DirtyLogCache;

/*
 * A log in @region, the shared memory that the VMM gave, from its first byte on; takes a reference.
 * NULL and @errp: not aligned to 8 bytes within its file.
 */
DirtyLog *dirty_log_new(MemoryRegion *region, GError **errp);
DirtyLog *dirty_log_ref(DirtyLog *log);
void dirty_log_unref(DirtyLog *log);

/* Whether the log has a bit for each page of @map. */
bool dirty_log_covers(const DirtyLog *log, const MemoryMap *map);

/*
 * [gpa, gpa + len) was written.  In the log after dirty_log_flush().  What lies beyond the
 * log is left out: nobody copies it.
 */
void dirty_log_mark(const DirtyLog *log, DirtyLogCache *cache, uint64_t gpa, uint64_t len);

/* Puts what was gathered into the log. */
void dirty_log_flush(const DirtyLog *log, DirtyLogCache *cache);

#endif
