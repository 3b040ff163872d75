/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the commands of the loopback device's control queue do to packets, and that wrong ones do
 * nothing.
 */
#include <string.h>

#include "lib/guest.h"
#include "lib/loopback-world.h"

#define OWN "02:00:00:00:00:01"
#define OTHER "02:00:00:00:00:08"
#define ALL_ROUTERS "33:33:00:00:00:02"
#define BROADCAST "ff:ff:ff:ff:ff:ff"

/* Whether a frame to @destination is received; @vlan: its tag, or -1. */
static bool passes(LoopbackWorld *w, const char *destination, int vlan)
{
    Frame frame;

    frame_begin(&frame, destination);
    if (vlan >= 0) {
        frame_tag(&frame, 0x8100, (uint16_t)vlan);
    }
    frame_append16(&frame, 0x88b5);
    return loopback_world_send(w, 0, &frame) == 0;
}

/* All is received before the driver says otherwise; then each mode does what it is for. */
static void test_receive_modes(const void *format)
{
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    g_assert_true(passes(&w, OTHER, -1));
    g_assert_true(passes(&w, ALL_ROUTERS, 5));
    loopback_world_say(&w, "RX_PROMISC off");
    g_assert_true(passes(&w, OWN, -1));
    g_assert_true(passes(&w, BROADCAST, -1));
    g_assert_false(passes(&w, OTHER, -1));
    g_assert_false(passes(&w, ALL_ROUTERS, -1));
    loopback_world_say(&w, "RX_ALLMULTI on");
    g_assert_true(passes(&w, ALL_ROUTERS, -1));
    g_assert_false(passes(&w, OTHER, -1));
    loopback_world_say(&w, "RX_NOMULTI on");
    g_assert_false(passes(&w, ALL_ROUTERS, -1));
    loopback_world_say(&w, "RX_ALLUNI on");
    g_assert_true(passes(&w, OTHER, -1));
    loopback_world_say(&w, "RX_NOUNI on");
    g_assert_false(passes(&w, OWN, -1));
    g_assert_true(passes(&w, BROADCAST, -1));
    loopback_world_say(&w, "RX_NOBCAST on");
    g_assert_false(passes(&w, BROADCAST, -1));
    loopback_world_say(&w, "RX_PROMISC on");
    g_assert_true(passes(&w, BROADCAST, -1));
    g_assert_true(passes(&w, OTHER, -1));
    loopback_world_say(&w, "RX_PROMISC off");
    loopback_world_say(&w, "RX_NOBCAST off");
    loopback_world_say(&w, "RX_NOUNI off");
    loopback_world_say(&w, "RX_ALLUNI off");
    g_assert_true(passes(&w, BROADCAST, -1));
    g_assert_true(passes(&w, OWN, -1));
    g_assert_false(passes(&w, OTHER, -1));
    loopback_world_cleanup(&w);
}

static void test_addresses(const void *format)
{
    uint8_t mac[6];
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "RX_PROMISC off");
    loopback_world_say(&w, "MAC_TABLE_SET " OTHER " / " ALL_ROUTERS " 33:33:00:00:00:03");
    g_assert_true(passes(&w, OTHER, -1));
    g_assert_true(passes(&w, ALL_ROUTERS, -1));
    g_assert_true(passes(&w, OWN, -1));
    g_assert_false(passes(&w, "33:33:00:00:00:04", -1));
    loopback_world_say(&w, "MAC_TABLE_SET /");
    g_assert_false(passes(&w, OTHER, -1));
    g_assert_false(passes(&w, ALL_ROUTERS, -1));

    loopback_world_say(&w, "MAC_ADDR_SET " OTHER);
    g_assert_true(passes(&w, OTHER, -1));
    g_assert_false(passes(&w, OWN, -1));
    g_assert_cmpint(w.rig.dev->ops->get_config(w.rig.dev, mac, 0, 6, NULL), ==, 0);
    g_assert_cmpmem(mac, 6, ((const uint8_t[]){ 2, 0, 0, 0, 0, 8 }), 6);
    g_assert_cmpint(w.rig.dev->ops->get_config(w.rig.dev, mac, 3, 3, NULL), ==, 0);
    g_assert_cmpmem(mac, 3, ((const uint8_t[]){ 0, 0, 8 }), 3);
    loopback_world_cleanup(&w);
}

