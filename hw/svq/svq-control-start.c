/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When the control queue of a device starts, with which state, and what waits for it; and, bridged,
 * what the device is told of queue pairs.  See svq-control.h.
 */
#include "svq-device-internal.h"

#include "hw/virtio/vring-driver.h"

/* Whether the VMM has said that the guest's ring begins anew, and not where it stood. */
static bool is_at_beginning(const SvqQueue *queue)
{
    const bool packed = svq_has_feature(queue->dev->guest_features, VIRTIO_F_RING_PACKED);
    const VringBase start = vring_base_start(packed);

    return queue->base_is_new &&
           svq_queue_decode_base(queue, queue->vmm_base, false).avail == start.avail;
}

/* Whether a VMM that was not always there names another ring than the one before did. */
static bool is_of_other_guest(const SvqQueue *queue)
{
    const struct SvqControlRing *ring = &queue->dev->control.ring;

    return queue->dev->control.other_vmm &&
           (ring->desc != queue->addr.desc || ring->driver != queue->addr.avail ||
            ring->device != queue->addr.used);
}

bool svq_control_begins_anew(const SvqQueue *queue)
{
    const SvqControl *control = &queue->dev->control;

    return svq_control_is(queue) && !control->orphaned && control->touched && !control->loaded &&
           (is_at_beginning(queue) || is_of_other_guest(queue));
}

/* Whose state it is: of the driver that made it, if that goes on, or of a new one. */
static void take_state(SvqQueue *queue, bool anew)
{
    SvqControl *control = &queue->dev->control;

    control->ring = (struct SvqControlRing){ queue->addr.desc, queue->addr.avail,
                                             queue->addr.used };
    control->other_vmm = false;
    if (anew && !control->loaded && !shadow_virtqueue_goes_on(queue->svq)) {
        svq_control_reset_state(control);
    } else {
        svq_control_save_record(control);
    }
    control->loaded = false;
}

/* The state is ours until svq_control_begin(). */
static void started(SvqControl *control)
{
    control->phase = SVQ_CONTROL_IDLE;
    control->restores = !control->restored && !net_ctrl_state_is_empty(control->state);
    svq_control_show(control);
}

int svq_control_start(SvqQueue *queue, GError **errp)
{
    SvqControl *control = &queue->dev->control;
    const bool anew = is_at_beginning(queue) || is_of_other_guest(queue);
    int ret;

    /* What it was stopped with the device may have done. */
    control->restored &= !control_queue_is_doubtful(control->queue);
    ret = svq_queue_start(queue, errp);
    if (ret == 0) {
        take_state(queue, anew);
        started(control);
    }
    return ret;
}

int svq_control_start_alone(SvqDevice *dev, GError **errp)
{
    SvqControl *control = &dev->control;
    SvqQueue *queue = svq_control_queue(dev);
    int ret;

    if (!queue || queue->started || queue->refused) {
        return 0;
    }
    if (!control->bridged && ((!dev->backend->rings_fixed && !control->waited) ||
                              net_ctrl_state_is_empty(control->state))) {
        return 0;
    }
    ret = svq_queue_start_alone(queue, errp);
    if (ret == 0) {
        control->restored = false;
        started(control);
    }
    return ret;
}

static gboolean update_queues(void *opaque)
{
    SvqControl *control = opaque;

    control->update_source = 0;
    svq_device_update_queues(control->dev);
    return G_SOURCE_REMOVE;
}

void svq_control_update_later(SvqControl *control)
{
    if (!control->update_source) {
        control->update_source = g_idle_add(update_queues, control);
    }
}

void svq_control_stopping(const SvqQueue *queue)
{
    SvqControl *control = &queue->dev->control;

    if (svq_control_is(queue) && !control->orphaned && control->phase != SVQ_CONTROL_READY) {
        /* Data queues have waited for it, and shall not wait for the VMM's next word. */
        control->phase = SVQ_CONTROL_IDLE;
        svq_control_update_later(control);
    }
}

