/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole SvqDevice for tests.  See svq-rig.h. */
#include "lib/svq-rig.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <stdatomic.h>

#include "hw/net/loopback.h"

const RigFormat rig_formats[4] = {
    { "split-split", false, false, 0 },
    { "split-packed", false, true, 32768 },
    { "packed-split", true, false, 32768 },
    { "packed-packed", true, true, 0 },
};

static _Atomic unsigned int warnings;
static char *socket_dir;

static void count_warning(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
    atomic_fetch_add(&warnings, 1);
}

unsigned int rig_warnings(void)
{
    return atomic_load(&warnings);
}

void rig_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_log_set_always_fatal((GLogLevelFlags)(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    g_log_set_handler("svq", G_LOG_LEVEL_WARNING, count_warning, NULL);
    peer_pump();
    socket_dir = g_dir_make_tmp("svq-XXXXXX", NULL);
}

int rig_test_run(void)
{
    int ret = g_test_run();

    g_rmdir(socket_dir);
    g_free(socket_dir);
    return ret;
}

void rig_test_add(const char *name, GTestDataFunc test)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(rig_formats); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", name, rig_formats[i].name);

        g_test_add_data_func(path, &rig_formats[i], test);
    }
}

void rig_init_threads(Rig *rig, int64_t poll_max_ns)
{
    const AioPollParams params = { .max_ns = poll_max_ns };
    g_autoptr(GError) err = NULL;
    unsigned int i;

    *rig = (Rig){ 0 };
    for (i = 0; i < RIG_IOTHREADS; i++) {
        g_autofree char *id = g_strdup_printf("io%u", i);

        rig->iothreads[i] = iothread_new(id, &params, NULL, &err);
        g_assert_no_error(err);
    }
}

void rig_listen(Rig *rig)
{
    static unsigned int n;
    g_autofree char *name = g_strdup_printf("%u", n++);
    VhostSocketAddress address = { .fd = -1, .server = true };
    g_autoptr(GError) err = NULL;

    rig->path = g_build_filename(socket_dir, name, NULL);
    address.path = rig->path;
    svq_device_listen(rig->dev, &address, &err);
    g_assert_no_error(err);
}

void rig_init(Rig *rig, const RigConfig *config)
{
    LoopbackConfig loopback = LOOPBACK_CONFIG_DEFAULT;
    SvqDeviceConfig device = {
        .id = "net0",
        .n_iothreads = RIG_IOTHREADS,
        .queue_size = config->queue_size,
        .lenient_base = config->lenient_base,
        .mode = config->mode,
        /* These tests are of other queues. */
        .withheld = config->guest_features & VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ)
                        ? 0 : VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ),
    };
    g_autoptr(GError) err = NULL;

    rig_init_threads(rig, config->format.poll_max_ns);
    if (config->fake_features) {
        fake_device_init(&rig->fake, config->fake_features, FAKE_RINGS);
        if (config->prepare_fake) {
            config->prepare_fake(&rig->fake);
        }
        device.backend = &rig->fake.dev;
    } else {
        loopback.id = "lo0";
        loopback.queue_pairs = 2;
        loopback.iothread = config->device_thread;
        rig->loopback = loopback_new(&loopback, &err);
        g_assert_no_error(err);
        device.backend = rig->loopback;
    }
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

void rig_cleanup(Rig *rig)
{
    unsigned int i;

    if (rig->vmm.num) {
        vmm_cleanup(&rig->vmm);
    }
    svq_device_free(rig->dev);
    if (rig->loopback) {
        rig->loopback->ops->free(rig->loopback);
    }
    if (rig->fake.calls) {
        fake_device_cleanup(&rig->fake);
    }
    for (i = 0; i < RIG_IOTHREADS; i++) {
        iothread_unref(rig->iothreads[i]);
    }
    g_free(rig->path);
    /* What was freed after a grace period is gone now: leaks can be seen, descriptors counted. */
    rcu_barrier();
}

SvqQueueStats rig_stats(const Rig *rig, unsigned int q)
{
    SvqQueueStats stats;

    g_assert_true(svq_device_get_queue_stats(rig->dev, q, &stats));
    return stats;
}
