/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Generated histories: a driver, a shadow virtqueue and a device against a naive model, for
 * each pair of ring formats and each feature set of either side.
 *
 * How it works.  The model knows buffers, not rings: a buffer moves from queue to queue, and
 * what the device sees and the driver gets back must be what the model says.  At random
 * moments the queue is stopped, with whatever is in flight, and started again where it
 * said, on another shadow ring: each buffer still comes back exactly once.
 */
#include <glib.h>
#include <inttypes.h>

#include "../../hw/svq/shadow-virtqueue-internal.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "lib/random.h"
#include "lib/sanitizer.h"

#define STEPS 1000000
#define MAX_CHAIN 64            /* elements after translation */

/* Guest memory: small regions side by side, each somewhere else for the device; a large one. */
#define SMALL_REGIONS 16
#define SMALL_SIZE 0x1000
#define LARGE_GPA 0x10000000
#define LARGE_SIZE 0x100000
#define TABLES_GPA (UINT64_C(1) << 32)
#define SHADOW_TABLES_IOVA (UINT64_C(1) << 40)
#define MAX_NUM 1024
#define TABLES_SIZE (MAX_NUM * VRING_INDIRECT_MAX * sizeof(VringDesc))

typedef struct Features {
    bool packed, event_idx, indirect, in_order;
} Features;

/* Counted: one reference for where it is, one while it is in flight. */
typedef struct Buffer {
    uint64_t serial;
    unsigned int n, n_readable;
    unsigned int pieces;        /* elements after translation */
    uint16_t id;                /* the device's */
    uint32_t len;               /* that the device wrote */
    bool plain;                 /* one element in the large region */
    bool device_done;           /* the device has put it */
    bool done;                  /* it was in the guest's hands again, or waits for its order */
} Buffer;

typedef struct World {
    Random random;
    MemoryMap *guest_map, *device_map;
    VringConfig guest, shadow;
    VringDriver driver;
    VringDevice device;
    ShadowVirtqueue *svq;
    uint32_t least_shadow;      /* the smallest shadow ring that is used */

    /* The model.  Oldest first. */
    GQueue added, available;    /* in the guest's ring */
    GQueue in_flight;           /* offered; those at the head are not done */
    GQueue offered, taken, put, used;   /* in the shadow ring */
    GQueue back;                /* used in the guest's ring */
    uint64_t serial, returned;  /* buffers added, buffers collected */
    uint64_t position;          /* in the guest's ring: of what was given back */
    uint32_t shadow_free;
    bool driver_asleep, device_asleep;
    bool plain;                 /* for a while all buffers are of one element */
    VringInflight *record;      /* of the guest's ring */
    bool killed;                /* not stopped: the record tells where to go on */
    uint64_t kills;
    bool lost;                  /* the stop is of a device that nobody can ask */
    uint64_t batches, long_batches, full_bursts;
    uint64_t overtaken, again;  /* at stops */
} World;

static void check_idle_driver(const World *world, bool called)
{
    g_assert_true(called || !world->driver_asleep || g_queue_is_empty((GQueue *)&world->back));
}

/* Where the small region that holds @gpa lies for the device. */
static uint64_t small_iova(uint64_t gpa)
{
    uint64_t i = gpa / SMALL_SIZE;

    return UINT64_C(0x7000000) + i * 5 % SMALL_REGIONS * 2 * SMALL_SIZE + gpa % SMALL_SIZE;
}

static VringSegment element(const Buffer *buffer, unsigned int i)
{
    uint64_t hash = random_hash(buffer->serial * MAX_CHAIN + i);
    bool small = !buffer->plain && hash & 1;
    uint32_t size = small ? SMALL_REGIONS * SMALL_SIZE : LARGE_SIZE;
    uint32_t len = 1 + (uint32_t)(hash >> 8) % (2 * SMALL_SIZE);

    return (VringSegment){
        .addr = (small ? 0 : LARGE_GPA) + (hash >> 32) % (size - len + 1),
        .len = len,
        .flags = i < buffer->n_readable ? 0 : VRING_DESC_F_WRITE,
    };
}

