/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vDPA device as a whole: features, status, reset and configuration space.
 *
 * Threads: the main thread.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define BIT(n) (UINT64_C(1) << (n))

/* How long a device may take to forget everything. */
#define RESET_TIMEOUT_US (2 * G_USEC_PER_SEC)
#define RESET_POLL_US 1000

/*
 * What is accepted whenever it is offered.  ACCESS_PLATFORM: the device sees memory through our
 * mappings.  ORDER_PLATFORM: on x86 the barriers among CPUs, which we use, order for devices, too.
 */
static uint64_t platform_features(void)
{
    uint64_t features = BIT(VIRTIO_F_ACCESS_PLATFORM);

#if defined(__x86_64__) || defined(__i386__)
    features |= BIT(VIRTIO_F_ORDER_PLATFORM);
#endif
    return features;
}

int vhost_vdpa_check_connected(VhostVdpa *d, GError **errp)
{
    return d->dev.connected ? 0 : vhost_vdpa_error(errp, ENOTCONN, "%s is gone", d->dev.id);
}

static int get_status(VhostVdpa *d, uint8_t *status, GError **errp)
{
    return vhost_vdpa_call(d, VHOST_VDPA_GET_STATUS, status, errp);
}

/* Who writes 0 has to wait until it reads 0 (4.1.4.3.2); some parents leave that to us. */
static int await_reset(VhostVdpa *d, GError **errp)
{
    const gint64 deadline = g_get_monotonic_time() + RESET_TIMEOUT_US;
    uint8_t status;
    int ret = get_status(d, &status, errp);

    while (ret == 0 && status != 0) {
        if (g_get_monotonic_time() > deadline) {
            vhost_vdpa_lose(d, "it does not finish a reset");
            return vhost_vdpa_error(errp, ENOTCONN, "%s does not finish a reset", d->dev.id);
        }
        g_usleep(RESET_POLL_US);
        ret = get_status(d, &status, errp);
    }
    return ret;
}

/*
 * Without IOTLB_PERSIST a device may have lost its mappings by the reset, and the kernel, which
 * still has them on its list, would refuse to map the same again.
 */
static int forget_lost_maps(VhostVdpa *d, GError **errp)
{
    if (vhost_vdpa_has(d, VHOST_BACKEND_F_IOTLB_PERSIST) && !d->maps_doubtful) {
        return 0;
    }
    if (vhost_vdpa_unmap_all(d, errp) < 0) {
        /* What was to be undone is not there: the kernel's list and the device differ. */
        vhost_vdpa_lose(d, "its memory cannot be unmapped after a reset");
        return -ENOTCONN;
    }
    d->maps_doubtful = false;
    return 0;
}

/*
 * Kicks end before the reset, and notifications after it: whoever changes the descriptor of one
 * while the device runs has its interrupt set up anew.
 */
int vhost_vdpa_reset(VhostDevice *dev, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    uint8_t status = 0;
    int ret = vhost_vdpa_check_connected(d, errp);

    if (ret < 0) {
        return ret;
    }
    vhost_vdpa_unbind_rings(d, VHOST_RING_KICK);
    ret = vhost_vdpa_call(d, VHOST_VDPA_SET_STATUS, &status, errp);
    if (ret == 0) {
        ret = await_reset(d, errp);
    }
    if (ret < 0) {
        return ret;
    }
    vhost_vdpa_unbind_rings(d, VHOST_RING_CALL);
    vhost_vdpa_unmap_doorbells(d);      /* where they are may depend on features */
    vhost_vdpa_forget_rings(d);
    d->status = 0;
    d->suspended = false;
    d->dev.rings_apart = d->dev.rings_apart && !d->apart_lost;
    return forget_lost_maps(d, errp);
}

