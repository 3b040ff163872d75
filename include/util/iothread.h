/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IOThread: a thread that runs one AioContext, named "IO <id>".
 *
 * All functions: any thread.
 */
#ifndef UTIL_IOTHREAD_H
#define UTIL_IOTHREAD_H

#include <sched.h>
#include <sys/types.h>

#include "util/aio-context.h"

typedef struct IOThread IOThread;

/*
 * Starts the thread; it is running its loop, registered with RCU, when this returns.
 * @params: NULL: AIO_POLL_PARAMS_DEFAULT.  @cpus: where it may run; NULL: wherever its
 * creator may.  NULL and @errp on failure (a CPU that is not there, no thread left).
 */
IOThread *iothread_new(const char *id, const AioPollParams *params, const cpu_set_t *cpus,
                       GError **errp);

IOThread *iothread_ref(IOThread *iothread);

/* The last one stops the thread and joins it; not from the thread itself. */
void iothread_unref(IOThread *iothread);

AioContext *iothread_get_aio_context(IOThread *iothread);
const char *iothread_get_id(const IOThread *iothread);
pid_t iothread_get_thread_id(const IOThread *iothread);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(IOThread, iothread_unref)

#endif
