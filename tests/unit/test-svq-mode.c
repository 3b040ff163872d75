/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that work the guest's own rings, and the switch between that and shadowing: what the
 * device is given, and that the guest notices nothing.
 */
#include <string.h>

#include "lib/mode-rig.h"
#include "lib/random.h"
#include "util/event-notifier.h"

#define F(bit)      VIRTIO_F_BIT(bit)
#define RING_GPA(q) (UINT64_C(0x1000000) * ((q) + 1))
#define DATA_GPA    UINT64_C(0x100000)

/* The shortest test of each kind of ring: without polling. */
#define PLAIN_FORMATS 4

static void can_suspend(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
}

static void is_net(FakeDevice *fake)
{
    fake->dev.device_type = VIRTIO_ID_NET;
}

static bool is_guest_ring(const Rig *rig, unsigned int q)
{
    const VhostRing *ring = &rig->fake.rings[q].ring;

    return ring->desc_iova == RING_GPA(q) && ring->driver_iova == RING_GPA(q) + VMM_DRIVER_AREA &&
           ring->device_iova == RING_GPA(q) + VMM_DEVICE_AREA;
}

/* Its place, its size and its descriptors; nothing of ours is in what the device can reach. */
static void test_device_gets_the_guests_rings(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
    const ModeFormat *format = data;
    unsigned int q;
    Rig rig;

    rig_init(&rig, &config);
    g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_FEATURES) & F(VHOST_F_LOG_ALL), ==, 0);
    vmm_start(&rig.vmm, 2);
    mode_assert_calls(&rig, "features memory status:b enable:0:1 start:0 enable:1:1 start:1 "
                            "status:f");
    g_assert_cmphex(rig.fake.features, ==, VMM_FEATURES | format->features);
    g_assert_cmpuint(rig.fake.map->n, ==, VMM_REGIONS);
    for (q = 0; q < 2; q++) {
        const VhostRing *ring = &rig.fake.rings[q].ring;
        const VringBase start = vring_base_start(format->features & VMM_PACKED);
        EventNotifier kick = { ring->kick_fd }, call = { ring->call_fd };
        EventNotifier guest = { rig.vmm.rings[q].kick };

        g_assert_true(is_guest_ring(&rig, q));
        g_assert_cmpuint(ring->num, ==, rig.vmm.num);
        g_assert_cmphex(ring->base.avail, ==, start.avail);
        g_assert_cmphex(ring->base.used, ==, start.used);
        event_notifier_test_and_clear(&kick);
        event_notifier_set(&guest);
        g_assert_cmpint(event_notifier_test_and_clear(&kick), ==, 1);
        vmm_has_call(&rig.vmm, q);
        event_notifier_set(&call);
        g_assert_true(vmm_has_call(&rig.vmm, q));
        g_assert_true(mode_passes_through(&rig, q));
        g_assert_cmpint(rig_stats(&rig, q).state, ==, SVQ_QUEUE_RUNNING);
        mode_post(&rig, q, 3);
        mode_serve(&rig, q, 3);
        g_assert_cmpuint(rig_stats(&rig, q).counters.buffers, ==, 0);
        g_assert_cmpuint(rig_stats(&rig, q).counters.bursts, ==, 0);
    }
    rig_cleanup(&rig);
}

/* A guest is offered only those rings that the device has, too. */
static void test_rings_are_the_devices(void)
{
    static const SvqMode modes[] = { SVQ_MODE_PASSTHROUGH, SVQ_MODE_AUTO, SVQ_MODE_SHADOW };
    const uint64_t rings = F(VIRTIO_F_RING_PACKED) | F(VIRTIO_F_EVENT_IDX) |
                           F(VIRTIO_F_INDIRECT_DESC) | F(VIRTIO_F_IN_ORDER);
    const uint64_t ours = F(VHOST_F_LOG_ALL);
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(modes); i++) {
        const RigConfig config = mode_fake_config(&mode_formats[2], modes[i], NULL);
        uint64_t offered;
        Rig rig;

        rig_init(&rig, &config);
        offered = vmm_get(&rig.vmm, VHOST_USER_GET_FEATURES);
        g_assert_cmphex(offered & rings, ==,
                        modes[i] == SVQ_MODE_SHADOW ? rings : F(VIRTIO_F_EVENT_IDX));
        g_assert_cmphex(offered & ours, ==, modes[i] == SVQ_MODE_PASSTHROUGH ? 0 : ours);
        rig_cleanup(&rig);
    }
}

