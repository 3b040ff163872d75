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

/*
 * What a VMM asks of a back end for a live migration.  These are not among the ops: svqd logs
 * itself.  0, or -errno with @errp.
 */

/* Whether it can log the pages that it writes, and tells when it has begun and ceased to. */
bool vhost_user_client_can_log(const VhostDevice *dev);

/* The first @size bytes of @fd have a bit for each page of the device's memory.  Borrowed. */
int vhost_user_client_set_log(VhostDevice *dev, int fd, uint64_t size, GError **errp);

/* @features: as they are set.  Rings may be running. */
int vhost_user_client_set_logging(VhostDevice *dev, uint64_t features, bool on, GError **errp);

/* Whether its own state can be saved and loaded (DEVICE_STATE). */
bool vhost_user_client_has_state(const VhostDevice *dev);

/*
 * Its state, while no ring is running.  NULL and @errp: it is refused, or not done in
 * VHOST_DEVICE_TIMEOUT_MS; the connection stays.  Needs a process that ignores SIGPIPE, as does:
 */
GBytes *vhost_user_client_save_state(VhostDevice *dev, GError **errp);

/* Before any ring is started. */
int vhost_user_client_load_state(VhostDevice *dev, GBytes *state, GError **errp);

#endif
