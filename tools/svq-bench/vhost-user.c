/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode vhost-user: a guest's virtio-net driver towards any vhost-user back end that returns on
 * each queue pair what was sent there.
 *
 * How it works.  The main thread sets the device up, ends the run by the clock or by the last of
 * --switches, and takes the device down.  Each queue pair has a thread, which alone touches its
 * rings between the start and the stop of the device.  At the end a pair sends no more and waits
 * for what is under way; what does not come for a while is lost.
 */
#include "modes.h"

#include <stdatomic.h>

#include "guest-run.h"
#include "switches.h"

typedef struct Bench {
    const BenchOptions *options;
    GuestRun run;
    NetDevice device;
    Switches switches;
    GError *switch_error;       /* the one that could not be made */
} Bench;

/* --- a pair's thread --- */

static bool pair_is_done(const void *work, bool stop)
{
    const NetPair *pair = work;

    return net_pair_is_broken(pair) ||
           ((stop || pair->sent == pair->target) && net_pair_is_drained(pair));
}

static unsigned int pair_move(void *work, bool stop)
{
    NetPair *pair = work;
    unsigned int n = net_pair_collect(pair);

    return stop ? n : n + net_pair_send(pair);
}

static bool pair_enable_calls(void *work)
{
    return net_pair_enable_calls(work);
}

static void pair_disable_calls(void *work)
{
    net_pair_disable_calls(work);
}

static void pair_finish(void *work)
{
    net_pair_finish(work);
}

static void pair_progress(const void *work, uint64_t *buffers, uint64_t *errors)
{
    const NetPair *pair = work;

    *buffers += atomic_load_explicit(&pair->progress, memory_order_relaxed);
    *errors += atomic_load_explicit(&pair->progress_errors, memory_order_relaxed);
}

static const GuestWorkOps pair_ops = {
    .is_done = pair_is_done,
    .move = pair_move,
    .enable_calls = pair_enable_calls,
    .disable_calls = pair_disable_calls,
    .finish = pair_finish,
    .progress = pair_progress,
};

/* --- what ends the run --- */

static gboolean time_is_over(void *opaque)
{
    Bench *bench = opaque;

    guest_run_stop(&bench->run);
    return G_SOURCE_CONTINUE;
}

static gboolean make_switch(void *opaque)
{
    Bench *bench = opaque;

    if (bench->run.gone || bench->switch_error) {
        return G_SOURCE_CONTINUE;
    }
    if (bench->switches.done == bench->switches.target) {
        return time_is_over(bench);
    }
    if (!switches_make_one(&bench->switches, &bench->switch_error)) {
        guest_run_abandon(&bench->run);
    }
    return G_SOURCE_CONTINUE;
}

/* The timer that ends the run, unless that is the number of buffers: 0. */
static guint start_clock(Bench *bench)
{
    const BenchOptions *options = bench->options;
    const double ms = options->duration_s * 1000;

    if (options->buffers || options->control_only) {
        return 0;
    }
    if (options->switches) {
        /* Not 0: then nobody else would have a turn in the main loop. */
        return g_timeout_add(MAX((guint)(ms / options->switches), 1), make_switch, bench);
    }
    return g_timeout_add((guint)ms, time_is_over, bench);
}

/* --- the run --- */

static bool prepare(Bench *bench, GError **errp)
{
    const BenchOptions *options = bench->options;
    unsigned int i;

    if (!net_device_init(&bench->device, options, &guest_run_notify, &bench->run, errp)) {
        return false;
    }
    for (i = 0; i < bench->device.n_pairs; i++) {
        NetPair *pair = bench->device.pairs[i];

        guest_run_set_work(&bench->run, i, pair, &pair->queue[NET_PAIR_RX].q.call,
                           &pair->queue[NET_PAIR_TX].q.call);
    }
    if (!net_device_start(&bench->device, errp)) {
        return false;
    }
    return !options->switches || switches_init(&bench->switches, &bench->device,
                                               (unsigned int)options->switches, errp);
}

static bool run(Bench *bench, GError **errp)
{
    guint clock;
    bool ok;

    if (!prepare(bench, errp)) {
        return false;
    }
    clock = start_clock(bench);
    ok = guest_run_all(&bench->run, errp);
    if (clock) {
        g_source_remove(clock);
    }
    return ok;
}

/* Takes the device down.  What went wrong, on the way here or now, is an error of the run. */
static void finish(Bench *bench)
{
    g_autoptr(GError) err = g_steal_pointer(&bench->switch_error);

    if (!err && !bench->run.gone && net_device_stop(&bench->device, &err)) {
        if (bench->options->switches) {
            switches_finish(&bench->switches);
        }
        return;
    }
    bench_progress_end();
    g_printerr("svq-bench: %s\n", err ? err->message : "the back end has gone");
    bench->device.pairs[0]->errors.other++;
}

static void fill_report(Bench *bench, BenchReport *report)
{
    unsigned int i;

    for (i = 0; i < report->n; i++) {
        const NetPair *pair = bench->device.pairs[i];

        report->queues[i] = (BenchQueue){
            .buffers = pair->received,
            .foreign = pair->foreign,
            .syscalls = pair->syscalls,
            .errors = pair->errors,
        };
        report->queues[i].errors.unlogged = pair->unlogged;
    }
    guest_run_report(&bench->run, report);
    if (bench->options->switches) {
        report->switches = switches_report(&bench->switches);
    }
    if (bench->options->control) {
        report->control = bench->device.control.done;
        bench->device.control.done.commands = NULL;
    }
}

bool bench_vhost_user_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    Bench bench = { .options = options };
    bool ok;

    guest_run_init(&bench.run, options, &pair_ops);
    ok = run(&bench, errp);
    if (ok) {
        finish(&bench);
        fill_report(&bench, report);
    }
    switches_cleanup(&bench.switches);
    net_device_cleanup(&bench.device);
    guest_run_cleanup(&bench.run);
    return ok;
}
