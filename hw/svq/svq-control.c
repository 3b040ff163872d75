/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue of a device: which virtqueue it is, and where its rings lie, with a device or
 * without.  See svq-control.h.
 */
#include "svq-device-internal.h"

#include <errno.h>
#include <glib-unix.h>

#include "hw/virtio/vring-driver.h"

#define DEFAULT_TIMEOUT_MS  5000
#define DEFAULT_HOLD_MS     1000

/* A ring without a guest: the shortest that there can be. */
#define NO_GUEST_NUM 2

/* struct virtio_net_config (5.1.4) up to max_virtqueue_pairs. */
#define CONFIG_PAIRS_END    10

/* What the rings of one side take, bytes; page-aligned areas, of either format. */
#define AREA_BYTES      4096
#define RING_BYTES      (3 * AREA_BYTES)
#define REGION_BYTES    (RING_BYTES + CONTROL_QUEUE_BYTES)

G_STATIC_ASSERT(CONTROL_QUEUE_NUM * sizeof(VringDesc) <= AREA_BYTES);

SvqQueue *svq_control_queue(const SvqDevice *dev)
{
    return dev->control.index >= 0 ? &dev->queues[dev->control.index] : NULL;
}

bool svq_control_is(const SvqQueue *queue)
{
    return (int)queue->index == queue->dev->control.index;
}

bool svq_control_is_started(const SvqDevice *dev)
{
    const SvqQueue *queue = svq_control_queue(dev);

    return queue && queue->started;
}

/* The queue's owner has something to tell. */

static void changed(void *opaque)
{
    SvqControl *control = opaque;

    atomic_store_explicit(&control->touched, true, memory_order_relaxed);
    svq_control_save_record(control);
    if (!atomic_exchange_explicit(&control->stale, true, memory_order_relaxed)) {
        event_notifier_set(&control->event);
    }
}

static void sent(void *opaque)
{
    SvqControl *control = opaque;

    atomic_store_explicit(&control->touched, true, memory_order_relaxed);
}

static void announced(void *opaque)
{
    SvqControl *control = opaque;

    atomic_store_explicit(&control->announce, false, memory_order_relaxed);
}

static void through(void *opaque, unsigned int failed)
{
    SvqControl *control = opaque;

    atomic_store_explicit(&control->failed, failed, memory_order_relaxed);
    /* Release: pairs with the acquire in control_event(). */
    atomic_store_explicit(&control->through, true, memory_order_release);
    event_notifier_set(&control->event);
}

static void report_restored(const SvqControl *control)
{
    const unsigned int failed = atomic_load_explicit(&control->failed, memory_order_relaxed);
    const gint64 took = g_get_monotonic_time() - control->restore_start;

    if (control->restore_commands) {
        g_message("%s: the device was told its state: commands: %u, us: %" G_GINT64_FORMAT,
                  control->dev->id, control->restore_commands, took);
    }
    if (failed) {
        g_warning("%s: of these, %u failed: the device is not in the state that the guest believes "
                  "it to be in", control->dev->id, failed);
    }
}

static gboolean control_event(int fd, GIOCondition condition, void *opaque)
{
    SvqControl *control = opaque;

    event_notifier_test_and_clear(&control->event);
    svq_control_refresh(control);
    if (!atomic_exchange_explicit(&control->through, false, memory_order_acquire) ||
        control->phase == SVQ_CONTROL_IDLE) {
        return G_SOURCE_CONTINUE;
    }
    if (control->phase == SVQ_CONTROL_RESTORING) {
        control->phase = SVQ_CONTROL_READY;
        control->restored = true;
        report_restored(control);
    }
    /* Even if the device refused: that was said, and to stand still would be worse. */
    control->pairs_ready = control->pairs;
    svq_control_release(control->dev);
    svq_device_update_queues(control->dev);
    svq_control_pairs_changed(control->dev);
    return G_SOURCE_CONTINUE;
}

bool svq_control_init(SvqDevice *dev, const SvqControlOptions *options, GError **errp)
{
    SvqControl *control = &dev->control;
    int ret;

    *control = (SvqControl){
        .dev = dev,
        .index = -1,
        .options = *options,
        .other_vmm = true,
        .quiet = EVENT_NOTIFIER_NONE,
        .event = EVENT_NOTIFIER_NONE,
    };
    ret = event_notifier_init(&control->quiet);
    if (ret == 0) {
        ret = event_notifier_init(&control->event);
    }
    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(-ret), "%s: no eventfd: %s",
                    dev->id, g_strerror(-ret));
        event_notifier_cleanup(&control->quiet);
        return false;
    }
    if (!control->options.timeout_ms) {
        control->options.timeout_ms = DEFAULT_TIMEOUT_MS;
    }
    if (!control->options.hold_ms) {
        control->options.hold_ms = DEFAULT_HOLD_MS;
    }
    control->event_source = g_unix_fd_add(control->event.fd, G_IO_IN, control_event, control);
    control->state = net_ctrl_state_new();
    control->shown = net_ctrl_state_new();
    svq_control_reset_state(control);
    svq_control_load_record(control);
    return true;
}

