/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vDPA device on a model of the kernel: what is called, in which order; how rings start, stop and
 * move; doorbells, features, configuration space.
 */
#include <errno.h>
#include <string.h>

#include "lib/vdpa-world.h"

#define GUEST   VDPA_WORLD_GUEST_MAP
#define ARENA   VDPA_WORLD_ARENA_MAP

#define RING(q, base) \
    "SET_VRING_NUM:" q ":64 SET_VRING_BASE:" q ":" base " SET_VRING_ADDR:" q \
    " SET_VRING_CALL:" q " SET_VRING_KICK:" q

#define FEATURES_CALLS "SET_STATUS:3 GET_STATUS SET_FEATURES "
#define DRIVER_OK_CALLS \
    " SET_CONFIG_CALL SET_VRING_ENABLE:0:1 SET_VRING_ENABLE:1:1 SET_STATUS:f GET_STATUS"
#define STOP_RING(q) \
    "SUSPEND GET_VRING_BASE:" q " SET_VRING_ENABLE:" q ":0 SET_VRING_KICK:" q ":-1 " \
    "SET_VRING_CALL:" q ":-1 RESUME "

static const char both_maps[] = "0:" GUEST " 0:" ARENA;

/* Order. */

static void test_calls_of_a_start(void)
{
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    vdpa_world_assert_calls(&w,
        FEATURES_CALLS
        "BATCH_BEGIN:0 UPDATE:0:" GUEST " UPDATE:0:" ARENA " BATCH_END:0 "
        "SET_STATUS:b GET_STATUS "
        RING("0", "0") " " RING("1", "0") DRIVER_OK_CALLS);
    vdpa_world_echo(&w, 100);
    vdpa_world_assert_calls(&w, "");
    vdpa_world_must_stop(&w);
    vdpa_world_assert_calls(&w, STOP_RING("0") STOP_RING("1") "SET_STATUS:0 GET_STATUS");
    g_assert_cmphex(w.rings[1].base.avail, ==, 100);
    vdpa_world_cleanup(&w);
}

static void test_calls_without_suspend(void)
{
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_pci, VDPA_WORLD_PACKED);
    vdpa_world_must_start(&w);
    vdpa_world_assert_calls(&w,
        FEATURES_CALLS
        "BATCH_BEGIN:0 UPDATE:0:" GUEST " UPDATE:0:" ARENA " BATCH_END:0 "
        "SET_STATUS:b GET_STATUS "
        RING("0", "80008000") " " RING("1", "80008000") DRIVER_OK_CALLS);
    vdpa_world_must_stop(&w);
    vdpa_world_assert_calls(&w,
        "SET_VRING_KICK:0:-1 SET_VRING_KICK:1:-1 SET_STATUS:0 GET_STATUS "
        "SET_VRING_CALL:0:-1 SET_VRING_CALL:1:-1");
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

