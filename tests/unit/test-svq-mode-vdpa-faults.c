/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Switches between passthrough and shadow that a vDPA device makes hard: it does not
 * suspend, never suspends, only says so, fails at any call, or goes away.  On a model of the
 * kernel.
 */
#include <errno.h>
#include <string.h>

#include "lib/mode-rig.h"
#include "lib/vdpa-rig.h"

#define WAIT_US     (VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND)

/* Of hw/vhost/vhost-vdpa-suspend.c. */
extern int vhost_vdpa_suspend_timeout_ms;

/* It says that it cannot, three times, under traffic; then it can. */
static void check_suspend_fails(const ModeFormat *format, int err, bool to_shadow)
{
    g_autofree char *put_off =
        g_strdup_printf("net0: to %s: put off, and tried every 100 ms: vdpa0: VHOST_VDPA_SUSPEND: "
                        "%s", to_shadow ? "shadow" : "passthrough", g_strerror(err));
    ModeTraffic traffic;
    VdpaRig v;

    vdpa_rig_init_auto(&v, &vdpa_model_sim, format, !to_shadow);
    vdpa_rig_start(&v, 2);
    vdpa_model_fail(v.model, "SUSPEND", 0, err);
    mode_traffic_start(&traffic, &v.rig.vmm, 0);
    mode_set_log_all(&v.rig, to_shadow);
    g_free(vdpa_rig_await_calls(&v, "SUSPEND", 3));
    mode_traffic_await(&traffic);
    g_assert_true(mode_passes_through(&v.rig, 0) == to_shadow);
    vdpa_model_fail(v.model, NULL, 0, 0);
    mode_await(&v.rig, !to_shadow);
    mode_traffic_await(&traffic);
    mode_traffic_end(&traffic);
    g_assert_false(mode_has_said("reset"));
    mode_assert_said_once(put_off);
    vdpa_rig_cleanup(&v);
}

static void test_suspend_fails(gconstpointer data)
{
    check_suspend_fails(data, EIO, true);
    check_suspend_fails(data, EBUSY, false);
}

/* Each call of a switch fails once; traffic goes on in the mode that was wanted. */
static bool check_call_fails(const ModeFormat *format, unsigned int k, int err, bool to_shadow)
{
    const VdpaModelConfig *model = &vdpa_model_spaces;
    g_autofree char *failed = NULL;
    VdpaRig v;

    vdpa_rig_init_auto(&v, model, format, !to_shadow);
    vdpa_rig_start(&v, 4);
    vmm_echo(&v.rig.vmm, 0, 30);
    vmm_echo(&v.rig.vmm, 1, 10);
    vdpa_model_fail_at(v.model, k, err);
    mode_set_log_all(&v.rig, to_shadow);
    failed = vdpa_model_failed(v.model);
    vdpa_model_fail(v.model, NULL, 0, 0);
    if (mode_has_said("where it goes on is uncertain")) {
        /* It goes without telling, and a packed ring does not show how far it came. */
        g_assert_true(to_shadow && format->features & VMM_PACKED);
        vmm_connect(&v.rig.vmm, v.rig.path);
        vmm_start(&v.rig.vmm, 4);
    }
    vdpa_rig_await(&v, 15);
    mode_await(&v.rig, !to_shadow);
    vmm_echo(&v.rig.vmm, 0, 30);
    vmm_echo(&v.rig.vmm, 1, 30);
    vdpa_rig_cleanup(&v);
    return failed;
}

static void walk_switch(const ModeFormat *format, int err)
{
    unsigned int k[2] = { 1, 1 };

    while (check_call_fails(format, k[0], err, true)) {
        k[0]++;
    }
    while (check_call_fails(format, k[1], err, false)) {
        k[1]++;
    }
    g_assert_cmpuint(k[0], >, 40);
    g_assert_cmpuint(k[1], >, 40);
}

static void test_any_call_fails(gconstpointer data)
{
    walk_switch(data, EIO);
    walk_switch(data, EBUSY);
}

static void test_device_goes_at_any_call(gconstpointer data)
{
    walk_switch(data, ENODEV);
}

static void await_open(VdpaRig *v, bool open)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;

    while (vdpa_model_is_open(v->model) != open) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
    }
}

