/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A model of a vDPA device and of the kernel's interface to it, in this process: what
 * /dev/vhost-vdpa-N does, for tests of hw/vhost/vhost-vdpa and of what is above it.
 *
 *   VdpaModelConfig config = vdpa_model_sim;        change what the test is about
 *   VdpaModel *m = vdpa_model_new(&config);
 *   VhostVdpaConfig vdpa = { .id = "vdpa0", .path = vdpa_model_path(m), .fd = -1,
 *                            .kernel = vdpa_model_kernel(m) };
 *   ... vhost_vdpa_new(&vdpa, &error) ... traffic ...
 *   g_autofree char *calls = vdpa_model_take_calls(m);
 *   ... free the VhostDevice ...
 *   vdpa_model_free(m);                             fails if anything was wrong
 *
 * How it works.  Calls obey the kernel's rules as of Linux 6.12 and return its error numbers.
 * The device is a network card whose receive queue 2N gets what transmit queue 2N + 1 sends, and
 * whose control queue, if CTRL_VQ is accepted, answers as the test wants (lib/ctrl-device.h).  It
 * reaches memory through its IOTLB alone: an update pins pages as the kernel does (by a second
 * mapping of them), so it goes on to see what it was given, whatever our side does to its own
 * mapping.  Where kinds of real devices differ, the model takes the stricter: new areas and
 * positions count from the next enabling; nothing is looked at without a kick; maps are lost
 * by a reset unless IOTLB_PERSIST was negotiated, though the kernel's list keeps them; a group that
 * is put into another space while DRIVER_OK is set goes there with the next batch.
 *
 * What the rules of the interface forbid, but the kernel lets pass, is a complaint: an access that
 * the IOTLB does not allow, a ring that begins with buffers in flight, a position asked of a
 * running ring, maps changed while suspended, a ring of a device without SUSPEND disabled.
 * vdpa_model_free() fails if there is one, or if the device file or a doorbell is still open.
 *
 * Threads: the test's calls may come from any; each holds the lock for a moment.  The device works
 * in a thread of its own, or, with config->by_hand, in vdpa_model_step().
 */
#ifndef TESTS_LIB_VDPA_MODEL_H
#define TESTS_LIB_VDPA_MODEL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "../hw/vhost/vhost-vdpa-kernel.h"
#include "hw/virtio/vring.h"
#include "lib/ctrl-device.h"

#define VDPA_MODEL_QUEUES   8
#define VDPA_MODEL_CONFIG   64      /* bytes of configuration space */
#define VDPA_MODEL_GROUPS   (2 * VDPA_MODEL_QUEUES)
#define VDPA_MODEL_SPACES   4

/* Backend features, which not all headers know. */
#define VDPA_B(bit)                 (UINT64_C(1) << (bit))
#define VDPA_B_MSG_V2               VDPA_B(1)
#define VDPA_B_BATCH                VDPA_B(2)
#define VDPA_B_ASID                 VDPA_B(3)
#define VDPA_B_SUSPEND              VDPA_B(4)
#define VDPA_B_RESUME               VDPA_B(5)
#define VDPA_B_ENABLE_AFTER         VDPA_B(6)
#define VDPA_B_DESC_ASID            VDPA_B(7)
#define VDPA_B_PERSIST              VDPA_B(8)
#define VDPA_B_CORE                 (VDPA_B_MSG_V2 | VDPA_B_BATCH | VDPA_B_ASID)

typedef struct VdpaModel VdpaModel;

typedef struct VdpaModelConfig {
    uint64_t features;              /* offered; without INDIRECT_DESC: the model reads no tables */
    uint64_t refused;               /* of these: accepting one loses FEATURES_OK */
    uint64_t backend_features;
    uint32_t device_id;
    unsigned int n_queues;          /* an odd number: with a control queue, the last one */
    uint32_t num_max;               /* descriptors of a ring */
    uint64_t iova_first, iova_last;
    /* Groups of rings and address spaces; no groups: the device knows of none. */
    unsigned int n_groups, n_spaces;
    uint32_t group[VDPA_MODEL_QUEUES], desc_group[VDPA_MODEL_QUEUES];
    bool asid_fixed;                /* not to be changed while DRIVER_OK is set */
    bool doorbells;                 /* can be mapped */
    bool no_get_base;               /* GET_VRING_BASE: -EOPNOTSUPP */
    bool initial_base;              /* SET_VRING_BASE: only the initial state */
    bool short_base;                /* positions of 16 bits, as before Linux 6.4 */
    uint32_t config_size;
    uint8_t config[VDPA_MODEL_CONFIG];
    bool by_hand;                   /* no thread: see vdpa_model_step() */
} VdpaModelConfig;

/* Like vdpa_sim_net (but packed rings, two pairs); all backend features but DESC_ASID. */
extern const VdpaModelConfig vdpa_model_sim;
/* Like vp_vdpa: no SUSPEND, no GET_VRING_BASE, a doorbell for each queue. */
extern const VdpaModelConfig vdpa_model_pci;
/* Like the first; the rings of all queues are a group of their own, group 1. */
extern const VdpaModelConfig vdpa_model_spaces;

/* Like vdpa_sim_net, with its one pair and the control queue, which is a group of its own. */
extern const VdpaModelConfig vdpa_model_sim_ctrl;
/*
 * Like mlx5_vdpa: the rings of the pair are a group of their own, too, the control queue is one
 * with its ring, and there are but two spaces.
 */
extern const VdpaModelConfig vdpa_model_mlx5;

