/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * svqd under test: a process that can be ended and started again, its threads and counters.
 *
 * Threads: the test's main thread.
 */
#ifndef TESTS_QTEST_SVQD_H
#define TESTS_QTEST_SVQD_H

#include <stdint.h>

#include "process.h"

#define SVQD_MAX_QUEUES 16

typedef struct Svqd Svqd;

/* A line of the table that it prints when it gets SIGUSR1. */
typedef struct SvqdQueue {
    unsigned int index;
    char state[16], iothread[32], formats[16];
    uint64_t buffers, returned, calls, errors;
} SvqdQueue;

/* One of its IOThreads. */
typedef struct SvqdThread {
    char name[16];              /* of the IOThread */
    int id;
    uint64_t cpu_ticks;         /* used so far, sysconf(_SC_CLK_TCK) a second */
} SvqdThread;

/* Starts svqd (environment: SVQD) with @args and waits until it listens at @socket. */
Svqd *svqd_start(const char *const *args, const char *socket, const char *log);

/* Ends it with @signal and frees it.  By SIGTERM it must end with status 0. */
void svqd_end(Svqd *svqd, int signal);

/* Ends it with @signal; svqd_resume() starts it as it was started first. */
void svqd_kill(Svqd *svqd, int signal);
void svqd_resume(Svqd *svqd);

Process *svqd_process(Svqd *svqd);

/* The counters of queues 0 to @n - 1. */
void svqd_get_queues(Svqd *svqd, SvqdQueue *queues, unsigned int n);

/* Whether queues @first to @first + @n - 1 are all in @state. */
bool svqd_queues_are(Svqd *svqd, unsigned int first, unsigned int n, const char *state);

/* Its IOThreads by name, at most @max; how many. */
unsigned int svqd_get_threads(Svqd *svqd, SvqdThread *threads, unsigned int max);

/* Lines of the log, since the start of the first svqd, that contain @text. */
unsigned int svqd_count_logged(Svqd *svqd, const char *text);

#endif
