/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a vDPA device: opened, used, gone, there again.
 *
 * How it works.  The kernel does not tell who has /dev/vhost-vdpa-N open that its device is to be
 * removed, but takes the file away and waits until it is closed.  So the folder is watched, and a
 * device whose file has vanished, or that fails with ENODEV, is let go of at once, from wherever
 * we are: each further op fails with -ENOTCONN.  Its owner hears of that later, from the main loop
 * (notify()), and only then the path is opened again, until that succeeds.  So an op never
 * ends in a callback, and gone comes once for each ready.  Doorbell pages stay mapped until gone
 * has returned, for queues may ring until then.
 *
 * A call takes as long as the driver below it does.  Only SUSPEND is bounded, in
 * vhost-vdpa-suspend.c: a VDUSE daemon that hangs in another stalls the main thread.
 *
 * Threads: the main thread, in the default GLib main context.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>
#include <glib-unix.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* What the kernel says of a device that needs an IOMMU and has none; it leaks to user space. */
#define KERNEL_ENOTSUPP 524

/* A device that is made anew is there soon: the first wait; each is twice the last. */
#define RETRY_FIRST_MS 50
#define RETRY_LAST_MS 2000

/* Who is lost sooner than that after it was opened is not there at once again. */
#define SETTLED_US (5 * G_USEC_PER_SEC)

int vhost_vdpa_error(GError **errp, int err, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(errp, G_FILE_ERROR, g_file_error_from_errno(err), text);
    return -err;
}

int vhost_vdpa_check_call(VhostVdpa *d, int ret, const char *name, GError **errp)
{
    if (ret >= 0) {
        return 0;
    }
    vhost_vdpa_error(errp, -ret, "%s: %s: %s", d->dev.id, name, g_strerror(-ret));
    if (d->dev.connected && (ret == -ENODEV || ret == -ENXIO)) {
        vhost_vdpa_lose(d, "its device is not there any more");
        return -ENOTCONN;
    }
    return ret;
}

int vhost_vdpa_ioctl(VhostVdpa *d, unsigned long request, const char *name, void *argument,
                     GError **errp)
{
    if (d->fd < 0) {
        return vhost_vdpa_error(errp, ENOTCONN, "%s is gone", d->dev.id);
    }
    return vhost_vdpa_check_call(d, d->kernel->ioctl(d->kernel, d->fd, request, argument), name,
                                 errp);
}

int vhost_vdpa_ioctl_ask_state(VhostVdpa *d, unsigned long request, const char *name,
                               unsigned int index, uint32_t *num, GError **errp)
{
    struct vhost_vring_state state = { .index = index };
    int ret = vhost_vdpa_ioctl(d, request, name, &state, errp);

    if (ret < 0) {
        return ret;
    }
    *num = state.num;
    return 0;
}

int vhost_vdpa_ioctl_state(VhostVdpa *d, unsigned long request, const char *name,
                           unsigned int index, uint32_t num, GError **errp)
{
    struct vhost_vring_state state = { .index = index, .num = num };

    return vhost_vdpa_ioctl(d, request, name, &state, errp);
}

static void close_device(VhostVdpa *d)
{
    uint8_t status = 0;

    if (d->config_source) {
        g_source_remove(d->config_source);
        d->config_source = 0;
    }
    if (d->fd >= 0) {
        if (d->dev.connected) {
            /* A doorbell page keeps the file open for a while, and the device shall not run on. */
            d->kernel->ioctl(d->kernel, d->fd, VHOST_VDPA_SET_STATUS, &status);
        }
        d->kernel->close(d->kernel, d->fd);
        d->fd = -1;
    }
    event_notifier_cleanup(&d->config_call);
    event_notifier_cleanup(&d->nobody);
    g_clear_pointer(&d->node, g_free);
    vhost_vdpa_forget_spaces(d->spaces);
    d->status = 0;
    d->suspended = d->maps_doubtful = false;
    d->dev.connected = false;
}

static void unmap_doorbells(VhostVdpaKernel *kernel, void **doorbells, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++) {
        if (doorbells[i]) {
            kernel->unmap_doorbell(kernel, doorbells[i]);
            doorbells[i] = NULL;
        }
    }
}

void vhost_vdpa_unmap_doorbells(VhostVdpa *d)
{
    unmap_doorbells(d->kernel, d->doorbells, d->n_doorbells);
}

static void retry_later(VhostVdpa *d);

