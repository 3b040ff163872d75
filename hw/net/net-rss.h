/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive-side scaling: the hash of a packet, what it was made of, and the queue that it leads to
 * (virtio 1.3, sections 5.1.6.4.3, 5.1.6.4.4 and 5.1.6.5.7).
 *
 * Threads: any number may ask while nobody changes it.
 */
#ifndef HW_NET_NET_RSS_H
#define HW_NET_NET_RSS_H

#include <stdbool.h>

#include "hw/net/net-ctrl.h"

#define NET_RSS_MAX_KEY     40      /* bytes: two IPv6 addresses, two ports, and the last window */
#define NET_RSS_MAX_TABLE   128     /* entries */
#define NET_RSS_HASH_TYPES  0x1ff   /* all that there are */

/* What hash_report says: a hash type's bit number and 1. */
enum {
    NET_RSS_REPORT_NONE,
    NET_RSS_REPORT_IPV4, NET_RSS_REPORT_TCPV4, NET_RSS_REPORT_UDPV4,
    NET_RSS_REPORT_IPV6, NET_RSS_REPORT_TCPV6, NET_RSS_REPORT_UDPV6,
    NET_RSS_REPORT_IPV6_EX, NET_RSS_REPORT_TCPV6_EX, NET_RSS_REPORT_UDPV6_EX,
};

/* All zero: no packet has a hash, and nothing is steered by it. */
typedef struct NetRss {
    uint32_t hash_types;
    bool steers;                /* the table is used */
    uint16_t mask;              /* entries of the table, less 1 */
    uint16_t unclassified;      /* receive queue of what has no hash */
    uint16_t table[NET_RSS_MAX_TABLE];      /* receive queues */
    uint8_t key[NET_RSS_MAX_KEY];           /* a shorter one is filled up with zeros */
} NetRss;

typedef struct NetRssHash {
    uint32_t value;
    uint16_t report;
} NetRssHash;

/* Of RSS_CONFIG and HASH_CONFIG: the hash alone. */
void net_rss_set_hash(NetRss *rss, const NetCtrlRss *config);

/* Of RSS_CONFIG: the table, which begins to steer. */
void net_rss_set_table(NetRss *rss, const NetCtrlRss *config);

/* A table that steers ends, and with it the hash that came in the same command. */
void net_rss_end_table(NetRss *rss);

/* Of a frame, of which @n bytes are there: see net-flow.h. */
NetRssHash net_rss_hash(const NetRss *rss, const uint8_t *frame, size_t n);

/* While it steers: the receive queue of a packet with @hash, counted from 0. */
unsigned int net_rss_queue(const NetRss *rss, const NetRssHash *hash);

/* The highest receive queue that the table leads to. */
unsigned int net_rss_last_queue(const NetRss *rss);

#endif
