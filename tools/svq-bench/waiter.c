/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver's thread does while nothing comes back.
 */
#include "waiter.h"

#include <poll.h>
#include <sched.h>
#include <urcu/arch.h>

#include "report.h"

/* A sleep and a wake-up on another CPU may take this long. */
#define SPIN_NS     50000
#define PATIENCE_NS UINT64_C(5000000000)

/* The clock takes longer than a look: a power of two of looks from one reading to the next. */
#define LOOKS       1024

static const EventNotifier nobody = EVENT_NOTIFIER_NONE;

BenchWait waiter_policy(const BenchOptions *options)
{
    /* Mode direct has no shadow virtqueue. */
    const unsigned int cpus = options->mode == BENCH_DIRECT ? 2 : 3;

    if (options->wait == BENCH_WAIT_ADAPTIVE &&
        cpus * (unsigned int)options->queues > g_get_num_processors()) {
        return BENCH_WAIT_SLEEP;
    }
    return options->wait;
}

/* Whether --cpus names it, and once. */
static bool cpu_has_one_thread(const BenchOptions *options, int cpu)
{
    unsigned int n = 0;
    int i;

    for (i = 0; i < BENCH_MAX_QUEUES; i++) {
        n += options->cpus[i].iothread == cpu;
        n += options->cpus[i].peer == cpu;
    }
    return cpu >= 0 && n == 1;
}

Waiter waiter_of_queue(const BenchOptions *options, unsigned int index, int cpu,
                       const EventNotifier *first, const EventNotifier *second)
{
    const BenchCpus *cpus = &options->cpus[index];
    const bool one_cpu = cpus->iothread >= 0 && cpus->iothread == cpus->peer;
    BenchWait policy = waiter_policy(options);

    if (policy == BENCH_WAIT_ADAPTIVE && one_cpu) {
        policy = BENCH_WAIT_SLEEP;
    }
    return (Waiter){
        .policy = policy,
        .own_cpu = policy == BENCH_WAIT_POLL && cpu_has_one_thread(options, cpu),
        .notifiers = { first, second ? second : &nobody },
    };
}

/* Whether the time since *start is over; at first it begins. */
static bool elapsed(uint64_t *start, uint64_t ns)
{
    uint64_t now = bench_now_ns();

    if (!*start) {
        *start = now;
    }
    return now - *start >= ns;
}

bool waiter_gives_up(Waiter *waiter)
{
    if (waiter->own_cpu && waiter->looks++ % LOOKS) {
        return false;
    }
    return elapsed(&waiter->idle_since_ns, PATIENCE_NS);
}

bool waiter_wants_sleep(Waiter *waiter)
{
    if (waiter->policy == BENCH_WAIT_SLEEP) {
        return true;
    }
    if (waiter->own_cpu) {
        caa_cpu_relax();
        return false;
    }
    /* Whoever is to give us work may be waiting for this very CPU. */
    sched_yield();
    waiter->syscalls++;
    return waiter->policy != BENCH_WAIT_POLL && elapsed(&waiter->spin_since_ns, SPIN_NS);
}

void waiter_sleep(Waiter *waiter)
{
    struct pollfd fds[] = {
        { .fd = waiter->notifiers[0]->fd, .events = POLLIN },
        { .fd = waiter->notifiers[1]->fd, .events = POLLIN },
    };
    unsigned int i;

    waiter->syscalls++;
    if (poll(fds, G_N_ELEMENTS(fds), WAITER_SLEEP_MAX_MS) > 0) {
        waiter->wakeups++;
        for (i = 0; i < G_N_ELEMENTS(fds); i++) {
            if (fds[i].revents) {
                waiter->syscalls++;
                event_notifier_test_and_clear(waiter->notifiers[i]);
            }
        }
    }
    waiter->spin_since_ns = 0;
}
