/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames to the loopback device and back. */
#include "lib/loopback-world.h"

#include <string.h>

uint64_t loopback_world_features(void)
{
    return VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_F_BIT(VIRTIO_NET_F_CSUM) |
           VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_F_BIT(7) /* GUEST_TSO4 */ |
           LOOPBACK_NEEDS(RX_PROMISC) | LOOPBACK_NEEDS(RX_ALLUNI) | LOOPBACK_NEEDS(MAC_ADDR_SET) |
           LOOPBACK_NEEDS(VLAN_ADD) | LOOPBACK_NEEDS(MQ_VQ_PAIRS_SET) |
           LOOPBACK_NEEDS(MQ_RSS_CONFIG) | LOOPBACK_NEEDS(GUEST_OFFLOADS_SET) |
           LOOPBACK_NEEDS(NOTF_COAL_TX_SET) | LOOPBACK_NEEDS(NOTF_COAL_VQ_SET);
}

void loopback_world_start(LoopbackWorld *w)
{
    for (unsigned int i = 0; i <= CTRL; i++) {
        loopback_rig_start_ring(&w->rig, i, LOOPBACK_RIG_NUM);
    }
}

void loopback_world_stop(LoopbackWorld *w)
{
    for (unsigned int i = 0; i <= CTRL; i++) {
        loopback_rig_stop_ring(&w->rig, i);
    }
    memset(w->posted, 0, sizeof(w->posted));
}

void loopback_world_init(LoopbackWorld *w, const void *format, uint64_t features, bool icmp_echo)
{
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;

    memset(w, 0, sizeof(*w));
    w->header_bytes = features & LOOPBACK_NEEDS(MQ_HASH_CONFIG) ? 20 : 12;
    config.queue_pairs = LOOPBACK_RIG_PAIRS;
    config.icmp_echo = icmp_echo;
    loopback_rig_init(&w->rig, &config,
                      LOOPBACK_RIG_FEATURES | *(const uint64_t *)format | features, 0);
    loopback_world_start(w);
}

void loopback_world_cleanup(LoopbackWorld *w)
{
    loopback_rig_cleanup(&w->rig);
}

void loopback_world_post(LoopbackWorld *w, unsigned int queue)
{
    loopback_rig_add_one(&w->rig, 2 * queue, LOOPBACK_WORLD_RX(queue), LOOPBACK_WORLD_RX_BYTES);
    w->posted[queue] = true;
}

bool loopback_world_collect(LoopbackWorld *w, unsigned int queue)
{
    const uint8_t *packet = w->rig.memory + LOOPBACK_WORLD_RX(queue);

    if (!w->posted[queue] || !loopback_rig_has_used(&w->rig, 2 * queue)) {
        return false;
    }
    w->n_frame = loopback_rig_wait_used(&w->rig, 2 * queue, LOOPBACK_WORLD_RX(queue)) -
                 w->header_bytes;
    memcpy(&w->received, packet, w->header_bytes);
    memcpy(w->frame, packet + w->header_bytes, w->n_frame);
    w->posted[queue] = false;
    return true;
}

void loopback_world_transmit(LoopbackWorld *w, unsigned int pair, const void *frame, size_t n)
{
    const uint32_t gpa = LOOPBACK_WORLD_TX(pair), first = 7;
    const VringSegment seg[] = {
        { gpa, first, 0 }, { gpa + first, (uint32_t)(w->header_bytes + n) - first, 0 },
    };

    memcpy(w->rig.memory + gpa, &w->sent, w->header_bytes);
    memcpy(w->rig.memory + gpa + w->header_bytes, frame, n);
    loopback_rig_add(&w->rig, 2 * pair + 1, seg, G_N_ELEMENTS(seg), gpa);
}

int loopback_world_send_bytes(LoopbackWorld *w, unsigned int pair, const void *frame, size_t n)
{
    int queue = LOOPBACK_NOWHERE;

    for (unsigned int i = 0; i < LOOPBACK_RIG_PAIRS; i++) {
        if (!w->posted[i]) {
            loopback_world_post(w, i);
        }
    }
    loopback_world_transmit(w, pair, frame, n);
    loopback_rig_wait_used(&w->rig, 2 * pair + 1, LOOPBACK_WORLD_TX(pair));
    /* Receive queues are published before the transmit queue. */
    for (unsigned int i = 0; i < LOOPBACK_RIG_PAIRS; i++) {
        if (loopback_world_collect(w, i)) {
            g_assert_cmpint(queue, ==, LOOPBACK_NOWHERE);
            g_assert_cmpuint(w->n_frame, ==, n);
            queue = (int)i;
        }
    }
    return queue;
}

int loopback_world_send(LoopbackWorld *w, unsigned int pair, const Frame *frame)
{
    const int queue = loopback_world_send_bytes(w, pair, frame->bytes, frame->n);

    if (queue != LOOPBACK_NOWHERE) {
        g_assert_cmpmem(w->frame, w->n_frame, frame->bytes, frame->n);
        g_assert_cmpuint(w->received.num_buffers, ==, 1);
    }
    return queue;
}

void loopback_world_say(LoopbackWorld *w, const char *text)
{
    g_test_message("%s", text);
    g_assert_cmpuint(loopback_rig_say(&w->rig, CTRL, text), ==, NET_CTRL_OK);
}

void loopback_world_say_wrong(LoopbackWorld *w, const char *text)
{
    g_test_message("%s", text);
    g_assert_cmpuint(loopback_rig_say(&w->rig, CTRL, text), ==, NET_CTRL_ERR);
}
