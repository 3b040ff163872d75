/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control commands as text, and back.
 *
 * How it works.  A command is its name and words behind it, in the order of its data.  What is read
 * need not be a command that a device would take: numbers are bounded by their fields alone.
 */
#include "net-ctrl-internal.h"

#include <string.h>

#define MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define MAC_ARGS(m) (m)[0], (m)[1], (m)[2], (m)[3], (m)[4], (m)[5]

static void say_macs(GString *out, const uint8_t *macs, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++, macs += NET_CTRL_MAC_BYTES) {
        g_string_append_printf(out, " " MAC_FORMAT, MAC_ARGS(macs));
    }
}

static void say_key(GString *out, const NetCtrlRss *rss)
{
    unsigned int i;

    g_string_append(out, " key=");
    for (i = 0; i < rss->key_bytes; i++) {
        g_string_append_printf(out, "%02x", rss->key[i]);
    }
}

static void say_rss(GString *out, const NetCtrlRss *rss)
{
    unsigned int i;

    g_string_append_printf(out, " types=0x%x unclassified=%u table=", rss->hash_types,
                           rss->unclassified_queue);
    for (i = 0; i < rss->n_table; i++) {
        g_string_append_printf(out, "%s%u", i > 0 ? "," : "", net_ctrl_rss_entry(rss, i));
    }
    g_string_append_printf(out, " transmit=%u", rss->max_tx_vq);
    say_key(out, rss);
}

static void say_coal(GString *out, const NetCtrlCoal *coal)
{
    g_string_append_printf(out, " packets=%u usecs=%u", coal->max_packets, coal->max_usecs);
}

char *net_ctrl_to_string(const NetCtrlCommand *command)
{
    GString *out = g_string_new(net_ctrl_spec(command->id)->name);

    switch (command->id) {
    case NET_CTRL_RX_PROMISC:
    case NET_CTRL_RX_ALLMULTI:
    case NET_CTRL_RX_ALLUNI:
    case NET_CTRL_RX_NOMULTI:
    case NET_CTRL_RX_NOUNI:
    case NET_CTRL_RX_NOBCAST:
        g_string_append(out, command->on ? " on" : " off");
        break;
    case NET_CTRL_MAC_TABLE_SET:
        say_macs(out, command->table.unicast, command->table.n_unicast);
        g_string_append(out, " /");
        say_macs(out, command->table.multicast, command->table.n_multicast);
        break;
    case NET_CTRL_MAC_ADDR_SET:
        say_macs(out, command->mac, 1);
        break;
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
        g_string_append_printf(out, " %u", command->vlan);
        break;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        g_string_append_printf(out, " %u", command->pairs);
        break;
    case NET_CTRL_MQ_RSS_CONFIG:
        say_rss(out, &command->rss);
        break;
    case NET_CTRL_MQ_HASH_CONFIG:
        g_string_append_printf(out, " types=0x%x", command->rss.hash_types);
        say_key(out, &command->rss);
        break;
    case NET_CTRL_GUEST_OFFLOADS_SET:
        g_string_append_printf(out, " 0x%" G_GINT64_MODIFIER "x", command->offloads);
        break;
    case NET_CTRL_NOTF_COAL_VQ_SET:
        g_string_append_printf(out, " vq=%u", command->coal.vq);
        say_coal(out, &command->coal.coal);
        break;
    case NET_CTRL_NOTF_COAL_VQ_GET:
        g_string_append_printf(out, " vq=%u", command->coal.vq);
        break;
    case NET_CTRL_NOTF_COAL_TX_SET:
    case NET_CTRL_NOTF_COAL_RX_SET:
        say_coal(out, &command->coal.coal);
        break;
    case NET_CTRL_ANNOUNCE_ACK:
    case NET_CTRL_COUNT:
        break;
    }
    return g_string_free(out, FALSE);
}

/* A text that is read, word by word, into the bytes that it says. */
typedef struct Reader {
    char **words;               /* the next one; ends with NULL */
    GByteArray *out;
} Reader;

