/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What svq-bench found out, and how it is told: live progress, a table, JSON.
 */
#ifndef TOOLS_SVQ_BENCH_REPORT_H
#define TOOLS_SVQ_BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"

/* Buffers that did not come back as they should have. */
typedef struct BenchErrors {
    uint64_t lost;          /* numbers that are missing */
    uint64_t misordered;    /* twice, or late */
    uint64_t corrupted;     /* content or length is wrong */
    uint64_t failed;        /* the device says so */
    uint64_t unlogged;      /* pages of them that a dirty log lacks */
    uint64_t other;         /* the ring is broken, or the run did not end */
} BenchErrors;

typedef struct BenchQueue {
    uint64_t buffers;       /* that came back */
    uint64_t ns;            /* what they took */
    uint64_t syscalls;
    uint64_t bursts;        /* 0: not known */
    uint64_t allocations;
    uint64_t foreign;       /* --udp: frames that are none of ours */
    BenchErrors errors;
    int cpu;                /* of the driver's thread; -1: not told */
} BenchQueue;

typedef struct BenchScaling {
    double one_mpps, all_mpps;      /* medians */
    double ratio;
} BenchScaling;

/* Of round trips: --ping-pong. */
typedef struct BenchLatency {
    uint64_t n;                     /* 0: not measured */
    uint64_t p50_ns, p90_ns, p99_ns, max_ns;
} BenchLatency;

/* Times that a thread slept and was woken. */
typedef struct BenchWakeups {
    const char *thread;             /* NULL: not counted */
    uint64_t n;
} BenchWakeups;

/* What the machine can do, in ns: medians. */
typedef struct BenchMachine {
    double line_round_trip;         /* of a cache line, between two CPUs */
    double eventfd_write, eventfd_read;
    double null_syscall;
    double clock;                   /* reading it */
    double wakeup;                  /* of a thread that sleeps, on the other CPU, by eventfd */
} BenchMachine;

/* Of LOG_ALL, see switches.h. */
typedef struct BenchSwitches {
    unsigned int n;
    uint64_t p50_ns, p99_ns, max_ns;
    uint64_t pages;         /* that were looked for in the log */
} BenchSwitches;

/* A control command, and what became of it. */
typedef struct BenchCommand {
    char *text;
    uint8_t ack;
    char *result;           /* that the device wrote behind its ack, in hexadecimal; or NULL */
    uint64_t ns;            /* until it was answered */
} BenchCommand;

typedef struct BenchControl {
    GArray *commands;       /* BenchCommand; NULL: none */
    uint64_t ns;            /* of all together */
} BenchControl;

typedef struct BenchReport {
    unsigned int n;         /* queues */
    BenchQueue *queues;
    uint64_t ns;            /* of the whole run */
    const BenchScaling *scaling;    /* or NULL */
    BenchLatency latency;
    BenchWakeups wakeups[2];
    BenchMachine machine;           /* mode machine: nothing else */
    BenchSwitches switches;
    BenchControl control;           /* owned */
} BenchReport;

/* "OK", "ERR", or what it is instead. */
const char *bench_ack_name(uint8_t ack);

uint64_t bench_errors_sum(const BenchErrors *errors);

/* All queues together. */
BenchQueue bench_report_total(const BenchReport *report);

/* To standard output. */
void bench_report_print(const BenchReport *report, const BenchOptions *options);

/* The same as JSON, whatever @options say. */
void bench_report_print_json(const BenchReport *report, const BenchOptions *options);

/* a / b; 0 if that is none. */
double bench_ratio(uint64_t a, uint64_t b);

/* Sorts them. */
double bench_median(double *values, unsigned int n);

/* One line, rewritten, if standard error is a terminal and the last one is old enough. */
void bench_progress(uint64_t buffers, uint64_t errors);
void bench_progress_end(void);

/* CLOCK_MONOTONIC. */
uint64_t bench_now_ns(void);

#endif
