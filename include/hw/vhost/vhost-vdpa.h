/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VhostDevice that is a vDPA device of the kernel: /dev/vhost-vdpa-N.
 *
 * Threads: the main thread.
 */
#ifndef HW_VHOST_VHOST_VDPA_H
#define HW_VHOST_VHOST_VDPA_H

#include "hw/vhost/vhost-device.h"

struct VhostVdpaKernel;

typedef struct VhostVdpaConfig {
    const char *id;
    const char *path;           /* of the device file; NULL: @fd */
    int fd;                     /* open; ownership is taken, on failure too */
    struct VhostVdpaKernel *kernel;     /* NULL: the kernel itself; else see vhost-vdpa-kernel.h */
} VhostVdpaConfig;

/*
 * Opens the device and asks what it can.  With @path, a device whose file vanishes is gone, and
 * there again when the file is.  NULL and @errp: no such device, busy, not usable; one line
 * that says what would help.
 */
VhostDevice *vhost_vdpa_new(const VhostVdpaConfig *config, GError **errp);

#endif
