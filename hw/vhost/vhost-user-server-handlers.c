/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What each vhost-user message does to the device behind the server, memory aside.
 *
 * Payload size and number of descriptors were checked against the message table before a
 * handler runs.  A ring index is compared in full width before it is used
 * (CVE-2020-10723: 0x10000 is not ring 0).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "vhost-user-server-internal.h"

#define BIT(n)  (UINT64_C(1) << (n))

static int check_index(VhostUserServer *s, uint64_t index, GError **errp)
{
    uint32_t count = s->ops->get_queue_count(s->opaque);

    if (index >= count) {
        return vhost_user_error(errp, EINVAL, "virtqueue 0x%" PRIx64 " of %" PRIu32, index, count);
    }
    return 0;
}

static void reply_u64(VhostUserMessage *reply, uint64_t value)
{
    reply->payload.u64 = value;
    reply->header.size = sizeof(value);
}

static uint64_t offered_features(VhostUserServer *s)
{
    return s->ops->get_features(s->opaque) | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static int get_features(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                        GError **errp)
{
    reply_u64(reply, offered_features(s));
    return 0;
}

/*
 * Comes more than once: QEMU sends it for each queue pair, and again to log.  User Mode Linux
 * leaves bit 30 out the second time; that changes how rings start, not what
 * protocol features were agreed on.
 */
static int set_features(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                        GError **errp)
{
    uint64_t features = m->payload.u64;
    uint64_t unknown = features & ~offered_features(s);
    int ret;

    if (unknown) {
        return vhost_user_error(errp, EINVAL, "features 0x%" PRIx64 " were not offered", unknown);
    }
    ret = s->ops->set_features(s->opaque, features & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES), errp);
    if (ret == 0) {
        s->features = features;
    }
    return ret;
}

static int get_protocol_features(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                                 GError **errp)
{
    reply_u64(reply, vhost_user_server_protocol_features(s));
    return 0;
}

static int set_protocol_features(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                                 GError **errp)
{
    uint64_t unknown = m->payload.u64 & ~vhost_user_server_protocol_features(s);

    if (unknown) {
        return vhost_user_error(errp, EINVAL, "protocol features 0x%" PRIx64 " were not offered",
                                unknown);
    }
    s->protocol_features = m->payload.u64;
    return 0;
}

/* Nothing to do: the connection says who owns us.  SET_LOG_FD: nobody needs to be told. */
static int ignore(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply, GError **errp)
{
    return 0;
}

static int reset(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply, GError **errp)
{
    int ret = s->ops->reset(s->opaque, errp);

    if (ret == 0) {
        s->features = 0;
    }
    return ret;
}

static int get_queue_num(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                         GError **errp)
{
    reply_u64(reply, s->ops->get_queue_num ? s->ops->get_queue_num(s->opaque)
                                           : s->ops->get_queue_count(s->opaque));
    return 0;
}

static int set_vring_num(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                         GError **errp)
{
    const VhostUserVringState *state = &m->payload.state;
    int ret = check_index(s, state->index, errp);

    return ret < 0 ? ret : s->ops->set_vring_num(s->opaque, state->index, state->num, errp);
}

static int set_vring_addr(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                          GError **errp)
{
    const VhostUserVringAddr *wire = &m->payload.addr;
    VhostVringAddr addr = {
        .desc = wire->desc,
        .avail = wire->avail,
        .used = wire->used,
        .log = wire->flags & VHOST_USER_VRING_F_LOG,
        .log_gpa = wire->log,
    };
    int ret = check_index(s, wire->index, errp);

    return ret < 0 ? ret : s->ops->set_vring_addr(s->opaque, wire->index, &addr, errp);
}

static int set_vring_base(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                          GError **errp)
{
    const VhostUserVringState *state = &m->payload.state;
    int ret = check_index(s, state->index, errp);

    return ret < 0 ? ret : s->ops->set_vring_base(s->opaque, state->index, state->num, errp);
}

/* num in the request is stale garbage with DPDK's virtio-user. */
static int get_vring_base(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                          GError **errp)
{
    uint32_t index = m->payload.state.index;
    uint32_t base = 0;
    int ret = check_index(s, index, errp);

    if (ret == 0) {
        ret = s->ops->get_vring_base(s->opaque, index, &base, errp);
    }
    if (ret == 0) {
        reply->payload.state.index = index;
        reply->payload.state.num = base;
        reply->header.size = sizeof(reply->payload.state);
    }
    return ret;
}

static int set_vring_fd(VhostUserServer *s, VhostUserMessage *m, VhostVringFd which,
                        GError **errp)
{
    uint64_t index = m->payload.u64 & ~(uint64_t)VHOST_USER_VRING_NO_FD;
    bool none = m->payload.u64 & VHOST_USER_VRING_NO_FD;
    int ret = check_index(s, index, errp);

    if (ret < 0) {
        return ret;
    }
    if (none != (m->n_fds == 0)) {
        return vhost_user_error(errp, EPROTO, "0x%" PRIx64 " with %u descriptors", m->payload.u64,
                                m->n_fds);
    }
    return s->ops->set_vring_fd(s->opaque, (unsigned int)index, which,
                                vhost_user_message_take_fd(m, 0), errp);
}

/* Without feature bit 30 nobody says ENABLE: the kick descriptor is what starts a ring. */
static int set_vring_kick(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                          GError **errp)
{
    int ret = set_vring_fd(s, m, VHOST_VRING_KICK, errp);

    if (ret < 0 || s->features & BIT(VHOST_USER_F_PROTOCOL_FEATURES)) {
        return ret;
    }
    return s->ops->set_vring_enable(s->opaque, m->payload.u64 & VHOST_USER_VRING_INDEX_MASK, true,
                                    errp);
}

