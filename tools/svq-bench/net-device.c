/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net device as a guest's driver has it.
 */
#include "net-device.h"

#include <errno.h>
#include <stdio.h>

#include "guest-device.h"
#include "hw/net/net-ctrl.h"
#include "hw/vhost/vhost-user-client.h"
#include "hw/virtio/features.h"

#define CONFIG_BYTES 24         /* of the configuration space, as far as limits are in it (5.1.4) */
#define CONFIG_MQ_BYTES 10      /* without RSS and HASH_REPORT */

#define HASH_REPORT VIRTIO_F_BIT(57)
#define RSS         VIRTIO_F_BIT(60)

/* GUEST_CSUM, _TSO4, _TSO6, _ECN, _UFO, _USO4, _USO6: what GUEST_OFFLOADS_SET switches. */
#define GUEST_OFFLOADS \
    (VIRTIO_F_BIT(1) | VIRTIO_F_BIT(7) | VIRTIO_F_BIT(8) | VIRTIO_F_BIT(9) | VIRTIO_F_BIT(10) | \
     VIRTIO_F_BIT(54) | VIRTIO_F_BIT(55))

static bool make_queues(NetDevice *device, GError **errp)
{
    const BenchOptions *options = device->options;
    uint64_t size = net_pair_memory_size(options) * (uint64_t)options->queues;
    unsigned int i;

    if (!net_control_parse(&device->control, options, errp)) {
        return false;
    }
    size += net_control_memory_size(&device->control);
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

/* What commands can be about, and a device that is saved or loaded should have. */
static uint64_t control_features(const NetDevice *device)
{
    const BenchOptions *options = device->options;
    uint64_t features = VIRTIO_NET_CTRL_FEATURES | VIRTIO_F_BIT(VIRTIO_NET_F_STATUS);

    if (!options->control && !options->save_state && !options->load_state) {
        features = VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_F_BIT(VIRTIO_NET_F_MQ);
    } else if (options->control_only) {
        features |= GUEST_OFFLOADS;
    } else {
        features &= ~HASH_REPORT;       /* it makes headers longer than a pair's are */
    }
    return virtio_features_close(features & device->dev->features);
}

/*
 * A back end without configuration space leaves the control queue to the VMM, though it
 * may offer the feature (DPDK's vhost): there all pairs are in use once they are enabled.
 */
static bool wants_control(const NetDevice *device)
{
    const BenchOptions *options = device->options;
    const uint64_t features = control_features(device);

    if (!device->dev->has_config || !(features & VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ))) {
        return false;
    }
    return options->control || options->save_state || options->load_state ||
           (device->n_pairs > 1 && features & VIRTIO_F_BIT(VIRTIO_NET_F_MQ));
}

static bool find_control(NetDevice *device, GError **errp)
{
    VhostDevice *dev = device->dev;
    const uint32_t bytes = device->features & (RSS | HASH_REPORT) ? CONFIG_BYTES : CONFIG_MQ_BYTES;
    const bool sized = device->features & (RSS | HASH_REPORT | VIRTIO_F_BIT(VIRTIO_NET_F_MQ));
    uint8_t config[CONFIG_BYTES] = { 0 };
    NetCtrlLimits limits;

    if (sized && dev->ops->get_config(dev, config, 0, bytes, errp) < 0) {
        return false;
    }
    net_ctrl_limits_init(&limits, device->features, config, sizeof(config));
    if (limits.max_pairs < device->n_pairs) {
        return bench_fail(errp, "--queue-pairs: the back end has %u, not %u", limits.max_pairs,
                          device->n_pairs);
    }
    if ((uint32_t)net_ctrl_vq_index(&limits) >= dev->queue_count) {
        return bench_fail(errp, "the back end has %u virtqueues, no control queue behind %u pairs",
                          dev->queue_count, limits.max_pairs);
    }
    device->control_index = net_ctrl_vq_index(&limits);
    return true;
}

static bool choose_features(NetDevice *device, GError **errp)
{
    const BenchOptions *options = device->options;
    VhostDevice *dev = device->dev;

    device->features = guest_queue_features(options);
    if (!guest_device_check(dev, options, device->features, errp)) {
        return false;
    }
    if (dev->queue_count < 2 * device->n_pairs) {
        return bench_fail(errp, "--queue-pairs: the back end has %u virtqueues, 2 for a pair",
                          dev->queue_count);
    }
    /* More pairs come with one of these (5.1.2), at a device that has a configuration space. */
    if (dev->has_config && device->n_pairs > 1 &&
        !(dev->features & (VIRTIO_F_BIT(VIRTIO_NET_F_MQ) | RSS))) {
        return bench_fail(errp, "--queue-pairs: the back end has 1, not %u", device->n_pairs);
    }
    if ((options->save_state || options->load_state) && !vhost_user_client_has_state(dev)) {
        return bench_fail(errp, "--%s: the back end does not offer DEVICE_STATE",
                          options->save_state ? "save-state" : "load-state");
    }
    if (wants_control(device)) {
        device->features |= control_features(device);
        return find_control(device, errp);
    }
    return !options->control || bench_fail(errp, "--control: the back end has no control queue");
}

/* --- state --- */

/* False and errno: it could not.  What @path is stays what it is, be it a pipe. */
static bool write_file(const char *path, GBytes *bytes)
{
    FILE *file = fopen(path, "we");
    const gsize size = g_bytes_get_size(bytes);
    bool ok;

    if (!file) {
        return false;
    }
    ok = fwrite(g_bytes_get_data(bytes, NULL), 1, size, file) == size;
    return fclose(file) == 0 && ok;
}

static bool save_state(const NetDevice *device, GError **errp)
{
    const char *path = device->options->save_state;
    g_autoptr(GBytes) state = vhost_user_client_save_state(device->dev, errp);

    if (!state) {
        g_prefix_error(errp, "--save-state '%s': ", path);
        return false;
    }
    return write_file(path, state) ||
           bench_fail(errp, "--save-state '%s': %s", path, g_strerror(errno));
}

static bool load_state(const NetDevice *device, GError **errp)
{
    const char *path = device->options->load_state;
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) state = NULL;
    char *data;
    gsize size;
    int ret;

    if (!g_file_get_contents(path, &data, &size, &err)) {
        return bench_fail(errp, "--load-state: %s", err->message);
    }
    state = g_bytes_new_take(data, size);
    ret = vhost_user_client_load_state(device->dev, state, &err);
    /* It may say so at the end, or read no further. */
    if (ret == -EREMOTEIO || ret == -EPIPE) {
        return bench_fail(errp, "--load-state '%s': the back end does not take it; its log says "
                          "why", path);
    }
    return ret == 0 || bench_fail(errp, "--load-state '%s': %s", path, err->message);
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

    if (!choose_features(device, errp)) {
        return false;
    }
    if (dev->ops->set_features(dev, device->features, errp) < 0 ||
        dev->ops->set_memory(dev, device->memory->map, errp) < 0 ||
        (device->options->load_state && !load_state(device, errp)) ||
        !start_queues(device, errp) || !guest_device_driver_ok(dev, errp)) {
        return false;
    }
    return device->control_index < 0 || net_control_run(&device->control, errp);
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
        (device->options->save_state && !save_state(device, errp)) ||
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
