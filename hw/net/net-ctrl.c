/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of control commands, and the limits that a device sets to them. */
#include "net-ctrl-internal.h"

#include "hw/virtio/features.h"

#define CLASS_RX                0
#define CLASS_MAC               1
#define CLASS_VLAN              2
#define CLASS_ANNOUNCE          3
#define CLASS_MQ                4
#define CLASS_GUEST_OFFLOADS    5
#define CLASS_NOTF_COAL         6

#define NEEDS(bit, name) VIRTIO_F_BIT(bit), name

/* The longest that fits a command as a whole has a table of 16384 entries. */
#define RSS_DATA(entries, key) (NET_CTRL_RSS_HEAD + 2 * (entries) + NET_CTRL_RSS_TAIL + (key))

static const NetCtrlSpec table[NET_CTRL_COUNT] = {
    [NET_CTRL_RX_PROMISC] = { "RX_PROMISC", CLASS_RX, 0, NEEDS(18, "CTRL_RX"),
        1, 1, 0, "5.1.6.5.1", "0: off, else on", "RX_PROMISC on" },
    [NET_CTRL_RX_ALLMULTI] = { "RX_ALLMULTI", CLASS_RX, 1, NEEDS(18, "CTRL_RX"),
        1, 1, 0, "5.1.6.5.1", "0: off, else on", "RX_ALLMULTI on" },
    [NET_CTRL_RX_ALLUNI] = { "RX_ALLUNI", CLASS_RX, 2, NEEDS(20, "CTRL_RX_EXTRA"),
        1, 1, 0, "5.1.6.5.1", "0: off, else on", "RX_ALLUNI on" },
    [NET_CTRL_RX_NOMULTI] = { "RX_NOMULTI", CLASS_RX, 3, NEEDS(20, "CTRL_RX_EXTRA"),
        1, 1, 0, "5.1.6.5.1", "0: off, else on", "RX_NOMULTI on" },
    [NET_CTRL_RX_NOUNI] = { "RX_NOUNI", CLASS_RX, 4, NEEDS(20, "CTRL_RX_EXTRA"),
        1, 1, 0, "5.1.6.5.1", "0: off, else on", "RX_NOUNI on" },
    [NET_CTRL_RX_NOBCAST] = { "RX_NOBCAST", CLASS_RX, 5, NEEDS(20, "CTRL_RX_EXTRA"),
        1, 1, 0, "5.1.6.5.1", "0: off, else on", "RX_NOBCAST on" },
    [NET_CTRL_MAC_TABLE_SET] = { "MAC_TABLE_SET", CLASS_MAC, 0, NEEDS(18, "CTRL_RX"),
        8, NET_CTRL_MAX_BYTES - NET_CTRL_HEADER_BYTES, 0, "5.1.6.5.2",
        "two tables of addresses, each behind its count",
        "MAC_TABLE_SET 02:00:00:00:00:01 / 33:33:00:00:00:01" },
    [NET_CTRL_MAC_ADDR_SET] = { "MAC_ADDR_SET", CLASS_MAC, 1, NEEDS(23, "CTRL_MAC_ADDR"),
        6, 6, 0, "5.1.6.5.2", "any address", "MAC_ADDR_SET 02:00:00:00:00:01" },
    [NET_CTRL_VLAN_ADD] = { "VLAN_ADD", CLASS_VLAN, 0, NEEDS(19, "CTRL_VLAN"),
        2, 2, 0, "5.1.6.5.3", "VLAN id, 0 to 4095", "VLAN_ADD 5" },
    [NET_CTRL_VLAN_DEL] = { "VLAN_DEL", CLASS_VLAN, 1, NEEDS(19, "CTRL_VLAN"),
        2, 2, 0, "5.1.6.5.3", "VLAN id, 0 to 4095", "VLAN_DEL 5" },
    [NET_CTRL_ANNOUNCE_ACK] = { "ANNOUNCE_ACK", CLASS_ANNOUNCE, 0, NEEDS(21, "GUEST_ANNOUNCE"),
        0, 0, 0, "5.1.6.5.4", "none", "ANNOUNCE_ACK" },
    [NET_CTRL_MQ_VQ_PAIRS_SET] = { "MQ_VQ_PAIRS_SET", CLASS_MQ, 0, NEEDS(22, "MQ"),
        2, 2, 0, "5.1.6.5.6", "queue pairs, 1 to as many as there are", "MQ_VQ_PAIRS_SET 2" },
    [NET_CTRL_MQ_RSS_CONFIG] = { "MQ_RSS_CONFIG", CLASS_MQ, 1, NEEDS(60, "RSS"),
        RSS_DATA(1, 0), RSS_DATA(16384, UINT8_MAX), 0, "5.1.6.5.7.1",
        "hash types, receive queues, transmit queues, key",
        "MQ_RSS_CONFIG types=0x3f unclassified=0 table=0,1 transmit=2 key=6d5a56da" },
    [NET_CTRL_MQ_HASH_CONFIG] = { "MQ_HASH_CONFIG", CLASS_MQ, 2, NEEDS(57, "HASH_REPORT"),
        NET_CTRL_HASH_HEAD, NET_CTRL_HASH_HEAD + UINT8_MAX, 0, "5.1.6.5.6.4",
        "hash types and key", "MQ_HASH_CONFIG types=0x3f key=6d5a56da" },
    [NET_CTRL_GUEST_OFFLOADS_SET] = { "GUEST_OFFLOADS_SET", CLASS_GUEST_OFFLOADS, 0,
        NEEDS(2, "CTRL_GUEST_OFFLOADS"),
        8, 8, 0, "5.1.6.5.8", "feature bits of negotiated offloads", "GUEST_OFFLOADS_SET 0x2" },
    [NET_CTRL_NOTF_COAL_TX_SET] = { "NOTF_COAL_TX_SET", CLASS_NOTF_COAL, 0, NEEDS(53, "NOTF_COAL"),
        8, 8, 0, "5.1.6.5.9", "packets, microseconds", "NOTF_COAL_TX_SET packets=3 usecs=4" },
    [NET_CTRL_NOTF_COAL_RX_SET] = { "NOTF_COAL_RX_SET", CLASS_NOTF_COAL, 1, NEEDS(53, "NOTF_COAL"),
        8, 8, 0, "5.1.6.5.9", "packets, microseconds", "NOTF_COAL_RX_SET packets=3 usecs=4" },
    [NET_CTRL_NOTF_COAL_VQ_SET] = { "NOTF_COAL_VQ_SET", CLASS_NOTF_COAL, 2,
        NEEDS(52, "VQ_NOTF_COAL"),
        12, 12, 0, "5.1.6.5.9", "index of a data queue, packets, microseconds",
        "NOTF_COAL_VQ_SET vq=0 packets=3 usecs=4" },
    [NET_CTRL_NOTF_COAL_VQ_GET] = { "NOTF_COAL_VQ_GET", CLASS_NOTF_COAL, 3,
        NEEDS(52, "VQ_NOTF_COAL"),
        4, 4, 8, "5.1.6.5.9", "index of a data queue", "NOTF_COAL_VQ_GET vq=0" },
};

