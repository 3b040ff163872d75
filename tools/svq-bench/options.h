/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the command line of svq-bench says.
 */
#ifndef TOOLS_SVQ_BENCH_OPTIONS_H
#define TOOLS_SVQ_BENCH_OPTIONS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum BenchMode {
    BENCH_ENGINE,
    BENCH_THREADS,
    BENCH_DIRECT,
    BENCH_VHOST_USER,
    BENCH_BLK,
    BENCH_MACHINE,
} BenchMode;

/* What a driver does while nothing has come back. */
typedef enum BenchWait {
    BENCH_WAIT_ADAPTIVE,    /* look again for a while, then sleep */
    BENCH_WAIT_POLL,        /* look again, for ever */
    BENCH_WAIT_SLEEP,       /* sleep until it is called */
} BenchWait;

/* Which buffers the device writes to. */
typedef enum BenchWritten {
    BENCH_WRITTEN_HALF,     /* every other */
    BENCH_WRITTEN_ALL,
    BENCH_WRITTEN_NONE,
} BenchWritten;

/* CPUs of a queue; -1: any. */
typedef struct BenchCpus {
    int iothread;               /* direct: the device's */
    int peer;                   /* direct: the driver's */
} BenchCpus;

#define BENCH_MAX_QUEUES 128
#define BENCH_MAX_RANGES 1024
#define BENCH_MAX_DESCRIPTORS 64
#define BENCH_MAX_BUFFER_SIZE 65536
#define BENCH_MAX_SWITCHES 1000000

typedef struct BenchOptions {
    BenchMode mode;
    bool guest_packed;          /* direct, vhost-user, blk: the format of all rings */
    bool shadow_packed;
    bool event_idx;
    bool indirect;
    bool in_order;
    bool notify;                /* engine: both peers ask for notifications */
    bool dirty_log;             /* engine: what is written is logged */
    bool ping_pong;             /* one buffer under way, whose round trips are timed */
    bool flood;                 /* threads: a second queue in the IOThread */
    bool flood_apart;           /* threads: a second ring, but not in the IOThread */
    bool scaling;
    bool json;
    bool udp;                   /* packets are frames */
    bool control_only;          /* no packets */
    bool control_pipelined;     /* commands do not wait for the answer to the one before */
    uint8_t mac[6];             /* that they go to */
    int descriptors;            /* of a buffer; blk: of a request's data */
    int burst;                  /* buffers */
    int ranges;                 /* of guest memory */
    int buffer_size;            /* bytes of a descriptor; 0: chosen at random */
    BenchWritten written;
    int queue_size;
    int queues;                 /* vhost-user: queue pairs */
    int packet_size;            /* bytes, virtio_net_hdr not counted */
    int window;                 /* packets under way; 0: as many as receive buffers */
    int switches;               /* of LOG_ALL */
    int depth;                  /* requests under way */
    int request_size;           /* bytes */
    int rounds;                 /* of --scaling */
    int poll_max_ns;
    int64_t buffers;            /* for each queue; 0: until duration_s is over */
    int64_t requests;           /* blk: for each queue */
    double duration_s;
    int64_t seed;
    BenchWait wait;
    BenchCpus cpus[BENCH_MAX_QUEUES];
    char *socket_path;
    char **control;             /* lists of commands with ; between them; NULL: none */
    char *save_state, *load_state;      /* files, or NULL */
} BenchOptions;

/*
 * Reads the command line.  True: *options is filled in; false and @errp: it is wrong, in
 * one line.  --help and --version print and end the program.
 */
bool bench_options_parse(BenchOptions *options, int *argc, char ***argv, GError **errp);
void bench_options_clear(BenchOptions *options);

/* Whether svq-bench is the guest of a vhost-user back end. */
static inline bool bench_mode_is_guest(BenchMode mode)
{
    return mode == BENCH_VHOST_USER || mode == BENCH_BLK;
}

/* Whether there is one format, which --format says, and not one on each side of SVQ. */
static inline bool bench_mode_has_one_format(BenchMode mode)
{
    return bench_mode_is_guest(mode) || mode == BENCH_DIRECT;
}

/* Whether a second queue is flooded while the round trips of the first are timed. */
static inline bool bench_options_flood(const BenchOptions *options)
{
    return options->flood || options->flood_apart;
}

const char *bench_mode_name(BenchMode mode);
const char *bench_format_name(bool packed);

/* Sets *@errp in words; false, so that a check is one statement. */
bool bench_fail(GError **errp, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
