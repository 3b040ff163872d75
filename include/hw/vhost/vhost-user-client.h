/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front end of a vhost-user connection, towards a device: a VhostDevice.
 *
 * It is also the guest side of svq-bench: a VMM without a VM.
 */
#ifndef HW_VHOST_VHOST_USER_CLIENT_H
#define HW_VHOST_VHOST_USER_CLIENT_H

#include "hw/vhost/vhost-device.h"
#include "hw/vhost/vhost-socket.h"

/*
 * Connects to (or awaits) a vhost-user back end.  The device becomes connected, and
 * notify->ready is called, once the handshake (owner, features, protocol features, queue count) is
 * done, perhaps before this returns: ask dev->connected after setting dev->notify.
 * NULL and @errp: no peer and no reconnect, or the handshake failed.
 */
VhostDevice *vhost_user_client_new(const char *id, const VhostSocketAddress *address,
                                   GError **errp);

#endif
