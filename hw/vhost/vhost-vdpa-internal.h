/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of vhost-vdpa share: its state, and how it calls the kernel.  vhost-vdpa.c: life;
 * vhost-vdpa-probe.c: what the device can; vhost-vdpa-ops.c: features, status, configuration;
 * vhost-vdpa-ring.c: rings; vhost-vdpa-groups.c: where they are looked for; vhost-vdpa-suspend.c:
 * suspending; vhost-vdpa-iotlb.c: memory.
 */
#ifndef HW_VHOST_VHOST_VDPA_INTERNAL_H
#define HW_VHOST_VHOST_VDPA_INTERNAL_H

#include <sys/stat.h>

#include "vhost-vdpa-kernel.h"
#include "hw/vhost/vhost-vdpa.h"
#include "util/event-notifier.h"

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

/*
 * The address spaces that we use: the guest's, where buffers are looked for; and one for what is
 * ours alone, where a device can look for it there.
 */
enum { VDPA_SPACE_BUFFERS, VDPA_SPACE_OURS, VDPA_SPACES };

/* One mapping that the kernel has. */
typedef struct VdpaMapping {
    uint64_t serial;            /* of @region */
    uint64_t iova;
    uint64_t size;              /* bytes */
    uint64_t host;
    MemoryRegion *region;       /* a reference: some devices look through our own mapping of it */
} VdpaMapping;

/* All mappings of an address space, by serial number. */
typedef struct VdpaSpace {
    VdpaMapping *maps;
    unsigned int n;
} VdpaSpace;

typedef struct VdpaRing {
    bool enabled;               /* it is to be */
    bool live;                  /* the device was told that it is */
    bool started;
    bool apart;                 /* its ring is in our address space */
    VringBase base;             /* where it was started */
    uint32_t num;               /* its descriptors since the last reset; 0: there was no ring */
    uint32_t group, desc_group; /* where its buffers and its ring are looked for */
    bool grouped;               /* the kernel has said so; never without @has_spaces */
    bool separable;             /* no buffers of any virtqueue are looked for in @desc_group */
    bool isolated;              /* both groups are its own, and in our address space */
    uint32_t max_num;           /* descriptors; 0: not asked since the last reset */
} VdpaRing;

typedef struct VhostVdpa {
    VhostDevice dev;
    VhostDeviceOps ops;         /* dev.ops: what it cannot is not there */
    VhostVdpaKernel *kernel;

    /* Its file. */
    char *path;                 /* NULL: a descriptor was given, and another will not be */
    int fd;                     /* -1: none; then every op fails with -ENOTCONN */
    struct stat *node;          /* what was at @path when it was opened; NULL: nothing to compare */
    int inotify_fd;             /* watches the folder of @path; -1: cannot */
    guint inotify_source;
    guint retry_source;         /* to open it again */
    int64_t retry_ms;           /* the next wait */
    int64_t opened_us;          /* when it was opened last */
    bool hung;                  /* given up in SUSPEND, which may still have it */
    int retry_error;            /* that was told of */

    /* What it can. */
    uint64_t offered;           /* virtio features, what we keep to ourselves included */
    uint64_t backend_features;  /* negotiated */
    uint32_t config_size;
    uint32_t max_num;           /* descriptors of any ring */
    uint32_t n_spaces, n_groups;
    bool has_spaces;            /* as many as we use, and groups can be put there */
    bool apart_lost;            /* dev.rings_apart ends with the next reset */

    /* Where it stands. */
    uint8_t status;
    uint64_t features;          /* set last */
    bool suspended;             /* and running */
    bool maps_doubtful;         /* the device may have lost them: the next reset maps anew */
    VdpaRing *rings;            /* dev.queue_count */
    int64_t *group_asid;        /* of each group; -1: not said since the last reset */
    VdpaSpace spaces[VDPA_SPACES];
    void **doorbells;           /* dev.queue_count; NULL: not mapped */
    uint32_t n_doorbells;       /* of the array, which outlives a device that is gone for a while */
    bool has_doorbells;

    EventNotifier config_call;
    guint config_source;
    EventNotifier nobody;       /* the call descriptor of a ring that nobody listens to */

    /* What is to be told from the main loop. */
    guint notify_source;
} VhostVdpa;

/* How long a device may take to suspend; the tests make it short. */
extern int vhost_vdpa_suspend_timeout_ms;

static inline VhostVdpa *vhost_vdpa_of(VhostDevice *dev)
{
    return (VhostVdpa *)dev;
}

static inline bool vhost_vdpa_has(const VhostVdpa *d, unsigned int backend_feature)
{
    return d->backend_features & (UINT64_C(1) << backend_feature);
}

static inline bool vhost_vdpa_is_running(const VhostVdpa *d)
{
    return d->status & VIRTIO_STATUS_DRIVER_OK;
}

