/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user server: the message orders of real front ends, memory, configuration, errors,
 * and the socket that leads to them.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/vhost-user-peer.h"

#define F(bit)  (UINT64_C(1) << (bit))

/*
 * One message of a script.  What kind of payload and descriptors it has follows from the request;
 * so does what must come back.
 */
typedef struct Step {
    VhostUserRequest request;
    uint32_t index;
    uint64_t value;         /* what it sets; GET_VRING_BASE: what must come back */
    bool ask;               /* NEED_REPLY */
    bool pipe;              /* call descriptors and request channel: a pipe's write end */
} Step;

static int make_fd(const Step *step)
{
    int fds[2];

    if (step->request == VHOST_USER_SET_MEM_TABLE) {
        return peer_memfd(0x10000);
    }
    if (!step->pipe) {
        return eventfd(0, EFD_CLOEXEC);
    }
    g_assert_no_errno(pipe2(fds, O_CLOEXEC));
    close(fds[0]);
    return fds[1];
}

static VhostUserMessage make_message(const Step *step)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(step->request);
    VhostUserMessage m = peer_message(step->request, spec->size_min);

    switch (step->request) {
    case VHOST_USER_SET_VRING_NUM:
    case VHOST_USER_SET_VRING_BASE:
    case VHOST_USER_SET_VRING_ENABLE:
    case VHOST_USER_GET_VRING_BASE:
        m.payload.state.index = step->index;
        m.payload.state.num = (uint32_t)step->value;
        break;
    case VHOST_USER_SET_VRING_ADDR:
        m.payload.addr.index = step->index;
        m.payload.addr.desc = step->value;
        m.payload.addr.avail = step->value + 0x1000;
        m.payload.addr.used = step->value + 0x2000;
        m.payload.addr.log = UINT64_MAX;    /* User Mode Linux */
        break;
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
        m.payload.u64 = step->index;
        break;
    case VHOST_USER_SET_MEM_TABLE:
        m.header.size += sizeof(VhostUserRegion);
        m.payload.mem_table.count = 1;
        m.payload.mem_table.regions[0] =
            (VhostUserRegion){ .gpa = 0x10000, .size = 0x10000, .user_addr = 0x7f0000000000 };
        break;
    default:
        m.payload.u64 = step->value;
    }
    if (spec->fds_max > 0) {
        m.fds[m.n_fds++] = make_fd(step);
    }
    if (step->ask) {
        m.header.flags |= VHOST_USER_FLAG_NEED_REPLY;
    }
    return m;
}

static void run_step(int fd, const Step *step)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(step->request);
    VhostUserMessage m = make_message(step);
    VhostUserMessage reply;

    if (!step->ask && spec->reply == VHOST_USER_REPLY_ACK) {
        peer_send(fd, &m);
        peer_pump();
        g_assert_cmpint(recv(fd, &reply, 1, MSG_DONTWAIT), ==, -1);
        g_assert_cmpint(errno, ==, EAGAIN);
    } else {
        peer_ask(fd, &m, &reply);
        g_assert_cmpuint(reply.header.size, ==, spec->reply == VHOST_USER_REPLY_ACK
                                                    ? sizeof(uint64_t) : spec->reply_size_min);
        if (spec->reply != VHOST_USER_REPLY_BODY) {
            g_assert_cmphex(reply.payload.u64, ==, 0);
        }
        if (step->request == VHOST_USER_GET_VRING_BASE) {
            g_assert_cmpuint(reply.payload.state.index, ==, step->index);
            g_assert_cmphex(reply.payload.state.num, ==, step->value);
        }
    }
    vhost_user_message_clear(&m);
}

#define ACKED           .ask = true
#define M(name, ...)    { VHOST_USER_##name, __VA_ARGS__ }
#define RING(i, base)   \
    M(SET_VRING_NUM, i, 256), M(SET_VRING_BASE, i, base), \
    M(SET_VRING_ADDR, i, 0x7f0000000000 + (i) * 0x4000), M(SET_VRING_KICK, i)
