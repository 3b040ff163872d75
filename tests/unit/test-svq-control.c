/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue of a shadowed network device: which virtqueue it is, whose state its commands
 * make, and what becomes of it when the guest's driver, its VMM or the device begins anew.
 */
#include <errno.h>
#include <string.h>

#include "lib/control-world.h"

/* A state, and the commands that make it; in this order they restore it. */
#define STATE       "MAC_ADDR_SET 02:00:00:00:00:07\nRX_PROMISC on\nVLAN_ADD 5\n"
#define RESTORE     "MAC_ADDR_SET 02:00:00:00:00:07; RX_PROMISC on; VLAN_ADD 5"
#define RESTORED    3u

static void make_state(ControlWorld *w)
{
    control_world_do(w, "RX_PROMISC on");
    control_world_do(w, "VLAN_ADD 5");
    control_world_do(w, "MAC_ADDR_SET 02:00:00:00:00:07");
    control_world_assert_state(w, STATE);
    g_free(control_world_take_commands(w));
    g_free(fake_device_take_calls(&w->rig.fake));
}

/* Its guest has made the state. */
static void begin(ControlWorld *w, const ControlWorldConfig *config)
{
    control_world_init(w, config);
    control_world_start(w);
    make_state(w);
}

/* Whether @earlier comes before @later in what the device was asked. */
static void assert_order(const char *calls, const char *earlier, const char *later)
{
    const char *first = strstr(calls, earlier), *second = strstr(calls, later);

    g_assert_nonnull(first);
    g_assert_nonnull(second);
    g_assert_true(first < second);
}

/* Which virtqueue it is. */

static void assert_commands_are_seen(ControlWorld *w)
{
    control_world_start(w);
    control_world_do(w, "RX_ALLMULTI on");
    control_world_assert_commands(w, "RX_ALLMULTI on");
    control_world_assert_state(w, "RX_ALLMULTI on\n");
    control_world_cleanup(w);
}

static void test_index(void)
{
    static const struct {
        unsigned int pairs;
        uint64_t without;
        unsigned int index;
    } cases[] = {
        { 1, 0, 2 },
        { 2, 0, 4 },
        { 5, 0, 10 },
        { 3, CONTROL_WORLD_RSS, 6 },
        { 3, CONTROL_WORLD_MQ, 6 },
        { 3, CONTROL_WORLD_MQ | CONTROL_WORLD_RSS, 2 },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        ControlWorld w;

        control_world_init(&w, &(ControlWorldConfig){ .pairs = cases[i].pairs,
                                                      .device_without = cases[i].without });
        g_assert_cmpuint(w.index, ==, cases[i].index);
        assert_commands_are_seen(&w);
    }
}

/* What the guest has negotiated counts, not what the device could have had. */
static void test_index_follows_guest(void)
{
    const ControlWorldConfig config = {
        .pairs = 3, .guest_without = CONTROL_WORLD_MQ | CONTROL_WORLD_RSS,
    };
    ControlWorld w;

    control_world_init(&w, &config);
    w.index = 2;
    fake_device_host_ctrl(&w.rig.fake, 2, w.ctrl);
    assert_commands_are_seen(&w);
}

static void test_without_configuration_space(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .pairs = 4, .no_config = true });
    assert_commands_are_seen(&w);
}

/* Its configuration space promises more pairs than it has virtqueues. */
static void test_index_beyond_queues(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .pairs = 4, .queues = 4 });
    control_world_connect(&w);
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    control_world_driver_ok(&w);
    vmm_await_state(w.rig.dev, 0, SVQ_QUEUE_RUNNING);
    mode_assert_said_once("net0: the device has no virtqueue 8, which should be the control queue");
    control_world_assert_state(&w, "unknown: the control queue passes through unseen\n");
    control_world_cleanup(&w);
}

static void test_guest_without(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .guest_without = VIRTIO_NET_CTRL_FEATURES });
    control_world_start(&w);
    control_world_assert_state(&w, "");
    g_assert_false(control_world_has_ring(&w, 2));
    control_world_cleanup(&w);
}

static void test_withheld(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .withheld = VIRTIO_NET_CTRL_FEATURES });
    control_world_start(&w);
    g_assert_false(w.rig.vmm.features & VIRTIO_NET_CTRL_FEATURES);
    control_world_assert_state_of(w.rig.dev, NULL);
    g_assert_null(control_world_save(&w));
    control_world_cleanup(&w);
}

