/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the vDPA model, shared by its parts: vdpa-model.c (life, the device file),
 * vdpa-model-calls.c (what is written down, and fails), vdpa-model-ioctl.c (the kernel's rules),
 * vdpa-model-iotlb.c (memory), vdpa-model-device.c (the device that works the rings),
 * vdpa-model-kicks.c (its thread), vdpa-model-knobs.c (what a test sets and asks).
 *
 * Locks, in this order: @calling is the mutex that the kernel holds during a call, @lock guards
 * all that the device has.  A SUSPEND that hangs holds the first alone.  They are not GLib's, whose
 * locks ThreadSanitizer does not see.
 */
#ifndef TESTS_LIB_VDPA_MODEL_INTERNAL_H
#define TESTS_LIB_VDPA_MODEL_INTERNAL_H

#include <pthread.h>

#include "hw/virtio/features.h"
#include "hw/virtio/vring-device.h"
#include "lib/vdpa-model.h"

/* The kernel's own error number, which user space does see. */
#define VDPA_ENOTSUPP 524

typedef struct ModelMap {
    uint32_t asid;
    uint64_t iova, size;
    uint8_t perm;           /* VHOST_ACCESS_* */
    uint8_t *pinned;        /* our mapping of the pages */
    bool live;              /* the device has it */
} ModelMap;

typedef struct ModelRing {
    /* What was set. */
    uint32_t num;
    uint64_t desc, driver, device;
    bool addressed, based;  /* since the last reset */
    VringBase base;         /* while not @working */
    bool enabled;
    int kick, call;         /* copies; -1: none */

    /* While enabled, from the first look on. */
    bool working;           /* @vr is valid */
    bool broken;
    bool ctrl;              /* @ctrl works it */
    VringDevice vr;
    uint16_t held[VRING_MAX_SIZE];  /* transmit buffers in flight, oldest first */
    unsigned int n_held;

    bool kicked;            /* and not looked at since */
    unsigned int kicks, rung;
    uint32_t last_rung;
    uint32_t *bell;         /* our mapping of its doorbell page, with doorbells */
    int bell_fd;
} ModelRing;

struct VdpaModel {
    VhostVdpaKernel kernel; /* first */
    VdpaModelConfig config;
    char *dir, *path;

    pthread_mutex_t calling;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* @hang */

    /* The device file. */
    int fd;                 /* -1: not open, or closed and still in use */
    struct stat node;       /* of its path when it was opened */
    unsigned int refs;      /* the descriptor, calls in progress, doorbell pages */
    bool owned;             /* SET_OWNER */
    uint64_t backend_features;
    int config_call;
    bool suspended;         /* what the kernel knows */

    /* What the test wants. */
    GString *calls;
    char *fail_call, *failed;
    unsigned int fail_nth, fail_at;
    int fail_with;
    bool hang, lie, keep, reverse, halfway, vanish;
    unsigned int hold;
    uint64_t memory_limit;
    GString *complaints;

    /* The device. */
    uint8_t status;
    uint64_t driver_features;
    bool stopped;           /* suspended, and it is true */
    uint32_t group_asid[VDPA_MODEL_GROUPS];     /* was told */
    uint32_t looks_in[VDPA_MODEL_GROUPS];       /* ASID */
    unsigned int spaces_made;       /* bits */
    bool in_batch;
    uint32_t batch_asid;
    GPtrArray *maps;        /* of ModelMap, sorted by asid and iova */
    ModelRing rings[VDPA_MODEL_QUEUES];
    uint64_t packets;
    CtrlDevice *ctrl;
    int64_t ctrl_wait_us;   /* until it has to be worked again; -1: only when it is kicked */
    VringSegment segments[2][VRING_MAX_SIZE];
    GThread *thread;
    bool quit;
    int epoll_fd, wake_fd;
};

/* All of these under @lock, but for model_ioctl() and the device's start and stop. */

/* vdpa-model.c */
void model_ref(VdpaModel *m);
void model_unref(VdpaModel *m);

/* vdpa-model-calls.c */

/* Writes the call down: 0, or -errno of the fault that is due. */
int model_note(VdpaModel *m, const char *format, ...) G_GNUC_PRINTF(2, 3);
int model_note_ioctl(VdpaModel *m, unsigned long request, const void *argument);
void model_complain(VdpaModel *m, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* vdpa-model-ioctl.c */
int model_ioctl(VdpaModel *m, unsigned long request, void *argument);
/* What opening does, and closing: everything as at first. */
void model_reset_file(VdpaModel *m);

/* vdpa-model-iotlb.c */
int model_write(VdpaModel *m, const struct vhost_msg_v2 *message);
void model_unmap(VdpaModel *m, uint32_t asid, uint64_t first, uint64_t last);
void model_unmap_all(VdpaModel *m);
/* Our address of [iova, iova + size), or NULL and a complaint. */
void *model_translate(VdpaModel *m, uint32_t asid, uint64_t iova, uint64_t size, uint8_t perm,
                      const char *what, unsigned int ring);

/* vdpa-model-kicks.c */
void model_device_start(VdpaModel *m);
void model_device_stop(VdpaModel *m);
void model_device_wake(VdpaModel *m);
void model_ring_set_kick(VdpaModel *m, unsigned int index, int fd);

/* vdpa-model-device.c */
uint32_t model_asid(const VdpaModel *m, unsigned int ring);
uint32_t model_desc_asid(const VdpaModel *m, unsigned int ring);
VringBase model_ring_base(const ModelRing *ring);
/* Works the rings that were kicked, and the control queue; returns the packets moved. */
unsigned int model_device_work(VdpaModel *m);
void model_ring_enable(VdpaModel *m, unsigned int index, bool enable);
void model_device_suspend(VdpaModel *m);
void model_device_resume(VdpaModel *m);
/* Rings are as at first; they keep their doorbells, and, but for @file, their descriptors. */
void model_device_reset(VdpaModel *m, bool file);

#endif
