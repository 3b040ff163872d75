/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How it works.  Unicast and multicast addresses are in one sorted table, for the group bit is
 * part of an address.  A tag is one of 802.1Q; those of 802.1ad are the business of whoever sends
 * them.
 */
#include "net-filter.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

enum { MAC_BYTES = 6, TYPE = 12, TAG = 14 };

#define TYPE_VLAN 0x8100
#define VLAN_ID_MASK 0x0fff
#define BROADCAST UINT64_C(0xffffffffffff)

uint64_t net_filter_address(const uint8_t mac[6])
{
    uint64_t address = 0;

    for (unsigned int i = 0; i < MAC_BYTES; i++) {
        address = address << 8 | mac[i];
    }
    return address;
}

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

void net_filter_copy(NetFilter *to, const NetFilter *from)
{
    *to = *from;
    to->addresses = g_memdup2(from->addresses, from->n_addresses * sizeof(*from->addresses));
}

void net_filter_set_addresses(NetFilter *filter, const uint8_t *unicast, size_t n_unicast,
                              const uint8_t *multicast, size_t n_multicast)
{
    const size_t n = n_unicast + n_multicast;

    g_free(filter->addresses);
    filter->addresses = g_new(uint64_t, n);
    filter->n_addresses = n;
    for (size_t i = 0; i < n; i++) {
        filter->addresses[i] = net_filter_address(
            i < n_unicast ? unicast + i * MAC_BYTES : multicast + (i - n_unicast) * MAC_BYTES);
    }
    if (n) {
        qsort(filter->addresses, n, sizeof(*filter->addresses), compare);
    }
}

void net_filter_cleanup(NetFilter *filter)
{
    g_clear_pointer(&filter->addresses, g_free);
    filter->n_addresses = 0;
}

void net_filter_set_vlan(NetFilter *filter, unsigned int vlan, bool on)
{
    const uint64_t bit = UINT64_C(1) << vlan % 64;

    if (on) {
        filter->vlans[vlan / 64] |= bit;
    } else {
        filter->vlans[vlan / 64] &= ~bit;
    }
}

static bool has_address(const NetFilter *filter, uint64_t address)
{
    return filter->n_addresses && bsearch(&address, filter->addresses, filter->n_addresses,
                                          sizeof(*filter->addresses), compare);
}

static bool accepts_address(const NetFilter *filter, const uint8_t *mac)
{
    const uint64_t address = net_filter_address(mac);

    if (address == BROADCAST) {
        return !filter->no_broadcast;
    }
    if (mac[0] & 1) {
        return !filter->no_multicast && (filter->all_multicast || has_address(filter, address));
    }
    return !filter->no_unicast &&
           (filter->all_unicast || address == filter->address || has_address(filter, address));
}

static bool accepts_vlan(const NetFilter *filter, const uint8_t *frame, size_t n)
{
    unsigned int vlan;

    if (!filter->by_vlan || n < NET_FILTER_BYTES ||
        (frame[TYPE] << 8 | frame[TYPE + 1]) != TYPE_VLAN) {
        return true;
    }
    vlan = (unsigned int)(frame[TAG] << 8 | frame[TAG + 1]) & VLAN_ID_MASK;
    return filter->vlans[vlan / 64] >> vlan % 64 & 1;
}

bool net_filter_accepts(const NetFilter *filter, const uint8_t *frame, size_t n)
{
    if (filter->promiscuous) {
        return true;
    }
    return n >= MAC_BYTES && accepts_vlan(filter, frame, n) && accepts_address(filter, frame);
}
