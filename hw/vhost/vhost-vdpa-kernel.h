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

#include <stdint.h>
#include <sys/stat.h>

/*
 * Linux's headers have names of ours: our features.h comes first, and <linux/virtio_ring.h>, which
 * <linux/vhost_types.h> includes and does not use, is left out.
 */
#include "hw/virtio/features.h"
#define _LINUX_VIRTIO_RING_H
#include <linux/vhost.h>

/* What headers before Linux 6.8 lack. */
#ifndef VHOST_VDPA_RESUME
#define VHOST_VDPA_RESUME               _IO(VHOST_VIRTIO, 0x7E)
#endif
#ifndef VHOST_VDPA_GET_VRING_DESC_GROUP
#define VHOST_VDPA_GET_VRING_DESC_GROUP _IOWR(VHOST_VIRTIO, 0x7F, struct vhost_vring_state)
#endif
#ifndef VHOST_VDPA_GET_VRING_SIZE
#define VHOST_VDPA_GET_VRING_SIZE       _IOWR(VHOST_VIRTIO, 0x82, struct vhost_vring_state)
#endif
#ifndef VHOST_BACKEND_F_RESUME
#define VHOST_BACKEND_F_RESUME          5
#endif
#ifndef VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK
#define VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK 6
#endif
#ifndef VHOST_BACKEND_F_DESC_ASID
#define VHOST_BACKEND_F_DESC_ASID       7
#endif
#ifndef VHOST_BACKEND_F_IOTLB_PERSIST
#define VHOST_BACKEND_F_IOTLB_PERSIST   8
#endif

typedef struct VhostVdpaKernel VhostVdpaKernel;

/* All return -errno on failure. */
struct VhostVdpaKernel {
    /* A descriptor of the device file at @path. */
    int (*open)(VhostVdpaKernel *kernel, const char *path);
    void (*close)(VhostVdpaKernel *kernel, int fd);
    /* The file that was opened, whatever its path leads to by now: 0. */
    int (*stat)(VhostVdpaKernel *kernel, int fd, struct stat *node);
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