/* Life.  The device file is there from the start. */
VdpaModel *vdpa_model_new(const VdpaModelConfig *config);

/*
 * Nothing may be open any more, nor mapped; complaints fail the test.  The model waits a
 * while for a thread that is still in a call.
 */
void vdpa_model_free(VdpaModel *m);

const char *vdpa_model_path(const VdpaModel *m);
VhostVdpaKernel *vdpa_model_kernel(VdpaModel *m);

/* Opens it, as whoever hands us a descriptor does (vhostfd=). */
int vdpa_model_open(VdpaModel *m);
bool vdpa_model_is_open(VdpaModel *m);

/* The device file is removed, or created again.  Who has it open can go on, as in the kernel. */
void vdpa_model_vanish(VdpaModel *m);
/* As soon as it is opened next, before its opener can look. */
void vdpa_model_vanish_at_open(VdpaModel *m);
void vdpa_model_appear(VdpaModel *m);

/*
 * The calls since last asked, separated by blanks; free it.  Names are the kernel's without
 * "VHOST_" and "VHOST_VDPA_":
 *   open  close  mmap:Q  GET_FEATURES  SET_STATUS:b  SET_GROUP_ASID:GROUP:ASID
 *   BATCH_BEGIN:ASID  UPDATE:ASID:IOVA+SIZE  INVALIDATE:ASID:IOVA+SIZE  BATCH_END:ASID  (hex)
 *   SET_VRING_NUM:Q:N  SET_VRING_BASE:Q:BASE (hex)  SET_VRING_ADDR:Q  SET_VRING_ENABLE:Q:0
 *   SET_VRING_KICK:Q  SET_VRING_CALL:Q  and with :-1 where there is no descriptor
 */
char *vdpa_model_take_calls(VdpaModel *m);

/*
 * Faults.  A call that fails has no effect.  @call is a call as above, or its beginning up to
 * a colon.  @nth: the 1st, 2nd ... from now on; 0: each.  One fault at a time; NULL: none.
 */
void vdpa_model_fail(VdpaModel *m, const char *call, unsigned int nth, int err);

/* The @k-th call from now on, whatever it is, but for close; 1 is the next. */
void vdpa_model_fail_at(VdpaModel *m, unsigned int k, int err);

/* The call that has failed since one of these; NULL: none as yet.  Free it. */
char *vdpa_model_failed(VdpaModel *m);

/* SUSPEND does not return, and blocks all other calls, until released; then it returns 0. */
void vdpa_model_hang_suspend(VdpaModel *m);
void vdpa_model_release_suspend(VdpaModel *m);

/* SUSPEND stops the device, but fails (EIO), and the kernel knows of nothing. */
void vdpa_model_suspend_halfway(VdpaModel *m, bool halfway);

/* SUSPEND returns 0, but the device goes on. */
void vdpa_model_lie_on_suspend(VdpaModel *m, bool lie);

/* The bytes that can be mapped before updates fail for want of RLIMIT_MEMLOCK. */
void vdpa_model_limit_memory(VdpaModel *m, uint64_t bytes);

/* The device. */

typedef struct VdpaModelRing {
    bool enabled;
    uint32_t num;
    VringBase base;                 /* where it stands */
    uint64_t desc, driver, device;  /* IOVAs */
    uint32_t asid, desc_asid;       /* of buffers; of the ring */
    bool has_kick, has_call;
    unsigned int kicks;             /* seen, of both kinds */
    unsigned int rung;              /* of these, by doorbell */
    uint32_t last_rung;             /* what was written to it */
    unsigned int held;              /* transmit buffers in flight */
} VdpaModelRing;

VdpaModelRing vdpa_model_ring(VdpaModel *m, unsigned int index);
uint8_t vdpa_model_status(VdpaModel *m);
uint64_t vdpa_model_driver_features(VdpaModel *m);
uint64_t vdpa_model_backend_features(VdpaModel *m);     /* negotiated */
uint64_t vdpa_model_packets(VdpaModel *m);      /* moved from a transmit to a receive queue */

/* What is mapped: "ASID:IOVA+SIZE ..." in hex, sorted; what the device has lost: with "!". */
char *vdpa_model_maps(VdpaModel *m);

/*
 * Transmit buffers that stay in flight when their packet has been received: @n of each queue;
 * the others complete, the youngest first if @reverse.  0 completes what was held.
 */
void vdpa_model_hold(VdpaModel *m, unsigned int n, bool reverse);

/*
 * What SUSPEND does with these.  Not @keep (the default): what was not overtaken is untaken, the
 * rest completes.  @keep: they stay in flight, and the positions tell; they complete if the
 * device resumes in the same ring.
 */
void vdpa_model_keep_in_flight(VdpaModel *m, bool keep);

/* The model's control queue, for what a test sets and asks. */
CtrlDevice *vdpa_model_ctrl(VdpaModel *m);

/* By hand: sees kicks, works the rings; returns the packets moved. */
unsigned int vdpa_model_step(VdpaModel *m);

/* Configuration changes, and its interrupt; and the latter with NEEDS_RESET in the status. */
void vdpa_model_set_config(VdpaModel *m, uint32_t offset, const void *data, uint32_t size);
void vdpa_model_get_config(VdpaModel *m, uint32_t offset, void *data, uint32_t size);
void vdpa_model_need_reset(VdpaModel *m);

/* What was wrong so far, a line each; "" is all right.  Asking takes it: it was expected. */
char *vdpa_model_take_complaints(VdpaModel *m);

#endif
