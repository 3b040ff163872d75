/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking over a ring from the device that worked it: that what is in flight is taken on from where it
 * stands if the device works in order, and that it is refused if it may not.
 *
 * How it works.  A driver and a device share a ring; the device takes, completes some and stops.
 * What it says of its position goes into vring_takeover(), and a second device goes on where
 * that says: each buffer must come back once.
 */
#include <glib.h>

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "hw/virtio/vring-takeover.h"
#include "lib/guest.h"

#define NUM 4

typedef struct Ring {
    VringConfig config;
    VringDriver driver;
    VringDevice device;
    uint32_t offered;           /* cookies given out */
} Ring;

static void ring_init(Ring *r, bool packed, bool in_order)
{
    *r = (Ring){ .config = { .num = NUM, .packed = packed, .in_order = in_order } };
    r->config.base = vring_base_start(packed);
    guest_ring_alloc(&r->config);
    g_assert_cmpint(vring_driver_init(&r->driver, &r->config, NULL, 0), ==, 0);
    g_assert_cmpint(vring_device_init(&r->device, &r->config), ==, 0);
}

static void ring_cleanup(Ring *r)
{
    vring_driver_cleanup(&r->driver);
    vring_device_cleanup(&r->device);
    guest_ring_free(&r->config);
}

static void offer(Ring *r, unsigned int n)
{
    const VringSegment seg = { 0x1000, 64, VRING_DESC_F_WRITE };

    while (n--) {
        g_assert_true(vring_driver_has_room(&r->driver, 1));
        vring_driver_add(&r->driver, r->config.packed, &seg, 1, r->offered++);
    }
    vring_driver_publish(&r->driver, r->config.packed);
}

static uint16_t take(Ring *r)
{
    VringSegment seg[NUM];
    uint16_t id = 0;

    g_assert_cmpint(vring_device_take(&r->device, r->config.packed, NULL, seg, NUM, &id), ==, 1);
    return id;
}

static void put(Ring *r, uint16_t id)
{
    vring_device_put(&r->device, r->config.packed, id, 1);
    vring_device_publish(&r->device, r->config.packed);
}

static uint32_t collect(Ring *r)
{
    uint32_t cookie = UINT32_MAX, len;

    g_assert_cmpint(vring_driver_collect(&r->driver, r->config.packed, &cookie, &len), ==, 1);
    return cookie;
}

/* So many buffers there and back, one after the other. */
static void go_round(Ring *r, unsigned int n)
{
    while (n--) {
        offer(r, 1);
        put(r, take(r));
        g_assert_cmpuint(collect(r), ==, r->offered - 1);
    }
}

/* What a device of the kernel would say: it knows nothing of what was used in a split ring. */
static VringBase told(const Ring *r)
{
    return vring_device_base(&r->device);
}

/* A second device goes on at @base, and the rest comes back from cookie @first on, in order. */
static void check_goes_on(Ring *r, VringBase base, uint32_t first)
{
    vring_device_cleanup(&r->device);
    r->config.base = base;
    g_assert_cmpint(vring_device_init(&r->device, &r->config), ==, 0);
    for (; first < r->offered; first++) {
        put(r, take(r));
        g_assert_cmpuint(collect(r), ==, first);
    }
    g_assert_false(vring_device_has_avail(&r->device, r->config.packed));
    g_assert_false(vring_driver_has_used(&r->driver, r->config.packed));
}

static void check_taken_over(Ring *r, bool usually, uint32_t first)
{
    VringError error = { 0 };
    VringBase base;

    g_assert_cmpint(vring_takeover(&r->config, told(r), usually, &base, &error), ==, 0);
    check_goes_on(r, base, first);
}

static void check_refused(Ring *r, VringBase at, bool usually, const char *why)
{
    VringError error = { 0 };
    VringBase base;

    g_assert_cmpint(vring_takeover(&r->config, at, usually, &base, &error), ==, -EPROTO);
    g_assert_nonnull(strstr(error.what, why));
}

static void test_nothing_in_flight(const void *packed)
{
    Ring r;

    ring_init(&r, packed != NULL, false);
    go_round(&r, 7);
    offer(&r, 2);
    check_taken_over(&r, false, 7);
    ring_cleanup(&r);
}

static void test_in_order_by_agreement(const void *packed)
{
    Ring r;

    ring_init(&r, packed != NULL, true);
    go_round(&r, 6);
    offer(&r, 4);
    put(&r, take(&r));
    take(&r);
    take(&r);
    g_assert_cmpuint(collect(&r), ==, 6);
    check_taken_over(&r, false, 7);
    ring_cleanup(&r);
}

static void test_in_flight_without_agreement_is_refused(const void *packed)
{
    Ring r;

    ring_init(&r, packed != NULL, false);
    go_round(&r, 6);
    offer(&r, 1);
    take(&r);
    check_refused(&r, told(&r), false, "overtaken");
    /* Nor is a packed ring believed, which does not show what was used before. */
    if (packed) {
        check_refused(&r, told(&r), true, "overtaken");
    }
    ring_cleanup(&r);
}

