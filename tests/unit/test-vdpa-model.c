/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model of the vhost-vdpa interface is as strict as the kernel: error numbers, address
 * spaces, what a reset takes, what suspending leaves.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hw/virtio/vring-driver.h"
#include "lib/vdpa-model.h"
#include "lib/vhost-user-peer.h"

#define BASIC   (VIRTIO_F_BIT(VIRTIO_F_VERSION_1) | VIRTIO_F_BIT(VIRTIO_F_ACCESS_PLATFORM))
#define PACKED  VIRTIO_F_BIT(VIRTIO_F_RING_PACKED)
#define IOVA    UINT64_C(0x10000000)
#define SIZE    UINT64_C(0x100000)
#define NUM     16u
#define LEN     100u

/* Where the parts of queue q lie in the memory. */
#define DESC(q)     ((q) * UINT64_C(0x10000))
#define DRIVER(q)   (DESC(q) + 0x4000)
#define DEVICE(q)   (DESC(q) + 0x8000)
#define BUFFER(q)   (DESC(q) + 0xc000)

/* A driver of a pair and the control queue, that calls the model as a program calls the kernel. */
typedef struct World {
    VdpaModel *m;
    VhostVdpaKernel *kernel;
    MemoryRegion *region;
    int fd;
    bool packed;
    unsigned int n_rings;
    int kick[3], call[3];
    VringDriver driver[3];
    unsigned int n_fds;
} World;

static void world_init(World *w, const VdpaModelConfig *config)
{
    g_autoptr(GError) error = NULL;
    VdpaModelConfig mine = *config;

    *w = (World){ .n_rings = config->n_queues % 2 ? 3 : 2, .n_fds = peer_count_fds() };
    mine.by_hand = true;
    w->m = vdpa_model_new(&mine);
    w->kernel = vdpa_model_kernel(w->m);
    w->region = memory_region_new(peer_memfd(SIZE), 0, IOVA, SIZE, 0, &error);
    g_assert_no_error(error);
    w->fd = vdpa_model_open(w->m);
    g_assert_cmpint(w->fd, >=, 0);
}

static void world_cleanup(World *w)
{
    w->kernel->close(w->kernel, w->fd);
    vdpa_model_free(w->m);
    memory_region_unref(w->region);
    g_assert_cmpuint(peer_count_fds(), ==, w->n_fds);
}

static int call(World *w, unsigned long request, void *argument)
{
    return w->kernel->ioctl(w->kernel, w->fd, request, argument);
}

static int call_u64(World *w, unsigned long request, uint64_t value)
{
    return call(w, request, &value);
}

static int call_ring(World *w, unsigned long request, uint32_t index, uint32_t num)
{
    struct vhost_vring_state s = { index, num };

    return call(w, request, &s);
}

static uint32_t ask_ring(World *w, unsigned long request, uint32_t index)
{
    struct vhost_vring_state s = { index, UINT32_MAX };

    g_assert_cmpint(call(w, request, &s), ==, 0);
    return s.num;
}

static int set_status(World *w, uint8_t status)
{
    return call(w, VHOST_VDPA_SET_STATUS, &status);
}

static int set_ring_fd(World *w, unsigned long request, uint32_t index, int fd)
{
    struct vhost_vring_file file = { index, fd };

    return call(w, request, &file);
}

static int set_addr(World *w, uint32_t q)
{
    struct vhost_vring_addr addr = {
        .index = q,
        .desc_user_addr = IOVA + DESC(q),
        .avail_user_addr = IOVA + DRIVER(q),
        .used_user_addr = IOVA + DEVICE(q),
    };

    return call(w, VHOST_SET_VRING_ADDR, &addr);
}

static int message(World *w, uint32_t asid, uint8_t type, uint64_t iova, uint64_t size)
{
    struct vhost_msg_v2 msg = {
        .type = VHOST_IOTLB_MSG_V2,
        .asid = asid,
        .iotlb = {
            .iova = iova,
            .size = size,
            .uaddr = (uintptr_t)w->region->host,
            .perm = VHOST_ACCESS_RW,
            .type = type,
        },
    };

    return w->kernel->write(w->kernel, w->fd, &msg);
}

