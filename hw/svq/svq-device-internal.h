/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of an SvqDevice, shared by its parts: svq-device.c (life, the device side's news),
 * svq-guest.c (what the VMM says), svq-backend.c (what the device is told), svq-iova.c (where it
 * finds memory), svq-memory.c (when that changes), svq-ring.c (the rings of a queue), svq-queue.c
 * (which queues run), svq-control*.c (the control queue), svq-mode.c (who works the guest's rings)
 * and svq-log.c (who logs, and where).
 */
#ifndef HW_SVQ_SVQ_DEVICE_INTERNAL_H
#define HW_SVQ_SVQ_DEVICE_INTERNAL_H

#include "hw/svq/svq-device.h"
#include "hw/svq/dirty-log.h"
#include "hw/virtio/features.h"
#include "inflight.h"
#include "svq-control.h"
#include "util/event-notifier.h"
#include "util/iova-tree.h"

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

/* A vhost-user message names a virtqueue with 8 bits (SET_VRING_KICK and its like). */
#define SVQ_MAX_QUEUES 256

struct SvqQueue {
    SvqDevice *dev;
    unsigned int index;
    IOThread *iothread;
    ShadowVirtqueue *svq;

    /* What the VMM said; kept over a stop of the device side. */
    uint32_t num;               /* 0: not said */
    VhostVringAddr addr;
    bool addr_set, kick_set, enabled;
    uint32_t base;              /* as in vhost messages */
    bool base_is_ours;          /* where we stopped, not what the VMM said */
    bool base_untold;           /* a device had the ring, is gone, and may still have used more of it */
    bool base_lost;             /* and nothing shows where it stands */
    uint32_t vmm_base;          /* what it said last */
    int64_t told_base;          /* what it was told, since the last start; -1: it did not ask */
    bool base_is_new;           /* since the last start it has said another than that */
    bool was_started;           /* since the VMM connected: what it says of the ring now counts */
    EventNotifier kick, call, err;
    SvqLogging *logging;        /* published to the queue by RCU; NULL: nothing is logged */
    bool unlogged;              /* something of it may be in no log: see svq-log.c */

    /* What we made of it. */
    bool started;               /* the shadow virtqueue is, and the device has its ring */
    bool passthrough;           /* started, and the device has the guest's own ring */
    bool alone;                 /* started, and the guest has no part in it: see svq-control.h */
    VhostRing ring;             /* what the device has been given, while started */
    VringBase told;             /* where it stood when it was taken away again */
    bool parted;                /* it has been, in the middle of a switch */
    bool moved;                 /* from one to the other, in this switch */
    bool refused;               /* it could not be started; not tried again until reset */
    bool guest_packed, shadow_packed;
    uint64_t desc_gpa, driver_gpa, device_gpa;  /* where the guest's ring lies */
    EventNotifier device_kick, device_call;
};

struct SvqDevice {
    char *id;
    VhostDevice *backend;
    VhostUserServer *server;
    SvqRingFeatures shadow, guest;
    uint32_t queue_size;
    bool lenient_base;
    uint64_t withheld;          /* features of the device that the guest does not get */
    IOThread **iothreads;
    unsigned int n_iothreads;

    SvqInflight *inflight;
    SvqControl control;
    SvqQueue *queues;
    unsigned int n_queues;
    EventNotifier broken;       /* an IOThread broke a queue */
    unsigned int broken_source;

    /* The guest's side. */
    bool features_set;
    uint64_t guest_features;    /* without LOG_ALL, which is ours */
    bool log_all;               /* LOG_ALL is on */
    DirtyLog *log;              /* NULL: the VMM gave none */
    uint8_t status;
    MemoryMap *map;             /* published to the queues by RCU; never NULL */

    /* The mode, see svq-mode.c. */
    SvqMode mode_wish;          /* what was asked for */
    SvqMode mode;               /* what of that is possible with this device side */
    bool passthrough;           /* how queues are started */
    bool only_shadow;           /* auto: this VMM has something that a device cannot work */
    unsigned int switch_source; /* tries again a switch that was put off; 0: none is due */
    bool put_off_said;
    bool unseen;                /* LOG_ALL is on, and the device writes what nobody logs */

    unsigned int settle_source; /* rings_fixed: see svq_device_settle_later(); 0: none is due */

    /* The device's side, valid while @device_started. */
    bool device_started;
    bool start_refused;         /* it could not be; said once, and not tried again until reset */
    bool device_driver_ok;
    uint64_t shadow_features;
    MemoryMap *device_map;      /* the guest's memory and the arena */
    MemoryRegion *arena;        /* all shadow rings; NULL: none, mode=passthrough */
    uint64_t arena_stride;      /* bytes of one virtqueue */
    uint32_t arena_num;         /* descriptors that these have room for */
};

static inline bool svq_has_feature(uint64_t features, unsigned int bit)
{
    return features & VIRTIO_F_BIT(bit);
}

/* svq-guest.c: the callbacks of the vhost-user server. */
extern const VhostUserServerOps svq_guest_ops;

/* Which ring features are offered to the guest, beside the device's own. */
uint64_t svq_guest_offered(const SvqDevice *dev);

/* svq-log.c */

/* Tells each queue what it has to log; from the return on it does. */
void svq_device_update_logging(SvqDevice *dev);

/* The VMM gave a log; takes what references it wants.  Too short for the memory: -EINVAL. */
int svq_device_set_log(SvqDevice *dev, MemoryRegion *region, GError **errp);

/* Whether @log, if there is one, has a bit for each page of @map: 0, or -EINVAL. */
int svq_device_check_log(const SvqDevice *dev, const DirtyLog *log, const MemoryMap *map,
                         GError **errp);

/* Marks all of the guest's memory, where it is not known what was written. */
void svq_device_log_all_memory(SvqDevice *dev);

/* Marks what was written unseen under LOG_ALL, in the log of now or in one that comes. */
void svq_device_log_unseen(SvqDevice *dev);

/* The VMM is gone, and the log with it. */
void svq_device_forget_log(SvqDevice *dev);

/* svq-backend.c */

/* Starts the device side: features, memory, status. 0, or -errno with @errp. */
int svq_backend_start(SvqDevice *dev, GError **errp);

/* The device side is stopped, or gone: lets go of what it had. */
void svq_backend_forget(SvqDevice *dev);

/*
 * Tells the device DRIVER_OK once the device is started and the guest's driver is there.  If its rings
 * are fixed from then on: as soon as the VMM has no more to say for now.
 */
int svq_device_driver_ok(SvqDevice *dev, GError **errp);

/* The same, now. */
int svq_device_driver_ok_now(SvqDevice *dev, GError **errp);

/* What the device is to know: the memory of @guest, and the arena. */
MemoryMap *svq_backend_make_map(const SvqDevice *dev, const MemoryMap *guest, GError **errp);

/* Why the device cannot be given a ring of the guest's, of @num descriptors; NULL: it can. */
const char *svq_backend_refuses_guest_ring(const SvqQueue *queue);

/* Memory of ours that the device reaches.  NULL and @errp: there is no room for it. */
MemoryRegion *svq_backend_new_region(const SvqDevice *dev, uint64_t size, GError **errp);

/* Descriptors that the device takes of a ring, a power of two; 0: any number. */
uint32_t svq_backend_max_num(const SvqQueue *queue);

/* What does not depend on where a shadow ring lies. */
void svq_backend_describe_device(const SvqQueue *queue, ShadowVirtqueueConfig *config);

/* Describes a queue's shadow ring to both who work it. */
void svq_backend_describe_ring(const SvqQueue *queue, ShadowVirtqueueConfig *config,
                               VhostRing *ring);

/* Whether a guest's ring is larger than the arena has room for. */
bool svq_backend_has_outgrown_arena(const SvqDevice *dev);

/*
 * A device side that went away during a call that returned @ret is no fault of the VMM: it
 * gets all that it missed when it is back.  Then 0, else @ret.
 */
int svq_backend_forgive_gone(const SvqDevice *dev, int ret, GError **errp);

/* svq-iova.c */

/*
 * Gives each of the guest's @regions an iova that the device can reach: its guest address if
 * possible.  0, or -ENOSPC with @errp.
 */
int svq_iova_place_guest(const SvqDevice *dev, MemoryRegion *const *regions, unsigned int n,
                         GError **errp);

/* A place for @size bytes of ours that neither the guest's memory nor ours uses.  0, or -ENOSPC. */
int svq_iova_place_arena(const SvqDevice *dev, uint64_t size, uint64_t *iova);

/* svq-mode.c */

/* The device side is there: what of the mode that was asked for is possible with it. */
void svq_mode_choose(SvqDevice *dev);

/* What decides on the mode has changed: switches, now or as soon as that is possible. */
void svq_mode_update(SvqDevice *dev);

/*
 * Whether @queue, started or to be, can pass through.  0, also in mode=auto, where all will be shadows
 * instead, from the next svq_mode_update() on; -ENOTSUP with @errp: but it has to.
 */
int svq_mode_check(SvqQueue *queue, GError **errp);

/* The VMM is gone. */
void svq_mode_forget(SvqDevice *dev);

/* svq-ring.c */

/* Where a guest's queue goes on, as @base of its messages says. */
VringBase svq_queue_decode_base(const SvqQueue *queue, uint32_t base, bool is_ours);

/* Where a guest's ring lies: for us, and for the guest. */
typedef struct SvqGuestRing {
    VringAreas areas;
    uint64_t desc_gpa, driver_gpa, device_gpa;
} SvqGuestRing;

/* Whether it lies in @map. */
bool svq_queue_find_ring(const SvqQueue *queue, const MemoryMap *map, SvqGuestRing *ring);

/* Describes the guest's ring as @queue shall go on with it.  False and @errp: it has none. */
bool svq_queue_describe_guest(SvqQueue *queue, VringConfig *config, GError **errp);

/*
 * Starts @queue, whose start lacks nothing, in the device's mode, and gives the device its ring.
 * 0, or -errno with @errp.
 */
int svq_queue_start(SvqQueue *queue, GError **errp);

/* The same without a ring of the guest's. */
int svq_queue_start_alone(SvqQueue *queue, GError **errp);

/* Gives the device queue->ring. */
int svq_queue_give_ring(SvqQueue *queue, GError **errp);

/*
 * A started queue that the device has let go of, a shadow being detached: keeps where it stands.
 * @told: the device has said that; @lost: it is gone, and nobody knows.
 */
void svq_queue_settle(SvqQueue *queue, bool told, bool lost);

/* Finds out again where a ring stands that a device had which is gone: it may have gone on. */
void svq_queue_update_base(SvqQueue *queue);

/* Has the device look at the ring of a started queue. */
void svq_queue_kick_device(SvqQueue *queue);

/* And the guest at what has been used. */
void svq_queue_notify_both(SvqQueue *queue);

/* svq-queue.c */

/* Starts @queue if all that it needs has been said, and nothing of it has failed before. */
void svq_queue_update(SvqQueue *queue);

/* Whether the VMM has said all that a start needs. */
bool svq_queue_is_described(const SvqQueue *queue);

/* Starts all that are due. */
void svq_device_update_queues(SvqDevice *dev);

/* It cannot be started, for @error, which is said once. */
void svq_queue_refuse(SvqQueue *queue, const GError *error);

/* Takes a shadow, if it is one and started, from its thread. */
void svq_queue_detach(SvqQueue *queue);

/* All of them are to be, one by one: then their threads are waited for once. */
void svq_device_begin_detach(SvqDevice *dev);

/* Stops it, if started, and keeps where it stands in queue->base. */
void svq_queue_stop(SvqQueue *queue);

/* Whether any queue of the guest's runs. */
bool svq_device_any_started(const SvqDevice *dev);

/* All queues; and the device side is reset. */
void svq_device_stop(SvqDevice *dev);

/* What was refused may be tried again. */
void svq_device_forget_refusals(SvqDevice *dev);

/*
 * For a device side whose rings are fixed once it runs: when the VMM has no more to say for now, takes
 * over what has changed, by a restart of the device if it must be.
 */
void svq_device_settle_later(SvqDevice *dev);

/* svq-memory.c */

/*
 * A started queue, after the memory has changed: a detached shadow goes on at the ring's present
 * host address.  What has lost its ring is stopped and refused.
 */
void svq_queue_resume(SvqQueue *queue);

/* Publishes a new map of the guest's memory, owned from here on, to queues and device. */
int svq_device_set_map(SvqDevice *dev, MemoryMap *map, GError **errp);

#endif
