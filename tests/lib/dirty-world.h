/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A shadowed device with four queues in four threads, the traffic through it, and a VMM that
 * says about dirty logging what QEMU says.
 *
 * Threads: the main thread, unless another function is named.
 */
#ifndef TESTS_LIB_DIRTY_WORLD_H
#define TESTS_LIB_DIRTY_WORLD_H

#include "lib/dirty-memory.h"
#include "lib/dirty-traffic.h"
#include "lib/svq-rig.h"

#define DIRTY_LOG_ALL   VIRTIO_F_BIT(VHOST_F_LOG_ALL)
#define DIRTY_EVENT_IDX VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX)
#define DIRTY_INDIRECT  VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC)
#define DIRTY_IN_ORDER  VIRTIO_F_BIT(VIRTIO_F_IN_ORDER)
#define DIRTY_BUFFER    1000u       /* bytes of a buffer by hand */
#define DIRTY_STALL_US  (20 * G_TIME_SPAN_SECOND)

typedef struct DirtyWorld DirtyWorld;

struct DirtyWorld {
    Rig rig;
    DirtyMemory *memory;
    DirtyTraffic *traffic;
    DirtyLogFile logs[3];
    unsigned int warnings;      /* that are as they should be */
    /* While ring @q is being stopped; the device, which is halted, has it still.  NULL: nothing. */
    void (*last_words)(DirtyWorld *w, unsigned int q);
    uint16_t last_id;           /* of last_words */
    VringSegment last_seg;
};

/* Rings that run, nothing logged, driver and device halted.  @queue_size: of shadow rings. */
void dirty_world_init(DirtyWorld *w, const RigFormat *format, uint64_t features,
                      uint32_t queue_size, uint64_t buffers);
void dirty_world_cleanup(DirtyWorld *w);

/* A new VMM, up to rings that run.  @log: given before the rings are started; NULL: none. */
void dirty_world_connect(DirtyWorld *w, const DirtyLogFile *log);

/* All rings; @base as in vmm.h.  Starting leaves the device halted. */
void dirty_world_start_rings(DirtyWorld *w, uint64_t base);
void dirty_world_stop_rings(DirtyWorld *w);

/* SET_LOG_BASE with the first @size bytes of @log: the answer. */
uint64_t dirty_world_try_log(DirtyWorld *w, const DirtyLogFile *log, uint64_t size);

/* SET_VRING_ADDR: the same addresses; logged if LOG_ALL is among the VMM's features. */
void dirty_world_set_ring_addr(DirtyWorld *w, unsigned int q);

/* SET_FEATURES and all rings' addresses.  Asserts that no ring was restarted. */
void dirty_world_set_logging(DirtyWorld *w, bool on);

/* A migration begins: the log first, then the whole memory; it is cancelled. */
void dirty_world_log_on(DirtyWorld *w, DirtyLogFile *log);
void dirty_world_log_off(DirtyWorld *w);

/* Another log; QEMU harvests the old one once more when the new one is known. */
void dirty_world_log_replace(DirtyWorld *w, DirtyLogFile *log);

/* When all rings are stopped: the last round.  Asserts that the copy is right. */
void dirty_world_finish_copy(DirtyWorld *w);

/*
 * Buffers by hand, for any one thread: number @i is one element in a page of its own, of every
 * four; its cookie is @i, too.
 */
uint64_t dirty_world_buffer_gpa(const DirtyWorld *w, unsigned int i);
void dirty_world_add_buffer(DirtyWorld *w, unsigned int q, unsigned int i);
void dirty_world_use_buffer(DirtyWorld *w, unsigned int q, uint16_t id, const VringSegment *seg);
void dirty_world_collect_buffer(DirtyWorld *w, unsigned int q, unsigned int i, uint32_t expected);

/* All of that. */
void dirty_world_pass_buffer(DirtyWorld *w, unsigned int q, unsigned int i);

#endif
