/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end of a vhost-user connection: receiving, answering, and the life of a connection.
 *
 * How it works.  receive_ready() takes a bounded number of messages each time the main loop finds
 * the connection readable, so that one VMM cannot keep it from the others.  A message is
 * checked against the message table, then its handler (vhost-user-server-handlers.c, -memory.c,
 * -state.c) runs, then it is answered if it wants that.  Nothing waits: a peer that does not
 * read its answers fills its socket and is cut off; a message that cannot be answered yet stops
 * the taking of messages, not the main loop.  What a handler does not take of a message's
 * descriptors is closed, whatever happened.
 */
#define G_LOG_DOMAIN "svq"

#include <errno.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost-user-server-internal.h"

#define BIT(n)  (UINT64_C(1) << (n))
#define MESSAGES_PER_DISPATCH   32

uint64_t vhost_user_server_protocol_features(VhostUserServer *s)
{
    uint64_t features = BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD) |
                        BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
                        BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |
                        BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |
                        BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
                        BIT(VHOST_USER_PROTOCOL_F_STATUS);

    if (s->ops->has_config(s->opaque)) {
        features |= BIT(VHOST_USER_PROTOCOL_F_CONFIG);
    }
    if (s->ops->has_rarp && s->ops->has_rarp(s->opaque)) {
        features |= BIT(VHOST_USER_PROTOCOL_F_RARP);
    }
    if (s->ops->has_state && s->ops->has_state(s->opaque)) {
        features |= BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE);
    }
    return features;
}

static bool has_protocol_feature(const VhostUserServer *s, unsigned int bit)
{
    return s->protocol_features & BIT(bit);
}

/* Ends the connection; the socket then leads to the next one. */
static void disconnect(VhostUserServer *s)
{
    g_source_remove(s->watch);
    s->watch = 0;
    close(s->fd);
    s->fd = -1;
    if (s->backend_fd >= 0) {
        close(s->backend_fd);
        s->backend_fd = -1;
    }
    vhost_user_receiver_clear(&s->receiver);
    s->features = 0;
    s->protocol_features = 0;
    s->warned = false;
    vhost_user_server_clear_transfer(s);
    /* The owner first: it may still use the regions that the table holds. */
    s->ops->disconnected(s->opaque);
    vhost_user_server_clear_memory(s);
}

static int send_reply(VhostUserServer *s, VhostUserMessage *reply, GError **errp)
{
    int ret = vhost_user_send(s->fd, reply, 0);

    return ret < 0 ? vhost_user_error(errp, -ret, "cannot answer") : 0;
}

/* Whether @m is answered with a u64 that says if it was done. */
static bool wants_result(const VhostUserServer *s, const VhostUserMessage *m,
                         const VhostUserMessageSpec *spec, int ret)
{
    const VhostUserReply kind = spec ? spec->reply : VHOST_USER_REPLY_ACK;

    if (m->header.flags & VHOST_USER_FLAG_NEED_REPLY &&
        has_protocol_feature(s, VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
        return true;
    }
    return kind == VHOST_USER_REPLY_RESULT || kind == VHOST_USER_REPLY_STATE_FD ||
           (kind == VHOST_USER_REPLY_ALWAYS_ACK && ret == 0);
}

/* The answer, if @m wants one: what the handler left in @reply, or a u64 that says @ret. */
static int answer(VhostUserServer *s, const VhostUserMessage *m, const VhostUserMessageSpec *spec,
                  VhostUserMessage *reply, int ret, GError **errp)
{
    if (spec && spec->reply == VHOST_USER_REPLY_BODY) {
        return ret < 0 ? ret : send_reply(s, reply, errp);
    }
    if (!wants_result(s, m, spec, ret)) {
        return ret;
    }
    if (ret < 0) {
        if (!s->warned) {
            g_warning("%s refused: %s", vhost_user_message_name(m->header.request),
                      errp && *errp ? (*errp)->message : g_strerror(-ret));
        }
        s->warned = true;
        g_clear_error(errp);
    }
    reply->payload.u64 = ret < 0;
    if (spec && spec->reply == VHOST_USER_REPLY_STATE_FD) {
        reply->payload.u64 |= VHOST_USER_STATE_NO_FD;   /* the one that came will do */
    }
    reply->header.size = sizeof(reply->payload.u64);
    return send_reply(s, reply, errp);
}

/* Every byte of it: a reply that is padded, or shorter than it could be, tells nothing. */
static void init_reply(VhostUserMessage *reply, uint32_t request)
{
    memset(reply, 0, sizeof(*reply));
    reply->header.request = request;
    reply->header.flags = VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY;
}

/* 0; VHOST_USER_LATER; or -errno with @errp: the connection is to be closed. */
static int handle(VhostUserServer *s, VhostUserMessage *m, GError **errp)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(m->header.request);
    VhostUserMessage reply;
    int ret;

    if (m->header.flags & VHOST_USER_FLAG_REPLY) {
        return vhost_user_error(errp, EPROTO, "a reply that nobody asked for");
    }
    init_reply(&reply, m->header.request);
    if (!spec) {
        ret = vhost_user_error(errp, ENOSYS, "message %" PRIu32, m->header.request);
    } else if (!vhost_user_message_check(m, spec, s->protocol_features, errp)) {
        ret = -EPROTO;
    } else {
        ret = vhost_user_server_handler(m->header.request)(s, m, &reply, errp);
    }
    return ret == VHOST_USER_LATER ? ret : answer(s, m, spec, &reply, ret, errp);
}

