/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of svq-bench: svq-bench MODE [OPTION...].
 *
 * How it works.  GOption parses into RawOptions, which a set of checks turns into
 * BenchOptions.  A mode accepts only the options that mean something to it.
 */
#include "options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring-driver.h"

#define PACKET_SIZE_MIN 16      /* number, queue pair and some pattern */
#define PACKET_SIZE_MAX 65536

/* What GOption fills in: words that are still to be checked. */
typedef struct RawOptions {
    char *guest, *shadow, *event_idx, *notify, *wait, *cpus;
    gboolean indirect, in_order, scaling, json;
} RawOptions;

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
        [BENCH_VHOST_USER] = "vhost-user",
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
            "  vhost-user   a guest's driver towards a vhost-user back end\n\n"
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
    for (*mode = BENCH_ENGINE; *mode <= BENCH_VHOST_USER; (*mode)++) {
        if (!strcmp(name, bench_mode_name(*mode))) {
            /* The rest is the mode's. */
            memmove(&argv[1], &argv[2], (size_t)(*argc - 1) * sizeof(argv[0]));
            (*argc)--;
            return true;
        }
    }
    return bench_fail(errp, "'%s' is no mode; use engine, threads or vhost-user (see --help)",
                      name);
}

static bool parse_choice(const char *option, const char *text, const char *const *choices,
                         int *chosen, GError **errp)
{
    g_autofree char *all = NULL;
    int i;

    if (!text) {
        return true;
    }
    for (i = 0; choices[i]; i++) {
        if (!strcmp(text, choices[i])) {
            *chosen = i;
            return true;
        }
    }
    all = g_strjoinv(" or ", (char **)choices);
    return bench_fail(errp, "%s: '%s' is not %s", option, text, all);
}

static bool parse_switch(const char *option, const char *text, const char *off, const char *on,
                         bool *value, GError **errp)
{
    const char *const choices[] = { off, on, NULL };
    int chosen = *value;

    if (!parse_choice(option, text, choices, &chosen, errp)) {
        return false;
    }
    *value = chosen;
    return true;
}

static bool parse_cpu(const char *text, const char **end, int *cpu)
{
    char *stop;
    guint64 value = g_ascii_strtoull(text, &stop, 10);

    *end = stop;
    *cpu = (int)value;
    return g_ascii_isdigit(text[0]) && value < 4096;
}

/* "0:0,1:1": IOThread and peer of each queue; "0,1": one CPU for both. */
static bool parse_cpus(BenchOptions *options, const char *text, GError **errp)
{
    g_auto(GStrv) items = g_strsplit(text ? text : "", ",", BENCH_MAX_QUEUES + 1);
    guint n = g_strv_length(items);
    guint i;

    for (i = 0; i < BENCH_MAX_QUEUES; i++) {
        options->cpus[i] = (BenchCpus){ -1, -1 };
    }
    if (n > BENCH_MAX_QUEUES) {
        return bench_fail(errp, "--cpus: more than %d entries", BENCH_MAX_QUEUES);
    }
    for (i = 0; i < n; i++) {
        BenchCpus *cpus = &options->cpus[i];
        const char *end;
        bool ok = parse_cpu(items[i], &end, &cpus->iothread);

        cpus->peer = cpus->iothread;
        if (ok && *end == ':' && options->mode == BENCH_THREADS) {
            ok = parse_cpu(end + 1, &end, &cpus->peer);
        }
        if (!ok || *end) {
            return bench_fail(errp, "--cpus: '%s' is no CPU number%s", items[i],
                              options->mode == BENCH_THREADS ? ", nor two with a colon" : "");
        }
    }
    return true;
}