#define FEATURES        (F(30) | F(32) | F(34))
#define FEATURES_NO_30  (F(32) | F(34))

static const Step virtio_user[] = {
    M(SET_OWNER, 0), M(GET_FEATURES, 0), M(GET_PROTOCOL_FEATURES, 0),
    M(SET_PROTOCOL_FEATURES, 0, 0x10009),
    M(SET_VRING_CALL, 0), M(SET_VRING_CALL, 2), M(SET_VRING_CALL, 1), M(SET_VRING_CALL, 3),
    M(SET_FEATURES, 0, FEATURES), M(SET_STATUS, 0, 0xb, ACKED),
    M(GET_STATUS, 0), M(GET_STATUS, 0), M(SET_MEM_TABLE, 0, 0, ACKED),
    RING(0, 0x8000), RING(2, 0x8000), RING(1, 0x8000), RING(3, 0x8000),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1), M(SET_STATUS, 0, 0xf),
    M(SET_VRING_ENABLE, 2, 1), M(SET_VRING_ENABLE, 3, 1),
    M(SET_VRING_ENABLE, 0, 0), M(SET_VRING_ENABLE, 1, 0),
    M(SET_VRING_ENABLE, 2, 0), M(SET_VRING_ENABLE, 3, 0),
    M(GET_VRING_BASE, 0, 0x8000), M(GET_VRING_BASE, 1, 0x8000),
    M(GET_VRING_BASE, 2, 0x8000), M(GET_VRING_BASE, 3, 0x8000),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_VRING_ENABLE, 2, 1), M(SET_VRING_ENABLE, 3, 1),
};

static const Step qemu[] = {
    M(GET_FEATURES, 0), M(GET_PROTOCOL_FEATURES, 0), M(SET_PROTOCOL_FEATURES, 0, 0x1a02b),
    M(GET_QUEUE_NUM, 0), M(SET_BACKEND_REQ_FD, 0, 0, ACKED), M(SET_OWNER, 0), M(GET_FEATURES, 0),
    M(SET_VRING_CALL, 0), M(SET_VRING_ERR, 0), M(SET_VRING_CALL, 1), M(SET_VRING_ERR, 1),
    M(GET_FEATURES, 0), M(GET_PROTOCOL_FEATURES, 0), M(SET_PROTOCOL_FEATURES, 0, 0x1a02b),
    M(GET_FEATURES, 0),
    M(SET_VRING_CALL, 2), M(SET_VRING_ERR, 2), M(SET_VRING_CALL, 3), M(SET_VRING_ERR, 3),
    /* Before features, memory and rings. */
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_VRING_ENABLE, 2, 0), M(SET_VRING_ENABLE, 3, 0),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_FEATURES, 0, FEATURES), M(GET_STATUS, 0), M(SET_STATUS, 0, 8),
    M(SET_MEM_TABLE, 0, 0, ACKED), RING(0, 0x80008000), M(SET_VRING_CALL, 0),
    RING(1, 0x80008000), M(SET_VRING_CALL, 1),
    M(SET_FEATURES, 0, FEATURES), M(GET_STATUS, 0),
    RING(2, 0x80008000), M(SET_VRING_CALL, 2), RING(3, 0x80008000), M(SET_VRING_CALL, 3),
    M(GET_STATUS, 0), M(SET_STATUS, 0, 0xf),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_VRING_ENABLE, 2, 1), M(SET_VRING_ENABLE, 3, 1),
    /* The other pair's bases are asked for after status 0. */
    M(GET_VRING_BASE, 0, 0x80008000), M(GET_VRING_BASE, 1, 0x80008000), M(SET_STATUS, 0, 0),
    M(GET_VRING_BASE, 2, 0x80008000), M(GET_VRING_BASE, 3, 0x80008000),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_VRING_ENABLE, 2, 1), M(SET_VRING_ENABLE, 3, 1),
};

