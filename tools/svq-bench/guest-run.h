/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads of a guest's driver, one for each queue or queue pair, from start to end.
 *
 * How it works.  The main thread runs the main loop: it watches the connection and whatever
 * ends the run, and shows how far it is.  Each thread moves buffers until its work is done, or
 * nothing has come for so long that nothing will.
 *
 * Threads: the main thread; GuestWorkOps say what else.
 */
#ifndef TOOLS_SVQ_BENCH_GUEST_RUN_H
#define TOOLS_SVQ_BENCH_GUEST_RUN_H

#include <pthread.h>

#include "hw/vhost/vhost-device.h"
#include "report.h"
#include "waiter.h"

/* What a thread does with its queue or queues, @work.  In this thread, but for progress. */
typedef struct GuestWorkOps {
    /* Nothing is under way, or the back end broke a rule.  @stop: no more is to be begun. */
    bool (*is_done)(const void *work, bool stop);
    /* Begins what there is room for, collects what has come back.  Returns how many of either. */
    unsigned int (*move)(void *work, bool stop);
    /* True if there is something to collect already. */
    bool (*enable_calls)(void *work);
    void (*disable_calls)(void *work);
    /* What has not come back is lost. */
    void (*finish)(void *work);
    /* Adds to both; in the main thread. */
    void (*progress)(const void *work, uint64_t *buffers, uint64_t *errors);
} GuestWorkOps;

typedef struct GuestThread {
    struct GuestRun *run;
    void *work;
    pthread_t thread;
    _Alignas(128) Waiter waiter;    /* no other thread looks at its cache lines */
    uint64_t ns;
    uint64_t allocations;
    int cpu;
} GuestThread;

typedef struct GuestRun {
    const BenchOptions *options;
    const GuestWorkOps *ops;
    GMainLoop *loop;
    unsigned int n;
    GuestThread *threads;
    unsigned int running;
    bool gone;                  /* the back end */
    _Atomic bool stop;          /* begin no more */
    _Atomic bool abandon;       /* do not wait either */
} GuestRun;

/* Of the back end; its opaque pointer is the run. */
extern const VhostDeviceNotify guest_run_notify;

/* One thread for each of options->queues. */
void guest_run_init(GuestRun *run, const BenchOptions *options, const GuestWorkOps *ops);
void guest_run_cleanup(GuestRun *run);

/* What thread @i does, and what wakes it; @second may be NULL. */
void guest_run_set_work(GuestRun *run, unsigned int i, void *work, const EventNotifier *first,
                        const EventNotifier *second);

/* Starts the threads, and returns when all have ended.  False and @errp: one did not start. */
bool guest_run_all(GuestRun *run, GError **errp);

/* From the main loop. */
void guest_run_stop(GuestRun *run);
void guest_run_abandon(GuestRun *run);

/* Adds what is known of each thread to the report, and fills report->ns in. */
void guest_run_report(const GuestRun *run, BenchReport *report);

#endif
