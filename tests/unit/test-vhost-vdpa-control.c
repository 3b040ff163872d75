/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue of a vDPA device on a model of the kernel: isolated, it and the guest's memory
 * cannot reach each other; where it cannot be isolated it works all the same.
 */
#include <errno.h>
#include <string.h>

#include "lib/vdpa-world.h"
#include "lib/vhost-user-peer.h"

#define GUEST   VDPA_WORLD_GUEST_MAP
#define ARENA   VDPA_WORLD_ARENA_MAP
#define CONTROL VDPA_WORLD_CONTROL_MAP
#define CTRL    VDPA_WORLD_CTRL

/* Where nothing of the world lies, in each of its regions. */
#define EMPTY   0x1f0000

static const char together[] = "0:" GUEST " 0:" ARENA " 0:" CONTROL;
static const char isolated[] = "0:" GUEST " 0:" ARENA " 1:" CONTROL;

static void assert_spaces(VdpaWorld *w, unsigned int q, uint32_t asid, uint32_t desc_asid)
{
    const VdpaModelRing ring = vdpa_model_ring(w->model, q);

    g_assert_cmpuint(ring.asid, ==, asid);
    g_assert_cmpuint(ring.desc_asid, ==, desc_asid);
}

static void start_isolated(VdpaWorld *w)
{
    w->isolate = true;
    vdpa_world_must_start(w);
    g_assert_true(w->isolated);
}

static void traffic(VdpaWorld *w)
{
    vdpa_world_command(w, 3);
    vdpa_world_echo(w, 3);
}

static void test_is_isolated(gconstpointer features)
{
    g_autofree char *calls = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim_ctrl, GPOINTER_TO_SIZE(features));
    start_isolated(&w);
    calls = vdpa_model_take_calls(w.model);
    g_assert_nonnull(strstr(calls, "SET_GROUP_ASID:1:1 BATCH_BEGIN:1 UPDATE:1:" CONTROL
                                   " BATCH_END:1 BATCH_BEGIN:0 "));
    g_assert_null(strstr(strstr(calls, "SET_STATUS:f"), "ASID"));
    vdpa_world_assert_maps(&w, isolated);
    assert_spaces(&w, 0, 0, 0);
    assert_spaces(&w, 1, 0, 0);
    assert_spaces(&w, CTRL, 1, 1);
    vdpa_world_command(&w, 3 * VDPA_WORLD_NUM);
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

static void await_complaint(VdpaWorld *w, const char *text)
{
    const int64_t end_us = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
    g_autoptr(GString) were = g_string_new(NULL);

    while (!strstr(were->str, text)) {
        g_autofree char *more = vdpa_model_take_complaints(w->model);

        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_string_append(were, more);
        g_usleep(1000);
    }
}

