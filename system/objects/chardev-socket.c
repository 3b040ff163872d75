/* SPDX-License-Identifier: BSD-3-Clause */
/* -chardev socket: where a vhost-user peer is.  Whoever names it opens it. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "system/error.h"
#include "system/objects/objects.h"

#define RECONNECT_MAX_MS UINT32_MAX

typedef struct ChardevConfig {
    const char *path;
    int64_t fd;                 /* -1: not given */
    bool server;
    bool wait;
    int64_t reconnect_s, reconnect_ms;      /* -1: not given */
} ChardevConfig;

static const Property chardev_properties[] = {
    PROPERTY_STRING("path", ChardevConfig, path, "of the UNIX stream socket"),
    PROPERTY_INT("fd", ChardevConfig, fd, 0, INT32_MAX, "a connected socket that svqd inherits"),
    PROPERTY_BOOL("server", ChardevConfig, server,
                  "on: listen at the path, off: connect to it (off)"),
    PROPERTY_BOOL("wait", ChardevConfig, wait, "accepted, not used: svqd starts without a peer"),
    PROPERTY_INT("reconnect", ChardevConfig, reconnect_s, 0, RECONNECT_MAX_MS / 1000,
                 "seconds after which to try again to connect; 0: one try (0)"),
    PROPERTY_INT("reconnect-ms", ChardevConfig, reconnect_ms, 0, RECONNECT_MAX_MS,
                 "the same in milliseconds"),
    PROPERTY_END,
};

/* It must be a connected UNIX stream socket, or it would fail later and without words. */
static bool check_fd(int fd, GError **errp)
{
    struct sockaddr_un peer;
    socklen_t len = sizeof(peer);

    if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sun_family == AF_UNIX) {
        return true;
    }
    return svqd_fail(errp, "'fd' %d is no connected UNIX socket (%s): pass one that svqd inherits",
                     fd, errno ? g_strerror(errno) : "another family");
}

static bool check_path(const char *path, GError **errp)
{
    struct sockaddr_un address;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return svqd_fail(errp, "'path' has %zu bytes; a socket's can have %zu: use a shorter one",
                         strlen(path), sizeof(address.sun_path) - 1);
    }
    return true;
}

static bool chardev_check(Objects *objects, Object *object, GError **errp)
{
    const ChardevConfig *config = object->config;
    bool reconnects = config->reconnect_s >= 0 || config->reconnect_ms >= 0;

    if (!config->path == (config->fd < 0)) {
        return svqd_fail(errp, config->path ? "'path' and 'fd' exclude each other; give one"
                                            : "'path' is missing: give 'path' or 'fd'");
    }
    if (config->reconnect_s >= 0 && config->reconnect_ms >= 0) {
        return svqd_fail(errp, "'reconnect' and 'reconnect-ms' exclude each other; give one");
    }
    if (reconnects && (config->server || config->fd >= 0)) {
        return svqd_fail(errp, "'reconnect' is for a client; leave it out with %s",
                         config->server ? "server=on" : "'fd'");
    }
    if (config->server && config->fd >= 0) {
        return svqd_fail(errp, "'fd' is connected already; leave out server=on, or give a 'path'");
    }
    return config->path ? check_path(config->path, errp) : check_fd(config->fd, errp);
}

VhostSocketAddress chardev_socket_get_address(const Object *chardev)
{
    const ChardevConfig *config = chardev->config;

    return (VhostSocketAddress){
        .path = config->path,
        .fd = config->fd,
        .server = config->server,
        .reconnect_ms = MAX(MAX(config->reconnect_s * 1000, config->reconnect_ms), 0),
    };
}

bool chardev_socket_fail(const Object *chardev, GError *error, GError **errp)
{
    VhostSocketAddress address = chardev_socket_get_address(chardev);

    if (!address.path || address.server || address.reconnect_ms) {
        g_propagate_error(errp, error);
        return false;
    }
    svqd_fail(errp, "%s; start the peer first, or give -chardev socket,id=%s 'reconnect'",
              error->message, chardev->id);
    g_error_free(error);
    return false;
}

const ObjectType chardev_socket_type = {
    .kind = OBJECT_KIND_CHARDEV,
    .name = "socket",
    .help = "a UNIX stream socket",
    .properties = chardev_properties,
    .config_size = sizeof(ChardevConfig),
    .defaults = &(const ChardevConfig){ .fd = -1, .reconnect_s = -1, .reconnect_ms = -1 },
    .check = chardev_check,
};
