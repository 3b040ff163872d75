/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the control commands share: numbers in commands, and what a state is. */
#ifndef HW_NET_NET_CTRL_INTERNAL_H
#define HW_NET_NET_CTRL_INTERNAL_H

#include "hw/net/net-ctrl-state.h"

#define NET_CTRL_MAC_BYTES      6
#define NET_CTRL_MAX_PAIRS      0x8000  /* of any device (5.1.4.1) */
#define NET_CTRL_MAX_UNKNOWN    64

/* Bytes of parts of commands' data. */
#define NET_CTRL_RSS_HEAD       8       /* hash types, mask, unclassified queue */
#define NET_CTRL_RSS_TAIL       3       /* max_tx_vq, key length */
#define NET_CTRL_HASH_HEAD      13      /* hash types, reserved, key length */

static inline uint16_t net_ctrl_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t net_ctrl_get32(const uint8_t *p)
{
    return net_ctrl_get16(p) | (uint32_t)net_ctrl_get16(p + 2) << 16;
}

static inline uint64_t net_ctrl_get64(const uint8_t *p)
{
    return net_ctrl_get32(p) | (uint64_t)net_ctrl_get32(p + 4) << 32;
}

static inline void net_ctrl_put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void net_ctrl_put32(uint8_t *p, uint32_t value)
{
    net_ctrl_put16(p, (uint16_t)value);
    net_ctrl_put16(p + 2, (uint16_t)(value >> 16));
}

static inline void net_ctrl_put64(uint8_t *p, uint64_t value)
{
    net_ctrl_put32(p, (uint32_t)value);
    net_ctrl_put32(p + 4, (uint32_t)(value >> 32));
}

/* Entry @i of an indirection table. */
static inline uint16_t net_ctrl_rss_entry(const NetCtrlRss *rss, unsigned int i)
{
    return net_ctrl_get16(rss->table + 2 * i);
}

/* Limits that any command keeps whose form is right: those of a device that can all. */
extern const NetCtrlLimits net_ctrl_no_limits;

/* The row of @class and @command; NULL: there is none. */
const NetCtrlSpec *net_ctrl_spec_find(uint8_t class, uint8_t command);
NetCtrlId net_ctrl_spec_id(const NetCtrlSpec *spec);

/* The last command of a kind, as net_ctrl_encode() writes it. */
typedef struct NetCtrlSlot {
    uint32_t n;                 /* bytes; 0: it is not set */
    uint8_t *bytes;             /* room for the longest command of the kind */
} NetCtrlSlot;

typedef struct NetCtrlUnknown {
    uint8_t class, command;
} NetCtrlUnknown;

struct NetCtrlState {
    /* Of each command that sets something as a whole; others have no room and are never set. */
    NetCtrlSlot slots[NET_CTRL_COUNT];
    /*
     * HASH_CONFIG came before VQ_PAIRS_SET.  Whether the latter ends what the former has set the
     * specification does not say, and devices differ: the order is kept.
     */
    bool hash_first;
    uint64_t vlans[NET_CTRL_VLANS / 64];
    /* What VQ_SET has set for a queue, and no later command has replaced. */
    uint64_t vq_set[NET_CTRL_MAX_QUEUES / 64];
    NetCtrlCoal vq_coal[NET_CTRL_MAX_QUEUES];
    unsigned int n_unknown;
    NetCtrlUnknown unknown[NET_CTRL_MAX_UNKNOWN];
    uint8_t room[];             /* of all slots */
};

/*
 * Calls @visit with each command that a device needs to come to @state, in the order that it needs
 * them.  @barrier: those before must be done first.
 */
typedef void NetCtrlVisit(void *opaque, const NetCtrlCommand *command, bool barrier);
void net_ctrl_state_walk(const NetCtrlState *state, NetCtrlVisit *visit, void *opaque);

#endif