/* Whatever a command names: the guest's memory is not there. */
static void test_guest_memory_is_out_of_reach(gconstpointer model)
{
    VdpaWorld w;

    vdpa_world_init(&w, model, 0);
    start_isolated(&w);
    traffic(&w);
    vdpa_world_add_command(&w, w.guest, "", 1);
    await_complaint(&w, "queue 2: command at 0x10183000+0x1 is not mapped in space 1\n");
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

/* Whatever a guest's buffer names: neither ring nor commands are there. */
static void test_control_is_out_of_reach(gconstpointer model)
{
    VringSegment seg = { VDPA_WORLD_CONTROL, 200, 0 };
    VdpaWorld w;

    vdpa_world_init(&w, model, 0);
    start_isolated(&w);
    traffic(&w);
    vring_driver_add(&w.rings[1].driver, w.rings[1].config.packed, &seg, 1, 0);
    vring_driver_publish(&w.rings[1].driver, w.rings[1].config.packed);
    vdpa_world_add(&w, 0, 1);
    vdpa_world_kick(&w, 1);
    await_complaint(&w, "queue 1: buffer at 0x3000000000+0xc8 is not mapped in space 0\n");
    vdpa_world_command(&w, 3);
    vdpa_world_cleanup(&w);
}

/* Two spaces for three: our rings and the control queue share the second. */
static void test_rings_are_apart_too(void)
{
    VdpaWorld w;
    unsigned int q;

    vdpa_world_init(&w, &vdpa_model_mlx5, 0);
    g_assert_true(w.dev->rings_apart);
    start_isolated(&w);
    vdpa_world_assert_maps(&w, "0:" GUEST " 1:" ARENA " 1:" CONTROL);
    for (q = 0; q < 2; q++) {
        assert_spaces(&w, q, 0, 1);
    }
    assert_spaces(&w, CTRL, 1, 1);
    traffic(&w);

    /* Rings of the guest are among its memory, and the control queue stays where it is. */
    vdpa_world_must_stop(&w);
    vdpa_world_move_ring(&w, 0);
    vdpa_world_move_ring(&w, 1);
    start_isolated(&w);
    vdpa_world_assert_maps(&w, "0:" GUEST " 1:" ARENA " 1:" CONTROL);
    for (q = 0; q < 2; q++) {
        assert_spaces(&w, q, 0, 0);
    }
    assert_spaces(&w, CTRL, 1, 1);
    traffic(&w);
    vdpa_world_cleanup(&w);
}

/* Data queues begin to pass through, or end to, beside a control queue that runs on. */
static void test_data_rings_move(void)
{
    g_autoptr(GError) error = NULL;
    unsigned int q;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_mlx5, 0);
    start_isolated(&w);
    traffic(&w);
    w.dev->ops->suspend(w.dev, &error);
    for (q = 0; q < 2; q++) {
        w.dev->ops->ring_stop(w.dev, q, &w.rings[q].base, &error);
        g_assert_no_error(error);
    }
    g_free(vdpa_model_take_calls(w.model));
    for (q = 0; q < 2; q++) {
        VhostRing ring;

        vdpa_world_move_ring(&w, q);
        ring = vdpa_world_ring(&w, q);
        w.dev->ops->ring_enable(w.dev, q, true, &error);
        w.dev->ops->ring_start(w.dev, q, &ring, &error);
        g_assert_no_error(error);
        assert_spaces(&w, q, 0, 0);
    }
    w.dev->ops->resume(w.dev, &error);
    g_assert_no_error(error);
    assert_spaces(&w, CTRL, 1, 1);
    vdpa_world_assert_maps(&w, "0:" GUEST " 1:" ARENA " 1:" CONTROL);
    traffic(&w);
    vdpa_world_cleanup(&w);
}

/* Its descriptor group is one more, and follows. */
static VdpaModelConfig with_a_group_for_its_ring(void)
{
    VdpaModelConfig config = vdpa_model_mlx5;

    config.desc_group[0] = config.desc_group[1] = 0;
    config.desc_group[CTRL] = 2;
    return config;
}

static void test_ring_follows(void)
{
    const VdpaModelConfig config = with_a_group_for_its_ring();
    VdpaWorld w;

    vdpa_world_init(&w, &config, 0);
    start_isolated(&w);
    vdpa_world_assert_maps(&w, "0:" GUEST " 0:" ARENA " 1:" ARENA " 1:" CONTROL);
    assert_spaces(&w, 0, 0, 0);
    assert_spaces(&w, CTRL, 1, 1);
    traffic(&w);
    vdpa_world_cleanup(&w);
}

/* It, and what is mapped where, lasts until the reset. */
static void test_lasts_until_the_reset(gconstpointer persist)
{
    VdpaModelConfig config = vdpa_model_sim_ctrl;
    VdpaWorld w;

    if (!persist) {
        config.backend_features &= ~VDPA_B_PERSIST;
    }
    vdpa_world_init(&w, &config, 0);
    start_isolated(&w);
    vdpa_world_must_stop(&w);
    vdpa_world_assert_maps(&w, persist ? isolated : "");

    w.isolate = false;
    vdpa_world_must_start(&w);
    vdpa_world_assert_maps(&w, together);
    assert_spaces(&w, CTRL, 0, 0);
    traffic(&w);
    vdpa_world_must_stop(&w);
    g_free(vdpa_model_take_calls(w.model));

    start_isolated(&w);
    vdpa_world_assert_maps(&w, isolated);
    assert_spaces(&w, CTRL, 1, 1);
    if (persist) {
        g_autofree char *calls = vdpa_model_take_calls(w.model);

        g_assert_nonnull(strstr(calls, "BATCH_BEGIN:1 UPDATE:1:" CONTROL " BATCH_END:1 "
                                       "BATCH_BEGIN:0 INVALIDATE:0:" CONTROL " BATCH_END:0 SET_"));
    }
    traffic(&w);
    vdpa_world_cleanup(&w);
}

