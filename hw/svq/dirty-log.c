/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty bitmap shared with a VMM, and the cache in front of it. */
#include "hw/svq/dirty-log.h"

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

void dirty_log_mark_many(const DirtyLog *log, uint64_t gpa, uint64_t len)
{
    DirtyLogCache cache = { 0 };
    uint64_t page = gpa >> DIRTY_LOG_PAGE_BITS, last;

    if (!len || page >= log->n_pages) {
        return;
    }
    last = MIN((gpa + (len - 1)) >> DIRTY_LOG_PAGE_BITS, log->n_pages - 1);
    while (page <= last) {
        const uint64_t end_of_word = page | (DIRTY_LOG_WORD_BITS - 1);

        dirty_log_mark_word(log, &cache, page, MIN(last, end_of_word));
        page = end_of_word + 1;
    }
    dirty_log_flush(log, &cache);
}