/* A second start finds all memory mapped, or maps it again. */
static void test_restart(gconstpointer persist)
{
    VdpaModelConfig config = vdpa_model_sim;
    VdpaWorld w;

    if (!persist) {
        config.backend_features &= ~VDPA_B_PERSIST;
    }
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    vdpa_world_echo(&w, 3);
    vdpa_world_must_stop(&w);
    vdpa_world_assert_maps(&w, persist ? both_maps : "");
    g_free(vdpa_model_take_calls(w.model));
    vdpa_world_must_start(&w);
    if (persist) {
        vdpa_world_assert_calls(&w,
            FEATURES_CALLS "SET_STATUS:b GET_STATUS " RING("0", "3") " " RING("1", "3")
            DRIVER_OK_CALLS);
    }
    vdpa_world_assert_maps(&w, both_maps);
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

/* Rings. */

static void stop_ring(VdpaWorld *w, unsigned int q)
{
    g_autoptr(GError) error = NULL;

    w->dev->ops->ring_stop(w->dev, q, &w->rings[q].base, &error);
    g_assert_no_error(error);
}

static void start_ring(VdpaWorld *w, unsigned int q)
{
    g_autoptr(GError) error = NULL;
    VhostRing ring = vdpa_world_ring(w, q);

    w->dev->ops->ring_enable(w->dev, q, true, &error);
    g_assert_no_error(error);
    w->dev->ops->ring_start(w->dev, q, &ring, &error);
    g_assert_no_error(error);
}

/* One ring is stopped and started while the other runs. */
static void test_ring_of_a_running_device(gconstpointer features)
{
    VdpaWorld w;
    unsigned int i;

    vdpa_world_init(&w, &vdpa_model_sim, GPOINTER_TO_SIZE(features));
    vdpa_world_must_start(&w);
    for (i = 0; i < 10; i++) {
        vdpa_world_echo(&w, 11);
        g_free(vdpa_model_take_calls(w.model));
        stop_ring(&w, 1);
        vdpa_world_assert_calls(&w,
            "SUSPEND GET_VRING_BASE:1 SET_VRING_ENABLE:1:0 SET_VRING_KICK:1:-1 "
            "SET_VRING_CALL:1:-1 RESUME");
        vdpa_world_move_ring(&w, 1);
        start_ring(&w, 1);
    }
    vdpa_world_echo(&w, 11);
    vdpa_world_cleanup(&w);
}

/* What is kicked before the ring is enabled may be dropped; so it is kicked once more. */
static void test_late_ring_is_kicked(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    unsigned int kicks;
    VdpaWorld w;

    config.by_hand = true;
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    vdpa_world_add(&w, 0, 1);
    g_assert_cmpuint(vdpa_model_step(w.model), ==, 0);
    stop_ring(&w, 1);
    vdpa_world_add(&w, 1, 1);
    g_assert_cmpuint(vdpa_model_step(w.model), ==, 0);      /* with nobody's descriptor */
    vdpa_world_clear_kick(&w, 1);
    kicks = vdpa_model_ring(w.model, 1).kicks;
    start_ring(&w, 1);
    g_assert_cmpuint(vdpa_model_step(w.model), ==, 1);
    g_assert_cmpuint(vdpa_model_ring(w.model, 1).kicks, ==, kicks + 1);
    vdpa_world_cleanup(&w);
}

/* Some parents keep the size that a ring had; a ring that has not been there may have any. */
static void test_size_of_a_running_device(void)
{
    g_autoptr(GError) error = NULL;
    VhostRing ring;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    stop_ring(&w, 0);
    g_free(vdpa_model_take_calls(w.model));
    ring = vdpa_world_ring(&w, 0);
    ring.num = VDPA_WORLD_NUM / 2;
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, 0, &ring, &error), ==, -EOPNOTSUPP);
    g_assert_nonnull(strstr(error->message, "virtqueue 0 has 64 descriptors, and has 32 after a "
                                            "reset only"));
    vdpa_world_assert_calls(&w, "");
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, 2, &ring, NULL), ==, 0);
    g_assert_cmpuint(vdpa_model_ring(w.model, 2).num, ==, VDPA_WORLD_NUM / 2);
    vdpa_world_must_stop(&w);
    ring.base = (VringBase){ 0 };
    g_assert_cmpint(w.dev->ops->set_features(w.dev, w.features, NULL), ==, 0);
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, 0, &ring, NULL), ==, 0);
    g_assert_cmpuint(vdpa_model_ring(w.model, 0).num, ==, VDPA_WORLD_NUM / 2);
    vdpa_world_cleanup(&w);
}

static void test_ring_that_cannot_be_enabled(void)
{
    VhostRing ring;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    stop_ring(&w, 1);
    ring = vdpa_world_ring(&w, 1);
    g_assert_cmpint(w.dev->ops->ring_enable(w.dev, 1, true, NULL), ==, 0);
    vdpa_model_fail(w.model, "SET_VRING_ENABLE", 1, EIO);
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, 1, &ring, NULL), ==, -EIO);
    g_assert_false(vdpa_model_ring(w.model, 1).has_kick);
    g_assert_false(vdpa_model_ring(w.model, 1).has_call);
    start_ring(&w, 1);
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

