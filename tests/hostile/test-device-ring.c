/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that lies about what it has used: each lie is found, named, and moves nothing.
 * What it may say we compare with what we remember, never with what the ring says.
 */
#include <glib.h>

#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "lib/random.h"

#define NUM 4
#define USED (VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED)       /* on the first lap */
#define WRITE VRING_DESC_F_WRITE

/* Our ring towards the device, with three buffers offered: 1, 1 and 2 descriptors. */
typedef struct Ring {
    VringConfig config;
    VringDriver driver;
} Ring;

static void ring_init(Ring *ring, bool packed, bool in_order)
{
    const VringSegment seg[] = { { 0x1000, 100, 0 }, { 0x2000, 50, WRITE } };

    *ring = (Ring){ .config = { .num = NUM, .packed = packed, .in_order = in_order } };
    guest_ring_alloc(&ring->config);
    g_assert_cmpint(vring_driver_init(&ring->driver, &ring->config, NULL, 0), ==, 0);
    vring_driver_add(&ring->driver, packed, &seg[1], 1, 100);       /* id 0 */
    vring_driver_add(&ring->driver, packed, &seg[0], 1, 101);       /* id 1, nothing writable */
    vring_driver_add(&ring->driver, packed, seg, 2, 102);           /* id 2 */
    vring_driver_publish(&ring->driver, packed);
}

static void ring_cleanup(Ring *ring)
{
    vring_driver_cleanup(&ring->driver);
    guest_ring_free(&ring->config);
}

static void device_uses_split(Ring *ring, uint32_t id, uint32_t len)
{
    VringUsed *used = ring->config.areas.device;
    uint16_t idx = le16_load(&used->idx);

    le32_store(&used->ring[idx % NUM].id, id);
    le32_store(&used->ring[idx % NUM].len, len);
    le16_store_release(&used->idx, (uint16_t)(idx + 1));
}

static int collect(Ring *ring, uint32_t *cookie, uint32_t *len)
{
    return vring_driver_collect(&ring->driver, ring->config.packed, cookie, len);
}

static void assert_collects(Ring *ring, uint32_t expected_cookie, uint32_t expected_len)
{
    uint32_t cookie = 0;
    uint32_t len = 0;

    g_assert_cmpint(collect(ring, &cookie, &len), ==, 1);
    g_assert_cmpuint(cookie, ==, expected_cookie);
    g_assert_cmpuint(len, ==, expected_len);
}

static void assert_refuses(Ring *ring, const char *what, const char *section, uint32_t index,
                           uint64_t value)
{
    const uint32_t in_flight = vring_driver_in_flight(&ring->driver, ring->driver.packed), num_free = ring->driver.num_free;
    const VringError *error = &ring->driver.error;
    uint32_t cookie = 0;
    uint32_t len;

    g_assert_cmpint(collect(ring, &cookie, &len), ==, -EPROTO);
    g_assert_cmpstr(error->what, ==, what);
    g_assert_cmpstr(error->section, ==, section);
    g_assert_cmpuint(error->index, ==, index);
    g_assert_cmphex(error->value, ==, value);
    g_assert_cmpuint(vring_driver_in_flight(&ring->driver, ring->driver.packed), ==, in_flight);
    g_assert_cmpuint(ring->driver.num_free, ==, num_free);
}

static void test_split_id_out_of_range(void)
{
    static const uint32_t ids[] = { NUM, 0x10000, 0x80000000, UINT32_MAX };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(ids); i++) {
        Ring ring;

        ring_init(&ring, false, false);
        device_uses_split(&ring, ids[i], 0);
        assert_refuses(&ring, "used id is not below the queue size", "2.7.8", 0, ids[i]);
        ring_cleanup(&ring);
    }
}

static void test_packed_id_out_of_range(void)
{
    static const uint16_t ids[] = { NUM, 0x7fff, 0xffff };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(ids); i++) {
        Ring ring;

        ring_init(&ring, true, false);
        guest_packed_desc(&ring.config, 0, 0, 0, ids[i], USED);
        assert_refuses(&ring, "used id is not below the queue size", "2.8.22", 0, ids[i]);
        ring_cleanup(&ring);
    }
}

/* Id 3 is the second descriptor of a chain, or (packed) no buffer's at all. */
static void test_split_id_not_in_flight(void)
{
    Ring ring;

    ring_init(&ring, false, false);
    device_uses_split(&ring, 3, 0);
    assert_refuses(&ring, "used id is not in flight", "2.7.8", 0, 3);
    ring_cleanup(&ring);
}