/* What the device is to see of an element: one page at a time, unless it is in the large region. */
static unsigned int translate(VringSegment seg, VringSegment *out)
{
    unsigned int n = 0;

    if (seg.addr >= LARGE_GPA) {
        out[0] = seg;
        return 1;
    }
    while (seg.len) {
        uint32_t len = MIN(seg.len, SMALL_SIZE - (uint32_t)(seg.addr % SMALL_SIZE));

        out[n++] = (VringSegment){ small_iova(seg.addr), len, seg.flags };
        seg.addr += len;
        seg.len -= len;
    }
    return n;
}

static unsigned int descs(const VringConfig *config, unsigned int n)
{
    return config->indirect && n >= VRING_INDIRECT_MIN && n <= VRING_INDIRECT_MAX ? 1 : n;
}

static unsigned int count_pieces(const Buffer *buffer)
{
    VringSegment out[MAX_CHAIN];
    unsigned int i, n = 0;

    for (i = 0; i < buffer->n; i++) {
        n += translate(element(buffer, i), out);
    }
    return n;
}

/* A buffer that fits both rings. */
static Buffer *buffer_new(World *world)
{
    Buffer *buffer = g_rc_box_new0(Buffer);

    buffer->serial = world->serial;
    buffer->plain = world->plain && !random_one_in(&world->random, 256);
    buffer->n = buffer->plain ? 1 : random_between(&world->random, 1,
                                                   random_one_in(&world->random, 16) ? 18 : 4);
    for (;;) {
        buffer->pieces = count_pieces(buffer);
        if (descs(&world->shadow, buffer->pieces) <= world->least_shadow &&
            descs(&world->guest, buffer->n) <= world->guest.num) {
            break;
        }
        if (--buffer->n == 0) {
            /* Its first element straddles regions, and the ring is too short for that. */
            buffer->serial = ++world->serial;
            buffer->n = 1;
        }
    }
    buffer->n_readable = random_between(&world->random, 0, buffer->n);
    return buffer;
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

static void move_all(GQueue *from, GQueue *to)
{
    while (!g_queue_is_empty(from)) {
        g_queue_push_tail(to, g_queue_pop_head(from));
    }
}

/* The driver. */

static void step_add(World *world)
{
    Buffer *buffer = buffer_new(world);
    VringSegment seg[MAX_CHAIN];
    unsigned int i;

    if (!vring_driver_has_room(&world->driver, buffer->n)) {
        g_rc_box_release(buffer);
        return;
    }
    for (i = 0; i < buffer->n; i++) {
        seg[i] = element(buffer, i);
    }
    vring_driver_add(&world->driver, world->guest.packed, seg, buffer->n,
                     (uint32_t)buffer->serial);
    g_queue_push_tail(&world->added, buffer);
    world->serial++;
}

static void step_publish(World *world)
{
    vring_driver_publish(&world->driver, world->guest.packed);
    vring_driver_needs_kick(&world->driver, world->guest.packed);
    move_all(&world->added, &world->available);
}

static void step_collect(World *world)
{
    Buffer *buffer = g_queue_pop_head(&world->back);
    uint32_t cookie = 0;
    uint32_t len = 0;
    int ret = vring_driver_collect(&world->driver, world->guest.packed, &cookie, &len);

    g_assert_cmpint(ret, ==, buffer != NULL);
    if (buffer) {
        g_assert_cmpuint(cookie, ==, (uint32_t)buffer->serial);
        g_assert_cmpuint(len, ==, buffer->len);
        world->returned++;
        g_rc_box_release(buffer);
    }
}

static void step_driver_listens(World *world)
{
    if (random_one_in(&world->random, 3)) {
        vring_driver_disable_call(&world->driver, world->guest.packed);
    } else {
        world->driver_asleep = !vring_driver_enable_call(&world->driver, world->guest.packed);
        g_assert_cmpint(world->driver_asleep, ==, g_queue_is_empty(&world->back));
    }
}

/* The shadow virtqueue. */

/* The driver has @buffer back: it is the next in its ring. */
static void model_back(World *world, Buffer *buffer)
{
    world->position += world->guest.packed ? descs(&world->guest, buffer->n) : 1;
    g_queue_push_tail(&world->back, buffer);
}

/* The oldest that are done are no longer in flight; with IN_ORDER only now they go back. */
static void model_settle_oldest(World *world)
{
    Buffer *buffer;

    while ((buffer = g_queue_peek_head(&world->in_flight)) && buffer->done) {
        g_queue_pop_head(&world->in_flight);
        if (world->guest.in_order) {
            model_back(world, buffer);
        }
        g_rc_box_release(buffer);
    }
}

static void model_return(World *world, Buffer *buffer)
{
    buffer->done = true;
    if (!world->guest.in_order) {
        model_back(world, buffer);
    }
}

static void step_offer(World *world)
{
    const ShadowVirtqueueCounters before = shadow_virtqueue_get_counters(world->svq);
    unsigned int n = shadow_virtqueue_offer(world->svq), i, j;
    const ShadowVirtqueueCounters after = shadow_virtqueue_get_counters(world->svq);
    bool kicked = after.kicks_sent != before.kicks_sent;
    uint64_t bytes = 0;

    for (i = 0; i < world->svq->burst_limit; i++) {
        Buffer *buffer = g_queue_peek_head(&world->available);

        if (!buffer || descs(&world->shadow, buffer->pieces) > world->shadow_free) {
            break;
        }
        world->shadow_free -= descs(&world->shadow, buffer->pieces);
        for (j = 0; j < buffer->n; j++) {
            bytes += element(buffer, j).len;
        }
        g_queue_pop_head(&world->available);
        g_queue_push_tail(&world->offered, buffer);
        g_queue_push_tail(&world->in_flight, g_rc_box_acquire(buffer));
    }
    g_assert_cmpuint(n, ==, i);
    world->full_bursts += i == world->svq->burst_limit;
    g_assert_cmpuint(after.full - before.full, <=, 1);
    g_assert_cmpuint(after.buffers - before.buffers, ==, n);
    g_assert_cmpuint(after.bytes - before.bytes, ==, bytes);
    if (kicked) {
        world->device_asleep = false;
    }
    g_assert_true(!world->device_asleep || g_queue_is_empty(&world->offered));
}

static void step_return(World *world)
{
    uint64_t calls = shadow_virtqueue_get_counters(world->svq).calls_sent;
    unsigned int n = shadow_virtqueue_return(world->svq), i;
    bool called = shadow_virtqueue_get_counters(world->svq).calls_sent != calls;

    for (i = 0; i < world->svq->burst_limit && !g_queue_is_empty(&world->used); i++) {
        Buffer *buffer = g_queue_pop_head(&world->used);

        world->shadow_free += descs(&world->shadow, buffer->pieces);
        model_return(world, buffer);
    }
    model_settle_oldest(world);
    g_assert_cmpuint(n, ==, i);
    if (called) {
        world->driver_asleep = false;
    }
    check_idle_driver(world, called);
}

/* The device. */

static void step_take(World *world)
{
    Buffer *buffer = g_queue_pop_head(&world->offered);
    VringSegment seen[MAX_NUM], expected[MAX_CHAIN];
    unsigned int i, n = 0;
    uint16_t id = 0;
    int ret = vring_device_take(&world->device, world->shadow.packed, world->device_map, seen,
                                MAX_NUM, &id);

    if (!buffer) {
        g_assert_cmpint(ret, ==, 0);
        return;
    }
    for (i = 0; i < buffer->n; i++) {
        n += translate(element(buffer, i), expected + n);
    }
    g_assert_cmpint(ret, ==, n);
    for (i = 0; i < n; i++) {
        g_assert_cmphex(seen[i].addr, ==, expected[i].addr);
        g_assert_cmpuint(seen[i].len, ==, expected[i].len);
        g_assert_cmpuint(seen[i].flags, ==, expected[i].flags);
    }
    buffer->id = id;
    g_queue_push_tail(&world->taken, buffer);
}

static void step_put(World *world)
{
    GList *link = world->taken.head;
    uint32_t skip = random_one_in(&world->random, 2) ? 0 : random_below(&world->random, 8);
    Buffer *buffer;

    while (link && (skip || ((Buffer *)link->data)->device_done)) {
        link = link->next;
        skip -= skip ? 1 : 0;
    }
    if (!link) {
        return;
    }
    buffer = link->data;
    buffer->device_done = true;
    /* A batch tells the length of its last buffer alone: the others are full. */
    buffer->len = world->shadow.in_order && !random_one_in(&world->random, 16)
                      ? writable(buffer) : random_below(&world->random, writable(buffer) + 1);
    vring_device_put(&world->device, world->shadow.packed, buffer->id, buffer->len);
    if (!world->shadow.in_order) {
        g_queue_delete_link(&world->taken, link);
        g_queue_push_tail(&world->put, buffer);
        return;
    }
    while ((buffer = g_queue_peek_head(&world->taken)) && buffer->device_done) {
        g_queue_push_tail(&world->put, g_queue_pop_head(&world->taken));
    }
}

/* The used element @at, counted from where the device has published last: writes it, or spoils it. */
static void rewrite_used(World *world, uint32_t at, const Buffer *buffer)
{
    VringDevice *device = &world->device;
    const uint32_t id = buffer ? buffer->id : 0xffff, len = buffer ? buffer->len : 0xffffffff;

    if (!device->packed) {
        VringUsedElem *elem = &device->used->ring[(device->used_published + at) & device->mask];

        le32_store(&elem->id, id);
        le32_store(&elem->len, len);
    } else {
        VringDesc *desc = &device->desc[(device->used_published + at) % device->num];
        uint64_t meta = at ? le64_load(&desc->meta) : device->inflight->held;
        uint64_t flags = meta >> 48 & ~(uint64_t)VRING_DESC_F_WRITE;

        flags |= buffer && len ? VRING_DESC_F_WRITE : 0;
        /* A device that skips a descriptor leaves it available. */
        flags ^= buffer ? 0 : VRING_PACKED_F_USED;
        meta = vring_packed_meta(len, id, flags);
        if (at) {
            le64_store(&desc->meta, meta);
        } else {
            device->inflight->held = meta;
        }
    }
}

/* A device that works in order may use many buffers with the element of the last (2.7.9, 2.8.8). */
static void make_batches(World *world)
{
    GList *link = world->put.head;
    uint32_t at = 0, first = 0, n = 0;
    bool batch = random_one_in(&world->random, 2);

    for (; link; link = link->next) {
        const Buffer *buffer = link->data;
        const uint32_t here = at;

        if (n == 0) {
            first = here;
        } else {
            rewrite_used(world, here, NULL);
        }
        n++;
        at += world->shadow.packed ? descs(&world->shadow, buffer->pieces) : 1;
        if (!link->next || !batch || buffer->len != writable(buffer) ||
            random_one_in(&world->random, 256)) {
            rewrite_used(world, first, buffer);
            world->batches += n > 1;
            world->long_batches += n > world->svq->burst_limit;
            n = 0;
        }
    }
}

static void step_publish_used(World *world)
{
    if (world->shadow.in_order) {
        make_batches(world);
    }
    vring_device_publish(&world->device, world->shadow.packed);
    vring_device_needs_call(&world->device, world->shadow.packed);
    move_all(&world->put, &world->used);
}

static void step_device_listens(World *world)
{
    if (random_one_in(&world->random, 3)) {
        vring_device_disable_kick(&world->device, world->shadow.packed);
    } else {
        world->device_asleep = !vring_device_enable_kick(&world->device, world->shadow.packed);
        g_assert_cmpint(world->device_asleep, ==, g_queue_is_empty(&world->offered));
    }
}

/* Stop and start. */

static uint32_t ring_size(Random *random, bool packed, uint32_t least)
{
    uint32_t size;

    if (packed) {
        return random_between(random, least, random_one_in(random, 4) ? MAX_NUM : least + 16);
    }
    do {
        size = 1u << random_below(random, 11);
    } while (size < least);
    return size;
}

static void start(World *world, VringBase base)
{
    g_autoptr(GError) err = NULL;
    ShadowVirtqueueConfig config;

    world->shadow.num = ring_size(&world->random, world->shadow.packed, world->least_shadow);
    world->shadow_free = world->shadow.num;
    guest_ring_alloc(&world->shadow);
    world->guest.base = base;
    world->guest.inflight = world->record;
    config = (ShadowVirtqueueConfig){
        .map = &world->guest_map,
        .guest = world->guest,
        .shadow = world->shadow,
        .tables = memory_map_host(world->device_map, SHADOW_TABLES_IOVA, TABLES_SIZE),
        .tables_iova = SHADOW_TABLES_IOVA,
        .guest_kick_fd = -1,
        .guest_call_fd = -1,
        .guest_err_fd = -1,
        .device_kick_fd = -1,
        .device_call_fd = -1,
    };
    shadow_virtqueue_start(world->svq, &config, &err);
    g_assert_no_error(err);
    g_assert_cmpint(vring_device_init(&world->device, &world->shadow), ==, 0);
}

/*
 * The device forgets what it has.  The youngest that nothing has overtaken are available
 * again; what is left comes back empty.
 */
static void model_stop(World *world)
{
    Buffer *buffer;
    GList *link;

    if (world->killed) {
        g_queue_clear(&world->used);
        /* IN_ORDER: of what was kept back only the dead process knew. */
        for (link = world->in_flight.head; link && world->guest.in_order; link = link->next) {
            ((Buffer *)link->data)->done = false;
        }
    }
    while ((buffer = g_queue_pop_head(&world->used))) {
        model_return(world, buffer);
        model_settle_oldest(world);
    }
    g_queue_clear(&world->offered);
    g_queue_clear(&world->taken);
    g_queue_clear(&world->put);
    while ((buffer = g_queue_peek_tail(&world->in_flight)) && !buffer->done &&
           (!world->lost || buffer->n_readable < buffer->n)) {
        buffer->device_done = false;
        g_queue_pop_tail(&world->in_flight);
        g_queue_push_head(&world->available, buffer);
        g_rc_box_release(buffer);
        world->again++;
    }
    while ((buffer = g_queue_peek_head(&world->in_flight))) {
        if (!buffer->done) {
            buffer->len = 0;
            model_return(world, buffer);
            world->overtaken += !world->lost || !world->shadow.in_order;
        }
        model_settle_oldest(world);
    }
}

static void check_base(const World *world, VringBase base)
{
    uint16_t expected = (uint16_t)world->position;

    if (world->guest.packed) {
        expected = (uint16_t)(world->position % world->guest.num);
        expected |= world->position / world->guest.num % 2 ? 0 : 0x8000;
    }
    g_assert_cmphex(base.avail, ==, expected);
    g_assert_cmphex(base.used, ==, expected);
}

static VringBase stop(World *world)
{
    uint64_t calls = shadow_virtqueue_get_counters(world->svq).calls_sent;
    VringBase base;

    world->killed = false;
    shadow_virtqueue_detach(world->svq);
    g_assert_cmpuint(shadow_virtqueue_offer(world->svq), ==, 0);
    g_assert_cmpuint(shadow_virtqueue_return(world->svq), ==, 0);
    world->lost = random_one_in(&world->random, 4);
    shadow_virtqueue_stop(world->svq, world->lost, &base);
    vring_inflight_clear(world->record);
    model_stop(world);
    check_base(world, base);
    if (shadow_virtqueue_get_counters(world->svq).calls_sent != calls) {
        world->driver_asleep = false;
    }
    check_idle_driver(world, false);
    world->device_asleep = false;
    vring_device_cleanup(&world->device);
    guest_ring_free(&world->shadow);
    return base;
}

/* The queue is forgotten, and another goes on from its record. */
static void kill_and_start(World *world)
{
    ShadowVirtqueue *svq = world->svq;

    /* A ring that its driver is just filling up may be taken for another. */
    step_publish(world);
    shadow_virtqueue_detach(svq);
    vring_device_cleanup(&svq->guest);
    vring_driver_cleanup(&svq->shadow);
    g_clear_pointer(&svq->segments, g_free);
    g_clear_pointer(&svq->addrs, g_free);
    atomic_store(&svq->state, SVQ_QUEUE_STOPPED);
    shadow_virtqueue_free(svq);
    vring_device_cleanup(&world->device);
    guest_ring_free(&world->shadow);

    world->killed = world->lost = true;
    world->kills++;
    model_stop(world);
    world->driver_asleep = world->device_asleep = false;
    world->svq = shadow_virtqueue_new("model");
    start(world, world->guest.base);
    g_assert_cmpstr(world->svq->guest.recovery.discarded, ==, NULL);
    g_assert_true(shadow_virtqueue_goes_on(world->svq));
}

/* The pace changes from time to time. */
static void step_change(World *world)
{
    world->plain = random_one_in(&world->random, 2);
    world->svq->burst_limit = random_one_in(&world->random, 2) ? SVQ_BURST : 16;
}

/* Of a few moves many at a time. */
static void step_many(World *world, void (*move)(World *world))
{
    uint32_t n = random_one_in(&world->random, 64) ? 200 : 1;

    while (n--) {
        move(world);
    }
}

static void step(World *world)
{
    if (random_one_in(&world->random, 1024)) {
        step_change(world);
    }
    switch (random_below(&world->random, 32)) {
    case 0 ... 8:
        step_many(world, step_add);
        break;
    case 9:
        step_publish(world);
        break;
    case 10:
        step_offer(world);
        break;
    case 11 ... 16:
        if (!world->device_asleep) {
            step_many(world, step_take);
        }
        break;
    case 17 ... 21:
        step_many(world, step_put);
        break;
    case 22:
        step_publish_used(world);
        break;
    case 23:
        step_return(world);
        break;
    case 24:
        if (!world->driver_asleep) {
            step_driver_listens(world);
        }
        break;
    case 25:
        if (!world->device_asleep) {
            step_device_listens(world);
        }
        break;
    case 26:
        if (random_one_in(&world->random, 128)) {
            if (random_one_in(&world->random, 2)) {
                kill_and_start(world);
            } else {
                start(world, stop(world));
            }
        }
        break;
    default:
        if (!world->driver_asleep) {
            step_collect(world);
        }
        break;
    }
}

static VringConfig config_of(const Features *features)
{
    return (VringConfig){
        .packed = features->packed,
        .event_idx = features->event_idx,
        .indirect = features->indirect,
        .in_order = features->in_order,
    };
}

/* Whether the guest's ring has been round what it counts with. */
static bool has_wrapped(const World *world)
{
    return world->position > (world->guest.packed ? 2 * world->guest.num : 65536);
}

/* @least: of either ring's size. */
static void run_life(World *world, const Features *guest, const Features *shadow, uint32_t least,
                     uint64_t steps)
{
    bool to_wrap = least > 1 && !SANITIZED;


    world->guest = config_of(guest);
    world->guest.num = ring_size(&world->random, guest->packed, least);
    world->shadow = config_of(shadow);
    world->least_shadow = least;
    guest_ring_alloc(&world->guest);
    g_assert_cmpint(vring_driver_init(&world->driver, &world->guest,
                                      memory_map_host(world->guest_map, TABLES_GPA, TABLES_SIZE),
                                      TABLES_GPA), ==, 0);
    world->svq = shadow_virtqueue_new("model");
    world->serial = world->returned = world->position = 0;
    world->driver_asleep = world->device_asleep = false;

    start(world, world->guest.base);
    while (steps || (to_wrap && !has_wrapped(world))) {
        step(world);
        steps -= steps ? 1 : 0;
    }
    stop(world);
    while (!g_queue_is_empty(&world->back)) {
        step_collect(world);
    }
    g_assert_cmpuint(vring_driver_in_flight(&world->driver, world->driver.packed), ==,
                     world->added.length + world->available.length);

    g_queue_clear_full(&world->added, g_rc_box_release);
    g_queue_clear_full(&world->available, g_rc_box_release);
    shadow_virtqueue_free(world->svq);
    vring_driver_cleanup(&world->driver);
    guest_ring_free(&world->guest);
}

static MemoryMap *guest_map_new(void)
{
    GuestRegion regions[SMALL_REGIONS + 2];
    unsigned int i;

    for (i = 0; i < SMALL_REGIONS; i++) {
        uint64_t gpa = i * SMALL_SIZE;

        regions[i] = (GuestRegion){ gpa, SMALL_SIZE, small_iova(gpa) };
    }
    regions[i++] = (GuestRegion){ LARGE_GPA, LARGE_SIZE, LARGE_GPA };
    regions[i++] = (GuestRegion){ TABLES_GPA, TABLES_SIZE, TABLES_GPA };
    return guest_memory_new(regions, i);
}

static void run_pair(const Features *guest, const Features *shadow, uint64_t seed)
{
    const GuestRegion tables = { SHADOW_TABLES_IOVA, TABLES_SIZE, SHADOW_TABLES_IOVA };
    static const uint32_t least_sizes[] = { 128, 1, 1, 1, 1, 16, 16, 16 };
    const uint64_t steps = random_steps(STEPS) / 16;
    g_autofree World *world = g_new0(World, 1);
    unsigned int i;

    world->record = g_aligned_alloc0(1, vring_inflight_size(MAX_NUM), _Alignof(VringInflight));
    world->random.state = seed;
    world->guest_map = guest_map_new();
    world->device_map = guest_memory_new(&tables, 1);
    for (i = 0; i < G_N_ELEMENTS(least_sizes); i++) {
        run_life(world, guest, shadow, least_sizes[i], i ? steps : 9 * steps);
    }
    /* A device that works in order overtakes nothing. */
    g_assert_true(shadow->in_order ? world->overtaken == 0 : world->overtaken > 0);
    g_assert_cmpuint(world->again, >, 0);
    g_assert_cmpuint(world->full_bursts, >, 0);
    g_test_message("kills %" PRIu64 ", full bursts %" PRIu64 ", batches %" PRIu64 ", longer than a burst %" PRIu64,
                   world->kills, world->full_bursts, world->batches, world->long_batches);
    g_aligned_free(world->record);
    guest_memory_free(world->guest_map);
    guest_memory_free(world->device_map);
}

static void test_format_pair(const void *data)
{
    unsigned int formats = GPOINTER_TO_UINT(data), sets;
    uint64_t seed = random_seed();

    for (sets = 0; sets < 64; sets++) {
        const Features guest = { formats & 1, sets & 1, sets & 2, sets & 4 };
        const Features shadow = { formats & 2, sets & 8, sets & 16, sets & 32 };

        g_test_message("feature sets %u", sets);
        run_pair(&guest, &shadow, seed + sets);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/shadow-virtqueue-model/split-split", GUINT_TO_POINTER(0),
                         test_format_pair);
    g_test_add_data_func("/shadow-virtqueue-model/packed-split", GUINT_TO_POINTER(1),
                         test_format_pair);
    g_test_add_data_func("/shadow-virtqueue-model/split-packed", GUINT_TO_POINTER(2),
                         test_format_pair);
    g_test_add_data_func("/shadow-virtqueue-model/packed-packed", GUINT_TO_POINTER(3),
                         test_format_pair);
    return g_test_run();
}
