/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings by example: what each function of vring-device.h and vring-driver.h does, one small
 * story at a time.  test-vring-model.c tries the rest.
 */
#include <glib.h>

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"

#define TABLES_GPA 0x100000

/* A ring with both of its sides. */
typedef struct Pair {
    VringConfig config;
    VringDriver driver;
    VringDevice device;
    MemoryMap *memory;          /* of indirect tables */
} Pair;

static void pair_init(Pair *pair, const VringConfig *config)
{
    const uint64_t size = config->num * VRING_INDIRECT_MAX * sizeof(VringDesc);
    const GuestRegion region = { TABLES_GPA, size, TABLES_GPA };

    *pair = (Pair){ .config = *config };
    pair->memory = guest_memory_new(&region, 1);
    guest_ring_alloc(&pair->config);
    g_assert_cmpint(vring_driver_init(&pair->driver, &pair->config,
                                      memory_map_host(pair->memory, TABLES_GPA, size),
                                      TABLES_GPA), ==, 0);
    g_assert_cmpint(vring_device_init(&pair->device, &pair->config), ==, 0);
}

static void pair_cleanup(Pair *pair)
{
    vring_driver_cleanup(&pair->driver);
    vring_device_cleanup(&pair->device);
    guest_ring_free(&pair->config);
    guest_memory_free(pair->memory);
}

/* Offers a buffer of @n elements of 100 bytes, the last of them writable. */
static void offer(Pair *pair, unsigned int n, uint32_t cookie)
{
    VringSegment seg[32];
    unsigned int i;

    for (i = 0; i < n; i++) {
        seg[i] = (VringSegment){ 0x1000 * (i + 1), 100, i + 1 < n ? 0 : VRING_DESC_F_WRITE };
    }
    g_assert_true(vring_driver_has_room(&pair->driver, n));
    vring_driver_add(&pair->driver, pair->config.packed, seg, n, cookie);
    vring_driver_publish(&pair->driver, pair->config.packed);
}

/* Takes a buffer that offer() made of @n elements; its id. */
static uint16_t take(Pair *pair, unsigned int n)
{
    VringSegment seg[32];
    uint16_t id = 0;
    unsigned int i;

    g_assert_cmpint(vring_device_take(&pair->device, pair->config.packed, pair->memory, seg, 32,
                                      &id), ==, n);
    for (i = 0; i < n; i++) {
        g_assert_cmphex(seg[i].addr, ==, 0x1000 * (i + 1));
        g_assert_cmpuint(seg[i].len, ==, 100);
        g_assert_cmpuint(seg[i].flags, ==, i + 1 < n ? 0 : VRING_DESC_F_WRITE);
    }
    return id;
}

static void assert_nothing_available(Pair *pair)
{
    VringSegment seg[32];
    uint16_t id = 0;

    g_assert_cmpint(vring_device_take(&pair->device, pair->config.packed, pair->memory, seg, 32,
                                      &id), ==, 0);
}

static void put(Pair *pair, uint16_t id, uint32_t len)
{
    vring_device_put(&pair->device, pair->config.packed, id, len);
    vring_device_publish(&pair->device, pair->config.packed);
}

static void assert_collects(Pair *pair, uint32_t cookie, uint32_t len)
{
    uint32_t got_cookie = 0;
    uint32_t got_len = 0;

    g_assert_cmpint(vring_driver_collect(&pair->driver, pair->config.packed, &got_cookie,
                                         &got_len), ==, 1);
    g_assert_cmpuint(got_cookie, ==, cookie);
    g_assert_cmpuint(got_len, ==, len);
}

static void assert_nothing_used(Pair *pair)
{
    uint32_t cookie = 0;
    uint32_t len;

    g_assert_cmpint(vring_driver_collect(&pair->driver, pair->config.packed, &cookie, &len), ==,
                    0);
}