/* Up to FEATURES_OK, with the memory mapped. */
static void negotiate(World *w, uint64_t features, uint64_t backend_features)
{
    w->packed = features & PACKED;
    g_assert_cmpint(call_u64(w, VHOST_SET_BACKEND_FEATURES, backend_features), ==, 0);
    g_assert_cmpint(call(w, VHOST_SET_OWNER, NULL), ==, 0);
    g_assert_cmpint(message(w, 0, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, 0);
    g_assert_cmpint(set_status(w, 3), ==, 0);
    g_assert_cmpint(call_u64(w, VHOST_SET_FEATURES, BASIC | features), ==, 0);
    g_assert_cmpint(set_status(w, 0xb), ==, 0);
}

static uint32_t encode(World *w, VringBase base)
{
    return w->packed ? base.avail | (uint32_t)base.used << 16 : base.avail;
}

static void start_rings(World *w)
{
    const uint32_t start = encode(w, vring_base_start(w->packed));
    uint32_t q;

    for (q = 0; q < w->n_rings; q++) {
        VringConfig config = {
            .num = NUM,
            .packed = w->packed,
            .areas = { w->region->host + DESC(q), w->region->host + DRIVER(q),
                       w->region->host + DEVICE(q) },
        };

        w->kick[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        w->call[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        g_assert_cmpint(vring_driver_init(&w->driver[q], &config, NULL, 0), ==, 0);
        g_assert_cmpint(call_ring(w, VHOST_SET_VRING_NUM, q, NUM), ==, 0);
        g_assert_cmpint(call_ring(w, VHOST_SET_VRING_BASE, q, start), ==, 0);
        g_assert_cmpint(set_addr(w, q), ==, 0);
        g_assert_cmpint(set_ring_fd(w, VHOST_SET_VRING_KICK, q, w->kick[q]), ==, 0);
        g_assert_cmpint(set_ring_fd(w, VHOST_SET_VRING_CALL, q, w->call[q]), ==, 0);
        g_assert_cmpint(call_ring(w, VHOST_VDPA_SET_VRING_ENABLE, q, 1), ==, 0);
    }
    g_assert_cmpint(set_status(w, 0xf), ==, 0);
}

static void stop_rings(World *w)
{
    unsigned int q;

    g_assert_cmpint(set_status(w, 0), ==, 0);
    for (q = 0; q < w->n_rings; q++) {
        vring_driver_cleanup(&w->driver[q]);
        close(w->kick[q]);
        close(w->call[q]);
    }
}

static void add(World *w, unsigned int q, uint8_t mark)
{
    const VringSegment seg = { IOVA + BUFFER(q), LEN, q ? 0 : VRING_DESC_F_WRITE };

    memset(w->region->host + BUFFER(q), mark, LEN);
    vring_driver_add(&w->driver[q], w->packed, &seg, 1, mark);
    vring_driver_publish(&w->driver[q], w->packed);
    g_assert_no_errno(eventfd_write(w->kick[q], 1));
}

static unsigned int collect(World *w, unsigned int q)
{
    uint32_t cookie, len;
    unsigned int n = 0;

    while (vring_driver_collect(&w->driver[q], w->packed, &cookie, &len) == 1) {
        n++;
    }
    return n;
}

static void test_rules(void)
{
    World w;
    int pipes[2];

    world_init(&w, &vdpa_model_sim);
    g_assert_cmpint(vdpa_model_open(w.m), ==, -EBUSY);
    g_assert_cmpint(w.kernel->open(w.kernel, "/dev/null"), ==, -ENOENT);

    g_assert_cmpint(call_ring(&w, VHOST_VDPA_GET_VRING_GROUP, 0, 0), ==, -EPERM);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, -EFAULT);
    g_assert_cmpint(call_u64(&w, VHOST_SET_BACKEND_FEATURES, VDPA_B(40)), ==, -EOPNOTSUPP);
    g_assert_cmpint(call_u64(&w, VHOST_SET_BACKEND_FEATURES, VDPA_B_DESC_ASID), ==, -EOPNOTSUPP);
    g_assert_cmpint(call_u64(&w, VHOST_SET_FEATURES, 0), ==, -EINVAL);
    negotiate(&w, 0, VDPA_B_CORE);
    g_assert_cmpint(call(&w, VHOST_SET_OWNER, NULL), ==, -EBUSY);
    g_assert_cmpint(call_u64(&w, VHOST_SET_FEATURES, BASIC), ==, -EBUSY);
    g_assert_cmpint(set_status(&w, 3), ==, -EINVAL);
    g_assert_cmpint(call_ring(&w, VHOST_SET_VRING_NUM, 4, 8), ==, -ENOBUFS);
    g_assert_cmpint(call_ring(&w, VHOST_SET_VRING_NUM, 0, 48), ==, -EINVAL);
    g_assert_cmpint(call_ring(&w, VHOST_SET_VRING_NUM, 0, 512), ==, -EINVAL);
    g_assert_cmpint(call_ring(&w, VHOST_SET_VRING_BASE, 0, 0x10000), ==, -EINVAL);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_SET_GROUP_ASID, 1, 0), ==, -EINVAL);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_GET_VRING_DESC_GROUP, 0, 0), ==, -EOPNOTSUPP);
    g_assert_cmpint(call(&w, VHOST_RESET_OWNER, NULL), ==, -EFAULT);

    g_assert_no_errno(pipe2(pipes, O_CLOEXEC));
    g_assert_cmpint(set_ring_fd(&w, VHOST_SET_VRING_CALL, 0, pipes[1]), ==, -EINVAL);
    g_assert_cmpint(set_ring_fd(&w, VHOST_SET_VRING_KICK, 0, 4000), ==, -EBADF);
    g_assert_cmpint(w.kernel->ioctl(w.kernel, pipes[0], VHOST_SET_OWNER, NULL), ==, -ENOTTY);
    close(pipes[0]);
    close(pipes[1]);

    start_rings(&w);
    g_assert_cmpint(call_ring(&w, VHOST_SET_VRING_BASE, 0, 0), ==, -EINVAL);
    g_assert_cmpint(set_addr(&w, 0), ==, -EINVAL);
    g_assert_cmpint(call(&w, VHOST_VDPA_SUSPEND, NULL), ==, 0);
    g_assert_cmpint(set_addr(&w, 0), ==, 0);
    stop_rings(&w);
    world_cleanup(&w);
}

