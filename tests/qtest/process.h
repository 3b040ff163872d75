/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program that a test runs beside itself: it has a log, and does not outlive the test.
 *
 * How it works: the kernel kills the child when the test's main thread ends, however it ends
 * (PR_SET_PDEATHSIG), so a failed assertion leaves nothing behind.
 *
 * Threads: the test's main thread.
 */
#ifndef TESTS_QTEST_PROCESS_H
#define TESTS_QTEST_PROCESS_H

#include <glib.h>
#include <stdbool.h>

typedef struct Process Process;

/*
 * Starts @argv; its output is appended to @log.  @fds, @n_fds: descriptors that it inherits
 * as 3, 4 and so on.
 */
Process *process_start(const char *const *argv, const char *log, const int *fds,
                       unsigned int n_fds);

GPid process_pid(const Process *process);
bool process_is_running(Process *process);

/* Sends @signal, waits for the end and frees it; the status as waitpid() has it. */
int process_end(Process *process, int signal);

/* Descriptors that it has open. */
unsigned int process_count_fds(const Process *process);

#endif
