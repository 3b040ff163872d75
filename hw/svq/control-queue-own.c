/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control commands of our own: those that begin() and send() gave, and those that take back what
 * the device did too late.
 *
 * How it works.  They are sent in their order, as many at once as there are slots; one with a
 * barrier waits until nothing is in flight, and so takes effect after all before it.  What was done
 * too late is taken back when nothing is in flight that could change the state, with commands made
 * then: whatever the guest has reached in between is in them.  Of ours only what send() gave
 * changes the state: the others make the device what the state says already.  All together have
 * their time, so that the guest does not wait for ever behind a slow device.
 */
#include "control-queue-internal.h"

#include <string.h>

#include "hw/virtio/features.h"

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

static void clear_step(void *step)
{
    g_bytes_unref(((NetCtrlStep *)step)->bytes);
}

GArray *control_queue_steps_new(void)
{
    GArray *steps = g_array_new(FALSE, FALSE, sizeof(NetCtrlStep));

    g_array_set_clear_func(steps, clear_step);
    return steps;
}

static void clear_own(void *own)
{
    clear_step(&((ControlOwnStep *)own)->step);
}

GArray *control_own_new(void)
{
    GArray *own = g_array_new(FALSE, FALSE, sizeof(ControlOwnStep));

    g_array_set_clear_func(own, clear_own);
    return own;
}

/* @step.bytes are ours from here on. */
static void add_step(ControlQueue *cq, NetCtrlStep step, bool applies)
{
    const ControlOwnStep own = { step, applies };

    if (cq->own_left == 0) {
        control_set_own_deadline(cq);
    }
    g_array_append_val(cq->own, own);
    cq->own_left++;
}

/* @steps may be NULL. */
static void add_steps(ControlQueue *cq, const GArray *steps, bool applies)
{
    unsigned int i;

    for (i = 0; steps && i < steps->len; i++) {
        NetCtrlStep step = g_array_index(steps, NetCtrlStep, i);

        step.bytes = g_bytes_ref(step.bytes);
        add_step(cq, step, applies);
    }
}

static void add_command(ControlQueue *cq, const NetCtrlCommand *command)
{
    uint8_t bytes[NET_CTRL_HEADER_BYTES + sizeof(uint16_t)];
    NetCtrlStep step = { .barrier = false };

    step.bytes = g_bytes_new(bytes, net_ctrl_encode(command, bytes, sizeof(bytes)));
    add_step(cq, step, false);
}

static bool all_sent(const ControlQueue *cq)
{
    return cq->own_next == cq->own->len;
}

bool control_own_unsent(const ControlQueue *cq)
{
    return !all_sent(cq);
}

static bool any_waiting(const ControlQueue *cq)
{
    return control_may_find_slot(cq, 0);
}

bool control_own_first(const ControlQueue *cq)
{
    return cq->own_left || cq->late;
}

/* Of our commands @n are through. */
static void count_own(ControlQueue *cq, unsigned int n, bool failed)
{
    cq->own_left -= n;
    cq->own_failed += failed ? n : 0;
}

void control_drop_own(ControlQueue *cq)
{
    cq->doubtful |= !all_sent(cq) || cq->late;
    count_own(cq, cq->own->len - cq->own_next, true);
    g_array_set_size(cq->own, 0);
    cq->own_next = 0;
    cq->late = 0;
}

/* What a reset device has, and the state does not say. */
static void add_defaults(ControlQueue *cq, uint8_t class)
{
    const NetCtrlCommand one_pair = { .id = NET_CTRL_MQ_VQ_PAIRS_SET, .pairs = 1 };
    const NetCtrlSpec *spec = net_ctrl_spec(one_pair.id);

    if (class == spec->class && (cq->config.device_limits.features & spec->needs) &&
        net_ctrl_state_get_pairs(cq->config.state) == 0) {
        add_command(cq, &one_pair);
    }
}

/* The device gets the state, of all that it has done something of too late. */
static void take_back(ControlQueue *cq)
{
    unsigned int class;

    for (class = 0; cq->late >> class; class++) {
        g_autoptr(GArray) steps = NULL;

        if (!(cq->late >> class & 1)) {
            continue;
        }
        add_defaults(cq, (uint8_t)class);
        steps = net_ctrl_state_restore_class(cq->config.state, (uint8_t)class,
                                             &cq->config.device_limits, NULL);
        add_steps(cq, steps, false);
    }
    cq->late = 0;
}

