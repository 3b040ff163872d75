/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Passthrough, shadow, and the switch between them, on a vDPA device in front of a model of the
 * kernel: what the device is told, that the guest notices nothing, and devices that cannot.
 */
#include <string.h>

#include "lib/mode-rig.h"
#include "lib/random.h"
#include "lib/vdpa-rig.h"

#define F(bit)      VIRTIO_F_BIT(bit)
#define RING_GPA(q) (UINT64_C(0x1000000) * ((q) + 1))

/* Where the device works our rings: in an address space of its own, or among the guest's memory. */
typedef enum Kind { SIM, BELLS, SPACES, SPACES_FIXED, KINDS } Kind;

static const char *const kind_names[KINDS] = { "sim", "doorbells", "spaces", "spaces-fixed" };

/* Rings as the guest and the device have them, in front of a kind of device. */
typedef struct Case {
    const ModeFormat *format;
    Kind kind;
} Case;

#define FORMATS 4   /* of mode_formats: those without polling */

static Case cases[KINDS * FORMATS];

static VdpaModelConfig kind_config(Kind kind)
{
    VdpaModelConfig config = kind < SPACES ? vdpa_model_sim : vdpa_model_spaces;

    config.doorbells = kind == BELLS;
    config.asid_fixed = kind == SPACES_FIXED;
    return config;
}

static void init(VdpaRig *v, const VdpaModelConfig *model, const ModeFormat *format, SvqMode mode)
{
    const RigConfig config = mode_config(format, mode);

    g_free(mode_take_words());
    vdpa_rig_init(v, model, &config);
}

static void start(VdpaRig *v, unsigned int n_rings)
{
    vmm_start(&v->rig.vmm, n_rings);
    vdpa_rig_await(v, (1u << n_rings) - 1);
    g_free(vdpa_model_take_calls(v->model));
}

static void begin(VdpaRig *v, const Case *c, unsigned int n_rings)
{
    const VdpaModelConfig config = kind_config(c->kind);

    init(v, &config, c->format, SVQ_MODE_AUTO);
    start(v, n_rings);
    g_assert_true(mode_passes_through(&v->rig, 0));
}

/* Rings are where they shall be, in the space where they shall be looked for. */
static void check_ring(VdpaRig *v, const Case *c, unsigned int q, bool shadow)
{
    const VdpaModelRing ring = vdpa_model_ring(v->model, q);

    g_assert_true(mode_passes_through(&v->rig, q) != shadow);
    g_assert_true(ring.enabled && ring.has_kick && ring.has_call);
    g_assert_true((ring.desc == RING_GPA(q)) != shadow);
    g_assert_true((ring.driver == RING_GPA(q) + VMM_DRIVER_AREA) != shadow);
    g_assert_true((ring.device == RING_GPA(q) + VMM_DEVICE_AREA) != shadow);
    g_assert_cmpuint(ring.asid, ==, 0);
    g_assert_cmpuint(ring.desc_asid, ==, shadow && c->kind == SPACES);
}

/* What one ring hears that goes from the one to the other. */
static void append_move(GString *calls, const Case *c, unsigned int q, bool shadow)
{
    const unsigned int base = c->format->features & VMM_PACKED ? 0x80008000 : 0;

    if (c->kind == SPACES && q == 0) {
        /* An empty batch has the device look there. */
        g_string_append_printf(calls, "SET_GROUP_ASID:1:%u BATCH_BEGIN:1 BATCH_END:1 ", shadow);
    }
    g_string_append_printf(calls, "SET_VRING_NUM:%u:64 SET_VRING_BASE:%u:%x SET_VRING_ADDR:%u "
                           "SET_VRING_CALL:%u SET_VRING_KICK:%u SET_VRING_ENABLE:%u:1 ",
                           q, q, base, q, q, q, q);
}

