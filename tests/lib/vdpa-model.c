/* SPDX-License-Identifier: BSD-3-Clause */
/* The vDPA model: its life, the device file, calls and faults.  See vdpa-model.h. */
#include "lib/vdpa-model-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* For a thread that is in a call. */
#define WAIT_US (10 * G_TIME_SPAN_SECOND)

/* The sim's, and what rings of other devices can. */
#define NET_FEATURES \
    (VIRTIO_F_BIT(VIRTIO_F_VERSION_1) | VIRTIO_F_BIT(VIRTIO_F_ACCESS_PLATFORM) | \
     VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) | \
     VIRTIO_F_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_F_BIT(VIRTIO_NET_F_MAC))

/* MAC 52:54:00:12:34:56, status 1, two pairs. */
#define NET_CONFIG \
    .config_size = 12, \
    .config = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 1, 0, 2, 0, 0xdc, 0x05 }

const VdpaModelConfig vdpa_model_sim = {
    .features = NET_FEATURES,
    .backend_features = VDPA_B_CORE | VDPA_B_SUSPEND | VDPA_B_RESUME | VDPA_B_ENABLE_AFTER |
                        VDPA_B_PERSIST,
    .device_id = 1,
    .n_queues = 4,
    .num_max = 256,
    .iova_last = UINT64_MAX,
    .n_groups = 1,
    .n_spaces = 1,
    NET_CONFIG,
};

const VdpaModelConfig vdpa_model_pci = {
    .features = NET_FEATURES,
    .backend_features = VDPA_B_CORE | VDPA_B_PERSIST,
    .device_id = 1,
    .n_queues = 4,
    .num_max = 256,
    .iova_last = (UINT64_C(1) << 39) - 1,
    .n_spaces = 1,
    .doorbells = true,
    .no_get_base = true,
    .initial_base = true,
    NET_CONFIG,
};

const VdpaModelConfig vdpa_model_spaces = {
    .features = NET_FEATURES,
    .backend_features = VDPA_B_CORE | VDPA_B_SUSPEND | VDPA_B_RESUME | VDPA_B_ENABLE_AFTER |
                        VDPA_B_DESC_ASID | VDPA_B_PERSIST,
    .device_id = 1,
    .n_queues = 4,
    .num_max = 256,
    .iova_last = UINT64_MAX,
    .n_groups = 2,
    .n_spaces = 2,
    .desc_group = { 1, 1, 1, 1 },
    NET_CONFIG,
};

const VdpaModelConfig vdpa_model_sim_ctrl = {
    .features = NET_FEATURES | VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ),
    .backend_features = VDPA_B_CORE | VDPA_B_SUSPEND | VDPA_B_RESUME | VDPA_B_ENABLE_AFTER |
                        VDPA_B_PERSIST,
    .device_id = 1,
    .n_queues = 3,
    .num_max = 256,
    .iova_last = UINT64_MAX,
    .n_groups = 2,
    .n_spaces = 2,
    .group = { 0, 0, 1 },
    NET_CONFIG,
};

const VdpaModelConfig vdpa_model_mlx5 = {
    .features = NET_FEATURES | VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ),
    .backend_features = VDPA_B_CORE | VDPA_B_SUSPEND | VDPA_B_RESUME | VDPA_B_ENABLE_AFTER |
                        VDPA_B_DESC_ASID | VDPA_B_PERSIST,
    .device_id = 1,
    .n_queues = 3,
    .num_max = 256,
    .iova_last = UINT64_MAX,
    .n_groups = 3,
    .n_spaces = 2,
    .group = { 0, 0, 1 },
    .desc_group = { 2, 2, 1 },
    NET_CONFIG,
};

void model_ref(VdpaModel *m)
{
    m->refs++;
}

/* The last one closes the file: the kernel's release() comes after all calls and mappings. */
void model_unref(VdpaModel *m)
{
    if (--m->refs == 0) {
        model_reset_file(m);
    }
}

