/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The time limit of control commands: what the guest hears, what becomes of the device's late
 * answers, and what of a queue that is stopped with commands in flight.
 */
#include <string.h>
#include <time.h>

#include "lib/control-rig.h"

#define LIMIT_NS INT64_C(3000000000)

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void expire_all(ControlRig *rig, unsigned int n)
{
    g_autofree char *words = g_strdup_printf("control: the device has not answered %u commands", n);

    control_queue_expire(rig->svq, INT64_MAX);
    control_rig_expect_words(words);
}

static void test_exactly_when_due(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    int64_t before, between, after;
    unsigned int first, second;
    ControlRig rig;

    config.timeout_ns = LIMIT_NS;
    control_rig_init(&rig, &config);
    first = control_rig_say(&rig, "VLAN_ADD 1");
    before = now_ns();
    control_rig_step(&rig);
    between = now_ns();
    second = control_rig_say(&rig, "VLAN_ADD 2");
    while (now_ns() == between) {
    }
    control_rig_step(&rig);
    after = now_ns();

    control_queue_expire(rig.svq, before + LIMIT_NS - 1);
    control_rig_hear_nothing(&rig);
    control_queue_expire(rig.svq, between + LIMIT_NS);
    control_rig_expect_words("has not answered 1 commands within 3000 ms");
    control_rig_hear(&rig, first, NET_CTRL_ERR);
    control_rig_hear_nothing(&rig);
    control_queue_expire(rig.svq, after + LIMIT_NS);
    control_rig_expect_words("has not answered 1 commands within 3000 ms");
    control_rig_hear(&rig, second, NET_CTRL_ERR);
    g_assert_cmpuint(control_queue_get_counters(rig.queue).timed_out, ==, 2);
    g_assert_cmpuint(rig.broken, ==, 0);
    control_rig_cleanup(&rig);
}

/* The queue goes on, with the slots that are left. */
static void test_goes_on(const void *data)
{
    RigCommand lost, next;
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    lost = control_rig_take(&rig);
    expire_all(&rig, 1);
    control_rig_hear(&rig, c, NET_CTRL_ERR);

    c = control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    next = control_rig_take_text(&rig, "VLAN_ADD 2");
    g_assert_true(next.bytes != lost.bytes);
    g_assert_true(next.reply != lost.reply);
    control_rig_answer(&rig, next, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 2\n");
    control_rig_cleanup(&rig);
}

/* A late failure is what the guest was told. */
static void test_late_failure(const void *data)
{
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    control_rig_do(&rig, "VLAN_ADD 1");
    c = control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    expire_all(&rig, 1);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_ERR);
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    control_rig_hear_nothing(&rig);
    control_rig_check_state(&rig, "VLAN_ADD 1\n");
    control_rig_cleanup(&rig);
}

/*
 * The device has done @late after its time; it is sent @undo, a line each, and the state is @state.
 */
