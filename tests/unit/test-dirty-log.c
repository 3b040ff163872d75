/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logging, seen from outside: what a VMM copies by the log while four queues in four threads
 * work is, in the end, the guest's memory to the byte, rings included; and no page is logged that
 * nobody wrote.
 *
 * How it works.  The main thread is the VMM: it harvests and copies without pause while driver and
 * device (dirty-traffic.h) dirty the memory (dirty-memory.h), and tells the device under test what
 * QEMU tells it when a migration begins, is cancelled, begins anew, gets another log because
 * memory was plugged, and ends.  What random traffic shows by chance only, the cases with a few
 * buffers by hand show for certain.  scripts/mutate-dirty-log proves that each line matters.
 */
#include "lib/dirty-world.h"

#define BUFFERS     1000000     /* of all pairs of formats; with -m slow, of each */
#define SHORT_RING  16u
#define REPLACES    401         /* of logs; odd: log 2 is the last */

static uint64_t sixteenths(const DirtyWorld *w, unsigned int n)
{
    return w->traffic->total * n / 16;
}

/* Until so many buffers have come back; harvests meanwhile if @rounds: how often. */
static unsigned int run_until(DirtyWorld *w, uint64_t target, bool rounds)
{
    int64_t end_us = g_get_monotonic_time() + DIRTY_STALL_US;
    uint64_t collected, before = 0;
    unsigned int n = 0;

    while ((collected = atomic_load(&w->traffic->collected)) < target) {
        if (collected != before) {
            before = collected;
            end_us = g_get_monotonic_time() + DIRTY_STALL_US;
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        dirty_driver_grant(w->traffic, collected);
        if (rounds) {
            n += dirty_memory_round(w->memory) > 0;
        } else {
            g_thread_yield();
        }
    }
    return n;
}

/*
 * The same while logs 1 and 2 are exchanged again and again: what is left in one when it is not
 * used any more is harvested then, and later nobody has put anything in.
 */
static unsigned int run_replacing_until(DirtyWorld *w, uint64_t target)
{
    const uint64_t begin = atomic_load(&w->traffic->collected);
    const uint64_t step = (target - begin) / REPLACES;
    unsigned int rounds = 0, i;

    for (i = 0; i < REPLACES; i++) {
        DirtyLogFile *next = &w->logs[2 - i % 2];

        g_assert_true(dirty_log_file_is_clean(next));
        dirty_world_log_replace(w, next);
        rounds += run_until(w, begin + step * (i + 1), true);
    }
    return rounds;
}

static void check_queues_run(const DirtyWorld *w)
{
    unsigned int q;

    for (q = 0; q < VMM_RINGS; q++) {
        g_autofree char *id = g_strdup_printf("io%u", q);
        SvqQueueStats stats = rig_stats(&w->rig, q);

        g_assert_cmpint(stats.state, ==, SVQ_QUEUE_RUNNING);
        g_assert_cmpstr(stats.iothread, ==, id);
        g_assert_cmpuint(stats.counters.returned, >, 0);
    }
}

/* Of each the guest's and the shadow's format, and other features of the guest's ring. */
static uint64_t features_of(const RigFormat *format)
{
    if (!format->guest_packed) {
        return format->shadow_packed ? DIRTY_INDIRECT : DIRTY_EVENT_IDX;
    }
    return DIRTY_EVENT_IDX | (format->shadow_packed ? DIRTY_IN_ORDER : DIRTY_INDIRECT);
}

static void test_copy_equals_original(const void *data)
{
    const RigFormat *format = data;
    unsigned int rounds = 0;
    DirtyWorld world, *w = &world;

    dirty_world_init(w, format, features_of(format), 256,
                     random_steps(g_test_slow() ? BUFFERS : BUFFERS / 4));
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_log_file_init(&w->logs[1], DIRTY_PAGE, DIRTY_LOG_BYTES);
    dirty_log_file_init(&w->logs[2], 0, 3 * DIRTY_LOG_BYTES);
    dirty_device_go_on(w->traffic);
    dirty_driver_go_on(w->traffic);
    run_until(w, sixteenths(w, 1), false);

    /* A migration that is cancelled, and a while without. */
    dirty_world_log_on(w, &w->logs[0]);
    rounds += run_until(w, sixteenths(w, 3), true);
    dirty_world_log_off(w);
    run_until(w, sixteenths(w, 4), false);
    g_assert_true(dirty_log_file_is_clean(&w->logs[0]));

    /* Another one, with one log after the other; it fails on the other side: the guest goes on. */
    dirty_world_log_on(w, &w->logs[1]);
    rounds += run_until(w, sixteenths(w, 7), true);
    rounds += run_replacing_until(w, sixteenths(w, 10));
    check_queues_run(w);
    dirty_driver_halt(w->traffic);
    dirty_world_stop_rings(w);
    dirty_world_finish_copy(w);
    dirty_world_start_rings(w, VMM_KEEP_BASE);
    dirty_device_go_on(w->traffic);
    dirty_driver_go_on(w->traffic);

    rounds += run_until(w, sixteenths(w, 16), true);
    check_queues_run(w);
    dirty_driver_halt(w->traffic);
    dirty_world_stop_rings(w);
    dirty_world_finish_copy(w);
    g_assert_true(dirty_log_file_is_clean(&w->logs[1]));
    g_assert_cmpuint(w->traffic->collected, ==, w->traffic->total);
    g_assert_cmpuint(rounds, >=, w->traffic->total / DIRTY_GRANT / 4);
    g_test_message("%u rounds", rounds);
    dirty_world_cleanup(w);
}

/*
 * A ring whose notifications were switched, and in which nothing was used: with EVENT_IDX, by the
 * buffer that is waited for next; without, by a shadow ring that has no room.
 */
static void check_notifications(const RigFormat *format, bool event_idx)
{
    const int64_t end_us = g_get_monotonic_time() + DIRTY_STALL_US;
    const unsigned int offered = event_idx ? 1 : SHORT_RING;
    uint64_t field = DIRTY_DEVICE;
    DirtyWorld world, *w = &world;
    unsigned int i;

    dirty_world_init(w, format, event_idx ? DIRTY_EVENT_IDX : 0, SHORT_RING, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    if (event_idx && !format->guest_packed) {
        field += (uint32_t)offsetof(VringUsed, ring[DIRTY_RING_NUM]);
    }
    field += w->memory->rings[0];
    dirty_world_log_on(w, &w->logs[0]);
    for (i = 0; i < (event_idx ? 1 : 2 * SHORT_RING); i++) {
        dirty_world_add_buffer(w, 0, i);
    }
    while (rig_stats(&w->rig, 0).counters.buffers < offered ||
           dirty_memory_page_is_copied(w->memory, field)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_thread_yield();
    }
    while (!dirty_memory_page_is_copied(w->memory, field)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        dirty_memory_round(w->memory);
        g_thread_yield();
    }
    /* Which switches them once more. */
    dirty_world_stop_rings(w);
    g_assert_false(dirty_memory_page_is_copied(w->memory, field));
    dirty_world_finish_copy(w);
    dirty_world_cleanup(w);
}

static void test_notifications(const void *data)
{
    RigFormat format = *(const RigFormat *)data;

    format.poll_max_ns = 0;     /* which would switch them back and forth */
    check_notifications(&format, false);
    check_notifications(&format, true);
}

static void use_last_buffer(DirtyWorld *w, unsigned int q)
{
    VringDevice *vr = &w->rig.fake.rings[q].vr;

    if (q == 0) {
        dirty_device_write(w->traffic, q, &w->last_seg, 1, 500);
        vring_device_put(vr, vr->packed, w->last_id, 500);
        vring_device_publish(vr, vr->packed);
    }
}

/* What the device used at the last moment, and a buffer that was overtaken. */
static void test_what_stop_gives_back(const void *data)
{
    const RigFormat *format = data;
    VringSegment seg[3];
    uint16_t ids[3];
    DirtyWorld world, *w = &world;
    unsigned int i;

    dirty_world_init(w, format, 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_log_on(w, &w->logs[0]);
    for (i = 0; i < 3; i++) {
        dirty_world_add_buffer(w, 0, i);
        ids[i] = fake_device_take(&w->rig.fake, 0, &seg[i]);
    }
    dirty_world_use_buffer(w, 0, ids[1], &seg[1]);
    dirty_world_collect_buffer(w, 0, 1, DIRTY_BUFFER);
    dirty_memory_round(w->memory);

    w->last_id = ids[2];
    w->last_seg = seg[2];
    w->last_words = use_last_buffer;
    dirty_world_stop_rings(w);
    dirty_world_collect_buffer(w, 0, 2, 500);
    dirty_world_collect_buffer(w, 0, 0, 0);
    dirty_world_finish_copy(w);
    dirty_world_cleanup(w);
}

/* One buffer after the other by hand, each when the page of the ring is seen to be copied. */
typedef struct Hammer {
    DirtyWorld *w;
    unsigned int total;
    _Atomic unsigned int passed, checked;
} Hammer;

static void *hammer_thread(void *opaque)
{
    Hammer *hammer = opaque;
    unsigned int i;

    for (i = 0; i < hammer->total; i++) {
        dirty_world_pass_buffer(hammer->w, 0, i % 8);
        atomic_fetch_add(&hammer->passed, 1);
        while (atomic_load(&hammer->checked) <= i) {
            g_thread_yield();
        }
    }
    return NULL;
}

static bool ring_is_copied(const DirtyWorld *w, unsigned int q)
{
    uint64_t offset;

    for (offset = 0; offset < DIRTY_TABLES; offset += DIRTY_PAGE) {
        if (!dirty_memory_page_is_copied(w->memory, w->memory->rings[q] + offset)) {
            return false;
        }
    }
    return true;
}

/*
 * What is written in a ring is logged after it was written: a bit that is taken out too early is
 * not put in again while nothing else happens, and the ring stays old in the copy.
 */
static void test_ring_is_logged_after(const void *data)
{
    const RigFormat *format = data;
    int64_t end_us = g_get_monotonic_time() + DIRTY_STALL_US;
    DirtyWorld world, *w = &world;
    Hammer hammer = { .w = w, .total = (unsigned int)random_steps(1000) };
    GThread *thread;

    dirty_world_init(w, format, features_of(format), 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_log_on(w, &w->logs[0]);
    thread = g_thread_new("hammer", hammer_thread, &hammer);
    while (hammer.checked < hammer.total) {
        dirty_memory_round(w->memory);
        if (hammer.passed > hammer.checked && ring_is_copied(w, 0)) {
            end_us = g_get_monotonic_time() + DIRTY_STALL_US;
            hammer.checked++;
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
    }
    g_thread_join(thread);
    dirty_world_stop_rings(w);
    dirty_world_finish_copy(w);
    dirty_world_cleanup(w);
}

/*
 * What the device wrote is logged before its buffer is used: a driver that does not sleep, and sees
 * a burst as soon as it can be seen, finds all of its pages in the log.
 */
static void pass_burst(DirtyWorld *w, unsigned int n)
{
    struct FakeRing *ring = &w->rig.fake.rings[0];
    VringDriver *driver = &w->rig.vmm.rings[0].driver;
    EventNotifier call = { ring->ring.call_fd };
    const int64_t end_us = g_get_monotonic_time() + DIRTY_STALL_US;
    uint32_t cookie, len;
    unsigned int i;

    for (i = 0; i < n; i++) {
        /* Pages far apart, so that their bits are, too. */
        dirty_world_add_buffer(w, 0, i * 6);
    }
    for (i = 0; i < n; i++) {
        VringSegment seg;
        uint16_t id = fake_device_take(&w->rig.fake, 0, &seg);

        dirty_device_write(w->traffic, 0, &seg, 1, seg.len);
        vring_device_put(&ring->vr, ring->vr.packed, id, seg.len);
    }
    vring_device_publish(&ring->vr, ring->vr.packed);
    event_notifier_set(&call);
    for (i = 0; i < n;) {
        if (vring_driver_collect(driver, driver->packed, &cookie, &len) == 1) {
            dirty_record_check(w->memory, &w->traffic->records[0][cookie], len);
            i++;
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
    }
}

static void test_data_is_logged_before(const void *data)
{
    const RigFormat *format = data;
    uint64_t bursts = random_steps(1000);
    DirtyWorld world, *w = &world;

    dirty_world_init(w, format, 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_log_on(w, &w->logs[0]);
    while (bursts--) {
        pass_burst(w, 40);
        dirty_memory_round(w->memory);
    }
    dirty_world_stop_rings(w);
    dirty_world_finish_copy(w);
    dirty_world_cleanup(w);
}

int main(int argc, char **argv)
{
    rig_test_init(&argc, &argv);
    rig_test_add("/dirty-log/notifications-alone-are-logged", test_notifications);
    rig_test_add("/dirty-log/what-stop-gives-back-is-logged", test_what_stop_gives_back);
    rig_test_add("/dirty-log/data-is-logged-before-its-buffer-is-used", test_data_is_logged_before);
    rig_test_add("/dirty-log/ring-is-logged-after-it-is-written", test_ring_is_logged_after);
    rig_test_add("/dirty-log/copy-equals-original", test_copy_equals_original);
    return rig_test_run();
}
