/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What svq-bench found out, as JSON.
 */
#include "report.h"

#include <json-glib/json-glib.h>
#include <stdio.h>

#include "allocations.h"

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
    add_double(builder, "ns_per_buffer", bench_ratio(queue->ns, queue->buffers));
    add_double(builder, "mpps", 1e3 * bench_ratio(queue->buffers, queue->ns));
    add_uint(builder, "syscalls", queue->syscalls);
    add_double(builder, "syscalls_per_buffer", bench_ratio(queue->syscalls, queue->buffers));
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
    add_string(builder, bench_mode_has_one_format(options->mode) ? "format" : "guest",
               bench_format_name(options->guest_packed));
    if (!bench_mode_has_one_format(options->mode)) {
        add_string(builder, "shadow", bench_format_name(options->shadow_packed));
    }
    add_uint(builder, "descriptors", (uint64_t)options->descriptors);
    if (options->mode == BENCH_BLK) {
        add_uint(builder, "request_size", (uint64_t)options->request_size);
        add_uint(builder, "depth", (uint64_t)options->depth);
    } else if (!options->ping_pong || bench_options_flood(options)) {
        add_uint(builder, "burst", (uint64_t)options->burst);
    }
    if (options->ping_pong) {
        add_bool(builder, "ping_pong", true);
        add_bool(builder, "flood", options->flood);
        add_bool(builder, "flood_apart", options->flood_apart);
    }
    add_uint(builder, "ranges", (uint64_t)options->ranges);
    add_uint(builder, "queue_size", (uint64_t)options->queue_size);
    add_bool(builder, "event_idx", options->event_idx);
    add_bool(builder, "indirect", options->indirect);
    add_bool(builder, "in_order", options->in_order);
    if (options->mode == BENCH_ENGINE) {
        add_bool(builder, "dirty_log", options->dirty_log);
    }
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

static void add_latency(JsonBuilder *builder, const BenchLatency *latency)
{
    json_builder_set_member_name(builder, "latency");
    json_builder_begin_object(builder);
    add_uint(builder, "n", latency->n);
    add_uint(builder, "p50_ns", latency->p50_ns);
    add_uint(builder, "p90_ns", latency->p90_ns);
    add_uint(builder, "p99_ns", latency->p99_ns);
    add_uint(builder, "max_ns", latency->max_ns);
    json_builder_end_object(builder);
}

static void add_wakeups(JsonBuilder *builder, const BenchReport *report)
{
    uint64_t all = 0;
    unsigned int i;

    json_builder_set_member_name(builder, "wakeups");
    json_builder_begin_object(builder);
    for (i = 0; i < G_N_ELEMENTS(report->wakeups); i++) {
        add_uint(builder, report->wakeups[i].thread, report->wakeups[i].n);
        all += report->wakeups[i].n;
    }
    json_builder_end_object(builder);
    add_double(builder, "wakeups_per_round_trip", bench_ratio(all, report->latency.n));
}

static void add_machine(JsonBuilder *builder, const BenchMachine *machine, const BenchCpus *cpus)
{
    add_string(builder, "mode", bench_mode_name(BENCH_MACHINE));
    json_builder_set_member_name(builder, "cpus");
    json_builder_begin_array(builder);
    json_builder_add_int_value(builder, cpus->iothread);
    json_builder_add_int_value(builder, cpus->peer);
    json_builder_end_array(builder);
    add_double(builder, "line_round_trip_ns", machine->line_round_trip);
    add_double(builder, "eventfd_write_ns", machine->eventfd_write);
    add_double(builder, "eventfd_read_ns", machine->eventfd_read);
    add_double(builder, "null_syscall_ns", machine->null_syscall);
    add_double(builder, "clock_ns", machine->clock);
    add_double(builder, "wakeup_ns", machine->wakeup);
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

static void add_run(JsonBuilder *builder, const BenchReport *report, const BenchOptions *options)
{
    BenchQueue total = bench_report_total(report);
    unsigned int i;

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
    if (report->latency.n) {
        add_latency(builder, &report->latency);
        add_wakeups(builder, report);
    }
    if (report->scaling) {
        add_scaling(builder, report->scaling);
    }
    if (report->switches.n) {
        add_switches(builder, &report->switches);
    }
    if (report->control.commands) {
        add_control(builder, &report->control);
    }
}

void bench_report_print_json(const BenchReport *report, const BenchOptions *options)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;

    json_builder_begin_object(builder);
    if (options->mode == BENCH_MACHINE) {
        add_machine(builder, &report->machine, &options->cpus[0]);
    } else {
        add_run(builder, report, options);
    }
    json_builder_end_object(builder);
    root = json_builder_get_root(builder);
    text = json_to_string(root, TRUE);
    puts(text);
}
