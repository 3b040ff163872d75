/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Generated histories: a VringDriver and a VringDevice on one ring against a naive model.
 *
 * How it works.  The model knows nothing of rings.  A buffer is an object that moves from
 * one queue to the next: added, available, taken, put, used.  Positions are counted in 64
 * bits and never wrap.  Random operations are done to the rings and to the model, and
 * whatever the rings answer must be what the model expects.
 *
 * A side that allowed notifications and saw nothing to do may sleep.  Then the other
 * side's decision must wake it before anything can be lying in front of it.
 */
#include <glib.h>
#include <inttypes.h>

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "lib/random.h"
#include "lib/sanitizer.h"

#define STEPS 1000000
#define MAX_CHAIN 300
#define TABLES_GPA (UINT64_C(1) << 32)

typedef struct Features {
    bool packed, event_idx, indirect, in_order;
} Features;

typedef struct Buffer {
    uint64_t serial;            /* its elements follow from it */
    unsigned int n, n_readable;
    unsigned int descs;
    uint16_t id;                /* the device's */
    uint32_t len;               /* that the device wrote */
    bool done;
} Buffer;

/* One direction of notifications, and who listens there. */
typedef struct Listener {
    enum { ALWAYS, NEVER, AT_EVENT } wants;
    uint64_t event;             /* the position that it waits for */
    uint64_t position;          /* where it looks next */
    uint64_t published;         /* where the other side's published work ends */
    uint64_t decided;           /* up to where the other side has decided already */
    bool asleep;
} Listener;

typedef struct Model {
    Features features;
    uint32_t num;
    GQueue added, available, taken, put, used;      /* of Buffer, oldest first */
    uint32_t free_descs;
    uint64_t next_serial;
    uint64_t unpublished, unpublished_used;         /* positions added, positions put */
    Listener device, driver;
    bool was_full, was_empty;
} Model;

typedef struct World {
    Model model;
    Random random;
    VringConfig config;
    VringDriver driver;
    VringDevice device;
    MemoryMap *memory;          /* where the indirect tables lie */
    bool packed;
    VringSegment seg[VRING_MAX_SIZE];
} World;

static VringSegment element(const Buffer *buffer, unsigned int i)
{
    uint64_t hash = random_hash(buffer->serial * MAX_CHAIN + i);

    return (VringSegment){
        .addr = hash,
        .len = 1 + (uint32_t)(hash >> 48),
        .flags = i < buffer->n_readable ? 0 : VRING_DESC_F_WRITE,
    };
}

static uint32_t writable(const Buffer *buffer)
{
    uint32_t sum = 0;
    unsigned int i;

    for (i = buffer->n_readable; i < buffer->n; i++) {
        sum += element(buffer, i).len;
    }
    return sum;
}

/* How far a ring position moves for @buffer. */
static uint64_t stride(const Model *model, const Buffer *buffer)
{
    return model->features.packed ? buffer->descs : 1;
}

/*
 * Whether the event that @listener asked for lies between the last decision and now.  An
 * event long past comes round again: positions in the ring have few bits.
 */
static bool due(const Model *model, const Listener *listener)
{
    uint64_t period = model->features.packed ? 2 * (uint64_t)model->num : 65536;
    uint64_t event = listener->event;

    if (listener->wants != AT_EVENT) {
        return listener->wants == ALWAYS;
    }
    if (event < listener->decided) {
        event += (listener->decided - event + period - 1) / period * period;
    }
    return event < listener->published;
}

static void decide(const Model *model, Listener *listener, bool notified, const GQueue *work)
{
    g_assert_cmpint(notified, ==, due(model, listener));
    listener->decided = listener->published;
    if (notified) {
        listener->asleep = false;
    }
    /* The one thing that must never be: somebody sleeps with work in front of him. */
    g_assert_true(!listener->asleep || g_queue_is_empty((GQueue *)work));
}

static void listen_off(const Model *model, Listener *listener)
{
    if (!model->features.event_idx || model->features.packed) {
        listener->wants = NEVER;
    }
}

static void listen_on(const Model *model, Listener *listener, bool more, const GQueue *work)
{
    listener->wants = model->features.event_idx ? AT_EVENT : ALWAYS;
    listener->event = listener->position;
    g_assert_cmpint(more, ==, !g_queue_is_empty((GQueue *)work));
    listener->asleep = !more;
}