static void stop_waiting(SvqControl *control)
{
    if (control->hold_source) {
        g_source_remove(control->hold_source);
        control->hold_source = 0;
    }
    if (control->pairs_source) {
        g_source_remove(control->pairs_source);
        control->pairs_source = 0;
    }
    if (control->update_source) {
        g_source_remove(control->update_source);
        control->update_source = 0;
    }
}

void svq_control_free(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    if (!control->state) {
        return;
    }
    stop_waiting(control);
    g_source_remove(control->event_source);
    event_notifier_cleanup(&control->event);
    event_notifier_cleanup(&control->quiet);
    control_queue_free(control->queue);
    net_ctrl_state_free(control->state);
    net_ctrl_state_free(control->shown);
    g_aligned_free(control->spare);
}

/* Features. */

/* Whether commands of the guest's would come to us. */
static bool can_be_seen(const SvqDevice *dev)
{
    return dev->backend->device_type == VIRTIO_ID_NET &&
           svq_has_feature(dev->backend->features & ~dev->withheld, VIRTIO_NET_F_CTRL_VQ);
}

uint64_t svq_control_own_features(const SvqDevice *dev)
{
    /* It is we who know that the guest has come from elsewhere. */
    return can_be_seen(dev) && dev->mode != SVQ_MODE_PASSTHROUGH && dev->backend->has_config &&
                   svq_has_feature(dev->backend->features, VIRTIO_NET_F_STATUS)
               ? VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) : 0;
}

/* Who gives these options knows that the device serves its control queue. */
static bool is_asked_for(const SvqControlOptions *options)
{
    return options->has_mac || options->promisc != ON_OFF_AUTO_AUTO;
}

uint64_t svq_control_bridge_features(const SvqDevice *dev, uint64_t guest_features)
{
    const SvqControlOptions *options = &dev->control.options;
    const uint64_t has = dev->backend->features & ~dev->withheld;
    uint64_t wants = 0;

    if (!can_be_seen(dev) || !(dev->backend->serves_control || is_asked_for(options)) ||
        svq_has_feature(guest_features, VIRTIO_NET_F_CTRL_VQ)) {
        return 0;
    }
    wants |= has & VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_RX);
    if (options->has_mac) {
        wants |= has & VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);
    }
    wants |= guest_features & has & VIRTIO_F_BIT(VIRTIO_NET_F_MQ);
    /* MQ in any case, if there is: then the control queue lies behind all data queues (5.1.2). */
    return wants ? wants | VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ) |
                       (has & VIRTIO_F_BIT(VIRTIO_NET_F_MQ))
                 : 0;
}

/* The device side starts. */

static bool try_config(VhostDevice *backend, uint8_t *config, uint32_t n)
{
    memset(config, 0, SVQ_CONTROL_CONFIG_BYTES);
    return backend->has_config && backend->ops->get_config(backend, config, 0, n, NULL) == 0;
}

/* The configuration space, as much of it as there is; a device without one still has pairs. */
static void read_config(VhostDevice *backend, uint8_t config[SVQ_CONTROL_CONFIG_BYTES])
{
    if (!try_config(backend, config, SVQ_CONTROL_CONFIG_BYTES) &&
        !try_config(backend, config, CONFIG_PAIRS_END)) {
        const uint16_t pairs = htole16((uint16_t)(backend->queue_count / 2));

        memset(config, 0, SVQ_CONTROL_CONFIG_BYTES);
        memcpy(config + CONFIG_PAIRS_END - sizeof(pairs), &pairs, sizeof(pairs));
    }
}

static void find_guest_limits(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    net_ctrl_limits_init(&control->limits, dev->guest_features, control->config,
                         sizeof(control->config));
}

static void find_limits(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    read_config(dev->backend, control->config);
    find_guest_limits(dev);
    net_ctrl_limits_init(&control->device_limits, dev->shadow_features, control->config,
                         sizeof(control->config));
}

