/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a device side may do where it hurts most, when rings pass through, or are about to: refuse a
 * descriptor, keep a ring, fail in the middle of a start, go without a word, come back with less.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/mode-rig.h"
#include "util/event-notifier.h"

#define F(bit)      VIRTIO_F_BIT(bit)

static void can_suspend(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
}

static void keeps_in_flight(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
    fake->keeps_in_flight = true;
}

static void forget_words(void)
{
    g_free(mode_take_words());
}

static void fail(Rig *rig, const char *call)
{
    rig->fake.fails = call;
    rig->fake.fail_with = EIO;
}

static void await_calls(Rig *rig, const char *expected)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (strcmp(rig->fake.calls->str, expected) != 0) {
        if (g_get_monotonic_time() >= end_us) {
            mode_assert_calls(rig, expected);
        }
        peer_pump();
        g_thread_yield();
    }
}

/*
 * It does not take a new descriptor: the VMM hears of it, and the device still has one that is open
 * and works.
 */
static void test_descriptor_refused(gconstpointer data)
{
    static const struct {
        VhostUserRequest request;
        const char *call;
    } fds[] = { { VHOST_USER_SET_VRING_KICK, "kick:0" }, { VHOST_USER_SET_VRING_CALL, "call:0" } };
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, can_suspend);
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    mode_forget_calls(&rig);
    for (i = 0; i < G_N_ELEMENTS(fds); i++) {
        const VhostRing *ring = &rig.fake.rings[0].ring;
        VhostUserMessage m = peer_u64(fds[i].request, 0);
        EventNotifier new;

        g_assert_cmpint(event_notifier_init(&new), ==, 0);
        m.fds[m.n_fds++] = new.fd;
        fail(&rig, fds[i].call);
        g_assert_cmphex(peer_ack(rig.vmm.fd, &m), ==, 1);
        mode_assert_calls(&rig, fds[i].call);
        g_assert_cmpint(fcntl(ring->kick_fd, F_GETFD), >=, 0);
        g_assert_cmpint(fcntl(ring->call_fd, F_GETFD), >=, 0);
        g_assert_true(mode_passes_through(&rig, 0));
        mode_post(&rig, 0, i);
        mode_serve(&rig, 0, i);
        g_assert_cmpint(event_notifier_test_and_clear(&new), ==, 0);
        event_notifier_cleanup(&new);
    }
    rig_cleanup(&rig);
}

/*
 * A ring that makes all of them shadows starts, and the switch fails half-way: both are started
 * anew, once each.
 */
static void test_switch_fails_in_a_start(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, can_suspend);
    unsigned int q, i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_make_ring(&rig.vmm, 1);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_NUM, 1, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_BASE, 1, VMM_START);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ADDR, 1, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_CALL, 1, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 1, 1);
    mode_forget_calls(&rig);
    forget_words();
    fail(&rig, "resume");
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_KICK, 1, -1);
    mode_assert_calls(&rig, "enable:1:1 start:1 "
                            "suspend base:0 stop:0 enable:0:1 start:0 resume "
                            "stop:0 stop:1 reset "
                            "features memory status:b enable:0:1 start:0 status:f "
                            "enable:1:1 start:1");
    g_assert_true(mode_has_said("net0: to shadow: failed, the device is reset: resume fails, as "
                                "the test wants\n"));
    for (q = 0; q < 2; q++) {
        g_assert_cmpint(rig_stats(&rig, q).state, ==, SVQ_QUEUE_RUNNING);
        g_assert_false(mode_passes_through(&rig, q));
        for (i = 0; i < 4; i++) {
            mode_post(&rig, q, i);
            mode_serve(&rig, q, i);
        }
    }
    rig_cleanup(&rig);
}

