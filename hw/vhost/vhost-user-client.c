/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front end of a vhost-user connection: handshake, requests, and what happens when the back
 * end goes away.
 *
 * How it works.  A request is sent and its answer awaited with poll(), at most
 * vhost_user_client_timeout_ms; with REPLY_ACK every message is answered, so an error is
 * known where it belongs.  A back end that is late, or answers other than the message table
 * says, is cut off at once, from wherever we are: the descriptor is closed and each further
 * op fails with -ENOTCONN.  Its owner hears of that later, from the main loop (notify()), and
 * only then the socket may lead to the next connection.  So an op never ends in a
 * callback, and gone comes once for each ready.
 */
#define G_LOG_DOMAIN "svq"

#include <endian.h>
#include <errno.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost-user-client-internal.h"

#define BIT(n)              (UINT64_C(1) << (n))
#define VIRTIO_ID_NET       1
/* No other device type has these bits. */
#define VIRTIO_NET_F_MRG_RXBUF  15
#define VIRTIO_NET_F_CTRL_VQ    17
#define VIRTIO_NET_F_MQ         22
/* Where max_virtqueue_pairs stands in its configuration space. */
#define VIRTIO_NET_CONFIG_PAIRS 8

#define PROTOCOL_FEATURES \
    (BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD) | \
     BIT(VHOST_USER_PROTOCOL_F_RARP) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | \
     BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT(VHOST_USER_PROTOCOL_F_CONFIG) | \
     BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) | BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | \
     BIT(VHOST_USER_PROTOCOL_F_STATUS) | BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE))

int vhost_user_client_timeout_ms = VHOST_DEVICE_TIMEOUT_MS;

bool vhost_user_client_has(const VhostUserClient *c, unsigned int protocol_feature)
{
    return c->protocol_features & BIT(protocol_feature);
}

VhostUserMessage vhost_user_client_message(uint32_t request)
{
    VhostUserMessage m;

    memset(&m, 0, sizeof(m));
    m.header.request = request;
    m.header.flags = VHOST_USER_FLAG_VERSION;
    return m;
}

/* Tells the owner what happened; the main loop calls it once for any number of events. */
static gboolean notify(void *opaque)
{
    VhostUserClient *c = opaque;
    const VhostDeviceNotify *n = c->dev.notify;
    bool lost = c->lost;
    bool was_ready = c->dev.connected || c->was_ready;

    c->notify_source = 0;
    if (c->config_changed && !lost && was_ready && n && n->config_changed) {
        n->config_changed(c->dev.notify_opaque);
    }
    c->config_changed = false;
    if (!lost) {
        return G_SOURCE_REMOVE;
    }
    c->lost = c->was_ready = false;
    vhost_socket_disconnected(c->socket);   /* the next one comes from the main loop */
    if (was_ready && n && n->gone) {
        n->gone(c->dev.notify_opaque);      /* last: it may free us */
    }
    return G_SOURCE_REMOVE;
}

static void notify_later(VhostUserClient *c)
{
    if (!c->notify_source) {
        c->notify_source = g_idle_add_full(G_PRIORITY_DEFAULT, notify, c, NULL);
    }
}

void vhost_user_client_config_changed(VhostUserClient *c)
{
    c->config_changed = true;
    notify_later(c);
}

static void drop_connection(VhostUserClient *c)
{
    vhost_user_client_close_channel(c);
    if (c->watch) {
        g_source_remove(c->watch);
        c->watch = 0;
    }
    close(c->fd);
    c->fd = -1;
    vhost_user_receiver_clear(&c->receiver);
    c->protocol_features = 0;
    c->packed = false;
    c->warned = false;
    memset(c->started, 0, sizeof(c->started));
    g_clear_pointer(&c->sent, g_free);
    c->n_sent = 0;
}

void vhost_user_client_lose(VhostUserClient *c, const char *why)
{
    if (c->fd < 0) {
        return;
    }
    g_warning("%s: connection to the back end closed: %s", c->dev.id, why);
    drop_connection(c);
    /* At once: whoever gets an error from an op asks why.  They are told from the main loop. */
    c->was_ready = c->dev.connected;
    c->dev.connected = false;
    c->lost = true;
    notify_later(c);
}

