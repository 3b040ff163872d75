/* SPDX-License-Identifier: BSD-3-Clause */
/* A device side made of paper.  See fake-device.h. */
#include "lib/fake-device.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "hw/virtio/features.h"
#include "util/event-notifier.h"

#define WAIT_MS 10000

/* Writes the call down.  0, or the failure that the test wants. */
static int note(VhostDevice *dev, GError **errp, const char *format, ...) G_GNUC_PRINTF(3, 4);

static int note(VhostDevice *dev, GError **errp, const char *format, ...)
{
    FakeDevice *fake = (FakeDevice *)dev;
    g_autofree char *call = NULL;
    va_list args;

    va_start(args, format);
    call = g_strdup_vprintf(format, args);
    va_end(args);
    g_string_append_printf(fake->calls, "%s%s", fake->calls->len ? " " : "", call);
    if (!fake->fails || strcmp(call, fake->fails) != 0) {
        return 0;
    }
    if (fake->fail_with == ENOTCONN) {
        dev->connected = false;
    }
    g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s fails, as the test wants", call);
    return -fake->fail_with;
}

/* Where the control queue finds what the ring names. */
static void *find_for_ctrl(void *opaque, const VringSegment *seg)
{
    const FakeDevice *fake = opaque;
    unsigned int i;

    for (i = 0; i < fake->map->n; i++) {
        const MemoryRegion *region = fake->map->regions[i];
        const uint64_t offset = seg->addr - region->iova;

        if (offset < region->size && seg->len <= region->size - offset &&
            (region->control || !fake->isolated)) {
            return region->host + offset;
        }
    }
    return NULL;
}

static bool is_ctrl(const FakeDevice *fake, unsigned int index)
{
    return fake->ctrl && index == fake->ctrl_index;
}

/* The control queue runs, or stands still, as everything else says. */
static void update_ctrl(FakeDevice *fake)
{
    const struct FakeRing *ring = &fake->rings[fake->ctrl_index];

    if (fake->ctrl && ring->started) {
        ctrl_device_run(fake->ctrl, ring->enabled && fake->map && !fake->suspended &&
                                    fake->status & VIRTIO_STATUS_DRIVER_OK);
    }
}

static void attach_ctrl(FakeDevice *fake)
{
    struct FakeRing *ring = &fake->rings[fake->ctrl_index];
    const CtrlDeviceRing where = {
        .vr = &ring->vr,
        .kick_fd = ring->ring.kick_fd,
        .call_fd = ring->ring.call_fd,
        .find = find_for_ctrl,
        .opaque = fake,
    };

    ctrl_device_attach(fake->ctrl, &where);
    update_ctrl(fake);
}

static int fake_set_features(VhostDevice *dev, uint64_t features, GError **errp)
{
    ((FakeDevice *)dev)->features = features;
    return note(dev, errp, "features");
}

static int fake_set_memory(VhostDevice *dev, const MemoryMap *map, GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;

    g_assert_false(fake->suspended);
    if (fake->ctrl) {
        ctrl_device_run(fake->ctrl, false);
    }
    fake->map = map;
    update_ctrl(fake);
    return note(dev, errp, "memory");
}

static int fake_set_status(VhostDevice *dev, uint8_t status, GError **errp)
{
    ((FakeDevice *)dev)->status = status;
    update_ctrl((FakeDevice *)dev);
    return note(dev, errp, "status:%x", status);
}

static bool is_back(const struct FakeRing *kept, const VhostRing *ring)
{
    const VringBase base = vring_device_base(&kept->vr);

    return ring->areas.desc == kept->ring.areas.desc && ring->num == kept->ring.num &&
           ring->base.avail == base.avail && ring->base.used == base.used;
}

static void forget_ring(FakeDevice *fake, unsigned int index)
{
    struct FakeRing *ring = &fake->rings[index];

    if (ring->started && is_ctrl(fake, index)) {
        ctrl_device_detach(fake->ctrl);
    }
    if (ring->started || ring->kept) {
        vring_device_cleanup(&ring->vr);
    }
    ring->started = ring->enabled = ring->kept = false;
}

