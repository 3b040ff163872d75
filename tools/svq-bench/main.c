/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * svq-bench: measures shadow virtqueues, and checks every buffer that passes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "modes.h"

static bool run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    switch (options->mode) {
    case BENCH_ENGINE:
        return bench_engine_run(options, report, errp);
    case BENCH_THREADS:
        return bench_threads_run(options, report, errp);
    case BENCH_DIRECT:
        return bench_direct_run(options, report, errp);
    case BENCH_VHOST_USER:
        return bench_vhost_user_run(options, report, errp);
    case BENCH_BLK:
        return bench_blk_run(options, report, errp);
    case BENCH_MACHINE:
        return bench_machine_run(options, report, errp);
    }
    g_assert_not_reached();
}

static int fail(const GError *error)
{
    fprintf(stderr, "svq-bench: %s\n", error->message);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    g_autofree BenchQueue *queues = NULL;
    g_autoptr(GError) error = NULL;
    BenchOptions options;
    BenchReport report;
    BenchQueue total;
    unsigned int n;
    bool ok;

    /* A back end that goes away is an error to report, not a reason to die. */
    signal(SIGPIPE, SIG_IGN);
    g_set_prgname("svq-bench");
    if (!bench_options_parse(&options, &argc, &argv, &error)) {
        bench_options_clear(&options);
        return fail(error);
    }
    n = (unsigned int)options.queues + bench_options_flood(&options);
    queues = g_new0(BenchQueue, n);
    report = (BenchReport){ .n = n, .queues = queues };
    ok = run(&options, &report, &error);
    bench_progress_end();
    if (!ok) {
        bench_options_clear(&options);
        return fail(error);
    }
    bench_report_print(&report, &options);
    g_clear_pointer(&report.control.commands, g_array_unref);
    total = bench_report_total(&report);
    bench_options_clear(&options);
    return bench_errors_sum(&total.errors) ? EXIT_FAILURE : EXIT_SUCCESS;
}