/* Tells the owner that the device is gone, once for each time it was there. */
static gboolean notify(void *opaque)
{
    VhostVdpa *d = opaque;
    const VhostDeviceNotify *n = d->dev.notify;
    VhostVdpaKernel *kernel = d->kernel;
    void **doorbells = g_steal_pointer(&d->doorbells);
    const uint32_t n_doorbells = d->n_doorbells;

    d->notify_source = 0;
    d->n_doorbells = 0;
    if (d->path) {
        if (g_get_monotonic_time() - d->opened_us >= SETTLED_US) {
            d->retry_ms = RETRY_FIRST_MS;
        }
        retry_later(d);
    }
    if (n && n->gone) {
        n->gone(d->dev.notify_opaque);      /* it may free us */
    }
    unmap_doorbells(kernel, doorbells, n_doorbells);
    g_free(doorbells);
    return G_SOURCE_REMOVE;
}

void vhost_vdpa_lose(VhostVdpa *d, const char *why)
{
    if (!d->dev.connected) {
        return;
    }
    g_warning("%s: given up: %s", d->dev.id, why);
    close_device(d);
    d->notify_source = g_idle_add_full(G_PRIORITY_DEFAULT, notify, d, NULL);
}

static gboolean folder_changed(gint fd, GIOCondition condition, void *opaque);

static bool watch_folder_of(VhostVdpa *d, const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);

    return inotify_add_watch(d->inotify_fd, folder,
                             IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) >= 0;
}

/*
 * Watches the folder of the path and, if that is a link, the one where it leads to.  Called before
 * each opening: a file that vanishes at once is noticed, and folders may be made anew.
 */
static void watch_path(VhostVdpa *d)
{
    const bool first = d->inotify_fd < 0;
    char *target = realpath(d->path, NULL);
    bool watched = false;

    if (first) {
        d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    }
    if (d->inotify_fd >= 0) {
        watched = watch_folder_of(d, d->path) && (!target || watch_folder_of(d, target));
    }
    if (first && !watched) {
        g_message("%s: the folder of %s cannot be watched: %s; while svqd has it open, the device "
                  "cannot be removed", d->dev.id, d->path, g_strerror(errno));
    }
    if (first && d->inotify_fd >= 0) {
        d->inotify_source = g_unix_fd_add(d->inotify_fd, G_IO_IN, folder_changed, d);
    }
    free(target);
}

static gboolean config_called(gint fd, GIOCondition condition, void *opaque)
{
    VhostVdpa *d = opaque;
    uint8_t status = 0;

    event_notifier_test_and_clear(&d->config_call);
    if (vhost_vdpa_call(d, VHOST_VDPA_GET_STATUS, &status, NULL) == 0 &&
        status & VIRTIO_STATUS_NEEDS_RESET) {
        g_warning("%s: the device says that it needs a reset", d->dev.id);
    }
    if (d->dev.connected && d->dev.notify && d->dev.notify->config_changed) {
        d->dev.notify->config_changed(d->dev.notify_opaque);
    }
    return G_SOURCE_CONTINUE;
}

static const char *explain_open(const VhostVdpa *d, int err)
{
    switch (err) {
    case EBUSY:
        return d->hung ? "it was to be suspended, and still is not"
                       : "it is in use by another process";
    case KERNEL_ENOTSUPP:
        return "its bus has no IOMMU that would keep it in its memory; boot with one "
               "(intel_iommu=on, or the like)";
    default:
        return g_strerror(err);
    }
}

/* With d->fd: what makes a device of it. */
static int set_up(VhostVdpa *d, GError **errp)
{
    int ret = event_notifier_init(&d->config_call);

    if (ret == 0) {
        ret = event_notifier_init(&d->nobody);
    }
    if (ret < 0) {
        return vhost_vdpa_error(errp, -ret, "%s: no eventfd: %s", d->dev.id, g_strerror(-ret));
    }
    ret = vhost_vdpa_probe(d, errp);
    if (ret == 0) {
        d->config_source = g_unix_fd_add(d->config_call.fd, G_IO_IN, config_called, d);
        d->dev.connected = true;
    }
    return ret;
}

static bool is_same_node(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_rdev == b->st_rdev;
}

