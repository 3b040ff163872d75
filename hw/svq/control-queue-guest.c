/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control command in the guest's memory: fetched once, and answered there.
 *
 * How it works.  The guest's elements may lie anywhere and straddle regions, and the map may be
 * another when the answer comes: each byte is looked up when it is copied.
 */
#include "control-queue-internal.h"

#include <string.h>

/*
 * Where guest address @gpa lies, and @part, how many of @n bytes follow it there.  NULL: nowhere.
 */
static uint8_t *find_part(const MemoryMap *map, uint64_t gpa, uint64_t n, uint64_t *part)
{
    const MemoryRange *range = memory_map_find(map, gpa, 1);

    if (!range) {
        return NULL;
    }
    *part = MIN(n, range->size - (gpa - range->gpa));
    return range->host + (gpa - range->gpa);
}

/* Each byte is loaded once, atomically: the guest may write there at any time. */
static void load_bytes(uint8_t *bytes, const uint8_t *host, uint64_t n)
{
    const uint8_t *end = host + n;

    while (host < end) {
        if ((uintptr_t)host % sizeof(le64) || (size_t)(end - host) < sizeof(le64)) {
            *bytes++ = atomic_load_explicit((const _Atomic uint8_t *)host++, memory_order_relaxed);
        } else {
            const uint64_t word = htole64(le64_load((const void *)host));

            memcpy(bytes, &word, sizeof(word));
            bytes += sizeof(word);
            host += sizeof(word);
        }
    }
}

int control_copy_command(ShadowVirtqueue *svq, const VringSegment *seg, unsigned int n,
                         uint8_t *bytes)
{
    const MemoryMap *map = rcu_dereference(*svq->map);
    unsigned int i;

    for (i = 0; i < n; i++) {
        uint64_t done, part;

        for (done = 0; done < seg[i].len; done += part) {
            const uint8_t *host = find_part(map, seg[i].addr + done, seg[i].len - done, &part);

            if (!host) {
                return vring_fail(&svq->guest.error, "buffer leaves the guest's memory", "2.7.5",
                                  i, seg[i].addr);
            }
            load_bytes(bytes, host, part);
            bytes += part;
        }
    }
    return 0;
}

void control_note_reply(ControlReply *reply, const VringSegment *seg, unsigned int n, uint16_t id)
{
    unsigned int i;

    reply->id = id;
    reply->n = 0;
    reply->size = 0;
    for (i = 0; i < n && reply->size < CONTROL_REPLY_MAX; i++) {
        const uint32_t len = MIN(seg[i].len, CONTROL_REPLY_MAX - reply->size);

        reply->seg[reply->n++] = (VringSegment){ seg[i].addr, len, seg[i].flags };
        reply->size += len;
    }
}

/* Writes @bytes to guest address @gpa.  Returns how many; fewer: the rest is not in memory. */
static uint64_t store_bytes(const MemoryMap *map, uint64_t gpa, const uint8_t *bytes, uint64_t n)
{
    uint64_t done, part;

    for (done = 0; done < n; done += part) {
        uint8_t *host = find_part(map, gpa + done, n - done, &part);

        if (!host) {
            break;
        }
        memcpy(host, bytes + done, part);
    }
    return done;
}

/*
 * Stores @n bytes where @reply has room, and marks them.  Returns how many of the elements took all
 * that is theirs; *@done: the bytes of these.
 */
static unsigned int store_reply(ShadowVirtqueue *svq, const ControlReply *reply,
                                const uint8_t *bytes, uint32_t n, uint32_t *done)
{
    const SvqLogging *logging = svq->control->logging;
    const MemoryMap *map = rcu_dereference(*svq->map);
    unsigned int i;

    *done = 0;
    for (i = 0; i < reply->n && *done < n; i++) {
        const uint32_t part = MIN(reply->seg[i].len, n - *done);
        const uint64_t stored = store_bytes(map, reply->seg[i].addr, bytes + *done, part);

        if (logging && logging->data) {
            dirty_log_mark_many(logging->log, reply->seg[i].addr, stored);
        }
        if (stored < part) {
            break;
        }
        *done += part;
    }
    return i;
}

void control_answer(ShadowVirtqueue *svq, const ControlReply *reply, const uint8_t *bytes,
                    uint32_t n)
{
    uint32_t done;
    const unsigned int i = store_reply(svq, reply, bytes, n, &done);

    if (done < MIN(n, reply->size)) {
        vring_fail(&svq->guest.error, "the place of an answer is not in memory any more", "2.7.5",
                   i, reply->seg[i].addr);
        svq_break(svq, "guest", &svq->guest.error);
        return;
    }
    vring_device_put(&svq->guest, svq->guest.packed, reply->id, done);
    svq_counter_add(&svq->counters.returned, 1);
}

void control_answer_ack(ShadowVirtqueue *svq, const ControlReply *reply, uint8_t ack)
{
    control_answer(svq, reply, &ack, sizeof(ack));
}

void control_publish_answers(ShadowVirtqueue *svq)
{
    ControlQueue *cq = svq->control;

    /* Once for all of them: to keep a state takes longer than to change it. */
    if (cq->state_changed) {
        cq->state_changed = false;
        cq->config.changed(cq->config.opaque);
    }
    svq_publish_to_guest(svq, svq->guest.packed, cq->logging);
}

void control_deny_answers(ShadowVirtqueue *svq)
{
    ControlQueue *cq = svq->control;
    const uint8_t ack = NET_CTRL_ERR;
    unsigned int i;

    cq->logging = rcu_dereference(*svq->logging);
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        uint32_t done;

        if (cq->slots[i].state == SLOT_GUEST) {
            store_reply(svq, &cq->slots[i].reply, &ack, sizeof(ack), &done);
        }
    }
}
