/* SPDX-License-Identifier: BSD-3-Clause */
/* The network driver: setting up queues, posting and collecting buffers, control commands. */
#include "virtio-net.h"

#include <string.h>

#include "hw/virtio/features.h"
#include "wait.h"

#define PCI_ID_NET 0x1041
/* struct virtio_net_config (5.1.4). */
enum { CONFIG_STATUS = 6, CONFIG_MAX_PAIRS = 8 };
#define STATUS_LINK_UP 1

#define CTRL_MQ 4
#define CTRL_MQ_VQ_PAIRS_SET 0
#define CTRL_ACK_NONE 0xff

/* The guest's memory, cut up by queue. */
#define RINGS_ADDR 0x1000000u
#define RINGS_STRIDE 0x10000u
#define DRIVER_AREA 0x8000u
#define DEVICE_AREA 0xc000u
#define BUFFERS_ADDR 0x2000000u
#define MAX_QUEUE_SIZE 256
#define BUFFERS_STRIDE (MAX_QUEUE_SIZE * NET_BUFFER_SIZE)

void virtio_net_init(VirtioNet *net, Qtest *qtest, unsigned int devfn)
{
    *net = (VirtioNet){ .qtest = qtest };
    virtio_pci_init(&net->dev, qtest, devfn, PCI_ID_NET);
    net->max_pairs = 1;
    if (virtio_pci_get_features(&net->dev) & VIRTIO_F_BIT(VIRTIO_NET_F_MQ)) {
        net->max_pairs = (unsigned int)virtio_pci_read_config(&net->dev, CONFIG_MAX_PAIRS, 2);
    }
    g_assert_cmpuint(net->max_pairs, <=, NET_MAX_PAIRS);
}

static void *memory_at(VirtioNet *net, uint64_t addr)
{
    return qtest_memory(net->qtest) + addr;
}

static void clear_queue(NetQueue *queue)
{
    vring_driver_cleanup(&queue->vr);
    g_clear_pointer(&queue->free, g_free);
}

static void clear_queues(VirtioNet *net)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(net->queues); i++) {
        clear_queue(&net->queues[i]);
    }
    clear_queue(&net->control);
}

void virtio_net_cleanup(VirtioNet *net)
{
    clear_queues(net);
}

static void set_up_queue(VirtioNet *net, NetQueue *queue, unsigned int index)
{
    const uint64_t addr = RINGS_ADDR + index * RINGS_STRIDE;
    const uint16_t num = virtio_pci_queue_size(&net->dev, index);
    const VringConfig config = {
        .num = num,
        .packed = net->config.packed,
        .event_idx = net->config.event_idx,
        .areas = { memory_at(net, addr), memory_at(net, addr + DRIVER_AREA),
                   memory_at(net, addr + DEVICE_AREA) },
    };
    uint32_t i;

    g_assert_cmpuint(num, >, 0);
    g_assert_cmpuint(num, <=, MAX_QUEUE_SIZE);
    *queue = (NetQueue){
        .index = index,
        .areas = { num, addr, addr + DRIVER_AREA, addr + DEVICE_AREA },
        .buffers = BUFFERS_ADDR + index * BUFFERS_STRIDE,
        .free = g_new(uint32_t, num),
        .n_free = num,
    };
    for (i = 0; i < num; i++) {
        queue->free[i] = i;
    }
    g_assert_cmpint(vring_driver_init(&queue->vr, &config, NULL, 0), ==, 0);
    virtio_pci_queue_enable(&net->dev, index, &queue->areas);
    queue->notify_addr = virtio_pci_queue_notify_addr(&net->dev, index);
}

static uint64_t wanted_features(const NetConfig *config)
{
    uint64_t features = VIRTIO_F_BIT(VIRTIO_F_VERSION_1);

    features |= config->packed ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0;
    features |= config->event_idx ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0;
    if (config->pairs > 1) {
        features |= VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_F_BIT(VIRTIO_NET_F_MQ);
    }
    return features;
}