/* All of it: no mapping, no reset, nothing of the other rings. */
static void test_calls_of_a_switch(gconstpointer data)
{
    const Case *c = data;
    unsigned int i, q;
    VdpaRig v;

    begin(&v, c, 2);
    for (i = 0; i < 4; i++) {
        const bool shadow = i % 2 == 0;
        g_autoptr(GString) expected = g_string_new("SUSPEND GET_VRING_BASE:0 GET_VRING_BASE:1 ");
        g_autofree char *calls = NULL;

        for (q = 0; q < 2; q++) {
            g_string_append_printf(expected, "GET_VRING_BASE:%u SET_VRING_ENABLE:%u:0 "
                                   "SET_VRING_KICK:%u:-1 SET_VRING_CALL:%u:-1 ", q, q, q, q);
        }
        for (q = 0; q < 2; q++) {
            append_move(expected, c, q, shadow);
        }
        g_string_append(expected, "RESUME");
        mode_set_log_all(&v.rig, shadow);
        calls = vdpa_model_take_calls(v.model);
        if (i == 0 && c->kind == BELLS) {
            /* Doorbells are mapped when they are needed for the first time. */
            g_assert_cmpuint(vdpa_rig_count_calls(calls, "mmap"), ==, 1);
        } else {
            g_assert_cmpstr(calls, ==, expected->str);
        }
        check_ring(&v, c, 0, shadow);
        check_ring(&v, c, 1, shadow);
    }
    vmm_echo(&v.rig.vmm, 0, 50);
    vdpa_rig_cleanup(&v);
}

/*
 * Kicks of ours go to the doorbells, the guest's to the kernel; the last of ours may be seen after
 * the switch.
 */
static void check_kicks(const Case *c, unsigned int rung, bool shadow)
{
    if (c->kind == BELLS && shadow) {
        g_assert_cmpuint(rung, >, 0);
    } else {
        g_assert_cmpuint(rung, <=, c->kind == BELLS);
    }
}

/* Hundreds of switches: each packet arrives once, in its order, and both modes carry some. */
static void test_switches_under_traffic(gconstpointer data)
{
    const Case *c = data;
    const unsigned int switches = (unsigned int)random_steps(200);
    g_autofree char *calls = NULL, *words = NULL;
    ModeTraffic traffic[2];
    g_auto(GStrv) lines = NULL;
    unsigned int i;
    VdpaRig v;

    begin(&v, c, 4);
    g_free(mode_take_words());
    mode_traffic_start(&traffic[0], &v.rig.vmm, 0);
    mode_traffic_start(&traffic[1], &v.rig.vmm, 1);
    for (i = 0; i < switches; i++) {
        const bool shadow = i % 2 == 0;
        uint64_t before;

        mode_set_log_all(&v.rig, shadow);
        check_ring(&v, c, i % VMM_RINGS, shadow);
        before = mode_forwarded(&v.rig);
        /* Now and then at once back. */
        if (i % 10 < 7) {
            const unsigned int rung = vdpa_model_ring(v.model, 1).rung;

            mode_traffic_await(&traffic[0]);
            g_assert_true((mode_forwarded(&v.rig) > before) == shadow);
            check_kicks(c, vdpa_model_ring(v.model, 1).rung - rung, shadow);
            mode_traffic_await(&traffic[1]);
        }
    }
    mode_traffic_end(&traffic[0]);
    mode_traffic_end(&traffic[1]);
    calls = vdpa_model_take_calls(v.model);
    g_assert_cmpuint(vdpa_rig_count_calls(calls, "SUSPEND"), ==, switches);
    g_assert_cmpuint(vdpa_rig_count_calls(calls, "RESUME"), ==, switches);
    g_assert_null(strstr(calls, "UPDATE"));
    g_assert_null(strstr(calls, "INVALIDATE"));
    g_assert_null(strstr(calls, "SET_STATUS"));
    /* A line for each, and nothing else. */
    words = mode_take_words();
    lines = g_strsplit(words, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines) - 1, ==, switches);
    for (i = 0; i < switches; i++) {
        g_assert_nonnull(strstr(lines[i], ", switched in "));
    }
    vdpa_rig_cleanup(&v);
}

