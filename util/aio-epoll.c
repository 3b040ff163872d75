/* SPDX-License-Identifier: BSD-3-Clause */
/* AioMonitor on epoll. */
#include "aio-monitor.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

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

static unsigned int aio_epoll_wait(AioMonitor *monitor, bool block, void *tags[AIO_MONITOR_BATCH])
{
    AioEpoll *epoll = aio_epoll(monitor);
    int n = epoll_wait(epoll->fd, epoll->events, AIO_MONITOR_BATCH, block ? -1 : 0);
    int i;

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
