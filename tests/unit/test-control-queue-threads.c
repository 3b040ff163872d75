/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control queue in its IOThread: the timer is real, no wake-up is lost, and a thread that has
 * nothing to do sleeps.
 *
 * How it works.  The guest is the test's thread, the device one of its own.  A lost wake-up shows
 * as a wait that lasts too long, a loop that spins as a thread that is never seen asleep.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/control-rig.h"
#include "lib/random.h"
#include "util/iothread.h"

#define COMMANDS 20000
#define LIMIT_NS INT64_C(30000000)

typedef struct World {
    ControlRig rig;
    IOThread *iothread;
    GThread *thread;            /* the device's; NULL: the test plays it */
    EventNotifier quit;
    Random random;              /* the device's */
} World;

/* Answers what it has taken, in any order. */
static unsigned int device_burst(World *w)
{
    RigCommand commands[CONTROL_QUEUE_SLOTS];
    const unsigned int most = random_between(&w->random, 1, CONTROL_QUEUE_SLOTS);
    unsigned int n = 0, left;

    while (n < most && control_rig_try_take(&w->rig, &commands[n])) {
        n++;
    }
    for (left = n; left; left--) {
        const unsigned int i = random_below(&w->random, left);

        control_rig_answer(&w->rig, commands[i], NET_CTRL_OK);
        commands[i] = commands[left - 1];
    }
    return n;
}

static void *device_thread(void *opaque)
{
    World *w = opaque;
    const bool packed = w->rig.shadow.packed;
    struct pollfd fds[] = {
        { .fd = w->rig.device_kick.fd, .events = POLLIN },
        { .fd = w->quit.fd, .events = POLLIN },
    };

    while (!fds[1].revents) {
        if (device_burst(w) || vring_device_enable_kick(&w->rig.device, packed)) {
            continue;
        }
        g_assert_cmpint(poll(fds, 2, CONTROL_RIG_WAIT_MS), >, 0);
        event_notifier_test_and_clear(&w->rig.device_kick);
        vring_device_disable_kick(&w->rig.device, packed);
    }
    return NULL;
}

static void world_init(World *w, const void *data, const AioPollParams *params,
                       ControlRigConfig config)
{
    const ControlRigConfig *formats = data;
    g_autoptr(GError) err = NULL;

    *w = (World){ .random = { 1 } };
    w->iothread = iothread_new("control", params, NULL, &err);
    g_assert_no_error(err);
    config.guest_packed = formats->guest_packed;
    config.shadow_packed = formats->shadow_packed;
    config.ctx = iothread_get_aio_context(w->iothread);
    control_rig_init(&w->rig, &config);
    vring_driver_enable_call(&w->rig.driver, w->rig.guest.packed);
    vring_device_enable_kick(&w->rig.device, w->rig.shadow.packed);
    g_assert_cmpint(event_notifier_init(&w->quit), ==, 0);
}

static void world_start_device(World *w)
{
    w->thread = g_thread_new("device", device_thread, w);
}

static void world_stop_device(World *w)
{
    event_notifier_set(&w->quit);
    g_thread_join(w->thread);
    w->thread = NULL;
}

static void world_cleanup(World *w)
{
    if (w->thread) {
        world_stop_device(w);
    }
    control_rig_cleanup(&w->rig);
    event_notifier_cleanup(&w->quit);
    iothread_unref(w->iothread);
    rcu_barrier();
}

/* The guest sleeps until it is called. */
static void await_used(ControlRig *rig)
{
    const bool packed = rig->guest.packed;

    while (!vring_driver_has_used(&rig->driver, packed)) {
        if (!vring_driver_enable_call(&rig->driver, packed)) {
            control_rig_await(&rig->guest_call);
        }
    }
}

