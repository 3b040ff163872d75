/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SvqDevice: one shadowed device.  It joins a guest side (a vhost-user server) and a device side
 * (a VhostDevice) by one shadow virtqueue for each virtqueue.
 *
 * Threads: the main thread, but for svq_device_get_queue_stats(), which any may call while
 * the device exists.
 */
#ifndef HW_SVQ_SVQ_DEVICE_H
#define HW_SVQ_SVQ_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/vhost/vhost-device.h"
#include "hw/vhost/vhost-user-server.h"
#include "util/iothread.h"

typedef struct SvqDevice SvqDevice;

typedef enum OnOffAuto { ON_OFF_AUTO_AUTO, ON_OFF_AUTO_ON, ON_OFF_AUTO_OFF } OnOffAuto;

/* Ring features of one side: on: must be there; off: never; auto: if the other party has it. */
typedef struct SvqRingFeatures {
    OnOffAuto packed;
    OnOffAuto event_idx;
    OnOffAuto indirect_desc;
    OnOffAuto in_order;
} SvqRingFeatures;

/*
 * Who works the guest's rings.  Passthrough: the device itself, with the guest's own kick and call
 * descriptors; no thread of ours runs for a queue.  Auto: passthrough until the VMM logs what is
 * written, then shadow, and back.
 */
typedef enum SvqMode { SVQ_MODE_SHADOW, SVQ_MODE_PASSTHROUGH, SVQ_MODE_AUTO } SvqMode;

/* Of a network device's control queue. */
typedef struct SvqControlOptions {
    bool has_mac;
    uint8_t mac[6];             /* the device's address, until the guest says another */
    /*
     * Whether the device receives everything, until the guest says otherwise; auto: it does if the
     * guest's control queue stays with the VMM, else nothing is said.
     */
    OnOffAuto promisc;
    uint32_t timeout_ms;        /* for a command; 0: 5000 */
    /* How long other queues wait for the guest's control queue if there is a state; 0: 1000. */
    uint32_t hold_ms;
} SvqControlOptions;

typedef struct SvqDeviceConfig {
    const char *id;
    VhostDevice *backend;               /* owned by the caller, outlives the device */
    SvqMode mode;
    SvqRingFeatures shadow;             /* towards the device */
    SvqRingFeatures guest;              /* offered to the guest */
    uint32_t queue_size;                /* of shadow rings; 0: as the guest's ring */
    /*
     * The thread of virtqueue q is iothreads[q], round robin: iothreads[q % n_iothreads].
     * References are taken.
     */
    IOThread *const *iothreads;
    unsigned int n_iothreads;           /* at least 1 */
    uint64_t withheld;                  /* features of the device that the guest shall not have */
    /* A guest that starts a packed ring at base 0 (User Mode Linux) means its beginning. */
    bool lenient_base;
    const char *inflight;               /* file of the in-flight records; NULL: none */
    SvqControlOptions control;
} SvqDeviceConfig;

typedef struct SvqQueueStats {
    SvqQueueState state;
    bool passthrough;           /* counters stand still */
    const char *iothread;       /* id */
    bool guest_packed, shadow_packed;
    ShadowVirtqueueCounters counters;
} SvqQueueStats;

/* NULL and @errp: the configuration cannot be. */
SvqDevice *svq_device_new(const SvqDeviceConfig *config, GError **errp);
void svq_device_free(SvqDevice *dev);

/* Serves VMMs at @address, as soon as the device side is there. 0, or -errno with @errp. */
int svq_device_listen(SvqDevice *dev, const VhostSocketAddress *address, GError **errp);

const char *svq_device_get_id(const SvqDevice *dev);
unsigned int svq_device_get_queue_count(const SvqDevice *dev);

/*
 * What the control queue's commands have made of a network device, a line for each thing; free it.
 * NULL: it has none that we look into.
 */
char *svq_device_describe_state(SvqDevice *dev);

/* False if there is no virtqueue @index. */
bool svq_device_get_queue_stats(const SvqDevice *dev, unsigned int index, SvqQueueStats *stats);

#endif
