/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The request channel of the vhost-user client: the back end asks, we answer.
 *
 * It is a socket pair of which the back end gets one end.  It is also served while we wait for
 * an answer on the connection proper: a back end may be waiting for ours first.
 */
#define G_LOG_DOMAIN "svq"

#include <errno.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost-user-client-internal.h"

#define REQUESTS_PER_DISPATCH   32

static gboolean channel_ready(gint fd, GIOCondition condition, void *opaque)
{
    VhostUserClient *c = opaque;

    if (!vhost_user_client_serve_channel(c)) {
        vhost_user_client_lose(c, "malformed message on its request channel");
    }
    return G_SOURCE_CONTINUE;   /* a channel that was closed has removed us */
}

int vhost_user_client_open_channel(VhostUserClient *c, GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_SET_BACKEND_REQ_FD);
    int fds[2], ret;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        return vhost_user_error(errp, errno, "request channel");
    }
    c->backend_fd = fds[0];
    c->backend_watch = g_unix_fd_add(fds[0], G_IO_IN | G_IO_HUP | G_IO_ERR, channel_ready, c);
    m.fds[0] = fds[1];
    m.n_fds = 1;
    ret = vhost_user_client_request(c, &m, NULL, errp);
    close(fds[1]);
    return ret;
}

void vhost_user_client_close_channel(VhostUserClient *c)
{
    if (c->backend_fd < 0) {
        return;
    }
    g_source_remove(c->backend_watch);
    c->backend_watch = 0;
    close(c->backend_fd);
    c->backend_fd = -1;
    vhost_user_receiver_clear(&c->backend_receiver);
}

/* 0, or -errno: the answer says that it was refused. */
static int handle(VhostUserClient *c, const VhostUserMessage *m, GError **errp)
{
    const VhostUserMessageSpec *spec = vhost_user_backend_message_spec(m->header.request);

    if (!spec) {
        return vhost_user_error(errp, ENOSYS, "request %" PRIu32, m->header.request);
    }
    if (!vhost_user_message_check(m, spec, c->protocol_features, errp)) {
        return -EPROTO;
    }
    vhost_user_client_config_changed(c);
    return 0;
}

static int serve_one(VhostUserClient *c, const VhostUserMessage *m)
{
    g_autoptr(GError) err = NULL;
    VhostUserMessage reply = { .header = { .request = m->header.request } };
    int ret = handle(c, m, &err);

    if (ret < 0 && !c->warned) {
        g_warning("%s: request of the back end refused: %s", c->dev.id, err->message);
        c->warned = true;
    }
    if (!(m->header.flags & VHOST_USER_FLAG_NEED_REPLY) ||
        !vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
        return 0;
    }
    reply.header.flags = VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY;
    reply.header.size = sizeof(reply.payload.u64);
    reply.payload.u64 = ret < 0;
    return vhost_user_send(c->backend_fd, &reply, 0);
}

bool vhost_user_client_serve_channel(VhostUserClient *c)
{
    unsigned int i;

    for (i = 0; i < REQUESTS_PER_DISPATCH; i++) {
        VhostUserMessage m;
        int ret = vhost_user_receive(&c->backend_receiver, c->backend_fd, NULL);

        if (ret == 0) {
            return true;
        }
        if (ret == -ECONNRESET) {
            vhost_user_client_close_channel(c);     /* it has nothing more to ask */
            return true;
        }
        if (ret < 0) {
            break;
        }
        vhost_user_receiver_take(&c->backend_receiver, &m);
        ret = m.header.flags & VHOST_USER_FLAG_REPLY ? -EPROTO : serve_one(c, &m);
        vhost_user_message_clear(&m);
        if (ret < 0) {
            break;
        }
    }
    if (i == REQUESTS_PER_DISPATCH) {
        return true;
    }
    vhost_user_client_close_channel(c);
    return false;
}
