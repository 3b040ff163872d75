/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user client: against our own server in a process of its own (the client waits
 * for answers), and against a scripted back end in a thread.
 */
#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hw/vhost/vhost-user-client-internal.h"
#include "hw/vhost/vhost-user-client.h"
#include "lib/vhost-user-child.h"
#include "util/rcu.h"

#define F(bit)  (UINT64_C(1) << (bit))

/* What a device told its owner. */
typedef struct Heard {
    unsigned int ready, gone, config_changed;
} Heard;

static void on_ready(void *opaque)
{
    ((Heard *)opaque)->ready++;
}

static void on_gone(void *opaque)
{
    ((Heard *)opaque)->gone++;
}

static void on_config_changed(void *opaque)
{
    ((Heard *)opaque)->config_changed++;
}

static const VhostDeviceNotify notify = {
    .ready = on_ready,
    .gone = on_gone,
    .config_changed = on_config_changed,
};

static void listen_to(VhostDevice *dev, Heard *heard)
{
    *heard = (Heard){ 0 };
    dev->notify = &notify;
    dev->notify_opaque = heard;
}

static gboolean on_time_out(void *opaque)
{
    g_error("the main loop waited in vain");
    return G_SOURCE_REMOVE;
}

/* Runs the main loop until *@count is @value. */
static void wait_for(const unsigned int *count, unsigned int value)
{
    guint timer = g_timeout_add(5000, on_time_out, NULL);

    while (*count != value) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(timer);
}

/* A child and a client on a socket pair. */
static VhostDevice *pair_new(PeerChild *child, Heard *heard)
{
    VhostDevice *dev = peer_child_pair(child);

    listen_to(dev, heard);
    return dev;
}

static MemoryMap *make_map(const uint64_t *gpas, unsigned int n)
{
    MemoryRegion *regions[VHOST_USER_SLOTS_MAX];
    MemoryMap *map;
    unsigned int i;

    for (i = 0; i < n; i++) {
        regions[i] = memory_region_new(peer_memfd(0x10000), 0x1000, gpas[i], 0x8000, gpas[i],
                                       NULL);
        regions[i]->iova = gpas[i] + 0x100000000;
    }
    map = memory_map_new(regions, n, NULL);
    for (i = 0; i < n; i++) {
        memory_region_unref(regions[i]);
    }
    return map;
}

static void test_handshake_tells_what_is_there(void)
{
    VhostDevice *dev;
    Heard heard;
    PeerChild child;

    dev = pair_new(&child, &heard);
    g_assert_cmphex(dev->features, ==, PEER_FEATURES);
    g_assert_true(dev->has_config);
    g_assert_cmpuint(dev->max_regions, ==, 32);
    /* MRG_RXBUF: a network device, so 5 may mean pairs. */
    g_assert_cmpuint(dev->queue_count, ==, 10);
    g_assert_cmpuint(dev->device_type, ==, 1);
    g_assert_cmpstr(dev->ops->type, ==, "vhost-user");
    dev->ops->free(dev);
    peer_child_free(&child);
}

