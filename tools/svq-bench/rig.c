/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shadow virtqueue with a guest's driver before it and a device behind it.
 */
#include "rig.h"

#include <unistd.h>

#include "driver.h"

/* Buffers in the table: a power of two, and more than caches and branch predictors learn. */
#define TABLE_SIZE 4096

/* Where guest memory lies for the device: not where the guest sees it. */
#define IOVA_OFFSET (UINT64_C(1) << 44)

#define BUFFER_MAX 2048     /* bytes of a descriptor whose length is chosen at random */
#define RANGE_SIZE (UINT64_C(8) << 20)

/* @size: bytes; 0: at random. */
static VringSegment random_segment(const GuestMemory *memory, GRand *rand, bool writable,
                                   uint32_t size)
{
    const MemoryRegion *region = memory->regions[g_rand_int_range(rand, 0, (gint32)memory->n)];
    const uint32_t len = size ? size : (uint32_t)g_rand_int_range(rand, 64, BUFFER_MAX + 1);
    const int32_t room = RANGE_SIZE / 2 - MAX(size, BUFFER_MAX);
    /* The first half of a region may hold rings. */
    const uint64_t offset = region->size / 2 + (uint64_t)g_rand_int_range(rand, 0, room);

    return (VringSegment){ region->gpa + offset, len, writable ? VRING_DESC_F_WRITE : 0 };
}

static uint32_t sum_writable(const VringSegment *seg, unsigned int n)
{
    uint32_t bytes = 0;
    unsigned int i;

    for (i = 0; i < n; i++) {
        bytes += seg[i].flags & VRING_DESC_F_WRITE ? seg[i].len : 0;
    }
    return bytes;
}

/* Whether the device writes to the i-th buffer. */
static bool is_written(BenchWritten written, unsigned int i)
{
    return written == BENCH_WRITTEN_ALL || (written == BENCH_WRITTEN_HALF && i % 2);
}

static void fill_table(Rig *rig, const BenchOptions *options, uint64_t seed)
{
    const guint32 seeds[] = { (guint32)seed, (guint32)(seed >> 32) };
    GRand *rand = g_rand_new_with_seed_array(seeds, G_N_ELEMENTS(seeds));
    unsigned int i, j;

    rig->table = g_new(VringSegment, (size_t)TABLE_SIZE * rig->descriptors);
    rig->writable = g_new(uint32_t, TABLE_SIZE);
    for (i = 0; i < TABLE_SIZE; i++) {
        VringSegment *seg = &rig->table[i * rig->descriptors];
        const bool written = is_written(options->written, i);

        for (j = 0; j < rig->descriptors; j++) {
            seg[j] = random_segment(rig->memory, rand,
                                    written && (j > 0 || rig->descriptors == 1),
                                    (uint32_t)options->buffer_size);
        }
        rig->writable[i] = sum_writable(seg, rig->descriptors);
    }
    g_rand_free(rand);
}

static const VringSegment *table_entry(const Rig *rig, uint64_t number)
{
    return &rig->table[number % TABLE_SIZE * rig->descriptors];
}

static uint32_t writable_bytes(const Rig *rig, uint64_t number)
{
    return rig->writable[number % TABLE_SIZE];
}

static bool init_notifiers(Rig *rig, GError **errp)
{
    EventNotifier *all[] = { &rig->guest_kick, &rig->guest_call, &rig->device_kick,
                             &rig->device_call };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(all); i++) {
        *all[i] = EVENT_NOTIFIER_NONE;
    }
    for (i = 0; i < G_N_ELEMENTS(all); i++) {
        int ret = event_notifier_init(all[i]);

        if (ret < 0) {
            return bench_fail(errp, "no eventfd: %s", g_strerror(-ret));
        }
    }
    return true;
}

static bool fail_vring(GError **errp, const char *who, const VringError *error)
{
    return bench_fail(errp, "%s: %s (virtio 1.3, section %s)", who, error->what, error->section);
}

/* Guest memory that a driver's indirect tables take, and where they are. */
static GuestBlock alloc_tables(GuestMemory *memory, uint32_t num, bool indirect)
{
    if (!indirect) {
        return (GuestBlock){ NULL, 0 };
    }
    return guest_memory_alloc(memory, 0, (uint64_t)num * VRING_INDIRECT_MAX * sizeof(VringDesc),
                              64);
}

static void set_broken(void *opaque)
{
    Rig *rig = opaque;

    atomic_store_explicit(&rig->broken, true, memory_order_relaxed);
}

