/* SPDX-License-Identifier: BSD-3-Clause */
/* The loopback device, worked by a driver's hand on its two rings: what it sends it receives. */
#include <string.h>

#include "lib/guest.h"
#include "lib/loopback-rig.h"

#define TX_GPA 0x0
#define RX_GPA 0x8000
#define HEADER 12

enum { RX, TX };

typedef struct Wiring {
    bool packed, event_idx;
    int64_t poll_max_ns;
} Wiring;

static void rig_init(LoopbackRig *rig, const Wiring *wiring, bool icmp_echo)
{
    uint64_t features = LOOPBACK_RIG_FEATURES;
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;

    features |= wiring->packed ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0;
    features |= wiring->event_idx ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0;
    config.icmp_echo = icmp_echo;
    loopback_rig_init(rig, &config, features, wiring->poll_max_ns);
    loopback_rig_start_ring(rig, RX, LOOPBACK_RIG_NUM);
    loopback_rig_start_ring(rig, TX, LOOPBACK_RIG_NUM);
}

static void test_gives_back_what_is_sent(const void *opaque)
{
    uint16_t num_buffers;
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, opaque, false);
    for (i = 0; i < 3 * LOOPBACK_RIG_NUM; i++) {
        memset(rig.memory + TX_GPA + HEADER, (int)i + 1, 88);
        loopback_rig_add_one(&rig, RX, RX_GPA, 1000);
        loopback_rig_add_one(&rig, TX, TX_GPA, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA), ==, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA), ==, 0);
        memcpy(&num_buffers, rig.memory + RX_GPA + 10, sizeof(num_buffers));
        g_assert_cmpuint(num_buffers, ==, 1);
        g_assert_cmpmem(rig.memory + RX_GPA + HEADER, 88, rig.memory + TX_GPA + HEADER, 88);
    }
    loopback_rig_cleanup(&rig);
}

/* A packet that needs more receive buffers than there are waits for them, asleep. */
static void test_waits_for_receive_buffers(const void *opaque)
{
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, opaque, false);
    for (i = 0; i < 4; i++) {
        loopback_rig_add_one(&rig, RX, RX_GPA, 100);
        loopback_rig_add_one(&rig, RX, RX_GPA + 100, 100);
        loopback_rig_add_one(&rig, TX, TX_GPA, 350);
        loopback_rig_wait_asleep(&rig, TX);
        loopback_rig_add_one(&rig, RX, RX_GPA + 200, 100);
        loopback_rig_wait_asleep(&rig, TX);
        loopback_rig_add_one(&rig, RX, RX_GPA + 300, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA), ==, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA + 100), ==, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA + 200), ==, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA + 300), ==, 50);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA), ==, 0);
    }
    loopback_rig_cleanup(&rig);
}

/* Disabling the receive queue drops the packet that waits for its buffers. */
static void test_disabling_drops_what_waits(const void *opaque)
{
    LoopbackRig rig;

    rig_init(&rig, opaque, false);
    loopback_rig_add_one(&rig, RX, RX_GPA, 100);
    loopback_rig_add_one(&rig, TX, TX_GPA, 350);
    loopback_rig_wait_asleep(&rig, TX);
    rig.dev->ops->ring_enable(rig.dev, RX, false, NULL);
    g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA), ==, 0);
    rig.dev->ops->ring_enable(rig.dev, RX, true, NULL);
    loopback_rig_add_one(&rig, TX, TX_GPA, 80);
    g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA), ==, 80);
    loopback_rig_cleanup(&rig);
}

/*
 * With icmp_echo the answer comes, wherever the driver has put the parts of the frame and of
 * the receive buffers; what lies behind the headers is as it was sent.
 */
