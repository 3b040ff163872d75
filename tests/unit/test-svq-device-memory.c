/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's memory changes under a shadowed device that works: traffic goes on, what loses
 * its ring stops alone, and ring addresses that are wrong break their queue alone.
 */
#include "lib/svq-rig.h"

#define PROTOCOL_F(bit) VIRTIO_F_BIT(bit)

/* Traffic on pair 0 in a thread of its own, until told to end. */
typedef struct Traffic {
    Vmm *vmm;
    _Atomic bool end;
    _Atomic unsigned int rounds;
    GThread *thread;
} Traffic;

static void *run_traffic(void *opaque)
{
    Traffic *traffic = opaque;

    while (!traffic->end) {
        vmm_echo(traffic->vmm, 0, 20);
        traffic->rounds++;
    }
    return NULL;
}

static void traffic_start(Traffic *traffic, Vmm *v)
{
    *traffic = (Traffic){ .vmm = v };
    traffic->thread = g_thread_new("traffic", run_traffic, traffic);
}

/* Returns when traffic has passed since it was called. */
static void traffic_await(Traffic *traffic)
{
    unsigned int rounds = traffic->rounds;

    while (traffic->rounds - rounds < 3) {
        g_usleep(100);
    }
}

static void traffic_end(Traffic *traffic)
{
    traffic->end = true;
    g_thread_join(traffic->thread);
}

static void test_same_table_changes_nothing(void)
{
    const RigConfig config = { .format = rig_formats[0], .fake_features = VMM_FEATURES };
    g_autofree char *before = NULL, *after = NULL;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    before = fake_device_take_calls(&rig.fake);
    g_assert_cmpstr(before, ==, "features memory status:b enable:0:1 start:0 enable:1:1 start:1 "
                                "status:f");
    vmm_do(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
    after = fake_device_take_calls(&rig.fake);
    g_assert_cmpstr(after, ==, "");
    rig_cleanup(&rig);
}

static void test_other_table_keeps_rings(void)
{
    const RigConfig config = { .format = rig_formats[0], .fake_features = VMM_FEATURES };
    g_autofree char *before = NULL, *after = NULL;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    before = fake_device_take_calls(&rig.fake);
    vmm_do(&rig.vmm, VHOST_USER_REM_MEM_REG, 3, 0);
    vmm_do(&rig.vmm, VHOST_USER_ADD_MEM_REG, 3, 0);
    after = fake_device_take_calls(&rig.fake);
    g_assert_cmpstr(after, ==, "memory memory");
    /* A device that does not take it: the VMM hears of it, and what was there goes on. */
    rig.fake.fails = "memory";
    rig.fake.fail_with = EINVAL;
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_REM_MEM_REG, 0, 0), ==, 1);
    g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_RUNNING);
    rig.fake.fails = NULL;
    vmm_do(&rig.vmm, VHOST_USER_REM_MEM_REG, 3, 0);
    g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_RUNNING);
    rig_cleanup(&rig);
}

/* The rings' regions are mapped anew, at other host addresses, while they are in use. */
static void test_remapped_under_traffic(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    Traffic traffic;
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 4);
    vmm_echo(&rig.vmm, 1, 10);
    traffic_start(&traffic, &rig.vmm);
    for (i = 0; i < 20; i++) {
        VmmRegion *region = &rig.vmm.regions[i % VMM_REGIONS];

        region->size = region->mapped + (i / VMM_REGIONS % 2 ? 0 : 0x1000);
        vmm_do(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
        traffic_await(&traffic);
    }
    traffic_end(&traffic);
    vmm_echo(&rig.vmm, 1, 10);
    g_assert_cmpuint(rig_stats(&rig, 0).counters.errors, ==, 0);
    rig_cleanup(&rig);
}

static void test_region_comes_and_goes_under_traffic(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    Traffic traffic;
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    traffic_start(&traffic, &rig.vmm);
    for (i = 0; i < 20; i++) {
        vmm_do(&rig.vmm, i % 2 ? VHOST_USER_ADD_MEM_REG : VHOST_USER_REM_MEM_REG, 3, 0);
        traffic_await(&traffic);
    }
    traffic_end(&traffic);
    rig_cleanup(&rig);
}

/* The ring goes with its region, and comes back with it, where it was. */
static void test_ring_goes_with_its_region(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    Traffic traffic;
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 4);
    vmm_echo(&rig.vmm, 1, 10);
    traffic_start(&traffic, &rig.vmm);
    for (i = 2; i < 4; i++) {
        g_assert_false(vmm_has_error(&rig.vmm, i));
        vmm_do(&rig.vmm, VHOST_USER_REM_MEM_REG, i, 0);
        g_assert_cmpint(rig_stats(&rig, i).state, ==, SVQ_QUEUE_BROKEN);
        g_assert_cmpint(rig_stats(&rig, 5 - i).state, ==, SVQ_QUEUE_RUNNING);
        vmm_await_error(&rig.vmm, i);
        traffic_await(&traffic);
        vmm_do(&rig.vmm, VHOST_USER_ADD_MEM_REG, i, 0);
        g_assert_cmpint(rig_stats(&rig, i).state, ==, SVQ_QUEUE_RUNNING);
    }
    traffic_end(&traffic);
    vmm_echo(&rig.vmm, 1, 100);
    rig_cleanup(&rig);
}

