/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode direct: a driver and a device on one ring, each in a thread, and no shadow virtqueue.
 *
 * How it works.  What either does with a buffer is what the peer of mode threads does with it, by the
 * same functions, so the times of both modes can be compared.  The driver decides when the
 * run ends: the device goes on until the driver has all its buffers back.
 */
#include "modes.h"

#include "load.h"
#include "run.h"
#include "waiter.h"

/* A side of the ring. */
typedef struct Side {
    _Alignas(128) Waiter waiter;    /* no other thread looks at its cache lines */
    RunThread thread;
    uint64_t notifications;         /* that it sent */
} Side;

typedef struct Direct {
    Rig *rig;
    Side driver;
    Load load;                  /* the driver's */
    Latency latency;            /* the driver's */
    Side device;
    unsigned int burst;         /* as it is the driver's */
    _Alignas(128) _Atomic bool done;    /* the driver has nothing to do any more */
} Direct;

static void notify(Side *side, const EventNotifier *notifier)
{
    side->notifications++;
    event_notifier_set(notifier);
}

static void run_driver(void *opaque)
{
    Direct *direct = opaque;
    Rig *rig = direct->rig;
    Side *side = &direct->driver;
    const bool packed = rig->guest_packed;

    vring_driver_disable_call(&rig->driver, packed);
    while (!load_is_done(&direct->load)) {
        bool kick;
        unsigned int n = load_step(&direct->load, &kick);

        if (kick) {
            notify(side, &rig->guest_kick);
        }
        if (n) {
            waiter_reset(&side->waiter);
            continue;
        }
        if (waiter_gives_up(&side->waiter)) {
            break;      /* what is missing is lost */
        }
        if (waiter_wants_sleep(&side->waiter)) {
            if (!vring_driver_enable_call(&rig->driver, packed)) {
                waiter_sleep(&side->waiter);
            }
            vring_driver_disable_call(&rig->driver, packed);
        }
    }
    atomic_store_explicit(&direct->done, true, memory_order_relaxed);
    event_notifier_set(&rig->guest_kick);
}

static void run_device(void *opaque)
{
    Direct *direct = opaque;
    Rig *rig = direct->rig;
    Side *side = &direct->device;
    const bool packed = rig->guest_packed;

    vring_device_disable_kick(&rig->device, packed);
    while (!atomic_load_explicit(&direct->done, memory_order_relaxed) && !rig_is_broken(rig)) {
        bool call;
        unsigned int n = rig_device_work_burst(rig, direct->burst, &call);

        if (call) {
            notify(side, &rig->guest_call);
        }
        if (n) {
            waiter_reset(&side->waiter);
            continue;
        }
        if (waiter_wants_sleep(&side->waiter)) {
            if (!vring_device_enable_kick(&rig->device, packed)) {
                waiter_sleep(&side->waiter);
            }
            vring_device_disable_kick(&rig->device, packed);
        }
    }
}

static bool start_threads(Direct *direct, Run *run, const BenchCpus *cpus, GError **errp)
{
    return run_thread_start(&direct->device.thread, run, cpus->iothread, run_device, direct,
                            errp) &&
           run_thread_start(&direct->driver.thread, run, cpus->peer, run_driver, direct, errp);
}

static uint64_t progress(const void *opaque)
{
    const Direct *direct = opaque;

    return atomic_load_explicit(&direct->rig->progress, memory_order_relaxed);
}

static void fill_report(const Direct *direct, const BenchOptions *options, BenchReport *report)
{
    const Rig *rig = direct->rig;
    const Side *driver = &direct->driver, *device = &direct->device;

    report->ns = driver->thread.ns;
    report->queues[0] = (BenchQueue){
        .buffers = rig->collected,
        .ns = driver->thread.ns,
        .syscalls = driver->notifications + driver->waiter.syscalls + device->notifications +
                    device->waiter.syscalls,
        .allocations = driver->thread.allocations + device->thread.allocations,
        .errors = { .corrupted = rig->errors, .lost = rig->added - rig->collected },
        .cpu = options->cpus[0].peer,
    };
    if (options->ping_pong) {
        report->latency = latency_summary(&direct->latency);
        report->wakeups[0] = (BenchWakeups){ "driver", driver->waiter.wakeups };
        report->wakeups[1] = (BenchWakeups){ "device", device->waiter.wakeups };
    }
}

static bool run_both(Direct *direct, const BenchOptions *options, BenchReport *report,
                     GError **errp)
{
    const BenchCpus *cpus = &options->cpus[0];
    const Rig *rig = direct->rig;
    Run run = RUN_INIT;
    bool ok;

    load_init(&direct->load, direct->rig, options, options->buffers, &run.stop,
              options->ping_pong ? &direct->latency : NULL);
    direct->burst = direct->load.burst;
    direct->driver.waiter = waiter_of_queue(options, 0, cpus->peer, &rig->guest_call, NULL);
    direct->device.waiter = waiter_of_queue(options, 0, cpus->iothread, &rig->guest_kick, NULL);
    ok = start_threads(direct, &run, cpus, errp);
    if (!ok) {
        atomic_store(&direct->done, true);
    }
    run_begin(&run);
    if (ok) {
        run_wait(&run, options, progress, direct);
    }
    run_thread_join(&direct->driver.thread);
    run_thread_join(&direct->device.thread);
    if (ok) {
        fill_report(direct, options, report);
    }
    return ok;
}

bool bench_direct_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    Direct *direct = g_aligned_alloc0(1, sizeof(*direct), _Alignof(Direct));
    bool ok;

    direct->rig = rig_new_direct(options, (uint64_t)options->seed, errp);
    ok = direct->rig && run_both(direct, options, report, errp);
    rig_free(direct->rig);
    g_aligned_free(direct);
    return ok;
}
