/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of the buffers in flight when the device does not complete them, and going on
 * with a queue from the record that a killed process left.
 *
 * How it works.  A record is nothing to rely on: it may be damaged, or of a ring that its driver
 * has reset meanwhile.  So it is checked in itself, then against the ring: what the driver and we
 * wrote there must be what a driver and a device write that stand where the record says.
 * Only then the queue goes on.  All steps of that are the ordinary ones, in an order that
 * lets another kill find a record from which to go on.
 */
#include "hw/virtio/vring-inflight.h"

#include <stdlib.h>

#include "vring-inflight-internal.h"

static int compare_age(const void *a, const void *b)
{
    const Pending *x = a, *y = b;

    return x->age < y->age ? -1 : x->age > y->age;
}

/* What is in flight, the youngest first, into pending[0..n).  Slots of age 0 do not count. */
uint32_t inflight_list(const VringDevice *vr, Pending *pending)
{
    const uint64_t taken = inflight_taken(vr);
    uint32_t n = 0, i;

    for (i = 0; i < vr->num; i++) {
        uint64_t slot = inflight_slot(vr, i);
        uint64_t age = (taken - vring_slot_seq(slot)) & VRING_SLOT_SEQ_MASK;

        if (slot && age) {
            pending[n++] = (Pending){ age, vring_slot_descs(slot), (uint16_t)i,
                                      vring_slot_is_writable(slot) };
        }
    }
    qsort(pending, n, sizeof(pending[0]), compare_age);
    return n;
}

/* IN_ORDER: the device has completed it, but older ones keep it from the driver. */
static bool is_done(const VringDevice *vr, const Pending *buffer)
{
    return vr->order && vr->order[(inflight_taken(vr) - buffer->age) & vr->order_mask].done;
}

/* How many of pending[0..n) can be offered again: the youngest, as long as none is missing. */
static uint32_t count_offered_again(const VringDevice *vr, const Pending *pending, uint32_t n,
                                    bool lost)
{
    uint64_t age = 0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        const Pending *buffer = &pending[i];

        if (buffer->age != age + buffer->n_descs || is_done(vr, buffer) ||
            (lost && !buffer->writable)) {
            break;
        }
        age = buffer->age;
    }
    return i;
}

bool vring_device_can_offer_again(const VringDevice *vr)
{
    g_autofree Pending *pending = g_new(Pending, vr->num);
    const uint32_t n = inflight_list(vr, pending);

    return count_offered_again(vr, pending, n, false) == n;
}

unsigned int vring_device_settle(VringDevice *vr, bool lost, unsigned int *offered)
{
    g_autofree Pending *pending = g_new(Pending, vr->num);
    const uint32_t n = inflight_list(vr, pending);
    const uint32_t again = count_offered_again(vr, pending, n, lost);
    unsigned int put = 0;
    uint32_t i;

    for (i = n; i > again; i--) {
        /* IN_ORDER: one that was done has gone with those before it. */
        if (vring_device_is_in_flight(vr, pending[i - 1].id)) {
            vring_device_put(vr, vr->packed, pending[i - 1].id, 0);
            put++;
        }
    }
    for (i = 0; i < again; i++) {
        vring_device_untake(vr, vr->packed, pending[i].id);
    }
    if (offered) {
        *offered = again;
    }
    return put;
}

/* Whether the slots are such as steps of ours leave them. */
static bool slots_are_whole(const VringDevice *vr, Standing *standing)
{
    uint64_t younger = 0;
    uint32_t i;

    for (i = 0; i < standing->n; i++) {
        const Pending *buffer = &standing->pending[i];

        if (buffer->n_descs == 0 || buffer->n_descs > (vr->packed ? vr->num : 1) ||
            buffer->age - younger < buffer->n_descs) {
            return false;
        }
        younger = buffer->age;
        standing->in_flight += buffer->n_descs;
        if (standing->in_flight > vr->num) {
            return false;
        }
    }
    return younger <= inflight_taken(vr) && (!vr->in_order || younger == standing->in_flight);
}

static const char *stand_split(const VringDevice *vr, Standing *standing)
{
    const VringInflight *record = vr->inflight;
    const uint64_t taken = inflight_taken(vr);

    standing->avail = (uint16_t)(record->base.avail + taken);
    standing->used = (uint16_t)(record->base.used + taken - standing->in_flight);
    standing->between = (uint16_t)(record->base.avail - record->base.used) + standing->in_flight;
    if (standing->between > vr->num ||
        (uint16_t)(standing->used - standing->published) > vr->num) {
        return INFLIGHT_DAMAGED;
    }
    return NULL;
}

