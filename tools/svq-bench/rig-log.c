/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log of a rig.
 */
#include "rig-log.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "options.h"

/* Bytes of a log with a bit for each page below the end of @memory. */
static uint64_t log_size(const GuestMemory *memory)
{
    const MemoryRegion *last = memory->regions[memory->n - 1];

    return ((last->gpa + last->size - 1) >> DIRTY_LOG_PAGE_BITS) / 8 + 1;
}

bool rig_log_init(RigLog *log, const GuestMemory *memory, const GuestRing *ring, GError **errp)
{
    const uint64_t size = log_size(memory);
    const int fd = memfd_create("svq-bench-log", MFD_CLOEXEC);
    MemoryRegion *region;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        bench_fail(errp, "no dirty log: %s", g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    region = memory_region_new(fd, 0, 0, size, 0, errp);
    if (!region) {
        return false;
    }
    log->logging = (SvqLogging){
        .log = dirty_log_new(region, errp),
        .data = true,
        .ring = true,
        .desc_gpa = ring->desc_gpa,
        .device_gpa = ring->device_gpa,
    };
    memory_region_unref(region);
    log->published = log->logging.log ? &log->logging : NULL;
    return log->published;
}

void rig_log_cleanup(RigLog *log)
{
    g_clear_pointer(&log->logging.log, dirty_log_unref);
    log->published = NULL;
}

unsigned int rig_log_missing(const RigLog *log, uint64_t gpa, uint32_t len)
{
    const uint8_t *bytes = log->logging.log->region->host;
    const uint64_t last = (gpa + len - 1) >> DIRTY_LOG_PAGE_BITS;
    unsigned int missing = 0;
    uint64_t page;

    for (page = gpa >> DIRTY_LOG_PAGE_BITS; page <= last; page++) {
        missing += !(bytes[page / 8] >> page % 8 & 1);
    }
    return missing;
}
