/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of svq-bench: what its words mean, and whether they go together.
 */
#include "options-internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hw/virtio/memory-map.h"
#include "hw/virtio/vring-driver.h"
#include "net-frame.h"

#define PACKET_SIZE_MIN 16      /* number, queue pair and some pattern */
#define PACKET_SIZE_MAX 65536
#define SECTOR_SIZE     512
#define REQUEST_SIZE_MAX (1 << 20)

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

static bool mode_names_two_cpus(BenchMode mode)
{
    return mode == BENCH_THREADS || mode == BENCH_DIRECT || mode == BENCH_MACHINE;
}

/* "0:0,1:1": IOThread and peer of each queue; "0,1": one CPU for both. */
static bool parse_cpus(BenchOptions *options, const char *text, GError **errp)
{
    const char *otherwise = options->mode == BENCH_MACHINE ? "0:1" : "";
    g_auto(GStrv) items = g_strsplit(text ? text : otherwise, ",", BENCH_MAX_QUEUES + 1);
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
        if (ok && *end == ':' && mode_names_two_cpus(options->mode)) {
            ok = parse_cpu(end + 1, &end, &cpus->peer);
        }
        if (!ok || *end) {
            return bench_fail(errp, "--cpus: '%s' is no CPU number%s", items[i],
                              mode_names_two_cpus(options->mode) ? ", nor two with a colon" : "");
        }
    }
    return true;
}

static bool parse_mac(BenchOptions *options, const RawOptions *raw, GError **errp)
{
    unsigned int i, octet[6];
    int end = 0;

    options->udp = raw->udp;
    memset(options->mac, 0xff, sizeof(options->mac));
    if (!raw->mac) {
        return true;
    }
    if (sscanf(raw->mac, "%2x:%2x:%2x:%2x:%2x:%2x%n", &octet[0], &octet[1], &octet[2], &octet[3],
               &octet[4], &octet[5], &end) != 6 || raw->mac[end]) {
        return bench_fail(errp, "--mac: '%s' is not an address like 02:00:00:00:00:01", raw->mac);
    }
    for (i = 0; i < sizeof(options->mac); i++) {
        options->mac[i] = (uint8_t)octet[i];
    }
    return options->udp || bench_fail(errp, "--mac needs --udp");
}

