/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saving and loading the state of a back end: against our own server in a process of its own,
 * and against a scripted back end in a thread.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../hw/vhost/vhost-user-client-internal.h"
#include "lib/vhost-user-child.h"

#define F(bit)  (UINT64_C(1) << (bit))

static GBytes *make_state(size_t size)
{
    uint8_t *data = g_malloc(size);
    size_t i;

    for (i = 0; i < size; i++) {
        data[i] = peer_state_byte(i);
    }
    return g_bytes_new_take(data, size);
}

static void test_saves_and_loads(void)
{
    static const size_t sizes[] = { 0, 1, 65537, VHOST_USER_STATE_MAX_BYTES };
    PeerChild child;
    VhostDevice *dev = peer_child_pair(&child);
    unsigned int before = peer_count_fds(), i;

    g_assert_true(vhost_user_client_has_state(dev));
    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GBytes) state = make_state(sizes[i]);
        g_autoptr(GBytes) saved = NULL;
        g_autoptr(GError) err = NULL;

        vhost_user_client_load_state(dev, state, &err);
        g_assert_no_error(err);
        g_assert_cmpuint(child.owner->loads, ==, i + 1);
        g_assert_cmpuint(child.owner->state_size, ==, sizes[i]);
        saved = vhost_user_client_save_state(dev, &err);
        g_assert_no_error(err);
        g_assert_true(g_bytes_equal(saved, state));
        g_assert_cmpuint(child.owner->saves, ==, i + 1);
    }
    g_assert_cmpuint(peer_count_fds(), ==, before);
    dev->ops->free(dev);
    peer_child_free(&child);
}

static void test_refusal_leaves_connection(void)
{
    PeerChild child;
    VhostDevice *dev = peer_child_pair(&child);
    g_autoptr(GBytes) state = make_state(100);
    g_autoptr(GBytes) wrong = g_bytes_new_from_bytes(state, 1, 99);
    g_autoptr(GBytes) too_long = make_state(VHOST_USER_STATE_MAX_BYTES + 1);
    g_autoptr(GError) err = NULL;

    child.owner->fail = EBUSY;
    g_assert_null(vhost_user_client_save_state(dev, &err));
    g_assert_nonnull(strstr(err->message, "refuses to save its state"));
    g_clear_error(&err);
    g_assert_cmpint(vhost_user_client_load_state(dev, state, &err), ==, -EREMOTEIO);
    g_assert_nonnull(strstr(err->message, "CHECK_DEVICE_STATE"));
    child.owner->fail = 0;
    g_assert_cmpint(vhost_user_client_load_state(dev, wrong, NULL), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_client_load_state(dev, too_long, NULL), <, 0);
    child.owner->state_size = VHOST_USER_STATE_MAX_BYTES + 1;
    g_clear_error(&err);
    g_assert_null(vhost_user_client_save_state(dev, &err));
    g_assert_nonnull(strstr(err->message, "more than 262144 bytes"));
    g_assert_cmpuint(child.owner->loads, ==, 0);

    g_assert_cmpint(vhost_user_client_load_state(dev, state, NULL), ==, 0);
    g_assert_true(dev->connected);
    dev->ops->free(dev);
    peer_child_free(&child);
}

/* What a scripted back end does with SET_DEVICE_STATE_FD. */
typedef enum Manner {
    MANNER_OWN_PIPE,        /* answers with a descriptor of its own, as it may */
    MANNER_OWN_AND_NO_FD,   /* sends one, but says that it does not count */
    MANNER_ASKS_FIRST,      /* awaits an answer on the request channel before it goes on */
    MANNER_NO_FEATURE,
    MANNER_REFUSES,
    MANNER_REFUSES_WITH_FD,
    MANNER_PROMISES_FD,     /* NO_FD is not set, but none comes */
    MANNER_NEVER_ENDS,      /* keeps its end, and does not use it */
    MANNER_CHECK_FAILS,
    MANNER_DIES,
    MANNERS
} Manner;

typedef struct Backend {
    Manner manner;
    int fd, channel;
    int state_fd;           /* where the state comes from or goes to; -1 */
    bool save;              /* the direction */
    size_t loaded;
    GThread *thread;
} Backend;

