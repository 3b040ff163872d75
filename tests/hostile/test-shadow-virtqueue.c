/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A shadow virtqueue between a guest and a device that lie: the queue breaks, says why, and
 * nothing else suffers.
 */
#include <glib.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "util/event-notifier.h"

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

#define WRITE VRING_DESC_F_WRITE
#define NUM 8

/* Two regions side by side that are not so for the device, a hole, and a huge one. */
#define A_GPA 0x10000
#define A_IOVA 0x500000
#define B_GPA 0x20000
#define B_IOVA 0x100000
#define END_GPA 0x30000
#define HUGE_GPA (UINT64_C(1) << 33)
#define HUGE_SIZE (UINT64_C(1) << 33)

typedef struct World {
    bool packed;
    MemoryMap *map;
    VringConfig guest, shadow;
    VringDriver driver;
    VringDevice device;
    ShadowVirtqueue *svq;
    EventNotifier err;
    unsigned int broken;        /* times that we were told */
} World;

static void count_broken(void *opaque)
{
    World *world = opaque;

    world->broken++;
}

static MemoryMap *map_new(void)
{
    static const GuestRegion regions[] = {
        { A_GPA, 0x10000, A_IOVA },
        { B_GPA, 0x10000, B_IOVA },
        { HUGE_GPA, HUGE_SIZE, HUGE_GPA },
    };

    return guest_memory_new(regions, G_N_ELEMENTS(regions));
}

static void world_start(World *world)
{
    const ShadowVirtqueueConfig config = {
        .map = &world->map,
        .guest = world->guest,
        .shadow = world->shadow,
        .guest_kick_fd = -1,
        .guest_call_fd = -1,
        .guest_err_fd = world->err.fd,
        .device_kick_fd = -1,
        .device_call_fd = -1,
        .broken = count_broken,
        .opaque = world,
    };
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(shadow_virtqueue_start(world->svq, &config, &err), ==, 0);
    g_assert_no_error(err);
    g_assert_cmpint(vring_device_init(&world->device, &world->shadow), ==, 0);
}

static void world_init_sizes(World *world, bool packed, uint32_t guest, uint32_t shadow)
{
    *world = (World){
        .packed = packed,
        .guest = { .num = guest, .packed = packed },
        .shadow = { .num = shadow, .packed = packed },
        .map = map_new(),
        .svq = shadow_virtqueue_new("queue"),
    };
    g_assert_cmpint(event_notifier_init(&world->err), ==, 0);
    guest_ring_alloc(&world->guest);
    guest_ring_alloc(&world->shadow);
    g_assert_cmpint(vring_driver_init(&world->driver, &world->guest, NULL, 0), ==, 0);
    world_start(world);
}

static void world_init(World *world, const void *packed)
{
    world_init_sizes(world, packed != NULL, NUM, NUM);
}

static VringBase world_stop(World *world)
{
    VringBase base;

    shadow_virtqueue_detach(world->svq);
    shadow_virtqueue_stop(world->svq, false, &base);
    vring_device_cleanup(&world->device);
    return base;
}

static void world_cleanup(World *world)
{
    if (shadow_virtqueue_get_state(world->svq) != SVQ_QUEUE_STOPPED) {
        world_stop(world);
    }
    shadow_virtqueue_free(world->svq);
    vring_driver_cleanup(&world->driver);
    guest_ring_free(&world->guest);
    guest_ring_free(&world->shadow);
    guest_memory_free(world->map);
    event_notifier_cleanup(&world->err);
}

static void guest_adds(World *world, uint64_t addr, uint32_t len)
{
    const VringSegment seg = { addr, len, WRITE };

    vring_driver_add(&world->driver, world->packed, &seg, 1, (uint32_t)addr);
    vring_driver_publish(&world->driver, world->packed);
}

static uint16_t device_takes(World *world, uint64_t addr, uint32_t len)
{
    VringSegment seg[2 * NUM];
    uint16_t id = 0;

    g_assert_cmpint(vring_device_take(&world->device, world->packed, world->map, seg, 2 * NUM,
                                      &id), ==, 1);
    g_assert_cmphex(seg[0].addr, ==, addr);
    g_assert_cmpuint(seg[0].len, ==, len);
    return id;
}

