/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way of a control command: from the guest's buffer to the device, and its answer back.
 * See control-queue.h and control-queue-internal.h.
 */
#include "control-queue-internal.h"

#include <string.h>

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

#define LARGE_BYTES     NET_CTRL_MAX_BYTES
#define SMALL_BYTES     1536
#define REPLY_STRIDE    128
#define REPLIES_OFFSET  (LARGE_BYTES + (CONTROL_QUEUE_SLOTS - 1) * SMALL_BYTES)
#define CONTROL_BURST   8       /* commands, or answers: each may be as long as a table */
#define NOT_ANSWERED    0xff    /* what lies in a reply before the device writes it */

G_STATIC_ASSERT(CONTROL_REPLY_MAX <= REPLY_STRIDE);
G_STATIC_ASSERT(REPLIES_OFFSET + CONTROL_QUEUE_SLOTS * REPLY_STRIDE <= CONTROL_QUEUE_BYTES);

ControlQueue *control_queue_new(const char *name)
{
    ControlQueue *cq = g_new0(ControlQueue, 1);
    uint32_t offset = 0;
    unsigned int i;

    cq->name = g_strdup(name);
    cq->own = control_own_new();
    cq->timer_fd = -1;
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        ControlSlot *slot = &cq->slots[i];

        slot->room = i == 0 ? LARGE_BYTES : SMALL_BYTES;
        slot->copy = g_malloc(slot->room);
        slot->offset = offset;
        slot->reply_offset = REPLIES_OFFSET + i * REPLY_STRIDE;
        offset += slot->room;
    }
    return cq;
}

void control_queue_free(ControlQueue *cq)
{
    unsigned int i;

    if (!cq) {
        return;
    }
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        g_free(cq->slots[i].copy);
    }
    g_array_unref(cq->own);
    g_free(cq->name);
    g_free(cq);
}

void control_queue_configure(ControlQueue *cq, const ControlQueueConfig *config)
{
    cq->config = *config;
    cq->said_refused = cq->said_late = cq->said_own = cq->said_slow = false;
    cq->doubtful = false;
}

void control_queue_stopped(ControlQueue *cq)
{
    unsigned int i;

    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        ControlSlot *slot = &cq->slots[i];

        cq->doubtful |= slot->state != SLOT_FREE && control_slot_changes(slot);
        slot->state = SLOT_FREE;
    }
    control_drop_own(cq);
    cq->own_left = 0;
    cq->begun = cq->device_broken = cq->full = false;
}

bool control_queue_is_doubtful(const ControlQueue *cq)
{
    return cq->doubtful;
}

ControlQueueCounters control_queue_get_counters(const ControlQueue *cq)
{
    return (ControlQueueCounters){
        .commands = atomic_load_explicit(&cq->counters.commands, memory_order_relaxed),
        .refused = atomic_load_explicit(&cq->counters.refused, memory_order_relaxed),
        .failed = atomic_load_explicit(&cq->counters.failed, memory_order_relaxed),
        .timed_out = atomic_load_explicit(&cq->counters.timed_out, memory_order_relaxed),
        .own = atomic_load_explicit(&cq->counters.own, memory_order_relaxed),
    };
}

/* Slots. */

/* The last that is large enough, so the large one is kept. */
ControlSlot *control_find_slot(const ShadowVirtqueue *svq, size_t n)
{
    ControlQueue *cq = svq->control;
    unsigned int i;

    for (i = CONTROL_QUEUE_SLOTS; i-- > 0 && svq->shadow.num_free >= CONTROL_SLOT_ELEMENTS;) {
        if (cq->slots[i].state == SLOT_FREE && cq->slots[i].room >= n) {
            return &cq->slots[i];
        }
    }
    return NULL;
}