#define UML_RING(i) \
    M(SET_VRING_KICK, i, 0, ACKED), M(SET_VRING_CALL, i, 0, ACKED, .pipe = true), \
    M(SET_VRING_NUM, i, 256, ACKED), M(SET_VRING_BASE, i, 0, ACKED), \
    M(SET_VRING_ADDR, i, 0x7f0000000000 + (i) * 0x4000, ACKED)

/* The second SET_FEATURES lacks bit 30; then nobody says ENABLE. */
static const Step user_mode_linux[] = {
    M(SET_OWNER, 0), M(GET_FEATURES, 0), M(GET_PROTOCOL_FEATURES, 0),
    M(SET_PROTOCOL_FEATURES, 0, F(3) | F(5) | F(9), ACKED),
    M(SET_BACKEND_REQ_FD, 0, 0, ACKED, .pipe = true),
    M(SET_FEATURES, 0, FEATURES, ACKED), M(SET_FEATURES, 0, FEATURES_NO_30, ACKED),
    M(SET_MEM_TABLE, 0, 0, ACKED),
    UML_RING(0), UML_RING(1), UML_RING(2), UML_RING(3),
    M(GET_FEATURES, 0),
};

typedef struct Script {
    const char *name;
    const Step *steps;
    unsigned int n;
    uint64_t features;
    uint8_t status;
} Script;

static const Script scripts[] = {
    { "virtio-user", virtio_user, G_N_ELEMENTS(virtio_user), FEATURES_NO_30, 0xf },
    { "qemu-7.2", qemu, G_N_ELEMENTS(qemu), FEATURES_NO_30, 0 },
    { "user-mode-linux", user_mode_linux, G_N_ELEMENTS(user_mode_linux), FEATURES_NO_30, 0 },
};

