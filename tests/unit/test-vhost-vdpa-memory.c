/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a vDPA device on a model of the kernel: only what differs is mapped, in batches,
 * and rings lie in a space of their own where there is one.
 */
#include <errno.h>
#include <string.h>

#include "lib/vdpa-world.h"
#include "lib/vhost-user-peer.h"
#include "util/event-notifier.h"

#define GUEST   VDPA_WORLD_GUEST_MAP
#define ARENA   VDPA_WORLD_ARENA_MAP

/* From ring 0 to where none was. */
#define EMPTY_RING 0x20000

static const char both_maps[] = "0:" GUEST " 0:" ARENA;

static void set_memory(VdpaWorld *w, MemoryRegion *const *regions, unsigned int n)
{
    g_autoptr(GError) error = NULL;
    MemoryMap *map = memory_map_new(regions, n, &error);

    g_assert_no_error(error);
    w->dev->ops->set_memory(w->dev, map, &error);
    g_assert_no_error(error);
    memory_map_free(map);
}

static void test_memory_difference(gconstpointer batch)
{
    VdpaModelConfig config = vdpa_model_sim;
    MemoryRegion *more;
    VdpaWorld w;

    if (!batch) {
        config.backend_features &= ~VDPA_B_BATCH;
    }
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    g_free(vdpa_model_take_calls(w.model));
    more = memory_region_new(peer_memfd(0x3000), 0x1000, 0x40001000, 0x2000, 0, NULL);

    set_memory(&w, (MemoryRegion *[]){ w.guest, w.arena, more }, 3);
    vdpa_world_assert_calls(&w, batch ? "BATCH_BEGIN:0 UPDATE:0:40001000+2000 BATCH_END:0"
                                      : "UPDATE:0:40001000+2000");
    set_memory(&w, (MemoryRegion *[]){ more, w.arena, w.guest }, 3);
    vdpa_world_assert_calls(&w, "");
    vdpa_world_echo(&w, 3);
    set_memory(&w, (MemoryRegion *[]){ w.guest, w.arena }, 2);
    vdpa_world_assert_calls(&w, batch ? "BATCH_BEGIN:0 INVALIDATE:0:40001000+2000 BATCH_END:0"
                                      : "INVALIDATE:0:40001000+2000");
    vdpa_world_assert_maps(&w, both_maps);
    vdpa_world_echo(&w, 3);
    memory_region_unref(more);
    vdpa_world_cleanup(&w);
}

/* The same addresses, another file: the device must not go on with the old pages. */
static void test_memory_is_replaced(void)
{
    MemoryRegion *another, *old;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    vdpa_world_echo(&w, 3);
    g_free(vdpa_model_take_calls(w.model));
    another = memory_region_new(peer_memfd(VDPA_WORLD_SIZE), 0, VDPA_WORLD_GUEST, VDPA_WORLD_SIZE,
                                VDPA_WORLD_GUEST, NULL);
    set_memory(&w, (MemoryRegion *[]){ another, w.arena }, 2);
    vdpa_world_assert_calls(&w,
        "BATCH_BEGIN:0 INVALIDATE:0:" GUEST " UPDATE:0:" GUEST " BATCH_END:0");
    old = w.guest;
    w.guest = another;
    vdpa_world_echo(&w, 3);
    w.guest = old;
    w.dev->ops->reset(w.dev, NULL);
    set_memory(&w, (MemoryRegion *[]){ w.guest, w.arena }, 2);
    rcu_barrier();      /* ThreadSanitizer sees no reference counts: the last one is ours */
    memory_region_unref(another);
    vdpa_world_cleanup(&w);
}

