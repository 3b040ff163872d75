/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue of a vDPA device on the model of the kernel: shadowed while the data queues
 * pass through, in an address space of its own, or left unseen where there is none.
 */
#include <errno.h>
#include <string.h>

#include "lib/control-world.h"

#define FEATURES \
    (CONTROL_WORLD_STATUS | CONTROL_WORLD_CTRL_RX | CONTROL_WORLD_CTRL_MAC | \
     VIRTIO_F_BIT(19) /* CTRL_VLAN */)
#define CONTROL_SIZE "+23000"       /* of the region with its ring and its commands */

#define STATE   "MAC_ADDR_SET 02:00:00:00:00:07\nRX_PROMISC on\nVLAN_ADD 5\n"
#define RESTORE "MAC_ADDR_SET 02:00:00:00:00:07; RX_PROMISC on; VLAN_ADD 5"

typedef enum Kind {
    SIM,                /* like vdpa_sim_net */
    MLX5,               /* the rings of the data queues have a group of their own, too */
    ONE_SPACE,          /* the control queue is a group of its own, but there is no other space */
    FIXED,              /* like SIM, but takes rings before DRIVER_OK only */
    KINDS
} Kind;

static const char *const kind_names[KINDS] = { "sim", "mlx5", "one-space", "fixed" };

static VdpaModelConfig model_of(Kind kind)
{
    VdpaModelConfig model = kind == MLX5 ? vdpa_model_mlx5 : vdpa_model_sim_ctrl;

    model.features |= FEATURES;
    if (kind == ONE_SPACE) {
        model.n_spaces = 1;
    }
    if (kind == FIXED) {
        model.backend_features &= ~(VDPA_B_SUSPEND | VDPA_B_RESUME | VDPA_B_ENABLE_AFTER);
    }
    return model;
}

static bool can_isolate(Kind kind)
{
    return kind != ONE_SPACE;
}

static void make_state(ControlWorld *w)
{
    control_world_do(w, "VLAN_ADD 5");
    control_world_do(w, "RX_PROMISC on");
    control_world_do(w, "MAC_ADDR_SET 02:00:00:00:00:07");
    control_world_assert_state(w, STATE);
    g_free(control_world_take_commands(w));
}

static void begin(ControlWorld *w, Kind kind, SvqMode mode, bool packed)
{
    const VdpaModelConfig model = model_of(kind);

    g_free(mode_take_words());
    control_world_init(w, &(ControlWorldConfig){ .model = &model, .mode = mode,
                                                 .guest_packed = packed,
                                                 .shadow_packed = packed });
    control_world_start(w);
}

/* How many regions of the control queue's the device finds in space @asid. */
static unsigned int count_control(ControlWorld *w, char asid)
{
    g_autofree char *maps = vdpa_model_maps(w->model);
    g_auto(GStrv) each = g_strsplit(maps, " ", -1);
    unsigned int i, n = 0;

    for (i = 0; each[i]; i++) {
        n += each[i][0] == asid && g_str_has_suffix(each[i], CONTROL_SIZE);
    }
    return n;
}

/* Space 1 has the control queue's memory, what belongs to the rings of data queues, and no more. */
static void assert_isolated(ControlWorld *w, unsigned int rings)
{
    g_autofree char *maps = vdpa_model_maps(w->model);
    unsigned int n = 0;
    const char *space;

    g_assert_cmpuint(count_control(w, '0'), ==, 0);
    g_assert_cmpuint(count_control(w, '1'), ==, 1);
    for (space = maps; (space = strstr(space, "1:")); space += 2) {
        n += space == maps || space[-1] == ' ';
    }
    g_assert_cmpuint(n, ==, 1 + rings);
    g_assert_null(strstr(maps, " 1:100000+"));
    g_assert_null(strstr(maps, " 1:1000000+"));
    g_assert_nonnull(strstr(maps, "0:100000+400000"));
}

static void assert_passes(ControlWorld *w, bool data, bool control)
{
    g_assert_true(mode_passes_through(&w->rig, 0) == data);
    g_assert_true(mode_passes_through(&w->rig, 1) == data);
    g_assert_true(mode_passes_through(&w->rig, w->index) == control);
}