static void test_order(gconstpointer data)
{
    const Script *script = data;
    unsigned int before = peer_count_fds();
    VhostUserServer *server;
    PeerOwner owner;
    unsigned int i;
    int fd;

    peer_warnings = 0;
    peer_owner_init(&owner);
    fd = peer_serve(&owner, &server);
    for (i = 0; i < script->n; i++) {
        run_step(fd, &script->steps[i]);
    }
    g_assert_cmphex(owner.features, ==, script->features);
    g_assert_cmphex(owner.status, ==, script->status);
    g_assert_cmpuint(owner.n_regions, ==, 1);
    for (i = 0; i < 4; i++) {
        g_assert_cmpuint(owner.rings[i].num, ==, 256);
        g_assert_cmphex(owner.rings[i].addr.desc, ==, 0x7f0000000000 + i * 0x4000);
        g_assert_cmphex(owner.rings[i].addr.avail, ==, 0x7f0000001000 + i * 0x4000);
        g_assert_cmphex(owner.rings[i].addr.used, ==, 0x7f0000002000 + i * 0x4000);
        g_assert_cmpint(owner.rings[i].fd[VHOST_VRING_KICK], >=, 0);
        g_assert_cmpint(owner.rings[i].fd[VHOST_VRING_CALL], >=, 0);
        g_assert_true(owner.rings[i].enabled);
    }
    close(fd);
    peer_pump();
    g_assert_false(owner.connected);
    g_assert_cmpuint(peer_warnings, ==, 0);
    vhost_user_server_free(server);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

static void test_offers_features(void)
{
    VhostUserServer *server;
    VhostUserMessage m, reply;
    PeerOwner owner;
    int fd;

    peer_owner_init(&owner);
    owner.has_config = false;
    fd = peer_serve(&owner, &server);
    m = peer_message(VHOST_USER_GET_FEATURES, 0);
    peer_ask(fd, &m, &reply);
    g_assert_cmphex(reply.payload.u64, ==, PEER_FEATURES | F(30));
    m = peer_message(VHOST_USER_GET_PROTOCOL_FEATURES, 0);
    peer_ask(fd, &m, &reply);
    g_assert_cmphex(reply.payload.u64, ==, 0x1a02b);
    owner.has_config = true;
    peer_ask(fd, &m, &reply);
    g_assert_cmphex(reply.payload.u64, ==, 0x1a22b);
    owner.has_state = true;
    peer_ask(fd, &m, &reply);
    g_assert_cmphex(reply.payload.u64, ==, 0x9a22b);

    g_assert_false(vhost_user_server_has_status(server));
    peer_handshake(fd);
    g_assert_true(vhost_user_server_has_status(server));
    m = peer_message(VHOST_USER_GET_QUEUE_NUM, 0);
    peer_ask(fd, &m, &reply);
    g_assert_cmpuint(reply.payload.u64, ==, 5);
    m = peer_message(VHOST_USER_GET_MAX_MEM_SLOTS, 0);
    peer_ask(fd, &m, &reply);
    g_assert_cmpuint(reply.payload.u64, ==, 32);
    close(fd);
    peer_pump();
    g_assert_false(vhost_user_server_has_status(server));
    vhost_user_server_free(server);
}

static void send_region(int fd, uint32_t request, const VhostUserRegion *region, int memfd)
{
    VhostUserMessage m = peer_message(request, sizeof(m.payload.mem_reg));

    m.payload.mem_reg.region = *region;
    if (memfd >= 0) {
        m.fds[m.n_fds++] = memfd;
    }
    g_assert_cmpuint(peer_ack(fd, &m), ==, 0);
}

static void test_same_region_keeps_mapping(void)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_MEM_TABLE, 8 + 2 * 32);
    VhostUserServer *server;
    PeerOwner owner;
    uint8_t *first;
    int fd, a = peer_memfd(0x4000), b = peer_memfd(0x4000);

    peer_owner_init(&owner);
    fd = peer_serve(&owner, &server);
    peer_handshake(fd);
    m.payload.mem_table.count = 2;
    m.payload.mem_table.regions[0] = (VhostUserRegion){ 0, 0x4000, 0x10000, 0 };
    m.payload.mem_table.regions[1] = (VhostUserRegion){ 0x4000, 0x4000, 0x20000, 0 };
    m.n_fds = 2;
    m.fds[0] = a;
    m.fds[1] = a;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 0);
    first = owner.regions[0]->host;
    first[5] = 42;
    g_assert_cmpuint(owner.regions[1]->host[5], ==, 42);

    /* Region 1 gets another file: region 0 stays where it is. */
    m.fds[1] = b;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 0);
    g_assert_cmpuint(owner.memory_changes, ==, 2);
    g_assert_true(owner.regions[0]->host == first);
    g_assert_cmpuint(owner.regions[1]->host[5], ==, 0);

    /* A table that the owner refuses changes nothing. */
    owner.fail = EINVAL;
    m.payload.mem_table.count = 0;
    m.header.size = 8;
    m.n_fds = 0;
    peer_warnings = 0;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 1);
    g_assert_cmpuint(peer_ack(fd, &m), ==, 1);
    g_assert_cmpuint(peer_warnings, ==, 1);     /* one line for a connection */
    owner.fail = 0;
    g_assert_cmpuint(owner.n_regions, ==, 2);
    first[6] = 43;
    send_region(fd, VHOST_USER_REM_MEM_REG,
                &(VhostUserRegion){ 0x4000, 0x4000, 0x20000, 0x777 }, -1);
    g_assert_cmpuint(owner.n_regions, ==, 1);
    g_assert_cmpuint(owner.regions[0]->host[6], ==, 43);

    close(fd);
    close(a);
    close(b);
    vhost_user_server_free(server);
}

