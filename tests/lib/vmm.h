/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A scripted VMM and the guest in it, for tests of whole devices: vhost-user messages in any
 * order on one side, a virtio-net driver that waits for its calls on the other.
 *
 * How it works.  Guest memory is one region for buffers and one for each virtqueue, each
 * a memory file of its own, so that a ring can lose its memory alone.  Queue 2N receives,
 * 2N + 1 transmits.  The main loop, in which the device under test lives, runs whenever the
 * VMM waits for an answer; traffic does not need it.
 */
#ifndef TESTS_LIB_VMM_H
#define TESTS_LIB_VMM_H

#include "hw/svq/svq-device.h"
/* Before the messages, which name its bits 26 and 30 again. */
#include "hw/virtio/features.h"
#include "hw/virtio/vring-driver.h"
#include "lib/vhost-user-peer.h"

#define VMM_RINGS       4
#define VMM_REGIONS     (1 + VMM_RINGS)
#define VMM_DATA        VMM_RINGS               /* the region with the buffers */
#define VMM_RING_SIZE   UINT64_C(0x100000)      /* of a ring's region, bytes */
#define VMM_DRIVER_AREA UINT64_C(0x80000)       /* within it */
#define VMM_DEVICE_AREA UINT64_C(0xa0000)
#define VMM_USER_OFFSET UINT64_C(0x7f0000000000)
#define VMM_BUFFER      2048u                   /* bytes of each buffer */
#define VMM_RX_POSTED   32u                     /* receive buffers that the guest keeps posted */
#define VMM_WAIT_MS     10000

/* Features of a modern network driver; ring features are for each test to add. */
#define VMM_FEATURES    (VIRTIO_F_BIT(VIRTIO_F_VERSION_1) | VIRTIO_F_BIT(VIRTIO_NET_F_MRG_RXBUF))
#define VMM_PACKED      VIRTIO_F_BIT(VIRTIO_F_RING_PACKED)

typedef struct VmmRegion {
    uint64_t gpa;
    uint64_t size;          /* as told to the device; another one makes it map the file anew */
    int fd;                 /* twice as long */
    uint8_t *host;
    uint64_t mapped;        /* bytes at @host */
} VmmRegion;

typedef struct VmmRing {
    VringConfig config;
    VringDriver driver;     /* the guest's */
    bool made;              /* the driver is set up */
    int kick, call, err;    /* our ends: call may be the read end of a pipe */
    uint32_t base;          /* what GET_VRING_BASE answered last */
    uint32_t next;          /* sequence number of the next packet sent or expected */
} VmmRing;

typedef struct Vmm {
    int fd;                 /* the connection; -1: none */
    uint64_t features;      /* to be set, without bit 30 */
    bool ask;               /* NEED_REPLY with every message that may have it */
    bool agreed;            /* on protocol features */
    bool pipes;             /* call descriptors are pipes */
    uint32_t num;           /* size of the rings */
    VmmRegion regions[VMM_REGIONS];
    VmmRing rings[VMM_RINGS];
    uint32_t wire[VMM_RINGS];   /* the virtqueue that each is; the same, unless a test changes it */
} Vmm;

/* A message of a script: what it carries follows from the request, @index and @value. */
typedef struct VmmStep {
    VhostUserRequest request;
    uint32_t index;
    /*
     * SET_FEATURES: bits left out of what the VMM has to say; SET_MEM_TABLE: of the regions left
     * out; SET_VRING_ADDR: bytes by which the descriptor area is off; SET_VRING_NUM: 0: as always.
     */
    uint64_t value;
} VmmStep;

/* SET_VRING_BASE: any value is a packed ring's, and 0 for a split one, but for the second: */
#define VMM_START       UINT64_C(0x80008000)
#define VMM_KEEP_BASE   UINT64_C(0x1000000000)  /* what GET_VRING_BASE said */

void vmm_init(Vmm *v, uint64_t features, uint32_t num);
void vmm_cleanup(Vmm *v);

/* Connects to a listening device.  Closes what there was. */
void vmm_connect(Vmm *v, const char *path);
void vmm_disconnect(Vmm *v);

/* The message of @step with fresh descriptors, to be cleared. */
VhostUserMessage vmm_message(Vmm *v, const VmmStep *step);

/* Sends it and takes the answer; asserts that it is a good one. */
void vmm_do(Vmm *v, VhostUserRequest request, uint32_t index, uint64_t value);
void vmm_run(Vmm *v, const VmmStep *steps, unsigned int n);

/* The same with NEED_REPLY: the answer, 0 or 1. */
uint64_t vmm_try(Vmm *v, VhostUserRequest request, uint32_t index, uint64_t value);
uint64_t vmm_get(Vmm *v, VhostUserRequest request);

/* Sets a kick, call or error descriptor to a copy of @fd; -1: none. */
void vmm_set_fd(Vmm *v, VhostUserRequest request, uint32_t index, int fd);

/* Lets the guest's driver begin: cleared rings at position 0. */
void vmm_make_ring(Vmm *v, unsigned int q);

/* Owner and features up to memory; then rings [first, first + n) from the start, enabled. */
void vmm_begin(Vmm *v, uint64_t protocol_features);
void vmm_start_rings(Vmm *v, unsigned int first, unsigned int n);

/* NUM, BASE, ADDR, CALL, ERR, KICK: goes on at @base with the driver as it is. */
void vmm_continue_ring(Vmm *v, unsigned int q, uint64_t base);

/* Both, with all that the device under test offers, STATUS among it, up to DRIVER_OK. */
void vmm_start(Vmm *v, unsigned int n_rings);

/* Where a split or packed ring stands when the device has nothing of what is not used. */
uint32_t vmm_expected_base(const Vmm *v, unsigned int q);

/* What the guest does.  A buffer's place in memory: */
uint64_t vmm_buffer_gpa(unsigned int q, unsigned int i);
uint8_t *vmm_buffer(const Vmm *v, unsigned int q, unsigned int i);

/* Adds an element of @len bytes at @gpa, publishes, kicks if that is wanted. */
void vmm_add(Vmm *v, unsigned int q, uint64_t gpa, uint32_t len, uint32_t cookie);
void vmm_post_rx(Vmm *v, unsigned int q, unsigned int n);

/* Collects one used buffer; sleeps on the call descriptor until there is one. */
void vmm_wait_used(Vmm *v, unsigned int q, uint32_t *cookie, uint32_t *len);

/* Sends @n packets on pair @pair and receives them; each must be the right one. */
void vmm_echo(Vmm *v, unsigned int pair, unsigned int n);

/* Whether the ring's error descriptor, or its call descriptor, has been signalled since. */
bool vmm_has_error(Vmm *v, unsigned int q);
bool vmm_has_call(Vmm *v, unsigned int q);

/* Waits for that, and for what is seen after it, 10 s at most. */
void vmm_await_error(Vmm *v, unsigned int q);
void vmm_await_status(Vmm *v, uint64_t status);

/* Breaks the available part of ring @q: a head, or a buffer id, that cannot be. */
void vmm_spoil(Vmm *v, unsigned int q);

/* Runs the main loop until @q of @dev is in @state, 10 s at most. */
void vmm_await_state(SvqDevice *dev, unsigned int q, SvqQueueState state);

#endif
