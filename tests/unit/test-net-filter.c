/* SPDX-License-Identifier: BSD-3-Clause */
/* Which frames a network device passes on: modes, addresses, VLANs. */
#include <glib.h>
#include <string.h>

#include "../../hw/net/net-filter.h"
#include "lib/frame.h"
#include "lib/random.h"

#define OWN "02:00:00:00:00:01"

static const uint8_t unicast[][6] = { { 2, 0, 0, 0, 0, 9 }, { 2, 0, 0, 0, 0, 7 } };
static const uint8_t multicast[][6] = { { 0x33, 0x33, 0, 0, 0, 1 }, { 1, 0, 0x5e, 0, 0, 1 } };

/* In the order of the columns of @modes. */
static const char *const destinations[] = {
    OWN, "02:00:00:00:00:07", "02:00:00:00:00:09", "02:00:00:00:00:08",
    "33:33:00:00:00:01", "01:00:5e:00:00:01", "01:00:5e:00:00:02", "ff:ff:ff:ff:ff:ff",
};

static NetFilter filter_new(void)
{
    NetFilter filter = { .address = net_filter_address((const uint8_t[]){ 2, 0, 0, 0, 0, 1 }) };

    net_filter_set_addresses(&filter, unicast[0], G_N_ELEMENTS(unicast), multicast[0],
                             G_N_ELEMENTS(multicast));
    return filter;
}

/* 5.1.6.5.1: each mode, and which is before which. */
static void test_modes(void)
{
    static const struct {
        const char *expected;
        bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    } modes[] = {
        { "+++-++-+" },
        { "++++++++", .promiscuous = true },
        { "+++-++++", .all_multicast = true },
        { "++++++-+", .all_unicast = true },
        { "+++----+", .no_multicast = true },
        { "----++-+", .no_unicast = true },
        { "+++-++--", .no_broadcast = true },
        { "+++----+", .all_multicast = true, .no_multicast = true },
        { "----++-+", .all_unicast = true, .no_unicast = true },
        { "+++-+++-", .all_multicast = true, .no_broadcast = true },
        { "++++++++", .promiscuous = true, .no_multicast = true, .no_unicast = true,
          .no_broadcast = true },
        { "++++++++", .all_multicast = true, .all_unicast = true },
        { "--------", .no_multicast = true, .no_unicast = true, .no_broadcast = true },
    };
    NetFilter filter = filter_new();

    for (unsigned int i = 0; i < G_N_ELEMENTS(modes); i++) {
        char found[G_N_ELEMENTS(destinations) + 1] = "";

        filter.promiscuous = modes[i].promiscuous;
        filter.all_multicast = modes[i].all_multicast;
        filter.all_unicast = modes[i].all_unicast;
        filter.no_multicast = modes[i].no_multicast;
        filter.no_unicast = modes[i].no_unicast;
        filter.no_broadcast = modes[i].no_broadcast;
        for (unsigned int j = 0; j < G_N_ELEMENTS(destinations); j++) {
            Frame frame;

            frame_begin(&frame, destinations[j]);
            frame_append16(&frame, 0x0800);
            found[j] = net_filter_accepts(&filter, frame.bytes, frame.n) ? '+' : '-';
        }
        g_assert_cmpstr(found, ==, modes[i].expected);
    }
    net_filter_cleanup(&filter);
}

static void test_addresses_are_replaced(void)
{
    NetFilter filter = filter_new(), copy;
    Frame frame;

    frame_begin(&frame, "02:00:00:00:00:07");
    net_filter_copy(&copy, &filter);
    net_filter_set_addresses(&filter, unicast[0], 1, NULL, 0);
    g_assert_false(net_filter_accepts(&filter, frame.bytes, frame.n));
    net_filter_set_addresses(&filter, NULL, 0, unicast[1], 1);
    g_assert_true(net_filter_accepts(&filter, frame.bytes, frame.n));
    net_filter_set_addresses(&filter, NULL, 0, NULL, 0);
    g_assert_false(net_filter_accepts(&filter, frame.bytes, frame.n));
    g_assert_true(net_filter_accepts(&copy, frame.bytes, frame.n));
    net_filter_cleanup(&filter);
    net_filter_cleanup(&copy);
}

