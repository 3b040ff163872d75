/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of a ControlQueue, shared by the way of a command (control-queue.c), the guest's
 * memory (control-queue-guest.c), commands of our own (control-queue-own.c) and the time limit
 * (control-queue-time.c).
 *
 * How it works.  Each command that the device has occupies a slot.  A slot whose time is over is
 * lost: the guest has its answer, but the device may still write there, so nobody else gets the
 * slot before the device has given it back.  One slot is large, for a table of addresses; commands
 * that need it follow each other.
 *
 * Threads: the owner of the queue, but for what control-queue.h says.
 */
#ifndef HW_SVQ_CONTROL_QUEUE_INTERNAL_H
#define HW_SVQ_CONTROL_QUEUE_INTERNAL_H

#include "control-queue.h"
#include "shadow-virtqueue-internal.h"

#define CONTROL_REPLY_MAX       (1 + NET_CTRL_MAX_RESULT)
#define CONTROL_SLOT_ELEMENTS   2       /* of the device's ring: the command, and its answer */

/* Where the guest wants its answer. */
typedef struct ControlReply {
    uint16_t id;                /* of the guest's buffer */
    uint32_t size;              /* bytes, as far as anybody has use for them */
    unsigned int n;             /* elements */
    VringSegment seg[CONTROL_REPLY_MAX];
} ControlReply;

typedef enum ControlSlotState {
    SLOT_FREE,
    SLOT_GUEST,                 /* a command of the guest's */
    SLOT_OWN,                   /* one of ours */
    SLOT_LOST,                  /* a command of the guest's whose time is over */
    SLOT_OWN_LOST,
} ControlSlotState;

typedef struct ControlSlot {
    ControlSlotState state;
    bool known;                 /* @command is valid; else the table does not know it */
    bool applies;               /* one of ours that changes the state when the device has done it */
    int64_t deadline_ns;
    uint8_t *copy;              /* of the command; the device does not reach it */
    uint32_t n;                 /* bytes of it */
    uint32_t offset;            /* of what the device gets, in cq->config.host */
    uint32_t room;              /* bytes there */
    uint32_t reply_offset;
    NetCtrlCommand command;     /* points into @copy */
    ControlReply reply;
} ControlSlot;

/* A command of our own that is still to be sent. */
typedef struct ControlOwnStep {
    NetCtrlStep step;
    bool applies;               /* as of a slot; else the state says already what it makes */
} ControlOwnStep;

struct ControlQueue {
    char *name;
    ControlQueueConfig config;
    const SvqLogging *logging;  /* that of the call under way: one log has all its marks */
    ControlSlot slots[CONTROL_QUEUE_SLOTS];     /* the first is the large one */
    ControlReply reply;         /* of a command that gets no slot */
    bool full;                  /* the next command of the guest's waits */
    bool begun;                 /* the device listens */
    bool device_broken;         /* it gets no command any more */
    bool said_refused, said_late, said_own, said_slow;
    bool state_changed;         /* and nobody was told */
    bool doubtful;              /* see control_queue_is_doubtful() */

    GArray *own;                /* ControlOwnStep; what of ours is still to be sent */
    unsigned int own_next;
    unsigned int own_left;      /* of ours, not answered yet */
    unsigned int own_failed;    /* since begin() */
    int64_t own_deadline_ns;    /* of all of them */
    bool own_told;              /* that they are through */
    uint32_t late;              /* bit N: of class N the device did a command too late */

    int timer_fd;               /* -1: nobody needs it */
    AioHandler *timer;
    bool timer_armed;

    struct {
        _Atomic uint64_t commands, refused, failed, timed_out, own;
    } counters;
};

static inline bool control_slot_is_waiting(const ControlSlot *slot)
{
    return slot->state == SLOT_GUEST || slot->state == SLOT_OWN;
}

/* Whether a device that does the command in @slot is another than before; not, if it only tells. */
static inline bool control_slot_changes(const ControlSlot *slot)
{
    return !slot->known || net_ctrl_spec(slot->command.id)->result == 0;
}

/* control-queue.c */

/* A slot and room in the ring for a command of @n bytes; NULL: there is none. */
ControlSlot *control_find_slot(const ShadowVirtqueue *svq, size_t n);

/* Whether an answer may come that makes room for a command of @n bytes. */
bool control_may_find_slot(const ControlQueue *cq, size_t n);

/* Offers the command in slot->copy; it is not published yet. */
void control_send_slot(ShadowVirtqueue *svq, ControlSlot *slot, ControlSlotState state,
                       uint32_t reply_size);

/* Offer is called soon. */
void control_wake(ShadowVirtqueue *svq);

/* What lies in the device's ring is not collected any more: it must not wake us for ever. */
void control_ignore_device(ShadowVirtqueue *svq);

/* The device has done the command in @slot, which the table does not know. */
void control_apply_unknown(ControlQueue *cq, const ControlSlot *slot);

/* control-queue-guest.c */

/*
 * Copies the command in @seg[0..n) to @bytes, which has room.  0, or -EPROTO with the ring's error.
 */
int control_copy_command(ShadowVirtqueue *svq, const VringSegment *seg, unsigned int n,
                         uint8_t *bytes);

/* Of the elements @seg[0..n) that the guest lets us write, what an answer can need. */
void control_note_reply(ControlReply *reply, const VringSegment *seg, unsigned int n, uint16_t id);

/* Answers the guest: @n bytes, the first is the ack.  Not published yet. */
void control_answer(ShadowVirtqueue *svq, const ControlReply *reply, const uint8_t *bytes,
                    uint32_t n);
void control_answer_ack(ShadowVirtqueue *svq, const ControlReply *reply, uint8_t ack);

/* Tells that the state has changed, if it has; then the guest may see its answers. */
void control_publish_answers(ShadowVirtqueue *svq);

/* The guest's commands that the device has may come back unanswered: none is to look done. */
void control_deny_answers(ShadowVirtqueue *svq);

/* control-queue-own.c */

/* An empty array of ControlOwnStep. */
GArray *control_own_new(void);

/* Sends one of our own commands, if it is time: true if one was sent. */
bool control_send_own(ShadowVirtqueue *svq);

/* Whether the guest has to wait until ours are through. */
bool control_own_first(const ControlQueue *cq);

/* Whether the time of all of them counts: some are not sent yet. */
bool control_own_unsent(const ControlQueue *cq);

/* A device that does not answer gets no more of ours. */
void control_drop_own(ControlQueue *cq);

/* The device has answered @slot, which is ours. */
void control_finish_own(ControlQueue *cq, const ControlSlot *slot, uint8_t ack);

/* It will not, within the limit. */
void control_give_up_own(ControlQueue *cq, ControlSlot *slot);

/* The guest was told that the command in @slot failed, but now the device has done it. */
void control_note_late(ControlQueue *cq, const ControlSlot *slot);

/* If they are through, and nobody was told yet. */
void control_tell_through(ControlQueue *cq);

/* control-queue-time.c */

/* @slot gets no answer any more, in time. */
void control_give_up(ShadowVirtqueue *svq, ControlSlot *slot);

/* The command in @slot is sent now. */
void control_set_deadline(const ControlQueue *cq, ControlSlot *slot);

/* The time of all of ours starts. */
void control_set_own_deadline(ControlQueue *cq);

/* Something was sent. */
void control_arm_timer(ControlQueue *cq);

#endif