/* SUSPEND does not return: the device is given up, and its guest stays. */
static void hang_suspend(VdpaRig *v, bool to_shadow)
{
    const int timeout_ms = vhost_vdpa_suspend_timeout_ms;

    vhost_vdpa_suspend_timeout_ms = 20;
    vdpa_model_hang_suspend(v->model);
    mode_set_log_all(&v->rig, to_shadow);
    vhost_vdpa_suspend_timeout_ms = timeout_ms;
    vmm_await_state(v->rig.dev, 0, SVQ_QUEUE_STOPPED);
    g_assert_true(mode_has_said("vdpa0: given up: it was to be suspended, and is not after 20 ms"));
    g_assert_true(mode_has_said("net0: device side vdpa0 is gone"));
    g_assert_cmphex(vmm_get(&v->rig.vmm, VHOST_USER_GET_FEATURES) & VMM_FEATURES, ==,
                    VMM_FEATURES);
}

/*
 * SUSPEND returns at last: the device is closed, opened again, and the guest's queues go on, but
 * for packed rings that the device had and did not tell of.
 */
static void release_suspend(VdpaRig *v, bool told)
{
    vdpa_model_release_suspend(v->model);
    if (!told) {
        mode_await_words("net0 queue 0: nobody knows where it stands; the guest has to reset it");
        vmm_connect(&v->rig.vmm, v->rig.path);
        vmm_start(&v->rig.vmm, 2);
    }
    vdpa_rig_await(v, 3);
    vmm_echo(&v->rig.vmm, 0, 30);
}

/* Another device of this process notices nothing, and may even switch meanwhile. */
static void check_suspend_hangs(const ModeFormat *format, bool to_shadow)
{
    const RigConfig other_config = mode_config(format, SVQ_MODE_AUTO);
    ModeTraffic traffic;
    VdpaRig v;
    Rig other;

    vdpa_rig_init_auto(&v, &vdpa_model_sim, format, !to_shadow);
    vdpa_rig_start(&v, 2);
    rig_init(&other, &other_config);
    vmm_start(&other.vmm, 2);
    mode_traffic_start(&traffic, &other.vmm, 0);
    vmm_echo(&v.rig.vmm, 0, 30);
    hang_suspend(&v, to_shadow);
    mode_traffic_await(&traffic);
    mode_set_log_all(&other, true);
    g_assert_false(mode_passes_through(&other, 0));
    mode_traffic_await(&traffic);
    release_suspend(&v, !(to_shadow && format->features & VMM_PACKED));
    g_assert_true(mode_passes_through(&v.rig, 0) != to_shadow);
    mode_traffic_await(&traffic);
    mode_traffic_end(&traffic);
    rig_cleanup(&other);
    vdpa_rig_cleanup(&v);
}

static void test_suspend_hangs(gconstpointer data)
{
    check_suspend_hangs(data, true);
    check_suspend_hangs(data, false);
}

/*
 * The device that was given up goes on with the guest's ring and the guest's kicks, for nothing
 * stops it.  What it has used by then is not used again.
 */
static void check_hangs_and_goes_on(const ModeFormat *format, bool called_off)
{
    VdpaRig v;

    vdpa_rig_init_auto(&v, &vdpa_model_sim, format, false);
    vdpa_rig_start(&v, 2);
    vmm_echo(&v.rig.vmm, 0, 30);
    hang_suspend(&v, true);
    vmm_echo(&v.rig.vmm, 0, 20);
    if (called_off) {
        mode_set_log_all(&v.rig, false);
    }
    release_suspend(&v, !(format->features & VMM_PACKED));
    g_assert_true(mode_passes_through(&v.rig, 0) == called_off);
    g_assert_cmpuint(vdpa_model_packets(v.model), ==, 80);
    vdpa_rig_cleanup(&v);
}

static void test_suspend_hangs_and_device_goes_on(gconstpointer data)
{
    check_hangs_and_goes_on(data, false);
    check_hangs_and_goes_on(data, true);
}

/* A call of the kernel's that something happens at. */
static struct {
    VdpaModel *model;
    int (*ioctl)(VhostVdpaKernel *kernel, int fd, unsigned long request, void *argument);
    unsigned long request;
    unsigned int nth;
    void (*happens)(VdpaModel *model);
} ambush;

static int ambushed_ioctl(VhostVdpaKernel *kernel, int fd, unsigned long request, void *argument)
{
    if (request == ambush.request && ambush.nth && --ambush.nth == 0) {
        ambush.happens(ambush.model);
    }
    return ambush.ioctl(kernel, fd, request, argument);
}

