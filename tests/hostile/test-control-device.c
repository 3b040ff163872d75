/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control queue in front of a device that lies: the guest gets its error, whatever it is, and
 * what the device can reach says nothing about the state.
 */
#include <string.h>

#include "lib/control-rig.h"

static void test_wrong_acks(const void *data)
{
    static const uint8_t acks[] = { 1, 2, 0x7f, 0x80, 0xff };
    unsigned int i, c;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < G_N_ELEMENTS(acks); i++) {
        c = control_rig_say(&rig, "VLAN_ADD 1");
        control_rig_step(&rig);
        control_rig_answer(&rig, control_rig_take(&rig), acks[i]);
        control_rig_step(&rig);
        control_rig_hear(&rig, c, NET_CTRL_ERR);
    }
    g_assert_true(net_ctrl_state_is_empty(rig.state));
    g_assert_cmpuint(control_queue_get_counters(rig.queue).failed, ==, G_N_ELEMENTS(acks));
    control_rig_cleanup(&rig);
}

/* Not even what the device before it wrote there counts. */
static void test_nothing_written(const void *data)
{
    unsigned int i, c;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < 3; i++) {
        control_rig_do(&rig, "VLAN_ADD 1");
        c = control_rig_say(&rig, "VLAN_DEL 1");
        control_rig_step(&rig);
        control_rig_use(&rig, control_rig_take(&rig).id, i == 2 ? 1 : 0);
        control_rig_step(&rig);
        control_rig_hear(&rig, c, NET_CTRL_ERR);
        control_rig_check_state(&rig, "VLAN_ADD 1\n");
    }
    control_rig_cleanup(&rig);
}

/* An ack that is there counts, as in drivers: devices that say 0 are in use. */
static void test_ack_of_length_0(const void *data)
{
    RigCommand command;
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    command.reply[0] = NET_CTRL_OK;
    control_rig_use(&rig, command.id, 0);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 1\n");
    control_rig_cleanup(&rig);
}

/* A result that is not there is none. */
static void test_result_missing(const void *data)
{
    uint32_t len;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (len = 0; len < 9; len++) {
        const unsigned int c = control_rig_say(&rig, "NOTF_COAL_VQ_GET vq=1");
        RigCommand command;

        control_rig_step(&rig);
        command = control_rig_take(&rig);
        memset(command.reply, 0, command.room);
        control_rig_use(&rig, command.id, len);
        control_rig_step(&rig);
        control_rig_hear(&rig, c, NET_CTRL_ERR);
    }
    control_rig_cleanup(&rig);
}

