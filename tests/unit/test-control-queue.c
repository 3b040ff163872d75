/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way of a control command from the guest to the device and of its answer back, step by step,
 * for each pair of ring formats.
 */
#include <string.h>

#include "lib/control-rig.h"
#include "lib/random.h"

/* One of each. */
static const char *const examples[NET_CTRL_COUNT] = {
    [NET_CTRL_RX_PROMISC] = "RX_PROMISC on",
    [NET_CTRL_RX_ALLMULTI] = "RX_ALLMULTI off",
    [NET_CTRL_RX_ALLUNI] = "RX_ALLUNI on",
    [NET_CTRL_RX_NOMULTI] = "RX_NOMULTI on",
    [NET_CTRL_RX_NOUNI] = "RX_NOUNI off",
    [NET_CTRL_RX_NOBCAST] = "RX_NOBCAST on",
    [NET_CTRL_MAC_TABLE_SET] = "MAC_TABLE_SET 02:00:00:00:00:01 / 33:33:00:00:00:01",
    [NET_CTRL_MAC_ADDR_SET] = "MAC_ADDR_SET 02:0a:0b:0c:0d:0e",
    [NET_CTRL_VLAN_ADD] = "VLAN_ADD 258",
    [NET_CTRL_VLAN_DEL] = "VLAN_DEL 258",
    [NET_CTRL_ANNOUNCE_ACK] = "ANNOUNCE_ACK",
    [NET_CTRL_MQ_VQ_PAIRS_SET] = "MQ_VQ_PAIRS_SET 4",
    [NET_CTRL_MQ_RSS_CONFIG] =
        "MQ_RSS_CONFIG types=0x1b unclassified=2 table=0,7 transmit=5 key=6d",
    [NET_CTRL_MQ_HASH_CONFIG] = "MQ_HASH_CONFIG types=0x105 key=6d5a",
    [NET_CTRL_GUEST_OFFLOADS_SET] = "GUEST_OFFLOADS_SET 0x482",
    [NET_CTRL_NOTF_COAL_TX_SET] = "NOTF_COAL_TX_SET packets=15 usecs=66051",
    [NET_CTRL_NOTF_COAL_RX_SET] = "NOTF_COAL_RX_SET packets=1 usecs=0",
    [NET_CTRL_NOTF_COAL_VQ_SET] = "NOTF_COAL_VQ_SET vq=3 packets=16 usecs=32",
    [NET_CTRL_NOTF_COAL_VQ_GET] = "NOTF_COAL_VQ_GET vq=15",
};

static GByteArray *bytes_of(const char *text)
{
    g_autoptr(GError) err = NULL;
    GByteArray *bytes = net_ctrl_from_string(text, &err);

    g_assert_no_error(err);
    return bytes;
}

static void apply_text(NetCtrlState *state, const char *text)
{
    g_autoptr(GByteArray) bytes = bytes_of(text);
    NetCtrlCommand command;
    NetCtrlError error;

    g_assert_cmpint(net_ctrl_parse(&command, bytes->data, bytes->len, &control_rig_limits, &error),
                    ==, 0);
    net_ctrl_state_apply(state, &command);
}

static void check_equal(const NetCtrlState *a, const NetCtrlState *b)
{
    g_autoptr(GBytes) saved_a = net_ctrl_state_save(a), saved_b = net_ctrl_state_save(b);

    g_assert_true(g_bytes_equal(saved_a, saved_b));
}