static gboolean hold_over(void *opaque)
{
    SvqControl *control = opaque;

    control->hold_source = 0;
    control->waited = true;
    svq_device_update_queues(control->dev);
    return G_SOURCE_REMOVE;
}

static bool bridges_pairs(const SvqDevice *dev)
{
    return dev->control.bridged && svq_has_feature(dev->shadow_features, VIRTIO_NET_F_MQ);
}

/* Whether the device has not answered yet that it uses the pair of @queue, or is told another. */
static bool needs_pairs(const SvqQueue *queue)
{
    const SvqControl *control = &queue->dev->control;

    return bridges_pairs(queue->dev) &&
           queue->index / 2 >= MIN(control->pairs, control->pairs_ready);
}

bool svq_control_holds(SvqQueue *data)
{
    SvqDevice *dev = data->dev;
    SvqControl *control = &dev->control;
    SvqQueue *queue = svq_control_queue(dev);
    g_autoptr(GError) error = NULL;
    bool restores;

    if (!queue || queue->refused || dev->backend->rings_fixed) {
        return false;
    }
    if (control->phase == SVQ_CONTROL_READY) {
        svq_control_pairs_changed(dev);
        return needs_pairs(data);
    }
    restores = queue->started ? control->restores
                              : !control->restored && !net_ctrl_state_is_empty(control->state);
    if (!restores && !needs_pairs(data)) {
        return false;
    }
    if (queue->started) {
        return true;
    }
    if (svq_queue_is_described(queue)) {
        svq_queue_update(queue);
        return true;
    }
    if (control->bridged || control->waited) {
        if (svq_control_start_alone(dev, &error) < 0 || svq_device_driver_ok(dev, &error) < 0) {
            svq_queue_refuse(queue, error);
        }
        svq_control_begin(dev);
    } else if (!control->hold_source) {
        control->hold_source = g_timeout_add(control->options.hold_ms, hold_over, control);
    }
    return !queue->refused && (queue->started || control->hold_source);
}

bool svq_control_shall_hold(const SvqQueue *data)
{
    const SvqDevice *dev = data->dev;
    const SvqControl *control = &dev->control;
    const SvqQueue *queue = svq_control_queue(dev);

    return queue && queue != data && !queue->refused && dev->backend->rings_fixed &&
           control->phase != SVQ_CONTROL_READY &&
           (bridges_pairs(dev) || !net_ctrl_state_is_empty(control->state));
}

/* Receive queues first: what a device steers to one finds room there, whoever sent it. */
void svq_control_release(SvqDevice *dev)
{
    unsigned int pass, i;

    for (pass = 0; pass < 2; pass++) {
        for (i = pass; i < dev->n_queues; i += 2) {
            if (dev->queues[i].started && !dev->queues[i].passthrough) {
                shadow_virtqueue_release(dev->queues[i].svq);
            }
        }
    }
}

/* Whether the VMM has enabled @queue, be it stopped for now. */
static bool is_enabled(const SvqQueue *queue)
{
    return queue->enabled && queue->num && queue->addr_set;
}

/*
 * How many pairs the VMM has enabled: up to the last of them, for a VMM that stops them all begins
 * with the first, and the others still have packets.  At least 1, which a device need not be told.
 */
static uint16_t count_pairs(const SvqDevice *dev)
{
    unsigned int n = (unsigned int)dev->control.index / 2;

    while (n > 1 && !(is_enabled(&dev->queues[2 * n - 2]) && is_enabled(&dev->queues[2 * n - 1]))) {
        n--;
    }
    return (uint16_t)MAX(n, 1);
}

static void move_steps(GArray *to, GArray *from)
{
    g_array_append_vals(to, from->data, from->len);
    g_array_set_clear_func(from, NULL);
    g_array_unref(from);
}

/*
 * The commands that restore the state.  Of a class with one that the device cannot do, none: that
 * is said, and the others count all the more.
 */