static void test_packed_id_not_in_flight(void)
{
    Ring ring;

    ring_init(&ring, true, false);
    guest_packed_desc(&ring.config, 0, 0, 0, 3, USED);
    assert_refuses(&ring, "used id is not in flight", "2.8.22", 0, 3);
    ring_cleanup(&ring);
}

static void test_split_id_twice(void)
{
    Ring ring;

    ring_init(&ring, false, false);
    device_uses_split(&ring, 1, 0);
    device_uses_split(&ring, 1, 0);
    assert_collects(&ring, 101, 0);
    assert_refuses(&ring, "used id is not in flight", "2.7.8", 1, 1);
    ring_cleanup(&ring);
}

static void test_packed_id_twice(void)
{
    Ring ring;

    ring_init(&ring, true, false);
    guest_packed_desc(&ring.config, 0, 0, 0, 1, USED);
    guest_packed_desc(&ring.config, 1, 0, 0, 1, USED);
    assert_collects(&ring, 101, 0);
    assert_refuses(&ring, "used id is not in flight", "2.8.22", 1, 1);
    ring_cleanup(&ring);
}

static void test_split_length(void)
{
    Ring ring;

    ring_init(&ring, false, false);
    device_uses_split(&ring, 0, 50);
    assert_collects(&ring, 100, 50);
    /* Readable bytes do not count. */
    device_uses_split(&ring, 2, 51);
    assert_refuses(&ring, "used length is more than was writable", "2.7.8.2", 1, 51);
    ring_cleanup(&ring);

    ring_init(&ring, false, false);
    device_uses_split(&ring, 1, 1);
    assert_refuses(&ring, "used length is more than was writable", "2.7.8.2", 0, 1);
    ring_cleanup(&ring);

    ring_init(&ring, false, false);
    device_uses_split(&ring, 0, UINT32_MAX);
    assert_refuses(&ring, "used length is more than was writable", "2.7.8.2", 0, UINT32_MAX);
    ring_cleanup(&ring);
}

static void test_packed_length(void)
{
    Ring ring;

    ring_init(&ring, true, false);
    guest_packed_desc(&ring.config, 0, 0, 50, 0, USED | WRITE);
    assert_collects(&ring, 100, 50);
    guest_packed_desc(&ring.config, 1, 0, 51, 2, USED | WRITE);
    assert_refuses(&ring, "used length is more than was writable", "2.8.4", 1, 51);
    /* Not every device that has written says so by the WRITE flag. */
    guest_packed_desc(&ring.config, 1, 0, 51, 2, USED);
    assert_refuses(&ring, "used length is more than was writable", "2.8.4", 1, 51);
    guest_packed_desc(&ring.config, 1, 0, 49, 2, USED);
    assert_collects(&ring, 102, 49);
    ring_cleanup(&ring);
}

static void test_split_index_jumps(void)
{
    static const uint16_t jumps[] = { 4, 5, 0x7fff, 0x8000, 0xffff };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(jumps); i++) {
        VringUsed *used;
        Ring ring;

        ring_init(&ring, false, false);
        used = ring.config.areas.device;
        le16_store(&used->idx, jumps[i]);
        assert_refuses(&ring, "used index jumps further than buffers are in flight", "2.7.8", 0,
                       jumps[i]);
        ring_cleanup(&ring);
    }
}

/* Flags of another lap are not used, however often one looks. */
static void test_packed_wrap_bit_lies(void)
{
    uint32_t cookie = 0;
    uint32_t len;
    Ring ring;

    ring_init(&ring, true, false);
    guest_packed_desc(&ring.config, 0, 0, 0, 0, 0);
    g_assert_cmpint(collect(&ring, &cookie, &len), ==, 0);
    guest_packed_desc(&ring.config, 0, 0, 0, 0, VRING_PACKED_F_USED);
    g_assert_cmpint(collect(&ring, &cookie, &len), ==, 0);

    /* All of the ring used in one lap: what comes after it is no used descriptor. */
    guest_packed_desc(&ring.config, 0, 0, 0, 0, USED);
    guest_packed_desc(&ring.config, 1, 0, 0, 1, USED);
    guest_packed_desc(&ring.config, 2, 0, 0, 2, USED);
    assert_collects(&ring, 100, 0);
    assert_collects(&ring, 101, 0);
    assert_collects(&ring, 102, 0);
    g_assert_cmpint(collect(&ring, &cookie, &len), ==, 0);
    /* A descriptor marked used on the second lap, though nothing is offered. */
    guest_packed_desc(&ring.config, 0, 0, 0, 0, 0);
    assert_refuses(&ring, "used id is not in flight", "2.8.22", 0, 0);
    ring_cleanup(&ring);
}

