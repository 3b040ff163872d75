/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's rules of the vhost-vdpa ioctls, as of Linux 6.12 (drivers/vhost/vdpa.c, vhost.c),
 * and of the drivers below it where they decide.  Under m->lock, but for a SUSPEND that hangs.
 */
#include "lib/vdpa-model-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "util/event-notifier.h"

static bool is_running(const VdpaModel *m)
{
    return m->status & VIRTIO_STATUS_DRIVER_OK && !m->suspended;
}

static bool is_packed(const VdpaModel *m)
{
    return m->driver_features & VIRTIO_F_BIT(VIRTIO_F_RING_PACKED);
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* A copy of an eventfd, as eventfd_ctx_fdget() has it: nothing else will do.  -1: none. */
static int copy_eventfd(int fd, int *copy)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *kind = NULL;

    *copy = -1;
    if (fd == VHOST_FILE_UNBIND) {
        return 0;
    }
    kind = g_file_read_link(link, NULL);
    if (!kind) {
        return -EBADF;
    }
    if (!strstr(kind, "[eventfd]")) {
        return -EINVAL;
    }
    *copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    g_assert_cmpint(*copy, >=, 0);
    return 0;
}

static void reset(VdpaModel *m, bool file)
{
    unsigned int i;

    m->status = 0;
    m->driver_features = 0;
    m->suspended = m->stopped = false;
    memset(m->group_asid, 0, sizeof(m->group_asid));
    memset(m->looks_in, 0, sizeof(m->looks_in));
    for (i = 0; i < m->maps->len && !(m->backend_features & VDPA_B_PERSIST); i++) {
        ((ModelMap *)g_ptr_array_index(m->maps, i))->live = false;
    }
    model_device_reset(m, file);
}

void model_reset_file(VdpaModel *m)
{
    reset(m, true);
    model_unmap_all(m);
    close_fd(&m->config_call);
    m->in_batch = m->owned = false;
    m->backend_features = 0;
}

static int set_features(VdpaModel *m, uint64_t features)
{
    const uint64_t platform = VIRTIO_F_BIT(VIRTIO_F_ACCESS_PLATFORM);

    if (m->status & VIRTIO_STATUS_FEATURES_OK) {
        return -EBUSY;
    }
    /* The device depends on its IOTLB: the sim insists. */
    if (platform & m->config.features & ~features) {
        return -EINVAL;
    }
    if (features & ~m->config.features) {
        model_complain(m, "features 0x%" PRIx64 " were not offered",
                       features & ~m->config.features);
    }
    m->driver_features = features & m->config.features;
    return 0;
}

static int set_status(VdpaModel *m, uint8_t status)
{
    if (status && m->status & ~status) {
        return -EINVAL;
    }
    if (!status) {
        reset(m, false);
        return 0;
    }
    if (status & VIRTIO_STATUS_FEATURES_OK && m->driver_features & m->config.refused) {
        status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    }
    if (status & VIRTIO_STATUS_DRIVER_OK && !(status & VIRTIO_STATUS_FEATURES_OK)) {
        model_complain(m, "DRIVER_OK without FEATURES_OK");
    }
    m->status = status;
    return 0;
}

static int set_backend_features(VdpaModel *m, uint64_t features)
{
    if (features & ~m->config.backend_features) {
        return -EOPNOTSUPP;
    }
    if (features & VDPA_B_DESC_ASID && !(features & VDPA_B_ASID)) {
        return -EINVAL;
    }
    m->backend_features = features;
    return 0;
}

static int access_config(VdpaModel *m, struct vhost_vdpa_config *c, bool write)
{
    if (c->len == 0 || c->off > m->config.config_size ||
        c->len > m->config.config_size - c->off) {
        return -EINVAL;
    }
    if (write) {
        memcpy(m->config.config + c->off, c->buf, c->len);
    } else {
        memcpy(c->buf, m->config.config + c->off, c->len);
    }
    return 0;
}

static int set_config_call(VdpaModel *m, int fd)
{
    int copy, ret = copy_eventfd(fd, &copy);

    if (ret == 0) {
        close_fd(&m->config_call);
        m->config_call = copy;
    }
    return ret;
}

/* Waits, with @lock free, as long as the test wants; m->calling is held all the time. */
static int suspend(VdpaModel *m)
{
    while (m->hang) {
        pthread_cond_wait(&m->changed, &m->lock);
    }
    if (!(m->status & VIRTIO_STATUS_DRIVER_OK)) {
        return 0;
    }
    if (!(m->config.backend_features & VDPA_B_SUSPEND)) {
        return -EOPNOTSUPP;
    }
    m->suspended = !m->halfway;
    if (!m->lie) {
        model_device_suspend(m);
    }
    return m->halfway ? -EIO : 0;
}

static int resume(VdpaModel *m)
{
    if (!(m->status & VIRTIO_STATUS_DRIVER_OK)) {
        return 0;
    }
    if (!(m->config.backend_features & VDPA_B_RESUME)) {
        return -EOPNOTSUPP;
    }
    m->suspended = false;
    model_device_resume(m);
    return 0;
}