static void test_without_suspend(void)
{
    g_autofree char *complaints = NULL;
    World w;

    world_init(&w, &vdpa_model_pci);
    g_assert_cmpint(call(&w, VHOST_VDPA_SUSPEND, NULL), ==, 0);
    negotiate(&w, PACKED, VDPA_B_CORE);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_GET_VRING_GROUP, 0, 0), ==, -EOPNOTSUPP);
    g_assert_cmpint(call_ring(&w, VHOST_GET_VRING_BASE, 0, 0), ==, -EOPNOTSUPP);
    g_assert_cmpint(call_ring(&w, VHOST_SET_VRING_BASE, 0, 0x80018001), ==, -EOPNOTSUPP);
    start_rings(&w);
    g_assert_cmpint(call(&w, VHOST_VDPA_SUSPEND, NULL), ==, -EOPNOTSUPP);
    g_assert_cmpint(call(&w, VHOST_VDPA_RESUME, NULL), ==, -EOPNOTSUPP);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_SET_VRING_ENABLE, 0, 0), ==, 0);
    complaints = vdpa_model_take_complaints(w.m);
    g_assert_cmpstr(complaints, ==,
                    "queue 0: disabled, which only a reset may do (4.1.4.3.2)\n");
    stop_rings(&w);
    world_cleanup(&w);
}

static void test_spaces(void)
{
    g_autofree char *maps = NULL;
    World w;

    world_init(&w, &vdpa_model_spaces);
    g_assert_cmpint(call_u64(&w, VHOST_SET_BACKEND_FEATURES, VDPA_B_DESC_ASID), ==, -EINVAL);
    negotiate(&w, 0, VDPA_B_CORE | VDPA_B_DESC_ASID);
    g_assert_cmpuint(ask_ring(&w, VHOST_VDPA_GET_VRING_GROUP, 3), ==, 0);
    g_assert_cmpuint(ask_ring(&w, VHOST_VDPA_GET_VRING_DESC_GROUP, 3), ==, 1);

    g_assert_cmpint(message(&w, 1, VHOST_IOTLB_INVALIDATE, IOVA, SIZE), ==, -EFAULT);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_UPDATE, IOVA + SIZE / 2, SIZE), ==, -EFAULT);
    g_assert_cmpint(message(&w, 2, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, -EFAULT);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_BATCH_BEGIN, 0, 0), ==, 0);
    g_assert_cmpint(message(&w, 1, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, -EFAULT);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_UPDATE, 0, SIZE), ==, 0);
    maps = vdpa_model_maps(w.m);
    g_assert_cmpstr(maps, ==, "0:0+100000! 0:10000000+100000");
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_BATCH_END, 0, 0), ==, 0);
    g_assert_cmpint(message(&w, 1, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, 0);
    /* A part of a map takes the whole. */
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_INVALIDATE, IOVA + 0x1000, 0x1000), ==, 0);
    g_free(maps);
    maps = vdpa_model_maps(w.m);
    g_assert_cmpstr(maps, ==, "0:0+100000 1:10000000+100000");

    vdpa_model_limit_memory(w.m, 2 * SIZE + SIZE / 2);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, -EFAULT);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_UPDATE, IOVA, SIZE / 2), ==, 0);
    world_cleanup(&w);
}

