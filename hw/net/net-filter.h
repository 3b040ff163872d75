/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which frames a network device passes to its driver: receive modes, addresses, VLANs (virtio 1.3,
 * sections 5.1.6.5.1 to 5.1.6.5.3).
 *
 * Threads: any number may ask while nobody changes it.
 */
#ifndef HW_NET_NET_FILTER_H
#define HW_NET_NET_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All of a frame that matters here: the addresses, and a VLAN tag. */
#define NET_FILTER_BYTES 16

#define NET_FILTER_VLANS 4096

typedef struct NetFilter {
    bool promiscuous;           /* all frames, whatever else is said */
    bool all_multicast, all_unicast;
    bool no_multicast, no_unicast, no_broadcast;        /* these before those */
    bool by_vlan;               /* tagged frames have to be of one of @vlans */
    uint64_t address;           /* the device's own, as net_filter_address() gives it */
    size_t n_addresses;
    uint64_t *addresses;        /* others, unicast and multicast, sorted */
    uint64_t vlans[NET_FILTER_VLANS / 64];      /* a bit each */
} NetFilter;

/* The number that stands for an address of 6 bytes. */
uint64_t net_filter_address(const uint8_t mac[6]);

/* These allocate.  @to is not initialised before. */
void net_filter_copy(NetFilter *to, const NetFilter *from);
void net_filter_set_addresses(NetFilter *filter, const uint8_t *unicast, size_t n_unicast,
                              const uint8_t *multicast, size_t n_multicast);
void net_filter_cleanup(NetFilter *filter);

/* @vlan: below NET_FILTER_VLANS. */
void net_filter_set_vlan(NetFilter *filter, unsigned int vlan, bool on);

/* @frame has @n bytes, or as many of them are there as NET_FILTER_BYTES. */
bool net_filter_accepts(const NetFilter *filter, const uint8_t *frame, size_t n);

#endif
