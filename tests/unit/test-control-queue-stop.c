/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A control queue that is stopped, moved or killed with commands in flight, and what the ring's
 * features make of it: IN_ORDER, EVENT_IDX, dirty logging.
 */
#include <string.h>

#include "lib/control-rig.h"

/* What the device has not answered the next one gets, and nothing else. */
static void test_stop_in_flight(const void *data)
{
    unsigned int i;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < 4; i++) {
        g_autofree char *text = g_strdup_printf("VLAN_ADD %u", i);

        control_rig_say(&rig, text);
    }
    control_rig_step(&rig);
    /* This answer is found by the stop. */
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 0"), NET_CTRL_OK);
    control_rig_stop(&rig, false);
    control_rig_hear(&rig, 0, NET_CTRL_OK);
    control_rig_hear_nothing(&rig);
    control_rig_check_state(&rig, "VLAN_ADD 0\n");

    control_rig_start(&rig);
    control_rig_step(&rig);
    for (i = 1; i < 4; i++) {
        g_autofree char *text = g_strdup_printf("VLAN_ADD %u", i);

        control_rig_answer(&rig, control_rig_take_text(&rig, text), NET_CTRL_OK);
    }
    control_rig_take_nothing(&rig);
    control_rig_step(&rig);
    for (i = 1; i < 4; i++) {
        control_rig_hear(&rig, i, NET_CTRL_OK);
    }
    control_rig_do(&rig, "VLAN_ADD 4");
    control_rig_check_state(&rig, "VLAN_ADD 0-4\n");
    control_rig_cleanup(&rig);
}

/* What was overtaken cannot be offered again: it comes back unanswered, and does not look done. */
static void test_stop_out_of_order(const void *data)
{
    uint32_t cookie = 0, len = 1;
    RigCommand first, second;
    ControlRig rig;

    control_rig_init(&rig, data);
    control_rig_say(&rig, "VLAN_ADD 0");
    control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    first = control_rig_take_text(&rig, "VLAN_ADD 0");
    second = control_rig_take_text(&rig, "VLAN_ADD 1");
    g_assert_true(first.bytes != second.bytes);
    control_rig_answer(&rig, second, NET_CTRL_OK);
    control_rig_stop(&rig, true);
    control_rig_hear(&rig, 1, NET_CTRL_OK);
    g_assert_cmpint(vring_driver_collect(&rig.driver, rig.guest.packed, &cookie, &len), ==, 1);
    g_assert_cmpuint(cookie, ==, 0);
    g_assert_cmpuint(len, ==, 0);
    g_assert_cmphex(control_rig_reply(&rig, 0)[0], ==, NET_CTRL_ERR);
    g_assert_cmphex(control_rig_reply(&rig, 0)[1], ==, 0xee);
    control_rig_hear_nothing(&rig);
    g_assert_true(control_queue_is_doubtful(rig.queue));

    control_rig_start(&rig);
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 2"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, 2, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 1-2\n");
    control_rig_cleanup(&rig);
}

/* A lost slot is lost with its device. */
static void test_stop_with_lost_slots(const void *data)
{
    unsigned int i, round;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (round = 0; round < 3; round++) {
        for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
            control_rig_say(&rig, "RX_PROMISC on");
        }
        control_rig_step(&rig);
        control_queue_expire(rig.svq, INT64_MAX);
        control_rig_expect_words("has not answered 32 commands");
        for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
            control_rig_hear(&rig, round * CONTROL_QUEUE_SLOTS + i, NET_CTRL_ERR);
        }
        control_rig_stop(&rig, false);
        control_rig_hear_nothing(&rig);
        control_rig_start(&rig);
    }
    control_rig_do(&rig, "VLAN_ADD 1");
    control_rig_cleanup(&rig);
}

