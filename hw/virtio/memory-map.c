/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's memory: mapping regions, building snapshots of them, finding an address.
 */
#include "hw/virtio/memory-map.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "hw/virtio/vring.h"

/* A table that the first-level cache holds beside the rings, if there are few ranges. */
#define MIN_GRANULES        UINT64_C(256)
#define GRANULES_PER_RANGE  8

static bool file_holds(int fd, uint64_t offset, uint64_t size)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return false;
    }
    /* A device file (hugetlbfs is none) has no size to compare with. */
    return !S_ISREG(st.st_mode) || offset + size <= (uint64_t)st.st_size;
}

/* What offset and size of a mapping of @fd must be multiples of. */
static uint64_t file_page_size(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC) {
        return (uint64_t)fs.f_bsize;
    }
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

MemoryRegion *memory_region_new(int fd, uint64_t offset, uint64_t gpa, uint64_t size,
                                uint64_t user_addr, GError **errp)
{
    static uint64_t serials;        /* main thread */
    const uint64_t page_mask = file_page_size(fd) - 1;
    const uint64_t head = offset & page_mask;
    const uint64_t mapping_size = (head + size + page_mask) & ~page_mask;
    MemoryRegion *region;
    void *mapping;

    if (size == 0 || gpa + (size - 1) < gpa || user_addr + (size - 1) < user_addr ||
        offset + size < offset || offset + size > INT64_MAX) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "memory region at 0x%" PRIx64 ", size 0x%" PRIx64 ", file offset 0x%" PRIx64
                    ": empty, or wraps",
                    gpa, size, offset);
        close(fd);
        return NULL;
    }
    if ((gpa ^ offset) % VRING_DESC_ALIGN) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "memory region at 0x%" PRIx64 ": file offset 0x%" PRIx64
                    " is not aligned like the address",
                    gpa, offset);
        close(fd);
        return NULL;
    }
    if (!file_holds(fd, offset, size)) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "memory region at 0x%" PRIx64 ", size 0x%" PRIx64
                    ": its file ends before offset 0x%" PRIx64,
                    gpa, size, offset + size);
        close(fd);
        return NULL;
    }
    mapping = mmap(NULL, mapping_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                   (off_t)(offset - head));
    if (mapping == MAP_FAILED) {
        int err = errno;

        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(err),
                    "memory region at 0x%" PRIx64 ", size 0x%" PRIx64 ": cannot map: %s", gpa,
                    size, g_strerror(err));
        close(fd);
        return NULL;
    }

    region = g_new0(MemoryRegion, 1);
    region->gpa = gpa;
    region->size = size;
    region->iova = gpa;
    region->user_addr = user_addr;
    region->host = (uint8_t *)mapping + head;
    region->fd = fd;
    region->fd_offset = offset;
    region->serial = ++serials;
    region->mapping = mapping;
    region->mapping_size = mapping_size;
    atomic_init(&region->refs, 1);
    return region;
}

MemoryRegion *memory_region_ref(MemoryRegion *region)
{
    atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
    return region;
}

