/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile front end before the vhost-user server: rows of the hostile-input catalogue, and
 * byte streams that are no messages.  After each case the server has let go of every
 * descriptor and mapping, and serves the next connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/sanitizer.h"
#include "lib/vhost-user-peer.h"

#define REPEATS     (SANITIZED ? 5000u : 100000u)
/* What the allocator may keep; a leak of one byte for each message would be near it. */
#define RSS_SLACK   512u
#define MAX_FDS     253     /* of one message: the kernel's SCM_MAX_FD */

typedef struct Server {
    VhostUserServer *server;
    PeerOwner owner;
    int fd;
} Server;

static void server_open(Server *s)
{
    peer_owner_init(&s->owner);
    s->fd = peer_serve(&s->owner, &s->server);
    peer_handshake(s->fd);
}

static void server_close(Server *s)
{
    close(s->fd);
    peer_pump();
    g_assert_false(s->owner.connected);
    vhost_user_server_free(s->server);
}

/* Asserts that the server has hung up, and makes a new connection. */
static void server_reopen(Server *s)
{
    g_assert_true(peer_is_closed(s->fd));
    server_close(s);
    server_open(s);
}

/* A well-formed message of each kind, as far as the table knows; descriptors aside. */
static VhostUserMessage well_formed(uint32_t request)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(request);
    VhostUserMessage m = peer_message(request, spec->size_min);

    switch (request) {
    case VHOST_USER_SET_VRING_NUM:
        m.payload.state.num = 256;
        break;
    case VHOST_USER_SET_MEM_TABLE:
        m.header.size = VHOST_USER_MEM_TABLE_SIZE(1);
        m.payload.mem_table.count = 1;
        m.payload.mem_table.regions[0] = (VhostUserRegion){ 0, 0x2000, 0x10000, 0 };
        break;
    case VHOST_USER_ADD_MEM_REG:
    case VHOST_USER_REM_MEM_REG:
        m.payload.mem_reg.region = (VhostUserRegion){ 0x100000, 0x2000, 0x100000, 0 };
        break;
    case VHOST_USER_SET_LOG_BASE:
        m.payload.log.size = 0x1000;
        break;
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        m.payload.u64 = 0x1a22b;
        break;
    case VHOST_USER_SET_FEATURES:
        m.payload.u64 = UINT64_C(1) << 30;
        break;
    default:
        break;
    }
    return m;
}

static uint32_t next_request(uint32_t request)
{
    while (++request < VHOST_USER_REQUEST_MAX && !vhost_user_message_spec(request)) {
    }
    return request;
}

/* Sends @m often; an answer is read and dropped. */
static void repeat(Server *s, VhostUserMessage *m, unsigned int times)
{
    unsigned int i;

    for (i = 0; i < times; i++) {
        g_assert_cmpuint(peer_ack(s->fd, m), ==, 0);
    }
}

static void repeat_each(Server *s, unsigned int times, int memfd, int event, int channel)
{
    static const uint32_t requests[] = {
        VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE, VHOST_USER_SET_VRING_ADDR,
        VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_ERR,
        VHOST_USER_SET_MEM_TABLE, VHOST_USER_SET_LOG_BASE, VHOST_USER_SET_LOG_FD,
        VHOST_USER_SET_BACKEND_REQ_FD, VHOST_USER_SET_FEATURES,
        VHOST_USER_SET_PROTOCOL_FEATURES, VHOST_USER_RESET_DEVICE,
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(requests); i++) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(requests[i]);
        VhostUserMessage m = well_formed(requests[i]);

        if (spec->fds_max > 0) {
            m.fds[0] = requests[i] == VHOST_USER_SET_BACKEND_REQ_FD ? channel
                       : g_str_has_prefix(spec->name, "SET_VRING")  ? event
                                                                    : memfd;
            m.n_fds = 1;
        }
        /* A mapping takes its time. */
        repeat(s, &m, m.n_fds > 0 && m.fds[0] == memfd ? times / 10 : times);
    }
    for (i = 0; i < times / 10; i++) {
        VhostUserMessage m = well_formed(VHOST_USER_ADD_MEM_REG);

        m.fds[0] = memfd;
        m.n_fds = 1;
        g_assert_cmpuint(peer_ack(s->fd, &m), ==, 0);
        m = well_formed(VHOST_USER_REM_MEM_REG);
        g_assert_cmpuint(peer_ack(s->fd, &m), ==, 0);
    }
}

