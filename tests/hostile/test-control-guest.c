/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control queue in front of a guest that lies: what is wrong is answered or breaks the queue, and
 * the device sees nothing of it.
 */
#include <string.h>

#include "lib/control-rig.h"
#include "lib/random.h"

#define WRITE VRING_DESC_F_WRITE

/* Refused, with an answer, and the next is served as if nothing had been. */
static void check_refused(ControlRig *rig, unsigned int c)
{
    const uint64_t refused = control_queue_get_counters(rig->queue).refused;

    control_rig_step(rig);
    control_rig_take_nothing(rig);
    control_rig_hear(rig, c, NET_CTRL_ERR);
    g_assert_cmpuint(control_queue_get_counters(rig->queue).refused, ==, refused + 1);
    g_assert_true(net_ctrl_state_is_empty(rig->state));
    g_assert_cmpuint(rig->changed, ==, 0);
}

static void test_wrong_commands(const void *data)
{
    static const char *const wrong[] = {
        "VLAN_ADD 4096",
        "MQ_VQ_PAIRS_SET 0",
        "MQ_VQ_PAIRS_SET 9",
        "MQ_RSS_CONFIG types=0x1 unclassified=8 table=0 transmit=1 key=",
        "MQ_RSS_CONFIG types=0x1 unclassified=0 table=8 transmit=1 key=",
        "MQ_RSS_CONFIG types=0x200 unclassified=0 table=0 transmit=1 key=",
        "MQ_HASH_CONFIG types=0x200 key=",
        "GUEST_OFFLOADS_SET 0x1",
        "NOTF_COAL_VQ_SET vq=16 packets=0 usecs=0",
        "NOTF_COAL_VQ_GET vq=16",
    };
    unsigned int i;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        check_refused(&rig, control_rig_say(&rig, wrong[i]));
    }
    control_rig_expect_words("control: a command of the guest's is refused: VLAN id out of range "
                             "(0x1000), section 5.1.6.5.3");
    g_assert_cmpuint(control_queue_get_counters(rig.queue).refused, ==, G_N_ELEMENTS(wrong));
    control_rig_do(&rig, "VLAN_ADD 1");
    control_rig_cleanup(&rig);
}

/* The addresses that a table claims to have are not looked for outside of it. */
static void test_table_longer_than_command(const void *data)
{
    static const uint8_t bytes[] = { 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 };
    ControlRig rig;

    control_rig_init(&rig, data);
    check_refused(&rig, control_rig_say_bytes(&rig, bytes, sizeof(bytes), 1));
    control_rig_expect_words("more unicast addresses than data (0xffffffff)");
    control_rig_cleanup(&rig);
}

static void test_too_long(const void *data)
{
    VringSegment seg[6] = { { CONTROL_RIG_PLACES, NET_CTRL_MAX_BYTES + 1, 0 } };
    unsigned int i, c;
    ControlRig rig;

    control_rig_init(&rig, data);
    seg[1] = (VringSegment){ control_rig_place(0) + CONTROL_RIG_REPLY, 1, WRITE };
    control_rig_reply(&rig, 0)[1] = 0xee;
    check_refused(&rig, control_rig_say_segments(&rig, seg, 2));
    control_rig_expect_words("is refused: length (0x10001)");

    /* Nearly 4 GiB, several times: a sum of 32 bits would be 4. */
    for (i = 0; i < 5; i++) {
        seg[i] = (VringSegment){ CONTROL_RIG_PLACES, i < 4 ? UINT32_C(0x40000001) : 1, 0 };
    }
    seg[4] = (VringSegment){ control_rig_place(1) + CONTROL_RIG_REPLY, 1, WRITE };
    control_rig_reply(&rig, 1)[1] = 0xee;
    check_refused(&rig, control_rig_say_segments(&rig, seg, 5));
    for (i = 0; i < 2; i++) {
        seg[0] = (VringSegment){ CONTROL_RIG_PLACES, UINT32_MAX, 0 };
        seg[1] = (VringSegment){ control_rig_place(2 + i) + CONTROL_RIG_REPLY, 1, WRITE };
        control_rig_reply(&rig, 2 + i)[1] = 0xee;
        c = control_rig_say_segments(&rig, seg, 2);
        check_refused(&rig, c);
    }
    control_rig_do(&rig, "VLAN_ADD 1");
    control_rig_cleanup(&rig);
}

static void test_shorter_than_header(const void *data)
{
    static const uint8_t bytes[] = { 0 };
    VringSegment seg = { control_rig_place(1) + CONTROL_RIG_REPLY, 1, WRITE };
    ControlRig rig;

    control_rig_init(&rig, data);
    check_refused(&rig, control_rig_say_bytes(&rig, bytes, sizeof(bytes), 1));
    control_rig_expect_words("is refused: length (0x1)");
    /* Nothing at all. */
    control_rig_reply(&rig, 1)[1] = 0xee;
    check_refused(&rig, control_rig_say_segments(&rig, &seg, 1));
    control_rig_cleanup(&rig);
}