/* The guest's ring lies elsewhere from one moment to the other. */
static void test_detach_and_resume(const void *data)
{
    VringAreas moved;
    RigCommand command;
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    shadow_virtqueue_detach(rig.svq);
    g_assert_cmpuint(shadow_virtqueue_offer(rig.svq), ==, 0);
    control_rig_answer(&rig, command, NET_CTRL_OK);
    g_assert_cmpuint(shadow_virtqueue_return(rig.svq), ==, 0);

    moved = (VringAreas){
        g_memdup2(rig.guest.areas.desc, vring_desc_size(CONTROL_RIG_NUM)),
        g_memdup2(rig.guest.areas.driver,
                  vring_driver_size(CONTROL_RIG_NUM, rig.guest.packed)),
        g_memdup2(rig.guest.areas.device,
                  vring_device_size(CONTROL_RIG_NUM, rig.guest.packed)),
    };
    shadow_virtqueue_resume(rig.svq, &moved);
    control_rig_step(&rig);
    control_rig_hear_nothing(&rig);
    memcpy(rig.guest.areas.desc, moved.desc, vring_desc_size(CONTROL_RIG_NUM));
    memcpy(rig.guest.areas.device, moved.device,
           vring_device_size(CONTROL_RIG_NUM, rig.guest.packed));
    control_rig_hear(&rig, c, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 1\n");
    control_rig_stop(&rig, false);
    g_free(moved.desc);
    g_free(moved.driver);
    g_free(moved.device);
    control_rig_cleanup(&rig);
}

/* All that a kill leaves: the guest's ring, and the record. */
typedef struct Remains {
    uint8_t *desc, *device;
    VringInflight *record;
} Remains;

static Remains remains_of(const ControlRig *rig, const VringInflight *record)
{
    return (Remains){
        g_memdup2(rig->guest.areas.desc, vring_desc_size(CONTROL_RIG_NUM)),
        g_memdup2(rig->guest.areas.device,
                  vring_device_size(CONTROL_RIG_NUM, rig->guest.packed)),
        g_memdup2(record, vring_inflight_size(CONTROL_RIG_NUM)),
    };
}

static void bring_back(ControlRig *rig, Remains *remains, VringInflight *record)
{
    memcpy(rig->guest.areas.desc, remains->desc, vring_desc_size(CONTROL_RIG_NUM));
    memcpy(rig->guest.areas.device, remains->device,
           vring_device_size(CONTROL_RIG_NUM, rig->guest.packed));
    memcpy(record, remains->record, vring_inflight_size(CONTROL_RIG_NUM));
    g_free(remains->desc);
    g_free(remains->device);
    g_free(remains->record);
}

/* A command asks for something, and asking again does no harm: each is, unless it was answered. */
static void test_killed(const void *data)
{
    VringInflight *record = g_aligned_alloc0(1, vring_inflight_size(CONTROL_RIG_NUM), 64);
    const ControlRigConfig *config = data;
    Remains remains;
    ControlRig rig;

    control_rig_init(&rig, config);
    control_rig_stop(&rig, false);
    rig.guest.inflight = record;
    rig.guest.identity = (VringIdentity){ 1, 2, 3, rig.guest.base };
    control_rig_start(&rig);
    control_rig_say(&rig, "VLAN_ADD 0");
    control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_say(&rig, "VLAN_ADD 2");
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 0"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, 0, NET_CTRL_OK);
    remains = remains_of(&rig, record);
    control_rig_stop(&rig, false);
    bring_back(&rig, &remains, record);
    rig.guest.base = rig.guest.identity.base;

    control_rig_start(&rig);
    g_assert_true(shadow_virtqueue_goes_on(rig.svq));
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 1"), NET_CTRL_OK);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 2"), NET_CTRL_OK);
    control_rig_take_nothing(&rig);
    control_rig_step(&rig);
    control_rig_hear(&rig, 1, NET_CTRL_OK);
    control_rig_hear(&rig, 2, NET_CTRL_OK);
    control_rig_hear_nothing(&rig);
    control_rig_check_state(&rig, "VLAN_ADD 0-2\n");
    control_rig_stop(&rig, false);
    g_aligned_free(record);
    control_rig_cleanup(&rig);
}

/* Our answers are given at once, but the guest hears of them in its order. */
static void test_guest_in_order(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    static const uint8_t short_one[] = { 0, 0 };
    RigCommand first, second;
    unsigned int i;
    ControlRig rig;

    config.guest_in_order = true;
    control_rig_init(&rig, &config);
    control_rig_say(&rig, "VLAN_ADD 0");
    control_rig_say_bytes(&rig, short_one, sizeof(short_one), 1);
    control_rig_say(&rig, "ANNOUNCE_ACK");
    control_rig_say(&rig, "VLAN_ADD 3");
    control_rig_step(&rig);
    control_rig_expect_words("is refused: data is too short");
    first = control_rig_take_text(&rig, "VLAN_ADD 0");
    second = control_rig_take_text(&rig, "VLAN_ADD 3");
    control_rig_answer(&rig, second, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear_nothing(&rig);
    control_rig_check_state(&rig, "VLAN_ADD 3\n");
    control_rig_answer(&rig, first, NET_CTRL_OK);
    control_rig_step(&rig);
    for (i = 0; i < 4; i++) {
        control_rig_hear(&rig, i, i == 1 ? NET_CTRL_ERR : NET_CTRL_OK);
    }
    control_rig_cleanup(&rig);
}

/* Several answers with one used element. */
static void test_device_in_order(const void *data)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    RigCommand commands[3];
    unsigned int i, round;
    ControlRig rig;

    config.device_in_order = true;
    control_rig_init(&rig, &config);
    for (round = 0; round < 100; round++) {
        for (i = 0; i < 3; i++) {
            control_rig_say(&rig, i == 1 ? "RX_PROMISC on" : "RX_ALLMULTI on");
        }
        control_rig_step(&rig);
        for (i = 0; i < 3; i++) {
            commands[i] = control_rig_take(&rig);
            commands[i].reply[0] = i == 1 ? NET_CTRL_ERR : NET_CTRL_OK;
        }
        for (i = 0; i < 3; i++) {
            vring_device_put(&rig.device, rig.shadow.packed, commands[i].id, 1);
        }
        vring_device_publish(&rig.device, rig.shadow.packed);
        control_rig_step(&rig);
        for (i = 0; i < 3; i++) {
            control_rig_hear(&rig, 3 * round + i, i == 1 ? NET_CTRL_ERR : NET_CTRL_OK);
        }
    }
    control_rig_check_state(&rig, "RX_ALLMULTI on\n");
    control_rig_cleanup(&rig);
}

