/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VMM that turns dirty logging on and off while packets pass.
 */
#include "switches.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hw/vhost/vhost-user-client.h"

#define PAGE_BITS 12            /* of the log, whatever pages the machine has */

static bool map_log(Switches *switches, GError **errp)
{
    const GuestMemory *memory = switches->device->memory;
    const MemoryRegion *last = memory->regions[memory->n - 1];
    const uint64_t pages = (last->gpa + last->size) >> PAGE_BITS;
    void *log;

    switches->log_size = (pages + 63) / 64 * sizeof(uint64_t);
    switches->fd = memfd_create("svq-bench-log", MFD_CLOEXEC);
    if (switches->fd < 0 || ftruncate(switches->fd, (off_t)switches->log_size) < 0) {
        return bench_fail(errp, "no dirty log: %s", g_strerror(errno));
    }
    log = mmap(NULL, switches->log_size, PROT_READ | PROT_WRITE, MAP_SHARED, switches->fd, 0);
    if (log == MAP_FAILED) {
        return bench_fail(errp, "dirty log: %s", g_strerror(errno));
    }
    switches->log = log;
    return true;
}

bool switches_init(Switches *switches, NetDevice *device, unsigned int target, GError **errp)
{
    unsigned int i;

    switches->device = device;
    switches->target = target;
    switches->fd = -1;
    if (!vhost_user_client_can_log(device->dev)) {
        return bench_fail(errp, "--switches: the back end does not log what it writes");
    }
    if (!map_log(switches, errp) ||
        vhost_user_client_set_log(device->dev, switches->fd, switches->log_size, errp) < 0) {
        return false;
    }
    switches->ns = g_new0(uint64_t, target);
    for (i = 0; i < device->n_pairs; i++) {
        net_pair_watch_log(device->pairs[i], &switches->epoch);
    }
    return true;
}

void switches_cleanup(Switches *switches)
{
    if (!switches->device) {
        return;
    }
    if (switches->log) {
        munmap(switches->log, switches->log_size);
    }
    if (switches->fd >= 0) {
        close(switches->fd);
    }
    g_free(switches->ns);
}

/* --- the log --- */

static bool page_is_logged(const Switches *switches, uint64_t page)
{
    /* It came with the answer to the switch, or to the stop. */
    return switches->log[page / 64] >> page % 64 & 1;
}

/* The pages of the receive buffer in @slot that should be in the log, and are not. */
static void check_buffer(Switches *switches, NetPair *pair, unsigned int slot)
{
    const NetQueue *rx = &pair->queue[NET_PAIR_RX];
    unsigned int i;

    for (i = 0; i < rx->elements; i++) {
        const VringSegment *seg = &rx->segments[slot * rx->elements + i];
        const uint64_t last = (seg->addr + seg->len - 1) >> PAGE_BITS;
        uint64_t page;

        for (page = seg->addr >> PAGE_BITS; page <= last; page++) {
            switches->pages++;
            pair->unlogged += !page_is_logged(switches, page);
        }
    }
}

static void check_log(Switches *switches, uint32_t epoch)
{
    unsigned int i, slot;

    for (i = 0; i < switches->device->n_pairs; i++) {
        NetPair *pair = switches->device->pairs[i];

        for (slot = 0; slot < pair->queue[NET_PAIR_RX].n_slots; slot++) {
            if (atomic_load_explicit(&pair->slot_epoch[slot], memory_order_relaxed) == epoch) {
                check_buffer(switches, pair, slot);
            }
        }
    }
}

static void clear_log(Switches *switches)
{
    const GuestMemory *memory = switches->device->memory;
    unsigned int i;

    for (i = 0; i < memory->n; i++) {
        const MemoryRegion *region = memory->regions[i];

        memset((uint8_t *)switches->log + (region->gpa >> PAGE_BITS) / 8, 0,
               (region->size >> PAGE_BITS) / 8);
    }
}

/* --- switches --- */

static bool set_logging(Switches *switches, bool on, GError **errp)
{
    const uint64_t start = bench_now_ns();

    if (vhost_user_client_set_logging(switches->device->dev, switches->device->features, on,
                                      errp) < 0) {
        return false;
    }
    switches->ns[switches->done++] = bench_now_ns() - start;
    return true;
}

bool switches_make_one(Switches *switches, GError **errp)
{
    const uint32_t epoch = atomic_load_explicit(&switches->epoch, memory_order_relaxed);

    if (epoch % 2 == 0) {
        clear_log(switches);
        if (!set_logging(switches, true, errp)) {
            return false;
        }
        /* Release: pairs with the acquire in net_pair_send(). */
        atomic_store_explicit(&switches->epoch, epoch + 1, memory_order_release);
        return true;
    }
    /*
     * Before the message, and thus before anything that the back end writes after it: who has
     * seen that in a ring sees this, too.
     */
    atomic_store_explicit(&switches->epoch, epoch + 1, memory_order_release);
    if (!set_logging(switches, false, errp)) {
        return false;
    }
    check_log(switches, epoch);
    return true;
}

void switches_finish(Switches *switches)
{
    const uint32_t epoch = atomic_load_explicit(&switches->epoch, memory_order_relaxed);

    if (epoch % 2) {
        check_log(switches, epoch);
    }
}

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

BenchSwitches switches_report(const Switches *switches)
{
    const unsigned int n = switches->done;
    g_autofree uint64_t *ns = g_memdup2(switches->ns, n * sizeof(ns[0]));

    if (!n) {
        return (BenchSwitches){ 0 };
    }
    qsort(ns, n, sizeof(ns[0]), compare);
    return (BenchSwitches){
        .n = n,
        .p50_ns = ns[(n - 1) / 2],
        .p99_ns = ns[(n - 1) * 99 / 100],
        .max_ns = ns[n - 1],
        .pages = switches->pages,
    };
}
