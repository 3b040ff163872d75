/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a vDPA device and the kernel under it can, and what follows from what they cannot.
 *
 * How it works.  Calls came to the interface over years, and drivers implement what suits them, so
 * each may be missing.  What must be there is an error; everything else has a value to go on with,
 * and the log says once, when the device is opened, what is lost by it.
 *
 * Threads: the main thread.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define BIT(n) (UINT64_C(1) << (n))

/* A vhost-user message names a virtqueue with 8 bits; whoever asks for more has no use for it. */
#define VDPA_MAX_QUEUES 256

/* Two for each of these are the most that can be told apart. */
#define VDPA_MAX_GROUPS (2 * VDPA_MAX_QUEUES)

/* We know what these mean. */
#define BACKEND_FEATURES \
    (BIT(VHOST_BACKEND_F_IOTLB_MSG_V2) | BIT(VHOST_BACKEND_F_IOTLB_BATCH) | \
     BIT(VHOST_BACKEND_F_IOTLB_ASID) | BIT(VHOST_BACKEND_F_SUSPEND) | \
     BIT(VHOST_BACKEND_F_RESUME) | BIT(VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK) | \
     BIT(VHOST_BACKEND_F_DESC_ASID) | BIT(VHOST_BACKEND_F_IOTLB_PERSIST))

static const char *const backend_feature_names[] = {
    [VHOST_BACKEND_F_IOTLB_MSG_V2] = "IOTLB_MSG_V2",
    [VHOST_BACKEND_F_IOTLB_BATCH] = "IOTLB_BATCH",
    [VHOST_BACKEND_F_IOTLB_ASID] = "IOTLB_ASID",
    [VHOST_BACKEND_F_SUSPEND] = "SUSPEND",
    [VHOST_BACKEND_F_RESUME] = "RESUME",
    [VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK] = "ENABLE_AFTER_DRIVER_OK",
    [VHOST_BACKEND_F_DESC_ASID] = "DESC_ASID",
    [VHOST_BACKEND_F_IOTLB_PERSIST] = "IOTLB_PERSIST",
};

/*
 * All that is offered.  A kernel that refuses it all is asked again, each time without the youngest
 * of what is left.
 */
static void negotiate_backend_features(VhostVdpa *d)
{
    uint64_t features = 0;
    unsigned int bit;

    d->backend_features = 0;
    if (vhost_vdpa_call(d, VHOST_GET_BACKEND_FEATURES, &features, NULL) < 0) {
        return;
    }
    features &= BACKEND_FEATURES;
    if (!(features & BIT(VHOST_BACKEND_F_IOTLB_ASID))) {
        features &= ~BIT(VHOST_BACKEND_F_DESC_ASID);
    }
    for (bit = G_N_ELEMENTS(backend_feature_names); bit-- > 0;) {
        if (vhost_vdpa_call(d, VHOST_SET_BACKEND_FEATURES, &features, NULL) == 0) {
            d->backend_features = features;
            return;
        }
        features &= ~BIT(bit);
    }
}

/* The kernel tells an index that is too large from everything else (ENOBUFS). */
static uint32_t count_queues(VhostVdpa *d)
{
    struct vhost_vring_file none = { .fd = VHOST_FILE_UNBIND };
    uint32_t count;

    if (vhost_vdpa_call(d, VHOST_VDPA_GET_VQS_COUNT, &count, NULL) == 0) {
        return MIN(count, VDPA_MAX_QUEUES);
    }
    while (none.index < VDPA_MAX_QUEUES &&
           vhost_vdpa_call(d, VHOST_SET_VRING_ERR, &none, NULL) != -ENOBUFS) {
        none.index++;
    }
    return none.index;
}