/* State that a back end saves: 3 bytes. */
static void backend_save(Backend *b)
{
    const uint8_t bytes[] = { peer_state_byte(0), peer_state_byte(1), peer_state_byte(2) };

    if (b->save) {
        g_assert_cmpint(write(b->state_fd, bytes, sizeof(bytes)), ==, sizeof(bytes));
        close(b->state_fd);
        b->state_fd = -1;
    }
}

static void backend_load(Backend *b)
{
    uint8_t byte;

    while (b->state_fd >= 0 && read(b->state_fd, &byte, 1) == 1) {
        g_assert_cmpuint(byte, ==, peer_state_byte(b->loaded++));
    }
}

static void backend_ask(Backend *b)
{
    VhostUserMessage m = peer_message(VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0), reply;

    m.header.flags |= VHOST_USER_FLAG_NEED_REPLY;
    peer_send(b->channel, &m);
    g_assert_cmpint(peer_receive(b->channel, &reply, false), ==, 1);
}

static void use_own_pipe(Backend *b, VhostUserMessage *reply)
{
    int fds[2];

    g_assert_no_errno(pipe(fds));
    close(b->state_fd);
    b->state_fd = fds[b->save];
    reply->fds[reply->n_fds++] = fds[!b->save];
}

/* False: it dies. */
static bool backend_set_fd(Backend *b, VhostUserMessage *m, VhostUserMessage *reply)
{
    g_assert_cmpuint(m->payload.device_state.phase, ==, 0);
    g_assert_cmpuint(m->n_fds, ==, 1);
    b->save = m->payload.device_state.direction == VHOST_USER_STATE_SAVE;
    b->state_fd = vhost_user_message_take_fd(m, 0);
    reply->payload.u64 = VHOST_USER_STATE_NO_FD;
    switch (b->manner) {
    case MANNER_OWN_PIPE:
        use_own_pipe(b, reply);
        reply->payload.u64 = 0;
        break;
    case MANNER_OWN_AND_NO_FD:
        reply->fds[reply->n_fds++] = dup(b->fd);
        break;
    case MANNER_REFUSES:
        reply->payload.u64 |= 2;
        break;
    case MANNER_REFUSES_WITH_FD:
        reply->fds[reply->n_fds++] = dup(b->fd);
        reply->payload.u64 = 1;
        break;
    case MANNER_PROMISES_FD:
        reply->payload.u64 = 0;
        break;
    case MANNER_DIES:
        return false;
    default:
        break;
    }
    return true;
}

