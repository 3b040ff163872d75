/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vDPA model's device: a network card that receives what it sends.
 *
 * How it works.  A ring is looked at for the first time when it is kicked after it was enabled;
 * its areas are translated anew for each look.  A packet is moved when both queues of its pair
 * have a buffer.  Under m->lock.
 */
#include "lib/vdpa-model-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/event-notifier.h"

#define NUM_BUFFERS_OFFSET 10       /* in struct virtio_net_hdr (5.1.6) */
#define MAX_PACKET 65550u

/* A buffer that was taken. */
typedef struct Taken {
    VringSegment *seg;
    unsigned int n;
    uint32_t bytes;
    uint16_t id;
} Taken;

static bool has(const VdpaModel *m, unsigned int bit)
{
    return m->driver_features & VIRTIO_F_BIT(bit);
}

uint32_t model_asid(const VdpaModel *m, unsigned int ring)
{
    return m->config.n_groups ? m->looks_in[m->config.group[ring]] : 0;
}

uint32_t model_desc_asid(const VdpaModel *m, unsigned int ring)
{
    return m->backend_features & VDPA_B_DESC_ASID ? m->looks_in[m->config.desc_group[ring]]
                                                  : model_asid(m, ring);
}

VringBase model_ring_base(const ModelRing *ring)
{
    return ring->working ? vring_device_base(&ring->vr) : ring->base;
}

static void break_ring(VdpaModel *m, ModelRing *ring)
{
    if (ring->vr.error.what) {
        g_autofree char *text = vring_error_to_string(&ring->vr.error);

        model_complain(m, "queue %u: %s", (unsigned int)(ring - m->rings), text);
    }
    ring->broken = true;
}

static bool find_areas(VdpaModel *m, unsigned int index, VringAreas *areas)
{
    const ModelRing *ring = &m->rings[index];
    const bool packed = has(m, VIRTIO_F_RING_PACKED);
    const uint32_t asid = model_desc_asid(m, index);

    areas->desc = model_translate(m, asid, ring->desc, vring_desc_size(ring->num),
                                  packed ? VHOST_ACCESS_RW : VHOST_ACCESS_RO, "descriptor area",
                                  index);
    areas->driver = model_translate(m, asid, ring->driver, vring_driver_size(ring->num, packed),
                                    VHOST_ACCESS_RO, "driver area", index);
    areas->device = model_translate(m, asid, ring->device, vring_device_size(ring->num, packed),
                                    VHOST_ACCESS_RW, "device area", index);
    return areas->desc && areas->driver && areas->device;
}

/* The index of the control queue (5.1.2); -1: there is none. */
static int ctrl_index(const VdpaModel *m)
{
    if (!has(m, VIRTIO_NET_F_CTRL_VQ) || m->config.n_queues < 3) {
        return -1;
    }
    return has(m, VIRTIO_NET_F_MQ) ? (int)m->config.n_queues - 1 : 2;
}

static void *find_for_ctrl(void *opaque, const VringSegment *seg)
{
    VdpaModel *m = opaque;
    const unsigned int index = (unsigned int)ctrl_index(m);

    return model_translate(m, model_asid(m, index), seg->addr, seg->len,
                           seg->flags ? VHOST_ACCESS_WO : VHOST_ACCESS_RO, "command", index);
}

static void begin_ctrl(VdpaModel *m, ModelRing *ring)
{
    const CtrlDeviceRing where = {
        .vr = &ring->vr,
        .kick_fd = -1,
        .call_fd = ring->call,
        .find = find_for_ctrl,
        .opaque = m,
    };

    ctrl_device_attach(m->ctrl, &where);
    ctrl_device_run(m->ctrl, true);
    ring->ctrl = true;
}

static void end_ctrl(VdpaModel *m, ModelRing *ring)
{
    if (ring->ctrl) {
        ctrl_device_detach(m->ctrl);
    }
    ring->ctrl = false;
}

static bool begin_ring(VdpaModel *m, ModelRing *ring, const VringAreas *areas)
{
    const VringConfig config = {
        .num = ring->num,
        .packed = has(m, VIRTIO_F_RING_PACKED),
        .event_idx = has(m, VIRTIO_F_EVENT_IDX),
        .in_order = has(m, VIRTIO_F_IN_ORDER),
        .areas = *areas,
        .base = ring->base,
    };

    if (vring_device_init(&ring->vr, &config) < 0) {
        return false;
    }
    ring->working = true;
    if (ring - m->rings == ctrl_index(m)) {
        begin_ctrl(m, ring);
    }
    if (!config.packed && ring->vr.used_idx != ring->base.avail) {
        model_complain(m, "queue %u: begins with buffers in flight, base 0x%x, used index 0x%x",
                       (unsigned int)(ring - m->rings), ring->base.avail, ring->vr.used_idx);
    }
    return true;
}

