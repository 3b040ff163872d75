/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a VMM does while its guest's rings pass through: descriptors and memory change, rings stop
 * and go on, it goes itself; and the device side goes and comes.
 */
#include "lib/mode-rig.h"
#include "util/event-notifier.h"

#define F(bit) VIRTIO_F_BIT(bit)

/* QEMU masks and unmasks interrupts so; a kick descriptor is new after a reconnect. */
static void test_descriptors_change(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    for (i = 0; i < 40; i++) {
        vmm_do(&rig.vmm, i & 1 ? VHOST_USER_SET_VRING_CALL : VHOST_USER_SET_VRING_KICK, i >> 1 & 1,
               0);
        if (i == 20) {
            mode_set_log_all(&rig, true);
        } else if (i == 30) {
            mode_set_log_all(&rig, false);
        }
        vmm_echo(&rig.vmm, 0, 10);
        g_assert_true(mode_passes_through(&rig, 0) == (i < 20 || i >= 30));
    }
    rig_cleanup(&rig);
}

/* The device is given them as they are, and is told what it may have missed. */
static void test_device_gets_new_descriptors(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
    const struct FakeRing *ring;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    ring = &rig.fake.rings[1];
    mode_forget_calls(&rig);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_KICK, 1, 0);
    mode_assert_calls(&rig, "kick:1");
    g_assert_cmpint(event_notifier_test_and_clear(&(EventNotifier){ ring->ring.kick_fd }), ==, 1);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_CALL, 1, 0);
    mode_assert_calls(&rig, "call:1");
    g_assert_true(vmm_has_call(&rig.vmm, 1));
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_CALL, 1, -1);
    mode_assert_calls(&rig, "call:1");
    g_assert_cmpint(ring->ring.call_fd, ==, -1);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ERR, 1, 0);
    mode_assert_calls(&rig, "");
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_CALL, 1, 0);
    mode_post(&rig, 1, 0);
    mode_serve(&rig, 1, 0);
    rig_cleanup(&rig);
}

/* Regions come, go, and are mapped anew at other addresses, those of rings that are in use too. */
static void test_memory_changes(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    ModeTraffic traffic;
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    mode_traffic_start(&traffic, &rig.vmm, 0);
    for (i = 0; i < 30; i++) {
        VmmRegion *region = &rig.vmm.regions[i % VMM_REGIONS];

        region->size = region->mapped + (i / VMM_REGIONS % 2 ? 0 : 0x1000);
        vmm_do(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
        mode_traffic_await(&traffic);
        g_assert_true(mode_passes_through(&rig, 0));
    }
    for (i = 0; i < 10; i++) {
        vmm_do(&rig.vmm, i % 2 ? VHOST_USER_ADD_MEM_REG : VHOST_USER_REM_MEM_REG, 3, 0);
        mode_traffic_await(&traffic);
    }
    mode_traffic_end(&traffic);
    g_assert_false(vmm_has_error(&rig.vmm, 0));
    rig_cleanup(&rig);
}

/* A ring that lies elsewhere now is taken away before, and given back where it lies then. */
static void test_device_hears_of_moved_rings(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
    void *before;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    mode_post(&rig, 0, 0);
    mode_serve(&rig, 0, 0);
    mode_forget_calls(&rig);
    before = rig.fake.rings[0].ring.areas.desc;
    rig.vmm.regions[0].size += 0x1000;
    vmm_do(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
    mode_assert_calls(&rig, "stop:0 memory enable:0:1 start:0");
    g_assert_true(rig.fake.rings[0].ring.areas.desc != before);
    g_assert_cmphex(rig.fake.rings[0].ring.desc_iova, ==, rig.vmm.regions[0].gpa);
    mode_post(&rig, 0, 1);
    mode_serve(&rig, 0, 1);
    /* What has nothing to do with a ring in use leaves the rings alone. */
    mode_forget_calls(&rig);
    vmm_do(&rig.vmm, VHOST_USER_REM_MEM_REG, 3, 0);
    mode_assert_calls(&rig, "memory");
    rig_cleanup(&rig);
}

/* Where it stands is where the driver has collected to; in whichever mode it goes on. */
static void test_rings_stop_and_go_on(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    unsigned int i, q;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 4);
    vmm_echo(&rig.vmm, 1, 7);
    for (i = 0; i < 12; i++) {
        vmm_echo(&rig.vmm, 0, 11);
        for (q = 0; q < 2; q++) {
            vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, q, 0);
            g_assert_cmphex(rig.vmm.rings[q].base, ==, vmm_expected_base(&rig.vmm, q));
            g_assert_cmpint(rig_stats(&rig, q).state, ==, SVQ_QUEUE_STOPPED);
            g_assert_false(mode_passes_through(&rig, q));
        }
        vmm_echo(&rig.vmm, 1, 7);
        if (i % 3 == 0) {
            mode_set_log_all(&rig, i % 2);
        }
        for (q = 0; q < 2; q++) {
            vmm_continue_ring(&rig.vmm, q, VMM_KEEP_BASE);
        }
        g_assert_true(mode_passes_through(&rig, 0) == mode_passes_through(&rig, 2));
    }
    for (i = 0; i < 12; i++) {
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, i % 2, 0);
        g_assert_cmpint(rig_stats(&rig, i % 2).state, ==, SVQ_QUEUE_STOPPED);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, i % 2, 1);
        vmm_echo(&rig.vmm, 0, 5);
    }
    rig_cleanup(&rig);
}

