/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How svq-bench tells what it found out.
 */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "allocations.h"
#include "hw/net/net-ctrl.h"

#define PROGRESS_INTERVAL_NS UINT64_C(200000000)

uint64_t bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const char *bench_ack_name(uint8_t ack)
{
    return ack == NET_CTRL_OK ? "OK" : ack == NET_CTRL_ERR ? "ERR" : "neither OK nor ERR";
}

uint64_t bench_errors_sum(const BenchErrors *errors)
{
    return errors->lost + errors->misordered + errors->corrupted + errors->failed +
           errors->unlogged + errors->other;
}

BenchQueue bench_report_total(const BenchReport *report)
{
    BenchQueue total = { .ns = report->ns, .cpu = -1 };
    unsigned int i;

    for (i = 0; i < report->n; i++) {
        const BenchQueue *queue = &report->queues[i];

        total.buffers += queue->buffers;
        total.syscalls += queue->syscalls;
        total.bursts += queue->bursts;
        total.allocations += queue->allocations;
        total.foreign += queue->foreign;
        total.errors.lost += queue->errors.lost;
        total.errors.misordered += queue->errors.misordered;
        total.errors.corrupted += queue->errors.corrupted;
        total.errors.failed += queue->errors.failed;
        total.errors.unlogged += queue->errors.unlogged;
        total.errors.other += queue->errors.other;
    }
    return total;
}

