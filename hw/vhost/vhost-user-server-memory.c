/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory table of the vhost-user server: SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG, and the log.
 *
 * How it works.  A change builds the next table beside the present one and shows it to the
 * owner; only if that succeeds it becomes the present one, so a refused message changes
 * nothing.  A region that is in both keeps its mapping: QEMU sends the same table at each
 * start of the device, and pages need not fault in again.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost-user-server-internal.h"

static void memory_clear(VhostUserMemory *memory)
{
    unsigned int i;

    for (i = 0; i < memory->n; i++) {
        memory_region_unref(memory->regions[i]);
    }
    memory->n = 0;
}

static void memory_free(VhostUserMemory *memory)
{
    memory_clear(memory);
    g_free(memory);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VhostUserMemory, memory_free)

static unsigned int max_regions(VhostUserServer *s)
{
    return MIN(s->ops->get_max_regions(s->opaque), VHOST_USER_SLOTS_MAX);
}

static bool same_file(int a, int b)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Same guest memory by name; what it is backed by aside. */
static bool region_is(const MemoryRegion *region, const VhostUserRegion *wire)
{
    return region->gpa == wire->gpa && region->size == wire->size &&
           region->user_addr == wire->user_addr;
}

/* The region of the present table that @wire describes, or a new one.  Owns @fd. */
static MemoryRegion *region_get(VhostUserServer *s, const VhostUserRegion *wire, int fd,
                                GError **errp)
{
    unsigned int i;

    for (i = 0; i < s->memory.n; i++) {
        MemoryRegion *region = s->memory.regions[i];

        if (region_is(region, wire) && region->fd_offset == wire->fd_offset &&
            same_file(region->fd, fd)) {
            close(fd);
            return memory_region_ref(region);
        }
    }
    return memory_region_new(fd, wire->fd_offset, wire->gpa, wire->size, wire->user_addr, errp);
}

/* Shows @next to the owner; if it agrees, that is the table from now on. */
static int memory_commit(VhostUserServer *s, VhostUserMemory *next, GError **errp)
{
    VhostUserMemory last;
    int ret = s->ops->set_memory(s->opaque, next->regions, next->n, errp);

    if (ret < 0) {
        return ret;
    }
    last = s->memory;
    s->memory = *next;
    *next = last;       /* the caller's clean-up lets go of what is no more */
    return 0;
}

/* A copy of the present table, without region @skip. */
static VhostUserMemory *memory_copy(VhostUserServer *s, unsigned int skip)
{
    VhostUserMemory *next = g_new0(VhostUserMemory, 1);
    unsigned int i;

    for (i = 0; i < s->memory.n; i++) {
        if (i != skip) {
            next->regions[next->n++] = memory_region_ref(s->memory.regions[i]);
        }
    }
    return next;
}

int vhost_user_server_set_mem_table(VhostUserServer *s, VhostUserMessage *m,
                                    VhostUserMessage *reply, GError **errp)
{
    g_autoptr(VhostUserMemory) next = g_new0(VhostUserMemory, 1);
    const VhostUserMemTable *table = &m->payload.mem_table;
    unsigned int i;

    if (table->count > max_regions(s)) {
        return vhost_user_error(errp, ENOSPC, "%" PRIu32 " memory regions, at most %u",
                                table->count, max_regions(s));
    }
    for (i = 0; i < table->count; i++) {
        MemoryRegion *region = region_get(s, &table->regions[i],
                                          vhost_user_message_take_fd(m, i), errp);

        if (!region) {
            return -EINVAL;
        }
        next->regions[next->n++] = region;
    }
    return memory_commit(s, next, errp);
}

int vhost_user_server_add_mem_reg(VhostUserServer *s, VhostUserMessage *m,
                                  VhostUserMessage *reply, GError **errp)
{
    g_autoptr(VhostUserMemory) next = memory_copy(s, UINT_MAX);
    MemoryRegion *region;
    unsigned int i;

    region = region_get(s, &m->payload.mem_reg.region, vhost_user_message_take_fd(m, 0), errp);
    if (!region) {
        return -EINVAL;
    }
    for (i = 0; i < next->n; i++) {
        if (next->regions[i] == region) {
            /* QEMU 7.2 says everything once for each queue pair. */
            memory_region_unref(region);
            return 0;
        }
    }
    if (next->n >= max_regions(s)) {
        memory_region_unref(region);
        return vhost_user_error(errp, ENOSPC, "more than %u memory regions", max_regions(s));
    }
    next->regions[next->n++] = region;
    return memory_commit(s, next, errp);
}

int vhost_user_server_rem_mem_reg(VhostUserServer *s, VhostUserMessage *m,
                                  VhostUserMessage *reply, GError **errp)
{
    g_autoptr(VhostUserMemory) next = NULL;
    unsigned int i;

    /* The offset does not count, says the specification. */
    for (i = 0; i < s->memory.n; i++) {
        if (region_is(s->memory.regions[i], &m->payload.mem_reg.region)) {
            break;
        }
    }
    if (i == s->memory.n) {
        /* Likewise said twice: what is not there is removed. */
        return 0;
    }
    next = memory_copy(s, i);
    return memory_commit(s, next, errp);
}

int vhost_user_server_get_max_mem_slots(VhostUserServer *s, VhostUserMessage *m,
                                        VhostUserMessage *reply, GError **errp)
{
    reply->payload.u64 = max_regions(s);
    reply->header.size = sizeof(reply->payload.u64);
    return 0;
}

/* Mapped as a memory region is: same checks of offset, size and file (CVE-2020-10722). */
int vhost_user_server_set_log_base(VhostUserServer *s, VhostUserMessage *m,
                                   VhostUserMessage *reply, GError **errp)
{
    MemoryRegion *log = memory_region_new(vhost_user_message_take_fd(m, 0),
                                          m->payload.log.offset, 0, m->payload.log.size, 0, errp);
    int ret;

    if (!log) {
        return -EINVAL;
    }
    ret = s->ops->set_log(s->opaque, log, errp);
    if (ret < 0) {
        memory_region_unref(log);
        return ret;
    }
    if (s->log) {
        memory_region_unref(s->log);
    }
    s->log = log;
    return 0;
}

void vhost_user_server_clear_memory(VhostUserServer *s)
{
    memory_clear(&s->memory);
    if (s->log) {
        memory_region_unref(s->log);
        s->log = NULL;
    }
}