/* The device sees these bytes and no others; the state and the guest hear when it says OK. */
static void test_each_command(const void *data)
{
    g_autoptr(NetCtrlState) expected = net_ctrl_state_new();
    unsigned int id, told = 0;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (id = 0; id < NET_CTRL_COUNT; id++) {
        const uint32_t result = net_ctrl_spec(id)->result;
        RigCommand command;
        unsigned int c;

        if (id == NET_CTRL_ANNOUNCE_ACK) {
            continue;
        }
        c = control_rig_say(&rig, examples[id]);
        control_rig_step(&rig);
        command = control_rig_take_text(&rig, examples[id]);
        g_assert_cmpuint(command.room, ==, 1 + result);
        check_equal(rig.state, expected);
        control_rig_hear_nothing(&rig);

        memset(command.reply + 1, (int)(0x40 + id), result);
        command.reply[0] = NET_CTRL_OK;
        control_rig_use(&rig, command.id, 1 + result);
        g_assert_cmpuint(rig.changed, ==, told);
        control_rig_step(&rig);
        told += result == 0;
        g_assert_cmpuint(rig.changed, ==, told);
        g_assert_cmpuint(rig.sent, ==, told);
        apply_text(expected, examples[id]);
        check_equal(rig.state, expected);
        control_rig_hear_len(&rig, c, NET_CTRL_OK, 1 + result);
        if (result) {
            g_assert_cmphex(control_rig_reply(&rig, c)[1], ==, 0x40 + id);
            g_assert_cmphex(control_rig_reply(&rig, c)[result], ==, 0x40 + id);
        }
    }
    g_assert_cmpuint(control_queue_get_counters(rig.queue).commands, ==, NET_CTRL_COUNT - 1);
    g_assert_cmpuint(control_queue_get_counters(rig.queue).failed, ==, 0);
    control_rig_cleanup(&rig);
}

static void test_each_command_failed(const void *data)
{
    unsigned int id;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (id = 0; id < NET_CTRL_COUNT; id++) {
        unsigned int c;

        if (id == NET_CTRL_ANNOUNCE_ACK) {
            continue;
        }
        c = control_rig_say(&rig, examples[id]);
        control_rig_step(&rig);
        control_rig_answer(&rig, control_rig_take_text(&rig, examples[id]), NET_CTRL_ERR);
        control_rig_step(&rig);
        control_rig_hear(&rig, c, NET_CTRL_ERR);
    }
    g_assert_true(net_ctrl_state_is_empty(rig.state));
    g_assert_cmpuint(rig.changed, ==, 0);
    g_assert_cmpuint(control_queue_get_counters(rig.queue).failed, ==, NET_CTRL_COUNT - 1);
    control_rig_cleanup(&rig);
}

/* It was we who asked, so it is we who are answered. */
static void test_announce_ack(const void *data)
{
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say(&rig, "ANNOUNCE_ACK");
    control_rig_step(&rig);
    control_rig_take_nothing(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    g_assert_cmpuint(rig.announced, ==, 1);
    g_assert_true(net_ctrl_state_is_empty(rig.state));
    control_rig_cleanup(&rig);
}

/* Passed on with all the room that there is for an answer, and back comes what the device wrote. */
static void test_unknown_command(const void *data)
{
    static const uint8_t bytes[] = { 9, 7, 1, 2, 3 };
    static const struct {
        uint32_t room, device_room, written, heard;
    } cases[] = {
        { 10, 10, 10, 10 },
        { 10, 10, 4, 4 },
        { 10, 10, 0, 1 },
        { 1, 1, 1, 1 },
        { 200, 65, 65, 65 },
    };
    unsigned int i;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        const unsigned int c = control_rig_say_bytes(&rig, bytes, sizeof(bytes), cases[i].room);
        RigCommand command;

        control_rig_step(&rig);
        command = control_rig_take(&rig);
        g_assert_cmpmem(command.bytes, command.n, bytes, sizeof(bytes));
        g_assert_cmpuint(command.room, ==, cases[i].device_room);
        memset(command.reply, 0x55, cases[i].written);
        command.reply[0] = NET_CTRL_OK;
        control_rig_use(&rig, command.id, cases[i].written);
        control_rig_step(&rig);
        control_rig_hear_len(&rig, c, NET_CTRL_OK, cases[i].heard);
        if (cases[i].heard > 1) {
            g_assert_cmphex(control_rig_reply(&rig, c)[cases[i].heard - 1], ==, 0x55);
        }
    }
    control_rig_expect_words("class 9, command 7; it cannot be restored");
    control_rig_check_state(&rig, "command 7 of class 9 cannot be restored\n");
    /* It is remembered once. */
    g_assert_cmpuint(rig.changed, ==, 1);
    control_rig_cleanup(&rig);
}