/* The device comes back. */

/* Its data rings are not started before it has answered every command. */
static void test_restored_before_data(gconstpointer data)
{
    const RigFormat *format = data;
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .guest_packed = format->guest_packed,
                                     .shadow_packed = format->shadow_packed });
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_replace_device(&w);
    /* What is to be done before the next group: the address alone. */
    control_world_await_taken(&w, RESTORED + 1);
    g_assert_false(control_world_has_ring(&w, 0));
    g_assert_false(control_world_has_ring(&w, 1));
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    control_world_await_running(&w);
    control_world_assert_commands(&w, RESTORE);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).answered, ==, 2 * RESTORED);
    control_world_assert_state(&w, STATE);
    control_world_do(&w, "VLAN_DEL 5");
    control_world_cleanup(&w);
}

static void fix_rings(FakeDevice *fake)
{
    fake->dev.rings_fixed = true;
}

/* It takes rings before DRIVER_OK only; the commands follow that at once. */
static void test_restored_with_fixed_rings(void)
{
    g_autofree char *calls = NULL;
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .prepare = fix_rings });
    control_world_replace_device(&w);
    control_world_await_commands(&w, RESTORE);
    control_world_await_running(&w);
    calls = fake_device_take_calls(&w.rig.fake);
    assert_order(calls, "start:0", "status:f");
    assert_order(calls, "start:1", "status:f");
    assert_order(calls, "start:2", "status:f");
    control_world_do(&w, "VLAN_ADD 6");
    control_world_cleanup(&w);
}

/* It has its data rings meanwhile, but nothing of the guest's is in them, whatever else changes. */
static void test_fixed_rings_are_held(void)
{
    VringSegment seg[1];
    ControlWorld w;
    Vmm *v = &w.rig.vmm;

    begin(&w, &(ControlWorldConfig){ .prepare = fix_rings });
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_replace_device(&w);
    control_world_await_taken(&w, RESTORED + 1);
    g_assert_true(control_world_has_ring(&w, 1));
    vmm_add(v, 1, vmm_buffer_gpa(1, 0), 100, 0);
    v->regions[VMM_DATA].size *= 2;
    vmm_do(v, VHOST_USER_SET_MEM_TABLE, 0, 0);
    vmm_do(v, VHOST_USER_SET_VRING_KICK, 1, 0);
    vmm_do(v, VHOST_USER_SET_VRING_CALL, 1, 0);
    g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).answered, ==, RESTORED);
    g_assert_cmpuint(rig_stats(&w.rig, 1).counters.buffers, ==, 0);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    control_world_await_commands(&w, RESTORE);
    control_world_await_buffers(&w, 1, 1);
    fake_device_put(&w.rig.fake, 1, fake_device_take(&w.rig.fake, 1, seg), 0);
    g_assert_cmphex(seg->addr, ==, vmm_buffer_gpa(1, 0));
    control_world_cleanup(&w);
}

/* They are taken back while they are held: the device goes, the VMM goes, svqd ends. */
static void test_stopped_while_held(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .prepare = fix_rings });
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_replace_device(&w);
    control_world_await_taken(&w, RESTORED + 1);
    control_world_replace_device(&w);
    control_world_await_taken(&w, RESTORED + 2);
    control_world_pause(&w);
    g_assert_cmpuint(w.rig.vmm.rings[1].base, ==, 0);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    g_free(control_world_take_commands(&w));
    control_world_go_on(&w);
    control_world_await_commands(&w, RESTORE);
    control_world_replace_device(&w);
    control_world_cleanup(&w);
}

/* Messages in any order: what the VMM says of rings 0, 1 and 2, and DRIVER_OK (D). */
static void say(ControlWorld *w, const char *order, bool go_on)
{
    for (; *order; order++) {
        if (*order == 'D') {
            control_world_driver_ok(w);
        } else if (go_on) {
            control_world_continue_ring(w, (unsigned int)(*order - '0'));
        } else {
            control_world_start_ring(w, (unsigned int)(*order - '0'));
        }
    }
}

static const char *const orders[] = { "012D", "201D", "D012", "D201", "0D12", "2D01", "0D21" };

