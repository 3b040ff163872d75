/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device side made of paper: a VhostDevice that writes down what it is asked, fails when
 * told to, and has its rings worked by the test, by hand.
 *
 * It tells where a ring stands as it is, with buffers in flight that the test has taken and not
 * put back, and takes rings while DRIVER_OK; what it can (dev.tells_base, dev.rings_fixed, its
 * IOVAs) is the test's to change.  One ring may be a control queue, which works by itself.
 */
#ifndef TESTS_LIB_FAKE_DEVICE_H
#define TESTS_LIB_FAKE_DEVICE_H

#include "hw/vhost/vhost-device.h"
#include "hw/virtio/vring-device.h"
#include "lib/ctrl-device.h"

#define FAKE_RINGS      4       /* that a device has, unless the test says otherwise */
#define FAKE_MAX_RINGS  16
#define FAKE_CONFIG     64      /* bytes of configuration space */

typedef struct FakeDevice FakeDevice;

struct FakeDevice {
    VhostDevice dev;
    VhostDeviceOps ops;         /* its own: a test may take operations away */
    GString *calls;             /* "features memory status:b start:0 ..." since it was cleared */
    uint64_t features;          /* negotiated */
    uint8_t status;
    bool suspended;
    /* A ring that it gets back where it stood has in flight what it had. */
    bool keeps_in_flight;
    const MemoryMap *map;
    uint8_t config[FAKE_CONFIG];
    uint32_t config_size;       /* 0: it has no configuration space */
    CtrlDevice *ctrl;           /* NULL: it has no control queue */
    unsigned int ctrl_index;
    bool isolates;              /* what ring_isolate returns; a test may change it */
    bool isolated;              /* the control queue is: it finds regions with .control alone */
    const char *fails;          /* the call that fails, in the words of @calls; NULL: none */
    int fail_with;              /* errno; ENOTCONN: and it is not connected any more */
    /* While ring @index is being stopped, before the device lets go of it. */
    void (*stopping)(FakeDevice *fake, unsigned int index, void *opaque);
    void *opaque;
    struct FakeRing {
        bool started, enabled;
        bool kept;              /* stopped, and @vr waits for the ring to come back */
        VhostRing ring;         /* with its descriptors as last set */
        VringDevice vr;
    } rings[FAKE_MAX_RINGS];
};

/* Connected; of so many virtqueues, at most FAKE_MAX_RINGS. */
void fake_device_init(FakeDevice *fake, uint64_t features, unsigned int queue_count);
void fake_device_cleanup(FakeDevice *fake);

/* It has suspend and resume from now on. */
void fake_device_can_suspend(FakeDevice *fake);

/*
 * It is a network device with this configuration space, of @size bytes; what is written there is
 * "config:OFFSET+SIZE".
 */
void fake_device_be_net(FakeDevice *fake, const void *config, uint32_t size);

/* Ring @index is a control queue, worked by @ctrl while DRIVER_OK is set; that stays the test's. */
void fake_device_host_ctrl(FakeDevice *fake, unsigned int index, CtrlDevice *ctrl);

/* It has ring_isolate ("isolate:2") from now on, which succeeds. */
void fake_device_can_isolate(FakeDevice *fake);

/* The calls since last asked; free it. */
char *fake_device_take_calls(FakeDevice *fake);

/* The device side goes, or comes back, as a vhost-user peer does. */
void fake_device_go(FakeDevice *fake);
void fake_device_come(FakeDevice *fake);

/* Takes a buffer of ring @index, no control queue, sleeping on the kick until there is one. */
uint16_t fake_device_take(FakeDevice *fake, unsigned int index, VringSegment *seg);

/* Puts it back, publishes, calls. */
void fake_device_put(FakeDevice *fake, unsigned int index, uint32_t id, uint32_t len);

#endif
