/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode engine: driver, shadow virtqueue and device stepped in one thread.
 *
 * How it works.  Only SVQ's own two calls are measured, all else is the rig's: time, by a
 * clock read before and after each (what reading it twice takes, measured beforehand, is
 * taken off); allocations, by the thread's counter; system calls, by SVQ's counters of kicks
 * and calls sent; instructions, by callgrind, which is told to collect while they run:
 *
 *   valgrind --tool=callgrind --toggle-collect=bench_engine_measured svq-bench engine ...
 *
 * The first buffers, which find nothing in the caches, are not counted.
 */
#include "modes.h"

#include "allocations.h"
#include "rig.h"
#include "util/rcu.h"

#define CLOCK_SAMPLES 1001

typedef struct Engine {
    Rig *rig;
    bool notify;
    unsigned int burst;
    bool measured;          /* not the first buffers */
    uint64_t clock_ns;      /* that measuring takes by itself */
    uint64_t ns;            /* of SVQ */
    uint64_t allocations;
} Engine;

static int compare_uint64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The median of what two readings of the clock are apart. */
static uint64_t measure_clock(void)
{
    static uint64_t samples[CLOCK_SAMPLES];
    unsigned int i;

    for (i = 0; i < CLOCK_SAMPLES; i++) {
        uint64_t start = bench_now_ns();

        samples[i] = bench_now_ns() - start;
    }
    qsort(samples, CLOCK_SAMPLES, sizeof(samples[0]), compare_uint64);
    return samples[CLOCK_SAMPLES / 2];
}

typedef unsigned int (*EngineMove)(ShadowVirtqueue *svq);

unsigned int bench_engine_measured(ShadowVirtqueue *svq, EngineMove move);

/* What callgrind knows by name: SVQ's work, and the four instructions that call it. */
__attribute__((noinline)) unsigned int bench_engine_measured(ShadowVirtqueue *svq, EngineMove move)
{
    unsigned int moved = move(svq);

    /* Or it would jump there, and callgrind would not see the end of it. */
    __asm__ __volatile__("" : "+r"(moved));
    return moved;
}

/* Calls SVQ until it has moved @n buffers or moves none any more. */
static void step(Engine *engine, EngineMove move, unsigned int n)
{
    ShadowVirtqueue *svq = engine->rig->svq;
    uint64_t allocations, start, ns;
    unsigned int moved;

    if (!engine->measured) {
        while (n && (moved = move(svq)) > 0) {
            n -= MIN(n, moved);
        }
        return;
    }
    allocations = allocations_of_thread();
    start = bench_now_ns();
    while (n && (moved = bench_engine_measured(svq, move)) > 0) {
        n -= MIN(n, moved);
    }
    ns = bench_now_ns() - start;
    engine->ns += ns - MIN(ns, engine->clock_ns);
    engine->allocations += allocations_of_thread() - allocations;
}

/* One burst of at most @max buffers, there and back.  Returns how many came back. */
static unsigned int run_burst(Engine *engine, unsigned int max)
{
    Rig *rig = engine->rig;
    unsigned int added, back;
    bool notify;

    added = rig_driver_add(rig, MIN(max, engine->burst), &notify);
    step(engine, shadow_virtqueue_offer, added);
    back = rig_device_work(rig, &notify);
    if (engine->notify) {
        vring_device_enable_kick(&rig->device, rig->shadow_packed);
    }
    step(engine, shadow_virtqueue_return, back);
    back = rig_driver_collect(rig);
    if (engine->notify) {
        vring_driver_enable_call(&rig->driver, rig->guest_packed);
    }
    return back;
}

static void run_buffers(Engine *engine, uint64_t buffers)
{
    Rig *rig = engine->rig;
    const uint64_t end = rig->collected + buffers;

    while (rig->collected < end && !rig_is_broken(rig)) {
        uint64_t left = end - rig->collected;

        if (run_burst(engine, (unsigned int)MIN(left, UINT16_MAX)) == 0) {
            return;
        }
        bench_progress(rig->collected, rig->errors);
    }
}

static void fill_report(const Engine *engine, const ShadowVirtqueueCounters *before,
                        uint64_t wanted, uint64_t buffers, BenchReport *report)
{
    ShadowVirtqueueCounters now = shadow_virtqueue_get_counters(engine->rig->svq);

    report->queues[0] = (BenchQueue){
        .buffers = buffers,
        .ns = engine->ns,
        .syscalls = now.kicks_sent - before->kicks_sent + now.calls_sent - before->calls_sent,
        .bursts = now.bursts - before->bursts,
        .allocations = engine->allocations,
        .errors = {
            .lost = wanted - buffers,
            .corrupted = engine->rig->errors,
            .unlogged = rig_unlogged_pages(engine->rig),
        },
        .cpu = -1,
    };
    report->ns = engine->ns;
}

bool bench_engine_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    /* Each ring has been walked through twice. */
    const uint64_t first = 2 * (uint64_t)options->queue_size;
    Engine engine = {
        .notify = options->notify,
        .burst = (unsigned int)options->burst,
        .clock_ns = measure_clock(),
    };
    ShadowVirtqueueCounters before;

    engine.rig = rig_new(options, "engine", (uint64_t)options->seed, NULL, errp);
    if (!engine.rig) {
        return false;
    }
    rcu_thread_enter();
    if (!options->notify) {
        vring_device_disable_kick(&engine.rig->device, options->shadow_packed);
        vring_driver_disable_call(&engine.rig->driver, options->guest_packed);
    }
    run_buffers(&engine, first);
    before = shadow_virtqueue_get_counters(engine.rig->svq);
    engine.measured = true;
    run_buffers(&engine, (uint64_t)options->buffers);
    fill_report(&engine, &before, (uint64_t)options->buffers,
                engine.rig->collected - MIN(engine.rig->collected, first), report);
    rcu_thread_leave();
    rig_free(engine.rig);
    return true;
}
