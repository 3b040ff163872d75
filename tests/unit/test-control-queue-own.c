/* SPDX-License-Identifier: BSD-3-Clause */
/* Control commands of our own: their order, their barriers, and who waits for them. */
#include <string.h>

#include "lib/control-rig.h"

/* A queue that has been given the commands in @lines at its begin. */
static void rig_init_with(ControlRig *rig, const void *data, const char *lines)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;

    config.mute = true;
    control_rig_init(rig, &config);
    control_queue_begin(rig->svq, control_rig_steps(lines));
}

static void check_through(ControlRig *rig, unsigned int times, unsigned int failed)
{
    g_assert_cmpuint(rig->through, ==, times);
    g_assert_cmpuint(rig->failed, ==, failed);
}

/* "VLAN_ADD 0\n" up to @n - 1; free it. */
static char *many_vlans(unsigned int n)
{
    GString *lines = g_string_new(NULL);
    unsigned int i;

    for (i = 0; i < n; i++) {
        g_string_append_printf(lines, "VLAN_ADD %u\n", i);
    }
    return g_string_free(lines, FALSE);
}

static void test_nothing_before_begin(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    ControlRig rig;
    unsigned int c;

    config.mute = true;
    control_rig_init(&rig, &config);
    c = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    /* Nobody asks for more kicks meanwhile. */
    g_assert_true(control_queue_is_full(rig.queue));
    check_through(&rig, 0, 0);

    control_queue_begin(rig.svq, NULL);
    control_rig_step(&rig);
    check_through(&rig, 1, 0);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 1"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    check_through(&rig, 1, 0);
    control_rig_cleanup(&rig);
}

