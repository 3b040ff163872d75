/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How one end of a vhost-user connection reaches its peer: listen, connect, or be given it.
 *
 * How it works.  At most one connection is handed out at a time (`busy`).  While busy or
 * held, a listener is not watched, so peers wait in the backlog, and a client
 * does not try.  update() starts or stops whatever leads to the next connection.
 */
#define G_LOG_DOMAIN "svq"

#include "hw/vhost/vhost-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vhost-user-message.h"

/* After accept() fails for want of descriptors or memory: trying at once would spin. */
#define ACCEPT_RETRY_MS 1000

/* A peer that is restarted is back soon: the first wait of a client; each is twice the last. */
#define BACKOFF_FIRST_MS 50

struct VhostSocket {
    void (*connected)(void *opaque, int fd);
    void *opaque;
    char *path;
    bool server;
    int64_t reconnect_ms;   /* the longest wait between two tries */
    int64_t wait_ms;        /* the next */
    int listen_fd;
    struct stat bound;      /* the socket file that we made */
    int given_fd;           /* connected by somebody else and not handed out yet */
    guint watch;            /* of listen_fd */
    guint timer;            /* to connect, or to accept, again */
    bool tried;             /* a client has had its first try */
    bool busy;
    bool held;
};

static void update(VhostSocket *s);

static void hand_out(VhostSocket *s, int fd)
{
    s->busy = true;
    update(s);
    s->connected(s->opaque, fd);
}

static int fill_address(struct sockaddr_un *addr, const char *path, GError **errp)
{
    memset(addr, 0, sizeof(*addr));
    addr->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(addr->sun_path)) {
        return vhost_user_error(errp, ENAMETOOLONG, "socket %s", path);
    }
    strcpy(addr->sun_path, path);
    return 0;
}

/* A connected, non-blocking descriptor; or -errno. */
static int connect_path(const char *path, GError **errp)
{
    struct sockaddr_un addr;
    int fd, ret;

    ret = fill_address(&addr, path, errp);
    if (ret < 0) {
        return ret;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return vhost_user_error(errp, errno, "socket %s", path);
    }
    /* On a UNIX socket this is done at once or fails; EAGAIN: the backlog is full. */
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        ret = vhost_user_error(errp, errno, "cannot connect to %s", path);
        close(fd);
        return ret;
    }
    return fd;
}

/* True if @path is the socket of a process that is no more. */
static bool is_stale(const char *path)
{
    struct stat st;
    int fd;

    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    fd = connect_path(path, NULL);
    if (fd >= 0) {
        close(fd);
    }
    return fd == -ECONNREFUSED;
}

static int listen_path(VhostSocket *s, GError **errp)
{
    struct sockaddr_un addr;
    int fd, ret;

    ret = fill_address(&addr, s->path, errp);
    if (ret < 0) {
        return ret;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return vhost_user_error(errp, errno, "socket %s", s->path);
    }
    ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    if (ret < 0 && errno == EADDRINUSE && is_stale(s->path)) {
        unlink(s->path);
        ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    }
    if (ret < 0) {
        ret = vhost_user_error(errp, errno, "cannot listen at %s", s->path);
        close(fd);
        return ret;
    }
    if (listen(fd, 16) < 0 || stat(s->path, &s->bound) < 0) {
        ret = vhost_user_error(errp, errno, "cannot listen at %s", s->path);
        unlink(s->path);
        close(fd);
        return ret;
    }
    s->listen_fd = fd;
    return 0;
}

/* The descriptor that was given, or a new connection; -errno. */
static int reach_peer(VhostSocket *s, GError **errp)
{
    int fd = s->given_fd;

    s->tried = true;
    s->given_fd = -1;
    return s->path ? connect_path(s->path, errp) : fd;
}

static gboolean retry(void *opaque)
{
    VhostSocket *s = opaque;
    int fd;

    s->timer = 0;
    fd = s->server ? -1 : reach_peer(s, NULL);
    if (fd >= 0) {
        hand_out(s, fd);
    } else {
        update(s);
    }
    return G_SOURCE_REMOVE;
}

