/* SPDX-License-Identifier: BSD-3-Clause */
/* The loopback device, worked by a driver's hand on its two rings: what it sends it receives. */
#include <poll.h>
#include <string.h>

#include "hw/net/loopback.h"
#include "hw/virtio/features.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "util/event-notifier.h"
#include "util/iothread.h"

#define NUM 8
#define MEMORY_SIZE 0x10000
#define TX_GPA 0x0
#define RX_GPA 0x8000
#define HEADER 12
#define TIMEOUT_MS 10000

enum { RX, TX };

typedef struct Wiring {
    bool packed, event_idx;
    int64_t poll_max_ns;
} Wiring;

typedef struct World {
    Wiring wiring;
    IOThread *iothread;
    VhostDevice *dev;
    MemoryMap *map;
    uint8_t *memory;
    VringConfig config[2];
    VringDriver driver[2];
    EventNotifier kick[2], call[2];
} World;

static void start_ring(World *world, unsigned int which)
{
    VringConfig *config = &world->config[which];
    VhostRing ring = { 0 };

    *config = (VringConfig){ .num = NUM, .packed = world->wiring.packed,
                             .event_idx = world->wiring.event_idx };
    guest_ring_alloc(config);
    g_assert_cmpint(vring_driver_init(&world->driver[which], config, NULL, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&world->kick[which]), ==, 0);
    g_assert_cmpint(event_notifier_init(&world->call[which]), ==, 0);
    ring.num = NUM;
    ring.base = vring_base_start(config->packed);
    ring.areas = config->areas;
    ring.kick_fd = world->kick[which].fd;
    ring.call_fd = world->call[which].fd;
    ring.ctx = iothread_get_aio_context(world->iothread);
    g_assert_cmpint(world->dev->ops->ring_start(world->dev, which, &ring, NULL), ==, 0);
    g_assert_cmpint(world->dev->ops->ring_enable(world->dev, which, true, NULL), ==, 0);
}

static void world_init(World *world, const Wiring *wiring)
{
    static const GuestRegion region = { 0, MEMORY_SIZE, 0 };
    const AioPollParams params = { .max_ns = wiring->poll_max_ns };
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;
    uint64_t features = VIRTIO_F_BIT(VIRTIO_F_VERSION_1) | VIRTIO_F_BIT(VIRTIO_NET_F_MRG_RXBUF);

    features |= wiring->packed ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0;
    features |= wiring->event_idx ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0;
    *world = (World){ .wiring = *wiring };
    config.id = "dev";
    world->iothread = iothread_new("io0", &params, NULL, NULL);
    world->dev = loopback_new(&config, NULL);
    world->map = guest_memory_new(&region, 1);
    world->memory = memory_map_host(world->map, 0, MEMORY_SIZE);
    g_assert_cmpint(world->dev->ops->set_features(world->dev, features, NULL), ==, 0);
    g_assert_cmpint(world->dev->ops->set_memory(world->dev, world->map, NULL), ==, 0);
    start_ring(world, RX);
    start_ring(world, TX);
}

static void world_cleanup(World *world)
{
    unsigned int i;

    for (i = 0; i < 2; i++) {
        g_assert_cmpint(world->dev->ops->ring_stop(world->dev, i, NULL), ==, 0);
        vring_driver_cleanup(&world->driver[i]);
        guest_ring_free(&world->config[i]);
        event_notifier_cleanup(&world->kick[i]);
        event_notifier_cleanup(&world->call[i]);
    }
    world->dev->ops->free(world->dev);
    guest_memory_free(world->map);
    iothread_unref(world->iothread);
}

/* Adds a buffer of one element and kicks only if the device asked for that. */
static void add(World *world, unsigned int which, uint64_t gpa, uint32_t len)
{
    const VringSegment seg = { gpa, len, which == RX ? VRING_DESC_F_WRITE : 0 };
    VringDriver *driver = &world->driver[which];

    vring_driver_add(driver, driver->packed, &seg, 1, (uint32_t)gpa);
    vring_driver_publish(driver, driver->packed);
    if (vring_driver_needs_kick(driver, driver->packed)) {
        event_notifier_set(&world->kick[which]);
    }
}