static void test_unknown_command_failed(const void *data)
{
    static const uint8_t bytes[] = { 9, 7 };
    ControlRig rig;
    unsigned int c;

    control_rig_init(&rig, data);
    c = control_rig_say_bytes(&rig, bytes, sizeof(bytes), 10);
    control_rig_step(&rig);
    control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_ERR);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    g_assert_true(net_ctrl_state_is_empty(rig.state));
    control_rig_cleanup(&rig);
}

/*
 * The command at @gpa in elements of random lengths, the answer behind it likewise; in a table
 * every other time.
 */
static void say_in_pieces(ControlRig *rig, Random *random, const GByteArray *bytes, uint64_t gpa,
                          uint32_t longest, uint32_t room, bool table)
{
    VringSegment seg[CONTROL_RIG_NUM];
    const uint64_t answer = gpa + bytes->len, end = answer + room;
    unsigned int i, n = 0;

    for (i = 0; i < bytes->len; i++) {
        *control_rig_host(rig, gpa + i) = bytes->data[i];
    }
    for (i = 0; i < room; i++) {
        *control_rig_host(rig, answer + i) = 0xee;
    }
    while (gpa < end) {
        const uint64_t most = gpa < answer ? answer - gpa : end - gpa;
        const uint32_t cut = random_between(random, 1, longest);
        const uint32_t len = (uint32_t)MIN(most, cut);

        g_assert_cmpuint(n, <, G_N_ELEMENTS(seg));
        seg[n++] = (VringSegment){ gpa, len, gpa < answer ? 0 : VRING_DESC_F_WRITE };
        gpa += len;
    }
    if (table) {
        control_rig_say_table(rig, control_rig_place(rig->said), seg, n);
    } else {
        control_rig_say_segments(rig, seg, n);
    }
}

static void check_pieces(ControlRig *rig, Random *random, const char *text, uint32_t longest,
                         bool table)
{
    /* Somewhere about the border of two regions that lie side by side for the guest. */
    const uint64_t gpa = CONTROL_RIG_HIGH - random_below(random, 40);
    g_autoptr(GByteArray) bytes = bytes_of(text);
    uint32_t cookie = 0, len = 0;
    RigCommand command;
    unsigned int i;

    say_in_pieces(rig, random, bytes, gpa, longest, 20, table);
    control_rig_step(rig);
    command = control_rig_take(rig);
    g_assert_cmpmem(command.bytes, command.n, bytes->data, bytes->len);
    command.reply[0] = NET_CTRL_OK;
    for (i = 1; i < command.room; i++) {
        command.reply[i] = (uint8_t)(0x60 + i);
    }
    control_rig_use(rig, command.id, command.room);
    control_rig_step(rig);
    g_assert_cmpint(vring_driver_collect(&rig->driver, rig->guest.packed, &cookie, &len), ==, 1);
    g_assert_cmpuint(len, ==, command.room);
    for (i = 0; i < 20; i++) {
        const uint8_t written = i == 0 ? NET_CTRL_OK : (uint8_t)(0x60 + i);

        g_assert_cmphex(*control_rig_host(rig, gpa + bytes->len + i), ==,
                        i < command.room ? written : 0xee);
    }
}

static void test_pieces(const void *data)
{
    Random random = { random_seed() };
    unsigned int id, i;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (id = 0; id < NET_CTRL_COUNT; id++) {
        for (i = 0; i < 32 && id != NET_CTRL_ANNOUNCE_ACK; i++) {
            /* Of one byte each, of a few, of as many as there are. */
            const uint32_t longest = i % 3 == 0 ? 1 : i % 3 == 1 ? 5 : 1000;

            check_pieces(&rig, &random, examples[id], longest, i % 2);
        }
    }
    control_rig_cleanup(&rig);
}

