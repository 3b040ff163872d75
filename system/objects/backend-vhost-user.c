/* SPDX-License-Identifier: BSD-3-Clause */
/* -backend vhost-user: a device in another process, over a -chardev. */
#include "hw/vhost/vhost-user-client.h"
#include "system/objects/objects.h"

typedef struct VhostUserConfig {
    const char *chardev;
} VhostUserConfig;

static const Property vhost_user_properties[] = {
    PROPERTY_STRING("chardev", VhostUserConfig, chardev, "id of the -chardev to its socket"),
    PROPERTY_END,
};

static bool vhost_user_check(Objects *objects, Object *object, GError **errp)
{
    const VhostUserConfig *config = object->config;

    return objects_claim(objects, OBJECT_KIND_CHARDEV, config->chardev, "chardev", object, errp);
}

static bool vhost_user_create(Objects *objects, Object *object, GError **errp)
{
    const VhostUserConfig *config = object->config;
    const Object *chardev = objects_resolve(objects, OBJECT_KIND_CHARDEV, config->chardev,
                                            "chardev", NULL);
    VhostSocketAddress address = chardev_socket_get_address(chardev);
    GError *error = NULL;

    object->instance = vhost_user_client_new(object->id, &address, &error);
    return object->instance || chardev_socket_fail(chardev, error, errp);
}

static void vhost_user_destroy(Object *object)
{
    VhostDevice *device = object->instance;

    device->ops->free(device);
}

const ObjectType backend_vhost_user_type = {
    .kind = OBJECT_KIND_BACKEND,
    .name = "vhost-user",
    .help = "a device in another process",
    .properties = vhost_user_properties,
    .config_size = sizeof(VhostUserConfig),
    .defaults = &(const VhostUserConfig){ 0 },
    .check = vhost_user_check,
    .create = vhost_user_create,
    .destroy = vhost_user_destroy,
};