/* vhost-vdpa.c */

/* Sets *@errp; -@err. */
int vhost_vdpa_error(GError **errp, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);

/*
 * A call to the kernel: 0, or -errno with @errp.  A device that is not there any more is gone from
 * then on: -ENOTCONN.
 */
#define vhost_vdpa_call(d, request, argument, errp) \
    vhost_vdpa_ioctl(d, request, #request, argument, errp)
int vhost_vdpa_ioctl(VhostVdpa *d, unsigned long request, const char *name, void *argument,
                     GError **errp);

/* The same for a call that was made: @ret is what it returned. */
int vhost_vdpa_check_call(VhostVdpa *d, int ret, const char *name, GError **errp);

/* The same about virtqueue (or group) @index. */
#define vhost_vdpa_call_state(d, request, index, num, errp) \
    vhost_vdpa_ioctl_state(d, request, #request, index, num, errp)
int vhost_vdpa_ioctl_state(VhostVdpa *d, unsigned long request, const char *name,
                           unsigned int index, uint32_t num, GError **errp);

/* And with an answer. */
#define vhost_vdpa_ask_state(d, request, index, num, errp) \
    vhost_vdpa_ioctl_ask_state(d, request, #request, index, num, errp)
int vhost_vdpa_ioctl_ask_state(VhostVdpa *d, unsigned long request, const char *name,
                               unsigned int index, uint32_t *num, GError **errp);

/* Doorbell pages go; each is mapped again when it is asked for. */
void vhost_vdpa_unmap_doorbells(VhostVdpa *d);

/* Lets go of the device; notify->gone comes from the main loop. */
void vhost_vdpa_lose(VhostVdpa *d, const char *why);

/* vhost-vdpa-probe.c: asks an open device what it can.  0, or -errno with @errp. */
int vhost_vdpa_probe(VhostVdpa *d, GError **errp);

/* vhost-vdpa-ops.c */
extern const VhostDeviceOps vhost_vdpa_ops;
int vhost_vdpa_reset(VhostDevice *dev, GError **errp);

/* vhost-vdpa.c */
void vhost_vdpa_free(VhostDevice *dev);

/* vhost-vdpa-ring.c */
int vhost_vdpa_check_connected(VhostVdpa *d, GError **errp);
int vhost_vdpa_ring_start(VhostDevice *dev, unsigned int index, const VhostRing *ring,
                          GError **errp);
int vhost_vdpa_ring_enable(VhostDevice *dev, unsigned int index, bool enable, GError **errp);
int vhost_vdpa_ring_stop(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp);
int vhost_vdpa_ring_base(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp);
int vhost_vdpa_ring_set_fd(VhostDevice *dev, unsigned int index, VhostRingFd which, int fd,
                           GError **errp);
uint32_t vhost_vdpa_ring_max_num(VhostDevice *dev, unsigned int index);
void *vhost_vdpa_ring_doorbell(VhostDevice *dev, unsigned int index);

/* Enables what is to be, just before DRIVER_OK. */
int vhost_vdpa_enable_rings(VhostVdpa *d, GError **errp);
/* Takes the descriptors of a kind away from the kernel; with the reset rings are as at first. */
void vhost_vdpa_unbind_rings(VhostVdpa *d, VhostRingFd which);
void vhost_vdpa_forget_rings(VhostVdpa *d);

/* vhost-vdpa-groups.c */
/* Features are set, and groups may depend on them. */
void vhost_vdpa_find_groups(VhostVdpa *d);
/* VhostDeviceOps.ring_isolate */
bool vhost_vdpa_ring_isolate(VhostDevice *dev, unsigned int index);
/* Has ring @index, which is to start, looked for where it will lie. */
int vhost_vdpa_choose_space(VhostVdpa *d, unsigned int index, bool apart, GError **errp);
/* Descriptor groups without a ring go where our rings are if one of these has started. */
int vhost_vdpa_put_idle_groups(VhostVdpa *d, GError **errp);

/* vhost-vdpa-suspend.c */
int vhost_vdpa_suspend(VhostDevice *dev, GError **errp);
int vhost_vdpa_resume(VhostDevice *dev, GError **errp);

/* vhost-vdpa-iotlb.c */
int vhost_vdpa_set_memory(VhostDevice *dev, const MemoryMap *map, GError **errp);
/* Removes every mapping. */
int vhost_vdpa_unmap_all(VhostVdpa *d, GError **errp);
/* Has the device look at address space @asid again, where there are batches. */
int vhost_vdpa_touch_space(VhostVdpa *d, uint32_t asid, GError **errp);
/* The kernel has none any more. */
void vhost_vdpa_forget_spaces(VdpaSpace *spaces);
/* Whether @iova lies in our address space. */
bool vhost_vdpa_is_apart(const VhostVdpa *d, uint64_t iova);

#endif
