/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lives of a guest's driver, of its VMM and of the device that end in the middle of something:
 * whose the state of the control queue is then, and that nothing waits for ever.
 */
#include <string.h>

#include "lib/control-world.h"

/* A state, and the commands that restore it. */
#define STATE       "RX_PROMISC on\nVLAN_ADD 5\n"
#define RESTORE     "RX_PROMISC on; VLAN_ADD 5"
#define RESTORED    2u

/* A limit that is worth waiting for, and that a device which answers keeps on a busy machine. */
#define LIMIT_MS    2000

static void begin(ControlWorld *w, const ControlWorldConfig *config)
{
    control_world_init(w, config);
    control_world_start(w);
    control_world_do(w, "RX_PROMISC on");
    control_world_do(w, "VLAN_ADD 5");
    control_world_assert_state(w, STATE);
    g_free(control_world_take_commands(w));
    g_free(fake_device_take_calls(&w->rig.fake));
}

static void start_rings(ControlWorld *w)
{
    control_world_start_ring(w, 0);
    control_world_start_ring(w, 1);
    control_world_start_ring(w, CONTROL_RING);
}

/* The device has lost what the driver before did to it. */
static void assert_was_reset(ControlWorld *w)
{
    g_autofree char *calls = fake_device_take_calls(&w->rig.fake);

    g_assert_nonnull(strstr(calls, "reset"));
}

/* A driver without a past: neither svqd nor the device has anything of another's state. */
static void assert_is_new(ControlWorld *w)
{
    control_world_await_running(w);
    control_world_assert_state(w, "");
    control_world_assert_commands(w, "");
    control_world_do(w, "RX_ALLMULTI on");
    control_world_assert_state(w, "RX_ALLMULTI on\n");
    control_world_assert_commands(w, "RX_ALLMULTI on");
}

static void fix_rings(FakeDevice *fake)
{
    fake->dev.rings_fixed = true;
}

/* A state that is loaded. */

static GBytes *save(void)
{
    ControlWorld w;
    GBytes *state;

    begin(&w, &(ControlWorldConfig){ 0 });
    control_world_pause(&w);
    state = control_world_save(&w);
    g_assert_nonnull(state);
    control_world_cleanup(&w);
    return state;
}

/* The guest has moved: a svqd that knows nothing of it has the state, and the data rings go on. */
static void arrive(ControlWorld *w, const ControlWorldConfig *config)
{
    Vmm *v = &w->rig.vmm;
    g_autoptr(GBytes) state = NULL;
    unsigned int q;

    begin(w, config);
    control_world_pause(w);
    state = control_world_save(w);
    g_assert_nonnull(state);
    control_world_restart(w, NULL);
    control_world_connect(w);
    g_assert_true(control_world_load(w, state));
    for (q = 0; q <= CONTROL_RING; q++) {
        v->rings[q].base = vmm_expected_base(v, q);
    }
    control_world_continue_ring(w, 0);
    control_world_continue_ring(w, 1);
}

/* The control ring follows, and finds its state. */
static void assert_goes_on(ControlWorld *w)
{
    control_world_continue_ring(w, CONTROL_RING);
    control_world_await_running(w);
    control_world_do(w, "VLAN_ADD 6");
    control_world_assert_state(w, "RX_PROMISC on\nVLAN_ADD 5-6\n");
    control_world_cleanup(w);
}

/* Data did not wait for it any more: the device was told the state by a ring of ours. */
static void test_loaded_for_late_ring(void)
{
    ControlWorld w;

    arrive(&w, &(ControlWorldConfig){ .no_status = true, .options.hold_ms = 20 });
    control_world_await_commands(&w, RESTORE);
    vmm_await_state(w.rig.dev, 0, SVQ_QUEUE_RUNNING);
    vmm_await_state(w.rig.dev, 1, SVQ_QUEUE_RUNNING);
    assert_goes_on(&w);
}