/* Each answer makes room in the ring; a slot that is lost may stay so. */
bool control_may_find_slot(const ControlQueue *cq, size_t n)
{
    bool answer = false, slot = false;
    unsigned int i;

    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        const bool waiting = control_slot_is_waiting(&cq->slots[i]);

        answer |= waiting;
        slot |= cq->slots[i].room >= n && (waiting || cq->slots[i].state == SLOT_FREE);
    }
    return answer && slot;
}

void control_send_slot(ShadowVirtqueue *svq, ControlSlot *slot, ControlSlotState state,
                       uint32_t reply_size)
{
    ControlQueue *cq = svq->control;
    const ControlQueueConfig *config = &cq->config;
    const VringSegment seg[CONTROL_SLOT_ELEMENTS] = {
        { config->iova + slot->offset, slot->n, 0 },
        { config->iova + slot->reply_offset, reply_size, VRING_DESC_F_WRITE },
    };

    memcpy(config->host + slot->offset, slot->copy, slot->n);
    memset(config->host + slot->reply_offset, NOT_ANSWERED, reply_size);
    slot->state = state;
    control_set_deadline(cq, slot);
    if (config->sent && control_slot_changes(slot)) {
        config->sent(config->opaque);
    }
    vring_driver_add(&svq->shadow, svq->shadow.packed, seg, CONTROL_SLOT_ELEMENTS,
                     (uint32_t)(slot - cq->slots));
    svq_counter_add(&svq->counters.bytes, slot->n);
}

bool control_queue_is_full(const ControlQueue *cq)
{
    return cq->full;
}

void control_wake(ShadowVirtqueue *svq)
{
    if (svq->ctx && svq_is_running(svq)) {
        aio_bh_schedule(svq->ctx, &svq->work);
    }
}

/* To the device. */

static void refuse(ShadowVirtqueue *svq, const ControlReply *reply, const NetCtrlError *why)
{
    ControlQueue *cq = svq->control;

    if (!cq->said_refused) {
        g_message("%s: a command of the guest's is refused: %s (0x%" G_GINT64_MODIFIER "x), "
                  "section %s", cq->name, why->what, why->value, why->section);
        cq->said_refused = true;
    }
    svq_counter_add(&cq->counters.refused, 1);
    control_answer_ack(svq, reply, NET_CTRL_ERR);
}

/* Bytes that the device may write. */
static uint32_t reply_size(const ControlSlot *slot)
{
    /* What a command that we do not know has for an answer, its guest may know. */
    return slot->known ? 1 + net_ctrl_spec(slot->command.id)->result : slot->reply.size;
}

/* Judges the guest's command in @slot: true if it is for the device; else it has been answered. */
static bool judge(ShadowVirtqueue *svq, ControlSlot *slot)
{
    ControlQueue *cq = svq->control;
    NetCtrlError error = { 0 };
    int ret = net_ctrl_parse(&slot->command, slot->copy, slot->n, &cq->config.limits, &error);

    slot->known = ret == 0;
    if (ret == -EINVAL) {
        refuse(svq, &slot->reply, &error);
        return false;
    }
    if (slot->reply.size < reply_size(slot)) {
        error = (NetCtrlError){ "no room for the result", "5.1.6.5", slot->reply.size };
        refuse(svq, &slot->reply, &error);
        return false;
    }
    if (slot->known && slot->command.id == NET_CTRL_ANNOUNCE_ACK) {
        /* It was we who asked for it. */
        cq->config.announced(cq->config.opaque);
        control_answer_ack(svq, &slot->reply, NET_CTRL_OK);
        return false;
    }
    return true;
}