/* A burst is one kick, and one call, or none where they are not wanted. */
static void check_notifications(const void *data, bool event_idx)
{
    ControlRigConfig config = *(const ControlRigConfig *)data;
    ShadowVirtqueueCounters counters;
    RigCommand commands[3];
    unsigned int i, round;
    ControlRig rig;

    config.event_idx = event_idx;
    control_rig_init(&rig, &config);
    for (round = 0; round < 2; round++) {
        const bool wanted = round == 0;

        if (wanted) {
            vring_device_enable_kick(&rig.device, rig.shadow.packed);
            vring_driver_enable_call(&rig.driver, rig.guest.packed);
        } else {
            vring_device_disable_kick(&rig.device, rig.shadow.packed);
            vring_driver_disable_call(&rig.driver, rig.guest.packed);
        }
        for (i = 0; i < 3; i++) {
            control_rig_say(&rig, "RX_PROMISC on");
        }
        control_rig_step(&rig);
        g_assert_cmpint(event_notifier_test_and_clear(&rig.device_kick), ==, wanted);
        g_assert_cmpint(event_notifier_test_and_clear(&rig.guest_call), ==, 0);
        for (i = 0; i < 3; i++) {
            commands[i] = control_rig_take(&rig);
        }
        for (i = 0; i < 3; i++) {
            control_rig_answer(&rig, commands[i], NET_CTRL_OK);
        }
        control_rig_step(&rig);
        g_assert_cmpint(event_notifier_test_and_clear(&rig.guest_call), ==, wanted);
        for (i = 0; i < 3; i++) {
            control_rig_hear(&rig, 3 * round + i, NET_CTRL_OK);
        }
    }
    counters = shadow_virtqueue_get_counters(rig.svq);
    g_assert_cmpuint(counters.kicks_sent, ==, 1);
    g_assert_cmpuint(counters.kicks_suppressed, ==, 1);
    g_assert_cmpuint(counters.calls_sent, ==, 1);
    g_assert_cmpuint(counters.calls_suppressed, ==, 1);
    g_assert_cmpuint(counters.buffers, ==, 6);
    g_assert_cmpuint(counters.returned, ==, 6);
    g_assert_cmpuint(counters.bytes, ==, 6 * 3);
    control_rig_cleanup(&rig);
}

static void test_notifications(const void *data)
{
    check_notifications(data, false);
}

static void test_notifications_event_idx(const void *data)
{
    check_notifications(data, true);
}

static bool take_bit(DirtyLog *log, uint64_t gpa)
{
    const uint64_t page = gpa >> DIRTY_LOG_PAGE_BITS, bit = UINT64_C(1) << page % 64;

    return atomic_fetch_and(&log->words[page / 64], htole64(~bit)) & htole64(bit);
}

static void check_no_bit(const DirtyLog *log)
{
    uint64_t i;

    for (i = 0; i < log->n_pages / 64; i++) {
        g_assert_cmphex(log->words[i], ==, 0);
    }
}