static int set_num(VdpaModel *m, ModelRing *ring, uint32_t num)
{
    if (!num || num > UINT16_MAX || num > m->config.num_max || num & (num - 1)) {
        return -EINVAL;
    }
    if (ring->enabled) {
        model_complain(m, "queue %u: SET_VRING_NUM while enabled", (unsigned int)(ring - m->rings));
    }
    if (m->status & VIRTIO_STATUS_DRIVER_OK && ring->num && ring->num != num) {
        model_complain(m, "queue %u: another size while it runs", (unsigned int)(ring - m->rings));
    }
    ring->num = num;
    return 0;
}

static int set_base(VdpaModel *m, ModelRing *ring, uint32_t num)
{
    const VringBase start = vring_base_start(is_packed(m));
    VringBase base = { (uint16_t)num, (uint16_t)(num >> 16) };

    if (!is_packed(m)) {
        if (num > UINT16_MAX) {
            return -EINVAL;
        }
        base.used = base.avail;
    } else if (m->config.short_base && num > UINT16_MAX) {
        return -EINVAL;
    }
    if (is_running(m)) {
        return -EINVAL;
    }
    if (m->config.initial_base &&
        (base.avail != start.avail || base.used != start.used || ring->enabled ||
         !(m->status & VIRTIO_STATUS_FEATURES_OK))) {
        return -EOPNOTSUPP;
    }
    if (base.avail != base.used) {
        model_complain(m, "queue %u: base 0x%x has buffers in flight",
                       (unsigned int)(ring - m->rings), num);
    }
    if (ring->enabled) {
        model_complain(m, "queue %u: SET_VRING_BASE while enabled",
                       (unsigned int)(ring - m->rings));
    }
    ring->base = base;
    ring->based = true;
    return 0;
}

static int get_base(VdpaModel *m, const ModelRing *ring, uint32_t *num)
{
    VringBase base;

    if (m->config.no_get_base) {
        return -EOPNOTSUPP;
    }
    if (is_running(m) && ring->enabled) {
        model_complain(m, "queue %u: GET_VRING_BASE while it runs",
                       (unsigned int)(ring - m->rings));
    }
    base = model_ring_base(ring);
    *num = is_packed(m) && !m->config.short_base ? base.avail | (uint32_t)base.used << 16
                                                 : base.avail;
    return 0;
}

static int set_addr(VdpaModel *m, ModelRing *ring, const struct vhost_vring_addr *addr)
{
    if (addr->flags) {
        return -EOPNOTSUPP;
    }
    if (addr->avail_user_addr % 2 || addr->used_user_addr % 4) {
        return -EINVAL;
    }
    if (is_running(m)) {
        return -EINVAL;
    }
    ring->desc = addr->desc_user_addr;
    ring->driver = addr->avail_user_addr;
    ring->device = addr->used_user_addr;
    ring->addressed = true;
    return 0;
}

static int set_enable(VdpaModel *m, unsigned int index, uint32_t enable)
{
    if (!enable && !(m->config.backend_features & VDPA_B_SUSPEND)) {
        model_complain(m, "queue %u: disabled, which only a reset may do (4.1.4.3.2)", index);
    }
    if (enable && m->status & VIRTIO_STATUS_DRIVER_OK &&
        !(m->config.backend_features & VDPA_B_ENABLE_AFTER)) {
        model_complain(m, "queue %u: enabled after DRIVER_OK", index);
        return 0;
    }
    model_ring_enable(m, index, enable);
    return 0;
}

static int get_group(const VdpaModel *m, bool desc, struct vhost_vring_state *s)
{
    if (m->config.n_groups == 0 || (desc && !(m->config.backend_features & VDPA_B_DESC_ASID))) {
        return -EOPNOTSUPP;
    }
    s->num = desc ? m->config.desc_group[s->index] : m->config.group[s->index];
    return s->num >= m->config.n_groups ? -EIO : 0;
}

static int set_group_asid(VdpaModel *m, const struct vhost_vring_state *s)
{
    if (s->index >= MAX(m->config.n_groups, 1) || s->num >= m->config.n_spaces) {
        return -EINVAL;
    }
    if (m->config.n_groups == 0) {
        return -EOPNOTSUPP;
    }
    if (m->config.asid_fixed && m->status & VIRTIO_STATUS_DRIVER_OK) {
        return -EBUSY;
    }
    if (is_running(m)) {
        model_complain(m, "group %u: another space while it runs", s->index);
    }
    m->group_asid[s->index] = s->num;
    if (!(m->status & VIRTIO_STATUS_DRIVER_OK)) {
        m->looks_in[s->index] = s->num;
    }
    return 0;
}