/* Of a group all are in flight at once, of the next none before the last answer. */
static void test_order_and_barriers(const void *data)
{
    RigCommand mac, table, pairs, promisc;
    ControlRig rig;

    rig_init_with(&rig, data,
                  "* MAC_TABLE_SET /\nMAC_ADDR_SET 02:00:00:00:00:01\n* MQ_VQ_PAIRS_SET 2\n"
                  "RX_PROMISC on\n");
    control_rig_step(&rig);
    table = control_rig_take_text(&rig, "MAC_TABLE_SET /");
    mac = control_rig_take_text(&rig, "MAC_ADDR_SET 02:00:00:00:00:01");
    control_rig_take_nothing(&rig);
    control_rig_answer(&rig, mac, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    control_rig_answer(&rig, table, NET_CTRL_OK);
    control_rig_step(&rig);
    pairs = control_rig_take_text(&rig, "MQ_VQ_PAIRS_SET 2");
    promisc = control_rig_take_text(&rig, "RX_PROMISC on");
    check_through(&rig, 0, 0);
    g_assert_cmpuint(rig.changed, ==, 0);
    control_rig_answer(&rig, pairs, NET_CTRL_OK);
    control_rig_answer(&rig, promisc, NET_CTRL_OK);
    control_rig_step(&rig);
    check_through(&rig, 1, 0);
    g_assert_cmpuint(rig.changed, ==, 0);
    g_assert_cmpuint(rig.sent, ==, 4);
    g_assert_true(net_ctrl_state_is_empty(rig.state));
    g_assert_cmpuint(control_queue_get_counters(rig.queue).own, ==, 4);
    control_rig_cleanup(&rig);
}

/* As many as there are slots, in their order, and never more. */
static void test_many_in_flight(const void *data)
{
    const unsigned int n = 1000;
    g_autofree char *lines = many_vlans(n);
    RigCommand commands[CONTROL_QUEUE_SLOTS];
    unsigned int taken = 0, answered = 0;
    ControlRig rig;

    rig_init_with(&rig, data, lines);
    while (answered < n) {
        control_rig_step(&rig);
        while (taken < MIN(n, answered + CONTROL_QUEUE_SLOTS)) {
            const RigCommand command = control_rig_take(&rig);

            g_assert_cmpuint(command.bytes[2] | command.bytes[3] << 8, ==, taken);
            commands[taken++ % CONTROL_QUEUE_SLOTS] = command;
        }
        control_rig_take_nothing(&rig);
        check_through(&rig, 0, 0);
        control_rig_answer(&rig, commands[answered++ % CONTROL_QUEUE_SLOTS], NET_CTRL_OK);
    }
    control_rig_step(&rig);
    check_through(&rig, 1, 0);
    control_rig_cleanup(&rig);
}

static void test_guest_waits(const void *data)
{
    RigCommand first, second;
    ControlRig rig;
    unsigned int c;

    rig_init_with(&rig, data, "VLAN_ADD 1\nVLAN_ADD 2\n");
    net_ctrl_state_apply(rig.state, &(NetCtrlCommand){ .id = NET_CTRL_VLAN_ADD, .vlan = 2 });
    c = control_rig_say(&rig, "VLAN_DEL 1");
    control_rig_step(&rig);
    first = control_rig_take_text(&rig, "VLAN_ADD 1");
    second = control_rig_take_text(&rig, "VLAN_ADD 2");
    control_rig_take_nothing(&rig);
    g_assert_true(control_queue_is_full(rig.queue));
    control_rig_answer(&rig, second, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    control_rig_answer(&rig, first, NET_CTRL_OK);
    control_rig_step(&rig);
    check_through(&rig, 1, 0);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_DEL 1"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 2\n");
    control_rig_cleanup(&rig);
}

/* The rest goes on; it is said once, and the number is told. */
static void test_refused_by_device(const void *data)
{
    unsigned int i;
    ControlRig rig;

    rig_init_with(&rig, data, "VLAN_ADD 1\nVLAN_ADD 2\nVLAN_ADD 3\n");
    control_rig_step(&rig);
    for (i = 0; i < 3; i++) {
        control_rig_answer(&rig, control_rig_take(&rig), i == 1 ? NET_CTRL_OK : NET_CTRL_ERR);
    }
    control_rig_step(&rig);
    check_through(&rig, 1, 2);
    control_rig_expect_words("control: the device refuses VLAN_ADD 1");
    g_assert_true(control_queue_is_doubtful(rig.queue));
    control_rig_do(&rig, "RX_PROMISC on");
    control_rig_cleanup(&rig);
}

/* All that was not answered has failed, sent or not; then the guest is served. */
static void test_device_never_answers(const void *data)
{
    const unsigned int n = 100;
    g_autofree char *lines = many_vlans(n);
    ControlRigConfig config = *(const ControlRigConfig *)data;
    unsigned int i, c;
    ControlRig rig;

    config.mute = true;
    config.shadow_num = 16;
    control_rig_init(&rig, &config);
    control_queue_begin(rig.svq, control_rig_steps(lines));
    c = control_rig_say(&rig, "VLAN_DEL 1");
    control_rig_step(&rig);
    for (i = 0; i < 3; i++) {
        control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    }
    control_rig_step(&rig);
    g_assert_cmpuint(control_queue_get_counters(rig.queue).own, ==, 8 + 3);
    control_queue_expire(rig.svq, INT64_MAX);
    control_rig_expect_words("has not answered 8 commands");
    check_through(&rig, 1, n - 3);
    g_assert_cmpuint(control_queue_get_counters(rig.queue).timed_out, ==, 8);
    /* Nothing of its ring is left for the guest, which so has its answer at once. */
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);

    /*
     * In the end it does one of them; that is a place for the guest's, and nothing of ours follows.
     */
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_step(&rig);
    c = control_rig_say(&rig, "RX_PROMISC on");
    control_rig_step(&rig);
    for (i = 0; i < 7; i++) {
        g_assert_cmpuint(control_rig_take(&rig).bytes[0], ==, 2);
    }
    control_rig_answer(&rig, control_rig_take_text(&rig, "RX_PROMISC on"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    check_through(&rig, 1, n - 3);
    control_rig_cleanup(&rig);
}

/* The large slot serves one at a time; what does not need it goes on. */
static void test_large_ones(const void *data)
{
    g_autoptr(GString) table = g_string_new("MAC_TABLE_SET");
    g_autofree char *lines = NULL;
    RigCommand first, second;
    unsigned int i;
    ControlRig rig;

    for (i = 0; i < 300; i++) {
        g_string_append_printf(table, " 02:00:00:00:%02x:%02x", i >> 8, i & 0xff);
    }
    g_string_append(table, " /");
    lines = g_strdup_printf("%s\n%s\nVLAN_ADD 1\n", table->str, table->str);
    rig_init_with(&rig, data, lines);
    control_rig_step(&rig);
    first = control_rig_take_text(&rig, table->str);
    control_rig_take_nothing(&rig);
    control_rig_answer(&rig, first, NET_CTRL_OK);
    control_rig_step(&rig);
    second = control_rig_take_text(&rig, table->str);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 1"), NET_CTRL_OK);
    control_rig_answer(&rig, second, NET_CTRL_OK);
    control_rig_step(&rig);
    check_through(&rig, 1, 0);
    control_rig_cleanup(&rig);
}

/* While the guest is being served. */
static void test_send(const void *data)
{
    unsigned int before, after;
    RigCommand command;
    ControlRig rig;

    rig_init_with(&rig, data, "");
    before = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    check_through(&rig, 1, 0);
    command = control_rig_take_text(&rig, "VLAN_ADD 1");
    control_queue_send(rig.svq, control_rig_steps("* MQ_VQ_PAIRS_SET 2\n"));
    after = control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    /* A barrier waits for the guest's commands, too. */
    control_rig_take_nothing(&rig);
    control_rig_answer(&rig, command, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, before, NET_CTRL_OK);
    command = control_rig_take_text(&rig, "MQ_VQ_PAIRS_SET 2");
    control_rig_take_nothing(&rig);
    check_through(&rig, 1, 0);
    control_rig_answer(&rig, command, NET_CTRL_ERR);
    control_rig_step(&rig);
    check_through(&rig, 2, 1);
    control_rig_expect_words("the device refuses MQ_VQ_PAIRS_SET 2");
    g_assert_cmpuint(rig.changed, ==, 1);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 2"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, after, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 1-2\n");

    control_queue_send(rig.svq, control_rig_steps("* MQ_VQ_PAIRS_SET 3\nRX_PROMISC on\n"));
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_step(&rig);
    check_through(&rig, 3, 1);
    /* Once for both of them. */
    g_assert_cmpuint(rig.changed, ==, 3);
    control_rig_check_state(&rig, "MQ_VQ_PAIRS_SET 3\nRX_PROMISC on\nVLAN_ADD 1-2\n");
    control_rig_stop(&rig, false);
    g_assert_false(control_queue_is_doubtful(rig.queue));
    control_rig_cleanup(&rig);
}

/*
 * Of a group half is done, which says nothing of the whole: what the state says besides stays, such
 * as what a command for all queues takes from one.
 */
static void test_restore_keeps_the_state(const void *data)
{
    static const char state[] = "NOTF_COAL_TX_SET packets=1 usecs=2\n"
                                "NOTF_COAL_VQ_SET vq=1 packets=3 usecs=4\n";
    g_auto(GStrv) lines = g_strsplit(state, "\n", -1);
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_do(&rig, lines[0]);
    control_rig_do(&rig, lines[1]);
    control_rig_check_state(&rig, state);
    control_rig_stop(&rig, false);
    rig.config.mute = true;
    control_rig_start(&rig);
    control_queue_begin(rig.svq, control_rig_steps(state));
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take_text(&rig, lines[0]), NET_CTRL_OK);
    control_rig_stop(&rig, false);
    control_rig_check_state(&rig, state);
    g_assert_true(control_queue_is_doubtful(rig.queue));
    control_rig_cleanup(&rig);
}