/*
 * The kernel does not let a group change its address space while the device runs.  The first
 * switch finds out, half-way, and the device is restarted; from then on it is as if there was but
 * one space.
 */
static void test_spaces_fixed(gconstpointer data)
{
    const Case *c = data;
    g_autofree char *calls = NULL;
    unsigned int i;
    VdpaRig v;

    begin(&v, c, 4);
    for (i = 0; i < 6; i++) {
        const bool shadow = i % 2 == 0;
        unsigned int q;

        vmm_echo(&v.rig.vmm, 0, 30);
        vmm_echo(&v.rig.vmm, 1, 30);
        g_free(mode_take_words());
        mode_set_log_all(&v.rig, shadow);
        for (q = 0; q < 4; q++) {
            check_ring(&v, c, q, shadow);
        }
        g_assert_true(mode_has_said("rings cannot change their address space while the device runs")
                      == (i == 0));
        g_assert_true(mode_has_said("net0: to shadow: failed, the device is reset: ") == (i == 0));
        g_assert_true(mode_has_said("switched in") == (i > 0));
        if (i == 0) {
            g_free(vdpa_model_take_calls(v.model));
        }
    }
    vmm_echo(&v.rig.vmm, 0, 30);
    calls = vdpa_model_take_calls(v.model);
    g_assert_cmpuint(vdpa_rig_count_calls(calls, "SUSPEND"), ==, 5);
    g_assert_cmpuint(vdpa_rig_count_calls(calls, "SET_GROUP_ASID"), ==, 0);
    g_assert_null(strstr(calls, "UPDATE"));
    vdpa_rig_cleanup(&v);
}

/* Like vp_vdpa: the guest's rings from the beginning on, its own kicks, nothing of ours. */
static void test_passthrough_without_suspend(gconstpointer data)
{
    const ModeFormat *format = data;
    g_autofree char *maps = NULL;
    unsigned int q;
    VdpaRig v;

    init(&v, &vdpa_model_pci, format, SVQ_MODE_PASSTHROUGH);
    start(&v, 4);
    vmm_echo(&v.rig.vmm, 0, 200);
    vmm_echo(&v.rig.vmm, 1, 200);
    g_assert_cmpuint(vdpa_model_packets(v.model), ==, 400);
    g_assert_cmpuint(mode_forwarded(&v.rig), ==, 0);
    for (q = 0; q < 4; q++) {
        const VdpaModelRing ring = vdpa_model_ring(v.model, q);

        g_assert_true(mode_passes_through(&v.rig, q));
        g_assert_cmphex(ring.desc, ==, RING_GPA(q));
        g_assert_cmpuint(ring.rung, ==, 0);
    }
    maps = vdpa_model_maps(v.model);
    g_assert_cmpstr(maps, ==, "0:100000+400000 0:1000000+100000 0:2000000+100000 "
                              "0:3000000+100000 0:4000000+100000");
    vdpa_rig_cleanup(&v);
}

/* Said when the device is opened; it is shadowed, whatever the VMM says. */
static void test_auto_without_suspend(gconstpointer data)
{
    const ModeFormat *format = data;
    VdpaRig v;

    init(&v, &vdpa_model_pci, format, SVQ_MODE_AUTO);
    g_assert_true(mode_has_said("net0: mode=auto: vdpa0 cannot be suspended and asked where its "
                                "rings stand; they are shadowed all the time"));
    start(&v, 2);
    g_free(mode_take_words());
    mode_set_log_all(&v.rig, true);
    mode_set_log_all(&v.rig, false);
    vmm_echo(&v.rig.vmm, 0, 100);
    g_assert_false(mode_passes_through(&v.rig, 0));
    g_assert_cmpuint(mode_forwarded(&v.rig), >=, 200);
    g_assert_false(mode_has_said("net0"));
    vdpa_rig_cleanup(&v);
}

static VdpaModelConfig reach(uint64_t first, uint64_t last)
{
    VdpaModelConfig config = vdpa_model_sim;

    config.iova_first = first;
    config.iova_last = last;
    return config;
}