static gboolean socket_ready(gint fd, GIOCondition condition, void *opaque)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return G_SOURCE_CONTINUE;
    }
    vhost_user_client_lose(opaque, n > 0 ? "it answers what nobody asked" : "it has gone");
    return G_SOURCE_CONTINUE;   /* losing it has removed us */
}

/* Whether the answer to @m is for whoever asked, rather than a u64 that says 0 if it was done. */
static bool has_body(const VhostUserMessageSpec *spec)
{
    return spec->reply == VHOST_USER_REPLY_BODY || spec->reply == VHOST_USER_REPLY_STATE_FD;
}

/* What is wrong with @reply as an answer to @m; NULL: nothing. */
static const char *reply_fault(const VhostUserMessage *m, const VhostUserMessage *reply)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(m->header.request);
    bool body = has_body(spec);
    uint32_t min = body ? spec->reply_size_min : sizeof(uint64_t);
    uint32_t max = body ? spec->reply_size_max : sizeof(uint64_t);

    if (!(reply->header.flags & VHOST_USER_FLAG_REPLY)) {
        return "a request instead of an answer";
    }
    if (reply->header.request != m->header.request) {
        return "an answer to another message";
    }
    if (reply->header.size < min || reply->header.size > max) {
        return "an answer of the wrong size";
    }
    if (reply->n_fds > (spec->reply == VHOST_USER_REPLY_STATE_FD ? 1 : 0)) {
        return "an answer with descriptors";
    }
    return NULL;
}

/* 1: the answer is in c->receiver; 0: time is over; -errno with @errp. */
static int await(VhostUserClient *c, int64_t deadline_us, GError **errp)
{
    for (;;) {
        struct pollfd p[2] = {
            { .fd = c->fd, .events = POLLIN },
            { .fd = c->backend_fd, .events = POLLIN },  /* -1: poll() passes it over */
        };
        int64_t left_us = deadline_us - g_get_monotonic_time();
        int ret = vhost_user_receive(&c->receiver, c->fd, errp);

        if (ret == -ECONNRESET && errp && !*errp) {
            return vhost_user_error(errp, ECONNRESET, "it has gone");
        }
        if (ret != 0) {
            return ret;
        }
        if (left_us <= 0) {
            return 0;
        }
        if (poll(p, G_N_ELEMENTS(p), (int)MIN((left_us + 999) / 1000, INT_MAX)) < 0) {
            continue;   /* a signal */
        }
        if (p[1].revents && !vhost_user_client_serve_channel(c)) {
            return vhost_user_error(errp, EPROTO, "malformed message on its request channel");
        }
    }
}

/* Awaits the answer to @m, and moves it to @reply.  0, or -errno with @errp. */
static int receive_reply(VhostUserClient *c, const VhostUserMessage *m, VhostUserMessage *reply,
                         int64_t deadline_us, GError **errp)
{
    const char *fault;
    int ret = await(c, deadline_us, errp);

    if (ret == 0) {
        return vhost_user_error(errp, ETIMEDOUT, "no answer after %d ms",
                                vhost_user_client_timeout_ms);
    }
    if (ret < 0) {
        return ret;
    }
    vhost_user_receiver_take(&c->receiver, reply);
    fault = reply_fault(m, reply);
    if (fault) {
        vhost_user_message_clear(reply);
        return vhost_user_error(errp, EPROTO, "%s", fault);
    }
    return 0;
}

/* Cuts the back end off for @err in answering @m. */
static int fail_request(VhostUserClient *c, const VhostUserMessage *m, GError *err, GError **errp)
{
    g_autofree char *why = g_strdup_printf("%s: %s", vhost_user_message_name(m->header.request),
                                           err->message);

    vhost_user_client_lose(c, why);
    g_error_free(err);
    return vhost_user_error(errp, ENOTCONN, "back end of %s: %s", c->dev.id, why);
}

