/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole SvqDevice in front of a vDPA device on the model.  See vdpa-rig.h. */
#include "lib/vdpa-rig.h"

#include "hw/vhost/vhost-vdpa.h"

void vdpa_rig_init(VdpaRig *v, const VdpaModelConfig *model, const RigConfig *config)
{
    SvqDeviceConfig device = {
        .id = "net0",
        .n_iothreads = RIG_IOTHREADS,
        .queue_size = config->queue_size,
        .lenient_base = config->lenient_base,
        .mode = config->mode,
    };
    VhostVdpaConfig vdpa = { .id = "vdpa0", .fd = -1 };
    g_autoptr(GError) err = NULL;
    Rig *rig = &v->rig;

    *v = (VdpaRig){ .n_fds = peer_count_fds() };
    v->model = vdpa_model_new(model);
    vdpa.path = vdpa_model_path(v->model);
    vdpa.kernel = vdpa_model_kernel(v->model);
    rig_init_threads(rig, config->format.poll_max_ns);
    rig->loopback = vhost_vdpa_new(&vdpa, &err);
    g_assert_no_error(err);
    device.backend = rig->loopback;
    device.iothreads = rig->iothreads;
    device.shadow.packed = config->format.shadow_packed ? ON_OFF_AUTO_ON : ON_OFF_AUTO_OFF;
    rig->dev = svq_device_new(&device, &err);
    g_assert_no_error(err);
    rig_listen(rig);
    vmm_init(&rig->vmm,
             VMM_FEATURES | config->guest_features | (config->format.guest_packed ? VMM_PACKED : 0),
             config->num ? config->num : 64);
    vmm_connect(&rig->vmm, rig->path);
}

void vdpa_rig_cleanup(VdpaRig *v)
{
    rig_cleanup(&v->rig);
    vdpa_model_free(v->model);
    g_assert_cmpuint(peer_count_fds(), ==, v->n_fds);
}

static unsigned int running(VdpaRig *v)
{
    unsigned int mask = 0, q;

    if (!(vdpa_model_status(v->model) & VIRTIO_STATUS_DRIVER_OK)) {
        return 0;
    }
    for (q = 0; q < svq_device_get_queue_count(v->rig.dev); q++) {
        mask |= (rig_stats(&v->rig, q).state == SVQ_QUEUE_RUNNING) << q;
    }
    return mask;
}

char *vdpa_rig_await_failure(VdpaRig *v, unsigned int mask)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;
    char *failed;

    while (!(failed = vdpa_model_failed(v->model)) && running(v) != mask &&
           g_get_monotonic_time() < end_us) {
        peer_pump();
        g_usleep(1000);
    }
    return failed;
}

void vdpa_rig_await(VdpaRig *v, unsigned int mask)
{
    g_free(vdpa_rig_await_failure(v, mask));
    g_assert_cmphex(running(v), ==, mask);
}
