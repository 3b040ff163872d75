/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long a device of the kernel is away while its rings are put elsewhere, and how that depends on the
 * number of mappings: the way that svqd switches, beside the way of a reset with all mappings made
 * anew.
 *
 * Usage: vdpa-mappings-bench /dev/vhost-vdpa-N MAPPINGS ROUNDS
 *
 * How it works.  Each mapping is one page.  Both ways are measured on the same device, from the last
 * moment that it may touch a ring to the first that it may again; one after the other, not in turns,
 * for a restart leaves cold caches behind that the switch would pay for.  Prints one line of JSON,
 * medians in microseconds.
 */
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "hw/vhost/vhost-vdpa.h"
#include "hw/virtio/features.h"

enum { PAGE = 4096, RINGS = 2, NUM = 16, MAX_ROUNDS = 10000 };

#define STATUS (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK)

typedef struct Bench {
    VhostDevice *dev;
    MemoryMap *map;
    MemoryMap *empty;
    int kick[RINGS], call;
    unsigned int place;         /* 0 or 1: which of two pages the rings lie in */
} Bench;

static bool check(int ret, const char *what, GError *error)
{
    if (ret < 0) {
        fprintf(stderr, "%s: %s\n", what, error ? error->message : g_strerror(-ret));
    }
    return ret >= 0;
}

