/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Toeplitz hash, what it is made of, and where it leads: the published vectors of
 * receive-side scaling, in frames of all shapes.
 */
#include <string.h>

#include "../../hw/net/net-rss.h"
#include "../../hw/net/toeplitz.h"
#include "lib/frame.h"
#include "lib/random.h"

#define BIT(report) (1u << (NET_RSS_REPORT_##report - 1))
#define IPV4_TYPES (BIT(IPV4) | BIT(TCPV4) | BIT(UDPV4))
#define IPV6_TYPES (BIT(IPV6) | BIT(TCPV6) | BIT(UDPV6))
#define EX_TYPES (BIT(IPV6_EX) | BIT(TCPV6_EX) | BIT(UDPV6_EX))

enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, AUTHENTICATION = 51, OPTIONS = 60, ESP = 50 };

static const uint8_t key[NET_RSS_MAX_KEY] = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

typedef struct Vector {
    const char *destination;
    uint16_t destination_port;
    const char *source;
    uint16_t source_port;
    uint32_t addresses, ports;          /* the hash of addresses alone, and with ports */
} Vector;

static const Vector ipv4[] = {
    { "161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e8fc2, 0x51ccc178 },
    { "65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718262a, 0xc626b0ea },
    { "12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0a5de, 0x5c2b394a },
    { "209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xafc7327f },
    { "202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d1809c5, 0x10e828a2 },
};

static const Vector ipv6[] = {
    { "3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc18cd5, 0x40207d3d },
    { "ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c461c, 0xdde51bbf },
    { "fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4b61e985,
      0x02d1feef },
};

static NetRss rss_new(uint32_t hash_types)
{
    NetRss rss = { .hash_types = hash_types };

    memcpy(rss.key, key, sizeof(key));
    return rss;
}

static void check_hash(uint32_t hash_types, const Frame *frame, unsigned int report,
                       uint32_t value)
{
    const NetRss rss = rss_new(hash_types);
    const NetRssHash hash = net_rss_hash(&rss, frame->bytes, frame->n);

    g_assert_cmpuint(hash.report, ==, report);
    g_assert_cmphex(hash.value, ==, value);
}

static void make_ipv4(Frame *frame, const Vector *v, uint8_t protocol)
{
    frame_begin(frame, "02:00:00:00:00:01");
    frame_ipv4(frame, v->source, v->destination, protocol, 0, frame_l4_bytes(protocol) + 10);
    frame_ports(frame, protocol, v->source_port, v->destination_port, 10);
}

static void make_ipv6(Frame *frame, const Vector *v, uint8_t protocol)
{
    frame_begin(frame, "02:00:00:00:00:01");
    frame_ipv6(frame, v->source, v->destination, protocol, frame_l4_bytes(protocol) + 10);
    frame_ports(frame, protocol, v->source_port, v->destination_port, 10);
}

/* Without any frame: source, destination, and the ports in the order of the network. */
static void test_toeplitz(void)
{
    static const uint8_t data[] = { 66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6 };

    g_assert_cmphex(toeplitz_hash(key, data, 8), ==, 0x323e8fc2);
    g_assert_cmphex(toeplitz_hash(key, data, 12), ==, 0x51ccc178);
    g_assert_cmphex(toeplitz_hash(key, data, 0), ==, 0);
}

/* Each type that is enabled, and the choice between them. */
static void test_ipv4(void)
{
    for (unsigned int i = 0; i < G_N_ELEMENTS(ipv4); i++) {
        const Vector *v = &ipv4[i];
        Frame frame;

        make_ipv4(&frame, v, FRAME_TCP);
        check_hash(IPV4_TYPES, &frame, NET_RSS_REPORT_TCPV4, v->ports);
        check_hash(BIT(TCPV4), &frame, NET_RSS_REPORT_TCPV4, v->ports);
        check_hash(BIT(IPV4) | BIT(UDPV4), &frame, NET_RSS_REPORT_IPV4, v->addresses);
        check_hash(BIT(UDPV4), &frame, NET_RSS_REPORT_NONE, 0);
        check_hash(IPV6_TYPES | EX_TYPES, &frame, NET_RSS_REPORT_NONE, 0);
        make_ipv4(&frame, v, FRAME_UDP);
        check_hash(NET_RSS_HASH_TYPES, &frame, NET_RSS_REPORT_UDPV4, v->ports);
        check_hash(BIT(IPV4) | BIT(TCPV4), &frame, NET_RSS_REPORT_IPV4, v->addresses);
        check_hash(0, &frame, NET_RSS_REPORT_NONE, 0);
        make_ipv4(&frame, v, FRAME_UDP);
        frame.bytes[14 + 9] = 1;        /* ICMP */
        check_hash(IPV4_TYPES, &frame, NET_RSS_REPORT_IPV4, v->addresses);
    }
}

static void test_ipv4_shapes(void)
{
    const Vector *v = &ipv4[0];
    Frame frame;

    for (unsigned int options = 0; options <= 10; options++) {
        for (unsigned int tags = 0; tags <= 3; tags++) {
            frame_begin(&frame, "02:00:00:00:00:01");
            for (unsigned int i = 0; i < tags; i++) {
                frame_tag(&frame, i + 1 < tags ? 0x88a8 : 0x8100, 7);
            }
            frame_ipv4(&frame, v->source, v->destination, FRAME_TCP, options, 20);
            frame_ports(&frame, FRAME_TCP, v->source_port, v->destination_port, 0);
            check_hash(IPV4_TYPES, &frame, tags < 3 ? NET_RSS_REPORT_TCPV4 : NET_RSS_REPORT_NONE,
                       tags < 3 ? v->ports : 0);
        }
    }
    /* Don't fragment is none; a first, a middle and a last fragment have no ports. */
    make_ipv4(&frame, v, FRAME_TCP);
    frame.bytes[14 + 6] = 0x40;
    check_hash(IPV4_TYPES, &frame, NET_RSS_REPORT_TCPV4, v->ports);
    frame.bytes[14 + 6] = 0x20;
    check_hash(IPV4_TYPES, &frame, NET_RSS_REPORT_IPV4, v->addresses);
    frame.bytes[14 + 7] = 1;
    check_hash(IPV4_TYPES, &frame, NET_RSS_REPORT_IPV4, v->addresses);
    frame.bytes[14 + 6] = 0;
    check_hash(IPV4_TYPES, &frame, NET_RSS_REPORT_IPV4, v->addresses);
}

/* A header that contradicts itself is none. */
static void test_ipv4_nonsense(void)
{
    static const struct {
        unsigned int at;
        uint8_t byte;
        unsigned int report;
    } cases[] = {
        { 0, 0x65, NET_RSS_REPORT_NONE },       /* version 6 */
        { 0, 0x44, NET_RSS_REPORT_NONE },       /* a header of 16 bytes */
        { 0, 0x4f, NET_RSS_REPORT_NONE },       /* longer than the packet */
        { 3, 19, NET_RSS_REPORT_NONE },         /* the packet is shorter than its header */
        { 3, 20, NET_RSS_REPORT_IPV4 },         /* and here as long */
        { 3, 39, NET_RSS_REPORT_IPV4 },         /* no whole header of TCP */
        { 3, 40, NET_RSS_REPORT_TCPV4 },
        { 2, 0xff, NET_RSS_REPORT_TCPV4 },      /* more than there is */
    };

    for (unsigned int i = 0; i < G_N_ELEMENTS(cases); i++) {
        const uint32_t values[] = { 0, ipv4[0].addresses, ipv4[0].ports };
        Frame frame;

        make_ipv4(&frame, &ipv4[0], FRAME_TCP);
        frame.bytes[14 + cases[i].at] = cases[i].byte;
        check_hash(IPV4_TYPES, &frame, cases[i].report, values[cases[i].report]);
    }
}

static void test_ipv6(void)
{
    for (unsigned int i = 0; i < G_N_ELEMENTS(ipv6); i++) {
        const Vector *v = &ipv6[i];
        Frame frame;

        make_ipv6(&frame, v, FRAME_TCP);
        check_hash(NET_RSS_HASH_TYPES, &frame, NET_RSS_REPORT_TCPV6, v->ports);
        check_hash(BIT(IPV6) | BIT(UDPV6), &frame, NET_RSS_REPORT_IPV6, v->addresses);
        check_hash(IPV4_TYPES | EX_TYPES, &frame, NET_RSS_REPORT_NONE, 0);
        make_ipv6(&frame, v, FRAME_UDP);
        check_hash(NET_RSS_HASH_TYPES, &frame, NET_RSS_REPORT_UDPV6, v->ports);
        check_hash(BIT(IPV6) | BIT(TCPV6), &frame, NET_RSS_REPORT_IPV6, v->addresses);
        frame.bytes[14 + 6] = 58;       /* ICMP */
        check_hash(IPV6_TYPES, &frame, NET_RSS_REPORT_IPV6, v->addresses);
    }
}

/*
 * A packet with the extension header @first of @n bytes, and TCP behind it.  The bytes begin with
 * the next header's number, which is put there.
 */
static void make_extended(Frame *frame, const Vector *v, uint8_t first, const uint8_t *bytes,
                          size_t n)
{
    size_t at;

    frame_begin(frame, "02:00:00:00:00:01");
    frame_ipv6(frame, v->source, v->destination, first, n + 20);
    at = frame->n;
    frame_append(frame, bytes, n);
    frame->bytes[at] = FRAME_TCP;
    frame_ports(frame, FRAME_TCP, v->source_port, v->destination_port, 0);
}

/* Skipped, if the types with extensions are not enabled; the same hash, if they are. */
static void test_extension_headers(void)
{
    static const uint8_t padding[] = { 0, 0, 1, 4, 0, 0, 0, 0 };
    static const uint8_t longer[24] = { 0, 2, 0, 0, 0, 0, 1, 16 };
    static const uint8_t authentication[24] = { 0, 4 };
    static const uint8_t whole_fragment[8] = { 0 };
    static const struct {
        uint8_t type;
        const uint8_t *bytes;
        size_t n;
    } headers[] = {
        { HOP_BY_HOP, padding, sizeof(padding) }, { HOP_BY_HOP, longer, sizeof(longer) },
        { OPTIONS, padding, sizeof(padding) }, { OPTIONS, longer, sizeof(longer) },
        { AUTHENTICATION, authentication, sizeof(authentication) },
        { FRAGMENT, whole_fragment, sizeof(whole_fragment) },
        { ROUTING, longer, sizeof(longer) },
    };

    for (unsigned int i = 0; i < G_N_ELEMENTS(headers); i++) {
        const Vector *v = &ipv6[i % G_N_ELEMENTS(ipv6)];
        Frame frame;

        make_extended(&frame, v, headers[i].type, headers[i].bytes, headers[i].n);
        check_hash(IPV6_TYPES, &frame, NET_RSS_REPORT_TCPV6, v->ports);
        check_hash(NET_RSS_HASH_TYPES, &frame, NET_RSS_REPORT_TCPV6_EX, v->ports);
        check_hash(BIT(IPV6_EX) | IPV6_TYPES, &frame, NET_RSS_REPORT_IPV6_EX, v->addresses);
        check_hash(BIT(UDPV6_EX) | BIT(IPV6), &frame, NET_RSS_REPORT_IPV6, v->addresses);
    }
}

/* Mobile IPv6: the addresses of the vector are in the extension headers. */
static void test_home_addresses(void)
{
    const Vector *v = &ipv6[0];
    Vector moved = *v;
    uint8_t option[24] = { 0, 2, 1, 2, 0, 0, 201, 16 };
    uint8_t routing[24] = { 0, 2, 2, 1 };
    Frame frame, plain;

    make_ipv6(&plain, v, FRAME_TCP);
    memcpy(option + 8, plain.bytes + 14 + 8, 16);
    memcpy(routing + 8, plain.bytes + 14 + 24, 16);
    moved.source = "fe80::1";
    make_extended(&frame, &moved, OPTIONS, option, sizeof(option));
    check_hash(EX_TYPES, &frame, NET_RSS_REPORT_TCPV6_EX, v->ports);
    check_hash(BIT(IPV6_EX), &frame, NET_RSS_REPORT_IPV6_EX, v->addresses);
    moved = *v;
    moved.destination = "fe80::2";
    make_extended(&frame, &moved, ROUTING, routing, sizeof(routing));
    check_hash(EX_TYPES, &frame, NET_RSS_REPORT_TCPV6_EX, v->ports);
    /* Another type of routing header has no home address. */
    routing[2] = 4;
    make_extended(&frame, v, ROUTING, routing, sizeof(routing));
    check_hash(EX_TYPES, &frame, NET_RSS_REPORT_TCPV6_EX, v->ports);
    /* An option that does not fit in its header is none. */
    option[7] = 17;
    make_extended(&frame, v, OPTIONS, option, sizeof(option));
    check_hash(EX_TYPES, &frame, NET_RSS_REPORT_TCPV6_EX, v->ports);
}

static void test_extensions_without_ports(void)
{
    static const uint8_t first_fragment[8] = { 0, 0, 0, 1 }, last_fragment[8] = { 0, 0, 1, 0 };
    static const uint8_t too_long[8] = { 0, 100 };
    static const struct {
        uint8_t type;
        const uint8_t *bytes;
    } headers[] = {
        { FRAGMENT, first_fragment }, { FRAGMENT, last_fragment }, { OPTIONS, too_long },
        { ESP, too_long },
    };
    const Vector *v = &ipv6[1];

    for (unsigned int i = 0; i < G_N_ELEMENTS(headers); i++) {
        Frame frame;

        make_extended(&frame, v, headers[i].type, headers[i].bytes, 8);
        check_hash(IPV6_TYPES, &frame, NET_RSS_REPORT_IPV6, v->addresses);
        /* Cut off, an extension header is one all the same; ESP is the next layer. */
        check_hash(NET_RSS_HASH_TYPES, &frame,
                   headers[i].type == ESP ? NET_RSS_REPORT_IPV6 : NET_RSS_REPORT_IPV6_EX,
                   v->addresses);
        frame.n = 14 + 40;
        check_hash(NET_RSS_HASH_TYPES, &frame,
                   headers[i].type == ESP ? NET_RSS_REPORT_IPV6 : NET_RSS_REPORT_IPV6_EX,
                   v->addresses);
    }
}

static void test_no_ip(void)
{
    Frame frame;

    frame_begin(&frame, "ff:ff:ff:ff:ff:ff");
    frame_append16(&frame, 0x0806);
    frame_append(&frame, key, sizeof(key));
    check_hash(NET_RSS_HASH_TYPES, &frame, NET_RSS_REPORT_NONE, 0);
}

/* Nothing is read behind the end, and what is cut off is not there. */
static void test_cut_anywhere(void)
{
    const NetRss rss = rss_new(NET_RSS_HASH_TYPES);
    Frame frame;

    make_ipv4(&frame, &ipv4[0], FRAME_TCP);
    for (size_t n = 0; n <= frame.n; n++) {
        g_autofree uint8_t *exact = g_memdup2(frame.bytes, n);

        g_assert_cmpuint(net_rss_hash(&rss, exact, n).report, ==,
                         n < 34   ? NET_RSS_REPORT_NONE
                         : n < 54 ? NET_RSS_REPORT_IPV4
                                  : NET_RSS_REPORT_TCPV4);
    }
    make_ipv6(&frame, &ipv6[0], FRAME_UDP);
    for (size_t n = 0; n <= frame.n; n++) {
        g_autofree uint8_t *exact = g_memdup2(frame.bytes, n);

        g_assert_cmpuint(net_rss_hash(&rss, exact, n).report, ==,
                         n < 54   ? NET_RSS_REPORT_NONE
                         : n < 62 ? NET_RSS_REPORT_IPV6
                                  : NET_RSS_REPORT_UDPV6);
    }
}

/* Chains of extension headers and options with any contents, in exactly as many bytes. */
static void test_anything(void)
{
    static const uint8_t types[] = { HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, OPTIONS,
                                     FRAME_TCP, FRAME_UDP };
    const NetRss rss = rss_new(NET_RSS_HASH_TYPES);
    Random random = { random_seed() };
    uint64_t steps = random_steps(200000);
    unsigned int seen[10] = { 0 };

    while (steps--) {
        g_autofree uint8_t *exact = NULL;
        Frame frame;

        if (random_one_in(&random, 2)) {
            make_ipv4(&frame, &ipv4[0], FRAME_TCP);
        } else {
            make_ipv6(&frame, &ipv6[0], types[random_below(&random, G_N_ELEMENTS(types))]);
        }
        for (size_t i = 14 + 40; i < frame.n + 100; i++) {
            frame.bytes[i] = random_one_in(&random, 2)
                                 ? types[random_below(&random, G_N_ELEMENTS(types))]
                                 : (uint8_t)random_below(&random, 6);
        }
        frame.bytes[14 + random_below(&random, 10)] ^= (uint8_t)(1 << random_below(&random, 8));
        frame.n = random_below(&random, (uint32_t)frame.n + 100);
        exact = g_memdup2(frame.bytes, frame.n);
        seen[net_rss_hash(&rss, exact, frame.n).report]++;
    }
    for (unsigned int i = 0; i < G_N_ELEMENTS(seen); i++) {
        g_test_message("report %u: %u", i, seen[i]);
    }
    g_assert_cmpuint(seen[NET_RSS_REPORT_TCPV6_EX], >, 0);
    g_assert_cmpuint(seen[NET_RSS_REPORT_TCPV4], >, 0);
}

static void test_short_keys(void)
{
    for (unsigned int n = 0; n <= NET_RSS_MAX_KEY; n++) {
        const NetCtrlRss config = { .hash_types = IPV4_TYPES, .key_bytes = (uint8_t)n, .key = key };
        uint8_t padded[NET_RSS_MAX_KEY] = { 0 };
        NetRss rss = rss_new(0);

        memcpy(padded, key, n);
        net_rss_set_hash(&rss, &config);
        g_assert_cmpmem(rss.key, sizeof(rss.key), padded, sizeof(padded));
        g_assert_cmphex(rss.hash_types, ==, IPV4_TYPES);
        g_assert_false(rss.steers);
    }
}

static void test_queues(void)
{
    uint8_t table[2 * NET_RSS_MAX_TABLE];
    NetCtrlRss config = { .unclassified_queue = 300, .table = table };
    NetRss rss = rss_new(IPV4_TYPES);

    for (unsigned int i = 0; i < NET_RSS_MAX_TABLE; i++) {
        table[2 * i] = (uint8_t)i;
        table[2 * i + 1] = 1;
    }
    for (config.n_table = 1; config.n_table <= NET_RSS_MAX_TABLE; config.n_table *= 2) {
        const NetRssHash none = { 5, NET_RSS_REPORT_NONE };

        net_rss_set_table(&rss, &config);
        g_assert_true(rss.steers);
        g_assert_cmpuint(net_rss_queue(&rss, &none), ==, 300);
        g_assert_cmpuint(net_rss_last_queue(&rss), ==, MAX(300, 256 + config.n_table - 1));
        for (unsigned int i = 0; i < G_N_ELEMENTS(ipv4); i++) {
            const NetRssHash hash = { ipv4[i].ports, NET_RSS_REPORT_TCPV4 };

            g_assert_cmpuint(net_rss_queue(&rss, &hash), ==,
                             256 + ipv4[i].ports % config.n_table);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-rss/toeplitz", test_toeplitz);
    g_test_add_func("/net-rss/ipv4", test_ipv4);
    g_test_add_func("/net-rss/ipv4-shapes", test_ipv4_shapes);
    g_test_add_func("/net-rss/ipv4-nonsense", test_ipv4_nonsense);
    g_test_add_func("/net-rss/ipv6", test_ipv6);
    g_test_add_func("/net-rss/extension-headers", test_extension_headers);
    g_test_add_func("/net-rss/home-addresses", test_home_addresses);
    g_test_add_func("/net-rss/extensions-without-ports", test_extensions_without_ports);
    g_test_add_func("/net-rss/no-ip", test_no_ip);
    g_test_add_func("/net-rss/cut-anywhere", test_cut_anywhere);
    g_test_add_func("/net-rss/anything", test_anything);
    g_test_add_func("/net-rss/short-keys", test_short_keys);
    g_test_add_func("/net-rss/queues", test_queues);
    return g_test_run();
}
