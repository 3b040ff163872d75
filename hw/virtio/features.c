/* SPDX-License-Identifier: BSD-3-Clause */
/* The feature table itself, and the few questions asked of it. */
#include "hw/virtio/features.h"

#define NEEDS(bit) VIRTIO_F_BIT(VIRTIO_##bit)

static const VirtioFeature table[] = {
    { 0, "CSUM", VIRTIO_FEATURE_DEVICE },
    { 1, "GUEST_CSUM", VIRTIO_FEATURE_DEVICE },
    { 2, "CTRL_GUEST_OFFLOADS", VIRTIO_FEATURE_DEVICE },
    { 3, "MTU", VIRTIO_FEATURE_DEVICE },
    { 5, "MAC", VIRTIO_FEATURE_DEVICE },
    { 7, "GUEST_TSO4", VIRTIO_FEATURE_DEVICE },
    { 8, "GUEST_TSO6", VIRTIO_FEATURE_DEVICE },
    { 9, "GUEST_ECN", VIRTIO_FEATURE_DEVICE },
    { 10, "GUEST_UFO", VIRTIO_FEATURE_DEVICE },
    { 11, "HOST_TSO4", VIRTIO_FEATURE_DEVICE },
    { 12, "HOST_TSO6", VIRTIO_FEATURE_DEVICE },
    { 13, "HOST_ECN", VIRTIO_FEATURE_DEVICE },
    { 14, "HOST_UFO", VIRTIO_FEATURE_DEVICE },
    { 15, "MRG_RXBUF", VIRTIO_FEATURE_DEVICE },
    { 16, "STATUS", VIRTIO_FEATURE_DEVICE },
    { 17, "CTRL_VQ", VIRTIO_FEATURE_DEVICE },
    { 18, "CTRL_RX", VIRTIO_FEATURE_DEVICE },
    { 19, "CTRL_VLAN", VIRTIO_FEATURE_DEVICE },
    { 20, "CTRL_RX_EXTRA", VIRTIO_FEATURE_DEVICE },
    { 21, "GUEST_ANNOUNCE", VIRTIO_FEATURE_DEVICE },
    { 22, "MQ", VIRTIO_FEATURE_DEVICE },
    { 23, "CTRL_MAC_ADDR", VIRTIO_FEATURE_DEVICE },
    { 24, "NOTIFY_ON_EMPTY", VIRTIO_FEATURE_REFUSED, 0, "legacy" },
    { 26, "LOG_ALL", VIRTIO_FEATURE_VHOST },
    { 27, "ANY_LAYOUT", VIRTIO_FEATURE_DEVICE },
    { 28, "INDIRECT_DESC", VIRTIO_FEATURE_RING },
    { 29, "EVENT_IDX", VIRTIO_FEATURE_RING },
    { 30, "PROTOCOL_FEATURES", VIRTIO_FEATURE_VHOST },
    { 32, "VERSION_1", VIRTIO_FEATURE_DEVICE },
    { 33, "ACCESS_PLATFORM", VIRTIO_FEATURE_REFUSED, 0, "no vIOMMU support yet" },
    { 34, "RING_PACKED", VIRTIO_FEATURE_RING, NEEDS(F_VERSION_1) },
    { 35, "IN_ORDER", VIRTIO_FEATURE_RING, NEEDS(F_VERSION_1) },
    { 36, "ORDER_PLATFORM", VIRTIO_FEATURE_REFUSED, 0, "rings are in ordinary memory" },
    { 37, "SR_IOV", VIRTIO_FEATURE_REFUSED, 0, "belongs to the PCI transport" },
    { 38, "NOTIFICATION_DATA", VIRTIO_FEATURE_RING },
    { 39, "NOTIF_CONFIG_DATA", VIRTIO_FEATURE_REFUSED, 0, "kicks are eventfds" },
    { 40, "RING_RESET", VIRTIO_FEATURE_REFUSED, 0, "vhost-user cannot carry it" },
    { 41, "ADMIN_VQ", VIRTIO_FEATURE_REFUSED, 0, "belongs to the PCI transport" },
    { 50, "DEVICE_STATS", VIRTIO_FEATURE_DEVICE },
    { 51, "HASH_TUNNEL", VIRTIO_FEATURE_DEVICE },
    { 52, "VQ_NOTF_COAL", VIRTIO_FEATURE_DEVICE },
    { 53, "NOTF_COAL", VIRTIO_FEATURE_DEVICE },
    { 54, "GUEST_USO4", VIRTIO_FEATURE_DEVICE },
    { 55, "GUEST_USO6", VIRTIO_FEATURE_DEVICE },
    { 56, "HOST_USO", VIRTIO_FEATURE_DEVICE },
    { 57, "HASH_REPORT", VIRTIO_FEATURE_DEVICE },
    { 59, "GUEST_HDRLEN", VIRTIO_FEATURE_DEVICE },
    { 60, "RSS", VIRTIO_FEATURE_DEVICE },
    { 61, "RSC_EXT", VIRTIO_FEATURE_DEVICE },
    { 62, "STANDBY", VIRTIO_FEATURE_DEVICE },
    { 63, "SPEED_DUPLEX", VIRTIO_FEATURE_DEVICE },
};

const VirtioFeature *virtio_features_find(unsigned int bit)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(table); i++) {
        if (table[i].bit == bit) {
            return &table[i];
        }
    }
    return NULL;
}

static VirtioFeatureScope scope_of(unsigned int bit)
{
    const VirtioFeature *feature = virtio_features_find(bit);

    if (feature) {
        return feature->scope;
    }
    /* 24 to 49 are reserved for rings and transports: what we do not know we cannot carry. */
    return bit < 24 || bit >= 50 ? VIRTIO_FEATURE_DEVICE : VIRTIO_FEATURE_REFUSED;
}

uint64_t virtio_features_mask(VirtioFeatureScope scope)
{
    uint64_t mask = 0;
    unsigned int bit;

    for (bit = 0; bit < 64; bit++) {
        if (scope_of(bit) == scope) {
            mask |= VIRTIO_F_BIT(bit);
        }
    }
    return mask;
}

uint64_t virtio_features_close(uint64_t features)
{
    uint64_t before;
    unsigned int i;

    do {
        before = features;
        for (i = 0; i < G_N_ELEMENTS(table); i++) {
            if (table[i].needs & ~features) {
                features &= ~VIRTIO_F_BIT(table[i].bit);
            }
        }
    } while (features != before);
    return features;
}

char *virtio_features_to_string(uint64_t features)
{
    GString *words = g_string_new(NULL);
    unsigned int bit;

    for (bit = 0; bit < 64; bit++) {
        const VirtioFeature *feature = virtio_features_find(bit);

        if (!(features & VIRTIO_F_BIT(bit))) {
            continue;
        }
        if (words->len) {
            g_string_append_c(words, ' ');
        }
        if (feature) {
            g_string_append(words, feature->name);
        } else {
            g_string_append_printf(words, "bit %u", bit);
        }
    }
    return g_string_free(words, FALSE);
}
