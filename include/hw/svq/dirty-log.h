/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DirtyLog: the bitmap in which a VMM learns which pages of the guest's memory were written
 * while it copies that memory elsewhere (vhost-user, VHOST_USER_SET_LOG_BASE).
 *
 * How it works.  A bit for each page of guest-physical address, page N in bit N % 8 of byte N / 8.
 * The VMM takes bits out while we put bits in, so they are put in by atomic OR, 64 at a time:
 * each queue gathers in a DirtyLogCache what belongs to one word, until the next one's turn.
 * A page is marked after it was written, never before: what was taken out of the log
 * before the write would be copied without it.
 *
 * Threads: a DirtyLog is constant and may be used by any; a cache belongs to its queue's owner.
 */
#ifndef HW_SVQ_DIRTY_LOG_H
#define HW_SVQ_DIRTY_LOG_H

#include <endian.h>
#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/virtio/memory-map.h"

#define DIRTY_LOG_PAGE_BITS 12      /* VHOST_LOG_PAGE: 4096 bytes, whatever the host's pages */
#define DIRTY_LOG_WORD_BITS 64      /* pages of a word */

typedef struct DirtyLog {
    _Atomic uint64_t *words;    /* little-endian */
    uint64_t n_pages;
    MemoryRegion *region;       /* what @words lie in */
    _Atomic unsigned int refs;
} DirtyLog;

/* Bits of a word that the log has not got yet; 0: none.  For one log: it is flushed in between. */
typedef struct DirtyLogCache {
    uint64_t word;
    uint64_t bits;
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

/* Puts what was gathered into the log. */
static inline void dirty_log_flush(const DirtyLog *log, DirtyLogCache *cache)
{
    if (cache->bits) {
        /*
         * Release: pairs with the VMM's acquire when it takes the bits out; then it sees the page
         * as we saw it.
         */
        atomic_fetch_or_explicit(&log->words[cache->word], htole64(cache->bits),
                                 memory_order_release);
        cache->bits = 0;
    }
}

/* Pages first to last, which are in the log and in one word of it, were written. */
static inline void dirty_log_mark_word(const DirtyLog *log, DirtyLogCache *cache, uint64_t first,
                                       uint64_t last)
{
    const uint64_t word = first / DIRTY_LOG_WORD_BITS;
    const uint64_t bits = (UINT64_C(2) << last % DIRTY_LOG_WORD_BITS) -
                          (UINT64_C(1) << first % DIRTY_LOG_WORD_BITS);

    if (word != cache->word) {
        dirty_log_flush(log, cache);
        cache->word = word;
    }
    cache->bits |= bits;
}

/* dirty_log_mark() where that is more than a word, or not all in the log: is in the log at once. */
void dirty_log_mark_many(const DirtyLog *log, uint64_t gpa, uint64_t len);

/*
 * [gpa, gpa + len), which is not empty, was written.  In the log after dirty_log_flush().  What lies
 * beyond the log is left out: nobody copies it.
 */
static inline void dirty_log_mark(const DirtyLog *log, DirtyLogCache *cache, uint64_t gpa,
                                  uint64_t len)
{
    const uint64_t first = gpa >> DIRTY_LOG_PAGE_BITS;
    const uint64_t last = (gpa + (len - 1)) >> DIRTY_LOG_PAGE_BITS;

    if (G_LIKELY(last < log->n_pages && (first ^ last) < DIRTY_LOG_WORD_BITS)) {
        dirty_log_mark_word(log, cache, first, last);
    } else {
        dirty_log_mark_many(log, gpa, len);
    }
}

#endif
