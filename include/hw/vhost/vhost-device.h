/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VhostDevice: the device side, as the engine sees it, whatever is behind it
 * (vhost-user-client, the built-in devices, vhost-vdpa).
 *
 * How it works.  A device has features, configuration space, a status, and rings.  It
 * is started in this order: set_features, set_memory, rings (ring_enable, ring_start),
 * set_status with DRIVER_OK.  Rings may be added after DRIVER_OK, unless rings_fixed.
 * ring_stop() returns only when the device does not touch that ring any more, and leaves what it
 * has not used as it was; the ring is disabled then.  reset() takes everything back.
 *
 * Several rings can be stopped and started elsewhere as if at one instant: between suspend()
 * and resume() the device touches none.  A device without these two has no state that would
 * need them: there each ring_stop() and ring_start() stands for itself.
 *
 * Threads: the main thread calls; a device may block it for a bounded time (a
 * vhost-user peer gets VHOST_DEVICE_TIMEOUT_MS to answer, then it counts as gone).
 * A device works its rings in whatever thread it likes.
 */
#ifndef HW_VHOST_VHOST_DEVICE_H
#define HW_VHOST_VHOST_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring.h"
#include "util/aio-context.h"

#define VHOST_DEVICE_TIMEOUT_MS 10000

typedef struct VhostDevice VhostDevice;

/* A ring offered to the device. */
typedef struct VhostRing {
    uint32_t num;
    VringBase base;         /* where both sides begin */
    VringAreas areas;       /* our addresses, inside a region of the map given last */
    uint64_t desc_iova, driver_iova, device_iova;   /* the device's */
    int kick_fd;            /* the driver writes it; borrowed until ring_stop or replaced */
    int call_fd;            /* the device writes it, -1: nobody listens; borrowed likewise */
    AioContext *ctx;        /* where the engine runs this queue: a hint for built-in devices */
} VhostRing;

typedef enum VhostRingFd { VHOST_RING_KICK, VHOST_RING_CALL } VhostRingFd;

typedef struct VhostDeviceOps {
    const char *type;       /* as in -backend TYPE */
    /* All 0, or -errno with @errp. */
    int (*set_features)(VhostDevice *dev, uint64_t features, GError **errp);
    int (*set_memory)(VhostDevice *dev, const MemoryMap *map, GError **errp);
    int (*set_status)(VhostDevice *dev, uint8_t status, GError **errp);
    int (*ring_start)(VhostDevice *dev, unsigned int index, const VhostRing *ring, GError **errp);
    int (*ring_enable)(VhostDevice *dev, unsigned int index, bool enable, GError **errp);
    /*
     * @base, unless NULL: where it stands, both positions if packed; split: the available one, and
     * the used index in the ring is the other.  Valid only if dev->tells_base.
     */
    int (*ring_stop)(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp);
    /* Of a started ring.  A call descriptor of -1: the device is not to notify. */
    int (*ring_set_fd)(VhostDevice *dev, unsigned int index, VhostRingFd which, int fd,
                       GError **errp);
    /*
     * Descriptors that ring @index may have, after set_features, and then only powers of two.
     * NULL, or 0: any number that section 2.7 or 2.8 allows.
     */
    uint32_t (*ring_max_num)(VhostDevice *dev, unsigned int index);
    /*
     * After set_features and before set_memory: until the next reset ring @index, with all that it
     * names, is looked for in regions with .control alone, which no buffer of another ring reaches.
     * False: it cannot be, and these regions are among the others.  NULL: likewise.
     */
    bool (*ring_isolate)(VhostDevice *dev, unsigned int index);
    /*
     * Where a store rings the bell of ring @index instead of kick_fd: 16 bits, the index; or 32,
     * as section 4.1.5.2 says, with NOTIFICATION_DATA.  Valid until reset().  NULL, or
     * NULL returned: there is no such place.
     */
    void *(*ring_doorbell)(VhostDevice *dev, unsigned int index);
    /* All three or none; see above.  While suspended set_memory is not called. */
    int (*suspend)(VhostDevice *dev, GError **errp);
    int (*resume)(VhostDevice *dev, GError **errp);
    /* While suspended: where ring @index stands, as ring_stop() says; it stays the device's. */
    int (*ring_base)(VhostDevice *dev, unsigned int index, VringBase *base, GError **errp);
    /* Exactly @size bytes; -EINVAL if that leaves the configuration space; -ENOTSUP: has none. */
    int (*get_config)(VhostDevice *dev, void *data, uint32_t offset, uint32_t size, GError **errp);
    int (*set_config)(VhostDevice *dev, const void *data, uint32_t offset, uint32_t size,
                      GError **errp);
    /*
     * A network device tells the switches around it where @mac (its first byte in bits 0..7) is
     * now.  NULL, or dev->has_rarp not set: it cannot.
     */
    int (*send_rarp)(VhostDevice *dev, uint64_t mac, GError **errp);
    int (*reset)(VhostDevice *dev, GError **errp);
    /*
     * After a reset, which may leave the memory mapped for a later start: there will be none with it.
     * NULL: nothing to do.
     */
    void (*forget_memory)(VhostDevice *dev);
    void (*free)(VhostDevice *dev);
} VhostDeviceOps;

/* What a device tells its owner, in the main thread, never from inside a call of an op. */
typedef struct VhostDeviceNotify {
    /* It is there and may be used: features, queue_count, max_regions are valid. */
    void (*ready)(void *opaque);
    /* It is gone; every op fails with -ENOTCONN until ready comes again. */
    void (*gone)(void *opaque);
    void (*config_changed)(void *opaque);
} VhostDeviceNotify;

/* Embedded at the start of each implementation. */
struct VhostDevice {
    const VhostDeviceOps *ops;
    char *id;
    bool connected;             /* ops may be called */
    bool has_config;            /* it has a configuration space to ask for */
    bool has_rarp;              /* it can announce a guest that has moved */
    bool tells_base;            /* ring_stop() says where the ring stands */
    bool rings_fixed;           /* while DRIVER_OK is set no ring can be started or stopped */
    bool rings_apart;           /* it sees regions of rings as rings only: no tables, no buffers */
    bool serves_control;        /* a control queue that it offers it serves, whoever asks */
    bool later_rings_ours;      /* owner, before DRIVER_OK: rings that it starts later are not the guest's */
    uint32_t device_type;       /* virtio device ID (section 5); 0: not known */
    uint64_t iova_first, iova_last;     /* that it can reach, inclusive; 0, 0: all */
    uint64_t features;          /* virtio feature bits that it offers, no vhost bits */
    uint32_t queue_count;       /* virtqueues that it can have */
    uint32_t max_regions;       /* of the map that set_memory takes */
    const VhostDeviceNotify *notify;    /* set by the owner; NULL: nobody */
    void *notify_opaque;
};

#endif