/* What the next word says: "VALUE", or "@name=VALUE"; NULL: there is no such word. */
static const char *read_word(Reader *r, const char *name)
{
    const char *word = *r->words;
    size_t n;

    if (word && name) {
        n = strlen(name);
        word = strncmp(word, name, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
    }
    if (word) {
        r->words++;
    }
    return word;
}

static void append_number(GByteArray *out, uint64_t number, unsigned int bytes)
{
    uint8_t le[sizeof(number)];

    net_ctrl_put64(le, number);
    g_byte_array_append(out, le, bytes);
}

/* @word is a number of @bytes bytes, decimal, or hexadecimal behind 0x. */
static bool take_number(GByteArray *out, const char *word, unsigned int bytes)
{
    const bool hex = g_str_has_prefix(word, "0x");
    const guint64 max = UINT64_MAX >> (64 - 8 * bytes);
    guint64 number;

    if (!g_ascii_string_to_unsigned(hex ? word + 2 : word, hex ? 16 : 10, 0, max, &number, NULL)) {
        return false;
    }
    append_number(out, number, bytes);
    return true;
}

static bool read_number(Reader *r, const char *name, unsigned int bytes)
{
    const char *word = read_word(r, name);

    return word && take_number(r->out, word, bytes);
}

static bool read_switch(Reader *r)
{
    const char *word = read_word(r, NULL);

    if (!word || (strcmp(word, "on") != 0 && strcmp(word, "off") != 0)) {
        return false;
    }
    append_number(r->out, strcmp(word, "on") == 0, 1);
    return true;
}

/* @n bytes in hexadecimal, with @separator between them unless it is 0. */
static bool take_hex(GByteArray *out, const char *word, size_t n, char separator)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (i > 0 && separator && *word++ != separator) {
            return false;
        }
        if (!g_ascii_isxdigit(word[0]) || !g_ascii_isxdigit(word[1])) {
            return false;
        }
        append_number(out, (uint64_t)(g_ascii_xdigit_value(word[0]) << 4 |
                                      g_ascii_xdigit_value(word[1])), 1);
        word += 2;
    }
    return *word == '\0';
}

static bool read_mac(Reader *r)
{
    const char *word = read_word(r, NULL);

    return word && take_hex(r->out, word, NET_CTRL_MAC_BYTES, ':');
}

/* Addresses up to @end, behind their count. */
static bool read_macs(Reader *r, const char *end)
{
    const guint at = r->out->len;
    uint32_t n = 0;

    append_number(r->out, 0, sizeof(n));
    while (g_strcmp0(*r->words, end) != 0) {
        if (!read_mac(r)) {
            return false;
        }
        n++;
    }
    net_ctrl_put32(r->out->data + at, n);
    return true;
}

static bool read_key(Reader *r)
{
    const char *word = read_word(r, "key");
    const size_t n = word ? strlen(word) / 2 : 0;

    if (!word || n > UINT8_MAX) {
        return false;
    }
    append_number(r->out, n, 1);
    return take_hex(r->out, word, n, '\0');
}

static bool read_table(Reader *r, guint mask_at)
{
    const char *word = read_word(r, "table");
    g_auto(GStrv) entries = g_strsplit(word ? word : "", ",", -1);
    const guint n = g_strv_length(entries);
    guint i;

    if (n == 0 || n > UINT16_MAX + 1) {
        return false;
    }
    for (i = 0; i < n; i++) {
        if (!take_number(r->out, entries[i], 2)) {
            return false;
        }
    }
    net_ctrl_put16(r->out->data + mask_at, (uint16_t)(n - 1));
    return true;
}

static bool read_rss(Reader *r)
{
    guint mask_at;

    if (!read_number(r, "types", 4)) {
        return false;
    }
    mask_at = r->out->len;
    append_number(r->out, 0, 2);
    return read_number(r, "unclassified", 2) && read_table(r, mask_at) &&
           read_number(r, "transmit", 2) && read_key(r);
}

static bool read_hash(Reader *r)
{
    if (!read_number(r, "types", 4)) {
        return false;
    }
    append_number(r->out, 0, 8);
    return read_key(r);
}

static bool read_coal(Reader *r)
{
    return read_number(r, "packets", 4) && read_number(r, "usecs", 4);
}

static bool read_vq(Reader *r)
{
    if (!read_number(r, "vq", 2)) {
        return false;
    }
    append_number(r->out, 0, 2);
    return true;
}

