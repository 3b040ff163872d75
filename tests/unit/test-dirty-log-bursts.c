/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logging, burst by burst: after each the log has the pages that were written, and no other.
 *
 * How it works.  The test is driver and device of one queue and steps it by itself, so nothing
 * depends on time, but for one test with threads.  What a burst ought to have marked it works out
 * page by page.  The two halves of the guest's memory have each other's addresses for the device: a
 * page that is logged by the wrong one is another page of the log.
 */
#include <glib.h>
#include <string.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "lib/random.h"

#define PAGE            UINT64_C(4096)
#define WORD_PAGES      64
#define MEMORY_GPA      (256 * PAGE)
#define HALF_SIZE       (512 * PAGE)
#define MEMORY_END      (MEMORY_GPA + 2 * HALF_SIZE)
/* Nobody writes through these: the ring's memory is not the guest's here. */
#define DESC_GPA        (MEMORY_END + 8 * PAGE + 0x800)
#define DEVICE_GPA      (MEMORY_END + 24 * PAGE + 0xffc)
#define LOG_PAGES       1536
#define LOG_WORDS       (LOG_PAGES / WORD_PAGES)
#define SHORT_PAGES     968     /* ends within the memory, and within a word */
#define TABLES_IOVA     (UINT64_C(1) << 32)
#define RING_NUM        1024
#define BURST_MAX       24
#define ELEMENTS        8
#define BURSTS          400

typedef struct Setting {
    const char *name;
    bool guest_packed, shadow_packed;
    bool guest_in_order, shadow_in_order, batches, indirect, event_idx;
    bool not_data, not_ring;
    unsigned int elements;
    uint64_t pages;             /* of the log */
} Setting;

typedef struct Buffer {
    unsigned int n;
    VringSegment seg[ELEMENTS];
    uint32_t len;               /* what the device writes */
    uint16_t id;                /* of the shadow ring */
} Buffer;

typedef struct World {
    const Setting *setting;
    MemoryMap *map, *device_map;
    DirtyLog log;
    SvqLogging logging, *published;
    uint64_t expected[LOG_WORDS];
    ShadowVirtqueue *svq;
    VringConfig guest, shadow;
    VringDriver driver;
    VringDevice device;
    unsigned int used;          /* guest: buffers (split) or descriptors (packed) put back */
    Random random;
} World;

/* What is to be logged. */

static void expect(World *w, uint64_t gpa, uint64_t len)
{
    uint64_t page;

    for (page = gpa / PAGE; page <= (gpa + len - 1) / PAGE && page < w->log.n_pages; page++) {
        w->expected[page / WORD_PAGES] |= UINT64_C(1) << page % WORD_PAGES;
    }
}

static void expect_data(World *w, const Buffer *buffer)
{
    uint32_t left = buffer->len;
    unsigned int i;

    for (i = 0; i < buffer->n && left; i++) {
        const VringSegment *seg = &buffer->seg[i];

        if (seg->flags & VRING_DESC_F_WRITE) {
            expect(w, seg->addr, MIN(seg->len, left));
            left -= MIN(seg->len, left);
        }
    }
    g_assert_cmpuint(left, ==, 0);
}

/* @buffers of @descs descriptors were put back. */
static void expect_ring(World *w, unsigned int buffers, unsigned int descs)
{
    const bool packed = w->guest.packed;
    const unsigned int n = packed ? descs : buffers;
    unsigned int i;

    for (i = 0; i < n; i++, w->used++) {
        const unsigned int place = w->used % RING_NUM;

        if (packed) {
            expect(w, DESC_GPA + place * sizeof(VringDesc), sizeof(VringDesc));
        } else {
            expect(w, DEVICE_GPA + offsetof(VringUsed, ring[place]), sizeof(VringUsedElem));
        }
    }
    if (!packed) {
        expect(w, DEVICE_GPA + offsetof(VringUsed, idx), sizeof(le16));
    }
}

static void expect_kick_wish(World *w)
{
    if (w->guest.packed) {
        expect(w, DEVICE_GPA, sizeof(VringPackedEvent));
    } else if (w->guest.event_idx) {
        expect(w, DEVICE_GPA + offsetof(VringUsed, ring[RING_NUM]), sizeof(le16));
    } else {
        expect(w, DEVICE_GPA + offsetof(VringUsed, flags), sizeof(le16));
    }
}

/* The log has what is expected, and then nothing. */
static void check_log(World *w)
{
    unsigned int i;

    for (i = 0; i < LOG_WORDS; i++) {
        g_assert_cmphex(le64toh(atomic_exchange(&w->log.words[i], 0)), ==, w->expected[i]);
        w->expected[i] = 0;
    }
}

/* The queue. */