static void device_uses(World *world, uint16_t id, uint32_t len)
{
    vring_device_put(&world->device, world->packed, id, len);
    vring_device_publish(&world->device, world->packed);
}

static void guest_collects(World *world, uint32_t cookie, uint32_t expected_len)
{
    uint32_t got = 0, len = 0;

    g_assert_cmpint(vring_driver_collect(&world->driver, world->packed, &got, &len), ==, 1);
    g_assert_cmphex(got, ==, cookie);
    g_assert_cmpuint(len, ==, expected_len);
}

static void expect_words(const char *words)
{
    g_test_expect_message("svq", G_LOG_LEVEL_WARNING, words);
}

/* It said so once, told everybody once, and does nothing any more. */
static void assert_broken(World *world)
{
    g_test_assert_expected_messages();
    g_assert_cmpint(shadow_virtqueue_get_state(world->svq), ==, SVQ_QUEUE_BROKEN);
    g_assert_cmpuint(shadow_virtqueue_get_counters(world->svq).errors, ==, 1);
    g_assert_cmpuint(world->broken, ==, 1);
    g_assert_cmpint(event_notifier_test_and_clear(&world->err), ==, 1);
    g_assert_cmpuint(shadow_virtqueue_offer(world->svq), ==, 0);
    g_assert_cmpuint(shadow_virtqueue_return(world->svq), ==, 0);
    g_assert_cmpuint(shadow_virtqueue_get_counters(world->svq).errors, ==, 1);
    g_assert_cmpint(event_notifier_test_and_clear(&world->err), ==, 0);
}

/* What the guest can do wrong. */

static void test_buffer_up_to_the_last_byte(const void *packed)
{
    World world;

    world_init(&world, packed);
    guest_adds(&world, END_GPA - 100, 100);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    device_uses(&world, device_takes(&world, B_IOVA + 0x10000 - 100, 100), 100);
    g_assert_cmpuint(shadow_virtqueue_return(world.svq), ==, 1);
    guest_collects(&world, END_GPA - 100, 100);
    world_cleanup(&world);
}

static void test_buffer_outside(const void *packed)
{
    static const struct {
        uint64_t addr;
        uint32_t len;
        const char *words;
    } outside[] = {
        { END_GPA - 100, 101, "*leaves the guest's memory*value 0x30000;*section 2.*)" },
        { END_GPA, 1, "*leaves the guest's memory*value 0x30000;*section 2.*)" },
        { A_GPA - 1, 2, "*leaves the guest's memory*value 0xffff;*section 2.*)" },
        { 0, UINT32_MAX, "*leaves the guest's memory*value 0x0;*section 2.*)" },
        { UINT64_MAX, 1, "*leaves the guest's memory*value 0xffffffffffffffff;*" },
        { UINT64_MAX - 7, 0x20010, "*leaves the guest's memory*value 0xfffffffffffffff8;*" },
        { HUGE_GPA + HUGE_SIZE - 1, 2, "*leaves the guest's memory*value 0x400000000;*" },
        /* The device's names for memory are not the guest's. */
        { A_IOVA, 1, "*leaves the guest's memory*value 0x500000;*" },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(outside); i++) {
        World world;

        world_init(&world, packed);
        guest_adds(&world, outside[i].addr, outside[i].len);
        expect_words(outside[i].words);
        g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 0);
        assert_broken(&world);
        world_cleanup(&world);
    }
}

static void test_buffer_straddles_regions(const void *packed)
{
    VringSegment seg[2 * NUM];
    uint16_t id = 0;
    World world;

    world_init(&world, packed);
    guest_adds(&world, B_GPA - 30, 100);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    g_assert_cmpint(vring_device_take(&world.device, world.packed, world.map, seg, 2 * NUM, &id),
                    ==, 2);
    g_assert_cmphex(seg[0].addr, ==, A_IOVA + 0x10000 - 30);
    g_assert_cmpuint(seg[0].len, ==, 30);
    g_assert_cmpuint(seg[0].flags, ==, WRITE);
    g_assert_cmphex(seg[1].addr, ==, B_IOVA);
    g_assert_cmpuint(seg[1].len, ==, 70);
    g_assert_cmpuint(seg[1].flags, ==, WRITE);
    device_uses(&world, id, 100);
    g_assert_cmpuint(shadow_virtqueue_return(world.svq), ==, 1);
    guest_collects(&world, B_GPA - 30, 100);
    world_cleanup(&world);
}

