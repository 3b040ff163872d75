/* SPDX-License-Identifier: BSD-3-Clause */
/* The codec of control commands: each command there and back, each length, the table itself. */
#include "hw/virtio/features.h"
#include "net-ctrl-check.h"

/* One of each, written down from the specification. */
typedef struct Example {
    const char *text, *hex;
} Example;

static const Example examples[NET_CTRL_COUNT] = {
    [NET_CTRL_RX_PROMISC] = { "RX_PROMISC on", "0000" "01" },
    [NET_CTRL_RX_ALLMULTI] = { "RX_ALLMULTI off", "0001" "00" },
    [NET_CTRL_RX_ALLUNI] = { "RX_ALLUNI on", "0002" "01" },
    [NET_CTRL_RX_NOMULTI] = { "RX_NOMULTI on", "0003" "01" },
    [NET_CTRL_RX_NOUNI] = { "RX_NOUNI off", "0004" "00" },
    [NET_CTRL_RX_NOBCAST] = { "RX_NOBCAST on", "0005" "01" },
    [NET_CTRL_MAC_TABLE_SET] = {
        "MAC_TABLE_SET 02:00:00:00:00:01 02:00:00:00:00:02 / 33:33:00:00:00:01",
        "0100" "02000000" "020000000001" "020000000002" "01000000" "333300000001" },
    [NET_CTRL_MAC_ADDR_SET] = { "MAC_ADDR_SET 02:0a:0b:0c:0d:0e", "0101" "020a0b0c0d0e" },
    [NET_CTRL_VLAN_ADD] = { "VLAN_ADD 258", "0200" "0201" },
    [NET_CTRL_VLAN_DEL] = { "VLAN_DEL 4094", "0201" "fe0f" },
    [NET_CTRL_ANNOUNCE_ACK] = { "ANNOUNCE_ACK", "0300" },
    [NET_CTRL_MQ_VQ_PAIRS_SET] = { "MQ_VQ_PAIRS_SET 4", "0400" "0400" },
    [NET_CTRL_MQ_RSS_CONFIG] = {
        "MQ_RSS_CONFIG types=0x1b unclassified=2 table=0,1,2,7 transmit=5 key=6d5a56",
        "0401" "1b000000" "0300" "0200" "0000010002000700" "0500" "03" "6d5a56" },
    [NET_CTRL_MQ_HASH_CONFIG] = {
        "MQ_HASH_CONFIG types=0x105 key=6d5a",
        "0402" "05010000" "0000000000000000" "02" "6d5a" },
    [NET_CTRL_GUEST_OFFLOADS_SET] = {
        "GUEST_OFFLOADS_SET 0x40000000000482", "0500" "8204000000004000" },
    [NET_CTRL_NOTF_COAL_TX_SET] = {
        "NOTF_COAL_TX_SET packets=15 usecs=66051", "0600" "0f000000" "03020100" },
    [NET_CTRL_NOTF_COAL_RX_SET] = {
        "NOTF_COAL_RX_SET packets=4294967295 usecs=0", "0601" "ffffffff" "00000000" },
    [NET_CTRL_NOTF_COAL_VQ_SET] = {
        "NOTF_COAL_VQ_SET vq=3 packets=16 usecs=32", "0602" "0300" "0000" "10000000" "20000000" },
    [NET_CTRL_NOTF_COAL_VQ_GET] = { "NOTF_COAL_VQ_GET vq=15", "0603" "0f00" "0000" },
};