/* As many addresses as a command holds; one more is refused and changes nothing. */
static void test_longest_command(const void *format)
{
    enum { MOST = (NET_CTRL_MAX_BYTES - NET_CTRL_HEADER_BYTES - 8) / 6, ALL = 2 + 8 + 6 * MOST };
    g_autofree uint8_t *bytes = g_malloc0(ALL + 6);
    LoopbackWorld w;

    bytes[0] = 1;
    memcpy(bytes + 2, (const uint8_t[]){ (uint8_t)MOST, MOST >> 8 }, 2);
    for (unsigned int i = 0; i < MOST; i++) {
        const uint8_t mac[] = { 6, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i };

        memcpy(bytes + 6 + 6 * i, mac, sizeof(mac));
    }
    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "RX_PROMISC off");
    g_assert_cmpuint(loopback_rig_command(&w.rig, CTRL, bytes, ALL, 1).ack, ==, NET_CTRL_OK);
    g_assert_true(passes(&w, "06:00:00:00:00:00", -1));
    g_assert_true(passes(&w, "06:00:00:00:2a:a8", -1));
    g_assert_false(passes(&w, "06:00:00:00:2a:a9", -1));
    bytes[2]++;
    g_assert_cmpuint(loopback_rig_command(&w.rig, CTRL, bytes, ALL + 6, 1).ack, ==, NET_CTRL_ERR);
    g_assert_cmpuint(loopback_rig_command(&w.rig, CTRL, bytes, ALL, 1).ack, ==, NET_CTRL_ERR);
    g_assert_true(passes(&w, "06:00:00:00:2a:a8", -1));
    loopback_world_cleanup(&w);
}

/* VLANs are heeded when the driver does not want all frames any more. */
static void test_vlans(const void *format)
{
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "VLAN_ADD 5");
    loopback_world_say(&w, "VLAN_ADD 4095");
    g_assert_true(passes(&w, OWN, 6));
    loopback_world_say(&w, "RX_PROMISC off");
    g_assert_false(passes(&w, OWN, 6));
    g_assert_true(passes(&w, OWN, 5));
    g_assert_true(passes(&w, OWN, 4095));
    g_assert_true(passes(&w, OWN, -1));
    g_assert_false(passes(&w, OTHER, 5));
    loopback_world_say(&w, "VLAN_DEL 5");
    g_assert_false(passes(&w, OWN, 5));
    loopback_world_say_wrong(&w, "VLAN_ADD 4096");
    loopback_world_cleanup(&w);

    loopback_world_init(&w, format, loopback_world_features() & ~LOOPBACK_NEEDS(VLAN_ADD), false);
    loopback_world_say(&w, "RX_PROMISC off");
    g_assert_true(passes(&w, OWN, 6));
    loopback_world_say_wrong(&w, "VLAN_ADD 5");
    loopback_world_cleanup(&w);
}

/* It is the answer that is filtered, not the question. */
static void test_answers_are_filtered(const void *format)
{
    Frame frame;
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), true);
    loopback_world_say(&w, "RX_PROMISC off");
    frame_begin(&frame, OTHER);
    frame_ipv4(&frame, "10.0.0.1", "10.0.0.2", FRAME_UDP, 0, 20);
    frame_ports(&frame, FRAME_UDP, 1, 2, 12);
    memcpy(frame.bytes + 6, (const uint8_t[]){ 2, 0, 0, 0, 0, 1 }, 6);
    g_assert_cmpint(loopback_world_send_bytes(&w, 0, frame.bytes, frame.n), ==, 0);
    g_assert_cmpmem(w.frame, 6, frame.bytes + 6, 6);
    memcpy(frame.bytes + 6, (const uint8_t[]){ 2, 0, 0, 0, 0, 3 }, 6);
    g_assert_cmpint(loopback_world_send_bytes(&w, 0, frame.bytes, frame.n), ==, LOOPBACK_NOWHERE);
    loopback_world_cleanup(&w);
}