/* Whether the ring can be worked. */
static bool look_at(VdpaModel *m, unsigned int index)
{
    ModelRing *ring = &m->rings[index];
    VringAreas areas;

    if (!ring->enabled || ring->broken) {
        return false;
    }
    ring->vr.error = (VringError){ 0 };
    if (!find_areas(m, index, &areas)) {
        break_ring(m, ring);
        return false;
    }
    if (!ring->working && !begin_ring(m, ring, &areas)) {
        break_ring(m, ring);
        return false;
    }
    vring_device_move(&ring->vr, &areas);
    return true;
}

static bool resolve(VdpaModel *m, ModelRing *ring, Taken *taken, bool writable)
{
    const unsigned int index = (unsigned int)(ring - m->rings);
    const uint8_t perm = writable ? VHOST_ACCESS_WO : VHOST_ACCESS_RO;
    unsigned int i;

    taken->bytes = 0;
    for (i = 0; i < taken->n; i++) {
        VringSegment *seg = &taken->seg[i];
        void *host = model_translate(m, model_asid(m, index), seg->addr, seg->len, perm, "buffer",
                                     index);

        if (!host) {
            return false;
        }
        if (!!seg->flags != writable) {
            model_complain(m, "queue %u: buffer of the wrong direction", index);
            return false;
        }
        seg->addr = (uintptr_t)host;
        taken->bytes += seg->len;
    }
    return true;
}

/* 1, with addresses of ours; 0: there is none; -EPROTO. */
static int take(VdpaModel *m, ModelRing *ring, Taken *taken, bool writable)
{
    int n = vring_device_take(&ring->vr, ring->vr.packed, NULL, taken->seg, 1, &taken->id);

    if (n <= 0) {
        return n;
    }
    taken->n = (unsigned int)n;
    return resolve(m, ring, taken, writable) ? 1 : -EPROTO;
}

static void gather(const Taken *taken, uint8_t *data)
{
    unsigned int i;

    for (i = 0; i < taken->n; i++) {
        memcpy(data, (const void *)(uintptr_t)taken->seg[i].addr, taken->seg[i].len);
        data += taken->seg[i].len;
    }
}

static void scatter(const Taken *taken, const uint8_t *data, uint32_t bytes)
{
    unsigned int i;

    for (i = 0; i < taken->n && bytes; i++) {
        uint32_t part = MIN(bytes, taken->seg[i].len);

        memcpy((void *)(uintptr_t)taken->seg[i].addr, data, part);
        data += part;
        bytes -= part;
    }
}

static void complete_held(VdpaModel *m, ModelRing *tx)
{
    while (tx->n_held > m->hold) {
        uint16_t id = m->reverse ? tx->held[tx->n_held - 1] : tx->held[0];

        tx->n_held--;
        if (!m->reverse) {
            memmove(tx->held, tx->held + 1, tx->n_held * sizeof(tx->held[0]));
        }
        vring_device_put(&tx->vr, tx->vr.packed, id, 0);
    }
}

/* 1, 0, or -EPROTO, and then the fault is one of @rx or @tx. */
static int move_packet(VdpaModel *m, ModelRing *rx, ModelRing *tx)
{
    Taken in = { .seg = m->segments[0] }, out = { .seg = m->segments[1] };
    uint8_t data[MAX_PACKET];
    int ret = take(m, rx, &in, true);

    if (ret <= 0) {
        return ret;
    }
    ret = take(m, tx, &out, false);
    if (ret <= 0) {
        vring_device_untake(&rx->vr, rx->vr.packed, in.id);
        return ret;
    }
    if (out.bytes > in.bytes || out.bytes > sizeof(data) || out.bytes <= NUM_BUFFERS_OFFSET + 2) {
        model_complain(m, "queue %u: packet of %u bytes", (unsigned int)(tx - m->rings),
                       out.bytes);
        return -EPROTO;
    }
    gather(&out, data);
    data[NUM_BUFFERS_OFFSET] = 1;
    data[NUM_BUFFERS_OFFSET + 1] = 0;
    scatter(&in, data, out.bytes);
    vring_device_put(&rx->vr, rx->vr.packed, in.id, out.bytes);
    tx->held[tx->n_held++] = out.id;
    complete_held(m, tx);
    m->packets++;
    return 1;
}

static void publish(ModelRing *ring)
{
    const EventNotifier call = { ring->call };

    if (!vring_device_has_unpublished(&ring->vr, ring->vr.packed)) {
        return;
    }
    vring_device_publish(&ring->vr, ring->vr.packed);
    if (vring_device_needs_call(&ring->vr, ring->vr.packed)) {
        event_notifier_set(&call);
    }
}