static void test_repeated_messages(void)
{
    unsigned int times = REPEATS, before, after, round;
    int memfd = peer_memfd(0x4000), event = eventfd(0, EFD_CLOEXEC), channel[2];
    size_t rss;
    Server s;

    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel));
    server_open(&s);
    /* The first round makes what stays: a mapping, a log, three descriptors. */
    repeat_each(&s, times / 10, memfd, event, channel[1]);
    before = peer_count_fds();
    rss = peer_rss_kib();
    for (round = 0; round < 10; round++) {
        repeat_each(&s, times / 10, memfd, event, channel[1]);
    }
    after = peer_count_fds();
    g_assert_cmpuint(after, ==, before);
    if (!SANITIZED) {
        g_assert_cmpuint(peer_rss_kib(), <, rss + RSS_SLACK);
    }
    server_close(&s);
    close(memfd);
    close(event);
    close(channel[0]);
    close(channel[1]);
}

static void test_log_base_overflow(void)
{
    static const VhostUserLog bad[] = {
        { .size = 2, .offset = UINT64_MAX },
        { .size = UINT64_MAX, .offset = 2 },
        { .size = UINT64_MAX, .offset = UINT64_MAX },
        { .size = UINT64_MAX, .offset = 0 },
        { .size = INT64_MAX, .offset = INT64_MAX },
        { .size = 0x1001, .offset = 0 },
        { .size = 0x1000, .offset = 1 },
        { .size = 1, .offset = 0x1000 },
        { .size = 0, .offset = 0 },
    };
    unsigned int before = peer_count_fds(), i;
    VhostUserMessage m = peer_message(VHOST_USER_SET_LOG_BASE, sizeof(VhostUserLog));
    Server s;

    server_open(&s);
    m.fds[0] = peer_memfd(0x1000);
    m.n_fds = 1;
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        m.payload.log = bad[i];
        g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
        peer_send(s.fd, &m);    /* nor is it told as done: QEMU does not look at the value */
        server_reopen(&s);
    }
    m.payload.log = (VhostUserLog){ .size = 0x1000 };
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 0);
    close(m.fds[0]);
    m.fds[0] = eventfd(0, EFD_CLOEXEC);     /* cannot be mapped */
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    close(m.fds[0]);
    server_close(&s);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

/* Sends @index in each message that has one; all are to be refused. */
static void try_index(Server *s, uint64_t index)
{
    static const uint32_t requests[] = {
        VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_ADDR, VHOST_USER_SET_VRING_BASE,
        VHOST_USER_SET_VRING_ENABLE, VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL,
        VHOST_USER_SET_VRING_ERR, VHOST_USER_GET_VRING_BASE,
    };
    int event = eventfd(0, EFD_CLOEXEC);
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(requests); i++) {
        bool wide = vhost_user_message_spec(requests[i])->fds_max > 0;
        VhostUserMessage m = well_formed(requests[i]);

        if (!wide && index > UINT32_MAX) {
            continue;
        }
        if (wide) {
            m.payload.u64 = index;
            m.fds[0] = event;
            m.n_fds = index & VHOST_USER_VRING_NO_FD ? 0 : 1;
        } else {
            m.payload.state.index = (uint32_t)index;
        }
        if (requests[i] != VHOST_USER_GET_VRING_BASE) {
            g_assert_cmpuint(peer_ack(s->fd, &m), ==, 1);
        }
        peer_send(s->fd, &m);
        server_reopen(s);
    }
    close(event);
}

static void test_index_truncation(void)
{
    static const uint64_t bad[] = {
        5, 0x10000, 0x10001, 0x100000000, 0x100000001, 0x200, 0x201, 0x10104,
        UINT64_C(1) << 63,
    };
    unsigned int before = peer_count_fds(), i;
    Server s;

    server_open(&s);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        try_index(&s, bad[i]);
    }
    server_close(&s);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