static int fake_ring_start(VhostDevice *dev, unsigned int index, const VhostRing *ring,
                           GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;
    struct FakeRing *r = &fake->rings[index];
    const VringConfig config = {
        .num = ring->num,
        .packed = fake->features & VIRTIO_F_BIT(VIRTIO_F_RING_PACKED),
        .event_idx = fake->features & VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
        .in_order = fake->features & VIRTIO_F_BIT(VIRTIO_F_IN_ORDER),
        .areas = ring->areas,
        .base = ring->base,
    };
    int ret = note(dev, errp, "start:%u", index);

    g_assert_false(r->started);
    if (ret < 0) {
        return ret;
    }
    if (!r->kept || !is_back(r, ring)) {
        const bool enabled = r->enabled;

        forget_ring(fake, index);
        r->enabled = enabled;
        g_assert_cmpint(vring_device_init(&r->vr, &config), ==, 0);
    }
    r->ring = *ring;
    r->started = true;
    r->kept = false;
    if (is_ctrl(fake, index)) {
        attach_ctrl(fake);
    }
    return 0;
}

static int fake_ring_enable(VhostDevice *dev, unsigned int index, bool enable, GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;

    fake->rings[index].enabled = enable;
    update_ctrl(fake);
    return note(dev, errp, "enable:%u:%d", index, enable);
}

static void stop_ring(FakeDevice *fake, unsigned int index)
{
    struct FakeRing *ring = &fake->rings[index];

    if (!fake->keeps_in_flight) {
        forget_ring(fake, index);
        return;
    }
    if (is_ctrl(fake, index)) {
        ctrl_device_detach(fake->ctrl);
    }
    ring->kept = true;
    ring->started = ring->enabled = false;
}

static int fake_ring_stop(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;
    int ret = note(dev, errp, "stop:%u", index);

    g_assert_true(fake->rings[index].started);
    if (fake->stopping) {
        fake->stopping(fake, index, fake->opaque);
    }
    if (ret < 0) {
        return ret;     /* it may go on with the ring, for all that is known */
    }
    if (is_ctrl(fake, index)) {
        ctrl_device_run(fake->ctrl, false);
    }
    if (base) {
        *base = vring_device_base(&fake->rings[index].vr);
    }
    stop_ring(fake, index);
    return 0;
}

static int fake_ring_base(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;
    int ret = note(dev, errp, "base:%u", index);

    g_assert_true(fake->rings[index].started && fake->suspended);
    *base = vring_device_base(&fake->rings[index].vr);
    return ret;
}

static int fake_ring_set_fd(VhostDevice *dev, unsigned int index, VhostRingFd which, int fd,
                            GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;
    VhostRing *ring = &fake->rings[index].ring;
    int ret = note(dev, errp, "%s:%u", which == VHOST_RING_KICK ? "kick" : "call", index);

    g_assert_true(fake->rings[index].started);
    if (ret == 0) {
        *(which == VHOST_RING_KICK ? &ring->kick_fd : &ring->call_fd) = fd;
    }
    if (ret == 0 && is_ctrl(fake, index)) {
        ctrl_device_set_fds(fake->ctrl, ring->kick_fd, ring->call_fd);
    }
    return ret;
}

static int fake_suspend(VhostDevice *dev, GError **errp)
{
    int ret = note(dev, errp, "suspend");

    ((FakeDevice *)dev)->suspended |= ret == 0;
    update_ctrl((FakeDevice *)dev);
    return ret;
}

static int fake_resume(VhostDevice *dev, GError **errp)
{
    int ret = note(dev, errp, "resume");

    g_assert_true(((FakeDevice *)dev)->suspended);
    ((FakeDevice *)dev)->suspended = ret < 0;
    update_ctrl((FakeDevice *)dev);
    return ret;
}

static bool fake_ring_isolate(VhostDevice *dev, unsigned int index)
{
    FakeDevice *fake = (FakeDevice *)dev;

    fake->isolated = note(dev, NULL, "isolate:%u", index) == 0 && fake->isolates;
    return fake->isolated;
}

static int check_config(const FakeDevice *fake, uint32_t offset, uint32_t size)
{
    if (!fake->config_size) {
        return -ENOTSUP;
    }
    return size <= fake->config_size && offset <= fake->config_size - size ? 0 : -EINVAL;
}

static int fake_get_config(VhostDevice *dev, void *data, uint32_t offset, uint32_t size,
                           GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;
    int ret = check_config(fake, offset, size);

    if (ret == 0) {
        memcpy(data, fake->config + offset, size);
    }
    return ret;
}

static int fake_set_config(VhostDevice *dev, const void *data, uint32_t offset, uint32_t size,
                           GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;
    int ret = check_config(fake, offset, size);

    if (ret == 0) {
        ret = note(dev, errp, "config:%u+%u", offset, size);
    }
    if (ret == 0) {
        memcpy(fake->config + offset, data, size);
    }
    return ret;
}

static int fake_send_rarp(VhostDevice *dev, uint64_t mac, GError **errp)
{
    return note(dev, errp, "rarp:%012" PRIx64, mac);
}

