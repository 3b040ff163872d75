/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of svq-bench: svq-bench MODE [OPTION...].
 *
 * How it works.  GOption parses into RawOptions, which options-check.c turns into
 * BenchOptions.  A mode accepts only the options that mean something to it.
 */
#include "options-internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static G_DEFINE_QUARK(svq-bench-error, bench_error)

bool bench_fail(GError **errp, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_propagate_error(errp, g_error_new_valist(bench_error_quark(), 0, format, args));
    va_end(args);
    return false;
}

const char *bench_mode_name(BenchMode mode)
{
    static const char *const names[] = {
        [BENCH_ENGINE] = "engine",
        [BENCH_THREADS] = "threads",
        [BENCH_DIRECT] = "direct",
        [BENCH_VHOST_USER] = "vhost-user",
        [BENCH_BLK] = "blk",
        [BENCH_MACHINE] = "machine",
    };

    return names[mode];
}

const char *bench_format_name(bool packed)
{
    return packed ? "packed" : "split";
}

static void print_overview(void)
{
    g_print("Usage: svq-bench MODE [OPTION...]\n\n"
            "Modes:\n"
            "  engine       driver, shadow virtqueue and device in one thread; times SVQ alone\n"
            "  threads      shadow virtqueues in IOThreads, a peer thread for each\n"
            "  direct       a driver and a device in a thread each, without a shadow virtqueue\n"
            "  vhost-user   a guest's network driver towards a vhost-user back end\n"
            "  blk          a guest's block driver towards a vhost-user back end\n"
            "  machine      no queues: what the machine can do\n\n"
            "svq-bench MODE --help tells the options of a mode.\n");
}

static bool parse_mode(BenchMode *mode, int *argc, char **argv, GError **errp)
{
    const char *name = *argc > 1 ? argv[1] : "";

    if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
        print_overview();
        exit(EXIT_SUCCESS);
    }
    if (!strcmp(name, "--version")) {
        g_print("svq-bench %s\n", SVQD_VERSION);
        exit(EXIT_SUCCESS);
    }
    for (*mode = BENCH_ENGINE; *mode <= BENCH_MACHINE; (*mode)++) {
        if (!strcmp(name, bench_mode_name(*mode))) {
            /* The rest is the mode's. */
            memmove(&argv[1], &argv[2], (size_t)(*argc - 1) * sizeof(argv[0]));
            (*argc)--;
            return true;
        }
    }
    return bench_fail(errp, "'%s' is no mode; use engine, threads, direct, vhost-user, blk or "
                      "machine (see --help)", name);
}

static void add_ring_entries(GOptionContext *context, BenchOptions *options, RawOptions *raw)
{
    const GOptionEntry common[] = {
        { "descriptors", 'd', 0, G_OPTION_ARG_INT, &options->descriptors,
          "Descriptors of a buffer, or of a request's data (1)", "N" },
        { "ranges", 0, 0, G_OPTION_ARG_INT, &options->ranges,
          "Regions of guest memory, chosen at random for each descriptor (8; for a guest 3)",
          "N" },
        { "queue-size", 0, 0, G_OPTION_ARG_INT, &options->queue_size, "Size of each ring (256)",
          "N" },
        { "event-idx", 0, 0, G_OPTION_ARG_STRING, &raw->event_idx,
          "Use VIRTIO_F_EVENT_IDX (on)", "on|off" },
        { "indirect", 0, 0, G_OPTION_ARG_NONE, &raw->indirect,
          "Offer each buffer as an indirect table", NULL },
        { "in-order", 0, 0, G_OPTION_ARG_NONE, &raw->in_order, "Use VIRTIO_F_IN_ORDER", NULL },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &options->seed, "Of what is chosen at random (1)",
          "N" },
        { NULL },
    };
    const GOptionEntry shadowed[] = {
        { "guest", 0, 0, G_OPTION_ARG_STRING, &raw->guest, "The guest's ring (split)",
          "split|packed" },
        { "shadow", 0, 0, G_OPTION_ARG_STRING, &raw->shadow, "The shadow ring (split)",
          "split|packed" },
        { NULL },
    };
    const GOptionEntry rig[] = {
        { "buffer-size", 0, 0, G_OPTION_ARG_INT, &options->buffer_size,
          "Bytes of each descriptor (0: at random)", "BYTES" },
        { "written", 0, 0, G_OPTION_ARG_STRING, &raw->written,
          "Buffers that the device writes to (half)", "half|all|none" },
        { NULL },
    };
    const GOptionEntry guest[] = {
        { "socket-path", 's', 0, G_OPTION_ARG_FILENAME, &options->socket_path,
          "The back end's socket", "PATH" },
        { NULL },
    };
    const GOptionEntry one_format[] = {
        { "format", 0, 0, G_OPTION_ARG_STRING, &raw->guest, "Of the rings (split)",
          "split|packed" },
        { NULL },
    };
    const bool is_guest = bench_mode_is_guest(options->mode);
    const bool has_one_format = bench_mode_has_one_format(options->mode);

    g_option_context_add_main_entries(context, common, NULL);
    g_option_context_add_main_entries(context, has_one_format ? one_format : shadowed, NULL);
    g_option_context_add_main_entries(context, is_guest ? guest : rig, NULL);
}

