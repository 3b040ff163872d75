/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user message table, and sending and receiving one message.
 */
#include "vhost-user-message.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEEDS(feature)  (UINT64_C(1) << VHOST_USER_PROTOCOL_F_##feature)
#define U64             sizeof(uint64_t)
#define STATE           sizeof(VhostUserVringState)
#define CONFIG_MIN      VHOST_USER_CONFIG_HEADER_SIZE
#define CONFIG_MAX      (CONFIG_MIN + VHOST_USER_CONFIG_MAX)

#define ACK             VHOST_USER_REPLY_ACK, 0, 0
#define ALWAYS_ACK      VHOST_USER_REPLY_ALWAYS_ACK, U64, U64
#define BODY(size)      VHOST_USER_REPLY_BODY, size, size
#define RESULT          VHOST_USER_REPLY_RESULT, U64, U64
#define STATE_FD        VHOST_USER_REPLY_STATE_FD, U64, U64

#define MESSAGE(request)    [VHOST_USER_##request] = { #request,

/*
 * Sizes that leave room:
 * SET_MEM_TABLE may be longer than its count says (User Mode Linux sends its whole array).
 * SET_LOG_FD has no payload by the specification, but a u64 with old front ends.
 * REM_MEM_REG should carry no descriptor but does with some front ends.
 * GET_CONFIG's reply is empty if the back end has no such bytes.
 *
 * SET_LOG_BASE is answered with a u64: QEMU waits for an answer, asked for or not, and takes any
 * size; rust-vmm's front end asks for it and wants a u64.
 *
 * SET_VRING_ENABLE does not need feature bit 30 negotiated: QEMU sends it before SET_FEATURES.
 */