static void each_command_goes_round(void)
{
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        g_autoptr(GByteArray) bytes = from_hex(examples[id].hex);
        g_autoptr(GByteArray) read = from_text(examples[id].text);
        g_autofree uint8_t *again = g_malloc(bytes->len);
        g_autofree char *text = NULL;
        NetCtrlCommand command;
        NetCtrlError error;

        g_assert_cmpint(net_ctrl_parse(&command, bytes->data, bytes->len, &device, &error), ==, 0);
        g_assert_cmpuint(command.id, ==, id);
        g_assert_cmpuint(net_ctrl_encode(&command, again, bytes->len), ==, bytes->len);
        g_assert_cmpmem(again, bytes->len, bytes->data, bytes->len);
        g_assert_cmpmem(read->data, read->len, bytes->data, bytes->len);
        text = net_ctrl_to_string(&command);
        g_assert_cmpstr(text, ==, examples[id].text);
        g_assert_true(g_str_has_prefix(text, net_ctrl_spec(id)->name));
    }
}

static void encoding_stays_in_its_room(void)
{
    unsigned int id;
    size_t size;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        g_autoptr(GByteArray) bytes = from_hex(examples[id].hex);
        NetCtrlCommand command;
        NetCtrlError error;

        g_assert_cmpint(net_ctrl_parse(&command, bytes->data, bytes->len, &device, &error), ==, 0);
        for (size = 0; size < bytes->len; size++) {
            g_autofree uint8_t *room = g_malloc(size + 1);

            memset(room, 0xa5, size + 1);
            g_assert_cmpuint(net_ctrl_encode(&command, room, size), ==, bytes->len);
            g_assert_cmphex(room[0], ==, 0xa5);
            g_assert_cmphex(room[size], ==, 0xa5);
        }
    }
}

/* The data of a command says how long it is, so that there is one length that is right. */
static void each_other_length_is_refused(void)
{
    unsigned int id;
    size_t n;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        g_autoptr(GByteArray) bytes = from_hex(examples[id].hex);
        const size_t right = bytes->len;
        uint8_t fill;

        for (fill = 0; fill < 2; fill++) {
            g_byte_array_set_size(bytes, right + 16);
            memset(bytes->data + right, fill ? 0xff : 0, 16);
            for (n = 0; n <= right + 16; n++) {
                NetCtrlError error = { NULL };
                int ret = parse(bytes->data, n, &device, &error);

                g_assert_cmpint(ret, ==, n == right ? 0 : -EINVAL);
                g_assert_cmpint(error.what != NULL, ==, n != right);
            }
        }
    }
}

static void lengths_agree_with_the_table(void)
{
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        const NetCtrlSpec *spec = net_ctrl_spec(id);
        g_autoptr(GByteArray) bytes = g_byte_array_new();

        g_assert_cmpuint(spec->data_min, <=, spec->data_max);
        g_assert_cmpuint(spec->data_max, <=, NET_CTRL_MAX_BYTES - NET_CTRL_HEADER_BYTES);
        g_assert_cmpuint(spec->result, <=, NET_CTRL_MAX_RESULT);
        g_byte_array_set_size(bytes, NET_CTRL_HEADER_BYTES + spec->data_max + 1);
        memset(bytes->data, 0, bytes->len);
        bytes->data[0] = spec->class;
        bytes->data[1] = spec->command;
        if (bytes->len <= NET_CTRL_MAX_BYTES) {
            check_refused(bytes, &boundless, "data is too long", spec->data_max + 1);
        }
        if (spec->data_min > 0) {
            g_byte_array_set_size(bytes, NET_CTRL_HEADER_BYTES + spec->data_min - 1);
            check_refused(bytes, &boundless, "data is too short", spec->data_min - 1);
        }
    }
}

/* Of all 65536 there could be. */
static void unknown_commands_are_for_others_to_judge(void)
{
    unsigned int i, known = 0, id;
    NetCtrlError error;

    for (i = 0; i <= UINT16_MAX; i++) {
        const uint8_t bytes[] = { (uint8_t)(i >> 8), (uint8_t)i, 0 };
        bool in_table = false;

        for (id = 0; id < NET_CTRL_COUNT; id++) {
            const NetCtrlSpec *spec = net_ctrl_spec(id);

            in_table = in_table || (spec->class == bytes[0] && spec->command == bytes[1]);
        }
        known += in_table;
        g_assert_cmpint(parse(bytes, 2, &device, &error) == -ENOTSUP, ==, !in_table);
        g_assert_cmpint(parse(bytes, 3, &device, &error) == -ENOTSUP, ==, !in_table);
    }
    g_assert_cmpuint(known, ==, NET_CTRL_COUNT);
}