static void test_regions_come_and_go(void)
{
    unsigned int before = peer_count_fds();
    VhostUserMessage m = peer_message(VHOST_USER_ADD_MEM_REG, 40);
    VhostUserServer *server;
    PeerOwner owner;
    unsigned int i;
    int fd, memfd = peer_memfd(0x1000 * 32);

    peer_owner_init(&owner);
    fd = peer_serve(&owner, &server);
    peer_handshake(fd);
    for (i = 0; i < 32; i++) {
        VhostUserRegion region = { i * 0x10000, 0x1000, i * 0x10000, i * 0x1000 };

        send_region(fd, VHOST_USER_ADD_MEM_REG, &region, memfd);
        g_assert_cmpuint(owner.n_regions, ==, i + 1);
        g_assert_cmpuint(owner.regions[i]->gpa, ==, i * 0x10000);
    }
    m.payload.mem_reg.region = (VhostUserRegion){ 0x1000000, 0x1000, 0x1000000, 0 };
    m.fds[0] = memfd;
    m.n_fds = 1;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 1);  /* one too many */
    for (i = 0; i < 32; i++) {
        VhostUserRegion region = { i * 0x10000, 0x1000, i * 0x10000, 0 };

        /* Some front ends send a descriptor along. */
        send_region(fd, VHOST_USER_REM_MEM_REG, &region, i % 2 ? memfd : -1);
    }
    g_assert_cmpuint(owner.n_regions, ==, 0);
    m = peer_message(VHOST_USER_REM_MEM_REG, 40);
    g_assert_cmpuint(peer_ack(fd, &m), ==, 0);  /* none left: said twice, as QEMU 7.2 does */
    close(fd);
    close(memfd);
    vhost_user_server_free(server);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

static void test_config_is_read_and_written(void)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_CONFIG, 12 + 3);
    VhostUserMessage reply;
    VhostUserServer *server;
    PeerOwner owner;
    unsigned int i;
    int fd;

    peer_owner_init(&owner);
    fd = peer_serve(&owner, &server);
    peer_handshake(fd);
    m.payload.config.offset = 10;
    m.payload.config.size = 3;
    memcpy(m.payload.config.data, "abc", 3);
    g_assert_cmpuint(peer_ack(fd, &m), ==, 0);

    m = peer_message(VHOST_USER_GET_CONFIG, 12 + PEER_CONFIG);
    m.payload.config.size = PEER_CONFIG;
    peer_ask(fd, &m, &reply);
    g_assert_cmpuint(reply.header.size, ==, 12 + PEER_CONFIG);
    g_assert_cmpmem(reply.payload.config.data, PEER_CONFIG, owner.config, PEER_CONFIG);
    g_assert_cmpmem(owner.config + 10, 3, "abc", 3);

    for (i = 0; i < PEER_CONFIG; i++) {     /* byte by byte, as User Mode Linux reads the MAC */
        m = peer_message(VHOST_USER_GET_CONFIG, 13);
        m.payload.config.offset = i;
        m.payload.config.size = 1;
        peer_ask(fd, &m, &reply);
        g_assert_cmpuint(reply.header.size, ==, 13);
        g_assert_cmpuint(reply.payload.config.data[0], ==, owner.config[i]);
    }
    m.payload.config.offset = PEER_CONFIG;
    peer_ask(fd, &m, &reply);
    g_assert_cmpuint(reply.header.size, ==, 0);
    close(fd);
    vhost_user_server_free(server);
}