/* As many as a command can carry: exactly those are let through. */
static void test_many_addresses(void)
{
    enum { N = 10000 };
    g_autofree uint8_t *macs = g_malloc0(N * 6);
    NetFilter filter = filter_new();
    Frame frame;

    for (unsigned int i = 0; i < N; i++) {
        const uint32_t number = (uint32_t)random_hash(i) << 1 & 0xfffffe;

        macs[6 * i] = 6;
        macs[6 * i + 3] = (uint8_t)(number >> 16);
        macs[6 * i + 4] = (uint8_t)(number >> 8);
        macs[6 * i + 5] = (uint8_t)number;
    }
    net_filter_set_addresses(&filter, macs, N, NULL, 0);
    frame_begin(&frame, OWN);
    for (unsigned int i = 0; i < N; i++) {
        memcpy(frame.bytes, macs + 6 * i, 6);
        g_assert_true(net_filter_accepts(&filter, frame.bytes, frame.n));
        frame.bytes[5] |= 1;    /* no number is odd */
        g_assert_false(net_filter_accepts(&filter, frame.bytes, frame.n));
    }
    net_filter_cleanup(&filter);
}

static bool accepts_tagged(const NetFilter *filter, uint16_t type, uint16_t tci)
{
    Frame frame;

    frame_begin(&frame, OWN);
    frame_tag(&frame, type, tci);
    frame_append16(&frame, 0x0800);
    return net_filter_accepts(filter, frame.bytes, frame.n);
}

static void test_vlans(void)
{
    NetFilter filter = filter_new();

    g_assert_true(accepts_tagged(&filter, 0x8100, 5));
    filter.by_vlan = true;
    g_assert_false(accepts_tagged(&filter, 0x8100, 5));
    g_assert_true(accepts_tagged(&filter, 0x88a8, 5));
    g_assert_true(accepts_tagged(&filter, 0x0800, 5));
    net_filter_set_vlan(&filter, 5, true);
    g_assert_true(accepts_tagged(&filter, 0x8100, 5));
    g_assert_true(accepts_tagged(&filter, 0x8100, 0xf005));     /* priority is no matter */
    g_assert_false(accepts_tagged(&filter, 0x8100, 0));
    g_assert_false(accepts_tagged(&filter, 0x8100, 69));        /* the same bit elsewhere */
    filter.no_unicast = true;
    g_assert_false(accepts_tagged(&filter, 0x8100, 5));
    filter.promiscuous = true;
    g_assert_true(accepts_tagged(&filter, 0x8100, 6));
    net_filter_cleanup(&filter);
}

static void test_each_vlan(void)
{
    NetFilter filter = filter_new();
    unsigned int i;

    filter.by_vlan = true;
    for (i = 0; i < NET_FILTER_VLANS; i++) {
        net_filter_set_vlan(&filter, i, true);
        g_assert_true(accepts_tagged(&filter, 0x8100, (uint16_t)i));
        net_filter_set_vlan(&filter, i, false);
        g_assert_false(accepts_tagged(&filter, 0x8100, (uint16_t)i));
    }
    for (i = 0; i < NET_FILTER_VLANS; i += 2) {
        net_filter_set_vlan(&filter, i, true);
    }
    for (i = 0; i < NET_FILTER_VLANS; i++) {
        g_assert_cmpint(accepts_tagged(&filter, 0x8100, (uint16_t)i), ==, i % 2 == 0);
    }
    net_filter_cleanup(&filter);
}

/* Nothing behind the end of a frame is looked at; what is cut has no tag, or no address. */
static void test_short_frames(void)
{
    NetFilter filter = filter_new();
    Frame frame;

    filter.by_vlan = true;
    frame_begin(&frame, OWN);
    frame_tag(&frame, 0x8100, 5);
    for (size_t n = 0; n <= frame.n; n++) {
        g_autofree uint8_t *exact = g_memdup2(frame.bytes, n);

        g_assert_cmpint(net_filter_accepts(&filter, exact, n), ==, n >= 6 && n < 16);
    }
    filter.promiscuous = true;
    g_assert_true(net_filter_accepts(&filter, NULL, 0));
    net_filter_cleanup(&filter);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-filter/modes", test_modes);
    g_test_add_func("/net-filter/addresses-are-replaced", test_addresses_are_replaced);
    g_test_add_func("/net-filter/many-addresses", test_many_addresses);
    g_test_add_func("/net-filter/vlans", test_vlans);
    g_test_add_func("/net-filter/each-vlan", test_each_vlan);
    g_test_add_func("/net-filter/short-frames", test_short_frames);
    return g_test_run();
}
