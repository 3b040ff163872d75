/* SPDX-License-Identifier: BSD-3-Clause */
/* AioMonitor on epoll. */
#include "aio-monitor.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

typedef struct AioEpoll {
    AioMonitor parent;
    int fd;
    struct epoll_event events[AIO_MONITOR_BATCH];
} AioEpoll;

static AioEpoll *aio_epoll(AioMonitor *monitor)
{
    return (AioEpoll *)monitor;
}

static int aio_epoll_add(AioMonitor *monitor, int fd, void *tag)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = tag };

    return epoll_ctl(aio_epoll(monitor)->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void aio_epoll_remove(AioMonitor *monitor, int fd)
{
    epoll_ctl(aio_epoll(monitor)->fd, EPOLL_CTL_DEL, fd, NULL);
}

/* The system call that knows nanoseconds is newer (Linux 5.11), and for naps only. */
static int epoll_nap(AioEpoll *epoll, int64_t timeout_ns)
{
    const struct timespec timeout = { timeout_ns / NS_PER_S, timeout_ns % NS_PER_S };
    int n = epoll_pwait2(epoll->fd, epoll->events, AIO_MONITOR_BATCH, &timeout, NULL);

    if (n < 0 && errno == ENOSYS) {
        n = epoll_wait(epoll->fd, epoll->events, AIO_MONITOR_BATCH,
                       (int)MIN(timeout_ns / NS_PER_MS + 1, INT_MAX));
    }
    return n;
}

static unsigned int aio_epoll_wait(AioMonitor *monitor, int64_t timeout_ns,
                                   void *tags[AIO_MONITOR_BATCH])
{
    AioEpoll *epoll = aio_epoll(monitor);
    int i, n;

    if (timeout_ns > 0) {
        n = epoll_nap(epoll, timeout_ns);
    } else {
        n = epoll_wait(epoll->fd, epoll->events, AIO_MONITOR_BATCH, timeout_ns < 0 ? -1 : 0);
    }

    for (i = 0; i < n; i++) {
        tags[i] = epoll->events[i].data.ptr;
    }
    return n > 0 ? n : 0;
}

static void aio_epoll_free(AioMonitor *monitor)
{
    close(aio_epoll(monitor)->fd);
    g_free(monitor);
}

AioMonitor *aio_epoll_new(GError **errp)
{
    static const AioMonitorOps ops = {
        .add = aio_epoll_add,
        .remove = aio_epoll_remove,
        .wait = aio_epoll_wait,
        .free = aio_epoll_free,
    };
    int fd = epoll_create1(EPOLL_CLOEXEC);
    AioEpoll *epoll;

    if (fd < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "cannot create an epoll instance: %s", g_strerror(errno));
        return NULL;
    }
    epoll = g_new0(AioEpoll, 1);
    epoll->parent.ops = &ops;
    epoll->fd = fd;
    return &epoll->parent;
}
