/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests, devices and device sides that break the rules, fail or go: one queue suffers, once,
 * and the rest goes on.
 */
#include <errno.h>

#include "hw/net/loopback.h"
#include "lib/svq-rig.h"
#include "util/event-notifier.h"

#define F(bit)          VIRTIO_F_BIT(bit)
#define NEEDS_RESET     VIRTIO_STATUS_NEEDS_RESET
#define ALL_FEATURES    (VMM_FEATURES | VMM_PACKED)

/* Another device in the same process, in the same threads, with a VMM of its own. */
static void second_device(Rig *second, const Rig *first)
{
    LoopbackConfig loopback = LOOPBACK_CONFIG_DEFAULT;
    SvqDeviceConfig config = { .id = "net1", .n_iothreads = RIG_IOTHREADS };
    g_autoptr(GError) err = NULL;
    unsigned int i;

    *second = (Rig){ 0 };
    for (i = 0; i < RIG_IOTHREADS; i++) {
        second->iothreads[i] = iothread_ref(first->iothreads[i]);
    }
    loopback.id = "lo1";
    second->loopback = loopback_new(&loopback, &err);
    g_assert_no_error(err);
    config.backend = second->loopback;
    config.iothreads = second->iothreads;
    second->dev = svq_device_new(&config, &err);
    g_assert_no_error(err);
    rig_listen(second);
    vmm_init(&second->vmm, VMM_FEATURES, 64);
    vmm_connect(&second->vmm, second->path);
    vmm_start(&second->vmm, 2);
}

static void test_guest_breaks_one_queue(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    unsigned int warnings = rig_warnings();
    Rig rig, other;
    unsigned int q;

    rig_init(&rig, &config);
    second_device(&other, &rig);
    vmm_start(&rig.vmm, 4);
    vmm_echo(&rig.vmm, 0, 20);
    vmm_echo(&rig.vmm, 1, 20);
    for (q = 2; q < 4; q++) {
        g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_STATUS) & NEEDS_RESET, ==,
                        q == 2 ? 0 : NEEDS_RESET);
        g_assert_false(vmm_has_error(&rig.vmm, q));
        vmm_spoil(&rig.vmm, q);
        vmm_await_state(rig.dev, q, SVQ_QUEUE_BROKEN);
        g_assert_cmpuint(rig_stats(&rig, q).counters.errors, ==, 1);
        vmm_await_status(&rig.vmm, 0xf | NEEDS_RESET);
        vmm_await_error(&rig.vmm, q);
        vmm_echo(&rig.vmm, 0, 50);
        vmm_echo(&other.vmm, 0, 50);
    }
    /* Said once for each. */
    g_assert_cmpuint(rig_warnings() - warnings, ==, 2);
    /* A driver does not get rid of it by writing other bits. */
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_STATUS), ==, 0xf | NEEDS_RESET);

    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_STATUS), ==, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    vmm_start_rings(&rig.vmm, 0, 4);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    vmm_echo(&rig.vmm, 0, 50);
    vmm_echo(&rig.vmm, 1, 50);
    g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_STATUS), ==, 0xf);
    rig_cleanup(&other);
    rig_cleanup(&rig);
}

/* The queue alone is stopped and started again, without a reset of the device. */
static void test_broken_queue_starts_again(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 4);
    vmm_echo(&rig.vmm, 1, 20);
    vmm_spoil(&rig.vmm, 3);
    vmm_await_state(rig.dev, 3, SVQ_QUEUE_BROKEN);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 2, 0);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 3, 0);
    g_assert_cmphex(rig.vmm.rings[3].base, ==, vmm_expected_base(&rig.vmm, 3));
    vmm_start_rings(&rig.vmm, 2, 2);
    vmm_echo(&rig.vmm, 1, 50);
    vmm_echo(&rig.vmm, 0, 50);
    rig_cleanup(&rig);
}

static void break_id(FakeDevice *fake, uint16_t id)
{
    fake->rings[0].vr.inflight->slots[63] = vring_slot(0, 0, 1);   /* to the device, that is */
    fake_device_put(fake, 0, id == 63 ? 62 : 63, 1);
}

static void break_length(FakeDevice *fake, uint16_t id)
{
    fake_device_put(fake, 0, id, VMM_BUFFER + 1);
}

