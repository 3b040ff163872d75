/* SPDX-License-Identifier: BSD-3-Clause */
/* Control commands as bytes, each in one form: a switch is 0 or 1, a reserved field 0. */
#include "net-ctrl-internal.h"

#include <string.h>

static size_t encoded_size(const NetCtrlCommand *command)
{
    switch (command->id) {
    case NET_CTRL_MAC_TABLE_SET:
        return NET_CTRL_HEADER_BYTES + 2 * sizeof(uint32_t) +
               ((size_t)command->table.n_unicast + command->table.n_multicast) *
               NET_CTRL_MAC_BYTES;
    case NET_CTRL_MQ_RSS_CONFIG:
        return NET_CTRL_HEADER_BYTES + NET_CTRL_RSS_HEAD + 2 * (size_t)command->rss.n_table +
               NET_CTRL_RSS_TAIL + command->rss.key_bytes;
    case NET_CTRL_MQ_HASH_CONFIG:
        return NET_CTRL_HEADER_BYTES + NET_CTRL_HASH_HEAD + command->rss.key_bytes;
    default:
        return NET_CTRL_HEADER_BYTES + net_ctrl_spec(command->id)->data_min;
    }
}

/* Returns what is behind it. */
static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t n)
{
    if (n > 0) {
        memcpy(p, bytes, n);
    }
    return p + n;
}

static uint8_t *put_macs(uint8_t *p, const uint8_t *macs, uint32_t n)
{
    net_ctrl_put32(p, n);
    return put_bytes(p + sizeof(n), macs, (size_t)n * NET_CTRL_MAC_BYTES);
}

static void put_key(uint8_t *p, const NetCtrlRss *rss)
{
    *p = rss->key_bytes;
    put_bytes(p + 1, rss->key, rss->key_bytes);
}

static void put_rss(uint8_t *p, const NetCtrlRss *rss)
{
    net_ctrl_put32(p, rss->hash_types);
    net_ctrl_put16(p + 4, (uint16_t)(rss->n_table - 1));
    net_ctrl_put16(p + 6, rss->unclassified_queue);
    p = put_bytes(p + NET_CTRL_RSS_HEAD, rss->table, 2 * (size_t)rss->n_table);
    net_ctrl_put16(p, rss->max_tx_vq);
    put_key(p + 2, rss);
}

static void put_hash(uint8_t *p, const NetCtrlRss *rss)
{
    net_ctrl_put32(p, rss->hash_types);
    net_ctrl_put64(p + 4, 0);
    put_key(p + NET_CTRL_HASH_HEAD - 1, rss);
}

static void put_coal(uint8_t *p, const NetCtrlCoal *coal)
{
    net_ctrl_put32(p, coal->max_packets);
    net_ctrl_put32(p + 4, coal->max_usecs);
}

static void put_vq(uint8_t *p, uint16_t vq)
{
    net_ctrl_put16(p, vq);
    net_ctrl_put16(p + 2, 0);
}

static void put_data(uint8_t *p, const NetCtrlCommand *command)
{
    switch (command->id) {
    case NET_CTRL_RX_PROMISC:
    case NET_CTRL_RX_ALLMULTI:
    case NET_CTRL_RX_ALLUNI:
    case NET_CTRL_RX_NOMULTI:
    case NET_CTRL_RX_NOUNI:
    case NET_CTRL_RX_NOBCAST:
        *p = command->on;
        break;
    case NET_CTRL_MAC_TABLE_SET:
        p = put_macs(p, command->table.unicast, command->table.n_unicast);
        put_macs(p, command->table.multicast, command->table.n_multicast);
        break;
    case NET_CTRL_MAC_ADDR_SET:
        memcpy(p, command->mac, NET_CTRL_MAC_BYTES);
        break;
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
        net_ctrl_put16(p, command->vlan);
        break;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        net_ctrl_put16(p, command->pairs);
        break;
    case NET_CTRL_MQ_RSS_CONFIG:
        put_rss(p, &command->rss);
        break;
    case NET_CTRL_MQ_HASH_CONFIG:
        put_hash(p, &command->rss);
        break;
    case NET_CTRL_GUEST_OFFLOADS_SET:
        net_ctrl_put64(p, command->offloads);
        break;
    case NET_CTRL_NOTF_COAL_TX_SET:
    case NET_CTRL_NOTF_COAL_RX_SET:
        put_coal(p, &command->coal.coal);
        break;
    case NET_CTRL_NOTF_COAL_VQ_SET:
        put_vq(p, command->coal.vq);
        put_coal(p + 4, &command->coal.coal);
        break;
    case NET_CTRL_NOTF_COAL_VQ_GET:
        put_vq(p, command->coal.vq);
        break;
    case NET_CTRL_ANNOUNCE_ACK:
    case NET_CTRL_COUNT:
        break;
    }
}

size_t net_ctrl_encode(const NetCtrlCommand *command, uint8_t *bytes, size_t size)
{
    const NetCtrlSpec *spec = net_ctrl_spec(command->id);
    const size_t n = encoded_size(command);

    if (n <= size) {
        bytes[0] = spec->class;
        bytes[1] = spec->command;
        put_data(bytes + NET_CTRL_HEADER_BYTES, command);
    }
    return n;
}
