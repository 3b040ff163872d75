/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vhost-user back end that dies in the middle of a call: its owner, a shadowed device, must not
 * let the VMM feel it, and must not pester one that keeps dying.
 *
 * How it works.  The back end is a thread behind a real socket.  It answers as it should but for
 * one message, at which it hangs up instead; then it accepts the next connection.  The client
 * connects and shakes hands within one callback of the main loop.  So whenever the main loop
 * is not in a callback, each connection that was accepted has been shaken hands on, or has failed.
 */
#include <glib/gstdio.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hw/vhost/vhost-user-client.h"
#include "lib/svq-rig.h"

#define P(feature)      VIRTIO_F_BIT(VHOST_USER_PROTOCOL_F_ ## feature)

#define WAIT_MS         10000
#define RECONNECT_MS    5000        /* more than any wait here grows to */
#define FIRST_WAIT_MS   50
#define CONNECTIONS     5

typedef struct BackEnd {
    uint64_t features, protocol_features;   /* beside those that each has */
    VhostUserRequest fatal;
    unsigned int nth;                       /* it dies at this one of a connection */
    unsigned int deaths;                    /* to come; the thread's */

    char *dir, *path;
    int listen_fd;
    GThread *thread;
    unsigned int warnings;                  /* when it was started */
    int64_t accepted_us[CONNECTIONS];       /* published by @connections */
    _Atomic unsigned int connections;
} BackEnd;

static int answer(const BackEnd *b, int fd, const VhostUserMessage *m)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(m->header.request);
    VhostUserMessage reply = peer_u64(m->header.request, 0);

    if (spec->reply != VHOST_USER_REPLY_BODY && !(m->header.flags & VHOST_USER_FLAG_NEED_REPLY)) {
        return 0;
    }
    reply.header.flags |= VHOST_USER_FLAG_REPLY;
    switch (m->header.request) {
    case VHOST_USER_GET_FEATURES:
        reply.payload.u64 = b->features | VMM_FEATURES |
                            VIRTIO_F_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
        break;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        reply.payload.u64 = b->protocol_features | P(MQ) | P(REPLY_ACK);
        break;
    case VHOST_USER_GET_QUEUE_NUM:
        reply.payload.u64 = 1;
        break;
    case VHOST_USER_GET_VRING_BASE:
        reply.payload.state = m->payload.state;
        break;
    default:
        break;
    }
    return vhost_user_send(fd, &reply, 0);
}

/* Until it dies, or is left. */
static void serve(BackEnd *b, int fd)
{
    unsigned int seen = 0;
    VhostUserMessage m;
    int ret;

    while ((ret = peer_receive(fd, &m, false)) >= 0) {
        if (ret == 0) {
            continue;
        }
        vhost_user_message_clear(&m);
        if (b->deaths > 0 && m.header.request == b->fatal && ++seen == b->nth) {
            b->deaths--;
            return;
        }
        if (answer(b, fd, &m) < 0) {
            return;
        }
    }
}

static void *back_end_run(void *opaque)
{
    BackEnd *b = opaque;
    unsigned int n;
    int fd;

    while ((fd = accept4(b->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        n = atomic_load(&b->connections);
        if (n < CONNECTIONS) {
            b->accepted_us[n] = g_get_monotonic_time();
        }
        atomic_store(&b->connections, n + 1);
        serve(b, fd);
        close(fd);
    }
    return NULL;
}

static void back_end_start(BackEnd *b)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    b->warnings = rig_warnings();
    b->dir = g_dir_make_tmp("svq-XXXXXX", NULL);
    b->path = g_build_filename(b->dir, "back-end", NULL);
    g_strlcpy(addr.sun_path, b->path, sizeof(addr.sun_path));
    b->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_no_errno(bind(b->listen_fd, (struct sockaddr *)&addr, sizeof(addr)));
    g_assert_no_errno(listen(b->listen_fd, 1));
    b->thread = g_thread_new("back-end", back_end_run, b);
}

/* When nobody is connected any more. */
static void back_end_stop(BackEnd *b)
{
    shutdown(b->listen_fd, SHUT_RDWR);      /* ends the wait in accept4() */
    g_thread_join(b->thread);
    close(b->listen_fd);
    g_assert_no_errno(g_unlink(b->path));
    g_assert_no_errno(g_rmdir(b->dir));
    g_free(b->path);
    g_free(b->dir);
}

static VhostDevice *connect_to(const BackEnd *b, int64_t reconnect_ms, GError **errp)
{
    VhostSocketAddress address = { .fd = -1, .path = b->path, .reconnect_ms = reconnect_ms };

    return vhost_user_client_new("back0", &address, errp);
}

static gboolean on_time_out(void *opaque)
{
    g_error("the back end was not connected to again");
    return G_SOURCE_REMOVE;
}

static void await_connections(BackEnd *b, unsigned int n)
{
    guint timer = g_timeout_add(WAIT_MS, on_time_out, NULL);

    while (atomic_load(&b->connections) < n) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(timer);
}

/* A device in front of @b, with a pair of rings that run. */
static void start_device(Rig *rig, BackEnd *b)
{
    SvqDeviceConfig config = { .id = "net0", .n_iothreads = RIG_IOTHREADS };
    g_autoptr(GError) err = NULL;

    back_end_start(b);
    rig_init_threads(rig, 0);
    config.backend = connect_to(b, RECONNECT_MS, &err);
    g_assert_no_error(err);
    g_assert_true(config.backend->connected);
    config.iothreads = rig->iothreads;
    rig->dev = svq_device_new(&config, &err);
    g_assert_no_error(err);
    rig->loopback = config.backend;         /* to be freed with the rest */
    rig_listen(rig);
    vmm_init(&rig->vmm, VMM_FEATURES, 64);
    vmm_connect(&rig->vmm, rig->path);
    vmm_begin(&rig->vmm, vmm_get(&rig->vmm, VHOST_USER_GET_PROTOCOL_FEATURES));
    vmm_start_rings(&rig->vmm, 0, 2);
    g_assert_cmpint(rig_stats(rig, 1).state, ==, SVQ_QUEUE_RUNNING);
    g_assert_cmpuint(atomic_load(&b->connections), ==, 1);
}

/* It has died: the VMM is served as before, and the rings run again with the next one. */
static void finish_device(Rig *rig, BackEnd *b)
{
    g_assert_false(peer_is_closed(rig->vmm.fd));
    g_assert_cmphex(vmm_get(&rig->vmm, VHOST_USER_GET_FEATURES) & VMM_FEATURES, ==, VMM_FEATURES);
    await_connections(b, 2);
    g_assert_true(rig->loopback->connected);
    vmm_await_state(rig->dev, 0, SVQ_QUEUE_RUNNING);
    vmm_await_state(rig->dev, 1, SVQ_QUEUE_RUNNING);
    g_assert_false(peer_is_closed(rig->vmm.fd));
    rig_cleanup(rig);
    back_end_stop(b);
    g_assert_cmpuint(b->deaths, ==, 0);
    /* The client says why, and the device that it has lost its back end; no more than that. */
    g_assert_cmpuint(rig_warnings() - b->warnings, ==, 2);
}

static void test_in_memory_change(void)
{
    /* The first is that of the start. */
    BackEnd b = { .fatal = VHOST_USER_SET_MEM_TABLE, .nth = 2, .deaths = 1 };
    Rig rig;

    start_device(&rig, &b);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    /* Without the memory of a ring that is not used. */
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, VIRTIO_F_BIT(3)), ==, 0);
    finish_device(&rig, &b);
}