/*
 * The device takes rings before DRIVER_OK only: ours is there from the first, and it is reset
 * for each ring that follows late.
 */
static void test_loaded_for_late_ring_with_fixed_rings(void)
{
    ControlWorld w;

    arrive(&w, &(ControlWorldConfig){ .no_status = true, .prepare = fix_rings });
    control_world_await_taken(&w, 2 * RESTORED);
    assert_goes_on(&w);
}

/* Data queues wait for the control ring when a state comes: they do not wait for ever. */
static void test_loaded_while_data_waits(void)
{
    g_autoptr(GBytes) state = save();
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .no_status = true, .options.hold_ms = LIMIT_MS });
    control_world_connect(&w);
    g_assert_true(control_world_load(&w, state));
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    g_assert_false(control_world_has_ring(&w, 1));
    g_assert_true(control_world_load(&w, state));
    vmm_await_state(w.rig.dev, 0, SVQ_QUEUE_RUNNING);
    vmm_await_state(w.rig.dev, 1, SVQ_QUEUE_RUNNING);
    control_world_assert_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

/* The driver whose state it is is reset before it has started. */
static void test_loaded_then_reset(void)
{
    g_autoptr(GBytes) state = save();
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ 0 });
    control_world_connect(&w);
    g_assert_true(control_world_load(&w, state));
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    start_rings(&w);
    control_world_driver_ok(&w);
    assert_is_new(&w);
    control_world_cleanup(&w);
}

/* Drivers of which the VMM tells nothing but where their rings begin. */

/* The one in between has no more than a base for its control ring, which is then asked back. */
static void test_reset_twice(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .no_status = true });
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, CONTROL_RING, 0);
    control_world_pause(&w);
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    vmm_make_ring(&w.rig.vmm, CONTROL_RING);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_BASE, CONTROL_RING, VMM_START);
    control_world_pause(&w);
    g_assert_cmpuint(w.rig.vmm.rings[CONTROL_RING].base, ==, 0);
    start_rings(&w);
    assert_is_new(&w);
    assert_was_reset(&w);
    control_world_cleanup(&w);
}

/* The one in between has all its rings, and no device. */
static void test_reset_twice_without_device(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .no_status = true });
    fake_device_go(&w.rig.fake);
    control_world_pause(&w);
    start_rings(&w);
    control_world_pause(&w);
    g_assert_cmpuint(w.rig.vmm.rings[CONTROL_RING].base, ==, 0);
    start_rings(&w);
    fake_device_come(&w.rig.fake);
    assert_is_new(&w);
    control_world_cleanup(&w);
}

/* What was sent and not answered the device may have done: the next driver gets a fresh one. */
static void test_unanswered_then_reset(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .options.timeout_ms = LIMIT_MS });
    control_world_start(&w);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    g_assert_cmpuint(control_world_try(&w, "RX_PROMISC on"), ==, NET_CTRL_ERR);
    control_world_assert_commands(&w, "RX_PROMISC on");
    g_free(fake_device_take_calls(&w.rig.fake));
    control_world_pause(&w);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    start_rings(&w);
    assert_is_new(&w);
    assert_was_reset(&w);
    control_world_cleanup(&w);
}

/* The control ring ends, and others go on. */

/* The VMM takes it back, and it alone, before the device has answered what restores it. */
static void test_stopped_while_restoring(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .options.hold_ms = 20 });
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_replace_device(&w);
    control_world_await_taken(&w, RESTORED + 1);
    g_assert_false(control_world_has_ring(&w, 0));
    g_free(control_world_take_commands(&w));
    vmm_do(&w.rig.vmm, VHOST_USER_GET_VRING_BASE, CONTROL_RING, 0);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    vmm_await_state(w.rig.dev, 0, SVQ_QUEUE_RUNNING);
    vmm_await_state(w.rig.dev, 1, SVQ_QUEUE_RUNNING);
    control_world_assert_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

/*
 * The device goes when it has done one command of two, of which the first, done again, undoes the
 * second: the next one gets both.
 */