bool svq_control_still_fits(const SvqDevice *dev)
{
    const SvqControl *control = &dev->control;
    uint8_t config[SVQ_CONTROL_CONFIG_BYTES];
    NetCtrlLimits limits;

    if (!control->queue || !svq_has_feature(dev->guest_features, VIRTIO_NET_F_CTRL_VQ)) {
        return true;
    }
    read_config(dev->backend, config);
    net_ctrl_limits_init(&limits, dev->guest_features, config, sizeof(config));
    if (net_ctrl_vq_index(&limits) == net_ctrl_vq_index(&control->limits)) {
        return true;
    }
    g_warning("%s: the device came back with its control queue at %d, for the guest it is at %d",
              dev->id, net_ctrl_vq_index(&limits), net_ctrl_vq_index(&control->limits));
    return false;
}

/* The state that the VMM has loaded cannot be used. */
static void warn_of_loaded(SvqControl *control, const char *why)
{
    if (control->loaded) {
        g_warning("%s: the state that the VMM has loaded is not given to the device: %s",
                  control->dev->id, why);
        control->loaded = control->announces = false;
    }
}

/* The guest's driver has no use for a control queue: the device's state is that of a reset. */
static void forget_state(SvqControl *control)
{
    control->device_limits = (NetCtrlLimits){ 0 };
    warn_of_loaded(control, "the guest has no control queue");
    if (!net_ctrl_state_is_empty(control->state)) {
        svq_control_reset_state(control);
    }
}

int svq_control_prepare(SvqDevice *dev, GError **errp)
{
    SvqControl *control = &dev->control;
    const bool bridged = !svq_has_feature(dev->guest_features, VIRTIO_NET_F_CTRL_VQ);

    control->index = -1;
    control->unseen = control->isolated = control->waited = false;
    control->phase = SVQ_CONTROL_IDLE;
    control->pairs = control->pairs_ready = 1;
    control->touched = control->restored = false;
    if (!can_be_seen(dev) || !svq_has_feature(dev->shadow_features, VIRTIO_NET_F_CTRL_VQ)) {
        forget_state(control);
        return 0;
    }
    find_limits(dev);
    control->index = net_ctrl_vq_index(&control->device_limits);
    if ((unsigned int)control->index >= dev->n_queues) {
        g_warning("%s: the device has no virtqueue %d, which should be the control queue; it is "
                  "left to itself", dev->id, control->index);
        control->index = -1;
        control->unseen = true;
        return 0;
    }
    if (!control->queue) {
        g_autofree char *name = g_strdup_printf("%s queue %d", dev->id, control->index);

        control->queue = control_queue_new(name);
    }
    control->region = svq_backend_new_region(dev, REGION_BYTES, errp);
    if (!control->region) {
        control->index = -1;
        return -ENOSPC;
    }
    control->region->control = true;
    if (bridged != control->bridged && !control->loaded) {
        net_ctrl_state_clear(control->state);
    }
    control->bridged = bridged;
    if (net_ctrl_state_is_empty(control->state)) {
        svq_control_reset_state(control);
    }
    return 0;
}

/* What our options ask for, and this device or this guest cannot have. */
static void report_options(const SvqDevice *dev)
{
    const SvqControl *control = &dev->control;
    const uint64_t features = control->index >= 0 ? control->device_limits.features : 0;

    if (control->options.has_mac && !svq_has_feature(features, VIRTIO_NET_F_CTRL_MAC_ADDR)) {
        g_message("%s: 'mac' has no effect: CTRL_MAC_ADDR is not negotiated with the device, or its "
                  "control queue passes through", dev->id);
    }
    if (control->options.promisc != ON_OFF_AUTO_AUTO &&
        !svq_has_feature(features, VIRTIO_NET_F_CTRL_RX)) {
        g_message("%s: 'promisc' has no effect: CTRL_RX is not negotiated with the device, or its "
                  "control queue passes through", dev->id);
    }
}

static void choose_worker(SvqDevice *dev)
{
    SvqControl *control = &dev->control;
    VhostDevice *backend = dev->backend;

    if (control->index < 0) {
        return;
    }
    control->isolated = backend->ops->ring_isolate &&
                        backend->ops->ring_isolate(backend, (unsigned int)control->index);
    if (dev->mode == SVQ_MODE_SHADOW || control->isolated) {
        return;
    }
    if (dev->mode == SVQ_MODE_PASSTHROUGH && !control->bridged) {
        g_message("%s: mode=passthrough: the device cannot give its control queue an address space "
                  "of its own; it passes through unseen, and nobody can restore what its commands "
                  "do", dev->id);
        control->unseen = true;
        control->index = -1;
        g_clear_pointer(&control->region, memory_region_unref);
        warn_of_loaded(control, "the control queue passes through unseen");
        return;
    }
    g_message("%s: the device cannot give its control queue an address space of its own; its commands "
              "are seen all the same, but rings of the guest's that pass through reach its memory",
              dev->id);
}