/* A table of many elements, each longer than the rest needs. */
static void test_largest_command(const void *data)
{
    g_autofree uint8_t *bytes = g_malloc0(NET_CTRL_MAX_BYTES);
    const unsigned int addresses = (NET_CTRL_MAX_BYTES - 10) / 6;
    const uint32_t n = 10 + addresses * 6;
    RigCommand command;
    ControlRig rig;
    unsigned int c;

    bytes[0] = 1;
    bytes[2] = addresses & 0xff;
    bytes[3] = addresses >> 8;
    memset(bytes + 6, 0x22, addresses * 6);
    control_rig_init(&rig, data);
    c = control_rig_say_bytes(&rig, bytes, n, 1);
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    g_assert_cmpmem(command.bytes, command.n, bytes, n);
    control_rig_answer(&rig, command, NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_OK);
    g_assert_false(net_ctrl_state_is_empty(rig.state));

    /* Of whatever kind. */
    bytes[0] = 0x77;
    c = control_rig_say_bytes(&rig, bytes, NET_CTRL_MAX_BYTES, 1);
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    g_assert_cmpmem(command.bytes, command.n, bytes, NET_CTRL_MAX_BYTES);
    control_rig_answer(&rig, command, NET_CTRL_ERR);
    control_rig_step(&rig);
    control_rig_hear(&rig, c, NET_CTRL_ERR);
    control_rig_cleanup(&rig);
}

/* They follow each other, and nothing overtakes them. */
static void test_large_commands_wait(const void *data)
{
    g_autofree uint8_t *bytes = g_malloc0(2000);
    unsigned int first, second, small;
    RigCommand command;
    ControlRig rig;

    bytes[0] = 0x77;
    control_rig_init(&rig, data);
    first = control_rig_say_bytes(&rig, bytes, 1537, 1);
    second = control_rig_say_bytes(&rig, bytes, 2000, 1);
    small = control_rig_say(&rig, "VLAN_ADD 1");
    control_rig_step(&rig);
    command = control_rig_take(&rig);
    g_assert_cmpuint(command.n, ==, 1537);
    control_rig_take_nothing(&rig);
    g_assert_true(control_queue_is_full(rig.queue));
    control_rig_answer(&rig, command, NET_CTRL_ERR);
    control_rig_step(&rig);
    control_rig_hear(&rig, first, NET_CTRL_ERR);
    g_assert_false(control_queue_is_full(rig.queue));
    command = control_rig_take(&rig);
    g_assert_cmpuint(command.n, ==, 2000);
    control_rig_answer(&rig, command, NET_CTRL_ERR);
    control_rig_answer(&rig, control_rig_take_text(&rig, "VLAN_ADD 1"), NET_CTRL_OK);
    control_rig_step(&rig);
    control_rig_hear(&rig, second, NET_CTRL_ERR);
    control_rig_hear(&rig, small, NET_CTRL_OK);
    control_rig_check_state(&rig, "VLAN_ADD 1\n");
    control_rig_cleanup(&rig);
}

/* As many as there are slots are in flight, and each answer lets one more go. */
static void test_many_commands(const void *data)
{
    RigCommand commands[CONTROL_QUEUE_SLOTS];
    unsigned int i, n = CONTROL_RIG_NUM / 2;
    ControlRig rig;

    control_rig_init(&rig, data);
    for (i = 0; i < n; i++) {
        g_autofree char *text = g_strdup_printf("VLAN_ADD %u", i);

        control_rig_say(&rig, text);
    }
    control_rig_step(&rig);
    for (i = 0; i < n; i++) {
        if (i == 0) {
            for (; i < CONTROL_QUEUE_SLOTS; i++) {
                commands[i] = control_rig_take(&rig);
                g_assert_cmpuint(commands[i].bytes[2], ==, i);
            }
            i = 0;
        } else if (i + CONTROL_QUEUE_SLOTS <= n) {
            const RigCommand next = control_rig_take(&rig);

            g_assert_cmpuint(next.bytes[2], ==, i + CONTROL_QUEUE_SLOTS - 1);
            commands[(i - 1) % CONTROL_QUEUE_SLOTS] = next;
        }
        control_rig_take_nothing(&rig);
        control_rig_answer(&rig, commands[i % CONTROL_QUEUE_SLOTS], NET_CTRL_OK);
        control_rig_step(&rig);
        control_rig_hear(&rig, i, NET_CTRL_OK);
    }
    control_rig_check_state(&rig, "VLAN_ADD 0-63\n");
    control_rig_cleanup(&rig);
}