static GArray *make_steps(const SvqControl *control)
{
    static const NetCtrlId one_of_each_class[] = {
        NET_CTRL_MAC_ADDR_SET, NET_CTRL_MQ_VQ_PAIRS_SET, NET_CTRL_GUEST_OFFLOADS_SET,
        NET_CTRL_RX_PROMISC, NET_CTRL_VLAN_ADD, NET_CTRL_NOTF_COAL_TX_SET,
    };
    GArray *all = net_ctrl_state_restore(control->state, &control->device_limits, NULL);
    unsigned int i;

    if (all) {
        return all;
    }
    all = control_queue_steps_new();
    for (i = 0; i < G_N_ELEMENTS(one_of_each_class); i++) {
        const uint8_t class = net_ctrl_spec(one_of_each_class[i])->class;
        g_autoptr(GError) error = NULL;
        GArray *steps = net_ctrl_state_restore_class(control->state, class,
                                                     &control->device_limits, &error);

        if (steps) {
            move_steps(all, steps);
        } else {
            g_warning("%s: the device cannot be brought to the state that the guest believes it to "
                      "be in: %s", control->dev->id, error->message);
        }
    }
    return all;
}

void svq_control_begin(SvqDevice *dev)
{
    SvqControl *control = &dev->control;
    SvqQueue *queue = svq_control_queue(dev);
    GArray *steps = NULL;

    if (!queue || !queue->started || !dev->device_driver_ok ||
        control->phase != SVQ_CONTROL_IDLE) {
        return;
    }
    if (control->announces &&
        svq_has_feature(dev->guest_features & svq_control_own_features(dev),
                        VIRTIO_NET_F_GUEST_ANNOUNCE)) {
        control->announce = true;
        vhost_user_server_config_changed(dev->server);
    }
    control->announces = false;
    control->loaded &= !control->bridged;   /* else it is for the guest's ring, which is to come */
    if (bridges_pairs(dev)) {
        const NetCtrlCommand command = { .id = NET_CTRL_MQ_VQ_PAIRS_SET,
                                         .pairs = count_pairs(dev) };

        net_ctrl_state_apply(control->state, &command);
        control->pairs = command.pairs;
    }
    svq_control_show(control);
    if (!control->restored) {
        steps = make_steps(control);
    }
    control->phase = SVQ_CONTROL_RESTORING;
    control->restore_start = g_get_monotonic_time();
    control->restore_commands = steps ? steps->len : 0;
    control->through = false;
    control->touched |= control->restore_commands > 0;
    control_queue_begin(queue->svq, steps);
}

/* Bridging: how many queue pairs the device shall use is what the VMM has enabled. */

static gboolean update_pairs(void *opaque)
{
    SvqControl *control = opaque;
    SvqDevice *dev = control->dev;
    NetCtrlCommand command = { .id = NET_CTRL_MQ_VQ_PAIRS_SET };
    uint8_t bytes[NET_CTRL_HEADER_BYTES + sizeof(uint16_t)];
    NetCtrlStep step = { .barrier = true };
    GArray *steps;

    control->pairs_source = 0;
    command.pairs = count_pairs(dev);
    if (command.pairs == control->pairs || !svq_control_is_started(dev) ||
        control->pairs != control->pairs_ready) {
        return G_SOURCE_REMOVE;     /* the last answer, when it comes, brings us here again */
    }
    control->pairs = command.pairs;
    net_ctrl_encode(&command, bytes, sizeof(bytes));
    step.bytes = g_bytes_new(bytes, sizeof(bytes));
    steps = control_queue_steps_new();
    g_array_append_val(steps, step);
    control_queue_send(svq_control_queue(dev)->svq, steps);
    return G_SOURCE_REMOVE;
}

void svq_control_pairs_changed(SvqDevice *dev)
{
    SvqControl *control = &dev->control;

    if (control->index >= 0 && bridges_pairs(dev) && control->phase == SVQ_CONTROL_READY &&
        !control->pairs_source) {
        control->pairs_source = g_idle_add(update_pairs, control);
    }
}
