/* SPDX-License-Identifier: BSD-3-Clause */
/* EventNotifier: a wake-up that travels through an eventfd or a pipe. */
#include "util/event-notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * An eventfd gives 8 bytes a read; a pipe may hold one word for each wake-up, and whoever
 * has its other end may write faster than we read.  What these bounds leave behind keeps
 * the descriptor readable.
 */
enum { DRAIN_BYTES = 1024, DRAIN_READS = 16 };

int event_notifier_init(EventNotifier *e)
{
    e->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return e->fd < 0 ? -errno : 0;
}

int event_notifier_init_fd(EventNotifier *e, int fd)
{
    int flags;
    int err;

    *e = EVENT_NOTIFIER_NONE;
    if (fd < 0) {
        return 0;
    }
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        err = -errno;
        close(fd);
        return err;
    }
    e->fd = fd;
    return 0;
}

void event_notifier_cleanup(EventNotifier *e)
{
    if (e->fd >= 0) {
        close(e->fd);
    }
    *e = EVENT_NOTIFIER_NONE;
}

/* After a write() to @fd that failed. */
static __attribute__((cold, noinline)) int set_again(int fd, const uint64_t *one)
{
    while (errno == EINTR) {
        if (write(fd, one, sizeof(*one)) > 0) {
            return 0;
        }
    }
    /* EAGAIN: its counter is full, so it is set. */
    return errno == EAGAIN ? 0 : -errno;
}

int event_notifier_set(const EventNotifier *e)
{
    static const uint64_t one = 1;
    const int fd = e->fd;

    return fd < 0 || write(fd, &one, sizeof(one)) > 0 ? 0 : set_again(fd, &one);
}

int event_notifier_test_and_clear(const EventNotifier *e)
{
    char buf[DRAIN_BYTES];
    ssize_t n;
    int had = 0;
    int i;

    if (e->fd < 0) {
        return 0;
    }
    for (i = 0; i < DRAIN_READS; i++) {
        do {
            n = read(e->fd, buf, sizeof(buf));
        } while (n < 0 && errno == EINTR);
        if (n < 0) {
            return had || errno == EAGAIN ? had : -errno;
        }
        if (n == 0) {
            return had ? had : -EPIPE;
        }
        had = 1;
        /* A short read took all there was: no second system call to learn that. */
        if (n < (ssize_t)sizeof(buf)) {
            break;
        }
    }
    return had;
}
