/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What many shadow virtqueues cost that have nothing to do: processor time, memory, and the time to
 * stop and start some of them.  Prints one line of JSON.
 *
 * How it works.  All in this process: the queues run in a few IOThreads, guest and device are the
 * main thread.  It starts all queues and lets them be; then it stops and starts a part of them
 * several times, until a buffer has gone through the last one.  Memory is what the allocator has
 * given out since before the first queue was made; the rings are mapped, and so not in it.  The
 * limits are those of 1,024 queues of 256 descriptors, 256 of which are started again.
 */
#include <glib.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "util/event-notifier.h"
#include "util/iothread.h"
#include "util/rcu.h"

#define BUFFER_GPA   UINT64_C(0x10000)
#define BUFFER_BYTES 4096u
#define WAIT_MS      10000

#define IDLE_LIMIT_PERCENT 1.0
#define MEMORY_LIMIT_BYTES 65536
#define RESTART_LIMIT_MS   100.0

typedef struct Queue {
    ShadowVirtqueue *svq;
    EventNotifier guest_kick, guest_call, device_kick, device_call;
    VringConfig guest, shadow;
    VringDesc *tables;
} Queue;

typedef struct Options {
    int queues, iothreads, restarts, rounds, size;
    double seconds;
    gboolean guest_packed, shadow_packed, indirect;
} Options;

static Options options = {
    .queues = 1024, .iothreads = 2, .restarts = 256, .rounds = 7, .size = 256, .seconds = 3
};
static Queue *queues;
static IOThread **iothreads;
static MemoryMap *map;

static void *map_zeros(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert(memory != MAP_FAILED);
    return memory;
}

static void make_map(void)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    g_autoptr(GError) error = NULL;
    MemoryRegion *region;

    g_assert(fd >= 0 && ftruncate(fd, BUFFER_BYTES) == 0);
    region = memory_region_new(fd, 0, BUFFER_GPA, BUFFER_BYTES, BUFFER_GPA, &error);
    g_assert_no_error(error);
    map = memory_map_new(&region, 1, &error);
    g_assert_no_error(error);
    memory_region_unref(region);
}

static VringAreas map_ring(uint32_t num, bool packed)
{
    return (VringAreas){ map_zeros(vring_desc_size(num)), map_zeros(vring_driver_size(num, packed)),
                         map_zeros(vring_device_size(num, packed)) };
}

/* What others would bring: rings and descriptors. */
static void prepare_queue(Queue *queue)
{
    const uint32_t num = (uint32_t)options.size;
    EventNotifier *all[] = { &queue->guest_kick, &queue->guest_call, &queue->device_kick,
                             &queue->device_call };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(all); i++) {
        if (event_notifier_init(all[i]) < 0) {
            fprintf(stderr, "queues-bench: no eventfd left: raise the limit of open files\n");
            exit(EXIT_FAILURE);
        }
    }
    queue->guest = (VringConfig){
        .num = num,
        .packed = options.guest_packed,
        .event_idx = true,
        .areas = map_ring(num, options.guest_packed),
        .base = vring_base_start(options.guest_packed),
    };
    queue->shadow = (VringConfig){
        .num = num,
        .packed = options.shadow_packed,
        .event_idx = true,
        .indirect = options.indirect,
        .areas = map_ring(num, options.shadow_packed),
        .base = vring_base_start(options.shadow_packed),
    };
    if (options.indirect) {
        queue->tables = map_zeros(num * VRING_INDIRECT_MAX * sizeof(VringDesc));
    }
}

static void start_queue(Queue *queue)
{
    const unsigned int index = (unsigned int)(queue - queues);
    const ShadowVirtqueueConfig config = {
        .ctx = iothread_get_aio_context(iothreads[index % (unsigned int)options.iothreads]),
        .map = &map,
        .guest = queue->guest,
        .shadow = queue->shadow,
        .tables = queue->tables,
        .tables_iova = UINT64_C(1) << 40,
        .guest_kick_fd = queue->guest_kick.fd,
        .guest_call_fd = queue->guest_call.fd,
        .guest_err_fd = -1,
        .device_kick_fd = queue->device_kick.fd,
        .device_call_fd = queue->device_call.fd,
    };
    g_autoptr(GError) error = NULL;

    shadow_virtqueue_start(queue->svq, &config, &error);
    g_assert_no_error(error);
}

