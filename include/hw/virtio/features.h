/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one feature table: what each virtio feature bit means to a shadowed device
 * (virtio 1.3, section 6; network bits: section 5.1.3).
 *
 * How it works.  Bits of the ring and its notifications belong to a side: what the guest
 * negotiates with us and what we negotiate with the device are independent.  All other bits
 * belong to the device and pass through, unless shadowing cannot carry them.
 *
 * Threads: any; everything here is constant.
 */
#ifndef HW_VIRTIO_FEATURES_H
#define HW_VIRTIO_FEATURES_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_F_BIT(bit) (UINT64_C(1) << (bit))

enum {
    VIRTIO_NET_F_CSUM = 0,
    VIRTIO_NET_F_GUEST_CSUM = 1,
    VIRTIO_NET_F_MTU = 3,
    VIRTIO_NET_F_MAC = 5,
    VIRTIO_NET_F_MRG_RXBUF = 15,
    VIRTIO_NET_F_STATUS = 16,
    VIRTIO_NET_F_CTRL_VQ = 17,
    VIRTIO_NET_F_CTRL_RX = 18,
    VIRTIO_NET_F_GUEST_ANNOUNCE = 21,
    VIRTIO_NET_F_MQ = 22,
    VIRTIO_NET_F_CTRL_MAC_ADDR = 23,
    VHOST_F_LOG_ALL = 26,
    VIRTIO_F_INDIRECT_DESC = 28,
    VIRTIO_F_EVENT_IDX = 29,
    VHOST_USER_F_PROTOCOL_FEATURES = 30,
    VIRTIO_F_VERSION_1 = 32,
    VIRTIO_F_ACCESS_PLATFORM = 33,
    VIRTIO_F_RING_PACKED = 34,
    VIRTIO_F_IN_ORDER = 35,
    VIRTIO_F_NOTIFICATION_DATA = 38,
};

/* What a network device has only with a control queue, and that itself (5.1.3, 5.1.3.1). */
#define VIRTIO_NET_CTRL_FEATURES \
    (VIRTIO_F_BIT(2) /* CTRL_GUEST_OFFLOADS */ | VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | \
     VIRTIO_F_BIT(18) /* CTRL_RX */ | VIRTIO_F_BIT(19) /* CTRL_VLAN */ | \
     VIRTIO_F_BIT(20) /* CTRL_RX_EXTRA */ | VIRTIO_F_BIT(21) /* GUEST_ANNOUNCE */ | \
     VIRTIO_F_BIT(VIRTIO_NET_F_MQ) | VIRTIO_F_BIT(23) /* CTRL_MAC_ADDR */ | \
     VIRTIO_F_BIT(52) /* VQ_NOTF_COAL */ | VIRTIO_F_BIT(53) /* NOTF_COAL */ | \
     VIRTIO_F_BIT(57) /* HASH_REPORT */ | VIRTIO_F_BIT(60) /* RSS */)

/* Device types (5) that make a difference to us. */
#define VIRTIO_ID_NET 1

/* Device status bits (2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE   0x01
#define VIRTIO_STATUS_DRIVER        0x02
#define VIRTIO_STATUS_DRIVER_OK     0x04
#define VIRTIO_STATUS_FEATURES_OK   0x08
#define VIRTIO_STATUS_NEEDS_RESET   0x40
#define VIRTIO_STATUS_FAILED        0x80

typedef enum VirtioFeatureScope {
    VIRTIO_FEATURE_DEVICE,      /* passes through */
    VIRTIO_FEATURE_RING,        /* each side negotiates it for itself, if it can have it */
    VIRTIO_FEATURE_VHOST,       /* between the VMM and us, neither guest nor device sees it */
    VIRTIO_FEATURE_REFUSED,     /* a shadowed device cannot have it */
} VirtioFeatureScope;

typedef struct VirtioFeature {
    uint8_t bit;
    const char *name;           /* as in the specification, without prefix */
    VirtioFeatureScope scope;
    uint64_t needs;             /* bits without which it makes no sense, whatever the device */
    const char *refused;        /* why a shadowed device cannot have it */
} VirtioFeature;

/* The entry of @bit.  Bits that the table does not name are the device's own: NULL. */
const VirtioFeature *virtio_features_find(unsigned int bit);

/* All bits of @scope; unnamed ones of the device ranges (0..23, 50..63) are the device's. */
uint64_t virtio_features_mask(VirtioFeatureScope scope);

/* @features without those that need a bit which is not among them. */
uint64_t virtio_features_close(uint64_t features);

/* "RING_PACKED EVENT_IDX bit 58", for messages; free it. */
char *virtio_features_to_string(uint64_t features);

#endif