static bool parse_words(BenchOptions *options, const RawOptions *raw, GError **errp)
{
    static const char *const waits[] = { "adaptive", "poll", "sleep", NULL };
    const bool net = options->mode == BENCH_VHOST_USER;
    int wait = BENCH_WAIT_ADAPTIVE;

    options->indirect = raw->indirect;
    options->in_order = raw->in_order;
    options->scaling = raw->scaling;
    options->json = raw->json;
    if (!parse_switch(net ? "--format" : "--guest", raw->guest, "split", "packed",
                      &options->guest_packed, errp) ||
        !parse_switch("--shadow", raw->shadow, "split", "packed", &options->shadow_packed, errp) ||
        !parse_switch("--event-idx", raw->event_idx, "off", "on", &options->event_idx, errp) ||
        !parse_switch("--notify", raw->notify, "off", "on", &options->notify, errp) ||
        !parse_choice("--wait", raw->wait, waits, &wait, errp)) {
        return false;
    }
    options->wait = (BenchWait)wait;
    return parse_cpus(options, raw->cpus, errp);
}

static bool check_range(const char *option, int64_t value, int64_t min, int64_t max,
                        GError **errp)
{
    if (value >= min && value <= max) {
        return true;
    }
    return bench_fail(errp,
                      "%s: %" G_GINT64_FORMAT " is not between %" G_GINT64_FORMAT
                      " and %" G_GINT64_FORMAT,
                      option, value, min, max);
}

static bool check_numbers(const BenchOptions *options, GError **errp)
{
    const bool net = options->mode == BENCH_VHOST_USER;
    const bool split = !options->guest_packed || (!net && !options->shadow_packed);
    int max_descriptors = options->indirect ? VRING_INDIRECT_MAX : BENCH_MAX_DESCRIPTORS;

    if (!check_range("--queue-size", options->queue_size, 1, VRING_MAX_SIZE, errp) ||
        !check_range("--descriptors", options->descriptors, 1,
                     MIN(options->queue_size, max_descriptors), errp) ||
        !check_range("--burst", options->burst, 1, VRING_MAX_SIZE, errp) ||
        !check_range("--ranges", options->ranges, 1, BENCH_MAX_RANGES, errp) ||
        !check_range(net ? "--queue-pairs" : "--queues", options->queues, 1, BENCH_MAX_QUEUES,
                     errp) ||
        !check_range("--packet-size", options->packet_size, PACKET_SIZE_MIN, PACKET_SIZE_MAX,
                     errp) ||
        !check_range("--rounds", options->rounds, 1, 1000, errp) ||
        !check_range("--poll-max-ns", options->poll_max_ns, 0, G_MAXINT, errp) ||
        !check_range("--buffers", options->buffers, 0, INT64_C(1) << 56, errp)) {
        return false;
    }
    if (!(options->duration_s > 0 && options->duration_s <= 1e6)) {
        return bench_fail(errp, "--duration: not a number of seconds above 0");
    }
    if (!vring_num_valid((uint32_t)options->queue_size, !split)) {
        return bench_fail(errp, "--queue-size: %d is not a power of two, as a split ring needs",
                          options->queue_size);
    }
    if (net && !options->socket_path) {
        return bench_fail(errp, "--socket-path=PATH of the back end's socket is missing");
    }
    if (options->scaling && options->queues < 2) {
        return bench_fail(errp, "--scaling needs --queues 2 or more");
    }
    if (options->scaling && options->buffers) {
        return bench_fail(errp, "--scaling takes --duration (of a round), not --buffers");
    }
    return true;
}

