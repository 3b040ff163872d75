/* SPDX-License-Identifier: BSD-3-Clause */
/* Raw vhost-user messages, and an owner of the server that writes down what it is asked. */
#include "vhost-user-peer.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEER_WAIT_MS = 2000 };

unsigned int peer_warnings;

static void count_warning(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
    peer_warnings++;
    g_test_message("%s", text);
}

void peer_init(void)
{
    g_log_set_always_fatal((GLogLevelFlags)(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    g_log_set_handler("svq", G_LOG_LEVEL_WARNING, count_warning, NULL);
    peer_pump();    /* the main context makes its own descriptor now, before any are counted */
}

static void forget_regions(PeerOwner *o)
{
    while (o->n_regions > 0) {
        memory_region_unref(o->regions[--o->n_regions]);
    }
}

static void forget_rings(PeerOwner *o)
{
    unsigned int i, which;

    for (i = 0; i < PEER_RINGS; i++) {
        for (which = 0; which < 3; which++) {
            if (o->rings[i].fd[which] >= 0) {
                close(o->rings[i].fd[which]);
            }
        }
        o->rings[i] = (struct PeerRing){ .fd = { -1, -1, -1 } };
    }
}

static void owner_connected(void *opaque)
{
    PeerOwner *o = opaque;

    o->connections++;
    o->connected = true;
}

static void owner_disconnected(void *opaque)
{
    PeerOwner *o = opaque;

    g_assert_true(o->connected);
    o->connected = false;
    forget_regions(o);
    forget_rings(o);
    o->features = 0;
    o->status = 0;
}

static uint64_t owner_get_features(void *opaque)
{
    return PEER_FEATURES;
}

static int owner_set_features(void *opaque, uint64_t features, GError **errp)
{
    PeerOwner *o = opaque;

    if (o->fail) {
        return vhost_user_error(errp, o->fail, "as the test wants");
    }
    o->features = features;
    return 0;
}

static uint32_t owner_get_queue_count(void *opaque)
{
    PeerOwner *o = opaque;

    return o->queue_count;
}

static uint32_t owner_get_max_regions(void *opaque)
{
    PeerOwner *o = opaque;

    return o->max_regions;
}

static bool owner_has_config(void *opaque)
{
    PeerOwner *o = opaque;

    return o->has_config;
}

static int owner_set_memory(void *opaque, MemoryRegion *const *regions, unsigned int n,
                            GError **errp)
{
    PeerOwner *o = opaque;
    MemoryRegion *next[VHOST_USER_SLOTS_MAX];
    unsigned int i;

    g_assert_cmpuint(n, <=, o->max_regions);
    if (o->fail) {
        return vhost_user_error(errp, o->fail, "as the test wants");
    }
    /* References first: it may be the same regions again. */
    for (i = 0; i < n; i++) {
        next[i] = memory_region_ref(regions[i]);
    }
    forget_regions(o);
    memcpy(o->regions, next, n * sizeof(next[0]));
    o->n_regions = n;
    o->memory_changes++;
    return 0;
}

static int owner_set_log(void *opaque, MemoryRegion *log, GError **errp)
{
    PeerOwner *o = opaque;

    if (o->fail) {
        return vhost_user_error(errp, o->fail, "as the test wants");
    }
    o->log_changes++;
    return 0;
}

static struct PeerRing *owner_ring(PeerOwner *o, unsigned int index)
{
    g_assert_cmpuint(index, <, o->queue_count);
    g_assert_cmpuint(index, <, PEER_RINGS);
    return &o->rings[index];
}

static int owner_set_vring_num(void *opaque, unsigned int index, uint32_t num, GError **errp)
{
    if (!vring_num_valid(num, false)) {
        return vhost_user_error(errp, EINVAL, "ring of %u descriptors", num);
    }
    owner_ring(opaque, index)->num = num;
    return 0;
}

static int owner_set_vring_addr(void *opaque, unsigned int index, const VhostVringAddr *addr,
                                GError **errp)
{
    if (addr->desc % VRING_DESC_ALIGN) {
        return vhost_user_error(errp, EINVAL, "misaligned");
    }
    owner_ring(opaque, index)->addr = *addr;
    return 0;
}

static int owner_set_vring_base(void *opaque, unsigned int index, uint32_t base, GError **errp)
{
    owner_ring(opaque, index)->base = base;
    return 0;
}

static int owner_get_vring_base(void *opaque, unsigned int index, uint32_t *base, GError **errp)
{
    struct PeerRing *ring = owner_ring(opaque, index);

    ring->stopped = true;
    *base = ring->base;
    return 0;
}

static int owner_set_vring_fd(void *opaque, unsigned int index, VhostVringFd which, int fd,
                              GError **errp)
{
    struct PeerRing *ring = owner_ring(opaque, index);

    if (ring->fd[which] >= 0) {
        close(ring->fd[which]);
    }
    ring->fd[which] = fd;
    return 0;
}

static int owner_set_vring_enable(void *opaque, unsigned int index, bool enable, GError **errp)
{
    owner_ring(opaque, index)->enabled = enable;
    return 0;
}

static int owner_get_config(void *opaque, void *data, uint32_t offset, uint32_t size,
                            GError **errp)
{
    PeerOwner *o = opaque;

    if (offset > PEER_CONFIG || size > PEER_CONFIG - offset) {
        return vhost_user_error(errp, EINVAL, "outside");
    }
    memcpy(data, o->config + offset, size);
    return 0;
}

static int owner_set_config(void *opaque, const void *data, uint32_t offset, uint32_t size,
                            GError **errp)
{
    PeerOwner *o = opaque;

    if (offset > PEER_CONFIG || size > PEER_CONFIG - offset) {
        return vhost_user_error(errp, EINVAL, "outside");
    }
    memcpy(o->config + offset, data, size);
    return 0;
}

static uint8_t owner_get_status(void *opaque)
{
    PeerOwner *o = opaque;

    return o->status;
}

static int owner_set_status(void *opaque, uint8_t status, GError **errp)
{
    PeerOwner *o = opaque;

    o->status = status;
    return 0;
}

static int owner_reset(void *opaque, GError **errp)
{
    PeerOwner *o = opaque;

    if (o->fail) {
        return vhost_user_error(errp, o->fail, "as the test wants");
    }
    forget_rings(o);
    o->features = 0;
    o->status = 0;
    o->resets++;
    return 0;
}

uint8_t peer_state_byte(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

static bool owner_has_state(void *opaque)
{
    PeerOwner *o = opaque;

    return o->has_state;
}

static GBytes *owner_save_state(void *opaque, GError **errp)
{
    PeerOwner *o = opaque;
    uint8_t *data;
    size_t i;

    if (o->fail) {
        vhost_user_error(errp, o->fail, "as the test wants");
        return NULL;
    }
    data = g_malloc(o->state_size);
    for (i = 0; i < o->state_size; i++) {
        data[i] = peer_state_byte(i);
    }
    o->saves++;
    return g_bytes_new_take(data, o->state_size);
}

static int owner_load_state(void *opaque, const uint8_t *data, size_t n, GError **errp)
{
    PeerOwner *o = opaque;
    size_t i;

    g_assert_cmpuint(n, <=, VHOST_USER_STATE_MAX_BYTES);
    for (i = 0; i < n && data[i] == peer_state_byte(i); i++) {
    }
    if (o->fail || i < n) {
        return vhost_user_error(errp, o->fail ? o->fail : EINVAL, "byte %zu", i);
    }
    o->state_size = n;
    o->loads++;
    return 0;
}

const VhostUserServerOps peer_owner_ops = {
    .connected = owner_connected,
    .disconnected = owner_disconnected,
    .get_features = owner_get_features,
    .set_features = owner_set_features,
    .get_queue_count = owner_get_queue_count,
    .get_max_regions = owner_get_max_regions,
    .has_config = owner_has_config,
    .set_memory = owner_set_memory,
    .set_log = owner_set_log,
    .set_vring_num = owner_set_vring_num,
    .set_vring_addr = owner_set_vring_addr,
    .set_vring_base = owner_set_vring_base,
    .get_vring_base = owner_get_vring_base,
    .set_vring_fd = owner_set_vring_fd,
    .set_vring_enable = owner_set_vring_enable,
    .has_state = owner_has_state,
    .save_state = owner_save_state,
    .load_state = owner_load_state,
    .get_config = owner_get_config,
    .set_config = owner_set_config,
    .get_status = owner_get_status,
    .set_status = owner_set_status,
    .reset = owner_reset,
};

void peer_owner_init(PeerOwner *o)
{
    unsigned int i;

    memset(o, 0, sizeof(*o));
    o->queue_count = 5;
    o->max_regions = 32;
    o->has_config = true;
    for (i = 0; i < PEER_RINGS; i++) {
        o->rings[i] = (struct PeerRing){ .fd = { -1, -1, -1 } };
    }
    for (i = 0; i < PEER_CONFIG; i++) {
        o->config[i] = (uint8_t)(i + 1);
    }
}

int peer_serve(PeerOwner *o, VhostUserServer **server)
{
    VhostSocketAddress address = { 0 };
    int fds[2];

    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
    address.fd = fds[0];
    *server = vhost_user_server_new(&address, false, &peer_owner_ops, o, NULL);
    g_assert_nonnull(*server);
    g_assert_true(o->connected);
    return fds[1];
}

void peer_pump(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

VhostUserMessage peer_message(uint32_t request, uint32_t size)
{
    VhostUserMessage m;

    memset(&m, 0, sizeof(m));
    m.header.request = request;
    m.header.flags = VHOST_USER_FLAG_VERSION;
    m.header.size = size;
    return m;
}

VhostUserMessage peer_u64(uint32_t request, uint64_t value)
{
    VhostUserMessage m = peer_message(request, sizeof(value));

    m.payload.u64 = value;
    return m;
}

VhostUserMessage peer_state(uint32_t request, uint32_t index, uint32_t num)
{
    VhostUserMessage m = peer_message(request, sizeof(m.payload.state));

    m.payload.state.index = index;
    m.payload.state.num = num;
    return m;
}

void peer_send(int fd, const VhostUserMessage *m)
{
    int ret = vhost_user_send(fd, m, g_get_monotonic_time() + PEER_WAIT_MS * 1000);

    g_assert_cmpint(ret, ==, 0);
}

int peer_receive(int fd, VhostUserMessage *m, bool pump)
{
    int64_t end_us = g_get_monotonic_time() + PEER_WAIT_MS * 1000;
    VhostUserReceiver r;

    memset(&r, 0, sizeof(r));
    while (g_get_monotonic_time() < end_us) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int ret;

        if (pump) {
            peer_pump();
        }
        ret = vhost_user_receive(&r, fd, NULL);
        if (ret != 0) {
            if (ret > 0) {
                vhost_user_receiver_take(&r, m);
            } else {
                vhost_user_receiver_clear(&r);
            }
            return ret;
        }
        poll(&p, 1, pump ? 10 : 100);
    }
    return 0;
}

void peer_ask(int fd, const VhostUserMessage *m, VhostUserMessage *reply)
{
    peer_send(fd, m);
    g_assert_cmpint(peer_receive(fd, reply, true), ==, 1);
    g_assert_cmpuint(reply->header.request, ==, m->header.request);
    g_assert_cmphex(reply->header.flags, ==, VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY);
    g_assert_cmpuint(reply->n_fds, ==, 0);
}

uint64_t peer_ack(int fd, const VhostUserMessage *m)
{
    VhostUserMessage asking = *m;
    VhostUserMessage reply;

    asking.header.flags |= VHOST_USER_FLAG_NEED_REPLY;
    peer_ask(fd, &asking, &reply);
    g_assert_cmpuint(reply.header.size, ==, sizeof(uint64_t));
    return reply.payload.u64;
}

bool peer_is_closed(int fd)
{
    char byte;
    ssize_t n;

    peer_pump();
    n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

void peer_handshake(int fd)
{
    VhostUserMessage m, reply;

    m = peer_message(VHOST_USER_SET_OWNER, 0);
    peer_send(fd, &m);
    m = peer_message(VHOST_USER_GET_FEATURES, 0);
    peer_ask(fd, &m, &reply);
    m = peer_u64(VHOST_USER_SET_FEATURES, reply.payload.u64);
    peer_send(fd, &m);
    m = peer_message(VHOST_USER_GET_PROTOCOL_FEATURES, 0);
    peer_ask(fd, &m, &reply);
    m = peer_u64(VHOST_USER_SET_PROTOCOL_FEATURES, reply.payload.u64);
    peer_send(fd, &m);
    peer_pump();
}

int peer_memfd(uint64_t size)
{
    int fd = memfd_create("peer", MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_no_errno(ftruncate(fd, (off_t)size));
    return fd;
}

unsigned int peer_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned int n = 0;

    g_assert_nonnull(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

size_t peer_rss_kib(void)
{
    unsigned long total, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    g_assert_nonnull(f);
    g_assert_cmpint(fscanf(f, "%lu %lu", &total, &resident), ==, 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}