bool bench_options_read(BenchOptions *options, const RawOptions *raw, GError **errp)
{
    static const char *const waits[] = { "adaptive", "poll", "sleep", NULL };
    const bool one_format = bench_mode_has_one_format(options->mode);
    static const char *const writes[] = { "half", "all", "none", NULL };
    int wait = BENCH_WAIT_ADAPTIVE, written = BENCH_WRITTEN_HALF;

    options->indirect = raw->indirect;
    options->in_order = raw->in_order;
    options->dirty_log = raw->dirty_log;
    options->ping_pong = raw->ping_pong;
    options->flood = raw->flood;
    options->flood_apart = raw->flood_apart;
    options->scaling = raw->scaling;
    options->json = raw->json;
    options->control_only = raw->control_only;
    options->control_pipelined = raw->control_pipelined;
    if (!parse_switch(one_format ? "--format" : "--guest", raw->guest, "split", "packed",
                      &options->guest_packed, errp) ||
        !parse_switch("--shadow", raw->shadow, "split", "packed", &options->shadow_packed, errp) ||
        !parse_switch("--event-idx", raw->event_idx, "off", "on", &options->event_idx, errp) ||
        !parse_switch("--notify", raw->notify, "off", "on", &options->notify, errp) ||
        !parse_choice("--wait", raw->wait, waits, &wait, errp) ||
        !parse_choice("--written", raw->written, writes, &written, errp)) {
        return false;
    }
    if (one_format) {
        options->shadow_packed = options->guest_packed;
    }
    options->wait = (BenchWait)wait;
    options->written = (BenchWritten)written;
    return parse_mac(options, raw, errp) && parse_cpus(options, raw->cpus, errp);
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

static bool check_rings(const BenchOptions *options, GError **errp)
{
    const bool split = !options->guest_packed || !options->shadow_packed;
    /* A block request has a header and a status besides. */
    const int others = options->mode == BENCH_BLK ? 2 : 0;
    const int max = options->indirect ? VRING_INDIRECT_MAX : BENCH_MAX_DESCRIPTORS;

    if (!check_range("--queue-size", options->queue_size, 1 + others, VRING_MAX_SIZE, errp) ||
        !check_range("--descriptors", options->descriptors, 1,
                     MIN(options->queue_size, max) - others, errp) ||
        !check_range("--burst", options->burst, 1, VRING_MAX_SIZE, errp) ||
        !check_range("--ranges", options->ranges, 1, BENCH_MAX_RANGES, errp) ||
        !check_range("--buffer-size", options->buffer_size, 0, BENCH_MAX_BUFFER_SIZE, errp) ||
        !check_range(options->mode == BENCH_VHOST_USER ? "--queue-pairs" : "--queues",
                     options->queues, 1, BENCH_MAX_QUEUES, errp)) {
        return false;
    }
    return vring_num_valid((uint32_t)options->queue_size, !split) ||
           bench_fail(errp, "--queue-size: %d is not a power of two, as a split ring needs",
                      options->queue_size);
}

static bool check_run(const BenchOptions *options, GError **errp)
{
    if (!check_range("--rounds", options->rounds, 1, 1000, errp) ||
        !check_range("--poll-max-ns", options->poll_max_ns, 0, G_MAXINT, errp) ||
        !check_range("--buffers", options->buffers, 0, INT64_C(1) << 56, errp)) {
        return false;
    }
    if (options->mode == BENCH_ENGINE && options->buffers == 0) {
        return bench_fail(errp, "--buffers: 0 is nothing to measure");
    }
    if (!(options->duration_s > 0 && options->duration_s <= 1e6)) {
        return bench_fail(errp, "--duration: not a number of seconds above 0");
    }
    if (bench_mode_is_guest(options->mode) && !options->socket_path) {
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

/* What can be timed, and beside what. */
static bool check_ping_pong(const BenchOptions *options, GError **errp)
{
    const BenchCpus *cpus = &options->cpus[0];

    if (options->mode == BENCH_MACHINE && cpus->iothread == cpus->peer) {
        return bench_fail(errp, "--cpus: two different CPUs, as in 0:1, are needed");
    }
    if (bench_options_flood(options) && !options->ping_pong) {
        return bench_fail(errp, "--flood needs --ping-pong");
    }
    if (options->flood && options->flood_apart) {
        return bench_fail(errp, "--flood and --flood-apart: one of them");
    }
    if (bench_options_flood(options) && options->wait != BENCH_WAIT_POLL) {
        return bench_fail(errp, "--flood needs --wait poll");
    }
    if (options->ping_pong && options->scaling) {
        return bench_fail(errp, "--ping-pong: no --scaling");
    }
    if (options->ping_pong && options->queues > 1) {
        return bench_fail(errp, "--ping-pong takes one queue, not --queues %d", options->queues);
    }
    return true;
}

/* Before the run, for at its end it would be in vain.  @mode is R_OK or W_OK. */
static bool check_file(const char *option, const char *path, int mode, GError **errp)
{
    g_autofree char *directory = path ? g_path_get_dirname(path) : NULL;
    int ret;

    if (!path) {
        return true;
    }
    if (g_file_test(path, G_FILE_TEST_IS_DIR)) {
        return bench_fail(errp, "%s '%s': %s", option, path, g_strerror(EISDIR));
    }
    ret = access(path, mode);
    if (ret < 0 && errno == ENOENT && mode == W_OK && *path) {
        ret = access(directory, W_OK | X_OK);
    }
    return ret == 0 || bench_fail(errp, "%s '%s': %s", option, path, g_strerror(errno));
}

static bool check_net(const BenchOptions *options, GError **errp)
{
    const int headers = options->udp ? NET_FRAME_HEADERS : 0;
    const int max = options->udp ? NET_FRAME_MAX : PACKET_SIZE_MAX;

    if (!check_range("--packet-size", options->packet_size, PACKET_SIZE_MIN + headers, max,
                     errp) ||
        !check_range("--window", options->window, 0, VRING_MAX_SIZE, errp) ||
        !check_range("--switches", options->switches, 0, BENCH_MAX_SWITCHES, errp)) {
        return false;
    }
    if (options->switches && options->buffers) {
        return bench_fail(errp, "--switches takes --duration, not --buffers");
    }
    if (options->control_only && (options->switches || options->buffers)) {
        return bench_fail(errp, "--control-only: no packets, so no --switches and no --buffers");
    }
    if (options->control_pipelined && !options->control) {
        return bench_fail(errp, "--control-pipelined needs --control");
    }
    return check_file("--load-state", options->load_state, R_OK, errp) &&
           check_file("--save-state", options->save_state, W_OK, errp);
}

static bool check_blk(const BenchOptions *options, GError **errp)
{
    if (!check_range("--requests", options->requests, 1, INT64_C(1) << 56, errp) ||
        !check_range("--depth", options->depth, 1, VRING_MAX_SIZE, errp) ||
        !check_range("--request-size", options->request_size, SECTOR_SIZE, REQUEST_SIZE_MAX,
                     errp)) {
        return false;
    }
    if (options->request_size % SECTOR_SIZE) {
        return bench_fail(errp, "--request-size: %d is not a multiple of %d",
                          options->request_size, SECTOR_SIZE);
    }
    return true;
}

bool bench_options_check(const BenchOptions *options, GError **errp)
{
    return check_rings(options, errp) && check_run(options, errp) &&
           check_ping_pong(options, errp) && check_net(options, errp) && check_blk(options, errp);
}