/* Returns the packets moved. */
static unsigned int work_pair(VdpaModel *m, unsigned int pair)
{
    ModelRing *rx = &m->rings[2 * pair], *tx = rx + 1;
    unsigned int n = 0;
    int ret;

    if (!look_at(m, 2 * pair) || !look_at(m, 2 * pair + 1)) {
        return 0;
    }
    do {
        while ((ret = move_packet(m, rx, tx)) > 0) {
            n++;
        }
        publish(rx);
        publish(tx);
        if (ret < 0) {
            break_ring(m, rx);
            break_ring(m, tx);
            return n;
        }
        /* Kicks of both, then: is there a buffer in each? */
        ret = vring_device_enable_kick(&rx->vr, rx->vr.packed);
        ret &= vring_device_enable_kick(&tx->vr, tx->vr.packed);
    } while (ret);
    return n;
}

/* What waits there is answered without a kick. */
static void work_ctrl(VdpaModel *m, unsigned int index)
{
    ModelRing *ring = &m->rings[index];
    g_autofree char *faults = NULL;

    if ((!ring->kicked && !ring->ctrl) || !look_at(m, index)) {
        return;
    }
    ctrl_device_set_fds(m->ctrl, -1, ring->call);
    m->ctrl_wait_us = ctrl_device_work(m->ctrl, ring->kicked);
    ring->kicked = false;
    faults = ctrl_device_take_faults(m->ctrl);
    if (*faults) {
        g_string_append(m->complaints, faults);
        break_ring(m, ring);
    }
}

unsigned int model_device_work(VdpaModel *m)
{
    const int ctrl = ctrl_index(m);
    unsigned int i, n = 0;

    m->ctrl_wait_us = -1;
    if (m->stopped || !(m->status & VIRTIO_STATUS_DRIVER_OK)) {
        return 0;
    }
    if (ctrl >= 0) {
        work_ctrl(m, (unsigned int)ctrl);
    }
    for (i = 0; i + 1 < (ctrl < 0 ? m->config.n_queues : (unsigned int)ctrl); i += 2) {
        if (m->rings[i].kicked || m->rings[i + 1].kicked) {
            m->rings[i].kicked = m->rings[i + 1].kicked = false;
            n += work_pair(m, i / 2);
        }
    }
    return n;
}

void model_ring_enable(VdpaModel *m, unsigned int index, bool enable)
{
    ModelRing *ring = &m->rings[index];

    if (enable && has(m, VIRTIO_F_RING_PACKED) && !ring->based) {
        ring->base = vring_base_start(true);    /* old kernels do not let it be told */
        ring->based = true;
    }
    if (enable && (!ring->addressed || !ring->based || !ring->num)) {
        model_complain(m, "queue %u: enabled without %s", index,
                       !ring->num ? "a size" : !ring->addressed ? "addresses" : "a base");
        return;
    }
    if (enable == ring->enabled) {
        return;
    }
    ring->enabled = enable;
    ring->kicked = ring->broken = false;
    if (!enable && ring->working) {
        end_ctrl(m, ring);
        ring->base = vring_device_base(&ring->vr);
        vring_device_cleanup(&ring->vr);
        ring->working = false;
        ring->n_held = 0;
    }
}

void model_device_suspend(VdpaModel *m)
{
    unsigned int i;

    m->stopped = true;
    for (i = 0; i < m->config.n_queues && !m->keep; i++) {
        ModelRing *ring = &m->rings[i];

        if (ring->working && !ring->broken && look_at(m, i)) {
            const bool ctrl = ring->ctrl;

            end_ctrl(m, ring);
            vring_device_settle(&ring->vr, false, NULL);
            ring->n_held = 0;
            publish(ring);
            if (ctrl) {
                begin_ctrl(m, ring);
            }
        }
    }
}

void model_device_resume(VdpaModel *m)
{
    m->stopped = false;
    model_device_wake(m);
}

void model_device_reset(VdpaModel *m, bool file)
{
    unsigned int i;

    for (i = 0; i < VDPA_MODEL_QUEUES; i++) {
        ModelRing *ring = &m->rings[i];

        model_ring_enable(m, i, false);
        if (file) {
            model_ring_set_kick(m, i, -1);
        }
        if (ring->call >= 0) {
            close(ring->call);
        }
        ring->call = -1;
        ring->num = 0;
        ring->base = (VringBase){ 0 };
        ring->addressed = ring->based = false;
    }
}

void vdpa_model_hold(VdpaModel *m, unsigned int n, bool reverse)
{
    unsigned int i;

    pthread_mutex_lock(&m->lock);
    m->hold = n;
    m->reverse = reverse;
    for (i = 1; i < m->config.n_queues; i += 2) {
        if (!m->stopped && m->rings[i].working && look_at(m, i)) {
            complete_held(m, &m->rings[i]);
            publish(&m->rings[i]);
        }
    }
    pthread_mutex_unlock(&m->lock);
}