static void go_round(Pair *pair, unsigned int n, unsigned int times)
{
    while (times--) {
        offer(pair, n, times);
        put(pair, take(pair, n), 7);
        assert_collects(pair, times, 7);
    }
}

static void test_there_and_back(const void *packed)
{
    Pair pair;

    pair_init(&pair, &(VringConfig){ .num = 4, .packed = packed != NULL });
    assert_nothing_available(&pair);
    offer(&pair, 2, 11);
    offer(&pair, 1, 22);
    g_assert_false(vring_driver_has_room(&pair.driver, 2));

    uint16_t first = take(&pair, 2);
    uint16_t second = take(&pair, 1);

    assert_nothing_available(&pair);
    put(&pair, second, 1);
    put(&pair, first, 100);
    assert_collects(&pair, 22, 1);
    assert_collects(&pair, 11, 100);
    assert_nothing_used(&pair);
    pair_cleanup(&pair);
}

static void test_burst_is_invisible_until_published(const void *packed_arg)
{
    const bool packed = packed_arg != NULL;
    const VringSegment seg = { 0x1000, 100, VRING_DESC_F_WRITE };
    Pair pair;
    uint16_t first, second;

    pair_init(&pair, &(VringConfig){ .num = 4, .packed = packed });
    vring_driver_add(&pair.driver, packed, &seg, 1, 1);
    vring_driver_add(&pair.driver, packed, &seg, 1, 2);
    assert_nothing_available(&pair);
    vring_driver_publish(&pair.driver, packed);
    first = take(&pair, 1);
    second = take(&pair, 1);

    vring_device_put(&pair.device, packed, first, 5);
    vring_device_put(&pair.device, packed, second, 6);
    g_assert_true(vring_device_has_unpublished(&pair.device, packed));
    assert_nothing_used(&pair);
    vring_device_publish(&pair.device, packed);
    assert_collects(&pair, 1, 5);
    assert_collects(&pair, 2, 6);
    pair_cleanup(&pair);
}

static void test_packed_wraps_mid_chain(void)
{
    VringBase base;
    Pair pair;

    pair_init(&pair, &(VringConfig){ .num = 5, .packed = true });
    go_round(&pair, 3, 1);
    /* Positions 3, 4, 0: the wrap counter changes inside the chain. */
    offer(&pair, 3, 33);
    put(&pair, take(&pair, 3), 9);
    assert_collects(&pair, 33, 9);
    base = vring_device_base(&pair.device);
    g_assert_cmphex(base.avail, ==, 1);
    g_assert_cmphex(base.used, ==, 1);
    go_round(&pair, 3, 100);
    pair_cleanup(&pair);
}

static void test_split_index_wraps_at_16_bits(void)
{
    Pair pair;

    pair_init(&pair, &(VringConfig){ .num = 2, .event_idx = true });
    go_round(&pair, 1, 65535);
    offer(&pair, 1, 1);
    offer(&pair, 1, 2);
    put(&pair, take(&pair, 1), 0);
    put(&pair, take(&pair, 1), 0);
    assert_collects(&pair, 1, 0);
    assert_collects(&pair, 2, 0);
    g_assert_cmpuint(vring_device_base(&pair.device).avail, ==, 1);
    pair_cleanup(&pair);
}

static void test_untake_offers_again(const void *packed)
{
    uint16_t id = 0;
    Pair pair;

    /* On packed the chain lies across the end of the ring. */
    pair_init(&pair, &(VringConfig){ .num = 4, .packed = packed != NULL });
    go_round(&pair, 3, 1);
    offer(&pair, 3, 5);
    id = take(&pair, 3);
    vring_device_untake(&pair.device, pair.config.packed, id);
    put(&pair, take(&pair, 3), 50);
    assert_collects(&pair, 5, 50);
    pair_cleanup(&pair);
}