static void test_memory_out_of_reach(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    config.iova_first = 0x1000;
    config.iova_last = VDPA_WORLD_ARENA + VDPA_WORLD_SIZE - 2;
    vdpa_world_init(&w, &config, 0);
    g_assert_cmphex(w.dev->iova_first, ==, config.iova_first);
    g_assert_cmphex(w.dev->iova_last, ==, config.iova_last);
    g_assert_cmpint(w.dev->ops->set_memory(w.dev, w.map, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "0x2000000000-0x20001fffff is out of its reach, "
                                            "0x1000-0x20001ffffe"));
    vdpa_world_assert_calls(&w, "");
    vdpa_world_cleanup(&w);
}

/* How often groups were put into a space since last asked. */
static unsigned int count_group_moves(VdpaWorld *w)
{
    g_autofree char *calls = vdpa_model_take_calls(w->model);
    g_auto(GStrv) parts = g_strsplit(calls, "SET_GROUP_ASID:", -1);

    return g_strv_length(parts) - 1;
}

static void test_rings_in_a_space_of_their_own(void)
{
    VdpaModelRing ring;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_spaces, 0);
    g_assert_true(w.dev->rings_apart);
    vdpa_world_must_start(&w);
    vdpa_world_assert_maps(&w, "0:" GUEST " 1:" ARENA);
    ring = vdpa_model_ring(w.model, 1);
    g_assert_cmpuint(ring.asid, ==, 0);
    g_assert_cmpuint(ring.desc_asid, ==, 1);
    g_assert_cmpuint(count_group_moves(&w), ==, 1);
    vdpa_world_echo(&w, 10);

    /* The other place, the other space: both rings of the group at once. */
    vdpa_world_must_stop(&w);
    vdpa_world_move_ring(&w, 0);
    vdpa_world_move_ring(&w, 1);
    vdpa_world_must_start(&w);
    g_assert_cmpuint(vdpa_model_ring(w.model, 0).desc_asid, ==, 0);
    g_assert_cmpuint(count_group_moves(&w), ==, 1);
    vdpa_world_assert_maps(&w, "0:" GUEST " 1:" ARENA);
    vdpa_world_echo(&w, 10);
    vdpa_world_cleanup(&w);
}

/* Rings of the two share a group with buffers: then ours must lie among the guest's memory. */
static void test_ring_that_is_not_apart(void)
{
    VdpaModelConfig config = vdpa_model_spaces;
    VdpaWorld w;

    config.desc_group[1] = 0;
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    vdpa_world_assert_maps(&w, "0:" GUEST " 0:" ARENA " 1:" ARENA);
    g_assert_cmpuint(vdpa_model_ring(w.model, 0).desc_asid, ==, 1);
    g_assert_cmpuint(vdpa_model_ring(w.model, 1).desc_asid, ==, 0);
    vdpa_world_echo(&w, 10);
    vdpa_world_cleanup(&w);
}

/* The ring of queue @q, which is stopped, in the other place. */
static int try_to_move(VdpaWorld *w, unsigned int q, GError **errp)
{
    VhostRing ring;
    int ret;

    vdpa_world_move_ring(w, q);
    ring = vdpa_world_ring(w, q);
    w->dev->ops->ring_enable(w->dev, q, true, NULL);
    ret = w->dev->ops->ring_start(w->dev, q, &ring, errp);
    if (ret < 0) {
        vdpa_world_move_ring(w, q);
    }
    return ret;
}

static void suspend_and_stop_rings(VdpaWorld *w)
{
    g_autoptr(GError) error = NULL;
    unsigned int q;

    w->dev->ops->suspend(w->dev, &error);
    for (q = 0; q < 2; q++) {
        w->dev->ops->ring_stop(w->dev, q, &w->rings[q].base, &error);
        g_assert_no_error(error);
    }
}