static void break_index(FakeDevice *fake, uint16_t id)
{
    VringDevice *vr = &fake->rings[0].vr;

    if (!vr->packed) {
        vr->used_idx += 2;
    }
    fake_device_put(fake, 0, id, vr->packed ? UINT32_MAX : 1);
}

static void test_device_breaks_one_queue(gconstpointer data)
{
    static void (*const breaks[])(FakeDevice *fake, uint16_t id) = {
        break_id, break_length, break_index,
    };
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .fake_features = ALL_FEATURES,
    };
    VringSegment seg[64];
    unsigned int i;
    uint16_t id;
    Rig rig;

    rig_init(&rig, &config);
    vmm_begin(&rig.vmm, F(0) | F(3) | F(16));
    for (i = 0; i < G_N_ELEMENTS(breaks); i++) {
        uint32_t cookie, len;

        vmm_start_rings(&rig.vmm, 0, 2);
        vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
        vmm_post_rx(&rig.vmm, 0, 3);
        fake_device_put(&rig.fake, 0, fake_device_take(&rig.fake, 0, seg), 100);
        vmm_wait_used(&rig.vmm, 0, &cookie, &len);
        g_assert_cmpuint(cookie, ==, 0);
        g_assert_cmpuint(len, ==, 100);
        breaks[i](&rig.fake, fake_device_take(&rig.fake, 0, seg));
        /* Whoever sleeps on the ring hears of it: the device says nothing wrong about that. */
        event_notifier_set(&(EventNotifier){ rig.fake.rings[0].ring.call_fd });
        vmm_await_state(rig.dev, 0, SVQ_QUEUE_BROKEN);
        vmm_await_error(&rig.vmm, 0);
        vmm_await_status(&rig.vmm, 0xf | NEEDS_RESET);

        vmm_add(&rig.vmm, 1, vmm_buffer_gpa(1, 0), 100, 7);
        id = fake_device_take(&rig.fake, 1, seg);
        g_assert_cmphex(seg[0].addr, ==, vmm_buffer_gpa(1, 0));
        fake_device_put(&rig.fake, 1, id, 0);
        vmm_wait_used(&rig.vmm, 1, &cookie, &len);
        g_assert_cmpuint(cookie, ==, 7);
        vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 1, 0);
        g_assert_cmphex(rig.vmm.rings[1].base, ==, vmm_expected_base(&rig.vmm, 1));
    }
    rig_cleanup(&rig);
}

/* A device uses a buffer while it is being stopped: that is not lost. */
static void use_one(FakeDevice *fake, unsigned int index, void *opaque)
{
    uint16_t *ids = opaque;

    fake_device_put(fake, index, ids[index], 77);
}

static void test_stop_waits_for_device(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .fake_features = ALL_FEATURES,
    };
    g_autofree char *start = NULL, *stop = NULL;
    VringSegment seg[64];
    uint32_t cookie, len;
    uint16_t ids[1];
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 5);
    ids[0] = fake_device_take(&rig.fake, 0, seg);
    start = fake_device_take_calls(&rig.fake);
    rig.fake.stopping = use_one;
    rig.fake.opaque = ids;
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    stop = fake_device_take_calls(&rig.fake);
    g_assert_cmpstr(stop, ==, "stop:0");
    vmm_wait_used(&rig.vmm, 0, &cookie, &len);
    g_assert_cmpuint(cookie, ==, 0);
    g_assert_cmpuint(len, ==, 77);
    g_assert_cmphex(rig.vmm.rings[0].base, ==, vmm_expected_base(&rig.vmm, 0));

    /* The other four are offered again, in their order. */
    rig.fake.stopping = NULL;
    vmm_continue_ring(&rig.vmm, 0, VMM_KEEP_BASE);
    fake_device_take(&rig.fake, 0, seg);
    g_assert_cmphex(seg[0].addr, ==, vmm_buffer_gpa(0, 1));
    rig_cleanup(&rig);
}

