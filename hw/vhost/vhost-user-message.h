/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user wire: what each message looks like, and how one travels.
 *
 * How it works.  One table says of each request how large its payload may be, how many
 * descriptors it may carry, whether it is answered and which protocol feature it needs.  Both
 * ends check what comes in against the table, and the tests are made from it.  Numbers on the
 * wire are in host order (the two ends share a machine).
 *
 * A message that was received owns the descriptors in it until vhost_user_message_clear()
 * or until somebody takes one with vhost_user_message_take_fd().
 */
#ifndef HW_VHOST_VHOST_USER_MESSAGE_H
#define HW_VHOST_VHOST_USER_MESSAGE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hw/virtio/features.h"

#define VHOST_USER_FLAG_VERSION         0x1u
#define VHOST_USER_FLAG_VERSION_MASK    0x3u
#define VHOST_USER_FLAG_REPLY           0x4u
#define VHOST_USER_FLAG_NEED_REPLY      0x8u

/* Protocol feature bits, the ones that we use. */
#define VHOST_USER_PROTOCOL_F_MQ                    0
#define VHOST_USER_PROTOCOL_F_LOG_SHMFD             1
#define VHOST_USER_PROTOCOL_F_RARP                  2
#define VHOST_USER_PROTOCOL_F_REPLY_ACK             3
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ           5
#define VHOST_USER_PROTOCOL_F_CONFIG                9
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE          13
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS   15
#define VHOST_USER_PROTOCOL_F_STATUS                16
#define VHOST_USER_PROTOCOL_F_DEVICE_STATE          19

/* Front end to back end. */
typedef enum VhostUserRequest {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_RESET_OWNER = 4,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_LOG_BASE = 6,
    VHOST_USER_SET_LOG_FD = 7,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_SEND_RARP = 19,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    VHOST_USER_ADD_MEM_REG = 37,
    VHOST_USER_REM_MEM_REG = 38,
    VHOST_USER_SET_STATUS = 39,
    VHOST_USER_GET_STATUS = 40,
    VHOST_USER_SET_DEVICE_STATE_FD = 42,
    VHOST_USER_CHECK_DEVICE_STATE = 43,
    VHOST_USER_REQUEST_MAX          /* of the table */
} VhostUserRequest;

/* Back end to front end, on the request channel. */
typedef enum VhostUserBackendRequest {
    VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
    VHOST_USER_BACKEND_REQUEST_MAX
} VhostUserBackendRequest;

/* SET_MEM_TABLE has room for so many; more need ADD_MEM_REG. */
#define VHOST_USER_MEM_TABLE_MAX    8
/* No message carries more descriptors than a full SET_MEM_TABLE. */
#define VHOST_USER_FDS_MAX          VHOST_USER_MEM_TABLE_MAX
/* Regions that ADD_MEM_REG may add up to: as many as QEMU ever asks for. */
#define VHOST_USER_SLOTS_MAX        512
#define VHOST_USER_CONFIG_MAX       256
/* SET_VRING_KICK, CALL, ERR: what their u64 means. */
#define VHOST_USER_VRING_INDEX_MASK 0xffu
#define VHOST_USER_VRING_NO_FD      0x100u
#define VHOST_USER_VRINGS_MAX       256
/* In the answer to SET_DEVICE_STATE_FD: whether it was refused, and that no descriptor is in it. */
#define VHOST_USER_STATE_ERROR_MASK 0xffu
#define VHOST_USER_STATE_NO_FD      0x100u
/* What either end takes for a device's state at most; the protocol has no limit. */
#define VHOST_USER_STATE_MAX_BYTES  (256 * 1024)
/* VhostUserVringAddr.flags */
#define VHOST_USER_VRING_F_LOG      0x1u

typedef struct VhostUserHeader {
    uint32_t request;
    uint32_t flags;
    uint32_t size;      /* of the payload, bytes */
} VhostUserHeader;

typedef struct VhostUserVringState {
    uint32_t index;
    uint32_t num;
} VhostUserVringState;

typedef struct VhostUserVringAddr {
    uint32_t index;
    uint32_t flags;
    uint64_t desc;
    uint64_t used;
    uint64_t avail;
    uint64_t log;       /* guest-physical address at which the used ring is logged */
} VhostUserVringAddr;

typedef struct VhostUserRegion {
    uint64_t gpa;
    uint64_t size;
    uint64_t user_addr;
    uint64_t fd_offset;
} VhostUserRegion;

typedef struct VhostUserMemTable {
    uint32_t count;
    uint32_t padding;
    VhostUserRegion regions[VHOST_USER_MEM_TABLE_MAX];
} VhostUserMemTable;

typedef struct VhostUserMemReg {
    uint64_t padding;
    VhostUserRegion region;
} VhostUserMemReg;