static void test_negative_index(void)
{
    static const uint64_t bad[] = { UINT32_MAX, 0x80000000, 0x80000001, 0xfffffffe };
    unsigned int i;
    Server s;

    server_open(&s);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        try_index(&s, bad[i]);
    }
    try_index(&s, UINT64_MAX);
    server_close(&s);
}

/* Sends the bytes of @m with @n copies of @event, however many that are. */
static void send_with_fds(int fd, const VhostUserMessage *m, int event, unsigned int n)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    char wire[sizeof(VhostUserHeader) + sizeof(VhostUserPayload)];
    struct iovec iov = { wire, sizeof(m->header) + m->header.size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *cmsg;
    unsigned int i;

    memcpy(wire, &m->header, sizeof(m->header));
    memcpy(wire + sizeof(m->header), &m->payload, m->header.size);
    if (n > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
        for (i = 0; i < n; i++) {
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &event, sizeof(int));
        }
    }
    g_assert_cmpint(sendmsg(fd, &msg, MSG_NOSIGNAL), ==, (ssize_t)iov.iov_len);
}

static void drain(int fd)
{
    char buffer[512];

    while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {
    }
}

/* Whether it is answered, asked for or not, and can say "failed". */
static bool always_answers(const VhostUserMessageSpec *spec)
{
    return spec->reply == VHOST_USER_REPLY_RESULT || spec->reply == VHOST_USER_REPLY_STATE_FD;
}

static void test_extra_descriptors(void)
{
    static const unsigned int counts[] = { 0, 1, 2, 8, 9, MAX_FDS };
    unsigned int before = peer_count_fds(), i, ask;
    int event = eventfd(0, EFD_CLOEXEC);
    uint32_t request;
    Server s;

    for (request = next_request(0); request < VHOST_USER_REQUEST_MAX;
         request = next_request(request)) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(request);

        for (i = 0; i < G_N_ELEMENTS(counts); i++) {
            for (ask = 0; ask < 2; ask++) {
                VhostUserMessage m = well_formed(request);
                bool fits = counts[i] >= spec->fds_min && counts[i] <= spec->fds_max;
                bool can_ask = ask ? spec->reply != VHOST_USER_REPLY_BODY : always_answers(spec);

                server_open(&s);
                m.header.flags |= ask ? VHOST_USER_FLAG_NEED_REPLY : 0;
                send_with_fds(s.fd, &m, event, counts[i]);
                peer_pump();
                drain(s.fd);
                if (!fits) {
                    /* Refused with an answer, or by hanging up; more than 8 always so. */
                    g_assert_cmpint(s.owner.connected, ==, can_ask && counts[i] <= 8);
                }
                server_close(&s);
                g_assert_cmpuint(peer_count_fds(), ==, before + 1);
            }
        }
    }
    close(event);
}

static void test_reply_bytes(void)
{
    VhostUserMessage m, reply;
    unsigned char zeros[sizeof(VhostUserPayload)] = { 0 };
    uint32_t request;
    Server s;

    server_open(&s);
    memset(s.owner.config, 0, sizeof(s.owner.config));
    for (request = next_request(0); request < VHOST_USER_REQUEST_MAX;
         request = next_request(request)) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(request);

        if (spec->reply != VHOST_USER_REPLY_BODY || request == VHOST_USER_GET_CONFIG) {
            continue;
        }
        m = well_formed(request);
        peer_ask(s.fd, &m, &reply);
        g_assert_cmpuint(reply.header.size, ==, spec->reply_size_min);
        if (request == VHOST_USER_GET_VRING_BASE) {
            g_assert_cmpmem(&reply.payload, 8, zeros, 8);
        }
    }
    /* What we ask for comes back zeroed, but for offset and size: no byte is of the stack. */
    m = peer_message(VHOST_USER_GET_CONFIG, 12 + PEER_CONFIG);
    memset(m.payload.config.data, 0xee, sizeof(m.payload.config.data));
    m.payload.config.size = PEER_CONFIG;
    peer_ask(s.fd, &m, &reply);
    g_assert_cmpuint(reply.header.size, ==, 12 + PEER_CONFIG);
    g_assert_cmpmem(reply.payload.config.data, PEER_CONFIG, zeros, PEER_CONFIG);
    /* More than there is: nothing comes back, rather than so many bytes of something. */
    m.header.size = 12 + VHOST_USER_CONFIG_MAX;
    m.payload.config.size = VHOST_USER_CONFIG_MAX;
    peer_ask(s.fd, &m, &reply);
    g_assert_cmpuint(reply.header.size, ==, 0);
    g_assert_cmpint(recv(s.fd, zeros, 1, MSG_DONTWAIT), ==, -1);
    server_close(&s);
}

