/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole shadowed device in front of a vDPA device on a model of the kernel: traffic, VMMs that
 * come and go, memory that changes, faults, a device that goes away.
 */
#include <errno.h>
#include <string.h>

#include "lib/vdpa-rig.h"

/* Of hw/vhost/vhost-vdpa-suspend.c. */
extern int vhost_vdpa_suspend_timeout_ms;

static const struct {
    const char *name;
    const VdpaModelConfig *config;
} kinds[] = {
    { "sim", &vdpa_model_sim },
    { "pci", &vdpa_model_pci },
    { "spaces", &vdpa_model_spaces },
};

/* A format of rings in front of a kind of device. */
typedef struct Case {
    const RigFormat *format;
    const VdpaModelConfig *config;
} Case;

static Case cases[G_N_ELEMENTS(kinds) * G_N_ELEMENTS(rig_formats)];

static void init(VdpaRig *v, const void *data)
{
    const Case *c = data;
    const RigConfig config = { .format = *c->format };

    vdpa_rig_init(v, c->config, &config);
}

static bool is_apart(const void *data)
{
    return ((const Case *)data)->config->backend_features & VDPA_B_DESC_ASID;
}

static bool has_doorbells(const void *data)
{
    return ((const Case *)data)->config->doorbells;
}

static void echo_pairs(VdpaRig *v, unsigned int n)
{
    vmm_echo(&v->rig.vmm, 0, n);
    vmm_echo(&v->rig.vmm, 1, n);
}

static void start(VdpaRig *v, unsigned int n_rings)
{
    vmm_start(&v->rig.vmm, n_rings);
    vdpa_rig_await(v, (1u << n_rings) - 1);
}

static void test_traffic(gconstpointer data)
{
    unsigned int warnings = rig_warnings(), q;
    VdpaRig v;

    init(&v, data);
    start(&v, 4);
    g_assert_cmphex(vdpa_model_status(v.model), ==, 0xf);
    echo_pairs(&v, 300);
    g_assert_cmpuint(vdpa_model_packets(v.model), ==, 600);
    for (q = 0; q < 4; q++) {
        VdpaModelRing ring = vdpa_model_ring(v.model, q);

        g_assert_true(ring.enabled);
        g_assert_cmpuint(ring.asid, ==, 0);
        g_assert_cmpuint(ring.desc_asid, ==, is_apart(data));
        /* All kicks go one way. */
        g_assert_cmpuint(ring.kicks, >, 0);
        g_assert_cmpuint(ring.rung, ==, has_doorbells(data) ? ring.kicks : 0);
        g_assert_cmpint(rig_stats(&v.rig, q).state, ==, SVQ_QUEUE_RUNNING);
    }
    g_assert_cmpuint(rig_warnings(), ==, warnings);
    vdpa_rig_cleanup(&v);
}

/* The VMM leaves, and another comes; the third stops each ring as it should. */
static void test_vmm_comes_and_goes(gconstpointer data)
{
    unsigned int warnings = rig_warnings(), i, q;
    VdpaRig v;

    init(&v, data);
    for (i = 0; i < 3; i++) {
        start(&v, 4);
        echo_pairs(&v, 50);
        if (i == 2) {
            for (q = 0; q < 4; q++) {
                vmm_do(&v.rig.vmm, VHOST_USER_GET_VRING_BASE, q, 0);
                g_assert_cmphex(v.rig.vmm.rings[q].base, ==, vmm_expected_base(&v.rig.vmm, q));
            }
            vmm_do(&v.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
        }
        vmm_disconnect(&v.rig.vmm);
        g_assert_cmphex(vdpa_model_status(v.model), ==, 0);
        vmm_connect(&v.rig.vmm, v.rig.path);
    }
    g_assert_cmpuint(rig_warnings(), ==, warnings);
    vdpa_rig_cleanup(&v);
}

/* One pair stops and goes on where it stood, while the other runs; if it must, all restart. */
static void test_rings_stop_and_go_on(gconstpointer data)
{
    unsigned int warnings = rig_warnings(), i, q;
    VdpaRig v;

    init(&v, data);
    start(&v, 4);
    for (i = 0; i < 5; i++) {
        echo_pairs(&v, 20);
        for (q = 2; q < 4; q++) {
            vmm_do(&v.rig.vmm, VHOST_USER_GET_VRING_BASE, q, 0);
            g_assert_cmphex(v.rig.vmm.rings[q].base, ==, vmm_expected_base(&v.rig.vmm, q));
        }
        vdpa_rig_await(&v, 3);
        vmm_echo(&v.rig.vmm, 0, 20);
        for (q = 2; q < 4; q++) {
            vmm_continue_ring(&v.rig.vmm, q, VMM_KEEP_BASE);
            vmm_do(&v.rig.vmm, VHOST_USER_SET_VRING_ENABLE, q, 1);
        }
        vdpa_rig_await(&v, 15);
    }
    echo_pairs(&v, 20);
    g_assert_cmpuint(rig_warnings(), ==, warnings);
    vdpa_rig_cleanup(&v);
}

/* Memory comes and goes under running rings; the device hears of that region alone. */
static void test_memory_changes(gconstpointer data)
{
    unsigned int i;
    VdpaRig v;

    init(&v, data);
    start(&v, 2);
    vmm_echo(&v.rig.vmm, 0, 20);
    g_free(vdpa_model_take_calls(v.model));
    for (i = 0; i < 6; i++) {
        g_autofree char *calls = NULL;

        vmm_do(&v.rig.vmm, i % 2 ? VHOST_USER_ADD_MEM_REG : VHOST_USER_REM_MEM_REG, 3, 0);
        vmm_echo(&v.rig.vmm, 0, 20);
        calls = vdpa_model_take_calls(v.model);
        g_assert_cmpstr(calls, ==,
                        i % 2 ? "BATCH_BEGIN:0 UPDATE:0:4000000+100000 BATCH_END:0"
                              : "BATCH_BEGIN:0 INVALIDATE:0:4000000+100000 BATCH_END:0");
    }
    vdpa_rig_cleanup(&v);
}

/* All memory is mapped anew, at other host addresses. */
static void test_memory_is_replaced(gconstpointer data)
{
    unsigned int i;
    VdpaRig v;

    init(&v, data);
    start(&v, 4);
    for (i = 0; i < 6; i++) {
        echo_pairs(&v, 20);
        v.rig.vmm.regions[VMM_DATA].size = v.rig.vmm.regions[VMM_DATA].mapped -
                                           (i % 2 ? 0 : 0x10000);
        vmm_do(&v.rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
    }
    echo_pairs(&v, 20);
    vdpa_rig_cleanup(&v);
}

static void await_open(VdpaRig *v, bool open)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (vdpa_model_is_open(v->model) != open) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
    }
}