static int fake_reset(VhostDevice *dev, GError **errp)
{
    FakeDevice *fake = (FakeDevice *)dev;
    unsigned int i;

    for (i = 0; i < FAKE_MAX_RINGS; i++) {
        forget_ring(fake, i);
    }
    fake->status = 0;
    fake->suspended = fake->isolated = false;
    fake->map = NULL;
    return note(dev, errp, "reset");
}

static const VhostDeviceOps fake_ops = {
    .type = "fake",
    .set_features = fake_set_features,
    .set_memory = fake_set_memory,
    .set_status = fake_set_status,
    .ring_start = fake_ring_start,
    .ring_enable = fake_ring_enable,
    .ring_stop = fake_ring_stop,
    .ring_set_fd = fake_ring_set_fd,
    .get_config = fake_get_config,
    .set_config = fake_set_config,
    .send_rarp = fake_send_rarp,
    .reset = fake_reset,
};

void fake_device_init(FakeDevice *fake, uint64_t features, unsigned int queue_count)
{
    *fake = (FakeDevice){
        .dev = {
            .ops = &fake->ops,
            .id = (char *)"fake",
            .connected = true,
            .tells_base = true,
            .features = features,
            .queue_count = queue_count,
            .max_regions = MEMORY_MAP_MAX_REGIONS,
        },
        .ops = fake_ops,
        .calls = g_string_new(NULL),
    };
}

void fake_device_can_suspend(FakeDevice *fake)
{
    fake->ops.suspend = fake_suspend;
    fake->ops.ring_base = fake_ring_base;
    fake->ops.resume = fake_resume;
}

void fake_device_be_net(FakeDevice *fake, const void *config, uint32_t size)
{
    g_assert_cmpuint(size, <=, FAKE_CONFIG);
    fake->dev.device_type = VIRTIO_ID_NET;
    fake->dev.has_config = true;
    memcpy(fake->config, config, size);
    fake->config_size = size;
}

void fake_device_host_ctrl(FakeDevice *fake, unsigned int index, CtrlDevice *ctrl)
{
    fake->ctrl = ctrl;
    fake->ctrl_index = index;
}

void fake_device_can_isolate(FakeDevice *fake)
{
    fake->ops.ring_isolate = fake_ring_isolate;
    fake->isolates = true;
}

void fake_device_cleanup(FakeDevice *fake)
{
    unsigned int i;

    for (i = 0; i < FAKE_MAX_RINGS; i++) {
        forget_ring(fake, i);
    }
    g_string_free(fake->calls, TRUE);
}

char *fake_device_take_calls(FakeDevice *fake)
{
    char *calls = g_string_free(fake->calls, FALSE);

    fake->calls = g_string_new(NULL);
    return calls;
}

void fake_device_go(FakeDevice *fake)
{
    unsigned int i;

    fake->dev.connected = false;
    if (fake->ctrl) {
        forget_ring(fake, fake->ctrl_index);    /* its thread uses our memory, which goes now */
    }
    fake->dev.notify->gone(fake->dev.notify_opaque);
    for (i = 0; i < FAKE_MAX_RINGS; i++) {
        forget_ring(fake, i);
    }
}

void fake_device_come(FakeDevice *fake)
{
    fake->dev.connected = true;
    fake->fails = NULL;
    fake->dev.notify->ready(fake->dev.notify_opaque);
}

uint16_t fake_device_take(FakeDevice *fake, unsigned int index, VringSegment *seg)
{
    struct FakeRing *ring = &fake->rings[index];
    EventNotifier kick = { ring->ring.kick_fd };
    uint16_t id = 0;
    int n = vring_device_take(&ring->vr, ring->vr.packed, fake->map, seg, 1, &id);

    while (n == 0) {
        struct pollfd pfd = { .fd = kick.fd, .events = POLLIN };

        if (!vring_device_enable_kick(&ring->vr, ring->vr.packed)) {
            g_assert_cmpint(poll(&pfd, 1, WAIT_MS), ==, 1);
            event_notifier_test_and_clear(&kick);
        }
        n = vring_device_take(&ring->vr, ring->vr.packed, fake->map, seg, 1, &id);
    }
    g_assert_cmpint(n, ==, 1);
    return id;
}

void fake_device_put(FakeDevice *fake, unsigned int index, uint32_t id, uint32_t len)
{
    struct FakeRing *ring = &fake->rings[index];
    EventNotifier call = { ring->ring.call_fd };

    vring_device_put(&ring->vr, ring->vr.packed, id, len);
    vring_device_publish(&ring->vr, ring->vr.packed);
    if (vring_device_needs_call(&ring->vr, ring->vr.packed)) {
        event_notifier_set(&call);
    }
}