static void await_counter(atomic_uint *counter, unsigned int value)
{
    const int64_t end = g_get_monotonic_time() + CONTROL_RIG_WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (atomic_load(counter) != value) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

/* Seen asleep: one that spins never is. */
static void await_sleep(const World *w)
{
    const int64_t end = g_get_monotonic_time() + CONTROL_RIG_WAIT_MS * G_TIME_SPAN_MILLISECOND;
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/stat",
                                            (int)iothread_get_thread_id(w->iothread));
    char state = 0;

    while (state != 'S') {
        g_autofree char *text = NULL;

        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_assert_cmpint(sscanf(text, "%*d (%*[^)]) %c", &state), ==, 1);
        g_usleep(100);
    }
}

static void run_traffic(const void *data, int64_t poll_max_ns, ControlRigConfig config)
{
    const AioPollParams params = { .max_ns = poll_max_ns };
    const unsigned int n = (unsigned int)random_steps(COMMANDS);
    unsigned int said = 0, heard = 0;
    Random random = { random_seed() };
    World w;

    world_init(&w, data, &params, config);
    world_start_device(&w);
    while (heard < n) {
        uint32_t cookie = 0, len = 0;
        unsigned int burst = random_between(&random, 1, CONTROL_RIG_NUM / 2);

        while (said < n && said - heard < CONTROL_RIG_NUM / 2 && burst--) {
            control_rig_say(&w.rig, said % 3 ? "VLAN_ADD 1" : "MQ_VQ_PAIRS_SET 2");
            said++;
        }
        await_used(&w.rig);
        while (vring_driver_collect(&w.rig.driver, w.rig.guest.packed, &cookie, &len) == 1) {
            g_assert_cmphex(control_rig_reply(&w.rig, cookie)[0], ==, NET_CTRL_OK);
            heard++;
        }
    }
    world_stop_device(&w);
    control_rig_stop(&w.rig, false);
    g_assert_cmpuint(control_queue_get_counters(w.rig.queue).commands, ==, n);
    /* Once for a burst, however long it happened to be. */
    g_assert_cmpuint(w.rig.changed, >=, 1);
    g_assert_cmpuint(w.rig.changed, <=, n);
    control_rig_check_state(&w.rig, "MQ_VQ_PAIRS_SET 2\nVLAN_ADD 1\n");
    world_cleanup(&w);
}

static void test_traffic(const void *data)
{
    run_traffic(data, 0, (ControlRigConfig){ .no_call = false });
}

static void test_traffic_polled(const void *data)
{
    run_traffic(data, 50000, (ControlRigConfig){ .event_idx = true });
}

static void test_traffic_short_ring(const void *data)
{
    run_traffic(data, 0, (ControlRigConfig){ .event_idx = true, .shadow_num = 4 });
}

static void test_traffic_no_call(const void *data)
{
    run_traffic(data, 0, (ControlRigConfig){ .no_call = true, .shadow_num = 4 });
}

/* A thousand of ours, and the guest's behind them. */
static void test_restore(const void *data)
{
    g_autoptr(GString) lines = g_string_new(NULL);
    unsigned int i;
    World w;

    for (i = 0; i < 1000; i++) {
        g_string_append_printf(lines, "%sVLAN_ADD %u\n", i % 100 ? "" : "* ", i);
    }
    world_init(&w, data, NULL, (ControlRigConfig){ .mute = true });
    control_rig_say(&w.rig, "VLAN_DEL 0");
    world_start_device(&w);
    control_queue_begin(w.rig.svq, control_rig_steps(lines->str));
    await_used(&w.rig);
    control_rig_hear(&w.rig, 0, NET_CTRL_OK);
    g_assert_cmpuint(w.rig.through, ==, 1);
    g_assert_cmpuint(w.rig.failed, ==, 0);
    world_stop_device(&w);
    control_rig_stop(&w.rig, false);
    g_assert_cmpuint(control_queue_get_counters(w.rig.queue).own, ==, 1000);
    g_assert_true(net_ctrl_state_is_empty(w.rig.state));
    world_cleanup(&w);
}

