/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of a network device made of paper: takes commands, writes them down and
 * answers as the test wants (virtio 1.3, section 5.1.6.5).  It knows no command.
 *
 *   CtrlDevice *ctrl = ctrl_device_new(false);
 *   fake_device_host_ctrl(&fake, 2, ctrl);         or vdpa_model_ctrl(), which has its own
 *   ctrl_device_set(ctrl, &(CtrlDeviceKnobs){ .latency_us = 1000 });
 *   ... commands ...
 *   g_autoptr(GBytes) first = ctrl_device_get_command(ctrl, 0);
 *
 * How it works.  Whoever is the device around it says where the ring lies (attach), when it may
 * be worked (run), and how an address of the ring is found.  Nothing is taken without a kick.  A
 * command is copied when it is taken and answered when it is due; any number wait at once.  What
 * waits at a detach (a reset, a stop) is forgotten.
 *
 * Threads: the queue is worked by a thread of its own; or, @by_hand, by whoever calls
 * ctrl_device_work().  The test's functions may be called from any thread; the others by the device
 * around it, one at a time.
 */
#ifndef TESTS_LIB_CTRL_DEVICE_H
#define TESTS_LIB_CTRL_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/virtio/vring-device.h"

#define CTRL_DEVICE_MAX_ANSWER 64       /* bytes: the ack, and what follows it */

typedef struct CtrlDevice CtrlDevice;

typedef struct CtrlDeviceKnobs {
    unsigned int latency_us;    /* of each command, however many there are */
    bool never;                 /* nothing is answered; what waits is, when this ends */
    bool reverse;               /* of what is due at once the youngest is answered first */
    uint8_t ack;                /* 0: OK */
    /*
     * Executes a command instead: writes what follows the ack, as far as there is room in the
     * buffer, to @result, and returns the ack.  It must not call functions of this file.
     */
    uint8_t (*execute)(const uint8_t *bytes, size_t n, uint8_t *result, size_t room, void *opaque);
    void *opaque;
    bool has_used_len;          /* @used_len is told instead of what was written */
    uint32_t used_len;
} CtrlDeviceKnobs;

typedef struct CtrlDeviceStats {
    unsigned int taken, answered;       /* since it was made */
    unsigned int forgotten;             /* by a detach */
    unsigned int waiting, most_waiting; /* at once */
} CtrlDeviceStats;

/* Where the queue is. */
typedef struct CtrlDeviceRing {
    VringDevice *vr;            /* the device's; only used between attach and detach */
    int kick_fd, call_fd;       /* borrowed; the first is not used @by_hand */
    /* Our address of a segment that may be accessed so; NULL: it is out of reach. */
    void *(*find)(void *opaque, const VringSegment *seg);
    void *opaque;
} CtrlDeviceRing;

/* Answers all at once, with OK. */
CtrlDevice *ctrl_device_new(bool by_hand);
/* Detached.  Fails the test if the driver has broken a rule: see ctrl_device_take_faults(). */
void ctrl_device_free(CtrlDevice *ctrl);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CtrlDevice, ctrl_device_free)

/* For the test. */
void ctrl_device_set(CtrlDevice *ctrl, const CtrlDeviceKnobs *knobs);
CtrlDeviceStats ctrl_device_get_stats(CtrlDevice *ctrl);
/* The @i-th that was taken; NULL: there were not so many. */
GBytes *ctrl_device_get_command(CtrlDevice *ctrl, unsigned int i);
/* What was wrong, a line each; free it.  Asking takes it: it was expected. */
char *ctrl_device_take_faults(CtrlDevice *ctrl);

/* For the device around it.  After attach it stands still until it may run. */
void ctrl_device_attach(CtrlDevice *ctrl, const CtrlDeviceRing *ring);
/* After run(false), set_fds and detach it touches nothing of what it had any more. */
void ctrl_device_run(CtrlDevice *ctrl, bool run);
void ctrl_device_set_fds(CtrlDevice *ctrl, int kick_fd, int call_fd);
void ctrl_device_detach(CtrlDevice *ctrl);

/*
 * Takes what is there, if it was @kicked, and answers what is due.  Microseconds until more will be
 * due; -1: nothing.
 */
int64_t ctrl_device_work(CtrlDevice *ctrl, bool kicked);

/* Becomes readable when the test has changed a knob: for who works it by hand. */
int ctrl_device_get_wake_fd(CtrlDevice *ctrl);

#endif
