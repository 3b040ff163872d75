/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The modes of svq-bench.  Each runs, fills the report in, whose queues are there, and
 * returns true; or it cannot run at all: false and @errp.
 */
#ifndef TOOLS_SVQ_BENCH_MODES_H
#define TOOLS_SVQ_BENCH_MODES_H

#include "report.h"

bool bench_engine_run(const BenchOptions *options, BenchReport *report, GError **errp);
bool bench_threads_run(const BenchOptions *options, BenchReport *report, GError **errp);
bool bench_direct_run(const BenchOptions *options, BenchReport *report, GError **errp);
bool bench_vhost_user_run(const BenchOptions *options, BenchReport *report, GError **errp);
bool bench_blk_run(const BenchOptions *options, BenchReport *report, GError **errp);
bool bench_machine_run(const BenchOptions *options, BenchReport *report, GError **errp);

#endif