static int write_status(VhostVdpa *d, uint8_t status, GError **errp)
{
    uint8_t now;
    int ret = vhost_vdpa_call(d, VHOST_VDPA_SET_STATUS, &status, errp);

    if (ret == 0) {
        d->status = status;
        ret = get_status(d, &now, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (now & VIRTIO_STATUS_NEEDS_RESET) {
        return vhost_vdpa_error(errp, EIO, "%s: the device needs a reset", d->dev.id);
    }
    if (status & ~now & VIRTIO_STATUS_FEATURES_OK) {
        return vhost_vdpa_error(errp, EINVAL,
                                "%s: the device does not take features 0x%" PRIx64 " together",
                                d->dev.id, d->features);
    }
    if (status & ~now) {
        return vhost_vdpa_error(errp, EIO, "%s: the device does not take status 0x%x, only 0x%x",
                                d->dev.id, status, now);
    }
    return 0;
}

static int vdpa_set_features(VhostDevice *dev, uint64_t features, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret = vhost_vdpa_check_connected(d, errp);

    if (ret < 0) {
        return ret;
    }
    if (features & ~dev->features) {
        return vhost_vdpa_error(errp, EINVAL, "%s does not offer features 0x%" PRIx64, dev->id,
                                features & ~dev->features);
    }
    /* A start that failed before its end leaves it there. */
    ret = d->status ? vhost_vdpa_reset(dev, errp) : 0;
    if (ret == 0) {
        ret = write_status(d, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER, errp);
    }
    if (ret < 0) {
        return ret;
    }
    d->features = features | (d->offered & platform_features());
    ret = vhost_vdpa_call(d, VHOST_SET_FEATURES, &d->features, errp);
    if (ret < 0) {
        return ret;
    }
    vhost_vdpa_find_groups(d);
    return 0;
}

/* Told at each start, for some parents forget it in a reset. */
static int set_config_call(VhostVdpa *d, GError **errp)
{
    int fd = d->config_call.fd;

    return vhost_vdpa_call(d, VHOST_VDPA_SET_CONFIG_CALL, &fd, errp);
}

static int vdpa_set_status(VhostDevice *dev, uint8_t status, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    const bool starts = status & ~d->status & VIRTIO_STATUS_DRIVER_OK;
    int ret = vhost_vdpa_check_connected(d, errp);

    if (ret < 0) {
        return ret;
    }
    if (status == 0) {
        return vhost_vdpa_reset(dev, errp);
    }
    if (starts) {
        ret = set_config_call(d, errp);
        if (ret == 0) {
            ret = vhost_vdpa_enable_rings(d, errp);
        }
    }
    if (ret == 0) {
        ret = write_status(d, status, errp);
        /* A parent makes what it needs now, and if it cannot it may take down more than that. */
        d->maps_doubtful |= starts && ret < 0;
    }
    return ret;
}

/* What the kernel is asked for, with room for @size bytes; NULL and @errp: not in the space. */
static struct vhost_vdpa_config *make_config(VhostVdpa *d, uint32_t offset, uint32_t size,
                                             int *ret, GError **errp)
{
    struct vhost_vdpa_config *config;

    *ret = vhost_vdpa_check_connected(d, errp);
    if (*ret < 0) {
        return NULL;
    }
    if (!d->dev.has_config) {
        *ret = vhost_vdpa_error(errp, ENOTSUP, "%s has no configuration space", d->dev.id);
        return NULL;
    }
    if (size > d->config_size || offset > d->config_size - size) {
        *ret = vhost_vdpa_error(errp, EINVAL,
                                "%s: %" PRIu32 " bytes of configuration at %" PRIu32 ", it has %"
                                PRIu32, d->dev.id, size, offset, d->config_size);
        return NULL;
    }
    config = g_malloc(sizeof(*config) + size);
    config->off = offset;
    config->len = size;
    return config;
}

static int vdpa_get_config(VhostDevice *dev, void *data, uint32_t offset, uint32_t size,
                           GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret;
    g_autofree struct vhost_vdpa_config *config = make_config(d, offset, size, &ret, errp);

    if (!config || size == 0) {
        return ret;
    }
    ret = vhost_vdpa_call(d, VHOST_VDPA_GET_CONFIG, config, errp);
    if (ret < 0) {
        return ret;
    }
    memcpy(data, config->buf, size);
    return 0;
}

static int vdpa_set_config(VhostDevice *dev, const void *data, uint32_t offset, uint32_t size,
                           GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret;
    g_autofree struct vhost_vdpa_config *config = make_config(d, offset, size, &ret, errp);

    if (!config || size == 0) {
        return ret;
    }
    memcpy(config->buf, data, size);
    ret = vhost_vdpa_call(d, VHOST_VDPA_SET_CONFIG, config, errp);
    return ret;
}

static void vdpa_forget_memory(VhostDevice *dev)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    g_autoptr(GError) error = NULL;

    if (vhost_vdpa_check_connected(d, NULL) == 0 && vhost_vdpa_unmap_all(d, &error) < 0) {
        g_warning("%s", error->message);
    }
}

const VhostDeviceOps vhost_vdpa_ops = {
    .type = "vhost-vdpa",
    .set_features = vdpa_set_features,
    .set_memory = vhost_vdpa_set_memory,
    .set_status = vdpa_set_status,
    .ring_start = vhost_vdpa_ring_start,
    .ring_enable = vhost_vdpa_ring_enable,
    .ring_stop = vhost_vdpa_ring_stop,
    .ring_set_fd = vhost_vdpa_ring_set_fd,
    .ring_max_num = vhost_vdpa_ring_max_num,
    .ring_isolate = vhost_vdpa_ring_isolate,
    .ring_doorbell = vhost_vdpa_ring_doorbell,
    .suspend = vhost_vdpa_suspend,
    .resume = vhost_vdpa_resume,
    .ring_base = vhost_vdpa_ring_base,
    .get_config = vdpa_get_config,
    .set_config = vdpa_set_config,
    .reset = vhost_vdpa_reset,
    .forget_memory = vdpa_forget_memory,
    .free = vhost_vdpa_free,
};