static void test_config_change_reaches_channel(gconstpointer data)
{
    bool use_pipe = GPOINTER_TO_INT(data);
    VhostUserMessage m = peer_message(VHOST_USER_SET_BACKEND_REQ_FD, 0);
    VhostUserHeader header;
    VhostUserServer *server;
    PeerOwner owner;
    unsigned int i;
    int fd, fds[2];

    peer_owner_init(&owner);
    fd = peer_serve(&owner, &server);
    vhost_user_server_config_changed(server);   /* nobody to tell */
    peer_handshake(fd);
    if (use_pipe) {
        g_assert_no_errno(pipe2(fds, O_CLOEXEC));
    } else {
        g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    }
    m.fds[0] = fds[1];
    m.n_fds = 1;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 0);
    vhost_user_server_config_changed(server);
    g_assert_cmpint(read(fds[0], &header, sizeof(header)), ==, sizeof(header));
    g_assert_cmpuint(header.request, ==, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
    g_assert_cmphex(header.flags, ==, VHOST_USER_FLAG_VERSION);
    g_assert_cmpuint(header.size, ==, 0);
    /* Nobody reads any more: it must not wait. */
    for (i = 0; i < 100000; i++) {
        vhost_user_server_config_changed(server);
    }
    g_assert_true(owner.connected);
    close(fds[0]);
    close(fds[1]);
    if (!use_pipe) {
        vhost_user_server_config_changed(server);   /* nor die of a closed socket */
    }
    close(fd);
    vhost_user_server_free(server);
}

static void test_error_closes_unless_asked(void)
{
    VhostUserMessage m = peer_state(VHOST_USER_SET_VRING_NUM, 0, 0);
    VhostUserServer *server;
    PeerOwner owner;
    int fd;

    peer_owner_init(&owner);
    fd = peer_serve(&owner, &server);
    peer_handshake(fd);
    g_assert_cmpuint(peer_ack(fd, &m), ==, 1);
    m.header.request = 23;      /* SET_VRING_ENDIAN is not ours */
    g_assert_cmpuint(peer_ack(fd, &m), ==, 1);
    m.header.request = 4711;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 1);
    g_assert_false(peer_is_closed(fd));
    peer_warnings = 0;
    peer_send(fd, &m);
    g_assert_true(peer_is_closed(fd));
    g_assert_cmpuint(peer_warnings, ==, 1);
    g_assert_false(owner.connected);
    close(fd);
    vhost_user_server_free(server);
}

static void test_log_is_mapped(void)
{
    unsigned int before = peer_count_fds();
    VhostUserMessage m = peer_message(VHOST_USER_SET_LOG_BASE, 16);
    VhostUserMessage reply;
    VhostUserServer *server;
    PeerOwner owner;
    int fd, i;

    peer_owner_init(&owner);
    fd = peer_serve(&owner, &server);
    peer_handshake(fd);
    m.payload.log.size = 0x1800;    /* of a guest of 192 MiB: no whole pages */
    m.fds[0] = peer_memfd(0x1800);
    m.n_fds = 1;
    for (i = 0; i < 3; i++) {
        peer_ask(fd, &m, &reply);   /* QEMU waits for it without NEED_REPLY */
        g_assert_cmpuint(reply.header.size, ==, 8);
        g_assert_cmpuint(reply.payload.u64, ==, 0);
        g_assert_cmpuint(peer_ack(fd, &m), ==, 0);
    }
    g_assert_cmpuint(owner.log_changes, ==, 6);
    owner.fail = ENOSPC;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 1);
    owner.fail = 0;
    g_assert_cmpuint(owner.log_changes, ==, 6);
    m.header.request = VHOST_USER_SET_LOG_FD;
    m.header.size = 0;
    g_assert_cmpuint(peer_ack(fd, &m), ==, 0);
    vhost_user_message_clear(&m);
    close(fd);
    vhost_user_server_free(server);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

static char *socket_dir;

static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -errno;
    }
    g_assert_no_errno(fcntl(fd, F_SETFL, O_NONBLOCK));
    return fd;
}

