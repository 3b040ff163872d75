/* SPDX-License-Identifier: BSD-3-Clause */
/* The state that commands have made of a device: what each replaces, and how it is restored. */
#include "net-ctrl-check.h"

static void check_text(const NetCtrlState *state, const char *expected)
{
    g_autofree char *text = net_ctrl_state_to_string(state);

    g_assert_cmpstr(text, ==, expected);
}

static void check_effect(const char *commands, const char *expected)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();

    apply_text(state, commands);
    check_text(state, expected);
    g_assert_cmpint(net_ctrl_state_is_empty(state), ==, *expected == '\0');
}

static void nothing_is_set_at_first(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GArray) steps = restore(state, &device);
    uint8_t mac[6];

    g_assert_true(net_ctrl_state_is_empty(state));
    g_assert_cmpuint(steps->len, ==, 0);
    g_assert_cmpuint(net_ctrl_state_get_pairs(state), ==, 0);
    g_assert_false(net_ctrl_state_get_mac(state, mac));
    check_text(state, "");
}

/* Whatever a device does after a reset: off and empty are something to restore. */
static void off_and_empty_are_set(void)
{
    check_effect("RX_PROMISC on\nRX_PROMISC off\n", "RX_PROMISC off\n");
    check_effect("MAC_TABLE_SET 02:00:00:00:00:01 /\nMAC_TABLE_SET /\n", "MAC_TABLE_SET /\n");
    check_effect("GUEST_OFFLOADS_SET 0x0\n", "GUEST_OFFLOADS_SET 0x0\n");
    check_effect("NOTF_COAL_RX_SET packets=0 usecs=0\n", "NOTF_COAL_RX_SET packets=0 usecs=0\n");
}

/* A device has no VLANs after a reset (5.1.6.5.3). */
static void vlans_are_a_set(void)
{
    check_effect("VLAN_ADD 5\nVLAN_ADD 5\nVLAN_DEL 5\n", "");
    check_effect("VLAN_DEL 5\n", "");
    check_effect("VLAN_ADD 4095\nVLAN_ADD 0\nVLAN_ADD 64\n",
                 "VLAN_ADD 0\nVLAN_ADD 64\nVLAN_ADD 4095\n");
    check_effect("VLAN_ADD 9\nVLAN_ADD 7\nVLAN_ADD 8\nVLAN_ADD 11\nVLAN_ADD 12\nVLAN_DEL 11\n",
                 "VLAN_ADD 7-9\nVLAN_ADD 12\n");
}

static void questions_change_nothing(void)
{
    check_effect("ANNOUNCE_ACK\nNOTF_COAL_VQ_GET vq=3\n", "");
}

#define RSS4 "MQ_RSS_CONFIG types=0x1 unclassified=0 table=0,3 transmit=2 key=5a\n"
#define HASH "MQ_HASH_CONFIG types=0x2 key=\n"

static void the_last_command_says_how_packets_are_steered(void)
{
    check_effect("MQ_VQ_PAIRS_SET 4\nMQ_VQ_PAIRS_SET 2\n", "MQ_VQ_PAIRS_SET 2\n");
    check_effect("MQ_VQ_PAIRS_SET 4\n" RSS4, RSS4);
    check_effect(RSS4 "MQ_VQ_PAIRS_SET 4\n", "MQ_VQ_PAIRS_SET 4\n");
    check_effect(HASH RSS4, RSS4);
    check_effect(RSS4 HASH, RSS4 HASH);
    check_effect("MQ_VQ_PAIRS_SET 2\n" HASH, "MQ_VQ_PAIRS_SET 2\n" HASH);
    check_effect(HASH "MQ_VQ_PAIRS_SET 2\n", HASH "MQ_VQ_PAIRS_SET 2\n");
    check_effect(HASH "MQ_VQ_PAIRS_SET 2\n" HASH, "MQ_VQ_PAIRS_SET 2\n" HASH);
    check_effect(RSS4 HASH "MQ_VQ_PAIRS_SET 2\n", HASH "MQ_VQ_PAIRS_SET 2\n");
    check_effect(HASH "MQ_VQ_PAIRS_SET 2\n" RSS4 HASH, RSS4 HASH);
}

static void pairs_are_those_of_either_direction(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();

    apply_text(state, "MQ_VQ_PAIRS_SET 5\n");
    g_assert_cmpuint(net_ctrl_state_get_pairs(state), ==, 5);
    apply_text(state, RSS4);
    g_assert_cmpuint(net_ctrl_state_get_pairs(state), ==, 4);
    apply_text(state, "MQ_RSS_CONFIG types=0x1 unclassified=1 table=0 transmit=7 key=\n");
    g_assert_cmpuint(net_ctrl_state_get_pairs(state), ==, 7);
    apply_text(state, "MQ_RSS_CONFIG types=0x1 unclassified=5 table=0 transmit=2 key=\n");
    g_assert_cmpuint(net_ctrl_state_get_pairs(state), ==, 6);
}

