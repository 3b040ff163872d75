/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Indexes that change while a burst is moved, or go back: between the loop for buffers of one
 * descriptor and the loop for all others; in the middle of a batch.
 *
 * How it works.  A thread moves the available index to where it may not be and back again, all the
 * time.  What the queue may do is forward what was made available, or break; never more.
 */
#include <glib.h>
#include <stdatomic.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"

enum { NUM = 256, ROUNDS = 20000 };

typedef struct World {
    VringConfig guest, shadow;
    MemoryMap *map;
    _Atomic bool over;
} World;

static void *mind_changer(void *opaque)
{
    World *world = opaque;
    VringAvail *avail = world->guest.areas.driver;

    while (!atomic_load_explicit(&world->over, memory_order_relaxed)) {
        unsigned int i;

        le16_store(&avail->idx, 1);
        for (i = 0; i < 50; i++) {
            atomic_signal_fence(memory_order_seq_cst);
        }
        le16_store(&avail->idx, NUM + 1000);
        for (i = 0; i < 50; i++) {
            atomic_signal_fence(memory_order_seq_cst);
        }
    }
    return NULL;
}

static void say_nothing(const char *domain, GLogLevelFlags level, const char *message, void *opaque)
{
}

static void test_index_changes_between_loops(void)
{
    const GuestRegion region = { 0, 0x10000, 0 };
    g_autofree World *world = g_new0(World, 1);
    unsigned int i, broken = 0, most = 0;
    GThread *thread;

    g_log_set_default_handler(say_nothing, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    world->map = guest_memory_new(&region, 1);
    world->guest.num = world->shadow.num = NUM;
    guest_ring_alloc(&world->guest);
    guest_ring_alloc(&world->shadow);
    /* One buffer of two descriptors is available; behind it lie what looks like others. */
    for (i = 0; i < NUM; i++) {
        VringAvail *avail = world->guest.areas.driver;

        guest_split_desc(&world->guest, i, 0x100, 16, VRING_DESC_F_NEXT, (uint16_t)(i | 1));
        if (i & 1) {
            guest_split_desc(&world->guest, i, 0x200, 16, 0, 0);
        }
        le16_store(&avail->ring[i], (uint16_t)(2 * i % NUM));
    }
    thread = g_thread_new("mind-changer", mind_changer, world);
    for (i = 0; i < ROUNDS; i++) {
        const ShadowVirtqueueConfig config = {
            .map = &world->map,
            .guest = world->guest,
            .shadow = world->shadow,
            .guest_kick_fd = -1,
            .guest_call_fd = -1,
            .guest_err_fd = -1,
            .device_kick_fd = -1,
            .device_call_fd = -1,
        };
        ShadowVirtqueue *svq = shadow_virtqueue_new("mind");
        g_autoptr(GError) err = NULL;
        unsigned int n;
        VringBase base;

        le16_store(&((VringUsed *)world->guest.areas.device)->idx, 0);
        shadow_virtqueue_start(svq, &config, &err);
        g_assert_no_error(err);
        n = shadow_virtqueue_offer(svq);
        most = MAX(most, n);
        broken += shadow_virtqueue_get_state(svq) == SVQ_QUEUE_BROKEN;
        shadow_virtqueue_detach(svq);
        shadow_virtqueue_stop(svq, false, &base);
        shadow_virtqueue_free(svq);
    }
    atomic_store(&world->over, true);
    g_thread_join(thread);
    g_test_message("broken %u of %u, most forwarded %u", broken, ROUNDS, most);
    /* One buffer is available, or the index is a lie. */
    g_assert_cmpuint(most, <=, 1);
    g_assert_cmpuint(broken, >, 0);
    guest_ring_free(&world->guest);
    guest_ring_free(&world->shadow);
    guest_memory_free(world->map);
}

/* The driver takes back what it had made available. */
static void test_available_index_goes_back(void)
{
    VringConfig config = { .num = 8 };
    VringSegment seg[8];
    VringDevice device;
    unsigned int i;
    uint16_t id;

    guest_ring_alloc(&config);
    for (i = 0; i < 4; i++) {
        guest_split_desc(&config, i, 0x100, 16, 0, 0);
        guest_split_avail(&config, (uint16_t)i, (uint16_t)i);
    }
    g_assert_cmpint(vring_device_init(&device, &config), ==, 0);
    g_assert_cmpint(vring_device_take(&device, false, NULL, seg, 8, &id), ==, 1);
    le16_store(&((VringAvail *)config.areas.driver)->idx, 2);
    {
        VringTaking t;

        g_assert_cmpint(vring_device_begin_taking(&device, false, 64, &t), ==, -EPROTO);
    }
    vring_device_cleanup(&device);
    guest_ring_free(&config);
}

/* IN_ORDER: a batch of four is used, and while we collect it the index goes back. */
static void test_used_index_goes_back_in_a_batch(void)
{
    static const VringSegment seg = { 0x100, 16, VRING_DESC_F_WRITE };
    VringConfig config = { .num = 8, .in_order = true };
    uint32_t i, cookie, len;
    VringDriver driver;
    VringUsed *used;
    int ret;

    guest_ring_alloc(&config);
    used = config.areas.device;
    g_assert_cmpint(vring_driver_init(&driver, &config, NULL, 0), ==, 0);
    for (i = 0; i < 4; i++) {
        vring_driver_add(&driver, false, &seg, 1, i);
    }
    vring_driver_publish(&driver, false);
    le32_store(&used->ring[0].id, 3);
    le32_store(&used->ring[0].len, 16);
    le16_store_release(&used->idx, 4);
    {
        VringCollecting c;
        VringCollected buffer;

        g_assert_cmpint(vring_driver_begin_collecting(&driver, false, true, 64, &c), ==, 4);
        g_assert_cmpint(vring_driver_collect_next(&driver, false, true, &c, &buffer), ==, 1);
        vring_driver_end_collecting(&driver, false, true, &c, 1);
        le16_store(&used->idx, 1);
        /* It is noticed, or it does not matter. */
        ret = vring_driver_begin_collecting(&driver, false, true, 64, &c);
        g_assert_cmpint(ret, !=, 0);
    }
    /* Who is told that there is something can collect it: else a loop goes on for ever. */
    if (vring_driver_enable_call(&driver, false)) {
        g_assert_cmpint(vring_driver_collect(&driver, false, &cookie, &len), !=, 0);
    }
    vring_driver_cleanup(&driver);
    guest_ring_free(&config);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/index-moves/index-changes-between-loops",
                    test_index_changes_between_loops);
    g_test_add_func("/index-moves/available-index-goes-back", test_available_index_goes_back);
    g_test_add_func("/index-moves/used-index-goes-back-in-a-batch",
                    test_used_index_goes_back_in_a_batch);
    return g_test_run();
}