/* Not a moment too early, and the next command has its own time. */
static void test_time_limit(const void *data)
{
    unsigned int i;
    int64_t start;
    World w;

    world_init(&w, data, NULL, (ControlRigConfig){ .timeout_ns = LIMIT_NS });
    for (i = 0; i < 3; i++) {
        start = g_get_monotonic_time();
        control_rig_say(&w.rig, "VLAN_ADD 1");
        await_used(&w.rig);
        g_assert_cmpint(g_get_monotonic_time() - start, >=, LIMIT_NS / 1000 - 1);
        control_rig_hear(&w.rig, i, NET_CTRL_ERR);
        control_rig_expect_words("has not answered 1 commands within 30 ms");
    }
    await_sleep(&w);
    g_assert_cmpuint(control_queue_get_counters(w.rig.queue).timed_out, ==, 3);
    world_cleanup(&w);
}

/* All at once; what waits for a slot hears at once, too, for there will be none. */
static void test_time_limit_of_all(const void *data)
{
    const unsigned int n = CONTROL_QUEUE_SLOTS + 5;
    unsigned int heard = 0;
    World w;

    world_init(&w, data, NULL, (ControlRigConfig){ .timeout_ns = LIMIT_NS });
    while (w.rig.said < n) {
        control_rig_say(&w.rig, "RX_PROMISC on");
    }
    while (heard < n) {
        uint32_t cookie = 0, len = 0;

        await_used(&w.rig);
        while (vring_driver_collect(&w.rig.driver, w.rig.guest.packed, &cookie, &len) == 1) {
            g_assert_cmphex(control_rig_reply(&w.rig, cookie)[0], ==, NET_CTRL_ERR);
            heard++;
        }
    }
    g_free(control_rig_take_words());
    g_assert_cmpuint(control_queue_get_counters(w.rig.queue).timed_out, ==, CONTROL_QUEUE_SLOTS);
    world_cleanup(&w);
}

/*
 * Each has its own time, in whatever slots they are: true if the first was heard of before the
 * second.
 */
static bool hear_one_by_one(World *w)
{
    ControlRig *rig = &w->rig;
    const uint64_t before = control_queue_get_counters(rig->queue).timed_out;
    unsigned int answered, first, second;
    RigCommand command;
    bool alone;
    int64_t sent;

    answered = control_rig_say(rig, "VLAN_ADD 1");
    control_rig_await(&rig->device_kick);
    command = control_rig_take(rig);
    vring_device_enable_kick(&rig->device, rig->shadow.packed);
    first = control_rig_say(rig, "VLAN_ADD 2");
    control_rig_await(&rig->device_kick);
    sent = g_get_monotonic_time();
    control_rig_take(rig);
    control_rig_answer(rig, command, NET_CTRL_OK);
    await_used(rig);
    control_rig_hear(rig, answered, NET_CTRL_OK);

    /* It gets the place of the one that was answered. */
    while (g_get_monotonic_time() < sent + LIMIT_NS / 2000) {
        g_usleep(1000);
    }
    vring_device_enable_kick(&rig->device, rig->shadow.packed);
    second = control_rig_say(rig, "VLAN_ADD 3");
    control_rig_await(&rig->device_kick);
    control_rig_take(rig);
    await_used(rig);
    alone = control_queue_get_counters(rig->queue).timed_out == before + 1;
    control_rig_hear(rig, first, NET_CTRL_ERR);
    await_used(rig);
    control_rig_hear(rig, second, NET_CTRL_ERR);
    vring_device_enable_kick(&rig->device, rig->shadow.packed);
    return alone;
}

static void test_time_limit_of_each(const void *data)
{
    unsigned int i;
    World w;

    world_init(&w, data, NULL, (ControlRigConfig){ .timeout_ns = LIMIT_NS });
    /* A machine that is busy may let both pass before it looks, but not each time. */
    for (i = 0; i < 10 && !hear_one_by_one(&w); i++) {
    }
    g_assert_cmpuint(i, <, 10);
    g_free(control_rig_take_words());
    world_cleanup(&w);
}

