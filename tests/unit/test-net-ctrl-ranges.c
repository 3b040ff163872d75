/* SPDX-License-Identifier: BSD-3-Clause */
/* What control commands may ask for: each count and each range, at its edge and over it. */
#include "net-ctrl-check.h"

static GByteArray *mac_table(uint32_t n_unicast, uint32_t n_multicast, size_t data)
{
    GByteArray *bytes = from_hex("0100");

    g_byte_array_set_size(bytes, (guint)(2 + data));
    memset(bytes->data + 2, 0, data);
    n_unicast = GUINT32_TO_LE(n_unicast);
    memcpy(bytes->data + 2, &n_unicast, 4);
    n_unicast = GUINT32_FROM_LE(n_unicast);
    if ((size_t)n_unicast * 6 + 8 <= data) {
        n_multicast = GUINT32_TO_LE(n_multicast);
        memcpy(bytes->data + 2 + 4 + 6 * (size_t)n_unicast, &n_multicast, 4);
    }
    return bytes;
}

static void mac_table_counts_agree_with_its_data(void)
{
    /* The last ones times 6 are small numbers in 32 bits. */
    static const uint32_t wrong[] = { 4, 5, 10921, 0x7fffffff, 0x80000000, UINT32_MAX,
                                      0x2aaaaaab, 0x55555556, 0xaaaaaaab };
    unsigned int i, n;

    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GByteArray) unicast = mac_table(wrong[i], 0, 8 + 18);
        g_autoptr(GByteArray) multicast = mac_table(0, wrong[i], 8 + 18);
        g_autoptr(GByteArray) both = mac_table(1, wrong[i], 8 + 24);

        check_refused(unicast, &device, "more unicast addresses than data", wrong[i]);
        check_refused(multicast, &device, "more multicast addresses than data", wrong[i]);
        check_refused(both, &device, "more multicast addresses than data", wrong[i]);
    }
    for (n = 0; n <= 3; n++) {
        g_autoptr(GByteArray) right = mac_table(n, 3 - n, 8 + 18);
        g_autoptr(GByteArray) fewer = mac_table(n, 3 - n, 8 + 18 + 6);
        g_autoptr(GByteArray) uneven = mac_table(n, 3 - n, 8 + 18 + 1);

        check_passes(right, &device);
        check_refused(fewer, &device, "data behind the multicast addresses", 8 + 18 + 6);
        check_refused(uneven, &device, "data behind the multicast addresses", 8 + 18 + 1);
    }
}

static void mac_table_may_be_as_long_as_a_command(void)
{
    const unsigned int most = (NET_CTRL_MAX_BYTES - 2 - 8) / 6;
    g_autoptr(GByteArray) largest = mac_table(most - 1, 1, 8 + 6 * most);
    g_autoptr(GByteArray) larger = mac_table(most, 1, 8 + 6 * (most + 1));

    check_passes(largest, &device);
    check_refused(larger, &device, "command is longer than is supported", larger->len);
}

/* As drivers do, see net-ctrl-parse.c. */
static void any_address_may_be_anywhere(void)
{
    text_passes("MAC_TABLE_SET 01:80:c2:00:00:0e / 02:00:00:00:00:01 ff:ff:ff:ff:ff:ff");
    text_passes("MAC_TABLE_SET /");
    text_passes("MAC_ADDR_SET 01:00:5e:00:00:01");
    text_passes("MAC_ADDR_SET 00:00:00:00:00:00");
}

static void a_switch_is_on_unless_it_is_zero(void)
{
    unsigned int id, value;

    for (id = NET_CTRL_RX_PROMISC; id <= NET_CTRL_RX_NOBCAST; id++) {
        for (value = 0; value <= UINT8_MAX; value++) {
            const uint8_t bytes[] = { 0, net_ctrl_spec(id)->command, (uint8_t)value };
            NetCtrlCommand command;
            NetCtrlError error;

            g_assert_cmpint(net_ctrl_parse(&command, bytes, 3, &device, &error), ==, 0);
            g_assert_cmpint(command.on, ==, value > 0);
        }
    }
}

static void vlan_ids_have_12_bits(void)
{
    text_passes("VLAN_ADD 0");
    text_passes("VLAN_ADD 4095");
    text_passes("VLAN_DEL 4095");
    text_refused("VLAN_ADD 4096", "VLAN id out of range", 4096);
    text_refused("VLAN_ADD 65535", "VLAN id out of range", 65535);
    text_refused("VLAN_DEL 4096", "VLAN id out of range", 4096);
}

