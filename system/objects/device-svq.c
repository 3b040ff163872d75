/* SPDX-License-Identifier: BSD-3-Clause */
/* -device svq: a shadowed device, between a VMM at its chardev and a -backend. */
#include <sched.h>
#include <string.h>

#include "hw/svq/svq-device.h"
#include "hw/virtio/features.h"
#include "system/error.h"
#include "system/objects/objects.h"
#include "system/objects/vq-mapping.h"

typedef struct DeviceConfig {
    const char *chardev;
    const char *backend;
    const char *iothread;
    JsonArray *mapping;
    SvqMode mode;
    SvqRingFeatures shadow, guest;
    int64_t queue_size;
    bool lenient_base;
    bool ctrl_vq;
    MacAddress mac;
    OnOffAuto promisc;
    int64_t ctrl_timeout;
    const char *inflight;
} DeviceConfig;

static bool read_mode(const Property *property, JsonNode *node, void *field, GError **errp)
{
    static const char *const names[] = {
        [SVQ_MODE_SHADOW] = "shadow",
        [SVQ_MODE_PASSTHROUGH] = "passthrough",
        [SVQ_MODE_AUTO] = "auto",
    };
    g_autofree char *text = property_describe(node);

    for (unsigned int i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!strcmp(text, names[i])) {
            *(SvqMode *)field = i;
            return true;
        }
    }
    return svqd_fail(errp, "'%s' cannot be '%s': it must be %s", property->name, text,
                     property->type->syntax);
}

static const PropertyType property_mode = { "shadow, passthrough or auto", read_mode };

static const Property device_properties[] = {
    PROPERTY_STRING("chardev", DeviceConfig, chardev, "id of the -chardev where a VMM connects"),
    PROPERTY_STRING("backend", DeviceConfig, backend, "id of the -backend behind it"),
    PROPERTY_STRING("iothread", DeviceConfig, iothread, "id of the iothread of all queues"),
    PROPERTY_LIST("iothread-vq-mapping", DeviceConfig, mapping,
                  "list of iothread=ID[,vqs=LIST]; without vqs they take turns, pair by pair"),
    { .name = "mode", .type = &property_mode,
      .offset = PROPERTY_OFFSET(DeviceConfig, mode, SvqMode),
      .help = "who works the guest's rings: shadow: svqd; passthrough: the device; auto: the device, "
              "but svqd while the VMM migrates (shadow)" },
    PROPERTY_ON_OFF_AUTO("packed", DeviceConfig, shadow.packed,
                         "shadow rings: packed format; auto: if the device has it (auto)"),
    PROPERTY_ON_OFF_AUTO("event_idx", DeviceConfig, shadow.event_idx,
                         "shadow rings: event index (auto)"),
    PROPERTY_ON_OFF_AUTO("indirect_desc", DeviceConfig, shadow.indirect_desc,
                         "shadow rings: indirect descriptors (auto)"),
    PROPERTY_ON_OFF_AUTO("in_order", DeviceConfig, shadow.in_order,
                         "shadow rings: the device uses buffers in order (auto)"),
    PROPERTY_ON_OFF_AUTO("guest-packed", DeviceConfig, guest.packed,
                         "offered to the guest: packed format (auto)"),
    PROPERTY_ON_OFF_AUTO("guest-event_idx", DeviceConfig, guest.event_idx,
                         "offered to the guest: event index (auto)"),
    PROPERTY_ON_OFF_AUTO("guest-indirect_desc", DeviceConfig, guest.indirect_desc,
                         "offered to the guest: indirect descriptors (auto)"),
    PROPERTY_ON_OFF_AUTO("guest-in_order", DeviceConfig, guest.in_order,
                         "offered to the guest: buffers come back in order (auto)"),
    PROPERTY_INT("queue-size", DeviceConfig, queue_size, 0, 32768,
                 "of shadow rings; 0: as the guest's (0)"),
    PROPERTY_BOOL("ctrl_vq", DeviceConfig, ctrl_vq,
                  "network: pass the control queue on, and the features that need it (on)"),
    PROPERTY_MAC("mac", DeviceConfig, mac,
                 "network: address that the device is given, until the guest gives it another"),
    PROPERTY_ON_OFF_AUTO("promisc", DeviceConfig, promisc,
                         "network: the device receives everything, until the guest says otherwise; "
                         "auto: if the VMM keeps the guest's control queue to itself (auto)"),
    PROPERTY_INT("ctrl-timeout", DeviceConfig, ctrl_timeout, 1, 3600000,
                 "network: ms for the device to answer a command of the control queue (5000)"),
    PROPERTY_BOOL("lenient-base", DeviceConfig, lenient_base,
                  "a packed ring started at base 0 means its beginning (off)"),
    PROPERTY_STRING("inflight", DeviceConfig, inflight,
                    "file from which the queues go on after svqd was killed"),
    PROPERTY_END,
};

