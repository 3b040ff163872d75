/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver's thread does while nothing comes back: look again, or sleep.
 *
 *   while (...) {
 *       if (work was done) { waiter_reset(w); continue; }
 *       if (waiter_gives_up(w)) break;
 *       if (waiter_wants_sleep(w)) {
 *           ask for notifications; if (there is work already) continue;
 *           waiter_sleep(w);
 *       }
 *   }
 *
 * Threads: one.
 */
#ifndef TOOLS_SVQ_BENCH_WAITER_H
#define TOOLS_SVQ_BENCH_WAITER_H

#include "options.h"
#include "util/event-notifier.h"

#define WAITER_SLEEP_MAX_MS 100

typedef struct Waiter {
    BenchWait policy;
    bool own_cpu;               /* polls where nobody else has work to do */
    const EventNotifier *notifiers[2];
    unsigned int looks;         /* in vain, on its own CPU */
    uint64_t idle_since_ns;     /* no work was done; 0: not idle */
    uint64_t spin_since_ns;     /* nor a sleep; 0: not spinning */
    uint64_t syscalls;          /* so far */
    uint64_t wakeups;           /* sleeps that a notifier ended */
} Waiter;

/*
 * What @options mean here: to spin helps only if nobody needs the CPU for the work that is
 * waited for, so adaptive is to sleep unless each queue's driver, shadow virtqueue and device can
 * have one of their own.
 */
BenchWait waiter_policy(const BenchOptions *options);

/*
 * Of one of the two threads of queue @index, which is to run on @cpu.  @second may be NULL.  If both
 * have a CPU of their own and are to poll, nothing but a pause is between two looks: neither a
 * system call, which is for whoever needs the CPU, nor the clock.
 */
Waiter waiter_of_queue(const BenchOptions *options, unsigned int index, int cpu,
                       const EventNotifier *first, const EventNotifier *second);

static inline void waiter_reset(Waiter *waiter)
{
    waiter->idle_since_ns = 0;
    waiter->spin_since_ns = 0;
}

/* There was nothing to do for so long that there will not be any more. */
bool waiter_gives_up(Waiter *waiter);

/* There was nothing to do: true if it is time to sleep. */
bool waiter_wants_sleep(Waiter *waiter);

/* Until a notifier is set, or WAITER_SLEEP_MAX_MS are over. */
void waiter_sleep(Waiter *waiter);

#endif