double bench_ratio(uint64_t a, uint64_t b)
{
    return b ? (double)a / (double)b : 0;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *values, unsigned int n)
{
    qsort(values, n, sizeof(values[0]), compare_double);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* --- progress --- */

static struct {
    uint64_t told_ns;
    uint64_t told_buffers;
    bool shown;
} progress;

void bench_progress(uint64_t buffers, uint64_t errors)
{
    static int terminal = -1;
    uint64_t now;

    if (terminal < 0) {
        terminal = isatty(STDERR_FILENO);
    }
    if (!terminal) {
        return;
    }
    now = bench_now_ns();
    if (now - progress.told_ns < PROGRESS_INTERVAL_NS) {
        return;
    }
    if (progress.told_ns) {
        fprintf(stderr, "\r%12" G_GUINT64_FORMAT " buffers  %7.3f Mpps  %" G_GUINT64_FORMAT
                " errors\033[K", buffers,
                1e3 * (double)(buffers - progress.told_buffers) / (double)(now - progress.told_ns),
                errors);
        progress.shown = true;
    }
    progress.told_ns = now;
    progress.told_buffers = buffers;
}

void bench_progress_end(void)
{
    if (progress.shown) {
        fputs("\r\033[K", stderr);
    }
    progress.told_ns = progress.told_buffers = 0;
    progress.shown = false;
}

/* --- table --- */

static void print_row(const char *name, const BenchQueue *queue)
{
    char cpu[16] = "-";

    if (queue->cpu >= 0) {
        g_snprintf(cpu, sizeof(cpu), "%d", queue->cpu);
    }
    printf("%-8s %4s %12" G_GUINT64_FORMAT " %9.3f %11.2f %9" G_GUINT64_FORMAT " %15.4f\n", name,
           cpu, queue->buffers, 1e3 * bench_ratio(queue->buffers, queue->ns),
           bench_ratio(queue->ns, queue->buffers), bench_errors_sum(&queue->errors),
           bench_ratio(queue->syscalls, queue->buffers));
}

static void print_heading(const BenchOptions *options)
{
    const char *what = options->mode == BENCH_BLK ? "queue" : "queue pair";

    if (bench_mode_is_guest(options->mode)) {
        printf("%s, %d %s%s, %s rings", options->socket_path, options->queues, what,
               options->queues > 1 ? "s" : "", bench_format_name(options->guest_packed));
    } else if (bench_mode_has_one_format(options->mode)) {
        printf("%s, %s ring", bench_mode_name(options->mode),
               bench_format_name(options->guest_packed));
    } else {
        printf("%s, guest %s, shadow %s", bench_mode_name(options->mode),
               bench_format_name(options->guest_packed), bench_format_name(options->shadow_packed));
    }
    printf(", %d descriptor%s%s", options->descriptors, options->descriptors > 1 ? "s" : "",
           options->indirect ? " (indirect)" : "");
    if (options->mode == BENCH_BLK) {
        printf(", requests of %d bytes, depth %d", options->request_size, options->depth);
    } else if (options->ping_pong) {
        printf(", ping-pong%s",
               options->flood ? ", a neighbour flooded"
                              : options->flood_apart ? ", another ring flooded" : "");
    } else {
        printf(", burst %d", options->burst);
    }
    printf(", event index %s%s\n", options->event_idx ? "on" : "off",
           options->in_order ? ", in order" : "");
}

static void print_control(const BenchControl *control)
{
    unsigned int i;

    for (i = 0; i < control->commands->len; i++) {
        const BenchCommand *command = &g_array_index(control->commands, BenchCommand, i);

        printf("control: %s: %s%s%s, %.1f us\n", command->text, bench_ack_name(command->ack),
               command->result ? " " : "", command->result ? command->result : "",
               (double)command->ns / 1e3);
    }
    printf("control commands: %u, in all %.1f us\n", control->commands->len,
           (double)control->ns / 1e3);
}

static void print_latency(const BenchReport *report)
{
    const BenchLatency *latency = &report->latency;
    uint64_t wakeups = 0;
    unsigned int i;

    printf("round trips: %" G_GUINT64_FORMAT ", in ns p50 %" G_GUINT64_FORMAT ", p90 %"
           G_GUINT64_FORMAT ", p99 %" G_GUINT64_FORMAT ", max %" G_GUINT64_FORMAT "\n", latency->n,
           latency->p50_ns, latency->p90_ns, latency->p99_ns, latency->max_ns);
    printf("wake-ups:");
    for (i = 0; i < G_N_ELEMENTS(report->wakeups); i++) {
        printf(" %s %" G_GUINT64_FORMAT ",", report->wakeups[i].thread, report->wakeups[i].n);
        wakeups += report->wakeups[i].n;
    }
    printf(" %.3f in a round trip\n", bench_ratio(wakeups, latency->n));
}

static void print_machine(const BenchMachine *machine, const BenchCpus *cpus)
{
    printf("CPUs %d and %d, medians in ns\n", cpus->iothread, cpus->peer);
    printf("%-32s %10.1f\n", "cache line round trip", machine->line_round_trip);
    printf("%-32s %10.1f\n", "eventfd write", machine->eventfd_write);
    printf("%-32s %10.1f\n", "eventfd read", machine->eventfd_read);
    printf("%-32s %10.1f\n", "null system call", machine->null_syscall);
    printf("%-32s %10.1f\n", "clock", machine->clock);
    printf("%-32s %10.1f\n", "wake-up of a sleeping thread", machine->wakeup);
}

static void print_table(const BenchReport *report, const BenchOptions *options)
{
    const char *what = options->mode == BENCH_VHOST_USER ? "pair" : "queue";
    BenchQueue total = bench_report_total(report);
    unsigned int i;

    print_heading(options);
    printf("%-8s %4s %12s %9s %11s %9s %15s\n", what, "CPU", "buffers", "Mpps", "ns/buffer",
           "errors", "syscalls/buffer");
    for (i = 0; i < report->n; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);

        print_row(name, &report->queues[i]);
    }
    print_row("all", &total);
    if (allocations_are_counted()) {
        printf("allocations: %" G_GUINT64_FORMAT "\n", total.allocations);
    } else {
        printf("allocations: not counted in this build\n");
    }
    if (report->latency.n) {
        print_latency(report);
    }
    if (report->switches.n) {
        const BenchSwitches *switches = &report->switches;

        printf("switches: %u, in us p50 %.1f, p99 %.1f, max %.1f; pages looked up in the log: %"
               G_GUINT64_FORMAT "\n", switches->n, (double)switches->p50_ns / 1e3,
               (double)switches->p99_ns / 1e3, (double)switches->max_ns / 1e3, switches->pages);
    }
    if (report->control.commands) {
        print_control(&report->control);
    }
    if (total.foreign) {
        printf("frames of other origin: %" G_GUINT64_FORMAT "\n", total.foreign);
    }
    if (bench_errors_sum(&total.errors)) {
        printf("errors: %" G_GUINT64_FORMAT " lost, %" G_GUINT64_FORMAT
               " out of order or twice, %" G_GUINT64_FORMAT " corrupted, %" G_GUINT64_FORMAT
               " failed, %" G_GUINT64_FORMAT " pages not logged, %" G_GUINT64_FORMAT " other\n",
               total.errors.lost, total.errors.misordered, total.errors.corrupted,
               total.errors.failed, total.errors.unlogged, total.errors.other);
    }
    if (report->scaling) {
        printf("scaling: one queue %.3f Mpps, %u queues %.3f Mpps: %.2f times\n",
               report->scaling->one_mpps, report->n, report->scaling->all_mpps,
               report->scaling->ratio);
    }
}

void bench_report_print(const BenchReport *report, const BenchOptions *options)
{
    if (options->json) {
        bench_report_print_json(report, options);
    } else if (options->mode == BENCH_MACHINE) {
        print_machine(&report->machine, &options->cpus[0]);
    } else {
        print_table(report, options);
    }
}
