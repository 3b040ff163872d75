/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty bitmap shared with a VMM, and the cache in front of it. */
#include "hw/svq/dirty-log.h"

#include <endian.h>

#define WORD_BITS 64

DirtyLog *dirty_log_new(MemoryRegion *region, GError **errp)
{
    DirtyLog *log;

    if ((uintptr_t)region->host % sizeof(uint64_t)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "dirty log at offset %" G_GUINT64_FORMAT ", must be a multiple of 8",
                    region->fd_offset);
        return NULL;
    }
    log = g_new(DirtyLog, 1);
    log->region = memory_region_ref(region);
    log->words = (_Atomic uint64_t *)region->host;
    /* The last word may be there in part: the mapping goes on to the end of its page. */
    log->n_pages = region->size > UINT64_MAX / 8 ? UINT64_MAX : region->size * 8;
    atomic_init(&log->refs, 1);
    return log;
}

DirtyLog *dirty_log_ref(DirtyLog *log)
{
    atomic_fetch_add_explicit(&log->refs, 1, memory_order_relaxed);
    return log;
}

void dirty_log_unref(DirtyLog *log)
{
    /* Each release pairs with the acquire of the last. */
    if (log && atomic_fetch_sub_explicit(&log->refs, 1, memory_order_acq_rel) == 1) {
        memory_region_unref(log->region);
        g_free(log);
    }
}

bool dirty_log_covers(const DirtyLog *log, const MemoryMap *map)
{
    const MemoryRange *last;

    if (!map->n) {
        return true;
    }
    last = &map->ranges[map->n - 1];
    return (last->gpa + (last->size - 1)) >> DIRTY_LOG_PAGE_BITS < log->n_pages;
}

static void flush_entry(const DirtyLog *log, DirtyLogCache *cache, unsigned int i)
{
    const uint64_t word = cache->entries[i].word;

    cache->used &= ~(UINT32_C(1) << i);
    if (word > (log->n_pages - 1) / WORD_BITS) {
        return;         /* marked for a longer log: better a page too few than a stray write */
    }
    /*
     * Release: pairs with the VMM's acquire when it takes the bits out; then it sees the page
     * as we saw it.
     */
    atomic_fetch_or_explicit(&log->words[word], htole64(cache->entries[i].bits),
                             memory_order_release);
}

static void mark_bits(const DirtyLog *log, DirtyLogCache *cache, uint64_t word, uint64_t bits)
{
    const unsigned int i = word % DIRTY_LOG_CACHE;

    if (cache->used & UINT32_C(1) << i) {
        if (cache->entries[i].word == word) {
            cache->entries[i].bits |= bits;
            return;
        }
        flush_entry(log, cache, i);
    }
    cache->entries[i].word = word;
    cache->entries[i].bits = bits;
    cache->used |= UINT32_C(1) << i;
}

void dirty_log_mark(const DirtyLog *log, DirtyLogCache *cache, uint64_t gpa, uint64_t len)
{
    uint64_t page = gpa >> DIRTY_LOG_PAGE_BITS, last, word;

    if (!len || page >= log->n_pages) {
        return;
    }
    last = MIN((gpa + (len - 1)) >> DIRTY_LOG_PAGE_BITS, log->n_pages - 1);
    for (word = page / WORD_BITS; word <= last / WORD_BITS; word++) {
        uint64_t bits = UINT64_MAX << page % WORD_BITS;

        if (word == last / WORD_BITS) {
            bits &= UINT64_MAX >> (WORD_BITS - 1 - last % WORD_BITS);
        }
        mark_bits(log, cache, word, bits);
        page = 0;       /* of the next word: from its first bit on */
    }
}

void dirty_log_flush(const DirtyLog *log, DirtyLogCache *cache)
{
    while (cache->used) {
        flush_entry(log, cache, (unsigned int)__builtin_ctz(cache->used));
    }
}