static void check_late(const void *data, const char *before, const char *late, const char *undo,
                       const char *state)
{
    g_auto(GStrv) said = g_strsplit(before, "\n", -1);
    g_auto(GStrv) sent = g_strsplit(undo, "\n", -1);
    unsigned int i, c, changed;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; said[i] && *said[i]; i++) {
        control_rig_do(&rig, said[i]);
    }
    changed = rig.changed;
    c = control_rig_say(&rig, late);
    control_rig_step(&rig);
    expire_all(&rig, 1);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    control_rig_answer(&rig, control_rig_take_text(&rig, late), NET_CTRL_OK);
    g_assert_cmpuint(rig.changed, ==, changed);
    control_rig_step(&rig);
    control_rig_expect_words("did a command after its time was over");
    /* The guest's next has to wait for them. */
    c = control_rig_say(&rig, "RX_NOUNI on");
    for (i = 0; sent[i] && *sent[i]; i++) {
        control_rig_step(&rig);
        control_rig_answer(&rig, control_rig_take_text(&rig, sent[i]), NET_CTRL_OK);
    }
    control_rig_step(&rig);
    control_rig_check_state(&rig, state);
    control_rig_answer(&rig, control_rig_take_text(&rig, "RX_NOUNI on"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    control_rig_cleanup(&rig);
}

static void test_late_success(const void *data)
{
    check_late(data, "MAC_ADDR_SET 02:00:00:00:00:01\nVLAN_ADD 3\n",
               "MAC_ADDR_SET 02:00:00:00:00:02", "MAC_ADDR_SET 02:00:00:00:00:01\n",
               "MAC_ADDR_SET 02:00:00:00:00:01\nVLAN_ADD 3\n");
    check_late(data, "RX_PROMISC on\nRX_ALLMULTI off\n", "RX_ALLMULTI on",
               "RX_PROMISC on\nRX_ALLMULTI off\n", "RX_PROMISC on\nRX_ALLMULTI off\n");
    /* The state has nothing of it. */
    check_late(data, "", "RX_PROMISC on", "", "");
}

static void test_late_vlans(const void *data)
{
    check_late(data, "VLAN_ADD 1\nVLAN_ADD 2\n", "VLAN_DEL 1", "VLAN_ADD 1\nVLAN_ADD 2\n",
               "VLAN_ADD 1-2\n");
    check_late(data, "VLAN_ADD 1\n", "VLAN_ADD 2", "VLAN_DEL 2\nVLAN_ADD 1\n", "VLAN_ADD 1\n");
    check_late(data, "", "VLAN_ADD 2", "VLAN_DEL 2\n", "");
}

#define RSS "MQ_RSS_CONFIG types=0x1 unclassified=0 table=0,3 transmit=2 key=5a"

static void test_late_pairs(const void *data)
{
    check_late(data, "MQ_VQ_PAIRS_SET 2\n", "MQ_VQ_PAIRS_SET 4", "MQ_VQ_PAIRS_SET 2\n",
               "MQ_VQ_PAIRS_SET 2\n");
    check_late(data, RSS "\n", "MQ_VQ_PAIRS_SET 4", RSS "\n", RSS "\n");
    /* A device that was reset has one pair. */
    check_late(data, "", "MQ_VQ_PAIRS_SET 4", "MQ_VQ_PAIRS_SET 1\n", "");
}

/* What the guest has reached in between counts, in whatever order the device answers. */
static void test_late_success_is_overtaken(const void *data)
{
    unsigned int first, second;
    RigCommand late, next;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_do(&rig, "MQ_VQ_PAIRS_SET 2");
    first = control_rig_say(&rig, "MQ_VQ_PAIRS_SET 4");
    control_rig_step(&rig);
    late = control_rig_take(&rig);
    expire_all(&rig, 1);
    control_rig_hear(&rig, first, NET_CTRL_ERR);
    second = control_rig_say(&rig, "MQ_VQ_PAIRS_SET 3");
    control_rig_step(&rig);
    next = control_rig_take_text(&rig, "MQ_VQ_PAIRS_SET 3");

    control_rig_answer(&rig, late, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_expect_words("did a command after its time was over");
    control_rig_take_nothing(&rig);
    control_rig_answer(&rig, next, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, second, NET_CTRL_OK);
    control_rig_answer(&rig, control_rig_take_text(&rig, "MQ_VQ_PAIRS_SET 3"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    control_rig_check_state(&rig, "MQ_VQ_PAIRS_SET 3\n");
    control_rig_cleanup(&rig);
}

/* Of however many, once. */
static void test_many_late_successes(const void *data)
{
    RigCommand late[2];
    unsigned int i;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_do(&rig, "RX_PROMISC on");
    control_rig_do(&rig, "MAC_ADDR_SET 02:00:00:00:00:01");
    control_rig_say(&rig, "RX_PROMISC off");
    control_rig_say(&rig, "RX_PROMISC off");
    control_rig_step(&rig);
    expire_all(&rig, 2);
    for (i = 0; i < 2; i++) {
        control_rig_hear(&rig, 2 + i, NET_CTRL_ERR);
        late[i] = control_rig_take(&rig);
    }
    for (i = 0; i < 2; i++) {
        control_rig_answer(&rig, late[i], NET_CTRL_OK);
    }
    control_rig_step(&rig);
    control_rig_expect_words("did a command after its time was over");
    control_rig_answer(&rig, control_rig_take_text(&rig, "RX_PROMISC on"), NET_CTRL_OK);
    control_rig_take_nothing(&rig);
    control_rig_step(&rig);
    control_rig_check_state(&rig, "MAC_ADDR_SET 02:00:00:00:00:01\nRX_PROMISC on\n");
    control_rig_cleanup(&rig);
}

/* Of what nobody knows nothing can be taken back; it is remembered that the device did it. */
static void test_late_unknown(const void *data)
{
    static const uint8_t unknown[] = { 9, 8 };
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say_bytes(&rig, unknown, sizeof(unknown), 1);
    control_rig_step(&rig);
    expire_all(&rig, 1);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_expect_words("class 9, command 8; it cannot be restored");
    g_assert_false(net_ctrl_state_is_empty(rig.state));
    g_assert_cmpuint(rig.changed, ==, 1);
    control_rig_take_nothing(&rig);
    control_rig_cleanup(&rig);
}

/* A device that has not answered so many gets none: the guest need not wait for its error. */
static void test_all_slots_lost(const void *data)
{
    RigCommand lost[CONTROL_QUEUE_SLOTS];
    unsigned int i, c;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        control_rig_say(&rig, "RX_PROMISC on");
    }
    /* One that waits for a slot. */
    c = control_rig_say(&rig, "RX_PROMISC off");
    control_rig_step(&rig);
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        lost[i] = control_rig_take(&rig);
    }
    g_assert_true(control_queue_is_full(rig.queue));
    expire_all(&rig, CONTROL_QUEUE_SLOTS);
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        control_rig_hear(&rig, i, NET_CTRL_ERR);
    }
    control_rig_hear_nothing(&rig);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    g_assert_cmpuint(control_queue_get_counters(rig.queue).failed, ==, 1);
    g_assert_cmpuint(control_queue_get_counters(rig.queue).timed_out, ==, CONTROL_QUEUE_SLOTS);

    /* With the first that it gives back it is served again. */
    control_rig_answer(&rig, lost[3], NET_CTRL_ERR);
    control_rig_do(&rig, "VLAN_ADD 1");
    control_rig_cleanup(&rig);
}

/* Large commands fail then, small ones go on. */
static void test_large_slot_lost(const void *data)
{
    g_autofree uint8_t *large = g_malloc0(2000);
    unsigned int first, second, third;
    RigCommand lost, command;
    ControlRig rig;

    large[0] = 0x77;
    control_rig_init(&rig, data);
    first = control_rig_say_bytes(&rig, large, 2000, 1);
    control_rig_step(&rig);
    lost = control_rig_take(&rig);
    expire_all(&rig, 1);
    control_rig_hear(&rig, first, NET_CTRL_ERR);

    second = control_rig_say(&rig, "VLAN_ADD 1");
    third = control_rig_say_bytes(&rig, large, 2000, 1);
    control_rig_step(&rig);
    control_rig_hear(&rig, third, NET_CTRL_ERR);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 1"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, second, NET_CTRL_OK);

    control_rig_answer(&rig, lost, NET_CTRL_ERR);
    control_rig_step(&rig);
    first = control_rig_say_bytes(&rig, large, 2000, 1);
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    g_assert_true(command.bytes == lost.bytes);
    control_rig_answer(&rig, command, NET_CTRL_ERR);
    control_rig_step(&rig);
    control_rig_hear(&rig, first, NET_CTRL_ERR);
    control_rig_cleanup(&rig);
}

/* What takes back may itself be too late, and that is the end of it. */
static void test_taking_back_is_late(const void *data)
{
    RigCommand command;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_do(&rig, "RX_PROMISC on");
    control_rig_say(&rig, "RX_PROMISC off");
    control_rig_step(&rig);
    expire_all(&rig, 1);
    control_rig_hear(&rig, 1, NET_CTRL_ERR);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_expect_words("did a command after its time was over");
    command = control_rig_take_text(&rig, "RX_PROMISC on");
    expire_all(&rig, 1);
    control_rig_answer(&rig, command, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    control_rig_do(&rig, "VLAN_ADD 1");
    control_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/control-queue-time/exactly-when-due", test_exactly_when_due);
    control_rig_test_add("/control-queue-time/goes-on", test_goes_on);
    control_rig_test_add("/control-queue-time/late-failure", test_late_failure);
    control_rig_test_add("/control-queue-time/late-success", test_late_success);
    control_rig_test_add("/control-queue-time/late-vlans", test_late_vlans);
    control_rig_test_add("/control-queue-time/late-pairs", test_late_pairs);
    control_rig_test_add("/control-queue-time/late-success-is-overtaken",
                         test_late_success_is_overtaken);
    control_rig_test_add("/control-queue-time/many-late-successes", test_many_late_successes);
    control_rig_test_add("/control-queue-time/late-unknown", test_late_unknown);
    control_rig_test_add("/control-queue-time/all-slots-lost", test_all_slots_lost);
    control_rig_test_add("/control-queue-time/large-slot-lost", test_large_slot_lost);
    control_rig_test_add("/control-queue-time/taking-back-is-late", test_taking_back_is_late);
    return g_test_run();
}