/* In a burst of four, each place once has the bad address: those before it are forwarded. */
static void test_bad_address_in_each_place(const void *packed)
{
    unsigned int bad, i;

    for (bad = 0; bad < 4; bad++) {
        World world;

        world_init(&world, packed);
        for (i = 0; i < 4; i++) {
            guest_adds(&world, i == bad ? 0x1000 : A_GPA + i, 1);
        }
        expect_words("queue: broken by the guest: buffer leaves*value 0x1000;*");
        g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, bad);
        assert_broken(&world);
        for (i = 0; i < bad; i++) {
            device_takes(&world, A_IOVA + i, 1);
        }
        world_cleanup(&world);
    }
}

static void test_buffer_too_long(const void *packed)
{
    const VringSegment seg[] = { { HUGE_GPA, UINT32_MAX, WRITE }, { HUGE_GPA, 1, WRITE } };
    World world;

    world_init(&world, packed);
    vring_driver_add(&world.driver, world.packed, seg, 1, 1);
    vring_driver_add(&world.driver, world.packed, seg, 2, 2);
    vring_driver_publish(&world.driver, world.packed);
    expect_words("*broken by the guest: buffer has 2^32 bytes or more*value 0x100000000;*svqd's)");
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    assert_broken(&world);
    world_cleanup(&world);
}

static void test_chain_longer_than_shadow_ring(const void *packed)
{
    VringSegment seg[NUM];
    World world;
    unsigned int i;

    world_init_sizes(&world, packed != NULL, NUM, 4);
    for (i = 0; i < NUM; i++) {
        seg[i] = (VringSegment){ A_GPA + i, 1, WRITE };
    }
    vring_driver_add(&world.driver, world.packed, seg, 4, 1);
    vring_driver_publish(&world.driver, world.packed);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    world_cleanup(&world);

    world_init_sizes(&world, packed != NULL, NUM, 4);
    vring_driver_add(&world.driver, world.packed, seg, 5, 1);
    vring_driver_publish(&world.driver, world.packed);
    expect_words("*more elements than the shadow ring is long (index *, value 0x5;*svqd's)");
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 0);
    assert_broken(&world);
    world_cleanup(&world);

    /* Four elements, but one of them straddles. */
    world_init_sizes(&world, packed != NULL, NUM, 4);
    seg[3] = (VringSegment){ B_GPA - 1, 2, WRITE };
    vring_driver_add(&world.driver, world.packed, seg, 4, 1);
    vring_driver_publish(&world.driver, world.packed);
    expect_words("*more elements than the shadow ring is long (index *, value 0x5;*svqd's)");
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 0);
    assert_broken(&world);
    world_cleanup(&world);
}

/* We look into no header: a chain of single bytes goes through as it is. */
static void test_chain_of_bytes(const void *packed)
{
    VringSegment seg[2 * NUM];
    uint16_t id = 0;
    World world;
    unsigned int i;

    world_init(&world, packed);
    for (i = 0; i < NUM; i++) {
        seg[i] = (VringSegment){ A_GPA + 2 * i, 1, i < 3 ? 0 : WRITE };
    }
    vring_driver_add(&world.driver, world.packed, seg, NUM, 1);
    vring_driver_publish(&world.driver, world.packed);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    g_assert_cmpint(vring_device_take(&world.device, world.packed, world.map, seg, 2 * NUM, &id),
                    ==, NUM);
    for (i = 0; i < NUM; i++) {
        g_assert_cmphex(seg[i].addr, ==, A_IOVA + 2 * i);
        g_assert_cmpuint(seg[i].len, ==, 1);
    }
    world_cleanup(&world);
}

