/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Going on from the record of a packed queue: whether the ring is the record's, and where it
 * stands.
 *
 * How it works.  A packed ring has no indexes, so what tells are the AVAIL and USED flags of its
 * descriptors: from the used position once round the ring none can be used, what is in flight
 * must be available, and where the last burst began there must be a used descriptor, unless
 * that is available again.
 */
#include <string.h>

#include "vring-inflight-internal.h"

#define AVAIL_USED (VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED)

/* Packed ring positions as numbers below 2 * num: the rounds with wrap counter 1 come first. */

static uint32_t position_decode(const VringDevice *vr, uint16_t position)
{
    return (position & 0x7fff) + (position & 0x8000 ? 0 : vr->num);
}

static uint16_t position_encode(const VringDevice *vr, uint32_t position)
{
    return (uint16_t)(position < vr->num ? position | 0x8000 : position - vr->num);
}

static uint32_t position_add(const VringDevice *vr, uint32_t position, uint64_t n)
{
    return (uint32_t)((position + n) % (2 * (uint64_t)vr->num));
}

static uint32_t position_distance(const VringDevice *vr, uint32_t from, uint32_t to)
{
    return to >= from ? to - from : to + 2 * vr->num - from;
}

static uint32_t position_index(const VringDevice *vr, uint32_t position)
{
    return position < vr->num ? position : position - vr->num;
}

static uint16_t flags_available(const VringDevice *vr, uint32_t position)
{
    return position < vr->num ? VRING_PACKED_F_AVAIL : VRING_PACKED_F_USED;
}

static uint16_t flags_used(const VringDevice *vr, uint32_t position)
{
    return position < vr->num ? AVAIL_USED : 0;
}

static uint16_t flags_at(const VringDevice *vr, uint32_t position)
{
    return le64_load(&vr->desc[position_index(vr, position)].meta) >> 48 & AVAIL_USED;
}

const char *inflight_stand_packed(const VringDevice *vr, Standing *standing)
{
    const VringBase base = vr->inflight->base;
    const uint32_t published = atomic_load_explicit(&vr->inflight->published,
                                                    memory_order_relaxed);
    const uint16_t first = (uint16_t)published, next = (uint16_t)(published >> 16);
    const uint64_t held = atomic_load_explicit(&vr->inflight->held, memory_order_relaxed);
    const uint64_t taken = inflight_taken(vr);

    if ((base.avail & 0x7fff) >= vr->num || (base.used & 0x7fff) >= vr->num ||
        (first & 0x7fff) >= vr->num || (next & 0x7fff) >= vr->num) {
        return INFLIGHT_DAMAGED;
    }
    standing->first = position_decode(vr, first);
    standing->published = position_decode(vr, next);
    standing->avail = position_add(vr, position_decode(vr, base.avail), taken);
    standing->used = position_add(vr, position_decode(vr, base.used), taken - standing->in_flight);
    standing->between = standing->in_flight + position_distance(vr, position_decode(vr, base.used),
                                                                position_decode(vr, base.avail));
    if (standing->between > vr->num ||
        position_distance(vr, standing->published, standing->used) > vr->num) {
        return INFLIGHT_DAMAGED;
    }
    if (standing->used != standing->published &&
        ((held >> 48 & AVAIL_USED) != flags_used(vr, standing->published) ||
         (held >> 32 & UINT16_MAX) >= vr->num)) {
        return INFLIGHT_DAMAGED;
    }
    return NULL;
}

/*
 * Packed: a put may have written its used element without clearing its slot yet.  Then the
 * flags at the used position say so, for nobody but us writes those, and it is completed.
 * False: the buffer named there is not in flight.
 */