static uint32_t sum_words(const uint8_t *bytes, size_t n)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (uint32_t)bytes[i] << (i % 2 ? 0 : 8);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/*
 * An answer to a ping has a right checksum, be it the guest's, made here, or left to the receiver.
 */
static void test_checksums_of_answers(const void *format)
{
    enum { ICMP = 14 + 20, BYTES = 16 };
    const uint8_t request[BYTES] = { 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    const uint32_t sum = ~sum_words(request, BYTES);
    const uint8_t whole[] = { (uint8_t)(sum >> 8), (uint8_t)sum };
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), true);
    for (unsigned int i = 0; i < 4; i++) {
        const bool left = i % 2, open = left && i / 2;
        Frame frame;

        frame_begin(&frame, OWN);
        frame_ipv4(&frame, "10.0.0.1", "10.0.0.2", 1, 0, BYTES);
        frame_append(&frame, request, BYTES);
        if (!left) {
            memcpy(frame.bytes + ICMP + 2, whole, sizeof(whole));
        }
        w.sent = (LoopbackHeader){ .flags = left, .csum_start = GUINT16_TO_LE(ICMP),
                                   .csum_offset = GUINT16_TO_LE(2) };
        loopback_world_say(&w, i / 2 ? "GUEST_OFFLOADS_SET 0x2" : "GUEST_OFFLOADS_SET 0");
        g_assert_cmpint(loopback_world_send_bytes(&w, 0, frame.bytes, frame.n), ==, 0);
        g_assert_cmpuint(w.frame[ICMP], ==, 0);
        g_assert_cmpuint(w.received.flags, ==, open);
        if (open) {
            g_assert_cmpmem(w.frame + ICMP + 2, 2, "\0\0", 2);
        } else {
            g_assert_cmphex(sum_words(w.frame + ICMP, BYTES), ==, 0xffff);
        }
    }
    loopback_world_cleanup(&w);
}

/* What the sender leaves to the device is left to the receiver, if that can, or done. */
static void test_checksums(const void *format)
{
    static const uint16_t sizes[] = { 0, 1, 2, 3, 100, 1001, 1458, 9000 };
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    for (unsigned int i = 0; i < 2 * G_N_ELEMENTS(sizes); i++) {
        const size_t n = 14 + 20 + 8 + sizes[i / 2];
        g_autofree uint8_t *frame = g_malloc0(n);
        uint32_t sum = 0;

        /* The sum of a pseudo header, and bytes that are not all the same. */
        for (size_t j = 0; j < n; j++) {
            frame[j] = (uint8_t)(j * j + i);
        }
        for (size_t j = 34; j < n; j++) {
            sum += (uint32_t)frame[j] << (j % 2 ? 0 : 8);
        }
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        w.sent = (LoopbackHeader){ .flags = 1, .hdr_len = 42, .csum_start = 34, .csum_offset = 6 };

        loopback_world_say(&w, i % 2 ? "GUEST_OFFLOADS_SET 0x80" : "GUEST_OFFLOADS_SET 0x82");
        g_assert_cmpint(loopback_world_send_bytes(&w, 0, frame, n), ==, 0);
        if (i % 2) {
            frame[40] = (uint8_t)(~sum >> 8);
            frame[41] = (uint8_t)~sum;
        }
        g_assert_cmpmem(w.frame, w.n_frame, frame, n);
        g_assert_cmpuint(w.received.flags, ==, i % 2 ? 0 : 1);
        if (!(i % 2)) {
            g_assert_cmpuint(w.received.csum_start, ==, 34);
            g_assert_cmpuint(w.received.csum_offset, ==, 6);
        }
    }
    /* GUEST_TSO6 is not negotiated. */
    loopback_world_say_wrong(&w, "GUEST_OFFLOADS_SET 0x100");
    loopback_world_cleanup(&w);
}