/* Data queues pass through, and commands are seen, in a space without the guest's memory. */
static void test_passthrough(gconstpointer data)
{
    const Kind kind = GPOINTER_TO_INT(data) / 2;
    ControlWorld w;

    begin(&w, kind, SVQ_MODE_PASSTHROUGH, GPOINTER_TO_INT(data) % 2);
    assert_passes(&w, true, false);
    assert_isolated(&w, 0);
    g_assert_false(mode_has_said("control queue"));
    make_state(&w);
    vmm_echo(&w.rig.vmm, 0, 50);
    g_assert_cmpuint(rig_stats(&w.rig, 0).counters.buffers, ==, 0);
    g_assert_cmpuint(vdpa_model_ring(w.model, w.index).asid, ==, 1);
    g_assert_cmpuint(vdpa_model_ring(w.model, 0).asid, ==, 0);
    control_world_cleanup(&w);
}

/* It cannot be isolated: it passes through, too, and that is said. */
static void test_passthrough_unseen(void)
{
    ControlWorld w;

    begin(&w, ONE_SPACE, SVQ_MODE_PASSTHROUGH, false);
    assert_passes(&w, true, true);
    mode_assert_said_once("net0: mode=passthrough: the device cannot give its control queue an "
                          "address space of its own; it passes through unseen, and nobody can "
                          "restore what its commands do");
    g_assert_cmpuint(count_control(&w, '0'), ==, 0);
    control_world_do(&w, "VLAN_ADD 5");
    control_world_assert_commands(&w, "VLAN_ADD 5");
    control_world_assert_state(&w, "unknown: the control queue passes through unseen\n");
    control_world_pause(&w);
    g_assert_null(control_world_save(&w));
    g_assert_true(mode_has_said("passes through unseen, and so nobody knows the state"));
    control_world_cleanup(&w);
}

/* A guest that goes on is restored on a device that was reset. */
static void test_pause(gconstpointer data)
{
    ControlWorld w;
    unsigned int q;

    begin(&w, FIXED, GPOINTER_TO_INT(data), false);
    make_state(&w);
    control_world_pause(&w);
    for (q = 0; q <= CONTROL_RING; q++) {
        control_world_continue_ring(&w, q);
    }
    control_world_await_running(&w);
    control_world_await_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    vmm_echo(&w.rig.vmm, 0, 20);
    control_world_cleanup(&w);
}

/* To shadow and back, under commands: the control queue is not moved. */
static void test_auto(gconstpointer data)
{
    const Kind kind = GPOINTER_TO_INT(data) / 2;
    g_autofree char *calls = NULL;
    unsigned int i;
    ControlWorld w;

    begin(&w, kind, SVQ_MODE_AUTO, GPOINTER_TO_INT(data) % 2);
    assert_passes(&w, true, false);
    g_assert_true(mode_has_said("net0: the device cannot give its control queue an address space "
                                "of its own; its commands are seen all the same") ==
                  !can_isolate(kind));
    make_state(&w);
    vmm_echo(&w.rig.vmm, 0, 20);
    g_free(vdpa_model_take_calls(w.model));
    for (i = 0; i < 20; i++) {
        const bool shadow = i % 2 == 0;

        /* One is on its way. */
        control_world_post(&w, shadow ? "VLAN_ADD 9" : "VLAN_DEL 9");
        mode_set_log_all(&w.rig, shadow);
        g_assert_cmpuint(control_world_await_ack(&w), ==, NET_CTRL_OK);
        mode_await(&w.rig, !shadow);
        assert_passes(&w, !shadow, false);
        control_world_assert_state(&w, shadow ? STATE "VLAN_ADD 9\n" : STATE);
        vmm_echo(&w.rig.vmm, 0, 20);
        if (can_isolate(kind)) {
            assert_isolated(&w, kind == MLX5);
        }
    }
    calls = vdpa_model_take_calls(w.model);
    g_assert_null(strstr(calls, "SET_VRING_ADDR:2"));
    g_assert_null(strstr(calls, "SET_VRING_BASE:2"));
    g_assert_null(strstr(calls, "SET_STATUS"));
    g_assert_nonnull(strstr(calls, "SET_VRING_ADDR:0"));
    control_world_cleanup(&w);
}

