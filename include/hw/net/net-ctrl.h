/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands of a virtio-net control virtqueue as a codec (virtio 1.3, section 5.1.6.5).
 *
 * How it works.  One table says of each command its class, its number, the features it needs and
 * how long its data may be.  Parser, encoder, text and manual are made from it.  A command is
 * parsed from a private copy, never from memory that a driver can still write: what was
 * parsed points into the copy.
 *
 * What is refused is what the specification forbids a driver, and what we could not keep.  A driver
 * that is merely odd is for its device to judge: real ones are, see net-ctrl-parse.c.
 *
 * Numbers are little-endian for legacy drivers, too: theirs are in the byte order of the guest, and
 * guests of another order than little-endian are not served.
 *
 * Threads: any; no function has state, none allocates unless it says so.
 */
#ifndef HW_NET_NET_CTRL_H
#define HW_NET_NET_CTRL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NET_CTRL_HEADER_BYTES   2       /* class, command */
#define NET_CTRL_MAX_BYTES      65536   /* of a command; longer ones are refused */
#define NET_CTRL_MAX_RESULT     64      /* bytes that a device may write behind its ack */
#define NET_CTRL_MAX_QUEUES     256     /* data queues that can be named; higher ones are refused */
#define NET_CTRL_VLANS          4096

/* The ack of a device, first of the bytes that it writes. */
enum { NET_CTRL_OK = 0, NET_CTRL_ERR = 1 };

typedef enum NetCtrlId {
    NET_CTRL_RX_PROMISC,
    NET_CTRL_RX_ALLMULTI,
    NET_CTRL_RX_ALLUNI,
    NET_CTRL_RX_NOMULTI,
    NET_CTRL_RX_NOUNI,
    NET_CTRL_RX_NOBCAST,
    NET_CTRL_MAC_TABLE_SET,
    NET_CTRL_MAC_ADDR_SET,
    NET_CTRL_VLAN_ADD,
    NET_CTRL_VLAN_DEL,
    NET_CTRL_ANNOUNCE_ACK,
    NET_CTRL_MQ_VQ_PAIRS_SET,
    NET_CTRL_MQ_RSS_CONFIG,
    NET_CTRL_MQ_HASH_CONFIG,
    NET_CTRL_GUEST_OFFLOADS_SET,
    NET_CTRL_NOTF_COAL_TX_SET,
    NET_CTRL_NOTF_COAL_RX_SET,
    NET_CTRL_NOTF_COAL_VQ_SET,
    NET_CTRL_NOTF_COAL_VQ_GET,
    NET_CTRL_COUNT
} NetCtrlId;

/* A row of the table. */
typedef struct NetCtrlSpec {
    const char *name;           /* as in the specification, "MAC_TABLE_SET" */
    uint8_t class, command;
    uint64_t needs;             /* feature bits, all of them */
    const char *feature;        /* the same in words, without prefix */
    uint32_t data_min, data_max;        /* bytes behind the header */
    uint32_t result;            /* bytes that the device writes behind its ack */
    const char *section;        /* of the specification */
    const char *data;           /* what the data is, for the manual */
    const char *example;        /* a command as net_ctrl_to_string() writes it */
} NetCtrlSpec;

const NetCtrlSpec *net_ctrl_spec(NetCtrlId id);

/* What driver and device have agreed on, which bounds what a command may ask for. */
typedef struct NetCtrlLimits {
    uint64_t features;          /* negotiated */
    uint16_t max_pairs;         /* queue pairs that there are: 1 without MQ and RSS */
    uint8_t max_key_bytes;      /* of a hash key */
    uint16_t max_table;         /* entries of an indirection table */
    uint32_t hash_types;        /* that the device can */
} NetCtrlLimits;

/*
 * The limits of @features and the device's configuration space (struct virtio_net_config, @n bytes
 * of it, as many as there are: what is not there is 0, but for max_pairs, which is 1 then).
 */
void net_ctrl_limits_init(NetCtrlLimits *limits, uint64_t features, const void *config, size_t n);

/* Index of the control virtqueue (5.1.2); -1: CTRL_VQ is not negotiated. */
int net_ctrl_vq_index(const NetCtrlLimits *limits);

typedef struct NetCtrlCoal {
    uint32_t max_packets, max_usecs;
} NetCtrlCoal;

/* RSS_CONFIG, and HASH_CONFIG, which has hash types and key alone. */
typedef struct NetCtrlRss {
    uint32_t hash_types;
    uint16_t n_table;           /* entries, a power of two */
    uint16_t unclassified_queue;
    const uint8_t *table;       /* @n_table little-endian 16-bit numbers, not aligned */
    uint16_t max_tx_vq;
    uint8_t key_bytes;
    const uint8_t *key;
} NetCtrlRss;

typedef struct NetCtrlCommand {
    NetCtrlId id;
    union {
        bool on;                /* RX_* */
        uint8_t mac[6];         /* MAC_ADDR_SET */
        struct {
            uint32_t n_unicast, n_multicast;
            const uint8_t *unicast, *multicast;     /* 6 bytes each */
        } table;                /* MAC_TABLE_SET */
        uint16_t vlan;          /* VLAN_* */
        uint16_t pairs;         /* MQ_VQ_PAIRS_SET */
        NetCtrlRss rss;         /* MQ_RSS_CONFIG, MQ_HASH_CONFIG */
        uint64_t offloads;      /* GUEST_OFFLOADS_SET: feature bits */
        struct {
            uint16_t vq;        /* of VQ_SET and VQ_GET alone */
            NetCtrlCoal coal;   /* not of VQ_GET */
        } coal;                 /* NOTF_COAL_* */
    };
} NetCtrlCommand;

/* Why a command is refused; strings are constants. */
typedef struct NetCtrlError {
    const char *what;           /* "VLAN id out of range" */
    const char *section;
    uint64_t value;             /* that is wrong */
} NetCtrlError;

/*
 * Parses the command in @bytes[0..n), header and data.  0; -ENOTSUP: no command that the table
 * knows (then at least its header is there), for others to judge; -EINVAL with @error: a length,
 * count or range is wrong, or it needs a feature that is not negotiated.  *command points into
 * @bytes.
 */
int net_ctrl_parse(NetCtrlCommand *command, const uint8_t *bytes, size_t n,
                   const NetCtrlLimits *limits, NetCtrlError *error);

/* Bytes of @command, header included; written to @bytes if @size is enough for them. */
size_t net_ctrl_encode(const NetCtrlCommand *command, uint8_t *bytes, size_t size);

/* "VLAN_ADD 5", "MAC_TABLE_SET 02:00:00:00:00:01 / 33:33:00:00:00:01"; free it. */
char *net_ctrl_to_string(const NetCtrlCommand *command);

/*
 * The bytes of the command that @text says, as net_ctrl_to_string() writes it.  NULL and @errp:
 * there is no such command.  Not checked against any limits: tests send wrong commands, too.
 */
GByteArray *net_ctrl_from_string(const char *text, GError **errp);

#endif
