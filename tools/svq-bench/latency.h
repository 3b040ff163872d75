/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long something took, many times: a histogram of fixed size.
 *
 * How it works.  Below 128 ns each nanosecond has a bucket; above, each power of two has 64, so
 * what is told is at most 1.6% above what was measured.
 *
 * Threads: one at a time.
 */
#ifndef TOOLS_SVQ_BENCH_LATENCY_H
#define TOOLS_SVQ_BENCH_LATENCY_H

#include <glib.h>
#include <stdint.h>

#include "report.h"

#define LATENCY_STEPS   64                          /* buckets of a power of two */
#define LATENCY_MAX_NS  ((UINT64_C(1) << 40) - 1)   /* a quarter of an hour: longer is as long */
#define LATENCY_BUCKETS (35 * LATENCY_STEPS)

/* All zeroes: nothing was measured. */
typedef struct Latency {
    uint64_t n;
    uint64_t max_ns;
    uint64_t counts[LATENCY_BUCKETS];
} Latency;

static inline unsigned int latency_bucket(uint64_t ns)
{
    unsigned int shift;

    if (ns < 2 * LATENCY_STEPS) {
        return (unsigned int)ns;
    }
    /* Leaves LATENCY_STEPS to 2 * LATENCY_STEPS - 1. */
    shift = 57 - (unsigned int)__builtin_clzll(ns);
    return shift * LATENCY_STEPS + (unsigned int)(ns >> shift);
}

static inline void latency_add(Latency *latency, uint64_t ns)
{
    latency->n++;
    latency->max_ns = MAX(latency->max_ns, ns);
    latency->counts[latency_bucket(MIN(ns, LATENCY_MAX_NS))]++;
}

BenchLatency latency_summary(const Latency *latency);

#endif