/* The VMM pauses its guest, and lets it go on: the state is that of before. */
static void test_pause(void)
{
    unsigned int i, no_status, fixed;

    for (fixed = 0; fixed < 2; fixed++) {
        for (no_status = 0; no_status < 2; no_status++) {
            for (i = 0; i < G_N_ELEMENTS(orders); i++) {
                ControlWorld w;

                begin(&w, &(ControlWorldConfig){ .no_status = no_status,
                                                 .prepare = fixed ? fix_rings : NULL });
                control_world_pause(&w);
                control_world_assert_state(&w, STATE);
                say(&w, orders[i], true);
                control_world_await_running(&w);
                control_world_assert_state(&w, STATE);
                control_world_do(&w, "VLAN_ADD 7");
                control_world_assert_state(&w, STATE "VLAN_ADD 7\n");
                /* Only a device that was reset has lost its own. */
                control_world_assert_commands(&w, fixed ? RESTORE "; VLAN_ADD 7" : "VLAN_ADD 7");
                control_world_cleanup(&w);
            }
        }
    }
}

/* A new driver, by a reset of which the VMM tells; the state is forgotten, whatever the order. */
static void test_reset_by_status(void)
{
    unsigned int i, fixed;

    for (fixed = 0; fixed < 2; fixed++) {
        for (i = 0; i < G_N_ELEMENTS(orders); i++) {
            ControlWorld w;

            begin(&w, &(ControlWorldConfig){ .prepare = fixed ? fix_rings : NULL });
            vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
            say(&w, orders[i], false);
            control_world_await_running(&w);
            control_world_do(&w, "RX_ALLMULTI on");
            control_world_assert_state(&w, "RX_ALLMULTI on\n");
            control_world_assert_commands(&w, "RX_ALLMULTI on");
            control_world_cleanup(&w);
        }
    }
}

/* User Mode Linux: a new driver shows by nothing but rings that begin at 0 again. */
static void test_reset_without_a_word(void)
{
    static const char *const without_status[] = { "012", "201", "021" };
    unsigned int i, q, fixed;

    for (fixed = 0; fixed < 2; fixed++) {
        for (i = 0; i < G_N_ELEMENTS(without_status); i++) {
            g_autofree char *calls = NULL;
            ControlWorld w;

            begin(&w, &(ControlWorldConfig){ .no_status = true,
                                             .prepare = fixed ? fix_rings : NULL });
            for (q = 3; q-- > 0;) {
                vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, q, 0);
            }
            say(&w, without_status[i], false);
            control_world_await_running(&w);
            calls = fake_device_take_calls(&w.rig.fake);
            g_assert_nonnull(strstr(calls, "reset"));
            control_world_assert_commands(&w, "");
            control_world_do(&w, "RX_ALLMULTI on");
            control_world_assert_state(&w, "RX_ALLMULTI on\n");
            control_world_cleanup(&w);
        }
    }
}

/* The same after a pause before the first command: there base 0 was asked for, and meant. */
static void test_reset_after_early_pause(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .no_status = true });
    control_world_start(&w);
    control_world_pause(&w);
    say(&w, "012", true);
    control_world_await_running(&w);
    make_state(&w);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, CONTROL_RING, 0);
    say(&w, "2", false);
    control_world_await_running(&w);
    control_world_do(&w, "RX_ALLMULTI on");
    control_world_assert_state(&w, "RX_ALLMULTI on\n");
    control_world_cleanup(&w);
}

/* A driver without a control queue follows one with it, a firmware's, and the other way round. */
static void test_driver_without(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    w.rig.vmm.features &= ~VIRTIO_NET_CTRL_FEATURES;
    vmm_do(&w.rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    say(&w, "01D", false);
    control_world_await_running(&w);
    control_world_assert_state(&w, "");
    control_world_assert_commands(&w, "");
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    w.rig.vmm.features |= CONTROL_WORLD_CTRL_VQ | CONTROL_WORLD_CTRL_RX;
    vmm_do(&w.rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    say(&w, "012D", false);
    control_world_await_running(&w);
    control_world_do(&w, "RX_ALLMULTI on");
    control_world_assert_state(&w, "RX_ALLMULTI on\n");
    control_world_cleanup(&w);
}

/* Another VMM. */

static void test_vmm_comes_back(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    control_world_go_on(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

static void test_other_vmm_begins(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    control_world_start(&w);
    control_world_assert_state(&w, "");
    control_world_assert_commands(&w, "");
    make_state(&w);
    w.config.guest_packed = true;
    control_world_start(&w);
    control_world_assert_state(&w, "");
    control_world_assert_commands(&w, "");
    make_state(&w);
    w.config.guest_packed = false;
    control_world_start(&w);
    control_world_assert_state(&w, "");
    control_world_assert_commands(&w, "");
    control_world_cleanup(&w);
}

/* The guest of another comes in the middle of its life, and without a state. */
static void test_other_vmm_goes_on(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    control_world_pause(&w);
    control_world_connect(&w);
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    vmm_make_ring(&w.rig.vmm, CONTROL_RING);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_NUM, CONTROL_RING, 0);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_BASE, CONTROL_RING, VMM_KEEP_BASE);
    /* Elsewhere in its memory. */
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ADDR, CONTROL_RING, 0x1000);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_KICK, CONTROL_RING, 0);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, CONTROL_RING, 1);
    control_world_driver_ok(&w);
    vmm_await_state(w.rig.dev, 0, SVQ_QUEUE_RUNNING);
    control_world_assert_state(&w, "");
    control_world_assert_commands(&w, "");
    control_world_cleanup(&w);
}

