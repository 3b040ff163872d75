/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's state on its way from or to the VMM: SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE.
 *
 * How it works.  The VMM sends one end of a pipe, says which way the state goes, and asks at the
 * end whether it has arrived.  There is at most one transfer; a new one ends the last.  The end
 * that we have is watched by the main loop and never waited for: a VMM that does not read, or
 * does not write, has a transfer that does not end, and no other harm is done.  A state
 * is saved at the beginning of its transfer and loaded at its end, when all of it is there.
 *
 * CHECK_DEVICE_STATE may overtake an end of file that the main loop has yet to see.  So while a
 * state is being read, it is answered when all is there, or when CHECK_WAIT_MS are over.
 *
 * Who uses the server ignores SIGPIPE: the VMM may close its end at any time.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost-user-server-internal.h"

#define CHECK_WAIT_MS   1000
#define READ_SIZE       16384

static void end_transfer(VhostUserTransfer *t)
{
    g_clear_handle_id(&t->watch, g_source_remove);
    if (t->fd >= 0) {
        close(t->fd);
        t->fd = -1;
    }
    g_clear_pointer(&t->saved, g_bytes_unref);
    g_clear_pointer(&t->loaded, g_byte_array_unref);
}

void vhost_user_server_clear_transfer(VhostUserServer *s)
{
    end_transfer(&s->transfer);
    g_clear_handle_id(&s->transfer.check_timer, g_source_remove);
    g_clear_error(&s->transfer.error);
    s->transfer.done = false;
}

/* Writes what there is room for.  1: that was all; 0: there is more; -errno with @errp. */
static int write_some(VhostUserTransfer *t, GError **errp)
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(t->saved, &size);

    while (t->written < size) {
        ssize_t n = write(t->fd, data + t->written, size - t->written);

        if (n >= 0) {
            t->written += (size_t)n;
        } else if (errno == EAGAIN) {
            return 0;
        } else if (errno != EINTR) {
            return vhost_user_error(errp, errno, "cannot write the device's state");
        }
    }
    return 1;
}

/* Reads what is there.  1: that was all; 0: there is more to come; -errno with @errp. */
static int read_some(VhostUserTransfer *t, GError **errp)
{
    uint8_t data[READ_SIZE];

    for (;;) {
        ssize_t n = read(t->fd, data, sizeof(data));

        if (n == 0) {
            return 1;
        }
        if (n > 0) {
            g_byte_array_append(t->loaded, data, (guint)n);
        } else if (errno == EAGAIN) {
            return 0;
        } else if (errno != EINTR) {
            return vhost_user_error(errp, errno, "cannot read the device's state");
        }
        if (t->loaded->len > VHOST_USER_STATE_MAX_BYTES) {
            return vhost_user_error(errp, EFBIG, "device's state of more than %d bytes",
                                    VHOST_USER_STATE_MAX_BYTES);
        }
    }
}

/* How the last transfer ended; it can be asked once. */
static int take_result(VhostUserTransfer *t, GError **errp)
{
    bool done = t->done;

    t->done = false;
    if (t->error) {
        g_propagate_error(errp, g_steal_pointer(&t->error));
        return -EIO;
    }
    return done ? 0 : vhost_user_error(errp, EINVAL, "no device's state was transferred");
}

static void answer_check(VhostUserServer *s)
{
    GError *err = NULL;
    int ret = take_result(&s->transfer, &err);

    g_clear_handle_id(&s->transfer.check_timer, g_source_remove);
    vhost_user_server_answer_later(s, VHOST_USER_CHECK_DEVICE_STATE, ret, err);
}

static gboolean channel_ready(gint fd, GIOCondition condition, void *opaque)
{
    VhostUserServer *s = opaque;
    VhostUserTransfer *t = &s->transfer;
    int ret = t->saved ? write_some(t, &t->error) : read_some(t, &t->error);

    if (ret == 0) {
        return G_SOURCE_CONTINUE;
    }
    if (ret > 0 && t->loaded) {
        ret = s->ops->load_state(s->opaque, t->loaded->data, t->loaded->len, &t->error);
    }
    t->done = ret >= 0;
    end_transfer(t);
    if (t->check_timer) {
        answer_check(s);
    }
    return G_SOURCE_CONTINUE;   /* a transfer that has ended has removed us */
}

static gboolean check_is_late(void *opaque)
{
    VhostUserServer *s = opaque;

    s->transfer.check_timer = 0;
    end_transfer(&s->transfer);
    vhost_user_error(&s->transfer.error, ETIMEDOUT, "the device's state has no end");
    answer_check(s);
    return G_SOURCE_REMOVE;
}

/*
 * A pipe or a stream socket can be watched; a file could block us for as long as its disk likes.
 */
static int check_channel(int fd, VhostUserStateDirection direction, GError **errp)
{
    const int mode = direction == VHOST_USER_STATE_LOAD ? O_RDONLY : O_WRONLY;
    const int flags = fcntl(fd, F_GETFL);
    int type = SOCK_STREAM;
    socklen_t size = sizeof(type);
    struct stat st;

    if (flags < 0 || fstat(fd, &st) < 0) {
        return vhost_user_error(errp, errno, "descriptor for the device's state");
    }
    if (S_ISSOCK(st.st_mode)) {
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    }
    if (!(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) || type != SOCK_STREAM) {
        return vhost_user_error(errp, EINVAL,
                                "device's state: neither a pipe nor a stream socket");
    }
    if ((flags & O_ACCMODE) != mode && (flags & O_ACCMODE) != O_RDWR) {
        return vhost_user_error(errp, EBADF, "device's state: the wrong end of a pipe");
    }
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return vhost_user_error(errp, errno, "descriptor for the device's state");
    }
    return 0;
}

int vhost_user_server_set_device_state_fd(VhostUserServer *s, VhostUserMessage *m,
                                          VhostUserMessage *reply, GError **errp)
{
    const VhostUserDeviceState *wire = &m->payload.device_state;
    VhostUserTransfer *t = &s->transfer;
    GIOCondition ready = G_IO_IN;
    int ret;

    vhost_user_server_clear_transfer(s);
    if (wire->direction > VHOST_USER_STATE_LOAD || wire->phase != VHOST_USER_STATE_STOPPED) {
        return vhost_user_error(errp, EINVAL, "direction %" PRIu32 ", phase %" PRIu32,
                                wire->direction, wire->phase);
    }
    ret = check_channel(m->fds[0], wire->direction, errp);
    if (ret < 0) {
        return ret;
    }
    if (wire->direction == VHOST_USER_STATE_SAVE) {
        t->saved = s->ops->save_state(s->opaque, errp);
        if (!t->saved) {
            return -EIO;
        }
        t->written = 0;
        ready = G_IO_OUT;
    } else {
        t->loaded = g_byte_array_new();
    }
    t->fd = vhost_user_message_take_fd(m, 0);
    t->watch = g_unix_fd_add(t->fd, ready | G_IO_HUP | G_IO_ERR, channel_ready, s);
    return 0;
}

int vhost_user_server_check_device_state(VhostUserServer *s, VhostUserMessage *m,
                                         VhostUserMessage *reply, GError **errp)
{
    VhostUserTransfer *t = &s->transfer;

    if (t->fd < 0) {
        return take_result(t, errp);
    }
    if (t->saved) {
        end_transfer(t);
        return vhost_user_error(errp, EBUSY, "the device's state was not read to its end");
    }
    t->check_timer = g_timeout_add(CHECK_WAIT_MS, check_is_late, s);
    return VHOST_USER_LATER;
}