static gboolean accept_ready(gint listen_fd, GIOCondition condition, void *opaque)
{
    VhostSocket *s = opaque;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        hand_out(s, fd);
        return G_SOURCE_CONTINUE;   /* update() has removed us */
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        g_warning("%s: cannot accept: %s", s->path, g_strerror(errno));
        s->timer = g_timeout_add(ACCEPT_RETRY_MS, retry, s);
        update(s);
    }
    return G_SOURCE_CONTINUE;
}

static void update(VhostSocket *s)
{
    bool want = !s->busy && !s->held;
    bool watch = want && s->listen_fd >= 0 && !s->timer;

    if (watch && !s->watch) {
        s->watch = g_unix_fd_add(s->listen_fd, G_IO_IN, accept_ready, s);
    } else if (!watch && s->watch) {
        g_source_remove(s->watch);
        s->watch = 0;
    }
    if (s->server) {
        return;
    }
    if (want && !s->timer && (!s->tried || s->reconnect_ms > 0)) {
        const int64_t wait_ms = s->tried ? MIN(s->wait_ms, s->reconnect_ms) : 0;

        s->wait_ms = s->tried ? wait_ms * 2 : BACKOFF_FIRST_MS;
        s->timer = g_timeout_add((guint)MIN(wait_ms, G_MAXINT), retry, s);
    } else if (!want && s->timer) {
        g_source_remove(s->timer);
        s->timer = 0;
    }
}

VhostSocket *vhost_socket_new(const VhostSocketAddress *address, bool hold,
                              void (*connected)(void *opaque, int fd), void *opaque,
                              GError **errp)
{
    VhostSocket *s = g_new0(VhostSocket, 1);
    int fd;

    s->connected = connected;
    s->opaque = opaque;
    s->path = g_strdup(address->path);
    s->server = address->path && address->server;
    s->reconnect_ms = address->path ? address->reconnect_ms : 0;
    s->held = hold;
    s->wait_ms = BACKOFF_FIRST_MS;
    s->listen_fd = -1;
    s->given_fd = -1;

    if (!s->path) {
        g_unix_set_fd_nonblocking(address->fd, TRUE, NULL);
        fcntl(address->fd, F_SETFD, FD_CLOEXEC);
        s->given_fd = address->fd;
    }
    if (s->server && listen_path(s, errp) < 0) {
        vhost_socket_free(s);
        return NULL;
    }
    if (s->server || hold) {
        update(s);
        return s;
    }

    fd = reach_peer(s, s->reconnect_ms > 0 ? NULL : errp);
    if (fd >= 0) {
        hand_out(s, fd);
    } else if (s->reconnect_ms > 0) {
        update(s);
    } else {
        vhost_socket_free(s);
        return NULL;
    }
    return s;
}

void vhost_socket_is_good(VhostSocket *s)
{
    s->wait_ms = BACKOFF_FIRST_MS;
}

void vhost_socket_disconnected(VhostSocket *s)
{
    s->busy = false;
    update(s);
}

void vhost_socket_hold(VhostSocket *s, bool hold)
{
    s->held = hold;
    update(s);
}

void vhost_socket_free(VhostSocket *s)
{
    struct stat st;

    if (!s) {
        return;
    }
    s->held = true;     /* stops the watch and the timer */
    if (s->timer) {
        g_source_remove(s->timer);
        s->timer = 0;
    }
    update(s);
    if (s->listen_fd >= 0) {
        /* Another process may have replaced the path since. */
        if (stat(s->path, &st) == 0 && st.st_dev == s->bound.st_dev &&
            st.st_ino == s->bound.st_ino) {
            unlink(s->path);
        }
        close(s->listen_fd);
    }
    if (s->given_fd >= 0) {
        close(s->given_fd);
    }
    g_free(s->path);
    g_free(s);
}
