/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DEVICE_STATE towards a VMM: how the state comes and goes, and VMMs that do it wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/vhost-user-peer.h"

#define OK          0x100u      /* done, and no descriptor comes along */
#define REFUSED     0x101u
#define PIPE_SIZE   65536       /* what a pipe holds */
#define MAX_BYTES   VHOST_USER_STATE_MAX_BYTES
#define WAIT_US     5000000

typedef struct World {
    PeerOwner owner;
    VhostUserServer *server;
    int fd;                     /* the VMM's end */
    unsigned int fds_before;
} World;

static void world_init(World *w)
{
    w->fds_before = peer_count_fds();
    peer_owner_init(&w->owner);
    w->owner.has_state = true;
    w->fd = peer_serve(&w->owner, &w->server);
    peer_handshake(w->fd);
}

/* The connection has lived through all of it, and nothing is left open. */
static void world_clear(World *w)
{
    VhostUserMessage m = peer_message(VHOST_USER_GET_FEATURES, 0), reply;

    peer_ask(w->fd, &m, &reply);
    close(w->fd);
    peer_pump();
    g_assert_false(w->owner.connected);
    vhost_user_server_free(w->server);
    g_assert_cmpuint(peer_count_fds(), ==, w->fds_before);
}

static uint64_t set_fd(World *w, uint32_t direction, uint32_t phase, int fd)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_DEVICE_STATE_FD, 8), reply;

    m.payload.device_state.direction = direction;
    m.payload.device_state.phase = phase;
    if (fd >= 0) {
        m.fds[m.n_fds++] = fd;
    }
    peer_ask(w->fd, &m, &reply);
    g_assert_cmpuint(reply.header.size, ==, 8);
    return reply.payload.u64;
}

/* QEMU awaits the answer without asking for one. */
static uint64_t check(World *w)
{
    VhostUserMessage m = peer_message(VHOST_USER_CHECK_DEVICE_STATE, 0), reply;

    peer_ask(w->fd, &m, &reply);
    g_assert_cmpuint(reply.header.size, ==, 8);
    return reply.payload.u64;
}

/* Begins a transfer, and returns our end of it. */
static int begin(World *w, uint32_t direction)
{
    const int ours = direction == VHOST_USER_STATE_SAVE ? 0 : 1;
    int fds[2];

    /* The server's end, as a VMM makes it, would block. */
    g_assert_no_errno(pipe2(fds, O_CLOEXEC));
    g_assert_no_errno(fcntl(fds[ours], F_SETFL, O_NONBLOCK));
    g_assert_cmphex(set_fd(w, direction, 0, fds[!ours]), ==, OK);
    close(fds[!ours]);
    return fds[ours];
}

/* Reads to the end of file; returns how many bytes came, each as it should be. */
static size_t read_state(int fd)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;
    uint8_t data[1000];
    size_t total = 0;

    for (;;) {
        ssize_t n, i;

        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        n = read(fd, data, sizeof(data));
        if (n == 0) {
            close(fd);
            return total;
        }
        g_assert_true(n > 0 || errno == EAGAIN);
        for (i = 0; i < n; i++) {
            g_assert_cmpuint(data[i], ==, peer_state_byte(total++));
        }
    }
}

/* Writes bytes @from to @to of a state; false: nobody reads any more. */
static bool write_state(int fd, size_t from, size_t to)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;
    g_autofree uint8_t *data = g_malloc(to);
    size_t i;

    for (i = 0; i < to; i++) {
        data[i] = peer_state_byte(i);
    }
    while (from < to) {
        ssize_t n = write(fd, data + from, to - from);

        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        if (n > 0) {
            from += (size_t)n;
        } else if (errno == EPIPE) {
            return false;
        } else {
            g_assert_cmpint(errno, ==, EAGAIN);
            peer_pump();
        }
    }
    return true;
}

static const size_t sizes[] = { 0, 1, PIPE_SIZE, PIPE_SIZE + 1, MAX_BYTES };