static void test_disabled_queue_is_stopped(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .fake_features = ALL_FEATURES,
    };
    g_autofree char *start = NULL, *calls = NULL;
    VringSegment seg[64];
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    start = fake_device_take_calls(&rig.fake);
    vmm_post_rx(&rig.vmm, 0, 4);
    for (i = 0; i < 4; i++) {
        uint32_t cookie, len;

        /* In flight when it is disabled: offered again when it is enabled. */
        fake_device_take(&rig.fake, 0, seg);
        g_assert_cmphex(seg[0].addr, ==, vmm_buffer_gpa(0, i));
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 0);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_STOPPED);
        g_assert_false(rig.fake.rings[0].started);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 1);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 1);
        fake_device_put(&rig.fake, 0, fake_device_take(&rig.fake, 0, seg), i + 1);
        g_assert_cmphex(seg[0].addr, ==, vmm_buffer_gpa(0, i));
        vmm_wait_used(&rig.vmm, 0, &cookie, &len);
        g_assert_cmpuint(cookie, ==, i);
        g_assert_cmpuint(len, ==, i + 1);
    }
    calls = fake_device_take_calls(&rig.fake);
    g_assert_cmpstr(calls, ==,
                    "stop:0 enable:0:1 start:0 stop:0 enable:0:1 start:0 "
                    "stop:0 enable:0:1 start:0 stop:0 enable:0:1 start:0");
    rig_cleanup(&rig);
}

/* A disabled pair stands still, the other goes on; enabled it goes on where it was. */
static void test_disabled_pair_stands_still(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    uint32_t cookie, len;
    VmmRing *tx;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 4);
    vmm_echo(&rig.vmm, 1, 10);
    tx = &rig.vmm.rings[3];
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 2, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 3, 0);
    vmm_add(&rig.vmm, 3, vmm_buffer_gpa(3, 0), 100, 9);
    vmm_echo(&rig.vmm, 0, 10);
    g_assert_false(vring_driver_has_used(&tx->driver, tx->config.packed));
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 2, 1);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 3, 1);
    vmm_wait_used(&rig.vmm, 3, &cookie, &len);
    g_assert_cmpuint(cookie, ==, 9);
    vmm_wait_used(&rig.vmm, 2, &cookie, &len);
    g_assert_cmpuint(len, ==, 100);
    vmm_echo(&rig.vmm, 1, 10);
    rig_cleanup(&rig);
}

static void test_device_goes_and_comes(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .fake_features = ALL_FEATURES,
    };
    g_autofree char *before = NULL, *calls = NULL, *late = NULL;
    VringSegment seg[64];
    uint32_t cookie, len;
    unsigned int i;
    uint16_t id;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    before = fake_device_take_calls(&rig.fake);
    vmm_post_rx(&rig.vmm, 0, 8);
    for (i = 0; i < 4; i++) {
        /* One used in order, one in flight when it goes: that one is offered again. */
        id = fake_device_take(&rig.fake, 0, seg);
        fake_device_put(&rig.fake, 0, id, i);
        vmm_wait_used(&rig.vmm, 0, &cookie, &len);
        g_assert_cmpuint(cookie, ==, i);
        fake_device_take(&rig.fake, 0, seg);
        g_assert_cmphex(seg[0].addr, ==, vmm_buffer_gpa(0, i + 1));
        fake_device_go(&rig.fake);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_STOPPED);
        /* What the VMM says meanwhile is kept. */
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 1, i % 2);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_CALL, 0, 0);
        vmm_do(&rig.vmm, i % 2 ? VHOST_USER_ADD_MEM_REG : VHOST_USER_REM_MEM_REG, 3, 0);
        vmm_add(&rig.vmm, 1, vmm_buffer_gpa(1, i), 100, i);
        fake_device_come(&rig.fake);
        calls = fake_device_take_calls(&rig.fake);
        g_assert_cmpstr(calls, ==, i % 2 ? "features memory status:b enable:0:1 start:0 status:f "
                                           "enable:1:1 start:1"
                                         : "features memory status:b enable:0:1 start:0 status:f");
        g_clear_pointer(&calls, g_free);
        if (i % 2 == 0) {
            vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 1, 1);
            late = fake_device_take_calls(&rig.fake);
            g_assert_cmpstr(late, ==, "enable:1:1 start:1");
            g_clear_pointer(&late, g_free);
        }
        fake_device_put(&rig.fake, 1, fake_device_take(&rig.fake, 1, seg), 0);
        vmm_wait_used(&rig.vmm, 1, &cookie, &len);
        g_assert_cmpuint(cookie, ==, i);
    }
    g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_STATUS), ==, 0xf);
    rig_cleanup(&rig);
}

