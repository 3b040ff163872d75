/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How it works.  A cursor of what is left moves from header to header; none is read that does not
 * lie within it whole.  Each header of an IPv6 packet takes 8 bytes at least, so the walk ends.
 */
#include "net-flow.h"

#include <glib.h>

/* Offsets and sizes in bytes. */
enum {
    ETH_TYPE = 12, ETH_BYTES = 14, VLAN_TAG = 4,
    IP4_LENGTH = 2, IP4_FRAGMENT = 6, IP4_PROTOCOL = 9, IP4_SOURCE = 12, IP4_DESTINATION = 16,
    IP4_BYTES = 20,
    IP6_LENGTH = 4, IP6_NEXT = 6, IP6_SOURCE = 8, IP6_DESTINATION = 24, IP6_BYTES = 40,
    FRAGMENT_OFFSET = 2, ROUTING_TYPE = 2, ROUTING_ADDRESS = 8, ROUTING_2_BYTES = 24,
    TCP_BYTES = 20, UDP_BYTES = 8,
};

enum { TYPE_IPV4 = 0x0800, TYPE_VLAN = 0x8100, TYPE_IPV6 = 0x86dd, TYPE_SERVICE_VLAN = 0x88a8 };

enum {
    NEXT_HOP_BY_HOP = 0, NEXT_TCP = 6, NEXT_UDP = 17, NEXT_ROUTING = 43, NEXT_FRAGMENT = 44,
    NEXT_AUTHENTICATION = 51, NEXT_DESTINATION_OPTIONS = 60,
};

#define IP4_FRAGMENTED 0x3fff   /* more fragments, or an offset */
#define IP6_FRAGMENTED 0xfff9
#define OPTION_PAD1 0
#define OPTION_HOME_ADDRESS 201
#define HOME_ADDRESS_BYTES 16

typedef struct Rest {
    const uint8_t *at;
    size_t n;
} Rest;

static unsigned int load16(const uint8_t *p)
{
    return (unsigned int)p[0] << 8 | p[1];
}

static void skip(Rest *rest, size_t n)
{
    rest->at += n;
    rest->n -= n;
}

static void read_ports(NetFlow *flow, unsigned int protocol, const Rest *rest)
{
    if (protocol == NEXT_TCP && rest->n >= TCP_BYTES) {
        flow->l4 = NET_FLOW_TCP;
    } else if (protocol == NEXT_UDP && rest->n >= UDP_BYTES) {
        flow->l4 = NET_FLOW_UDP;
    } else {
        return;
    }
    flow->ports = rest->at;
}

static void read_ipv4(NetFlow *flow, Rest rest)
{
    const uint8_t *ip = rest.at;
    size_t header, total;

    if (rest.n < IP4_BYTES || ip[0] >> 4 != 4) {
        return;
    }
    header = (ip[0] & 0xf) * 4u;
    total = load16(ip + IP4_LENGTH);
    if (header < IP4_BYTES || header > rest.n || header > total) {
        return;
    }
    flow->ip = NET_FLOW_IPV4;
    flow->address_bytes = 4;
    flow->source = ip + IP4_SOURCE;
    flow->destination = ip + IP4_DESTINATION;
    rest.n = MIN(rest.n, total);
    skip(&rest, header);
    if (!(load16(ip + IP4_FRAGMENT) & IP4_FRAGMENTED)) {
        read_ports(flow, ip[IP4_PROTOCOL], &rest);
    }
}

/* The home address option in a header of @n bytes. */
static void read_options(NetFlow *flow, const uint8_t *header, size_t n)
{
    Rest rest = { header + 2, n - 2 };

    while (rest.n >= 2) {
        const size_t size = rest.at[0] == OPTION_PAD1 ? 1 : 2 + (size_t)rest.at[1];

        if (size > rest.n) {
            return;
        }
        if (rest.at[0] == OPTION_HOME_ADDRESS && size == 2 + HOME_ADDRESS_BYTES) {
            flow->home_source = rest.at + 2;
        }
        skip(&rest, size);
    }
}

static bool is_extension(unsigned int next)
{
    return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
           next == NEXT_AUTHENTICATION || next == NEXT_DESTINATION_OPTIONS;
}

/* Bytes of the extension header @next at @rest, all there; 0: it is none, or not whole. */
static size_t extension_bytes(unsigned int next, const Rest *rest)
{
    size_t size;

    if (!is_extension(next) || rest->n < 8) {
        return 0;
    }
    switch (next) {
    case NEXT_FRAGMENT:
        size = 8;
        break;
    case NEXT_AUTHENTICATION:
        size = MAX((rest->at[1] + 2u) * 4, 8u);
        break;
    default:
        size = (rest->at[1] + 1u) * 8;
    }
    return size <= rest->n ? size : 0;
}

static void read_ipv6(NetFlow *flow, Rest rest)
{
    const uint8_t *ip = rest.at;
    unsigned int next, length;
    size_t size;

    if (rest.n < IP6_BYTES || ip[0] >> 4 != 6) {
        return;
    }
    flow->ip = NET_FLOW_IPV6;
    flow->address_bytes = 16;
    flow->source = flow->home_source = ip + IP6_SOURCE;
    flow->destination = flow->home_destination = ip + IP6_DESTINATION;
    next = ip[IP6_NEXT];
    flow->has_extensions = is_extension(next);
    length = load16(ip + IP6_LENGTH);
    skip(&rest, IP6_BYTES);
    rest.n = MIN(rest.n, length);

    while ((size = extension_bytes(next, &rest)) > 0) {
        const uint8_t *header = rest.at;

        if (next == NEXT_DESTINATION_OPTIONS) {
            read_options(flow, header, size);
        } else if (next == NEXT_ROUTING && header[ROUTING_TYPE] == 2 && size == ROUTING_2_BYTES) {
            flow->home_destination = header + ROUTING_ADDRESS;
        } else if (next == NEXT_FRAGMENT && load16(header + FRAGMENT_OFFSET) & IP6_FRAGMENTED) {
            return;
        }
        next = header[0];
        skip(&rest, size);
    }
    read_ports(flow, next, &rest);
}

void net_flow_read(NetFlow *flow, const uint8_t *frame, size_t n)
{
    Rest rest = { frame, n };
    unsigned int type, tags;

    *flow = (NetFlow){ .ip = NET_FLOW_NO_IP };
    for (tags = 0;; tags++) {
        if (rest.n < ETH_BYTES) {
            return;
        }
        type = load16(rest.at + ETH_TYPE);
        if (tags == 2 || (type != TYPE_VLAN && type != TYPE_SERVICE_VLAN)) {
            break;
        }
        skip(&rest, VLAN_TAG);
    }
    skip(&rest, ETH_BYTES);
    if (type == TYPE_IPV4) {
        read_ipv4(flow, rest);
    } else if (type == TYPE_IPV6) {
        read_ipv6(flow, rest);
    }
}
