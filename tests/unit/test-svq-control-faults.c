/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that do not answer commands, answer wrong, or break the control queue's ring: the guest
 * has its error in time, and a data queue in the same thread loses none.
 */
#include "lib/control-world.h"

#define LIMIT_MS    2000
#define LIMIT_US    (LIMIT_MS * G_TIME_SPAN_MILLISECOND)
#define PING_BYTES  100u
#define DATA_RING   0u      /* of the same IOThread as the control queue */

/* One packet to and fro through ring 0, in a thread of its own, until told to end. */
typedef struct PingPong {
    ControlWorld *w;
    _Atomic bool end;
    _Atomic unsigned int rounds;
    int64_t worst_us;       /* of a round */
    GThread *thread;
} PingPong;

static void ping(ControlWorld *w)
{
    uint32_t cookie, len;
    VringSegment seg[1];
    uint16_t id;

    vmm_add(&w->rig.vmm, DATA_RING, vmm_buffer_gpa(DATA_RING, 0), VMM_BUFFER, 0);
    id = fake_device_take(&w->rig.fake, DATA_RING, seg);
    fake_device_put(&w->rig.fake, DATA_RING, id, PING_BYTES);
    vmm_wait_used(&w->rig.vmm, DATA_RING, &cookie, &len);
    g_assert_cmpuint(len, ==, PING_BYTES);
}

static void *ping_pong(void *opaque)
{
    PingPong *pp = opaque;

    while (!pp->end) {
        const int64_t start_us = g_get_monotonic_time();

        ping(pp->w);
        pp->worst_us = MAX(pp->worst_us, g_get_monotonic_time() - start_us);
        pp->rounds++;
    }
    return NULL;
}

static void ping_pong_start(PingPong *pp, ControlWorld *w)
{
    *pp = (PingPong){ .w = w };
    pp->thread = g_thread_new("ping-pong", ping_pong, pp);
}

static void ping_pong_end(PingPong *pp)
{
    pp->end = true;
    g_thread_join(pp->thread);
}

typedef struct Fault {
    const char *name;
    CtrlDeviceKnobs knobs;
    unsigned int commands;
    bool late;              /* the guest has its error when the limit is over, not before */
    const char *said;
} Fault;

static const Fault faults[] = {
    { "never-answers", { .never = true }, 2, true, "has not answered" },
    { "refuses", { .ack = NET_CTRL_ERR }, 500, false, NULL },
    { "answers-nonsense", { .ack = 0xff }, 500, false, NULL },
    { "breaks-the-ring", { .has_used_len = true, .used_len = 4096 }, 500, false,
      "broken by the device" },
};

static int64_t time_commands(ControlWorld *w, unsigned int n, uint8_t ack)
{
    const int64_t start_us = g_get_monotonic_time();
    unsigned int i;

    for (i = 0; i < n; i++) {
        g_assert_cmpuint(control_world_try(w, "VLAN_ADD 5"), ==, ack);
    }
    return g_get_monotonic_time() - start_us;
}

static void test_fault(gconstpointer data)
{
    const ControlWorldConfig config = { .options = { .timeout_ms = LIMIT_MS } };
    const Fault *fault = data;
    int64_t took_us, without_us;
    ControlWorld w;
    PingPong pp;

    control_world_init(&w, &config);
    control_world_start(&w);
    ping_pong_start(&pp, &w);
    time_commands(&w, 500, NET_CTRL_OK);
    ping_pong_end(&pp);
    without_us = pp.worst_us;
    control_world_do(&w, "VLAN_DEL 5");
    control_world_assert_state(&w, "");
    g_free(mode_take_words());

    ctrl_device_set(w.ctrl, &fault->knobs);
    ping_pong_start(&pp, &w);
    took_us = time_commands(&w, fault->commands, NET_CTRL_ERR);
    ping_pong_end(&pp);
    g_assert_cmpint(took_us, >=, fault->late ? fault->commands * LIMIT_US : 0);
    g_test_message("%u errors in %" G_GINT64_FORMAT " us; worst of %u rounds meanwhile %"
                   G_GINT64_FORMAT " us, without the fault %" G_GINT64_FORMAT " us",
                   fault->commands, took_us, pp.rounds, pp.worst_us, without_us);
    g_assert_cmpint(pp.worst_us, <, LIMIT_US);
    g_assert_true(!fault->said || mode_has_said(fault->said));
    control_world_assert_state(&w, "");
    control_world_cleanup(&w);
}

