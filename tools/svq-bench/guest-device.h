/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the drivers of all device types do with a vhost-user back end.
 *
 * Threads: the main thread.
 */
#ifndef TOOLS_SVQ_BENCH_GUEST_DEVICE_H
#define TOOLS_SVQ_BENCH_GUEST_DEVICE_H

#include "hw/vhost/vhost-device.h"
#include "options.h"

VhostDevice *guest_device_connect(const BenchOptions *options, const VhostDeviceNotify *notify,
                                  void *opaque, GError **errp);

/* Whether it has what @options ask for, and offers @features. */
bool guest_device_check(const VhostDevice *dev, const BenchOptions *options, uint64_t features,
                        GError **errp);

/* All rings are started. */
bool guest_device_driver_ok(VhostDevice *dev, GError **errp);

#endif
