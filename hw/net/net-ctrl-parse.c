/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parses control commands: every length, count and range of what a driver has written.
 *
 * How it works.  The table bounds the length of the data; what the table cannot say each
 * parser checks for itself, first that the data is there, then what it says.
 *
 * Some things look wrong and are let pass, because the specification does not forbid them or
 * drivers that are in use do them:
 * - MAC_TABLE_SET: the part in which an address stands.  Linux has the reserved multicast addresses
 *   01:80:c2:00:00:0x among its unicast ones (bridge fdb add), and takes any address for a
 *   multicast one (ip maddr add).
 * - MAC_ADDR_SET: a multicast address.  No rule says which addresses a device may have.
 * - VLAN ids 0 and 4095.  A tag can carry them; Linux adds 0 for priority tags.
 * - RX_*: a byte that is neither 0 nor 1 is "on", as in Linux's header.
 */
#include "net-ctrl-internal.h"

#include <errno.h>
#include <string.h>

#include "hw/virtio/features.h"

/* Those of 5.1.6.5.8.1, and RSC_EXT, which drivers of Windows switch in the same way. */
#define GUEST_OFFLOADS \
    (VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_F_BIT(7) /* TSO4 */ | \
     VIRTIO_F_BIT(8) /* TSO6 */ | VIRTIO_F_BIT(9) /* ECN */ | VIRTIO_F_BIT(10) /* UFO */ | \
     VIRTIO_F_BIT(54) /* USO4 */ | VIRTIO_F_BIT(55) /* USO6 */ | VIRTIO_F_BIT(61) /* RSC_EXT */)

/* The data of a command, and what bounds it. */
typedef struct Input {
    const uint8_t *data;
    size_t n;
    const NetCtrlSpec *spec;
    const NetCtrlLimits *limits;
    NetCtrlError *error;
} Input;

static int fail(const Input *in, const char *what, uint64_t value)
{
    *in->error = (NetCtrlError){ what, in->spec ? in->spec->section : "5.1.6.5", value };
    return -EINVAL;
}

static int parse_mac_table(const Input *in, NetCtrlCommand *command)
{
    const uint8_t *multicast;
    size_t left = in->n - 2 * sizeof(uint32_t);

    command->table.n_unicast = net_ctrl_get32(in->data);
    if (command->table.n_unicast > left / NET_CTRL_MAC_BYTES) {
        return fail(in, "more unicast addresses than data", command->table.n_unicast);
    }
    command->table.unicast = in->data + sizeof(uint32_t);
    multicast = command->table.unicast + command->table.n_unicast * NET_CTRL_MAC_BYTES;
    left -= command->table.n_unicast * NET_CTRL_MAC_BYTES;

    command->table.n_multicast = net_ctrl_get32(multicast);
    if (command->table.n_multicast > left / NET_CTRL_MAC_BYTES) {
        return fail(in, "more multicast addresses than data", command->table.n_multicast);
    }
    if (command->table.n_multicast * NET_CTRL_MAC_BYTES != left) {
        return fail(in, "data behind the multicast addresses", in->n);
    }
    command->table.multicast = multicast + sizeof(uint32_t);
    return 0;
}

static int parse_vlan(const Input *in, NetCtrlCommand *command)
{
    command->vlan = net_ctrl_get16(in->data);
    if (command->vlan >= NET_CTRL_VLANS) {
        return fail(in, "VLAN id out of range", command->vlan);
    }
    return 0;
}

static int parse_pairs(const Input *in, NetCtrlCommand *command)
{
    command->pairs = net_ctrl_get16(in->data);
    if (command->pairs == 0 || command->pairs > in->limits->max_pairs) {
        return fail(in, "number of queue pairs out of range", command->pairs);
    }
    return 0;
}

/* The key that is the rest of the data, behind its length. */
static int parse_key(const Input *in, size_t at, NetCtrlRss *rss)
{
    rss->key_bytes = in->data[at];
    rss->key = in->data + at + 1;
    if (rss->key_bytes > in->limits->max_key_bytes) {
        return fail(in, "hash key is too long", rss->key_bytes);
    }
    if (at + 1 + rss->key_bytes != in->n) {
        return fail(in, "data does not end with its hash key", in->n);
    }
    return 0;
}

static int parse_hash_types(const Input *in, NetCtrlRss *rss)
{
    rss->hash_types = net_ctrl_get32(in->data);
    if (rss->hash_types & ~in->limits->hash_types) {
        return fail(in, "hash types that the device has not",
                    rss->hash_types & ~in->limits->hash_types);
    }
    return 0;
}

static int parse_rss_queues(const Input *in, const NetCtrlRss *rss)
{
    unsigned int i;

    if (rss->unclassified_queue >= in->limits->max_pairs) {
        return fail(in, "receive queue for unclassified packets out of range",
                    rss->unclassified_queue);
    }
    for (i = 0; i < rss->n_table; i++) {
        if (net_ctrl_rss_entry(rss, i) >= in->limits->max_pairs) {
            return fail(in, "receive queue in the table out of range", net_ctrl_rss_entry(rss, i));
        }
    }
    if (rss->max_tx_vq == 0 || rss->max_tx_vq > in->limits->max_pairs) {
        return fail(in, "number of transmit queues out of range", rss->max_tx_vq);
    }
    return 0;
}

