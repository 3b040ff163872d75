/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What acknowledged commands have made of a device, and which commands make it again.
 *
 * How it works.  A state is the least list of commands that has the same effect.  Of most commands
 * the last one counts and is kept as it is; VLANs are a set; queues with coalescing of their own an
 * array.  What a command replaces besides its like:
 * - VQ_PAIRS_SET and RSS_CONFIG each other: the last one says how packets are steered (5.1.6.5.5).
 *   RSS_CONFIG also HASH_CONFIG, whose fields it has.
 * - NOTF_COAL_TX_SET and _RX_SET those of each queue of their direction (5.1.6.5.9).
 * - Fewer queues those of the queues that end: enabled again they have the direction's.
 */
#include "net-ctrl-internal.h"

#include <string.h>

/* Whether the last of its kind is what counts. */
static bool has_slot(NetCtrlId id)
{
    switch (id) {
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
    case NET_CTRL_ANNOUNCE_ACK:
    case NET_CTRL_NOTF_COAL_VQ_SET:
    case NET_CTRL_NOTF_COAL_VQ_GET:
        return false;
    default:
        return true;
    }
}

static size_t slot_size(NetCtrlId id)
{
    return has_slot(id) ? NET_CTRL_HEADER_BYTES + net_ctrl_spec(id)->data_max : 0;
}

NetCtrlState *net_ctrl_state_new(void)
{
    NetCtrlState *state;
    size_t room = 0;
    unsigned int i;

    for (i = 0; i < NET_CTRL_COUNT; i++) {
        room += slot_size(i);
    }
    state = g_malloc(sizeof(*state) + room);
    memset(state, 0, sizeof(*state));
    room = 0;
    for (i = 0; i < NET_CTRL_COUNT; i++) {
        state->slots[i].bytes = state->room + room;
        room += slot_size(i);
    }
    return state;
}

void net_ctrl_state_free(NetCtrlState *state)
{
    g_free(state);
}

void net_ctrl_state_clear(NetCtrlState *state)
{
    unsigned int i;

    for (i = 0; i < NET_CTRL_COUNT; i++) {
        state->slots[i].n = 0;
    }
    state->hash_first = false;
    memset(state->vlans, 0, sizeof(state->vlans));
    memset(state->vq_set, 0, sizeof(state->vq_set));
    state->n_unknown = 0;
}

void net_ctrl_state_copy(NetCtrlState *to, const NetCtrlState *from)
{
    unsigned int i;

    for (i = 0; i < NET_CTRL_COUNT; i++) {
        to->slots[i].n = from->slots[i].n;
        memmove(to->slots[i].bytes, from->slots[i].bytes, from->slots[i].n);
    }
    to->hash_first = from->hash_first;
    memmove(to->vlans, from->vlans, sizeof(to->vlans));
    memmove(to->vq_set, from->vq_set, sizeof(to->vq_set));
    memmove(to->vq_coal, from->vq_coal, sizeof(to->vq_coal));
    to->n_unknown = from->n_unknown;
    memmove(to->unknown, from->unknown, sizeof(to->unknown));
}

static void find_any(void *opaque, const NetCtrlCommand *command, bool barrier)
{
    *(bool *)opaque = true;
}

bool net_ctrl_state_is_empty(const NetCtrlState *state)
{
    bool any = state->n_unknown > 0;

    net_ctrl_state_walk(state, find_any, &any);
    return !any;
}

/* The first bit set of those from @i to @n; @n if there is none. */
static unsigned int bit_next(const uint64_t *bits, unsigned int i, unsigned int n)
{
    while (i < n) {
        const uint64_t word = bits[i / 64] >> i % 64;

        if (word) {
            return i + (unsigned int)__builtin_ctzll(word);
        }
        i = (i / 64 + 1) * 64;
    }
    return n;
}

static void bit_put(uint64_t *bits, unsigned int i, bool on)
{
    const uint64_t mask = UINT64_C(1) << i % 64;

    bits[i / 64] = on ? bits[i / 64] | mask : bits[i / 64] & ~mask;
}