/* Over while nobody works the queue: then it is found out when somebody does. */
static void test_time_limit_while_detached(const void *data)
{
    World w;

    world_init(&w, data, NULL, (ControlRigConfig){ .timeout_ns = LIMIT_NS });
    control_rig_say(&w.rig, "VLAN_ADD 1");
    control_rig_await(&w.rig.device_kick);
    shadow_virtqueue_detach(w.rig.svq);
    g_usleep(2 * LIMIT_NS / 1000);
    control_rig_hear_nothing(&w.rig);
    shadow_virtqueue_resume(w.rig.svq, &w.rig.guest.areas);
    await_used(&w.rig);
    control_rig_hear(&w.rig, 0, NET_CTRL_ERR);
    control_rig_expect_words("has not answered 1 commands");
    world_cleanup(&w);
}

/* The device does it all the same: what takes that back goes out, though the guest says nothing. */
static void check_late(const void *data, bool no_call)
{
    const AioPollParams params = { .max_ns = 0 };
    RigCommand late;
    World w;

    world_init(&w, data, &params,
               (ControlRigConfig){ .timeout_ns = LIMIT_NS, .no_call = no_call });
    control_rig_say(&w.rig, "VLAN_ADD 1");
    control_rig_await(&w.rig.device_kick);
    late = control_rig_take(&w.rig);
    await_used(&w.rig);
    control_rig_hear(&w.rig, 0, NET_CTRL_ERR);
    vring_device_enable_kick(&w.rig.device, w.rig.shadow.packed);
    control_rig_answer(&w.rig, late, NET_CTRL_OK);
    control_rig_await(&w.rig.device_kick);
    control_rig_answer(&w.rig, control_rig_take_text(&w.rig, "VLAN_DEL 1"), NET_CTRL_OK);
    /* The guest is served again. */
    control_rig_say(&w.rig, "RX_PROMISC on");
    control_rig_await(&w.rig.device_kick);
    control_rig_answer(&w.rig, control_rig_take_text(&w.rig, "RX_PROMISC on"), NET_CTRL_OK);
    await_used(&w.rig);
    control_rig_hear(&w.rig, 1, NET_CTRL_OK);
    g_free(control_rig_take_words());
    world_cleanup(&w);
}

static void test_late(const void *data)
{
    check_late(data, false);
}

static void test_late_polled(const void *data)
{
    check_late(data, true);
}

static void test_sleeps_before_begin(const void *data)
{
    World w;

    world_init(&w, data, NULL, (ControlRigConfig){ .mute = true });
    control_rig_say(&w.rig, "VLAN_ADD 1");
    await_sleep(&w);
    world_start_device(&w);
    control_queue_begin(w.rig.svq, NULL);
    await_used(&w.rig);
    control_rig_hear(&w.rig, 0, NET_CTRL_OK);
    world_cleanup(&w);
}

/* What lies in the ring of a device that broke the rules stays there, and wakes nobody. */
static void check_sleeps_when_device_broke(const void *data, bool no_call)
{
    const AioPollParams params = { .max_ns = 0 };
    unsigned int c;
    World w;

    world_init(&w, data, &params, (ControlRigConfig){ .no_call = no_call });
    for (c = 0; c < CONTROL_QUEUE_SLOTS + 1; c++) {
        control_rig_say(&w.rig, "VLAN_ADD 1");
    }
    control_rig_await(&w.rig.device_kick);
    /* More than it may. */
    control_rig_use(&w.rig, control_rig_take(&w.rig).id, 100);
    for (c = 0; c < CONTROL_QUEUE_SLOTS + 1; c++) {
        await_used(&w.rig);
        control_rig_hear(&w.rig, c, NET_CTRL_ERR);
    }
    await_sleep(&w);
    g_assert_cmpuint(w.rig.broken, ==, 1);
    control_rig_expect_words("broken by the device");

    shadow_virtqueue_detach(w.rig.svq);
    shadow_virtqueue_resume(w.rig.svq, &w.rig.guest.areas);
    control_rig_say(&w.rig, "VLAN_ADD 1");
    await_used(&w.rig);
    control_rig_hear(&w.rig, c, NET_CTRL_ERR);
    await_sleep(&w);
    world_cleanup(&w);
}