/* What does not run stands still, and runs once it is started. */
static void test_suspended_before_the_start(void)
{
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    g_assert_cmpint(w.dev->ops->suspend(w.dev, NULL), ==, 0);
    vdpa_world_must_start(&w);
    vdpa_world_echo(&w, 3);
    g_free(vdpa_model_take_calls(w.model));
    stop_ring(&w, 1);
    vdpa_world_assert_calls(&w,
        "SUSPEND GET_VRING_BASE:1 SET_VRING_ENABLE:1:0 SET_VRING_KICK:1:-1 SET_VRING_CALL:1:-1 "
        "RESUME");
    start_ring(&w, 1);
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

/* Before Linux 6.4 positions of packed rings are cut off: only the start can be. */
static void test_positions_of_16_bits(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    g_autoptr(GError) error = NULL;
    VhostRing ring;
    VdpaWorld w;

    config.short_base = true;
    vdpa_world_init(&w, &config, VDPA_WORLD_PACKED);
    g_assert_true(w.dev->tells_base);
    vdpa_world_must_start(&w);
    g_assert_false(w.dev->tells_base);
    vdpa_world_echo(&w, 3);
    stop_ring(&w, 1);
    vdpa_world_make_ring(&w, 1, true);
    ring = vdpa_world_ring(&w, 1);
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, 1, &ring, &error), ==, -EINVAL);
    g_assert_nonnull(strstr(error->message, "SET_VRING_BASE"));
    w.dev->ops->reset(w.dev, NULL);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

/* All rings move as if at one instant, as from passthrough to shadow, and packets go on. */
static void test_rings_move(gconstpointer features)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;
    unsigned int i, q;

    vdpa_world_init(&w, &vdpa_model_spaces, GPOINTER_TO_SIZE(features));
    vdpa_world_must_start(&w);
    for (i = 0; i < 20; i++) {
        vdpa_world_echo(&w, 7);
        vdpa_world_add(&w, 0, 4);
        g_free(vdpa_model_take_calls(w.model));
        w.dev->ops->suspend(w.dev, &error);
        g_assert_no_error(error);
        for (q = 0; q < 2; q++) {
            stop_ring(&w, q);
            vdpa_world_move_ring(&w, q);
        }
        vdpa_world_assert_calls(&w,
            "SUSPEND "
            "GET_VRING_BASE:0 SET_VRING_ENABLE:0:0 SET_VRING_KICK:0:-1 SET_VRING_CALL:0:-1 "
            "GET_VRING_BASE:1 SET_VRING_ENABLE:1:0 SET_VRING_KICK:1:-1 SET_VRING_CALL:1:-1");
        for (q = 0; q < 2; q++) {
            start_ring(&w, q);
        }
        w.dev->ops->resume(w.dev, &error);
        g_assert_no_error(error);
        vdpa_world_add(&w, 1, 4);
        vdpa_world_kick(&w, 0);
        vdpa_world_collect(&w, 0, 4);
        vdpa_world_collect(&w, 1, 4);
    }
    vdpa_world_cleanup(&w);
}

static void test_fixed_rings_stay(void)
{
    g_autoptr(GError) error = NULL;
    VhostRing ring;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_pci, 0);
    g_assert_true(w.dev->rings_fixed);
    g_assert_false(w.dev->tells_base);
    g_assert_null(w.dev->ops->suspend);
    g_assert_null(w.dev->ops->resume);
    vdpa_world_must_start(&w);
    g_free(vdpa_model_take_calls(w.model));
    ring = vdpa_world_ring(&w, 0);
    g_assert_cmpint(w.dev->ops->ring_stop(w.dev, 0, NULL, &error), ==, -EBUSY);
    g_assert_nonnull(strstr(error->message, "virtqueue 0 cannot be stopped while the device runs"));
    g_clear_error(&error);
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, 2, &ring, &error), ==, -EBUSY);
    g_assert_nonnull(strstr(error->message, "virtqueue 2 cannot be started while the device runs"));
    g_clear_error(&error);
    g_assert_cmpint(w.dev->ops->ring_enable(w.dev, 1, false, &error), ==, -EBUSY);
    vdpa_world_assert_calls(&w, "");
    vdpa_world_echo(&w, 10);
    vdpa_world_cleanup(&w);
}

static void test_only_the_beginning(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_pci, 0);
    vdpa_world_make_ring(&w, 0, true);
    w.rings[0].base = (VringBase){ 5, 5 };
    g_assert_cmpint(vdpa_world_start(&w, &error), ==, -EOPNOTSUPP);
    g_assert_nonnull(strstr(error->message, "virtqueue 0 is to go on at 0x5, but the device takes "
                                            "rings at their beginning only"));
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

