/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of the loopback device (virtio 1.3, section 5.1.6.5): takes commands,
 * has them carried out (loopback-commands.h), answers them.
 *
 * Threads: start, enable, set_fd and stop are for the main thread and hand over to the
 * AioContext given at the start; everything else, the commands too, happens there.
 */
#ifndef HW_NET_LOOPBACK_CTRL_H
#define HW_NET_LOOPBACK_CTRL_H

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring-device.h"
#include "hw/vhost/vhost-device.h"
#include "loopback-commands.h"
#include "util/aio-context.h"
#include "util/event-notifier.h"

typedef struct LoopbackCtrl {
    const char *name;           /* of the device */
    const MemoryMap *const *map;
    LoopbackCommands *commands;

    VringDevice vr;
    AioContext *ctx;            /* where it runs; NULL: not started */
    AioBh work;
    EventNotifier kick, call;   /* borrowed */
    AioHandler *handler;
    VringSegment *segments;
    VringSegment *host;         /* where they lie, or some of them */
    unsigned int max_host;
    uint8_t *command;           /* NET_CTRL_MAX_BYTES: the one that is being carried out */
    bool enabled, broken;
} LoopbackCtrl;

/* 0, or -errno with @errp. */
int loopback_ctrl_start(LoopbackCtrl *ctrl, AioContext *ctx, const VringConfig *config, int kick_fd,
                        int call_fd, GError **errp);
void loopback_ctrl_enable(LoopbackCtrl *ctrl, bool enable);

/* While started; see VhostDeviceOps.  0, or -EINVAL with @errp: it goes on with the old one. */
int loopback_ctrl_set_fd(LoopbackCtrl *ctrl, VhostRingFd which, int fd, GError **errp);

/*
 * When it returns, the ring's memory is not touched any more, and nothing of it is in flight.
 * @base, unless NULL: where a started queue stands.
 */
void loopback_ctrl_stop(LoopbackCtrl *ctrl, VringBase *base);

#endif