/* The VMM that was not offered it turns it on all the same. */
static void test_passthrough_does_not_log(void)
{
    const RigConfig config = mode_config(&mode_formats[0], SVQ_MODE_PASSTHROUGH);
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    rig.vmm.features |= F(VHOST_F_LOG_ALL);
    g_assert_cmphex(vmm_try(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0), ==, 1);
    vmm_echo(&rig.vmm, 0, 100);
    g_assert_true(mode_passes_through(&rig, 0));
    rig_cleanup(&rig);
}

static const char *const to_shadow_and_back[] = {
    "stop:0 stop:1 enable:0:1 start:0 enable:1:1 start:1",
    "suspend base:0 base:1 stop:0 stop:1 enable:0:1 start:0 enable:1:1 start:1 resume",
};

/* What the device hears, where its rings are, and that it is told to look at them. */
static void test_switch_in_order(gconstpointer data)
{
    unsigned int suspends, i, q;

    for (suspends = 0; suspends < 2; suspends++) {
        const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO,
                                                  suspends ? can_suspend : NULL);
        Rig rig;

        rig_init(&rig, &config);
        vmm_start(&rig.vmm, 2);
        /* The arena is there from the start on: a switch maps nothing. */
        g_assert_cmpuint(rig.fake.map->n, ==, VMM_REGIONS + 1);
        mode_assert_calls(&rig, "features memory status:b enable:0:1 start:0 enable:1:1 start:1 "
                                "status:f");
        for (i = 0; i < 6; i++) {
            const bool shadow = i % 2 == 0;

            vmm_has_call(&rig.vmm, 0);
            mode_set_log_all(&rig, shadow);
            mode_assert_calls(&rig, to_shadow_and_back[suspends]);
            for (q = 0; q < 2; q++) {
                GPollFD kick = { .fd = rig.fake.rings[q].ring.kick_fd, .events = G_IO_IN };

                g_assert_true(mode_passes_through(&rig, q) != shadow);
                g_assert_true(is_guest_ring(&rig, q) != shadow);
                /* Its thread kicks for a shadow, in its own time. */
                g_assert_cmpint(g_poll(&kick, 1, VMM_WAIT_MS), ==, 1);
                event_notifier_test_and_clear(&(EventNotifier){ kick.fd });
                g_assert_true(vmm_has_call(&rig.vmm, q));
                mode_post(&rig, q, i);
                mode_serve(&rig, q, i);
                g_assert_cmpuint(rig_stats(&rig, q).counters.buffers, ==, i / 2 + 1);
            }
            /* The VMM says the same again: nothing happens. */
            vmm_do(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
            mode_assert_calls(&rig, "");
        }
        rig_cleanup(&rig);
    }
}

/* What the shadow device has taken and not used, it takes again from the guest's ring. */
static void test_in_flight_is_offered_again(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, can_suspend);
    VringSegment seg[1];
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 8);
    mode_set_log_all(&rig, true);
    mode_serve(&rig, 0, 0);
    fake_device_take(&rig.fake, 0, seg);
    fake_device_take(&rig.fake, 0, seg);
    g_assert_cmphex(seg->addr, ==, vmm_buffer_gpa(0, 2));
    mode_set_log_all(&rig, false);
    g_assert_true(mode_passes_through(&rig, 0));
    for (i = 1; i < 8; i++) {
        mode_serve(&rig, 0, i);
    }
    rig_cleanup(&rig);
}

