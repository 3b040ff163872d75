/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user server in a child process, for tests of the client, which waits for its answers.
 */
#ifndef TESTS_LIB_VHOST_USER_CHILD_H
#define TESTS_LIB_VHOST_USER_CHILD_H

#include <sys/types.h>

#include "hw/vhost/vhost-user-client.h"
#include "vhost-user-peer.h"

typedef struct PeerChild {
    pid_t pid;
    int control;        /* 'c': configuration changed; end of file: exit */
    PeerOwner *owner;   /* in memory that we share */
} PeerChild;

PeerChild peer_child_new(const VhostSocketAddress *address);
void peer_child_free(PeerChild *child);

/* A child and a client on a socket pair. */
VhostDevice *peer_child_pair(PeerChild *child);

#endif
