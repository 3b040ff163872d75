/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzes the vhost-user server with byte streams and descriptors.
 *
 * The input is a row of chunks, sent one after the other down one connection:
 *   byte 0   bits 0..3: how many descriptors go with it (0 to 15); bits 4, 5: of which kind;
 *            bit 6: the configuration changes after it; bit 7: the server works before the next
 *   byte 1   bytes that follow, fewer at the end of the input
 * A descriptor is an eventfd, a memory file, a pipe (both of its ends) that nobody else reads, or a
 * socket from which the whole input can be read, and then end of file.
 * The owner asserts what the server promises (indexes in range, regions within the limit);
 * we assert that no descriptor stays open.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/vhost-user-peer.h"

enum { EVENT, MEMORY, PIPE, SOCKET, KINDS, FDS_MAX = 15 };

/* More than a pipe holds. */
#define STATE_SIZE 70000

static int files[KINDS];

static void silence(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
}

static void set_up(void)
{
    g_log_set_handler("svq", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_INFO, silence, NULL);
    signal(SIGPIPE, SIG_IGN);
    files[EVENT] = eventfd(0, EFD_CLOEXEC);
    files[MEMORY] = peer_memfd(0x10000);
    peer_pump();
}

/* Those that an input changes. */
static void open_files(const uint8_t *data, size_t size)
{
    char path[32];
    int fds[2];

    g_assert_no_errno(pipe2(fds, O_CLOEXEC));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
    files[PIPE] = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    g_assert_cmpint(files[PIPE], >=, 0);
    close(fds[0]);
    close(fds[1]);
    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
    files[SOCKET] = fds[1];
    g_assert_cmpint(send(fds[0], data, size, MSG_NOSIGNAL | MSG_DONTWAIT), <=, (ssize_t)size);
    close(fds[0]);
}

/* False: the server has hung up, or its socket is full. */
static bool send_chunk(int fd, uint8_t control, const uint8_t *data, size_t size)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } ancillary;
    unsigned int n = control & 0xf, i;
    struct iovec iov = { (void *)data, size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n > 0) {
        struct cmsghdr *cmsg;

        memset(&ancillary, 0, sizeof(ancillary));
        msg.msg_control = &ancillary;
        msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
        for (i = 0; i < n; i++) {
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &files[control >> 4 & 3], sizeof(int));
        }
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* A number that is the same as last time if nothing was left open. */
static int next_fd(void)
{
    int fd = dup(files[EVENT]);

    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    VhostUserServer *server;
    PeerOwner owner;
    int fd, before;

    if (files[EVENT] == 0) {
        set_up();
    }
    before = next_fd();
    open_files(data, size);
    peer_owner_init(&owner);
    owner.has_state = true;
    owner.state_size = STATE_SIZE;
    fd = peer_serve(&owner, &server);
    while (size > 2) {
        uint8_t control = data[0];
        size_t n = MIN(data[1], size - 2);

        if (n > 0 && !send_chunk(fd, control, data + 2, n)) {
            break;
        }
        if (control & 0x40) {
            vhost_user_server_config_changed(server);
        }
        if (control & 0x80) {
            peer_pump();
        }
        data += 2 + n;
        size -= 2 + n;
    }
    peer_pump();
    close(fd);
    peer_pump();
    g_assert_false(owner.connected);
    g_assert_cmpuint(owner.connections, ==, 1);
    vhost_user_server_free(server);
    close(files[PIPE]);
    close(files[SOCKET]);
    g_assert_cmpint(next_fd(), ==, before);
    return 0;
}
