/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which queues of a device log, and where: as the VMM says it, while they run.
 *
 * How it works.  Three messages matter, in any order: SET_LOG_BASE brings the log, LOG_ALL among
 * the features turns logging of what the device writes on, and SET_VRING_ADDR turns it
 * on for what we write in a ring.  Each leads to svq_device_update_logging(), which
 * publishes to each queue what it has to log and waits for a grace period: when the VMM gets
 * its answer, every queue does what it was told and nobody uses a log that is gone.
 *
 * QEMU gives a log anew whenever the guest's driver starts the device, and only after it has
 * started the rings.  What these wrote in between is in no log that it reads; so a log that
 * comes after a queue was started under LOG_ALL begins with all of memory.
 *
 * Threads: the main thread.
 */
#include "svq-device-internal.h"

#include <errno.h>

static SvqLogging *logging_new(const SvqQueue *queue)
{
    const SvqDevice *dev = queue->dev;
    SvqLogging *logging;

    if (!dev->log || !(dev->log_all || queue->addr.log)) {
        return NULL;
    }
    logging = g_new(SvqLogging, 1);
    *logging = (SvqLogging){
        .log = dirty_log_ref(dev->log),
        .data = dev->log_all,
        .ring = queue->addr.log,
        .desc_gpa = queue->desc_gpa,
        .device_gpa = queue->addr.log_gpa,
    };
    return logging;
}

static void logging_free(SvqLogging *logging)
{
    if (logging) {
        dirty_log_unref(logging->log);
        g_free(logging);
    }
}

void svq_device_log_all_memory(SvqDevice *dev)
{
    unsigned int i;

    for (i = 0; i < dev->map->n; i++) {
        dirty_log_mark_many(dev->log, dev->map->ranges[i].gpa, dev->map->ranges[i].size);
    }
}

void svq_device_update_logging(SvqDevice *dev)
{
    g_autofree SvqLogging **old = g_new(SvqLogging *, MAX(dev->n_queues, 1));
    unsigned int i;

    for (i = 0; i < dev->n_queues; i++) {
        SvqQueue *queue = &dev->queues[i];

        old[i] = queue->logging;
        rcu_assign_pointer(queue->logging, logging_new(queue));
    }
    synchronize_rcu();
    for (i = 0; i < dev->n_queues; i++) {
        logging_free(old[i]);
    }
}

int svq_device_check_log(const SvqDevice *dev, const DirtyLog *log, const MemoryMap *map,
                         GError **errp)
{
    if (!log || dirty_log_covers(log, map)) {
        return 0;
    }
    g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "%s: the dirty log has bits for %" G_GUINT64_FORMAT
                " pages, the guest's memory goes beyond",
                dev->id, log->n_pages);
    return -EINVAL;
}

int svq_device_set_log(SvqDevice *dev, MemoryRegion *region, GError **errp)
{
    DirtyLog *old = dev->log, *log = dirty_log_new(region, errp);
    bool all = false;
    unsigned int i;

    if (!log) {
        return -EINVAL;
    }
    if (svq_device_check_log(dev, log, dev->map, errp) < 0) {
        dirty_log_unref(log);
        return -EINVAL;
    }
    dev->log = log;
    svq_device_update_logging(dev);
    dirty_log_unref(old);
    for (i = 0; i < dev->n_queues; i++) {
        all |= dev->queues[i].unlogged;
        dev->queues[i].unlogged = false;
    }
    if (all) {
        svq_device_log_all_memory(dev);
    }
    return 0;
}

void svq_device_log_unseen(SvqDevice *dev)
{
    unsigned int i;

    if (!dev->log_all) {
        return;
    }
    if (dev->log) {
        svq_device_log_all_memory(dev);
        return;
    }
    for (i = 0; i < dev->n_queues; i++) {
        dev->queues[i].unlogged = true;
    }
}

void svq_device_forget_log(SvqDevice *dev)
{
    DirtyLog *old = dev->log;

    dev->log = NULL;
    dev->log_all = false;
    svq_device_update_logging(dev);
    dirty_log_unref(old);
}