static void test_ring_life(gconstpointer data)
{
    bool packed = GPOINTER_TO_INT(data);
    VhostRing ring = {
        .num = 64, .base = vring_base_start(packed),
        .desc_iova = 0x100001000, .driver_iova = 0x100002000, .device_iova = 0x100003000,
    };
    static const uint64_t gpas[] = { 0x1000, 0x20000 };
    g_autoptr(GError) err = NULL;
    VhostDevice *dev;
    struct PeerRing *seen;
    MemoryMap *map = make_map(gpas, 2);
    uint64_t tag;
    Heard heard;
    PeerChild child;

    dev = pair_new(&child, &heard);
    seen = &child.owner->rings[1];
    dev->ops->set_features(dev, F(32) | (packed ? F(34) : 0), &err);
    g_assert_no_error(err);
    dev->ops->set_memory(dev, map, &err);
    g_assert_no_error(err);
    ring.kick_fd = eventfd(0, EFD_CLOEXEC);
    ring.call_fd = -1;
    dev->ops->ring_start(dev, 1, &ring, &err);
    g_assert_no_error(err);
    dev->ops->ring_enable(dev, 1, true, &err);
    g_assert_no_error(err);
    dev->ops->set_status(dev, 0xf, &err);
    g_assert_no_error(err);

    g_assert_cmphex(child.owner->features, ==, F(32) | (packed ? F(34) : 0));
    g_assert_cmpuint(child.owner->n_regions, ==, 2);
    g_assert_cmpuint(child.owner->status, ==, 0xf);
    g_assert_cmpuint(seen->num, ==, 64);
    g_assert_cmphex(seen->base, ==, packed ? 0x80008000 : 0);
    /* Told as user addresses of the first region, whose number is in the upper bits. */
    tag = map->regions[0]->serial << 48;
    g_assert_cmphex(tag, !=, map->regions[1]->serial << 48);
    g_assert_cmphex(seen->addr.desc, ==, 0x100001000 | tag);
    g_assert_cmphex(seen->addr.avail, ==, 0x100002000 | tag);
    g_assert_cmphex(seen->addr.used, ==, 0x100003000 | tag);
    g_assert_cmpint(seen->fd[VHOST_VRING_KICK], >=, 0);
    g_assert_cmpint(seen->fd[VHOST_VRING_CALL], ==, -1);
    g_assert_true(seen->enabled);

    dev->ops->ring_set_fd(dev, 1, VHOST_RING_CALL, ring.kick_fd, &err);
    g_assert_no_error(err);
    g_assert_cmpint(seen->fd[VHOST_VRING_CALL], >=, 0);
    dev->ops->ring_set_fd(dev, 1, VHOST_RING_CALL, -1, &err);
    g_assert_no_error(err);
    g_assert_cmpint(seen->fd[VHOST_VRING_CALL], ==, -1);
    dev->ops->ring_set_fd(dev, 1, VHOST_RING_KICK, -1, &err);
    g_assert_no_error(err);
    g_assert_cmpint(seen->fd[VHOST_VRING_KICK], ==, -1);
    g_assert_cmpint(dev->ops->ring_set_fd(dev, 10, VHOST_RING_KICK, -1, NULL), ==, -EINVAL);

    dev->ops->ring_stop(dev, 1, NULL, &err);
    g_assert_no_error(err);
    g_assert_false(seen->enabled);
    g_assert_true(seen->stopped);
    dev->ops->reset(dev, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(child.owner->resets, ==, 1);
    g_assert_cmpuint(child.owner->status, ==, 0);

    close(ring.kick_fd);
    memory_map_free(map);
    dev->ops->free(dev);
    peer_child_free(&child);
}

static void test_memory_sends_difference(void)
{
    static const uint64_t before[] = { 0x10000, 0x20000, 0x30000 };
    uint64_t many[12];
    g_autoptr(GError) err = NULL;
    MemoryMap *a = make_map(before, 3);
    MemoryMap *b, *c;
    MemoryRegion *mixed[2];
    VhostDevice *dev;
    unsigned int i;
    Heard heard;
    PeerChild child;

    dev = pair_new(&child, &heard);
    dev->ops->set_memory(dev, a, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(child.owner->n_regions, ==, 3);
    g_assert_cmpuint(child.owner->memory_changes, ==, 3);
    dev->ops->set_memory(dev, a, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(child.owner->memory_changes, ==, 3);

    /* One stays, two go, one comes. */
    mixed[0] = a->regions[1];
    mixed[1] = memory_region_new(peer_memfd(0x10000), 0, 0x40000, 0x10000, 0x40000, NULL);
    b = memory_map_new(mixed, 2, NULL);
    memory_region_unref(mixed[1]);
    dev->ops->set_memory(dev, b, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(child.owner->n_regions, ==, 2);
    g_assert_cmpuint(child.owner->memory_changes, ==, 6);

    /* More than SET_MEM_TABLE has room for. */
    for (i = 0; i < G_N_ELEMENTS(many); i++) {
        many[i] = (i + 1) * 0x100000;
    }
    c = make_map(many, G_N_ELEMENTS(many));
    dev->ops->set_memory(dev, c, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(child.owner->n_regions, ==, G_N_ELEMENTS(many));

    memory_map_free(a);
    memory_map_free(b);
    memory_map_free(c);
    dev->ops->free(dev);
    peer_child_free(&child);
}

static void test_config_and_its_change(void)
{
    g_autoptr(GError) err = NULL;
    uint8_t data[PEER_CONFIG + 1];
    VhostDevice *dev;
    Heard heard;
    PeerChild child;

    dev = pair_new(&child, &heard);
    g_assert_cmpint(dev->ops->set_config(dev, "hello", 7, 5, &err), ==, 0);
    g_assert_cmpint(dev->ops->get_config(dev, data, 6, 7, &err), ==, 0);
    g_assert_cmpmem(data, 7, "\7hello\15", 7);
    g_assert_no_error(err);
    g_assert_cmpint(dev->ops->get_config(dev, data, 0, PEER_CONFIG + 1, NULL), ==, -EINVAL);
    g_assert_cmpint(dev->ops->get_config(dev, data, UINT32_MAX, 2, NULL), ==, -EINVAL);
    g_assert_cmpint(dev->ops->get_config(dev, data, 0, PEER_CONFIG, NULL), ==, 0);

    g_assert_cmpint(write(child.control, "c", 1), ==, 1);
    wait_for(&heard.config_changed, 1);
    g_assert_cmpuint(heard.gone, ==, 0);
    dev->ops->free(dev);
    peer_child_free(&child);
}

static void test_refusal_leaves_connection(void)
{
    VhostRing ring = { .num = 65, .kick_fd = -1, .call_fd = -1 };
    g_autoptr(GError) err = NULL;
    VhostDevice *dev;
    Heard heard;
    PeerChild child;

    dev = pair_new(&child, &heard);
    g_assert_cmpint(dev->ops->ring_start(dev, 0, &ring, &err), ==, -EREMOTEIO);
    g_assert_nonnull(strstr(err->message, "SET_VRING_NUM"));
    g_assert_cmpint(dev->ops->ring_start(dev, 10, &ring, NULL), ==, -EINVAL);
    g_assert_cmpint(dev->ops->set_features(dev, F(63), NULL), ==, -EINVAL);
    peer_pump();
    g_assert_true(dev->connected);
    g_assert_cmpuint(heard.gone, ==, 0);
    g_assert_cmpint(dev->ops->set_status(dev, 1, NULL), ==, 0);
    dev->ops->free(dev);
    peer_child_free(&child);
}

static void test_gone_and_back(void)
{
    g_autofree char *dir = g_dir_make_tmp("svq-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "s", NULL);
    VhostSocketAddress address = { .path = path, .fd = -1, .reconnect_ms = 10 };
    VhostSocketAddress listening = { .path = path, .fd = -1, .server = true };
    g_autoptr(GError) err = NULL;
    VhostDevice *dev;
    unsigned int i;
    Heard heard;
    PeerChild child;

    dev = vhost_user_client_new("dev0", &address, &err);    /* nobody there yet */
    g_assert_no_error(err);
    g_assert_false(dev->connected);
    listen_to(dev, &heard);
    for (i = 1; i <= 3; i++) {
        int status;

        g_assert_cmpint(dev->ops->set_status(dev, 0, NULL), ==, -ENOTCONN);
        child = peer_child_new(&listening);
        wait_for(&heard.ready, i);
        g_assert_true(dev->connected);
        g_assert_cmpint(dev->ops->set_status(dev, (uint8_t)i, &err), ==, 0);
        g_assert_no_error(err);
        g_assert_cmpuint(child.owner->status, ==, i);
        if (i == 2) {
            g_assert_no_errno(kill(child.pid, SIGKILL));    /* leaves a stale socket */
            close(child.control);
            g_assert_cmpint(waitpid(child.pid, &status, 0), ==, child.pid);
            munmap(child.owner, sizeof(PeerOwner));
            /* An op that meets the loss first does not call back. */
            g_assert_cmpint(dev->ops->set_status(dev, 0, NULL), ==, -ENOTCONN);
            g_assert_cmpuint(heard.gone, ==, i - 1);
        } else {
            peer_child_free(&child);
        }
        wait_for(&heard.gone, i);
        g_assert_false(dev->connected);
    }
    dev->ops->free(dev);
    unlink(path);
    g_assert_no_errno(g_rmdir(dir));
}

static void test_no_peer_is_an_error(void)
{
    VhostSocketAddress address = { .path = "/nonexistent/socket", .fd = -1 };
    g_autoptr(GError) err = NULL;

    g_assert_null(vhost_user_client_new("dev0", &address, &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_assert_nonnull(strstr(err->message, "/nonexistent/socket"));
}

/* How a scripted back end goes wrong, at the first message of a kind. */
typedef enum Fault {
    FAULT_NONE,
    FAULT_SILENT,
    FAULT_WRONG_SIZE,
    FAULT_WRONG_REQUEST,
    FAULT_NO_REPLY_FLAG,
    FAULT_DESCRIPTORS,
    FAULT_VERSION,
    FAULT_HUNG_UP,
    FAULT_HALF,
    FAULT_CHANNEL,
} Fault;

/* A back end that answers from a table; it stops at end of file. */
typedef struct Backend {
    int fd;
    GThread *thread;
    uint64_t features, protocol_features, queues;
    uint32_t base;          /* where its rings stand */
    uint32_t fault_at;      /* request */
    Fault fault;
    GString *log;           /* names of what came; read it after backend_join() */
    _Atomic int channel;    /* the test uses it too, once the handshake is done */
} Backend;

static void backend_fault(Backend *b, VhostUserMessage *reply)
{
    switch (b->fault) {
    case FAULT_WRONG_SIZE:
        reply->header.size += 4;
        break;
    case FAULT_WRONG_REQUEST:
        reply->header.request++;
        break;
    case FAULT_NO_REPLY_FLAG:
        reply->header.flags &= ~VHOST_USER_FLAG_REPLY;
        break;
    case FAULT_DESCRIPTORS:
        reply->fds[reply->n_fds++] = b->fd;
        break;
    case FAULT_VERSION:
        reply->header.flags ^= 2;
        break;
    case FAULT_CHANNEL: {
        VhostUserMessage m = peer_message(VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0);

        m.header.flags = 0;
        vhost_user_send(b->channel, &m, 0);
        break;
    }
    default:
        break;
    }
}

/* False: it is over. */
static bool backend_answer(Backend *b, VhostUserMessage *m)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(m->header.request);
    VhostUserMessage reply = peer_message(m->header.request, 8);
    bool faulty = m->header.request == b->fault_at;

    reply.header.flags |= VHOST_USER_FLAG_REPLY;
    g_string_append_printf(b->log, "%s ", spec->name);
    switch (m->header.request) {
    case VHOST_USER_GET_FEATURES:
        reply.payload.u64 = b->features;
        break;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        reply.payload.u64 = b->protocol_features;
        break;
    case VHOST_USER_GET_QUEUE_NUM:
        reply.payload.u64 = b->queues;
        break;
    case VHOST_USER_GET_VRING_BASE:
        reply.payload.state = m->payload.state;
        reply.payload.state.num = b->base;
        break;
    case VHOST_USER_SET_BACKEND_REQ_FD:
        b->channel = vhost_user_message_take_fd(m, 0);
        break;
    case VHOST_USER_GET_CONFIG:
        reply.payload = m->payload;
        reply.header.size = m->header.size;
        break;
    default:
        break;
    }
    if (spec->reply != VHOST_USER_REPLY_BODY && !(m->header.flags & VHOST_USER_FLAG_NEED_REPLY)) {
        return true;
    }
    if (faulty && b->fault == FAULT_SILENT) {
        return true;
    }
    if (faulty && b->fault == FAULT_HUNG_UP) {
        return false;
    }
    if (faulty && b->fault == FAULT_HALF) {
        return write(b->fd, &reply, 5) != 5;
    }
    if (faulty) {
        backend_fault(b, &reply);
    }
    if (faulty && b->fault == FAULT_CHANNEL) {
        return true;
    }
    return vhost_user_send(b->fd, &reply, 0) == 0;
}

static void *backend_run(void *opaque)
{
    Backend *b = opaque;
    VhostUserMessage m;
    bool more = true;

    while (more && peer_receive(b->fd, &m, false) == 1) {
        more = backend_answer(b, &m);
        vhost_user_message_clear(&m);
    }
    close(b->fd);
    return NULL;
}

static int backend_start(Backend *b)
{
    int fds[2];

    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    b->fd = fds[1];
    b->channel = -1;
    b->log = g_string_new(NULL);
    b->thread = g_thread_new("backend", backend_run, b);
    return fds[0];
}

static void backend_join(Backend *b)
{
    g_thread_join(b->thread);
    if (b->channel >= 0) {
        close(b->channel);
    }
}

#define DPDK_FEATURES   UINT64_C(0xd7c66e7cb)
#define DPDK_PROTOCOL   UINT64_C(0x10cbf)

static void test_dpdk_hears_this_order(void)
{
    Backend b = {
        .features = DPDK_FEATURES, .protocol_features = DPDK_PROTOCOL, .queues = 128,
    };
    VhostSocketAddress address = { .fd = backend_start(&b) };
    VhostRing ring = { .num = 256, .base = vring_base_start(false), .call_fd = -1 };
    static const uint64_t gpas[] = { 0 };
    g_autoptr(GError) err = NULL;
    MemoryMap *map = make_map(gpas, 1);
    VhostDevice *dev;
    uint8_t byte;

    dev = vhost_user_client_new("dev0", &address, &err);
    g_assert_no_error(err);
    g_assert_cmphex(dev->features, ==, DPDK_FEATURES & ~(F(30) | F(26)));
    g_assert_cmpuint(dev->queue_count, ==, 256);
    g_assert_cmpuint(dev->max_regions, ==, 8);
    g_assert_false(dev->has_config);
    g_assert_cmpint(dev->ops->get_config(dev, &byte, 0, 1, NULL), ==, -ENOTSUP);
    ring.kick_fd = eventfd(0, EFD_CLOEXEC);
    g_assert_cmpint(dev->ops->set_features(dev, F(32), &err), ==, 0);
    g_assert_cmpint(dev->ops->set_memory(dev, map, &err), ==, 0);
    g_assert_cmpint(dev->ops->ring_start(dev, 0, &ring, &err), ==, 0);
    g_assert_cmpint(dev->ops->ring_enable(dev, 0, true, &err), ==, 0);
    g_assert_cmpint(dev->ops->set_status(dev, 0xf, &err), ==, 0);
    g_assert_cmpint(dev->ops->reset(dev, &err), ==, 0);
    g_assert_no_error(err);
    close(ring.kick_fd);
    memory_map_free(map);
    dev->ops->free(dev);
    backend_join(&b);
    g_assert_cmpstr(b.log->str, ==,
                    "SET_OWNER GET_FEATURES GET_PROTOCOL_FEATURES SET_PROTOCOL_FEATURES "
                    "GET_QUEUE_NUM SET_BACKEND_REQ_FD SET_FEATURES SET_MEM_TABLE "
                    "SET_VRING_NUM SET_VRING_BASE SET_VRING_ADDR SET_VRING_KICK SET_VRING_CALL "
                    "SET_VRING_ENABLE SET_STATUS GET_VRING_BASE SET_VRING_ENABLE SET_STATUS ");
    g_string_free(b.log, TRUE);
}

static void test_back_end_without_protocol_features(void)
{
    Backend b = { .features = F(32) };
    VhostSocketAddress address = { .fd = backend_start(&b) };
    g_autoptr(GError) err = NULL;
    VhostDevice *dev;

    dev = vhost_user_client_new("dev0", &address, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(dev->queue_count, ==, 1);
    g_assert_cmpint(dev->ops->set_features(dev, F(32), &err), ==, 0);
    g_assert_cmpint(dev->ops->ring_enable(dev, 0, true, &err), ==, 0);
    g_assert_cmpint(dev->ops->set_status(dev, 0xf, &err), ==, 0);
    g_assert_cmpint(dev->ops->ring_stop(dev, 0, NULL, &err), ==, 0);
    g_assert_no_error(err);
    dev->ops->free(dev);
    backend_join(&b);
    g_assert_cmpstr(b.log->str, ==, "SET_OWNER GET_FEATURES SET_FEATURES GET_VRING_BASE ");
    g_string_free(b.log, TRUE);
}

/* Both positions of a packed ring, or the available one for both, as DPDK has it. */
static void test_tells_where_rings_stand(void)
{
    static const struct {
        uint64_t features;
        uint32_t answer;
        VringBase base;
    } cases[] = {
        { F(32), 0x1234, { 0x1234, 0x1234 } },
        { F(32) | F(34), 0x8000, { 0x8000, 0x8000 } },
        { F(32) | F(34), 0x0005, { 0x0005, 0x0005 } },
        { F(32) | F(34), 0x80048005, { 0x8005, 0x8004 } },
        { F(32) | F(34), 0x80ff0001, { 0x0001, 0x80ff } },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        Backend b = { .features = cases[i].features, .base = cases[i].answer };
        VhostSocketAddress address = { .fd = backend_start(&b) };
        VhostDevice *dev = vhost_user_client_new("dev0", &address, NULL);
        VringBase base = { 0xdead, 0xdead };

        g_assert_true(dev->tells_base);
        g_assert_cmpint(dev->ops->set_features(dev, cases[i].features, NULL), ==, 0);
        g_assert_cmpint(dev->ops->ring_stop(dev, 0, &base, NULL), ==, 0);
        g_assert_cmphex(base.avail, ==, cases[i].base.avail);
        g_assert_cmphex(base.used, ==, cases[i].base.used);
        dev->ops->free(dev);
        backend_join(&b);
        g_string_free(b.log, TRUE);
    }
}

static void test_faulty_answer_cuts_off(void)
{
    static const uint32_t requests[] = {
        VHOST_USER_GET_FEATURES, VHOST_USER_GET_QUEUE_NUM, VHOST_USER_SET_BACKEND_REQ_FD,
        VHOST_USER_SET_STATUS, VHOST_USER_GET_VRING_BASE, VHOST_USER_GET_CONFIG,
    };
    unsigned int before, i;
    int fault;

    rcu_barrier();      /* maps of earlier tests are gone */
    before = peer_count_fds();

    vhost_user_client_timeout_ms = 100;
    for (i = 0; i < G_N_ELEMENTS(requests); i++) {
        for (fault = FAULT_SILENT; fault <= FAULT_CHANNEL; fault++) {
            Backend b = {
                /* Not MQ, or the handshake would ask for the configuration space. */
                .features = DPDK_FEATURES & ~F(VIRTIO_NET_F_MQ), .queues = 1,
                .fault_at = requests[i], .fault = fault,
                .protocol_features = DPDK_PROTOCOL | F(VHOST_USER_PROTOCOL_F_CONFIG),
            };
            VhostSocketAddress address = { .fd = backend_start(&b) };
            g_autoptr(GError) err = NULL;
            uint8_t data[300];
            VhostDevice *dev;
            Heard heard;

            peer_warnings = 0;
            dev = vhost_user_client_new("dev0", &address, &err);
            if (i < 3) {
                g_assert_null(dev);
                g_assert_nonnull(err);
            } else {
                g_assert_no_error(err);
                listen_to(dev, &heard);
                if (requests[i] == VHOST_USER_SET_STATUS) {
                    g_assert_cmpint(dev->ops->set_status(dev, 1, NULL), ==, -ENOTCONN);
                } else if (requests[i] == VHOST_USER_GET_VRING_BASE) {
                    g_assert_cmpint(dev->ops->ring_stop(dev, 0, NULL, NULL), ==, -ENOTCONN);
                } else if (fault == FAULT_WRONG_SIZE) {
                    /* Of a size that GET_CONFIG may have: merely not what was asked for. */
                    g_assert_cmpint(dev->ops->get_config(dev, data, 0, 8, NULL), ==, -EINVAL);
                    dev->ops->free(dev);
                    goto next;
                } else {
                    g_assert_cmpint(dev->ops->get_config(dev, data, 0, 8, NULL), ==, -ENOTCONN);
                }
                g_assert_cmpuint(heard.gone, ==, 0);    /* never from inside an op */
                g_assert_cmpint(dev->ops->set_status(dev, 1, NULL), ==, -ENOTCONN);
                wait_for(&heard.gone, 1);
                g_assert_false(dev->connected);
                dev->ops->free(dev);
            }
            g_assert_cmpuint(peer_warnings, ==, 1);
        next:
            backend_join(&b);
            g_string_free(b.log, TRUE);
        }
    }
    vhost_user_client_timeout_ms = VHOST_DEVICE_TIMEOUT_MS;
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

/* The request channel: known, unknown and malformed requests. */
static void test_channel_is_checked(void)
{
    Backend b = {
        .features = DPDK_FEATURES, .queues = 1,
        .protocol_features = DPDK_PROTOCOL | F(VHOST_USER_PROTOCOL_F_CONFIG),
    };
    VhostSocketAddress address = { .fd = backend_start(&b) };
    VhostUserMessage m = peer_message(VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0);
    VhostUserMessage reply;
    VhostDevice *dev;
    unsigned int i;
    Heard heard;

    dev = vhost_user_client_new("dev0", &address, NULL);
    g_assert_nonnull(dev);
    listen_to(dev, &heard);
    peer_warnings = 0;
    /* The back end's thread has no use for its end now: it waits on the connection proper. */
    peer_send(b.channel, &m);
    wait_for(&heard.config_changed, 1);
    m.header.flags |= VHOST_USER_FLAG_NEED_REPLY;
    peer_ask(b.channel, &m, &reply);
    g_assert_cmpuint(reply.payload.u64, ==, 0);
    g_assert_cmpuint(heard.config_changed, ==, 2);
    for (i = 0; i < 10; i++) {
        m.header.request = 1 + 2 * i;       /* IOTLB_MSG, HOST_NOTIFIER, ... */
        peer_ask(b.channel, &m, &reply);
        g_assert_cmpuint(reply.payload.u64, ==, 1);
    }
    m.header.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG;
    m.header.size = 8;
    peer_ask(b.channel, &m, &reply);
    g_assert_cmpuint(reply.payload.u64, ==, 1);
    g_assert_cmpuint(peer_warnings, ==, 1);
    g_assert_cmpuint(heard.gone, ==, 0);
    m.header.flags = 0;
    peer_send(b.channel, &m);
    wait_for(&heard.gone, 1);
    g_assert_cmpuint(heard.config_changed, ==, 2);
    dev->ops->free(dev);
    backend_join(&b);
    g_string_free(b.log, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    peer_init();
    g_test_add_func("/vhost-user-client/handshake-tells-what-is-there",
                    test_handshake_tells_what_is_there);
    g_test_add_data_func("/vhost-user-client/ring-life-split", GINT_TO_POINTER(false),
                         test_ring_life);
    g_test_add_data_func("/vhost-user-client/ring-life-packed", GINT_TO_POINTER(true),
                         test_ring_life);
    g_test_add_func("/vhost-user-client/memory-sends-difference", test_memory_sends_difference);
    g_test_add_func("/vhost-user-client/config-and-its-change", test_config_and_its_change);
    g_test_add_func("/vhost-user-client/refusal-leaves-connection",
                    test_refusal_leaves_connection);
    g_test_add_func("/vhost-user-client/gone-and-back", test_gone_and_back);
    g_test_add_func("/vhost-user-client/no-peer-is-an-error", test_no_peer_is_an_error);
    g_test_add_func("/vhost-user-client/dpdk-hears-this-order", test_dpdk_hears_this_order);
    g_test_add_func("/vhost-user-client/back-end-without-protocol-features",
                    test_back_end_without_protocol_features);
    g_test_add_func("/vhost-user-client/tells-where-rings-stand", test_tells_where_rings_stand);
    g_test_add_func("/vhost-user-client/faulty-answer-cuts-off", test_faulty_answer_cuts_off);
    g_test_add_func("/vhost-user-client/channel-is-checked", test_channel_is_checked);
    return g_test_run();
}