/* The guest's memory changes; what is ours is not touched. */
static void test_memory_changes(void)
{
    g_autoptr(GError) error = NULL;
    MemoryRegion *more;
    MemoryMap *map;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim_ctrl, 0);
    start_isolated(&w);
    g_free(vdpa_model_take_calls(w.model));
    more = memory_region_new(peer_memfd(0x3000), 0x1000, 0x40001000, 0x2000, 0, NULL);
    map = memory_map_new((MemoryRegion *[]){ w.guest, w.arena, w.control, more }, 4, NULL);
    w.dev->ops->set_memory(w.dev, map, &error);
    g_assert_no_error(error);
    vdpa_world_assert_calls(&w, "BATCH_BEGIN:0 UPDATE:0:40001000+2000 BATCH_END:0");
    vdpa_world_assert_maps(&w, "0:" GUEST " 0:40001000+2000 0:" ARENA " 1:" CONTROL);
    traffic(&w);
    memory_map_free(map);
    memory_region_unref(more);
    vdpa_world_cleanup(&w);
}

/* Why it cannot be. */

typedef struct Obstacle {
    const char *name;
    void (*put)(VdpaModelConfig *config);
    const char *maps;           /* that there are then */
    const char *fails;          /* a call that does, or NULL */
    uint32_t desc_asid;         /* of its ring */
} Obstacle;

static void one_space(VdpaModelConfig *config)
{
    config->n_spaces = 1;
}

static void no_groups(VdpaModelConfig *config)
{
    config->n_groups = 0;
}

static void no_asid(VdpaModelConfig *config)
{
    config->backend_features &= ~VDPA_B_ASID;
}

static void one_group(VdpaModelConfig *config)
{
    config->group[CTRL] = 0;
}

static void group_beyond_the_virtqueues(VdpaModelConfig *config)
{
    config->n_groups = 4;
    config->group[CTRL] = 3;
}

/* The rings have groups of their own, but the commands share that of the guest's buffers. */
static void commands_among_buffers(VdpaModelConfig *config)
{
    *config = vdpa_model_mlx5;
    config->group[CTRL] = 0;
    config->desc_group[0] = config->desc_group[1] = 1;
    config->desc_group[CTRL] = 2;
}

static void ring_among_buffers(VdpaModelConfig *config)
{
    *config = vdpa_model_mlx5;
    config->desc_group[CTRL] = 0;
}

static void ring_among_rings(VdpaModelConfig *config)
{
    *config = vdpa_model_mlx5;
    config->desc_group[CTRL] = 2;
}

static void rings_among_commands(VdpaModelConfig *config)
{
    *config = with_a_group_for_its_ring();
    config->desc_group[0] = 1;
}

static void ring_has_a_group(VdpaModelConfig *config)
{
    *config = with_a_group_for_its_ring();
}

static void nothing(VdpaModelConfig *config)
{
}

static const char both[] = "0:" GUEST " 0:" ARENA " 0:" CONTROL " 1:" ARENA " 1:" CONTROL;

static const char apart[] = "0:" GUEST " 0:" CONTROL " 1:" ARENA " 1:" CONTROL;