#define TX "NOTF_COAL_TX_SET packets=8 usecs=9\n"
#define RX "NOTF_COAL_RX_SET packets=6 usecs=7\n"
#define VQ(i) "NOTF_COAL_VQ_SET vq=" #i " packets=1 usecs=2\n"

/* The example of 5.1.6.5.9, and the other direction. */
static void coalescing_of_a_direction_replaces_that_of_its_queues(void)
{
    check_effect(RX VQ(0), RX VQ(0));
    check_effect(RX VQ(0) VQ(1) TX, TX RX VQ(0));
    check_effect(VQ(0) VQ(1) VQ(2) VQ(3) RX, RX VQ(1) VQ(3));
    check_effect(VQ(255) VQ(254), VQ(254) VQ(255));
    check_effect(VQ(3) "NOTF_COAL_VQ_SET vq=3 packets=0 usecs=0\n",
                 "NOTF_COAL_VQ_SET vq=3 packets=0 usecs=0\n");
}

/* Enabled again they have that of their direction (5.1.6.5.9.5). */
static void queues_that_end_forget_their_coalescing(void)
{
    check_effect("MQ_VQ_PAIRS_SET 3\n" VQ(0) VQ(3) VQ(4) VQ(5) "MQ_VQ_PAIRS_SET 2\n",
                 "MQ_VQ_PAIRS_SET 2\n" VQ(0) VQ(3));
    check_effect("MQ_VQ_PAIRS_SET 2\n" VQ(3) "MQ_VQ_PAIRS_SET 4\n", "MQ_VQ_PAIRS_SET 4\n" VQ(3));
    check_effect(VQ(3) VQ(5) VQ(6) VQ(8) RSS4, RSS4 VQ(3) VQ(6));
}

static void what_is_unknown_is_remembered_once(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GArray) steps = NULL;
    unsigned int i;

    g_assert_true(net_ctrl_state_apply_unknown(state, 9, 1));
    g_assert_false(net_ctrl_state_apply_unknown(state, 9, 1));
    g_assert_false(net_ctrl_state_is_empty(state));
    check_text(state, "command 1 of class 9 cannot be restored\n");
    steps = restore(state, &device);
    g_assert_cmpuint(steps->len, ==, 0);
    for (i = 0; i < 63; i++) {
        g_assert_true(net_ctrl_state_apply_unknown(state, 10, (uint8_t)i));
    }
    g_assert_false(net_ctrl_state_apply_unknown(state, 11, 1));
    net_ctrl_state_clear(state);
    g_assert_true(net_ctrl_state_is_empty(state));
    g_assert_true(net_ctrl_state_apply_unknown(state, 11, 1));
}

#define EVERYTHING \
    "NOTF_COAL_RX_SET packets=6 usecs=7\nNOTF_COAL_VQ_SET vq=1 packets=1 usecs=2\n" \
    "NOTF_COAL_VQ_SET vq=2 packets=3 usecs=4\nVLAN_ADD 7\nVLAN_ADD 5\nRX_NOBCAST off\n" \
    "RX_PROMISC on\nGUEST_OFFLOADS_SET 0x2\nMQ_VQ_PAIRS_SET 4\nMQ_HASH_CONFIG types=0x2 key=\n" \
    "NOTF_COAL_TX_SET packets=8 usecs=9\nNOTF_COAL_VQ_SET vq=1 packets=1 usecs=2\n" \
    "MAC_ADDR_SET 02:00:00:00:00:01\nMAC_TABLE_SET / 33:33:00:00:00:01\n"

static void a_restore_keeps_the_order(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GArray) steps = NULL, vlans = NULL, mq = NULL, announce = NULL;
    g_autofree char *text = NULL, *vlans_text = NULL, *mq_text = NULL;

    apply_text(state, EVERYTHING);
    steps = restore(state, &device);
    text = steps_to_string(steps);
    g_assert_cmpstr(text, ==,
                    "* MAC_TABLE_SET / 33:33:00:00:00:01\nMAC_ADDR_SET 02:00:00:00:00:01\n"
                    "* MQ_VQ_PAIRS_SET 4\n* MQ_HASH_CONFIG types=0x2 key=\n"
                    "* GUEST_OFFLOADS_SET 0x2\n* RX_PROMISC on\nRX_NOBCAST off\n"
                    "* VLAN_ADD 5\nVLAN_ADD 7\n* NOTF_COAL_TX_SET packets=8 usecs=9\n"
                    "NOTF_COAL_RX_SET packets=6 usecs=7\n"
                    "* NOTF_COAL_VQ_SET vq=1 packets=1 usecs=2\n"
                    "NOTF_COAL_VQ_SET vq=2 packets=3 usecs=4\n");

    vlans = net_ctrl_state_restore_class(state, 2, &device, NULL);
    vlans_text = steps_to_string(vlans);
    g_assert_cmpstr(vlans_text, ==, "* VLAN_ADD 5\nVLAN_ADD 7\n");
    mq = net_ctrl_state_restore_class(state, 4, &device, NULL);
    mq_text = steps_to_string(mq);
    g_assert_cmpstr(mq_text, ==, "* MQ_VQ_PAIRS_SET 4\n* MQ_HASH_CONFIG types=0x2 key=\n");
    announce = net_ctrl_state_restore_class(state, 3, &device, NULL);
    g_assert_cmpuint(announce->len, ==, 0);
}