/* A parent may see a group's space only as maps change; a change of nothing will do. */
static void test_group_moves_while_running(void)
{
    g_autofree char *calls = NULL;
    unsigned int q;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_spaces, 0);
    vdpa_world_must_start(&w);
    vdpa_world_echo(&w, 3);
    suspend_and_stop_rings(&w);
    g_free(vdpa_model_take_calls(w.model));
    for (q = 0; q < 2; q++) {
        g_assert_cmpint(try_to_move(&w, q, NULL), ==, 0);
    }
    calls = vdpa_model_take_calls(w.model);
    g_assert_true(g_str_has_prefix(calls, "SET_GROUP_ASID:1:0 BATCH_BEGIN:1 BATCH_END:1 SET_"));
    g_assert_null(strstr(strstr(calls, "BATCH_END"), "ASID"));
    g_assert_cmpuint(vdpa_model_ring(w.model, 0).desc_asid, ==, 0);
    w.dev->ops->resume(w.dev, NULL);
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

/* Until the next reset rings are where they are, and stay mapped there. */
static void test_group_does_not_move(gconstpointer batch)
{
    VdpaModelConfig config = vdpa_model_spaces;
    g_autoptr(GError) error = NULL;
    MemoryRegion *more;
    VdpaWorld w;

    config.asid_fixed = batch;
    if (!batch) {
        config.backend_features &= ~VDPA_B_BATCH;
    }
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    suspend_and_stop_rings(&w);
    g_free(vdpa_world_take_words());
    g_assert_cmpint(try_to_move(&w, 0, &error), ==, batch ? -EBUSY : -EOPNOTSUPP);
    g_clear_error(&error);
    g_assert_cmpint(try_to_move(&w, 0, &error), <, 0);
    g_assert_true(w.dev->rings_apart);
    vdpa_world_start_rings(&w);
    w.dev->ops->resume(w.dev, NULL);
    vdpa_world_assert_words("vdpa0: rings cannot change their address space while the device runs; "
                            "from the next start on ours lie among the guest's memory\n");

    more = memory_region_new(peer_memfd(0x3000), 0x1000, 0x40001000, 0x2000, 0, NULL);
    set_memory(&w, (MemoryRegion *[]){ w.guest, w.arena, more }, 3);
    vdpa_world_assert_maps(&w, "0:" GUEST " 0:40001000+2000 1:" ARENA);
    vdpa_world_echo(&w, 3);
    vdpa_world_must_stop(&w);
    g_assert_false(w.dev->rings_apart);
    vdpa_world_must_start(&w);
    vdpa_world_assert_maps(&w, both_maps);
    vdpa_world_echo(&w, 3);
    memory_region_unref(more);
    vdpa_world_cleanup(&w);
}

/* Where no group moves while the device runs, those of late rings have to be there before. */
static void test_late_ring_in_a_group_of_its_own(void)
{
    VdpaModelConfig config = vdpa_model_spaces;
    g_autoptr(GError) error = NULL;
    EventNotifier kick;
    unsigned int q;
    VhostRing ring;
    VdpaWorld w;

    config.asid_fixed = true;
    config.n_groups = 4;
    for (q = 0; q < 4; q++) {
        config.desc_group[q] = MIN(1 + q, 3);
    }
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    ring = vdpa_world_ring(&w, 0);
    ring.desc_iova += EMPTY_RING;
    ring.driver_iova += EMPTY_RING;
    ring.device_iova += EMPTY_RING;
    g_assert_cmpint(event_notifier_init(&kick), ==, 0);
    ring.kick_fd = kick.fd;
    w.dev->ops->ring_enable(w.dev, 2, true, &error);
    w.dev->ops->ring_start(w.dev, 2, &ring, &error);
    g_assert_no_error(error);
    for (q = 0; q < 4; q++) {
        g_assert_cmpuint(vdpa_model_ring(w.model, q).desc_asid, ==, 1);
    }
    vdpa_world_echo(&w, 3);
    event_notifier_cleanup(&kick);
    vdpa_world_cleanup(&w);
}

