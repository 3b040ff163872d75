/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logging by a vhost-user back end, as a VMM asks for it.
 *
 * What is asked for is answered by REPLY_ACK, so that it is known when it has been done.
 */
#include "hw/virtio/features.h"
#include "vhost-user-client-internal.h"

bool vhost_user_client_can_log(const VhostDevice *dev)
{
    const VhostUserClient *c = (const VhostUserClient *)dev;

    return c->offered & VIRTIO_F_BIT(VHOST_F_LOG_ALL) &&
           vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_LOG_SHMFD) &&
           vhost_user_client_has(c, VHOST_USER_PROTOCOL_F_REPLY_ACK);
}

int vhost_user_client_set_log(VhostDevice *dev, int fd, uint64_t size, GError **errp)
{
    VhostUserMessage m = vhost_user_client_message(VHOST_USER_SET_LOG_BASE);

    m.header.size = sizeof(m.payload.log);
    m.payload.log.size = size;
    m.fds[m.n_fds++] = fd;
    return vhost_user_client_request((VhostUserClient *)dev, &m, NULL, errp);
}

int vhost_user_client_set_logging(VhostDevice *dev, uint64_t features, bool on, GError **errp)
{
    VhostUserClient *c = (VhostUserClient *)dev;

    features |= c->offered & VIRTIO_F_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
    features |= on ? VIRTIO_F_BIT(VHOST_F_LOG_ALL) : 0;
    return vhost_user_client_request_u64(c, VHOST_USER_SET_FEATURES, features, errp);
}