static void test_serves_one_after_the_other(void)
{
    g_autofree char *path = g_build_filename(socket_dir, "one", NULL);
    VhostSocketAddress address = { .path = path, .fd = -1, .server = true };
    VhostUserServer *server, *second;
    g_autoptr(GError) err = NULL;
    PeerOwner owner;
    int a, b;

    peer_owner_init(&owner);
    server = vhost_user_server_new(&address, true, &peer_owner_ops, &owner, &err);
    g_assert_no_error(err);
    a = connect_to(path);
    b = connect_to(path);
    g_assert_cmpint(a, >=, 0);
    g_assert_cmpint(b, >=, 0);
    peer_pump();
    g_assert_cmpuint(owner.connections, ==, 0);     /* held */
    vhost_user_server_hold(server, false);
    peer_handshake(a);
    g_assert_cmpuint(owner.connections, ==, 1);
    vhost_user_server_hold(server, true);
    close(a);
    peer_pump();
    g_assert_false(owner.connected);
    g_assert_cmpuint(owner.connections, ==, 1);
    vhost_user_server_hold(server, false);
    peer_handshake(b);
    g_assert_cmpuint(owner.connections, ==, 2);

    second = vhost_user_server_new(&address, false, &peer_owner_ops, &owner, &err);
    g_assert_null(second);
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_FAILED);
    g_assert_nonnull(strstr(err->message, path));
    vhost_user_server_free(server);
    g_assert_false(owner.connected);
    g_assert_cmpint(g_access(path, F_OK), ==, -1);
    close(b);
}

static void test_replaces_stale_socket_only(void)
{
    g_autofree char *path = g_build_filename(socket_dir, "stale", NULL);
    VhostSocketAddress address = { .path = path, .fd = -1, .server = true };
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    VhostUserServer *server;
    PeerOwner owner;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    peer_owner_init(&owner);
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_no_errno(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
    close(fd);
    server = vhost_user_server_new(&address, false, &peer_owner_ops, &owner, NULL);
    g_assert_nonnull(server);

    /* Somebody else's file at our path stays when we go. */
    g_assert_no_errno(unlink(path));
    g_assert_true(g_file_set_contents(path, "x", 1, NULL));
    vhost_user_server_free(server);
    g_assert_no_errno(g_access(path, F_OK));
    g_assert_null(vhost_user_server_new(&address, false, &peer_owner_ops, &owner, NULL));
    g_assert_no_errno(unlink(path));
}

int main(int argc, char **argv)
{
    unsigned int i;
    int ret;

    g_test_init(&argc, &argv, NULL);
    peer_init();
    socket_dir = g_dir_make_tmp("svq-XXXXXX", NULL);
    for (i = 0; i < G_N_ELEMENTS(scripts); i++) {
        g_autofree char *name = g_strconcat("/vhost-user-server/order-of-", scripts[i].name, NULL);

        g_test_add_data_func(name, &scripts[i], test_order);
    }
    g_test_add_func("/vhost-user-server/offers-features", test_offers_features);
    g_test_add_func("/vhost-user-server/same-region-keeps-mapping",
                    test_same_region_keeps_mapping);
    g_test_add_func("/vhost-user-server/regions-come-and-go", test_regions_come_and_go);
    g_test_add_func("/vhost-user-server/config-is-read-and-written",
                    test_config_is_read_and_written);
    g_test_add_data_func("/vhost-user-server/config-change-reaches-channel",
                         GINT_TO_POINTER(false), test_config_change_reaches_channel);
    g_test_add_data_func("/vhost-user-server/config-change-reaches-pipe", GINT_TO_POINTER(true),
                         test_config_change_reaches_channel);
    g_test_add_func("/vhost-user-server/error-closes-unless-asked",
                    test_error_closes_unless_asked);
    g_test_add_func("/vhost-user-server/log-is-mapped", test_log_is_mapped);
    g_test_add_func("/vhost-user-server/serves-one-after-the-other",
                    test_serves_one_after_the_other);
    g_test_add_func("/vhost-user-server/replaces-stale-socket-only",
                    test_replaces_stale_socket_only);
    ret = g_test_run();
    g_rmdir(socket_dir);
    g_free(socket_dir);
    return ret;
}