void control_note_late(ControlQueue *cq, const ControlSlot *slot)
{
    if (!slot->known) {
        control_apply_unknown(cq, slot);        /* nobody knows how to take it back */
        return;
    }
    if (!control_slot_changes(slot)) {
        return;
    }
    if (!cq->said_late) {
        g_message("%s: the device did a command after its time was over; it gets the state of "
                  "before", cq->name);
        cq->said_late = true;
    }
    if (slot->command.id == NET_CTRL_VLAN_ADD) {
        /* No command of the state's does that.  If the VLAN is in it, it is added again. */
        const NetCtrlCommand undo = { .id = NET_CTRL_VLAN_DEL, .vlan = slot->command.vlan };

        add_command(cq, &undo);
    }
    cq->late |= 1U << net_ctrl_spec(slot->command.id)->class;
}

bool control_send_own(ShadowVirtqueue *svq)
{
    ControlQueue *cq = svq->control;
    const ControlOwnStep *own;
    NetCtrlError error;
    const void *bytes;
    ControlSlot *slot;
    gsize n;

    if (all_sent(cq) && cq->late && !any_waiting(cq)) {
        take_back(cq);
    }
    if (all_sent(cq)) {
        return false;
    }
    own = &g_array_index(cq->own, ControlOwnStep, cq->own_next);
    if (own->step.barrier && any_waiting(cq)) {
        return false;
    }
    bytes = g_bytes_get_data(own->step.bytes, &n);
    slot = control_find_slot(svq, n);
    if (!slot) {
        if (!control_may_find_slot(cq, n)) {
            control_drop_own(cq);       /* a device that has not answered so many answers none */
        }
        return false;
    }
    memcpy(slot->copy, bytes, n);
    slot->n = (uint32_t)n;
    slot->known = net_ctrl_parse(&slot->command, slot->copy, n, &cq->config.device_limits,
                                 &error) == 0;
    slot->applies = own->applies && slot->known;
    control_send_slot(svq, slot, SLOT_OWN, 1);
    svq_counter_add(&cq->counters.own, 1);
    cq->own_next++;
    if (all_sent(cq)) {
        g_array_set_size(cq->own, 0);
        cq->own_next = 0;
    }
    return true;
}

void control_finish_own(ControlQueue *cq, const ControlSlot *slot, uint8_t ack)
{
    count_own(cq, 1, ack != NET_CTRL_OK);
    if (ack == NET_CTRL_OK) {
        if (slot->applies) {
            net_ctrl_state_apply(cq->config.state, &slot->command);
            cq->state_changed = true;
        }
        return;
    }
    cq->doubtful |= !slot->applies;
    if (!cq->said_own) {
        g_autofree char *words = slot->known ? net_ctrl_to_string(&slot->command) : NULL;

        g_warning("%s: the device refuses %s", cq->name, words ? words : "a command of ours");
        cq->said_own = true;
    }
}

void control_give_up_own(ControlQueue *cq, ControlSlot *slot)
{
    slot->state = SLOT_OWN_LOST;
    cq->doubtful = true;
    count_own(cq, 1, true);
    control_drop_own(cq);
}

void control_tell_through(ControlQueue *cq)
{
    if (!cq->begun || control_own_first(cq)) {
        return;
    }
    if (!cq->own_told) {
        cq->own_told = true;
        cq->config.through(cq->config.opaque, cq->own_failed);
    }
}

/* From the main thread. */

typedef struct OwnCommand {
    ShadowVirtqueue *svq;
    GArray *steps;
    bool begin;
} OwnCommand;

static void add_own_in_owner(void *opaque)
{
    OwnCommand *command = opaque;
    ControlQueue *cq = command->svq->control;

    if (command->begin) {
        cq->begun = true;
        cq->own_failed = 0;
    }
    cq->own_told = false;
    add_steps(cq, command->steps, !command->begin);
    g_clear_pointer(&command->steps, g_array_unref);
    control_set_own_deadline(cq);
    if (cq->device_broken) {
        control_drop_own(cq);
        control_tell_through(cq);
    }
    control_wake(command->svq);
}

static void add_own(ShadowVirtqueue *svq, GArray *steps, bool begin)
{
    OwnCommand command = { svq, steps, begin };

    if (svq->ctx) {
        aio_run_in(svq->ctx, add_own_in_owner, &command);
    } else {
        add_own_in_owner(&command);
    }
}

void control_queue_begin(ShadowVirtqueue *svq, GArray *steps)
{
    add_own(svq, steps, true);
}

void control_queue_send(ShadowVirtqueue *svq, GArray *steps)
{
    add_own(svq, steps, false);
}
