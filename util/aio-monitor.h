/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * AioMonitor: how an AioContext learns from the kernel that descriptors are readable.
 *
 * A monitor belongs to one AioContext; only its owner thread calls it.  Level-triggered: a
 * descriptor is reported for as long as it is readable.
 */
#ifndef UTIL_AIO_MONITOR_H
#define UTIL_AIO_MONITOR_H

#include <glib.h>
#include <stdbool.h>

/* The most descriptors that one wait() reports; the others come with the next. */
#define AIO_MONITOR_BATCH 64

typedef struct AioMonitor AioMonitor;

typedef struct AioMonitorOps {
    /* Reports @tag whenever @fd is readable, at its end or in error.  0, or -errno. */
    int (*add)(AioMonitor *monitor, int fd, void *tag);
    /* No later wait() reports @fd; what the last one reported is the caller's business. */
    void (*remove)(AioMonitor *monitor, int fd);
    /*
     * Fills in the tags of what is ready and says how many; 0 if a signal came first or
     * @timeout_ns passed (negative: never does).
     */
    unsigned int (*wait)(AioMonitor *monitor, int64_t timeout_ns, void *tags[AIO_MONITOR_BATCH]);
    void (*free)(AioMonitor *monitor);
} AioMonitorOps;

struct AioMonitor {
    const AioMonitorOps *ops;
};

/* NULL and @errp if the kernel has no epoll instance left. */
AioMonitor *aio_epoll_new(GError **errp);

#endif
