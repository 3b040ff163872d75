/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two queues in one event loop, one of them flooded: what the other waits for is bounded, and
 * who is alone is not held back.
 *
 * How it works.  The test is driver and device of both queues and calls the loop itself, an
 * iteration at a time; so it sees how many buffers each queue moved in it.  Nothing depends on
 * time: a loop that polls does so for ever, and one that does not finds all in bottom halves.
 */
#include <glib.h>

#include "rig.h"

enum {
    BURST = 64,                 /* who is alone */
    SHARED_BURST = 16,
    BUDGET = 4,                 /* bursts, where the loop does not poll */
    ITERATIONS = 500,
    SETTLE = 100,               /* iterations until the queue knows whether it is alone */
};

typedef struct World {
    AioContext *ctx;
    Rig *flooded, *other;
    _Atomic bool taken_over;    /* the loop, by a thread */
    _Atomic bool over;
} World;

static Rig *world_add(World *world, const char *name, unsigned int formats)
{
    const BenchOptions options = {
        .guest_packed = formats & 1,
        .shadow_packed = formats & 2,
        .event_idx = true,
        .descriptors = 1,
        .ranges = 1,
        .queue_size = 512,
    };
    g_autoptr(GError) err = NULL;
    Rig *rig = rig_new(&options, name, 1, world->ctx, &err);

    g_assert_no_error(err);
    return rig;
}

static void world_init(World *world, unsigned int formats, bool polling)
{
    const AioPollParams params = { .max_ns = polling ? INT64_MAX : 0 };
    g_autoptr(GError) err = NULL;

    world->ctx = aio_context_new(&err);
    g_assert_no_error(err);
    aio_context_set_poll_params(world->ctx, &params);
    world->flooded = world_add(world, "flooded", formats);
    world->other = world_add(world, "other", formats);
}

static void *loop_main(void *opaque)
{
    World *world = opaque;

    aio_poll(world->ctx, false);
    atomic_store(&world->taken_over, true);
    while (!atomic_load(&world->over)) {
        aio_poll(world->ctx, true);
    }
    return NULL;
}

/* Queues are taken from a loop that runs. */
static void world_cleanup(World *world)
{
    GThread *thread = g_thread_new("loop", loop_main, world);

    while (!atomic_load(&world->taken_over)) {
        g_thread_yield();
    }
    rig_free(world->flooded);
    rig_free(world->other);
    atomic_store(&world->over, true);
    aio_notify(world->ctx);
    g_thread_join(thread);
    aio_context_free(world->ctx);
}

/* Driver and device do what they can; the driver adds @n buffers, or as many as there is room. */
static void peers_work(Rig *rig, unsigned int n)
{
    bool kick, call;

    rig_device_work(rig, &call);
    if (call) {
        event_notifier_set(&rig->device_call);
    }
    rig_driver_collect(rig);
    rig_driver_add(rig, n, &kick);
    if (kick) {
        event_notifier_set(&rig->guest_kick);
    }
}

static uint64_t offered(const Rig *rig)
{
    return shadow_virtqueue_get_counters(rig->svq).buffers;
}

static uint64_t returned(const Rig *rig)
{
    return shadow_virtqueue_get_counters(rig->svq).returned;
}

/* An iteration under flood.  The most that was moved in a direction. */
static uint64_t flood(World *world)
{
    const uint64_t offered_before = offered(world->flooded);
    const uint64_t returned_before = returned(world->flooded);

    peers_work(world->flooded, UINT_MAX);
    g_assert_true(aio_poll(world->ctx, true));
    return MAX(offered(world->flooded) - offered_before,
               returned(world->flooded) - returned_before);
}

/* The most that an iteration moved once the queue knew that it was alone. */
static uint64_t flood_alone(World *world)
{
    uint64_t most = 0;
    unsigned int i;

    for (i = 0; i < SETTLE; i++) {
        flood(world);
    }
    for (i = 0; i < ITERATIONS; i++) {
        most = MAX(most, flood(world));
    }
    return most;
}

/* The same, while the other queue has one buffer after the other, and none of them waits. */
static uint64_t flood_beside_other(World *world)
{
    uint64_t most = 0;
    unsigned int i;

    for (i = 0; i < SETTLE + ITERATIONS; i++) {
        const uint64_t before = offered(world->other);
        uint64_t moved;

        peers_work(world->other, 1);
        moved = flood(world);
        g_assert_cmpuint(offered(world->other) - before, ==, 1);
        most = i < SETTLE ? 0 : MAX(most, moved);
    }
    return most;
}

/* Both have all hands full: short bursts would help neither. */
static void flood_both(World *world, unsigned int bursts)
{
    uint64_t before = 0, moved;
    unsigned int i;

    for (i = 0; i < SETTLE + ITERATIONS; i++) {
        if (i == SETTLE) {
            before = offered(world->other);
        }
        peers_work(world->other, UINT_MAX);
        moved = flood(world);
        g_assert_true(i < SETTLE || moved == bursts * BURST);
    }
    /* It may go on from a wake-up to a bottom half in the same iteration, and rest in the next. */
    g_assert_cmpuint(offered(world->other) - before, >=, (ITERATIONS - 1) * bursts * BURST);
}

static void check(unsigned int formats, bool polling, unsigned int bursts)
{
    World world = { 0 };

    world_init(&world, formats, polling);
    g_assert_cmpuint(flood_alone(&world), ==, bursts * BURST);
    g_assert_cmpuint(flood_beside_other(&world), ==, bursts * SHARED_BURST);
    flood_both(&world, bursts);
    g_assert_cmpuint(flood_alone(&world), ==, bursts * BURST);
    g_assert_cmpuint(world.flooded->errors + world.other->errors, ==, 0);
    world_cleanup(&world);
}

static void test_polled(const void *data)
{
    check(GPOINTER_TO_UINT(data), true, 1);
}

static void test_woken(const void *data)
{
    check(GPOINTER_TO_UINT(data), false, BUDGET);
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "split-split", "packed-split", "split-packed",
                                         "packed-packed" };
    unsigned int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *polled = g_strdup_printf("/shadow-virtqueue-turns/polled/%s", names[i]);
        g_autofree char *woken = g_strdup_printf("/shadow-virtqueue-turns/woken/%s", names[i]);

        g_test_add_data_func(polled, GUINT_TO_POINTER(i), test_polled);
        g_test_add_data_func(woken, GUINT_TO_POINTER(i), test_woken);
    }
    return g_test_run();
}
