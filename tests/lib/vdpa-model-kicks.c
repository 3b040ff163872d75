/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vDPA model's kicks, and the thread that waits for them.
 *
 * How it works.  Kicks come as the kernel sees them: each write of the eventfd is an edge, nothing
 * is ever read from it; one that was written before counts when it is set.  Doorbell pages are
 * looked at again and again, by a mapping of our own.
 */
#include "lib/vdpa-model-internal.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define WAKE        UINT32_MAX      /* among the indices that epoll gives us */
#define WAKE_CTRL   (UINT32_MAX - 1)
#define NOT_RUNG    UINT32_MAX      /* in a doorbell page */
#define BELL_MS     1               /* between looks at these */

static void kick(ModelRing *ring)
{
    ring->kicks++;
    ring->kicked = ring->enabled;
}

static void look_at_bells(VdpaModel *m)
{
    unsigned int i;

    for (i = 0; m->config.doorbells && i < m->config.n_queues; i++) {
        ModelRing *ring = &m->rings[i];
        uint32_t value = le32toh(__atomic_exchange_n(ring->bell, NOT_RUNG, __ATOMIC_ACQ_REL));

        if (value == NOT_RUNG) {
            continue;
        }
        if ((value & UINT16_MAX) != i ||
            (!(m->driver_features & VIRTIO_F_BIT(VIRTIO_F_NOTIFICATION_DATA)) &&
             value >> 16 != UINT16_MAX)) {
            model_complain(m, "queue %u: 0x%x was written to its doorbell", i, value);
        }
        ring->rung++;
        ring->last_rung = value;
        kick(ring);
    }
}

static unsigned int look_and_work(VdpaModel *m, int timeout_ms)
{
    struct epoll_event events[VDPA_MODEL_QUEUES + 2];
    int i, n = epoll_wait(m->epoll_fd, events, G_N_ELEMENTS(events), timeout_ms);
    unsigned int moved;
    eventfd_t unused;

    pthread_mutex_lock(&m->lock);
    for (i = 0; i < n; i++) {
        if (events[i].data.u32 == WAKE) {
            eventfd_read(m->wake_fd, &unused);
        } else if (events[i].data.u32 == WAKE_CTRL) {
            eventfd_read(ctrl_device_get_wake_fd(m->ctrl), &unused);
        } else {
            kick(&m->rings[events[i].data.u32]);
        }
    }
    look_at_bells(m);
    moved = model_device_work(m);
    pthread_mutex_unlock(&m->lock);
    return moved;
}

static int next_look_ms(const VdpaModel *m)
{
    if (m->config.doorbells) {
        return BELL_MS;
    }
    return m->ctrl_wait_us < 0 ? -1 : (int)((m->ctrl_wait_us + 999) / 1000);
}

static void *device_run(void *opaque)
{
    VdpaModel *m = opaque;
    bool quit = false;
    int timeout_ms = -1;

    while (!quit) {
        look_and_work(m, timeout_ms);
        pthread_mutex_lock(&m->lock);
        quit = m->quit;
        timeout_ms = next_look_ms(m);
        pthread_mutex_unlock(&m->lock);
    }
    return NULL;
}

unsigned int vdpa_model_step(VdpaModel *m)
{
    g_assert_null(m->thread);
    return look_and_work(m, 0);
}

void model_device_wake(VdpaModel *m)
{
    g_assert_no_errno(eventfd_write(m->wake_fd, 1));
}

static void watch(VdpaModel *m, int fd, uint32_t data, uint32_t how)
{
    struct epoll_event event = { .events = how, .data.u32 = data };

    g_assert_no_errno(epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, fd, &event));
}

void model_ring_set_kick(VdpaModel *m, unsigned int index, int fd)
{
    ModelRing *ring = &m->rings[index];

    if (ring->kick >= 0) {
        g_assert_no_errno(epoll_ctl(m->epoll_fd, EPOLL_CTL_DEL, ring->kick, NULL));
        close(ring->kick);
    }
    ring->kick = fd;
    if (fd >= 0) {
        watch(m, fd, index, EPOLLIN | EPOLLET);
    }
}

static void make_bell(ModelRing *ring)
{
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);

    ring->bell_fd = memfd_create("doorbell", MFD_CLOEXEC);
    g_assert_cmpint(ring->bell_fd, >=, 0);
    g_assert_no_errno(ftruncate(ring->bell_fd, (off_t)size));
    ring->bell = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->bell_fd, 0);
    g_assert_true(ring->bell != MAP_FAILED);
    *ring->bell = NOT_RUNG;
}

void model_device_start(VdpaModel *m)
{
    unsigned int i;

    for (i = 0; i < VDPA_MODEL_QUEUES; i++) {
        m->rings[i].kick = m->rings[i].call = -1;
    }
    for (i = 0; m->config.doorbells && i < m->config.n_queues; i++) {
        make_bell(&m->rings[i]);
    }
    m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch(m, m->wake_fd, WAKE, EPOLLIN);
    watch(m, ctrl_device_get_wake_fd(m->ctrl), WAKE_CTRL, EPOLLIN);
    if (!m->config.by_hand) {
        m->thread = g_thread_new("vdpa-model", device_run, m);
    }
}

void model_device_stop(VdpaModel *m)
{
    unsigned int i;

    if (m->thread) {
        pthread_mutex_lock(&m->lock);
        m->quit = true;
        model_device_wake(m);
        pthread_mutex_unlock(&m->lock);
        g_thread_join(m->thread);
    }
    for (i = 0; m->config.doorbells && i < m->config.n_queues; i++) {
        munmap(m->rings[i].bell, (size_t)sysconf(_SC_PAGESIZE));
        close(m->rings[i].bell_fd);
    }
    close(m->epoll_fd);
    close(m->wake_fd);
}
