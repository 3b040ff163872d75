/* SPDX-License-Identifier: BSD-3-Clause */
/* Saved states: there and back, and nothing else is taken for one. */
#include "net-ctrl-check.h"

#define HEADER_BYTES    16
#define CHECKSUM_BYTES  32

#define EVERYTHING \
    "MAC_TABLE_SET 02:00:00:00:00:02 / 33:33:00:00:00:01\nMAC_ADDR_SET 02:00:00:00:00:01\n" \
    "MQ_HASH_CONFIG types=0x2 key=5a\nMQ_VQ_PAIRS_SET 4\nGUEST_OFFLOADS_SET 0x2\n" \
    "RX_PROMISC on\nVLAN_ADD 5\nVLAN_ADD 7\nNOTF_COAL_TX_SET packets=8 usecs=9\n" \
    "NOTF_COAL_VQ_SET vq=2 packets=3 usecs=4\n"

/* What is in a state that nothing shall change. */
#define BEFORE "MQ_VQ_PAIRS_SET 3\nVLAN_ADD 9\n"

static GByteArray *saved(const char *commands)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();

    apply_text(state, commands);
    return g_bytes_unref_to_array(net_ctrl_state_save(state));
}

static void check_load_fails(const uint8_t *bytes, size_t n, const char *words)
{
    g_autofree uint8_t *copy = n > 0 ? g_memdup2(bytes, n) : g_malloc(1);
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    apply_text(state, BEFORE);
    g_assert_cmpint(net_ctrl_state_load(state, copy, n, &error), ==, -EINVAL);
    g_assert_nonnull(error);
    if (words && !strstr(error->message, words)) {
        g_assert_cmpstr(error->message, ==, words);
    }
    text = net_ctrl_state_to_string(state);
    g_assert_cmpstr(text, ==, BEFORE);
}

/* With a length and a checksum that are right, so that nothing else is what is refused. */
static void check_refused_behind_checksum(GByteArray *bytes, const char *words)
{
    const uint32_t length = GUINT32_TO_LE(bytes->len);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize n = CHECKSUM_BYTES;

    memcpy(bytes->data + 12, &length, sizeof(length));
    g_checksum_update(sum, bytes->data, bytes->len - CHECKSUM_BYTES);
    g_checksum_get_digest(sum, bytes->data + bytes->len - CHECKSUM_BYTES, &n);
    check_load_fails(bytes->data, bytes->len, words);
}

/* A saved state with fields written down by hand, "kind:hex" and spaces between them. */
static GByteArray *saved_by_hand(const char *fields)
{
    GByteArray *out = saved("");
    g_auto(GStrv) words = g_strsplit(fields, " ", -1);
    unsigned int i;

    g_byte_array_set_size(out, out->len - CHECKSUM_BYTES);
    for (i = 0; words[i]; i++) {
        g_autoptr(GByteArray) bytes = from_hex(words[i] + 2);
        uint32_t head[2] = { (uint32_t)(words[i][0] - '0'), bytes->len };

        head[0] = GUINT32_TO_LE(head[0]);
        head[1] = GUINT32_TO_LE(head[1]);
        g_byte_array_append(out, (const uint8_t *)head, sizeof(head));
        g_byte_array_append(out, bytes->data, bytes->len);
    }
    g_byte_array_set_size(out, out->len + CHECKSUM_BYTES);
    return out;
}

static void fields_refused(const char *fields, const char *words)
{
    g_autoptr(GByteArray) bytes = saved_by_hand(fields);

    g_test_message("%s", fields);
    check_refused_behind_checksum(bytes, words);
}

static void a_state_goes_round(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new(), loaded = net_ctrl_state_new();
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) error = NULL;

    apply_text(state, EVERYTHING);
    net_ctrl_state_apply_unknown(state, 9, 1);
    apply_text(loaded, BEFORE);
    bytes = net_ctrl_state_save(state);
    net_ctrl_state_load(loaded, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), &error);
    g_assert_no_error(error);
    check_equal(loaded, state);

    net_ctrl_state_clear(state);
    g_bytes_unref(bytes);
    bytes = net_ctrl_state_save(state);
    net_ctrl_state_load(loaded, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), &error);
    g_assert_no_error(error);
    g_assert_true(net_ctrl_state_is_empty(loaded));
}

/* A promise to other versions: "RX_PROMISC on" and an unknown command, byte by byte. */
static void the_format_stays(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GByteArray) bytes = NULL, head = NULL, fields = NULL;
    g_autofree char *sum = NULL;
    GString *last = g_string_new(NULL);
    unsigned int i;

    apply_text(state, "RX_PROMISC on\n");
    net_ctrl_state_apply_unknown(state, 9, 1);
    bytes = g_bytes_unref_to_array(net_ctrl_state_save(state));
    head = from_hex("737671646374726c" "01000000" "45000000");
    fields = from_hex("01000000" "03000000" "000001" "02000000" "02000000" "0901");
    g_assert_cmpuint(bytes->len, ==, 16 + 21 + CHECKSUM_BYTES);
    g_assert_cmpmem(bytes->data, 16, head->data, head->len);
    g_assert_cmpmem(bytes->data + 16, 21, fields->data, fields->len);
    sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes->data, 16 + 21);
    for (i = 0; i < CHECKSUM_BYTES; i++) {
        g_string_append_printf(last, "%02x", bytes->data[16 + 21 + i]);
    }
    g_assert_cmpstr(last->str, ==, sum);
    g_string_free(last, TRUE);
}

