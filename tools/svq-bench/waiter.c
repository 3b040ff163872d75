/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver's thread does while nothing comes back.
 */
#include "waiter.h"

#include <poll.h>
#include <sched.h>

#include "report.h"

/* A sleep and a wake-up on another CPU may take this long. */
#define SPIN_NS     50000
#define PATIENCE_NS UINT64_C(5000000000)

BenchWait waiter_policy(const BenchOptions *options)
{
    if (options->wait == BENCH_WAIT_ADAPTIVE &&
        3 * (unsigned int)options->queues > g_get_num_processors()) {
        return BENCH_WAIT_SLEEP;
    }
    return options->wait;
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
    return elapsed(&waiter->idle_since_ns, PATIENCE_NS);
}

bool waiter_wants_sleep(Waiter *waiter)
{
    if (waiter->policy == BENCH_WAIT_SLEEP) {
        return true;
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
        for (i = 0; i < G_N_ELEMENTS(fds); i++) {
            if (fds[i].revents) {
                waiter->syscalls++;
                event_notifier_test_and_clear(waiter->notifiers[i]);
            }
        }
    }
    waiter->spin_since_ns = 0;
}