static const VhostUserMessageSpec specs[VHOST_USER_REQUEST_MAX] = {
    /*                               payload                    fds    reply       needs */
    MESSAGE(GET_FEATURES)            0, 0,                      0, 0,  BODY(U64),  0 },
    MESSAGE(SET_FEATURES)            U64, U64,                  0, 0,  ACK,        0 },
    MESSAGE(SET_OWNER)               0, 0,                      0, 0,  ACK,        0 },
    MESSAGE(RESET_OWNER)             0, 0,                      0, 0,  ACK,        0 },
    MESSAGE(SET_MEM_TABLE)           VHOST_USER_MEM_TABLE_SIZE(0),
                                     VHOST_USER_MEM_TABLE_SIZE(VHOST_USER_MEM_TABLE_MAX),
                                                                0, VHOST_USER_MEM_TABLE_MAX,
                                                                       ACK,        0 },
    MESSAGE(SET_LOG_BASE)            sizeof(VhostUserLog), sizeof(VhostUserLog),
                                                                1, 1,  ALWAYS_ACK,
                                                                       NEEDS(LOG_SHMFD) },
    MESSAGE(SET_LOG_FD)              0, U64,                    1, 1,  ACK,        0 },
    MESSAGE(SET_VRING_NUM)           STATE, STATE,              0, 0,  ACK,        0 },
    MESSAGE(SET_VRING_ADDR)          sizeof(VhostUserVringAddr), sizeof(VhostUserVringAddr),
                                                                0, 0,  ACK,        0 },
    MESSAGE(SET_VRING_BASE)          STATE, STATE,              0, 0,  ACK,        0 },
    MESSAGE(GET_VRING_BASE)          STATE, STATE,              0, 0,  BODY(STATE), 0 },
    MESSAGE(SET_VRING_KICK)          U64, U64,                  0, 1,  ACK,        0 },
    MESSAGE(SET_VRING_CALL)          U64, U64,                  0, 1,  ACK,        0 },
    MESSAGE(SET_VRING_ERR)           U64, U64,                  0, 1,  ACK,        0 },
    MESSAGE(GET_PROTOCOL_FEATURES)   0, 0,                      0, 0,  BODY(U64),  0 },
    MESSAGE(SET_PROTOCOL_FEATURES)   U64, U64,                  0, 0,  ACK,        0 },
    MESSAGE(GET_QUEUE_NUM)           0, 0,                      0, 0,  BODY(U64),  NEEDS(MQ) },
    MESSAGE(SET_VRING_ENABLE)        STATE, STATE,              0, 0,  ACK,        0 },
    MESSAGE(SEND_RARP)               U64, U64,                  0, 0,  ACK,        NEEDS(RARP) },
    MESSAGE(SET_BACKEND_REQ_FD)      0, 0,                      1, 1,  ACK,
                                                                       NEEDS(BACKEND_REQ) },
    MESSAGE(GET_CONFIG)              CONFIG_MIN, CONFIG_MAX,    0, 0,
                                     VHOST_USER_REPLY_BODY, 0, CONFIG_MAX,
                                                                       NEEDS(CONFIG) },
    MESSAGE(SET_CONFIG)              CONFIG_MIN, CONFIG_MAX,    0, 0,  ACK,        NEEDS(CONFIG) },
    MESSAGE(RESET_DEVICE)            0, 0,                      0, 0,  ACK,
                                                                       NEEDS(RESET_DEVICE) },
    MESSAGE(GET_MAX_MEM_SLOTS)       0, 0,                      0, 0,  BODY(U64),
                                                                       NEEDS(CONFIGURE_MEM_SLOTS) },
    MESSAGE(ADD_MEM_REG)             sizeof(VhostUserMemReg), sizeof(VhostUserMemReg),
                                                                1, 1,  ACK,
                                                                       NEEDS(CONFIGURE_MEM_SLOTS) },
    MESSAGE(REM_MEM_REG)             sizeof(VhostUserMemReg), sizeof(VhostUserMemReg),
                                                                0, 1,  ACK,
                                                                       NEEDS(CONFIGURE_MEM_SLOTS) },
    MESSAGE(SET_STATUS)              U64, U64,                  0, 0,  ACK,        NEEDS(STATUS) },
    MESSAGE(GET_STATUS)              0, 0,                      0, 0,  BODY(U64),  NEEDS(STATUS) },
    MESSAGE(SET_DEVICE_STATE_FD)     sizeof(VhostUserDeviceState),
                                     sizeof(VhostUserDeviceState),
                                                                1, 1,  STATE_FD,
                                                                       NEEDS(DEVICE_STATE) },
    MESSAGE(CHECK_DEVICE_STATE)      0, 0,                      0, 0,  RESULT,
                                                                       NEEDS(DEVICE_STATE) },
};

static const VhostUserMessageSpec backend_specs[VHOST_USER_BACKEND_REQUEST_MAX] = {
    MESSAGE(BACKEND_CONFIG_CHANGE_MSG) 0, 0,                    0, 0,  ACK,        NEEDS(CONFIG) },
};

G_STATIC_ASSERT(sizeof(VhostUserHeader) == 12);
G_STATIC_ASSERT(sizeof(VhostUserVringAddr) == 40);
G_STATIC_ASSERT(sizeof(VhostUserMemTable) == 264);
G_STATIC_ASSERT(sizeof(VhostUserMemReg) == 40);
G_STATIC_ASSERT(sizeof(VhostUserConfig) == 268);

const VhostUserMessageSpec *vhost_user_message_spec(uint32_t request)
{
    return request < VHOST_USER_REQUEST_MAX && specs[request].name ? &specs[request] : NULL;
}

const VhostUserMessageSpec *vhost_user_backend_message_spec(uint32_t request)
{
    return request < VHOST_USER_BACKEND_REQUEST_MAX && backend_specs[request].name
               ? &backend_specs[request]
               : NULL;
}

const char *vhost_user_message_name(uint32_t request)
{
    const VhostUserMessageSpec *spec = vhost_user_message_spec(request);

    return spec ? spec->name : "unknown message";
}

int vhost_user_error(GError **errp, int err, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(err), "%s: %s", text, g_strerror(err));
    return -err;
}