static bool read_data(Reader *r, NetCtrlId id)
{
    switch (id) {
    case NET_CTRL_RX_PROMISC:
    case NET_CTRL_RX_ALLMULTI:
    case NET_CTRL_RX_ALLUNI:
    case NET_CTRL_RX_NOMULTI:
    case NET_CTRL_RX_NOUNI:
    case NET_CTRL_RX_NOBCAST:
        return read_switch(r);
    case NET_CTRL_MAC_TABLE_SET:
        return read_macs(r, "/") && read_word(r, NULL) && read_macs(r, NULL);
    case NET_CTRL_MAC_ADDR_SET:
        return read_mac(r);
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        return read_number(r, NULL, 2);
    case NET_CTRL_MQ_RSS_CONFIG:
        return read_rss(r);
    case NET_CTRL_MQ_HASH_CONFIG:
        return read_hash(r);
    case NET_CTRL_GUEST_OFFLOADS_SET:
        return read_number(r, NULL, 8);
    case NET_CTRL_NOTF_COAL_TX_SET:
    case NET_CTRL_NOTF_COAL_RX_SET:
        return read_coal(r);
    case NET_CTRL_NOTF_COAL_VQ_SET:
        return read_vq(r) && read_coal(r);
    case NET_CTRL_NOTF_COAL_VQ_GET:
        return read_vq(r);
    case NET_CTRL_ANNOUNCE_ACK:
    case NET_CTRL_COUNT:
        break;
    }
    return true;
}

static const NetCtrlSpec *find_name(const char *name)
{
    unsigned int id;

    for (id = 0; id < NET_CTRL_COUNT; id++) {
        if (g_strcmp0(name, net_ctrl_spec(id)->name) == 0) {
            return net_ctrl_spec(id);
        }
    }
    return NULL;
}

GByteArray *net_ctrl_from_string(const char *text, GError **errp)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    const NetCtrlSpec *spec = find_name(words[0]);
    Reader r = { words, out };

    if (!spec) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "'%s' begins with no command, as '%s' does", text, net_ctrl_spec(0)->example);
        return NULL;
    }
    r.words++;
    append_number(out, spec->class, 1);
    append_number(out, spec->command, 1);
    if (!read_data(&r, net_ctrl_spec_id(spec)) || *r.words) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "'%s' is not written like '%s'", text,
                    spec->example);
        return NULL;
    }
    return g_steal_pointer(&out);
}

/* The lines of a state. */
typedef struct Lines {
    GString *out;
    unsigned int first_vlan, n_vlans;   /* one after the other, not written yet */
} Lines;

static void end_vlans(Lines *lines)
{
    if (lines->n_vlans == 1) {
        g_string_append_printf(lines->out, "VLAN_ADD %u\n", lines->first_vlan);
    } else if (lines->n_vlans > 1) {
        g_string_append_printf(lines->out, "VLAN_ADD %u-%u\n", lines->first_vlan,
                               lines->first_vlan + lines->n_vlans - 1);
    }
    lines->n_vlans = 0;
}

static void add_line(void *opaque, const NetCtrlCommand *command, bool barrier)
{
    g_autofree char *text = net_ctrl_to_string(command);
    Lines *lines = opaque;

    if (command->id == NET_CTRL_VLAN_ADD) {
        if (lines->n_vlans == 0 || command->vlan != lines->first_vlan + lines->n_vlans) {
            end_vlans(lines);
            lines->first_vlan = command->vlan;
        }
        lines->n_vlans++;
        return;
    }
    end_vlans(lines);
    g_string_append_printf(lines->out, "%s\n", text);
}

char *net_ctrl_state_to_string(const NetCtrlState *state)
{
    Lines lines = { g_string_new(NULL) };
    unsigned int i;

    net_ctrl_state_walk(state, add_line, &lines);
    end_vlans(&lines);
    for (i = 0; i < state->n_unknown; i++) {
        g_string_append_printf(lines.out, "command %u of class %u cannot be restored\n",
                               state->unknown[i].command, state->unknown[i].class);
    }
    return g_string_free(lines.out, FALSE);
}