/* A ring and what it names are looked for where its group is, and nowhere else. */
static void test_control(gconstpointer features)
{
    const uint64_t desc = IOVA + DESC(2), command = IOVA + BUFFER(2), ack = command + 0x100;
    const VringSegment segs[] = { { command, 2, 0 }, { ack, 1, VRING_DESC_F_WRITE } };
    g_autofree char *expected = NULL, *complaints = NULL;
    g_autoptr(GBytes) first = NULL;
    World w;

    world_init(&w, &vdpa_model_sim_ctrl);
    negotiate(&w, GPOINTER_TO_SIZE(features) | VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ), VDPA_B_CORE);
    g_assert_cmpuint(ask_ring(&w, VHOST_VDPA_GET_VRING_GROUP, 1), ==, 0);
    g_assert_cmpuint(ask_ring(&w, VHOST_VDPA_GET_VRING_GROUP, 2), ==, 1);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_SET_GROUP_ASID, 1, 2), ==, -EINVAL);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_SET_GROUP_ASID, 2, 1), ==, -EINVAL);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_SET_GROUP_ASID, 3, 1), ==, -ENOBUFS);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_SET_GROUP_ASID, 1, 1), ==, 0);
    start_rings(&w);
    w.region->host[BUFFER(2)] = 7;
    w.region->host[BUFFER(2) + 0x100] = 0xff;
    vring_driver_add(&w.driver[2], w.packed, segs, 2, 0);
    vring_driver_publish(&w.driver[2], w.packed);

    g_assert_no_errno(eventfd_write(w.kick[2], 1));
    vdpa_model_step(w.m);
    complaints = vdpa_model_take_complaints(w.m);
    expected = g_strdup_printf("queue 2: descriptor area at 0x%" PRIx64 "+0x100 is not mapped in "
                               "space 1\n", desc);
    g_assert_true(g_str_has_prefix(complaints, expected));
    g_assert_cmpuint(ctrl_device_get_stats(vdpa_model_ctrl(w.m)).taken, ==, 0);
    stop_rings(&w);

    /* Both are there; the other space is as before. */
    g_assert_cmpint(message(&w, 1, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, 0);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_INVALIDATE, IOVA, SIZE), ==, 0);
    g_assert_cmpint(set_status(&w, 3), ==, 0);
    g_assert_cmpint(call_u64(&w, VHOST_SET_FEATURES, BASIC | GPOINTER_TO_SIZE(features) |
                             VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ)), ==, 0);
    g_assert_cmpint(set_status(&w, 0xb), ==, 0);
    g_assert_cmpint(call_ring(&w, VHOST_VDPA_SET_GROUP_ASID, 1, 1), ==, 0);
    memset(w.region->host + DESC(2), 0, 0xc000);
    start_rings(&w);
    vring_driver_add(&w.driver[2], w.packed, segs, 2, 0);
    vring_driver_publish(&w.driver[2], w.packed);
    vdpa_model_step(w.m);
    g_assert_cmpuint(collect(&w, 2), ==, 0);    /* nothing is looked at without a kick */
    g_assert_no_errno(eventfd_write(w.kick[2], 1));
    vdpa_model_step(w.m);
    g_assert_cmpuint(collect(&w, 2), ==, 1);
    g_assert_cmpuint(w.region->host[BUFFER(2) + 0x100], ==, 0);
    first = ctrl_device_get_command(vdpa_model_ctrl(w.m), 0);
    g_assert_cmpmem(g_bytes_get_data(first, NULL), g_bytes_get_size(first), "\x07", 2);
    stop_rings(&w);
    world_cleanup(&w);
}

