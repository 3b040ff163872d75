/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole SvqDevice in front of a vDPA device on the model.  See vdpa-rig.h. */
#include "lib/vdpa-rig.h"

#include <string.h>

#include "hw/vhost/vhost-vdpa.h"

#define PACKET 100u     /* bytes, of vdpa_rig_send() */

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

void vdpa_rig_init_auto(VdpaRig *v, const VdpaModelConfig *model, const ModeFormat *format,
                        bool shadow)
{
    const RigConfig config = mode_config(format, SVQ_MODE_AUTO);

    vdpa_rig_init(v, model, &config);
    v->rig.vmm.features |= shadow ? VIRTIO_F_BIT(VHOST_F_LOG_ALL) : 0;
}

void vdpa_rig_cleanup(VdpaRig *v)
{
    rig_cleanup(&v->rig);
    vdpa_model_free(v->model);
    g_assert_cmpuint(peer_count_fds(), ==, v->n_fds);
}

unsigned int vdpa_rig_count_calls(const char *calls, const char *name)
{
    g_auto(GStrv) each = g_strsplit(calls, " ", -1);
    const size_t len = strlen(name);
    unsigned int i, n = 0;

    for (i = 0; each[i]; i++) {
        n += strncmp(each[i], name, len) == 0 && (each[i][len] == '\0' || each[i][len] == ':');
    }
    return n;
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

void vdpa_rig_start(VdpaRig *v, unsigned int n_rings)
{
    vmm_start(&v->rig.vmm, n_rings);
    vdpa_rig_await(v, (1u << n_rings) - 1);
    g_free(vdpa_model_take_calls(v->model));
    g_free(mode_take_words());
}

char *vdpa_rig_await_calls(VdpaRig *v, const char *name, unsigned int n)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;
    GString *all = g_string_new(NULL);

    do {
        g_autofree char *calls = vdpa_model_take_calls(v->model);

        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_string_append_printf(all, "%s%s", all->len && *calls ? " " : "", calls);
        peer_pump();
        g_thread_yield();
    } while (vdpa_rig_count_calls(all->str, name) < n);
    return g_string_free(all, FALSE);
}

void vdpa_rig_send(VdpaRig *v, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        memset(vmm_buffer(&v->rig.vmm, 1, i), (int)i, PACKET);
        vmm_add(&v->rig.vmm, 1, vmm_buffer_gpa(1, i), PACKET, i);
    }
}

void vdpa_rig_assert_received(VdpaRig *v, unsigned int i)
{
    uint32_t cookie, len;

    vmm_wait_used(&v->rig.vmm, 0, &cookie, &len);
    g_assert_cmpuint(len, ==, PACKET);
    g_assert_cmpuint(vmm_buffer(&v->rig.vmm, 0, cookie)[PACKET - 1], ==, i);
    vmm_add(&v->rig.vmm, 0, vmm_buffer_gpa(0, cookie), VMM_BUFFER, cookie);
}

void vdpa_rig_assert_sent(VdpaRig *v, unsigned int i)
{
    uint32_t cookie, len;

    vmm_wait_used(&v->rig.vmm, 1, &cookie, &len);
    g_assert_cmpuint(cookie, ==, i);
}
