/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Switches of the mode that cannot be now, or fail half-way: what is said, how often, and what goes
 * on working.
 */
#include <errno.h>
#include <string.h>

#include "lib/mode-rig.h"

#define F(bit)      VIRTIO_F_BIT(bit)

static void keeps_in_flight(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
    fake->keeps_in_flight = true;
}

static void can_suspend(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
}

static void forget_words(void)
{
    g_free(mode_take_words());
}

/* Until the device was asked @times times where its ring stands. */
static void await_tries(Rig *rig, unsigned int times)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;
    g_auto(GStrv) calls = NULL;

    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
        g_strfreev(calls);
        calls = g_strsplit(rig->fake.calls->str, "base:0", -1);
    } while (g_strv_length(calls) <= times);
}

/*
 * The device works the guest's ring and has used the younger of two buffers: which one is missing
 * is not to be read from the ring.  All goes on as it was until that one is used; then the log
 * begins with all memory, since it comes late.
 */
static void test_put_off_until_drained(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, keeps_in_flight);
    g_autofree char *words = NULL;
    uint16_t first, second;
    ModeLog log;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    mode_log_init(&log, &rig);
    vmm_post_rx(&rig.vmm, 0, 8);
    first = mode_take(&rig, 0, 0);
    second = mode_take(&rig, 0, 1);
    mode_put(&rig, 0, second, 1);
    mode_forget_calls(&rig);
    forget_words();
    mode_set_log_all(&rig, true);
    mode_assert_calls(&rig, "suspend base:0 resume");
    g_assert_true(mode_passes_through(&rig, 0) && mode_passes_through(&rig, 1));
    /* Nothing of it stops the other ring, nor this one. */
    mode_post(&rig, 1, 0);
    mode_serve(&rig, 1, 0);
    mode_put(&rig, 0, mode_take(&rig, 0, 2), 2);
    await_tries(&rig, 2);
    g_assert_true(mode_passes_through(&rig, 0));
    g_assert_true(mode_has_said("net0: to shadow: put off, and tried every 100 ms: queue 0: "));
    g_assert_false(mode_log_has_all(&log, &rig.vmm));
    mode_put(&rig, 0, first, 0);
    mode_await(&rig, false);
    g_assert_false(mode_passes_through(&rig, 1));
    g_assert_true(mode_log_has_all(&log, &rig.vmm));
    mode_serve(&rig, 0, 3);
    g_assert_cmpuint(rig_stats(&rig, 0).counters.buffers, ==, 5);
    /* Once, for all the tries. */
    words = mode_take_words();
    g_assert_null(strstr(strstr(words, "put off") + 1, "put off"));
    mode_log_cleanup(&log);
    rig_cleanup(&rig);
}

/* The VMM takes LOG_ALL back meanwhile: there is nothing to switch any more. */
static void test_put_off_and_called_off(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, keeps_in_flight);
    uint16_t first, second;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 8);
    first = mode_take(&rig, 0, 0);
    second = mode_take(&rig, 0, 1);
    mode_put(&rig, 0, second, 1);
    mode_set_log_all(&rig, true);
    await_tries(&rig, 2);
    mode_set_log_all(&rig, false);
    mode_forget_calls(&rig);
    mode_put(&rig, 0, first, 0);
    mode_serve(&rig, 0, 2);
    mode_assert_calls(&rig, "");
    g_assert_true(mode_passes_through(&rig, 0));
    rig_cleanup(&rig);
}

/* The VMM stops the ring meanwhile: what the device has written is logged then. */
static void test_put_off_and_stopped(gconstpointer data)
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
    g_assert_false(mode_log_has_all(&log, &rig.vmm));
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    g_assert_true(mode_log_has_all(&log, &rig.vmm));
    mode_log_cleanup(&log);
    rig_cleanup(&rig);
}

/* The other way: a shadow whose device has used the younger of two keeps forwarding. */
static void test_to_passthrough_put_off(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, keeps_in_flight);
    uint16_t first, second;
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.features |= F(VHOST_F_LOG_ALL);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 8);
    first = mode_take(&rig, 0, 0);
    second = mode_take(&rig, 0, 1);
    mode_put(&rig, 0, second, 1);
    forget_words();
    mode_set_log_all(&rig, false);
    g_assert_false(mode_passes_through(&rig, 0));
    await_tries(&rig, 2);
    mode_serve(&rig, 0, 2);
    g_assert_true(mode_has_said("net0: to passthrough: put off, and tried every 100 ms: queue 0: "
                                "the device has completed buffers out of order"));
    mode_put(&rig, 0, first, 0);
    mode_await(&rig, true);
    mode_serve(&rig, 0, 3);
    rig_cleanup(&rig);
}

/* A queue that the guest broke stays as it is; after the reset it is what it shall be. */
static void test_broken_queue_waits_for_reset(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.features |= F(VHOST_F_LOG_ALL);
    vmm_start(&rig.vmm, 4);
    vmm_echo(&rig.vmm, 0, 10);
    vmm_spoil(&rig.vmm, 3);
    vmm_await_state(rig.dev, 3, SVQ_QUEUE_BROKEN);
    mode_set_log_all(&rig, false);
    g_assert_false(mode_passes_through(&rig, 0));
    vmm_echo(&rig.vmm, 0, 10);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    vmm_start_rings(&rig.vmm, 0, 4);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    g_assert_true(mode_passes_through(&rig, 0) && mode_passes_through(&rig, 3));
    vmm_echo(&rig.vmm, 0, 10);
    vmm_echo(&rig.vmm, 1, 10);
    rig_cleanup(&rig);
}

/* One step of a switch fails. */
typedef struct Fault {
    const char *call;
    bool puts_off;          /* undone, and tried again; else the device is reset */
    bool refuses;           /* after the reset it fails again, for the queue with this ring */
} Fault;