/* The command in the slot; false: there is none. */
static bool slot_get(const NetCtrlState *state, NetCtrlId id, NetCtrlCommand *command)
{
    const NetCtrlSlot *slot = &state->slots[id];
    NetCtrlError error;
    int ret;

    if (slot->n == 0) {
        return false;
    }
    ret = net_ctrl_parse(command, slot->bytes, slot->n, &net_ctrl_no_limits, &error);
    g_assert(ret == 0);
    return true;
}

static void slot_put(NetCtrlState *state, const NetCtrlCommand *command)
{
    NetCtrlSlot *slot = &state->slots[command->id];
    const size_t size = slot_size(command->id);

    slot->n = (uint32_t)net_ctrl_encode(command, slot->bytes, size);
    g_assert(slot->n <= size);
}

/* Those of the direction of queue @first (0: receive, 1: transmit) from @n queues on. */
static void forget_queues(NetCtrlState *state, unsigned int first, unsigned int n)
{
    unsigned int i;

    for (i = 2 * n + first; i < NET_CTRL_MAX_QUEUES; i += 2) {
        bit_put(state->vq_set, i, false);
    }
}

/* How many receive queues @rss steers to. */
static unsigned int rss_receive_queues(const NetCtrlRss *rss)
{
    unsigned int i, last = rss->unclassified_queue;

    for (i = 0; i < rss->n_table; i++) {
        last = MAX(last, net_ctrl_rss_entry(rss, i));
    }
    return last + 1;
}

static void apply_queues(NetCtrlState *state, const NetCtrlCommand *command)
{
    NetCtrlSlot *hash = &state->slots[NET_CTRL_MQ_HASH_CONFIG];

    switch (command->id) {
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        state->slots[NET_CTRL_MQ_RSS_CONFIG].n = 0;
        state->hash_first = hash->n > 0;
        forget_queues(state, 0, command->pairs);
        forget_queues(state, 1, command->pairs);
        break;
    case NET_CTRL_MQ_RSS_CONFIG:
        state->slots[NET_CTRL_MQ_VQ_PAIRS_SET].n = 0;
        hash->n = 0;
        state->hash_first = false;
        forget_queues(state, 0, rss_receive_queues(&command->rss));
        forget_queues(state, 1, command->rss.max_tx_vq);
        break;
    default:
        state->hash_first = false;
        break;
    }
    slot_put(state, command);
}

void net_ctrl_state_apply(NetCtrlState *state, const NetCtrlCommand *command)
{
    switch (command->id) {
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
        bit_put(state->vlans, command->vlan, command->id == NET_CTRL_VLAN_ADD);
        break;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
    case NET_CTRL_MQ_RSS_CONFIG:
    case NET_CTRL_MQ_HASH_CONFIG:
        apply_queues(state, command);
        break;
    case NET_CTRL_NOTF_COAL_TX_SET:
    case NET_CTRL_NOTF_COAL_RX_SET:
        forget_queues(state, command->id == NET_CTRL_NOTF_COAL_TX_SET, 0);
        slot_put(state, command);
        break;
    case NET_CTRL_NOTF_COAL_VQ_SET:
        bit_put(state->vq_set, command->coal.vq, true);
        state->vq_coal[command->coal.vq] = command->coal.coal;
        break;
    case NET_CTRL_NOTF_COAL_VQ_GET:
    case NET_CTRL_ANNOUNCE_ACK:
        break;
    default:
        slot_put(state, command);
        break;
    }
}

bool net_ctrl_state_apply_unknown(NetCtrlState *state, uint8_t class, uint8_t command)
{
    unsigned int i;

    for (i = 0; i < state->n_unknown; i++) {
        if (state->unknown[i].class == class && state->unknown[i].command == command) {
            return false;
        }
    }
    if (state->n_unknown == NET_CTRL_MAX_UNKNOWN) {
        return false;
    }
    state->unknown[state->n_unknown++] = (NetCtrlUnknown){ class, command };
    return true;
}