/* A state, and a VMM that does not set up the ring it belongs to. */

static void test_control_ring_never_comes(void)
{
    const ControlWorldConfig config = { .options = { .hold_ms = 20 } };
    unsigned int no_status;

    for (no_status = 0; no_status < 2; no_status++) {
        ControlWorldConfig with = config;
        ControlWorld w;

        with.no_status = no_status;
        begin(&w, &with);
        control_world_pause(&w);
        control_world_replace_device(&w);
        say(&w, "01D", true);
        control_world_await_running(&w);
        /* It was started alone, for the state's sake. */
        control_world_assert_commands(&w, RESTORE);
        say(&w, "2", true);
        control_world_do(&w, "VLAN_ADD 9");
        control_world_assert_state(&w, STATE "VLAN_ADD 9\n");
        control_world_cleanup(&w);
    }
}

/* It comes after all, and the device does not let go of the one for the state's sake. */
static void test_lone_ring_is_not_given_back(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .options = { .hold_ms = 20 } });
    control_world_pause(&w);
    control_world_replace_device(&w);
    say(&w, "01D", true);
    control_world_await_commands(&w, RESTORE);
    control_world_await_running(&w);
    w.rig.fake.fails = "stop:2";
    w.rig.fake.fail_with = EIO;
    say(&w, "2", true);
    control_world_await_commands(&w, RESTORE);
    w.rig.fake.fails = NULL;
    control_world_await_running(&w);
    control_world_do(&w, "VLAN_ADD 9");
    control_world_assert_state(&w, STATE "VLAN_ADD 9\n");
    control_world_cleanup(&w);
}

/* It comes after all, and is another driver's: the device, restored meanwhile, is reset. */
static void test_control_ring_comes_late(void)
{
    g_autofree char *calls = NULL;
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .options = { .hold_ms = 20 } });
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    say(&w, "01D", false);
    control_world_await_commands(&w, RESTORE);
    control_world_await_running(&w);
    g_free(fake_device_take_calls(&w.rig.fake));
    say(&w, "2", false);
    control_world_await_running(&w);
    control_world_assert_state(&w, "");
    calls = fake_device_take_calls(&w.rig.fake);
    assert_order(calls, "reset", "start:0");
    control_world_do(&w, "RX_ALLMULTI on");
    control_world_assert_commands(&w, "RX_ALLMULTI on");
    control_world_cleanup(&w);
}

/* The control queue cannot be started: the others do without it. */
static void test_control_ring_is_wrong(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    control_world_pause(&w);
    control_world_replace_device(&w);
    say(&w, "0", true);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ADDR, CONTROL_RING, UINT64_C(0x10000000));
    say(&w, "1D", true);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_KICK, CONTROL_RING, 0);
    vmm_await_state(w.rig.dev, 0, SVQ_QUEUE_RUNNING);
    vmm_await_state(w.rig.dev, 1, SVQ_QUEUE_RUNNING);
    vmm_await_state(w.rig.dev, w.index, SVQ_QUEUE_BROKEN);
    control_world_assert_commands(&w, "");
    control_world_cleanup(&w);
}

/* Without a device. */

/* A limit that is worth waiting for, and that a device which answers keeps on a busy machine. */
static const ControlWorldConfig hasty = { .options = { .timeout_ms = 2000 } };