/* What must be there. */
static int probe_device(VhostVdpa *d, GError **errp)
{
    uint8_t reset = 0;
    uint16_t num;
    int ret = vhost_vdpa_call(d, VHOST_VDPA_GET_DEVICE_ID, &d->dev.device_type, NULL);

    if (ret < 0) {
        return vhost_vdpa_error(errp, -ret, "%s is no vhost-vdpa device: %s",
                                d->path ? d->path : "the descriptor", g_strerror(-ret));
    }
    ret = vhost_vdpa_call(d, VHOST_SET_OWNER, NULL, NULL);
    if (ret == -EBUSY) {
        return vhost_vdpa_error(errp, EBUSY, "%s: the descriptor has an owner, who may be using it",
                                d->dev.id);
    }
    ret = vhost_vdpa_check_call(d, ret, "VHOST_SET_OWNER", errp);
    if (ret == 0) {
        /* A descriptor that was handed to us may have been used. */
        ret = vhost_vdpa_call(d, VHOST_VDPA_SET_STATUS, &reset, errp);
    }
    if (ret == 0) {
        ret = vhost_vdpa_call(d, VHOST_GET_FEATURES, &d->offered, errp);
    }
    if (ret == 0) {
        ret = vhost_vdpa_call(d, VHOST_VDPA_GET_VRING_NUM, &num, errp);
    }
    if (ret < 0) {
        return ret;
    }
    d->max_num = num;
    return 0;
}

static void probe_sizes(VhostVdpa *d)
{
    struct vhost_vdpa_iova_range range = { 0, 0 };

    /* Older kernels have the call GET_CONFIG, and check the range themselves. */
    if (vhost_vdpa_call(d, VHOST_VDPA_GET_CONFIG_SIZE, &d->config_size, NULL) < 0) {
        d->config_size = UINT32_MAX;
    }
    d->dev.has_config = d->config_size > 0;
    d->dev.queue_count = count_queues(d);
    d->dev.serves_control = true;
    if (vhost_vdpa_call(d, VHOST_VDPA_GET_IOVA_RANGE, &range, NULL) < 0) {
        range = (struct vhost_vdpa_iova_range){ 0, 0 };
    }
    d->dev.iova_first = range.first;
    d->dev.iova_last = range.last;
    if (vhost_vdpa_call(d, VHOST_VDPA_GET_AS_NUM, &d->n_spaces, NULL) < 0) {
        d->n_spaces = 1;
    }
    if (vhost_vdpa_call(d, VHOST_VDPA_GET_GROUP_NUM, &d->n_groups, NULL) < 0) {
        d->n_groups = 1;
    }
    d->n_groups = MIN(d->n_groups, VDPA_MAX_GROUPS);
}

/* VHOST_GET_VRING_BASE of a device that has not begun; not all drivers implement it. */
static bool tells_base(VhostVdpa *d)
{
    uint32_t base;

    return vhost_vdpa_has(d, VHOST_BACKEND_F_SUSPEND) && d->dev.queue_count &&
           vhost_vdpa_ask_state(d, VHOST_GET_VRING_BASE, 0, &base, NULL) == 0;
}

static void choose_features(VhostVdpa *d)
{
    /* These are accepted on the guest's behalf: its memory is behind our mappings. */
    uint64_t hidden = BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_F_ORDER_PLATFORM);

    if (!d->has_doorbells) {
        hidden |= BIT(VIRTIO_F_NOTIFICATION_DATA);
    }
    d->dev.features = d->offered & ~hidden;
}

static char *backend_features_to_string(uint64_t features)
{
    GString *names = g_string_new(NULL);
    unsigned int bit;

    for (bit = 0; bit < G_N_ELEMENTS(backend_feature_names); bit++) {
        if (features & BIT(bit)) {
            g_string_append_printf(names, "%s%s", names->len ? " " : "",
                                   backend_feature_names[bit]);
        }
    }
    return g_string_free(names, FALSE);
}

static void add_loss(GString *losses, bool lost, const char *words)
{
    if (lost) {
        g_string_append_printf(losses, "%s%s", losses->len ? "; " : "", words);
    }
}

static bool can_stand_still(const VhostVdpa *d)
{
    return vhost_vdpa_has(d, VHOST_BACKEND_F_SUSPEND) && vhost_vdpa_has(d, VHOST_BACKEND_F_RESUME);
}