static void test_save(void)
{
    unsigned int i;
    World w;

    world_init(&w);
    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        w.owner.state_size = sizes[i];
        g_assert_cmpuint(read_state(begin(&w, VHOST_USER_STATE_SAVE)), ==, sizes[i]);
        g_assert_cmphex(check(&w), ==, 0);
        g_assert_cmpuint(w.owner.saves, ==, i + 1);
    }
    g_assert_cmphex(check(&w), ==, 1);      /* asked and answered already */
    g_assert_cmpuint(w.owner.loads, ==, 0);
    world_clear(&w);
}

static void test_load(void)
{
    unsigned int i;
    World w;
    int fd;

    world_init(&w);
    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        fd = begin(&w, VHOST_USER_STATE_LOAD);
        g_assert_true(write_state(fd, 0, sizes[i]));
        g_assert_cmpuint(w.owner.loads, ==, i);     /* not before its end */
        close(fd);
        g_assert_cmphex(check(&w), ==, 0);
        g_assert_cmpuint(w.owner.loads, ==, i + 1);
        g_assert_cmpuint(w.owner.state_size, ==, sizes[i]);
    }
    g_assert_cmphex(check(&w), ==, 1);
    g_assert_cmpuint(w.owner.saves, ==, 0);
    world_clear(&w);
}

/* The message comes before the main loop has seen any of it. */
static void test_check_overtakes_the_end(void)
{
    VhostUserMessage m = peer_message(VHOST_USER_CHECK_DEVICE_STATE, 0), reply;
    World w;
    int fd;

    world_init(&w);
    fd = begin(&w, VHOST_USER_STATE_LOAD);
    peer_send(w.fd, &m);
    g_assert_true(write_state(fd, 0, 100));
    close(fd);
    g_assert_cmpint(peer_receive(w.fd, &reply, true), ==, 1);
    g_assert_cmphex(reply.payload.u64, ==, 0);
    g_assert_cmpuint(w.owner.loads, ==, 1);
    world_clear(&w);
}

/* It is answered late, nothing that was sent behind it before; the main loop goes on meanwhile. */
static void test_check_waits_for_the_end(void)
{
    VhostUserMessage checking = peer_message(VHOST_USER_CHECK_DEVICE_STATE, 0);
    VhostUserMessage asking = peer_message(VHOST_USER_GET_FEATURES, 0), reply;
    struct pollfd p;
    World w;
    int fd;

    world_init(&w);
    fd = begin(&w, VHOST_USER_STATE_LOAD);
    g_assert_true(write_state(fd, 0, 100));
    peer_send(w.fd, &checking);
    peer_send(w.fd, &asking);
    peer_pump();
    p = (struct pollfd){ .fd = w.fd, .events = POLLIN };
    g_assert_cmpint(poll(&p, 1, 0), ==, 0);
    g_assert_true(write_state(fd, 100, 200));
    close(fd);
    g_assert_cmpint(peer_receive(w.fd, &reply, true), ==, 1);
    g_assert_cmpuint(reply.header.request, ==, VHOST_USER_CHECK_DEVICE_STATE);
    g_assert_cmphex(reply.payload.u64, ==, 0);
    g_assert_cmpuint(w.owner.state_size, ==, 200);
    g_assert_cmpint(peer_receive(w.fd, &reply, true), ==, 1);
    g_assert_cmpuint(reply.header.request, ==, VHOST_USER_GET_FEATURES);
    world_clear(&w);
}

/* But not for ever. */
static void test_state_without_end_is_an_error(void)
{
    World w;
    int fd;

    world_init(&w);
    fd = begin(&w, VHOST_USER_STATE_LOAD);
    g_assert_true(write_state(fd, 0, 100));
    g_assert_cmphex(check(&w), ==, 1);
    g_assert_false(write_state(fd, 100, 200));
    close(fd);
    g_assert_cmpuint(w.owner.loads, ==, 0);
    world_clear(&w);
}

static void test_refuses_too_long_a_state(void)
{
    World w;
    int fd;

    world_init(&w);
    fd = begin(&w, VHOST_USER_STATE_LOAD);
    write_state(fd, 0, MAX_BYTES + 1);
    peer_pump();
    g_assert_false(write_state(fd, 0, 1));
    close(fd);
    g_assert_cmphex(check(&w), ==, 1);
    g_assert_cmpuint(w.owner.loads, ==, 0);
    world_clear(&w);
}