/* Waits for the next used buffer as a driver does, asleep until it is called. */
static uint32_t wait_used(World *world, unsigned int which, uint32_t expected_gpa)
{
    VringDriver *driver = &world->driver[which];
    uint32_t gpa = 0, len = 0;
    int ret;

    while ((ret = vring_driver_collect(driver, driver->packed, &gpa, &len)) == 0) {
        struct pollfd fd = { .fd = world->call[which].fd, .events = POLLIN };

        if (!vring_driver_enable_call(driver, driver->packed)) {
            g_assert_cmpint(poll(&fd, 1, TIMEOUT_MS), ==, 1);
        }
        event_notifier_test_and_clear(&world->call[which]);
    }
    g_assert_cmpint(ret, ==, 1);
    g_assert_cmphex(gpa, ==, expected_gpa);
    return len;
}

/* Until the device has gone to sleep again after what it was given. */
static void wait_asleep(World *world)
{
    AioContext *ctx = iothread_get_aio_context(world->iothread);
    uint64_t sleeps = aio_context_sleeps(ctx);

    aio_notify(ctx);
    while (aio_context_sleeps(ctx) == sleeps) {
        g_thread_yield();
    }
}

static void test_gives_back_what_is_sent(const void *opaque)
{
    uint16_t num_buffers;
    World world;
    unsigned int i;

    world_init(&world, opaque);
    for (i = 0; i < 3 * NUM; i++) {
        memset(world.memory + TX_GPA + HEADER, (int)i + 1, 88);
        add(&world, RX, RX_GPA, 1000);
        add(&world, TX, TX_GPA, 100);
        g_assert_cmpuint(wait_used(&world, RX, RX_GPA), ==, 100);
        g_assert_cmpuint(wait_used(&world, TX, TX_GPA), ==, 0);
        memcpy(&num_buffers, world.memory + RX_GPA + 10, sizeof(num_buffers));
        g_assert_cmpuint(num_buffers, ==, 1);
        g_assert_cmpmem(world.memory + RX_GPA + HEADER, 88, world.memory + TX_GPA + HEADER, 88);
    }
    world_cleanup(&world);
}

/* A packet that needs more receive buffers than there are waits for them, asleep. */
static void test_waits_for_receive_buffers(const void *opaque)
{
    World world;
    unsigned int i;

    world_init(&world, opaque);
    for (i = 0; i < 4; i++) {
        add(&world, RX, RX_GPA, 100);
        add(&world, RX, RX_GPA + 100, 100);
        add(&world, TX, TX_GPA, 350);
        wait_asleep(&world);
        add(&world, RX, RX_GPA + 200, 100);
        wait_asleep(&world);
        add(&world, RX, RX_GPA + 300, 100);
        g_assert_cmpuint(wait_used(&world, RX, RX_GPA), ==, 100);
        g_assert_cmpuint(wait_used(&world, RX, RX_GPA + 100), ==, 100);
        g_assert_cmpuint(wait_used(&world, RX, RX_GPA + 200), ==, 100);
        g_assert_cmpuint(wait_used(&world, RX, RX_GPA + 300), ==, 50);
        g_assert_cmpuint(wait_used(&world, TX, TX_GPA), ==, 0);
    }
    world_cleanup(&world);
}

/* Disabling the receive queue drops the packet that waits for its buffers. */
static void test_disabling_drops_what_waits(const void *opaque)
{
    World world;

    world_init(&world, opaque);
    add(&world, RX, RX_GPA, 100);
    add(&world, TX, TX_GPA, 350);
    wait_asleep(&world);
    world.dev->ops->ring_enable(world.dev, RX, false, NULL);
    g_assert_cmpuint(wait_used(&world, TX, TX_GPA), ==, 0);
    world.dev->ops->ring_enable(world.dev, RX, true, NULL);
    add(&world, TX, TX_GPA, 80);
    g_assert_cmpuint(wait_used(&world, RX, RX_GPA), ==, 80);
    world_cleanup(&world);
}

/* A driver that receives into what it sends harms itself alone. */
static void test_sends_and_receives_in_one_place(const void *opaque)
{
    World world;

    world_init(&world, opaque);
    add(&world, RX, TX_GPA + 1, 1000);
    add(&world, TX, TX_GPA, 1000);
    g_assert_cmpuint(wait_used(&world, RX, TX_GPA + 1), ==, 1000);
    world_cleanup(&world);
}

static void test_refuses_wrong_configurations(void)
{
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;
    GError *error = NULL;

    config.queue_pairs = 0;
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
    g_assert_cmpint(dev->ops->get_config(dev, space, 24, 1, NULL), ==, -EINVAL);
    g_assert_cmpint(dev->ops->get_config(dev, space, UINT32_MAX, 2, NULL), ==, -EINVAL);
    dev->ops->free(dev);
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
    return g_test_run();
}
