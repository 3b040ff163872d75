/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of the loopback device: from the ring to a command and back.
 *
 * How it works.  A command is what the device may read of a buffer, its ack the first byte that
 * it may write, its result what follows; how a driver spreads them over descriptors is its own
 * affair (2.7.4.2).  The command is copied out once.  A command that is wrong, or longer than any
 * can be, is answered with an error; so is one that leaves too little room for its result.  A
 * buffer that leaves the memory, or has no byte for the ack, breaks the queue.
 *
 * Commands are rare: the queue is not polled, and each is answered before the next is taken.
 */
#include "loopback-ctrl.h"

#include <errno.h>

#include "loopback-cursor.h"

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

#define CTRL_BUDGET 16          /* commands of one wake-up */
#define CTRL_MAX_TABLE 1024     /* elements of an indirect table */

/* What is answered: the ack, and the result if there is one. */
typedef struct Reply {
    size_t n;
    uint8_t bytes[1 + NET_CTRL_MAX_RESULT];
} Reply;

static void ctrl_break(LoopbackCtrl *ctrl)
{
    g_autofree char *words = vring_error_to_string(&ctrl->vr.error);

    ctrl->broken = true;
    g_warning("%s control queue: %s", ctrl->name, words);
}

/* The memory of the @n segments from @first on: 0, with @cursor at its beginning; -EPROTO. */
static int resolve(LoopbackCtrl *ctrl, const MemoryMap *map, unsigned int first, unsigned int n,
                   LoopbackCursor *cursor)
{
    *cursor = (LoopbackCursor){ ctrl->host, 0 };
    return loopback_resolve(map, ctrl->segments + first, n, ctrl->host, ctrl->max_host,
                            &ctrl->vr.error) < 0 ? -EPROTO : 0;
}

/*
 * Copies the command in the buffer of @n segments, as much of it as there is room for.
 * Returns its length, and in *first_writable the segment of its ack; -EPROTO.
 */
static int64_t read_command(LoopbackCtrl *ctrl, const MemoryMap *map, unsigned int n,
                            unsigned int *first_writable)
{
    LoopbackCursor cursor;
    uint64_t length = 0;
    unsigned int i;

    for (i = 0; i < n && !(ctrl->segments[i].flags & VRING_DESC_F_WRITE); i++) {
        length += ctrl->segments[i].len;
    }
    if (i == n) {
        return vring_fail(&ctrl->vr.error, "control command has no byte for its ack", "5.1.6.5",
                          i, length);
    }
    if (resolve(ctrl, map, 0, i, &cursor) < 0) {
        return -EPROTO;
    }
    loopback_read(&cursor, ctrl->command, (uint32_t)MIN(length, NET_CTRL_MAX_BYTES));
    *first_writable = i;
    return (int64_t)length;
}

static void execute(LoopbackCtrl *ctrl, size_t length, uint64_t room, Reply *reply)
{
    size_t n_result = 0;

    reply->n = 1;
    reply->bytes[0] = NET_CTRL_ERR;
    if (length > NET_CTRL_MAX_BYTES) {
        return;
    }
    reply->bytes[0] = loopback_commands_execute(ctrl->commands, ctrl->command, length,
                                                reply->bytes + 1, &n_result);
    if (1 + n_result > room) {
        reply->bytes[0] = NET_CTRL_ERR;     /* one with a result has changed nothing */
    } else {
        reply->n += n_result;
    }
}

/* To the @n segments from @first on, which have room for it. */
static int write_reply(LoopbackCtrl *ctrl, unsigned int first, unsigned int n, const Reply *reply)
{
    /* Read anew: executing a command may take a grace period. */
    const MemoryMap *map = rcu_dereference(*ctrl->map);
    LoopbackCursor cursor;

    if (resolve(ctrl, map, first, n, &cursor) < 0) {
        return -EPROTO;
    }
    loopback_write(&cursor, reply->bytes, (uint32_t)reply->n);
    return 0;
}

/* One command: 1; 0 if there is none; -EPROTO. */
static int serve(LoopbackCtrl *ctrl)
{
    const MemoryMap *map = rcu_dereference(*ctrl->map);
    unsigned int first_writable = 0;
    VringDevice *vr = &ctrl->vr;
    uint64_t room = 0;
    int64_t length;
    Reply reply;
    uint16_t id;
    int n;

    n = vring_device_take(vr, vr->packed, map, ctrl->segments, CTRL_MAX_TABLE, &id);
    if (n <= 0) {
        return n;
    }
    length = read_command(ctrl, map, (unsigned int)n, &first_writable);
    if (length < 0) {
        return -EPROTO;
    }
    for (int i = (int)first_writable; i < n; i++) {
        room += ctrl->segments[i].len;
    }
    execute(ctrl, (size_t)length, room, &reply);
    if (write_reply(ctrl, first_writable, (unsigned int)n - first_writable, &reply) < 0) {
        return -EPROTO;
    }
    vring_device_put(vr, vr->packed, id, (uint32_t)reply.n);
    vring_device_publish(vr, vr->packed);
    if (vring_device_needs_call(vr, vr->packed)) {
        event_notifier_set(&ctrl->call);
    }
    return 1;
}

static void work(void *opaque)
{
    LoopbackCtrl *ctrl = opaque;
    VringDevice *vr = &ctrl->vr;
    unsigned int i;
    int ret = 1;

    if (!ctrl->ctx || ctrl->broken || !ctrl->enabled) {
        return;
    }
    vring_device_disable_kick(vr, vr->packed);
    for (i = 0; i < CTRL_BUDGET && ret > 0; i++) {
        ret = serve(ctrl);
    }
    if (ret < 0) {
        ctrl_break(ctrl);
    } else if (ret > 0 || vring_device_enable_kick(vr, vr->packed)) {
        aio_bh_schedule(ctrl->ctx, &ctrl->work);
    }
}