/* Pages of a file, with a hole behind each, so that none can be joined with its neighbour. */
static MemoryMap *make_map(unsigned int n, GError **errp)
{
    g_autofree MemoryRegion **regions = g_new0(MemoryRegion *, n);
    int fd = memfd_create("vdpa-mappings", MFD_CLOEXEC);
    MemoryMap *map = NULL;
    unsigned int i;

    if (fd >= 0 && ftruncate(fd, (off_t)n * PAGE) == 0) {
        for (i = 0; i < n; i++) {
            regions[i] = memory_region_new(fcntl(fd, F_DUPFD_CLOEXEC, 0), (uint64_t)i * PAGE,
                                           (uint64_t)i * 2 * PAGE, PAGE, 0, errp);
            if (!regions[i]) {
                break;
            }
        }
        map = i == n ? memory_map_new(regions, n, errp) : NULL;
        while (i--) {
            memory_region_unref(regions[i]);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return map;
}

/* Empty rings in the page that is not theirs now. */
static int start_rings(Bench *b, GError **errp)
{
    const VhostDeviceOps *ops = b->dev->ops;
    unsigned int i;
    int ret = 0;

    b->place ^= 1;
    for (i = 0; i < RINGS && ret == 0; i++) {
        const MemoryRange *page = &b->map->ranges[b->map->n > 1 ? b->place : 0];
        const uint64_t offset = i * PAGE / 2;
        const VhostRing ring = {
            .num = NUM,
            .areas = { page->host + offset, page->host + offset + 512, page->host + offset + 1024 },
            .desc_iova = page->gpa + offset,
            .driver_iova = page->gpa + offset + 512,
            .device_iova = page->gpa + offset + 1024,
            .kick_fd = b->kick[i],
            .call_fd = b->call,
        };

        ret = ops->ring_enable(b->dev, i, true, errp);
        if (ret == 0) {
            ret = ops->ring_start(b->dev, i, &ring, errp);
        }
    }
    return ret;
}

static int start_device(Bench *b, GError **errp)
{
    const VhostDeviceOps *ops = b->dev->ops;
    int ret = ops->set_features(b->dev, VIRTIO_F_BIT(VIRTIO_F_VERSION_1), errp);

    ret = ret < 0 ? ret : ops->set_memory(b->dev, b->map, errp);
    ret = ret < 0 ? ret : ops->set_status(b->dev, STATUS, errp);
    ret = ret < 0 ? ret : start_rings(b, errp);
    return ret < 0 ? ret : ops->set_status(b->dev, STATUS | VIRTIO_STATUS_DRIVER_OK, errp);
}

/* As svqd does. */
static int switch_rings(Bench *b, GError **errp)
{
    const VhostDeviceOps *ops = b->dev->ops;
    VringBase base;
    unsigned int i;
    int ret = ops->suspend(b->dev, errp);

    for (i = 0; i < RINGS && ret == 0; i++) {
        ret = ops->ring_stop(b->dev, i, &base, errp);
    }
    ret = ret < 0 ? ret : start_rings(b, errp);
    return ret < 0 ? ret : ops->resume(b->dev, errp);
}

/* As who throws the device's memory away with its rings. */
static int restart_device(Bench *b, GError **errp)
{
    const VhostDeviceOps *ops = b->dev->ops;
    VringBase base;
    unsigned int i;
    int ret = ops->suspend(b->dev, errp);

    for (i = 0; i < RINGS && ret == 0; i++) {
        ret = ops->ring_stop(b->dev, i, &base, errp);
    }
    ret = ret < 0 ? ret : ops->reset(b->dev, errp);
    ret = ret < 0 ? ret : ops->set_memory(b->dev, b->empty, errp);
    return ret < 0 ? ret : start_device(b, errp);
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static bool timed(Bench *b, int (*way)(Bench *b, GError **errp), const char *name, int64_t *us)
{
    g_autoptr(GError) error = NULL;
    const int64_t start = g_get_monotonic_time();
    const int ret = way(b, &error);

    *us = g_get_monotonic_time() - start;
    return check(ret, name, error);
}

static bool measure(Bench *b, unsigned int rounds)
{
    g_autofree int64_t *switches = g_new(int64_t, rounds), *restarts = g_new(int64_t, rounds);
    unsigned int i;

    for (i = 0; i < rounds; i++) {
        if (!timed(b, switch_rings, "switch", &switches[i])) {
            return false;
        }
    }
    for (i = 0; i < rounds; i++) {
        if (!timed(b, restart_device, "restart", &restarts[i])) {
            return false;
        }
    }
    qsort(switches, rounds, sizeof(switches[0]), compare);
    qsort(restarts, rounds, sizeof(restarts[0]), compare);
    printf("{\"mappings\":%u,\"switch_us\":%" PRId64 ",\"restart_us\":%" PRId64 "}\n", b->map->n,
           switches[rounds / 2], restarts[rounds / 2]);
    return true;
}

static bool run(const char *path, unsigned int n, unsigned int rounds)
{
    const VhostVdpaConfig config = { .id = "dev", .path = path, .fd = -1 };
    g_autoptr(GError) error = NULL;
    Bench b = { .call = eventfd(0, EFD_CLOEXEC), .empty = memory_map_new(NULL, 0, NULL) };
    unsigned int i;
    bool ok;
    int ret;

    for (i = 0; i < RINGS; i++) {
        b.kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    b.map = make_map(n, &error);
    b.dev = b.map ? vhost_vdpa_new(&config, &error) : NULL;
    if (!check(b.dev ? 0 : -1, path, error)) {
        return false;
    }
    ok = b.dev->tells_base && !b.dev->rings_fixed;
    if (!ok) {
        fprintf(stderr, "%s: cannot be suspended and resumed\n", path);
    }
    ret = ok ? start_device(&b, &error) : -1;
    ok = ok && check(ret, "start", error) && measure(&b, rounds);
    b.dev->ops->free(b.dev);
    memory_map_free(b.map);
    memory_map_free(b.empty);
    return ok;
}

int main(int argc, char **argv)
{
    const struct rlimit files = { 65536, 65536 };
    unsigned int n, rounds;

    if (argc != 4 || (n = (unsigned int)atoi(argv[2])) < 1 || n > MEMORY_MAP_MAX_REGIONS ||
        (rounds = (unsigned int)atoi(argv[3])) < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: vdpa-mappings-bench /dev/vhost-vdpa-N MAPPINGS ROUNDS\n");
        return 2;
    }
    /* One descriptor for each page; ours to raise as root, and said by open() if not. */
    setrlimit(RLIMIT_NOFILE, &files);
    return run(argv[1], n, rounds) ? EXIT_SUCCESS : EXIT_FAILURE;
}