static bool backend_answer(Backend *b, VhostUserMessage *m)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(m->header.request);
    VhostUserMessage reply = peer_message(m->header.request, 8);
    bool ok = true;

    reply.header.flags |= VHOST_USER_FLAG_REPLY;
    switch (m->header.request) {
    case VHOST_USER_GET_FEATURES:
        reply.payload.u64 = F(VHOST_USER_F_PROTOCOL_FEATURES) | F(VIRTIO_F_VERSION_1);
        break;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        reply.payload.u64 = F(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
                            F(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |
                            F(VHOST_USER_PROTOCOL_F_CONFIG);
        if (b->manner != MANNER_NO_FEATURE) {
            reply.payload.u64 |= F(VHOST_USER_PROTOCOL_F_DEVICE_STATE);
        }
        break;
    case VHOST_USER_SET_BACKEND_REQ_FD:
        b->channel = vhost_user_message_take_fd(m, 0);
        break;
    case VHOST_USER_SET_DEVICE_STATE_FD:
        ok = backend_set_fd(b, m, &reply);
        break;
    case VHOST_USER_CHECK_DEVICE_STATE:
        backend_load(b);
        reply.payload.u64 = b->manner == MANNER_CHECK_FAILS ? 0x100 : 0;
        break;
    default:
        break;
    }
    if (ok && (spec->reply != VHOST_USER_REPLY_ACK ||
               m->header.flags & VHOST_USER_FLAG_NEED_REPLY)) {
        ok = vhost_user_send(b->fd, &reply, 0) == 0;
    }
    vhost_user_message_clear(&reply);
    return ok;
}

/* After the answer to SET_DEVICE_STATE_FD. */
static void backend_transfer(Backend *b)
{
    if (b->manner == MANNER_ASKS_FIRST) {
        backend_ask(b);
    }
    if (b->manner != MANNER_NEVER_ENDS && b->manner < MANNER_REFUSES) {
        backend_save(b);
    } else if (b->manner == MANNER_CHECK_FAILS) {
        backend_save(b);
    }
}

static void *backend_run(void *opaque)
{
    Backend *b = opaque;
    VhostUserMessage m;
    bool more = true;

    while (more && peer_receive(b->fd, &m, false) == 1) {
        more = backend_answer(b, &m);
        if (more && m.header.request == VHOST_USER_SET_DEVICE_STATE_FD) {
            backend_transfer(b);
        }
        vhost_user_message_clear(&m);
    }
    close(b->fd);
    if (b->channel >= 0) {
        close(b->channel);
    }
    if (b->state_fd >= 0) {
        close(b->state_fd);
    }
    return NULL;
}

/* What the client has to say of each manner, to save and to load; NULL: nothing is wrong. */
static const struct {
    const char *name;
    const char *save, *load;
} manners[MANNERS] = {
    [MANNER_OWN_PIPE] = { "own-pipe" },
    [MANNER_OWN_AND_NO_FD] = { "own-and-no-fd" },
    [MANNER_ASKS_FIRST] = { "asks-first" },
    [MANNER_NO_FEATURE] = { "no-feature", "cannot save", "cannot load" },
    [MANNER_REFUSES] = { "refuses", "refuses to save", "refuses to load" },
    [MANNER_REFUSES_WITH_FD] = { "refuses-with-fd", "refuses to save", "refuses to load" },
    [MANNER_PROMISES_FD] = { "promises-fd", "refuses to save", "refuses to load" },
    [MANNER_NEVER_ENDS] = { "never-ends", "not done after 100 ms", "not done after 100 ms" },
    [MANNER_CHECK_FAILS] = { "check-fails", "CHECK_DEVICE_STATE", "CHECK_DEVICE_STATE" },
    [MANNER_DIES] = { "dies", "it has gone", "it has gone" },
};

static void run_manner(Manner manner, bool save)
{
    const char *want = save ? manners[manner].save : manners[manner].load;
    Backend b = { .manner = manner, .channel = -1, .state_fd = -1 };
    /* More than a pipe holds, if nobody reads. */
    g_autoptr(GBytes) state = make_state(manner == MANNER_NEVER_ENDS ? 100000 : 3);
    g_autoptr(GBytes) saved = NULL;
    g_autoptr(GError) err = NULL;
    VhostSocketAddress address = { 0 };
    VhostDevice *dev;
    int fds[2];

    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    address.fd = fds[0];
    b.fd = fds[1];
    b.thread = g_thread_new("backend", backend_run, &b);
    dev = vhost_user_client_new("dev0", &address, &err);
    g_assert_no_error(err);
    g_assert_cmpint(vhost_user_client_has_state(dev), ==, manner != MANNER_NO_FEATURE);
    if (save) {
        saved = vhost_user_client_save_state(dev, &err);
    } else {
        vhost_user_client_load_state(dev, state, &err);
    }
    if (want) {
        g_assert_nonnull(err);
        g_assert_null(saved);
        g_test_message("%s", err->message);
        g_assert_nonnull(strstr(err->message, want));
    } else {
        g_assert_no_error(err);
        g_assert_true(!save || g_bytes_equal(saved, state));
    }
    g_assert_cmpint(dev->connected, ==, manner != MANNER_DIES);
    dev->ops->free(dev);
    g_thread_join(b.thread);
    g_assert_cmpuint(b.loaded, ==, want || save ? (manner == MANNER_CHECK_FAILS && !save ? 3 : 0)
                                                : 3);
}

static void test_manner(gconstpointer data)
{
    const Manner manner = (Manner)GPOINTER_TO_UINT(data);
    unsigned int before = peer_count_fds();

    vhost_user_client_timeout_ms = manner == MANNER_NEVER_ENDS ? 100 : VHOST_DEVICE_TIMEOUT_MS;
    run_manner(manner, true);
    run_manner(manner, false);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

int main(int argc, char **argv)
{
    unsigned int i;

    g_test_init(&argc, &argv, NULL);
    peer_init();
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/vhost-user-client-state/saves-and-loads", test_saves_and_loads);
    g_test_add_func("/vhost-user-client-state/refusal-leaves-connection",
                    test_refusal_leaves_connection);
    for (i = 0; i < MANNERS; i++) {
        g_autofree char *name = g_strconcat("/vhost-user-client-state/back-end-",
                                            manners[i].name, NULL);

        g_test_add_data_func(name, GUINT_TO_POINTER(i), test_manner);
    }
    return g_test_run();
}
