/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver, a shadow virtqueue in its IOThread and a device, each in a thread of its own and
 * asleep as often as it can be: no wake-up may be lost on either ring, with or without
 * polling, and not where the shadow ring is full half of the time.
 *
 * How it works.  As in test-vring-threads.c: the payload is plain memory, so ThreadSanitizer sees
 * whether it is ordered, and a lost wake-up shows as a sleep that lasts too long.
 */
#include <glib.h>
#include <poll.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "lib/random.h"
#include "util/event-notifier.h"
#include "util/iothread.h"

#define BUFFERS 200000
#define GUEST_NUM 64
#define SHADOW_NUM 16
#define MEMORY_SIZE 0x1000
#define SLEEP_MS 20000

typedef struct World {
    VringConfig guest, shadow;
    MemoryMap *map;
    VringDriver driver;
    VringDevice device;
    ShadowVirtqueue *svq;
    EventNotifier guest_kick, guest_call, device_kick, device_call;
    uint64_t payload[GUEST_NUM];        /* by an element's address */
    uint64_t seed, buffers;
} World;

static void sleep_until(EventNotifier *notifier)
{
    struct pollfd pfd = { .fd = notifier->fd, .events = POLLIN };

    /* Too long a sleep is a wake-up lost. */
    g_assert_cmpint(poll(&pfd, 1, SLEEP_MS), ==, 1);
    event_notifier_test_and_clear(notifier);
}

static bool device_burst(World *world, Random *random, uint64_t *expected)
{
    const bool packed = world->shadow.packed;
    unsigned int most = random_between(random, 1, SHADOW_NUM), n;

    for (n = 0; n < most; n++) {
        VringSegment seg[SHADOW_NUM];
        uint16_t id = 0;
        int ret = vring_device_take(&world->device, packed, NULL, seg, SHADOW_NUM, &id);

        g_assert_cmpint(ret, >=, 0);
        if (ret == 0) {
            break;
        }
        g_assert_cmpuint(world->payload[seg[0].addr], ==, (*expected)++);
        world->payload[seg[0].addr] = ~world->payload[seg[0].addr];
        vring_device_put(&world->device, packed, id, 8);
    }
    if (n) {
        vring_device_publish(&world->device, packed);
        if (vring_device_needs_call(&world->device, packed)) {
            event_notifier_set(&world->device_call);
        }
    }
    return n > 0;
}

static void *device_thread(void *opaque)
{
    World *world = opaque;
    Random random = { world->seed + 1 };
    uint64_t expected = 0;

    while (expected < world->buffers) {
        if (!device_burst(world, &random, &expected) &&
            !vring_device_enable_kick(&world->device, world->shadow.packed)) {
            sleep_until(&world->device_kick);
            vring_device_disable_kick(&world->device, world->shadow.packed);
        }
    }
    return NULL;
}

typedef struct DriverState {
    Random random;
    uint64_t added, collected;
    uint16_t free[GUEST_NUM];   /* places of the payload */
    unsigned int n_free;
} DriverState;

static bool driver_add_burst(World *world, DriverState *state)
{
    const bool packed = world->guest.packed;
    unsigned int most = random_between(&state->random, 1, GUEST_NUM), n;

    for (n = 0; n < most && state->added < world->buffers; n++) {
        unsigned int descs = random_between(&state->random, 1, 3);
        VringSegment seg[3];

        if (!vring_driver_has_room(&world->driver, descs)) {
            break;
        }
        seg[0] = (VringSegment){ state->free[--state->n_free], 8, VRING_DESC_F_WRITE };
        seg[1] = seg[2] = seg[0];
        world->payload[seg[0].addr] = state->added++;
        vring_driver_add(&world->driver, packed, seg, descs, (uint32_t)seg[0].addr);
    }
    if (n) {
        vring_driver_publish(&world->driver, packed);
        if (vring_driver_needs_kick(&world->driver, packed)) {
            event_notifier_set(&world->guest_kick);
        }
    }
    return n > 0;
}

static bool driver_collect_all(World *world, DriverState *state)
{
    uint64_t before = state->collected;
    uint32_t place = 0, len = 0;

    while (vring_driver_collect(&world->driver, world->guest.packed, &place, &len) == 1) {
        g_assert_cmpuint(len, ==, 8);
        /* The device keeps their order, and so do we. */
        g_assert_cmpuint(~world->payload[place], ==, state->collected++);
        state->free[state->n_free++] = (uint16_t)place;
    }
    return state->collected > before;
}

static void run_driver(World *world)
{
    DriverState state = { .random = { world->seed }, .n_free = GUEST_NUM };
    unsigned int i;

    for (i = 0; i < GUEST_NUM; i++) {
        state.free[i] = (uint16_t)i;
    }
    while (state.collected < world->buffers) {
        bool busy = driver_collect_all(world, &state);

        busy |= driver_add_burst(world, &state);
        if (!busy && !vring_driver_enable_call(&world->driver, world->guest.packed)) {
            sleep_until(&world->guest_call);
            vring_driver_disable_call(&world->driver, world->guest.packed);
        }
    }
}