/* It does not let go of a ring: the VMM has it back nonetheless, and the other goes on. */
static void test_ring_kept(gconstpointer data)
{
    static const SvqMode modes[] = { SVQ_MODE_SHADOW, SVQ_MODE_PASSTHROUGH, SVQ_MODE_AUTO };
    const ModeFormat *format = data;
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(modes); i++) {
        const RigConfig config = mode_fake_config(data, modes[i], can_suspend);
        Rig rig;

        rig_init(&rig, &config);
        vmm_start(&rig.vmm, 2);
        vmm_post_rx(&rig.vmm, 0, 4);
        mode_serve(&rig, 0, 0);
        mode_forget_calls(&rig);
        forget_words();
        fail(&rig, "stop:0");
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_STOPPED);
        g_assert_false(rig.fake.rings[0].started);
        g_assert_true(mode_has_said("net0 queue 0: stop:0 fails, as the test wants\n"));
        await_calls(&rig, "stop:0 stop:0 stop:1 reset "
                          "features memory status:b enable:1:1 start:1 status:f");
        rig.fake.fails = NULL;
        mode_post(&rig, 1, 0);
        mode_serve(&rig, 1, 0);
        if (mode_has_said("net0 queue 0: where it goes on is uncertain: the device did not tell")) {
            /* Packed, and the device alone knew. */
            g_assert_true(format->features & VMM_PACKED && modes[i] != SVQ_MODE_SHADOW);
        } else {
            g_assert_cmphex(rig.vmm.rings[0].base, ==, vmm_expected_base(&rig.vmm, 0));
            vmm_continue_ring(&rig.vmm, 0, VMM_KEEP_BASE);
            mode_serve(&rig, 0, 1);
        }
        rig_cleanup(&rig);
    }
}

static gboolean set_flag(void *opaque)
{
    *(bool *)opaque = true;
    return G_SOURCE_REMOVE;
}

/* Until the timer by which a switch is tried again, which is due before this one, has run. */
static void await_next_try(void)
{
    bool due = false;

    g_timeout_add(150, set_flag, &due);
    while (!due) {
        g_main_context_iteration(NULL, true);
    }
}

/*
 * Lost, and it was not said yet, with writes that are in no log: a try to switch meanwhile does not
 * make that forgotten.
 */
static void test_goes_with_unlogged_writes(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, keeps_in_flight);
    uint16_t second;
    ModeLog log;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    mode_log_init(&log, &rig);
    vmm_post_rx(&rig.vmm, 0, 8);
    mode_take(&rig, 0, 0);
    second = mode_take(&rig, 0, 1);
    mode_put(&rig, 0, second, 1);
    mode_set_log_all(&rig, true);
    g_assert_true(mode_passes_through(&rig, 0));
    rig.fake.dev.connected = false;
    await_next_try();
    g_assert_false(mode_log_has_all(&log, &rig.vmm));
    fake_device_go(&rig.fake);
    g_assert_true(mode_log_has_all(&log, &rig.vmm));
    mode_log_cleanup(&log);
    rig_cleanup(&rig);
}

/* The same where the log is to come: it begins with all of memory. */
static void test_unlogged_writes_before_the_log(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, keeps_in_flight);
    uint16_t second;
    ModeLog log;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 8);
    mode_take(&rig, 0, 0);
    second = mode_take(&rig, 0, 1);
    mode_put(&rig, 0, second, 1);
    mode_set_log_all(&rig, true);
    g_assert_true(mode_passes_through(&rig, 0));
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    mode_log_init(&log, &rig);
    g_assert_true(mode_log_has_all(&log, &rig.vmm));
    mode_log_cleanup(&log);
    rig_cleanup(&rig);
}

static bool lacks_rings(const ModeFormat *format)
{
    return format->features & (F(VIRTIO_F_RING_PACKED) | F(VIRTIO_F_EVENT_IDX));
}

static void come_back_without_rings(Rig *rig)
{
    fake_device_go(&rig->fake);
    rig->fake.dev.features &= ~(F(VIRTIO_F_RING_PACKED) | F(VIRTIO_F_EVENT_IDX));
    forget_words();
    fake_device_come(&rig->fake);
}

/* It comes back and has not the guest's rings any more: it gets others, and never those. */
static void test_comes_back_without_rings(gconstpointer data)
{
    RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, can_suspend);
    const bool lacks = lacks_rings(data);
    Rig rig;

    config.format.shadow_packed = false;
    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 4);
    come_back_without_rings(&rig);
    g_assert_true(mode_has_said("net0: mode=auto: fake has not the rings that the guest has; they "
                                "are shadowed all the time\n") == lacks);
    g_assert_cmphex(rig.fake.features & ~rig.fake.dev.features, ==, 0);
    g_assert_true(mode_passes_through(&rig, 0) == !lacks);
    mode_serve(&rig, 0, 0);
    mode_set_log_all(&rig, true);
    mode_set_log_all(&rig, false);
    g_assert_true(mode_passes_through(&rig, 0) == !lacks);
    mode_serve(&rig, 0, 1);
    rig_cleanup(&rig);
}