static bool complete_put(VringDevice *vr, Standing *standing)
{
    const uint32_t at = standing->used;
    uint32_t id, i;

    /* The first of a burst is not in the ring. */
    if (at == standing->published || flags_at(vr, at) != flags_used(vr, at)) {
        return true;
    }
    id = le64_load(&vr->desc[position_index(vr, at)].meta) >> 32 & UINT16_MAX;
    for (i = 0; i < standing->n; i++) {
        Pending *buffer = &standing->pending[i];

        if (buffer->id == id && (!vr->in_order || i == standing->n - 1)) {
            inflight_clear_slot(vr, id);
            standing->in_flight -= buffer->n_descs;
            standing->between -= buffer->n_descs;
            standing->used = position_add(vr, at, buffer->n_descs);
            standing->n--;
            memmove(buffer, buffer + 1, (standing->n - i) * sizeof(*buffer));
            return true;
        }
    }
    return false;
}

/* Packed: whether @buffer is what the driver made available at position @at. */
static bool is_available_at(const VringDevice *vr, const Pending *buffer, uint32_t at)
{
    const uint32_t last = position_index(vr, position_add(vr, at, buffer->n_descs - 1));

    return flags_at(vr, at) == flags_available(vr, at) &&
           (le64_load(&vr->desc[last].meta) >> 32 & UINT16_MAX) == buffer->id;
}

/* Packed: how far behind the used position @buffer begins; num or more: it was overtaken. */
static uint32_t distance_of(const VringDevice *vr, const Standing *standing, const Pending *buffer)
{
    return buffer->age <= standing->between ? standing->between - (uint32_t)buffer->age : vr->num;
}

/* Packed: whether the driver can have made available what the record says that it has. */
static bool avail_fits_packed(const VringDevice *vr, const Standing *standing)
{
    const uint32_t end = standing->dropped ? standing->before_dropped : vr->num;
    const uint32_t last = position_add(vr, standing->used, vr->num - 1);
    uint32_t i;

    for (i = 0; i < standing->n; i++) {
        const Pending *buffer = &standing->pending[i];
        uint32_t distance = distance_of(vr, standing, buffer);

        /* Where it was overtaken, there are used descriptors. */
        if (distance < end &&
            !is_available_at(vr, buffer, position_add(vr, standing->used, distance))) {
            return false;
        }
    }
    /* The driver goes through the ring in order: not the last before the next. */
    return standing->between == vr->num || standing->dropped ||
           flags_at(vr, standing->avail) == flags_available(vr, standing->avail) ||
           flags_at(vr, last) != flags_available(vr, last);
}

/*
 * Packed: whether the last burst begins with a descriptor that is used, or available for the next
 * round since; or, if nobody said that it was published, available still.
 */
static bool burst_fits_packed(const VringDevice *vr, const Standing *standing, uint32_t end)
{
    const bool open = standing->used != standing->published;
    const uint32_t first = open ? standing->published : standing->first;

    if (open && flags_at(vr, first) == flags_available(vr, first)) {
        return true;
    }
    return first == standing->used ||   /* there was none */
           vr->num - position_distance(vr, first, standing->used) >= end ||
           !((flags_at(vr, first) ^ flags_used(vr, first)) & VRING_PACKED_F_USED);
}

/* Packed: whether what is used in the ring is what the record says that we used. */
static bool used_fits_packed(const VringDevice *vr, const Standing *standing)
{
    const uint32_t end = standing->dropped ? standing->before_dropped : vr->num;
    uint32_t i;

    /* Not yet used are all descriptors, from the used position once round the ring. */
    for (i = 0; i < end; i++) {
        uint32_t at = position_add(vr, standing->used, i);

        if (flags_at(vr, at) == flags_used(vr, at)) {
            return false;
        }
    }
    return burst_fits_packed(vr, standing, end);
}

/*
 * Packed.  A VMM whose back end was killed cannot know where the queue stands, and has nothing
 * else to say than before.  But QEMU itself may go on from there: it drops what its guest still
 * sends, if it finds anything available at that place.  Then it says where it stopped.  What
 * lies before the place was used long ago, or has to be used now.  False: it means something else.
 */
