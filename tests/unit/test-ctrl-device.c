/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue that tests direct answers when and as it was told, in a device made of paper.
 */
#include <poll.h>
#include <string.h>

#include "hw/virtio/features.h"
#include "hw/virtio/vring-driver.h"
#include "lib/fake-device.h"
#include "lib/vhost-user-peer.h"
#include "util/event-notifier.h"

#define WAIT_MS     10000
#define QUIET_MS    20      /* in which nothing may happen */
#define INDEX       2u
#define NUM         64u
#define SIZE        UINT64_C(0x100000)
#define GUEST       UINT64_C(0x10000000)
#define CONTROL     UINT64_C(0x20000000)

/* In either region. */
#define DRIVER      UINT64_C(0x4000)
#define DEVICE      UINT64_C(0x8000)
#define COMMAND(i)  (0x10000 + (uint64_t)(i) * 0x100)
#define ANSWER(i)   (COMMAND(i) + 0x80)

/* A driver of the queue, a device around it. */
typedef struct World {
    FakeDevice fake;
    CtrlDevice *ctrl;
    MemoryRegion *guest, *control;
    MemoryMap *map;
    EventNotifier kick, call;
    VringDriver driver;
    bool packed;
    unsigned int n_fds;
} World;

static MemoryRegion *make_region(uint64_t address)
{
    g_autoptr(GError) error = NULL;
    MemoryRegion *region = memory_region_new(peer_memfd(SIZE), 0, address, SIZE, address, &error);

    g_assert_no_error(error);
    return region;
}

static VhostRing ring_of(World *w)
{
    const uint8_t *host = w->control->host;

    return (VhostRing){
        .num = NUM,
        .base = vring_base_start(w->packed),
        .areas = { (void *)(uintptr_t)host, (void *)(uintptr_t)(host + DRIVER),
                   (void *)(uintptr_t)(host + DEVICE) },
        .desc_iova = CONTROL,
        .driver_iova = CONTROL + DRIVER,
        .device_iova = CONTROL + DEVICE,
        .kick_fd = w->kick.fd,
        .call_fd = w->call.fd,
    };
}

static void start(World *w)
{
    const VhostRing ring = ring_of(w);
    const VringConfig config = { .num = NUM, .packed = w->packed, .areas = ring.areas };
    const VhostDeviceOps *ops = w->fake.dev.ops;

    memset(w->control->host, 0, 0x10000);
    g_assert_cmpint(vring_driver_init(&w->driver, &config, NULL, 0), ==, 0);
    ops->set_features(&w->fake.dev, w->packed ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0, NULL);
    if (ops->ring_isolate) {
        ops->ring_isolate(&w->fake.dev, INDEX);
    }
    ops->set_memory(&w->fake.dev, w->map, NULL);
    ops->ring_enable(&w->fake.dev, INDEX, true, NULL);
    ops->ring_start(&w->fake.dev, INDEX, &ring, NULL);
    ops->set_status(&w->fake.dev, 0xf, NULL);
}

static void world_init(World *w, bool packed)
{
    const uint8_t config[] = { 2, 0, 0, 0, 0, 1 };

    *w = (World){ .packed = packed, .n_fds = peer_count_fds() };
    w->guest = make_region(GUEST);
    w->control = make_region(CONTROL);
    w->control->control = true;
    w->map = memory_map_new((MemoryRegion *[]){ w->guest, w->control }, 2, NULL);
    g_assert_cmpint(event_notifier_init(&w->kick), ==, 0);
    g_assert_cmpint(event_notifier_init(&w->call), ==, 0);
    w->ctrl = ctrl_device_new(false);
    fake_device_init(&w->fake, VIRTIO_F_BIT(VIRTIO_F_VERSION_1), INDEX + 1);
    fake_device_be_net(&w->fake, config, sizeof(config));
    fake_device_host_ctrl(&w->fake, INDEX, w->ctrl);
}

static void world_cleanup(World *w)
{
    vring_driver_cleanup(&w->driver);
    fake_device_cleanup(&w->fake);
    ctrl_device_free(w->ctrl);
    event_notifier_cleanup(&w->kick);
    event_notifier_cleanup(&w->call);
    memory_map_free(w->map);
    rcu_barrier();
    memory_region_unref(w->guest);
    memory_region_unref(w->control);
    g_assert_cmpuint(peer_count_fds(), ==, w->n_fds);
}

/* The @i-th: three bytes of command in two segments, three bytes of answer in two. */
static void add(World *w, const MemoryRegion *where, unsigned int i)
{
    uint8_t *command = where->host + COMMAND(i);
    const VringSegment segs[] = {
        { where->iova + COMMAND(i), 2, 0 },
        { where->iova + COMMAND(i) + 0x10, 1, 0 },
        { where->iova + ANSWER(i), 1, VRING_DESC_F_WRITE },
        { where->iova + ANSWER(i) + 0x10, 2, VRING_DESC_F_WRITE },
    };

    memset(where->host + ANSWER(i), 0xee, 0x20);
    command[0] = 0x77;
    command[1] = (uint8_t)i;
    command[0x10] = (uint8_t)(i + 1);
    vring_driver_add(&w->driver, w->packed, segs, 4, i);
}