/*
 * No receiver gets a header that points behind its frame, or one of a kind that was not agreed on.
 */
static void test_wrong_headers(const void *format)
{
    static const struct {
        LoopbackHeader header;
        bool received;
    } cases[] = {
        { { .flags = 1, .csum_start = 58, .csum_offset = 0 }, true },
        { { .flags = 1, .csum_start = 59, .csum_offset = 0 }, false },
        { { .flags = 1, .csum_start = 0, .csum_offset = 59 }, false },
        { { .flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff }, false },
        { { .flags = 0, .csum_start = 0xffff, .csum_offset = 0xffff }, true },
        { { .flags = 1, .gso_type = 1, .gso_size = 20, .csum_start = 34 }, false },
        { { .gso_type = 0x80 }, false },
        { { .flags = 0xfe, .gso_size = 9 }, true },
    };
    const uint8_t frame[60] = { 0 };
    LoopbackWorld w;

    for (unsigned int negotiated = 0; negotiated < 2; negotiated++) {
        const uint64_t features = loopback_world_features();

        loopback_world_init(&w, format,
                            negotiated ? features : features & ~VIRTIO_F_BIT(VIRTIO_NET_F_CSUM),
                            false);
        for (unsigned int offloads = 0; offloads < 2; offloads++) {
            loopback_world_say(&w, offloads ? "GUEST_OFFLOADS_SET 0x2" : "GUEST_OFFLOADS_SET 0");
            for (unsigned int i = 0; i < G_N_ELEMENTS(cases); i++) {
                const bool received = cases[i].received ||
                                      (!negotiated && !cases[i].header.gso_type);

                w.sent = cases[i].header;
                g_assert_cmpint(loopback_world_send_bytes(&w, 0, frame, sizeof(frame)), ==,
                                received ? 0 : LOOPBACK_NOWHERE);
                if (received) {
                    g_assert_cmpuint(w.received.flags, ==,
                                     negotiated && offloads ? w.sent.flags & 1 : 0);
                    g_assert_cmpuint(w.received.gso_size, ==, 0);
                }
            }
        }
        loopback_world_cleanup(&w);
    }
}

static void check_coal(LoopbackWorld *w, unsigned int queue, uint32_t packets, uint32_t usecs)
{
    const uint32_t expected[] = { GUINT32_TO_LE(packets), GUINT32_TO_LE(usecs) };
    const uint8_t bytes[] = { 6, 3, (uint8_t)queue, 0, 0x55, 0x55 };
    const LoopbackRigReply reply = loopback_rig_command(&w->rig, CTRL, bytes, sizeof(bytes), 20);

    g_assert_cmpuint(reply.ack, ==, NET_CTRL_OK);
    g_assert_cmpuint(reply.n, ==, 1 + sizeof(expected));
    g_assert_cmpmem(reply.result, sizeof(expected), expected, sizeof(expected));
    g_assert_cmpuint(reply.result[sizeof(expected)], ==, 0x77);
}

/*
 * Of the commands that set a queue's the last counts; a queue that comes again has what all have.
 */