static void test_orphan_answers(void)
{
    ControlWorld w;

    begin(&w, &hasty);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_post(&w, "VLAN_ADD 6");
    control_world_await_taken(&w, RESTORED + 1);
    fake_device_go(&w.rig.fake);
    g_assert_cmpuint(control_world_await_ack(&w), ==, NET_CTRL_ERR);
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 7"), ==, NET_CTRL_ERR);
    control_world_assert_state(&w, STATE);
    g_free(control_world_take_commands(&w));
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    fake_device_come(&w.rig.fake);
    control_world_await_running(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_do(&w, "VLAN_ADD 8");
    control_world_assert_state(&w, STATE "VLAN_ADD 8\n");
    control_world_cleanup(&w);
}

/* The device is back in time: it gets what was commanded meanwhile, and the guest its answers. */
static void test_orphan_in_time(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_post(&w, "VLAN_ADD 6");
    control_world_await_taken(&w, RESTORED + 1);
    g_free(control_world_take_commands(&w));
    fake_device_go(&w.rig.fake);
    control_world_post(&w, "VLAN_ADD 7");
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    fake_device_come(&w.rig.fake);
    control_world_await_commands(&w, RESTORE "; VLAN_ADD 6; VLAN_ADD 7");
    g_assert_cmpuint(control_world_await_ack(&w), ==, NET_CTRL_OK);
    g_assert_cmpuint(control_world_await_ack(&w), ==, NET_CTRL_OK);
    control_world_assert_state(&w, "MAC_ADDR_SET 02:00:00:00:00:07\nRX_PROMISC on\nVLAN_ADD 5-7\n");
    control_world_cleanup(&w);
}

static void test_orphan_loses_vmm(void)
{
    ControlWorld w;

    begin(&w, &hasty);
    fake_device_go(&w.rig.fake);
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 7"), ==, NET_CTRL_ERR);
    vmm_disconnect(&w.rig.vmm);
    fake_device_come(&w.rig.fake);
    control_world_start(&w);
    control_world_assert_commands(&w, "");
    control_world_do(&w, "VLAN_ADD 8");
    control_world_assert_state(&w, "VLAN_ADD 8\n");
    control_world_cleanup(&w);
}

static void test_orphan_is_paused(void)
{
    ControlWorld w;

    begin(&w, &hasty);
    fake_device_go(&w.rig.fake);
    control_world_pause(&w);
    control_world_assert_state(&w, STATE);
    fake_device_come(&w.rig.fake);
    say(&w, "012D", true);
    control_world_await_running(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_cleanup(&w);
}

static void test_orphan_is_reset(void)
{
    ControlWorld w;

    begin(&w, &hasty);
    fake_device_go(&w.rig.fake);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    w.rig.vmm.features &= ~(CONTROL_WORLD_MQ | CONTROL_WORLD_RSS);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    say(&w, "012D", false);
    fake_device_come(&w.rig.fake);
    control_world_await_running(&w);
    control_world_assert_commands(&w, "");
    control_world_do(&w, "VLAN_ADD 8");
    control_world_assert_state(&w, "VLAN_ADD 8\n");
    control_world_cleanup(&w);
}

static void test_orphan_changes_memory(void)
{
    ControlWorld w;

    begin(&w, &hasty);
    fake_device_go(&w.rig.fake);
    w.rig.vmm.regions[VMM_DATA].size *= 2;
    vmm_do(&w.rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 7"), ==, NET_CTRL_ERR);
    fake_device_come(&w.rig.fake);
    control_world_await_running(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_do(&w, "VLAN_ADD 8");
    control_world_cleanup(&w);
}

/* svqd ends while its device is away, and a command waits. */
static void test_orphan_is_freed(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    fake_device_go(&w.rig.fake);
    control_world_post(&w, "VLAN_ADD 7");
    control_world_cleanup(&w);
}

/* And while its device restores, or data queues wait. */
static void test_freed_while_restoring(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_replace_device(&w);
    control_world_await_taken(&w, RESTORED + 1);
    control_world_cleanup(&w);

    begin(&w, &(ControlWorldConfig){ 0 });
    control_world_pause(&w);
    control_world_replace_device(&w);
    say(&w, "01D", true);
    g_assert_false(control_world_has_ring(&w, 0));
    control_world_cleanup(&w);
}

/* A device that comes back and answers nothing: the guest's data is not held for ever. */
static void test_restore_is_never_answered(void)
{
    ControlWorld w;

    begin(&w, &hasty);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_replace_device(&w);
    control_world_await_running(&w);
    g_assert_true(mode_has_said("net0: of these, 3 failed"));
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

/* It comes back less able than it was: it gets what it can. */
static void test_state_is_too_much(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .pairs = 2 });
    control_world_do(&w, net_ctrl_spec(NET_CTRL_MQ_RSS_CONFIG)->example);
    g_free(control_world_take_commands(&w));
    fake_device_go(&w.rig.fake);
    w.rig.fake.config[17] = 3;      /* bytes of an RSS key */
    fake_device_come(&w.rig.fake);
    control_world_await_running(&w);
    g_assert_true(mode_has_said("net0: the device cannot be brought to the state that the guest "
                                "believes it to be in: MQ_RSS_CONFIG cannot be restored on this "
                                "device"));
    control_world_assert_commands(&w, RESTORE);
    control_world_cleanup(&w);
}

/* It comes back with its control queue where the guest's is not. */
static void test_index_changes(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .pairs = 2 });
    g_free(control_world_take_commands(&w));
    fake_device_go(&w.rig.fake);
    w.rig.fake.config[8] = 1;
    fake_device_host_ctrl(&w.rig.fake, 2, w.ctrl);
    fake_device_come(&w.rig.fake);
    g_assert_true(mode_has_said("net0: the device came back with its control queue at 2, for the "
                                "guest it is at 4"));
    g_assert_cmpint(rig_stats(&w.rig, 0).state, ==, SVQ_QUEUE_STOPPED);
    control_world_assert_commands(&w, "");
    control_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    g_test_add_func("/svq-control/index", test_index);
    g_test_add_func("/svq-control/index-changes", test_index_changes);
    g_test_add_func("/svq-control/index-follows-guest", test_index_follows_guest);
    g_test_add_func("/svq-control/without-configuration-space", test_without_configuration_space);
    g_test_add_func("/svq-control/index-beyond-queues", test_index_beyond_queues);
    g_test_add_func("/svq-control/guest-without", test_guest_without);
    g_test_add_func("/svq-control/withheld", test_withheld);
    rig_test_add("/svq-control/restored-before-data", test_restored_before_data);
    g_test_add_func("/svq-control/restored-with-fixed-rings", test_restored_with_fixed_rings);
    g_test_add_func("/svq-control/fixed-rings-are-held", test_fixed_rings_are_held);
    g_test_add_func("/svq-control/stopped-while-held", test_stopped_while_held);
    g_test_add_func("/svq-control/pause", test_pause);
    g_test_add_func("/svq-control/reset-by-status", test_reset_by_status);
    g_test_add_func("/svq-control/reset-without-a-word", test_reset_without_a_word);
    g_test_add_func("/svq-control/reset-after-early-pause", test_reset_after_early_pause);
    g_test_add_func("/svq-control/driver-without", test_driver_without);
    g_test_add_func("/svq-control/vmm-comes-back", test_vmm_comes_back);
    g_test_add_func("/svq-control/other-vmm-begins", test_other_vmm_begins);
    g_test_add_func("/svq-control/other-vmm-goes-on", test_other_vmm_goes_on);
    g_test_add_func("/svq-control/control-ring-never-comes", test_control_ring_never_comes);
    g_test_add_func("/svq-control/lone-ring-is-not-given-back", test_lone_ring_is_not_given_back);
    g_test_add_func("/svq-control/control-ring-comes-late", test_control_ring_comes_late);
    g_test_add_func("/svq-control/control-ring-is-wrong", test_control_ring_is_wrong);
    g_test_add_func("/svq-control/orphan-answers", test_orphan_answers);
    g_test_add_func("/svq-control/orphan-in-time", test_orphan_in_time);
    g_test_add_func("/svq-control/orphan-loses-vmm", test_orphan_loses_vmm);
    g_test_add_func("/svq-control/orphan-is-paused", test_orphan_is_paused);
    g_test_add_func("/svq-control/orphan-is-reset", test_orphan_is_reset);
    g_test_add_func("/svq-control/orphan-changes-memory", test_orphan_changes_memory);
    g_test_add_func("/svq-control/orphan-is-freed", test_orphan_is_freed);
    g_test_add_func("/svq-control/freed-while-restoring", test_freed_while_restoring);
    g_test_add_func("/svq-control/restore-is-never-answered", test_restore_is_never_answered);
    g_test_add_func("/svq-control/state-is-too-much", test_state_is_too_much);
    return rig_test_run();
}