static void publish(World *w)
{
    vring_driver_publish(&w->driver, w->packed);
    if (vring_driver_needs_kick(&w->driver, w->packed)) {
        event_notifier_set(&w->kick);
    }
}

/* The next answer: which command it is of. */
static uint32_t collect(World *w, uint32_t *len)
{
    uint32_t cookie = 0;
    int ret;

    while ((ret = vring_driver_collect(&w->driver, w->packed, &cookie, len)) == 0) {
        struct pollfd pfd = { .fd = w->call.fd, .events = POLLIN };

        if (!vring_driver_enable_call(&w->driver, w->packed)) {
            g_assert_cmpint(poll(&pfd, 1, WAIT_MS), ==, 1);
            event_notifier_test_and_clear(&w->call);
        }
    }
    g_assert_cmpint(ret, ==, 1);
    return cookie;
}

static void assert_answer(World *w, unsigned int i, uint8_t ack)
{
    uint32_t len;

    g_assert_cmpuint(collect(w, &len), ==, i);
    g_assert_cmpuint(len, ==, 3);
    g_assert_cmpuint(w->control->host[ANSWER(i)], ==, ack);
}

static void await_waiting(World *w, unsigned int n)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (ctrl_device_get_stats(w->ctrl).waiting != n) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_usleep(100);
    }
}

static void test_answers(gconstpointer packed)
{
    g_autoptr(GBytes) second = NULL, fourth = NULL;
    const uint8_t bytes[] = { 0x77, 1, 2 };
    World w;
    unsigned int i;

    world_init(&w, packed);
    start(&w);
    for (i = 0; i < 3; i++) {
        add(&w, w.control, i);
        publish(&w);
        assert_answer(&w, i, 0);
    }
    second = ctrl_device_get_command(w.ctrl, 1);
    g_assert_cmpmem(g_bytes_get_data(second, NULL), g_bytes_get_size(second), bytes, 3);
    fourth = ctrl_device_get_command(w.ctrl, 3);
    g_assert_null(fourth);
    world_cleanup(&w);
}

static uint8_t echo_second_byte(const uint8_t *bytes, size_t n, uint8_t *result, size_t room,
                                void *opaque)
{
    g_assert_cmpuint(n, ==, 3);
    g_assert_cmpuint(room, ==, 2);
    result[0] = bytes[1];
    result[1] = bytes[2];
    ++*(unsigned int *)opaque;
    return 1;
}

static void test_answers_as_told(gconstpointer packed)
{
    unsigned int n = 0;
    uint32_t len;
    World w;

    world_init(&w, packed);
    start(&w);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .ack = 0x55 });
    add(&w, w.control, 0);
    publish(&w);
    assert_answer(&w, 0, 0x55);

    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .execute = echo_second_byte, .opaque = &n });
    add(&w, w.control, 7);
    publish(&w);
    assert_answer(&w, 7, 1);
    g_assert_cmpuint(n, ==, 1);
    g_assert_cmpuint(w.control->host[ANSWER(7) + 0x10], ==, 7);
    g_assert_cmpuint(w.control->host[ANSWER(7) + 0x11], ==, 8);

    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .has_used_len = true, .used_len = 1 });
    add(&w, w.control, 8);
    publish(&w);
    collect(&w, &len);
    g_assert_cmpuint(len, ==, 1);
    world_cleanup(&w);
}

/* All of them at once, each as long as it takes alone. */
static void test_latency(gconstpointer packed)
{
    const unsigned int n = NUM / 4, latency_us = 50000;
    int64_t start_us, took_us;
    World w;
    unsigned int i;

    world_init(&w, packed);
    start(&w);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .latency_us = latency_us });
    for (i = 0; i < n; i++) {
        add(&w, w.control, i);
    }
    start_us = g_get_monotonic_time();
    publish(&w);
    for (i = 0; i < n; i++) {
        assert_answer(&w, i, 0);
    }
    took_us = g_get_monotonic_time() - start_us;
    g_assert_cmpint(took_us, >=, latency_us);
    g_assert_cmpint(took_us, <, n * latency_us);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).most_waiting, ==, n);
    world_cleanup(&w);
}

static void test_answers_later(gconstpointer packed)
{
    World w;
    unsigned int i;

    world_init(&w, packed);
    start(&w);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    for (i = 0; i < 10; i++) {
        add(&w, w.control, i);
    }
    publish(&w);
    await_waiting(&w, 10);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).answered, ==, 0);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .reverse = true });
    for (i = 10; i-- > 0;) {
        assert_answer(&w, i, 0);
    }
    world_cleanup(&w);
}

