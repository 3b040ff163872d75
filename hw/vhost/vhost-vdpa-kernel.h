/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thin layer between vhost-vdpa and the kernel: each system call on the device file, so that
 * tests may put a model there, and faults.
 *
 * Threads: the main thread; ioctl() may be called from another while the main thread waits for it
 * (SUSPEND, which a device may never end).
 */
#ifndef HW_VHOST_VHOST_VDPA_KERNEL_H
#define HW_VHOST_VHOST_VDPA_KERNEL_H

#include <linux/vhost.h>
#include <stdint.h>

typedef struct VhostVdpaKernel VhostVdpaKernel;

/* All return -errno on failure. */
struct VhostVdpaKernel {
    /* A descriptor of the device file at @path. */
    int (*open)(VhostVdpaKernel *kernel, const char *path);
    void (*close)(VhostVdpaKernel *kernel, int fd);
    /* What the call returns, 0 or more. */
    int (*ioctl)(VhostVdpaKernel *kernel, int fd, unsigned long request, void *argument);
    /* One IOTLB message, whole: 0. */
    int (*write)(VhostVdpaKernel *kernel, int fd, const struct vhost_msg_v2 *message);
    /* The doorbell page of virtqueue @index, one page, for writing only; NULL with errno. */
    void *(*map_doorbell)(VhostVdpaKernel *kernel, int fd, unsigned int index);
    void (*unmap_doorbell)(VhostVdpaKernel *kernel, void *page);
};

/* The kernel itself. */
extern VhostVdpaKernel vhost_vdpa_kernel;

#endif
