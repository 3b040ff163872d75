/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the two halves of the command line: GOption's words, and what they are turned into.
 */
#ifndef TOOLS_SVQ_BENCH_OPTIONS_INTERNAL_H
#define TOOLS_SVQ_BENCH_OPTIONS_INTERNAL_H

#include "options.h"

/* What GOption fills in: words that are still to be checked. */
typedef struct RawOptions {
    char *guest, *shadow, *event_idx, *notify, *wait, *cpus, *mac, *written;
    gboolean indirect, in_order, dirty_log, scaling, json, udp, control_only, control_pipelined;
    gboolean ping_pong, flood, flood_apart;
} RawOptions;

/* Turns words into values.  False and @errp: one is wrong. */
bool bench_options_read(BenchOptions *options, const RawOptions *raw, GError **errp);

/* Whether the values, each for itself and all together, make sense. */
bool bench_options_check(const BenchOptions *options, GError **errp);

#endif
