/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VMM that keeps the guest's control queue to itself, as QEMU does, in front of a device that has
 * one: the device is told by us what it needs to be told.
 */
#include "lib/control-world.h"

static void serve_control(FakeDevice *fake)
{
    fake->dev.serves_control = true;
}

static void serve_control_with_fixed_rings(FakeDevice *fake)
{
    fake->dev.serves_control = true;
    fake->dev.rings_fixed = true;
}

static const ControlWorldConfig two_pairs = {
    .pairs = 2, .guest_without = CONTROL_WORLD_KEPT, .prepare = serve_control,
};

static const uint8_t mac[] = { 2, 0, 0, 0, 0, 9 };

#define MAC_SET "MAC_ADDR_SET 02:00:00:00:00:09"

static ControlWorldConfig with_options(ControlWorldConfig config, bool has_mac, OnOffAuto promisc)
{
    config.options.has_mac = has_mac;
    memcpy(config.options.mac, mac, sizeof(mac));
    config.options.promisc = promisc;
    return config;
}

/* A second pair comes, and goes: the device is told before the rings are started, and after. */
static void test_pairs(void)
{
    ControlWorld w;
    unsigned int i;

    control_world_init(&w, &two_pairs);
    control_world_start(&w);
    control_world_assert_commands(&w, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on");
    for (i = 0; i < 3; i++) {
        ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
        control_world_start_ring(&w, 2);
        control_world_start_ring(&w, 3);
        control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 2");
        g_assert_false(control_world_has_ring(&w, 2));
        g_assert_false(control_world_has_ring(&w, 3));
        ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
        vmm_await_state(w.rig.dev, 2, SVQ_QUEUE_RUNNING);
        vmm_await_state(w.rig.dev, 3, SVQ_QUEUE_RUNNING);
        control_world_assert_state(&w, "MQ_VQ_PAIRS_SET 2\nRX_PROMISC on\n");
        vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, 2, 0);
        vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, 3, 0);
        control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 1");
    }
    control_world_cleanup(&w);
}

/* They are there when the guest's driver begins: one command, before any ring. */
static void test_pairs_at_once(gconstpointer data)
{
    ControlWorldConfig config = two_pairs;
    ControlWorld w;
    unsigned int q;

    config.prepare = GPOINTER_TO_INT(data) ? serve_control_with_fixed_rings : serve_control;
    control_world_init(&w, &config);
    control_world_connect(&w);
    for (q = 0; q < 4; q++) {
        control_world_start_ring(&w, q);
    }
    control_world_driver_ok(&w);
    for (q = 0; q < 4; q++) {
        vmm_await_state(w.rig.dev, q, SVQ_QUEUE_RUNNING);
    }
    control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 2; RX_PROMISC on");
    /* A device that comes back is told again. */
    control_world_replace_device(&w);
    for (q = 0; q < 4; q++) {
        vmm_await_state(w.rig.dev, q, SVQ_QUEUE_RUNNING);
    }
    control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 2; RX_PROMISC on");
    control_world_cleanup(&w);
}

/* A device that takes rings before DRIVER_OK only: each change begins it anew. */
static void test_pairs_with_fixed_rings(void)
{
    ControlWorldConfig config = two_pairs;
    ControlWorld w;

    config.prepare = serve_control_with_fixed_rings;
    control_world_init(&w, &config);
    control_world_start(&w);
    control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on");
    control_world_start_ring(&w, 2);
    control_world_start_ring(&w, 3);
    vmm_await_state(w.rig.dev, 3, SVQ_QUEUE_RUNNING);
    control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 2; RX_PROMISC on");
    control_world_cleanup(&w);
}