static const Obstacle obstacles[] = {
    { "one-space", one_space, together, NULL, 0 },
    { "no-groups", no_groups, together, NULL, 0 },
    { "no-asid", no_asid, together, NULL, 0 },
    { "one-group", one_group, together, NULL, 0 },
    { "group-beyond-the-virtqueues", group_beyond_the_virtqueues, together, NULL, 0 },
    { "commands-among-buffers", commands_among_buffers, apart, NULL, 1 },
    { "ring-among-buffers", ring_among_buffers, both, NULL, 0 },
    { "ring-among-rings", ring_among_rings, apart, NULL, 1 },
    { "rings-among-commands", rings_among_commands, both, NULL, 1 },
    { "group-is-not-told", nothing, together, "GET_VRING_GROUP:2", 0 },
    { "group-of-another-is-not-told", nothing, together, "GET_VRING_GROUP:0", 0 },
    { "group-cannot-be-put", nothing, together, "SET_GROUP_ASID:1:1", 0 },
    { "group-of-its-ring-is-not-told", ring_has_a_group, both, "GET_VRING_DESC_GROUP:2", 0 },
    { "group-of-its-ring-cannot-be-put", ring_has_a_group, both, "SET_GROUP_ASID:2:1", 1 },
    { "second-group-cannot-be-put", ring_has_a_group, both, "SET_GROUP_ASID:1:1", 1 },
};

static void test_cannot_be_isolated(gconstpointer data)
{
    const Obstacle *obstacle = data;
    g_autofree char *calls = NULL;
    VdpaModelConfig config = vdpa_model_sim_ctrl;
    VdpaWorld w;

    obstacle->put(&config);
    vdpa_world_init(&w, &config, 0);
    if (obstacle->fails) {
        vdpa_model_fail(w.model, obstacle->fails, 1, EIO);
    }
    w.isolate = true;
    vdpa_world_must_start(&w);
    g_assert_false(w.isolated);
    calls = vdpa_model_take_calls(w.model);
    g_assert_null(strstr(calls, "SET_GROUP_ASID:3"));   /* the kernel takes no such number */
    vdpa_world_assert_maps(&w, obstacle->maps);
    assert_spaces(&w, CTRL, 0, obstacle->desc_asid);
    traffic(&w);
    vdpa_world_cleanup(&w);
}

static void test_not_now(void)
{
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim_ctrl, 0);
    g_assert_false(w.dev->ops->ring_isolate(w.dev, CTRL));
    vdpa_world_must_start(&w);
    g_free(vdpa_model_take_calls(w.model));
    g_assert_false(w.dev->ops->ring_isolate(w.dev, CTRL));
    g_assert_false(w.dev->ops->ring_isolate(w.dev, 3));
    vdpa_model_vanish(w.model);
    vdpa_world_await(&w.gone, 1);
    g_free(vdpa_model_take_calls(w.model));
    g_assert_false(w.dev->ops->ring_isolate(w.dev, CTRL));
    vdpa_world_assert_calls(&w, "");
    vdpa_world_cleanup(&w);
}

/* Its ring is not where it is looked for: that is said, and the device goes on without. */
static void test_ring_lies_elsewhere(gconstpointer model)
{
    g_autoptr(GError) error = NULL;
    VhostRing ring;
    VdpaWorld w;

    vdpa_world_init(&w, model, 0);
    start_isolated(&w);
    w.dev->ops->ring_stop(w.dev, CTRL, NULL, &error);
    g_assert_no_error(error);
    ring = vdpa_world_ring(&w, CTRL);
    ring.desc_iova = VDPA_WORLD_GUEST + EMPTY;
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, CTRL, &ring, &error), ==, -EINVAL);
    g_assert_cmpstr(error->message, ==,
                    "vdpa0: virtqueue 2 is isolated, and its ring lies elsewhere");
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

/* The control queue begins before the data queues, which will pass through. */
static void test_data_rings_come_later(void)
{
    VdpaModelConfig config = vdpa_model_mlx5;
    g_autoptr(GError) error = NULL;
    unsigned int q;
    VhostRing ring;
    VdpaWorld w;

    config.asid_fixed = true;
    vdpa_world_init(&w, &config, 0);
    w.dev->ops->set_features(w.dev, w.features, &error);
    g_assert_true(w.dev->ops->ring_isolate(w.dev, CTRL));
    w.dev->ops->set_memory(w.dev, w.map, &error);
    w.dev->ops->set_status(w.dev, 0xb, &error);
    for (q = CTRL; q < 3; q--) {
        vdpa_world_make_ring(&w, q, false);
        ring = vdpa_world_ring(&w, q);
        w.dev->ops->ring_enable(w.dev, q, true, &error);
        w.dev->ops->ring_start(w.dev, q, &ring, &error);
        if (q == CTRL) {
            w.dev->ops->set_status(w.dev, 0xf, &error);
            vdpa_world_command(&w, 3);
        }
        g_assert_no_error(error);
    }
    traffic(&w);
    vdpa_world_cleanup(&w);
}