static void add_entries(GOptionContext *context, BenchOptions *options, RawOptions *raw)
{
    const GOptionEntry common[] = {
        { "descriptors", 'd', 0, G_OPTION_ARG_INT, &options->descriptors,
          "Descriptors of a buffer (1)", "N" },
        { "burst", 'b', 0, G_OPTION_ARG_INT, &options->burst,
          "Buffers that the driver adds at once (32)", "N" },
        { "buffers", 'n', 0, G_OPTION_ARG_INT64, &options->buffers, "Buffers of each queue", "N" },
        { "ranges", 0, 0, G_OPTION_ARG_INT, &options->ranges,
          "Regions of guest memory, chosen at random for each descriptor (8; vhost-user: 3)",
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
        { "json", 0, 0, G_OPTION_ARG_NONE, &raw->json, "Print JSON", NULL },
        { NULL },
    };
    const GOptionEntry rings[] = {
        { "guest", 0, 0, G_OPTION_ARG_STRING, &raw->guest, "The guest's ring (split)",
          "split|packed" },
        { "shadow", 0, 0, G_OPTION_ARG_STRING, &raw->shadow, "The shadow ring (split)",
          "split|packed" },
        { NULL },
    };
    const GOptionEntry engine[] = {
        { "notify", 0, 0, G_OPTION_ARG_STRING, &raw->notify,
          "Driver and device ask to be notified once a burst (on)", "on|off" },
        { NULL },
    };
    const GOptionEntry timed[] = {
        { "duration", 't', 0, G_OPTION_ARG_DOUBLE, &options->duration_s,
          "Run so long (5), unless --buffers is given", "SECONDS" },
        { "cpus", 0, 0, G_OPTION_ARG_STRING, &raw->cpus,
          "CPU of each queue (threads: its IOThread's:its peer's)", "LIST" },
        { "wait", 0, 0, G_OPTION_ARG_STRING, &raw->wait,
          "What a driver does while nothing comes back (adaptive)", "adaptive|poll|sleep" },
        { NULL },
    };
    const GOptionEntry queues[] = {
        { "queues", 'q', 0, G_OPTION_ARG_INT, &options->queues, "Queues (1)", "N" },
        { "poll-max-ns", 0, 0, G_OPTION_ARG_INT, &options->poll_max_ns,
          "How long an IOThread polls before it sleeps (0)", "NS" },
        { "scaling", 0, 0, G_OPTION_ARG_NONE, &raw->scaling,
          "Compare one queue with all of them, in turn", NULL },
        { "rounds", 0, 0, G_OPTION_ARG_INT, &options->rounds, "Rounds of --scaling (5)", "N" },
        { NULL },
    };
    const GOptionEntry net[] = {
        { "socket-path", 's', 0, G_OPTION_ARG_FILENAME, &options->socket_path,
          "The back end's socket", "PATH" },
        { "queue-pairs", 'q', 0, G_OPTION_ARG_INT, &options->queues, "Queue pairs (1)", "N" },
        { "format", 0, 0, G_OPTION_ARG_STRING, &raw->guest, "Of the rings (split)",
          "split|packed" },
        { "packet-size", 0, 0, G_OPTION_ARG_INT, &options->packet_size,
          "Bytes after the virtio_net_hdr (64)", "BYTES" },
        { NULL },
    };

    g_option_context_add_main_entries(context, common, NULL);
    if (options->mode != BENCH_VHOST_USER) {
        g_option_context_add_main_entries(context, rings, NULL);
    }
    if (options->mode == BENCH_ENGINE) {
        g_option_context_add_main_entries(context, engine, NULL);
    } else {
        g_option_context_add_main_entries(context, timed, NULL);
    }
    if (options->mode == BENCH_THREADS) {
        g_option_context_add_main_entries(context, queues, NULL);
    }
    if (options->mode == BENCH_VHOST_USER) {
        g_option_context_add_main_entries(context, net, NULL);
    }
}

static void raw_options_clear(RawOptions *raw)
{
    g_free(raw->guest);
    g_free(raw->shadow);
    g_free(raw->event_idx);
    g_free(raw->notify);
    g_free(raw->wait);
    g_free(raw->cpus);
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
        .rounds = 5,
        .duration_s = 5,
        .seed = 1,
    };
    if (!parse_mode(&options->mode, argc, *argv, errp)) {
        return false;
    }
    options->ranges = options->mode == BENCH_VHOST_USER ? 3 : 8;
    options->buffers = options->mode == BENCH_ENGINE ? 1000000 : 0;

    usage = g_strdup_printf("- mode %s", bench_mode_name(options->mode));
    context = g_option_context_new(usage);
    add_entries(context, options, &raw);
    if (!g_option_context_parse(context, argc, argv, errp)) {
        return false;
    }
    if (*argc > 1) {
        return bench_fail(errp, "'%s' is no option", (*argv)[1]);
    }
    if (!parse_words(options, &raw, errp) || !check_numbers(options, errp)) {
        return false;
    }
    if (options->mode == BENCH_ENGINE && options->buffers == 0) {
        return bench_fail(errp, "--buffers: 0 is nothing to measure");
    }
    return true;
}

void bench_options_clear(BenchOptions *options)
{
    g_clear_pointer(&options->socket_path, g_free);
}