/* Suspended, it stands still; what waited there is offered again, or waits on. */
static void test_control_in_flight(gconstpointer keep)
{
    const VringSegment segs[] = { { IOVA + BUFFER(2), 2, 0 },
                                  { IOVA + BUFFER(2) + 0x100, 1, VRING_DESC_F_WRITE } };
    CtrlDevice *ctrl;
    World w;

    world_init(&w, &vdpa_model_sim_ctrl);
    ctrl = vdpa_model_ctrl(w.m);
    negotiate(&w, VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ), VDPA_B_CORE);
    start_rings(&w);
    vdpa_model_keep_in_flight(w.m, keep);
    ctrl_device_set(ctrl, &(CtrlDeviceKnobs){ .never = true });
    vring_driver_add(&w.driver[2], w.packed, segs, 2, 0);
    vring_driver_publish(&w.driver[2], w.packed);
    g_assert_no_errno(eventfd_write(w.kick[2], 1));
    vdpa_model_step(w.m);
    g_assert_cmpuint(ctrl_device_get_stats(ctrl).waiting, ==, 1);

    g_assert_cmpint(call(&w, VHOST_VDPA_SUSPEND, NULL), ==, 0);
    ctrl_device_set(ctrl, &(CtrlDeviceKnobs){ 0 });
    vdpa_model_step(w.m);
    g_assert_cmpuint(ctrl_device_get_stats(ctrl).waiting, ==, keep ? 1 : 0);
    g_assert_cmpuint(ctrl_device_get_stats(ctrl).answered, ==, 0);
    g_assert_cmpuint(vdpa_model_ring(w.m, 2).base.avail, ==, keep ? 1 : 0);
    g_assert_cmpint(call(&w, VHOST_VDPA_RESUME, NULL), ==, 0);
    g_assert_no_errno(eventfd_write(w.kick[2], 1));
    vdpa_model_step(w.m);
    g_assert_cmpuint(collect(&w, 2), ==, 1);
    g_assert_cmpuint(ctrl_device_get_stats(ctrl).taken, ==, keep ? 1 : 2);
    stop_rings(&w);
    world_cleanup(&w);
}

static void test_reset_takes_maps(gconstpointer persist)
{
    const bool keeps = GPOINTER_TO_INT(persist);
    g_autofree char *maps = NULL, *complaints = NULL;
    World w;

    world_init(&w, &vdpa_model_sim);
    negotiate(&w, 0, VDPA_B_CORE | (keeps ? VDPA_B_PERSIST : 0));
    g_assert_cmpint(set_status(&w, 0), ==, 0);
    maps = vdpa_model_maps(w.m);
    g_assert_cmpstr(maps, ==, keeps ? "0:10000000+100000" : "0:10000000+100000!");
    /* Lost or not, the kernel has them. */
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, -EFAULT);

    g_assert_cmpint(set_status(&w, 3), ==, 0);
    g_assert_cmpint(call_u64(&w, VHOST_SET_FEATURES, BASIC), ==, 0);
    g_assert_cmpint(set_status(&w, 0xb), ==, 0);
    start_rings(&w);
    add(&w, 0, 0);
    add(&w, 1, 1);
    g_assert_cmpuint(vdpa_model_step(w.m), ==, keeps);
    complaints = vdpa_model_take_complaints(w.m);
    g_assert_cmpint(strstr(complaints, "area at 0x10000000+0x100 is mapped no more") != NULL, ==,
                    !keeps);
    stop_rings(&w);
    world_cleanup(&w);
}

static void test_packets(gconstpointer features)
{
    World w;
    unsigned int i;

    world_init(&w, &vdpa_model_sim);
    negotiate(&w, GPOINTER_TO_SIZE(features), VDPA_B_CORE);
    start_rings(&w);
    for (i = 1; i < 3 * NUM; i++) {
        add(&w, 0, 0);
        g_assert_cmpuint(vdpa_model_step(w.m), ==, 0);
        add(&w, 1, (uint8_t)i);
        g_assert_cmpuint(vdpa_model_step(w.m), ==, 1);
        g_assert_cmpuint(collect(&w, 0), ==, 1);
        g_assert_cmpuint(collect(&w, 1), ==, 1);
        /* But for num_buffers. */
        g_assert_cmpmem(w.region->host + BUFFER(0) + 12, LEN - 12,
                        w.region->host + BUFFER(1) + 12, LEN - 12);
    }
    stop_rings(&w);
    world_cleanup(&w);
}

