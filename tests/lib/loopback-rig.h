/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loopback device alone, worked by a driver's hand on its rings.
 *
 * Each queue pair, and the control queue, is in an IOThread of its own; the test thread is the
 * driver, and sleeps on call descriptors as one does.
 */
#ifndef TESTS_LIB_LOOPBACK_RIG_H
#define TESTS_LIB_LOOPBACK_RIG_H

#include "hw/net/loopback.h"
#include "hw/net/net-ctrl.h"
#include "hw/virtio/features.h"
#include "hw/virtio/vring-driver.h"
#include "util/event-notifier.h"
#include "util/iothread.h"

#define LOOPBACK_RIG_PAIRS 2
#define LOOPBACK_RIG_RINGS (2 * LOOPBACK_RIG_PAIRS + 1)
#define LOOPBACK_RIG_NUM 8          /* of the rings of pairs, unless another is asked for */
#define LOOPBACK_RIG_MEMORY 0x20000 /* bytes, from guest address 0 */
#define LOOPBACK_RIG_FEATURES \
    (VIRTIO_F_BIT(VIRTIO_F_VERSION_1) | VIRTIO_F_BIT(VIRTIO_NET_F_MRG_RXBUF))

typedef struct LoopbackRigRing {
    VringConfig config;
    VringDriver driver;
    EventNotifier kick, call;
    bool started;
} LoopbackRigRing;

typedef struct LoopbackRig {
    uint64_t features;
    IOThread *iothreads[LOOPBACK_RIG_PAIRS + 1];
    VhostDevice *dev;
    MemoryMap *map;
    uint8_t *memory;
    LoopbackRigRing rings[LOOPBACK_RIG_RINGS];
} LoopbackRig;

/* No ring is started yet.  @features: negotiated.  @poll_max_ns: of the IOThreads. */
void loopback_rig_init(LoopbackRig *rig, const LoopbackConfig *config, uint64_t features,
                       int64_t poll_max_ns);
void loopback_rig_cleanup(LoopbackRig *rig);

/* A cleared ring of @num descriptors, enabled. */
void loopback_rig_start_ring(LoopbackRig *rig, unsigned int index, uint32_t num);
void loopback_rig_stop_ring(LoopbackRig *rig, unsigned int index);

/* Takes a started ring from the device, which tells where it stands, and gives it back. */
VringBase loopback_rig_take_ring(LoopbackRig *rig, unsigned int index);
void loopback_rig_give_ring(LoopbackRig *rig, unsigned int index, VringBase base);

/* Where the ring stands if nothing is in flight: where the driver has collected to. */
VringBase loopback_rig_expected_base(const LoopbackRig *rig, unsigned int index);

/* Adds a buffer and kicks only if the device asked for that. */
void loopback_rig_add(LoopbackRig *rig, unsigned int index, const VringSegment *seg,
                      unsigned int n, uint32_t cookie);

/* The same with one element, whose address is the cookie; writable in a receive queue. */
void loopback_rig_add_one(LoopbackRig *rig, unsigned int index, uint64_t gpa, uint32_t len);

/* Waits for the next used buffer, which must be that of @cookie; returns its length. */
uint32_t loopback_rig_wait_used(LoopbackRig *rig, unsigned int index, uint32_t cookie);

/* Whether there is one, without waiting. */
bool loopback_rig_has_used(const LoopbackRig *rig, unsigned int index);

/* Where commands and their answers lie while they are under way. */
#define LOOPBACK_RIG_COMMAND 0xe000
#define LOOPBACK_RIG_REPLY 0x1ff00

typedef struct LoopbackRigReply {
    uint32_t n;                 /* bytes that the device has written */
    uint8_t ack;
    uint8_t result[NET_CTRL_MAX_RESULT];
} LoopbackRigReply;

/*
 * Has the command in @bytes carried out in ring @index, with @room bytes for the ack and what
 * follows.
 */
LoopbackRigReply loopback_rig_command(LoopbackRig *rig, unsigned int index, const void *bytes,
                                      uint32_t n, uint32_t room);

/* The ack of one as net_ctrl_from_string() reads it. */
uint8_t loopback_rig_say(LoopbackRig *rig, unsigned int index, const char *text);

/* Until the IOThread of ring @index has gone to sleep again after what it was given. */
void loopback_rig_wait_asleep(LoopbackRig *rig, unsigned int index);

#endif
