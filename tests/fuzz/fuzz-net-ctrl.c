/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: control commands as a driver writes them.
 *
 * The input: 4 bytes choose the limits of the device, see next_limits(); the rest is a command as
 * bytes, or as text if bit 7 of the first is set.  What is parsed is encoded, said, and read again,
 * and must stay the same; and what it asks for must be within the limits.
 */
#include "fuzz.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "hw/net/net-ctrl.h"

#define LIMITS_BYTES 4

static NetCtrlLimits next_limits(const uint8_t *data)
{
    NetCtrlLimits limits = {
        /* Each feature that a command may need, or all but one. */
        .features = data[0] & 0x40 ? UINT64_MAX : ~(UINT64_C(1) << (data[0] & 0x3f)),
        .max_pairs = data[1] & 0x80 ? 0x8000 : data[1] % 0x7f + 1,
        .max_key_bytes = data[2],
        .max_table = (uint16_t)(1 << data[3] % 16),
        .hash_types = data[3] & 0x80 ? UINT32_MAX : 0x1ff,
    };

    return limits;
}

static void check_hash(const NetCtrlRss *rss, const NetCtrlLimits *limits)
{
    g_assert_cmphex(rss->hash_types & ~limits->hash_types, ==, 0);
    g_assert_cmpuint(rss->key_bytes, <=, limits->max_key_bytes);
}

static void check_rss(const NetCtrlRss *rss, const NetCtrlLimits *limits)
{
    unsigned int i;

    g_assert_cmpuint(rss->n_table, >, 0);
    g_assert_cmpuint(rss->n_table, <=, limits->max_table);
    g_assert_cmpuint(rss->n_table & (rss->n_table - 1), ==, 0);
    g_assert_cmpuint(rss->unclassified_queue, <, limits->max_pairs);
    g_assert_cmpuint(rss->max_tx_vq, >, 0);
    g_assert_cmpuint(rss->max_tx_vq, <=, limits->max_pairs);
    for (i = 0; i < rss->n_table; i++) {
        g_assert_cmpuint(rss->table[2 * i] | rss->table[2 * i + 1] << 8, <, limits->max_pairs);
    }
}

static void check_ranges(const NetCtrlCommand *command, const NetCtrlLimits *limits)
{
    g_assert_cmphex(net_ctrl_spec(command->id)->needs & ~limits->features, ==, 0);
    switch (command->id) {
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
        g_assert_cmpuint(command->vlan, <, NET_CTRL_VLANS);
        break;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        g_assert_cmpuint(command->pairs, >, 0);
        g_assert_cmpuint(command->pairs, <=, limits->max_pairs);
        break;
    case NET_CTRL_MQ_RSS_CONFIG:
        check_rss(&command->rss, limits);
        check_hash(&command->rss, limits);
        break;
    case NET_CTRL_MQ_HASH_CONFIG:
        check_hash(&command->rss, limits);
        break;
    case NET_CTRL_GUEST_OFFLOADS_SET:
        g_assert_cmphex(command->offloads & ~limits->features, ==, 0);
        break;
    case NET_CTRL_NOTF_COAL_VQ_SET:
    case NET_CTRL_NOTF_COAL_VQ_GET:
        g_assert_cmpuint(command->coal.vq, <, MIN(2 * limits->max_pairs, NET_CTRL_MAX_QUEUES));
        break;
    default:
        break;
    }
}

/* Its one form as bytes and its one form as text mean each other. */
static void check_forms(const NetCtrlCommand *command, size_t n, const NetCtrlLimits *limits)
{
    g_autofree uint8_t *bytes = g_malloc(n), *again = g_malloc(n);
    g_autofree char *text = net_ctrl_to_string(command);
    g_autoptr(GByteArray) read = net_ctrl_from_string(text, NULL);
    NetCtrlCommand parsed;
    NetCtrlError error;

    g_assert_cmpuint(net_ctrl_encode(command, bytes, n), ==, n);
    g_assert_nonnull(read);
    g_assert_cmpmem(read->data, read->len, bytes, n);
    g_assert_cmpint(net_ctrl_parse(&parsed, bytes, n, limits, &error), ==, 0);
    g_assert_cmpuint(parsed.id, ==, command->id);
    g_assert_cmpuint(net_ctrl_encode(&parsed, again, n), ==, n);
    g_assert_cmpmem(again, n, bytes, n);
}

static void fuzz_bytes(const uint8_t *data, size_t size, const NetCtrlLimits *limits)
{
    NetCtrlError error = { NULL };
    NetCtrlCommand command;
    int ret;

    ret = net_ctrl_parse(&command, data, size, limits, &error);
    if (ret == 0) {
        check_ranges(&command, limits);
        check_forms(&command, size, limits);
    } else if (ret == -ENOTSUP) {
        g_assert_cmpuint(size, >=, NET_CTRL_HEADER_BYTES);
    } else {
        g_assert_cmpint(ret, ==, -EINVAL);
        g_assert_nonnull(error.what);
        g_assert_nonnull(error.section);
    }
}

static void fuzz_text(const uint8_t *data, size_t size, const NetCtrlLimits *limits)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) bytes = net_ctrl_from_string(text, &error);

    g_assert_cmpint(bytes != NULL, ==, error == NULL);
    if (bytes) {
        g_autofree uint8_t *exact = g_memdup2(bytes->data, bytes->len);

        g_assert_cmpuint(bytes->len, >=, NET_CTRL_HEADER_BYTES);
        fuzz_bytes(exact, bytes->len, limits);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    NetCtrlLimits limits;

    if (size < LIMITS_BYTES) {
        return 0;
    }
    limits = next_limits(data);
    if (data[0] & 0x80) {
        fuzz_text(data + LIMITS_BYTES, size - LIMITS_BYTES, &limits);
    } else {
        fuzz_bytes(data + LIMITS_BYTES, size - LIMITS_BYTES, &limits);
    }
    return 0;
}