static unsigned int send_start_up(Server *s, unsigned int steps, int memfd, int event)
{
    static const uint32_t requests[] = {
        VHOST_USER_SET_LOG_BASE, VHOST_USER_SET_MEM_TABLE, VHOST_USER_ADD_MEM_REG,
        VHOST_USER_SET_BACKEND_REQ_FD, VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE,
        VHOST_USER_SET_VRING_ADDR, VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL,
        VHOST_USER_SET_VRING_ERR, VHOST_USER_SET_VRING_ENABLE, VHOST_USER_SET_STATUS,
        VHOST_USER_GET_VRING_BASE, VHOST_USER_RESET_DEVICE,
    };
    unsigned int i;

    for (i = 0; i < MIN(steps, G_N_ELEMENTS(requests)); i++) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(requests[i]);
        VhostUserMessage m = well_formed(requests[i]);

        send_with_fds(s->fd, &m,
                      requests[i] < VHOST_USER_SET_VRING_NUM ||
                      requests[i] == VHOST_USER_ADD_MEM_REG ? memfd : event,
                      spec->fds_max > 0 ? 1 : 0);
    }
    return G_N_ELEMENTS(requests);
}

static void test_close_in_every_state(void)
{
    unsigned int before = peer_count_fds(), step, part, all = UINT_MAX;
    int memfd = peer_memfd(0x4000), event = eventfd(0, EFD_CLOEXEC);
    static const char wire[20] = { VHOST_USER_SET_VRING_NUM, 0, 0, 0, 1, 0, 0, 0, 8 };

    for (step = 0; step <= MIN(all, 64u); step++) {
        for (part = 0; part < sizeof(wire); part += 4) {
            Server s;

            server_open(&s);
            all = send_start_up(&s, step, memfd, event);
            g_assert_cmpint(send(s.fd, wire, part, MSG_NOSIGNAL), ==, part);
            if (part % 8) {
                peer_pump();    /* it has worked that far; else it meets all at once */
            }
            server_close(&s);
            g_assert_cmpuint(peer_count_fds(), ==, before + 2);
        }
    }
    close(memfd);
    close(event);
}

/* The server itself goes while a VMM is in the middle of something. */
static void test_server_goes_in_every_state(void)
{
    unsigned int before = peer_count_fds(), step, all = UINT_MAX;
    int memfd = peer_memfd(0x4000), event = eventfd(0, EFD_CLOEXEC);

    for (step = 0; step <= MIN(all, 64u); step++) {
        Server s;

        server_open(&s);
        all = send_start_up(&s, step, memfd, event);
        g_main_context_iteration(NULL, FALSE);
        vhost_user_server_free(s.server);
        g_assert_false(s.owner.connected);
        close(s.fd);
        g_assert_cmpuint(peer_count_fds(), ==, before + 2);
    }
    close(memfd);
    close(event);
}