static void set_ambush(VdpaModel *model, unsigned long request, unsigned int nth,
                       void (*happens)(VdpaModel *model))
{
    VhostVdpaKernel *kernel = vdpa_model_kernel(model);

    ambush.model = model;
    ambush.ioctl = kernel->ioctl;
    ambush.request = request;
    ambush.nth = nth;
    ambush.happens = happens;
    kernel->ioctl = ambushed_ioctl;
}

static void lift_ambush(void)
{
    g_assert_cmpuint(ambush.nth, ==, 0);
    vdpa_model_kernel(ambush.model)->ioctl = ambush.ioctl;
}

static void move_packets(VdpaModel *model)
{
    g_assert_cmpuint(vdpa_model_step(model), ==, 3);
}

static void step_until(VdpaRig *v, unsigned int packets)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;

    while (vdpa_model_packets(v->model) != packets) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        vdpa_model_step(v->model);
    }
}

/*
 * It says that it is suspended, and moves three packets between the two times that it is asked
 * where its rings stand.  It is reset, in time: none of the three is moved again.
 */
static void test_suspend_lies(gconstpointer data)
{
    VdpaModelConfig model = vdpa_model_sim;
    unsigned int i;
    VdpaRig v;

    model.by_hand = true;
    vdpa_rig_init_auto(&v, &model, data, false);
    vdpa_rig_start(&v, 2);
    vmm_post_rx(&v.rig.vmm, 0, 16);
    vdpa_model_step(v.model);
    vdpa_rig_send(&v, 3);
    vdpa_model_lie_on_suspend(v.model, true);
    /* Two when they are asked, and then each as it is taken away. */
    set_ambush(v.model, VHOST_GET_VRING_BASE, 3, move_packets);
    mode_set_log_all(&v.rig, true);
    lift_ambush();
    vdpa_model_lie_on_suspend(v.model, false);
    mode_assert_said_once("net0: to shadow: failed, the device is reset: queue 0: the device goes "
                          "on though it is suspended");
    g_assert_false(mode_passes_through(&v.rig, 0));
    g_assert_false(mode_passes_through(&v.rig, 1));
    for (i = 0; i < 3; i++) {
        vdpa_rig_assert_received(&v, i);
        vdpa_rig_assert_sent(&v, i);
    }
    vdpa_rig_send(&v, 5);
    step_until(&v, 8);
    for (i = 0; i < 5; i++) {
        vdpa_rig_assert_received(&v, i);
    }
    vdpa_rig_cleanup(&v);
}

/* The device's file is removed while it is suspended: its guest is served again when it is back. */
static void check_vanishes(const ModeFormat *format, bool to_shadow)
{
    VdpaRig v;

    vdpa_rig_init_auto(&v, &vdpa_model_sim, format, !to_shadow);
    vdpa_rig_start(&v, 2);
    vmm_echo(&v.rig.vmm, 0, 30);
    set_ambush(v.model, VHOST_VDPA_RESUME, 1, vdpa_model_vanish);
    mode_set_log_all(&v.rig, to_shadow);
    lift_ambush();
    await_open(&v, false);
    vdpa_rig_await(&v, 0);
    vdpa_model_appear(v.model);
    vdpa_rig_await(&v, 3);
    g_assert_true(mode_passes_through(&v.rig, 0) != to_shadow);
    vmm_echo(&v.rig.vmm, 0, 30);
    vdpa_rig_cleanup(&v);
}

static void test_vanishes_while_suspended(gconstpointer data)
{
    check_vanishes(data, true);
    check_vanishes(data, false);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/svq-mode-vdpa-faults/suspend-fails", test_suspend_fails, 4);
    mode_test_add("/svq-mode-vdpa-faults/suspend-hangs", test_suspend_hangs, 2);
    mode_test_add("/svq-mode-vdpa-faults/suspend-hangs-and-device-goes-on",
                  test_suspend_hangs_and_device_goes_on, 2);
    mode_test_add("/svq-mode-vdpa-faults/suspend-lies", test_suspend_lies, 4);
    mode_test_add("/svq-mode-vdpa-faults/vanishes-while-suspended", test_vanishes_while_suspended,
                  4);
    mode_test_add("/svq-mode-vdpa-faults/any-call-fails", test_any_call_fails, 2);
    mode_test_add("/svq-mode-vdpa-faults/device-goes-at-any-call", test_device_goes_at_any_call,
                  2);
    return rig_test_run();
}
