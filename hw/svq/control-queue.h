/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ControlQueue: what makes of a ShadowVirtqueue one whose buffers are looked into, the control
 * queue of a network device (virtio 1.3, section 5.1.6.5).
 *
 * How it works.  A command is copied once, into memory of ours, checked there, and offered to the
 * device from a second copy, in memory that the device reaches and the guest does not: one element
 * with the command, one for the answer.  What the device acknowledges becomes part of the state;
 * only then the guest has its answer.  What is wrong is answered by us, and the device never sees
 * it.
 *
 * A command that the device does not answer within the time limit is answered with an error, and
 * the queue goes on.  If the device does it all the same, later, the state's own commands of that
 * class follow, so that it ends where the guest believes it to be.
 *
 * A device that breaks the rules of the ring gets nothing any more, and each command of the guest's
 * is answered with an error: to the guest it is a device that fails, not a queue that hangs.
 *
 * Commands of our own come first: until they are through, none of the guest's is taken.
 *
 * Threads.  new, free, begin and send: the main thread.  Everything else, and the callbacks: the
 * owner of the queue.  The state is the owner's while the queue runs.
 */
#ifndef HW_SVQ_CONTROL_QUEUE_H
#define HW_SVQ_CONTROL_QUEUE_H

#include "hw/net/net-ctrl-state.h"
#include "hw/svq/shadow-virtqueue.h"

/* Commands that the device has at a time, and so, with two elements each, the size of its ring. */
#define CONTROL_QUEUE_SLOTS 32
#define CONTROL_QUEUE_NUM   (2 * CONTROL_QUEUE_SLOTS)

/* Memory that the device reaches, for commands and answers. */
#define CONTROL_QUEUE_BYTES (128 * 1024)

typedef struct ControlQueueConfig {
    uint8_t *host;              /* CONTROL_QUEUE_BYTES */
    uint64_t iova;              /* what the device calls them */
    NetCtrlLimits limits;       /* of what the guest may ask for */
    NetCtrlLimits device_limits;        /* of what the device has been told that it may be asked */
    NetCtrlState *state;
    int64_t timeout_ns;
    /* The state has changed, and the guest does not know yet; once for a burst of answers. */
    void (*changed)(void *opaque);
    /* What may change the device was sent; often, may be NULL. */
    void (*sent)(void *opaque);
    /* The guest has heard that it shall announce itself. */
    void (*announced)(void *opaque);
    /*
     * The device has answered, or not within the limit, all commands of ours.  After each begin and
     * send; @failed: since begin.
     */
    void (*through)(void *opaque, unsigned int failed);
    void *opaque;
} ControlQueueConfig;

typedef struct ControlQueueCounters {
    uint64_t commands;          /* of the guest's */
    uint64_t refused;           /* of these, by us */
    uint64_t failed;            /* by the device */
    uint64_t timed_out;
    uint64_t own;
} ControlQueueCounters;

ControlQueue *control_queue_new(const char *name);
void control_queue_free(ControlQueue *cq);

/* Main thread, before the queue is started with it. */
void control_queue_configure(ControlQueue *cq, const ControlQueueConfig *config);

/* Any thread.  An empty array of NetCtrlStep, which owns what is put in. */
GArray *control_queue_steps_new(void);

/*
 * Main thread, once the device listens: it is given @steps (NetCtrlStep, owned from here on; NULL:
 * none), and then the guest's commands.
 */
void control_queue_begin(ShadowVirtqueue *svq, GArray *steps);

/* Main thread, after that: commands of our own, before what the guest says next; owned as above. */
void control_queue_send(ShadowVirtqueue *svq, GArray *steps);

/* Any thread. */
ControlQueueCounters control_queue_get_counters(const ControlQueue *cq);

/* Answers what is due at @now (CLOCK_MONOTONIC); the timer calls it. */
void control_queue_expire(ShadowVirtqueue *svq, int64_t now_ns);

/* What shadow-virtqueue.c calls in place of the burst loops. */
unsigned int control_queue_offer(ShadowVirtqueue *svq);
unsigned int control_queue_give_back(ShadowVirtqueue *svq);

/* Whether the next command has to wait for an answer to another. */
bool control_queue_is_full(const ControlQueue *cq);

/* In the owner's loop: the timer.  0, or -errno. */
int control_queue_attach(ShadowVirtqueue *svq);
void control_queue_detach(ShadowVirtqueue *svq);

/* The rings are gone, and what was in flight with them. */
void control_queue_stopped(ControlQueue *cq);

/*
 * Main thread, from the queue's stop to the next configure: the device may have done commands that
 * the state does not show.
 */
bool control_queue_is_doubtful(const ControlQueue *cq);

#endif