/* The payload that the count inside it promises is there. */
static bool payload_holds_count(const VhostUserMessage *m, GError **errp)
{
    const VhostUserMemTable *table = &m->payload.mem_table;
    const VhostUserConfig *config = &m->payload.config;

    switch (m->header.request) {
    case VHOST_USER_SET_MEM_TABLE:
        if (table->count > VHOST_USER_MEM_TABLE_MAX ||
            m->header.size < VHOST_USER_MEM_TABLE_SIZE(table->count)) {
            vhost_user_error(errp, EPROTO, "%" PRIu32 " regions in a payload of %" PRIu32 " bytes",
                             table->count, m->header.size);
            return false;
        }
        if (table->count != m->n_fds) {
            vhost_user_error(errp, EPROTO, "%" PRIu32 " regions with %u descriptors",
                             table->count, m->n_fds);
            return false;
        }
        return true;
    case VHOST_USER_GET_CONFIG:
    case VHOST_USER_SET_CONFIG:
        if (config->size > VHOST_USER_CONFIG_MAX ||
            m->header.size != VHOST_USER_CONFIG_HEADER_SIZE + config->size) {
            vhost_user_error(errp, EPROTO,
                             "%" PRIu32 " configuration bytes in a payload of %" PRIu32 " bytes",
                             config->size, m->header.size);
            return false;
        }
        return true;
    default:
        return true;
    }
}

bool vhost_user_message_check(const VhostUserMessage *m, const VhostUserMessageSpec *spec,
                              uint64_t protocol_features, GError **errp)
{
    if (m->header.size < spec->size_min || m->header.size > spec->size_max) {
        vhost_user_error(errp, EPROTO, "payload of %" PRIu32 " bytes, expected %u to %u",
                         m->header.size, spec->size_min, spec->size_max);
        return false;
    }
    if (m->n_fds < spec->fds_min || m->n_fds > spec->fds_max) {
        vhost_user_error(errp, EPROTO, "%u descriptors, expected %u to %u", m->n_fds,
                         spec->fds_min, spec->fds_max);
        return false;
    }
    if ((protocol_features & spec->needs) != spec->needs) {
        vhost_user_error(errp, EPROTO, "protocol feature 0x%" PRIx64 " is not negotiated",
                         spec->needs & ~protocol_features);
        return false;
    }
    return payload_holds_count(m, errp);
}

void vhost_user_message_clear(VhostUserMessage *m)
{
    unsigned int i;

    for (i = 0; i < m->n_fds; i++) {
        if (m->fds[i] >= 0) {
            close(m->fds[i]);
        }
    }
    m->n_fds = 0;
}

int vhost_user_message_take_fd(VhostUserMessage *m, unsigned int i)
{
    int fd;

    if (i >= m->n_fds) {
        return -1;
    }
    fd = m->fds[i];
    m->fds[i] = -1;
    return fd;
}

/*
 * Adds what @msg brought to @m.  A peer may spread descriptors over the bytes of one
 * message, hence "adds".  False: too many; all that came are closed.
 */
