/* SPDX-License-Identifier: BSD-3-Clause */
/* The vhost-user server in a child process. */
#include "vhost-user-child.h"

#include <glib-unix.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static VhostUserServer *child_server;

static gboolean child_control(gint fd, GIOCondition condition, void *opaque)
{
    char command;

    if (read(fd, &command, 1) != 1) {
        vhost_user_server_free(child_server);
        _exit(0);
    }
    vhost_user_server_config_changed(child_server);
    return G_SOURCE_CONTINUE;
}

/* A child has a copy of our main context: without this it would be the client too. */
static void forget_sources(void)
{
    guint id;

    for (id = 1; id < 100000; id++) {
        GSource *source = g_main_context_find_source_by_id(NULL, id);

        if (source) {
            g_source_destroy(source);
        }
    }
}

PeerChild peer_child_new(const VhostSocketAddress *address)
{
    PeerChild child;
    int fds[2];
    char byte;

    child.owner = mmap(NULL, sizeof(PeerOwner), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(child.owner != MAP_FAILED);
    peer_owner_init(child.owner);
    child.owner->has_state = true;
    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    child.pid = fork();
    if (child.pid == 0) {
        close(fds[0]);
        forget_sources();
        signal(SIGPIPE, SIG_IGN);
        child_server = vhost_user_server_new(address, false, &peer_owner_ops, child.owner, NULL);
        if (!child_server || write(fds[1], "r", 1) != 1) {
            _exit(1);
        }
        g_unix_fd_add(fds[1], G_IO_IN | G_IO_HUP, child_control, NULL);
        for (;;) {
            g_main_context_iteration(NULL, TRUE);
        }
    }
    close(fds[1]);
    child.control = fds[0];
    g_assert_cmpint(read(child.control, &byte, 1), ==, 1);
    return child;
}

void peer_child_free(PeerChild *child)
{
    int status;

    close(child->control);
    g_assert_cmpint(waitpid(child->pid, &status, 0), ==, child->pid);
    g_assert_cmpint(status, ==, 0);
    munmap(child->owner, sizeof(PeerOwner));
}

VhostDevice *peer_child_pair(PeerChild *child)
{
    VhostSocketAddress address = { 0 };
    g_autoptr(GError) err = NULL;
    VhostDevice *dev;
    int fds[2];

    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    address.fd = fds[1];
    *child = peer_child_new(&address);
    close(fds[1]);
    address.fd = fds[0];
    dev = vhost_user_client_new("dev0", &address, &err);
    g_assert_no_error(err);
    g_assert_true(dev->connected);
    return dev;
}
