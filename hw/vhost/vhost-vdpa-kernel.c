/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel behind vhost-vdpa: the system calls on /dev/vhost-vdpa-N.
 */
#include "vhost-vdpa-kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int kernel_open(VhostVdpaKernel *kernel, const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);

    return fd < 0 ? -errno : fd;
}

static void kernel_close(VhostVdpaKernel *kernel, int fd)
{
    close(fd);
}

static int kernel_stat(VhostVdpaKernel *kernel, int fd, struct stat *node)
{
    return fstat(fd, node) < 0 ? -errno : 0;
}

static int kernel_ioctl(VhostVdpaKernel *kernel, int fd, unsigned long request, void *argument)
{
    int ret;

    do {
        ret = ioctl(fd, request, argument);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : ret;
}

static int kernel_write(VhostVdpaKernel *kernel, int fd, const struct vhost_msg_v2 *message)
{
    ssize_t n = write(fd, message, sizeof(*message));

    if (n < 0) {
        return -errno;
    }
    return n == sizeof(*message) ? 0 : -EIO;
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void *kernel_map_doorbell(VhostVdpaKernel *kernel, int fd, unsigned int index)
{
    /* Reading a doorbell means nothing, and the kernel refuses to map it for that. */
    void *page = mmap(NULL, page_size(), PROT_WRITE, MAP_SHARED, fd,
                      (off_t)(index * page_size()));

    return page == MAP_FAILED ? NULL : page;
}

static void kernel_unmap_doorbell(VhostVdpaKernel *kernel, void *page)
{
    munmap(page, page_size());
}

VhostVdpaKernel vhost_vdpa_kernel = {
    .open = kernel_open,
    .close = kernel_close,
    .stat = kernel_stat,
    .ioctl = kernel_ioctl,
    .write = kernel_write,
    .map_doorbell = kernel_map_doorbell,
    .unmap_doorbell = kernel_unmap_doorbell,
};