static void test_coalescing(const void *format)
{
    const uint8_t get[] = { 6, 3, 0, 0, 0, 0 };
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    for (unsigned int i = 0; i < CTRL; i++) {
        check_coal(&w, i, 0, 0);
    }
    loopback_world_say(&w, "NOTF_COAL_RX_SET packets=15 usecs=10");
    check_coal(&w, RX0, 15, 10);
    check_coal(&w, RX1, 15, 10);
    check_coal(&w, TX0, 0, 0);
    loopback_world_say(&w, "NOTF_COAL_VQ_SET vq=0 packets=8 usecs=4294967295");
    check_coal(&w, RX0, 8, UINT32_MAX);
    check_coal(&w, RX1, 15, 10);
    loopback_world_say(&w, "NOTF_COAL_VQ_SET vq=1 packets=3 usecs=4");
    loopback_world_say(&w, "NOTF_COAL_VQ_SET vq=3 packets=5 usecs=6");
    check_coal(&w, TX0, 3, 4);
    check_coal(&w, TX1, 5, 6);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 1");
    loopback_world_say_wrong(&w, "NOTF_COAL_VQ_SET vq=3 packets=1 usecs=1");
    loopback_world_say_wrong(&w, "NOTF_COAL_VQ_GET vq=2");
    check_coal(&w, TX0, 3, 4);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    check_coal(&w, TX1, 0, 0);
    check_coal(&w, RX1, 15, 10);
    loopback_world_say(&w, "NOTF_COAL_TX_SET packets=7 usecs=9");
    check_coal(&w, TX0, 7, 9);
    check_coal(&w, TX1, 7, 9);
    loopback_world_say_wrong(&w, "NOTF_COAL_VQ_SET vq=4 packets=1 usecs=1");
    loopback_world_say_wrong(&w, "NOTF_COAL_VQ_GET vq=65535");
    /* Too little room for the result: nothing but the ack. */
    for (uint32_t room = 1; room < 9; room++) {
        const LoopbackRigReply reply = loopback_rig_command(&w.rig, CTRL, get, sizeof(get), room);

        g_assert_cmpuint(reply.ack, ==, NET_CTRL_ERR);
        g_assert_cmpuint(reply.n, ==, 1);
        g_assert_cmpuint(reply.result[0], ==, 0x77);
    }
    loopback_world_cleanup(&w);
}

/* The result goes where there is room for it, however little in one place. */
static void test_result_in_pieces(const void *format)
{
    const VringSegment seg[] = {
        { LOOPBACK_RIG_COMMAND, 6, 0 },
        { LOOPBACK_RIG_REPLY, 1, VRING_DESC_F_WRITE },
        { LOOPBACK_RIG_REPLY + 8, 3, VRING_DESC_F_WRITE },
        { LOOPBACK_RIG_REPLY + 16, 1, VRING_DESC_F_WRITE },
        { LOOPBACK_RIG_REPLY + 24, 7, VRING_DESC_F_WRITE },
    };
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "NOTF_COAL_VQ_SET vq=1 packets=0x04030201 usecs=0x08070605");
    memcpy(w.rig.memory + LOOPBACK_RIG_COMMAND, "\6\3\1\0\0\0", 6);
    memset(w.rig.memory + LOOPBACK_RIG_REPLY, 0x77, 40);
    loopback_rig_add(&w.rig, CTRL, seg, G_N_ELEMENTS(seg), 1);
    g_assert_cmpuint(loopback_rig_wait_used(&w.rig, CTRL, 1), ==, 9);
    g_assert_cmpmem(w.rig.memory + LOOPBACK_RIG_REPLY, 2, "\0\x77", 2);
    g_assert_cmpmem(w.rig.memory + LOOPBACK_RIG_REPLY + 8, 4, "\1\2\3\x77", 4);
    g_assert_cmpmem(w.rig.memory + LOOPBACK_RIG_REPLY + 16, 2, "\4\x77", 2);
    g_assert_cmpmem(w.rig.memory + LOOPBACK_RIG_REPLY + 24, 5, "\5\6\7\10\x77", 5);
    loopback_world_cleanup(&w);
}

static uint8_t *at(const LoopbackWorld *w, uint64_t gpa)
{
    return memory_map_host(w->rig.map, gpa, 1);
}