static int parse_rss(const Input *in, NetCtrlCommand *command)
{
    NetCtrlRss *rss = &command->rss;
    const uint16_t mask = net_ctrl_get16(in->data + 4);
    const size_t tail = NET_CTRL_RSS_HEAD + 2 * ((size_t)mask + 1);
    int ret;

    if (mask & (mask + 1)) {
        return fail(in, "table whose entries are no power of two", mask + 1U);
    }
    if (mask >= in->limits->max_table) {
        return fail(in, "table has more entries than the device", mask + 1U);
    }
    if (in->n < tail + NET_CTRL_RSS_TAIL) {
        return fail(in, "more table entries than data", mask + 1U);
    }
    ret = parse_hash_types(in, rss);
    if (ret < 0) {
        return ret;
    }
    rss->n_table = (uint16_t)(mask + 1);
    rss->unclassified_queue = net_ctrl_get16(in->data + 6);
    rss->table = in->data + NET_CTRL_RSS_HEAD;
    rss->max_tx_vq = net_ctrl_get16(in->data + tail);
    ret = parse_rss_queues(in, rss);
    return ret < 0 ? ret : parse_key(in, tail + 2, rss);
}

static int parse_hash(const Input *in, NetCtrlCommand *command)
{
    unsigned int i;
    int ret;

    ret = parse_hash_types(in, &command->rss);
    if (ret < 0) {
        return ret;
    }
    /* Not the fourth: kernels of Linux from 5.18 on have the max_tx_vq of an RSS_CONFIG there. */
    for (i = 4; i < 10; i += 2) {
        if (net_ctrl_get16(in->data + i)) {
            return fail(in, "reserved field is not zero", net_ctrl_get16(in->data + i));
        }
    }
    return parse_key(in, NET_CTRL_HASH_HEAD - 1, &command->rss);
}

static int parse_offloads(const Input *in, NetCtrlCommand *command)
{
    uint64_t excess;

    command->offloads = net_ctrl_get64(in->data);
    excess = command->offloads & ~(GUEST_OFFLOADS & in->limits->features);
    if (excess) {
        return fail(in, "offloads that are not negotiated", excess);
    }
    return 0;
}

static void parse_coal(const uint8_t *data, NetCtrlCoal *coal)
{
    coal->max_packets = net_ctrl_get32(data);
    coal->max_usecs = net_ctrl_get32(data + 4);
}

/* Whether the queue is enabled is for the device to know; the reserved field it must ignore. */
static int parse_vq(const Input *in, NetCtrlCommand *command)
{
    command->coal.vq = net_ctrl_get16(in->data);
    if (command->coal.vq >= 2 * in->limits->max_pairs) {
        return fail(in, "index is not that of a data queue", command->coal.vq);
    }
    if (command->coal.vq >= NET_CTRL_MAX_QUEUES) {
        return fail(in, "index is higher than is supported", command->coal.vq);
    }
    return 0;
}

static int parse_data(const Input *in, NetCtrlCommand *command)
{
    int ret = 0;

    switch (command->id) {
    case NET_CTRL_RX_PROMISC:
    case NET_CTRL_RX_ALLMULTI:
    case NET_CTRL_RX_ALLUNI:
    case NET_CTRL_RX_NOMULTI:
    case NET_CTRL_RX_NOUNI:
    case NET_CTRL_RX_NOBCAST:
        command->on = in->data[0] != 0;
        break;
    case NET_CTRL_MAC_TABLE_SET:
        ret = parse_mac_table(in, command);
        break;
    case NET_CTRL_MAC_ADDR_SET:
        memcpy(command->mac, in->data, NET_CTRL_MAC_BYTES);
        break;
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
        ret = parse_vlan(in, command);
        break;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        ret = parse_pairs(in, command);
        break;
    case NET_CTRL_MQ_RSS_CONFIG:
        ret = parse_rss(in, command);
        break;
    case NET_CTRL_MQ_HASH_CONFIG:
        ret = parse_hash(in, command);
        break;
    case NET_CTRL_GUEST_OFFLOADS_SET:
        ret = parse_offloads(in, command);
        break;
    case NET_CTRL_NOTF_COAL_TX_SET:
    case NET_CTRL_NOTF_COAL_RX_SET:
        parse_coal(in->data, &command->coal.coal);
        break;
    case NET_CTRL_NOTF_COAL_VQ_SET:
        parse_coal(in->data + 4, &command->coal.coal);
        ret = parse_vq(in, command);
        break;
    case NET_CTRL_NOTF_COAL_VQ_GET:
        ret = parse_vq(in, command);
        break;
    case NET_CTRL_ANNOUNCE_ACK:
    case NET_CTRL_COUNT:
        break;
    }
    return ret;
}

int net_ctrl_parse(NetCtrlCommand *command, const uint8_t *bytes, size_t n,
                   const NetCtrlLimits *limits, NetCtrlError *error)
{
    Input in = { .limits = limits, .error = error };

    memset(command, 0, sizeof(*command));
    if (n < NET_CTRL_HEADER_BYTES) {
        return fail(&in, "command is shorter than its header", n);
    }
    if (n > NET_CTRL_MAX_BYTES) {
        return fail(&in, "command is longer than is supported", n);
    }
    in.spec = net_ctrl_spec_find(bytes[0], bytes[1]);
    if (!in.spec) {
        return -ENOTSUP;
    }
    in.data = bytes + NET_CTRL_HEADER_BYTES;
    in.n = n - NET_CTRL_HEADER_BYTES;
    if (in.spec->needs & ~limits->features) {
        return fail(&in, "its feature is not negotiated", in.spec->needs & ~limits->features);
    }
    if (in.n < in.spec->data_min) {
        return fail(&in, "data is too short", in.n);
    }
    if (in.n > in.spec->data_max) {
        return fail(&in, "data is too long", in.n);
    }
    command->id = net_ctrl_spec_id(in.spec);
    return parse_data(&in, command);
}
