/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole SvqDevice for tests: IOThreads, a device side (loopback or paper), a listening
 * socket, and a scripted VMM connected to it.
 */
#ifndef TESTS_LIB_SVQ_RIG_H
#define TESTS_LIB_SVQ_RIG_H

#include "hw/svq/svq-device.h"
#include "hw/virtio/features.h"
#include "lib/fake-device.h"
#include "lib/vmm.h"

#define RIG_IOTHREADS 2

/* A pair of ring formats, and how the threads wait: what most tests are repeated for. */
typedef struct RigFormat {
    const char *name;
    bool guest_packed, shadow_packed;
    int64_t poll_max_ns;
} RigFormat;

extern const RigFormat rig_formats[4];

typedef struct RigConfig {
    RigFormat format;
    uint64_t guest_features;    /* beside VMM_FEATURES and the format's */
    uint64_t fake_features;     /* 0: the device side is a loopback device of two pairs */
    uint32_t num;               /* of the guest's rings; 0: 64 */
    uint32_t queue_size;
    bool lenient_base;
    IOThread *device_thread;    /* of the loopback device */
    SvqMode mode;
    void (*prepare_fake)(FakeDevice *fake);     /* before the device under test knows it */
} RigConfig;

typedef struct Rig {
    IOThread *iothreads[RIG_IOTHREADS];
    VhostDevice *loopback;
    FakeDevice fake;
    SvqDevice *dev;
    char *path;
    Vmm vmm;
} Rig;

/* Warnings of the code under test so far, from any thread. */
unsigned int rig_warnings(void);

/* Instead of g_test_init() and g_test_run(). */
void rig_test_init(int *argc, char ***argv);
int rig_test_run(void);

/* Adds "NAME/FORMAT" for each of rig_formats; the test gets the format. */
void rig_test_add(const char *name, GTestDataFunc test);

void rig_init(Rig *rig, const RigConfig *config);
void rig_cleanup(Rig *rig);

/* The same without device and VMM: for tests that make their own. */
void rig_init_threads(Rig *rig, int64_t poll_max_ns);
void rig_listen(Rig *rig);

SvqQueueStats rig_stats(const Rig *rig, unsigned int q);

#endif