static void test_base_is_told(gconstpointer features)
{
    const bool packed = GPOINTER_TO_SIZE(features);
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, GPOINTER_TO_SIZE(features));
    g_assert_true(w.dev->tells_base);
    vdpa_world_must_start(&w);
    vdpa_world_echo(&w, VDPA_WORLD_NUM + 5);
    vdpa_world_add(&w, 0, 3);
    vdpa_world_must_stop(&w);
    g_assert_cmphex(w.rings[0].base.avail, ==, packed ? 5 : VDPA_WORLD_NUM + 5);
    g_assert_cmphex(w.rings[1].base.avail, ==, packed ? 5 : VDPA_WORLD_NUM + 5);
    if (packed) {
        g_assert_cmphex(w.rings[0].base.used, ==, 5);
    }
    vdpa_world_must_start(&w);
    vdpa_world_add(&w, 1, 3);
    vdpa_world_collect(&w, 0, 3);
    vdpa_world_collect(&w, 1, 3);
    vdpa_world_cleanup(&w);
}

static void test_nobody_listens(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    w.dev->ops->ring_set_fd(w.dev, 0, VHOST_RING_CALL, -1, &error);
    g_assert_no_error(error);
    w.dev->ops->ring_set_fd(w.dev, 0, VHOST_RING_KICK, w.rings[1].kick, &error);
    g_assert_no_error(error);
    vdpa_world_add(&w, 1, 1);
    vdpa_world_kick(&w, 1);
    /* A parent that makes interrupts for rings that have a descriptor would leave it out. */
    g_assert_true(vdpa_model_ring(w.model, 0).has_call);
    w.dev->ops->ring_set_fd(w.dev, 0, VHOST_RING_CALL, w.rings[0].call, &error);
    w.dev->ops->ring_set_fd(w.dev, 0, VHOST_RING_KICK, w.rings[0].kick, &error);
    g_assert_no_error(error);
    vdpa_world_add(&w, 0, 1);
    vdpa_world_collect(&w, 0, 1);
    vdpa_world_collect(&w, 1, 1);
    vdpa_world_cleanup(&w);
}

static void test_virtqueues_that_are_not_there(void)
{
    g_autoptr(GError) error = NULL;
    VhostRing ring;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    ring = vdpa_world_ring(&w, 0);
    g_assert_cmpint(w.dev->ops->ring_start(w.dev, 4, &ring, &error), ==, -EINVAL);
    g_assert_nonnull(strstr(error->message, "no virtqueue 4"));
    g_assert_null(w.dev->ops->ring_doorbell(w.dev, 4));
    g_assert_cmpuint(w.dev->ops->ring_max_num(w.dev, 4), ==, 0);
    g_assert_cmpuint(w.dev->ops->ring_max_num(w.dev, 3), ==, 256);
    vdpa_world_cleanup(&w);
}

/* Doorbells. */

static void test_doorbells(void)
{
    VdpaWorld w;
    void *bell;

    vdpa_world_init(&w, &vdpa_model_pci, VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX));
    vdpa_world_must_start(&w);
    bell = w.rings[1].bell = w.dev->ops->ring_doorbell(w.dev, 1);
    g_assert_nonnull(bell);
    g_assert_true(w.dev->ops->ring_doorbell(w.dev, 1) == bell);
    vdpa_world_echo(&w, 20);
    g_assert_cmpuint(vdpa_model_ring(w.model, 1).kicks, ==, vdpa_model_ring(w.model, 1).rung);
    g_assert_cmpuint(vdpa_model_ring(w.model, 1).rung, >, 0);
    g_assert_cmphex(vdpa_model_ring(w.model, 1).last_rung, ==, 0xffff0001);
    /* With other features they may be elsewhere. */
    vdpa_world_must_stop(&w);
    g_free(vdpa_model_take_calls(w.model));
    w.rings[1].bell = w.dev->ops->ring_doorbell(w.dev, 1);
    vdpa_world_assert_calls(&w, "mmap:1");
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

