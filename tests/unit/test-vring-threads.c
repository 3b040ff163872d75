/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver and a device in two threads on one ring, each asleep as often as it can be: no
 * wake-up may be lost, and what one wrote before it published the other must read.
 *
 * How it works.  The payload is plain memory: ThreadSanitizer reports it if a barrier of the
 * rings does not order it.  A lost wake-up shows as a sleep that lasts too long.
 */
#include <glib.h>
#include <poll.h>

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "lib/random.h"
#include "util/event-notifier.h"

#define BUFFERS 1000000
#define NUM 64
#define SLEEP_MS 20000

typedef struct World {
    VringConfig config;
    VringDriver driver;
    VringDevice device;
    EventNotifier kick, call;
    uint64_t payload[NUM];      /* by an element's address */
    uint64_t seed;
    uint64_t buffers;
} World;

static void sleep_until(EventNotifier *notifier)
{
    struct pollfd pfd = { .fd = notifier->fd, .events = POLLIN };

    /* Too long a sleep is a wake-up lost. */
    g_assert_cmpint(poll(&pfd, 1, SLEEP_MS), ==, 1);
    event_notifier_test_and_clear(notifier);
}

/* Takes up to a random number of buffers, answers them youngest first, publishes. */
static unsigned int device_burst(World *world, Random *random, uint64_t *expected)
{
    const bool packed = world->config.packed;
    uint16_t ids[NUM];
    unsigned int n, most = random_between(random, 1, NUM);

    for (n = 0; n < most; n++) {
        VringSegment seg[NUM];
        int ret = vring_device_take(&world->device, packed, NULL, seg, NUM, &ids[n]);

        g_assert_cmpint(ret, >=, 0);
        if (ret == 0) {
            break;
        }
        g_assert_cmpuint(world->payload[seg[0].addr], ==, (*expected)++);
        world->payload[seg[0].addr] = ~world->payload[seg[0].addr];
    }
    for (most = n; most > 0; most--) {
        vring_device_put(&world->device, packed, ids[most - 1], 8);
    }
    if (n) {
        vring_device_publish(&world->device, packed);
        if (vring_device_needs_call(&world->device, packed)) {
            event_notifier_set(&world->call);
        }
    }
    return n;
}

static void *device_thread(void *opaque)
{
    World *world = opaque;
    Random random = { world->seed + 1 };
    uint64_t expected = 0;

    while (expected < world->buffers) {
        if (device_burst(world, &random, &expected) == 0 &&
            !vring_device_enable_kick(&world->device, world->config.packed)) {
            sleep_until(&world->kick);
            vring_device_disable_kick(&world->device, world->config.packed);
        }
    }
    return NULL;
}

typedef struct DriverState {
    Random random;
    uint64_t added, collected;
    uint16_t free[NUM];         /* places of the payload */
    unsigned int n_free;
} DriverState;

static bool driver_add_burst(World *world, DriverState *state)
{
    const bool packed = world->config.packed;
    unsigned int most = random_between(&state->random, 1, NUM), n;

    for (n = 0; n < most && state->added < world->buffers; n++) {
        unsigned int descs = random_between(&state->random, 1, 2);
        VringSegment seg[2];

        if (!vring_driver_has_room(&world->driver, descs)) {
            break;
        }
        seg[0] = seg[1] = (VringSegment){ state->free[--state->n_free], 8, VRING_DESC_F_WRITE };
        world->payload[seg[0].addr] = state->added++;
        vring_driver_add(&world->driver, packed, seg, descs, (uint32_t)seg[0].addr);
    }
    if (n) {
        vring_driver_publish(&world->driver, packed);
        if (vring_driver_needs_kick(&world->driver, packed)) {
            event_notifier_set(&world->kick);
        }
    }
    return n > 0;
}

static bool driver_collect_all(World *world, DriverState *state)
{
    uint64_t before = state->collected;
    uint32_t place = 0, len = 0;

    while (vring_driver_collect(&world->driver, world->config.packed, &place, &len) == 1) {
        g_assert_cmpuint(len, ==, 8);
        g_assert_cmpuint(~world->payload[place], <, state->added);
        state->free[state->n_free++] = (uint16_t)place;
        state->collected++;
    }
    return state->collected > before;
}

static void run_driver(World *world)
{
    DriverState state = { .random = { world->seed }, .n_free = NUM };
    unsigned int i;

    for (i = 0; i < NUM; i++) {
        state.free[i] = (uint16_t)i;
    }
    while (state.collected < world->buffers) {
        bool busy = driver_collect_all(world, &state);

        busy |= driver_add_burst(world, &state);
        if (!busy && !vring_driver_enable_call(&world->driver, world->config.packed)) {
            sleep_until(&world->call);
            vring_driver_disable_call(&world->driver, world->config.packed);
        }
    }
}

static void test_threads(const void *data)
{
    const VringConfig *config = data;
    World world = {
        .config = *config,
        .seed = random_seed(),
        .buffers = random_steps(BUFFERS),
    };
    GThread *thread;

    guest_ring_alloc(&world.config);
    g_assert_cmpint(vring_driver_init(&world.driver, &world.config, NULL, 0), ==, 0);
    g_assert_cmpint(vring_device_init(&world.device, &world.config), ==, 0);
    g_assert_cmpint(event_notifier_init(&world.kick), ==, 0);
    g_assert_cmpint(event_notifier_init(&world.call), ==, 0);

    thread = g_thread_new("device", device_thread, &world);
    run_driver(&world);
    g_thread_join(thread);

    event_notifier_cleanup(&world.kick);
    event_notifier_cleanup(&world.call);
    vring_driver_cleanup(&world.driver);
    vring_device_cleanup(&world.device);
    guest_ring_free(&world.config);
}

int main(int argc, char **argv)
{
    static const VringConfig configs[] = {
        { .num = NUM },
        { .num = NUM, .event_idx = true },
        { .num = NUM, .packed = true },
        { .num = NUM, .packed = true, .event_idx = true },
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/vring-threads/split", &configs[0], test_threads);
    g_test_add_data_func("/vring-threads/split+event_idx", &configs[1], test_threads);
    g_test_add_data_func("/vring-threads/packed", &configs[2], test_threads);
    g_test_add_data_func("/vring-threads/packed+event_idx", &configs[3], test_threads);
    return g_test_run();
}
