/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A tap device with several queues, in a network namespace of this process's own.
 */
#ifndef TESTS_FUNCTIONAL_VDPA_TAP_H
#define TESTS_FUNCTIONAL_VDPA_TAP_H

#include <glib.h>

/*
 * Enters a new network namespace and makes the tap device @name there, which is up and of which
 * another process of the namespace may open @queues queues.  What is sent to it comes out of the
 * queue that its UDP destination port modulo @queues says.
 */
gboolean tap_create(const char *name, unsigned int queues, GError **errp);

/*
 * Packet sockets for the frames that come in through each of the queues of tap_create(), in the
 * order of the queues; each sends to the device, too.  They also show what the kernel itself sends
 * there, as PACKET_OUTGOING.
 */
gboolean tap_open_sockets(const char *name, int *sockets, unsigned int queues, GError **errp);

#endif