static void test_sleeps_when_device_broke(const void *data)
{
    check_sleeps_when_device_broke(data, false);
}

static void test_sleeps_when_polled_device_broke(const void *data)
{
    check_sleeps_when_device_broke(data, true);
}

/* Whatever is wrong with one queue, its neighbour in the same thread is served. */
static void test_neighbour(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    ControlRig neighbour;
    unsigned int i, c;
    World w;

    world_init(&w, data, NULL, (ControlRigConfig){ .mute = false });
    config.ctx = iothread_get_aio_context(w.iothread);
    control_rig_init(&neighbour, &config);
    vring_driver_enable_call(&neighbour.driver, neighbour.guest.packed);
    for (i = 0; i < CONTROL_QUEUE_SLOTS + 1; i++) {
        control_rig_say(&w.rig, "VLAN_ADD 1");
    }
    control_rig_await(&w.rig.device_kick);
    for (i = 0; i < 10; i++) {
        if (i == 5) {
            /* Until here its device was silent, now it lies. */
            control_rig_use(&w.rig, control_rig_take(&w.rig).id, 100);
        }
        vring_device_enable_kick(&neighbour.device, neighbour.shadow.packed);
        c = control_rig_say(&neighbour, "VLAN_ADD 2");
        control_rig_await(&neighbour.device_kick);
        control_rig_answer(&neighbour, control_rig_take(&neighbour), NET_CTRL_OK);
        await_used(&neighbour);
        control_rig_hear(&neighbour, c, NET_CTRL_OK);
    }
    await_counter(&w.rig.broken, 1);
    control_rig_expect_words("broken by the device");
    control_rig_cleanup(&neighbour);
    world_cleanup(&w);
}

/*
 * A queue that the guest broke does nothing any more, not even when the time of a command is over.
 */
static void test_sleeps_when_guest_broke(const void *data)
{
    const VringSegment no_ack = { CONTROL_RIG_PLACES, 3, 0 };
    World w;

    world_init(&w, data, NULL, (ControlRigConfig){ .timeout_ns = LIMIT_NS });
    control_rig_say(&w.rig, "VLAN_ADD 1");
    control_rig_await(&w.rig.device_kick);
    control_rig_say_segments(&w.rig, &no_ack, 1);
    control_rig_await(&w.rig.guest_err);
    g_usleep(2 * LIMIT_NS / 1000);
    await_sleep(&w);
    control_rig_hear_nothing(&w.rig);
    control_rig_expect_words("broken by the guest");
    world_cleanup(&w);
}

/* Who sees an answer finds its page in the log. */
static void test_dirty_log_first(const void *data)
{
    const unsigned int n = (unsigned int)random_steps(COMMANDS);
    DirtyLog log = { .n_pages = 0x8000, .refs = 1 };
    SvqLogging logging = { .log = &log, .data = true };
    unsigned int i;
    World w;

    log.words = g_malloc0(log.n_pages / 8);
    world_init(&w, data, NULL, (ControlRigConfig){ .mute = true });
    rcu_assign_pointer(w.rig.logging, &logging);
    control_queue_begin(w.rig.svq, NULL);
    for (i = 0; i < n; i++) {
        /* Short of its header: the answer is ours. */
        const unsigned int c = control_rig_say_bytes(&w.rig, "", 1, 1);
        const uint64_t page = (control_rig_place(c) + CONTROL_RIG_REPLY) >> DIRTY_LOG_PAGE_BITS;
        uint64_t bit;

        while (!vring_driver_has_used(&w.rig.driver, w.rig.guest.packed)) {
        }
        bit = atomic_load_explicit(&log.words[page / 64], memory_order_relaxed);
        control_rig_hear(&w.rig, c, NET_CTRL_ERR);
        g_assert_true(le64toh(bit) >> page % 64 & 1);
        atomic_store(&log.words[page / 64], 0);
    }
    g_free(control_rig_take_words());
    control_rig_stop(&w.rig, false);
    g_free(log.words);
    world_cleanup(&w);
}