/* A VMM that goes takes LOG_ALL with it: the next one's rings pass through. */
static void test_next_vmm_passes_through(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    for (i = 0; i < 6; i++) {
        vmm_start(&rig.vmm, 4);
        g_assert_true(mode_passes_through(&rig, 0));
        vmm_echo(&rig.vmm, 0, 20);
        if (i % 2) {
            mode_set_log_all(&rig, true);
            vmm_echo(&rig.vmm, 0, 20);
        }
        vmm_disconnect(&rig.vmm);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_STOPPED);
        rig.vmm.features &= ~F(VHOST_F_LOG_ALL);
        vmm_connect(&rig.vmm, rig.path);
    }
    rig_cleanup(&rig);
}

/* A guest that boots while its VMM logs already: shadow from the start on, the arena with it. */
static void test_starts_as_a_shadow(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.features |= F(VHOST_F_LOG_ALL);
    vmm_start(&rig.vmm, 2);
    g_assert_false(mode_passes_through(&rig, 0));
    vmm_echo(&rig.vmm, 0, 20);
    mode_set_log_all(&rig, false);
    g_assert_true(mode_passes_through(&rig, 0));
    /* A pair that comes later is what the others are. */
    vmm_start_rings(&rig.vmm, 2, 2);
    g_assert_true(mode_passes_through(&rig, 2));
    vmm_echo(&rig.vmm, 0, 20);
    vmm_echo(&rig.vmm, 1, 20);
    mode_set_log_all(&rig, true);
    vmm_echo(&rig.vmm, 1, 20);
    g_assert_false(mode_passes_through(&rig, 2));
    rig_cleanup(&rig);
}

/* Buffers that it had in flight when it went are there again. */
static void test_device_goes_and_comes(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, NULL);
    VringSegment seg[1];
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    vmm_post_rx(&rig.vmm, 0, 8);
    for (i = 0; i < 4; i++) {
        mode_serve(&rig, 0, i);
        fake_device_take(&rig.fake, 0, seg);
        mode_forget_calls(&rig);
        fake_device_go(&rig.fake);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_STOPPED);
        if (i % 2) {
            mode_set_log_all(&rig, i == 1);
        }
        fake_device_come(&rig.fake);
        mode_assert_calls(&rig, "features memory status:b enable:0:1 start:0 status:f "
                                "enable:1:1 start:1");
        g_assert_true(mode_passes_through(&rig, 0) == (i != 1 && i != 2));
    }
    rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/svq-mode-vmm/descriptors-change", test_descriptors_change,
                  G_N_ELEMENTS(mode_formats));
    mode_test_add("/svq-mode-vmm/device-gets-new-descriptors", test_device_gets_new_descriptors, 2);
    mode_test_add("/svq-mode-vmm/memory-changes", test_memory_changes, G_N_ELEMENTS(mode_formats));
    mode_test_add("/svq-mode-vmm/device-hears-of-moved-rings", test_device_hears_of_moved_rings, 2);
    mode_test_add("/svq-mode-vmm/rings-stop-and-go-on", test_rings_stop_and_go_on,
                  G_N_ELEMENTS(mode_formats));
    mode_test_add("/svq-mode-vmm/next-vmm-passes-through", test_next_vmm_passes_through,
                  4);
    mode_test_add("/svq-mode-vmm/starts-as-a-shadow", test_starts_as_a_shadow, 4);
    g_test_add_data_func("/svq-mode-vmm/device-goes-and-comes/split", &mode_formats[0],
                         test_device_goes_and_comes);
    return rig_test_run();
}