static void ready(void *opaque)
{
    LoopbackCtrl *ctrl = opaque;

    if (event_notifier_test_and_clear(&ctrl->kick) < 0) {
        vring_fail(&ctrl->vr.error, "its kick descriptor is dead", NULL, 0,
                   (uint64_t)ctrl->kick.fd);
        ctrl_break(ctrl);
        /* Readable for ever. */
        aio_remove_handler(ctrl->ctx, g_steal_pointer(&ctrl->handler));
        return;
    }
    work(ctrl);
}

static const AioHandlerOps ctrl_ops = {
    .ready = ready,
};

static void attach_in_owner(void *opaque)
{
    LoopbackCtrl *ctrl = opaque;

    ctrl->handler = aio_add_handler(ctrl->ctx, ctrl->kick.fd, &ctrl_ops, ctrl);
    if (ctrl->handler) {
        aio_bh_schedule(ctrl->ctx, &ctrl->work);
    }
}

static void detach_in_owner(void *opaque)
{
    LoopbackCtrl *ctrl = opaque;

    /* The command that broke the queue is offered again. */
    vring_device_settle(&ctrl->vr, false, NULL);
    if (ctrl->handler) {
        aio_remove_handler(ctrl->ctx, g_steal_pointer(&ctrl->handler));
    }
    ctrl->ctx = NULL;
}

static void nothing(void *opaque)
{
}

int loopback_ctrl_start(LoopbackCtrl *ctrl, AioContext *ctx, const VringConfig *config, int kick_fd,
                        int call_fd, GError **errp)
{
    int ret;

    g_assert(!ctrl->ctx);
    ret = vring_device_init(&ctrl->vr, config);
    if (ret < 0) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s control queue: %s", ctrl->name,
                    ctrl->vr.error.what);
        return ret;
    }
    ctrl->segments = g_new(VringSegment, MAX(ctrl->vr.num, CTRL_MAX_TABLE));
    ctrl->max_host = 2 * MAX(ctrl->vr.num, CTRL_MAX_TABLE);
    ctrl->host = g_new(VringSegment, ctrl->max_host);
    ctrl->command = g_malloc(NET_CTRL_MAX_BYTES);
    ctrl->kick.fd = kick_fd;
    ctrl->call.fd = call_fd;
    ctrl->broken = false;
    ctrl->ctx = ctx;
    aio_bh_init(&ctrl->work, work, ctrl);
    aio_run_in(ctx, attach_in_owner, ctrl);
    if (!ctrl->handler) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s control queue: cannot wait for its kick descriptor", ctrl->name);
        loopback_ctrl_stop(ctrl, NULL);
        return -EINVAL;
    }
    return 0;
}

typedef struct EnableCommand {
    LoopbackCtrl *ctrl;
    bool enable;
} EnableCommand;

static void enable_in_owner(void *opaque)
{
    EnableCommand *command = opaque;

    command->ctrl->enabled = command->enable;
    if (command->ctrl->ctx) {
        /* Kicks that came before were not heeded. */
        aio_bh_schedule(command->ctrl->ctx, &command->ctrl->work);
    }
}

void loopback_ctrl_enable(LoopbackCtrl *ctrl, bool enable)
{
    EnableCommand command = { ctrl, enable };

    if (ctrl->ctx) {
        aio_run_in(ctrl->ctx, enable_in_owner, &command);
    } else {
        enable_in_owner(&command);
    }
}

typedef struct FdCommand {
    LoopbackCtrl *ctrl;
    int fd;
    bool failed;
} FdCommand;

static void set_kick_in_owner(void *opaque)
{
    FdCommand *command = opaque;
    LoopbackCtrl *ctrl = command->ctrl;
    AioHandler *handler = aio_add_handler(ctrl->ctx, command->fd, &ctrl_ops, ctrl);

    if (!handler) {
        command->failed = true;
        return;
    }
    if (ctrl->handler) {
        aio_remove_handler(ctrl->ctx, ctrl->handler);
    }
    ctrl->handler = handler;
    ctrl->kick.fd = command->fd;
    /* A kick may have gone to the old descriptor just now. */
    aio_bh_schedule(ctrl->ctx, &ctrl->work);
}

static void set_call_in_owner(void *opaque)
{
    FdCommand *command = opaque;

    command->ctrl->call.fd = command->fd;
    /* What the driver was not told through the old descriptor it is told through the new. */
    event_notifier_set(&command->ctrl->call);
}

int loopback_ctrl_set_fd(LoopbackCtrl *ctrl, VhostRingFd which, int fd, GError **errp)
{
    FdCommand command = { ctrl, fd, false };

    aio_run_in(ctrl->ctx, which == VHOST_RING_KICK ? set_kick_in_owner : set_call_in_owner,
               &command);
    if (command.failed) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s control queue: cannot wait for its new kick descriptor", ctrl->name);
        return -EINVAL;
    }
    return 0;
}

void loopback_ctrl_stop(LoopbackCtrl *ctrl, VringBase *base)
{
    AioContext *ctx = ctrl->ctx;

    if (ctx) {
        aio_run_in(ctx, detach_in_owner, ctrl);
        /* Bottom halves run in order: after this one, the work scheduled before has run. */
        aio_run_in(ctx, nothing, NULL);
        if (base) {
            *base = vring_device_base(&ctrl->vr);
        }
        vring_device_cleanup(&ctrl->vr);
        g_clear_pointer(&ctrl->segments, g_free);
        g_clear_pointer(&ctrl->host, g_free);
        g_clear_pointer(&ctrl->command, g_free);
    }
    ctrl->enabled = false;
}