static void test_broken_leaves_others_running(const void *packed)
{
    World bad, good;

    world_init(&bad, packed);
    world_init(&good, packed);
    guest_adds(&bad, 0, 1);
    expect_words("*broken by the guest*");
    g_assert_cmpuint(shadow_virtqueue_offer(bad.svq), ==, 0);
    assert_broken(&bad);
    guest_adds(&good, A_GPA, 10);
    g_assert_cmpuint(shadow_virtqueue_offer(good.svq), ==, 1);
    device_uses(&good, device_takes(&good, A_IOVA, 10), 10);
    g_assert_cmpuint(shadow_virtqueue_return(good.svq), ==, 1);
    guest_collects(&good, A_GPA, 10);
    world_cleanup(&bad);
    world_cleanup(&good);
}

/* A guest that keeps the ring full gets one burst a call, and others their turn. */
static void test_work_is_bounded(const void *packed)
{
    unsigned int i;
    World world;

    world_init_sizes(&world, packed != NULL, 1024, 1024);
    for (i = 0; i < 1024; i++) {
        guest_adds(&world, A_GPA + i, 1);
    }
    for (i = 0; i < 1024 / SVQ_BURST; i++) {
        g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, SVQ_BURST);
    }
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 0);
    for (i = 0; i < 1024; i++) {
        device_uses(&world, device_takes(&world, A_IOVA + i, 1), 0);
    }
    for (i = 0; i < 1024 / SVQ_BURST; i++) {
        g_assert_cmpuint(shadow_virtqueue_return(world.svq), ==, SVQ_BURST);
    }
    g_assert_cmpuint(shadow_virtqueue_return(world.svq), ==, 0);
    world_cleanup(&world);
}

/* The last hit of a map that is gone is not followed. */
static void test_memory_removed(const void *packed)
{
    static const GuestRegion left = { B_GPA, 0x10000, 0x900000 };
    MemoryMap *old;
    World world;

    world_init(&world, packed);
    guest_adds(&world, A_GPA, 1);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    old = world.map;
    world.map = guest_memory_new(&left, 1);
    guest_memory_free(old);

    guest_adds(&world, B_GPA, 1);
    guest_adds(&world, A_GPA, 1);
    expect_words("*broken by the guest: buffer leaves*value 0x10000;*");
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    assert_broken(&world);
    device_takes(&world, A_IOVA, 1);
    device_takes(&world, 0x900000, 1);
    world_cleanup(&world);
}

/* What was sized for the old ring is not used for the new one. */
static void test_in_order_ring_grows(const void *packed)
{
    uint16_t ids[64];
    World world;
    unsigned int i;

    world_init_sizes(&world, packed != NULL, 2, 64);
    world_stop(&world);
    vring_driver_cleanup(&world.driver);
    guest_ring_free(&world.guest);

    world.guest = (VringConfig){ .num = 64, .packed = world.packed, .in_order = true };
    guest_ring_alloc(&world.guest);
    g_assert_cmpint(vring_driver_init(&world.driver, &world.guest, NULL, 0), ==, 0);
    world_start(&world);
    for (i = 0; i < 64; i++) {
        guest_adds(&world, A_GPA + i, 1);
    }
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 64);
    for (i = 0; i < 64; i++) {
        ids[i] = device_takes(&world, A_IOVA + i, 1);
    }
    for (i = 64; i > 0; i--) {
        device_uses(&world, ids[i - 1], 1);
    }
    g_assert_cmpuint(shadow_virtqueue_return(world.svq), ==, 64);
    for (i = 0; i < 64; i++) {
        guest_collects(&world, A_GPA + i, 1);
    }
    world_cleanup(&world);
}

/* What the device can do wrong. */

static void test_device_length(const void *packed)
{
    World world;
    uint16_t first, second;

    world_init(&world, packed);
    guest_adds(&world, A_GPA, 100);
    guest_adds(&world, A_GPA + 100, 100);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 2);
    first = device_takes(&world, A_IOVA, 100);
    second = device_takes(&world, A_IOVA + 100, 100);
    device_uses(&world, first, 100);
    device_uses(&world, second, 101);
    expect_words("queue: broken by the device: used length is more than was writable*0x65;*");
    g_assert_cmpuint(shadow_virtqueue_return(world.svq), ==, 1);
    assert_broken(&world);
    /* What came before the lie is the guest's. */
    guest_collects(&world, A_GPA, 100);
    g_assert_false(vring_driver_has_used(&world.driver, world.packed));
    world_cleanup(&world);
}

