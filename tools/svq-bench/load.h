/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a rig's driver puts on its queue, and when: full bursts, as many as there is room for; or
 * one buffer at a time, whose round trips are timed.
 *
 * How it works.  A driver that adds what there is room for adds ever smaller bursts, for each time it
 * looks some buffers have come back.  So it waits for the room that a burst takes: each but the
 * last has all its buffers.
 *
 * Threads: the rig's driver.
 */
#ifndef TOOLS_SVQ_BENCH_LOAD_H
#define TOOLS_SVQ_BENCH_LOAD_H

#include "latency.h"
#include "rig.h"

typedef struct Load {
    /* Constant after load_init(). */
    Rig *rig;
    const _Atomic bool *stop;   /* add no more */
    uint64_t target;            /* buffers to add; UINT64_MAX: until told to stop */
    unsigned int burst;         /* buffers */
    Latency *latency;           /* of round trips; NULL: bursts */

    uint64_t sent_ns;           /* the buffer under way was added */
} Load;

/* @buffers: to add; 0: until @stop is set.  @latency: for ping-pong, or NULL. */
void load_init(Load *load, Rig *rig, const BenchOptions *options, int64_t buffers,
               const _Atomic bool *stop, Latency *latency);

/* Adds a burst, if there is room for it, and publishes it.  Returns the buffers. */
unsigned int load_add_burst(Load *load, bool *kick);

/* All that the driver can do now.  Returns the buffers moved.  *kick: the device is to be told. */
unsigned int load_step(Load *load, bool *kick);

/* Everything was added and has come back; or nothing can any more. */
bool load_is_done(const Load *load);

#endif
