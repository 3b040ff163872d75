/* SPDX-License-Identifier: BSD-3-Clause */
/* Stats: the counters of all virtqueues as a table for a person. */
#include <inttypes.h>

#include "hw/svq/svq-device.h"
#include "system/stats.h"

/* DPDK's vhost offers 256 virtqueues: beyond these only those that were used are of interest. */
#define SHOWN_ALWAYS 16

static const char *state_name(SvqQueueState state)
{
    switch (state) {
    case SVQ_QUEUE_STOPPED:
        return "stopped";
    case SVQ_QUEUE_RUNNING:
        return "running";
    case SVQ_QUEUE_BROKEN:
        return "broken";
    }
    return "?";
}

static const char *format_name(bool packed)
{
    return packed ? "packed" : "split";
}

static void print_queue(FILE *out, const SvqDevice *dev, unsigned int index)
{
    const ShadowVirtqueueCounters *c;
    SvqQueueStats stats;

    if (!svq_device_get_queue_stats(dev, index, &stats)) {
        return;
    }
    c = &stats.counters;
    if (index >= SHOWN_ALWAYS && stats.state == SVQ_QUEUE_STOPPED && !c->buffers) {
        return;
    }
    fprintf(out, "%-12s %5u %-8s %-12s %6s>%-6s %14" PRIu64 " %14" PRIu64 " %16" PRIu64
            " %12" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %12" PRIu64
            " %12" PRIu64 " %10" PRIu64 " %8" PRIu64 "\n",
            svq_device_get_id(dev), index, state_name(stats.state),
            stats.iothread ? stats.iothread : "-", format_name(stats.guest_packed),
            format_name(stats.shadow_packed), c->buffers, c->returned, c->bytes, c->bursts,
            c->kicks_sent, c->kicks_suppressed, c->calls_sent, c->calls_suppressed, c->polls_hit,
            c->polls_missed, c->full, c->errors);
}

/* What the guest's driver has made of a network device, for each line of it one of ours. */
static void print_state(FILE *out, SvqDevice *dev)
{
    g_autofree char *words = svq_device_describe_state(dev);
    g_auto(GStrv) lines = words ? g_strsplit(words, "\n", -1) : NULL;

    for (unsigned int i = 0; lines && lines[i]; i++) {
        if (*lines[i]) {
            fprintf(out, "%s state: %s\n", svq_device_get_id(dev), lines[i]);
        }
    }
}

void stats_print(FILE *out, const Objects *objects)
{
    const GPtrArray *devices = objects_get_all(objects, OBJECT_KIND_DEVICE);

    fprintf(out, "%-12s %5s %-8s %-12s %-13s %14s %14s %16s %12s %10s %10s %10s %10s %12s %12s "
            "%10s %8s\n", "device", "queue", "state", "iothread", " guest>shadow", "buffers",
            "returned", "bytes", "bursts", "kicks", "no kick", "calls", "no call", "polls hit",
            "missed", "full", "errors");
    for (unsigned int i = 0; i < devices->len; i++) {
        const Object *device = g_ptr_array_index(devices, i);
        unsigned int n = svq_device_get_queue_count(device->instance);

        for (unsigned int index = 0; index < n; index++) {
            print_queue(out, device->instance, index);
        }
    }
    for (unsigned int i = 0; i < devices->len; i++) {
        const Object *device = g_ptr_array_index(devices, i);

        print_state(out, device->instance);
    }
    fflush(out);
}