/* What it did too late is taken back: the device ends where the guest believes it to be. */
static void test_answers_too_late(void)
{
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ .options = { .timeout_ms = 2000 } });
    control_world_start(&w);
    control_world_do(&w, "VLAN_ADD 4");
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 5"), ==, NET_CTRL_ERR);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    control_world_await_commands(&w, "VLAN_ADD 4; VLAN_ADD 5; VLAN_DEL 5; VLAN_ADD 4");
    control_world_do(&w, "VLAN_ADD 6");
    control_world_assert_state(&w, "VLAN_ADD 4\nVLAN_ADD 6\n");
    control_world_cleanup(&w);
}

/* A broken control queue makes the device need a reset; after that it works again. */
static void test_broken_until_reset(void)
{
    unsigned int q;
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ 0 });
    control_world_start(&w);
    ctrl_device_set(w.ctrl, &faults[3].knobs);
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 5"), ==, NET_CTRL_ERR);
    vmm_await_status(&w.rig.vmm, 0x4f);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    g_assert_cmpuint(control_world_try(&w, "VLAN_ADD 5"), ==, NET_CTRL_ERR);
    vmm_do(&w.rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    for (q = 0; q <= CONTROL_RING; q++) {
        control_world_start_ring(&w, q);
    }
    control_world_driver_ok(&w);
    control_world_await_running(&w);
    control_world_do(&w, "VLAN_ADD 7");
    control_world_assert_state(&w, "VLAN_ADD 7\n");
    control_world_cleanup(&w);
}

/* The device is reset in the middle of a command, again and again; none is lost or done twice. */
static void test_reset_in_the_middle(void)
{
    GString *state = g_string_new(NULL);
    unsigned int i;
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ 0 });
    control_world_start(&w);
    for (i = 1; i <= 20; i++) {
        g_autofree char *command = g_strdup_printf("VLAN_ADD %u", 2 * i);
        const unsigned int taken = ctrl_device_get_stats(w.ctrl).taken;

        ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
        control_world_post(&w, command);
        control_world_await_taken(&w, taken + 1);
        g_free(control_world_take_commands(&w));
        fake_device_go(&w.rig.fake);
        ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
        fake_device_come(&w.rig.fake);
        g_assert_cmpuint(control_world_await_ack(&w), ==, NET_CTRL_OK);
        /* Those of before, and this one. */
        g_assert_cmpuint(ctrl_device_get_stats(w.ctrl).taken, ==, taken + 1 + i);
        g_string_append_printf(state, "VLAN_ADD %u\n", 2 * i);
        control_world_assert_state(&w, state->str);
    }
    g_string_free(state, TRUE);
    control_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    unsigned int i;

    mode_test_init(&argc, &argv);
    for (i = 0; i < G_N_ELEMENTS(faults); i++) {
        g_autofree char *path = g_strdup_printf("/svq-control-faults/%s", faults[i].name);

        g_test_add_data_func(path, &faults[i], test_fault);
    }
    g_test_add_func("/svq-control-faults/answers-too-late", test_answers_too_late);
    g_test_add_func("/svq-control-faults/broken-until-reset", test_broken_until_reset);
    g_test_add_func("/svq-control-faults/reset-in-the-middle", test_reset_in_the_middle);
    return rig_test_run();
}