static void test_event_window(void)
{
    /* An event is due when the index steps over it: event in [old, now). */
    g_assert_false(vring_need_event(5, 5, 3));
    g_assert_true(vring_need_event(5, 6, 5));
    g_assert_true(vring_need_event(5, 9, 3));
    g_assert_false(vring_need_event(5, 9, 6));
    g_assert_false(vring_need_event(5, 5, 5));
    g_assert_true(vring_need_event(0xffff, 1, 0xfffe));
    g_assert_false(vring_need_event(0xfffd, 1, 0xfffe));
    g_assert_true(vring_need_event(0, 0x8000, 0));
}

static void test_packed_event_window(void)
{
    const uint32_t desc = VRING_PACKED_EVENT_DESC << 16;
    const uint32_t num = 8;

    /* Modes that need no position. */
    g_assert_true(vring_packed_event_due(VRING_PACKED_EVENT_ENABLE << 16, true, 3, 0x8000, 1, num));
    g_assert_false(vring_packed_event_due(VRING_PACKED_EVENT_DISABLE << 16, true, 3, 0x8000, 1,
                                          num));
    /* DESC without EVENT_IDX means enabled. */
    g_assert_true(vring_packed_event_due(desc | 7, false, 3, 0x8000, 1, num));
    /* From 1 to 3 on the first lap: 1 and 2 are due, 0 and 3 are not. */
    g_assert_false(vring_packed_event_due(desc | 0x8000 | 0, true, 3, 0x8000, 2, num));
    g_assert_true(vring_packed_event_due(desc | 0x8000 | 1, true, 3, 0x8000, 2, num));
    g_assert_true(vring_packed_event_due(desc | 0x8000 | 2, true, 3, 0x8000, 2, num));
    g_assert_false(vring_packed_event_due(desc | 0x8000 | 3, true, 3, 0x8000, 2, num));
    /* From 6 on the first lap to 1 on the second: 7 of the first and 0 of the second. */
    g_assert_true(vring_packed_event_due(desc | 0x8000 | 7, true, 1, 0, 3, num));
    g_assert_true(vring_packed_event_due(desc | 0, true, 1, 0, 3, num));
    g_assert_false(vring_packed_event_due(desc | 1, true, 1, 0, 3, num));
    g_assert_false(vring_packed_event_due(desc | 0x8000 | 5, true, 1, 0, 3, num));
    /* A whole lap at once. */
    g_assert_true(vring_packed_event_due(desc | 0x8000 | 2, true, 2, 0, 8, num));
}

static void test_notifications(const void *data)
{
    const VringConfig *config = data;
    const bool packed = config->packed;
    Pair pair;

    pair_init(&pair, config);
    /* The device has nothing to do and goes to sleep. */
    g_assert_false(vring_device_enable_kick(&pair.device, packed));
    offer(&pair, 1, 1);
    g_assert_true(vring_driver_needs_kick(&pair.driver, packed));
    vring_device_disable_kick(&pair.device, packed);
    offer(&pair, 1, 2);
    g_assert_false(vring_driver_needs_kick(&pair.driver, packed));
    /* Looking again tells that there is work. */
    g_assert_true(vring_device_enable_kick(&pair.device, packed));

    /* The same for the driver. */
    g_assert_false(vring_driver_enable_call(&pair.driver, packed));
    put(&pair, take(&pair, 1), 0);
    g_assert_true(vring_device_needs_call(&pair.device, packed));
    vring_driver_disable_call(&pair.driver, packed);
    put(&pair, take(&pair, 1), 0);
    g_assert_false(vring_device_needs_call(&pair.device, packed));
    g_assert_true(vring_driver_enable_call(&pair.driver, packed));
    pair_cleanup(&pair);
}