/* Each page that an answer touches, and no other; by whomever it is given. */
static void test_dirty_log(const void *data)
{
    /* The answer lies on both sides of a border of pages, which is one of regions, too. */
    const VringSegment seg[] = {
        { CONTROL_RIG_LOW, 6, 0 },
        { CONTROL_RIG_HIGH - 4, 9, VRING_DESC_F_WRITE },
    };
    static const uint8_t coal_get[] = { 6, 3, 0, 0, 0, 0 };
    DirtyLog log = { .n_pages = 0x8000, .refs = 1 };
    SvqLogging logging = { .log = &log, .data = true };
    uint32_t cookie = 0, len = 0;
    RigCommand command;
    ControlRig rig;
    unsigned int c;

    log.words = g_malloc0(log.n_pages / 8);
    control_rig_init(&rig, data);
    rcu_assign_pointer(rig.logging, &logging);
    memcpy(control_rig_host(&rig, CONTROL_RIG_LOW), coal_get, sizeof(coal_get));
    control_rig_say_segments(&rig, seg, G_N_ELEMENTS(seg));
    control_rig_step(&rig);
    check_no_bit(&log);
    command = control_rig_take(&rig);
    memset(command.reply, 0, command.room);
    control_rig_use(&rig, command.id, command.room);
    control_rig_step(&rig);
    g_assert_cmpint(vring_driver_collect(&rig.driver, rig.guest.packed, &cookie, &len), ==, 1);
    g_assert_cmpuint(len, ==, 9);
    g_assert_true(take_bit(&log, CONTROL_RIG_LOW));
    g_assert_true(take_bit(&log, CONTROL_RIG_HIGH));
    check_no_bit(&log);

    /* Refused by us, given up by us. */
    c = control_rig_say_bytes(&rig, coal_get, 2, 1);
    control_rig_step(&rig);
    control_rig_expect_words("is refused");
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    g_assert_true(take_bit(&log, control_rig_place(c) + CONTROL_RIG_REPLY));
    c = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    check_no_bit(&log);
    control_queue_expire(rig.svq, INT64_MAX);
    control_rig_expect_words("has not answered");
    control_rig_take(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    g_assert_true(take_bit(&log, control_rig_place(c) + CONTROL_RIG_REPLY));
    check_no_bit(&log);

    /* The VMM wants to know of the rings alone. */
    logging.data = false;
    control_rig_do(&rig, "VLAN_ADD 2");
    check_no_bit(&log);
    control_rig_stop(&rig, false);
    g_free(log.words);
    control_rig_cleanup(&rig);
}

/* A log ends, and a shorter one begins, between the first mark of a burst and its end. */
static SvqLogging *next_logging;

static void change_log(ControlRig *rig)
{
    rcu_assign_pointer(rig->logging, next_logging);
}

static void test_dirty_log_changes(const void *data)
{
    DirtyLog log = { .n_pages = 0x8000, .refs = 1 }, short_log = { .n_pages = 64, .refs = 1 };
    SvqLogging logging = { .log = &log, .data = true };
    SvqLogging next = { .log = &short_log, .data = true };
    RigCommand commands[2];
    ControlRig rig;
    unsigned int i;

    log.words = g_malloc0(log.n_pages / 8);
    short_log.words = g_malloc0(short_log.n_pages / 8);
    next_logging = &next;
    control_rig_init(&rig, data);
    rcu_assign_pointer(rig.logging, &logging);
    rig.on_changed = change_log;
    for (i = 0; i < 2; i++) {
        control_rig_say(&rig, "RX_PROMISC on");
    }
    control_rig_step(&rig);
    for (i = 0; i < 2; i++) {
        commands[i] = control_rig_take(&rig);
    }
    for (i = 0; i < 2; i++) {
        control_rig_answer(&rig, commands[i], NET_CTRL_OK);
    }
    control_rig_step(&rig);
    for (i = 0; i < 2; i++) {
        control_rig_hear(&rig, i, NET_CTRL_OK);
        g_assert_true(take_bit(&log, control_rig_place(i) + CONTROL_RIG_REPLY));
    }
    g_assert_cmpuint(rig.changed, ==, 1);
    check_no_bit(&log);
    check_no_bit(&short_log);
    control_rig_stop(&rig, false);
    check_no_bit(&short_log);
    g_free(log.words);
    g_free(short_log.words);
    control_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/control-queue-stop/in-flight", test_stop_in_flight);
    control_rig_test_add("/control-queue-stop/out-of-order", test_stop_out_of_order);
    control_rig_test_add("/control-queue-stop/lost-slots", test_stop_with_lost_slots);
    control_rig_test_add("/control-queue-stop/detach-and-resume", test_detach_and_resume);
    control_rig_test_add("/control-queue-stop/killed", test_killed);
    control_rig_test_add("/control-queue-stop/guest-in-order", test_guest_in_order);
    control_rig_test_add("/control-queue-stop/device-in-order", test_device_in_order);
    control_rig_test_add("/control-queue-stop/notifications", test_notifications);
    control_rig_test_add("/control-queue-stop/notifications-event-idx",
                         test_notifications_event_idx);
    control_rig_test_add("/control-queue-stop/dirty-log", test_dirty_log);
    control_rig_test_add("/control-queue-stop/dirty-log-changes", test_dirty_log_changes);
    return g_test_run();
}