static void no_command_is_without_its_feature(void)
{
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        g_autoptr(GByteArray) bytes = from_hex(examples[id].hex);
        const NetCtrlSpec *spec = net_ctrl_spec(id);
        NetCtrlLimits limits = device;

        limits.features = ~spec->needs;
        check_refused(bytes, &limits, "its feature is not negotiated", spec->needs);
        /* And needs no other, but for what it switches. */
        limits.features = spec->needs;
        if (id == NET_CTRL_GUEST_OFFLOADS_SET) {
            limits.features |= UINT64_C(0x40000000000482);
        }
        check_passes(bytes, &limits);
    }
}

static void features_are_named(void)
{
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        const NetCtrlSpec *spec = net_ctrl_spec(id);
        const unsigned int bit = (unsigned int)g_bit_nth_lsf((gulong)spec->needs, -1);
        const VirtioFeature *feature = virtio_features_find(bit);

        g_assert_cmphex(spec->needs, ==, VIRTIO_F_BIT(bit));
        g_assert_cmphex(spec->needs & VIRTIO_NET_CTRL_FEATURES, ==, spec->needs);
        if (feature) {
            g_assert_cmpstr(spec->feature, ==, feature->name);
        }
    }
}

static void wrong_text_is_refused(void)
{
    static const char *const texts[] = {
        "", " ", "VLAN", "vlan_add 5", "VLAN_ADD", "VLAN_ADD ", "VLAN_ADD five", "VLAN_ADD 65536",
        "VLAN_ADD -1", "VLAN_ADD 5 6", "VLAN_ADD 0x", "VLAN_ADD  5", "RX_PROMISC", "RX_PROMISC 1",
        "RX_PROMISC on off", "ANNOUNCE_ACK 1", "MAC_ADDR_SET 02:00:00:00:00",
        "MAC_ADDR_SET 02:00:00:00:00:00:00", "MAC_ADDR_SET 02:00:00:00:00:0g",
        "MAC_ADDR_SET 020000000000", "MAC_TABLE_SET", "MAC_TABLE_SET 02:00:00:00:00:01",
        "MAC_TABLE_SET / /", "MAC_TABLE_SET /02:00:00:00:00:01", "MQ_HASH_CONFIG types=1",
        "MQ_HASH_CONFIG types=1 key=5", "MQ_HASH_CONFIG types=1 key=5x", "MQ_HASH_CONFIG key=",
        "MQ_RSS_CONFIG types=1 unclassified=0 table= transmit=1 key=",
        "MQ_RSS_CONFIG types=1 unclassified=0 table=1, transmit=1 key=",
        "MQ_RSS_CONFIG types=1 unclassified=0 table=65536 transmit=1 key=",
        "MQ_RSS_CONFIG types=1 table=1 unclassified=0 transmit=1 key=",
        "NOTF_COAL_TX_SET usecs=1 packets=1", "NOTF_COAL_TX_SET packets=1 usecs",
        "NOTF_COAL_VQ_SET packets=1 usecs=1", "GUEST_OFFLOADS_SET 0x10000000000000000",
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_test_message("'%s'", texts[i]);
        g_assert_null(net_ctrl_from_string(texts[i], &error));
        g_assert_nonnull(error);
    }
}

static void each_example_is_a_command(void)
{
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        const char *example = net_ctrl_spec(id)->example;
        g_autoptr(GByteArray) bytes = from_text(example);
        g_autofree char *text = NULL;
        NetCtrlCommand command;
        NetCtrlError error;

        g_assert_cmpint(net_ctrl_parse(&command, bytes->data, bytes->len, &device, &error), ==, 0);
        g_assert_cmpuint(command.id, ==, id);
        text = net_ctrl_to_string(&command);
        g_assert_cmpstr(text, ==, example);
    }
}

