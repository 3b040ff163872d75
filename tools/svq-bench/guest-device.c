/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the drivers of all device types do with a vhost-user back end.
 */
#include "guest-device.h"

#include "hw/vhost/vhost-user-client.h"
#include "hw/virtio/features.h"

VhostDevice *guest_device_connect(const BenchOptions *options, const VhostDeviceNotify *notify,
                                  void *opaque, GError **errp)
{
    const VhostSocketAddress address = { .path = options->socket_path, .fd = -1 };
    VhostDevice *dev = vhost_user_client_new(options->socket_path, &address, errp);

    if (dev) {
        dev->notify_opaque = opaque;
        dev->notify = notify;
    }
    return dev;
}

bool guest_device_check(const VhostDevice *dev, const BenchOptions *options, uint64_t features,
                        GError **errp)
{
    if (features & ~dev->features) {
        g_autofree char *missing = virtio_features_to_string(features & ~dev->features);

        return bench_fail(errp, "%s: the back end does not offer %s", options->socket_path,
                          missing);
    }
    if (dev->max_regions < (unsigned int)options->ranges) {
        return bench_fail(errp, "--ranges: the back end takes %u memory regions at most",
                          dev->max_regions);
    }
    return true;
}

bool guest_device_driver_ok(VhostDevice *dev, GError **errp)
{
    const uint8_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                           VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK;

    return dev->ops->set_status(dev, status, errp) == 0;
}