/* One command at a time, two; a large one behind a small one and the other way round. */
static void test_short_device_ring(const void *data)
{
    g_autofree uint8_t *large = g_malloc0(3000);
    ControlRigConfig config = *(const ControlRigConfig *)data;
    const uint32_t lengths[] = { 2, 3, 4, 7 };
    unsigned int i, k, first;

    large[0] = 0x77;
    for (i = 0; i < G_N_ELEMENTS(lengths); i++) {
        ControlRig rig;

        config.shadow_num = lengths[i];
        if (!config.shadow_packed && lengths[i] % 2) {
            continue;
        }
        control_rig_init(&rig, &config);
        for (k = 0; k < 10; k++) {
            if (k % 3 == 1) {
                control_rig_say_bytes(&rig, large, 3000, 1);
            } else {
                control_rig_say(&rig, "RX_PROMISC on");
            }
        }
        for (first = 0; first < 10;) {
            RigCommand commands[4];
            unsigned int n = 0;

            control_rig_step(&rig);
            while (control_rig_try_take(&rig, &commands[n])) {
                g_assert_cmpuint(commands[n].n, ==, (first + n) % 3 == 1 ? 3000 : 3);
                n++;
            }
            g_assert_cmpuint(n, >=, 1);
            g_assert_cmpuint(n, <=, lengths[i] / 2);
            for (k = 0; k < n; k++) {
                control_rig_answer(&rig, commands[k], NET_CTRL_ERR);
            }
            control_rig_step(&rig);
            for (k = 0; k < n; k++) {
                control_rig_hear(&rig, first++, NET_CTRL_ERR);
            }
        }
        g_assert_cmpuint(control_queue_get_counters(rig.queue).refused, ==, 0);
        control_rig_cleanup(&rig);
    }
}

/* A step moves so many commands, however many there are: others of the thread get their turn. */
static void test_bounded_steps(const void *data)
{
    g_autofree uint8_t *large = g_malloc0(NET_CTRL_MAX_BYTES);
    unsigned int i, n = CONTROL_RIG_NUM / 2, heard = 0;
    ControlRig rig;

    /* A table that is wrong at its end: looked at as a whole, and refused. */
    large[0] = 1;
    control_rig_init(&rig, data);
    for (i = 0; i < n; i++) {
        control_rig_say_bytes(&rig, large, NET_CTRL_MAX_BYTES, 1);
    }
    for (i = 0; i < n / 8; i++) {
        g_assert_cmpuint(shadow_virtqueue_offer(rig.svq), ==, 8);
    }
    g_assert_cmpuint(shadow_virtqueue_offer(rig.svq), ==, 0);
    while (heard < n) {
        control_rig_hear(&rig, heard++, NET_CTRL_ERR);
    }
    control_rig_expect_words("a command of the guest's is refused: data behind");

    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        control_rig_say(&rig, "RX_PROMISC on");
    }
    for (i = 0; i < CONTROL_QUEUE_SLOTS / 8; i++) {
        g_assert_cmpuint(shadow_virtqueue_offer(rig.svq), ==, 8);
    }
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
    }
    for (i = 0; i < CONTROL_QUEUE_SLOTS / 8; i++) {
        g_assert_cmpuint(shadow_virtqueue_return(rig.svq), ==, 8);
    }
    g_assert_cmpuint(shadow_virtqueue_return(rig.svq), ==, 0);
    control_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/control-queue/each-command", test_each_command);
    control_rig_test_add("/control-queue/each-command-failed", test_each_command_failed);
    control_rig_test_add("/control-queue/announce-ack", test_announce_ack);
    control_rig_test_add("/control-queue/unknown-command", test_unknown_command);
    control_rig_test_add("/control-queue/unknown-command-failed", test_unknown_command_failed);
    control_rig_test_add("/control-queue/pieces", test_pieces);
    control_rig_test_add("/control-queue/largest-command", test_largest_command);
    control_rig_test_add("/control-queue/large-commands-wait", test_large_commands_wait);
    control_rig_test_add("/control-queue/many-commands", test_many_commands);
    control_rig_test_add("/control-queue/short-device-ring", test_short_device_ring);
    control_rig_test_add("/control-queue/bounded-steps", test_bounded_steps);
    return g_test_run();
}
