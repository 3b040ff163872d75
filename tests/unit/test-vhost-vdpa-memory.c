/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a vDPA device on a model of the kernel: only what differs is mapped, in batches,
 * and rings lie in a space of their own where there is one.
 */
#include <errno.h>
#include <string.h>

#include "lib/vdpa-world.h"
#include "lib/vhost-user-peer.h"

#define GUEST   VDPA_WORLD_GUEST_MAP
#define ARENA   VDPA_WORLD_ARENA_MAP

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
    return g_test_run();
}