/* A network device's split ring, as full as it gets and with room in it, in many a lap. */
static void test_usually_in_order(void)
{
    unsigned int rounds, posted, taken;

    for (rounds = 0; rounds < 3 * NUM; rounds++) {
        for (posted = 1; posted <= NUM; posted++) {
            for (taken = 1; taken <= posted; taken++) {
                unsigned int i;
                Ring r;

                ring_init(&r, false, false);
                go_round(&r, rounds);
                offer(&r, posted);
                for (i = 0; i < taken; i++) {
                    take(&r);
                }
                check_taken_over(&r, true, rounds);
                ring_cleanup(&r);
            }
        }
    }
}

static void test_overtaken_with_a_full_ring_is_refused(void)
{
    Ring r;
    uint16_t younger;

    ring_init(&r, false, false);
    go_round(&r, 5);
    offer(&r, 4);
    take(&r);
    younger = take(&r);
    put(&r, younger);
    g_assert_cmpuint(collect(&r), ==, 6);
    offer(&r, 1);               /* over the place of the one that is missing */
    check_refused(&r, told(&r), true, "overtaken");
    ring_cleanup(&r);
}

static void test_overtaken_with_room_is_refused(void)
{
    Ring r;

    ring_init(&r, false, false);
    go_round(&r, 5);
    offer(&r, 2);
    take(&r);
    put(&r, take(&r));
    check_refused(&r, told(&r), true, "overtaken");
    ring_cleanup(&r);
}

static void test_position_that_cannot_be(const void *packed)
{
    Ring r;

    ring_init(&r, packed != NULL, true);
    go_round(&r, 3);
    offer(&r, 1);
    if (packed) {
        check_refused(&r, (VringBase){ 0x8000 | NUM, 0x8000 }, true, "does not fit");
        check_refused(&r, (VringBase){ 0x8000, 0x8000 | NUM }, true, "does not fit");
        check_refused(&r, (VringBase){ 3, 0x8001 }, true, "does not fit");
    } else {
        check_refused(&r, (VringBase){ .avail = 2 }, true, "does not fit");
        check_refused(&r, (VringBase){ .avail = 5 }, true, "does not fit");     /* not available yet */
        /* A guest may write what it likes there. */
        le16_store(&((VringAvail *)r.config.areas.driver)->idx, 3 + NUM + 1);
        check_refused(&r, (VringBase){ .avail = 3 }, true, "does not fit");
    }
    ring_cleanup(&r);
}

static void test_head_that_cannot_be(void)
{
    Ring r;

    ring_init(&r, false, false);
    offer(&r, 2);
    take(&r);
    le16_store(&((VringAvail *)r.config.areas.driver)->ring[1], NUM);
    check_refused(&r, told(&r), true, "overtaken");
    ring_cleanup(&r);
}

static void test_untold_split_goes_on_at_the_used_index(void)
{
    VringError error = { 0 };
    VringBase base;
    Ring r;

    ring_init(&r, false, false);
    go_round(&r, 5);
    offer(&r, 2);
    take(&r);
    g_assert_cmpint(vring_takeover_untold(&r.config, vring_base_start(false), &base, &error), ==,
                    0);
    check_goes_on(&r, base, 5);
    ring_cleanup(&r);
}

static void test_untold_packed_goes_on_if_nothing_was_used(void)
{
    VringError error = { 0 };
    VringBase start, base;
    Ring r;

    ring_init(&r, true, false);
    go_round(&r, 6);
    start = told(&r);
    offer(&r, 2);
    take(&r);
    g_assert_cmpint(vring_takeover_untold(&r.config, start, &base, &error), ==, 0);
    check_goes_on(&r, base, 6);
    g_assert_cmpint(vring_takeover_untold(&r.config, start, &base, &error), ==, -EPROTO);
    g_assert_nonnull(strstr(error.what, "did not tell"));
    start.used = 0x8000 | NUM;
    g_assert_cmpint(vring_takeover_untold(&r.config, start, &base, &error), ==, -EPROTO);
    ring_cleanup(&r);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*test)(const void *packed);
    } both[] = {
        { "nothing-in-flight", test_nothing_in_flight },
        { "in-order-by-agreement", test_in_order_by_agreement },
        { "in-flight-without-agreement-is-refused", test_in_flight_without_agreement_is_refused },
        { "position-that-cannot-be", test_position_that_cannot_be },
    };
    unsigned int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(both); i++) {
        g_autofree char *split = g_strdup_printf("/vring-takeover/%s/split", both[i].name);
        g_autofree char *packed = g_strdup_printf("/vring-takeover/%s/packed", both[i].name);

        g_test_add_data_func(split, NULL, both[i].test);
        g_test_add_data_func(packed, "packed", both[i].test);
    }
    g_test_add_func("/vring-takeover/usually-in-order", test_usually_in_order);
    g_test_add_func("/vring-takeover/overtaken-with-a-full-ring-is-refused",
                    test_overtaken_with_a_full_ring_is_refused);
    g_test_add_func("/vring-takeover/overtaken-with-room-is-refused",
                    test_overtaken_with_room_is_refused);
    g_test_add_func("/vring-takeover/head-that-cannot-be", test_head_that_cannot_be);
    g_test_add_func("/vring-takeover/untold-split-goes-on-at-the-used-index",
                    test_untold_split_goes_on_at_the_used_index);
    g_test_add_func("/vring-takeover/untold-packed-goes-on-if-nothing-was-used",
                    test_untold_packed_goes_on_if_nothing_was_used);
    return g_test_run();
}
