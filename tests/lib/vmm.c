/* SPDX-License-Identifier: BSD-3-Clause */
/* The VMM's side of the scripted VMM: memory, messages, descriptors.  See vmm.h. */
#include "lib/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>


/* Buffers of all rings, and above them, at distances, the rings. */
#define DATA_GPA    UINT64_C(0x100000)
#define DATA_SIZE   UINT64_C(0x400000)
#define RING_GPA(q) ((q) * UINT64_C(0x1000000) + UINT64_C(0x1000000))

static void region_init(VmmRegion *region, uint64_t gpa, uint64_t size)
{
    region->gpa = gpa;
    region->size = region->mapped = size;
    region->fd = peer_memfd(2 * size);
    region->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
    g_assert_true(region->host != MAP_FAILED);
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

void vmm_init(Vmm *v, uint64_t features, uint32_t num)
{
    unsigned int q;

    *v = (Vmm){ .fd = -1, .features = features, .num = num };
    region_init(&v->regions[VMM_DATA], DATA_GPA, DATA_SIZE);
    for (q = 0; q < VMM_RINGS; q++) {
        region_init(&v->regions[q], RING_GPA(q), VMM_RING_SIZE);
        v->rings[q].kick = v->rings[q].call = v->rings[q].err = -1;
        v->wire[q] = q;
    }
}

void vmm_cleanup(Vmm *v)
{
    unsigned int i;

    vmm_disconnect(v);
    for (i = 0; i < VMM_RINGS; i++) {
        VmmRing *ring = &v->rings[i];

        if (ring->made) {
            vring_driver_cleanup(&ring->driver);
        }
        close_fd(&ring->kick);
        close_fd(&ring->call);
        close_fd(&ring->err);
    }
    for (i = 0; i < VMM_REGIONS; i++) {
        munmap(v->regions[i].host, v->regions[i].mapped);
        close(v->regions[i].fd);
    }
}

void vmm_connect(Vmm *v, const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    vmm_disconnect(v);
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    v->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_no_errno(connect(v->fd, (struct sockaddr *)&addr, sizeof(addr)));
    g_assert_no_errno(fcntl(v->fd, F_SETFL, O_NONBLOCK));
    peer_pump();
}

void vmm_disconnect(Vmm *v)
{
    close_fd(&v->fd);
    v->agreed = false;
    peer_pump();
}

static VhostUserRegion wire_region(const VmmRegion *region)
{
    return (VhostUserRegion){
        .gpa = region->gpa,
        .size = region->size,
        .user_addr = region->gpa + VMM_USER_OFFSET,
    };
}

static void put_fd(VhostUserMessage *m, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    g_assert_cmpint(copy, >=, 0);
    m->fds[m->n_fds++] = copy;
}

static uint32_t virtqueue_of(const Vmm *v, uint32_t index)
{
    return index < VMM_RINGS ? v->wire[index] : index;
}

static void put_ring_fd(Vmm *v, VhostUserMessage *m, const VmmStep *step)
{
    VmmRing *ring = &v->rings[step->index % VMM_RINGS];
    int *ours = step->request == VHOST_USER_SET_VRING_KICK   ? &ring->kick
                : step->request == VHOST_USER_SET_VRING_CALL ? &ring->call
                                                             : &ring->err;
    int fds[2];

    m->payload.u64 = virtqueue_of(v, step->index);
    close_fd(ours);
    if (step->request == VHOST_USER_SET_VRING_CALL && v->pipes) {
        g_assert_no_errno(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
        *ours = fds[0];
        m->fds[m->n_fds++] = fds[1];
        return;
    }
    *ours = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    put_fd(m, *ours);
}

VhostUserMessage vmm_message(Vmm *v, const VmmStep *step)
{
    VhostUserMessage m = peer_message(step->request,
                                      vhost_user_message_spec(step->request)->size_min);
    const uint64_t user = RING_GPA(step->index) + VMM_USER_OFFSET;
    const uint32_t index = virtqueue_of(v, step->index);
    unsigned int i;

    switch (step->request) {
    case VHOST_USER_SET_FEATURES:
        m.payload.u64 = (v->features | VIRTIO_F_BIT(VHOST_USER_F_PROTOCOL_FEATURES)) & ~step->value;
        break;
    case VHOST_USER_SET_VRING_BASE:
        m.payload.state.index = index;
        m.payload.state.num = step->value == VMM_KEEP_BASE ? v->rings[step->index].base
                              : v->features & VMM_PACKED   ? (uint32_t)step->value
                                                           : 0;
        break;
    case VHOST_USER_SET_VRING_NUM:
        m.payload.state.index = index;
        m.payload.state.num = step->value ? (uint32_t)step->value : v->num;
        break;
    case VHOST_USER_SET_VRING_ENABLE:
    case VHOST_USER_GET_VRING_BASE:
        m.payload.state.index = index;
        m.payload.state.num = (uint32_t)step->value;
        break;
    case VHOST_USER_SET_VRING_ADDR:
        m.payload.addr = (VhostUserVringAddr){
            .index = index,
            .desc = user + step->value,
            .avail = user + VMM_DRIVER_AREA,
            .used = user + VMM_DEVICE_AREA,
            .log = UINT64_MAX,      /* User Mode Linux */
        };
        break;
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
        put_ring_fd(v, &m, step);
        break;
    case VHOST_USER_SET_MEM_TABLE:
        for (i = 0; i < VMM_REGIONS; i++) {
            if (!(step->value & VIRTIO_F_BIT(i))) {
                m.payload.mem_table.regions[m.payload.mem_table.count++] =
                    wire_region(&v->regions[i]);
                put_fd(&m, v->regions[i].fd);
            }
        }
        m.header.size = (uint32_t)VHOST_USER_MEM_TABLE_SIZE(m.payload.mem_table.count);
        break;
    case VHOST_USER_ADD_MEM_REG:
    case VHOST_USER_REM_MEM_REG:
        m.payload.mem_reg.region = wire_region(&v->regions[step->index]);
        if (step->request == VHOST_USER_ADD_MEM_REG) {
            put_fd(&m, v->regions[step->index].fd);
        }
        break;
    default:
        m.payload.u64 = step->value;
    }
    return m;
}

void vmm_do(Vmm *v, VhostUserRequest request, uint32_t index, uint64_t value)
{
    const VmmStep step = { request, index, value };
    const VhostUserMessageSpec *spec = vhost_user_message_spec(request);
    VhostUserMessage m = vmm_message(v, &step);
    VhostUserMessage reply;

    if (spec->reply == VHOST_USER_REPLY_BODY) {
        peer_ask(v->fd, &m, &reply);
        if (request == VHOST_USER_GET_VRING_BASE) {
            v->rings[index].base = reply.payload.state.num;
        }
    } else if (v->ask && (v->agreed || request == VHOST_USER_SET_PROTOCOL_FEATURES)) {
        g_assert_cmphex(peer_ack(v->fd, &m), ==, 0);
    } else {
        peer_send(v->fd, &m);
        g_assert_false(peer_is_closed(v->fd));
    }
    if (request == VHOST_USER_SET_PROTOCOL_FEATURES) {
        v->agreed = true;
    }
    vhost_user_message_clear(&m);
}

void vmm_run(Vmm *v, const VmmStep *steps, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        vmm_do(v, steps[i].request, steps[i].index, steps[i].value);
    }
}

uint64_t vmm_try(Vmm *v, VhostUserRequest request, uint32_t index, uint64_t value)
{
    const VmmStep step = { request, index, value };
    VhostUserMessage m = vmm_message(v, &step);
    uint64_t ret = peer_ack(v->fd, &m);

    vhost_user_message_clear(&m);
    return ret;
}

uint64_t vmm_get(Vmm *v, VhostUserRequest request)
{
    VhostUserMessage m = peer_message(request, 0), reply;

    peer_ask(v->fd, &m, &reply);
    return reply.payload.u64;
}

void vmm_set_fd(Vmm *v, VhostUserRequest request, uint32_t index, int fd)
{
    VhostUserMessage m = peer_u64(request, index | (fd < 0 ? VHOST_USER_VRING_NO_FD : 0));

    if (fd >= 0) {
        put_fd(&m, fd);
    }
    g_assert_cmphex(peer_ack(v->fd, &m), ==, 0);
    vhost_user_message_clear(&m);
}

void vmm_begin(Vmm *v, uint64_t protocol_features)
{
    vmm_do(v, VHOST_USER_SET_OWNER, 0, 0);
    vmm_do(v, VHOST_USER_GET_FEATURES, 0, 0);
    vmm_do(v, VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0);
    vmm_do(v, VHOST_USER_SET_PROTOCOL_FEATURES, 0, protocol_features);
    vmm_do(v, VHOST_USER_SET_FEATURES, 0, 0);
    vmm_do(v, VHOST_USER_SET_MEM_TABLE, 0, 0);
}

void vmm_continue_ring(Vmm *v, unsigned int q, uint64_t base)
{
    vmm_do(v, VHOST_USER_SET_VRING_NUM, q, 0);
    vmm_do(v, VHOST_USER_SET_VRING_BASE, q, base);
    vmm_do(v, VHOST_USER_SET_VRING_ADDR, q, 0);
    vmm_do(v, VHOST_USER_SET_VRING_CALL, q, 0);
    vmm_do(v, VHOST_USER_SET_VRING_ERR, q, 0);
    vmm_do(v, VHOST_USER_SET_VRING_KICK, q, 0);
}

void vmm_start_rings(Vmm *v, unsigned int first, unsigned int n)
{
    unsigned int q;

    for (q = first; q < first + n; q++) {
        vmm_make_ring(v, q);
        vmm_continue_ring(v, q, VMM_START);
        vmm_do(v, VHOST_USER_SET_VRING_ENABLE, q, 1);
    }
}

void vmm_start(Vmm *v, unsigned int n_rings)
{
    vmm_begin(v, vmm_get(v, VHOST_USER_GET_PROTOCOL_FEATURES));
    vmm_start_rings(v, 0, n_rings);
    vmm_do(v, VHOST_USER_SET_STATUS, 0, 0xf);
}

void vmm_await_status(Vmm *v, uint64_t status)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;
    uint64_t is;

    do {
        is = vmm_get(v, VHOST_USER_GET_STATUS);
    } while (is != status && g_get_monotonic_time() < end_us);
    g_assert_cmphex(is, ==, status);
}

void vmm_await_state(SvqDevice *dev, unsigned int q, SvqQueueState state)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;
    SvqQueueStats stats;

    do {
        g_assert_true(svq_device_get_queue_stats(dev, q, &stats));
        peer_pump();
        g_thread_yield();
    } while (stats.state != state && g_get_monotonic_time() < end_us);
    g_assert_cmpint(stats.state, ==, state);
}
