/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SvqControl: what an SvqDevice has for the control queue of a network device: which virtqueue that
 * is, the state that its commands have made, and how a device that was reset is brought back to it.
 *
 * How it works.  When the device side starts it is found out which virtqueue is the control queue
 * and whether we look into it.  If there is a state to restore, the control queue starts first, and
 * the data queues when the device has answered all commands of ours; a device whose rings are fixed
 * has them all at once, and gets these commands right after DRIVER_OK.
 *
 * Three more parts a control queue can have.  *Bridged*: the VMM keeps the guest's to itself
 * (QEMU), and says by enabling queues what it learns there; then the commands are all ours.
 * *Alone*: it has no ring of the guest's (yet).  *Orphaned*: it has no device, which is gone for a
 * while; the guest's commands run into their time limit, and it gets its error.
 *
 * The state belongs to the guest's driver.  It goes on with a ring that goes on, and is forgotten
 * with one that begins anew; after a VMM has connected or svqd was killed, a ring that lies
 * elsewhere is another guest's, and one at its beginning goes on only if its in-flight record says
 * so.  Whether the device has the state, too, is another matter: it has not after a reset.
 *
 * Threads: the main thread, but for the callbacks of the ControlQueue, which are its owner's.
 */
#ifndef HW_SVQ_SVQ_CONTROL_H
#define HW_SVQ_SVQ_CONTROL_H

#include <stdatomic.h>

#include "control-queue.h"
#include "hw/net/net-ctrl-state.h"
#include "hw/svq/svq-device.h"
#include "util/event-notifier.h"

typedef struct SvqQueue SvqQueue;

typedef enum SvqControlPhase {
    SVQ_CONTROL_IDLE,           /* the device has not been told anything */
    SVQ_CONTROL_RESTORING,      /* it has been, and has not answered all */
    SVQ_CONTROL_READY,
} SvqControlPhase;

/* struct virtio_net_config (5.1.4), as far as it concerns us. */
#define SVQ_CONTROL_CONFIG_BYTES 24

typedef struct SvqControl {
    SvqDevice *dev;
    ControlQueue *queue;
    NetCtrlState *state;        /* the queue's owner's, while it runs */
    NetCtrlState *shown;        /* a copy, for the main thread */
    SvqControlOptions options;
    EventNotifier quiet;        /* a kick that never comes */
    EventNotifier event;        /* the queue's owner has something to tell */
    guint event_source;
    void *spare;                /* for rings without a guest or without a device; NULL: none yet */
    uint8_t *record;            /* of the state, in the in-flight file; NULL: none is kept */
    uint64_t record_seq;        /* of the last in @record */

    /* The guest's ring whose commands made the state, as its VMM called it. */
    struct SvqControlRing {
        uint64_t desc, driver, device;
    } ring;
    bool other_vmm;             /* than the one of then, perhaps */
    bool loaded;                /* the VMM gave the state, and no ring of a guest's has taken it */
    bool announces;             /* and the guest is to announce itself when the device has it */
    bool orphaned;

    /* Of this start of the device side. */
    int index;                  /* the virtqueue; -1: there is none that we look into */
    bool unseen;                /* there is one, and it passes through */
    bool bridged;
    bool isolated;              /* no ring of the guest's reaches its memory */
    uint8_t config[SVQ_CONTROL_CONFIG_BYTES];   /* of the configuration space */
    NetCtrlLimits limits;       /* of the guest */
    NetCtrlLimits device_limits;
    MemoryRegion *region;       /* its ring, and its commands; NULL: none */
    SvqControlPhase phase;
    bool restored;              /* the device has the state */
    bool restores;              /* it had not when the queue was started */
    gint64 restore_start;       /* us */
    unsigned int restore_commands;
    guint hold_source;          /* ends the wait for the guest's ring; 0: nobody waits */
    bool waited;                /* that has happened */
    uint16_t pairs;             /* bridged: that the device has been told of */
    uint16_t pairs_ready;       /* and has answered */
    guint update_source;        /* something has ended that others wait for; 0: nothing */
    guint pairs_source;         /* what is enabled has changed; 0: it has not */

    /* Written by the queue's owner. */
    atomic_bool touched;        /* the device's state is no more that after a reset */
    atomic_bool through;        /* the device has answered all commands of ours */
    atomic_bool stale;          /* @shown is not the state any more */
    atomic_uint failed;         /* commands of ours that the device refused or did not answer */
    /* The guest is to announce itself: set here, cleared there. */
    atomic_bool announce;
} SvqControl;

