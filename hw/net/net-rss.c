/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How it works.  Of the hash types that are enabled the first is taken that knows most of the
 * packet: ports before addresses.  With extension headers those types come first that heed Mobile
 * IPv6.
 */
#include "net-rss.h"

#include <string.h>

#include "net-flow.h"
#include "toeplitz.h"

#define PORTS_BYTES 4

void net_rss_set_hash(NetRss *rss, const NetCtrlRss *config)
{
    rss->hash_types = config->hash_types;
    memset(rss->key, 0, sizeof(rss->key));
    memcpy(rss->key, config->key, MIN(config->key_bytes, sizeof(rss->key)));
}

void net_rss_set_table(NetRss *rss, const NetCtrlRss *config)
{
    const unsigned int n = MIN(config->n_table, NET_RSS_MAX_TABLE);

    rss->mask = (uint16_t)(n - 1);
    rss->unclassified = config->unclassified_queue;
    for (unsigned int i = 0; i < n; i++) {
        rss->table[i] = (uint16_t)(config->table[2 * i] | config->table[2 * i + 1] << 8);
    }
    rss->steers = true;
}

void net_rss_end_table(NetRss *rss)
{
    if (rss->steers) {
        *rss = (NetRss){ 0 };
    }
}

static bool is_enabled(const NetRss *rss, unsigned int report)
{
    return rss->hash_types >> (report - 1) & 1;
}

/*
 * Of the three types from @ip_report on the one for a packet of @l4: with its ports, with its
 * addresses alone, or none.
 */
static unsigned int choose(const NetRss *rss, unsigned int ip_report, NetFlowL4 l4)
{
    if (l4 != NET_FLOW_OTHER && is_enabled(rss, ip_report + l4)) {
        return ip_report + l4;
    }
    return is_enabled(rss, ip_report) ? ip_report : NET_RSS_REPORT_NONE;
}

static unsigned int choose_report(const NetRss *rss, const NetFlow *flow)
{
    unsigned int report = NET_RSS_REPORT_NONE;

    if (flow->ip == NET_FLOW_IPV4) {
        return choose(rss, NET_RSS_REPORT_IPV4, flow->l4);
    }
    if (flow->has_extensions) {
        report = choose(rss, NET_RSS_REPORT_IPV6_EX, flow->l4);
    }
    return report ? report : choose(rss, NET_RSS_REPORT_IPV6, flow->l4);
}

static bool has_ports(unsigned int report)
{
    return (report - NET_RSS_REPORT_IPV4) % 3;
}

NetRssHash net_rss_hash(const NetRss *rss, const uint8_t *frame, size_t n)
{
    uint8_t data[2 * 16 + PORTS_BYTES];
    unsigned int report;
    NetFlow flow;
    size_t size;
    bool home;

    net_flow_read(&flow, frame, n);
    report = flow.ip == NET_FLOW_NO_IP ? NET_RSS_REPORT_NONE : choose_report(rss, &flow);
    if (report == NET_RSS_REPORT_NONE) {
        return (NetRssHash){ 0, NET_RSS_REPORT_NONE };
    }
    home = report >= NET_RSS_REPORT_IPV6_EX;
    size = flow.address_bytes;
    memcpy(data, home ? flow.home_source : flow.source, size);
    memcpy(data + size, home ? flow.home_destination : flow.destination, size);
    size *= 2;
    if (has_ports(report)) {
        memcpy(data + size, flow.ports, PORTS_BYTES);
        size += PORTS_BYTES;
    }
    return (NetRssHash){ toeplitz_hash(rss->key, data, size), (uint16_t)report };
}

unsigned int net_rss_queue(const NetRss *rss, const NetRssHash *hash)
{
    return hash->report == NET_RSS_REPORT_NONE ? rss->unclassified
                                               : rss->table[hash->value & rss->mask];
}

unsigned int net_rss_last_queue(const NetRss *rss)
{
    unsigned int last = rss->unclassified;

    for (unsigned int i = 0; i <= rss->mask; i++) {
        last = MAX(last, rss->table[i]);
    }
    return last;
}
