/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long something took, many times.
 */
#include "latency.h"

G_STATIC_ASSERT(LATENCY_STEPS == 64);   /* as latency_bucket() has it */

/* The most that a time in @bucket can be. */
static uint64_t bucket_end(unsigned int bucket)
{
    unsigned int shift;

    if (bucket < 2 * LATENCY_STEPS) {
        return bucket;
    }
    shift = bucket / LATENCY_STEPS - 1;
    return ((uint64_t)(bucket - shift * LATENCY_STEPS + 1) << shift) - 1;
}

/* What @percent of the times do not exceed. */
static uint64_t percentile(const Latency *latency, unsigned int percent)
{
    const uint64_t rank = (latency->n * percent + 99) / 100;
    uint64_t seen = 0;
    unsigned int i;

    for (i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->counts[i];
        if (seen >= rank) {
            return MIN(bucket_end(i), latency->max_ns);
        }
    }
    return latency->max_ns;
}

BenchLatency latency_summary(const Latency *latency)
{
    return (BenchLatency){
        .n = latency->n,
        .p50_ns = percentile(latency, 50),
        .p90_ns = percentile(latency, 90),
        .p99_ns = percentile(latency, 99),
        .max_ns = latency->max_ns,
    };
}
