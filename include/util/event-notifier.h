/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * EventNotifier: a wake-up that travels through a file descriptor.
 *
 * Usually an eventfd.  Some peers hand out the write end of a pipe instead
 * (User Mode Linux does for call descriptors): everything here works on both.
 * The descriptor is always non-blocking, so no peer can make us sleep in it.
 *
 * Any thread may call event_notifier_set(); a notifier has one reader.  A program that
 * sets notifiers ignores SIGPIPE: the read end of a pipe may be gone.
 */
#ifndef UTIL_EVENT_NOTIFIER_H
#define UTIL_EVENT_NOTIFIER_H

typedef struct EventNotifier {
    int fd;     /* -1: nobody listens; setting it does nothing */
} EventNotifier;

#define EVENT_NOTIFIER_NONE ((EventNotifier){ .fd = -1 })

/* Creates an eventfd.  0, or -errno. */
int event_notifier_init(EventNotifier *e);

/*
 * Takes ownership of @fd (-1 is allowed) and makes it non-blocking.
 * 0, or -errno, and then @fd is closed and *@e is EVENT_NOTIFIER_NONE.
 */
int event_notifier_init_fd(EventNotifier *e, int fd);

/* Closes the descriptor, if there is one. */
void event_notifier_cleanup(EventNotifier *e);

/*
 * Wakes the reader.  0, or -errno (-EPIPE: no reader is left); a full pipe or counter is
 * success, for then the reader has a wake-up waiting already.  One system call, none if
 * @e->fd is -1.
 */
int event_notifier_set(const EventNotifier *e);

/*
 * Takes the wake-ups that are there: 1 if there were some, 0 if none, -errno if
 * the descriptor will never deliver one again (-EPIPE at end of file).
 */
int event_notifier_test_and_clear(const EventNotifier *e);

#endif
