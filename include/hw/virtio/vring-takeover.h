/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Going on, in the device's role, with a ring that another device has worked until now.
 *
 * How it works.  The other device tells where it stands: how far it has taken buffers, and in
 * packed rings how far it has used them; split rings hold the used index.  What it has taken
 * and not used it will never use, so it is taken again, and that works if it has used
 * buffers in the order of the ring: then those are the buffers between both positions.  If it
 * has not, which ones they are cannot be read from the ring: used elements do not say what
 * is missing, and in packed rings they have replaced it.
 *
 * Threads: any; the ring's device is stopped.  Virtio 1.3, sections 2.7 and 2.8.
 */
#ifndef HW_VIRTIO_VRING_TAKEOVER_H
#define HW_VIRTIO_VRING_TAKEOVER_H

#include "hw/virtio/vring.h"

/*
 * Where to go on with the ring of @config (num, format, in_order, areas) after a device that
 * stands at @told: 0, with nothing in flight at @base.  -EPROTO with @error: what the device
 * says does not fit the ring, or has buffers in flight and may have used others out of order.
 *
 * @usually_in_order: it is of a kind that works in order, whatever was negotiated (a network
 * device).  Then a split ring that shows no buffer out of order is believed: each of the
 * available buffers is there once, and each used element is what was available at its place, as
 * far back as the ring remembers.
 */
int vring_takeover(const VringConfig *config, VringBase told, bool usually_in_order,
                   VringBase *base, VringError *error);

/*
 * The same after a device that told nothing and was reset: what of the ring is known by itself.
 * @start: where the device began.  Packed: -EPROTO unless it has used nothing since.
 */
int vring_takeover_untold(const VringConfig *config, VringBase start, VringBase *base,
                          VringError *error);

#endif