static void each_truncation_is_refused(void)
{
    g_autoptr(GByteArray) bytes = saved(EVERYTHING);
    size_t n;

    for (n = 0; n < bytes->len; n++) {
        check_load_fails(bytes->data, n, NULL);
    }
    g_byte_array_append(bytes, (const uint8_t *)"", 1);
    check_load_fails(bytes->data, bytes->len, "it says");
}

/* The same with a checksum that is right: fields end in the middle. */
static void each_truncation_is_seen_behind_the_checksum(void)
{
    g_autoptr(GByteArray) whole = saved(EVERYTHING);
    size_t n, good = 0;

    for (n = 16; n + CHECKSUM_BYTES < whole->len; n++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_autoptr(NetCtrlState) state = net_ctrl_state_new();
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
        const uint32_t length = GUINT32_TO_LE((uint32_t)n + CHECKSUM_BYTES);
        gsize digest = CHECKSUM_BYTES;

        g_byte_array_append(bytes, whole->data, (guint)n);
        g_byte_array_set_size(bytes, (guint)n + CHECKSUM_BYTES);
        memcpy(bytes->data + 12, &length, sizeof(length));
        g_checksum_update(sum, bytes->data, (gssize)n);
        g_checksum_get_digest(sum, bytes->data + n, &digest);
        good += net_ctrl_state_load(state, bytes->data, bytes->len, NULL) == 0;
    }
    /* Between fields: 10, and none at all; the whole was not tried. */
    g_assert_cmpuint(good, ==, 10);
}

static void each_flipped_bit_is_refused(void)
{
    g_autoptr(GByteArray) bytes = saved(EVERYTHING);
    unsigned int i;

    for (i = 0; i < 8 * bytes->len; i++) {
        bytes->data[i / 8] ^= (uint8_t)(1 << i % 8);
        check_load_fails(bytes->data, bytes->len,
                         i < 8 * HEADER_BYTES ? NULL : "its checksum is wrong");
        bytes->data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}

static void other_versions_are_refused(void)
{
    g_autoptr(GByteArray) bytes = saved(EVERYTHING);

    bytes->data[8] = 2;
    check_refused_behind_checksum(bytes, "version 2, and only 1 is known");
    bytes->data[8] = 0;
    check_refused_behind_checksum(bytes, "version 0");
}

static void unknown_fields_are_refused(void)
{
    fields_refused("3:0001", "unknown kind 3");
    fields_refused("0:", "unknown kind 0");
    fields_refused("1:000001 9:", "unknown kind 9");
    fields_refused("1:0006", "command 0/6 is not known");
    fields_refused("1:070001", "command 7/0 is not known");
    fields_refused("2:", "for the name of a command");
    fields_refused("2:09", "for the name of a command");
    fields_refused("2:090100", "for the name of a command");
}

static void fields_are_checked(void)
{
    fields_refused("1:", "shorter than its header");
    fields_refused("1:00", "shorter than its header");
    fields_refused("1:0000", "data is too short");
    fields_refused("1:00000101", "data is too long");
    fields_refused("1:02000010", "VLAN id out of range");
    fields_refused("1:04000000", "number of queue pairs out of range");
    fields_refused("1:04000180", "number of queue pairs out of range");
    fields_refused("1:060200010000ffffffffffffffff", "index is higher");
    fields_refused("1:050001000000000000ff", "offloads");
    fields_refused("1:0100ffffffff00000000", "more unicast addresses");
}

/* Each is right by itself. */
static void fields_have_one_form(void)
{
    const char *words = "twice, out of order, or not in its usual form";

    fields_refused("1:000001 1:000001", words);
    fields_refused("1:000001 1:000000", words);
    fields_refused("1:000002", words);
    fields_refused("1:000101 1:000001", words);
    fields_refused("1:02000500 1:02000500", words);
    fields_refused("1:02000600 1:02000500", words);
    fields_refused("1:02010500", words);
    fields_refused("1:0300", words);
    fields_refused("1:06030000ffff", words);
    fields_refused("1:060201000100" "0000000000000000", words);
    fields_refused("1:04000400 1:0401" "00000000" "0000" "0000" "0000" "0100" "00", words);
    fields_refused("2:0901 2:0901", words);
    fields_refused("2:0901 1:000001", words);
}

static void lengths_of_fields_are_checked(void)
{
    static const uint32_t wrong[] = { 4, 5, 0x7fffffff, 0xfffffff8, UINT32_MAX };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GByteArray) bytes = saved_by_hand("1:000001");
        const uint32_t length = GUINT32_TO_LE(wrong[i]);

        memcpy(bytes->data + 16 + 4, &length, sizeof(length));
        check_refused_behind_checksum(bytes, "where 3 are left");
    }
}

