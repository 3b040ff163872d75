/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the burst loops log while a VMM copies the guest's memory: the pages that the device
 * wrote and the places in the guest's ring that we wrote.
 *
 * How it works.  What the device wrote is gathered buffer by buffer and put into the log before
 * the burst is published, so that a guest that has its data has them logged.  What we
 * write ourselves is logged right after it was written: the other way round the VMM
 * could take the bit out and copy the page before our store.
 *
 * Threads: the queue's owner.
 */
#include "shadow-virtqueue-internal.h"

void svq_log_written_pieces(const ShadowVirtqueue *svq, const DirtyLog *log,
                            const VringCollected *buffer)
{
    VringWritten written = vring_driver_written(&svq->shadow, buffer);
    DirtyLogCache dirty = { 0 };
    uint64_t gpa;
    uint32_t len;

    while (vring_driver_next_written(&written, &gpa, &len)) {
        dirty_log_mark(log, &dirty, gpa, len);
    }
    dirty_log_flush(log, &dirty);
}

/* Elements [first, first + n) of a ring of @num, @size bytes each, whose first lies at @gpa. */
static void mark_elements(const DirtyLog *log, DirtyLogCache *dirty, uint64_t gpa, size_t size,
                          uint32_t num, uint32_t first, uint32_t n)
{
    const uint32_t to_end = MIN(n, num - first);

    dirty_log_mark(log, dirty, gpa + first * size, to_end * size);
    if (n > to_end) {
        dirty_log_mark(log, dirty, gpa, (n - to_end) * size);
    }
}

/* The used index and the elements that were published with it. */
static void mark_used_ring(const VringDevice *guest, const DirtyLog *log, DirtyLogCache *dirty,
                           uint64_t gpa)
{
    const uint32_t first = guest->used_published & guest->mask;
    const uint32_t n = (uint16_t)(guest->used_idx - guest->used_published);
    const uint64_t end = gpa + offsetof(VringUsed, ring) + (first + n) * sizeof(VringUsedElem);

    /* Most used rings lie in one page. */
    if (first + n <= guest->num && (gpa ^ (end - 1)) >> DIRTY_LOG_PAGE_BITS == 0) {
        dirty_log_mark(log, dirty, gpa, 1);
        return;
    }
    dirty_log_mark(log, dirty, gpa + offsetof(VringUsed, idx), sizeof(le16));
    mark_elements(log, dirty, gpa + offsetof(VringUsed, ring), sizeof(VringUsedElem), guest->num,
                  first, n);
}

void svq_log_used(const ShadowVirtqueue *svq, const SvqLogging *logging)
{
    const VringDevice *guest = &svq->guest;
    const DirtyLog *log = logging->log;
    DirtyLogCache dirty = { 0 };

    if (!logging->ring) {
        return;
    }
    if (guest->packed) {
        mark_elements(log, &dirty, logging->desc_gpa, sizeof(VringDesc), guest->num,
                      guest->used_published, guest->put_descs);
    } else {
        mark_used_ring(guest, log, &dirty, logging->device_gpa);
    }
    dirty_log_flush(log, &dirty);
}

void svq_log_kick_wish(const ShadowVirtqueue *svq, const SvqLogging *logging)
{
    const VringDevice *guest = &svq->guest;
    uint64_t gpa = logging->device_gpa;

    if (!logging->ring) {
        return;
    }
    if (!guest->packed && guest->event_idx) {
        gpa += offsetof(VringUsed, ring) + guest->num * sizeof(VringUsedElem);
    }
    dirty_log_mark_many(logging->log, gpa,
                        guest->packed ? sizeof(VringPackedEvent) : sizeof(le16));
}
