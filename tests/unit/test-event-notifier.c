/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of EventNotifier, on eventfds and on pipes. */
#include "util/event-notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

typedef struct PipeNotifier {
    EventNotifier reader;
    EventNotifier writer;
} PipeNotifier;

static void pipe_open(PipeNotifier *p)
{
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    g_assert_cmpint(event_notifier_init_fd(&p->reader, fds[0]), ==, 0);
    g_assert_cmpint(event_notifier_init_fd(&p->writer, fds[1]), ==, 0);
}

static void pipe_close(PipeNotifier *p)
{
    event_notifier_cleanup(&p->reader);
    event_notifier_cleanup(&p->writer);
}

/* Many wake-ups are taken at once. */
static void check_wakes(const EventNotifier *writer, const EventNotifier *reader)
{
    int i;

    g_assert_cmpint(event_notifier_test_and_clear(reader), ==, 0);
    for (i = 0; i < 3; i++) {
        g_assert_cmpint(event_notifier_set(writer), ==, 0);
    }
    g_assert_cmpint(event_notifier_test_and_clear(reader), ==, 1);
    g_assert_cmpint(event_notifier_test_and_clear(reader), ==, 0);
}

static void test_eventfd(void)
{
    EventNotifier e;

    g_assert_cmpint(event_notifier_init(&e), ==, 0);
    check_wakes(&e, &e);
    event_notifier_cleanup(&e);
    g_assert_cmpint(e.fd, ==, -1);
}

static void test_full_eventfd(void)
{
    const uint64_t full = UINT64_MAX - 1;
    EventNotifier e;

    g_assert_cmpint(event_notifier_init(&e), ==, 0);
    g_assert_cmpint(write(e.fd, &full, sizeof(full)), ==, sizeof(full));
    g_assert_cmpint(event_notifier_set(&e), ==, 0);
    g_assert_cmpint(event_notifier_test_and_clear(&e), ==, 1);
    g_assert_cmpint(event_notifier_test_and_clear(&e), ==, 0);
    event_notifier_cleanup(&e);
}

static void test_pipe(void)
{
    PipeNotifier p;

    pipe_open(&p);
    check_wakes(&p.writer, &p.reader);
    pipe_close(&p);
}

static void test_full_pipe(void)
{
    PipeNotifier p;
    char byte = 0;
    int clears = 0;

    pipe_open(&p);
    while (write(p.writer.fd, &byte, 1) == 1) {
    }
    g_assert_cmpint(errno, ==, EAGAIN);
    g_assert_cmpint(event_notifier_set(&p.writer), ==, 0);

    /* One call does a bounded amount of work, and some calls are enough. */
    while (event_notifier_test_and_clear(&p.reader) == 1) {
        clears++;
        g_assert_cmpint(clears, <, 100);
    }
    g_assert_cmpint(clears, >, 1);
    check_wakes(&p.writer, &p.reader);
    pipe_close(&p);
}

static void test_pipe_writer_gone(void)
{
    PipeNotifier p;

    pipe_open(&p);
    g_assert_cmpint(event_notifier_set(&p.writer), ==, 0);
    event_notifier_cleanup(&p.writer);
    g_assert_cmpint(event_notifier_test_and_clear(&p.reader), ==, 1);
    g_assert_cmpint(event_notifier_test_and_clear(&p.reader), ==, -EPIPE);
    g_assert_cmpint(event_notifier_test_and_clear(&p.reader), ==, -EPIPE);
    pipe_close(&p);
}

static void test_pipe_reader_gone(void)
{
    PipeNotifier p;

    pipe_open(&p);
    event_notifier_cleanup(&p.reader);
    g_assert_cmpint(event_notifier_set(&p.writer), ==, -EPIPE);
    pipe_close(&p);
}

static void test_none(void)
{
    EventNotifier e = EVENT_NOTIFIER_NONE;

    g_assert_cmpint(event_notifier_init_fd(&e, -1), ==, 0);
    g_assert_cmpint(e.fd, ==, -1);
    g_assert_cmpint(event_notifier_set(&e), ==, 0);
    g_assert_cmpint(event_notifier_test_and_clear(&e), ==, 0);
    event_notifier_cleanup(&e);
}

static void test_makes_non_blocking(void)
{
    PipeNotifier p;

    pipe_open(&p);
    g_assert_cmpint(fcntl(p.reader.fd, F_GETFL) & O_NONBLOCK, !=, 0);
    g_assert_cmpint(fcntl(p.writer.fd, F_GETFL) & O_NONBLOCK, !=, 0);
    g_assert_cmpint(fcntl(p.writer.fd, F_GETFL) & O_ACCMODE, ==, O_WRONLY);
    pipe_close(&p);
}

static void test_bad_descriptors(void)
{
    EventNotifier e;
    int closed = dup(STDIN_FILENO);

    /* A number that was a descriptor a moment ago. */
    g_assert_cmpint(closed, >=, 0);
    close(closed);
    g_assert_cmpint(event_notifier_init_fd(&e, closed), ==, -EBADF);
    g_assert_cmpint(e.fd, ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/event-notifier/eventfd-takes-all-wakes", test_eventfd);
    g_test_add_func("/event-notifier/full-eventfd-is-success", test_full_eventfd);
    g_test_add_func("/event-notifier/pipe-takes-all-wakes", test_pipe);
    g_test_add_func("/event-notifier/full-pipe-is-success", test_full_pipe);
    g_test_add_func("/event-notifier/pipe-writer-gone-is-epipe", test_pipe_writer_gone);
    g_test_add_func("/event-notifier/pipe-reader-gone-is-epipe", test_pipe_reader_gone);
    g_test_add_func("/event-notifier/none-does-nothing", test_none);
    g_test_add_func("/event-notifier/descriptor-becomes-non-blocking", test_makes_non_blocking);
    g_test_add_func("/event-notifier/bad-descriptor-is-refused", test_bad_descriptors);
    return g_test_run();
}
