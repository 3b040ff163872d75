/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of a guest that does not exist.
 */
#include "guest-memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "options.h"

#define CACHE_LINE 64

/* A region begins at each multiple of this (and not at 0), so none touches the next. */
#define REGION_STRIDE   (UINT64_C(1) << 32)
#define REGION_ALIGN    (UINT64_C(2) << 20)

/* What a VMM calls a guest address: anything but the guest's or our own address. */
#define USER_OFFSET     (UINT64_C(0x5100) << 32)

#define OTHER_FDS       64      /* of the program, besides those of regions */

/* Each region keeps its file: lets us have so many files, as far as we may decide that. */
static void allow_files(unsigned int regions)
{
    const rlim_t need = (rlim_t)regions + OTHER_FDS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < need) {
        limit.rlim_cur = MIN(need, limit.rlim_max);
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static MemoryRegion *region_new(unsigned int index, uint64_t size, uint64_t iova_offset,
                                GError **errp)
{
    const uint64_t gpa = REGION_STRIDE * (index + 1);
    MemoryRegion *region;
    int fd = memfd_create("svq-bench", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        bench_fail(errp, "no guest memory: %s", g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    region = memory_region_new(fd, 0, gpa, size, gpa + USER_OFFSET, errp);
    if (region) {
        region->iova = gpa + iova_offset;
    }
    return region;
}

GuestMemory *guest_memory_new(unsigned int n, uint64_t size, uint64_t iova_offset, GError **errp)
{
    g_autoptr(GuestMemory) memory = g_new0(GuestMemory, 1);

    size = (size + REGION_ALIGN - 1) / REGION_ALIGN * REGION_ALIGN;
    if (size >= REGION_STRIDE) {
        bench_fail(errp, "so many or so long buffers need %" G_GUINT64_FORMAT " bytes of memory",
                   size);
        return NULL;
    }
    allow_files(n);
    memory->regions = g_new0(MemoryRegion *, n);
    memory->used = g_new0(uint64_t, n);
    for (memory->n = 0; memory->n < n; memory->n++) {
        memory->regions[memory->n] = region_new(memory->n, size, iova_offset, errp);
        if (!memory->regions[memory->n]) {
            return NULL;
        }
    }
    memory->map = memory_map_new(memory->regions, n, errp);
    return memory->map ? g_steal_pointer(&memory) : NULL;
}

void guest_memory_free(GuestMemory *memory)
{
    unsigned int i;

    if (!memory) {
        return;
    }
    memory_map_free(memory->map);
    for (i = 0; i < memory->n; i++) {
        memory_region_unref(memory->regions[i]);
    }
    g_free(memory->regions);
    g_free(memory->used);
    g_free(memory);
}

GuestBlock guest_memory_alloc(GuestMemory *memory, unsigned int region, uint64_t size,
                              uint64_t align)
{
    const MemoryRegion *r = memory->regions[region];
    uint64_t offset = (memory->used[region] + align - 1) / align * align;

    g_assert(offset + size <= r->size);
    memory->used[region] = offset + size;
    return (GuestBlock){ r->host + offset, r->gpa + offset };
}

GuestRing guest_memory_alloc_ring(GuestMemory *memory, uint32_t num, bool packed)
{
    GuestBlock desc = guest_memory_alloc(memory, 0, vring_desc_size(num), 2 * CACHE_LINE);
    GuestBlock driver = guest_memory_alloc(memory, 0, vring_driver_size(num, packed),
                                           2 * CACHE_LINE);
    GuestBlock device = guest_memory_alloc(memory, 0, vring_device_size(num, packed),
                                           2 * CACHE_LINE);

    return (GuestRing){
        .areas = { desc.host, driver.host, device.host },
        .desc_gpa = desc.gpa,
        .driver_gpa = driver.gpa,
        .device_gpa = device.gpa,
    };
}

uint64_t guest_ring_size(uint32_t num, bool packed)
{
    return vring_desc_size(num) + vring_driver_size(num, packed) + vring_device_size(num, packed) +
           3 * 2 * CACHE_LINE;
}