static void move_all(GQueue *from, GQueue *to)
{
    while (!g_queue_is_empty(from)) {
        g_queue_push_tail(to, g_queue_pop_head(from));
    }
}

static Buffer *buffer_new(World *world)
{
    Model *model = &world->model;
    Buffer *buffer = g_new0(Buffer, 1);
    uint32_t most = random_one_in(&world->random, 64) ? MIN(model->num, MAX_CHAIN)
                                                      : MIN(model->num, 5);

    if (model->features.indirect && random_one_in(&world->random, 2)) {
        most = VRING_INDIRECT_MAX + 1;
    }
    buffer->serial = model->next_serial;
    buffer->n = random_between(&world->random, 1, most);
    buffer->n_readable = random_between(&world->random, 0, buffer->n);
    buffer->descs = buffer->n;
    if (model->features.indirect && buffer->n >= VRING_INDIRECT_MIN &&
        buffer->n <= VRING_INDIRECT_MAX) {
        buffer->descs = 1;
    }
    return buffer;
}

static void step_add(World *world)
{
    Model *model = &world->model;
    Buffer *buffer = buffer_new(world);
    bool room = buffer->descs <= model->free_descs;
    unsigned int i;

    g_assert_cmpint(vring_driver_has_room(&world->driver, buffer->n), ==, room);
    if (!room) {
        model->was_full = true;
        g_free(buffer);
        return;
    }
    for (i = 0; i < buffer->n; i++) {
        world->seg[i] = element(buffer, i);
    }
    vring_driver_add(&world->driver, world->packed, world->seg, buffer->n,
                     (uint32_t)buffer->serial);

    model->next_serial++;
    model->free_descs -= buffer->descs;
    model->unpublished += stride(model, buffer);
    g_queue_push_tail(&model->added, buffer);
}

static void step_publish(World *world)
{
    Model *model = &world->model;

    vring_driver_publish(&world->driver, world->packed);
    move_all(&model->added, &model->available);
    model->device.published = model->unpublished;
    decide(model, &model->device, vring_driver_needs_kick(&world->driver, world->packed),
           &model->available);
}

static void step_take(World *world)
{
    Model *model = &world->model;
    Buffer *buffer = g_queue_pop_head(&model->available);
    unsigned int i;
    uint16_t id = 0;
    int n;

    g_assert_cmpint(vring_device_has_avail(&world->device, world->packed), ==, buffer != NULL);
    n = vring_device_take(&world->device, world->packed, world->memory, world->seg,
                          VRING_MAX_SIZE, &id);
    if (!buffer) {
        g_assert_cmpint(n, ==, 0);
        return;
    }
    g_assert_cmpint(n, ==, buffer->n);
    for (i = 0; i < buffer->n; i++) {
        VringSegment expected = element(buffer, i);

        g_assert_cmphex(world->seg[i].addr, ==, expected.addr);
        g_assert_cmpuint(world->seg[i].len, ==, expected.len);
        g_assert_cmpuint(world->seg[i].flags, ==, expected.flags);
    }
    buffer->id = id;
    model->device.position += stride(model, buffer);
    g_queue_push_tail(&model->taken, buffer);
}

static bool is_youngest(const World *world, const Buffer *buffer)
{
    const VringInflight *inflight = world->device.inflight;

    return vring_slot_seq(inflight->slots[buffer->id]) + stride(&world->model, buffer) ==
           inflight->taken;
}

static void step_untake(World *world)
{
    Model *model = &world->model;
    Buffer *buffer = g_queue_peek_tail(&model->taken);

    /* Only while the one taken last is in flight still. */
    if (!buffer || buffer->done || !is_youngest(world, buffer)) {
        return;
    }
    vring_device_untake(&world->device, world->packed, buffer->id);
    model->device.position -= stride(model, buffer);
    g_queue_pop_tail(&model->taken);
    g_queue_push_head(&model->available, buffer);
}

/* One that is not done: often the oldest or the youngest, else one near them. */
static GList *pick_taken(World *world)
{
    bool oldest = random_one_in(&world->random, 2);
    GList *link = oldest ? world->model.taken.head : world->model.taken.tail;
    uint32_t skip = random_one_in(&world->random, 2) ? 0 : random_below(&world->random, 64);

    while (link && (skip || ((Buffer *)link->data)->done)) {
        link = oldest ? link->next : link->prev;
        skip -= skip ? 1 : 0;
    }
    return link;
}