/* The device rewrites what we wrote: chain links, lengths and flags come from our memory. */
static void test_descriptors_are_not_read_back(const void *packed)
{
    const VringSegment seg = { 0x3000, 10, WRITE };
    unsigned int i;
    Ring ring;

    ring_init(&ring, packed != NULL, false);
    for (i = 0; i < NUM; i++) {
        if (packed) {
            guest_packed_desc(&ring.config, i, UINT64_MAX, UINT32_MAX, 0xffff, 7);
        } else {
            guest_split_desc(&ring.config, i, UINT64_MAX, UINT32_MAX, 7, 0xffff);
        }
    }
    if (packed) {
        guest_packed_desc(&ring.config, 0, 0, 50, 2, USED | WRITE);
        assert_collects(&ring, 102, 50);
        guest_packed_desc(&ring.config, 2, 0, 0, 0, USED);
        assert_collects(&ring, 100, 0);
        guest_packed_desc(&ring.config, 3, 0, 0, 1, USED);
        assert_collects(&ring, 101, 0);
    } else {
        device_uses_split(&ring, 2, 50);
        device_uses_split(&ring, 0, 0);
        device_uses_split(&ring, 1, 0);
        assert_collects(&ring, 102, 50);
        assert_collects(&ring, 100, 0);
        assert_collects(&ring, 101, 0);
    }
    g_assert_cmpuint(ring.driver.num_free, ==, NUM);
    /* The free list is whole. */
    for (i = 0; i < NUM; i++) {
        g_assert_true(vring_driver_has_room(&ring.driver, 1));
        vring_driver_add(&ring.driver, packed != NULL, &seg, 1, i);
    }
    g_assert_false(vring_driver_has_room(&ring.driver, 1));
    ring_cleanup(&ring);
}

static void test_in_order_overtakes(const void *packed)
{
    Ring ring;

    /* Id 1 first stands for ids 0 and 1; then id 0 is no more in flight. */
    ring_init(&ring, packed != NULL, true);
    if (packed) {
        guest_packed_desc(&ring.config, 0, 0, 0, 1, USED);
        guest_packed_desc(&ring.config, 2, 0, 0, 0, USED);
    } else {
        VringUsed *used = ring.config.areas.device;

        le32_store(&used->ring[0].id, 1);
        le32_store(&used->ring[2].id, 0);
        le16_store_release(&used->idx, 3);
    }
    assert_collects(&ring, 100, 50);
    assert_collects(&ring, 101, 0);
    assert_refuses(&ring, "used id is not in flight", packed ? "2.8.8" : "2.7.9", 2, 0);
    ring_cleanup(&ring);
}

static void test_in_order_id_out_of_range(const void *packed)
{
    Ring ring;

    ring_init(&ring, packed != NULL, true);
    if (packed) {
        guest_packed_desc(&ring.config, 0, 0, 0, 0xffff, USED);
    } else {
        device_uses_split(&ring, 0xffff, 0);
    }
    assert_refuses(&ring, "used id is not below the queue size", packed ? "2.8.22" : "2.7.8", 0,
                   0xffff);
    ring_cleanup(&ring);
}

/* The element stands for three buffers, the index was moved by one. */
static void test_in_order_index_does_not_cover_batch(void)
{
    Ring ring;

    ring_init(&ring, false, true);
    device_uses_split(&ring, 2, 0);
    assert_refuses(&ring, "used index does not cover the batch", "2.7.9", 0, 2);
    ring_cleanup(&ring);
}

/* A device that writes at random: nothing comes back twice, nothing that it has not. */
static void lie(Ring *ring, Random *random)
{
    if (ring->config.packed) {
        guest_packed_desc(&ring->config, random_below(random, NUM), 0, random_below(random, 64),
                          (uint16_t)random_below(random, NUM + 1),
                          (uint16_t)random_u64(random) & (USED | WRITE));
    } else {
        VringUsed *used = ring->config.areas.device;
        unsigned int i = random_below(random, NUM);

        le32_store(&used->ring[i].id, random_below(random, NUM + 1));
        le32_store(&used->ring[i].len, random_below(random, 64));
        le16_store_release(&used->idx,
                           (uint16_t)(ring->driver.used_idx + random_below(random, NUM + 2)));
    }
}