/* svq-control.c */
bool svq_control_init(SvqDevice *dev, const SvqControlOptions *options, GError **errp);
void svq_control_free(SvqDevice *dev);

/* Feature bits that we have for the guest, whatever the device has. */
uint64_t svq_control_own_features(const SvqDevice *dev);

/* Feature bits of the device that we want for ourselves, with a guest of @guest_features. */
uint64_t svq_control_bridge_features(const SvqDevice *dev, uint64_t guest_features);

/*
 * The device side starts, and its features are chosen: finds the control queue, and a place for its
 * memory.  0, or -errno with @errp.
 */
int svq_control_prepare(SvqDevice *dev, GError **errp);

/* And they are set: decides who works it. */
void svq_control_choose(SvqDevice *dev);

/* The device side is stopped, or gone. */
void svq_control_forget(SvqDevice *dev);

/* The VMM is gone. */
void svq_control_disconnected(SvqDevice *dev);

/* The guest's driver has reset the device: a state that was loaded before is not its. */
void svq_control_driver_reset(SvqDevice *dev);

/* Whether a device that is back has its control queue where the guest believes it to be. */
bool svq_control_still_fits(const SvqDevice *dev);

/* Whether @queue is the control queue, and we look into it. */
bool svq_control_is(const SvqQueue *queue);

/* The one that is; NULL: none. */
SvqQueue *svq_control_queue(const SvqDevice *dev);
bool svq_control_is_started(const SvqDevice *dev);

/* Describes the ring towards the device. */
void svq_control_describe_ring(const SvqQueue *queue, ShadowVirtqueueConfig *config,
                               VhostRing *ring);

/* Describes a ring that no guest has. */
void svq_control_describe_no_guest(SvqControl *control, VringConfig *config);

/* There is no device side: the guest's control queue is served without it; it is back. */
void svq_control_orphan(SvqDevice *dev);
void svq_control_adopt(SvqDevice *dev);

/* svq-control-start.c */

/* Whether a driver begins with a device that is not fresh from a reset. */
bool svq_control_begins_anew(const SvqQueue *queue);

/* Starts the control queue, which is due, with the guest's ring. */
int svq_control_start(SvqQueue *queue, GError **errp);

/* Starts it alone, if it is needed and has not been started; @errp as usual. */
int svq_control_start_alone(SvqDevice *dev, GError **errp);

/*
 * A data queue is due: whether it has to wait until the control queue is through.  Starts that if
 * it can.
 */
bool svq_control_holds(SvqQueue *queue);

/* @queue is being stopped: what waits for it is looked at again. */
void svq_control_stopping(const SvqQueue *queue);

/* From the main loop, queues are started that have not to wait any more. */
void svq_control_update_later(SvqControl *control);

/* The same of a device whose rings are fixed: the queue is started, and held. */
bool svq_control_shall_hold(const SvqQueue *queue);

/* What is held goes on. */
void svq_control_release(SvqDevice *dev);

/* If the device listens: tells it what it needs to be told. */
void svq_control_begin(SvqDevice *dev);

/* Which data queues the VMM has enabled has changed. */
void svq_control_pairs_changed(SvqDevice *dev);

/* svq-control-state.c */

/* The last state in the in-flight file, if there is one. */
void svq_control_load_record(SvqControl *control);

/* The queue's owner: the state has changed. */
void svq_control_save_record(SvqControl *control);

/* The queue's owner, or the main thread while it has none: the copy of the state is made. */
void svq_control_show(SvqControl *control);

/* The copy of the state is as the state is; seldom a call of the queue's owner. */
void svq_control_refresh(SvqControl *control);

/* The guest's driver has begun anew: the state is what our options say. */
void svq_control_reset_state(SvqControl *control);

/* For the VMM.  NULL, or -errno, with @errp. */
bool svq_control_has_state(const SvqDevice *dev);
GBytes *svq_control_save(SvqDevice *dev, GError **errp);
int svq_control_load(SvqDevice *dev, const uint8_t *data, size_t n, GError **errp);

/* Bits of the configuration space that are ours. */
void svq_control_patch_config(const SvqDevice *dev, uint8_t *data, uint32_t offset, uint32_t size);

/* A line for each thing. */
char *svq_control_describe_state(SvqDevice *dev);

#endif