/* The device refuses, or does not answer: that is said, and the rings are started all the same. */
static void test_pairs_are_refused(gconstpointer data)
{
    const CtrlDeviceKnobs *knobs = data;
    ControlWorldConfig config = two_pairs;
    ControlWorld w;

    config.options.timeout_ms = 2000;
    control_world_init(&w, &config);
    control_world_start(&w);
    g_free(mode_take_words());
    ctrl_device_set(w.ctrl, knobs);
    control_world_start_ring(&w, 2);
    control_world_start_ring(&w, 3);
    vmm_await_state(w.rig.dev, 2, SVQ_QUEUE_RUNNING);
    vmm_await_state(w.rig.dev, 3, SVQ_QUEUE_RUNNING);
    g_assert_true(mode_has_said(knobs->never ? "has not answered" : "refuses MQ_VQ_PAIRS_SET 2"));
    control_world_assert_state(&w, "MQ_VQ_PAIRS_SET 1\nRX_PROMISC on\n");
    control_world_cleanup(&w);
}

static const CtrlDeviceKnobs refuses = { .ack = NET_CTRL_ERR }, never = { .never = true };

/* What the options want of a device, and what it can. */
static void test_options(void)
{
    static const struct {
        bool has_mac;
        OnOffAuto promisc;
        uint64_t without;       /* features of the device */
        const char *commands;
    } cases[] = {
        { false, ON_OFF_AUTO_AUTO, 0, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on" },
        { false, ON_OFF_AUTO_ON, 0, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on" },
        { false, ON_OFF_AUTO_OFF, 0, "MQ_VQ_PAIRS_SET 1; RX_PROMISC off" },
        { true, ON_OFF_AUTO_OFF, 0, MAC_SET "; MQ_VQ_PAIRS_SET 1; RX_PROMISC off" },
        { true, ON_OFF_AUTO_AUTO, CONTROL_WORLD_MQ, MAC_SET "; RX_PROMISC on" },
        { true, ON_OFF_AUTO_AUTO, CONTROL_WORLD_MQ | CONTROL_WORLD_CTRL_RX, MAC_SET },
        { true, ON_OFF_AUTO_AUTO, CONTROL_WORLD_MQ | CONTROL_WORLD_CTRL_MAC, "RX_PROMISC on" },
        { false, ON_OFF_AUTO_OFF, CONTROL_WORLD_MQ, "RX_PROMISC off" },
        { false, ON_OFF_AUTO_OFF, CONTROL_WORLD_MQ | CONTROL_WORLD_CTRL_RX, "" },
        { true, ON_OFF_AUTO_AUTO,
          CONTROL_WORLD_MQ | CONTROL_WORLD_CTRL_RX | CONTROL_WORLD_CTRL_MAC, "" },
        { true, ON_OFF_AUTO_ON, VIRTIO_NET_CTRL_FEATURES, "" },
    };
    unsigned int i, fixed;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (fixed = 0; fixed < 2; fixed++) {
            ControlWorldConfig config = with_options(two_pairs, cases[i].has_mac,
                                                     cases[i].promisc);
            ControlWorld w;

            config.pairs = cases[i].without & CONTROL_WORLD_MQ ? 1 : 2;
            config.device_without = cases[i].without | VIRTIO_F_BIT(60);    /* RSS */
            config.prepare = fixed ? serve_control_with_fixed_rings : serve_control;
            control_world_init(&w, &config);
            control_world_start(&w);
            control_world_await_commands(&w, cases[i].commands);
            g_assert_true(control_world_has_ring(&w, w.index) == (cases[i].commands[0] != '\0'));
            control_world_cleanup(&w);
        }
    }
}

/* A guest without MQ on a device with it: the control queue is behind all of the device's. */
static void test_guest_without_mq(void)
{
    ControlWorldConfig config = two_pairs;
    ControlWorld w;

    config.guest_without = VIRTIO_NET_CTRL_FEATURES;
    control_world_init(&w, &config);
    control_world_start(&w);
    control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on");
    g_assert_true(w.rig.fake.features & CONTROL_WORLD_MQ);
    control_world_cleanup(&w);
}

static void assert_left_alone(const ControlWorldConfig *config)
{
    ControlWorld w;

    control_world_init(&w, config);
    control_world_start(&w);
    g_assert_false(control_world_has_ring(&w, w.index));
    g_assert_false(w.rig.fake.features & CONTROL_WORLD_CTRL_VQ);
    control_world_assert_commands(&w, "");
    control_world_cleanup(&w);
}

/* The control queue is withheld (ctrl_vq=off), or not known to work. */
static void test_left_alone(void)
{
    ControlWorldConfig config = with_options(two_pairs, true, ON_OFF_AUTO_ON);
    ControlWorld w;

    config.withheld = CONTROL_WORLD_KEPT;
    assert_left_alone(&config);
    config = two_pairs;
    config.prepare = NULL;
    assert_left_alone(&config);
    /* Who asks for these knows that it does. */
    config = with_options(config, true, ON_OFF_AUTO_ON);
    control_world_init(&w, &config);
    control_world_start(&w);
    control_world_assert_commands(&w, MAC_SET "; MQ_VQ_PAIRS_SET 1; RX_PROMISC on");
    control_world_cleanup(&w);
}

/* The guest has its own: the options are what it begins with, each time. */
static void test_options_for_guest_with_control_queue(void)
{
    const ControlWorldConfig own = { .prepare = serve_control };
    const ControlWorldConfig config = with_options(own, true, ON_OFF_AUTO_ON);
    ControlWorld w;

    control_world_init(&w, &config);
    control_world_start(&w);
    control_world_assert_commands(&w, MAC_SET "; RX_PROMISC on");
    control_world_do(&w, "RX_PROMISC off");
    control_world_assert_state(&w, MAC_SET "\nRX_PROMISC off\n");
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    control_world_start(&w);
    control_world_assert_commands(&w, "RX_PROMISC off; " MAC_SET "; RX_PROMISC on");
    control_world_cleanup(&w);
}

/* Unless they are asked for, it begins with nothing. */
static void test_auto_for_guest_with_control_queue(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .prepare = serve_control });
    control_world_start(&w);
    control_world_assert_commands(&w, "");
    control_world_cleanup(&w);
}