/* The guest's command in @seg[0..@n), svq->segments.  1: taken; 0: there is no room; -EPROTO. */
static int take_command(ShadowVirtqueue *svq, unsigned int n, uint16_t id, bool *sent)
{
    const VringSegment *seg = svq->segments;
    ControlQueue *cq = svq->control;
    uint64_t bytes = 0;
    unsigned int i;
    ControlSlot *slot;

    for (i = 0; i < n && !(seg[i].flags & VRING_DESC_F_WRITE); i++) {
        bytes += seg[i].len;
    }
    if (i == n) {
        return vring_fail(&svq->guest.error, "control command has no byte for its status",
                          "5.1.6.5", i, bytes);
    }
    control_note_reply(&cq->reply, seg + i, n - i, id);
    if (bytes < NET_CTRL_HEADER_BYTES || bytes > NET_CTRL_MAX_BYTES) {
        const NetCtrlError length = { "length", "5.1.6.5", bytes };

        refuse(svq, &cq->reply, &length);
        return 1;
    }
    slot = control_find_slot(svq, bytes);
    if (!slot && control_may_find_slot(cq, bytes)) {
        vring_device_untake(&svq->guest, svq->guest.packed, id);
        svq_counter_add(&svq->counters.full, 1);
        cq->full = true;
        return 0;
    }
    if (!slot || cq->device_broken) {
        svq_counter_add(&cq->counters.failed, 1);
        control_answer_ack(svq, &cq->reply, NET_CTRL_ERR);
        return 1;
    }
    slot->n = (uint32_t)bytes;
    slot->reply = cq->reply;
    if (control_copy_command(svq, seg, i, slot->copy) < 0) {
        return -EPROTO;
    }
    if (judge(svq, slot)) {
        control_send_slot(svq, slot, SLOT_GUEST, reply_size(slot));
        *sent = true;
    }
    return 1;
}

/* A burst of the guest's commands: how many were taken. */
static unsigned int take_burst(ShadowVirtqueue *svq, bool *sent)
{
    ControlQueue *cq = svq->control;
    unsigned int n = 0;

    while (!cq->full && n < CONTROL_BURST && svq_is_running(svq)) {
        uint16_t id;
        int ret = vring_device_take(&svq->guest, svq->guest.packed, rcu_dereference(*svq->map),
                                    svq->segments, SVQ_MAX_TABLE, &id);

        if (ret > 0) {
            ret = take_command(svq, (unsigned int)ret, id, sent);
        }
        if (ret < 0) {
            svq_break(svq, "guest", &svq->guest.error);
        }
        if (ret <= 0) {
            break;
        }
        svq_counter_add(&svq->counters.buffers, 1);
        svq_counter_add(&cq->counters.commands, 1);
        n++;
    }
    return n;
}

static void publish_commands(ShadowVirtqueue *svq)
{
    vring_driver_publish(&svq->shadow, svq->shadow.packed);
    if (vring_driver_needs_kick(&svq->shadow, svq->shadow.packed)) {
        svq_kick_device(svq, svq->shadow.packed);
        svq_counter_add(&svq->counters.kicks_sent, 1);
    } else {
        svq_counter_add(&svq->counters.kicks_suppressed, 1);
    }
    control_arm_timer(svq->control);
}

unsigned int control_queue_offer(ShadowVirtqueue *svq)
{
    ControlQueue *cq = svq->control;
    unsigned int n = 0;
    bool sent = false;

    if (!cq->begun) {
        cq->full = true;
        return 0;
    }
    cq->logging = rcu_dereference(*svq->logging);
    while (!cq->device_broken && control_send_own(svq)) {
        sent = true;
        n++;
    }
    control_tell_through(cq);
    cq->full = control_own_first(cq);
    n += take_burst(svq, &sent);
    if (sent) {
        publish_commands(svq);
    }
    if (n) {
        control_publish_answers(svq);
    }
    return n;
}

/* Answers. */

void control_apply_unknown(ControlQueue *cq, const ControlSlot *slot)
{
    if (net_ctrl_state_apply_unknown(cq->config.state, slot->copy[0], slot->copy[1])) {
        g_warning("%s: the guest uses a command that svqd does not know: class %u, command %u; it "
                  "cannot be restored", cq->name, slot->copy[0], slot->copy[1]);
        cq->state_changed = true;
    }
}