/* The same the other way round, with a device that is known to use buffers in their order. */
static void test_in_flight_of_the_device_is_forwarded(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, is_net);
    VringSegment seg[1];
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 8);
    mode_serve(&rig, 0, 0);
    fake_device_take(&rig.fake, 0, seg);
    fake_device_take(&rig.fake, 0, seg);
    g_assert_cmphex(seg->addr, ==, vmm_buffer_gpa(0, 2));
    mode_set_log_all(&rig, true);
    g_assert_false(mode_passes_through(&rig, 0));
    for (i = 1; i < 8; i++) {
        mode_serve(&rig, 0, i);
    }
    rig_cleanup(&rig);
}

static uint64_t forwarded(const Rig *rig)
{
    unsigned int q;
    uint64_t n = 0;

    for (q = 0; q < VMM_RINGS; q++) {
        n += rig_stats(rig, q).counters.buffers;
    }
    return n;
}

/* Hundreds of them: each packet arrives once, in its order, and both modes carry some. */
static void test_switches_under_traffic(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    const unsigned int switches = (unsigned int)random_steps(300);
    ModeTraffic traffic[2];
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 4);
    mode_traffic_start(&traffic[0], &rig.vmm, 0);
    mode_traffic_start(&traffic[1], &rig.vmm, 1);
    for (i = 0; i < switches; i++) {
        const bool shadow = i % 2 == 0;
        uint64_t before;

        mode_set_log_all(&rig, shadow);
        g_assert_true(mode_passes_through(&rig, i % VMM_RINGS) != shadow);
        before = forwarded(&rig);
        /* Now and then at once back. */
        if (i % 10 < 7) {
            mode_traffic_await(&traffic[i % 2]);
            g_assert_true((forwarded(&rig) > before) == shadow);
        }
    }
    mode_traffic_end(&traffic[0]);
    mode_traffic_end(&traffic[1]);
    for (i = 0; i < VMM_RINGS; i++) {
        g_assert_cmpuint(rig_stats(&rig, i).counters.errors, ==, 0);
        g_assert_false(vmm_has_error(&rig.vmm, i));
    }
    rig_cleanup(&rig);
}

/* Logged is what was written since the switch, and that alone: it was in time. */
static void test_log_is_precise(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    unsigned int i;
    ModeLog log;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    vmm_echo(&rig.vmm, 0, 100);
    mode_log_init(&log, &rig);
    for (i = 0; i < 3; i++) {
        g_assert_cmpuint(mode_log_count(&log, 0, MODE_LOG_BYTES * UINT64_C(0x8000)), ==, 0);
        mode_set_log_all(&rig, true);
        vmm_echo(&rig.vmm, 0, 1);
        g_assert_cmpuint(mode_log_count(&log, DATA_GPA, VMM_RX_POSTED * VMM_BUFFER), ==, 1);
        mode_set_log_all(&rig, false);
        memset(log.bits, 0, MODE_LOG_BYTES);
        vmm_echo(&rig.vmm, 0, 100);
    }
    mode_log_cleanup(&log);
    rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/svq-mode/device-gets-the-guests-rings", test_device_gets_the_guests_rings,
                  PLAIN_FORMATS);
    g_test_add_func("/svq-mode/rings-are-the-devices", test_rings_are_the_devices);
    g_test_add_func("/svq-mode/passthrough-does-not-log", test_passthrough_does_not_log);
    mode_test_add("/svq-mode/switch-in-order", test_switch_in_order, PLAIN_FORMATS);
    mode_test_add("/svq-mode/in-flight-is-offered-again", test_in_flight_is_offered_again,
                  PLAIN_FORMATS);
    g_test_add_data_func("/svq-mode/in-flight-of-the-device-is-forwarded/split", &mode_formats[0],
                         test_in_flight_of_the_device_is_forwarded);
    mode_test_add("/svq-mode/switches-under-traffic", test_switches_under_traffic,
                  G_N_ELEMENTS(mode_formats));
    mode_test_add("/svq-mode/log-is-precise", test_log_is_precise, PLAIN_FORMATS);
    return rig_test_run();
}