/* Each is answered within its time, but so many together take too long: the guest is served. */
static void test_slow_device(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    const gint64 start = g_get_monotonic_time();
    g_autoptr(GString) lines = g_string_new(NULL);
    unsigned int i, answered = 0, c;
    RigCommand command;
    ControlRig rig;

    for (i = 0; i < 640; i++) {
        g_string_append_printf(lines, "* VLAN_ADD %u\n* VLAN_DEL %u\n", i, i);
    }
    config.mute = true;
    config.timeout_ns = 400000000;
    control_rig_init(&rig, &config);
    control_queue_begin(rig.svq, control_rig_steps(lines->str));
    c = control_rig_say(&rig, "RX_PROMISC on");
    while (rig.through == 0) {
        control_rig_step(&rig);
        command = control_rig_take(&rig);
        g_usleep(10000);        /* that is how slow it is */
        control_queue_expire(rig.svq, g_get_monotonic_time() * 1000);
        control_rig_answer(&rig, command, NET_CTRL_OK);
        answered++;
        control_rig_step(&rig);
        g_assert_cmpint(g_get_monotonic_time() - start, <, CONTROL_RIG_WAIT_MS * 1000);
    }
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 4 * 400000);
    check_through(&rig, 1, 2 * 640 - answered);
    control_rig_expect_words("commands of ours within 1600 ms; the rest is left out");
    control_rig_answer(&rig, control_rig_take_text(&rig, "RX_PROMISC on"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    g_assert_true(control_queue_is_doubtful(rig.queue));
    control_rig_cleanup(&rig);
}

/* What was not sent goes with the device; the next has its own. */
static void test_stop_in_between(const void *data)
{
    g_autofree char *lines = many_vlans(100);
    ControlRig rig;

    rig_init_with(&rig, data, lines);
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_stop(&rig, false);
    check_through(&rig, 0, 0);
    g_assert_true(control_queue_is_doubtful(rig.queue));
    control_rig_start(&rig);
    g_assert_false(control_queue_is_doubtful(rig.queue));
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    control_queue_begin(rig.svq, control_rig_steps("VLAN_ADD 7\n"));
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 7"), NET_CTRL_OK);
    control_rig_take_nothing(&rig);
    control_rig_step(&rig);
    check_through(&rig, 1, 0);
    control_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    static const ControlRigConfig slow = { .guest_packed = false };

    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/control-queue-own/nothing-before-begin", test_nothing_before_begin);
    control_rig_test_add("/control-queue-own/order-and-barriers", test_order_and_barriers);
    control_rig_test_add("/control-queue-own/many-in-flight", test_many_in_flight);
    control_rig_test_add("/control-queue-own/guest-waits", test_guest_waits);
    control_rig_test_add("/control-queue-own/refused-by-device", test_refused_by_device);
    control_rig_test_add("/control-queue-own/device-never-answers", test_device_never_answers);
    control_rig_test_add("/control-queue-own/large-ones", test_large_ones);
    control_rig_test_add("/control-queue-own/send", test_send);
    control_rig_test_add("/control-queue-own/stop-in-between", test_stop_in_between);
    control_rig_test_add("/control-queue-own/restore-keeps-the-state",
                         test_restore_keeps_the_state);
    /* The formats make no difference to it, and it lasts. */
    g_test_add_data_func("/control-queue-own/slow-device", &slow, test_slow_device);
    return g_test_run();
}