/* Two buffers stay in flight, of which the younger completes: what then does SUSPEND leave? */
static void test_suspend_in_flight(gconstpointer features, bool keep)
{
    VdpaModelRing tx;
    VringBase base;
    World w;

    world_init(&w, &vdpa_model_sim);
    negotiate(&w, GPOINTER_TO_SIZE(features), VDPA_B_CORE);
    start_rings(&w);
    vdpa_model_hold(w.m, 1, true);
    vdpa_model_keep_in_flight(w.m, keep);
    add(&w, 0, 0);
    add(&w, 0, 0);
    add(&w, 1, 1);
    add(&w, 1, 2);
    g_assert_cmpuint(vdpa_model_step(w.m), ==, 2);
    g_assert_cmpuint(collect(&w, 1), ==, 1);

    g_assert_cmpint(call(&w, VHOST_VDPA_SUSPEND, NULL), ==, 0);
    add(&w, 0, 0);
    add(&w, 1, 3);
    g_assert_cmpuint(vdpa_model_step(w.m), ==, 0);
    tx = vdpa_model_ring(w.m, 1);
    base = tx.base;
    g_assert_cmpuint(base.avail & 0x7fff, ==, 2);
    g_assert_cmpuint(base.used & 0x7fff, ==, keep ? 1 : 2);
    g_assert_cmpuint(ask_ring(&w, VHOST_GET_VRING_BASE, 1), ==, encode(&w, base));
    g_assert_cmpuint(collect(&w, 1), ==, keep ? 0 : 1);

    /* It goes on where it stood, and sees what it was kicked for meanwhile. */
    vdpa_model_hold(w.m, 0, false);
    g_assert_cmpint(call(&w, VHOST_VDPA_RESUME, NULL), ==, 0);
    g_assert_cmpuint(vdpa_model_step(w.m), ==, 1);
    g_assert_cmpuint(collect(&w, 1), ==, keep ? 2 : 1);
    g_assert_cmpuint(collect(&w, 0), ==, 3);
    stop_rings(&w);
    world_cleanup(&w);
}

static void test_suspend_settles(gconstpointer features)
{
    test_suspend_in_flight(features, false);
}

static void test_suspend_keeps(gconstpointer features)
{
    test_suspend_in_flight(features, true);
}

static void test_suspend_lies(void)
{
    World w;

    world_init(&w, &vdpa_model_sim);
    negotiate(&w, 0, VDPA_B_CORE);
    start_rings(&w);
    vdpa_model_lie_on_suspend(w.m, true);
    g_assert_cmpint(call(&w, VHOST_VDPA_SUSPEND, NULL), ==, 0);
    add(&w, 0, 0);
    add(&w, 1, 1);
    g_assert_cmpuint(vdpa_model_step(w.m), ==, 1);
    stop_rings(&w);
    world_cleanup(&w);
}

static void *suspend_thread(void *opaque)
{
    return GINT_TO_POINTER(call(opaque, VHOST_VDPA_SUSPEND, NULL) + 1);
}

static void test_suspend_hangs(void)
{
    GThread *thread;
    World w;

    world_init(&w, &vdpa_model_sim);
    vdpa_model_hang_suspend(w.m);
    thread = g_thread_new("suspend", suspend_thread, &w);
    for (;;) {
        g_autofree char *calls = vdpa_model_take_calls(w.m);

        if (strstr(calls, "SUSPEND")) {
            break;
        }
        g_thread_yield();
    }
    /* Closed under the call, the file is in use until that returns. */
    w.kernel->close(w.kernel, w.fd);
    g_assert_true(vdpa_model_is_open(w.m));
    g_assert_cmpint(vdpa_model_open(w.m), ==, -EBUSY);
    vdpa_model_release_suspend(w.m);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 1);
    g_assert_false(vdpa_model_is_open(w.m));
    w.fd = vdpa_model_open(w.m);
    world_cleanup(&w);
}

