/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VMM that turns dirty logging on and off while packets pass, and looks into the log.
 *
 * How it works.  The epoch is odd while LOG_ALL is on: it becomes odd after the back end has said
 * so, and even before it is told to cease.  A pair's thread notes the epoch before it sends and
 * compares it after it has collected, so what it marks was written while logging was on
 * (net-pair.h).  The pages of such buffers must be in the log, which is cleared in between.
 *
 * Threads: the main thread; the epoch is read by the pairs' threads.
 */
#ifndef TOOLS_SVQ_BENCH_SWITCHES_H
#define TOOLS_SVQ_BENCH_SWITCHES_H

#include "net-device.h"

typedef struct Switches {
    NetDevice *device;
    int fd;                     /* the log's */
    uint64_t *log;              /* a bit for each page */
    uint64_t log_size;          /* bytes */
    uint64_t pages;             /* that had to be in it */
    unsigned int target;        /* switches to make */
    unsigned int done;
    uint64_t *ns;               /* that each took */
    _Alignas(128) _Atomic uint32_t epoch;
} Switches;

/*
 * For a device that is started, before its threads are.  All zeroes, or after a failure, it may
 * be cleaned up.
 */
bool switches_init(Switches *switches, NetDevice *device, unsigned int target, GError **errp);
void switches_cleanup(Switches *switches);

/* Makes one switch; not more than the target.  False and @errp: the back end did not follow. */
bool switches_make_one(Switches *switches, GError **errp);

/* After the device was stopped: if logging was on, what the log lacks. */
void switches_finish(Switches *switches);

BenchSwitches switches_report(const Switches *switches);

#endif