/* Whether it is not read at all, not to its end, or by nobody any more. */
static void test_reader_that_does_not_read(void)
{
    uint8_t byte;
    World w;
    int fd;

    world_init(&w);
    w.owner.state_size = PIPE_SIZE + 1;
    fd = begin(&w, VHOST_USER_STATE_SAVE);
    peer_pump();
    g_assert_cmphex(check(&w), ==, 1);
    close(fd);
    fd = begin(&w, VHOST_USER_STATE_SAVE);
    peer_pump();
    g_assert_cmpint(read(fd, &byte, 1), ==, 1);
    close(fd);
    g_assert_cmphex(check(&w), ==, 1);
    world_clear(&w);
}

static void test_owner_refuses(void)
{
    int fds[2], fd;
    World w;

    world_init(&w);
    w.owner.fail = EBUSY;
    peer_warnings = 0;
    g_assert_no_errno(pipe2(fds, O_CLOEXEC));
    g_assert_cmphex(set_fd(&w, VHOST_USER_STATE_SAVE, 0, fds[1]), ==, REFUSED);
    close(fds[0]);
    close(fds[1]);
    g_assert_cmphex(check(&w), ==, 1);
    fd = begin(&w, VHOST_USER_STATE_LOAD);
    close(fd);
    g_assert_cmphex(check(&w), ==, 1);
    g_assert_cmpuint(peer_warnings, ==, 1);     /* one line for a connection */
    w.owner.fail = 0;
    fd = begin(&w, VHOST_USER_STATE_LOAD);
    g_assert_true(write_state(fd, 3, 4));       /* no state of its own */
    close(fd);
    g_assert_cmphex(check(&w), ==, 1);
    g_assert_cmpuint(w.owner.saves + w.owner.loads, ==, 0);
    world_clear(&w);
}

static void test_refuses_descriptors_that_cannot_be_watched(void)
{
    int pipe_fds[2], pair[2], packets[2], event, file;
    unsigned int i;
    World w;

    world_init(&w);
    g_assert_no_errno(pipe2(pipe_fds, O_CLOEXEC));
    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    g_assert_no_errno(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets));
    event = eventfd(0, EFD_CLOEXEC);
    file = peer_memfd(4096);
    for (i = VHOST_USER_STATE_SAVE; i <= VHOST_USER_STATE_LOAD; i++) {
        g_assert_cmphex(set_fd(&w, i, 0, -1), ==, REFUSED);
        g_assert_cmphex(set_fd(&w, i, 0, event), ==, REFUSED);
        g_assert_cmphex(set_fd(&w, i, 0, file), ==, REFUSED);
        g_assert_cmphex(set_fd(&w, i, 0, packets[0]), ==, REFUSED);
        g_assert_cmphex(set_fd(&w, i, 0, pipe_fds[i == VHOST_USER_STATE_SAVE ? 0 : 1]), ==,
                        REFUSED);
        g_assert_cmphex(set_fd(&w, i, 1, pair[0]), ==, REFUSED);    /* no such phase */
        g_assert_cmphex(set_fd(&w, i, 0, pair[0]), ==, OK);
    }
    g_assert_cmphex(set_fd(&w, 2, 0, pair[0]), ==, REFUSED);
    g_assert_cmphex(set_fd(&w, UINT32_MAX, 0, pair[0]), ==, REFUSED);
    g_assert_cmphex(check(&w), ==, 1);
    for (i = 0; i < 2; i++) {
        close(pipe_fds[i]);
        close(pair[i]);
        close(packets[i]);
    }
    close(event);
    close(file);
    world_clear(&w);
}

