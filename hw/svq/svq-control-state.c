/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state that control commands have made: for a VMM that migrates the guest, for the next svqd
 * after a kill, and for a person.
 *
 * How it works.  In the in-flight file the state has two places, written in turn, so that a kill
 * in the middle leaves the one before.  Which is newer is told by a number before it, and whether
 * it is whole by that number's seal and by the saved state's own checksum.  It is written before
 * the guest has its answer: a command that the guest believes to be done is in the file.
 */
#include "svq-device-internal.h"

#include <errno.h>
#include <string.h>

#define STATUS_OFFSET   6       /* of the status in struct virtio_net_config (5.1.4) */
#define S_ANNOUNCE      2

typedef struct Record {
    _Atomic uint64_t seq;       /* of this state; 0: none */
    uint64_t seal;              /* see seal_of() */
    struct SvqControlRing ring;
    uint64_t n;                 /* bytes */
    uint8_t bytes[NET_CTRL_STATE_MAX_BYTES];
} Record;

G_STATIC_ASSERT(sizeof(Record) <= SVQ_INFLIGHT_STATE_BYTES / 2);

static Record *record_of(SvqControl *control, uint64_t seq)
{
    return (Record *)(control->record + seq % 2 * (SVQ_INFLIGHT_STATE_BYTES / 2));
}

/* Shows that @seq and @ring are whole; what follows has a checksum of its own. */
static uint64_t seal_of(uint64_t seq, const struct SvqControlRing *ring)
{
    uint64_t seal = ~seq;

    seal = (seal << 13 | seal >> 51) ^ ring->desc;
    seal = (seal << 13 | seal >> 51) ^ ring->driver;
    return (seal << 13 | seal >> 51) ^ ring->device;
}

static bool load_one(SvqControl *control, const Record *record)
{
    const uint64_t seq = atomic_load_explicit(&record->seq, memory_order_relaxed);
    g_autoptr(GError) error = NULL;

    if (!seq || record->seal != seal_of(seq, &record->ring) || record->n > sizeof(record->bytes) ||
        net_ctrl_state_load(control->state, record->bytes, record->n, &error) < 0) {
        return false;
    }
    control->record_seq = seq;
    control->ring = record->ring;
    return true;
}

void svq_control_load_record(SvqControl *control)
{
    const Record *records[2];
    unsigned int newer;

    control->record = svq_inflight_get_state(control->dev->inflight);
    if (!control->record) {
        return;
    }
    records[0] = record_of(control, 0);
    records[1] = record_of(control, 1);
    newer = atomic_load(&records[1]->seq) > atomic_load(&records[0]->seq);
    if (!load_one(control, records[newer])) {
        load_one(control, records[!newer]);
    }
}

void svq_control_save_record(SvqControl *control)
{
    const uint64_t seq = control->record_seq + 1;
    Record *record;

    if (!control->record) {
        return;
    }
    control->record_seq = seq;
    record = record_of(control, seq);
    atomic_store_explicit(&record->seq, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    record->ring = control->ring;
    record->seal = seal_of(seq, &control->ring);
    record->n = net_ctrl_state_save_to(control->state, record->bytes, sizeof(record->bytes));
    /* Release: who maps the file after a kill finds what was stored before. */
    atomic_store_explicit(&record->seq, seq, memory_order_release);
}

void svq_control_reset_state(SvqControl *control)
{
    const SvqControlOptions *options = &control->options;
    const uint64_t features = control->device_limits.features;
    NetCtrlCommand command;

    net_ctrl_state_clear(control->state);
    if (options->has_mac && svq_has_feature(features, VIRTIO_NET_F_CTRL_MAC_ADDR)) {
        command = (NetCtrlCommand){ .id = NET_CTRL_MAC_ADDR_SET };
        memcpy(command.mac, options->mac, sizeof(command.mac));
        net_ctrl_state_apply(control->state, &command);
    }
    if ((options->promisc != ON_OFF_AUTO_AUTO || control->bridged) &&
        svq_has_feature(features, VIRTIO_NET_F_CTRL_RX)) {
        command = (NetCtrlCommand){ .id = NET_CTRL_RX_PROMISC,
                                    .on = options->promisc != ON_OFF_AUTO_OFF };
        net_ctrl_state_apply(control->state, &command);
    }
    svq_control_save_record(control);
}

void svq_control_show(SvqControl *control)
{
    atomic_store_explicit(&control->stale, false, memory_order_relaxed);
    net_ctrl_state_copy(control->shown, control->state);
}

static void show_in_owner(void *opaque)
{
    svq_control_show(opaque);
}

void svq_control_refresh(SvqControl *control)
{
    SvqDevice *dev = control->dev;

    if (!svq_control_is_started(dev)) {
        svq_control_show(control);
    } else if (atomic_load_explicit(&control->stale, memory_order_relaxed)) {
        const SvqQueue *queue = &dev->queues[control->index];

        aio_run_in(iothread_get_aio_context(queue->iothread), show_in_owner, control);
    }
}

char *svq_control_describe_state(SvqDevice *dev)
{
    if (!svq_control_has_state(dev)) {
        return NULL;
    }
    if (dev->control.unseen) {
        return g_strdup("unknown: the control queue passes through unseen\n");
    }
    svq_control_refresh(&dev->control);
    return net_ctrl_state_to_string(dev->control.shown);
}

bool svq_control_has_state(const SvqDevice *dev)
{
    return dev->backend->device_type == VIRTIO_ID_NET &&
           svq_has_feature(dev->backend->features & ~dev->withheld, VIRTIO_NET_F_CTRL_VQ);
}

GBytes *svq_control_save(SvqDevice *dev, GError **errp)
{
    if (svq_device_any_started(dev)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                    "%s: the state is saved when the queues are stopped", dev->id);
        return NULL;
    }
    if (dev->control.unseen) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    "%s: the control queue passes through unseen, and so nobody knows the state",
                    dev->id);
        return NULL;
    }
    svq_control_refresh(&dev->control);
    return net_ctrl_state_save(dev->control.shown);
}

int svq_control_load(SvqDevice *dev, const uint8_t *data, size_t n, GError **errp)
{
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    SvqControl *control = &dev->control;

    if (svq_device_any_started(dev)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                    "%s: a state is loaded before the queues are started", dev->id);
        return -EBUSY;
    }
    if (dev->mode == SVQ_MODE_PASSTHROUGH && !dev->backend->ops->ring_isolate) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    "%s: mode=passthrough: nobody can give a state to this device, whose control "
                    "queue passes through unseen", dev->id);
        return -ENOTSUP;
    }
    if (net_ctrl_state_load(state, data, n, errp) < 0) {
        return -EINVAL;
    }
    if (dev->device_started) {
        svq_device_stop(dev);   /* it is to be fresh from a reset */
    }
    net_ctrl_state_copy(control->state, state);
    control->loaded = control->announces = true;
    svq_control_update_later(control);      /* what has waited for another state */
    return 0;
}

void svq_control_patch_config(const SvqDevice *dev, uint8_t *data, uint32_t offset, uint32_t size)
{
    /* Relaxed: a guest that is told again announces itself again. */
    if (atomic_load_explicit(&dev->control.announce, memory_order_relaxed) &&
        offset <= STATUS_OFFSET && size > STATUS_OFFSET - offset) {
        data[STATUS_OFFSET - offset] |= S_ANNOUNCE;
    }
}