static void append_key(GString *text)
{
    unsigned int i;

    for (i = 0; i < 255; i++) {
        g_string_append(text, "5a");
    }
}

/* All that can be set, as large as can be. */
static void fill(NetCtrlState *state)
{
    GString *text = g_string_new("MQ_RSS_CONFIG types=0x1 unclassified=0x7fff table=1");
    unsigned int i;

    for (i = 1; i < 16384; i++) {
        g_string_append(text, ",0");
    }
    g_string_append(text, " transmit=0x8000 key=");
    append_key(text);
    g_string_append(text, "\nMQ_HASH_CONFIG types=0x1 key=");
    append_key(text);
    g_string_append(text, "\nMAC_TABLE_SET");
    for (i = 0; i < (NET_CTRL_MAX_BYTES - 10) / 6; i++) {
        g_string_append_printf(text, " 02:00:00:00:%02x:%02x", i / 256, i % 256);
    }
    g_string_append(text, " /\nMAC_ADDR_SET 02:00:00:00:00:01\nGUEST_OFFLOADS_SET 0x2\n"
                    "RX_PROMISC on\nRX_ALLMULTI on\nRX_ALLUNI on\nRX_NOMULTI on\nRX_NOUNI on\n"
                    "RX_NOBCAST on\nNOTF_COAL_TX_SET packets=8 usecs=9\n"
                    "NOTF_COAL_RX_SET packets=8 usecs=9\n");
    apply_text(state, text->str);
    g_string_free(text, TRUE);
    for (i = 0; i < NET_CTRL_VLANS; i++) {
        g_autofree char *vlan = g_strdup_printf("VLAN_ADD %u", i);

        apply_text(state, vlan);
    }
    for (i = 0; i < NET_CTRL_MAX_QUEUES; i++) {
        g_autofree char *vq = g_strdup_printf("NOTF_COAL_VQ_SET vq=%u packets=1 usecs=2", i);

        apply_text(state, vq);
    }
    for (i = 0; i < 64; i++) {
        net_ctrl_state_apply_unknown(state, 100, (uint8_t)i);
    }
}

static void the_largest_state_has_room(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new(), loaded = net_ctrl_state_new();
    g_autofree uint8_t *room = g_malloc(NET_CTRL_STATE_MAX_BYTES);
    g_autoptr(GError) error = NULL;
    size_t n;

    fill(state);
    n = net_ctrl_state_save_to(state, room, NET_CTRL_STATE_MAX_BYTES);
    g_assert_cmpuint(n, >, 65536 + 33000 + 4096 * 12 + 256 * 22);
    net_ctrl_state_load(loaded, room, n, &error);
    g_assert_no_error(error);
    check_equal(loaded, state);
}

static void saving_stays_in_its_room(void)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GByteArray) whole = saved(EVERYTHING);
    size_t size;

    apply_text(state, EVERYTHING);
    for (size = 0; size <= whole->len; size++) {
        g_autofree uint8_t *room = g_malloc(size + 1);

        room[size] = 0xa5;
        g_assert_cmpuint(net_ctrl_state_save_to(state, room, size), ==,
                         size == whole->len ? size : 0);
        g_assert_cmphex(room[size], ==, 0xa5);
        if (size == whole->len) {
            g_assert_cmpmem(room, size, whole->data, whole->len);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-ctrl-save/a-state-goes-round", a_state_goes_round);
    g_test_add_func("/net-ctrl-save/the-format-stays", the_format_stays);
    g_test_add_func("/net-ctrl-save/each-truncation-is-refused", each_truncation_is_refused);
    g_test_add_func("/net-ctrl-save/each-truncation-is-seen-behind-the-checksum",
                    each_truncation_is_seen_behind_the_checksum);
    g_test_add_func("/net-ctrl-save/each-flipped-bit-is-refused", each_flipped_bit_is_refused);
    g_test_add_func("/net-ctrl-save/other-versions-are-refused", other_versions_are_refused);
    g_test_add_func("/net-ctrl-save/unknown-fields-are-refused", unknown_fields_are_refused);
    g_test_add_func("/net-ctrl-save/fields-are-checked", fields_are_checked);
    g_test_add_func("/net-ctrl-save/fields-have-one-form", fields_have_one_form);
    g_test_add_func("/net-ctrl-save/lengths-of-fields-are-checked", lengths_of_fields_are_checked);
    g_test_add_func("/net-ctrl-save/the-largest-state-has-room", the_largest_state_has_room);
    g_test_add_func("/net-ctrl-save/saving-stays-in-its-room", saving_stays_in_its_room);
    return g_test_run();
}