/* A queue that its guest has broken is moved with its memory, too, for its last words. */
static void test_broken_queue_is_remapped(void)
{
    const RigConfig config = { .format = rig_formats[0], .fake_features = VMM_FEATURES };
    VringSegment seg[64];
    uint32_t cookie, len;
    uint16_t id[2];
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    vmm_post_rx(&rig.vmm, 0, 2);
    id[0] = fake_device_take(&rig.fake, 0, seg);
    id[1] = fake_device_take(&rig.fake, 0, seg);
    fake_device_put(&rig.fake, 0, id[1], 1);
    vmm_wait_used(&rig.vmm, 0, &cookie, &len);
    g_assert_cmpuint(cookie, ==, 1);
    vmm_spoil(&rig.vmm, 0);
    vmm_await_state(rig.dev, 0, SVQ_QUEUE_BROKEN);

    rig.vmm.regions[0].size += 0x1000;
    vmm_do(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
    rcu_barrier();
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    /* The first buffer was overtaken: it comes back empty, into the ring as it is mapped now. */
    vmm_wait_used(&rig.vmm, 0, &cookie, &len);
    g_assert_cmpuint(cookie, ==, 0);
    g_assert_cmpuint(len, ==, 0);
    rig_cleanup(&rig);
}

static void test_region_over_the_arena_is_refused(void)
{
    const RigConfig config = { .format = rig_formats[0], .fake_features = VMM_FEATURES };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_do(&rig.vmm, VHOST_USER_SET_OWNER, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_PROTOCOL_FEATURES, 0, PROTOCOL_F(3) | PROTOCOL_F(15));
    vmm_do(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    for (i = 0; i < VMM_REGIONS; i++) {
        if (i != 3) {
            vmm_do(&rig.vmm, VHOST_USER_ADD_MEM_REG, i, 0);
        }
    }
    vmm_start_rings(&rig.vmm, 0, 2);
    rig.vmm.regions[3].gpa = rig.fake.rings[1].ring.desc_iova & ~UINT64_C(0xfff);
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_ADD_MEM_REG, 3, 0), ==, 1);
    rig.vmm.regions[3].gpa = UINT64_C(1) << 40;
    vmm_do(&rig.vmm, VHOST_USER_ADD_MEM_REG, 3, 0);
    g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_RUNNING);
    rig_cleanup(&rig);
}

static void test_wrong_address_breaks_that_queue(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    const uint64_t size = 64 * sizeof(VringDesc);
    const uint64_t wrong[] = {
        UINT64_C(0x800000),             /* between the regions */
        UINT64_C(0) - VMM_USER_OFFSET,  /* below all */
        UINT64_MAX / 2,                 /* above all */
        8,                              /* misaligned */
        1,
        VMM_RING_SIZE - size + 16,      /* one descriptor over the end */
        UINT64_C(0) - 16,               /* one below the beginning */
    };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    vmm_echo(&rig.vmm, 0, 10);
    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        vmm_make_ring(&rig.vmm, 2);
        vmm_make_ring(&rig.vmm, 3);
        vmm_continue_ring(&rig.vmm, 2, VMM_START);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_NUM, 3, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_BASE, 3, VMM_START);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ADDR, 3, wrong[i]);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_CALL, 3, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ERR, 3, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_KICK, 3, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 3, 1);
        g_assert_cmpint(rig_stats(&rig, 3).state, ==, SVQ_QUEUE_BROKEN);
        vmm_await_error(&rig.vmm, 3);
        vmm_echo(&rig.vmm, 0, 10);

        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ADDR, 3, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 2, 1);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 3, 1);
        vmm_echo(&rig.vmm, 1, 10);
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 2, 0);
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 3, 0);
    }
    rig_cleanup(&rig);
}

/* The last descriptor may be the region's last: not one too careful. */
static void test_ring_may_end_with_its_region(void)
{
    const RigConfig config = {
        .format = rig_formats[3],
        .fake_features = VMM_FEATURES | VMM_PACKED,
    };
    Rig rig;

    rig_init(&rig, &config);
    vmm_begin(&rig.vmm, PROTOCOL_F(0) | PROTOCOL_F(3));
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_NUM, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_BASE, 0, VMM_START);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ADDR, 0, VMM_RING_SIZE - 64 * sizeof(VringDesc));
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_KICK, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_RUNNING);
    rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    rig_test_init(&argc, &argv);
    g_test_add_func("/svq-device/same-table-changes-nothing", test_same_table_changes_nothing);
    g_test_add_func("/svq-device/other-table-keeps-rings", test_other_table_keeps_rings);
    rig_test_add("/svq-device/remapped-under-traffic", test_remapped_under_traffic);
    rig_test_add("/svq-device/region-comes-and-goes-under-traffic",
                 test_region_comes_and_goes_under_traffic);
    rig_test_add("/svq-device/ring-goes-with-its-region", test_ring_goes_with_its_region);
    g_test_add_func("/svq-device/broken-queue-is-remapped", test_broken_queue_is_remapped);
    g_test_add_func("/svq-device/region-over-the-arena-is-refused",
                    test_region_over_the_arena_is_refused);
    rig_test_add("/svq-device/wrong-address-breaks-that-queue",
                 test_wrong_address_breaks_that_queue);
    g_test_add_func("/svq-device/ring-may-end-with-its-region", test_ring_may_end_with_its_region);
    return rig_test_run();
}