/* The new one counts, whatever the old one was about to become, or has become. */
static void test_new_transfer_ends_the_last(void)
{
    World w;
    int old, new;

    world_init(&w);
    w.owner.state_size = PIPE_SIZE + 1;
    old = begin(&w, VHOST_USER_STATE_SAVE);
    new = begin(&w, VHOST_USER_STATE_LOAD);
    g_assert_cmpuint(read_state(old), <=, PIPE_SIZE);
    g_assert_true(write_state(new, 0, 5));
    old = new;
    new = begin(&w, VHOST_USER_STATE_LOAD);
    g_assert_false(write_state(old, 5, 6));
    close(old);
    g_assert_true(write_state(new, 3, 4));      /* no state of its own */
    close(new);
    peer_pump();
    new = begin(&w, VHOST_USER_STATE_LOAD);
    g_assert_true(write_state(new, 0, 7));
    close(new);
    peer_pump();
    g_assert_cmpuint(w.owner.state_size, ==, 7);
    old = begin(&w, VHOST_USER_STATE_LOAD);
    new = begin(&w, VHOST_USER_STATE_LOAD);
    close(old);
    close(new);
    g_assert_cmphex(check(&w), ==, 0);
    g_assert_cmpuint(w.owner.loads, ==, 2);
    g_assert_cmpuint(w.owner.state_size, ==, 0);
    world_clear(&w);
}

/* Transfers of a VMM that has gone end with it, whatever it waited for. */
static void test_vmm_leaves_in_the_middle(gconstpointer data)
{
    const bool checking = GPOINTER_TO_INT(data);
    VhostUserMessage m = peer_message(VHOST_USER_CHECK_DEVICE_STATE, 0);
    World w;
    int fd;

    world_init(&w);
    fd = begin(&w, VHOST_USER_STATE_LOAD);
    g_assert_true(write_state(fd, 0, 10));
    if (checking) {
        peer_send(w.fd, &m);
        peer_pump();
    }
    close(w.fd);
    peer_pump();
    g_assert_false(w.owner.connected);
    g_assert_false(write_state(fd, 10, 20));
    close(fd);
    vhost_user_server_free(w.server);
    g_assert_cmpuint(w.owner.loads, ==, 0);
    g_assert_cmpuint(peer_count_fds(), ==, w.fds_before);
}

static void test_needs_the_protocol_feature(void)
{
    VhostUserMessage m, reply;
    World w;

    world_init(&w);
    m = peer_u64(VHOST_USER_SET_PROTOCOL_FEATURES, 1u << VHOST_USER_PROTOCOL_F_REPLY_ACK);
    g_assert_cmphex(peer_ack(w.fd, &m), ==, 0);
    g_assert_cmphex(check(&w), ==, 1);
    w.owner.has_state = false;
    m = peer_message(VHOST_USER_GET_PROTOCOL_FEATURES, 0);
    peer_ask(w.fd, &m, &reply);
    m = peer_u64(VHOST_USER_SET_PROTOCOL_FEATURES,
                 reply.payload.u64 | 1u << VHOST_USER_PROTOCOL_F_DEVICE_STATE);
    g_assert_cmphex(peer_ack(w.fd, &m), ==, 1);
    world_clear(&w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    peer_init();
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/vhost-user-state/save", test_save);
    g_test_add_func("/vhost-user-state/load", test_load);
    g_test_add_func("/vhost-user-state/check-overtakes-the-end", test_check_overtakes_the_end);
    g_test_add_func("/vhost-user-state/check-waits-for-the-end", test_check_waits_for_the_end);
    g_test_add_func("/vhost-user-state/state-without-end-is-an-error",
                    test_state_without_end_is_an_error);
    g_test_add_func("/vhost-user-state/refuses-too-long-a-state", test_refuses_too_long_a_state);
    g_test_add_func("/vhost-user-state/reader-that-does-not-read",
                    test_reader_that_does_not_read);
    g_test_add_func("/vhost-user-state/owner-refuses", test_owner_refuses);
    g_test_add_func("/vhost-user-state/refuses-descriptors-that-cannot-be-watched",
                    test_refuses_descriptors_that_cannot_be_watched);
    g_test_add_func("/vhost-user-state/new-transfer-ends-the-last",
                    test_new_transfer_ends_the_last);
    g_test_add_data_func("/vhost-user-state/vmm-leaves-in-the-middle", GINT_TO_POINTER(false),
                         test_vmm_leaves_in_the_middle);
    g_test_add_data_func("/vhost-user-state/vmm-leaves-while-it-waits", GINT_TO_POINTER(true),
                         test_vmm_leaves_in_the_middle);
    g_test_add_func("/vhost-user-state/needs-the-protocol-feature",
                    test_needs_the_protocol_feature);
    return g_test_run();
}
