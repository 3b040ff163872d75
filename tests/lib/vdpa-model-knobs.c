/* SPDX-License-Identifier: BSD-3-Clause */
/* What a test sets in the vDPA model, and asks it.  See vdpa-model.h. */
#include "lib/vdpa-model-internal.h"

#include <string.h>

#include "util/event-notifier.h"

static void set_hang(VdpaModel *m, bool hang)
{
    pthread_mutex_lock(&m->lock);
    m->hang = hang;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

void vdpa_model_hang_suspend(VdpaModel *m)
{
    set_hang(m, true);
}

void vdpa_model_release_suspend(VdpaModel *m)
{
    set_hang(m, false);
}

void vdpa_model_suspend_halfway(VdpaModel *m, bool halfway)
{
    pthread_mutex_lock(&m->lock);
    m->halfway = halfway;
    pthread_mutex_unlock(&m->lock);
}

void vdpa_model_lie_on_suspend(VdpaModel *m, bool lie)
{
    pthread_mutex_lock(&m->lock);
    m->lie = lie;
    pthread_mutex_unlock(&m->lock);
}

void vdpa_model_limit_memory(VdpaModel *m, uint64_t bytes)
{
    pthread_mutex_lock(&m->lock);
    m->memory_limit = bytes;
    pthread_mutex_unlock(&m->lock);
}

char *vdpa_model_take_complaints(VdpaModel *m)
{
    char *complaints;

    pthread_mutex_lock(&m->lock);
    complaints = g_strdup(m->complaints->str);
    g_string_truncate(m->complaints, 0);
    pthread_mutex_unlock(&m->lock);
    return complaints;
}

VdpaModelRing vdpa_model_ring(VdpaModel *m, unsigned int index)
{
    const ModelRing *ring = &m->rings[index];
    VdpaModelRing is;

    pthread_mutex_lock(&m->lock);
    is = (VdpaModelRing){
        .enabled = ring->enabled,
        .num = ring->num,
        .base = model_ring_base(ring),
        .desc = ring->desc,
        .driver = ring->driver,
        .device = ring->device,
        .asid = model_asid(m, index),
        .desc_asid = model_desc_asid(m, index),
        .has_kick = ring->kick >= 0,
        .has_call = ring->call >= 0,
        .kicks = ring->kicks,
        .rung = ring->rung,
        .last_rung = ring->last_rung,
        .held = ring->n_held,
    };
    pthread_mutex_unlock(&m->lock);
    return is;
}

uint8_t vdpa_model_status(VdpaModel *m)
{
    uint8_t status;

    pthread_mutex_lock(&m->lock);
    status = m->status;
    pthread_mutex_unlock(&m->lock);
    return status;
}

uint64_t vdpa_model_driver_features(VdpaModel *m)
{
    uint64_t features;

    pthread_mutex_lock(&m->lock);
    features = m->driver_features;
    pthread_mutex_unlock(&m->lock);
    return features;
}

uint64_t vdpa_model_backend_features(VdpaModel *m)
{
    uint64_t features;

    pthread_mutex_lock(&m->lock);
    features = m->backend_features;
    pthread_mutex_unlock(&m->lock);
    return features;
}

uint64_t vdpa_model_packets(VdpaModel *m)
{
    uint64_t packets;

    pthread_mutex_lock(&m->lock);
    packets = m->packets;
    pthread_mutex_unlock(&m->lock);
    return packets;
}

CtrlDevice *vdpa_model_ctrl(VdpaModel *m)
{
    return m->ctrl;
}

void vdpa_model_keep_in_flight(VdpaModel *m, bool keep)
{
    pthread_mutex_lock(&m->lock);
    m->keep = keep;
    pthread_mutex_unlock(&m->lock);
}

/* With the lock held. */
static void interrupt_config(VdpaModel *m)
{
    const EventNotifier call = { m->config_call };

    event_notifier_set(&call);
}

void vdpa_model_set_config(VdpaModel *m, uint32_t offset, const void *data, uint32_t size)
{
    g_assert_cmpuint(offset + size, <=, VDPA_MODEL_CONFIG);
    pthread_mutex_lock(&m->lock);
    memcpy(m->config.config + offset, data, size);
    interrupt_config(m);
    pthread_mutex_unlock(&m->lock);
}

void vdpa_model_get_config(VdpaModel *m, uint32_t offset, void *data, uint32_t size)
{
    g_assert_cmpuint(offset + size, <=, VDPA_MODEL_CONFIG);
    pthread_mutex_lock(&m->lock);
    memcpy(data, m->config.config + offset, size);
    pthread_mutex_unlock(&m->lock);
}

void vdpa_model_need_reset(VdpaModel *m)
{
    pthread_mutex_lock(&m->lock);
    m->status |= VIRTIO_STATUS_NEEDS_RESET;
    interrupt_config(m);
    pthread_mutex_unlock(&m->lock);
}