static void test_notification_data(gconstpointer doorbells)
{
    VdpaModelConfig config = vdpa_model_pci;
    VdpaWorld w;

    config.features |= VIRTIO_F_BIT(VIRTIO_F_NOTIFICATION_DATA);
    config.doorbells = doorbells;
    vdpa_world_init(&w, &config, 0);
    g_assert_cmpint(!!(w.dev->features & VIRTIO_F_BIT(VIRTIO_F_NOTIFICATION_DATA)), ==,
                    !!doorbells);
    g_assert_cmpint(w.dev->ops->ring_doorbell(w.dev, 0) != NULL, ==, !!doorbells);
    vdpa_world_cleanup(&w);
}

/* The kernel kicks without data. */
static void test_notification_data_without_a_page(void)
{
    VdpaModelConfig config = vdpa_model_pci;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    config.features |= VIRTIO_F_BIT(VIRTIO_F_NOTIFICATION_DATA);
    vdpa_world_init(&w, &config, VIRTIO_F_BIT(VIRTIO_F_NOTIFICATION_DATA));
    vdpa_model_fail(w.model, "mmap:1", 1, ENOMEM);
    g_assert_cmpint(vdpa_world_start(&w, &error), ==, -EOPNOTSUPP);
    g_assert_nonnull(strstr(error->message, "virtqueue 1 has no doorbell, which"));
    vdpa_world_must_start(&w);
    vdpa_world_cleanup(&w);
}

/* Features. */

static void test_platform_features(void)
{
    const uint64_t access = VIRTIO_F_BIT(VIRTIO_F_ACCESS_PLATFORM), order = VIRTIO_F_BIT(36);
    VdpaModelConfig config = vdpa_model_sim;
    VdpaWorld w;

    config.features |= order;
    vdpa_world_init(&w, &config, 0);
    g_assert_cmphex(w.dev->features, ==, config.features & ~(access | order));
    vdpa_world_must_start(&w);
    g_assert_cmphex(vdpa_model_driver_features(w.model) & (access | order), ==, access | order);
    vdpa_world_must_stop(&w);
    vdpa_world_cleanup(&w);
}

