/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the vhost-user client share: its state, and how it asks the back end.
 */
#ifndef HW_VHOST_VHOST_USER_CLIENT_INTERNAL_H
#define HW_VHOST_VHOST_USER_CLIENT_INTERNAL_H

#include <sys/types.h>

#include "hw/vhost/vhost-user-client.h"
#include "vhost-user-message.h"

/* A region that the back end was told of. */
typedef struct VhostUserSentRegion {
    VhostUserRegion wire;
    /* Its file: the back end maps it, so no other file gets this number meanwhile. */
    dev_t dev;
    ino_t ino;
} VhostUserSentRegion;

typedef struct VhostUserClient {
    VhostDevice dev;
    VhostSocket *socket;            /* NULL until the first connection was tried */

    /* The connection. */
    int fd;                         /* -1: none; then every op fails with -ENOTCONN */
    guint watch;                    /* of fd */
    VhostUserReceiver receiver;
    uint64_t offered;               /* GET_FEATURES as it came, vhost bits included */
    uint64_t protocol_features;     /* negotiated */
    bool packed;                    /* the features set last have VIRTIO_F_RING_PACKED */
    bool started[VHOST_USER_VRINGS_MAX];
    VhostUserSentRegion *sent;
    unsigned int n_sent;

    /* Requests of the back end. */
    int backend_fd;                 /* our end of the channel; -1: none */
    guint backend_watch;
    VhostUserReceiver backend_receiver;
    bool warned;                    /* of a request that we do not know */

    /* What is to be told from the main loop. */
    guint notify_source;
    bool lost;
    bool was_ready;                 /* when it was lost */
    bool config_changed;
} VhostUserClient;

/* How long a back end may take to answer; the tests make it short. */
extern int vhost_user_client_timeout_ms;

extern const VhostDeviceOps vhost_user_client_ops;
void vhost_user_client_free(VhostDevice *dev);

bool vhost_user_client_has(const VhostUserClient *c, unsigned int protocol_feature);

/* A message without payload. */
VhostUserMessage vhost_user_client_message(uint32_t request);

/*
 * Sends @m and awaits its answer if it has one, or if REPLY_ACK allows to ask for one.  @reply
 * gets a body, if the message is answered with one, and owns what descriptor is in it.
 * -EREMOTEIO: the back end refused; -ENOTCONN: it is gone, or just went for not answering in
 * time or as it should.
 */
int vhost_user_client_request(VhostUserClient *c, VhostUserMessage *m, VhostUserMessage *reply,
                              GError **errp);

int vhost_user_client_request_u64(VhostUserClient *c, uint32_t request, uint64_t value,
                                  GError **errp);
int vhost_user_client_get_u64(VhostUserClient *c, uint32_t request, uint64_t *value,
                              GError **errp);
int vhost_user_client_request_state(VhostUserClient *c, uint32_t request, uint32_t index,
                                    uint32_t num, GError **errp);

/* vhost-user-client-channel.c: the channel for the back end's own requests. */
int vhost_user_client_open_channel(VhostUserClient *c, GError **errp);
void vhost_user_client_close_channel(VhostUserClient *c);

/* Handles what the back end asks for.  False: it cannot be trusted; the channel is closed. */
bool vhost_user_client_serve_channel(VhostUserClient *c);

/* Has notify->config_changed called from the main loop. */
void vhost_user_client_config_changed(VhostUserClient *c);

/* Cuts the back end off; notify->gone comes from the main loop. */
void vhost_user_client_lose(VhostUserClient *c, const char *why);

#endif