static void test_in_rarp(void)
{
    BackEnd b = {
        .protocol_features = P(RARP), .fatal = VHOST_USER_SEND_RARP, .nth = 1, .deaths = 1,
    };
    Rig rig;

    start_device(&rig, &b);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SEND_RARP, 0, 0x020000000002), ==, 0);
    finish_device(&rig, &b);
}

/* Not asked for an answer, an error could only be told by hanging up. */
static void test_in_status(void)
{
    /* The first is FEATURES_OK, when the rings start; this one DRIVER_OK. */
    BackEnd b = {
        .protocol_features = P(STATUS), .fatal = VHOST_USER_SET_STATUS, .nth = 2, .deaths = 1,
    };
    Rig rig;

    start_device(&rig, &b);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    finish_device(&rig, &b);
}

/* The number of queue pairs has a default, a connection that is gone has none. */
static void test_in_count_of_pairs(void)
{
    BackEnd b = {
        .features = VIRTIO_F_BIT(VIRTIO_NET_F_MQ), .protocol_features = P(CONFIG),
        .fatal = VHOST_USER_GET_CONFIG, .nth = 1, .deaths = 1,
    };
    g_autoptr(GError) err = NULL;

    back_end_start(&b);
    g_assert_null(connect_to(&b, 0, &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_FAILED);
    g_assert_cmpuint(rig_warnings() - b.warnings, ==, 1);
    back_end_stop(&b);
    g_assert_cmpuint(b.deaths, ==, 0);
}

/*
 * Accepted is not shaken hands on.  A wait begins after the connection before it was accepted
 * and ends before the next one is: what lies between the two is never shorter.
 */
static void test_waits_grow(void)
{
    BackEnd b = { .fatal = VHOST_USER_GET_FEATURES, .nth = 1, .deaths = UINT_MAX };
    g_autoptr(GError) err = NULL;
    VhostDevice *dev;
    int64_t wait_us = FIRST_WAIT_MS * G_TIME_SPAN_MILLISECOND;
    unsigned int i;

    back_end_start(&b);
    dev = connect_to(&b, RECONNECT_MS, &err);
    g_assert_no_error(err);
    g_assert_false(dev->connected);
    await_connections(&b, CONNECTIONS);
    for (i = 1; i < CONNECTIONS; i++, wait_us *= 2) {
        g_assert_cmpint(b.accepted_us[i] - b.accepted_us[i - 1], >=, wait_us);
    }
    g_assert_false(dev->connected);
    dev->ops->free(dev);
    back_end_stop(&b);
}

int main(int argc, char **argv)
{
    rig_test_init(&argc, &argv);
    g_test_add_func("/back-end-dies/in-memory-change", test_in_memory_change);
    g_test_add_func("/back-end-dies/in-rarp", test_in_rarp);
    g_test_add_func("/back-end-dies/in-status", test_in_status);
    g_test_add_func("/back-end-dies/in-count-of-pairs", test_in_count_of_pairs);
    g_test_add_func("/back-end-dies/waits-grow", test_waits_grow);
    return rig_test_run();
}