/* The device vanishes under a guest, which stays, and is served again when it is back. */
static void test_device_vanishes(gconstpointer data)
{
    unsigned int i;
    VdpaRig v;

    init(&v, data);
    start(&v, 4);
    for (i = 0; i < 2; i++) {
        echo_pairs(&v, 30);
        vdpa_model_vanish(v.model);
        await_open(&v, false);
        vdpa_rig_await(&v, 0);
        vdpa_model_appear(v.model);
        vdpa_rig_await(&v, 15);
    }
    echo_pairs(&v, 30);
    vdpa_rig_cleanup(&v);
}

/* The device does not stop: the VMM has its answer all the same, and the other rings go on. */
static void test_suspend_never_ends(gconstpointer data)
{
    VdpaRig v;

    init(&v, data);
    start(&v, 4);
    echo_pairs(&v, 30);
    vhost_vdpa_suspend_timeout_ms = 20;
    vdpa_model_hang_suspend(v.model);
    vmm_do(&v.rig.vmm, VHOST_USER_GET_VRING_BASE, 3, 0);
    vhost_vdpa_suspend_timeout_ms = 2000;
    vmm_await_state(v.rig.dev, 0, SVQ_QUEUE_STOPPED);
    g_assert_true(vdpa_model_is_open(v.model));
    vdpa_model_release_suspend(v.model);
    vdpa_rig_await(&v, 7);
    vmm_echo(&v.rig.vmm, 0, 30);
    vdpa_rig_cleanup(&v);
}

/* A device that was lost is not opened at once again and again, but if its file is new. */
static void bring_back(VdpaRig *v)
{
    peer_pump();
    if (!vdpa_model_is_open(v->model)) {
        vdpa_model_vanish(v->model);
        vdpa_model_appear(v->model);
    }
    await_open(v, true);
}

/* Each call of a start fails once: whatever it is, the next VMM is served. */
static void walk_start(const void *data, int err)
{
    g_autofree char *failed = NULL;
    unsigned int k = 1;
    VdpaRig v;

    init(&v, data);
    do {
        g_clear_pointer(&failed, g_free);
        vdpa_model_fail_at(v.model, k++, err);
        vmm_begin(&v.rig.vmm, vmm_get(&v.rig.vmm, VHOST_USER_GET_PROTOCOL_FEATURES));
        vmm_start_rings(&v.rig.vmm, 0, 2);
        vmm_try(&v.rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
        failed = vdpa_rig_await_failure(&v, 3);
        vdpa_model_fail(v.model, NULL, 0, 0);
        bring_back(&v);
        vmm_connect(&v.rig.vmm, v.rig.path);
        start(&v, 2);
        vmm_echo(&v.rig.vmm, 0, 3);
        vmm_connect(&v.rig.vmm, v.rig.path);
    } while (failed);
    g_assert_cmpuint(k, >, 20);
    vdpa_rig_cleanup(&v);
}

static void test_start_fails_anywhere(gconstpointer data)
{
    walk_start(data, EIO);
}

static void test_device_goes_anywhere_in_a_start(gconstpointer data)
{
    walk_start(data, ENODEV);
}

/* Of all formats, or of the first alone. */
static void add(const char *name, GTestDataFunc test, bool all, uint64_t needs)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        const unsigned int kind = i / G_N_ELEMENTS(rig_formats);
        g_autofree char *path = g_strdup_printf("/vhost-vdpa-device/%s/%s/%s", name,
                                                kinds[kind].name, cases[i].format->name);

        if (needs & ~cases[i].config->backend_features) {
            continue;
        }
        if (all || cases[i].format == &rig_formats[0]) {
            g_test_add_data_func(path, &cases[i], test);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        cases[i] = (Case){ &rig_formats[i % G_N_ELEMENTS(rig_formats)],
                           kinds[i / G_N_ELEMENTS(rig_formats)].config };
    }
    rig_test_init(&argc, &argv);
    add("traffic", test_traffic, true, 0);
    add("vmm-comes-and-goes", test_vmm_comes_and_goes, true, 0);
    add("rings-stop-and-go-on", test_rings_stop_and_go_on, true, 0);
    add("memory-changes", test_memory_changes, false, 0);
    add("memory-is-replaced", test_memory_is_replaced, true, 0);
    add("device-vanishes", test_device_vanishes, true, 0);
    add("suspend-never-ends", test_suspend_never_ends, true, VDPA_B_SUSPEND);
    add("start-fails-anywhere", test_start_fails_anywhere, false, 0);
    add("device-goes-anywhere-in-a-start", test_device_goes_anywhere_in_a_start, false, 0);
    return rig_test_run();
}