/* A command and its answer may lie over the edge between two regions, wherever it cuts them. */
static void test_over_the_edge_of_a_region(const void *format)
{
    enum { FIRST = 0x10000, SECOND = 0x18000, RESULT = 1 + 8 };
    static const GuestRegion regions[] = {
        { 0, FIRST, 0 },
        { FIRST, SECOND - FIRST, 0 },
        { SECOND, LOOPBACK_RIG_MEMORY - SECOND, 0 },
    };
    const uint8_t get[] = { 6, 3, 1, 0, 0, 0 };
    const uint8_t expected[RESULT] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
    LoopbackWorld w;
    MemoryMap *old;

    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "NOTF_COAL_VQ_SET vq=1 packets=0x04030201 usecs=0x08070605");
    old = w.rig.map;
    w.rig.map = guest_memory_new(regions, G_N_ELEMENTS(regions));
    g_assert_cmpint(w.rig.dev->ops->set_memory(w.rig.dev, w.rig.map, NULL), ==, 0);
    guest_memory_free(old);
    for (unsigned int i = 0; i <= RESULT; i++) {
        const uint64_t command = FIRST - i % (sizeof(get) + 1), reply = SECOND - i;
        const VringSegment seg[] = {
            { command, sizeof(get), 0 }, { reply, RESULT, VRING_DESC_F_WRITE },
        };

        for (unsigned int j = 0; j < sizeof(get); j++) {
            *at(&w, command + j) = get[j];
        }
        loopback_rig_add(&w.rig, CTRL, seg, G_N_ELEMENTS(seg), i);
        g_assert_cmpuint(loopback_rig_wait_used(&w.rig, CTRL, i), ==, RESULT);
        for (unsigned int j = 0; j < RESULT; j++) {
            g_assert_cmpuint(*at(&w, reply + j), ==, expected[j]);
            *at(&w, reply + j) = 0x77;
        }
    }
    loopback_world_cleanup(&w);
}