static int open_locked(VdpaModel *m, const char *path)
{
    int ret = model_note(m, "open");

    if (ret < 0) {
        return ret;
    }
    if (strcmp(path, m->path) != 0 || !g_file_test(path, G_FILE_TEST_EXISTS)) {
        return -ENOENT;
    }
    if (m->refs) {
        return -EBUSY;
    }
    /* A character device, as it should be. */
    m->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    g_assert_cmpint(m->fd, >=, 0);
    g_assert_no_errno(stat(m->path, &m->node));
    if (m->vanish) {
        vdpa_model_vanish(m);
        m->vanish = false;
    }
    model_reset_file(m);
    model_ref(m);
    return m->fd;
}

static int kernel_open(VhostVdpaKernel *kernel, const char *path)
{
    VdpaModel *m = (VdpaModel *)kernel;
    int fd;

    pthread_mutex_lock(&m->lock);
    fd = open_locked(m, path);
    pthread_mutex_unlock(&m->lock);
    return fd;
}

static void kernel_close(VhostVdpaKernel *kernel, int fd)
{
    VdpaModel *m = (VdpaModel *)kernel;

    pthread_mutex_lock(&m->lock);
    if (fd == m->fd) {
        model_note(m, "close");
        m->fd = -1;
        model_unref(m);
    }
    pthread_mutex_unlock(&m->lock);
    close(fd);      /* whatever it is */
}

/* Whether @fd is the device file, and then a reference to it; else the kernel's word for it. */
static int enter(VdpaModel *m, int fd)
{
    int ret = 0;

    pthread_mutex_lock(&m->lock);
    if (fd >= 0 && fd == m->fd) {
        model_ref(m);
    } else {
        ret = fcntl(fd, F_GETFD) < 0 ? -EBADF : -ENOTTY;
    }
    pthread_mutex_unlock(&m->lock);
    return ret;
}

static void leave(VdpaModel *m)
{
    pthread_mutex_lock(&m->lock);
    model_unref(m);
    pthread_mutex_unlock(&m->lock);
}

static int kernel_stat(VhostVdpaKernel *kernel, int fd, struct stat *node)
{
    VdpaModel *m = (VdpaModel *)kernel;
    int ret = enter(m, fd);

    if (ret < 0) {
        return ret;
    }
    *node = m->node;
    leave(m);
    return 0;
}

static int kernel_ioctl(VhostVdpaKernel *kernel, int fd, unsigned long request, void *argument)
{
    VdpaModel *m = (VdpaModel *)kernel;
    int ret = enter(m, fd);

    if (ret < 0) {
        return ret;
    }
    pthread_mutex_lock(&m->calling);
    ret = model_ioctl(m, request, argument);
    pthread_mutex_unlock(&m->calling);
    leave(m);
    return ret;
}

static int kernel_write(VhostVdpaKernel *kernel, int fd, const struct vhost_msg_v2 *message)
{
    VdpaModel *m = (VdpaModel *)kernel;
    int ret = enter(m, fd);

    if (ret < 0) {
        return ret == -ENOTTY ? -EINVAL : ret;
    }
    pthread_mutex_lock(&m->calling);
    pthread_mutex_lock(&m->lock);
    ret = model_write(m, message);
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_unlock(&m->calling);
    leave(m);
    return ret;
}

static int map_doorbell(VdpaModel *m, unsigned int index)
{
    int ret = model_note(m, "mmap:%u", index);

    if (ret < 0) {
        return ret;
    }
    if (!m->config.doorbells) {
        return -VDPA_ENOTSUPP;
    }
    if (index >= m->config.n_queues) {
        return -EINVAL;
    }
    model_ref(m);
    model_device_wake(m);       /* which has to look at pages now */
    return 0;
}

static void *kernel_map_doorbell(VhostVdpaKernel *kernel, int fd, unsigned int index)
{
    VdpaModel *m = (VdpaModel *)kernel;
    int ret = enter(m, fd);
    void *page;

    if (ret == 0) {
        pthread_mutex_lock(&m->lock);
        ret = map_doorbell(m, index);
        pthread_mutex_unlock(&m->lock);
        leave(m);
    }
    if (ret < 0) {
        errno = -ret;
        return NULL;
    }
    page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_WRITE, MAP_SHARED,
                m->rings[index].bell_fd, 0);
    g_assert_true(page != MAP_FAILED);
    return page;
}

