/* SPDX-License-Identifier: BSD-3-Clause */
/* A socket on which both ends speak in lines, as QEMU does in the qtest and monitor protocols. */
#ifndef TESTS_QTEST_LINE_SOCKET_H
#define TESTS_QTEST_LINE_SOCKET_H

#include <glib.h>
#include <stdbool.h>

typedef struct LineSocket {
    int fd;
    GString *received;      /* and not yet returned */
} LineSocket;

/* Makes a connected pair: our end, and the one to be inherited by the peer. */
void line_socket_init(LineSocket *line, int *peer);
void line_socket_cleanup(LineSocket *line);

void line_socket_send(LineSocket *line, const char *text);

/* The next line, without its end; free it.  The test fails if none comes. */
char *line_socket_receive(LineSocket *line);

/* Whether there is something to receive without waiting. */
bool line_socket_is_ready(const LineSocket *line);

#endif