static void stop_queue(Queue *queue)
{
    shadow_virtqueue_detach(queue->svq);
    shadow_virtqueue_stop(queue->svq, false, &queue->guest.base);
}

static void await(const EventNotifier *notifier)
{
    struct pollfd fd = { .fd = notifier->fd, .events = POLLIN };

    if (poll(&fd, 1, WAIT_MS) != 1) {
        fprintf(stderr, "queues-bench: no buffer came through in %d ms\n", WAIT_MS);
        exit(EXIT_FAILURE);
    }
    event_notifier_test_and_clear(notifier);
}

/* One buffer goes through @queue, whose guest's driver is @driver, to a device that begins now. */
static void pass_buffer(Queue *queue, VringDriver *driver)
{
    const VringSegment buffer = { BUFFER_GPA, BUFFER_BYTES, VRING_DESC_F_WRITE };
    VringSegment segment;
    VringDevice device;
    uint32_t cookie = 0, len = 0;
    uint16_t id = 0;
    int ret;

    ret = vring_device_init(&device, &queue->shadow);
    g_assert(ret == 0);
    vring_driver_enable_call(driver, driver->packed);
    vring_driver_add(driver, driver->packed, &buffer, 1, 1);
    vring_driver_publish(driver, driver->packed);
    event_notifier_set(&queue->guest_kick);
    while ((ret = vring_device_take(&device, device.packed, map, &segment, 1, &id)) == 0) {
        await(&queue->device_kick);
    }
    g_assert(ret == 1 && segment.addr == BUFFER_GPA);
    vring_device_put(&device, device.packed, id, 1);
    vring_device_publish(&device, device.packed);
    event_notifier_set(&queue->device_call);
    while ((ret = vring_driver_collect(driver, driver->packed, &cookie, &len)) == 0) {
        await(&queue->guest_call);
    }
    g_assert(ret == 1 && cookie == 1 && len == 1);
    vring_device_cleanup(&device);
}