static const char *check_split(const VringDevice *vr, const VringConfig *config,
                               const Standing *standing)
{
    const uint16_t used_idx = le16_load(&vr->used->idx);
    uint16_t at;
    uint32_t i;

    /* A VMM whose back end was killed finds the used index in the ring, if it looks. */
    if (config->base.avail != used_idx &&
        config->identity.base.avail != vr->inflight->identity.base.avail) {
        return "the queue starts somewhere else";
    }
    if (used_idx != standing->used && used_idx != standing->published) {
        return "the ring's used index is another";
    }
    if ((uint16_t)(le16_load(&vr->avail->idx) - standing->avail) > vr->num) {
        return "the ring's available index is another";
    }
    /* What would be published now must be what we wrote there, not a ring that was cleared. */
    for (at = (uint16_t)standing->published; at != (uint16_t)standing->used; at++) {
        uint32_t id = le32_load(&vr->used->ring[at & vr->mask].id);

        if (id >= vr->num || vring_device_is_in_flight(vr, id)) {
            return "other buffers are used in the ring";
        }
    }
    for (i = 0; i < standing->n; i++) {
        const Pending *buffer = &standing->pending[i];
        uint32_t place = (standing->avail - (uint32_t)buffer->age) & vr->mask;

        /* Where it was overtaken, the driver may have written over it. */
        if (buffer->age <= standing->between && le16_load(&vr->avail->ring[place]) != buffer->id) {
            return "other buffers are available in the ring";
        }
    }
    return NULL;
}

static const char *check(VringDevice *vr, const VringConfig *config, Standing *standing)
{
    const VringInflight *record = vr->inflight;
    const char *why;

    if (record->num != vr->num || record->packed != vr->packed ||
        record->identity.desc != config->identity.desc ||
        record->identity.driver != config->identity.driver ||
        record->identity.device != config->identity.device) {
        return "it is of another ring";
    }
    standing->n = inflight_list(vr, standing->pending);
    if (!slots_are_whole(vr, standing)) {
        return INFLIGHT_DAMAGED;
    }
    if (vr->packed) {
        why = inflight_stand_packed(vr, standing);
        return why ? why : inflight_check_packed(vr, config, standing);
    }
    standing->published = atomic_load_explicit(&record->published, memory_order_relaxed) >> 16;
    why = stand_split(vr, standing);
    return why ? why : check_split(vr, config, standing);
}

static void step_in_split(VringDevice *vr, const Standing *standing)
{
    vr->avail_idx = vr->avail_seen = (uint16_t)standing->avail;
    vr->used_idx = (uint16_t)standing->used;
    vring_device_publish(vr, false);
}

/* Steps where the record stands; what was put but not published becomes so. */
static void step_in(VringDevice *vr, const Standing *standing)
{
    const uint64_t taken = inflight_taken(vr);
    uint32_t i;

    for (i = 0; i < vr->num; i++) {
        uint64_t slot = inflight_slot(vr, i);

        /* A take that was not completed, or an untake that almost was. */
        if (slot && vring_slot_seq(slot) == (taken & VRING_SLOT_SEQ_MASK)) {
            inflight_clear_slot(vr, i);
        }
    }
    for (i = 0; vr->order && i < standing->n; i++) {
        const Pending *buffer = &standing->pending[i];

        vr->order[(taken - buffer->age) & vr->order_mask] = (VringDeviceOrder){ .id = buffer->id };
    }
    vr->next_done = taken - standing->in_flight;
    if (vr->packed) {
        inflight_step_in_packed(vr, standing);
    } else {
        step_in_split(vr, standing);
    }
}

const char *vring_device_recover(VringDevice *vr, const VringConfig *config)
{
    g_autofree Pending *pending = g_new(Pending, vr->num);
    Standing standing = { .pending = pending };
    VringRecovery *recovery = &vr->recovery;
    const char *why = check(vr, config, &standing);

    if (why) {
        return why;
    }
    step_in(vr, &standing);
    if (standing.dropped) {
        inflight_complete_before_dropped(vr, &standing);
        return "the VMM has dropped what was available";
    }
    vr->inflight->identity.base = config->identity.base;
    recovery->recovered = true;
    recovery->completed = vring_device_settle(vr, true, &recovery->offered);
    vring_device_publish(vr, vr->packed);
    vr->used_published = vr->used_idx;
    vr->put_descs = 0;
    return NULL;
}