static void queue_pairs_are_the_devices(void)
{
    g_autoptr(GByteArray) most = from_text("MQ_VQ_PAIRS_SET 0x8000");
    g_autoptr(GByteArray) more = from_text("MQ_VQ_PAIRS_SET 0x8001");

    text_passes("MQ_VQ_PAIRS_SET 1");
    text_passes("MQ_VQ_PAIRS_SET 8");
    text_refused("MQ_VQ_PAIRS_SET 0", "number of queue pairs out of range", 0);
    text_refused("MQ_VQ_PAIRS_SET 9", "number of queue pairs out of range", 9);
    check_passes(most, &boundless);
    check_refused(more, &boundless, "number of queue pairs out of range", 0x8001);
}

/* An RSS_CONFIG with so many entries, each for @queue. */
static char *rss_text(unsigned int n, unsigned int queue, unsigned int key_bytes)
{
    GString *text = g_string_new("MQ_RSS_CONFIG types=0x1 unclassified=0 table=");
    unsigned int i;

    for (i = 0; i < n; i++) {
        g_string_append_printf(text, "%s%u", i > 0 ? "," : "", queue);
    }
    g_string_append(text, " transmit=1 key=");
    for (i = 0; i < key_bytes; i++) {
        g_string_append(text, "5a");
    }
    return g_string_free(text, FALSE);
}

static void rss_table_is_a_power_of_two(void)
{
    unsigned int n;

    for (n = 1; n <= 256; n++) {
        g_autofree char *text = rss_text(n, 7, 40);

        if (n & (n - 1)) {
            text_refused(text, "table whose entries are no power of two", n);
        } else if (n > 128) {
            text_refused(text, "table has more entries than the device", n);
        } else {
            text_passes(text);
        }
    }
}

static void rss_table_is_bounded_by_a_command(void)
{
    g_autofree char *text = rss_text(16384, 0x7fff, 255);
    g_autofree char *twice = rss_text(32768, 0, 0);
    g_autoptr(GByteArray) most = from_text(text);
    g_autoptr(GByteArray) more = from_text(twice);
    g_autoptr(GByteArray) endless = from_hex("0401" "00000000" "ffff" "0000" "0000" "0100" "00");
    g_autoptr(GByteArray) missing = from_hex("0401" "00000000" "0300" "0000" "0000" "0100" "00");

    check_passes(most, &boundless);
    check_refused(more, &boundless, "command is longer than is supported", more->len);
    check_refused(endless, &boundless, "table has more entries than the device", 65536);
    check_refused(missing, &boundless, "more table entries than data", 4);
}

static void rss_queues_are_the_devices(void)
{
    const char *table = "receive queue in the table out of range";
    const char *unclassified = "receive queue for unclassified packets out of range";
    const char *transmit = "number of transmit queues out of range";

    text_passes("MQ_RSS_CONFIG types=0x1 unclassified=7 table=7,0 transmit=8 key=");
    text_refused("MQ_RSS_CONFIG types=0x1 unclassified=0 table=0,8 transmit=8 key=", table, 8);
    text_refused("MQ_RSS_CONFIG types=0x1 unclassified=0 table=0x8000,0 transmit=8 key=", table,
                 0x8000);
    text_refused("MQ_RSS_CONFIG types=0x1 unclassified=8 table=0 transmit=8 key=", unclassified, 8);
    text_refused("MQ_RSS_CONFIG types=0x1 unclassified=0 table=0 transmit=0 key=", transmit, 0);
    text_refused("MQ_RSS_CONFIG types=0x1 unclassified=0 table=0 transmit=9 key=", transmit, 9);
}

/* A key of so many bytes, behind @text. */
static char *with_key(const char *text, unsigned int n)
{
    g_autofree char *key = g_strnfill(2 * n, '5');

    return g_strconcat(text, " key=", key, NULL);
}

static void hash_keys_and_types_are_the_devices(void)
{
    static const char *const commands[] = {
        "MQ_HASH_CONFIG types=%s", "MQ_RSS_CONFIG types=%s unclassified=0 table=0 transmit=1",
    };
    unsigned int i, n;

    for (i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_auto(GStrv) parts = g_strsplit(commands[i], "%s", 2);
        g_autofree char *good = g_strjoin("0x1ff", parts[0], parts[1], NULL);
        g_autofree char *bad = g_strjoin("0x80000201", parts[0], parts[1], NULL);

        for (n = 0; n <= 41; n++) {
            g_autofree char *text = with_key(good, n);

            if (n <= 40) {
                text_passes(text);
            } else {
                text_refused(text, "hash key is too long", n);
            }
        }
        g_clear_pointer(&good, g_free);
        good = with_key(bad, 40);
        text_refused(good, "hash types that the device has not", 0x80000200);
    }
}