static void add_run_entries(GOptionContext *context, BenchOptions *options, RawOptions *raw)
{
    const GOptionEntry buffers[] = {
        { "burst", 'b', 0, G_OPTION_ARG_INT, &options->burst,
          "Buffers that the driver adds at once (32)", "N" },
        { "buffers", 'n', 0, G_OPTION_ARG_INT64, &options->buffers, "Buffers of each queue", "N" },
        { NULL },
    };
    const GOptionEntry timed[] = {
        { "duration", 't', 0, G_OPTION_ARG_DOUBLE, &options->duration_s,
          "Run so long (5), unless --buffers is given", "SECONDS" },
        { NULL },
    };
    const GOptionEntry waiting[] = {
        { "cpus", 0, 0, G_OPTION_ARG_STRING, &raw->cpus,
          "CPU of each queue (threads: its IOThread's:its peer's; direct: device's:driver's)",
          "LIST" },
        { "wait", 0, 0, G_OPTION_ARG_STRING, &raw->wait,
          "What a driver does while nothing comes back (adaptive)", "adaptive|poll|sleep" },
        { NULL },
    };
    const GOptionEntry ping_pong[] = {
        { "ping-pong", 0, 0, G_OPTION_ARG_NONE, &raw->ping_pong,
          "One buffer at a time, whose round trips are timed", NULL },
        { NULL },
    };

    if (options->mode != BENCH_BLK) {
        g_option_context_add_main_entries(context, buffers, NULL);
    }
    if (options->mode == BENCH_THREADS || options->mode == BENCH_DIRECT ||
        options->mode == BENCH_VHOST_USER) {
        g_option_context_add_main_entries(context, timed, NULL);
    }
    if (options->mode == BENCH_THREADS || options->mode == BENCH_DIRECT) {
        g_option_context_add_main_entries(context, ping_pong, NULL);
    }
    if (options->mode != BENCH_ENGINE) {
        g_option_context_add_main_entries(context, waiting, NULL);
    }
}

static void add_mode_entries(GOptionContext *context, BenchOptions *options, RawOptions *raw)
{
    const GOptionEntry engine[] = {
        { "notify", 0, 0, G_OPTION_ARG_STRING, &raw->notify,
          "Driver and device ask to be notified once a burst (on)", "on|off" },
        { "dirty-log", 0, 0, G_OPTION_ARG_NONE, &raw->dirty_log,
          "Log what the device and SVQ write, and look into the log at the end", NULL },
        { NULL },
    };
    const GOptionEntry threads[] = {
        { "queues", 'q', 0, G_OPTION_ARG_INT, &options->queues, "Queues (1)", "N" },
        { "poll-max-ns", 0, 0, G_OPTION_ARG_INT, &options->poll_max_ns,
          "How long an IOThread polls before it sleeps (0)", "NS" },
        { "scaling", 0, 0, G_OPTION_ARG_NONE, &raw->scaling,
          "Compare one queue with all of them, in turn", NULL },
        { "rounds", 0, 0, G_OPTION_ARG_INT, &options->rounds, "Rounds of --scaling (5)", "N" },
        { "flood", 0, 0, G_OPTION_ARG_NONE, &raw->flood,
          "With --ping-pong: flood a second queue of the same IOThread", NULL },
        { "flood-apart", 0, 0, G_OPTION_ARG_NONE, &raw->flood_apart,
          "The same, but the second queue has no shadow: what --flood is to be compared with", NULL },
        { NULL },
    };
    const GOptionEntry none[] = { { NULL } };
    const GOptionEntry net[] = {
        { "queue-pairs", 'q', 0, G_OPTION_ARG_INT, &options->queues, "Queue pairs (1)", "N" },
        { "packet-size", 0, 0, G_OPTION_ARG_INT, &options->packet_size,
          "Bytes after the virtio_net_hdr (64)", "BYTES" },
        { "window", 0, 0, G_OPTION_ARG_INT, &options->window,
          "Packets of a pair that may be under way (as many as receive buffers)", "N" },
        { "udp", 0, 0, G_OPTION_ARG_NONE, &raw->udp,
          "Packets are Ethernet frames with UDP datagrams", NULL },
        { "mac", 0, 0, G_OPTION_ARG_STRING, &raw->mac,
          "Destination of the frames (ff:ff:ff:ff:ff:ff)", "ADDRESS" },
        { "switches", 0, 0, G_OPTION_ARG_INT, &options->switches,
          "Turn LOG_ALL on and off so many times while packets pass (0)", "N" },
        { "control", 0, 0, G_OPTION_ARG_STRING_ARRAY, &options->control,
          "Send control commands first; !COMMAND: it is to fail", "COMMAND;..." },
        { "control-pipelined", 0, 0, G_OPTION_ARG_NONE, &raw->control_pipelined,
          "All of them at once", NULL },
        { "control-only", 0, 0, G_OPTION_ARG_NONE, &raw->control_only, "No packets", NULL },
        { "save-state", 0, 0, G_OPTION_ARG_FILENAME, &options->save_state,
          "At the end save the back end's state", "FILE" },
        { "load-state", 0, 0, G_OPTION_ARG_FILENAME, &options->load_state,
          "At the start load the back end's state", "FILE" },
        { NULL },
    };
    const GOptionEntry blk[] = {
        { "queues", 'q', 0, G_OPTION_ARG_INT, &options->queues, "Queues (1)", "N" },
        { "requests", 'n', 0, G_OPTION_ARG_INT64, &options->requests,
          "Requests of each queue (100000)", "N" },
        { "depth", 0, 0, G_OPTION_ARG_INT, &options->depth,
          "Requests of a queue that may be under way (32)", "N" },
        { "request-size", 0, 0, G_OPTION_ARG_INT, &options->request_size,
          "Bytes that a request reads or writes (4096)", "BYTES" },
        { NULL },
    };
    const GOptionEntry *const entries[] = {
        [BENCH_ENGINE] = engine,
        [BENCH_THREADS] = threads,
        [BENCH_DIRECT] = none,
        [BENCH_VHOST_USER] = net,
        [BENCH_BLK] = blk,
    };

    g_option_context_add_main_entries(context, entries[options->mode], NULL);
}