static void test_doorbells(void)
{
    g_autofree char *complaints = NULL;
    World w;
    uint16_t *page;
    int fd;

    world_init(&w, &vdpa_model_pci);
    negotiate(&w, 0, VDPA_B_CORE);
    start_rings(&w);
    g_assert_null(w.kernel->map_doorbell(w.kernel, w.fd, 4));
    g_assert_cmpint(errno, ==, EINVAL);
    page = w.kernel->map_doorbell(w.kernel, w.fd, 1);
    g_assert_nonnull(page);
    add(&w, 0, 0);
    vdpa_model_step(w.m);
    add(&w, 1, 1);
    *page = htole16(1);
    g_assert_cmpuint(vdpa_model_step(w.m), ==, 1);
    g_assert_cmpuint(vdpa_model_ring(w.m, 1).rung, ==, 1);
    *page = htole16(0);
    vdpa_model_step(w.m);
    complaints = vdpa_model_take_complaints(w.m);
    g_assert_cmpstr(complaints, ==, "queue 1: 0xffff0000 was written to its doorbell\n");
    stop_rings(&w);
    /* A mapping keeps the file open. */
    fd = w.fd;
    w.kernel->close(w.kernel, fd);
    g_assert_cmpint(vdpa_model_open(w.m), ==, -EBUSY);
    w.kernel->unmap_doorbell(w.kernel, page);
    w.fd = vdpa_model_open(w.m);
    g_assert_cmpint(w.fd, >=, 0);
    world_cleanup(&w);
}

static void test_faults(void)
{
    g_autofree char *failed = NULL;
    World w;

    world_init(&w, &vdpa_model_sim);
    g_free(vdpa_model_take_calls(w.m));
    vdpa_model_fail(w.m, "SET_STATUS:3", 2, EIO);
    g_assert_cmpint(set_status(&w, 1), ==, 0);
    g_assert_cmpint(set_status(&w, 3), ==, 0);
    g_assert_null(vdpa_model_failed(w.m));
    g_assert_cmpint(set_status(&w, 3), ==, -EIO);
    g_assert_cmpint(set_status(&w, 3), ==, 0);
    failed = vdpa_model_failed(w.m);
    g_assert_cmpstr(failed, ==, "SET_STATUS:3");
    vdpa_model_fail_at(w.m, 2, ENODEV);
    g_assert_cmpint(call(&w, VHOST_SET_OWNER, NULL), ==, 0);
    g_assert_cmpint(message(&w, 0, VHOST_IOTLB_UPDATE, IOVA, SIZE), ==, -ENODEV);
    g_free(failed);
    failed = vdpa_model_take_calls(w.m);
    g_assert_cmpstr(failed, ==,
                    "SET_STATUS:1 SET_STATUS:3 SET_STATUS:3 SET_STATUS:3 SET_OWNER "
                    "UPDATE:0:10000000+100000");
    world_cleanup(&w);
}

static void add_formats(const char *name, GTestDataFunc test)
{
    g_autofree char *split = g_strdup_printf("%s/split", name);
    g_autofree char *packed = g_strdup_printf("%s/packed", name);

    g_test_add_data_func(split, NULL, test);
    g_test_add_data_func(packed, GSIZE_TO_POINTER(PACKED), test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vdpa-model/rules", test_rules);
    g_test_add_func("/vdpa-model/rules-without-suspend", test_without_suspend);
    g_test_add_func("/vdpa-model/address-spaces", test_spaces);
    g_test_add_data_func("/vdpa-model/reset-takes-maps", GINT_TO_POINTER(false),
                         test_reset_takes_maps);
    g_test_add_data_func("/vdpa-model/reset-leaves-persistent-maps", GINT_TO_POINTER(true),
                         test_reset_takes_maps);
    add_formats("/vdpa-model/moves-packets", test_packets);
    add_formats("/vdpa-model/suspend-settles", test_suspend_settles);
    add_formats("/vdpa-model/suspend-keeps-in-flight", test_suspend_keeps);
    g_test_add_func("/vdpa-model/suspend-lies", test_suspend_lies);
    g_test_add_func("/vdpa-model/suspend-hangs", test_suspend_hangs);
    g_test_add_func("/vdpa-model/doorbells", test_doorbells);
    add_formats("/vdpa-model/control-queue", test_control);
    g_test_add_data_func("/vdpa-model/control-queue/suspend-settles", NULL, test_control_in_flight);
    g_test_add_data_func("/vdpa-model/control-queue/suspend-keeps", GINT_TO_POINTER(true),
                         test_control_in_flight);
    g_test_add_func("/vdpa-model/faults", test_faults);
    return g_test_run();
}