static void test_answers(const void *opaque)
{
    static const uint8_t ping[] = {
        0x02, 'e', 'c', 'h', 'o', 0, 2, 0, 0, 0, 0, 2, 8, 0,
        0x45, 0, 2, 0x58, 0x1c, 0x46, 0, 0, 64, 1, 0x43, 0xfb, 10, 0, 2, 15, 10, 0, 2, 77,
        8, 0, 0x12, 0x34, 0, 7, 0, 1,
    };
    static const uint8_t pong[] = {
        2, 0, 0, 0, 0, 2, 0x02, 'e', 'c', 'h', 'o', 0, 8, 0,
        0x45, 0, 2, 0x58, 0x1c, 0x46, 0, 0, 64, 1, 0x43, 0xfb, 10, 0, 2, 77, 10, 0, 2, 15,
        0, 0, 0x1a, 0x34, 0, 7, 0, 1,
    };
    const uint32_t size = HEADER + 614, rest = size - HEADER - sizeof(pong);
    LoopbackRig rig;
    uint32_t cut;

    rig_init(&rig, opaque, true);
    memset(rig.memory + TX_GPA, 0, HEADER);
    memcpy(rig.memory + TX_GPA + HEADER, ping, sizeof(ping));
    memset(rig.memory + TX_GPA + HEADER + sizeof(ping), 0x5a, rest);
    for (cut = 1; cut < 130; cut++) {
        const VringSegment tx[] = { { TX_GPA, cut, 0 }, { TX_GPA + cut, size - cut, 0 } };
        const uint32_t first = 131 - cut;

        memset(rig.memory + RX_GPA, 0, size);
        loopback_rig_add_one(&rig, RX, RX_GPA, first);
        loopback_rig_add_one(&rig, RX, RX_GPA + first, 1000);
        loopback_rig_add(&rig, TX, tx, G_N_ELEMENTS(tx), TX_GPA);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA), ==, first);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA + first), ==, size - first);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA), ==, 0);
        g_assert_cmpmem(rig.memory + RX_GPA + HEADER, sizeof(pong), pong, sizeof(pong));
        g_assert_cmpmem(rig.memory + RX_GPA + HEADER + sizeof(pong), rest,
                        rig.memory + TX_GPA + HEADER + sizeof(pong), rest);
        g_assert_cmpmem(rig.memory + TX_GPA + HEADER, sizeof(ping), ping, sizeof(ping));
    }
    /* Shorter than any header, down to nothing at all. */
    for (cut = HEADER; cut < HEADER + 42; cut++) {
        memset(rig.memory + RX_GPA, 0, size);
        loopback_rig_add_one(&rig, RX, RX_GPA, 1000);
        loopback_rig_add_one(&rig, TX, TX_GPA, cut);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA), ==, cut);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA), ==, 0);
        g_assert_cmpmem(rig.memory + RX_GPA + HEADER, cut - HEADER, ping, cut - HEADER);
    }
    loopback_rig_cleanup(&rig);
}

/* A driver that receives into what it sends harms itself alone. */
static void test_sends_and_receives_in_one_place(const void *opaque)
{
    LoopbackRig rig;

    rig_init(&rig, opaque, false);
    loopback_rig_add_one(&rig, RX, TX_GPA + 1, 1000);
    loopback_rig_add_one(&rig, TX, TX_GPA, 1000);
    g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, TX_GPA + 1), ==, 1000);
    loopback_rig_cleanup(&rig);
}

static void fill(const MemoryMap *map, uint64_t gpa, const uint8_t *bytes, uint32_t n)
{
    for (; n; n--) {
        *(uint8_t *)memory_map_host(map, gpa++, 1) = *bytes++;
    }
}

static void check(const MemoryMap *map, uint64_t gpa, const uint8_t *bytes, uint32_t n)
{
    for (; n; n--) {
        g_assert_cmphex(*(uint8_t *)memory_map_host(map, gpa++, 1), ==, *bytes++);
    }
}

/* Where two regions meet is nothing that a driver knows of. */
static void test_straddles_regions(const void *opaque)
{
    static const GuestRegion regions[] = {
        { 0, 0x8000, 0 }, { 0x8000, 0x40, 0 }, { 0x8040, 0x8000, 0 },
    };
    MemoryMap *map = guest_memory_new(regions, G_N_ELEMENTS(regions));
    uint8_t packet[400] = { 0 };
    LoopbackRig rig;
    uint32_t i;

    rig_init(&rig, opaque, false);
    g_assert_cmpint(rig.dev->ops->set_memory(rig.dev, map, NULL), ==, 0);
    for (i = HEADER; i < sizeof(packet); i++) {
        packet[i] = (uint8_t)(i * 7);
    }
    for (i = 0; i < sizeof(packet); i++) {
        const uint64_t at = 0x8000 - i;
        const bool send = i % 2;

        fill(map, send ? at : 0x1000, packet, sizeof(packet));
        loopback_rig_add_one(&rig, RX, send ? 0x1000 : at, 150);
        loopback_rig_add_one(&rig, RX, (send ? 0x1000 : at) + 150, 250);
        loopback_rig_add_one(&rig, TX, send ? at : 0x1000, sizeof(packet));
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, send ? 0x1000 : (uint32_t)at), ==, 150);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, (send ? 0x1000 : (uint32_t)at) + 150), ==,
                         250);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, send ? (uint32_t)at : 0x1000), ==, 0);
        check(map, (send ? 0x1000 : at) + HEADER, packet + HEADER, sizeof(packet) - HEADER);
        fill(map, send ? 0x1000 : at, (const uint8_t[400]){ 0 }, sizeof(packet));
    }
    loopback_rig_cleanup(&rig);
    guest_memory_free(map);
}