static void test_indirect_takes_one_descriptor(const void *packed)
{
    Pair pair;

    pair_init(&pair, &(VringConfig){ .num = 1, .packed = packed != NULL, .indirect = true });
    /* Tables pay from three elements on: a ring of one descriptor has room for 8. */
    g_assert_false(vring_driver_has_room(&pair.driver, 2));
    go_round(&pair, 3, 4);
    go_round(&pair, VRING_INDIRECT_MAX, 4);
    g_assert_false(vring_driver_has_room(&pair.driver, VRING_INDIRECT_MAX + 1));
    pair_cleanup(&pair);
}

static void test_split_table_ends_a_chain(void)
{
    VringConfig config = { .num = 4, .indirect = true };
    const GuestRegion region = { 0x1000, 0x1000, 0x1000 };
    MemoryMap *memory = guest_memory_new(&region, 1);
    VringDesc *table = memory_map_host(memory, 0x1800, 0x100);
    VringSegment seg[8];
    VringDevice device;
    uint16_t id = 0;

    guest_ring_alloc(&config);
    g_assert_cmpint(vring_device_init(&device, &config), ==, 0);
    /* The WRITE flag of the descriptor that names the table means nothing (2.7.5.3.2). */
    guest_split_desc(&config, 2, 0xa000, 10, VRING_DESC_F_NEXT, 1);
    guest_split_desc(&config, 1, 0x1800, 48, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
    le64_store(&table[0].addr, 0xb000);
    le64_store(&table[0].meta, vring_split_meta(20, VRING_DESC_F_NEXT, 2));
    le64_store(&table[2].addr, 0xc000);
    le64_store(&table[2].meta, vring_split_meta(30, VRING_DESC_F_WRITE, 0));
    guest_split_avail(&config, 0, 2);

    g_assert_cmpint(vring_device_take(&device, false, memory, seg, 8, &id), ==, 3);
    g_assert_cmpuint(id, ==, 2);
    g_assert_cmphex(seg[0].addr, ==, 0xa000);
    g_assert_cmphex(seg[1].addr, ==, 0xb000);
    g_assert_cmpuint(seg[1].flags, ==, 0);
    g_assert_cmphex(seg[2].addr, ==, 0xc000);
    g_assert_cmpuint(seg[2].flags, ==, VRING_DESC_F_WRITE);
    vring_device_cleanup(&device);
    guest_ring_free(&config);
    guest_memory_free(memory);
}

static void test_table_straddles_regions(const void *packed_arg)
{
    const bool packed = packed_arg != NULL;
    VringConfig config = { .num = 4, .packed = packed, .indirect = true };
    const GuestRegion regions[] = { { 0x1000, 0x1000, 0x1000 }, { 0x2000, 0x1000, 0x9000 } };
    MemoryMap *memory = guest_memory_new(regions, 2);
    VringDesc *before = memory_map_host(memory, 0x1ff0, 16);
    VringDesc *after = memory_map_host(memory, 0x2000, 16);
    VringSegment seg[8];
    VringDevice device;
    uint16_t id = 0;

    guest_ring_alloc(&config);
    g_assert_cmpint(vring_device_init(&device, &config), ==, 0);
    le64_store(&before->addr, 0xb000);
    le64_store(&after->addr, 0xc000);
    if (packed) {
        le64_store(&before->meta, vring_packed_meta(20, 0, 0));
        le64_store(&after->meta, vring_packed_meta(30, 0, VRING_DESC_F_WRITE));
        guest_packed_desc(&config, 0, 0x1ff0, 32, 3, VRING_DESC_F_INDIRECT | VRING_PACKED_F_AVAIL);
    } else {
        le64_store(&before->meta, vring_split_meta(20, VRING_DESC_F_NEXT, 1));
        le64_store(&after->meta, vring_split_meta(30, VRING_DESC_F_WRITE, 0));
        guest_split_desc(&config, 3, 0x1ff0, 32, VRING_DESC_F_INDIRECT, 0);
        guest_split_avail(&config, 0, 3);
    }
    g_assert_cmpint(vring_device_take(&device, packed, memory, seg, 8, &id), ==, 2);
    g_assert_cmpuint(id, ==, 3);
    g_assert_cmphex(seg[0].addr, ==, 0xb000);
    g_assert_cmphex(seg[1].addr, ==, 0xc000);
    vring_device_cleanup(&device);
    guest_ring_free(&config);
    guest_memory_free(memory);
}

static void test_in_order_puts_back_in_order(const void *packed)
{
    Pair pair;
    uint16_t id[3];
    unsigned int i;

    pair_init(&pair, &(VringConfig){ .num = 4, .packed = packed != NULL, .in_order = true });
    for (i = 0; i < 3; i++) {
        offer(&pair, 1, i);
        id[i] = take(&pair, 1);
    }
    put(&pair, id[1], 11);
    put(&pair, id[2], 12);
    g_assert_false(vring_device_has_unpublished(&pair.device, pair.config.packed));
    assert_nothing_used(&pair);
    put(&pair, id[0], 10);
    assert_collects(&pair, 0, 10);
    assert_collects(&pair, 1, 11);
    assert_collects(&pair, 2, 12);
    pair_cleanup(&pair);
}

/* Stops the device and starts another one where it said. */
static void restart(Pair *pair)
{
    vring_device_publish(&pair->device, pair->config.packed);
    pair->config.base = vring_device_base(&pair->device);
    vring_device_cleanup(&pair->device);
    g_assert_cmpint(vring_device_init(&pair->device, &pair->config), ==, 0);
}

static void test_settle_offers_again(const void *packed)
{
    Pair pair;

    pair_init(&pair, &(VringConfig){ .num = 4, .packed = packed != NULL });
    go_round(&pair, 1, 2);
    offer(&pair, 2, 1);
    offer(&pair, 1, 2);
    take(&pair, 2);
    take(&pair, 1);
    g_assert_cmpuint(vring_device_settle(&pair.device, false, NULL), ==, 0);
    restart(&pair);
    put(&pair, take(&pair, 2), 1);
    put(&pair, take(&pair, 1), 2);
    assert_collects(&pair, 1, 1);
    assert_collects(&pair, 2, 2);
    pair_cleanup(&pair);
}

static void test_settle_returns_overtaken_empty(const void *packed)
{
    uint16_t overtaking;
    Pair pair;

    pair_init(&pair, &(VringConfig){ .num = 8, .packed = packed != NULL });
    offer(&pair, 2, 1);
    offer(&pair, 1, 2);
    offer(&pair, 3, 3);
    take(&pair, 2);
    overtaking = take(&pair, 1);
    take(&pair, 3);
    put(&pair, overtaking, 44);
    g_assert_cmpuint(vring_device_settle(&pair.device, false, NULL), ==, 1);
    restart(&pair);
    assert_collects(&pair, 2, 44);
    assert_collects(&pair, 1, 0);
    put(&pair, take(&pair, 3), 55);
    assert_collects(&pair, 3, 55);
    pair_cleanup(&pair);
}

static void test_settle_in_order_releases_what_waits(const void *packed)
{
    uint16_t second;
    Pair pair;

    pair_init(&pair, &(VringConfig){ .num = 4, .packed = packed != NULL, .in_order = true });
    offer(&pair, 1, 1);
    offer(&pair, 1, 2);
    offer(&pair, 1, 3);
    take(&pair, 1);
    second = take(&pair, 1);
    take(&pair, 1);
    put(&pair, second, 22);
    g_assert_cmpuint(vring_device_settle(&pair.device, false, NULL), ==, 1);
    restart(&pair);
    assert_collects(&pair, 1, 0);
    assert_collects(&pair, 2, 22);
    put(&pair, take(&pair, 1), 33);
    assert_collects(&pair, 3, 33);
    pair_cleanup(&pair);
}

static void assert_refused(VringConfig config, const char *what, const char *section)
{
    VringError error = { 0 };

    g_assert_cmpint(vring_config_check(&config, &error), ==, -EINVAL);
    g_assert_cmpstr(error.what, ==, what);
    g_assert_cmpstr(error.section, ==, section);
}

static void test_config_check(void)
{
    static const char *size = "queue size is not 1 to 32768 (split: a power of two)";
    static const char *align = "an area of the queue is misaligned";
    VringError error;

    g_assert_cmpint(vring_config_check(&(VringConfig){ .num = 1 }, &error), ==, 0);
    g_assert_cmpint(vring_config_check(&(VringConfig){ .num = 32768 }, &error), ==, 0);
    g_assert_cmpint(vring_config_check(&(VringConfig){ .num = 3, .packed = true }, &error), ==, 0);
    assert_refused((VringConfig){ .num = 0 }, size, "2.7");
    assert_refused((VringConfig){ .num = 3 }, size, "2.7");
    assert_refused((VringConfig){ .num = 65536 }, size, "2.7");
    assert_refused((VringConfig){ .num = 0, .packed = true }, size, "2.8.10.1");
    assert_refused((VringConfig){ .num = 32769, .packed = true }, size, "2.8.10.1");
    assert_refused((VringConfig){ .num = 4, .areas.desc = (void *)8 }, align, "2.7.1");
    assert_refused((VringConfig){ .num = 4, .areas.driver = (void *)1 }, align, "2.7.1");
    assert_refused((VringConfig){ .num = 4, .areas.device = (void *)2 }, align, "2.7.1");
    assert_refused((VringConfig){ .num = 4, .packed = true, .areas.driver = (void *)2 }, align,
                   "2.8.11");
}

static void add_both(const char *name, GTestDataFunc test)
{
    g_autofree char *split = g_strdup_printf("/vring/split-%s", name);
    g_autofree char *packed = g_strdup_printf("/vring/packed-%s", name);

    g_test_add_data_func(split, NULL, test);
    g_test_add_data_func(packed, "packed", test);
}

int main(int argc, char **argv)
{
    static const VringConfig notify[] = {
        { .num = 4 },
        { .num = 4, .event_idx = true },
        { .num = 4, .packed = true },
        { .num = 4, .packed = true, .event_idx = true },
    };

    g_test_init(&argc, &argv, NULL);
    add_both("there-and-back", test_there_and_back);
    add_both("burst-is-invisible-until-published", test_burst_is_invisible_until_published);
    g_test_add_func("/vring/packed-wraps-mid-chain", test_packed_wraps_mid_chain);
    g_test_add_func("/vring/split-index-wraps-at-16-bits", test_split_index_wraps_at_16_bits);
    add_both("untake-offers-again", test_untake_offers_again);
    g_test_add_func("/vring/event-window", test_event_window);
    g_test_add_func("/vring/packed-event-window", test_packed_event_window);
    g_test_add_data_func("/vring/split-notifications", &notify[0], test_notifications);
    g_test_add_data_func("/vring/split-event-idx-notifications", &notify[1], test_notifications);
    g_test_add_data_func("/vring/packed-notifications", &notify[2], test_notifications);
    g_test_add_data_func("/vring/packed-event-idx-notifications", &notify[3], test_notifications);
    add_both("indirect-takes-one-descriptor", test_indirect_takes_one_descriptor);
    g_test_add_func("/vring/split-table-ends-a-chain", test_split_table_ends_a_chain);
    add_both("table-straddles-regions", test_table_straddles_regions);
    add_both("in-order-puts-back-in-order", test_in_order_puts_back_in_order);
    add_both("settle-offers-again", test_settle_offers_again);
    add_both("settle-returns-overtaken-empty", test_settle_returns_overtaken_empty);
    add_both("settle-in-order-releases-what-waits", test_settle_in_order_releases_what_waits);
    g_test_add_func("/vring/config-check", test_config_check);
    return g_test_run();
}