static void test_zero_and_misaligned(void)
{
    static const VhostUserRegion bad[] = {
        { .gpa = 0, .size = 0 },
        { .gpa = UINT64_MAX, .size = 2 },
        { .gpa = 0, .size = UINT64_MAX },
        { .gpa = 0, .size = 0x1000, .user_addr = UINT64_MAX },
        { .gpa = 0, .size = 0x1000, .fd_offset = UINT64_MAX },
        { .gpa = 0, .size = 0x1000, .fd_offset = UINT64_MAX - 0xfff },
        { .gpa = 0, .size = 0x5000 },
        { .gpa = 0, .size = 0x1000, .fd_offset = 0x4000 },
    };
    unsigned int before = peer_count_fds(), i;
    VhostUserMessage m;
    Server s;

    server_open(&s);
    m = peer_state(VHOST_USER_SET_VRING_NUM, 0, 0);
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    m = peer_state(VHOST_USER_SET_VRING_ENABLE, 0, 2);
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    m = peer_message(VHOST_USER_SET_VRING_ADDR, sizeof(m.payload.addr));
    m.payload.addr.desc = 1;
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        m = peer_message(VHOST_USER_ADD_MEM_REG, sizeof(m.payload.mem_reg));
        m.payload.mem_reg.region = bad[i];
        m.n_fds = 1;
        m.fds[0] = peer_memfd(0x4000);
        g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
        m.header.request = VHOST_USER_SET_MEM_TABLE;
        m.header.size = VHOST_USER_MEM_TABLE_SIZE(1);
        m.payload.mem_table.count = 1;
        m.payload.mem_table.regions[0] = bad[i];
        g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
        vhost_user_message_clear(&m);
    }
    g_assert_cmpuint(s.owner.n_regions, ==, 0);
    m = peer_u64(VHOST_USER_SET_STATUS, 0x100);
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    m = peer_u64(VHOST_USER_SET_FEATURES, UINT64_C(1) << 63);
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    m = peer_u64(VHOST_USER_SET_PROTOCOL_FEATURES, UINT64_C(1) << 8);
    g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    server_close(&s);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

static void test_call_descriptor_storm(void)
{
    unsigned int before, i;
    int event = eventfd(0, EFD_CLOEXEC);
    VhostUserMessage with = peer_u64(VHOST_USER_SET_VRING_CALL, 0);
    VhostUserMessage without = peer_u64(VHOST_USER_SET_VRING_CALL, VHOST_USER_VRING_NO_FD);
    Server s;

    with.n_fds = 1;
    with.fds[0] = event;
    server_open(&s);
    before = peer_count_fds();
    for (i = 0; i < REPEATS; i++) {
        peer_send(s.fd, &with);
        peer_send(s.fd, &without);
        if (i % 8 == 0) {
            peer_pump();
        }
    }
    peer_pump();
    g_assert_cmpint(s.owner.rings[0].fd[VHOST_VRING_CALL], ==, -1);
    g_assert_cmpuint(peer_count_fds(), ==, before);
    /* With the flag and a descriptor, and without both. */
    with.payload.u64 = VHOST_USER_VRING_NO_FD;
    g_assert_cmpuint(peer_ack(s.fd, &with), ==, 1);
    without.payload.u64 = 0;
    g_assert_cmpuint(peer_ack(s.fd, &without), ==, 1);
    g_assert_cmpuint(peer_count_fds(), ==, before);
    server_close(&s);
    close(event);
}

static void test_sizes_of_every_message(void)
{
    static const uint32_t huge[] = {
        sizeof(VhostUserPayload) + 1, 0x10000, 0x7fffffff, UINT32_MAX,
    };
    VhostUserMessage m;
    uint32_t request, size;
    unsigned int i;
    Server s;

    for (request = next_request(0); request < VHOST_USER_REQUEST_MAX;
         request = next_request(request)) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(request);

        for (size = 0; size <= sizeof(VhostUserPayload); size++) {
            if (size >= spec->size_min && size <= spec->size_max) {
                continue;
            }
            server_open(&s);
            m = peer_message(request, size);
            peer_send(s.fd, &m);
            /* Refused with an answer where there always is one, else by hanging up. */
            g_assert_cmpint(peer_is_closed(s.fd), ==, !always_answers(spec));
            server_close(&s);
        }
        for (i = 0; i < G_N_ELEMENTS(huge); i++) {
            server_open(&s);
            m = peer_message(request, huge[i]);
            g_assert_cmpint(send(s.fd, &m.header, sizeof(m.header), MSG_NOSIGNAL), ==,
                            sizeof(m.header));
            g_assert_true(peer_is_closed(s.fd));
            server_close(&s);
        }
    }
}

