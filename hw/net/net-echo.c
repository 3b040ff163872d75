/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The answers of a neighbour that has every address: to ARP (RFC 826), to ICMP echo (RFC 792),
 * and packets sent back to where they came from.
 *
 * How it works.  A guest writes every byte of a frame.  All that is changed lies in the bytes
 * given, which are a copy; lengths are checked before the first change, so a frame is
 * answered or left as it is.  Sums over swapped fields stay right; only that of an echo
 * request changes, by the change of its type (RFC 1624), if there is a sum as yet.
 */
#include "net-echo.h"

#include <string.h>

/* Offsets and lengths, bytes. */
enum {
    ETH_SOURCE = 6,
    ETH_ADDRESS = 6,
    ETH_TYPE = 12,
    VLAN_TAG = 4,

    ARP_OPERATION = 6,
    ARP_SENDER = 8,             /* Ethernet address, then IPv4 address */
    ARP_SENDER_IP = 14,
    ARP_TARGET = 18,
    ARP_TARGET_IP = 24,
    ARP_SIZE = 28,

    IP_TOTAL_LENGTH = 2,
    IP_FRAGMENT = 6,
    IP_PROTOCOL = 9,
    IP_SOURCE = 12,
    IP_DESTINATION = 16,
    IP_ADDRESS = 4,
    IP_SIZE = 20,               /* without options */

    ICMP_CHECKSUM = 2,
    PORT = 2,
    L4_SIZE = 8,                /* of the ICMP and UDP headers, and all we want of TCP's */
};

enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806, TYPE_VLAN = 0x8100 };
enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

#define IP_FRAGMENT_OFFSET 0x1fff
#define ICMP_ECHO_REQUEST 0x0800        /* type 8, code 0, as one number */

/* Of its own making (bit 1 of the first byte): "echo". */
static const uint8_t neighbour[ETH_ADDRESS] = { 0x02, 'e', 'c', 'h', 'o', 0 };

static unsigned int load16(const uint8_t *p)
{
    return (unsigned int)p[0] << 8 | p[1];
}

static void store16(uint8_t *p, unsigned int value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void swap(uint8_t *a, uint8_t *b, size_t n)
{
    uint8_t old[ETH_ADDRESS];

    memcpy(old, a, n);
    memcpy(a, b, n);
    memcpy(b, old, n);
}

/* Back to its sender; a group (bit 0 of the first byte) cannot be one. */
static void answer_ethernet(uint8_t *frame)
{
    swap(frame, frame + ETH_SOURCE, ETH_ADDRESS);
    if (frame[ETH_SOURCE] & 1) {
        memcpy(frame + ETH_SOURCE, neighbour, ETH_ADDRESS);
    }
}

/*
 * A host that asks for its own address, or asks without having one, wants to know whether
 * anybody else has it (RFC 5227): nobody has.
 */
static bool answer_arp(uint8_t *arp, size_t n)
{
    static const uint8_t request[] = { 0, 1, 8, 0, ETH_ADDRESS, IP_ADDRESS, 0, 1 };
    static const uint8_t nobody[IP_ADDRESS];

    if (n < ARP_SIZE || memcmp(arp, request, sizeof(request)) ||
        !memcmp(arp + ARP_SENDER_IP, nobody, IP_ADDRESS) ||
        !memcmp(arp + ARP_SENDER_IP, arp + ARP_TARGET_IP, IP_ADDRESS)) {
        return false;
    }
    store16(arp + ARP_OPERATION, 2);
    swap(arp + ARP_SENDER_IP, arp + ARP_TARGET_IP, IP_ADDRESS);
    memcpy(arp + ARP_TARGET, arp + ARP_SENDER, ETH_ADDRESS);
    memcpy(arp + ARP_SENDER, neighbour, ETH_ADDRESS);
    return true;
}

/* Takes the type of an echo request out of the sum: HC' = ~(~HC + ~m + m'), where m' is 0. */
static void answer_icmp(uint8_t *icmp, bool csum_open)
{
    unsigned int sum;

    if (load16(icmp) != ICMP_ECHO_REQUEST) {
        return;
    }
    store16(icmp, 0);
    if (csum_open) {
        return;
    }
    sum = (uint16_t)~load16(icmp + ICMP_CHECKSUM) + (uint16_t)~ICMP_ECHO_REQUEST;
    sum = (uint16_t)~((sum & 0xffff) + (sum >> 16));
    /* Both are zero, but if all the rest is zero too only this one is right. */
    store16(icmp + ICMP_CHECKSUM, sum ? sum : 0xffff);
}

static bool answer_ipv4(uint8_t *ip, size_t n, bool csum_open)
{
    size_t header, total;
    uint8_t *l4;
    bool known;

    if (n < IP_SIZE || ip[0] >> 4 != 4) {
        return false;
    }
    header = (ip[0] & 0xf) * 4u;
    total = load16(ip + IP_TOTAL_LENGTH);
    if (header < IP_SIZE || header > n || header > total) {
        return false;
    }
    known = ip[IP_PROTOCOL] == PROTOCOL_ICMP || ip[IP_PROTOCOL] == PROTOCOL_TCP ||
            ip[IP_PROTOCOL] == PROTOCOL_UDP;
    /* Only a packet's first fragment has the header of the next layer. */
    known = known && !(load16(ip + IP_FRAGMENT) & IP_FRAGMENT_OFFSET);
    if (known && (header + L4_SIZE > n || header + L4_SIZE > total)) {
        return false;
    }

    swap(ip + IP_SOURCE, ip + IP_DESTINATION, IP_ADDRESS);
    l4 = ip + header;
    if (known && ip[IP_PROTOCOL] == PROTOCOL_ICMP) {
        answer_icmp(l4, csum_open);
    } else if (known) {
        swap(l4, l4 + PORT, PORT);
    }
    return true;
}

void net_echo_answer(uint8_t *frame, size_t n, bool csum_open)
{
    size_t type = ETH_TYPE, payload;
    bool answered = false;

    if (n >= ETH_TYPE + VLAN_TAG && load16(frame + type) == TYPE_VLAN) {
        type += VLAN_TAG;
    }
    payload = type + 2;
    if (n < payload) {
        return;
    }
    if (load16(frame + type) == TYPE_ARP) {
        answered = answer_arp(frame + payload, n - payload);
    } else if (load16(frame + type) == TYPE_IPV4) {
        answered = answer_ipv4(frame + payload, n - payload, csum_open);
    }
    if (answered) {
        answer_ethernet(frame);
    }
}