/* A switch fails in the middle: the device is reset, and has its state again. */
static void test_switch_fails(void)
{
    ControlWorld w;

    begin(&w, SIM, SVQ_MODE_AUTO, false);
    make_state(&w);
    vdpa_model_fail(w.model, "SET_VRING_ADDR:0", 1, EIO);
    mode_set_log_all(&w.rig, true);
    mode_await(&w.rig, false);
    g_assert_true(mode_has_said("net0: to shadow: failed, the device is reset"));
    control_world_await_running(&w);
    control_world_await_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    control_world_do(&w, "VLAN_ADD 6");
    vmm_echo(&w.rig.vmm, 0, 20);
    control_world_cleanup(&w);
}

/* A VMM that keeps the control queue to itself; in each mode and kind. */
static void test_bridged(gconstpointer data)
{
    const Kind kind = GPOINTER_TO_INT(data) / 4;
    const VdpaModelConfig model = model_of(kind);
    const SvqMode mode = GPOINTER_TO_INT(data) % 4;
    ControlWorld w;

    g_free(mode_take_words());
    control_world_init(&w, &(ControlWorldConfig){ .model = &model, .mode = mode,
                                                  .guest_without = CONTROL_WORLD_KEPT });
    control_world_start(&w);
    control_world_await_commands(&w, "RX_PROMISC on");
    vmm_echo(&w.rig.vmm, 0, 50);
    g_assert_true(mode_passes_through(&w.rig, 0) ==
                  (mode == SVQ_MODE_PASSTHROUGH || (mode == SVQ_MODE_AUTO && kind != FIXED)));
    if (can_isolate(kind)) {
        assert_isolated(&w, kind == MLX5 && mode != SVQ_MODE_PASSTHROUGH);
    } else {
        g_assert_cmpuint(count_control(&w, '0'), ==, 1);
    }
    if (mode == SVQ_MODE_AUTO && kind != FIXED) {
        mode_set_log_all(&w.rig, true);
        vmm_echo(&w.rig.vmm, 0, 20);
        g_assert_false(mode_passes_through(&w.rig, 0));
    }
    control_world_cleanup(&w);
}

static void add_kinds(const char *name, GTestDataFunc test, const Kind *kinds, unsigned int n)
{
    unsigned int i, packed;

    for (i = 0; i < n; i++) {
        for (packed = 0; packed < 2; packed++) {
            g_autofree char *path = g_strdup_printf("/svq-control-vdpa/%s/%s-%s", name,
                                                    kind_names[kinds[i]],
                                                    packed ? "packed" : "split");

            g_test_add_data_func(path, GINT_TO_POINTER(kinds[i] * 2 + packed), test);
        }
    }
}

static void add_bridged(void)
{
    static const struct {
        SvqMode mode;
        const char *name;
    } modes[] = {
        { SVQ_MODE_SHADOW, "shadow" }, { SVQ_MODE_PASSTHROUGH, "passthrough" },
        { SVQ_MODE_AUTO, "auto" },
    };
    unsigned int i, kind;

    for (kind = 0; kind < KINDS; kind++) {
        for (i = 0; i < G_N_ELEMENTS(modes); i++) {
            g_autofree char *path = g_strdup_printf("/svq-control-vdpa/bridged/%s-%s",
                                                    kind_names[kind], modes[i].name);

            g_test_add_data_func(path, GINT_TO_POINTER(kind * 4 + modes[i].mode), test_bridged);
        }
    }
}

int main(int argc, char **argv)
{
    static const Kind isolated[] = { SIM, MLX5, FIXED }, suspended[] = { SIM, MLX5, ONE_SPACE };

    mode_test_init(&argc, &argv);
    add_kinds("passthrough", test_passthrough, isolated, G_N_ELEMENTS(isolated));
    g_test_add_func("/svq-control-vdpa/passthrough-unseen", test_passthrough_unseen);
    g_test_add_data_func("/svq-control-vdpa/pause/shadow", GINT_TO_POINTER(SVQ_MODE_SHADOW),
                         test_pause);
    g_test_add_data_func("/svq-control-vdpa/pause/passthrough",
                         GINT_TO_POINTER(SVQ_MODE_PASSTHROUGH), test_pause);
    add_kinds("auto", test_auto, suspended, G_N_ELEMENTS(suspended));
    g_test_add_func("/svq-control-vdpa/switch-fails", test_switch_fails);
    add_bridged();
    return rig_test_run();
}