static const Fault faults[] = {
    { "suspend", true, false },   { "base:0", false, false },    { "base:1", false, false },
    { "stop:0", false, false },   { "stop:1", false, false },
    { "start:0", false, true },   { "enable:0:1", false, true }, { "start:1", false, true },
    { "resume", false, false },
};

/*
 * Buffers 0 and 1 are used before the switch fails, from 2 on after; none is used twice and
 * none is missing, whatever became of the device.
 */
static void check_fault(const ModeFormat *format, const Fault *fault, bool to_shadow)
{
    const RigConfig config = mode_fake_config(format, SVQ_MODE_AUTO, can_suspend);
    const unsigned int refused = strchr(fault->call, '1') && !strstr(fault->call, ":0") ? 1 : 0;
    const char *to = to_shadow ? "shadow" : "passthrough";
    g_autofree char *put_off = g_strdup_printf("net0: to %s: put off, and tried every 100 ms: %s "
                                               "fails, as the test wants\n", to, fault->call);
    g_autofree char *failed = g_strdup_printf("net0: to %s: failed, the device is reset: %s fails, "
                                              "as the test wants\n", to, fault->call);
    unsigned int q;
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.features |= to_shadow ? 0 : F(VHOST_F_LOG_ALL);
    vmm_start(&rig.vmm, 2);
    vmm_post_rx(&rig.vmm, 0, 8);
    mode_serve(&rig, 0, 0);
    mode_serve(&rig, 0, 1);
    rig.fake.fails = fault->call;
    rig.fake.fail_with = EIO;
    forget_words();
    mode_set_log_all(&rig, to_shadow);
    g_assert_true(mode_has_said(put_off) == fault->puts_off);
    g_assert_true(mode_has_said(failed) != fault->puts_off);
    if (mode_has_said("net0 queue 0: where it goes on is uncertain")) {
        /* Packed, and the device did not say how many buffers it has used. */
        g_assert_true(to_shadow && format->features & VMM_PACKED);
        g_assert_cmpstr(fault->call, ==, "stop:0");
        rig.fake.fails = NULL;
        rig_cleanup(&rig);
        return;
    }
    for (q = 0; q < 2; q++) {
        const bool broken = fault->refuses && q == refused;

        g_assert_cmpint(rig_stats(&rig, q).state, ==,
                        broken ? SVQ_QUEUE_BROKEN : SVQ_QUEUE_RUNNING);
        g_assert_true(vmm_has_error(&rig.vmm, q) == broken);
        g_assert_true(mode_passes_through(&rig, q) ==
                      (!broken && to_shadow == fault->puts_off));
    }
    rig.fake.fails = NULL;
    if (fault->refuses) {
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, refused, 0);
        g_assert_cmphex(rig.vmm.rings[refused].base, ==,
                        vmm_expected_base(&rig.vmm, refused));
        vmm_continue_ring(&rig.vmm, refused, VMM_KEEP_BASE);
    } else {
        mode_serve(&rig, 0, 2);
    }
    mode_await(&rig, !to_shadow);
    for (q = fault->refuses ? 2 : 3; q < 8; q++) {
        mode_serve(&rig, 0, q);
    }
    g_assert_cmphex(rig.fake.status, ==, 0xf);
    g_assert_false(rig.fake.suspended);
    mode_post(&rig, 1, 0);
    mode_serve(&rig, 1, 0);
    rig_cleanup(&rig);
}

static void test_a_step_fails(gconstpointer data)
{
    unsigned int i;

    for (i = 0; i < 2 * G_N_ELEMENTS(faults); i++) {
        check_fault(data, &faults[i / 2], i % 2);
    }
}

/* The device goes in the middle of the switch: when it is back, its rings are as they shall be. */
static void test_device_goes_in_a_switch(gconstpointer data)
{
    unsigned int i;

    for (i = 0; i < 2 * G_N_ELEMENTS(faults); i++) {
        const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, can_suspend);
        const bool to_shadow = i % 2;
        unsigned int buffer;
        Rig rig;

        rig_init(&rig, &config);
        rig.vmm.features |= to_shadow ? 0 : F(VHOST_F_LOG_ALL);
        vmm_start(&rig.vmm, 2);
        rig.fake.fails = faults[i / 2].call;
        rig.fake.fail_with = ENOTCONN;
        mode_set_log_all(&rig, to_shadow);
        g_assert_false(rig.fake.dev.connected);
        fake_device_go(&rig.fake);
        rig.fake.suspended = false;
        fake_device_come(&rig.fake);
        g_assert_true(mode_passes_through(&rig, 0) != to_shadow);
        g_assert_true(mode_passes_through(&rig, 1) != to_shadow);
        vmm_post_rx(&rig.vmm, 0, 8);
        for (buffer = 0; buffer < 8; buffer++) {
            mode_serve(&rig, 0, buffer);
        }
        rig_cleanup(&rig);
    }
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/svq-mode-faults/put-off-until-drained", test_put_off_until_drained, 4);
    mode_test_add("/svq-mode-faults/put-off-and-called-off", test_put_off_and_called_off, 4);
    mode_test_add("/svq-mode-faults/put-off-and-stopped", test_put_off_and_stopped, 4);
    mode_test_add("/svq-mode-faults/to-passthrough-put-off", test_to_passthrough_put_off, 4);
    mode_test_add("/svq-mode-faults/broken-queue-waits-for-reset",
                  test_broken_queue_waits_for_reset, 2);
    mode_test_add("/svq-mode-faults/a-step-fails", test_a_step_fails, 4);
    mode_test_add("/svq-mode-faults/device-goes-in-a-switch", test_device_goes_in_a_switch, 2);
    return rig_test_run();
}