static void test_no_room_for_result(const void *data)
{
    static const uint8_t bytes[] = { 6, 3, 0, 0, 0, 0 };
    uint32_t room;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (room = 1; room < 9; room++) {
        check_refused(&rig, control_rig_say_bytes(&rig, bytes, sizeof(bytes), room));
    }
    control_rig_expect_words("is refused: no room for the result (0x1)");
    control_rig_say_bytes(&rig, bytes, sizeof(bytes), 9);
    control_rig_step(&rig);
    g_assert_cmpuint(control_rig_take(&rig).room, ==, 9);
    control_rig_cleanup(&rig);
}

/* It said so, told everybody once, and does nothing any more. */
static void check_broken(ControlRig *rig, const char *words)
{
    control_rig_expect_words(words);
    g_assert_cmpint(shadow_virtqueue_get_state(rig->svq), ==, SVQ_QUEUE_BROKEN);
    g_assert_cmpuint(rig->broken, ==, 1);
    g_assert_cmpint(event_notifier_test_and_clear(&rig->guest_err), ==, 1);
    control_rig_say(rig, "RX_PROMISC on");
    g_assert_cmpuint(shadow_virtqueue_offer(rig->svq), ==, 0);
    g_assert_cmpuint(shadow_virtqueue_return(rig->svq), ==, 0);
    control_rig_hear_nothing(rig);
}

static void test_no_room_for_ack(const void *data)
{
    static const uint8_t bytes[] = { 0, 0, 1 };
    const VringSegment seg = { CONTROL_RIG_PLACES, sizeof(bytes), 0 };
    ControlRig rig;

    control_rig_init(&rig, data);
    memcpy(control_rig_host(&rig, CONTROL_RIG_PLACES), bytes, sizeof(bytes));
    control_rig_say_segments(&rig, &seg, 1);
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    check_broken(&rig, "control: broken by the guest: control command has no byte for its status");
    control_rig_cleanup(&rig);
}

/* What was said before is done, and answered. */
static void test_command_outside(const void *data)
{
    static const VringSegment outside[] = {
        { CONTROL_RIG_END - 2, 3, 0 },
        { CONTROL_RIG_LOW - 1, 3, 0 },
        { UINT64_MAX - 1, 3, 0 },
        { UINT64_MAX, 3, 0 },
        { 0, 3, 0 },
        /* What the device calls it is nothing that the guest could name. */
        { CONTROL_RIG_IOVA, 3, 0 },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(outside); i++) {
        VringSegment seg[2] = { outside[i], { CONTROL_RIG_LOW, 1, WRITE } };
        g_autofree char *words = NULL;
        ControlRig rig;

        control_rig_init(&rig, data);
        control_rig_say_bytes(&rig, "", 1, 1);
        control_rig_say(&rig, "VLAN_ADD 1");
        control_rig_say_segments(&rig, seg, 2);
        control_rig_say(&rig, "VLAN_ADD 2");
        control_rig_step(&rig);
        control_rig_hear(&rig, 0, NET_CTRL_ERR);
        g_assert_cmpuint(rig.broken, ==, 1);
        control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 1"), NET_CTRL_OK);
        control_rig_take_nothing(&rig);
        g_assert_cmpuint(shadow_virtqueue_return(rig.svq), ==, 0);
        words = control_rig_take_words();
        g_assert_nonnull(strstr(words, "broken by the guest: buffer leaves the guest's memory"));
        /* The stop gives back what the device did. */
        control_rig_stop(&rig, false);
        control_rig_hear(&rig, 1, NET_CTRL_OK);
        control_rig_check_state(&rig, "VLAN_ADD 1\n");
        control_rig_cleanup(&rig);
    }
}

/* Known only when the answer comes; the state has it, for the device has done it. */
static void test_answer_outside(const void *data)
{
    static const uint8_t bytes[] = { 6, 3, 0, 0, 0, 0 };
    const VringSegment seg[] = {
        { CONTROL_RIG_LOW, sizeof(bytes), 0 },
        { CONTROL_RIG_END - 8, 9, WRITE },
    };
    RigCommand command;
    ControlRig rig;

    control_rig_init(&rig, data);
    memcpy(control_rig_host(&rig, CONTROL_RIG_LOW), bytes, sizeof(bytes));
    control_rig_say_segments(&rig, seg, 2);
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    memset(command.reply, 0, command.room);
    control_rig_use(&rig, command.id, command.room);
    control_rig_step(&rig);
    check_broken(&rig, "the place of an answer is not in memory any more");
    control_rig_cleanup(&rig);
}

