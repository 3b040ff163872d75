/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The in-flight records of a device, in a file: what lets svqd go on with each queue after a kill.
 *
 * How it works.  The file has a header and a place for each virtqueue that a device may have, so
 * that it is mapped once and no place ever moves; it is sparse, and a place takes room when its
 * queue is first started.  It is locked as long as it is open.  Whether a record in it is of
 * the queue that is started now, and whole, is for vring_device_init() to judge.
 *
 * Threads: the main thread; a record belongs to who works its queue.
 */
#ifndef HW_SVQ_INFLIGHT_H
#define HW_SVQ_INFLIGHT_H

#include <glib.h>

#include "hw/virtio/vring-inflight.h"

typedef struct SvqInflight SvqInflight;

/*
 * Opens the file at @path, or makes it; one that is damaged or of another version begins anew, with
 * a warning.  @path NULL: memory that is gone with the process, and still serves a VMM that
 * connects again.  NULL and @errp: it cannot be opened or mapped, is in use, or is none of ours.
 */
SvqInflight *svq_inflight_new(const char *path, GError **errp);

/* The records stay in the file, for the next svqd.  A file that was made in vain is removed. */
void svq_inflight_free(SvqInflight *inflight);

/*
 * The record of virtqueue @index, with room for @num descriptors; valid as long as @inflight.
 * NULL, and a warning: there is no room in the file system.
 */
VringInflight *svq_inflight_get(SvqInflight *inflight, unsigned int index, uint32_t num);

/* Room for the device's own state, see svq-control-state.c. */
#define SVQ_INFLIGHT_STATE_BYTES (516 * 1024)

/* That room, all 0 in a new file; aligned to a page.  NULL: there is no file, or no room in the file system. */
uint8_t *svq_inflight_get_state(SvqInflight *inflight);

/* A later start of virtqueue @index is told where to go on, or begins anew. */
void svq_inflight_clear(SvqInflight *inflight, unsigned int index);

#endif