static void log_init(World *w)
{
    *w = (World){ .log = { .n_pages = LOG_PAGES, .refs = 1 } };
    w->log.words = g_malloc0(LOG_WORDS * sizeof(uint64_t));
    w->random.state = random_seed();
}

static void world_init(World *w, const Setting *setting)
{
    static const GuestRegion halves[] = {
        { MEMORY_GPA, HALF_SIZE, MEMORY_GPA + HALF_SIZE },
        { MEMORY_GPA + HALF_SIZE, HALF_SIZE, MEMORY_GPA },
    };
    const GuestRegion tables = {
        TABLES_IOVA, RING_NUM * VRING_INDIRECT_MAX * sizeof(VringDesc), TABLES_IOVA,
    };
    ShadowVirtqueueConfig config = {
        .guest_kick_fd = -1, .guest_call_fd = -1, .guest_err_fd = -1,
        .device_kick_fd = -1, .device_call_fd = -1,
    };
    g_autoptr(GError) err = NULL;

    log_init(w);
    w->setting = setting;
    w->log.n_pages = setting->pages ? setting->pages : LOG_PAGES;
    w->logging = (SvqLogging){
        .log = &w->log, .data = !setting->not_data, .ring = !setting->not_ring,
        .desc_gpa = DESC_GPA, .device_gpa = DEVICE_GPA,
    };
    w->published = &w->logging;
    w->map = guest_memory_new(halves, G_N_ELEMENTS(halves));
    w->device_map = guest_memory_new(&tables, 1);
    w->guest = (VringConfig){
        .num = RING_NUM, .packed = setting->guest_packed, .event_idx = setting->event_idx,
        .in_order = setting->guest_in_order,
    };
    w->shadow = (VringConfig){
        .num = RING_NUM, .packed = setting->shadow_packed, .indirect = setting->indirect,
        .in_order = setting->shadow_in_order, .put_in_order = true,
    };
    guest_ring_alloc(&w->guest);
    guest_ring_alloc(&w->shadow);
    g_assert_cmpint(vring_driver_init(&w->driver, &w->guest, NULL, 0), ==, 0);

    config.map = &w->map;
    config.logging = &w->published;
    config.guest = w->guest;
    config.shadow = w->shadow;
    config.tables = setting->indirect ? (VringDesc *)w->device_map->ranges[0].host : NULL;
    config.tables_iova = TABLES_IOVA;
    w->svq = shadow_virtqueue_new("queue");
    g_assert_cmpint(shadow_virtqueue_start(w->svq, &config, &err), ==, 0);
    g_assert_no_error(err);
    g_assert_cmpint(vring_device_init(&w->device, &w->shadow), ==, 0);
}

static void world_cleanup(World *w)
{
    VringBase base;

    shadow_virtqueue_detach(w->svq);
    shadow_virtqueue_stop(w->svq, false, &base);
    if (w->logging.ring) {
        expect_kick_wish(w);
    }
    check_log(w);
    shadow_virtqueue_free(w->svq);
    vring_device_cleanup(&w->device);
    vring_driver_cleanup(&w->driver);
    guest_ring_free(&w->guest);
    guest_ring_free(&w->shadow);
    guest_memory_free(w->map);
    guest_memory_free(w->device_map);
    g_free((void *)w->log.words);
}

/* Buffers, which like the borders of pages, of words, and of the two halves. */

static VringSegment random_element(Random *random)
{
    static const unsigned int places[] = { 0, 1, 30, 62, 63 };
    static const unsigned int offsets[] = { 0, 1, PAGE - 2, PAGE - 1 };
    const unsigned int word = random_between(random, MEMORY_GPA / PAGE / WORD_PAGES,
                                             MEMORY_END / PAGE / WORD_PAGES - 1);
    const unsigned int place = places[random_below(random, G_N_ELEMENTS(places))];
    const unsigned int offset = random_one_in(random, 2)
                                    ? offsets[random_below(random, G_N_ELEMENTS(offsets))]
                                    : random_below(random, PAGE);
    const uint64_t gpa = (word * WORD_PAGES + place) * PAGE + offset, room = MEMORY_END - gpa;
    uint64_t len = random_between(random, 1, 300);

    switch (random_below(random, 8)) {
    case 0:     /* up to the end of a page, or a byte more */
        len = PAGE - offset + random_below(random, 3) * PAGE + random_below(random, 2);
        break;
    case 1:
        len = random_between(random, 1, 3 * WORD_PAGES * PAGE);
        break;
    }
    return (VringSegment){ gpa, (uint32_t)MIN(len, room), 0 };
}

static Buffer random_buffer(World *w)
{
    Random *random = &w->random;
    Buffer buffer = { .n = random_between(random, 1, w->setting->elements) };
    const unsigned int n_readable = random_below(random, buffer.n + 1);
    uint32_t writable = 0;
    unsigned int i;

    for (i = 0; i < buffer.n; i++) {
        buffer.seg[i] = random_element(random);
        if (i >= n_readable) {
            buffer.seg[i].flags = VRING_DESC_F_WRITE;
            writable += buffer.seg[i].len;
        }
    }
    buffer.len = random_one_in(random, 2) ? writable : random_below(random, writable + 1);
    return buffer;
}