static void test_counts_in_payloads(void)
{
    static const uint32_t bad[] = { 1, 9, 0x08000000, 0x80000000, UINT32_MAX };
    VhostUserMessage m;
    unsigned int i;
    Server s;

    server_open(&s);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        m = peer_message(VHOST_USER_SET_MEM_TABLE, VHOST_USER_MEM_TABLE_SIZE(0));
        m.payload.mem_table.count = bad[i];
        g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
        m = peer_message(VHOST_USER_SET_CONFIG, VHOST_USER_CONFIG_HEADER_SIZE);
        m.payload.config.size = bad[i];
        g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
        m.payload.config.size = 0;
        m.payload.config.offset = PEER_CONFIG + bad[i];
        if (bad[i] < UINT32_MAX - PEER_CONFIG) {
            g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
        }
        m = peer_message(VHOST_USER_GET_CONFIG, VHOST_USER_CONFIG_HEADER_SIZE);
        m.payload.config.size = bad[i];
        peer_send(s.fd, &m);
        server_reopen(&s);
    }
    server_close(&s);
}

static void test_version_and_reply_flag(void)
{
    static const uint32_t bad[] = {
        0, 2, 3, VHOST_USER_FLAG_NEED_REPLY, VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY,
        VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY | VHOST_USER_FLAG_NEED_REPLY,
    };
    VhostUserMessage m = peer_message(VHOST_USER_GET_FEATURES, 0);
    unsigned int i;
    Server s;

    server_open(&s);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        m.header.flags = bad[i];
        peer_send(s.fd, &m);
        server_reopen(&s);
    }
    server_close(&s);
}

/* Each byte of a message on its own, the first @n with a descriptor. */
static void send_byte_by_byte(int fd, int event, unsigned int n)
{
    VhostUserMessage m = peer_u64(VHOST_USER_SET_VRING_CALL, 0);
    unsigned char wire[20];
    unsigned int i;

    m.header.flags |= VHOST_USER_FLAG_NEED_REPLY;
    memcpy(wire, &m.header, 12);
    memcpy(wire + 12, &m.payload, 8);
    for (i = 0; i < sizeof(wire); i++) {
        union {
            struct cmsghdr align;
            char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { &wire[i], 1 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (i < n) {
            struct cmsghdr *cmsg;

            msg.msg_control = &control;
            msg.msg_controllen = sizeof(control);
            cmsg = CMSG_FIRSTHDR(&msg);
            cmsg->cmsg_level = SOL_SOCKET;
            cmsg->cmsg_type = SCM_RIGHTS;
            cmsg->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(cmsg), &event, sizeof(int));
        }
        if (sendmsg(fd, &msg, MSG_NOSIGNAL) != 1) {
            return;     /* it has hung up */
        }
        peer_pump();
    }
}

static void test_one_byte_at_a_time(void)
{
    unsigned int before = peer_count_fds(), n;
    int event = eventfd(0, EFD_CLOEXEC);
    VhostUserMessage reply;
    Server s;

    for (n = 0; n <= 20; n++) {
        server_open(&s);
        send_byte_by_byte(s.fd, event, n);
        if (n <= VHOST_USER_FDS_MAX) {
            g_assert_cmpint(peer_receive(s.fd, &reply, true), ==, 1);
            g_assert_cmpuint(reply.payload.u64, ==, n != 1);
        } else {
            g_assert_true(peer_is_closed(s.fd));
        }
        server_close(&s);
        g_assert_cmpuint(peer_count_fds(), ==, before + 1);
    }
    close(event);
}

static void test_peer_that_reads_no_answers(void)
{
    VhostUserMessage m = peer_message(VHOST_USER_GET_FEATURES, 0);
    size_t rss = peer_rss_kib();
    unsigned int i;
    Server s;

    server_open(&s);
    for (i = 0; i < 100000 && s.owner.connected; i++) {
        vhost_user_send(s.fd, &m, 0);
        peer_pump();
    }
    g_assert_false(s.owner.connected);
    if (!SANITIZED) {
        g_assert_cmpuint(peer_rss_kib(), <, rss + RSS_SLACK);
    }
    server_close(&s);
}

static void test_one_peer_cannot_keep_main_loop(void)
{
    unsigned int i, rounds = 0;
    Server s;

    server_open(&s);
    for (i = 1; i <= 200; i++) {
        VhostUserMessage m = peer_state(VHOST_USER_SET_VRING_BASE, 0, i);

        peer_send(s.fd, &m);
    }
    while (s.owner.rings[0].base < 200) {
        uint32_t base = s.owner.rings[0].base;

        g_main_context_iteration(NULL, FALSE);
        g_assert_cmpuint(s.owner.rings[0].base - base, <=, 64);
        g_assert_cmpuint(++rounds, <, 1000);
    }
    g_assert_cmpuint(rounds, >=, 200 / 64);
    server_close(&s);
}

static void test_needs_negotiation(void)
{
    uint32_t request;
    Server s;

    for (request = next_request(0); request < VHOST_USER_REQUEST_MAX;
         request = next_request(request)) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(request);
        VhostUserMessage m = well_formed(request);
        int memfd = peer_memfd(0x4000);

        if (spec->needs) {
            peer_owner_init(&s.owner);
            s.fd = peer_serve(&s.owner, &s.server);
            send_with_fds(s.fd, &m, memfd, spec->fds_min);
            g_assert_cmpint(peer_is_closed(s.fd), ==, !always_answers(spec));
            server_close(&s);
        }
        close(memfd);
    }
}