static bool check_mapping(Objects *objects, JsonArray *mapping, GError **errp)
{
    g_autoptr(GPtrArray) slots = vq_mapping_get_slots(mapping, 0, false, errp);

    for (unsigned int i = 0; slots && i < slots->len; i++) {
        if (!objects_resolve(objects, OBJECT_KIND_OBJECT, slots->pdata[i], "iothread-vq-mapping",
                             errp)) {
            return false;
        }
    }
    return slots;
}

/* Where the device has the guest's rings, now or later, ours have the same features. */
static bool check_mode(const DeviceConfig *config, GError **errp)
{
    const SvqRingFeatures *shadow = &config->shadow;

    if (config->mode == SVQ_MODE_SHADOW) {
        return true;
    }
    if (shadow->packed || shadow->event_idx || shadow->indirect_desc || shadow->in_order) {
        return svqd_fail(errp, "'packed', 'event_idx', 'indirect_desc' and 'in_order' are for "
                         "mode=shadow; use guest-packed and its like");
    }
    if (config->inflight) {
        return svqd_fail(errp, "'inflight' is for mode=shadow: of what passes through there is no "
                         "record");
    }
    return true;
}

static bool has_mac(const DeviceConfig *config)
{
    const MacAddress none = { { 0 } };

    return memcmp(&config->mac, &none, sizeof(none)) != 0;
}

static bool device_check(Objects *objects, Object *object, GError **errp)
{
    const DeviceConfig *config = object->config;

    if (!objects_claim(objects, OBJECT_KIND_CHARDEV, config->chardev, "chardev", object, errp) ||
        !objects_claim(objects, OBJECT_KIND_BACKEND, config->backend, "backend", object, errp)) {
        return false;
    }
    if (!check_mode(config, errp)) {
        return false;
    }
    if (!config->ctrl_vq && (has_mac(config) || config->promisc != ON_OFF_AUTO_AUTO)) {
        return svqd_fail(errp, "'mac' and 'promisc' need the device's control queue; leave out "
                         "ctrl_vq=off");
    }
    if (config->iothread && config->mapping) {
        return svqd_fail(errp, "'iothread' and 'iothread-vq-mapping' exclude each other; give one");
    }
    if (config->queue_size & (config->queue_size - 1) && config->shadow.packed != ON_OFF_AUTO_ON) {
        return svqd_fail(errp, "'queue-size' cannot be %" G_GINT64_FORMAT ": it must be a power of "
                         "two unless packed=on", config->queue_size);
    }
    if (config->iothread) {
        return objects_resolve(objects, OBJECT_KIND_OBJECT, config->iothread, "iothread", errp);
    }
    return !config->mapping || check_mapping(objects, config->mapping, errp);
}

static unsigned int count_cpus(void)
{
    cpu_set_t cpus;

    return sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
}

/* Virtqueues that are known of; 0: the device is not there yet. */
static unsigned int count_queues(const VhostDevice *backend)
{
    return backend->connected ? backend->queue_count : 0;
}

/* Whether the last of them is a network device's control queue, behind all pairs. */
static bool has_ctrl(const VhostDevice *backend)
{
    unsigned int queue_count = count_queues(backend);

    return queue_count > 2 && queue_count % 2 &&
           backend->features & VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ);
}

/*
 * One IOThread for each queue pair, but no more than CPUs; each has two slots, for its pair.
 * A control queue comes round to the first.
 */