static void log_what_is_there(const VhostVdpa *d)
{
    const VhostDevice *dev = &d->dev;
    g_autofree char *names = backend_features_to_string(d->backend_features);
    g_autoptr(GString) losses = g_string_new(NULL);

    g_info("%s: virtio device %" PRIu32 ", features 0x%" PRIx64 ", %" PRIu32 " virtqueues of up to "
           "%" PRIu32 " descriptors, IOVAs 0x%" PRIx64 "-0x%" PRIx64 ", %" PRIu32 " groups, "
           "%" PRIu32 " address spaces, doorbells %s, backend features %s",
           dev->id, dev->device_type, d->offered, dev->queue_count, d->max_num, dev->iova_first,
           dev->iova_last, d->n_groups, d->n_spaces, d->has_doorbells ? "mapped" : "by eventfd",
           *names ? names : "none");

    add_loss(losses, !can_stand_still(d),
             "no SUSPEND and RESUME: a change of its rings restarts it, and it cannot be switched");
    add_loss(losses, can_stand_still(d) && dev->rings_fixed,
             "no ENABLE_AFTER_DRIVER_OK: a change of its rings restarts it, and it cannot be "
             "switched");
    add_loss(losses, !dev->tells_base,
             "does not tell where its rings stand: what passes through may be lost at a stop");
    add_loss(losses, !vhost_vdpa_has(d, VHOST_BACKEND_F_IOTLB_PERSIST),
             "no IOTLB_PERSIST: a restart maps all memory anew");
    add_loss(losses, !vhost_vdpa_has(d, VHOST_BACKEND_F_IOTLB_BATCH),
             "no IOTLB_BATCH: memory is mapped piece by piece");
    add_loss(losses, !dev->rings_apart, "no DESC_ASID: our rings lie among the guest's memory");
    add_loss(losses, !dev->has_config, "no configuration space");
    if (losses->len) {
        g_message("%s: %s", dev->id, losses->str);
    }
}

int vhost_vdpa_probe(VhostVdpa *d, GError **errp)
{
    VhostDevice *dev = &d->dev;
    int ret = probe_device(d, errp);

    if (ret < 0) {
        return ret;
    }
    negotiate_backend_features(d);
    probe_sizes(d);
    if (dev->queue_count == 0 || d->max_num == 0) {
        return vhost_vdpa_error(errp, ENODEV, "%s has no virtqueues", dev->id);
    }
    if (dev->iova_last < dev->iova_first) {
        return vhost_vdpa_error(errp, ERANGE, "%s reaches no addresses: it says 0x%" PRIx64
                                "-0x%" PRIx64, dev->id, dev->iova_first, dev->iova_last);
    }
    dev->max_regions = MEMORY_MAP_MAX_REGIONS;
    dev->tells_base = tells_base(d);
    dev->rings_fixed = !can_stand_still(d) ||
                       !vhost_vdpa_has(d, VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK);
    d->has_spaces = vhost_vdpa_has(d, VHOST_BACKEND_F_IOTLB_ASID) && d->n_spaces >= VDPA_SPACES;
    dev->rings_apart = d->has_spaces && vhost_vdpa_has(d, VHOST_BACKEND_F_DESC_ASID);
    d->apart_lost = false;

    d->ops = vhost_vdpa_ops;
    if (dev->rings_fixed) {
        d->ops.suspend = NULL;
        d->ops.resume = NULL;
        d->ops.ring_base = NULL;
    }
    dev->ops = &d->ops;
    g_free(d->rings);
    d->rings = g_new0(VdpaRing, dev->queue_count);
    g_free(d->group_asid);
    d->group_asid = g_new(int64_t, d->n_groups);
    d->doorbells = g_new0(void *, dev->queue_count);
    d->n_doorbells = dev->queue_count;
    d->has_doorbells = true;
    d->has_doorbells = vhost_vdpa_ring_doorbell(dev, 0);
    choose_features(d);
    vhost_vdpa_forget_rings(d);
    log_what_is_there(d);
    return 0;
}