static void who_is_refused_is_told_an_example(void)
{
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        const NetCtrlSpec *spec = net_ctrl_spec(id);
        g_autofree char *wrong = g_strdup_printf("%s what", spec->name);
        g_autofree char *quoted = g_strdup_printf("'%s'", spec->example);
        g_autoptr(GError) error = NULL;

        g_assert_null(net_ctrl_from_string(wrong, &error));
        g_assert_nonnull(strstr(error->message, quoted));
    }
}

/* mac, status 1, 0x0102 queue pairs, mtu, speed, duplex; key 40, table 128, types 0x1ff. */
static const uint8_t config[] = {
    2, 0, 0, 0, 0, 1, 1, 0, 0x02, 0x01, 0xdc, 5, 0, 0, 0, 0, 1, 40, 128, 0, 0xff, 1, 0, 0,
};

static void limits_are_those_of_negotiated_features(void)
{
    const uint64_t mq = UINT64_C(1) << 22, hash = UINT64_C(1) << 57, rss = UINT64_C(1) << 60;
    NetCtrlLimits limits;
    unsigned int i;

    for (i = 0; i < 8; i++) {
        const uint64_t features = (i & 1 ? mq : 0) | (i & 2 ? hash : 0) | (i & 4 ? rss : 0);

        net_ctrl_limits_init(&limits, features, config, sizeof(config));
        g_assert_cmphex(limits.features, ==, features);
        g_assert_cmpuint(limits.max_pairs, ==, i & 5 ? 0x102 : 1);
        g_assert_cmpuint(limits.max_key_bytes, ==, i & 6 ? 40 : 0);
        g_assert_cmpuint(limits.max_table, ==, i & 4 ? 128 : 0);
        g_assert_cmphex(limits.hash_types, ==, i & 6 ? 0x1ff : 0);
    }
}

static void a_short_configuration_has_nothing_more(void)
{
    size_t n;

    for (n = 0; n <= sizeof(config); n++) {
        g_autofree uint8_t *exact = n > 0 ? g_memdup2(config, n) : NULL;
        NetCtrlLimits limits;

        net_ctrl_limits_init(&limits, UINT64_MAX, exact, n);
        g_assert_cmpuint(limits.max_pairs, ==, n >= 10 ? 0x102 : 1);
        g_assert_cmpuint(limits.max_key_bytes, ==, n >= 18 ? 40 : 0);
        g_assert_cmpuint(limits.max_table, ==, n >= 20 ? 128 : 0);
        g_assert_cmphex(limits.hash_types, ==, n >= 24 ? 0x1ff : 0);
    }
}

static void the_number_of_queue_pairs_is_bounded(void)
{
    static const uint16_t said[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
    static const uint16_t taken[] = { 1, 1, 0x7fff, 0x8000, 0x8000, 0x8000 };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(said); i++) {
        uint8_t bytes[10] = { 0 };
        NetCtrlLimits limits;

        bytes[8] = (uint8_t)said[i];
        bytes[9] = (uint8_t)(said[i] >> 8);
        net_ctrl_limits_init(&limits, UINT64_MAX, bytes, sizeof(bytes));
        g_assert_cmpuint(limits.max_pairs, ==, taken[i]);
        g_assert_cmpint(net_ctrl_vq_index(&limits), ==, 2 * taken[i]);
    }
}

static void the_control_queue_is_behind_the_data_queues(void)
{
    NetCtrlLimits limits = device;

    g_assert_cmpint(net_ctrl_vq_index(&limits), ==, 16);
    limits.features = ~(UINT64_C(1) << 17);
    g_assert_cmpint(net_ctrl_vq_index(&limits), ==, -1);
    net_ctrl_limits_init(&limits, UINT64_C(1) << 17, config, sizeof(config));
    g_assert_cmpint(net_ctrl_vq_index(&limits), ==, 2);
}