typedef struct VhostUserLog {
    uint64_t size;
    uint64_t offset;
} VhostUserLog;

/* Which way a device's state goes: from the back end, or to it. */
typedef enum VhostUserStateDirection {
    VHOST_USER_STATE_SAVE = 0,
    VHOST_USER_STATE_LOAD = 1,
} VhostUserStateDirection;

/* When: the only phase that there is. */
#define VHOST_USER_STATE_STOPPED    0

typedef struct VhostUserDeviceState {
    uint32_t direction;
    uint32_t phase;
} VhostUserDeviceState;

typedef struct VhostUserConfig {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
    uint8_t data[VHOST_USER_CONFIG_MAX];
} VhostUserConfig;

#define VHOST_USER_CONFIG_HEADER_SIZE   offsetof(VhostUserConfig, data)
#define VHOST_USER_MEM_TABLE_SIZE(n)    \
    (offsetof(VhostUserMemTable, regions) + (n) * sizeof(VhostUserRegion))

typedef union VhostUserPayload {
    uint64_t u64;
    VhostUserVringState state;
    VhostUserVringAddr addr;
    VhostUserMemTable mem_table;
    VhostUserMemReg mem_reg;
    VhostUserLog log;
    VhostUserDeviceState device_state;
    VhostUserConfig config;
} VhostUserPayload;

typedef struct VhostUserMessage {
    VhostUserHeader header;
    VhostUserPayload payload;
    int fds[VHOST_USER_FDS_MAX];
    unsigned int n_fds;
} VhostUserMessage;

typedef enum VhostUserReply {
    VHOST_USER_REPLY_ACK,           /* a u64 (0: done), if NEED_REPLY is set and negotiated */
    VHOST_USER_REPLY_ALWAYS_ACK,    /* a u64, asked for or not */
    VHOST_USER_REPLY_BODY,          /* an answer of its own; it has no way to say "failed" */
    VHOST_USER_REPLY_RESULT,        /* a u64, asked for or not; not 0: failed */
    VHOST_USER_REPLY_STATE_FD,      /* a u64 as SET_DEVICE_STATE_FD has it; perhaps a descriptor */
} VhostUserReply;

/* What a message must be like. */
typedef struct VhostUserMessageSpec {
    const char *name;
    uint16_t size_min, size_max;                /* of the payload */
    uint8_t fds_min, fds_max;
    VhostUserReply reply;
    uint16_t reply_size_min, reply_size_max;    /* of the reply's payload, if not ACK */
    uint64_t needs;                             /* protocol features, all of them negotiated */
} VhostUserMessageSpec;

/* NULL: no such message, or none of ours. */
const VhostUserMessageSpec *vhost_user_message_spec(uint32_t request);
const VhostUserMessageSpec *vhost_user_backend_message_spec(uint32_t request);

/* A message's name for people; never NULL. */
const char *vhost_user_message_name(uint32_t request);

/*
 * Checks size, descriptors, the length that a count inside the payload promises, and
 * that what the message needs is in @protocol_features.  True, or false with @errp.
 */
bool vhost_user_message_check(const VhostUserMessage *m, const VhostUserMessageSpec *spec,
                              uint64_t protocol_features, GError **errp);

/* Closes the descriptors that nobody took. */
void vhost_user_message_clear(VhostUserMessage *m);

/* The caller owns it; -1 if there is no descriptor @i any more. */
int vhost_user_message_take_fd(VhostUserMessage *m, unsigned int i);

/* A message that is coming in; all zero at first. */
typedef struct VhostUserReceiver {
    VhostUserMessage message;
    size_t received;        /* bytes of header and payload */
} VhostUserReceiver;

/*
 * Takes what is there of one message and no byte of the next; never blocks.
 * 1: r->message is whole: move it out with vhost_user_receiver_take().  0: more is to come.
 * -ECONNRESET: end of file between messages; other -errno with @errp: the stream
 * is of no use any more.
 */
int vhost_user_receive(VhostUserReceiver *r, int fd, GError **errp);

/* Moves the whole message to @m, and begins the next one. */
void vhost_user_receiver_take(VhostUserReceiver *r, VhostUserMessage *m);

/* Forgets a message that is not whole. */
void vhost_user_receiver_clear(VhostUserReceiver *r);

/*
 * Sends header, payload and descriptors; keeps the descriptors.  Waits at most until
 * @deadline_us (g_get_monotonic_time(); 0: not at all) for room.  0, or -errno; then a part may
 * have been sent, and the connection is of no use any more.
 */
int vhost_user_send(int fd, const VhostUserMessage *m, int64_t deadline_us);

/* Sets @errp to "message: words of @err" and returns -@err. */
int vhost_user_error(GError **errp, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