void svq_control_choose(SvqDevice *dev)
{
    choose_worker(dev);
    report_options(dev);
}

void svq_control_forget(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    stop_waiting(control);
    g_clear_pointer(&control->region, memory_region_unref);
    control->phase = SVQ_CONTROL_IDLE;
    control->orphaned = false;
    control->index = -1;
}

void svq_control_disconnected(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    control->announce = control->announces = false;
    control->other_vmm = true;
    if (control->loaded || control->bridged) {
        control->loaded = control->bridged = false;
        svq_control_reset_state(control);
    }
}

void svq_control_driver_reset(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    if (control->loaded) {
        control->loaded = control->announces = false;
        svq_control_reset_state(control);
    }
}

/* Rings. */

static VringAreas areas_at(uint8_t *memory)
{
    return (VringAreas){ memory, memory + AREA_BYTES, memory + 2 * AREA_BYTES };
}

/* Half of it for a ring without a guest, the other for one without a device and its commands. */
static uint8_t *spare(SvqControl *control)
{
    if (!control->spare) {
        control->spare = g_aligned_alloc0(1, RING_BYTES + REGION_BYTES, AREA_BYTES);
    }
    return control->spare;
}

void svq_control_describe_no_guest(SvqControl *control, VringConfig *config)
{
    memset(spare(control), 0, RING_BYTES);
    *config = (VringConfig){
        .num = NO_GUEST_NUM,
        .areas = areas_at(spare(control)),
        .base = vring_base_start(false),
    };
}

void svq_control_describe_ring(const SvqQueue *queue, ShadowVirtqueueConfig *config,
                               VhostRing *ring)
{
    SvqDevice *dev = queue->dev;
    SvqControl *control = &dev->control;
    const bool orphaned = control->orphaned;
    uint8_t *host = orphaned ? spare(control) + RING_BYTES : control->region->host;
    const uint64_t iova = orphaned ? 0 : control->region->iova;
    const ControlQueueConfig commands = {
        .host = host + RING_BYTES,
        .iova = iova + RING_BYTES,
        .limits = control->limits,
        .device_limits = control->device_limits,
        .state = control->state,
        .timeout_ns = control->options.timeout_ms * INT64_C(1000000),
        .changed = changed,
        .announced = announced,
        .sent = sent,
        .through = through,
        .opaque = control,
    };
    const uint32_t max = orphaned ? 0 : svq_backend_max_num(queue);

    svq_backend_describe_device(queue, config);
    config->control = control->queue;
    config->shadow.num = max ? MIN(CONTROL_QUEUE_NUM, max) : CONTROL_QUEUE_NUM;
    config->shadow.areas = areas_at(host);
    *ring = (VhostRing){
        .num = config->shadow.num,
        .base = config->shadow.base,
        .areas = config->shadow.areas,
        .desc_iova = iova,
        .driver_iova = iova + AREA_BYTES,
        .device_iova = iova + 2 * AREA_BYTES,
        .kick_fd = queue->device_kick.fd,
        .call_fd = queue->device_call.fd,
        .ctx = iothread_get_aio_context(queue->iothread),
    };
    control_queue_configure(control->queue, &commands);
}

/* Without a device. */

void svq_control_orphan(SvqDevice *dev)
{
    SvqControl *control = &dev->control;
    g_autoptr(GError) error = NULL;
    SvqQueue *queue;
    int index;

    if (!control->queue || control->unseen || svq_control_is_started(dev) ||
        !svq_has_feature(dev->guest_features, VIRTIO_NET_F_CTRL_VQ)) {
        return;
    }
    find_guest_limits(dev);
    index = net_ctrl_vq_index(&control->limits);
    if (index < 0 || (unsigned int)index >= dev->n_queues ||
        !svq_queue_is_described(&dev->queues[index])) {
        return;
    }
    queue = &dev->queues[index];
    control->index = index;
    control->orphaned = true;
    if (svq_control_start(queue, &error) < 0) {
        g_warning("%s", error->message);
        control->orphaned = false;
        control->index = -1;
        return;
    }
    control_queue_begin(queue->svq, NULL);
}

void svq_control_adopt(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    if (control->orphaned) {
        svq_queue_stop(svq_control_queue(dev));
        control->orphaned = false;
        control->index = -1;
    }
}
