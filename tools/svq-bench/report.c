/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How svq-bench tells what it found out.
 */
#include "report.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
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

static double ratio(uint64_t a, uint64_t b)
{
    return b ? (double)a / (double)b : 0;
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
           cpu, queue->buffers, 1e3 * ratio(queue->buffers, queue->ns),
           ratio(queue->ns, queue->buffers), bench_errors_sum(&queue->errors),
           ratio(queue->syscalls, queue->buffers));
}

static void print_heading(const BenchOptions *options)
{
    const char *what = options->mode == BENCH_BLK ? "queue" : "queue pair";

    if (bench_mode_is_guest(options->mode)) {
        printf("%s, %d %s%s, %s rings", options->socket_path, options->queues, what,
               options->queues > 1 ? "s" : "", bench_format_name(options->guest_packed));
    } else {
        printf("%s, guest %s, shadow %s", bench_mode_name(options->mode),
               bench_format_name(options->guest_packed), bench_format_name(options->shadow_packed));
    }
    printf(", %d descriptor%s%s", options->descriptors, options->descriptors > 1 ? "s" : "",
           options->indirect ? " (indirect)" : "");
    if (options->mode == BENCH_BLK) {
        printf(", requests of %d bytes, depth %d", options->request_size, options->depth);
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

/* --- JSON --- */

static void add_uint(JsonBuilder *builder, const char *name, uint64_t value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_int_value(builder, (gint64)value);
}

static void add_double(JsonBuilder *builder, const char *name, double value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_double_value(builder, value);
}

static void add_bool(JsonBuilder *builder, const char *name, bool value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
}

static void add_string(JsonBuilder *builder, const char *name, const char *value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_string_value(builder, value);
}

static void add_queue(JsonBuilder *builder, const BenchQueue *queue)
{
    add_uint(builder, "buffers", queue->buffers);
    add_uint(builder, "errors", bench_errors_sum(&queue->errors));
    add_uint(builder, "lost", queue->errors.lost);
    add_uint(builder, "misordered", queue->errors.misordered);
    add_uint(builder, "corrupted", queue->errors.corrupted);
    add_uint(builder, "failed", queue->errors.failed);
    add_uint(builder, "unlogged", queue->errors.unlogged);
    add_uint(builder, "ns", queue->ns);
    add_double(builder, "ns_per_buffer", ratio(queue->ns, queue->buffers));
    add_double(builder, "mpps", 1e3 * ratio(queue->buffers, queue->ns));
    add_uint(builder, "syscalls", queue->syscalls);
    add_double(builder, "syscalls_per_buffer", ratio(queue->syscalls, queue->buffers));
    if (queue->foreign) {
        add_uint(builder, "foreign", queue->foreign);
    }
    if (queue->bursts) {
        add_uint(builder, "bursts", queue->bursts);
    }
    json_builder_set_member_name(builder, "allocations");
    if (allocations_are_counted()) {
        json_builder_add_int_value(builder, (gint64)queue->allocations);
    } else {
        json_builder_add_null_value(builder);
    }
    if (queue->cpu >= 0) {
        add_uint(builder, "cpu", (uint64_t)queue->cpu);
    }
}

static void add_settings(JsonBuilder *builder, const BenchOptions *options)
{
    add_string(builder, "mode", bench_mode_name(options->mode));
    add_string(builder, bench_mode_is_guest(options->mode) ? "format" : "guest",
               bench_format_name(options->guest_packed));
    if (!bench_mode_is_guest(options->mode)) {
        add_string(builder, "shadow", bench_format_name(options->shadow_packed));
    }
    add_uint(builder, "descriptors", (uint64_t)options->descriptors);
    if (options->mode == BENCH_BLK) {
        add_uint(builder, "request_size", (uint64_t)options->request_size);
        add_uint(builder, "depth", (uint64_t)options->depth);
    } else {
        add_uint(builder, "burst", (uint64_t)options->burst);
    }
    add_uint(builder, "ranges", (uint64_t)options->ranges);
    add_uint(builder, "queue_size", (uint64_t)options->queue_size);
    add_bool(builder, "event_idx", options->event_idx);
    add_bool(builder, "indirect", options->indirect);
    add_bool(builder, "in_order", options->in_order);
}

static void add_scaling(JsonBuilder *builder, const BenchScaling *scaling)
{
    json_builder_set_member_name(builder, "scaling");
    json_builder_begin_object(builder);
    add_double(builder, "one_mpps", scaling->one_mpps);
    add_double(builder, "all_mpps", scaling->all_mpps);
    add_double(builder, "ratio", scaling->ratio);
    json_builder_end_object(builder);
}

static void add_switches(JsonBuilder *builder, const BenchSwitches *switches)
{
    json_builder_set_member_name(builder, "switches");
    json_builder_begin_object(builder);
    add_uint(builder, "n", switches->n);
    add_uint(builder, "p50_ns", switches->p50_ns);
    add_uint(builder, "p99_ns", switches->p99_ns);
    add_uint(builder, "max_ns", switches->max_ns);
    add_uint(builder, "pages", switches->pages);
    json_builder_end_object(builder);
}

static void add_control(JsonBuilder *builder, const BenchControl *control)
{
    unsigned int i;

    json_builder_set_member_name(builder, "control");
    json_builder_begin_object(builder);
    add_uint(builder, "ns", control->ns);
    json_builder_set_member_name(builder, "commands");
    json_builder_begin_array(builder);
    for (i = 0; i < control->commands->len; i++) {
        const BenchCommand *command = &g_array_index(control->commands, BenchCommand, i);

        json_builder_begin_object(builder);
        add_string(builder, "command", command->text);
        add_string(builder, "answer", bench_ack_name(command->ack));
        if (command->result) {
            add_string(builder, "result", command->result);
        }
        add_uint(builder, "ns", command->ns);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
}

static void print_json(const BenchReport *report, const BenchOptions *options)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;
    BenchQueue total = bench_report_total(report);
    unsigned int i;

    json_builder_begin_object(builder);
    add_settings(builder, options);
    add_queue(builder, &total);
    json_builder_set_member_name(builder, "queues");
    json_builder_begin_array(builder);
    for (i = 0; i < report->n; i++) {
        json_builder_begin_object(builder);
        add_queue(builder, &report->queues[i]);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    if (report->scaling) {
        add_scaling(builder, report->scaling);
    }
    if (report->switches.n) {
        add_switches(builder, &report->switches);
    }
    if (report->control.commands) {
        add_control(builder, &report->control);
    }
    json_builder_end_object(builder);
    root = json_builder_get_root(builder);
    text = json_to_string(root, TRUE);
    puts(text);
}

void bench_report_print(const BenchReport *report, const BenchOptions *options)
{
    if (options->json) {
        print_json(report, options);
    } else {
        print_table(report, options);
    }
}