/* It rewrites the command that it has, while it has it. */
static void test_command_rewritten(const void *data)
{
    RigCommand command;
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say(&rig, "MAC_ADDR_SET 02:00:00:00:00:01");
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    memset(rig.commands, 0x99, command.reply - rig.commands);
    control_rig_answer(&rig, command, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    control_rig_check_state(&rig, "MAC_ADDR_SET 02:00:00:00:00:01\n");

    /* One of ours, likewise. */
    control_queue_send(rig.svq, control_rig_steps("MQ_VQ_PAIRS_SET 2\n"));
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    memset(rig.commands, 0x99, command.reply - rig.commands);
    control_rig_answer(&rig, command, NET_CTRL_OK);
    control_rig_step(&rig);
    g_assert_cmpuint(net_ctrl_state_get_pairs(rig.state), ==, 2);
    control_rig_cleanup(&rig);
}

/* It answers what was given up long ago once more: that is nobody's answer any more. */
static void test_answer_rewritten(const void *data)
{
    RigCommand lost, next;
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    lost = control_rig_take(&rig);
    control_queue_expire(rig.svq, INT64_MAX);
    control_rig_expect_words("has not answered");
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    c = control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    next = control_rig_take(&rig);
    lost.reply[0] = NET_CTRL_OK;
    control_rig_step(&rig);
    control_rig_hear_nothing(&rig);
    control_rig_answer(&rig, next, NET_CTRL_ERR);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    g_assert_true(net_ctrl_state_is_empty(rig.state));
    control_rig_cleanup(&rig);
}

/* Breaks a rule of the ring while all slots are in use, and one command waits. */
static void check_rule_broken(const void *data, void (*lie)(ControlRig *rig, RigCommand command),
                              const char *words)
{
    RigCommand command;
    unsigned int i, c;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_do(&rig, "RX_PROMISC on");
    for (i = 0; i < CONTROL_QUEUE_SLOTS + 1; i++) {
        control_rig_say(&rig, "VLAN_ADD 1");
    }
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    lie(&rig, command);
    control_rig_step(&rig);
    control_rig_expect_words(words);
    g_assert_cmpuint(rig.broken, ==, 1);
    /* All that was in flight, what waited, what comes. */
    for (i = 0; i < CONTROL_QUEUE_SLOTS + 1; i++) {
        control_rig_hear(&rig, 1 + i, NET_CTRL_ERR);
    }
    c = control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    g_assert_cmpint(shadow_virtqueue_get_state(rig.svq), ==, SVQ_QUEUE_RUNNING);
    g_assert_cmpuint(shadow_virtqueue_get_counters(rig.svq).errors, ==, 1);
    control_rig_check_state(&rig, "RX_PROMISC on\n");

    /* Ours fail at once. */
    control_queue_send(rig.svq, control_rig_steps("VLAN_ADD 3\nVLAN_ADD 4\n"));
    control_rig_step(&rig);
    g_assert_cmpuint(rig.through, ==, 2);
    g_assert_cmpuint(rig.failed, ==, 2);
    g_assert_cmpuint(rig.broken, ==, 1);

    /* A device that was reset is another. */
    control_rig_stop(&rig, false);
    control_rig_hear_nothing(&rig);
    control_rig_start(&rig);
    control_rig_do(&rig, "VLAN_ADD 5");
    control_rig_cleanup(&rig);
}

/* As it lies in the device's ring, whatever vring_device_put() would write there. */
static void write_used(ControlRig *rig, uint16_t id, uint32_t len)
{
    if (rig->shadow.packed) {
        const uint16_t flags = rig->device.used_flags | VRING_DESC_F_WRITE;

        guest_packed_desc(&rig->shadow, rig->device.used_idx, 0, len, id, flags);
    } else {
        VringUsed *used = rig->shadow.areas.device;
        const uint16_t idx = le16_load(&used->idx);

        le32_store(&used->ring[idx & (rig->shadow.num - 1)].id, id);
        le32_store(&used->ring[idx & (rig->shadow.num - 1)].len, len);
        le16_store_release(&used->idx, (uint16_t)(idx + 1));
    }
}

static void lie_unknown_id(ControlRig *rig, RigCommand command)
{
    write_used(rig, CONTROL_QUEUE_NUM, 1);
}

static void lie_length(ControlRig *rig, RigCommand command)
{
    command.reply[0] = NET_CTRL_OK;
    write_used(rig, command.id, 2);
}

static void test_unknown_id(const void *data)
{
    check_rule_broken(data, lie_unknown_id, "broken by the device: used id is not below");
}

static void test_length(const void *data)
{
    check_rule_broken(data, lie_length, "broken by the device: used length is more than was");
}

static void test_id_twice(const void *data)
{
    RigCommand first;
    unsigned int i;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < 3; i++) {
        control_rig_say(&rig, "VLAN_ADD 1");
    }
    control_rig_step(&rig);
    first = control_rig_take(&rig);
    control_rig_answer(&rig, first, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, 0, NET_CTRL_OK);
    write_used(&rig, first.id, 1);
    control_rig_step(&rig);
    control_rig_expect_words("broken by the device: used id is not in flight");
    control_rig_hear(&rig, 1, NET_CTRL_ERR);
    control_rig_hear(&rig, 2, NET_CTRL_ERR);
    g_assert_cmpuint(rig.broken, ==, 1);
    control_rig_cleanup(&rig);
}