const NetCtrlLimits net_ctrl_no_limits = {
    .features = UINT64_MAX,
    .max_pairs = NET_CTRL_MAX_PAIRS,
    .max_key_bytes = UINT8_MAX,
    .max_table = UINT16_MAX,
    .hash_types = UINT32_MAX,
};

const NetCtrlSpec *net_ctrl_spec(NetCtrlId id)
{
    g_assert(id < NET_CTRL_COUNT);
    return &table[id];
}

const NetCtrlSpec *net_ctrl_spec_find(uint8_t class, uint8_t command)
{
    unsigned int i;

    for (i = 0; i < NET_CTRL_COUNT; i++) {
        if (table[i].class == class && table[i].command == command) {
            return &table[i];
        }
    }
    return NULL;
}

NetCtrlId net_ctrl_spec_id(const NetCtrlSpec *spec)
{
    return (NetCtrlId)(spec - table);
}

/* The number of @bytes bytes at @at of a configuration space; 0 if it does not reach there. */
static uint32_t config_number(const uint8_t *config, size_t n, size_t at, size_t bytes)
{
    uint32_t value = 0;

    if (n < at + bytes) {
        return 0;
    }
    while (bytes-- > 0) {
        value = value << 8 | config[at + bytes];
    }
    return value;
}

void net_ctrl_limits_init(NetCtrlLimits *limits, uint64_t features, const void *config, size_t n)
{
    const uint64_t rss = VIRTIO_F_BIT(60), hash_report = VIRTIO_F_BIT(57);
    uint32_t pairs = config_number(config, n, 8, 2);

    /* A field exists if one of its features is negotiated (5.1.4). */
    *limits = (NetCtrlLimits){ .features = features, .max_pairs = 1 };
    if (features & (VIRTIO_F_BIT(VIRTIO_NET_F_MQ) | rss)) {
        limits->max_pairs = (uint16_t)CLAMP(pairs, 1, NET_CTRL_MAX_PAIRS);
    }
    if (features & rss) {
        limits->max_table = (uint16_t)config_number(config, n, 18, 2);
    }
    if (features & (rss | hash_report)) {
        limits->max_key_bytes = (uint8_t)config_number(config, n, 17, 1);
        limits->hash_types = config_number(config, n, 20, 4);
    }
}

int net_ctrl_vq_index(const NetCtrlLimits *limits)
{
    return limits->features & VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) ? 2 * limits->max_pairs : -1;
}
