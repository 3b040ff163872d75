/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Switches between passthrough and shadow on a vDPA device with buffers in flight: they are taken
 * on, or, where it may have overtaken some, the switch waits.  On a model of the kernel.
 */
#include "lib/mode-rig.h"
#include "lib/vdpa-rig.h"

#define F(bit)      VIRTIO_F_BIT(bit)

static void await_packets(VdpaRig *v, unsigned int n)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (vdpa_model_packets(v->model) != n) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_usleep(100);
    }
}

/*
 * The device has two transmit buffers in flight, after all others.  It takes them again from the
 * other ring, and so sends them again; each is used once.
 */
static void check_in_flight_in_order(const ModeFormat *format, bool keep, bool to_shadow)
{
    VdpaModelConfig model = vdpa_model_sim;
    unsigned int i;
    VdpaRig v;

    model.features |= F(VIRTIO_F_IN_ORDER);
    vdpa_rig_init_auto(&v, &model, format, !to_shadow);
    vdpa_rig_start(&v, 2);
    vmm_post_rx(&v.rig.vmm, 0, 16);
    vdpa_model_hold(v.model, 2, false);
    vdpa_model_keep_in_flight(v.model, keep);
    vdpa_rig_send(&v, 5);
    await_packets(&v, 5);
    mode_set_log_all(&v.rig, to_shadow);
    g_assert_true(mode_passes_through(&v.rig, 1) != to_shadow);
    await_packets(&v, 7);
    for (i = 0; i < 5; i++) {
        vdpa_rig_assert_received(&v, i);
    }
    vdpa_rig_assert_received(&v, 3);
    vdpa_rig_assert_received(&v, 4);
    for (i = 0; i < 3; i++) {
        vdpa_rig_assert_sent(&v, i);
    }
    g_assert_cmpuint(vdpa_model_ring(v.model, 1).held, ==, 2);
    vdpa_model_hold(v.model, 0, false);
    vdpa_rig_assert_sent(&v, 3);
    vdpa_rig_assert_sent(&v, 4);
    vmm_echo(&v.rig.vmm, 0, 40);
    g_assert_false(mode_has_said("put off"));
    vdpa_rig_cleanup(&v);
}

static const ModeFormat packed_in_order = { "packed+in_order", VMM_PACKED | F(VIRTIO_F_IN_ORDER),
                                            0 };

static void test_in_flight_in_order(gconstpointer data)
{
    const ModeFormat *format = data;
    /* Of a packed ring that may be used out of order nobody says what is in flight. */
    const bool can_keep = !(format->features & VMM_PACKED) ||
                          format->features & F(VIRTIO_F_IN_ORDER);

    check_in_flight_in_order(format, false, true);
    check_in_flight_in_order(format, false, false);
    check_in_flight_in_order(format, true, false);
    if (can_keep) {
        check_in_flight_in_order(format, true, true);
    }
}

/*
 * The younger three of five are used and the older two in flight.  The device is asked, and
 * resumed with its rings as they are, until these two are used.
 */
static void check_in_flight_overtaken(const ModeFormat *format, bool to_shadow)
{
    const char *to = to_shadow ? "shadow" : "passthrough";
    g_autofree char *put_off = g_strdup_printf("net0: to %s: put off, and tried every 100 ms: "
                                               "queue 1: ", to);
    g_autofree char *calls = NULL;
    g_auto(GStrv) each = NULL;
    unsigned int i;
    VdpaRig v;

    vdpa_rig_init_auto(&v, &vdpa_model_sim, format, !to_shadow);
    vdpa_rig_start(&v, 2);
    vmm_post_rx(&v.rig.vmm, 0, 16);
    vdpa_model_hold(v.model, 2, true);
    vdpa_model_keep_in_flight(v.model, true);
    vdpa_rig_send(&v, 5);
    await_packets(&v, 5);
    mode_set_log_all(&v.rig, to_shadow);
    g_assert_true(mode_passes_through(&v.rig, 1) == to_shadow);
    calls = vdpa_rig_await_calls(&v, "RESUME", 3);
    each = g_strsplit(calls, " ", -1);
    for (i = 0; i < 12; i++) {
        static const char *const expected[] = { "SUSPEND", "GET_VRING_BASE:0", "GET_VRING_BASE:1",
                                                "RESUME" };

        g_assert_cmpstr(each[i], ==, expected[i % 4]);
    }
    for (i = 0; i < 5; i++) {
        vdpa_rig_assert_received(&v, i);
    }
    for (i = 2; i < 5; i++) {
        vdpa_rig_assert_sent(&v, i);
    }
    g_assert_true(mode_passes_through(&v.rig, 0) == to_shadow);
    vdpa_model_hold(v.model, 0, false);
    vdpa_rig_assert_sent(&v, 0);
    vdpa_rig_assert_sent(&v, 1);
    mode_await(&v.rig, !to_shadow);
    vmm_echo(&v.rig.vmm, 0, 40);
    /* Nothing was sent again. */
    g_assert_cmpuint(vdpa_model_packets(v.model), ==, 45);
    mode_assert_said_once(put_off);
    vdpa_rig_cleanup(&v);
}

static void test_in_flight_overtaken(gconstpointer data)
{
    check_in_flight_overtaken(data, true);
    check_in_flight_overtaken(data, false);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/svq-mode-vdpa-inflight/in-order", test_in_flight_in_order, 4);
    g_test_add_data_func("/svq-mode-vdpa-inflight/in-order/packed+in_order",
                         &packed_in_order, test_in_flight_in_order);
    mode_test_add("/svq-mode-vdpa-inflight/overtaken", test_in_flight_overtaken, 4);
    return rig_test_run();
}