int vhost_user_client_request(VhostUserClient *c, VhostUserMessage *m, VhostUserMessage *reply,
                              GError **errp)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(m->header.request);
    int64_t deadline_us = g_get_monotonic_time() + (int64_t)vhost_user_client_timeout_ms * 1000;
    bool body = has_body(spec);
    bool ack = !body && vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    VhostUserMessage answer;
    GError *err = NULL;
    int ret;

    if (c->fd < 0) {
        return vhost_user_error(errp, ENOTCONN, "back end of %s", c->dev.id);
    }
    if (ack) {
        m->header.flags |= VHOST_USER_FLAG_NEED_REPLY;
    }
    ret = vhost_user_send(c->fd, m, deadline_us);
    if (ret < 0) {
        vhost_user_error(&err, -ret, "cannot send");
        return fail_request(c, m, err, errp);
    }
    if (!body && !ack && spec->reply != VHOST_USER_REPLY_RESULT) {
        return 0;
    }
    if (receive_reply(c, m, &answer, deadline_us, &err) < 0) {
        return fail_request(c, m, err, errp);
    }
    if (body) {
        *reply = answer;
        return 0;
    }
    if (answer.payload.u64 != 0) {
        return vhost_user_error(errp, EREMOTEIO, "back end of %s refuses %s", c->dev.id,
                                spec->name);
    }
    return 0;
}

int vhost_user_client_request_u64(VhostUserClient *c, uint32_t request, uint64_t value,
                                  GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(request);

    m.header.size = sizeof(m.payload.u64);
    m.payload.u64 = value;
    return vhost_user_client_request(c, &m, NULL, errp);
}

int vhost_user_client_get_u64(VhostUserClient *c, uint32_t request, uint64_t *value,
                              GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(request);
    VhostUserMessage reply;
    int ret = vhost_user_client_request(c, &m, &reply, errp);

    if (ret == 0) {
        *value = reply.payload.u64;
    }
    return ret;
}

int vhost_user_client_request_state(VhostUserClient *c, uint32_t request, uint32_t index,
                                    uint32_t num, GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(request);

    m.header.size = sizeof(m.payload.state);
    m.payload.state.index = index;
    m.payload.state.num = num;
    return vhost_user_client_request(c, &m, NULL, errp);
}

static int negotiate_protocol(VhostUserClient *c, GError **errp)
{
    uint64_t features;
    int ret;

    if (!(c->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES))) {
        return 0;
    }
    ret = vhost_user_client_get_u64(c, VHOST_USER_GET_PROTOCOL_FEATURES, &features, errp);
    if (ret < 0) {
        return ret;
    }
    features &= PROTOCOL_FEATURES;
    ret = vhost_user_client_request_u64(c, VHOST_USER_SET_PROTOCOL_FEATURES, features, errp);
    if (ret == 0) {
        c->protocol_features = features;
    }
    return ret;
}

/*
 * How many virtqueues there are.  A network device's configuration space says it (5.1.4).  Where
 * there is none, GET_QUEUE_NUM's @answer has to do, by which network back ends mean queue
 * pairs (DPDK) or virtqueues (libvhost-user): pairs is the larger reading, and what is asked for
 * in vain is refused by the back end.
 */
static uint32_t count_queues(VhostUserClient *c, uint64_t answer)
{
    bool net = c->dev.device_type == VIRTIO_ID_NET;
    uint64_t queues = MIN(answer, VHOST_USER_VRINGS_MAX);
    uint16_t pairs;

    if (net) {
        if (c->offered & BIT(VIRTIO_NET_F_MQ) &&
            vhost_user_client_ops.get_config(&c->dev, &pairs, VIRTIO_NET_CONFIG_PAIRS,
                                             sizeof(pairs), NULL) == 0) {
            queues = le16toh(pairs);
        }
        queues = 2 * queues + (c->offered & BIT(VIRTIO_NET_F_CTRL_VQ) ? 1 : 0);
    }
    return (uint32_t)CLAMP(queues, 1, VHOST_USER_VRINGS_MAX);
}

