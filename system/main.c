/* SPDX-License-Identifier: BSD-3-Clause */
/* svqd: reads its options, makes what they describe, and serves until it is told to end. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "system/objects/objects.h"
#include "system/options.h"
#include "system/stats.h"

/* One line, whatever a path or a value in it holds. */
static void print_line(const char *message)
{
    g_autofree char *line = g_strdup(message);

    for (char *p = line; *p; p++) {
        if (g_ascii_iscntrl(*p)) {
            *p = ' ';
        }
    }
    fprintf(stderr, "svqd: %s\n", line);
}

static void log_message(const char *domain, GLogLevelFlags level, const char *message,
                        void *verbose)
{
    bool quiet = level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG);

    if (!quiet || *(bool *)verbose) {
        print_line(message);
    }
}

static gboolean on_terminate(void *loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

static gboolean on_stats(void *objects)
{
    stats_print(stderr, objects);
    return G_SOURCE_CONTINUE;
}

/* A virtqueue takes five.  The soft limit is low for select()'s sake, which nobody here calls. */
static void raise_file_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);   /* what is missing will be told when it is needed */
    }
}

static bool serve(const Options *options, GError **errp)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(Objects) objects = objects_new();

    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    g_unix_signal_add(SIGTERM, on_terminate, loop);
    g_unix_signal_add(SIGINT, on_terminate, loop);
    g_unix_signal_add(SIGUSR1, on_stats, objects);
    for (unsigned int i = 0; i < options->items->len; i++) {
        const OptionsItem *item = &g_array_index(options->items, OptionsItem, i);

        if (!objects_add(objects, item->kind, item->json, item->label, errp)) {
            return false;
        }
    }
    if (!objects_start(objects, errp)) {
        return false;
    }
    g_main_loop_run(loop);
    if (options->verbose) {
        stats_print(stderr, objects);
    }
    return true;
}

static bool run(const Options *options, GError **errp)
{
    switch (options->action) {
    case OPTIONS_HELP:
        options_print_help();
        return true;
    case OPTIONS_VERSION:
        printf("svqd %s\n", SVQD_VERSION);
        return true;
    case OPTIONS_CAPABILITIES:
        /* Conventions of vhost-user back-end programs: one JSON object and nothing else. */
        printf("{\"type\": \"net\"}\n");
        return true;
    case OPTIONS_HELP_KIND:
        return objects_print_help(options->help_kind, options->help_type, errp);
    case OPTIONS_RUN:
        return serve(options, errp);
    }
    g_assert_not_reached();
}

int main(int argc, char **argv)
{
    static Options options;
    g_autoptr(GError) error = NULL;
    bool ok;

    g_log_set_default_handler(log_message, &options.verbose);
    ok = options_parse(&options, argc, argv, &error) && run(&options, &error);
    if (!ok) {
        print_line(error->message);
    }
    options_clear(&options);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