static void hang_up(VhostUserServer *s, uint32_t request, int ret, const GError *err)
{
    if (ret == -ECONNRESET && !err) {
        g_info("VMM has closed the connection");
    } else {
        g_warning("connection to the VMM closed, %s: %s", vhost_user_message_name(request),
                  err ? err->message : g_strerror(-ret));
    }
    disconnect(s);
    vhost_socket_disconnected(s->socket);
}

/* While a message is to be answered later: what else came is not of interest any more. */
static gboolean vmm_gone(gint fd, GIOCondition condition, void *opaque)
{
    hang_up(opaque, 0, -ECONNRESET, NULL);
    return G_SOURCE_CONTINUE;   /* disconnect() has removed us */
}

static gboolean receive_ready(gint fd, GIOCondition condition, void *opaque)
{
    VhostUserServer *s = opaque;
    g_autoptr(GError) err = NULL;
    unsigned int i;

    for (i = 0; i < MESSAGES_PER_DISPATCH; i++) {
        int ret = vhost_user_receive(&s->receiver, s->fd, &err);
        uint32_t request = s->receiver.message.header.request;
        VhostUserMessage m;

        if (ret == 0) {
            break;
        }
        if (ret > 0) {
            vhost_user_receiver_take(&s->receiver, &m);
            ret = handle(s, &m, &err);
            vhost_user_message_clear(&m);
        }
        if (ret < 0) {
            hang_up(s, request, ret, err);
            break;
        }
        if (ret == VHOST_USER_LATER) {
            g_source_remove(s->watch);
            s->watch = g_unix_fd_add(s->fd, G_IO_HUP | G_IO_ERR, vmm_gone, s);
            break;
        }
    }
    return G_SOURCE_CONTINUE;   /* if we are to be called no more, we have been removed */
}

static void watch_connection(VhostUserServer *s)
{
    s->watch = g_unix_fd_add(s->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, receive_ready, s);
}

void vhost_user_server_answer_later(VhostUserServer *s, uint32_t request, int ret, GError *err)
{
    const VhostUserMessage m = { .header.request = request };
    VhostUserMessage reply;

    init_reply(&reply, request);
    g_source_remove(s->watch);
    watch_connection(s);
    ret = answer(s, &m, vhost_user_message_spec(request), &reply, ret, &err);
    if (ret < 0) {
        hang_up(s, request, ret, err);
    }
    g_clear_error(&err);
}

static void connected(void *opaque, int fd)
{
    VhostUserServer *s = opaque;

    g_info("VMM connected");
    s->fd = fd;
    watch_connection(s);
    s->ops->connected(s->opaque);
}

VhostUserServer *vhost_user_server_new(const VhostSocketAddress *address, bool hold,
                                       const VhostUserServerOps *ops, void *opaque,
                                       GError **errp)
{
    VhostUserServer *s = g_new0(VhostUserServer, 1);

    s->ops = ops;
    s->opaque = opaque;
    s->fd = -1;
    s->backend_fd = -1;
    s->transfer.fd = -1;
    s->socket = vhost_socket_new(address, hold, connected, s, errp);
    if (!s->socket) {
        g_free(s);
        return NULL;
    }
    return s;
}

void vhost_user_server_free(VhostUserServer *s)
{
    if (!s) {
        return;
    }
    if (s->fd >= 0) {
        disconnect(s);
    }
    vhost_socket_free(s->socket);
    g_free(s);
}

void vhost_user_server_hold(VhostUserServer *s, bool hold)
{
    vhost_socket_hold(s->socket, hold);
}

/*
 * Without NEED_REPLY: the channel may be a pipe (User Mode Linux), from which no reply comes, so
 * write(2) if it is no socket; then a process that does not ignore SIGPIPE dies of
 * a VMM that closed its end, as with the call descriptors of such a VMM.
 * A full channel holds earlier news of the same kind: nothing is lost.
 */
void vhost_user_server_config_changed(VhostUserServer *s)
{
    VhostUserHeader header = {
        .request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
        .flags = VHOST_USER_FLAG_VERSION,
    };
    ssize_t n;

    if (s->backend_fd < 0 || !has_protocol_feature(s, VHOST_USER_PROTOCOL_F_CONFIG)) {
        return;
    }
    n = send(s->backend_fd, &header, sizeof(header), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == ENOTSOCK) {
        n = write(s->backend_fd, &header, sizeof(header));
    }
    if (n != sizeof(header)) {
        g_info("the VMM was not told of a configuration change: %s",
               n < 0 ? g_strerror(errno) : "request channel is full");
    }
}

bool vhost_user_server_has_status(const VhostUserServer *s)
{
    return s->fd >= 0 && has_protocol_feature(s, VHOST_USER_PROTOCOL_F_STATUS);
}