static void poll_until_idle(AioContext *ctx)
{
    while (aio_poll(ctx, false)) {
    }
}

/*
 * Polling ends just when a command of ours, for which the guest's had to wait, is through.  The
 * test is the owner and calls the loop itself, so that the two meet.
 */
static void test_polling_ends_when_through(const void *data)
{
    const AioPollParams ever = { .max_ns = INT64_MAX }, never = { .max_ns = 0 };
    ControlRigConfig config = *(const ControlRigConfig *)data;
    g_autoptr(GError) err = NULL;
    ControlRig rig;
    unsigned int c;

    config.ctx = aio_context_new(&err);
    g_assert_no_error(err);
    aio_context_set_poll_params(config.ctx, &ever);
    config.mute = true;
    control_rig_init(&rig, &config);
    /* It is attached, and then has work, for which both rings begin to be polled. */
    aio_poll(config.ctx, true);
    aio_poll(config.ctx, true);
    control_queue_begin(rig.svq, control_rig_steps("VLAN_ADD 5\n"));
    poll_until_idle(config.ctx);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 5"), NET_CTRL_OK);
    g_assert_true(aio_poll(config.ctx, false));
    g_assert_cmpuint(rig.through, ==, 1);

    aio_context_set_poll_params(config.ctx, &never);
    poll_until_idle(config.ctx);
    c = control_rig_say(&rig, "RX_PROMISC on");
    poll_until_idle(config.ctx);
    control_rig_answer(&rig, control_rig_take_text(&rig, "RX_PROMISC on"), NET_CTRL_OK);
    poll_until_idle(config.ctx);
    control_rig_hear(&rig, c, NET_CTRL_OK);

    shadow_virtqueue_begin_detach(rig.svq);
    poll_until_idle(config.ctx);
    control_rig_cleanup(&rig);
    aio_context_free(config.ctx);
}

int main(int argc, char **argv)
{
    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/control-queue-threads/traffic", test_traffic);
    control_rig_test_add("/control-queue-threads/traffic-polled", test_traffic_polled);
    control_rig_test_add("/control-queue-threads/traffic-short-ring", test_traffic_short_ring);
    control_rig_test_add("/control-queue-threads/traffic-no-call", test_traffic_no_call);
    control_rig_test_add("/control-queue-threads/restore", test_restore);
    control_rig_test_add("/control-queue-threads/time-limit", test_time_limit);
    control_rig_test_add("/control-queue-threads/time-limit-of-all", test_time_limit_of_all);
    control_rig_test_add("/control-queue-threads/time-limit-of-each", test_time_limit_of_each);
    control_rig_test_add("/control-queue-threads/time-limit-while-detached",
                         test_time_limit_while_detached);
    control_rig_test_add("/control-queue-threads/late", test_late);
    control_rig_test_add("/control-queue-threads/late-polled", test_late_polled);
    control_rig_test_add("/control-queue-threads/sleeps-before-begin", test_sleeps_before_begin);
    control_rig_test_add("/control-queue-threads/sleeps-when-device-broke",
                         test_sleeps_when_device_broke);
    control_rig_test_add("/control-queue-threads/sleeps-when-polled-device-broke",
                         test_sleeps_when_polled_device_broke);
    control_rig_test_add("/control-queue-threads/neighbour", test_neighbour);
    control_rig_test_add("/control-queue-threads/sleeps-when-guest-broke",
                         test_sleeps_when_guest_broke);
    control_rig_test_add("/control-queue-threads/dirty-log-first", test_dirty_log_first);
    control_rig_test_add("/control-queue-threads/polling-ends-when-through",
                         test_polling_ends_when_through);
    return g_test_run();
}
