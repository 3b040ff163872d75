/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads on a CPU of their choice.
 */
#include "thread.h"

#include <sched.h>

#include "options.h"

bool bench_thread_start(pthread_t *thread, int cpu, void *(*main)(void *opaque), void *opaque,
                        GError **errp)
{
    pthread_attr_t attr;
    cpu_set_t cpus;
    int ret = 0;

    pthread_attr_init(&attr);
    if (cpu >= 0) {
        CPU_ZERO(&cpus);
        CPU_SET(cpu, &cpus);
        ret = pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
    }
    if (ret == 0) {
        ret = pthread_create(thread, &attr, main, opaque);
    }
    pthread_attr_destroy(&attr);
    return ret == 0 || bench_fail(errp, "no thread on CPU %d: %s", cpu, g_strerror(ret));
}
