/* SPDX-License-Identifier: BSD-3-Clause */
/* The vhost-user message table, and a message's way through a socket. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/vhost-user-peer.h"

static void make_pair(int fds[2])
{
    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
}

static void test_table_is_consistent(void)
{
    unsigned int request, n = 0;

    for (request = 0; request < 2 * VHOST_USER_REQUEST_MAX; request++) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(request);

        if (!spec) {
            g_assert_cmpstr(vhost_user_message_name(request), ==, "unknown message");
            continue;
        }
        n++;
        g_assert_cmpstr(vhost_user_message_name(request), ==, spec->name);
        g_assert_cmpuint(spec->size_min, <=, spec->size_max);
        g_assert_cmpuint(spec->size_max, <=, sizeof(VhostUserPayload));
        g_assert_cmpuint(spec->fds_min, <=, spec->fds_max);
        g_assert_cmpuint(spec->fds_max, <=, VHOST_USER_FDS_MAX);
        g_assert_cmpuint(spec->reply_size_min, <=, spec->reply_size_max);
        g_assert_cmpuint(spec->reply_size_max, <=, sizeof(VhostUserPayload));
        g_assert_cmpint(spec->reply_size_max > 0, ==, spec->reply != VHOST_USER_REPLY_ACK);
        /* Who asks gets a body: every GET_ and nothing else. */
        g_assert_cmpint(g_str_has_prefix(spec->name, "GET_"), ==,
                        spec->reply == VHOST_USER_REPLY_BODY);
    }
    g_assert_cmpuint(n, ==, 30);
    g_assert_null(vhost_user_message_spec(UINT32_MAX));
    g_assert_null(vhost_user_backend_message_spec(UINT32_MAX));
    g_assert_null(vhost_user_backend_message_spec(1));
}

static void test_table_has_known_sizes(void)
{
    static const struct {
        uint32_t request;
        unsigned int min, max;
    } known[] = {
        { VHOST_USER_GET_FEATURES, 0, 0 },
        { VHOST_USER_SET_FEATURES, 8, 8 },
        { VHOST_USER_SET_MEM_TABLE, 8, 264 },
        { VHOST_USER_SET_LOG_BASE, 16, 16 },
        { VHOST_USER_SET_VRING_ADDR, 40, 40 },
        { VHOST_USER_SET_VRING_KICK, 8, 8 },
        { VHOST_USER_GET_CONFIG, 12, 268 },
        { VHOST_USER_ADD_MEM_REG, 40, 40 },
        { VHOST_USER_SET_DEVICE_STATE_FD, 8, 8 },
        { VHOST_USER_CHECK_DEVICE_STATE, 0, 0 },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(known); i++) {
        const VhostUserMessageSpec *spec = vhost_user_message_spec(known[i].request);

        g_assert_cmpuint(spec->size_min, ==, known[i].min);
        g_assert_cmpuint(spec->size_max, ==, known[i].max);
    }
}

static bool passes(const VhostUserMessage *m, uint64_t protocol_features)
{
    g_autoptr(GError) err = NULL;
    bool ok = vhost_user_message_check(m, vhost_user_message_spec(m->header.request),
                                       protocol_features, &err);

    g_assert_cmpint(ok, ==, err == NULL);
    return ok;
}

static void test_check_compares_with_table(void)
{
    VhostUserMessage m = peer_u64(VHOST_USER_SET_STATUS, 0);

    g_assert_true(passes(&m, 1 << VHOST_USER_PROTOCOL_F_STATUS));
    g_assert_false(passes(&m, 0));
    m.header.size = 7;
    g_assert_false(passes(&m, UINT64_MAX));
    m.header.size = 9;
    g_assert_false(passes(&m, UINT64_MAX));
    m.header.size = 8;
    m.n_fds = 1;
    g_assert_false(passes(&m, UINT64_MAX));
}

static void test_check_bounds_counts(void)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_MEM_TABLE, 8 + 2 * 32);

    m.payload.mem_table.count = 2;
    m.n_fds = 2;
    g_assert_true(passes(&m, 0));
    m.header.size = 8 + 8 * 32;     /* User Mode Linux sends more than counts */
    g_assert_true(passes(&m, 0));
    m.header.size = 8 + 32;
    g_assert_false(passes(&m, 0));
    m.header.size = 8 + 2 * 32;
    m.n_fds = 1;
    g_assert_false(passes(&m, 0));
    m.payload.mem_table.count = 0x8000000;  /* times 32 is 0 in 32 bits */
    m.n_fds = 0;
    g_assert_false(passes(&m, 0));

    m = peer_message(VHOST_USER_GET_CONFIG, 12 + 4);
    m.payload.config.size = 4;
    g_assert_true(passes(&m, UINT64_MAX));
    m.payload.config.size = 5;
    g_assert_false(passes(&m, UINT64_MAX));
    m.payload.config.size = UINT32_MAX - 11;    /* plus 12 is 0 in 32 bits */
    m.header.size = 12;
    g_assert_false(passes(&m, UINT64_MAX));
}