static void test_gone_while_restoring(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ 0 });
    control_world_start(&w);
    control_world_do(&w, "NOTF_COAL_TX_SET packets=1 usecs=2");
    control_world_do(&w, "NOTF_COAL_VQ_SET vq=1 packets=3 usecs=4");
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .latency_us = 300000 });
    control_world_replace_device(&w);
    control_world_await_taken(&w, 4);
    fake_device_go(&w.rig.fake);
    g_free(control_world_take_commands(&w));
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    fake_device_come(&w.rig.fake);
    control_world_await_running(&w);
    control_world_assert_commands(&w, "NOTF_COAL_TX_SET packets=1 usecs=2; "
                                      "NOTF_COAL_VQ_SET vq=1 packets=3 usecs=4");
    control_world_assert_state(&w, "NOTF_COAL_TX_SET packets=1 usecs=2\n"
                                   "NOTF_COAL_VQ_SET vq=1 packets=3 usecs=4\n");
    control_world_cleanup(&w);
}

static void can_switch(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
    fake_device_can_isolate(fake);
}

/* mode=auto: data queues change sides though the guest has broken its control ring. */
static void test_broken_while_switching(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .mode = SVQ_MODE_AUTO, .prepare = can_switch });
    mode_await(&w.rig, true);
    vmm_spoil(&w.rig.vmm, CONTROL_RING);
    vmm_await_state(w.rig.dev, w.index, SVQ_QUEUE_BROKEN);
    mode_set_log_all(&w.rig, true);
    mode_await(&w.rig, false);
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

/* Without a device the guest has its answer all the same, also on a ring that was away itself. */
static void test_orphan_is_disabled(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .options.timeout_ms = LIMIT_MS });
    fake_device_go(&w.rig.fake);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, CONTROL_RING, 0);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_VRING_ENABLE, CONTROL_RING, 1);
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 6"), ==, NET_CTRL_ERR);
    fake_device_come(&w.rig.fake);
    control_world_await_running(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

/* Nor does it wait for one that has come, and cannot be this guest's. */
static void test_orphan_beside_unfit_device(void)
{
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ .options.timeout_ms = LIMIT_MS });
    fake_device_go(&w.rig.fake);
    w.rig.fake.dev.features &= ~CONTROL_WORLD_CTRL_RX;
    fake_device_come(&w.rig.fake);
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 6"), ==, NET_CTRL_ERR);
    g_assert_cmpint(rig_stats(&w.rig, 0).state, ==, SVQ_QUEUE_STOPPED);
    control_world_assert_commands(&w, "");
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    g_test_add_func("/svq-control-lives/loaded-for-late-ring", test_loaded_for_late_ring);
    g_test_add_func("/svq-control-lives/loaded-for-late-ring-with-fixed-rings",
                    test_loaded_for_late_ring_with_fixed_rings);
    g_test_add_func("/svq-control-lives/loaded-while-data-waits", test_loaded_while_data_waits);
    g_test_add_func("/svq-control-lives/loaded-then-reset", test_loaded_then_reset);
    g_test_add_func("/svq-control-lives/reset-twice", test_reset_twice);
    g_test_add_func("/svq-control-lives/reset-twice-without-device",
                    test_reset_twice_without_device);
    g_test_add_func("/svq-control-lives/unanswered-then-reset", test_unanswered_then_reset);
    g_test_add_func("/svq-control-lives/stopped-while-restoring", test_stopped_while_restoring);
    g_test_add_func("/svq-control-lives/gone-while-restoring", test_gone_while_restoring);
    g_test_add_func("/svq-control-lives/broken-while-switching", test_broken_while_switching);
    g_test_add_func("/svq-control-lives/orphan-is-disabled", test_orphan_is_disabled);
    g_test_add_func("/svq-control-lives/orphan-beside-unfit-device",
                    test_orphan_beside_unfit_device);
    return rig_test_run();
}