static void test_refuses_wrong_configurations(void)
{
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;
    GError *error = NULL;

    config.queue_pairs = 0;
    g_assert_null(loopback_new(&config, &error));
    g_assert_nonnull(strstr(error->message, "queue-pairs"));
    g_clear_error(&error);
    config.queue_pairs = 128;
    g_assert_null(loopback_new(&config, &error));
    g_assert_nonnull(strstr(error->message, "queue-pairs"));
    g_clear_error(&error);
    config = LOOPBACK_CONFIG_DEFAULT;
    config.mtu = 67;
    g_assert_null(loopback_new(&config, &error));
    g_assert_nonnull(strstr(error->message, "mtu"));
    g_clear_error(&error);
    config = LOOPBACK_CONFIG_DEFAULT;
    config.mac[0] |= 1;
    g_assert_null(loopback_new(&config, &error));
    g_assert_nonnull(strstr(error->message, "mac"));
    g_clear_error(&error);
}

static void test_configuration_space(void)
{
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;
    VhostDevice *dev;
    uint8_t space[24];

    config.id = "dev";
    config.queue_pairs = 3;
    config.mtu = 9000;
    dev = loopback_new(&config, NULL);
    g_assert_cmpint(dev->ops->get_config(dev, space, 0, sizeof(space), NULL), ==, 0);
    g_assert_cmpmem(space, 6, config.mac, 6);
    g_assert_cmpuint(space[6], ==, 1);      /* link up */
    g_assert_cmpuint(space[8], ==, 3);      /* max_virtqueue_pairs */
    g_assert_cmpuint(space[10] | space[11] << 8, ==, 9000);
    g_assert_cmpuint(space[17], ==, 40);    /* rss_max_key_size */
    g_assert_cmpuint(space[18] | space[19] << 8, ==, 128);      /* indirection table */
    g_assert_cmpuint(space[20] | space[21] << 8 | space[22] << 16 | space[23] << 24, ==, 0x1ff);
    g_assert_cmpint(dev->ops->get_config(dev, space, 24, 1, NULL), ==, -EINVAL);
    g_assert_cmpint(dev->ops->get_config(dev, space, UINT32_MAX, 2, NULL), ==, -EINVAL);
    dev->ops->free(dev);
}

/* Those that choose between pairs are there if there is a choice. */
static void test_features_of_pairs(void)
{
    const uint64_t choice = net_ctrl_spec(NET_CTRL_MQ_VQ_PAIRS_SET)->needs |
                            net_ctrl_spec(NET_CTRL_MQ_RSS_CONFIG)->needs;
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;

    config.id = "dev";
    for (config.queue_pairs = 1; config.queue_pairs <= 2; config.queue_pairs++) {
        VhostDevice *dev = loopback_new(&config, NULL);
        uint64_t needed = 0;

        for (unsigned int id = 0; id < NET_CTRL_COUNT; id++) {
            needed |= id == NET_CTRL_ANNOUNCE_ACK ? 0 : net_ctrl_spec(id)->needs;
        }
        needed &= config.queue_pairs > 1 ? UINT64_MAX : ~choice;
        g_assert_cmphex(dev->features & needed, ==, needed);
        g_assert_cmphex(dev->features & choice, ==, needed & choice);
        g_assert_cmphex(dev->features & net_ctrl_spec(NET_CTRL_ANNOUNCE_ACK)->needs, ==, 0);
        dev->ops->free(dev);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc test;
    } tests[] = {
        { "gives-back-what-is-sent", test_gives_back_what_is_sent },
        { "waits-for-receive-buffers", test_waits_for_receive_buffers },
        { "disabling-drops-what-waits", test_disabling_drops_what_waits },
        { "sends-and-receives-in-one-place", test_sends_and_receives_in_one_place },
        { "answers", test_answers },
        { "straddles-regions", test_straddles_regions },
    };
    static const Wiring wirings[] = {
        { false, false, 0 }, { false, true, 0 }, { true, false, 0 }, { true, true, 0 },
        { false, true, 32768 }, { true, true, 32768 },
    };
    unsigned int i, j;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(tests); i++) {
        for (j = 0; j < G_N_ELEMENTS(wirings); j++) {
            g_autofree char *name = g_strdup_printf(
                "/loopback/%s%s-%s-%s", wirings[j].packed ? "packed" : "split",
                wirings[j].event_idx ? "+event_idx" : "",
                wirings[j].poll_max_ns ? "polled" : "kicked", tests[i].name);

            g_test_add_data_func(name, &wirings[j], tests[i].test);
        }
    }
    g_test_add_func("/loopback/refuses-wrong-configurations", test_refuses_wrong_configurations);
    g_test_add_func("/loopback/configuration-space", test_configuration_space);
    g_test_add_func("/loopback/features-of-pairs", test_features_of_pairs);
    return g_test_run();
}
