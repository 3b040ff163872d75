/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net device as a guest's driver has it.
 */
#include "net-device.h"

#include <endian.h>

#include "guest-device.h"
#include "hw/virtio/features.h"

#define CONFIG_MAX_PAIRS 8      /* max_virtqueue_pairs in the configuration space (5.1.4) */

static bool make_queues(NetDevice *device, GError **errp)
{
    const BenchOptions *options = device->options;
    const uint64_t size = net_pair_memory_size(options) * (uint64_t)options->queues +
                          net_control_memory_size();
    unsigned int i;

    device->memory = guest_memory_new((unsigned int)options->ranges, size, 0, errp);
    if (!device->memory || !net_control_init(&device->control, options, device->memory, errp)) {
        return false;
    }
    device->pairs = g_new0(NetPair *, (gsize)options->queues);
    for (i = 0; i < (unsigned int)options->queues; i++) {
        device->pairs[i] = net_pair_new(options, i, device->memory, errp);
        if (!device->pairs[i]) {
            return false;
        }
        device->n_pairs++;
        net_pair_fill(device->pairs[i]);
    }
    return true;
}

bool net_device_init(NetDevice *device, const BenchOptions *options,
                     const VhostDeviceNotify *notify, void *opaque, GError **errp)
{
    *device = (NetDevice){ .options = options, .control_index = -1 };
    if (!make_queues(device, errp)) {
        return false;
    }
    device->dev = guest_device_connect(options, notify, opaque, errp);
    return device->dev;
}

void net_device_cleanup(NetDevice *device)
{
    unsigned int i;

    if (device->dev) {
        device->dev->ops->free(device->dev);
    }
    for (i = 0; i < device->n_pairs; i++) {
        net_pair_free(device->pairs[i]);
    }
    g_free(device->pairs);
    net_control_cleanup(&device->control);
    guest_memory_free(device->memory);
}

/* --- start --- */

/*
 * A back end without configuration space leaves the control queue to the VMM, though it
 * may offer the feature (DPDK's vhost): there all pairs are in use once they are enabled.
 */
static bool wants_control(const NetDevice *device)
{
    const uint64_t needed = VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_F_BIT(VIRTIO_NET_F_MQ);
    const VhostDevice *dev = device->dev;

    return device->n_pairs > 1 && dev->has_config && (dev->features & needed) == needed;
}

/* The control queue is behind all pairs that the device has (5.1.2). */
static bool find_control(NetDevice *device, GError **errp)
{
    VhostDevice *dev = device->dev;
    uint16_t pairs;

    if (dev->ops->get_config(dev, &pairs, CONFIG_MAX_PAIRS, sizeof(pairs), errp) < 0) {
        return false;
    }
    pairs = le16toh(pairs);
    if (pairs < device->n_pairs || 2u * pairs >= dev->queue_count) {
        return bench_fail(errp, "the back end has %u virtqueues, no control queue behind %u pairs",
                          dev->queue_count, pairs);
    }
    device->control_index = 2 * pairs;
    return true;
}

static bool start_queues(NetDevice *device, GError **errp)
{
    unsigned int i;

    for (i = 0; i < 2 * device->n_pairs; i++) {
        if (!guest_queue_start(&device->pairs[i / 2]->queue[i % 2].q, device->dev, i, errp)) {
            return false;
        }
    }
    return device->control_index < 0 ||
           guest_queue_start(&device->control.queue, device->dev,
                             (unsigned int)device->control_index, errp);
}

bool net_device_start(NetDevice *device, GError **errp)
{
    VhostDevice *dev = device->dev;

    device->features = guest_queue_features(device->options);
    if (!guest_device_check(dev, device->options, device->features, errp)) {
        return false;
    }
    if (dev->queue_count < 2 * device->n_pairs) {
        return bench_fail(errp, "--queue-pairs: the back end has %u virtqueues, 2 for a pair",
                          dev->queue_count);
    }
    if (wants_control(device)) {
        device->features |= VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_F_BIT(VIRTIO_NET_F_MQ);
        if (!find_control(device, errp)) {
            return false;
        }
    }
    if (dev->ops->set_features(dev, device->features, errp) < 0 ||
        dev->ops->set_memory(dev, device->memory->map, errp) < 0 ||
        !start_queues(device, errp) || !guest_device_driver_ok(dev, errp)) {
        return false;
    }
    return device->control_index < 0 ||
           net_control_set_pairs(&device->control, device->n_pairs, errp);
}

/* --- stop --- */

bool net_device_stop(NetDevice *device, GError **errp)
{
    VhostDevice *dev = device->dev;
    unsigned int i;

    for (i = 0; i < 2 * device->n_pairs; i++) {
        if (dev->ops->ring_stop(dev, i, NULL, errp) < 0) {
            return false;
        }
    }
    if ((device->control_index >= 0 &&
         dev->ops->ring_stop(dev, (unsigned int)device->control_index, NULL, errp) < 0) ||
        dev->ops->reset(dev, errp) < 0) {
        return false;
    }
    for (i = 0; i < device->n_pairs; i++) {
        NetPair *pair = device->pairs[i];

        if (!net_pair_is_broken(pair)) {
            pair->errors.other += net_pair_collect(pair);
        }
    }
    return true;
}
