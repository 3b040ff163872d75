/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the vhost-user server share: its state, and the handlers of messages.
 */
#ifndef HW_VHOST_VHOST_USER_SERVER_INTERNAL_H
#define HW_VHOST_VHOST_USER_SERVER_INTERNAL_H

#include "hw/vhost/vhost-user-server.h"
#include "vhost-user-message.h"

/* The regions that the owner was told of last. */
typedef struct VhostUserMemory {
    MemoryRegion *regions[VHOST_USER_SLOTS_MAX];
    unsigned int n;
} VhostUserMemory;

/* The device's state on its way; see vhost-user-server-state.c. */
typedef struct VhostUserTransfer {
    int fd;                         /* -1: none is under way */
    guint watch;                    /* of fd */
    GBytes *saved;                  /* what is written to fd; NULL unless it is saved */
    size_t written;
    GByteArray *loaded;             /* what was read from fd; NULL unless it is loaded */
    GError *error;                  /* why the last one failed */
    bool done;                      /* the last one succeeded */
    guint check_timer;              /* the VMM waits for the answer to CHECK_DEVICE_STATE */
} VhostUserTransfer;

struct VhostUserServer {
    const VhostUserServerOps *ops;
    void *opaque;
    VhostSocket *socket;

    /* The connection. */
    int fd;                         /* -1: none */
    guint watch;                    /* of fd */
    VhostUserReceiver receiver;
    uint64_t features;              /* as SET_FEATURES said last, bit 30 included */
    uint64_t protocol_features;     /* negotiated */
    int backend_fd;                 /* request channel; -1: none */
    VhostUserMemory memory;
    MemoryRegion *log;              /* dirty log: "gpa" 0 is its first byte; NULL: none */
    VhostUserTransfer transfer;
    bool warned;                    /* of a message that was answered with an error */
};

/*
 * Does what @m asks for; takes the descriptors that it keeps.  A message that has a body for an
 * answer gets it in reply->payload, reply->header.size bytes.  0, or -errno with @errp.
 * VHOST_USER_LATER: vhost_user_server_answer_later() will be called; until then
 * no message is taken.
 */
#define VHOST_USER_LATER    1
typedef int VhostUserHandler(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                             GError **errp);

/* NULL: no such message. */
VhostUserHandler *vhost_user_server_handler(uint32_t request);

/* What became of @request, which was to be answered later: 0, or -errno with @err, which it owns */
void vhost_user_server_answer_later(VhostUserServer *s, uint32_t request, int ret, GError *err);

/* Protocol features that the back end offers. */
uint64_t vhost_user_server_protocol_features(VhostUserServer *s);

/* vhost-user-server-memory.c */
VhostUserHandler vhost_user_server_set_mem_table;
VhostUserHandler vhost_user_server_add_mem_reg;
VhostUserHandler vhost_user_server_rem_mem_reg;
VhostUserHandler vhost_user_server_get_max_mem_slots;
VhostUserHandler vhost_user_server_set_log_base;

/* vhost-user-server-state.c */
VhostUserHandler vhost_user_server_set_device_state_fd;
VhostUserHandler vhost_user_server_check_device_state;

/* Ends what is under way, and forgets how the last transfer ended. */
void vhost_user_server_clear_transfer(VhostUserServer *s);

/* Forgets regions and log; the owner is not told. */
void vhost_user_server_clear_memory(VhostUserServer *s);

#endif