static double seconds_of(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static size_t allocated_bytes(void)
{
    const struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* Percent of a processor that the process takes while nothing happens. */
static double measure_idle(void)
{
    double cpu, wall;

    /* What starting left to be done is done. */
    g_usleep(G_USEC_PER_SEC / 4);
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    wall = seconds_of(CLOCK_MONOTONIC);
    g_usleep((gulong)(options.seconds * G_USEC_PER_SEC));
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds_of(CLOCK_MONOTONIC) - wall;
    return 100 * cpu / wall;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Stops the last queues, then starts them; medians, ms. */
static void measure_restart(double *stop_ms, double *start_ms)
{
    const unsigned int rounds = (unsigned int)options.rounds;
    g_autofree double *stops = g_new(double, rounds), *starts = g_new(double, rounds);
    Queue *last = &queues[options.queues - 1];
    VringDriver driver;
    unsigned int i;
    Queue *queue;
    double begin;
    int ret;

    ret = vring_driver_init(&driver, &last->guest, NULL, 0);
    g_assert(ret == 0);
    pass_buffer(last, &driver);
    for (i = 0; i < rounds; i++) {
        begin = seconds_of(CLOCK_MONOTONIC);
        for (queue = last - (options.restarts - 1); queue <= last; queue++) {
            stop_queue(queue);
        }
        stops[i] = 1000 * (seconds_of(CLOCK_MONOTONIC) - begin);
        begin = seconds_of(CLOCK_MONOTONIC);
        for (queue = last - (options.restarts - 1); queue <= last; queue++) {
            start_queue(queue);
        }
        pass_buffer(last, &driver);
        starts[i] = 1000 * (seconds_of(CLOCK_MONOTONIC) - begin);
    }
    qsort(stops, rounds, sizeof(double), compare);
    qsort(starts, rounds, sizeof(double), compare);
    *stop_ms = stops[rounds / 2];
    *start_ms = starts[rounds / 2];
    vring_driver_cleanup(&driver);
}

static void make_all(void)
{
    const struct rlimit none = { 0 };
    struct rlimit files = none;
    int i;

    /* Four descriptors a queue. */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    iothreads = g_new(IOThread *, (unsigned int)options.iothreads);
    for (i = 0; i < options.iothreads; i++) {
        g_autofree char *id = g_strdup_printf("io%d", i);
        g_autoptr(GError) error = NULL;

        iothreads[i] = iothread_new(id, NULL, NULL, &error);
        g_assert_no_error(error);
    }
    make_map();
    queues = g_new0(Queue, (unsigned int)options.queues);
    for (i = 0; i < options.queues; i++) {
        prepare_queue(&queues[i]);
    }
}

static void run(void)
{
    double stop_ms, start_ms, idle;
    size_t bytes;
    int i;

    make_all();
    bytes = allocated_bytes();
    for (i = 0; i < options.queues; i++) {
        g_autofree char *name = g_strdup_printf("bench queue %d", i);

        queues[i].svq = shadow_virtqueue_new(name);
        start_queue(&queues[i]);
    }
    bytes = (allocated_bytes() - bytes) / (unsigned int)options.queues;
    idle = measure_idle();
    measure_restart(&stop_ms, &start_ms);
    printf(
        "{\"queues\": %d, \"iothreads\": %d, \"size\": %d, \"guest\": \"%s\", \"shadow\": \"%s\", "
        "\"indirect\": %s, \"idle_cpu_percent\": %.4f, \"bytes_per_queue\": %zu, "
        "\"restarted\": %d, \"stop_ms\": %.1f, \"start_ms\": %.1f, \"holds\": {\"idle\": %s, "
        "\"memory\": %s, \"restart\": %s}}\n",
        options.queues, options.iothreads, options.size, options.guest_packed ? "packed" : "split",
        options.shadow_packed ? "packed" : "split", options.indirect ? "true" : "false", idle,
        bytes, options.restarts, stop_ms, start_ms, idle < IDLE_LIMIT_PERCENT ? "true" : "false",
        bytes < MEMORY_LIMIT_BYTES ? "true" : "false",
        stop_ms + start_ms < RESTART_LIMIT_MS ? "true" : "false");
    for (i = 0; i < options.queues; i++) {
        stop_queue(&queues[i]);
        shadow_virtqueue_free(queues[i].svq);
    }
    for (i = 0; i < options.iothreads; i++) {
        iothread_unref(iothreads[i]);
    }
}

static bool parse_options(int *argc, char ***argv)
{
    const GOptionEntry entries[] = {
        { "queues", 0, 0, G_OPTION_ARG_INT, &options.queues, "virtqueues (1024)", "N" },
        { "iothreads", 0, 0, G_OPTION_ARG_INT, &options.iothreads, "that they run in (2)", "N" },
        { "size", 0, 0, G_OPTION_ARG_INT, &options.size, "of their rings, a power of two (256)",
          "N" },
        { "guest-packed", 0, 0, G_OPTION_ARG_NONE, &options.guest_packed, "not split", NULL },
        { "shadow-packed", 0, 0, G_OPTION_ARG_NONE, &options.shadow_packed, "not split", NULL },
        { "indirect", 0, 0, G_OPTION_ARG_NONE, &options.indirect, "shadow rings have tables",
          NULL },
        { "seconds", 0, 0, G_OPTION_ARG_DOUBLE, &options.seconds, "to be idle (3)", "S" },
        { "restarts", 0, 0, G_OPTION_ARG_INT, &options.restarts,
          "queues that are stopped and started "
          "again (256)",
          "N" },
        { "rounds", 0, 0, G_OPTION_ARG_INT, &options.rounds, "times that they are (7)", "N" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "queues-bench: %s\n", error->message);
        return false;
    }
    if (options.queues < 1 || options.iothreads < 1 || options.rounds < 1 || options.seconds <= 0 ||
        options.restarts < 1 || options.restarts > options.queues || options.size < 1 ||
        options.size > VRING_MAX_SIZE || options.size & (options.size - 1)) {
        fprintf(stderr, "queues-bench: a number is out of range\n");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (!parse_options(&argc, &argv)) {
        return EXIT_FAILURE;
    }
    rcu_thread_enter();
    run();
    return EXIT_SUCCESS;
}