static void test_random_lies(const void *data)
{
    const VringConfig *config = data;
    const VringSegment seg[] = { { 0x1000, 100, 0 }, { 0x2000, 50, WRITE } };
    Random random = { random_seed() };
    uint64_t steps = random_steps(100000);
    bool in_flight[8] = { false };
    Ring ring;

    ring_init(&ring, config->packed, config->in_order);
    in_flight[100 % 8] = in_flight[101 % 8] = in_flight[102 % 8] = true;
    while (steps--) {
        uint32_t cookie = 0;
        uint32_t len = 0;
        int ret;

        lie(&ring, &random);
        ret = collect(&ring, &cookie, &len);
        if (ret == 1) {
            g_assert_true(in_flight[cookie % 8]);
            g_assert_cmpuint(len, <=, 50);
            in_flight[cookie % 8] = false;
        } else if (ret < 0) {
            /* Once broken it is not used any more: begin anew. */
            ring_cleanup(&ring);
            ring_init(&ring, config->packed, config->in_order);
            memset(in_flight, 0, sizeof(in_flight));
            in_flight[100 % 8] = in_flight[101 % 8] = in_flight[102 % 8] = true;
            continue;
        }
        for (cookie = 0; cookie < 8; cookie++) {
            unsigned int n = random_between(&random, 1, 2);

            if (!in_flight[cookie] && vring_driver_has_room(&ring.driver, n)) {
                vring_driver_add(&ring.driver, config->packed, seg + 2 - n, n, cookie);
                vring_driver_publish(&ring.driver, config->packed);
                in_flight[cookie] = true;
            }
        }
    }
    ring_cleanup(&ring);
}

int main(int argc, char **argv)
{
    static const VringConfig configs[] = {
        { .packed = false }, { .packed = true },
        { .packed = false, .in_order = true }, { .packed = true, .in_order = true },
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/device-ring/split-id-out-of-range", test_split_id_out_of_range);
    g_test_add_func("/device-ring/packed-id-out-of-range", test_packed_id_out_of_range);
    g_test_add_func("/device-ring/split-id-not-in-flight", test_split_id_not_in_flight);
    g_test_add_func("/device-ring/packed-id-not-in-flight", test_packed_id_not_in_flight);
    g_test_add_func("/device-ring/split-id-twice", test_split_id_twice);
    g_test_add_func("/device-ring/packed-id-twice", test_packed_id_twice);
    g_test_add_func("/device-ring/split-length", test_split_length);
    g_test_add_func("/device-ring/packed-length", test_packed_length);
    g_test_add_func("/device-ring/split-index-jumps", test_split_index_jumps);
    g_test_add_func("/device-ring/packed-wrap-bit-lies", test_packed_wrap_bit_lies);
    g_test_add_data_func("/device-ring/split-descriptors-are-not-read-back", NULL,
                         test_descriptors_are_not_read_back);
    g_test_add_data_func("/device-ring/packed-descriptors-are-not-read-back", "packed",
                         test_descriptors_are_not_read_back);
    g_test_add_data_func("/device-ring/split-in-order-overtakes", NULL, test_in_order_overtakes);
    g_test_add_data_func("/device-ring/packed-in-order-overtakes", "packed",
                         test_in_order_overtakes);
    g_test_add_data_func("/device-ring/split-in-order-id-out-of-range", NULL,
                         test_in_order_id_out_of_range);
    g_test_add_data_func("/device-ring/packed-in-order-id-out-of-range", "packed",
                         test_in_order_id_out_of_range);
    g_test_add_func("/device-ring/in-order-index-does-not-cover-batch",
                    test_in_order_index_does_not_cover_batch);
    g_test_add_data_func("/device-ring/split-random-lies", &configs[0], test_random_lies);
    g_test_add_data_func("/device-ring/packed-random-lies", &configs[1], test_random_lies);
    g_test_add_data_func("/device-ring/split-in-order-random-lies", &configs[2],
                         test_random_lies);
    g_test_add_data_func("/device-ring/packed-in-order-random-lies", &configs[3],
                         test_random_lies);
    return g_test_run();
}
