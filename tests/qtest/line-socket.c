/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines over a socket. */
#include "line-socket.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wait.h"

void line_socket_init(LineSocket *line, int *peer)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    line->fd = fds[0];
    line->received = g_string_new(NULL);
    *peer = fds[1];
}

void line_socket_cleanup(LineSocket *line)
{
    close(line->fd);
    g_string_free(line->received, TRUE);
}

void line_socket_send(LineSocket *line, const char *text)
{
    g_autofree char *message = g_strconcat(text, "\n", NULL);
    size_t size = strlen(message);

    /* Short: it fits the socket's buffer, for nothing else is on the way. */
    g_assert_cmpint(send(line->fd, message, size, MSG_NOSIGNAL), ==, (ssize_t)size);
}

static bool wait_readable(const LineSocket *line, int timeout_ms)
{
    struct pollfd fd = { .fd = line->fd, .events = POLLIN };
    int ret;

    do {
        ret = poll(&fd, 1, timeout_ms);
    } while (ret < 0 && errno == EINTR);
    return ret == 1;
}

bool line_socket_is_ready(const LineSocket *line)
{
    return strchr(line->received->str, '\n') || wait_readable(line, 0);
}

char *line_socket_receive(LineSocket *line)
{
    char *end, *text;

    while (!(end = strchr(line->received->str, '\n'))) {
        char buffer[4096];
        ssize_t n;

        if (!wait_readable(line, WAIT_MS)) {
            g_error("the peer says nothing for %d ms", WAIT_MS);
        }
        n = recv(line->fd, buffer, sizeof(buffer), 0);
        if (n <= 0) {
            g_error("the peer is gone");
        }
        g_string_append_len(line->received, buffer, n);
    }
    text = g_strndup(line->received->str, (size_t)(end - line->received->str));
    g_string_erase(line->received, 0, end - line->received->str + 1);
    g_strchomp(text);
    return text;
}
