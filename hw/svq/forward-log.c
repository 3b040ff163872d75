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

/* The guest's name for what the device calls @iova; that is the same for most devices. */
static uint64_t gpa_of(const MemoryMap *map, uint64_t iova)
{
    return map->identity ? iova : memory_map_gpa_of_iova(map, iova);
}

void svq_log_written(ShadowVirtqueue *svq, const SvqLogging *logging, const VringCollected *buffer)
{
    const MemoryMap *map = rcu_dereference(*svq->map);
    VringWritten written = vring_driver_written(&svq->shadow, buffer);
    uint64_t iova;
    uint32_t len;

    if (!logging->data) {
        return;
    }
    while (vring_driver_next_written(&written, &iova, &len)) {
        dirty_log_mark(logging->log, &svq->dirty, gpa_of(map, iova), len);
    }
}

/* Elements [first, first + n) of a ring of @num, @size bytes each, whose first lies at @gpa. */
static void mark_elements(ShadowVirtqueue *svq, const SvqLogging *logging, uint64_t gpa,
                          size_t size, uint32_t num, uint32_t first, uint32_t n)
{
    const uint32_t to_end = MIN(n, num - first);

    dirty_log_mark(logging->log, &svq->dirty, gpa + first * size, to_end * size);
    dirty_log_mark(logging->log, &svq->dirty, gpa, (n - to_end) * size);
}

void svq_log_used(ShadowVirtqueue *svq, const SvqLogging *logging)
{
    const VringDevice *guest = &svq->guest;

    if (!logging->ring) {
        return;
    }
    if (guest->packed) {
        mark_elements(svq, logging, logging->desc_gpa, sizeof(VringDesc), guest->num,
                      guest->used_published, guest->put_descs);
    } else {
        dirty_log_mark(logging->log, &svq->dirty,
                       logging->device_gpa + offsetof(VringUsed, idx), sizeof(le16));
        mark_elements(svq, logging, logging->device_gpa + offsetof(VringUsed, ring),
                      sizeof(VringUsedElem), guest->num, guest->used_published & guest->mask,
                      (uint16_t)(guest->used_idx - guest->used_published));
    }
    dirty_log_flush(logging->log, &svq->dirty);
}

void svq_log_kick_wish(ShadowVirtqueue *svq, const SvqLogging *logging)
{
    const VringDevice *guest = &svq->guest;
    uint64_t gpa = logging->device_gpa;

    if (!logging->ring) {
        return;
    }
    if (!guest->packed && guest->event_idx) {
        gpa += offsetof(VringUsed, ring) + guest->num * sizeof(VringUsedElem);
    }
    dirty_log_mark(logging->log, &svq->dirty, gpa,
                   guest->packed ? sizeof(VringPackedEvent) : sizeof(le16));
    dirty_log_flush(logging->log, &svq->dirty);
}