/* With no way out of it nothing starts, whatever the VMM says, until it is back as it was. */
static void test_comes_back_without_rings_passthrough_only(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
    const ModeFormat *format = data;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 4);
    mode_forget_calls(&rig);
    come_back_without_rings(&rig);
    g_assert_true(mode_has_said("net0: the device came back without the rings that the guest "
                                "has\n"));
    mode_assert_calls(&rig, "");
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_KICK, 0, 0);
    mode_assert_calls(&rig, "");
    g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_BROKEN);
    fake_device_go(&rig.fake);
    rig.fake.dev.features |= format->features;
    fake_device_come(&rig.fake);
    g_assert_true(mode_passes_through(&rig, 0));
    mode_serve(&rig, 0, 0);
    rig_cleanup(&rig);
}

static void rings_fixed(FakeDevice *fake)
{
    fake->dev.rings_fixed = true;
    fake->dev.tells_base = false;
    fake->fails = "status:f";
    fake->fail_with = EIO;
}

/* It takes its rings and then not DRIVER_OK: no queue is said to run; the guest's reset helps. */
static void test_driver_ok_refused(gconstpointer data)
{
    static const SvqMode modes[] = { SVQ_MODE_SHADOW, SVQ_MODE_PASSTHROUGH };
    unsigned int i, q;

    for (i = 0; i < G_N_ELEMENTS(modes); i++) {
        const RigConfig config = mode_fake_config(data, modes[i], rings_fixed);
        Rig rig;

        rig_init(&rig, &config);
        forget_words();
        vmm_start(&rig.vmm, 2);
        await_calls(&rig, "features memory status:b enable:0:1 start:0 enable:1:1 start:1 status:f "
                          "stop:0 stop:1 reset");
        for (q = 0; q < 2; q++) {
            g_assert_cmpint(rig_stats(&rig, q).state, ==, SVQ_QUEUE_BROKEN);
            g_assert_true(vmm_has_error(&rig.vmm, q));
        }
        g_assert_true(mode_has_said("status:f fails, as the test wants\n"));
        rig.fake.fails = NULL;
        vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
        mode_forget_calls(&rig);
        vmm_start_rings(&rig.vmm, 0, 2);
        vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
        await_calls(&rig, "features memory status:b enable:0:1 start:0 enable:1:1 start:1 "
                          "status:f");
        mode_post(&rig, 0, 0);
        mode_serve(&rig, 0, 0);
        rig_cleanup(&rig);
    }
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/svq-mode-hostile-device/descriptor-refused", test_descriptor_refused, 2);
    mode_test_add("/svq-mode-hostile-device/switch-fails-in-a-start", test_switch_fails_in_a_start,
                  4);
    mode_test_add("/svq-mode-hostile-device/ring-kept", test_ring_kept, 2);
    mode_test_add("/svq-mode-hostile-device/goes-with-unlogged-writes",
                  test_goes_with_unlogged_writes, 4);
    mode_test_add("/svq-mode-hostile-device/unlogged-writes-before-the-log",
                  test_unlogged_writes_before_the_log, 4);
    mode_test_add("/svq-mode-hostile-device/comes-back-without-rings",
                  test_comes_back_without_rings, 4);
    g_test_add_data_func(
        "/svq-mode-hostile-device/comes-back-without-rings-passthrough-only/packed",
        &mode_formats[1], test_comes_back_without_rings_passthrough_only);
    g_test_add_data_func(
        "/svq-mode-hostile-device/comes-back-without-rings-passthrough-only/event_idx",
        &mode_formats[2], test_comes_back_without_rings_passthrough_only);
    mode_test_add("/svq-mode-hostile-device/driver-ok-refused", test_driver_ok_refused, 2);
    return rig_test_run();
}