static int set_vring_call(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                          GError **errp)
{
    return set_vring_fd(s, m, VHOST_VRING_CALL, errp);
}

static int set_vring_err(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                         GError **errp)
{
    return set_vring_fd(s, m, VHOST_VRING_ERR, errp);
}

static int set_vring_enable(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                            GError **errp)
{
    const VhostUserVringState *state = &m->payload.state;
    int ret = check_index(s, state->index, errp);

    if (ret < 0) {
        return ret;
    }
    if (state->num > 1) {
        return vhost_user_error(errp, EINVAL, "value %" PRIu32 " is neither 0 nor 1", state->num);
    }
    return s->ops->set_vring_enable(s->opaque, state->index, state->num, errp);
}

static int send_rarp(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                     GError **errp)
{
    if (m->payload.u64 >> 48) {
        return vhost_user_error(errp, EINVAL, "0x%" PRIx64 " is no MAC address", m->payload.u64);
    }
    return s->ops->send_rarp(s->opaque, m->payload.u64, errp);
}

static int set_backend_req_fd(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                              GError **errp)
{
    int flags = fcntl(m->fds[0], F_GETFL);

    /* A peer that does not read its channel must not make us wait. */
    if (flags < 0 || fcntl(m->fds[0], F_SETFL, flags | O_NONBLOCK) < 0) {
        return vhost_user_error(errp, errno, "request channel");
    }
    if (s->backend_fd >= 0) {
        close(s->backend_fd);
    }
    s->backend_fd = vhost_user_message_take_fd(m, 0);
    return 0;
}

/* Bytes that are not there are answered with an empty payload: the message's way to say so. */
static int get_config(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                      GError **errp)
{
    const VhostUserConfig *config = &m->payload.config;

    if (s->ops->get_config(s->opaque, reply->payload.config.data, config->offset, config->size,
                           NULL) < 0) {
        return 0;
    }
    reply->payload.config.offset = config->offset;
    reply->payload.config.size = config->size;
    reply->payload.config.flags = config->flags;
    reply->header.size = (uint32_t)VHOST_USER_CONFIG_HEADER_SIZE + config->size;
    return 0;
}

static int set_config(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                      GError **errp)
{
    const VhostUserConfig *config = &m->payload.config;

    return s->ops->set_config(s->opaque, config->data, config->offset, config->size, errp);
}

static int get_status(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                      GError **errp)
{
    reply_u64(reply, s->ops->get_status(s->opaque));
    return 0;
}

static int set_status(VhostUserServer *s, VhostUserMessage *m, VhostUserMessage *reply,
                      GError **errp)
{
    if (m->payload.u64 > UINT8_MAX) {
        return vhost_user_error(errp, EINVAL, "0x%" PRIx64, m->payload.u64);
    }
    return s->ops->set_status(s->opaque, (uint8_t)m->payload.u64, errp);
}

VhostUserHandler *vhost_user_server_handler(uint32_t request)
{
    static VhostUserHandler *const handlers[VHOST_USER_REQUEST_MAX] = {
        [VHOST_USER_GET_FEATURES] = get_features,
        [VHOST_USER_SET_FEATURES] = set_features,
        [VHOST_USER_SET_OWNER] = ignore,
        [VHOST_USER_RESET_OWNER] = reset,
        [VHOST_USER_SET_MEM_TABLE] = vhost_user_server_set_mem_table,
        [VHOST_USER_SET_LOG_BASE] = vhost_user_server_set_log_base,
        [VHOST_USER_SET_LOG_FD] = ignore,
        [VHOST_USER_SET_VRING_NUM] = set_vring_num,
        [VHOST_USER_SET_VRING_ADDR] = set_vring_addr,
        [VHOST_USER_SET_VRING_BASE] = set_vring_base,
        [VHOST_USER_GET_VRING_BASE] = get_vring_base,
        [VHOST_USER_SET_VRING_KICK] = set_vring_kick,
        [VHOST_USER_SET_VRING_CALL] = set_vring_call,
        [VHOST_USER_SET_VRING_ERR] = set_vring_err,
        [VHOST_USER_GET_PROTOCOL_FEATURES] = get_protocol_features,
        [VHOST_USER_SET_PROTOCOL_FEATURES] = set_protocol_features,
        [VHOST_USER_GET_QUEUE_NUM] = get_queue_num,
        [VHOST_USER_SET_VRING_ENABLE] = set_vring_enable,
        [VHOST_USER_SEND_RARP] = send_rarp,
        [VHOST_USER_SET_BACKEND_REQ_FD] = set_backend_req_fd,
        [VHOST_USER_GET_CONFIG] = get_config,
        [VHOST_USER_SET_CONFIG] = set_config,
        [VHOST_USER_RESET_DEVICE] = reset,
        [VHOST_USER_GET_MAX_MEM_SLOTS] = vhost_user_server_get_max_mem_slots,
        [VHOST_USER_ADD_MEM_REG] = vhost_user_server_add_mem_reg,
        [VHOST_USER_REM_MEM_REG] = vhost_user_server_rem_mem_reg,
        [VHOST_USER_SET_STATUS] = set_status,
        [VHOST_USER_GET_STATUS] = get_status,
        [VHOST_USER_SET_DEVICE_STATE_FD] = vhost_user_server_set_device_state_fd,
        [VHOST_USER_CHECK_DEVICE_STATE] = vhost_user_server_check_device_state,
    };

    return request < VHOST_USER_REQUEST_MAX ? handlers[request] : NULL;
}