static void model_put(Model *model, GList *link)
{
    Buffer *buffer = link->data;

    model->unpublished_used += stride(model, buffer);
    g_queue_delete_link(&model->taken, link);
    g_queue_push_tail(&model->put, buffer);
}

static void step_put(World *world)
{
    Model *model = &world->model;
    GList *link = pick_taken(world);
    Buffer *buffer;

    if (!link) {
        return;
    }
    buffer = link->data;
    buffer->len = random_below(&world->random, writable(buffer) + 1);
    buffer->done = true;
    vring_device_put(&world->device, world->packed, buffer->id, buffer->len);
    if (!model->features.in_order) {
        model_put(model, link);
        return;
    }
    while (!g_queue_is_empty(&model->taken) &&
           ((Buffer *)g_queue_peek_head(&model->taken))->done) {
        model_put(model, model->taken.head);
    }
}

static void step_publish_used(World *world)
{
    Model *model = &world->model;

    g_assert_cmpint(vring_device_has_unpublished(&world->device, world->packed), ==,
                    !g_queue_is_empty(&model->put));
    vring_device_publish(&world->device, world->packed);
    move_all(&model->put, &model->used);
    model->driver.published = model->unpublished_used;
    decide(model, &model->driver, vring_device_needs_call(&world->device, world->packed),
           &model->used);
}

static void step_collect(World *world)
{
    Model *model = &world->model;
    Buffer *buffer = g_queue_pop_head(&model->used);
    uint32_t cookie = 0;
    uint32_t len = 0;
    int ret;

    g_assert_cmpint(vring_driver_has_used(&world->driver, world->packed), ==, buffer != NULL);
    ret = vring_driver_collect(&world->driver, world->packed, &cookie, &len);
    if (!buffer) {
        g_assert_cmpint(ret, ==, 0);
        return;
    }
    g_assert_cmpint(ret, ==, 1);
    g_assert_cmpuint(cookie, ==, (uint32_t)buffer->serial);
    g_assert_cmpuint(len, ==, buffer->len);
    model->driver.position += stride(model, buffer);
    model->free_descs += buffer->descs;
    model->was_empty |= model->free_descs == model->num;
    g_free(buffer);
}

static void step_device_listens(World *world)
{
    Model *model = &world->model;

    if (random_one_in(&world->random, 3)) {
        vring_device_disable_kick(&world->device, world->packed);
        listen_off(model, &model->device);
    } else {
        listen_on(model, &model->device,
                  vring_device_enable_kick(&world->device, world->packed), &model->available);
    }
}

static void step_driver_listens(World *world)
{
    Model *model = &world->model;

    if (random_one_in(&world->random, 3)) {
        vring_driver_disable_call(&world->driver, world->packed);
        listen_off(model, &model->driver);
    } else {
        listen_on(model, &model->driver,
                  vring_driver_enable_call(&world->driver, world->packed), &model->used);
    }
}

/* How often each of the four moves of a buffer is made; from time to time it changes. */
typedef struct Pace {
    uint32_t add, take, put, collect;
} Pace;

static Pace pace_new(Random *random)
{
    return (Pace){
        .add = random_below(random, 16),
        .take = random_between(random, 1, 16),
        .put = random_between(random, 1, 16),
        .collect = random_between(random, 1, 16),
    };
}

static void step_move(World *world, const Pace *pace)
{
    uint32_t which = random_below(&world->random,
                                  pace->add + pace->take + pace->put + pace->collect);

    if (which < pace->add) {
        step_add(world);
    } else if (which < pace->add + pace->take) {
        if (!world->model.device.asleep) {
            step_take(world);
        }
    } else if (which < pace->add + pace->take + pace->put) {
        step_put(world);
    } else if (!world->model.driver.asleep) {
        step_collect(world);
    }
}

static void step(World *world, const Pace *pace)
{
    switch (random_below(&world->random, 16)) {
    case 0:
        step_publish(world);
        break;
    case 1:
        step_publish_used(world);
        break;
    case 2:
        if (!world->model.device.asleep) {
            step_device_listens(world);
        }
        break;
    case 3:
        if (!world->model.driver.asleep) {
            step_driver_listens(world);
        }
        break;
    case 4:
        if (!world->model.device.asleep) {
            step_untake(world);
        }
        break;
    default:
        step_move(world, pace);
        break;
    }
}