static int set_ring_fd(VdpaModel *m, unsigned int index, unsigned long request, int fd)
{
    int copy, ret = copy_eventfd(fd, &copy);

    if (ret < 0) {
        return ret;
    }
    if (request == VHOST_SET_VRING_KICK) {
        model_ring_set_kick(m, index, copy);
    } else if (request == VHOST_SET_VRING_CALL) {
        close_fd(&m->rings[index].call);
        m->rings[index].call = copy;
    } else {
        close_fd(&copy);        /* no parent ever signals it */
    }
    return 0;
}

/* The calls that name a ring; their arguments begin with its index. */
static int ring_ioctl(VdpaModel *m, unsigned long request, void *argument)
{
    struct vhost_vring_state *s = argument;
    struct vhost_vring_file *file = argument;
    unsigned int index = *(unsigned int *)argument;
    ModelRing *ring;

    if (!m->owned) {
        return -EPERM;
    }
    if (index >= m->config.n_queues) {
        return -ENOBUFS;
    }
    ring = &m->rings[index];
    switch (request) {
    case VHOST_SET_VRING_NUM:
        return set_num(m, ring, s->num);
    case VHOST_SET_VRING_BASE:
        return set_base(m, ring, s->num);
    case VHOST_GET_VRING_BASE:
        return get_base(m, ring, &s->num);
    case VHOST_SET_VRING_ADDR:
        return set_addr(m, ring, argument);
    case VHOST_SET_VRING_KICK:
    case VHOST_SET_VRING_CALL:
    case VHOST_SET_VRING_ERR:
        return set_ring_fd(m, index, request, file->fd);
    case VHOST_VDPA_SET_VRING_ENABLE:
        return set_enable(m, index, s->num);
    case VHOST_VDPA_GET_VRING_GROUP:
        return get_group(m, false, s);
    case VHOST_VDPA_GET_VRING_DESC_GROUP:
        return get_group(m, true, s);
    case VHOST_VDPA_SET_GROUP_ASID:
        return set_group_asid(m, s);
    case VHOST_VDPA_GET_VRING_SIZE:
        s->num = m->config.num_max;
        return 0;
    default:
        return -ENOTTY;
    }
}

static int set_owner(VdpaModel *m)
{
    if (m->owned) {
        return -EBUSY;
    }
    m->owned = true;
    return 0;
}

static int device_ioctl(VdpaModel *m, unsigned long request, void *argument)
{
    switch (request) {
    case VHOST_VDPA_GET_DEVICE_ID:
        *(uint32_t *)argument = m->config.device_id;
        return 0;
    case VHOST_VDPA_GET_STATUS:
        *(uint8_t *)argument = m->status;
        return 0;
    case VHOST_VDPA_SET_STATUS:
        return set_status(m, *(uint8_t *)argument);
    case VHOST_VDPA_GET_CONFIG:
    case VHOST_VDPA_SET_CONFIG:
        return access_config(m, argument, request == VHOST_VDPA_SET_CONFIG);
    case VHOST_GET_FEATURES:
        *(uint64_t *)argument = m->config.features;
        return 0;
    case VHOST_SET_FEATURES:
        return set_features(m, *(uint64_t *)argument);
    case VHOST_GET_BACKEND_FEATURES:
        *(uint64_t *)argument = m->config.backend_features;
        return 0;
    case VHOST_SET_BACKEND_FEATURES:
        return set_backend_features(m, *(uint64_t *)argument);
    case VHOST_VDPA_GET_VRING_NUM:
        *(uint16_t *)argument = (uint16_t)m->config.num_max;
        return 0;
    case VHOST_VDPA_GET_GROUP_NUM:
        *(uint32_t *)argument = MAX(m->config.n_groups, 1);
        return 0;
    case VHOST_VDPA_GET_AS_NUM:
        *(unsigned int *)argument = m->config.n_spaces;
        return 0;
    case VHOST_VDPA_SET_CONFIG_CALL:
        return set_config_call(m, *(int *)argument);
    case VHOST_VDPA_GET_IOVA_RANGE:
        *(struct vhost_vdpa_iova_range *)argument =
            (struct vhost_vdpa_iova_range){ m->config.iova_first, m->config.iova_last };
        return 0;
    case VHOST_VDPA_GET_CONFIG_SIZE:
        *(uint32_t *)argument = m->config.config_size;
        return 0;
    case VHOST_VDPA_GET_VQS_COUNT:
        *(uint32_t *)argument = m->config.n_queues;
        return 0;
    case VHOST_VDPA_SUSPEND:
        return suspend(m);
    case VHOST_VDPA_RESUME:
        return resume(m);
    case VHOST_SET_OWNER:
        return set_owner(m);
    default:
        return argument ? ring_ioctl(m, request, argument) : -EFAULT;
    }
}

int model_ioctl(VdpaModel *m, unsigned long request, void *argument)
{
    int ret;

    pthread_mutex_lock(&m->lock);
    ret = model_note_ioctl(m, request, argument);
    if (ret == 0) {
        ret = device_ioctl(m, request, argument);
    }
    pthread_mutex_unlock(&m->lock);
    return ret;
}
