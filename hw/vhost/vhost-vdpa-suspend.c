/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Suspending a vDPA device, and resuming it.
 *
 * How it works.  SUSPEND returns when the device has quiesced, which it may never do, and holds
 * a lock of the kernel meanwhile that every other call waits for.  So a thread makes the call and
 * the main thread waits for it, but not for ever.  A device that is late is given up: the thread,
 * which cannot be ended, is left behind with all that the device may still reach, and closes it if
 * it ever returns.
 *
 * Threads: the main thread; a SuspendJob belongs to it until it has given the device up.
 */
#include "vhost-vdpa-internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

int vhost_vdpa_suspend_timeout_ms = 5000;

typedef struct SuspendJob {
    VhostVdpaKernel *kernel;
    int fd;
    pthread_mutex_t lock;   /* guards what follows */
    pthread_cond_t changed;
    bool done;
    int ret;
    bool left;              /* to the thread, with what follows */
    VdpaSpace spaces[VDPA_SPACES];
} SuspendJob;

static SuspendJob *job_new(const VhostVdpa *d)
{
    SuspendJob *job = g_new0(SuspendJob, 1);
    pthread_condattr_t attr;

    job->kernel = d->kernel;
    job->fd = d->fd;
    pthread_mutex_init(&job->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &attr);
    pthread_condattr_destroy(&attr);
    return job;
}

static void job_free(SuspendJob *job)
{
    pthread_cond_destroy(&job->changed);
    pthread_mutex_destroy(&job->lock);
    g_free(job);
}

static void *suspend_thread(void *opaque)
{
    SuspendJob *job = opaque;
    int ret = job->kernel->ioctl(job->kernel, job->fd, VHOST_VDPA_SUSPEND, NULL);
    bool left;

    pthread_mutex_lock(&job->lock);
    job->ret = ret;
    job->done = true;
    left = job->left;
    pthread_cond_signal(&job->changed);
    pthread_mutex_unlock(&job->lock);
    if (left) {
        job->kernel->close(job->kernel, job->fd);
        vhost_vdpa_forget_spaces(job->spaces);
        job_free(job);
    }
    return NULL;
}

/* The program's signals are not for it.  0, or -errno. */
static int start_thread(SuspendJob *job, pthread_t *thread)
{
    sigset_t all, old;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(thread, NULL, suspend_thread, job);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -ret;
}

/* With the lock.  Whether it is done before time is over. */
static bool await_job(SuspendJob *job)
{
    const long ns_per_ms = 1000000;
    struct timespec until;
    int ret = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += vhost_vdpa_suspend_timeout_ms / 1000;
    until.tv_nsec += vhost_vdpa_suspend_timeout_ms % 1000 * ns_per_ms;
    if (until.tv_nsec >= 1000 * ns_per_ms) {
        until.tv_nsec -= 1000 * ns_per_ms;
        until.tv_sec++;
    }
    while (!job->done && ret == 0) {
        ret = pthread_cond_timedwait(&job->changed, &job->lock, &until);
    }
    return job->done;
}

/* With the lock.  The device is the thread's from here on. */
static int leave_to_thread(VhostVdpa *d, SuspendJob *job, GError **errp)
{
    g_autofree char *why = g_strdup_printf("it was to be suspended, and is not after %d ms",
                                           vhost_vdpa_suspend_timeout_ms);

    memcpy(job->spaces, d->spaces, sizeof(job->spaces));
    memset(d->spaces, 0, sizeof(d->spaces));
    job->left = true;
    d->fd = -1;
    d->hung = true;
    vhost_vdpa_lose(d, why);
    return vhost_vdpa_error(errp, ENOTCONN, "%s: %s", d->dev.id, why);
}

/* A SUSPEND that has failed may have stopped a part of the device. */
static void undo_suspend(VhostVdpa *d)
{
    if (d->dev.connected && vhost_vdpa_has(d, VHOST_BACKEND_F_RESUME) &&
        vhost_vdpa_call(d, VHOST_VDPA_RESUME, NULL, NULL) < 0) {
        vhost_vdpa_lose(d, "it could not be suspended, and then not be resumed");
    }
}

static int suspend_in_time(VhostVdpa *d, GError **errp)
{
    SuspendJob *job = job_new(d);
    pthread_t thread;
    int ret = start_thread(job, &thread);

    if (ret < 0) {
        job_free(job);
        return vhost_vdpa_error(errp, -ret, "%s: no thread to suspend it: %s", d->dev.id,
                                g_strerror(-ret));
    }
    pthread_mutex_lock(&job->lock);
    if (!await_job(job)) {
        ret = leave_to_thread(d, job, errp);
        pthread_detach(thread);
        pthread_mutex_unlock(&job->lock);
        return ret;
    }
    pthread_mutex_unlock(&job->lock);
    pthread_join(thread, NULL);
    ret = vhost_vdpa_check_call(d, job->ret, "VHOST_VDPA_SUSPEND", errp);
    job_free(job);
    if (ret < 0) {
        undo_suspend(d);
    }
    return ret;
}

int vhost_vdpa_suspend(VhostDevice *dev, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret = vhost_vdpa_check_connected(d, errp);

    /* What does not run stands still; the kernel sees it likewise. */
    if (ret == 0 && vhost_vdpa_is_running(d) && !d->suspended) {
        ret = suspend_in_time(d, errp);
        d->suspended = ret == 0;
    }
    return ret;
}

int vhost_vdpa_resume(VhostDevice *dev, GError **errp)
{
    VhostVdpa *d = vhost_vdpa_of(dev);
    int ret = vhost_vdpa_check_connected(d, errp);

    if (ret == 0 && d->suspended) {
        ret = vhost_vdpa_call(d, VHOST_VDPA_RESUME, NULL, errp);
    }
    if (ret == 0) {
        d->suspended = false;
    }
    return ret;
}