static void add_machine_entries(GOptionContext *context, RawOptions *raw)
{
    const GOptionEntry machine[] = {
        { "cpus", 0, 0, G_OPTION_ARG_STRING, &raw->cpus, "The two CPUs (0:1)", "A:B" },
        { NULL },
    };

    g_option_context_add_main_entries(context, machine, NULL);
}

static void add_output_entries(GOptionContext *context, RawOptions *raw)
{
    const GOptionEntry output[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &raw->json, "Print JSON", NULL },
        { NULL },
    };

    g_option_context_add_main_entries(context, output, NULL);
}

static void raw_options_clear(RawOptions *raw)
{
    g_free(raw->guest);
    g_free(raw->shadow);
    g_free(raw->event_idx);
    g_free(raw->notify);
    g_free(raw->wait);
    g_free(raw->cpus);
    g_free(raw->mac);
    g_free(raw->written);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RawOptions, raw_options_clear)

bool bench_options_parse(BenchOptions *options, int *argc, char ***argv, GError **errp)
{
    g_autoptr(GOptionContext) context = NULL;
    g_autofree char *usage = NULL;
    g_auto(RawOptions) raw = { 0 };

    *options = (BenchOptions){
        .event_idx = true,
        .notify = true,
        .descriptors = 1,
        .burst = 32,
        .queue_size = 256,
        .queues = 1,
        .packet_size = 64,
        .requests = 100000,
        .depth = 32,
        .request_size = 4096,
        .rounds = 5,
        .duration_s = 5,
        .seed = 1,
    };
    if (!parse_mode(&options->mode, argc, *argv, errp)) {
        return false;
    }
    options->ranges = bench_mode_is_guest(options->mode) ? 3 : 8;
    options->buffers = options->mode == BENCH_ENGINE ? 1000000 : 0;

    usage = g_strdup_printf("- mode %s", bench_mode_name(options->mode));
    context = g_option_context_new(usage);
    if (options->mode == BENCH_MACHINE) {
        add_machine_entries(context, &raw);
    } else {
        add_ring_entries(context, options, &raw);
        add_run_entries(context, options, &raw);
        add_mode_entries(context, options, &raw);
    }
    add_output_entries(context, &raw);
    if (!g_option_context_parse(context, argc, argv, errp)) {
        return false;
    }
    if (*argc > 1) {
        return bench_fail(errp, "'%s' is no option", (*argv)[1]);
    }
    return bench_options_read(options, &raw, errp) && bench_options_check(options, errp);
}

void bench_options_clear(BenchOptions *options)
{
    g_clear_pointer(&options->socket_path, g_free);
    g_clear_pointer(&options->control, g_strfreev);
    g_clear_pointer(&options->save_state, g_free);
    g_clear_pointer(&options->load_state, g_free);
}