static bool find_dropped(const VringDevice *vr, const VringConfig *config, Standing *standing)
{
    const uint16_t said = config->identity.base.avail, before = vr->inflight->identity.base.avail;
    uint32_t from, distance;

    if (said == before) {
        return true;
    }
    if ((said & 0x7fff) >= vr->num || (before & 0x7fff) >= vr->num) {
        return false;
    }
    from = position_decode(vr, before);
    if (position_distance(vr, from, position_decode(vr, said)) > vr->num ||
        (flags_at(vr, from) ^ flags_used(vr, from)) & VRING_PACKED_F_USED) {
        return false;
    }
    distance = position_distance(vr, standing->used, from);
    standing->dropped = distance < vr->num;
    standing->before_dropped = distance;
    return true;
}

const char *inflight_check_packed(VringDevice *vr, const VringConfig *config, Standing *standing)
{
    const uint32_t used = standing->used;

    if (!find_dropped(vr, config, standing)) {
        return "the queue starts somewhere else";
    }
    if (!(standing->dropped && standing->before_dropped == 0) && !complete_put(vr, standing)) {
        return "other descriptors are used in the ring";
    }
    if (standing->dropped) {
        standing->before_dropped -= position_distance(vr, used, standing->used);
    }
    if (!used_fits_packed(vr, standing)) {
        return "other descriptors are used in the ring";
    }
    return avail_fits_packed(vr, standing) ? NULL : "other descriptors are available in the ring";
}

/* Packed: takes the next buffer, to put it back unseen.  False: there is none. */
static bool take_unseen(VringDevice *vr)
{
    VringAvailable buffer = { .descs = 1 };
    VringTaking t;
    const int room = vring_device_begin_taking(vr, true, 1, &t);
    uint32_t i = t.idx;
    uint64_t meta;

    meta = le64_load_acquire(&vr->desc[i].meta);
    if (!vring_device_desc_is_avail(t.flags, meta)) {
        return false;
    }
    while (meta >> 48 & VRING_DESC_F_NEXT && buffer.descs < (uint32_t)room) {
        i = i + 1 < vr->num ? i + 1 : 0;
        meta = le64_load(&vr->desc[i].meta);
        buffer.descs++;
    }
    buffer.id = meta >> 32 & UINT16_MAX;
    if (buffer.descs > (uint32_t)room || vring_device_check_id(vr, &t, buffer.id) < 0) {
        return false;
    }
    vring_device_accept(vr, true, vr->order, &t, &buffer);
    vring_device_end_taking(vr, true, &t);
    return true;
}

/* Packed: puts back what lies before that which the VMM dropped; then it stands where that says. */
void inflight_complete_before_dropped(VringDevice *vr, const Standing *standing)
{
    g_autofree Pending *pending = g_new(Pending, vr->num);
    uint32_t n, i;

    for (i = 0; i < standing->n; i++) {
        const Pending *buffer = &standing->pending[i];
        uint32_t distance = distance_of(vr, standing, buffer);

        if (distance < vr->num && distance >= standing->before_dropped) {
            vring_device_untake(vr, true, buffer->id);
        }
    }
    while (vring_device_descs_in_flight(vr, inflight_taken(vr)) < standing->before_dropped &&
           take_unseen(vr)) {
    }
    n = inflight_list(vr, pending);
    for (i = n; i > 0; i--) {
        vring_device_put(vr, true, pending[i - 1].id, 0);
    }
    vring_device_publish(vr, true);
    vr->recovery.completed = n;
}

void inflight_step_in_packed(VringDevice *vr, const Standing *standing)
{
    const uint32_t first = standing->published;

    vr->avail_idx = (uint16_t)position_index(vr, standing->avail);
    vr->avail_flags = flags_available(vr, standing->avail);
    vr->used_idx = (uint16_t)position_index(vr, standing->used);
    vr->used_flags = flags_used(vr, standing->used);
    vr->put = inflight_taken(vr) - standing->in_flight;
    if (standing->used == first) {
        return;
    }
    if (flags_at(vr, first) == flags_available(vr, first)) {
        vr->held = true;
        vr->held_idx = (uint16_t)position_index(vr, first);
        vring_device_publish(vr, true);
        return;
    }
    /* It is published; only that it is has still to be said. */
    atomic_store_explicit(&vr->inflight->published,
                          vring_inflight_published(position_encode(vr, first),
                                                   position_encode(vr, standing->used)),
                          memory_order_relaxed);
}