static void test_device_id(const void *packed)
{
    World world;

    world_init(&world, packed);
    guest_adds(&world, A_GPA, 100);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    if (packed) {
        guest_packed_desc(&world.shadow, 0, 0, 0, 5,
                          VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED);
    } else {
        VringUsed *used = world.shadow.areas.device;

        le32_store(&used->ring[0].id, 5);
        le16_store_release(&used->idx, 1);
    }
    expect_words("queue: broken by the device: used id is not in flight*value 0x5;*");
    g_assert_cmpuint(shadow_virtqueue_return(world.svq), ==, 0);
    assert_broken(&world);
    world_cleanup(&world);
}

/* A device that lies while the queue is being stopped: nothing is given back wrongly. */
static void test_device_lies_at_stop(const void *packed)
{
    World world;
    uint16_t id = 0;
    VringBase base;

    world_init(&world, packed);
    guest_adds(&world, A_GPA, 100);
    g_assert_cmpuint(shadow_virtqueue_offer(world.svq), ==, 1);
    id = device_takes(&world, A_IOVA, 100);
    device_uses(&world, id, 101);
    base = world_stop(&world);
    g_assert_cmphex(base.avail, ==, vring_base_start(world.packed).avail);
    g_assert_false(vring_driver_has_used(&world.driver, world.packed));
    world_cleanup(&world);
}

static void test_start_refused(void)
{
    g_autoptr(GError) err = NULL;
    ShadowVirtqueueConfig config;
    World world;

    world_init(&world, NULL);
    world_stop(&world);
    config = (ShadowVirtqueueConfig){
        .map = &world.map,
        .guest = world.guest,
        .shadow = world.shadow,
        .guest_kick_fd = -1,
        .guest_call_fd = -1,
        .guest_err_fd = -1,
        .device_kick_fd = -1,
        .device_call_fd = -1,
    };
    config.guest.base.avail = 100;
    g_assert_cmpint(shadow_virtqueue_start(world.svq, &config, &err), ==, -EPROTO);
    g_assert_nonnull(strstr(err->message, "queue: ring of the guest: used index"));
    g_clear_error(&err);
    config.guest.base.avail = 0;
    config.shadow.num = 3;
    g_assert_cmpint(shadow_virtqueue_start(world.svq, &config, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err->message, "queue: ring of the device: queue size"));
    g_assert_cmpint(shadow_virtqueue_get_state(world.svq), ==, SVQ_QUEUE_STOPPED);
    world_cleanup(&world);
}

static void add_both(const char *name, GTestDataFunc test)
{
    g_autofree char *split = g_strdup_printf("/shadow-virtqueue/split-%s", name);
    g_autofree char *packed = g_strdup_printf("/shadow-virtqueue/packed-%s", name);

    g_test_add_data_func(split, NULL, test);
    g_test_add_data_func(packed, "packed", test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_both("buffer-up-to-the-last-byte", test_buffer_up_to_the_last_byte);
    add_both("buffer-outside", test_buffer_outside);
    add_both("buffer-straddles-regions", test_buffer_straddles_regions);
    add_both("bad-address-in-each-place", test_bad_address_in_each_place);
    add_both("buffer-too-long", test_buffer_too_long);
    add_both("chain-longer-than-shadow-ring", test_chain_longer_than_shadow_ring);
    add_both("chain-of-bytes", test_chain_of_bytes);
    add_both("broken-leaves-others-running", test_broken_leaves_others_running);
    add_both("work-is-bounded", test_work_is_bounded);
    add_both("memory-removed", test_memory_removed);
    add_both("in-order-ring-grows", test_in_order_ring_grows);
    add_both("device-length", test_device_length);
    add_both("device-id", test_device_id);
    add_both("device-lies-at-stop", test_device_lies_at_stop);
    g_test_add_func("/shadow-virtqueue/start-refused", test_start_refused);
    return g_test_run();
}
