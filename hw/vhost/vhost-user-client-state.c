/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state of a vhost-user back end, saved and loaded as a VMM does in a migration.
 *
 * How it works.  The state goes through a pipe of which the back end gets one end, unless it
 * answers with a descriptor of its own, and end of file is its end; then CHECK_DEVICE_STATE
 * asks whether all went well.  Our end is non-blocking and waited for until a deadline;
 * meanwhile the request channel is served, for a back end may be waiting there.  What fails
 * here leaves the connection as it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "vhost-user-client-internal.h"

#define READ_SIZE   16384

bool vhost_user_client_has_state(const VhostDevice *dev)
{
    return vhost_user_client_has((const VhostUserClient *)dev, VHOST_USER_PROTOCOL_F_DEVICE_STATE);
}

/* Sends the back end @fd.  0, and *instead is what it wants us to use, or -1; -errno with @errp. */
static int send_fd(VhostUserClient *c, VhostUserStateDirection direction, int fd, int *instead,
                   GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_SET_DEVICE_STATE_FD);
    VhostUserMessage reply;
    uint64_t result;
    int ret;

    m.header.size = sizeof(m.payload.device_state);
    m.payload.device_state.direction = direction;
    m.payload.device_state.phase = VHOST_USER_STATE_STOPPED;
    m.fds[m.n_fds++] = fd;
    ret = vhost_user_client_request(c, &m, &reply, errp);
    if (ret < 0) {
        return ret;
    }
    result = reply.payload.u64;
    *instead = result & VHOST_USER_STATE_NO_FD ? -1 : vhost_user_message_take_fd(&reply, 0);
    vhost_user_message_clear(&reply);
    if (result & VHOST_USER_STATE_ERROR_MASK ||
        (*instead < 0 && !(result & VHOST_USER_STATE_NO_FD))) {
        ret = vhost_user_error(errp, EREMOTEIO, "back end of %s refuses to %s its state", c->dev.id,
                               direction == VHOST_USER_STATE_SAVE ? "save" : "load");
    }
    if (ret < 0 && *instead >= 0) {
        close(*instead);
    }
    return ret;
}

/* Our end of the way that the state goes; -errno with @errp. */
static int open_channel(VhostUserClient *c, VhostUserStateDirection direction, GError **errp)
{
    const int ours = direction == VHOST_USER_STATE_SAVE ? 0 : 1;
    int fds[2], instead, ret, flags;

    if (c->fd >= 0 && !vhost_user_client_has_state(&c->dev)) {
        return vhost_user_error(errp, ENOTSUP, "back end of %s cannot %s its state", c->dev.id,
                                direction == VHOST_USER_STATE_SAVE ? "save" : "load");
    }
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return vhost_user_error(errp, errno, "state of %s", c->dev.id);
    }
    ret = send_fd(c, direction, fds[!ours], &instead, errp);
    close(fds[!ours]);
    if (ret < 0) {
        close(fds[ours]);
        return ret;
    }
    if (instead >= 0) {
        close(fds[ours]);
        fds[ours] = instead;
    }
    flags = fcntl(fds[ours], F_GETFL);
    if (flags < 0 || fcntl(fds[ours], F_SETFL, flags | O_NONBLOCK) < 0) {
        ret = vhost_user_error(errp, errno, "state of %s", c->dev.id);
        close(fds[ours]);
        return ret;
    }
    return fds[ours];
}

/* Until @fd is ready for @events. */
static int await(VhostUserClient *c, int fd, short events, int64_t deadline_us, GError **errp)
{
    struct pollfd p[2] = {
        { .fd = fd, .events = events },
        { .fd = c->backend_fd, .events = POLLIN },      /* -1: poll() passes it over */
    };
    const int64_t left_us = deadline_us - g_get_monotonic_time();

    if (left_us <= 0) {
        return vhost_user_error(errp, ETIMEDOUT, "state of %s: not done after %d ms", c->dev.id,
                                vhost_user_client_timeout_ms);
    }
    if (poll(p, G_N_ELEMENTS(p), (int)MIN((left_us + 999) / 1000, INT_MAX)) > 0 && p[1].revents &&
        !vhost_user_client_serve_channel(c)) {
        return vhost_user_error(errp, EPROTO, "malformed message on the request channel of %s",
                                c->dev.id);
    }
    return 0;
}

static int read_all(VhostUserClient *c, int fd, GByteArray *state, GError **errp)
{
    const int64_t deadline_us = g_get_monotonic_time() +
                                (int64_t)vhost_user_client_timeout_ms * 1000;
    uint8_t data[READ_SIZE];
    int ret = 0;

    while (ret == 0) {
        ssize_t n = read(fd, data, sizeof(data));

        if (n == 0) {
            return 0;
        }
        if (n > 0) {
            g_byte_array_append(state, data, (guint)n);
        } else if (errno == EAGAIN) {
            ret = await(c, fd, POLLIN, deadline_us, errp);
        } else if (errno != EINTR) {
            ret = vhost_user_error(errp, errno, "cannot read the state of %s", c->dev.id);
        }
        if (state->len > VHOST_USER_STATE_MAX_BYTES) {
            ret = vhost_user_error(errp, EFBIG, "state of %s: more than %d bytes", c->dev.id,
                                   VHOST_USER_STATE_MAX_BYTES);
        }
    }
    return ret;
}

static int write_all(VhostUserClient *c, int fd, const uint8_t *data, size_t size, GError **errp)
{
    const int64_t deadline_us = g_get_monotonic_time() +
                                (int64_t)vhost_user_client_timeout_ms * 1000;
    int ret = 0;

    while (size > 0 && ret == 0) {
        ssize_t n = write(fd, data, size);

        if (n >= 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            ret = await(c, fd, POLLOUT, deadline_us, errp);
        } else if (errno != EINTR) {
            ret = vhost_user_error(errp, errno, "cannot write the state of %s", c->dev.id);
        }
    }
    return ret;
}

static int check_state(VhostUserClient *c, GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_CHECK_DEVICE_STATE);

    return vhost_user_client_request(c, &m, NULL, errp);
}

GBytes *vhost_user_client_save_state(VhostDevice *dev, GError **errp)
{
    VhostUserClient *c = (VhostUserClient *)dev;
    g_autoptr(GByteArray) state = g_byte_array_new();
    int fd = open_channel(c, VHOST_USER_STATE_SAVE, errp);
    int ret;

    if (fd < 0) {
        return NULL;
    }
    ret = read_all(c, fd, state, errp);
    close(fd);
    if (ret < 0 || check_state(c, errp) < 0) {
        return NULL;
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&state));
}

int vhost_user_client_load_state(VhostDevice *dev, GBytes *state, GError **errp)
{
    VhostUserClient *c = (VhostUserClient *)dev;
    gsize size;
    const uint8_t *data = g_bytes_get_data(state, &size);
    int fd = open_channel(c, VHOST_USER_STATE_LOAD, errp);
    int ret;

    if (fd < 0) {
        return fd;
    }
    ret = write_all(c, fd, data, size, errp);
    close(fd);
    return ret < 0 ? ret : check_state(c, errp);
}