/* VMMs come and go, one with two pairs, one with one, one whose guest has a control queue. */
static void test_other_vmms(void)
{
    ControlWorldConfig config = two_pairs;
    ControlWorld w;

    control_world_init(&w, &config);
    control_world_connect(&w);
    control_world_start_ring(&w, 2);
    control_world_start_ring(&w, 3);
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    control_world_driver_ok(&w);
    vmm_await_state(w.rig.dev, 3, SVQ_QUEUE_RUNNING);
    control_world_assert_commands(&w, "MQ_VQ_PAIRS_SET 2; RX_PROMISC on");
    vmm_disconnect(&w.rig.vmm);
    control_world_start(&w);
    control_world_assert_commands(&w, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on");
    vmm_disconnect(&w.rig.vmm);
    w.config.guest_without = 0;
    control_world_start(&w);
    control_world_do(&w, "RX_ALLMULTI on");
    control_world_assert_commands(&w, "RX_ALLMULTI on");
    control_world_assert_state(&w, "RX_ALLMULTI on\n");
    vmm_disconnect(&w.rig.vmm);
    w.config.guest_without = CONTROL_WORLD_KEPT;
    control_world_start(&w);
    control_world_assert_commands(&w, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on");
    control_world_cleanup(&w);
}

/* A guest without a control queue, a firmware's, before one with it, in one machine. */
static void test_other_driver(void)
{
    ControlWorldConfig config = two_pairs;
    ControlWorld w;

    control_world_init(&w, &config);
    control_world_start(&w);
    control_world_assert_commands(&w, "MQ_VQ_PAIRS_SET 1; RX_PROMISC on");
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    w.rig.vmm.features |= CONTROL_WORLD_CTRL_VQ | CONTROL_WORLD_CTRL_RX;
    vmm_do(&w.rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    w.rig.vmm.wire[CONTROL_RING] = w.index;
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    control_world_start_ring(&w, CONTROL_RING);
    control_world_driver_ok(&w);
    control_world_await_running(&w);
    control_world_do(&w, "RX_ALLMULTI on");
    control_world_assert_commands(&w, "RX_ALLMULTI on");
    control_world_assert_state(&w, "RX_ALLMULTI on\n");
    control_world_cleanup(&w);
}

/* It speaks of a virtqueue that is not its own: it has no part in it. */
static void test_vmm_meddles(void)
{
    ControlWorldConfig config = two_pairs;
    ControlWorld w;
    Vmm *v = &w.rig.vmm;

    control_world_init(&w, &config);
    control_world_start(&w);
    g_free(control_world_take_commands(&w));
    v->wire[2] = w.index;
    vmm_do(v, VHOST_USER_SET_VRING_ENABLE, 2, 0);
    vmm_do(v, VHOST_USER_GET_VRING_BASE, 2, 0);
    vmm_do(v, VHOST_USER_SET_VRING_CALL, 2, 0);
    vmm_do(v, VHOST_USER_SET_VRING_KICK, 2, 0);
    g_assert_true(control_world_has_ring(&w, w.index));
    v->wire[2] = 2;
    control_world_start_ring(&w, 2);
    control_world_start_ring(&w, 3);
    control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 2");
    vmm_await_state(w.rig.dev, 3, SVQ_QUEUE_RUNNING);

    /* A ring of its own there: a guest's, that may command nothing. */
    v->wire[2] = w.index;
    control_world_start_ring(&w, 2);
    control_world_post(&w, "RX_ALLMULTI on");
    g_assert_cmpuint(control_world_await_ack(&w), ==, NET_CTRL_ERR);
    control_world_assert_state(&w, "MQ_VQ_PAIRS_SET 2\nRX_PROMISC on\n");
    control_world_cleanup(&w);
}

/* Other memory, while the queue runs without a ring of the guest's. */
static void test_memory_changes(void)
{
    ControlWorld w;

    control_world_init(&w, &two_pairs);
    control_world_start(&w);
    g_free(control_world_take_commands(&w));
    w.rig.vmm.regions[VMM_DATA].size *= 2;
    vmm_do(&w.rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
    control_world_start_ring(&w, 2);
    control_world_start_ring(&w, 3);
    control_world_await_commands(&w, "MQ_VQ_PAIRS_SET 2");
    vmm_await_state(w.rig.dev, 3, SVQ_QUEUE_RUNNING);
    control_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    g_test_add_func("/svq-control-bridge/pairs", test_pairs);
    g_test_add_data_func("/svq-control-bridge/pairs-at-once", GINT_TO_POINTER(false),
                         test_pairs_at_once);
    g_test_add_data_func("/svq-control-bridge/pairs-at-once-with-fixed-rings",
                         GINT_TO_POINTER(true), test_pairs_at_once);
    g_test_add_func("/svq-control-bridge/pairs-with-fixed-rings", test_pairs_with_fixed_rings);
    g_test_add_data_func("/svq-control-bridge/pairs-are-refused", &refuses,
                         test_pairs_are_refused);
    g_test_add_data_func("/svq-control-bridge/pairs-are-not-answered", &never,
                         test_pairs_are_refused);
    g_test_add_func("/svq-control-bridge/options", test_options);
    g_test_add_func("/svq-control-bridge/guest-without-mq", test_guest_without_mq);
    g_test_add_func("/svq-control-bridge/left-alone", test_left_alone);
    g_test_add_func("/svq-control-bridge/options-for-guest-with-control-queue",
                    test_options_for_guest_with_control_queue);
    g_test_add_func("/svq-control-bridge/auto-for-guest-with-control-queue",
                    test_auto_for_guest_with_control_queue);
    g_test_add_func("/svq-control-bridge/other-vmms", test_other_vmms);
    g_test_add_func("/svq-control-bridge/other-driver", test_other_driver);
    g_test_add_func("/svq-control-bridge/vmm-meddles", test_vmm_meddles);
    g_test_add_func("/svq-control-bridge/memory-changes", test_memory_changes);
    return rig_test_run();
}