/* A file that is not the one at its path any more was removed before anybody could see it. */
static int open_path(VhostVdpa *d, GError **errp)
{
    struct stat opened, node;
    int ret;

    watch_path(d);
    d->fd = d->kernel->open(d->kernel, d->path);
    if (d->fd < 0) {
        ret = d->fd;
        d->fd = -1;
        return vhost_vdpa_error(errp, -ret, "cannot open %s: %s", d->path, explain_open(d, -ret));
    }
    d->hung = false;
    ret = d->kernel->stat(d->kernel, d->fd, &opened);
    if (ret < 0 || stat(d->path, &node) < 0 || !is_same_node(&opened, &node)) {
        return vhost_vdpa_error(errp, ENOENT, "%s has vanished while it was opened", d->path);
    }
    d->node = g_memdup2(&node, sizeof(node));
    return 0;
}

/* Opens what is at the path; a descriptor that was given is open. */
static int open_device(VhostVdpa *d, GError **errp)
{
    int ret = d->path ? open_path(d, errp) : 0;

    if (ret == 0) {
        ret = set_up(d, errp);
    }
    if (ret < 0) {
        close_device(d);
        vhost_vdpa_unmap_doorbells(d);
        g_clear_pointer(&d->doorbells, g_free);
        d->n_doorbells = 0;
    }
    d->opened_us = g_get_monotonic_time();
    return ret;
}

static void open_again(VhostVdpa *d)
{
    g_autoptr(GError) error = NULL;
    int ret = open_device(d, &error);

    if (ret < 0) {
        if (ret != d->retry_error && ret != -ENOENT) {
            g_message("%s: %s; tried again until it is there", d->dev.id, error->message);
        }
        d->retry_error = ret;
        retry_later(d);
        return;
    }
    d->retry_error = 0;
    if (d->dev.notify && d->dev.notify->ready) {
        d->dev.notify->ready(d->dev.notify_opaque);
    }
}

static gboolean retry(void *opaque)
{
    VhostVdpa *d = opaque;

    d->retry_source = 0;
    open_again(d);
    return G_SOURCE_REMOVE;
}

static void retry_later(VhostVdpa *d)
{
    d->retry_source = g_timeout_add((guint)d->retry_ms, retry, d);
    d->retry_ms = MIN(d->retry_ms * 2, RETRY_LAST_MS);
}

static bool node_is_there(const VhostVdpa *d)
{
    struct stat node;

    /* If it cannot be looked at now it may be there. */
    return stat(d->path, &node) == 0 ? is_same_node(&node, d->node)
                                     : errno != ENOENT && errno != ENOTDIR;
}

static gboolean folder_changed(gint fd, GIOCondition condition, void *opaque)
{
    VhostVdpa *d = opaque;
    char events[4096];

    while (read(fd, events, sizeof(events)) > 0) {
        continue;       /* what has happened is asked of the folder itself */
    }
    if (d->dev.connected) {
        if (d->node && !node_is_there(d)) {
            vhost_vdpa_lose(d, "its file has vanished");
        }
    } else if (d->retry_source) {
        g_source_remove(d->retry_source);
        d->retry_source = 0;
        open_again(d);
    }
    return G_SOURCE_CONTINUE;
}

void vhost_vdpa_free(VhostDevice *dev)
{
    VhostVdpa *d = vhost_vdpa_of(dev);

    close_device(d);
    vhost_vdpa_unmap_doorbells(d);
    g_free(d->doorbells);
    if (d->notify_source) {
        g_source_remove(d->notify_source);
    }
    if (d->retry_source) {
        g_source_remove(d->retry_source);
    }
    if (d->inotify_source) {
        g_source_remove(d->inotify_source);
    }
    if (d->inotify_fd >= 0) {
        close(d->inotify_fd);
    }
    g_free(d->rings);
    g_free(d->group_asid);
    g_free(d->path);
    g_free(d->dev.id);
    g_free(d);
}

VhostDevice *vhost_vdpa_new(const VhostVdpaConfig *config, GError **errp)
{
    VhostVdpa *d = g_new0(VhostVdpa, 1);

    d->ops = vhost_vdpa_ops;
    d->dev.ops = &d->ops;
    d->dev.id = g_strdup(config->id);
    d->kernel = config->kernel ? config->kernel : &vhost_vdpa_kernel;
    d->path = g_strdup(config->path);
    d->fd = config->path ? -1 : config->fd;
    d->inotify_fd = -1;
    d->retry_ms = RETRY_FIRST_MS;
    d->config_call = d->nobody = EVENT_NOTIFIER_NONE;
    if (open_device(d, errp) < 0) {
        vhost_vdpa_free(&d->dev);
        return NULL;
    }
    return &d->dev;
}