static void test_features_are_refused(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    config.refused = VDPA_WORLD_PACKED;
    vdpa_world_init(&w, &config, VDPA_WORLD_PACKED);
    g_assert_cmpint(vdpa_world_start(&w, &error), ==, -EINVAL);
    g_assert_nonnull(strstr(error->message, "does not take features 0x700000000 together"));
    w.features &= ~VDPA_WORLD_PACKED;
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

static void test_features_that_are_not_offered(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    g_assert_cmpint(w.dev->ops->set_features(w.dev, w.features | VIRTIO_F_BIT(60), &error), ==,
                    -EINVAL);
    vdpa_world_assert_calls(&w, "");
    vdpa_world_cleanup(&w);
}

/* Configuration space. */

static void test_config(void)
{
    g_autoptr(GError) error = NULL;
    const uint8_t mac[6] = { 2, 4, 6, 8, 10, 12 };
    uint8_t data[16];
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    g_assert_true(w.dev->has_config);
    g_assert_cmpint(w.dev->ops->get_config(w.dev, data, 0, 12, &error), ==, 0);
    g_assert_cmpmem(data, 12, vdpa_model_sim.config, 12);
    g_assert_cmpint(w.dev->ops->get_config(w.dev, data, 8, 2, &error), ==, 0);
    g_assert_cmpuint(data[0], ==, 2);
    g_assert_cmpint(w.dev->ops->set_config(w.dev, mac, 0, 6, &error), ==, 0);
    vdpa_model_get_config(w.model, 0, data, 6);
    g_assert_cmpmem(data, 6, mac, 6);

    g_assert_cmpint(w.dev->ops->get_config(w.dev, data, 8, 5, &error), ==, -EINVAL);
    g_clear_error(&error);
    g_assert_cmpint(w.dev->ops->get_config(w.dev, data, UINT32_MAX, 2, &error), ==, -EINVAL);
    g_clear_error(&error);
    g_assert_cmpint(w.dev->ops->set_config(w.dev, mac, 12, 1, &error), ==, -EINVAL);
    vdpa_world_cleanup(&w);
}

static void test_config_interrupt(void)
{
    g_autofree char *text = NULL;
    const uint8_t down[2] = { 0, 0 };
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    g_free(vdpa_world_take_words());
    vdpa_model_set_config(w.model, 6, down, sizeof(down));
    vdpa_world_await(&w.changed, 1);
    vdpa_model_need_reset(w.model);
    vdpa_world_await(&w.changed, 2);
    text = vdpa_world_take_words();
    g_assert_cmpstr(text, ==, "vdpa0: the device says that it needs a reset\n");
    vdpa_world_cleanup(&w);
}

static void test_no_config(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    g_autoptr(GError) error = NULL;
    uint8_t byte;
    VdpaWorld w;

    config.config_size = 0;
    vdpa_world_init(&w, &config, 0);
    g_assert_false(w.dev->has_config);
    g_assert_cmpint(w.dev->ops->get_config(w.dev, &byte, 0, 1, &error), ==, -ENOTSUP);
    vdpa_world_cleanup(&w);
}

static void add_formats(const char *name, GTestDataFunc test)
{
    g_autofree char *split = g_strdup_printf("%s/split", name);
    g_autofree char *packed = g_strdup_printf("%s/packed", name);

    g_test_add_data_func(split, NULL, test);
    g_test_add_data_func(packed, GSIZE_TO_POINTER(VDPA_WORLD_PACKED), test);
}

static void add_with_and_without(const char *name, GTestDataFunc test)
{
    g_autofree char *with = g_strdup_printf("%s/with", name);
    g_autofree char *without = g_strdup_printf("%s/without", name);

    g_test_add_data_func(with, GINT_TO_POINTER(true), test);
    g_test_add_data_func(without, NULL, test);
}

int main(int argc, char **argv)
{
    vdpa_world_test_init(&argc, &argv);
    g_test_add_func("/vhost-vdpa/start/calls", test_calls_of_a_start);
    g_test_add_func("/vhost-vdpa/start/calls-without-suspend", test_calls_without_suspend);
    add_with_and_without("/vhost-vdpa/restart/persistent-maps", test_restart);
    add_formats("/vhost-vdpa/rings/of-a-running-device", test_ring_of_a_running_device);
    add_formats("/vhost-vdpa/rings/move", test_rings_move);
    g_test_add_func("/vhost-vdpa/rings/late-ring-is-kicked", test_late_ring_is_kicked);
    g_test_add_func("/vhost-vdpa/rings/size-of-a-running-device", test_size_of_a_running_device);
    g_test_add_func("/vhost-vdpa/rings/cannot-be-enabled", test_ring_that_cannot_be_enabled);
    g_test_add_func("/vhost-vdpa/rings/suspended-before-the-start",
                    test_suspended_before_the_start);
    g_test_add_func("/vhost-vdpa/rings/positions-of-16-bits", test_positions_of_16_bits);
    add_formats("/vhost-vdpa/rings/base-is-told", test_base_is_told);
    g_test_add_func("/vhost-vdpa/rings/fixed", test_fixed_rings_stay);
    g_test_add_func("/vhost-vdpa/rings/only-the-beginning", test_only_the_beginning);
    g_test_add_func("/vhost-vdpa/rings/nobody-listens", test_nobody_listens);
    g_test_add_func("/vhost-vdpa/rings/not-there", test_virtqueues_that_are_not_there);
    g_test_add_func("/vhost-vdpa/doorbells", test_doorbells);
    add_with_and_without("/vhost-vdpa/notification-data/doorbells", test_notification_data);
    g_test_add_func("/vhost-vdpa/notification-data/without-a-page",
                    test_notification_data_without_a_page);
    g_test_add_func("/vhost-vdpa/features/platform", test_platform_features);
    g_test_add_func("/vhost-vdpa/features/refused", test_features_are_refused);
    g_test_add_func("/vhost-vdpa/features/not-offered", test_features_that_are_not_offered);
    g_test_add_func("/vhost-vdpa/config/read-and-write", test_config);
    g_test_add_func("/vhost-vdpa/config/interrupt", test_config_interrupt);
    g_test_add_func("/vhost-vdpa/config/none", test_no_config);
    return g_test_run();
}