static void world_init(World *world, const Features *features, uint32_t num)
{
    const uint64_t tables_size = (uint64_t)num * VRING_INDIRECT_MAX * sizeof(VringDesc);
    const GuestRegion region = { TABLES_GPA, tables_size, TABLES_GPA };

    world->packed = features->packed;
    world->config = (VringConfig){
        .num = num,
        .packed = features->packed,
        .event_idx = features->event_idx,
        .indirect = features->indirect,
        .in_order = features->in_order,
    };
    world->model.features = *features;
    world->model.num = num;
    world->model.free_descs = num;
    /* A cleared ring asks for all notifications; split with EVENT_IDX, for that of index 0. */
    if (features->event_idx && !features->packed) {
        world->model.device.wants = world->model.driver.wants = AT_EVENT;
    }
    world->memory = guest_memory_new(&region, 1);
    guest_ring_alloc(&world->config);
    g_assert_cmpint(vring_driver_init(&world->driver, &world->config,
                                      memory_map_host(world->memory, TABLES_GPA, tables_size),
                                      TABLES_GPA), ==, 0);
    g_assert_cmpint(vring_device_init(&world->device, &world->config), ==, 0);
}

static void world_cleanup(World *world)
{
    Model *model = &world->model;

    g_queue_clear_full(&model->added, g_free);
    g_queue_clear_full(&model->available, g_free);
    g_queue_clear_full(&model->taken, g_free);
    g_queue_clear_full(&model->put, g_free);
    g_queue_clear_full(&model->used, g_free);
    vring_driver_cleanup(&world->driver);
    vring_device_cleanup(&world->device);
    guest_ring_free(&world->config);
    guest_memory_free(world->memory);
}

/* Twice round what the ring counts with (16 bits, or the ring and its wrap counter). */
static bool has_seen_all(const Model *model)
{
    uint64_t round = model->features.packed ? 2 * (uint64_t)model->num : 65536;

    return model->driver.position >= 2 * round && model->was_full && model->was_empty;
}

static void run_history(const Features *features, uint32_t num, uint64_t seed)
{
    g_autofree World *world = g_new0(World, 1);
    /* A sanitizer is slow: then one size has to do for the wrap-arounds. */
    const bool to_the_end = !SANITIZED || num == 256;
    uint64_t steps = random_steps(STEPS), n;
    Pace pace;

    world_init(world, features, num);
    world->random.state = seed;
    for (n = 0; n < steps || (to_the_end && !has_seen_all(&world->model)); n++) {
        if (n % (4 * MAX(num, 1024)) == 0) {
            pace = pace_new(&world->random);
        }
        step(world, &pace);
        g_assert_cmpuint(n, <, 100 * (uint64_t)STEPS);
    }
    world_cleanup(world);
}

static void test_history(const void *data)
{
    static const uint32_t split_sizes[] = { 1, 2, 4, 256, 32768 };
    static const uint32_t packed_sizes[] = { 1, 2, 3, 5, 7, 255, 256, 32768 };
    const Features *features = data;
    const uint32_t *sizes = features->packed ? packed_sizes : split_sizes;
    unsigned int n = features->packed ? G_N_ELEMENTS(packed_sizes) : G_N_ELEMENTS(split_sizes);
    uint64_t seed = random_seed();
    unsigned int i;

    for (i = 0; i < n; i++) {
        g_test_message("queue size %" PRIu32, sizes[i]);
        run_history(features, sizes[i], seed + i);
    }
}

int main(int argc, char **argv)
{
    static Features features[16];
    unsigned int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < 16; i++) {
        Features *f = &features[i];
        g_autofree char *path = NULL;

        *f = (Features){ i & 1, i & 2, i & 4, i & 8 };
        path = g_strdup_printf("/vring-model/%s%s%s%s", f->packed ? "packed" : "split",
                               f->event_idx ? "+event_idx" : "", f->indirect ? "+indirect" : "",
                               f->in_order ? "+in_order" : "");
        g_test_add_data_func(path, f, test_history);
    }
    return g_test_run();
}
