/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring areas, memory and descriptors for tests that play a guest.
 */
#include "lib/guest.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *area_alloc(size_t size)
{
    void *area = NULL;

    g_assert_cmpint(posix_memalign(&area, VRING_DESC_ALIGN, size), ==, 0);
    memset(area, 0, size);
    return area;
}

void guest_ring_alloc(VringConfig *config)
{
    config->areas = (VringAreas){
        .desc = area_alloc(vring_desc_size(config->num)),
        .driver = area_alloc(vring_driver_size(config->num, config->packed)),
        .device = area_alloc(vring_device_size(config->num, config->packed)),
    };
    config->base = vring_base_start(config->packed);
}

void guest_ring_free(VringConfig *config)
{
    free(config->areas.desc);
    free(config->areas.driver);
    free(config->areas.device);
    config->areas = (VringAreas){ 0 };
}

static MemoryRegion *region_new(const GuestRegion *region)
{
    g_autoptr(GError) err = NULL;
    int fd = memfd_create("guest", MFD_CLOEXEC);
    MemoryRegion *result;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)region->size), ==, 0);
    result = memory_region_new(fd, 0, region->gpa, region->size, region->gpa + GUEST_USER_OFFSET,
                               &err);
    g_assert_no_error(err);
    result->iova = region->iova;
    return result;
}

MemoryMap *guest_memory_new(const GuestRegion *regions, unsigned int n)
{
    g_autofree MemoryRegion **made = g_new(MemoryRegion *, n + 1);
    g_autoptr(GError) err = NULL;
    MemoryMap *map;
    unsigned int i;

    for (i = 0; i < n; i++) {
        made[i] = region_new(&regions[i]);
    }
    map = memory_map_new(made, n, &err);
    g_assert_no_error(err);
    for (i = 0; i < n; i++) {
        memory_region_unref(made[i]);
    }
    return map;
}

void guest_memory_free(MemoryMap *map)
{
    memory_map_free(map);
    rcu_barrier();
}

void guest_split_desc(const VringConfig *config, uint32_t i, uint64_t addr, uint32_t len,
                      uint16_t flags, uint16_t next)
{
    VringDesc *desc = (VringDesc *)config->areas.desc + i;

    le64_store(&desc->addr, addr);
    le64_store(&desc->meta, vring_split_meta(len, flags, next));
}

void guest_packed_desc(const VringConfig *config, uint32_t i, uint64_t addr, uint32_t len,
                       uint16_t id, uint16_t flags)
{
    VringDesc *desc = (VringDesc *)config->areas.desc + i;

    le64_store(&desc->addr, addr);
    le64_store_release(&desc->meta, vring_packed_meta(len, id, flags));
}

void guest_split_avail(const VringConfig *config, uint16_t idx, uint16_t head)
{
    VringAvail *avail = config->areas.driver;

    le16_store(&avail->ring[idx & (config->num - 1)], head);
    le16_store_release(&avail->idx, (uint16_t)(idx + 1));
}