static void kernel_unmap_doorbell(VhostVdpaKernel *kernel, void *page)
{
    VdpaModel *m = (VdpaModel *)kernel;

    g_assert_no_errno(munmap(page, (size_t)sysconf(_SC_PAGESIZE)));
    leave(m);
}

VdpaModel *vdpa_model_new(const VdpaModelConfig *config)
{
    VdpaModel *m = g_new0(VdpaModel, 1);

    g_assert_false(config->features & VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC));
    g_assert_cmpuint(config->n_queues, <=, VDPA_MODEL_QUEUES);
    g_assert_cmpuint(config->n_groups, <=, VDPA_MODEL_GROUPS);
    g_assert_cmpuint(config->n_spaces, <=, VDPA_MODEL_SPACES);
    m->kernel = (VhostVdpaKernel){
        .open = kernel_open,
        .close = kernel_close,
        .stat = kernel_stat,
        .ioctl = kernel_ioctl,
        .write = kernel_write,
        .map_doorbell = kernel_map_doorbell,
        .unmap_doorbell = kernel_unmap_doorbell,
    };
    m->config = *config;
    m->dir = g_dir_make_tmp("svq-XXXXXX", NULL);
    m->path = g_build_filename(m->dir, "vhost-vdpa-0", NULL);
    m->fd = m->config_call = -1;
    m->calls = g_string_new(NULL);
    m->complaints = g_string_new(NULL);
    m->maps = g_ptr_array_new();
    m->memory_limit = UINT64_MAX;
    pthread_mutex_init(&m->calling, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    m->ctrl = ctrl_device_new(true);
    vdpa_model_appear(m);
    model_device_start(m);
    return m;
}

static bool is_in_use_though_closed(VdpaModel *m)
{
    bool in_use;

    pthread_mutex_lock(&m->lock);
    in_use = m->refs && m->fd < 0;
    pthread_mutex_unlock(&m->lock);
    return in_use;
}

void vdpa_model_free(VdpaModel *m)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;

    while (is_in_use_though_closed(m) && g_get_monotonic_time() < end_us) {
        g_usleep(1000);
    }
    model_device_stop(m);
    g_assert_cmpint(m->fd, ==, -1);
    g_assert_cmpuint(m->refs, ==, 0);
    g_assert_cmpstr(m->complaints->str, ==, "");
    if (g_file_test(m->path, G_FILE_TEST_EXISTS)) {
        vdpa_model_vanish(m);
    }
    g_assert_no_errno(g_rmdir(m->dir));
    ctrl_device_free(m->ctrl);
    g_ptr_array_free(m->maps, TRUE);
    g_string_free(m->calls, TRUE);
    g_string_free(m->complaints, TRUE);
    pthread_mutex_destroy(&m->calling);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    g_free(m->fail_call);
    g_free(m->failed);
    g_free(m->path);
    g_free(m->dir);
    g_free(m);
}

const char *vdpa_model_path(const VdpaModel *m)
{
    return m->path;
}

VhostVdpaKernel *vdpa_model_kernel(VdpaModel *m)
{
    return &m->kernel;
}

int vdpa_model_open(VdpaModel *m)
{
    return m->kernel.open(&m->kernel, m->path);
}

bool vdpa_model_is_open(VdpaModel *m)
{
    bool open;

    pthread_mutex_lock(&m->lock);
    open = m->refs > 0;
    pthread_mutex_unlock(&m->lock);
    return open;
}

void vdpa_model_vanish(VdpaModel *m)
{
    g_assert_no_errno(g_unlink(m->path));
}

void vdpa_model_vanish_at_open(VdpaModel *m)
{
    pthread_mutex_lock(&m->lock);
    m->vanish = true;
    pthread_mutex_unlock(&m->lock);
}

void vdpa_model_appear(VdpaModel *m)
{
    g_assert_true(g_file_set_contents(m->path, "", 0, NULL));
}