/* It dies of the very message that the VMM sends: no reason to lose the VMM as well. */
static void test_device_goes_in_a_call(void)
{
    static const char *const calls[] = {
        "features", "memory", "status:b", "start:0", "enable:0:1", "start:1", "enable:1:1",
        "status:f",
    };
    const RigConfig config = { .format = rig_formats[0], .fake_features = ALL_FEATURES };
    unsigned int i;
    Rig rig;

    for (i = 0; i < G_N_ELEMENTS(calls); i++) {
        VringSegment seg[64];
        uint32_t cookie, len;

        rig_init(&rig, &config);
        rig.fake.fails = calls[i];
        rig.fake.fail_with = ENOTCONN;
        vmm_start(&rig.vmm, 2);
        g_assert_false(rig.fake.dev.connected);
        fake_device_go(&rig.fake);
        fake_device_come(&rig.fake);
        vmm_post_rx(&rig.vmm, 0, 1);
        fake_device_put(&rig.fake, 0, fake_device_take(&rig.fake, 0, seg), 5);
        vmm_wait_used(&rig.vmm, 0, &cookie, &len);
        g_assert_cmpuint(len, ==, 5);
        g_assert_true(rig.fake.rings[1].enabled);
        g_assert_cmphex(rig.fake.status, ==, 0xf);

        rig.fake.fails = "memory";
        vmm_do(&rig.vmm, VHOST_USER_REM_MEM_REG, 3, 0);
        fake_device_go(&rig.fake);
        fake_device_come(&rig.fake);
        g_assert_cmpuint(rig.fake.map->n, ==, VMM_REGIONS - 1 + 1);
        rig_cleanup(&rig);
    }
}

/* A device side that answers with an error: the queue is refused, in words, once. */
static void test_device_refuses(void)
{
    static const struct {
        const char *call;
        bool other_works;
    } cases[] = {
        { "features", false }, { "memory", false }, { "status:b", false },
        { "start:1", true }, { "enable:1:1", true },
    };
    const RigConfig config = { .format = rig_formats[0], .fake_features = ALL_FEATURES };
    unsigned int i;
    Rig rig;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        rig_init(&rig, &config);
        vmm_begin(&rig.vmm, F(0) | F(3) | F(15) | F(16));
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 1);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 1, 1);
        rig.fake.fails = cases[i].call;
        rig.fake.fail_with = EINVAL;
        vmm_make_ring(&rig.vmm, 0);
        vmm_make_ring(&rig.vmm, 1);
        vmm_continue_ring(&rig.vmm, 0, VMM_START);
        vmm_continue_ring(&rig.vmm, 1, VMM_START);
        vmm_await_error(&rig.vmm, 1);
        g_assert_cmpint(rig_stats(&rig, 1).state, ==, SVQ_QUEUE_BROKEN);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==,
                        cases[i].other_works ? SVQ_QUEUE_RUNNING : SVQ_QUEUE_BROKEN);
        g_assert_false(rig.fake.rings[1].started);
        rig.fake.fails = NULL;
        vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
        vmm_start_rings(&rig.vmm, 0, 2);
        vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_RUNNING);
        g_assert_cmpint(rig_stats(&rig, 1).state, ==, SVQ_QUEUE_RUNNING);
        rig_cleanup(&rig);
    }
}

int main(int argc, char **argv)
{
    rig_test_init(&argc, &argv);
    rig_test_add("/svq-device/guest-breaks-one-queue", test_guest_breaks_one_queue);
    rig_test_add("/svq-device/broken-queue-starts-again", test_broken_queue_starts_again);
    rig_test_add("/svq-device/device-breaks-one-queue", test_device_breaks_one_queue);
    rig_test_add("/svq-device/stop-waits-for-device", test_stop_waits_for_device);
    rig_test_add("/svq-device/disabled-queue-is-stopped", test_disabled_queue_is_stopped);
    rig_test_add("/svq-device/disabled-pair-stands-still",
                 test_disabled_pair_stands_still);
    rig_test_add("/svq-device/device-goes-and-comes", test_device_goes_and_comes);
    g_test_add_func("/svq-device/device-goes-in-a-call", test_device_goes_in_a_call);
    g_test_add_func("/svq-device/device-refuses", test_device_refuses);
    return rig_test_run();
}
