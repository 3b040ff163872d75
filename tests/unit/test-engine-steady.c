/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A started queue allocates nothing, and makes at most one system call a burst and direction.
 *
 * How it works.  A child builds a rig and moves bursts; this process traces it with ptrace()
 * and counts every system call that it makes between two marks, which are calls of
 * getppid().  Allocations are counted by the child itself, in place of malloc().  The rig's
 * own driver and device neither allocate nor call the kernel, so all that is seen is SVQ's.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocations.h"
#include "rig.h"
#include "util/rcu.h"

#define BURST       32
#define BURSTS      1000
#define FIRST       20      /* bursts before the first mark: each ring is walked through */
#define TIMEOUT_S   50

/* What the child tells, in shared memory. */
typedef struct Told {
    uint64_t buffers;
    uint64_t allocations;
    uint64_t errors;
} Told;

typedef struct Counted {
    unsigned int marks;
    unsigned int writes;
    unsigned int others;
    long other;             /* the last of them */
} Counted;

typedef struct Setting {
    const char *name;
    bool guest_packed, shadow_packed, event_idx, indirect, in_order;
    int descriptors;
    bool notify;
    bool control;           /* does between the marks what SVQ must not do */
} Setting;

/* --- child --- */

static void mark(void)
{
    syscall(SYS_getppid);
}

static void move_bursts(Rig *rig, unsigned int bursts, bool notify)
{
    bool unused;
    unsigned int i;

    for (i = 0; i < bursts; i++) {
        rig_driver_add(rig, BURST, &unused);
        shadow_virtqueue_offer(rig->svq);
        rig_device_work(rig, &unused);
        if (notify) {
            vring_device_enable_kick(&rig->device, rig->shadow_packed);
        }
        shadow_virtqueue_return(rig->svq);
        rig_driver_collect(rig);
        if (notify) {
            vring_driver_enable_call(&rig->driver, rig->guest_packed);
        }
    }
}

static void child_main(const Setting *setting, Told *told)
{
    const BenchOptions options = {
        .guest_packed = setting->guest_packed,
        .shadow_packed = setting->shadow_packed,
        .event_idx = setting->event_idx,
        .indirect = setting->indirect,
        .in_order = setting->in_order,
        .descriptors = setting->descriptors,
        .ranges = 8,
        .queue_size = 256,
    };
    Rig *rig = rig_new(&options, "steady", 1, NULL, NULL);
    uint64_t allocations, collected;

    if (!rig) {
        _exit(1);
    }
    rcu_thread_enter();
    if (!setting->notify) {
        vring_device_disable_kick(&rig->device, rig->shadow_packed);
        vring_driver_disable_call(&rig->driver, rig->guest_packed);
    }
    move_bursts(rig, FIRST, setting->notify);
    collected = rig->collected;

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) {
        _exit(2);
    }
    raise(SIGSTOP);
    allocations = allocations_of_thread();
    mark();
    move_bursts(rig, BURSTS, setting->notify);
    if (setting->control) {
        g_free(g_malloc(1));
        syscall(SYS_getuid);
    }
    mark();
    told->allocations = allocations_of_thread() - allocations;
    told->buffers = rig->collected - collected;
    told->errors = rig->errors;
    _exit(0);
}

/* --- parent --- */

static void count_call(pid_t child, Counted *counted)
{
    struct __ptrace_syscall_info info;
    long ret = ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info);

    g_assert_cmpint(ret, >, 0);
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY) {
        return;
    }
    if (info.entry.nr == SYS_getppid) {
        counted->marks++;
    } else if (counted->marks == 1 && info.entry.nr == SYS_write) {
        counted->writes++;
    } else if (counted->marks == 1) {
        counted->others++;
        counted->other = (long)info.entry.nr;
    }
}

/* Follows the child from its SIGSTOP to its end. */
static void trace(pid_t child, Counted *counted)
{
    int status;

    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSTOPPED(status));
    g_assert_cmpint(WSTOPSIG(status), ==, SIGSTOP);
    g_assert_cmpint(ptrace(PTRACE_SETOPTIONS, child, 0,
                           PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), ==, 0);
    for (;;) {
        g_assert_cmpint(ptrace(PTRACE_SYSCALL, child, 0, 0), ==, 0);
        g_assert_cmpint(waitpid(child, &status, 0), ==, child);
        if (WIFEXITED(status)) {
            break;
        }
        g_assert_true(WIFSTOPPED(status));
        g_assert_cmpint(WSTOPSIG(status), ==, SIGTRAP | 0x80);
        count_call(child, counted);
    }
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static void check_setting(const void *opaque)
{
    const Setting *setting = opaque;
    Told *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                      0);
    Counted counted = { 0 };
    pid_t child;

    g_assert_true(told != MAP_FAILED);
    alarm(TIMEOUT_S);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        child_main(setting, told);
    }
    trace(child, &counted);
    alarm(0);

    g_test_message("%" G_GUINT64_FORMAT " buffers: %u writes, %u other system calls, %"
                   G_GUINT64_FORMAT " allocations%s", told->buffers, counted.writes,
                   counted.others, told->allocations,
                   allocations_are_counted() ? "" : " (not counted under a sanitizer)");
    g_assert_cmpuint(told->errors, ==, 0);
    g_assert_cmpuint(told->buffers, ==, BURSTS * BURST);
    g_assert_cmpuint(counted.marks, ==, 2);
    if (setting->control) {
        /* What is counted below is really counted. */
        g_assert_cmpuint(counted.others, ==, 1);
        g_assert_cmpint(counted.other, ==, SYS_getuid);
        g_assert_cmpuint(told->allocations, ==, allocations_are_counted() ? 1 : 0);
    } else {
        g_assert_cmpuint(counted.others, ==, 0);
        g_assert_cmpuint(told->allocations, ==, 0);
    }
    if (setting->notify) {
        /* Both peers ask once a burst: a kick and a call. */
        g_assert_cmpuint(counted.writes, ==, 2 * BURSTS);
    } else {
        /* Split rings with EVENT_IDX cannot say never: once in 65536 buffers is right. */
        g_assert_cmpuint(counted.writes, <=, 2);
    }
    munmap(told, sizeof(*told));
}

static void add_pair(bool guest_packed, bool shadow_packed)
{
    static const Setting settings[] = {
        { .name = "event-idx", .event_idx = true, .descriptors = 1, .notify = true },
        { .name = "chains", .event_idx = true, .descriptors = 3, .notify = true },
        { .name = "indirect", .event_idx = true, .indirect = true, .descriptors = 3,
          .notify = true },
        { .name = "in-order", .event_idx = true, .in_order = true, .descriptors = 2,
          .notify = true },
        { .name = "flags", .descriptors = 1, .notify = true },
        { .name = "suppressed", .event_idx = true, .descriptors = 1 },
        { .name = "suppressed-by-flags", .descriptors = 1 },
        { .name = "counters-count", .event_idx = true, .descriptors = 1, .notify = true,
          .control = true },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(settings); i++) {
        Setting *setting = g_memdup2(&settings[i], sizeof(settings[i]));
        g_autofree char *path = g_strdup_printf("/engine-steady/%s-%s/%s",
                                                bench_format_name(guest_packed),
                                                bench_format_name(shadow_packed), setting->name);

        setting->guest_packed = guest_packed;
        setting->shadow_packed = shadow_packed;
        g_test_add_data_func_full(path, setting, check_setting, g_free);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_pair(false, false);
    add_pair(false, true);
    add_pair(true, false);
    add_pair(true, true);
    return g_test_run();
}