/* A line of a reStructuredText table. */
static void add_row(GString *out, const char *const columns[5])
{
    static const int widths[] = { 18, 5, 19, 11, 0 };
    unsigned int i;

    for (i = 0; i < 4; i++) {
        g_string_append_printf(out, "%-*s ", widths[i], columns[i]);
    }
    g_string_append_printf(out, "%s\n", columns[4]);
}

static char *manual_table(void)
{
    static const char *const rule[] = { "==================", "=====", "===================",
                                        "===========", "====================================" };
    static const char *const head[] = { "command", "code", "needs", "section", "data" };
    GString *out = g_string_new(NULL);
    unsigned int id;

    add_row(out, rule);
    add_row(out, head);
    add_row(out, rule);
    for (id = 0; id < NET_CTRL_COUNT; id++) {
        const NetCtrlSpec *spec = net_ctrl_spec(id);
        g_autofree char *code = g_strdup_printf("%u/%u", spec->class, spec->command);
        const char *const row[] = { spec->name, code, spec->feature, spec->section, spec->data };

        add_row(out, row);
    }
    add_row(out, rule);
    return g_string_free(out, FALSE);
}

/* On failure what to put there is printed. */
static void check_manual(const char *path, const char *text)
{
    g_autofree char *manual = NULL;

    g_assert_true(g_file_get_contents(path, &manual, NULL, NULL));
    if (!strstr(manual, text)) {
        g_test_message("%s does not have:\n%s", path, text);
        g_test_fail();
    }
}

static void the_manual_has_the_table(void)
{
    g_autofree char *table = manual_table();

    check_manual(MANUAL, table);
}

/* In a literal block, between empty lines, so that there are no others. */
static void the_manual_of_svq_bench_has_the_examples(void)
{
    g_autoptr(GString) block = g_string_new("::\n\n");
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        g_string_append_printf(block, "        %s\n", net_ctrl_spec(id)->example);
    }
    g_string_append_c(block, '\n');
    check_manual(BENCH_MANUAL, block->str);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-ctrl/each-command-goes-round", each_command_goes_round);
    g_test_add_func("/net-ctrl/encoding-stays-in-its-room", encoding_stays_in_its_room);
    g_test_add_func("/net-ctrl/each-other-length-is-refused", each_other_length_is_refused);
    g_test_add_func("/net-ctrl/lengths-agree-with-the-table", lengths_agree_with_the_table);
    g_test_add_func("/net-ctrl/unknown-commands-are-for-others-to-judge",
                    unknown_commands_are_for_others_to_judge);
    g_test_add_func("/net-ctrl/no-command-is-without-its-feature",
                    no_command_is_without_its_feature);
    g_test_add_func("/net-ctrl/features-are-named", features_are_named);
    g_test_add_func("/net-ctrl/wrong-text-is-refused", wrong_text_is_refused);
    g_test_add_func("/net-ctrl/each-example-is-a-command", each_example_is_a_command);
    g_test_add_func("/net-ctrl/who-is-refused-is-told-an-example",
                    who_is_refused_is_told_an_example);
    g_test_add_func("/net-ctrl/limits-are-those-of-negotiated-features",
                    limits_are_those_of_negotiated_features);
    g_test_add_func("/net-ctrl/a-short-configuration-has-nothing-more",
                    a_short_configuration_has_nothing_more);
    g_test_add_func("/net-ctrl/the-number-of-queue-pairs-is-bounded",
                    the_number_of_queue_pairs_is_bounded);
    g_test_add_func("/net-ctrl/the-control-queue-is-behind-the-data-queues",
                    the_control_queue_is_behind_the_data_queues);
    g_test_add_func("/net-ctrl/the-manual-has-the-table", the_manual_has_the_table);
    g_test_add_func("/net-ctrl/the-manual-of-svq-bench-has-the-examples",
                    the_manual_of_svq_bench_has_the_examples);
    return g_test_run();
}
