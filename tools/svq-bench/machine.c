/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode machine: what the machine can do, to which the times of the other modes are compared.
 *
 * How it works.  Whatever is short is repeated and timed together; of many such samples the
 * median is told, so that what else the machine does now and then is left out.  Between two CPUs two
 * threads play ping-pong: with a number in a cache line, at which they look without a pause; and with
 * two eventfds, in each of which one of them sleeps.
 */
#include "modes.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "thread.h"

#define SAMPLES         1001
#define REPEAT          100     /* in a sample */
#define WAKEUP_SAMPLES  1001    /* each a single one, and slow */

static double samples[SAMPLES];

/* The median of what fn() takes, by samples of REPEAT calls; before() each sample, if there is. */
static double measure(void (*before)(int fd), void (*fn)(int fd), int fd)
{
    unsigned int i, j;

    for (i = 0; i < SAMPLES; i++) {
        uint64_t start;

        if (before) {
            before(fd);
        }
        start = bench_now_ns();
        for (j = 0; j < REPEAT; j++) {
            fn(fd);
        }
        samples[i] = (double)(bench_now_ns() - start) / REPEAT;
    }
    return bench_median(samples, SAMPLES);
}

static void read_clock(int fd)
{
    bench_now_ns();
}

static void null_syscall(int fd)
{
    syscall(SYS_getppid);
}

/* What the other end of an eventfd sees is not our concern here, nor can it fail. */
static void write_value(int fd, uint64_t value)
{
    ssize_t n = write(fd, &value, sizeof(value));

    g_assert(n == sizeof(value));
}

static void write_eventfd(int fd)
{
    write_value(fd, 1);
}

static void read_eventfd(int fd)
{
    uint64_t value;
    ssize_t n = read(fd, &value, sizeof(value));

    g_assert(n == sizeof(value));
}

static void fill_eventfd(int fd)
{
    write_value(fd, REPEAT);
}

/* What two threads need to play ping-pong. */
typedef struct Table {
    _Alignas(128) _Atomic uint64_t ball;    /* odd: the other's turn */
    _Alignas(128) int there, back;          /* eventfds */
} Table;

static void *return_line(void *opaque)
{
    Table *table = opaque;
    uint64_t turn;

    for (turn = 1; turn < 2 * SAMPLES * REPEAT; turn += 2) {
        /* Each acquire pairs with the other's release: the line is the message. */
        while (atomic_load_explicit(&table->ball, memory_order_acquire) != turn) {
        }
        atomic_store_explicit(&table->ball, turn + 1, memory_order_release);
    }
    return NULL;
}

static double play_line(Table *table)
{
    uint64_t turn = 0;
    unsigned int i, j;

    for (i = 0; i < SAMPLES; i++) {
        const uint64_t start = bench_now_ns();

        for (j = 0; j < REPEAT; j++) {
            atomic_store_explicit(&table->ball, ++turn, memory_order_release);
            turn++;
            while (atomic_load_explicit(&table->ball, memory_order_acquire) != turn) {
            }
        }
        samples[i] = (double)(bench_now_ns() - start) / REPEAT;
    }
    return bench_median(samples, SAMPLES);
}

static void *return_wakeup(void *opaque)
{
    Table *table = opaque;
    unsigned int i;

    for (i = 0; i < WAKEUP_SAMPLES; i++) {
        read_eventfd(table->there);
        write_eventfd(table->back);
    }
    return NULL;
}

/* Both sleep, so there are two wake-ups in a round trip. */
static double play_wakeup(Table *table)
{
    unsigned int i;

    for (i = 0; i < WAKEUP_SAMPLES; i++) {
        const uint64_t start = bench_now_ns();

        write_eventfd(table->there);
        read_eventfd(table->back);
        samples[i] = (double)(bench_now_ns() - start) / 2;
    }
    return bench_median(samples, WAKEUP_SAMPLES);
}

typedef struct Machine {
    BenchMachine *result;
    Table table;
    int counter;                /* an eventfd, each read of which takes 1 */
    int other_cpu;
    GError *error;
} Machine;

/* Plays with a thread on the other CPU. */
static double play(Machine *machine, void *(*other)(void *opaque), double (*self)(Table *table))
{
    pthread_t thread;
    double result;

    if (machine->error ||
        !bench_thread_start(&thread, machine->other_cpu, other, &machine->table,
                            &machine->error)) {
        return 0;
    }
    result = self(&machine->table);
    pthread_join(thread, NULL);
    return result;
}

static void *machine_main(void *opaque)
{
    Machine *machine = opaque;

    *machine->result = (BenchMachine){
        .line_round_trip = play(machine, return_line, play_line),
        .eventfd_write = measure(NULL, write_eventfd, machine->counter),
        .eventfd_read = measure(fill_eventfd, read_eventfd, machine->counter),
        .null_syscall = measure(NULL, null_syscall, -1),
        .clock = measure(NULL, read_clock, -1),
        .wakeup = play(machine, return_wakeup, play_wakeup),
    };
    return NULL;
}

static bool run_on_cpus(Machine *machine, const BenchCpus *cpus, GError **errp)
{
    pthread_t thread;

    machine->other_cpu = cpus->peer;
    if (!bench_thread_start(&thread, cpus->iothread, machine_main, machine, errp)) {
        return false;
    }
    pthread_join(thread, NULL);
    if (machine->error) {
        g_propagate_error(errp, machine->error);
        return false;
    }
    return true;
}

bool bench_machine_run(const BenchOptions *options, BenchReport *report, GError **errp)
{
    Machine machine = {
        .result = &report->machine,
        .table = { .there = eventfd(0, EFD_CLOEXEC), .back = eventfd(0, EFD_CLOEXEC) },
        .counter = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE),
    };
    int *const fds[] = { &machine.table.there, &machine.table.back, &machine.counter };
    bool ok = true;
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(fds); i++) {
        ok = ok && (*fds[i] >= 0 || bench_fail(errp, "no eventfd: %s", g_strerror(errno)));
    }
    ok = ok && run_on_cpus(&machine, &options->cpus[0], errp);
    for (i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
        }
    }
    return ok;
}
