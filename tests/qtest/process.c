/* SPDX-License-Identifier: BSD-3-Clause */
/* Starting, watching and ending the programs beside a test. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wait.h"

#define FIRST_INHERITED_FD 3
#define MAX_INHERITED_FDS 4

struct Process {
    GPid pid;
    bool ended;
    int status;
};

static void die_with_parent(void *parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != GPOINTER_TO_INT(parent)) {
        _exit(1);       /* it died before it could be watched */
    }
}

Process *process_start(const char *const *argv, const char *log, const int *fds,
                       unsigned int n_fds)
{
    Process *process = g_new0(Process, 1);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int targets[MAX_INHERITED_FDS];
    g_autoptr(GError) error = NULL;
    unsigned int i;

    g_assert_cmpint(out, >=, 0);
    g_assert_cmpuint(n_fds, <=, MAX_INHERITED_FDS);
    for (i = 0; i < n_fds; i++) {
        targets[i] = FIRST_INHERITED_FD + (int)i;
    }
    g_spawn_async_with_pipes_and_fds(NULL, argv, NULL,
                                     G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH,
                                     die_with_parent, GINT_TO_POINTER(getpid()), -1, out, out, fds,
                                     targets, n_fds, &process->pid, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    close(out);
    return process;
}

GPid process_pid(const Process *process)
{
    return process->pid;
}

bool process_is_running(Process *process)
{
    if (!process->ended) {
        process->ended = waitpid(process->pid, &process->status, WNOHANG) == process->pid;
    }
    return !process->ended;
}

int process_end(Process *process, int signal)
{
    int status;

    if (process_is_running(process)) {
        g_assert_cmpint(kill(process->pid, signal), ==, 0);
    }
    WAIT_FOR(!process_is_running(process));
    status = process->status;
    g_free(process);
    return status;
}

unsigned int process_count_fds(const Process *process)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", process->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned int n = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}