/* A burst. */

static void driver_add(World *w, const Buffer *buffers, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        vring_driver_add(&w->driver, w->guest.packed, buffers[i].seg, buffers[i].n, i);
    }
    vring_driver_publish(&w->driver, w->guest.packed);
}

static void device_take(World *w, Buffer *buffers, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        VringSegment seg[RING_NUM];
        int ret = vring_device_take(&w->device, w->shadow.packed, w->device_map, seg,
                                    G_N_ELEMENTS(seg), &buffers[i].id);

        g_assert_cmpint(ret, >=, 1);
    }
}

/* With IN_ORDER in order, by one used element for all if it may; otherwise the last one first. */
static void device_use(World *w, Buffer *buffers, unsigned int n)
{
    const bool packed = w->shadow.packed;
    uint16_t ids[BURST_MAX];
    unsigned int i, k;

    for (i = 0; i < n; i++) {
        ids[i] = buffers[i].id;
    }
    if (w->setting->batches) {
        for (i = 0; i + 1 < n; i++) {
            buffers[i].len = 0;
            for (k = 0; k < buffers[i].n; k++) {
                buffers[i].len += buffers[i].seg[k].flags ? buffers[i].seg[k].len : 0;
            }
        }
        vring_device_put_batch(&w->device, packed, ids, n, buffers[n - 1].len);
    } else {
        for (i = 0; i < n; i++) {
            const Buffer *buffer = &buffers[w->shadow.in_order ? i : n - 1 - i];

            vring_device_put(&w->device, packed, buffer->id, buffer->len);
        }
    }
    vring_device_publish(&w->device, packed);
}

static void driver_collect(World *w, const Buffer *buffers, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        uint32_t cookie = 0, len = 0;

        g_assert_cmpint(vring_driver_collect(&w->driver, w->guest.packed, &cookie, &len), ==, 1);
        g_assert_cmpuint(len, ==, buffers[cookie].len);
    }
}

static void pass_burst(World *w, Buffer *buffers, unsigned int n)
{
    unsigned int i, descs = 0;

    driver_add(w, buffers, n);
    g_assert_cmpuint(shadow_virtqueue_offer(w->svq), ==, n);
    device_take(w, buffers, n);
    check_log(w);       /* nothing is written yet */
    device_use(w, buffers, n);
    g_assert_cmpuint(shadow_virtqueue_return(w->svq), ==, n);
    for (i = 0; i < n; i++) {
        if (w->logging.data) {
            expect_data(w, &buffers[i]);
        }
        descs += buffers[i].n;
    }
    if (w->logging.ring) {
        expect_ring(w, n, descs);
    }
    check_log(w);
    driver_collect(w, buffers, n);
}

static void test_bursts(const void *data)
{
    World world, *w = &world;
    Buffer buffers[BURST_MAX];
    unsigned int i, k;

    world_init(w, data);
    for (i = 0; i < BURSTS; i++) {
        const unsigned int n = random_between(&w->random, 1, BURST_MAX);

        for (k = 0; k < n; k++) {
            buffers[k] = random_buffer(w);
        }
        pass_burst(w, buffers, n);
    }
    world_cleanup(w);
}

/* Marks alone. */

/* Each pair of pages, and each place in them where it matters, alone. */
static void test_each_range(void)
{
    static const unsigned int places[] = { 0, 1, PAGE - 1 };
    World world, *w = &world;
    unsigned int first, last, i;

    log_init(w);
    w->log.n_pages = 3 * WORD_PAGES + 8;
    for (first = 0; first < 4 * WORD_PAGES; first++) {
        for (last = first; last < 4 * WORD_PAGES; last++) {
            for (i = 0; i < G_N_ELEMENTS(places) * G_N_ELEMENTS(places); i++) {
                const uint64_t gpa = first * PAGE + places[i / G_N_ELEMENTS(places)];
                const uint64_t end = last * PAGE + places[i % G_N_ELEMENTS(places)] + 1;
                DirtyLogCache cache = { 0 };

                if (gpa >= end) {
                    continue;
                }
                dirty_log_mark(&w->log, &cache, gpa, end - gpa);
                dirty_log_flush(&w->log, &cache);
                expect(w, gpa, end - gpa);
                check_log(w);
            }
        }
    }
    g_free((void *)w->log.words);
}