static void test_error_lines_are_few(void)
{
    VhostUserMessage m = peer_message(4711, 0);
    unsigned int i;
    Server s;

    server_open(&s);
    peer_warnings = 0;
    for (i = 0; i < 1000; i++) {
        g_assert_cmpuint(peer_ack(s.fd, &m), ==, 1);
    }
    g_assert_cmpuint(peer_warnings, ==, 1);
    server_close(&s);
    g_assert_cmpuint(peer_warnings, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    peer_init();
    g_test_add_func("/hostile/cve-2019-14818-repeated-messages", test_repeated_messages);
    g_test_add_func("/hostile/cve-2020-10722-log-base-overflow", test_log_base_overflow);
    g_test_add_func("/hostile/cve-2020-10723-index-truncation", test_index_truncation);
    g_test_add_func("/hostile/cve-2011-2512-negative-index", test_negative_index);
    g_test_add_func("/hostile/cve-2022-0669-extra-descriptors", test_extra_descriptors);
    g_test_add_func("/hostile/row-20-reply-bytes-are-initialised", test_reply_bytes);
    g_test_add_func("/hostile/row-23-close-in-every-state", test_close_in_every_state);
    g_test_add_func("/hostile/row-23-server-goes-in-every-state", test_server_goes_in_every_state);
    g_test_add_func("/hostile/cve-2017-17381-zero-and-misaligned", test_zero_and_misaligned);
    g_test_add_func("/hostile/cve-2024-4693-call-descriptor-storm", test_call_descriptor_storm);
    g_test_add_func("/hostile/vhost-user/sizes-of-every-message", test_sizes_of_every_message);
    g_test_add_func("/hostile/vhost-user/counts-in-payloads", test_counts_in_payloads);
    g_test_add_func("/hostile/vhost-user/version-and-reply-flag", test_version_and_reply_flag);
    g_test_add_func("/hostile/vhost-user/one-byte-at-a-time", test_one_byte_at_a_time);
    g_test_add_func("/hostile/vhost-user/reads-no-answers", test_peer_that_reads_no_answers);
    g_test_add_func("/hostile/vhost-user/cannot-keep-main-loop",
                    test_one_peer_cannot_keep_main_loop);
    g_test_add_func("/hostile/vhost-user/needs-negotiation", test_needs_negotiation);
    g_test_add_func("/hostile/vhost-user/error-lines-are-few", test_error_lines_are_few);
    return g_test_run();
}
