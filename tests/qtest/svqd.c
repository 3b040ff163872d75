/* SPDX-License-Identifier: BSD-3-Clause */
/* svqd as a child: started, asked, ended. */
#include "svqd.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "wait.h"

#define ANSWER_MS 500
#define LISTENING 0x10000       /* __SO_ACCEPTCON, in the flags of /proc/net/unix */

struct Svqd {
    Process *process;
    char **argv;
    char *socket, *log;
};

static bool is_listening(const char *path)
{
    g_autofree char *table = NULL;
    g_auto(GStrv) lines = NULL;
    unsigned int i;

    g_assert_true(g_file_get_contents("/proc/net/unix", &table, NULL, NULL));
    lines = g_strsplit(table, "\n", -1);
    for (i = 0; lines[i]; i++) {
        char *at = strrchr(lines[i], ' ');
        unsigned int flags;

        if (at && strcmp(at + 1, path) == 0 && sscanf(lines[i], "%*s %*s %*s %x", &flags) == 1 &&
            flags & LISTENING) {
            return true;
        }
    }
    return false;
}

/* Without connecting: svqd has one client, and that is not us. */
static void start(Svqd *svqd)
{
    svqd->process = process_start((const char *const *)svqd->argv, svqd->log, NULL, 0);
    WAIT_FOR(is_listening(svqd->socket) || !process_is_running(svqd->process));
    g_assert_true(process_is_running(svqd->process));
}

Svqd *svqd_start(const char *const *args, const char *socket, const char *log)
{
    Svqd *svqd = g_new0(Svqd, 1);
    GPtrArray *argv = g_ptr_array_new();

    g_ptr_array_add(argv, g_strdup(g_getenv("SVQD")));
    g_assert_nonnull(argv->pdata[0]);
    while (*args) {
        g_ptr_array_add(argv, g_strdup(*args++));
    }
    g_ptr_array_add(argv, NULL);
    svqd->argv = (char **)g_ptr_array_free(argv, FALSE);
    svqd->socket = g_strdup(socket);
    svqd->log = g_strdup(log);
    start(svqd);
    return svqd;
}

void svqd_kill(Svqd *svqd, int signal)
{
    int status = process_end(svqd->process, signal);

    svqd->process = NULL;
    if (signal == SIGTERM) {
        g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    } else {
        g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signal);
    }
}

void svqd_resume(Svqd *svqd)
{
    start(svqd);
}

void svqd_end(Svqd *svqd, int signal)
{
    svqd_kill(svqd, signal);
    g_strfreev(svqd->argv);
    g_free(svqd->socket);
    g_free(svqd->log);
    g_free(svqd);
}

Process *svqd_process(Svqd *svqd)
{
    return svqd->process;
}

/* The log from byte @start on, whole lines only. */
static char **read_log(const Svqd *svqd, size_t start)
{
    g_autofree char *text = NULL;
    char *end;
    size_t size;

    g_assert_true(g_file_get_contents(svqd->log, &text, &size, NULL));
    start = MIN(start, size);
    end = strrchr(text + start, '\n');
    text[end ? end - text : (ptrdiff_t)start] = 0;
    return g_strsplit(text + start, "\n", -1);
}

static bool parse_queue(const char *line, SvqdQueue *queue)
{
    return sscanf(line,
                  "%*s %u %15s %31s %15s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT
                  " %*u %*u %*u %*u %" G_GUINT64_FORMAT " %*u %*u %*u %*u %" G_GUINT64_FORMAT,
                  &queue->index, queue->state, queue->iothread, queue->formats, &queue->buffers,
                  &queue->returned, &queue->calls, &queue->errors) == 8;
}

/* How many of the queues 0 to @n - 1 are in the table that begins behind byte @start. */
static unsigned int parse_table(const Svqd *svqd, size_t start, SvqdQueue *queues, unsigned int n)
{
    g_auto(GStrv) lines = read_log(svqd, start);
    unsigned int i = 0, found = 0;

    while (lines[i] && !g_str_has_prefix(lines[i], "device ")) {
        i++;
    }
    for (; lines[i]; i++) {
        SvqdQueue queue;

        if (parse_queue(lines[i], &queue) && queue.index < n) {
            queues[queue.index] = queue;
            found++;
        }
    }
    return found;
}

/* One try: a signal that comes while the last table is being printed may be overlooked. */
static bool ask_for_queues(Svqd *svqd, SvqdQueue *queues, unsigned int n)
{
    const int64_t end = g_get_monotonic_time() + ANSWER_MS * G_TIME_SPAN_MILLISECOND;
    struct stat st;

    g_assert_cmpint(stat(svqd->log, &st), ==, 0);
    g_assert_cmpint(kill(process_pid(svqd->process), SIGUSR1), ==, 0);
    while (parse_table(svqd, (size_t)st.st_size, queues, n) < n) {
        if (g_get_monotonic_time() > end) {
            return false;
        }
        g_usleep(200);
    }
    return true;
}

void svqd_get_queues(Svqd *svqd, SvqdQueue *queues, unsigned int n)
{
    WAIT_FOR(ask_for_queues(svqd, queues, n));
}

bool svqd_queues_are(Svqd *svqd, unsigned int first, unsigned int n, const char *state)
{
    SvqdQueue queues[SVQD_MAX_QUEUES];
    unsigned int i;

    g_assert_cmpuint(first + n, <=, SVQD_MAX_QUEUES);
    svqd_get_queues(svqd, queues, first + n);
    for (i = first; i < first + n; i++) {
        if (strcmp(queues[i].state, state) != 0) {
            return false;
        }
    }
    return true;
}

/* proc(5): the name stands in parentheses; utime and stime are fields 14 and 15. */
static bool parse_thread(const char *stat, SvqdThread *thread)
{
    const char *end = strrchr(stat, ')');
    uint64_t user, system;

    if (!end || sscanf(stat, "%d (IO %15[^)]", &thread->id, thread->name) != 2 ||
        sscanf(end + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" G_GUINT64_FORMAT
               " %" G_GUINT64_FORMAT,
               &user, &system) != 2) {
        return false;
    }
    thread->cpu_ticks = user + system;
    return true;
}

static int compare_threads(const void *a, const void *b)
{
    return strcmp(((const SvqdThread *)a)->name, ((const SvqdThread *)b)->name);
}

unsigned int svqd_get_threads(Svqd *svqd, SvqdThread *threads, unsigned int max)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", process_pid(svqd->process));
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *task;
    unsigned int n = 0;

    g_assert_nonnull(dir);
    while ((task = g_dir_read_name(dir)) && n < max) {
        g_autofree char *file = g_strdup_printf("%s/%s/stat", path, task);
        g_autofree char *text = NULL;

        if (g_file_get_contents(file, &text, NULL, NULL) && parse_thread(text, &threads[n])) {
            n++;
        }
    }
    qsort(threads, n, sizeof(*threads), compare_threads);
    return n;
}

unsigned int svqd_count_logged(Svqd *svqd, const char *text)
{
    g_auto(GStrv) lines = read_log(svqd, 0);
    unsigned int i, n = 0;

    for (i = 0; lines[i]; i++) {
        n += strstr(lines[i], text) != NULL;
    }
    return n;
}