static void check_lacks(const char *command, const NetCtrlLimits *limits, const char *message)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GError) error = NULL;

    apply_text(state, command);
    g_assert_null(net_ctrl_state_restore(state, limits, &error));
    g_assert_cmpstr(error->message, ==, message);
}

static void a_restore_names_what_a_device_lacks(void)
{
    NetCtrlLimits limits = device;

    limits.max_pairs = 2;
    check_lacks("VLAN_ADD 5\nMQ_VQ_PAIRS_SET 4\n", &limits,
                "MQ_VQ_PAIRS_SET cannot be restored on this device: "
                "number of queue pairs out of range (4)");
    limits = device;
    limits.max_key_bytes = 0;
    check_lacks(RSS4, &limits,
                "MQ_RSS_CONFIG cannot be restored on this device: hash key is too long (1)");
    limits = device;
    limits.features = ~(UINT64_C(1) << 19);
    check_lacks("RX_PROMISC on\nVLAN_ADD 5\n", &limits,
                "VLAN_ADD cannot be restored without CTRL_VLAN");
    limits.features = ~(UINT64_C(1) << 7);
    check_lacks("GUEST_OFFLOADS_SET 0x82\n", &limits,
                "GUEST_OFFLOADS_SET cannot be restored on this device: "
                "offloads that are not negotiated (128)");
}

static void a_copy_is_independent(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new(), copy = net_ctrl_state_new();
    uint8_t mac[6];

    apply_text(state, EVERYTHING RSS4);
    net_ctrl_state_apply_unknown(state, 9, 1);
    apply_text(copy, HASH "VLAN_ADD 9\nMAC_TABLE_SET 02:00:00:00:00:07 02:00:00:00:00:08 /\n");
    net_ctrl_state_copy(copy, state);
    check_equal(copy, state);
    net_ctrl_state_clear(state);
    g_assert_true(net_ctrl_state_is_empty(state));
    g_assert_true(net_ctrl_state_get_mac(copy, mac));
    g_assert_cmpmem(mac, 6, "\x02\0\0\0\0\x01", 6);
    check_text(copy, "MAC_TABLE_SET / 33:33:00:00:00:01\nMAC_ADDR_SET 02:00:00:00:00:01\n" RSS4
               "GUEST_OFFLOADS_SET 0x2\nRX_PROMISC on\nRX_NOBCAST off\nVLAN_ADD 5\nVLAN_ADD 7\n"
               TX RX VQ(1) "NOTF_COAL_VQ_SET vq=2 packets=3 usecs=4\n"
               "command 1 of class 9 cannot be restored\n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-ctrl-state/nothing-is-set-at-first", nothing_is_set_at_first);
    g_test_add_func("/net-ctrl-state/off-and-empty-are-set", off_and_empty_are_set);
    g_test_add_func("/net-ctrl-state/vlans-are-a-set", vlans_are_a_set);
    g_test_add_func("/net-ctrl-state/questions-change-nothing", questions_change_nothing);
    g_test_add_func("/net-ctrl-state/the-last-command-says-how-packets-are-steered",
                    the_last_command_says_how_packets_are_steered);
    g_test_add_func("/net-ctrl-state/pairs-are-those-of-either-direction",
                    pairs_are_those_of_either_direction);
    g_test_add_func("/net-ctrl-state/coalescing-of-a-direction-replaces-that-of-its-queues",
                    coalescing_of_a_direction_replaces_that_of_its_queues);
    g_test_add_func("/net-ctrl-state/queues-that-end-forget-their-coalescing",
                    queues_that_end_forget_their_coalescing);
    g_test_add_func("/net-ctrl-state/what-is-unknown-is-remembered-once",
                    what_is_unknown_is_remembered_once);
    g_test_add_func("/net-ctrl-state/a-restore-keeps-the-order", a_restore_keeps_the_order);
    g_test_add_func("/net-ctrl-state/a-restore-names-what-a-device-lacks",
                    a_restore_names_what_a_device_lacks);
    g_test_add_func("/net-ctrl-state/a-copy-is-independent", a_copy_is_independent);
    return g_test_run();
}