/* One wrong command of each kind, between packets and questions that tell what is set. */
static void test_wrong_commands_change_nothing(const void *format)
{
    static const char *const wrong[] = {
        "VLAN_DEL 4096", "MQ_VQ_PAIRS_SET 0", "MQ_VQ_PAIRS_SET 3", "GUEST_OFFLOADS_SET 0x1",
        "MQ_RSS_CONFIG types=0x200 unclassified=0 table=0 transmit=1 key=00",
        "MQ_RSS_CONFIG types=0x1 unclassified=2 table=0 transmit=1 key=00",
        "MQ_RSS_CONFIG types=0x1 unclassified=0 table=2 transmit=1 key=00",
        "MQ_RSS_CONFIG types=0x1 unclassified=0 table=0,0,0 transmit=1 key=00",
        "MQ_RSS_CONFIG types=0x1 unclassified=0 table=0 transmit=0 key=00",
        "MQ_RSS_CONFIG types=0x1 unclassified=0 table=0 transmit=3 key=00",
        "MQ_HASH_CONFIG types=0x1 key=00", "NOTF_COAL_VQ_SET vq=4 packets=1 usecs=1",
        "ANNOUNCE_ACK",
    };
    static const uint8_t bytes[][12] = {
        { 0, 0 }, { 0, 6, 1 }, { 1, 1, 2, 0, 0, 0, 0 }, { 1, 0, 1, 0, 0, 0 },
        { 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, { 2, 2, 5, 0 }, { 7, 0, 1, 0, 0, 0 },
    };
    static const uint32_t lengths[] = { 2, 3, 7, 6, 10, 4, 6 };
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    loopback_world_say(&w, "RX_PROMISC off");
    loopback_world_say(&w, "MAC_TABLE_SET " OTHER " /");
    loopback_world_say(&w, "VLAN_ADD 5");
    loopback_world_say(&w, "NOTF_COAL_RX_SET packets=1 usecs=2");
    for (unsigned int i = 0; i < G_N_ELEMENTS(wrong) + G_N_ELEMENTS(bytes); i++) {
        if (i < G_N_ELEMENTS(wrong)) {
            loopback_world_say_wrong(&w, wrong[i]);
        } else {
            const unsigned int j = i - G_N_ELEMENTS(wrong);

            g_assert_cmpuint(loopback_rig_command(&w.rig, CTRL, bytes[j], lengths[j], 1).ack, ==,
                             NET_CTRL_ERR);
        }
        g_assert_true(passes(&w, OTHER, 5));
        g_assert_false(passes(&w, "02:00:00:00:00:09", 5));
        g_assert_false(passes(&w, OWN, 6));
        check_coal(&w, RX1, 1, 2);
    }
    loopback_world_cleanup(&w);
}

/* What was commanded ends with the driver: the next one finds the device as it was made. */
static void test_reset(const void *format)
{
    const uint8_t own[6] = { 2, 0, 0, 0, 0, 1 };
    uint8_t mac[6];
    LoopbackWorld w;

    loopback_world_init(&w, format, loopback_world_features(), false);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    loopback_world_say(&w, "RX_PROMISC off");
    loopback_world_say(&w, "RX_NOBCAST on");
    loopback_world_say(&w, "MAC_ADDR_SET " OTHER);
    loopback_world_say(&w, "GUEST_OFFLOADS_SET 0");
    loopback_world_say(&w, "NOTF_COAL_RX_SET packets=1 usecs=2");
    loopback_world_stop(&w);
    g_assert_cmpint(w.rig.dev->ops->reset(w.rig.dev, NULL), ==, 0);
    g_assert_cmpint(w.rig.dev->ops->get_config(w.rig.dev, mac, 0, 6, NULL), ==, 0);
    g_assert_cmpmem(mac, 6, own, 6);
    g_assert_cmpint(w.rig.dev->ops->set_features(w.rig.dev, w.rig.features, NULL), ==, 0);
    g_assert_cmpint(w.rig.dev->ops->set_memory(w.rig.dev, w.rig.map, NULL), ==, 0);
    loopback_world_start(&w);
    g_assert_true(passes(&w, BROADCAST, 6));
    check_coal(&w, RX0, 0, 0);
    loopback_world_say_wrong(&w, "NOTF_COAL_VQ_GET vq=2");
    w.sent = (LoopbackHeader){ .flags = 1 };
    g_assert_true(passes(&w, OTHER, -1));
    g_assert_cmpuint(w.received.flags, ==, 1);
    loopback_world_say(&w, "RX_PROMISC off");
    g_assert_true(passes(&w, OWN, -1));
    g_assert_true(passes(&w, BROADCAST, -1));
    g_assert_false(passes(&w, OTHER, -1));
    loopback_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    static const uint64_t formats[] = {
        VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
        VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
    };
    static const struct {
        const char *name;
        GTestDataFunc test;
    } tests[] = {
        { "receive-modes", test_receive_modes },
        { "addresses", test_addresses },
        { "longest-command", test_longest_command },
        { "vlans", test_vlans },
        { "answers-are-filtered", test_answers_are_filtered },
        { "checksums", test_checksums },
        { "checksums-of-answers", test_checksums_of_answers },
        { "wrong-headers", test_wrong_headers },
        { "coalescing", test_coalescing },
        { "result-in-pieces", test_result_in_pieces },
        { "over-the-edge-of-a-region", test_over_the_edge_of_a_region },
        { "wrong-commands-change-nothing", test_wrong_commands_change_nothing },
        { "reset", test_reset },
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned int i = 0; i < G_N_ELEMENTS(tests); i++) {
        for (unsigned int j = 0; j < G_N_ELEMENTS(formats); j++) {
            g_autofree char *name = g_strdup_printf("/loopback-commands/%s-%s",
                                                    j ? "packed" : "split", tests[i].name);

            g_test_add_data_func(name, &formats[j], tests[i].test);
        }
    }
    return g_test_run();
}