/* Many through one cache, which go from word to word and back. */
static void test_ranges_in_turn(void)
{
    World world, *w = &world;
    unsigned int i, k;

    log_init(w);
    for (i = 0; i < 10000; i++) {
        DirtyLogCache cache = { 0 };
        const unsigned int n = random_between(&w->random, 1, 20);

        for (k = 0; k < n; k++) {
            const VringSegment seg = random_element(&w->random);

            dirty_log_mark(&w->log, &cache, seg.addr, seg.len);
            expect(w, seg.addr, seg.len);
        }
        dirty_log_flush(&w->log, &cache);
        check_log(w);
        dirty_log_flush(&w->log, &cache);
        check_log(w);
    }
    g_free((void *)w->log.words);
}

/* The caller need not look at what it marks: nothing, or what the log does not have, is none. */
static void test_mark_nothing(void)
{
    World world, *w = &world;

    log_init(w);
    dirty_log_mark_many(&w->log, MEMORY_GPA + 1, 0);
    dirty_log_mark_many(&w->log, LOG_PAGES * PAGE, 1);
    dirty_log_mark_many(&w->log, UINT64_MAX, 1);
    check_log(w);
    g_free((void *)w->log.words);
}

typedef struct Neighbour {
    World *world;
    uint64_t gpa;
    atomic_uint *present;
} Neighbour;

/* Marks a page and takes its bit out, again and again: it is there when it was put in. */
static void *neighbour_thread(void *opaque)
{
    const Neighbour *neighbour = opaque;
    const DirtyLog *log = &neighbour->world->log;
    const uint64_t page = neighbour->gpa / PAGE;
    const uint64_t bit = htole64(UINT64_C(1) << page % WORD_PAGES);
    uint64_t left;

    atomic_fetch_add(neighbour->present, 1);
    while (atomic_load(neighbour->present) < 2) {
        g_thread_yield();
    }
    for (left = random_steps(3000000); left; left--) {
        DirtyLogCache cache = { 0 };

        dirty_log_mark(log, &cache, neighbour->gpa, 1);
        dirty_log_flush(log, &cache);
        g_assert_true(atomic_fetch_and(&log->words[page / WORD_PAGES], ~bit) & bit);
    }
    return NULL;
}

/* Others put bits into the same word and take them out meanwhile. */
static void test_neighbours(void)
{
    World world, *w = &world;
    Neighbour neighbours[2];
    atomic_uint present = 0;
    GThread *threads[2];
    unsigned int i;

    log_init(w);
    for (i = 0; i < 2; i++) {
        neighbours[i] = (Neighbour){ w, MEMORY_GPA + i * PAGE, &present };
        threads[i] = g_thread_new("neighbour", neighbour_thread, &neighbours[i]);
    }
    for (i = 0; i < 2; i++) {
        g_thread_join(threads[i]);
    }
    check_log(w);
    g_free((void *)w->log.words);
}

static void add_formats(const Setting *setting, unsigned int formats)
{
    Setting *copy = g_memdup2(setting, sizeof(*setting));
    g_autofree char *path = NULL;

    copy->guest_packed = formats & 2;
    copy->shadow_packed = formats & 1;
    path = g_strdup_printf("/dirty-log-bursts/%s/%s-%s", setting->name,
                           copy->guest_packed ? "packed" : "split",
                           copy->shadow_packed ? "packed" : "split");
    g_test_add_data_func_full(path, copy, test_bursts, g_free);
}

int main(int argc, char **argv)
{
    static const Setting settings[] = {
        { .name = "plain", .elements = 1 },
        { .name = "plain-beyond-log", .elements = 1, .event_idx = true, .pages = SHORT_PAGES },
        { .name = "chains", .elements = ELEMENTS, .event_idx = true },
        { .name = "chains-beyond-log", .elements = ELEMENTS, .pages = SHORT_PAGES },
        { .name = "tables", .elements = ELEMENTS - 1, .indirect = true },
        { .name = "reordered", .elements = ELEMENTS, .guest_in_order = true },
        { .name = "in-order", .elements = ELEMENTS, .shadow_in_order = true },
        { .name = "in-order-batches", .elements = ELEMENTS, .guest_in_order = true,
          .shadow_in_order = true, .batches = true },
        { .name = "only-ring", .elements = ELEMENTS, .not_data = true },
        { .name = "only-data", .elements = ELEMENTS, .not_ring = true },
    };
    unsigned int i, formats;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-log-bursts/marks/each-range", test_each_range);
    g_test_add_func("/dirty-log-bursts/marks/ranges-in-turn", test_ranges_in_turn);
    g_test_add_func("/dirty-log-bursts/marks/nothing", test_mark_nothing);
    g_test_add_func("/dirty-log-bursts/marks/neighbours", test_neighbours);
    for (i = 0; i < G_N_ELEMENTS(settings); i++) {
        for (formats = 0; formats < 4; formats++) {
            add_formats(&settings[i], formats);
        }
    }
    return g_test_run();
}
