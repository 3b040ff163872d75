/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VhostSocket: how one end of a vhost-user connection reaches its peer.
 *
 * How it works.  It listens, connects (again and again if told to), or owns a descriptor
 * that is connected already; each connection that comes about is handed to its owner,
 * one at a time.  Used by both ends: who listens has nothing to do with who is the
 * front end.
 *
 * Threads: the main thread, in the default GLib main context.
 */
#ifndef HW_VHOST_VHOST_SOCKET_H
#define HW_VHOST_VHOST_SOCKET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct VhostSocketAddress {
    const char *path;       /* of a UNIX stream socket; NULL if @fd is given */
    int fd;                 /* connected descriptor, owned by the socket; -1 if @path is given */
    bool server;            /* listen at @path rather than connect to it */
    /*
     * Client: try again, for ever, soon at first and after waits that grow to this; 0: one
     * try.
     */
    int64_t reconnect_ms;
} VhostSocketAddress;

typedef struct VhostSocket VhostSocket;

/*
 * Listens or begins to connect.  @connected gets each new connection's descriptor
 * (non-blocking) and owns it; if @hold is false a client's first perhaps before this returns.
 * A listening socket replaces a stale one of a dead process and refuses a live one's.  NULL
 * and @errp: cannot listen, or a client without reconnect_ms that is not held has no peer.
 * address->fd belongs to the socket, on failure too.
 */
VhostSocket *vhost_socket_new(const VhostSocketAddress *address, bool hold,
                              void (*connected)(void *opaque, int fd), void *opaque,
                              GError **errp);

/* The peer talks sense: when it is gone, it will be looked for soon again. */
void vhost_socket_is_good(VhostSocket *socket);

/* The connection handed out last is over: accept the next one, or try to connect again. */
void vhost_socket_disconnected(VhostSocket *socket);

/*
 * While held, no further connection is handed out; peers that come meanwhile wait in the
 * backlog, and a client does not try.
 */
void vhost_socket_hold(VhostSocket *socket, bool hold);

/* Unlinks the path if it listens there. */
void vhost_socket_free(VhostSocket *socket);

#endif
