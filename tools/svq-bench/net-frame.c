/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ethernet frames with UDP datagrams in them.
 */
#include "net-frame.h"

#include <arpa/inet.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <string.h>

#include "options.h"

/* Of the dynamic range; a pair's ports are these and its number. */
#define PORT_FROM   50000
#define PORT_TO     51000

typedef struct __attribute__((packed)) NetHeaders {
    struct ether_header ether;
    struct iphdr ip;
    struct udphdr udp;
} NetHeaders;

G_STATIC_ASSERT(sizeof(NetHeaders) == NET_FRAME_HEADERS);

/* Locally administered, and of RFC 5737: nobody else has them. */
static const uint8_t source_mac[ETH_ALEN] = { 0x02, 0x73, 0x76, 0x71, 0x00, 0x01 };
#define SOURCE_IP       0xc6336401u     /* 198.51.100.1 */
#define DESTINATION_IP  0xc6336402u

/* RFC 1071, of an even number of bytes. */
static uint16_t checksum(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t sum = 0;
    size_t i;

    for (i = 0; i < size; i += 2) {
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return htons((uint16_t)~sum);
}

void net_frame_make_headers(uint8_t headers[NET_FRAME_HEADERS], const uint8_t destination[6],
                            unsigned int pair, unsigned int size)
{
    const unsigned int ip_size = size - sizeof(struct ether_header);
    struct iphdr ip = {
        .version = 4,
        .ihl = sizeof(ip) / 4,
        .tot_len = htons((uint16_t)ip_size),
        .frag_off = htons(IP_DF),
        .ttl = 64,
        .protocol = IPPROTO_UDP,
        .saddr = htonl(SOURCE_IP),
        .daddr = htonl(DESTINATION_IP),
    };
    NetHeaders h = {
        .ether.ether_type = htons(ETHERTYPE_IP),
        .udp = {
            .source = htons((uint16_t)(PORT_FROM + pair)),
            .dest = htons((uint16_t)(PORT_TO + pair)),
            .len = htons((uint16_t)(ip_size - sizeof(ip))),
        },
    };

    ip.check = checksum(&ip, sizeof(ip));
    h.ip = ip;
    memcpy(h.ether.ether_dhost, destination, ETH_ALEN);
    memcpy(h.ether.ether_shost, source_mac, ETH_ALEN);
    memcpy(headers, &h, sizeof(h));
}

static bool in_range(uint16_t port, unsigned int from)
{
    return ntohs(port) - from < BENCH_MAX_QUEUES;
}

bool net_frame_is_ours(const uint8_t *frame, uint32_t size)
{
    NetHeaders h;

    if (size < sizeof(h)) {
        return false;
    }
    memcpy(&h, frame, sizeof(h));
    if (h.ether.ether_type != htons(ETHERTYPE_IP) || h.ip.version != 4 ||
        h.ip.ihl != sizeof(h.ip) / 4 || h.ip.protocol != IPPROTO_UDP) {
        return false;
    }
    return (in_range(h.udp.source, PORT_FROM) && in_range(h.udp.dest, PORT_TO)) ||
           (in_range(h.udp.source, PORT_TO) && in_range(h.udp.dest, PORT_FROM));
}

bool net_frame_lengths_are(const uint8_t *frame, uint32_t size)
{
    NetHeaders h;

    memcpy(&h, frame, sizeof(h));
    return ntohs(h.ip.tot_len) == size - sizeof(h.ether) &&
           ntohs(h.udp.len) == size - sizeof(h.ether) - sizeof(h.ip);
}