void memory_region_unref(MemoryRegion *region)
{
    /* Each release pairs with the acquire of the last. */
    if (atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    munmap(region->mapping, region->mapping_size);
    close(region->fd);
    g_free(region);
}

static int compare_gpa(const void *a, const void *b)
{
    const MemoryRegion *x = *(MemoryRegion *const *)a;
    const MemoryRegion *y = *(MemoryRegion *const *)b;

    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static bool regions_disjoint(MemoryRegion *const *sorted, unsigned int n, GError **errp)
{
    unsigned int i;

    for (i = 1; i < n; i++) {
        if (sorted[i]->gpa <= sorted[i - 1]->gpa + (sorted[i - 1]->size - 1)) {
            g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "memory regions at 0x%" PRIx64 " and 0x%" PRIx64 " overlap",
                        sorted[i - 1]->gpa, sorted[i]->gpa);
            return false;
        }
    }
    return true;
}

/* Bytes of @range within granule @g. */
static uint64_t overlap(const MemoryMap *map, uint64_t g, const MemoryRange *range)
{
    const uint64_t first = map->base + (g << map->granule_bits);
    const uint64_t bytes = UINT64_C(1) << map->granule_bits;
    const uint64_t last = first > UINT64_MAX - (bytes - 1) ? UINT64_MAX : first + (bytes - 1);
    const uint64_t end = range->gpa + (range->size - 1);

    return range->gpa > last || end < first ? 0 : MIN(end, last) - MAX(range->gpa, first) + 1;
}

/* Notes for each granule the range that has most of it. */
static void cut_into_granules(MemoryMap *map)
{
    const uint64_t most = MAX(MIN_GRANULES, (uint64_t)map->n * GRANULES_PER_RANGE);
    const MemoryRange *first = map->ranges, *last = &map->ranges[map->n - 1], *range;
    const uint64_t span = last->gpa + (last->size - 1) - first->gpa;
    uint64_t g;

    map->base = first->gpa;
    while (span >> map->granule_bits >= most) {
        map->granule_bits++;
    }
    map->n_granules = (span >> map->granule_bits) + 1;
    map->granules = g_new(const MemoryRange *, map->n_granules);
    for (g = 0; g < map->n_granules; g++) {
        map->granules[g] = first;
    }
    for (range = first; range <= last; range++) {
        const uint64_t start = range->gpa - map->base, end = start + (range->size - 1);

        for (g = start >> map->granule_bits; g <= end >> map->granule_bits; g++) {
            if (overlap(map, g, range) > overlap(map, g, map->granules[g])) {
                map->granules[g] = range;
            }
        }
    }
}

MemoryMap *memory_map_new(MemoryRegion *const *regions, unsigned int n, GError **errp)
{
    g_autofree MemoryRegion **sorted = NULL;
    unsigned int i;
    MemoryMap *map;

    if (n > MEMORY_MAP_MAX_REGIONS) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%u memory regions, at most %u", n,
                    MEMORY_MAP_MAX_REGIONS);
        return NULL;
    }
    sorted = g_new(MemoryRegion *, n + 1);
    for (i = 0; i < n; i++) {
        sorted[i] = regions[i];
    }
    qsort(sorted, n, sizeof(sorted[0]), compare_gpa);
    if (!regions_disjoint(sorted, n, errp)) {
        return NULL;
    }

    map = g_new0(MemoryMap, 1);
    map->n = n;
    map->identity = true;
    map->ranges = g_new0(MemoryRange, MAX(n, 1));
    for (i = 0; i < n; i++) {
        memory_region_ref(sorted[i]);
        map->ranges[i] = (MemoryRange){
            .gpa = sorted[i]->gpa,
            .size = sorted[i]->size,
            .iova_delta = sorted[i]->iova - sorted[i]->gpa,
            .host = sorted[i]->host,
        };
        map->identity &= map->ranges[i].iova_delta == 0;
    }
    map->regions = g_steal_pointer(&sorted);
    if (n) {
        cut_into_granules(map);
    }
    return map;
}

static void map_reclaim(struct rcu_head *head)
{
    MemoryMap *map = caa_container_of(head, MemoryMap, rcu);
    unsigned int i;

    for (i = 0; i < map->n; i++) {
        memory_region_unref(map->regions[i]);
    }
    g_free(map->regions);
    g_free(map->granules);
    g_free(map->ranges);
    g_free(map);
}

void memory_map_free(MemoryMap *map)
{
    if (map) {
        call_rcu(&map->rcu, map_reclaim);
    }
}

const MemoryRange *memory_map_search(const MemoryMap *map, uint64_t gpa, uint64_t len)
{
    unsigned int first = 0, end = map->n;

    /* The last that begins at or below @gpa is in [first, end). */
    while (end - first > 1) {
        unsigned int middle = first + (end - first) / 2;

        if (map->ranges[middle].gpa <= gpa) {
            first = middle;
        } else {
            end = middle;
        }
    }
    return memory_range_holds(&map->ranges[first], gpa, len) ? &map->ranges[first] : NULL;
}

void *memory_map_host(const MemoryMap *map, uint64_t gpa, uint64_t size)
{
    const MemoryRange *range = memory_map_find(map, gpa, size);

    return range ? range->host + (gpa - range->gpa) : NULL;
}

void *memory_map_host_of_user(const MemoryMap *map, uint64_t user_addr, uint64_t size,
                              uint64_t *gpa)
{
    unsigned int i;

    for (i = 0; i < map->n; i++) {
        const MemoryRegion *region = map->regions[i];
        uint64_t offset = user_addr - region->user_addr;

        if (offset < region->size && size <= region->size - offset) {
            if (gpa) {
                *gpa = region->gpa + offset;
            }
            return region->host + offset;
        }
    }
    return NULL;
}

void *memory_map_host_of_iova(const MemoryMap *map, uint64_t iova, uint64_t size)
{
    unsigned int i;

    for (i = 0; i < map->n; i++) {
        const MemoryRegion *region = map->regions[i];
        uint64_t offset = iova - region->iova;

        if (offset < region->size && size <= region->size - offset) {
            return region->host + offset;
        }
    }
    return NULL;
}