uint16_t net_ctrl_state_get_pairs(const NetCtrlState *state)
{
    NetCtrlCommand command;

    if (slot_get(state, NET_CTRL_MQ_VQ_PAIRS_SET, &command)) {
        return command.pairs;
    }
    if (slot_get(state, NET_CTRL_MQ_RSS_CONFIG, &command)) {
        return (uint16_t)MAX(rss_receive_queues(&command.rss), command.rss.max_tx_vq);
    }
    return 0;
}

bool net_ctrl_state_get_mac(const NetCtrlState *state, uint8_t mac[6])
{
    NetCtrlCommand command;

    if (!slot_get(state, NET_CTRL_MAC_ADDR_SET, &command)) {
        return false;
    }
    memcpy(mac, command.mac, NET_CTRL_MAC_BYTES);
    return true;
}

typedef struct Walk {
    const NetCtrlState *state;
    NetCtrlVisit *visit;
    void *opaque;
    bool barrier;               /* a group begins with the next command */
} Walk;

static void walk_visit(Walk *walk, const NetCtrlCommand *command)
{
    walk->visit(walk->opaque, command, walk->barrier);
    walk->barrier = false;
}

/* Commands of which each may be done before the other. */
static void walk_group(Walk *walk, NetCtrlId first, NetCtrlId last)
{
    NetCtrlCommand command;
    unsigned int id;

    walk->barrier = true;
    for (id = first; id <= last; id++) {
        if (slot_get(walk->state, id, &command)) {
            walk_visit(walk, &command);
        }
    }
}

static void walk_vlans(Walk *walk)
{
    NetCtrlCommand command = { .id = NET_CTRL_VLAN_ADD };
    const uint64_t *vlans = walk->state->vlans;
    unsigned int i;

    walk->barrier = true;
    for (i = bit_next(vlans, 0, NET_CTRL_VLANS); i < NET_CTRL_VLANS;
         i = bit_next(vlans, i + 1, NET_CTRL_VLANS)) {
        command.vlan = (uint16_t)i;
        walk_visit(walk, &command);
    }
}

static void walk_coalescing(Walk *walk)
{
    NetCtrlCommand command = { .id = NET_CTRL_NOTF_COAL_VQ_SET };
    const uint64_t *queues = walk->state->vq_set;
    unsigned int i;

    walk_group(walk, NET_CTRL_NOTF_COAL_TX_SET, NET_CTRL_NOTF_COAL_RX_SET);
    /* They would replace those of the queues. */
    walk->barrier = true;
    for (i = bit_next(queues, 0, NET_CTRL_MAX_QUEUES); i < NET_CTRL_MAX_QUEUES;
         i = bit_next(queues, i + 1, NET_CTRL_MAX_QUEUES)) {
        command.coal.vq = (uint16_t)i;
        command.coal.coal = walk->state->vq_coal[i];
        walk_visit(walk, &command);
    }
}

/* In the order in which the device was told. */
static void walk_queues(Walk *walk)
{
    if (walk->state->hash_first) {
        walk_group(walk, NET_CTRL_MQ_HASH_CONFIG, NET_CTRL_MQ_HASH_CONFIG);
    }
    walk_group(walk, NET_CTRL_MQ_VQ_PAIRS_SET, NET_CTRL_MQ_RSS_CONFIG);
    if (!walk->state->hash_first) {
        walk_group(walk, NET_CTRL_MQ_HASH_CONFIG, NET_CTRL_MQ_HASH_CONFIG);
    }
}

void net_ctrl_state_walk(const NetCtrlState *state, NetCtrlVisit *visit, void *opaque)
{
    Walk walk = { state, visit, opaque };

    walk_group(&walk, NET_CTRL_MAC_TABLE_SET, NET_CTRL_MAC_ADDR_SET);
    walk_queues(&walk);
    walk_group(&walk, NET_CTRL_GUEST_OFFLOADS_SET, NET_CTRL_GUEST_OFFLOADS_SET);
    walk_group(&walk, NET_CTRL_RX_PROMISC, NET_CTRL_RX_NOBCAST);
    walk_vlans(&walk);
    walk_coalescing(&walk);
}