static void reserved_fields_of_a_hash_are_zero(void)
{
    unsigned int i;

    for (i = 0; i < 8; i++) {
        g_autoptr(GByteArray) bytes = from_text("MQ_HASH_CONFIG types=0x1 key=5a");

        bytes->data[2 + 4 + i] = 1;
        if (i < 6) {
            check_refused(bytes, &device, "reserved field is not zero", i % 2 ? 0x100 : 1);
        } else {
            /* Some drivers have the number of transmit queues here. */
            check_passes(bytes, &device);
        }
    }
}

static void offloads_are_negotiated(void)
{
    const uint64_t offloads = UINT64_C(0x20c0000000000782);
    unsigned int bit, other;

    for (bit = 0; bit < 64; bit++) {
        g_autofree char *text = g_strdup_printf("GUEST_OFFLOADS_SET 0x%" G_GINT64_MODIFIER "x",
                                                UINT64_C(1) << bit);
        g_autoptr(GByteArray) bytes = from_text(text);

        for (other = 0; other < 64; other++) {
            NetCtrlLimits limits = device;

            limits.features = 1 << 2 | UINT64_C(1) << other;
            if (bit == other && offloads >> bit & 1) {
                check_passes(bytes, &limits);
            } else {
                check_refused(bytes, &limits, "offloads that are not negotiated",
                              UINT64_C(1) << bit);
            }
        }
    }
    text_passes("GUEST_OFFLOADS_SET 0");
    text_passes("GUEST_OFFLOADS_SET 0x20c0000000000782");
}

static void coalescing_is_of_data_queues(void)
{
    const char *no_queue = "index is not that of a data queue";
    g_autoptr(GByteArray) last = from_text("NOTF_COAL_VQ_GET vq=255");
    g_autoptr(GByteArray) next = from_text("NOTF_COAL_VQ_GET vq=256");
    g_autoptr(GByteArray) reserved = from_text("NOTF_COAL_VQ_GET vq=0");

    text_passes("NOTF_COAL_VQ_SET vq=15 packets=4294967295 usecs=4294967295");
    text_refused("NOTF_COAL_VQ_SET vq=16 packets=0 usecs=0", no_queue, 16);
    text_refused("NOTF_COAL_VQ_SET vq=65535 packets=0 usecs=0", no_queue, 65535);
    text_passes("NOTF_COAL_VQ_GET vq=15");
    text_refused("NOTF_COAL_VQ_GET vq=16", no_queue, 16);
    check_passes(last, &boundless);
    check_refused(next, &boundless, "index is higher than is supported", 256);
    /* A device must ignore it (5.1.6.5.9). */
    memset(reserved->data + 4, 0xff, 2);
    check_passes(reserved, &device);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-ctrl/mac-table-counts-agree-with-its-data",
                    mac_table_counts_agree_with_its_data);
    g_test_add_func("/net-ctrl/mac-table-may-be-as-long-as-a-command",
                    mac_table_may_be_as_long_as_a_command);
    g_test_add_func("/net-ctrl/any-address-may-be-anywhere", any_address_may_be_anywhere);
    g_test_add_func("/net-ctrl/a-switch-is-on-unless-it-is-zero", a_switch_is_on_unless_it_is_zero);
    g_test_add_func("/net-ctrl/vlan-ids-have-12-bits", vlan_ids_have_12_bits);
    g_test_add_func("/net-ctrl/queue-pairs-are-the-devices", queue_pairs_are_the_devices);
    g_test_add_func("/net-ctrl/rss-table-is-a-power-of-two", rss_table_is_a_power_of_two);
    g_test_add_func("/net-ctrl/rss-table-is-bounded-by-a-command",
                    rss_table_is_bounded_by_a_command);
    g_test_add_func("/net-ctrl/rss-queues-are-the-devices", rss_queues_are_the_devices);
    g_test_add_func("/net-ctrl/hash-keys-and-types-are-the-devices",
                    hash_keys_and_types_are_the_devices);
    g_test_add_func("/net-ctrl/reserved-fields-of-a-hash-are-zero",
                    reserved_fields_of_a_hash_are_zero);
    g_test_add_func("/net-ctrl/offloads-are-negotiated", offloads_are_negotiated);
    g_test_add_func("/net-ctrl/coalescing-is-of-data-queues", coalescing_is_of_data_queues);
    return g_test_run();
}