static void world_start(World *world, AioContext *ctx)
{
    const GuestRegion region = { 0, MEMORY_SIZE, 0 };
    g_autoptr(GError) err = NULL;
    ShadowVirtqueueConfig config;

    guest_ring_alloc(&world->guest);
    guest_ring_alloc(&world->shadow);
    world->map = guest_memory_new(&region, 1);
    g_assert_cmpint(event_notifier_init(&world->guest_kick), ==, 0);
    g_assert_cmpint(event_notifier_init(&world->guest_call), ==, 0);
    g_assert_cmpint(event_notifier_init(&world->device_kick), ==, 0);
    g_assert_cmpint(event_notifier_init(&world->device_call), ==, 0);
    g_assert_cmpint(vring_driver_init(&world->driver, &world->guest, NULL, 0), ==, 0);

    config = (ShadowVirtqueueConfig){
        .ctx = ctx,
        .map = &world->map,
        .guest = world->guest,
        .shadow = world->shadow,
        .guest_kick_fd = world->guest_kick.fd,
        .guest_call_fd = world->guest_call.fd,
        .guest_err_fd = -1,
        .device_kick_fd = world->device_kick.fd,
        .device_call_fd = world->device_call.fd,
    };
    world->svq = shadow_virtqueue_new("threads");
    shadow_virtqueue_start(world->svq, &config, &err);
    g_assert_no_error(err);
    g_assert_cmpint(vring_device_init(&world->device, &world->shadow), ==, 0);
}

static void world_stop(World *world)
{
    VringBase base;

    shadow_virtqueue_detach(world->svq);
    shadow_virtqueue_stop(world->svq, false, &base);
    g_assert_cmpuint(shadow_virtqueue_get_counters(world->svq).returned, ==, world->buffers);
    shadow_virtqueue_free(world->svq);
    event_notifier_cleanup(&world->guest_kick);
    event_notifier_cleanup(&world->guest_call);
    event_notifier_cleanup(&world->device_kick);
    event_notifier_cleanup(&world->device_call);
    vring_driver_cleanup(&world->driver);
    vring_device_cleanup(&world->device);
    guest_ring_free(&world->guest);
    guest_ring_free(&world->shadow);
    guest_memory_free(world->map);
}

static void test_threads(const void *data)
{
    unsigned int bits = GPOINTER_TO_UINT(data);
    const AioPollParams polling = { .max_ns = bits & 8 ? 50000 : 0 };
    World world = {
        .guest = { .num = GUEST_NUM, .packed = bits & 1, .event_idx = bits & 4 },
        .shadow = { .num = SHADOW_NUM, .packed = bits & 2, .event_idx = bits & 4 },
        .seed = random_seed(),
        .buffers = random_steps(BUFFERS),
    };
    g_autoptr(GError) err = NULL;
    g_autoptr(IOThread) iothread = iothread_new("threads", &polling, NULL, &err);
    GThread *thread;

    g_assert_no_error(err);
    world_start(&world, iothread_get_aio_context(iothread));
    thread = g_thread_new("device", device_thread, &world);
    run_driver(&world);
    g_thread_join(thread);
    world_stop(&world);
}

/* Stopped before its thread may have heard of the start; and all that are to be wait for it once. */
static void test_many_detach_at_once(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(IOThread) iothread = iothread_new("many", NULL, NULL, &err);
    World worlds[8];
    unsigned int round;
    size_t i;

    g_assert_no_error(err);
    for (round = 0; round < 100; round++) {
        for (i = 0; i < G_N_ELEMENTS(worlds); i++) {
            worlds[i] = (World){ .guest.num = GUEST_NUM, .shadow.num = SHADOW_NUM };
            world_start(&worlds[i], iothread_get_aio_context(iothread));
            shadow_virtqueue_kick_device(worlds[i].svq);
        }
        for (i = 0; i < G_N_ELEMENTS(worlds); i++) {
            shadow_virtqueue_begin_detach(worlds[i].svq);
        }
        /* The last is asked last. */
        shadow_virtqueue_detach(worlds[G_N_ELEMENTS(worlds) - 1].svq);
        for (i = 0; i < G_N_ELEMENTS(worlds); i++) {
            g_assert_cmpint(shadow_virtqueue_get_state(worlds[i].svq), ==, SVQ_QUEUE_STOPPED);
            g_assert_cmpint(event_notifier_test_and_clear(&worlds[i].device_kick), ==, 1);
        }
        for (i = 0; i < G_N_ELEMENTS(worlds); i++) {
            world_stop(&worlds[i]);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned int bits;

    g_test_init(&argc, &argv, NULL);
    for (bits = 0; bits < 16; bits++) {
        g_autofree char *path = g_strdup_printf("/shadow-virtqueue-threads/%s-%s%s%s",
                                                bits & 1 ? "packed" : "split",
                                                bits & 2 ? "packed" : "split",
                                                bits & 4 ? "+event_idx" : "",
                                                bits & 8 ? "+polling" : "");

        g_test_add_data_func(path, GUINT_TO_POINTER(bits), test_threads);
    }
    g_test_add_func("/shadow-virtqueue-threads/many-detach-at-once", test_many_detach_at_once);
    return g_test_run();
}