static bool start_queue(Rig *rig, const BenchOptions *options, AioContext *ctx, GError **errp)
{
    const uint32_t num = (uint32_t)options->queue_size;
    GuestRing guest = guest_memory_alloc_ring(rig->memory, num, rig->guest_packed);
    GuestRing shadow = guest_memory_alloc_ring(rig->shadow_memory, num, rig->shadow_packed);
    GuestBlock guest_tables = alloc_tables(rig->memory, num, rig->indirect);
    GuestBlock shadow_tables = alloc_tables(rig->shadow_memory, num, rig->indirect);
    VringConfig side = {
        .num = num,
        .event_idx = options->event_idx,
        .in_order = options->in_order,
        .indirect = rig->indirect,
    };
    ShadowVirtqueueConfig config = {
        .ctx = ctx,
        .map = &rig->memory->map,
        .logging = &rig->log.published,
        .guest = side,
        .shadow = side,
        .tables = shadow_tables.host,
        .tables_iova = shadow_tables.gpa,
        .guest_kick_fd = dup(rig->guest_kick.fd),
        .guest_call_fd = dup(rig->guest_call.fd),
        .guest_err_fd = -1,
        .device_kick_fd = rig->device_kick.fd,
        .device_call_fd = rig->device_call.fd,
        .broken = set_broken,
        .opaque = rig,
    };

    config.guest.packed = rig->guest_packed;
    config.guest.areas = guest.areas;
    config.guest.base = vring_base_start(rig->guest_packed);
    config.shadow.packed = rig->shadow_packed;
    config.shadow.areas = shadow.areas;
    config.shadow.base = vring_base_start(rig->shadow_packed);

    if (options->dirty_log && !rig_log_init(&rig->log, rig->memory, &guest, errp)) {
        close(config.guest_kick_fd);
        close(config.guest_call_fd);
        return false;
    }
    if (vring_driver_init(&rig->driver, &config.guest, guest_tables.host, guest_tables.gpa) < 0) {
        close(config.guest_kick_fd);
        close(config.guest_call_fd);
        return fail_vring(errp, "driver", &rig->driver.error);
    }
    if (shadow_virtqueue_start(rig->svq, &config, errp) < 0) {
        return false;
    }
    config.shadow.put_in_order = true;
    if (vring_device_init(&rig->device, &config.shadow) < 0) {
        return fail_vring(errp, "device", &rig->device.error);
    }
    return true;
}

/* Without a shadow virtqueue. */
static bool start_direct(Rig *rig, const BenchOptions *options, GError **errp)
{
    const uint32_t num = (uint32_t)options->queue_size;
    GuestRing ring = guest_memory_alloc_ring(rig->memory, num, rig->guest_packed);
    GuestBlock tables = alloc_tables(rig->memory, num, rig->indirect);
    const VringConfig config = {
        .num = num,
        .packed = rig->guest_packed,
        .event_idx = options->event_idx,
        .in_order = options->in_order,
        .put_in_order = true,
        .indirect = rig->indirect,
        .areas = ring.areas,
        .base = vring_base_start(rig->guest_packed),
    };

    if (vring_driver_init(&rig->driver, &config, tables.host, tables.gpa) < 0) {
        return fail_vring(errp, "driver", &rig->driver.error);
    }
    if (vring_device_init(&rig->device, &config) < 0) {
        return fail_vring(errp, "device", &rig->device.error);
    }
    return true;
}

/* Bytes that a ring takes with its indirect tables, in either format. */
static uint64_t ring_and_tables_size(uint32_t num)
{
    return guest_ring_size(num, false) +
           (uint64_t)num * VRING_INDIRECT_MAX * sizeof(VringDesc);
}

/* What all rigs have: guest memory, the table of buffers, notifiers. */
static Rig *rig_alloc(const BenchOptions *options, uint64_t iova_offset, uint64_t seed,
                      GError **errp)
{
    const uint64_t ring = ring_and_tables_size((uint32_t)options->queue_size);
    const gsize segments = (gsize)MAX(options->descriptors, options->queue_size);
    Rig *rig = g_aligned_alloc0(1, sizeof(*rig), _Alignof(Rig));

    rig->guest_packed = options->guest_packed;
    rig->shadow_packed = options->shadow_packed;
    rig->indirect = options->indirect;
    rig->descriptors = (unsigned int)options->descriptors;
    rig->iova_offset = iova_offset;
    /* The device's alone, and so are their cache lines. */
    rig->segments = g_aligned_alloc((segments + 7) / 8, 8 * sizeof(VringSegment), 128);
    rig->batch = g_new(uint16_t, options->queue_size);
    if (!init_notifiers(rig, errp)) {
        rig_free(rig);
        return NULL;
    }
    rig->memory = guest_memory_new((unsigned int)options->ranges, RANGE_SIZE + 2 * ring,
                                   iova_offset, errp);
    if (!rig->memory) {
        rig_free(rig);
        return NULL;
    }
    fill_table(rig, options, seed);
    return rig;
}

Rig *rig_new(const BenchOptions *options, const char *name, uint64_t seed, AioContext *ctx,
             GError **errp)
{
    Rig *rig = rig_alloc(options, IOVA_OFFSET, seed, errp);

    if (!rig) {
        return NULL;
    }
    rig->svq = shadow_virtqueue_new(name);
    rig->shadow_memory = guest_memory_new(1, ring_and_tables_size((uint32_t)options->queue_size), 0,
                                          errp);
    if (!rig->shadow_memory || !start_queue(rig, options, ctx, errp)) {
        rig_free(rig);
        return NULL;
    }
    rig->device_map = rig->shadow_memory->map;
    return rig;
}