static void apply(ControlQueue *cq, const ControlSlot *slot)
{
    if (!slot->known) {
        control_apply_unknown(cq, slot);
    } else if (control_slot_changes(slot)) {
        net_ctrl_state_apply(cq->config.state, &slot->command);
        cq->state_changed = true;
    }
}

static void finish_guest(ShadowVirtqueue *svq, ControlSlot *slot, const uint8_t *reply,
                         uint32_t len)
{
    ControlQueue *cq = svq->control;
    const uint32_t size = reply_size(slot);

    /* An ack counts whatever its length is said to be, as in drivers; a result must be there. */
    if (reply[0] != NET_CTRL_OK || (slot->known && size > 1 && len < size)) {
        svq_counter_add(&cq->counters.failed, 1);
        control_answer_ack(svq, &slot->reply, NET_CTRL_ERR);
        return;
    }
    apply(cq, slot);
    control_answer(svq, &slot->reply, reply, slot->known ? size : CLAMP(len, 1, size));
}

/* The device has used the buffer of @slot, and says that it wrote @len bytes. */
static void finish(ShadowVirtqueue *svq, ControlSlot *slot, uint32_t len)
{
    ControlQueue *cq = svq->control;
    const ControlSlotState state = slot->state;
    uint8_t reply[CONTROL_REPLY_MAX];

    /* Once: the device can still write there. */
    memcpy(reply, cq->config.host + slot->reply_offset, sizeof(reply));
    slot->state = SLOT_FREE;
    switch (state) {
    case SLOT_GUEST:
        finish_guest(svq, slot, reply, len);
        break;
    case SLOT_OWN:
        control_finish_own(cq, slot, reply[0]);
        break;
    case SLOT_LOST:
        if (reply[0] == NET_CTRL_OK) {
            control_note_late(cq, slot);
            control_wake(svq);
        }
        break;
    case SLOT_OWN_LOST:
        /* Not taken back: a device that is always too late would never hear the end of it. */
    case SLOT_FREE:
        break;
    }
}

void control_ignore_device(ShadowVirtqueue *svq)
{
    if (svq->call_handler) {
        aio_remove_handler(svq->ctx, svq->call_handler);
        svq->call_handler = NULL;
    }
    svq->call_polled = true;    /* as far as anybody asks whether calls are wanted */
}

static void break_device(ShadowVirtqueue *svq)
{
    g_autofree char *words = NULL;
    ControlQueue *cq = svq->control;
    unsigned int i;

    cq->device_broken = true;
    if (!svq_is_running(svq)) {
        return;                 /* it is being stopped, which settles what is in flight */
    }
    words = vring_error_to_string(&svq->shadow.error);
    g_warning("%s: broken by the device: %s; commands are answered with an error", svq->name,
              words);
    svq_counter_add(&svq->counters.errors, 1);
    control_drop_own(cq);
    for (i = CONTROL_QUEUE_SLOTS; i-- > 0;) {
        if (control_slot_is_waiting(&cq->slots[i])) {
            control_give_up(svq, &cq->slots[i]);
        }
    }
    control_ignore_device(svq);
    control_wake(svq);          /* what waited for a slot */
    if (svq->broken) {
        svq->broken(svq->opaque);
    }
}

unsigned int control_queue_give_back(ShadowVirtqueue *svq)
{
    ControlQueue *cq = svq->control;
    unsigned int done;

    cq->logging = rcu_dereference(*svq->logging);
    for (done = 0; done < CONTROL_BURST && !cq->device_broken; done++) {
        VringCollected buffer = { 0 };
        int ret = vring_driver_collect_buffer(&svq->shadow, svq->shadow.packed, &buffer);

        if (ret < 0) {
            break_device(svq);
        }
        if (ret <= 0) {
            break;
        }
        finish(svq, &cq->slots[buffer.cookie], buffer.len);
    }
    if (done || cq->device_broken) {
        control_publish_answers(svq);
        control_tell_through(cq);
    }
    return done;
}