/* Two rings lie out of the device's reach: shadows may be elsewhere, the guest's rings may not. */
static void test_reach_ends_within_guest(gconstpointer data)
{
    static const SvqMode modes[] = { SVQ_MODE_SHADOW, SVQ_MODE_PASSTHROUGH, SVQ_MODE_AUTO };
    const VdpaModelConfig config = reach(0x1000, RING_GPA(2) - 1);
    const ModeFormat *format = data;
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(modes); i++) {
        const bool strict = modes[i] == SVQ_MODE_PASSTHROUGH;
        VdpaRig v;

        init(&v, &config, format, modes[i]);
        g_free(mode_take_words());
        vmm_start(&v.rig.vmm, 2);
        g_assert_true(vmm_has_error(&v.rig.vmm, 0) == strict);
        g_assert_cmpint(rig_stats(&v.rig, 0).state, ==,
                        strict ? SVQ_QUEUE_BROKEN : SVQ_QUEUE_RUNNING);
        if (strict) {
            g_assert_true(mode_has_said("net0 queue 0 cannot pass through: the device does not "
                                        "reach all of the guest's memory at the guest's "
                                        "addresses"));
        } else {
            g_assert_true(mode_has_said("all are shadowed") == (modes[i] == SVQ_MODE_AUTO));
            mode_set_log_all(&v.rig, modes[i] == SVQ_MODE_AUTO);
            mode_set_log_all(&v.rig, false);
            vmm_echo(&v.rig.vmm, 0, 100);
            g_assert_false(mode_passes_through(&v.rig, 0));
        }
        vdpa_rig_cleanup(&v);
    }
}

/* 8 MiB of guest in less: the VMM's memory is refused, and it is said how much is missing. */
static void test_reach_too_small(void)
{
    const VdpaModelConfig config = reach(0x1000, 0x7fffff);
    VdpaRig v;

    init(&v, &config, &mode_formats[0], SVQ_MODE_AUTO);
    vmm_do(&v.rig.vmm, VHOST_USER_SET_OWNER, 0, 0);
    vmm_do(&v.rig.vmm, VHOST_USER_GET_FEATURES, 0, 0);
    vmm_do(&v.rig.vmm, VHOST_USER_SET_PROTOCOL_FEATURES, 0, F(0) | F(3) | F(15) | F(16));
    vmm_do(&v.rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    g_free(mode_take_words());
    g_assert_cmphex(vmm_try(&v.rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0), ==, 1);
    g_assert_true(mode_has_said("net0: the device reaches addresses 0x1000 to 0x7fffff, which is "
                                "too little for the guest's memory"));
    vdpa_rig_cleanup(&v);
}

static void add(const char *name, GTestDataFunc test, Kind first, Kind last)
{
    unsigned int i;

    for (i = first * FORMATS; i < (last + 1) * FORMATS; i++) {
        g_autofree char *path = g_strdup_printf("/svq-mode-vdpa/%s/%s/%s", name,
                                                kind_names[cases[i].kind], cases[i].format->name);

        g_test_add_data_func(path, &cases[i], test);
    }
}

int main(int argc, char **argv)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        cases[i] = (Case){ &mode_formats[i % FORMATS], i / FORMATS };
    }
    mode_test_init(&argc, &argv);
    add("calls-of-a-switch", test_calls_of_a_switch, SIM, SPACES);
    add("switches-under-traffic", test_switches_under_traffic, SIM, SPACES);
    add("spaces-fixed", test_spaces_fixed, SPACES_FIXED, SPACES_FIXED);
    mode_test_add("/svq-mode-vdpa/passthrough-without-suspend", test_passthrough_without_suspend,
                  FORMATS);
    mode_test_add("/svq-mode-vdpa/auto-without-suspend", test_auto_without_suspend, FORMATS);
    mode_test_add("/svq-mode-vdpa/reach-ends-within-guest", test_reach_ends_within_guest, 2);
    g_test_add_func("/svq-mode-vdpa/reach-too-small", test_reach_too_small);
    return rig_test_run();
}
