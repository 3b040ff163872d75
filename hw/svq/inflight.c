/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-flight records of a device, in a file.  See inflight.h. */
#include "inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "svq-device-internal.h"

#define HEADER_SIZE 4096

typedef struct FileHeader {
    char magic[8];
    uint32_t version;           /* of the layout of records, too */
    uint32_t n_queues;
    uint64_t stride;            /* bytes of one record */
} FileHeader;

struct SvqInflight {
    char *path;                 /* NULL: no file */
    int fd;
    bool made;                  /* the file is new, and no record was asked for yet */
    uint8_t *base;
};

static uint64_t stride(void)
{
    return (vring_inflight_size(VRING_MAX_SIZE) + 4095) & ~UINT64_C(4095);
}

static uint64_t file_size(void)
{
    return HEADER_SIZE + SVQ_MAX_QUEUES * stride() + SVQ_INFLIGHT_STATE_BYTES;
}

static const FileHeader *our_header(void)
{
    static FileHeader header = { .magic = "svqd-ifl", .version = 2, .n_queues = SVQ_MAX_QUEUES };

    header.stride = stride();
    return &header;
}

static bool fail(const SvqInflight *inflight, const char *what, int error, GError **errp)
{
    g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(error), "in-flight file '%s' %s: %s",
                inflight->path, what, g_strerror(error));
    return false;
}

/* Empties the file, whatever is in it, and makes it one of ours. */
static bool make_file(SvqInflight *inflight, GError **errp)
{
    if (ftruncate(inflight->fd, 0) < 0 || ftruncate(inflight->fd, (off_t)file_size()) < 0) {
        return fail(inflight, "cannot be given its size", errno, errp);
    }
    /* Last: before it, the file is none of ours. */
    errno = ENOSPC;
    if (pwrite(inflight->fd, our_header(), sizeof(FileHeader), 0) != sizeof(FileHeader)) {
        return fail(inflight, "cannot be written", errno, errp);
    }
    return true;
}

/* Of whatever version, or not written to the end: somebody else's file is not to be lost. */
static bool is_ours(const FileHeader *header)
{
    static const FileHeader blank;

    return memcmp(header->magic, our_header()->magic, sizeof(header->magic)) == 0 ||
           memcmp(header, &blank, sizeof(blank)) == 0;
}

static bool open_file(SvqInflight *inflight, GError **errp)
{
    FileHeader header = { 0 };
    struct stat st;

    /* O_NONBLOCK: not to wait at a FIFO. */
    inflight->fd = open(inflight->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW,
                        0600);
    if (inflight->fd < 0) {
        return fail(inflight, "cannot be opened", errno, errp);
    }
    if (flock(inflight->fd, LOCK_EX | LOCK_NB) < 0) {
        return fail(inflight, "is in use by another device or svqd", errno, errp);
    }
    if (fstat(inflight->fd, &st) < 0) {
        return fail(inflight, "cannot be looked at", errno, errp);
    }
    if (!S_ISREG(st.st_mode)) {
        return fail(inflight, "is no regular file", EINVAL, errp);
    }
    if (st.st_size == 0) {
        inflight->made = true;
        return make_file(inflight, errp);
    }
    if (pread(inflight->fd, &header, sizeof(header), 0) != sizeof(header) ||
        !is_ours(&header)) {
        return fail(inflight, "has something else in it; name another, or remove it", EEXIST,
                    errp);
    }
    if ((uint64_t)st.st_size == file_size() &&
        memcmp(&header, our_header(), sizeof(header)) == 0) {
        return true;
    }
    g_warning("in-flight file '%s' is damaged or of another version of svqd: it begins anew",
              inflight->path);
    return make_file(inflight, errp);
}

SvqInflight *svq_inflight_new(const char *path, GError **errp)
{
    SvqInflight *inflight = g_new0(SvqInflight, 1);
    void *base;

    inflight->path = g_strdup(path);
    inflight->fd = -1;
    if (path && !open_file(inflight, errp)) {
        svq_inflight_free(inflight);
        return NULL;
    }
    base = mmap(NULL, file_size(), PROT_READ | PROT_WRITE,
                path ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, inflight->fd, 0);
    if (base == MAP_FAILED) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "in-flight records%s%s cannot be mapped: %s", path ? " in " : "",
                    path ? path : "", g_strerror(errno));
        svq_inflight_free(inflight);
        return NULL;
    }
    inflight->base = base;
    return inflight;
}

void svq_inflight_free(SvqInflight *inflight)
{
    if (!inflight) {
        return;
    }
    if (inflight->base) {
        munmap(inflight->base, file_size());
    }
    if (inflight->made) {
        unlink(inflight->path);
    }
    if (inflight->fd >= 0) {
        close(inflight->fd);
    }
    g_free(inflight->path);
    g_free(inflight);
}

static uint64_t offset_of(unsigned int index)
{
    return HEADER_SIZE + index * stride();
}

VringInflight *svq_inflight_get(SvqInflight *inflight, unsigned int index, uint32_t num)
{
    int ret;

    g_assert(index < SVQ_MAX_QUEUES && num <= VRING_MAX_SIZE);
    if (inflight->path) {
        /* Now, or a full file system would end us by SIGBUS in the middle of a burst. */
        ret = posix_fallocate(inflight->fd, (off_t)offset_of(index),
                              (off_t)vring_inflight_size(num));
        if (ret != 0) {
            g_warning("in-flight file '%s' has no room for virtqueue %u, which cannot go on after "
                      "a kill: %s",
                      inflight->path, index, g_strerror(ret));
            svq_inflight_clear(inflight, index);
            return NULL;
        }
        inflight->made = false;
    }
    return (VringInflight *)(inflight->base + offset_of(index));
}

uint8_t *svq_inflight_get_state(SvqInflight *inflight)
{
    int ret;

    if (!inflight->path) {
        return NULL;
    }
    ret = posix_fallocate(inflight->fd, (off_t)offset_of(SVQ_MAX_QUEUES), SVQ_INFLIGHT_STATE_BYTES);
    if (ret != 0) {
        g_warning("in-flight file '%s' has no room for the device's state, which is lost at a kill: "
                  "%s", inflight->path, g_strerror(ret));
        return NULL;
    }
    return inflight->base + offset_of(SVQ_MAX_QUEUES);
}

void svq_inflight_clear(SvqInflight *inflight, unsigned int index)
{
    VringInflight *record = (VringInflight *)(inflight->base + offset_of(index));
    uint32_t live = 0;

    /* Not by the mapping: in a tmpfs, to read a hole takes room, which may not be there. */
    if (inflight->path && (pread(inflight->fd, &live, sizeof(live), (off_t)offset_of(index)) !=
                           sizeof(live) || !live)) {
        return;
    }
    vring_inflight_clear(record);
}