static void test_memory_removed(const void *data)
{
    static const GuestRegion rest = { CONTROL_RIG_LOW, 0x1000, 0 };
    MemoryMap *map, *small = guest_memory_new(&rest, 1);
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    map = rig.map;
    rcu_assign_pointer(rig.map, small);
    guest_memory_free(map);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_expect_words("the place of an answer is not in memory any more");
    g_assert_cmpuint(rig.broken, ==, 1);
    control_rig_check_state(&rig, "VLAN_ADD 1\n");
    control_rig_cleanup(&rig);
}

/* The second time, too: by what we say ourselves. */
static void test_memory_removed_at_time_limit(const void *data)
{
    static const GuestRegion rest = { CONTROL_RIG_LOW, 0x1000, 0 };
    MemoryMap *map, *small = guest_memory_new(&rest, 1);
    g_autofree char *words = NULL;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    map = rig.map;
    rcu_assign_pointer(rig.map, small);
    guest_memory_free(map);
    control_queue_expire(rig.svq, INT64_MAX);
    words = control_rig_take_words();
    g_assert_nonnull(strstr(words, "the place of an answer is not in memory any more"));
    g_assert_nonnull(strstr(words, "has not answered 2 commands"));
    g_assert_cmpuint(rig.broken, ==, 1);
    control_rig_cleanup(&rig);
}

/* Changed after we have taken it: by then nobody looks there. */
static void test_command_changes_later(const void *data)
{
    RigCommand command;
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    memset(control_rig_host(&rig, control_rig_place(c)), 0xff, 64);
    command = control_rig_take_text(&rig, "VLAN_ADD 1");
    memset(control_rig_host(&rig, control_rig_place(c)), 0, 64);
    control_rig_answer(&rig, command, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 1\n");
    control_rig_cleanup(&rig);
}

/* Changed again and again, by a thread. */
typedef struct Racer {
    uint16_t *pairs;
    atomic_bool stop;
} Racer;

static void *race(void *opaque)
{
    Racer *racer = opaque;
    _Atomic uint16_t *pairs = (_Atomic uint16_t *)racer->pairs;
    uint16_t i = 0;

    while (!atomic_load(&racer->stop)) {
        /* In turn good, and so bad that it would be refused. */
        atomic_store_explicit(pairs, htole16(i++ % 2 ? 3 : 0xfff0), memory_order_relaxed);
    }
    return NULL;
}

static void test_racer(const void *data)
{
    unsigned int i, n = (unsigned int)random_steps(20000), good = 0;
    Racer racer = { .stop = false };
    ControlRig rig;
    GThread *thread;
    uint8_t *place;

    control_rig_init(&rig, data);
    /* All commands are the same bytes of memory. */
    place = control_rig_host(&rig, CONTROL_RIG_LOW);
    place[0] = 4;
    place[1] = 0;
    racer.pairs = (uint16_t *)(void *)(place + 2);
    thread = g_thread_new("racer", race, &racer);
    for (i = 0; i < n; i++) {
        const VringSegment seg[] = {
            { CONTROL_RIG_LOW, 4, 0 },
            { CONTROL_RIG_HIGH, 1, WRITE },
        };
        uint32_t cookie = 0, len = 0;
        RigCommand command;

        control_rig_say_segments(&rig, seg, 2);
        control_rig_step(&rig);
        if (control_rig_try_take(&rig, &command)) {
            /* What was found good, the device sees and the state gets. */
            g_assert_cmpuint(command.bytes[2] | command.bytes[3] << 8, ==, 3);
            control_rig_answer(&rig, command, NET_CTRL_OK);
            control_rig_step(&rig);
            g_assert_cmpuint(net_ctrl_state_get_pairs(rig.state), ==, 3);
            good++;
        }
        g_assert_cmpint(vring_driver_collect(&rig.driver, rig.guest.packed, &cookie, &len), ==, 1);
    }
    atomic_store(&racer.stop, true);
    g_thread_join(thread);
    g_assert_cmpuint(good + control_queue_get_counters(rig.queue).refused, ==, n);
    g_free(control_rig_take_words());
    control_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/control-guest/wrong-commands", test_wrong_commands);
    control_rig_test_add("/control-guest/table-longer-than-command",
                         test_table_longer_than_command);
    control_rig_test_add("/control-guest/too-long", test_too_long);
    control_rig_test_add("/control-guest/shorter-than-header", test_shorter_than_header);
    control_rig_test_add("/control-guest/no-room-for-result", test_no_room_for_result);
    control_rig_test_add("/control-guest/no-room-for-ack", test_no_room_for_ack);
    control_rig_test_add("/control-guest/command-outside", test_command_outside);
    control_rig_test_add("/control-guest/answer-outside", test_answer_outside);
    control_rig_test_add("/control-guest/memory-removed", test_memory_removed);
    control_rig_test_add("/control-guest/memory-removed-at-time-limit",
                         test_memory_removed_at_time_limit);
    control_rig_test_add("/control-guest/command-changes-later", test_command_changes_later);
    control_rig_test_add("/control-guest/racer", test_racer);
    return g_test_run();
}
