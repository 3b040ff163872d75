/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VMM that has logging on: the dirty log of a rig, and a look into it.
 *
 * Threads: the main thread; what is published in @published is constant.
 */
#ifndef TOOLS_SVQ_BENCH_RIG_LOG_H
#define TOOLS_SVQ_BENCH_RIG_LOG_H

#include "guest-memory.h"
#include "hw/svq/shadow-virtqueue.h"

/* All zeroes: nothing is logged. */
typedef struct RigLog {
    SvqLogging logging;
    SvqLogging *published;      /* for ShadowVirtqueueConfig.logging */
} RigLog;

/* A log of all of @memory, in which data and @ring are to be marked.  False and @errp. */
bool rig_log_init(RigLog *log, const GuestMemory *memory, const GuestRing *ring, GError **errp);
void rig_log_cleanup(RigLog *log);

/* Pages of [gpa, gpa + len) that are not in the log, of which there is one. */
unsigned int rig_log_missing(const RigLog *log, uint64_t gpa, uint32_t len);

#endif