static void test_round_trip_carries_descriptors(void)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_MEM_TABLE, 8 + 8 * 32);
    VhostUserReceiver r = { 0 };
    VhostUserMessage got;
    unsigned int i, before = peer_count_fds();
    int fds[2], own;

    make_pair(fds);
    own = eventfd(0, EFD_CLOEXEC);
    m.payload.mem_table.count = 8;
    m.payload.mem_table.regions[7].fd_offset = 0x123456789abcdef0;
    m.n_fds = 8;
    for (i = 0; i < 8; i++) {
        m.fds[i] = own;
    }
    g_assert_cmpint(vhost_user_receive(&r, fds[1], NULL), ==, 0);
    peer_send(fds[0], &m);
    peer_send(fds[0], &m);
    for (i = 0; i < 2; i++) {
        g_assert_cmpint(vhost_user_receive(&r, fds[1], NULL), ==, 1);
        vhost_user_receiver_take(&r, &got);
        g_assert_cmpmem(&got.header, sizeof(got.header), &m.header, sizeof(m.header));
        g_assert_cmpmem(&got.payload, m.header.size, &m.payload, m.header.size);
        g_assert_cmpuint(got.n_fds, ==, 8);
        close(vhost_user_message_take_fd(&got, 3));
        g_assert_cmpint(vhost_user_message_take_fd(&got, 3), ==, -1);
        g_assert_cmpint(vhost_user_message_take_fd(&got, 8), ==, -1);
        vhost_user_message_clear(&got);
    }
    close(fds[0]);
    g_assert_cmpint(vhost_user_receive(&r, fds[1], NULL), ==, -ECONNRESET);
    close(fds[1]);
    close(own);
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

static void test_receive_byte_by_byte(void)
{
    VhostUserMessage m = peer_state(VHOST_USER_SET_VRING_NUM, 3, 256);
    VhostUserReceiver r = { 0 };
    unsigned char wire[20];
    unsigned int i;
    int fds[2];

    make_pair(fds);
    memcpy(wire, &m.header, 12);
    memcpy(wire + 12, &m.payload, 8);
    for (i = 0; i < sizeof(wire); i++) {
        g_assert_cmpint(vhost_user_receive(&r, fds[1], NULL), ==, 0);
        g_assert_cmpint(write(fds[0], &wire[i], 1), ==, 1);
    }
    g_assert_cmpint(vhost_user_receive(&r, fds[1], NULL), ==, 1);
    g_assert_cmpuint(r.message.payload.state.index, ==, 3);
    g_assert_cmpuint(r.message.payload.state.num, ==, 256);
    close(fds[0]);
    close(fds[1]);
}

static void test_receive_refuses_header(void)
{
    static const VhostUserHeader bad[] = {
        { VHOST_USER_GET_FEATURES, 0, 0 },
        { VHOST_USER_GET_FEATURES, 2, 0 },
        { VHOST_USER_GET_FEATURES, 3, 0 },
        { VHOST_USER_GET_FEATURES, 1, sizeof(VhostUserPayload) + 1 },
        { VHOST_USER_GET_FEATURES, 1, UINT32_MAX },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) err = NULL;
        VhostUserReceiver r = { 0 };
        int fds[2];

        make_pair(fds);
        g_assert_cmpint(write(fds[0], &bad[i], sizeof(bad[i])), ==, sizeof(bad[i]));
        g_assert_cmpint(vhost_user_receive(&r, fds[1], &err), ==, -EPROTO);
        g_assert_nonnull(err);
        close(fds[0]);
        close(fds[1]);
    }
}

static void test_send_to_full_socket_fails(void)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_MEM_TABLE, 264);
    int fds[2], ret, size = 4096;

    make_pair(fds);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    do {
        ret = vhost_user_send(fds[0], &m, 0);
    } while (ret == 0);
    g_assert_cmpint(ret, ==, -EAGAIN);
    g_assert_cmpint(vhost_user_send(fds[0], &m, g_get_monotonic_time() + 1000), ==, -EAGAIN);
    close(fds[1]);
    g_assert_cmpint(vhost_user_send(fds[0], &m, 0), ==, -EPIPE);
    close(fds[0]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    peer_init();
    g_test_add_func("/vhost-user-message/table-is-consistent", test_table_is_consistent);
    g_test_add_func("/vhost-user-message/table-has-known-sizes", test_table_has_known_sizes);
    g_test_add_func("/vhost-user-message/check-compares-with-table",
                    test_check_compares_with_table);
    g_test_add_func("/vhost-user-message/check-bounds-counts", test_check_bounds_counts);
    g_test_add_func("/vhost-user-message/round-trip-carries-descriptors",
                    test_round_trip_carries_descriptors);
    g_test_add_func("/vhost-user-message/receive-byte-by-byte", test_receive_byte_by_byte);
    g_test_add_func("/vhost-user-message/receive-refuses-header", test_receive_refuses_header);
    g_test_add_func("/vhost-user-message/send-to-full-socket-fails",
                    test_send_to_full_socket_fails);
    return g_test_run();
}
