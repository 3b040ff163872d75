/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QEMU, svqd and a loopback device behind it, with the traffic through all of them.
 *
 * Threads: the test's main thread.
 */
#ifndef TESTS_QTEST_RIG_H
#define TESTS_QTEST_RIG_H

#include "svqd.h"
#include "traffic.h"

/* Formats of a test's rings: between guest and svqd, and between svqd and the device. */
typedef struct RigFormats {
    const char *name;
    bool guest_packed, shadow_packed;
} RigFormats;

typedef struct RigConfig {
    const RigFormats *formats;
    unsigned int pairs;
    bool reconnect;         /* QEMU connects again when svqd is back */
    bool remote;            /* the device is in a process of its own */
    bool inflight;          /* svqd records what is in flight, and may be killed */
    const char *poll_max_ns;    /* of its IOThreads; NULL: the default */
} RigConfig;

typedef struct Rig {
    char *dir;
    Svqd *svqd, *device;    /* device: NULL unless it is remote */
    Qtest *qtest;
    VirtioNet net;
    Traffic traffic;
    NetConfig driver;       /* as the configuration says; for virtio_net_start() */
} Rig;

/* Starts the processes.  The device is found, and not started yet. */
void rig_init(Rig *rig, const RigConfig *config);

/* And starts the driver, with all pairs in use. */
void rig_init_running(Rig *rig, const RigConfig *config);

/* Ends the processes, each of which must end well. */
void rig_cleanup(Rig *rig);

/* Has pairs up to @pairs used and no others, and waits until svqd works exactly these. */
void rig_set_pairs(Rig *rig, unsigned int pairs);

/*
 * The IOThread that works @pair; free it.  Each pair has its own, and they are given out backwards,
 * so that it is the mapping that puts a queue where it is.
 */
char *rig_iothread_of_pair(const RigConfig *config, unsigned int pair);

/* main() of a test: skips all its tests without QEMU, else limits the time of each. */
typedef void RigTest(const RigFormats *formats);
void rig_add_test(const char *name, const RigFormats *formats, RigTest *test);
int rig_run(int argc, char **argv, void (*add_tests)(void));

/* Adds @test for split and packed rings, and for a guest's that the shadow ring is not like. */
void rig_add_test_all_formats(const char *name, RigTest *test);

/* Adds @test for split and packed rings on both sides. */
void rig_add_test_both_formats(const char *name, RigTest *test);

#endif