void virtio_net_set_up(VirtioNet *net, const NetConfig *config)
{
    const uint64_t offered = virtio_pci_get_features(&net->dev);
    const uint64_t features = wanted_features(config) |
                              (offered & VIRTIO_F_BIT(VIRTIO_NET_F_MRG_RXBUF));
    unsigned int i;

    clear_queues(net);
    net->config = *config;
    g_assert_cmphex(features & ~offered, ==, 0);
    virtio_pci_set_features(&net->dev, features);
    for (i = 0; i < 2 * config->pairs; i++) {
        set_up_queue(net, &net->queues[i], i);
    }
    if (config->pairs > 1) {
        set_up_queue(net, &net->control, 2 * net->max_pairs);
    }
}

void virtio_net_driver_ok(VirtioNet *net)
{
    virtio_pci_add_status(&net->dev, VIRTIO_STATUS_DRIVER_OK);
}

void virtio_net_fill_rx(VirtioNet *net, unsigned int pair)
{
    NetQueue *rx = virtio_net_rx(net, pair);
    uint32_t cookie;

    for (cookie = 0; cookie < rx->vr.num; cookie++) {
        virtio_net_add_rx(net, rx, cookie);
    }
    virtio_net_publish(net, rx);
}

void virtio_net_start(VirtioNet *net, const NetConfig *config)
{
    unsigned int i;

    virtio_net_set_up(net, config);
    virtio_net_driver_ok(net);
    for (i = 0; i < config->pairs; i++) {
        virtio_net_fill_rx(net, i);
    }
}

bool virtio_net_link_is_up(VirtioNet *net)
{
    return virtio_pci_read_config(&net->dev, CONFIG_STATUS, 2) & STATUS_LINK_UP;
}

void virtio_net_reset(VirtioNet *net)
{
    virtio_pci_reset(&net->dev);
}

uint8_t virtio_net_set_pairs(VirtioNet *net, unsigned int pairs)
{
    NetQueue *control = &net->control;
    const uint64_t addr = control->buffers;
    uint8_t *command = memory_at(net, addr);
    const VringSegment segments[] = {
        { addr, 2, 0 },
        { addr + 2, 2, 0 },
        { addr + 4, 1, VRING_DESC_F_WRITE },
    };
    uint32_t cookie, len;

    command[0] = CTRL_MQ;
    command[1] = CTRL_MQ_VQ_PAIRS_SET;
    command[2] = (uint8_t)pairs;
    command[3] = (uint8_t)(pairs >> 8);
    command[4] = CTRL_ACK_NONE;
    vring_driver_add(&control->vr, control->vr.packed, segments, G_N_ELEMENTS(segments), 0);
    virtio_net_publish(net, control);
    WAIT_FOR(virtio_net_collect(net, control, &cookie, &len));
    /* QEMU 7.2 leaves out the WRITE flag of a used packed descriptor, so @len says nothing. */
    return command[4];
}

NetQueue *virtio_net_rx(VirtioNet *net, unsigned int pair)
{
    return &net->queues[2 * pair];
}

NetQueue *virtio_net_tx(VirtioNet *net, unsigned int pair)
{
    return &net->queues[2 * pair + 1];
}

uint8_t *virtio_net_buffer(VirtioNet *net, NetQueue *queue, uint32_t cookie)
{
    return memory_at(net, queue->buffers + cookie * NET_BUFFER_SIZE);
}

void virtio_net_add_rx(VirtioNet *net, NetQueue *queue, uint32_t cookie)
{
    const VringSegment segment = { queue->buffers + cookie * NET_BUFFER_SIZE, net->config.rx_size,
                                   VRING_DESC_F_WRITE };

    vring_driver_add(&queue->vr, queue->vr.packed, &segment, 1, cookie);
}

void virtio_net_publish(VirtioNet *net, NetQueue *queue)
{
    vring_driver_publish(&queue->vr, queue->vr.packed);
    if (vring_driver_needs_kick(&queue->vr, queue->vr.packed)) {
        qtest_write(net->qtest, 2, queue->notify_addr, queue->index);
    }
}

bool virtio_net_collect(VirtioNet *net, NetQueue *queue, uint32_t *cookie, uint32_t *len)
{
    int ret = vring_driver_collect(&queue->vr, queue->vr.packed, cookie, len);

    if (ret < 0) {
        g_autofree char *words = vring_error_to_string(&queue->vr.error);

        g_error("queue %u: %s", queue->index, words);
    }
    return ret > 0;
}
