/* SPDX-License-Identifier: BSD-3-Clause */
/* -backend vhost-vdpa: a vDPA device of the kernel. */
#include <fcntl.h>
#include <sys/stat.h>

#include "hw/vhost/vhost-vdpa.h"
#include "system/error.h"
#include "system/objects/objects.h"

typedef struct VhostVdpaOptions {
    const char *vhostdev;
    int64_t vhostfd;            /* -1: not given */
} VhostVdpaOptions;

static const Property vhost_vdpa_properties[] = {
    PROPERTY_STRING("vhostdev", VhostVdpaOptions, vhostdev, "device file, as /dev/vhost-vdpa-0"),
    PROPERTY_INT("vhostfd", VhostVdpaOptions, vhostfd, 0, INT32_MAX,
                 "a descriptor of one that svqd inherits"),
    PROPERTY_END,
};

/* Another kind of file would fail later and without words; and it is no business of children. */
static bool check_fd(int fd, GError **errp)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
        return true;
    }
    return svqd_fail(errp, "'vhostfd' %d is no open device file: pass one that svqd inherits", fd);
}

static bool vhost_vdpa_check(Objects *objects, Object *object, GError **errp)
{
    const VhostVdpaOptions *options = object->config;

    if (!options->vhostdev == (options->vhostfd < 0)) {
        return svqd_fail(errp, options->vhostdev
                                   ? "'vhostdev' and 'vhostfd' exclude each other; give one"
                                   : "'vhostdev' is missing: give 'vhostdev' or 'vhostfd'");
    }
    return options->vhostdev || check_fd((int)options->vhostfd, errp);
}

static bool vhost_vdpa_create(Objects *objects, Object *object, GError **errp)
{
    const VhostVdpaOptions *options = object->config;
    const VhostVdpaConfig config = {
        .id = object->id,
        .path = options->vhostdev,
        .fd = (int)options->vhostfd,
    };

    object->instance = vhost_vdpa_new(&config, errp);
    return object->instance;
}

static void vhost_vdpa_destroy(Object *object)
{
    VhostDevice *device = object->instance;

    device->ops->free(device);
}

const ObjectType backend_vhost_vdpa_type = {
    .kind = OBJECT_KIND_BACKEND,
    .name = "vhost-vdpa",
    .help = "a vDPA device of the kernel",
    .properties = vhost_vdpa_properties,
    .config_size = sizeof(VhostVdpaOptions),
    .defaults = &(const VhostVdpaOptions){ .vhostfd = -1 },
    .check = vhost_vdpa_check,
    .create = vhost_vdpa_create,
    .destroy = vhost_vdpa_destroy,
};