/* The reset comes while the device has commands; none is answered after it. */
static void test_reset_in_the_middle(void)
{
    const uint8_t promisc_on[] = { 0, 0, 1 };
    CtrlDevice *ctrl;
    CtrlDeviceStats stats;
    VdpaWorld w;
    unsigned int i;

    vdpa_world_init(&w, &vdpa_model_sim_ctrl, 0);
    ctrl = vdpa_model_ctrl(w.model);
    start_isolated(&w);
    ctrl_device_set(ctrl, &(CtrlDeviceKnobs){ .never = true });
    for (i = 0; i < 3; i++) {
        vdpa_world_add_command(&w, w.control, promisc_on, sizeof(promisc_on));
    }
    while (ctrl_device_get_stats(ctrl).waiting < 3) {
        g_thread_yield();
    }
    g_assert_cmpint(w.dev->ops->reset(w.dev, NULL), ==, 0);
    ctrl_device_set(ctrl, &(CtrlDeviceKnobs){ 0 });
    vdpa_world_make_ring(&w, CTRL, false);
    vdpa_world_start_anew(&w);
    g_assert_true(w.isolated);
    vdpa_world_command(&w, 3);
    stats = ctrl_device_get_stats(ctrl);
    g_assert_cmpuint(stats.taken, ==, 6);
    g_assert_cmpuint(stats.answered, ==, 3);
    g_assert_cmpuint(stats.forgotten, ==, 3);
    vdpa_world_cleanup(&w);
}

static void add_models(const char *name, GTestDataFunc test)
{
    g_autofree char *sim = g_strdup_printf("%s/sim", name);
    g_autofree char *mlx5 = g_strdup_printf("%s/mlx5", name);

    g_test_add_data_func(sim, &vdpa_model_sim_ctrl, test);
    g_test_add_data_func(mlx5, &vdpa_model_mlx5, test);
}

int main(int argc, char **argv)
{
    unsigned int i;

    vdpa_world_test_init(&argc, &argv);
    g_test_add_data_func("/vhost-vdpa-control/is-isolated/split", NULL, test_is_isolated);
    g_test_add_data_func("/vhost-vdpa-control/is-isolated/packed",
                         GSIZE_TO_POINTER(VDPA_WORLD_PACKED), test_is_isolated);
    add_models("/vhost-vdpa-control/guest-memory-is-out-of-reach",
               test_guest_memory_is_out_of_reach);
    add_models("/vhost-vdpa-control/is-out-of-the-guest-s-reach", test_control_is_out_of_reach);
    g_test_add_func("/vhost-vdpa-control/rings-are-apart-too", test_rings_are_apart_too);
    g_test_add_func("/vhost-vdpa-control/data-rings-move", test_data_rings_move);
    g_test_add_func("/vhost-vdpa-control/data-rings-come-later", test_data_rings_come_later);
    g_test_add_func("/vhost-vdpa-control/ring-follows", test_ring_follows);
    g_test_add_data_func("/vhost-vdpa-control/lasts-until-the-reset/persistent-maps",
                         GINT_TO_POINTER(true), test_lasts_until_the_reset);
    g_test_add_data_func("/vhost-vdpa-control/lasts-until-the-reset/lost-maps", NULL,
                         test_lasts_until_the_reset);
    g_test_add_func("/vhost-vdpa-control/memory-changes", test_memory_changes);
    for (i = 0; i < G_N_ELEMENTS(obstacles); i++) {
        g_autofree char *path = g_strdup_printf("/vhost-vdpa-control/cannot-be-isolated/%s",
                                                obstacles[i].name);

        g_test_add_data_func(path, &obstacles[i], test_cannot_be_isolated);
    }
    g_test_add_func("/vhost-vdpa-control/not-now", test_not_now);
    add_models("/vhost-vdpa-control/ring-lies-elsewhere", test_ring_lies_elsewhere);
    g_test_add_func("/vhost-vdpa-control/reset-in-the-middle", test_reset_in_the_middle);
    return g_test_run();
}
