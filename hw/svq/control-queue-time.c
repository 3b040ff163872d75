/* SPDX-License-Identifier: BSD-3-Clause */
/* The time limit of control commands: a timer in the owner's loop. */
#include "control-queue-internal.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

#define NS_PER_S INT64_C(1000000000)
#define OWN_LIMITS 4            /* the time of all of ours, in time limits of one command */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/*
 * All have the same time, so what is armed is due before anything sent later; and for some that is
 * waiting, so that this holds for the time of all of ours, too.
 */
void control_arm_timer(ControlQueue *cq)
{
    struct itimerspec when = { 0 };
    int64_t first = INT64_MAX;
    unsigned int i;

    if (cq->timer_fd < 0 || cq->timer_armed) {
        return;
    }
    for (i = 0; i < CONTROL_QUEUE_SLOTS; i++) {
        if (control_slot_is_waiting(&cq->slots[i])) {
            first = MIN(first, cq->slots[i].deadline_ns);
        }
    }
    if (first == INT64_MAX) {
        return;
    }
    if (control_own_unsent(cq)) {
        first = MIN(first, cq->own_deadline_ns);
    }
    when.it_value.tv_sec = first / NS_PER_S;
    when.it_value.tv_nsec = first % NS_PER_S;
    timerfd_settime(cq->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    cq->timer_armed = true;
}

static void timer_ready(void *opaque)
{
    ShadowVirtqueue *svq = opaque;
    ControlQueue *cq = svq->control;
    uint64_t expirations;

    if (read(cq->timer_fd, &expirations, sizeof(expirations)) < 0 || !svq_is_running(svq)) {
        return;
    }
    cq->timer_armed = false;
    control_queue_expire(svq, now_ns());
    control_arm_timer(cq);
}

static const AioHandlerOps timer_ops = {
    .ready = timer_ready,
};

int control_queue_attach(ShadowVirtqueue *svq)
{
    ControlQueue *cq = svq->control;

    cq->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (cq->timer_fd < 0) {
        return -errno;
    }
    cq->timer = aio_add_handler(svq->ctx, cq->timer_fd, &timer_ops, svq);
    if (!cq->timer) {
        const int ret = -errno;

        control_queue_detach(svq);
        return ret;
    }
    cq->timer_armed = false;
    control_arm_timer(cq);
    if (cq->device_broken) {
        control_ignore_device(svq);
    }
    return 0;
}

void control_queue_detach(ShadowVirtqueue *svq)
{
    ControlQueue *cq = svq->control;

    control_deny_answers(svq);
    if (cq->timer) {
        aio_remove_handler(svq->ctx, cq->timer);
        cq->timer = NULL;
    }
    if (cq->timer_fd >= 0) {
        close(cq->timer_fd);
        cq->timer_fd = -1;
    }
}

void control_set_deadline(const ControlQueue *cq, ControlSlot *slot)
{
    slot->deadline_ns = now_ns() + cq->config.timeout_ns;
}

void control_set_own_deadline(ControlQueue *cq)
{
    cq->own_deadline_ns = now_ns() + OWN_LIMITS * cq->config.timeout_ns;
}

void control_give_up(ShadowVirtqueue *svq, ControlSlot *slot)
{
    if (slot->state == SLOT_OWN) {
        control_give_up_own(svq->control, slot);
    } else {
        slot->state = SLOT_LOST;
        control_answer_ack(svq, &slot->reply, NET_CTRL_ERR);
    }
}

/* Those of ours that are in flight have their own time.  True if others are left out. */
static bool expire_own(ControlQueue *cq, int64_t now)
{
    if (!control_own_unsent(cq) || cq->own_deadline_ns > now) {
        return false;
    }
    if (!cq->said_slow) {
        g_warning("%s: the device has not done the %u commands of ours within %" G_GINT64_FORMAT
                  " ms; the rest is left out", cq->name, cq->own->len,
                  OWN_LIMITS * cq->config.timeout_ns / 1000000);
        cq->said_slow = true;
    }
    control_drop_own(cq);
    return true;
}

void control_queue_expire(ShadowVirtqueue *svq, int64_t now)
{
    ControlQueue *cq = svq->control;
    unsigned int i, n = 0;
    bool own;

    cq->logging = rcu_dereference(*svq->logging);
    /* As they are taken: about the oldest first. */
    for (i = CONTROL_QUEUE_SLOTS; i-- > 0;) {
        ControlSlot *slot = &cq->slots[i];

        if (control_slot_is_waiting(slot) && slot->deadline_ns <= now) {
            control_give_up(svq, slot);
            n++;
        }
    }
    own = expire_own(cq, now);
    if (n == 0 && !own) {
        return;
    }
    if (n) {
        g_warning("%s: the device has not answered %u commands within %" G_GINT64_FORMAT " ms",
                  cq->name, n, cq->config.timeout_ns / 1000000);
        svq_counter_add(&cq->counters.timed_out, n);
    }
    control_publish_answers(svq);
    control_tell_through(cq);
    control_wake(svq);          /* what waited for a slot */
}
