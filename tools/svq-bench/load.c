/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a rig's driver puts on its queue, and when.
 */
#include "load.h"

void load_init(Load *load, Rig *rig, const BenchOptions *options, int64_t buffers,
               const _Atomic bool *stop, Latency *latency)
{
    *load = (Load){
        .rig = rig,
        .stop = stop,
        .target = buffers ? (uint64_t)buffers : UINT64_MAX,
        /* Nothing is under way yet. */
        .burst = MIN((unsigned int)options->burst, rig_driver_room(rig)),
        .latency = latency,
    };
}

static bool is_stopped(const Load *load)
{
    return atomic_load_explicit(load->stop, memory_order_relaxed);
}

unsigned int load_add_burst(Load *load, bool *kick)
{
    Rig *rig = load->rig;
    const uint64_t left = load->target - rig->added;
    const unsigned int n = (unsigned int)MIN(left, load->burst);

    *kick = false;
    if (rig_driver_room(rig) < n || is_stopped(load)) {
        return 0;
    }
    return rig_driver_add(rig, n, kick);
}

static unsigned int fill(Load *load, bool *kick)
{
    unsigned int n, all = rig_driver_collect(load->rig);

    *kick = false;
    do {
        bool kick_burst;

        n = load_add_burst(load, &kick_burst);
        *kick |= kick_burst;
        all += n;
    } while (n);
    return all;
}

static unsigned int ping_pong(Load *load, bool *kick)
{
    Rig *rig = load->rig;
    unsigned int n = rig_driver_collect(rig);

    *kick = false;
    if (n) {
        latency_add(load->latency, bench_now_ns() - load->sent_ns);
    }
    if (rig->added == rig->collected && rig->added < load->target && !is_stopped(load)) {
        load->sent_ns = bench_now_ns();
        n += rig_driver_add(rig, 1, kick);
    }
    return n;
}

unsigned int load_step(Load *load, bool *kick)
{
    return load->latency ? ping_pong(load, kick) : fill(load, kick);
}

bool load_is_done(const Load *load)
{
    const Rig *rig = load->rig;

    if (rig_is_broken(rig)) {
        return true;
    }
    return rig->collected == rig->added && (rig->added == load->target || is_stopped(load));
}