/* The kernel takes the number of a group for that of a virtqueue, and there are not so many. */
static void test_group_beyond_the_virtqueues(void)
{
    VdpaModelConfig config = vdpa_model_spaces;
    VdpaWorld w;

    config.n_groups = 5;
    config.desc_group[1] = 4;
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    vdpa_world_assert_maps(&w, "0:" GUEST " 0:" ARENA " 1:" ARENA);
    g_assert_cmpuint(vdpa_model_ring(w.model, 1).desc_asid, ==, 0);
    vdpa_world_echo(&w, 3);
    vdpa_world_cleanup(&w);
}

/* Without IOTLB_PERSIST the list of maps and the device differ after a reset. */
static void test_reset_cannot_unmap(gconstpointer call)
{
    VdpaModelConfig config = vdpa_model_sim;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    config.backend_features &= ~VDPA_B_PERSIST;
    vdpa_world_init(&w, &config, 0);
    vdpa_world_must_start(&w);
    vdpa_model_fail(w.model, call, 1, EFAULT);
    g_assert_cmpint(vdpa_world_stop(&w, &error), ==, -ENOTCONN);
    g_assert_nonnull(error);
    g_assert_false(w.dev->connected);
    vdpa_world_await(&w.ready, 1);
    vdpa_world_assert_maps(&w, "");
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

/* A parent that refuses DRIVER_OK may have dropped its maps, which a reset alone would keep. */
static void test_driver_ok_is_refused(void)
{
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_model_fail(w.model, "SET_STATUS:f", 1, EIO);
    g_assert_cmpint(vdpa_world_start(&w, NULL), ==, -EIO);
    vdpa_world_assert_maps(&w, both_maps);
    g_assert_cmpint(w.dev->ops->reset(w.dev, NULL), ==, 0);
    vdpa_world_assert_maps(&w, "");
    vdpa_world_must_start(&w);
    vdpa_world_echo(&w, 3);
    g_assert_cmpint(w.dev->ops->reset(w.dev, NULL), ==, 0);
    vdpa_world_assert_maps(&w, both_maps);
    vdpa_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    vdpa_world_test_init(&argc, &argv);
    g_test_add_data_func("/vhost-vdpa-memory/difference/in-batches", GINT_TO_POINTER(true),
                         test_memory_difference);
    g_test_add_data_func("/vhost-vdpa-memory/difference/without", NULL, test_memory_difference);
    g_test_add_func("/vhost-vdpa-memory/is-replaced", test_memory_is_replaced);
    g_test_add_func("/vhost-vdpa-memory/out-of-reach", test_memory_out_of_reach);
    g_test_add_func("/vhost-vdpa-memory/rings-have-a-space-of-their-own",
                    test_rings_in_a_space_of_their_own);
    g_test_add_func("/vhost-vdpa-memory/ring-that-is-not-apart", test_ring_that_is_not_apart);
    g_test_add_func("/vhost-vdpa-memory/group/moves-while-running",
                    test_group_moves_while_running);
    g_test_add_data_func("/vhost-vdpa-memory/group/is-fixed", GINT_TO_POINTER(true),
                         test_group_does_not_move);
    g_test_add_data_func("/vhost-vdpa-memory/group/without-batches", NULL,
                         test_group_does_not_move);
    g_test_add_func("/vhost-vdpa-memory/group/of-a-late-ring",
                    test_late_ring_in_a_group_of_its_own);
    g_test_add_func("/vhost-vdpa-memory/group/beyond-the-virtqueues",
                    test_group_beyond_the_virtqueues);
    g_test_add_data_func("/vhost-vdpa-memory/reset-cannot-unmap/begin", "BATCH_BEGIN",
                         test_reset_cannot_unmap);
    g_test_add_data_func("/vhost-vdpa-memory/reset-cannot-unmap/invalidate", "INVALIDATE",
                         test_reset_cannot_unmap);
    g_test_add_func("/vhost-vdpa-memory/driver-ok-is-refused", test_driver_ok_is_refused);
    return g_test_run();
}
