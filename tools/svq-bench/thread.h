/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads on a CPU of their choice.
 */
#ifndef TOOLS_SVQ_BENCH_THREAD_H
#define TOOLS_SVQ_BENCH_THREAD_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>

/* @cpu: -1: any.  False and @errp if there is no such CPU or no thread left. */
bool bench_thread_start(pthread_t *thread, int cpu, void *(*main)(void *opaque), void *opaque,
                        GError **errp);

#endif