static bool collect_fds(VhostUserMessage *m, struct msghdr *msg)
{
    bool fits = !(msg->msg_flags & MSG_CTRUNC);     /* the kernel has closed the rest */
    struct cmsghdr *cmsg;

    for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        const unsigned char *data = CMSG_DATA(cmsg);
        size_t i, n;

        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, data + i * sizeof(int), sizeof(int));
            if (m->n_fds < VHOST_USER_FDS_MAX) {
                m->fds[m->n_fds++] = fd;
            } else {
                close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

/* Reads at most @size bytes to @data.  As read(2), but -errno, and -EPROTO with too many fds. */
static ssize_t receive_some(VhostUserMessage *m, int fd, void *data, size_t size)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(VHOST_USER_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = data, .iov_len = size };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n;

    do {
        n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    return collect_fds(m, &msg) ? n : -EPROTO;
}

static int check_header(const VhostUserHeader *h, GError **errp)
{
    if ((h->flags & VHOST_USER_FLAG_VERSION_MASK) != VHOST_USER_FLAG_VERSION) {
        return vhost_user_error(errp, EPROTO, "message %" PRIu32 " has flags 0x%" PRIx32
                                ", not version 1", h->request, h->flags);
    }
    if (h->size > sizeof(VhostUserPayload)) {
        return vhost_user_error(errp, EPROTO, "message %" PRIu32 " announces %" PRIu32
                                " bytes of payload", h->request, h->size);
    }
    return 0;
}

int vhost_user_receive(VhostUserReceiver *r, int fd, GError **errp)
{
    VhostUserMessage *m = &r->message;

    for (;;) {
        bool in_header = r->received < sizeof(m->header);
        size_t begin = in_header ? 0 : sizeof(m->header);
        size_t end = in_header ? sizeof(m->header) : begin + m->header.size;
        char *part = in_header ? (char *)&m->header : (char *)&m->payload;
        ssize_t n;

        if (!in_header && r->received == end) {
            return 1;
        }
        n = receive_some(m, fd, part + (r->received - begin), end - r->received);
        if (n == -EAGAIN || n == -EWOULDBLOCK) {
            return 0;
        }
        /* A peer that goes without reading our last answer resets the connection. */
        if (n == -ECONNRESET) {
            n = 0;
        }
        if (n == 0 && r->received == 0) {
            return -ECONNRESET;
        }
        if (n == 0) {
            return vhost_user_error(errp, EPROTO, "connection ends inside a message");
        }
        if (n == -EPROTO) {
            return vhost_user_error(errp, EPROTO, "more than %d descriptors, or no room for them",
                                    VHOST_USER_FDS_MAX);
        }
        if (n < 0) {
            return vhost_user_error(errp, (int)-n, "cannot receive");
        }
        r->received += (size_t)n;
        if (in_header && r->received == sizeof(m->header) && check_header(&m->header, errp) < 0) {
            return -EPROTO;
        }
    }
}

void vhost_user_receiver_take(VhostUserReceiver *r, VhostUserMessage *m)
{
    *m = r->message;
    memset(r, 0, sizeof(*r));
}

void vhost_user_receiver_clear(VhostUserReceiver *r)
{
    vhost_user_message_clear(&r->message);
    memset(r, 0, sizeof(*r));
}

static bool wait_for_room(int fd, int64_t deadline_us)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    int64_t left_us = deadline_us - g_get_monotonic_time();

    if (deadline_us == 0 || left_us <= 0) {
        return false;
    }
    return poll(&p, 1, (int)((left_us + 999) / 1000)) >= 0 || errno == EINTR;
}

static void attach_fds(struct msghdr *msg, const VhostUserMessage *m, void *space, size_t size)
{
    struct cmsghdr *cmsg;

    memset(space, 0, size);
    msg->msg_control = space;
    msg->msg_controllen = CMSG_SPACE(m->n_fds * sizeof(int));
    cmsg = CMSG_FIRSTHDR(msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(m->n_fds * sizeof(int));
    memcpy(CMSG_DATA(cmsg), m->fds, m->n_fds * sizeof(int));
}

int vhost_user_send(int fd, const VhostUserMessage *m, int64_t deadline_us)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(VHOST_USER_FDS_MAX * sizeof(int))];
    } control;
    char wire[sizeof(VhostUserHeader) + sizeof(VhostUserPayload)];
    size_t size = sizeof(m->header) + m->header.size;
    size_t sent = 0;

    g_assert(m->header.size <= sizeof(m->payload) && m->n_fds <= VHOST_USER_FDS_MAX);
    memcpy(wire, &m->header, sizeof(m->header));
    memcpy(wire + sizeof(m->header), &m->payload, m->header.size);

    while (sent < size) {
        struct iovec iov = { .iov_base = wire + sent, .iov_len = size - sent };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (sent == 0 && m->n_fds > 0) {
            attach_fds(&msg, m, control.space, sizeof(control.space));
        }
        n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            sent += (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for_room(fd, deadline_us)) {
                return -EAGAIN;
            }
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}
