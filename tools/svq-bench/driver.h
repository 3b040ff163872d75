/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How svq-bench's drivers add a buffer.
 */
#ifndef TOOLS_SVQ_BENCH_DRIVER_H
#define TOOLS_SVQ_BENCH_DRIVER_H

#include "hw/virtio/vring-driver.h"

/*
 * As vring_driver_add(), but with @indirect the buffer goes into a table however short it
 * is, which vring-driver.h does not think worth it: here the table is what is to be tried.
 */
static inline void bench_driver_add(VringDriver *vr, bool packed, bool indirect,
                                    const VringSegment *seg, unsigned int n, uint32_t cookie)
{
    VringAdding a = vring_driver_begin_adding(vr, packed);

    if (indirect) {
        vring_driver_add_table(vr, packed, &a, seg, &seg->addr, VRING_SEGMENT_STEP, n, cookie);
    } else {
        vring_driver_add_next(vr, packed, &a, seg, &seg->addr, VRING_SEGMENT_STEP, n, cookie);
    }
    vring_driver_end_adding(vr, packed, &a, 1);
}

#endif