/* Before it was told anything: what is begun then has failed, and nobody waits for it. */
static void test_lies_before_begin(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    ControlRig rig;
    unsigned int c;

    config.mute = true;
    control_rig_init(&rig, &config);
    write_used(&rig, 5, 1);
    control_rig_step(&rig);
    control_rig_expect_words("broken by the device: used i");
    g_assert_cmpuint(rig.through, ==, 0);
    control_queue_begin(rig.svq, control_rig_steps("VLAN_ADD 1\nVLAN_ADD 2\n"));
    control_rig_step(&rig);
    g_assert_cmpuint(rig.through, ==, 1);
    g_assert_cmpuint(rig.failed, ==, 2);
    c = control_rig_say(&rig, "VLAN_ADD 3");
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    control_rig_cleanup(&rig);
}

/* In the middle of ours: what was done, what was in flight, and what was not sent. */
static void test_lies_in_restore(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    RigCommand command;
    ControlRig rig;

    config.mute = true;
    config.shadow_num = 4;
    control_rig_init(&rig, &config);
    control_queue_begin(rig.svq, control_rig_steps("VLAN_ADD 1\nVLAN_ADD 2\nVLAN_ADD 3\n"
                                                   "VLAN_ADD 4\nVLAN_ADD 5\n"));
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    write_used(&rig, command.id, 100);
    control_rig_step(&rig);
    control_rig_expect_words("broken by the device: used length");
    g_assert_cmpuint(rig.through, ==, 1);
    g_assert_cmpuint(rig.failed, ==, 4);
    control_rig_check_state(&rig, "");      /* that it is to be brought to is the state */
    control_rig_cleanup(&rig);
}

/* While ours wait for the guest's: they will not be sent, and the guest need not wait for them. */
static void test_lies_while_ours_wait(const void *data)
{
    RigCommand command;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    control_queue_send(rig.svq, control_rig_steps("* VLAN_ADD 2\n"));
    control_rig_say(&rig, "VLAN_ADD 3");
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    write_used(&rig, command.id, 100);
    control_rig_step(&rig);
    control_rig_expect_words("broken by the device: used length");
    control_rig_hear(&rig, 0, NET_CTRL_ERR);
    control_rig_hear(&rig, 1, NET_CTRL_ERR);
    g_assert_cmpuint(rig.through, ==, 2);
    g_assert_cmpuint(rig.failed, ==, 1);
    control_rig_cleanup(&rig);
}

/* While the queue is stopped: the guest's commands wait for another device. */
static void test_lies_at_stop(const void *data)
{
    RigCommand command;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    command.reply[0] = NET_CTRL_OK;
    write_used(&rig, command.id, 100);
    control_rig_stop(&rig, false);
    control_rig_hear_nothing(&rig);
    g_assert_true(net_ctrl_state_is_empty(rig.state));
    g_assert_cmpuint(rig.broken, ==, 0);
    control_rig_start(&rig);
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 1"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, 0, NET_CTRL_OK);
    control_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/control-device/wrong-acks", test_wrong_acks);
    control_rig_test_add("/control-device/nothing-written", test_nothing_written);
    control_rig_test_add("/control-device/ack-of-length-0", test_ack_of_length_0);
    control_rig_test_add("/control-device/result-missing", test_result_missing);
    control_rig_test_add("/control-device/command-rewritten", test_command_rewritten);
    control_rig_test_add("/control-device/answer-rewritten", test_answer_rewritten);
    control_rig_test_add("/control-device/unknown-id", test_unknown_id);
    control_rig_test_add("/control-device/length", test_length);
    control_rig_test_add("/control-device/id-twice", test_id_twice);
    control_rig_test_add("/control-device/lies-before-begin", test_lies_before_begin);
    control_rig_test_add("/control-device/lies-in-restore", test_lies_in_restore);
    control_rig_test_add("/control-device/lies-while-ours-wait", test_lies_while_ours_wait);
    control_rig_test_add("/control-device/lies-at-stop", test_lies_at_stop);
    return g_test_run();
}