static bool make_iothreads(GPtrArray *slots, const char *id, const VhostDevice *backend,
                           GError **errp)
{
    unsigned int queue_count = count_queues(backend);
    unsigned int n = count_cpus();

    if (queue_count) {
        n = MIN(n, (queue_count - has_ctrl(backend) + 1) / 2);
    }
    for (unsigned int i = 0; i < n; i++) {
        g_autofree char *iothread_id = g_strdup_printf("%s-io%u", id, i);
        IOThread *iothread = iothread_new(iothread_id, &AIO_POLL_PARAMS_DEFAULT, NULL, errp);

        if (!iothread) {
            return false;
        }
        g_ptr_array_add(slots, iothread);
        g_ptr_array_add(slots, iothread_ref(iothread));
    }
    return true;
}

static void add_iothread(GPtrArray *slots, Objects *objects, const char *id)
{
    const Object *iothread = objects_resolve(objects, OBJECT_KIND_OBJECT, id, "iothread", NULL);

    g_ptr_array_add(slots, iothread_ref(iothread->instance));
}

/* The IOThreads, with a reference each, as SvqDeviceConfig.iothreads wants them. */
static bool get_iothreads(GPtrArray *slots, Objects *objects, const Object *object,
                          const VhostDevice *backend, GError **errp)
{
    const DeviceConfig *config = object->config;
    g_autoptr(GPtrArray) ids = NULL;

    if (config->iothread) {
        add_iothread(slots, objects, config->iothread);
        return true;
    }
    if (!config->mapping) {
        return make_iothreads(slots, object->id, backend, errp);
    }
    ids = vq_mapping_get_slots(config->mapping, count_queues(backend), has_ctrl(backend), errp);
    for (unsigned int i = 0; ids && i < ids->len; i++) {
        add_iothread(slots, objects, ids->pdata[i]);
    }
    return ids;
}

static bool device_create(Objects *objects, Object *object, GError **errp)
{
    const DeviceConfig *options = object->config;
    VhostDevice *backend = objects_resolve(objects, OBJECT_KIND_BACKEND, options->backend,
                                           "backend", NULL)->instance;
    g_autoptr(GPtrArray) iothreads = g_ptr_array_new_with_free_func((GDestroyNotify)iothread_unref);
    SvqDeviceConfig config = {
        .id = object->id,
        .backend = backend,
        .mode = options->mode,
        .shadow = options->shadow,
        .guest = options->guest,
        .queue_size = options->queue_size,
        .lenient_base = options->lenient_base,
        .withheld = options->ctrl_vq ? 0 : VIRTIO_NET_CTRL_FEATURES,
        .inflight = options->inflight,
        .control = { .promisc = options->promisc, .timeout_ms = (uint32_t)options->ctrl_timeout },
    };

    config.control.has_mac = has_mac(options);
    memcpy(config.control.mac, options->mac.bytes, sizeof(config.control.mac));
    if (!get_iothreads(iothreads, objects, object, backend, errp)) {
        return false;
    }
    config.iothreads = (IOThread *const *)iothreads->pdata;
    config.n_iothreads = iothreads->len;
    object->instance = svq_device_new(&config, errp);
    return object->instance;
}

static bool device_start(Objects *objects, Object *object, GError **errp)
{
    const DeviceConfig *config = object->config;
    const Object *chardev = objects_resolve(objects, OBJECT_KIND_CHARDEV, config->chardev,
                                            "chardev", NULL);
    VhostSocketAddress address = chardev_socket_get_address(chardev);
    GError *error = NULL;

    return svq_device_listen(object->instance, &address, &error) == 0 ||
           chardev_socket_fail(chardev, error, errp);
}

static void device_destroy(Object *object)
{
    svq_device_free(object->instance);
}

const ObjectType device_svq_type = {
    .kind = OBJECT_KIND_DEVICE,
    .name = "svq",
    .help = "a device whose virtqueues are shadowed",
    .properties = device_properties,
    .config_size = sizeof(DeviceConfig),
    .defaults = &(const DeviceConfig){ .ctrl_vq = true, .ctrl_timeout = 5000 },
    .check = device_check,
    .create = device_create,
    .start = device_start,
    .destroy = device_destroy,
};