Rig *rig_new_direct(const BenchOptions *options, uint64_t seed, GError **errp)
{
    Rig *rig = rig_alloc(options, 0, seed, errp);

    if (!rig) {
        return NULL;
    }
    rig->shadow_packed = rig->guest_packed;
    rig->device_map = rig->memory->map;
    if (!start_direct(rig, options, errp)) {
        rig_free(rig);
        return NULL;
    }
    return rig;
}

static void free_svq(Rig *rig)
{
    if (!rig->svq) {
        return;
    }
    if (shadow_virtqueue_get_state(rig->svq) != SVQ_QUEUE_STOPPED) {
        VringBase base;

        shadow_virtqueue_detach(rig->svq);
        shadow_virtqueue_stop(rig->svq, false, &base);
    }
    shadow_virtqueue_free(rig->svq);
}

void rig_free(Rig *rig)
{
    if (!rig) {
        return;
    }
    free_svq(rig);
    vring_driver_cleanup(&rig->driver);
    vring_device_cleanup(&rig->device);
    rig_log_cleanup(&rig->log);
    event_notifier_cleanup(&rig->guest_kick);
    event_notifier_cleanup(&rig->guest_call);
    event_notifier_cleanup(&rig->device_kick);
    event_notifier_cleanup(&rig->device_call);
    guest_memory_free(rig->memory);
    guest_memory_free(rig->shadow_memory);
    g_free(rig->table);
    g_free(rig->writable);
    g_aligned_free(rig->segments);
    g_free(rig->batch);
    g_aligned_free(rig);
}

unsigned int rig_driver_add(Rig *rig, unsigned int n, bool *kick)
{
    unsigned int i;

    n = MIN(n, rig_driver_room(rig));
    *kick = false;
    if (n == 0) {
        return 0;
    }
    for (i = 0; i < n; i++) {
        bench_driver_add(&rig->driver, rig->guest_packed, rig->indirect,
                         table_entry(rig, rig->added), rig->descriptors,
                         (uint32_t)rig->added);
        rig->added++;
    }
    vring_driver_publish(&rig->driver, rig->guest_packed);
    *kick = vring_driver_needs_kick(&rig->driver, rig->guest_packed);
    return n;
}

unsigned int rig_driver_collect_burst(Rig *rig, unsigned int max)
{
    unsigned int n;
    uint32_t number, len;
    int ret = 0;

    for (n = 0; n < max; n++) {
        ret = vring_driver_collect(&rig->driver, rig->guest_packed, &number, &len);
        if (ret <= 0) {
            break;
        }
        if (number != (uint32_t)rig->collected || len != writable_bytes(rig, number)) {
            rig->errors++;
        }
        rig->collected++;
    }
    if (ret < 0) {
        rig->errors++;
    }
    if (n) {
        atomic_store_explicit(&rig->progress, rig->collected, memory_order_relaxed);
    }
    return n;
}

/* Whether the device was offered what the driver added as @number. */
static bool is_expected(const Rig *rig, unsigned int n, uint64_t number)
{
    const VringSegment *want = table_entry(rig, number);
    const VringSegment *seg = rig->segments;
    unsigned int i;

    if (n != rig->descriptors) {
        return false;
    }
    for (i = 0; i < n; i++) {
        if (seg[i].addr != want[i].addr + rig->iova_offset || seg[i].len != want[i].len ||
            seg[i].flags != want[i].flags) {
            return false;
        }
    }
    return true;
}

unsigned int rig_device_work_burst(Rig *rig, unsigned int max, bool *call)
{
    VringDevice *device = &rig->device;
    const bool packed = rig->shadow_packed;
    unsigned int n;
    uint16_t id;
    int ret = 0;

    for (n = 0; n < max; n++) {
        ret = vring_device_take(device, packed, rig->device_map, rig->segments, rig->descriptors,
                                &id);
        if (ret <= 0) {
            break;
        }
        if (!is_expected(rig, (unsigned int)ret, rig->taken)) {
            rig->errors++;
        }
        if (device->in_order) {
            rig->batch[n] = id;
        } else {
            vring_device_put(device, packed, id, writable_bytes(rig, rig->taken));
        }
        rig->taken++;
    }
    if (ret < 0) {
        rig->errors++;
    }
    *call = false;
    if (n) {
        if (device->in_order) {
            /* All of them are full. */
            vring_device_put_batch(device, packed, rig->batch, n,
                                   writable_bytes(rig, rig->taken - 1));
        }
        vring_device_publish(device, packed);
        *call = vring_device_needs_call(device, packed);
    }
    return n;
}

uint64_t rig_unlogged_pages(const Rig *rig)
{
    const uint64_t n = MIN(rig->collected, TABLE_SIZE) * rig->descriptors;
    uint64_t missing = 0, i;

    if (!rig->log.published) {
        return 0;
    }
    for (i = 0; i < n; i++) {
        const VringSegment *seg = &rig->table[i];

        if (seg->flags & VRING_DESC_F_WRITE) {
            missing += rig_log_missing(&rig->log, seg->addr, seg->len);
        }
    }
    return missing;
}