/* What the device had it has not any more; the ring begins anew. */
static void test_reset_in_the_middle(gconstpointer packed)
{
    World w;

    world_init(&w, packed);
    start(&w);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    add(&w, w.control, 0);
    add(&w, w.control, 1);
    publish(&w);
    await_waiting(&w, 2);
    w.fake.dev.ops->reset(&w.fake.dev, NULL);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).waiting, ==, 0);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).forgotten, ==, 2);

    vring_driver_cleanup(&w.driver);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    start(&w);
    add(&w, w.control, 2);
    publish(&w);
    assert_answer(&w, 2, 0);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).answered, ==, 1);
    world_cleanup(&w);
}

/* It stands still with its device, and no kick of the meantime is lost. */
static void test_suspend(gconstpointer packed)
{
    struct pollfd pfd = { .events = POLLIN };
    World w;

    world_init(&w, packed);
    pfd.fd = w.call.fd;
    fake_device_can_suspend(&w.fake);
    start(&w);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    add(&w, w.control, 0);
    publish(&w);
    await_waiting(&w, 1);
    w.fake.dev.ops->suspend(&w.fake.dev, NULL);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    add(&w, w.control, 1);
    publish(&w);
    g_assert_false(vring_driver_enable_call(&w.driver, w.packed));
    g_assert_cmpint(poll(&pfd, 1, QUIET_MS), ==, 0);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).taken, ==, 1);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).answered, ==, 0);
    w.fake.dev.ops->resume(&w.fake.dev, NULL);
    assert_answer(&w, 0, 0);
    assert_answer(&w, 1, 0);
    world_cleanup(&w);
}

/* Descriptors are replaced while it runs. */
static void test_descriptors(gconstpointer packed)
{
    EventNotifier kick, call;
    World w;

    world_init(&w, packed);
    start(&w);
    add(&w, w.control, 0);
    publish(&w);
    assert_answer(&w, 0, 0);
    kick = w.kick;
    call = w.call;
    g_assert_cmpint(event_notifier_init(&w.kick), ==, 0);
    g_assert_cmpint(event_notifier_init(&w.call), ==, 0);
    w.fake.dev.ops->ring_set_fd(&w.fake.dev, INDEX, VHOST_RING_KICK, w.kick.fd, NULL);
    w.fake.dev.ops->ring_set_fd(&w.fake.dev, INDEX, VHOST_RING_CALL, w.call.fd, NULL);
    event_notifier_cleanup(&kick);
    event_notifier_cleanup(&call);
    add(&w, w.control, 1);
    publish(&w);
    assert_answer(&w, 1, 0);
    world_cleanup(&w);
}

static void await_faults(World *w, const char *text)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND;

    for (;;) {
        g_autofree char *faults = ctrl_device_take_faults(w->ctrl);

        if (*faults) {
            g_assert_cmpstr(faults, ==, text);
            return;
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_usleep(100);
    }
}

/* Isolated or not, the ring is found; a command in the guest's memory only in the latter case. */
static void test_isolated(gconstpointer isolated)
{
    g_autofree char *calls = NULL;
    World w;

    world_init(&w, false);
    fake_device_can_isolate(&w.fake);
    w.fake.isolates = isolated;
    start(&w);
    calls = fake_device_take_calls(&w.fake);
    g_assert_cmpstr(calls, ==, "features isolate:2 memory enable:2:1 start:2 status:f");
    add(&w, w.control, 0);
    publish(&w);
    assert_answer(&w, 0, 0);
    add(&w, w.guest, 1);
    publish(&w);
    if (isolated) {
        await_faults(&w, "control queue: a command is out of reach\n");
    } else {
        uint32_t len;

        g_assert_cmpuint(collect(&w, &len), ==, 1);
        g_assert_cmpuint(w.guest->host[ANSWER(1)], ==, 0);
    }
    world_cleanup(&w);
}

static void test_faults(void)
{
    const VringSegment command = { CONTROL + COMMAND(0), 2, 0 };
    World w;

    world_init(&w, false);
    start(&w);
    vring_driver_add(&w.driver, w.packed, &command, 1, 0);
    publish(&w);
    await_faults(&w, "control queue: a command without room for an answer\n");
    world_cleanup(&w);
}

static void add_formats(const char *name, GTestDataFunc test)
{
    g_autofree char *split = g_strdup_printf("/ctrl-device/%s/split", name);
    g_autofree char *packed = g_strdup_printf("/ctrl-device/%s/packed", name);

    g_test_add_data_func(split, NULL, test);
    g_test_add_data_func(packed, GINT_TO_POINTER(true), test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_formats("answers", test_answers);
    add_formats("answers-as-told", test_answers_as_told);
    add_formats("latency", test_latency);
    add_formats("answers-later", test_answers_later);
    add_formats("reset-in-the-middle", test_reset_in_the_middle);
    add_formats("suspend", test_suspend);
    add_formats("descriptors", test_descriptors);
    g_test_add_data_func("/ctrl-device/reach/isolated", GINT_TO_POINTER(true), test_isolated);
    g_test_add_data_func("/ctrl-device/reach/not-isolated", NULL, test_isolated);
    g_test_add_func("/ctrl-device/faults", test_faults);
    return g_test_run();
}