static int handshake(VhostUserClient *c, GError **errp)
{
    VhostUserMessage owner = vhost_user_client_message(VHOST_USER_SET_OWNER);
    uint64_t queues = 1;
    uint64_t regions = VHOST_USER_MEM_TABLE_MAX;
    int ret;

    ret = vhost_user_client_request(c, &owner, NULL, errp);
    if (ret == 0) {
        ret = vhost_user_client_get_u64(c, VHOST_USER_GET_FEATURES, &c->offered, errp);
    }
    if (ret == 0) {
        ret = negotiate_protocol(c, errp);
    }
    if (ret == 0 && vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_MQ)) {
        ret = vhost_user_client_get_u64(c, VHOST_USER_GET_QUEUE_NUM, &queues, errp);
    }
    if (ret == 0 && vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        ret = vhost_user_client_get_u64(c, VHOST_USER_GET_MAX_MEM_SLOTS, &regions, errp);
    }
    if (ret == 0 && vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
        ret = vhost_user_client_open_channel(c, errp);
    }
    if (ret < 0) {
        return ret;
    }
    c->dev.features = c->offered & ~(BIT(VHOST_USER_F_PROTOCOL_FEATURES) | BIT(VHOST_F_LOG_ALL));
    c->dev.device_type = c->offered & (BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_MRG_RXBUF))
                             ? VIRTIO_ID_NET
                             : 0;
    c->dev.queue_count = count_queues(c, queues);
    if (c->fd < 0) {
        return vhost_user_error(errp, ENOTCONN, "%s has gone", c->dev.id);
    }
    c->dev.max_regions = (uint32_t)MIN(regions, VHOST_USER_SLOTS_MAX);
    c->dev.has_rarp = vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_RARP);
    c->dev.has_config = vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_CONFIG);
    return 0;
}

static void connected(void *opaque, int fd)
{
    VhostUserClient *c = opaque;
    g_autoptr(GError) err = NULL;

    c->fd = fd;
    if (handshake(c, &err) < 0) {
        /* A request that failed has cut it off already; one that was refused has not. */
        vhost_user_client_lose(c, err->message);
        return;
    }
    /* A back end that went while we were at it is noticed by the watch. */
    c->watch = g_unix_fd_add(c->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, socket_ready, c);
    c->dev.connected = true;
    if (c->socket) {        /* else it is being made, and this is its first */
        vhost_socket_is_good(c->socket);
    }
    g_info("%s: back end connected: features 0x%" PRIx64 ", protocol features 0x%" PRIx64
           ", %" PRIu32 " virtqueues", c->dev.id, c->offered, c->protocol_features,
           c->dev.queue_count);
    if (c->dev.notify && c->dev.notify->ready) {
        c->dev.notify->ready(c->dev.notify_opaque);
    }
}

void vhost_user_client_free(VhostDevice *dev)
{
    VhostUserClient *c = (VhostUserClient *)dev;

    if (c->fd >= 0) {
        drop_connection(c);
    }
    if (c->notify_source) {
        g_source_remove(c->notify_source);
    }
    vhost_socket_free(c->socket);
    g_free(c->dev.id);
    g_free(c);
}

VhostDevice *vhost_user_client_new(const char *id, const VhostSocketAddress *address,
                                   GError **errp)
{
    bool once = !address->path || (!address->server && address->reconnect_ms <= 0);
    VhostUserClient *c = g_new0(VhostUserClient, 1);

    c->dev.ops = &vhost_user_client_ops;
    c->dev.id = g_strdup(id);
    c->dev.tells_base = true;
    c->fd = -1;
    c->backend_fd = -1;
    c->socket = vhost_socket_new(address, false, connected, c, errp);
    if (!c->socket) {
        vhost_user_client_free(&c->dev);
        return NULL;
    }
    if (once && !c->dev.connected) {
        vhost_user_error(errp, EPROTO, "back end of %s: handshake failed", id);
        vhost_user_client_free(&c->dev);
        return NULL;
    }
    return &c->dev;
}
