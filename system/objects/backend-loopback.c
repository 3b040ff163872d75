/* SPDX-License-Identifier: BSD-3-Clause */
/* -backend loopback: the built-in network device that receives what is sent, or answers it. */
#include <string.h>

#include "hw/net/loopback.h"
#include "system/error.h"
#include "system/objects/objects.h"

typedef struct LoopbackOptions {
    int64_t queue_pairs;
    MacAddress mac;
    int64_t mtu;
    bool icmp_echo;
    const char *iothread;
} LoopbackOptions;

static const Property loopback_properties[] = {
    PROPERTY_INT("queue-pairs", LoopbackOptions, queue_pairs, 1, 127,
                 "pairs of a receive and a transmit queue (1)"),
    PROPERTY_MAC("mac", LoopbackOptions, mac, "its address (02:00:00:00:00:01)"),
    PROPERTY_INT("mtu", LoopbackOptions, mtu, 68, 65535, "bytes (1500)"),
    PROPERTY_BOOL("icmp-echo", LoopbackOptions, icmp_echo,
                  "answer as a neighbour that has every address, to ARP and ping (off)"),
    PROPERTY_STRING("iothread", LoopbackOptions, iothread,
                    "id of the iothread where it runs (each pair where its queues do)"),
    PROPERTY_END,
};

static bool loopback_check(Objects *objects, Object *object, GError **errp)
{
    const LoopbackOptions *options = object->config;

    return !options->iothread ||
           objects_resolve(objects, OBJECT_KIND_OBJECT, options->iothread, "iothread", errp);
}

static bool loopback_create(Objects *objects, Object *object, GError **errp)
{
    const LoopbackOptions *options = object->config;
    LoopbackConfig config = {
        .id = object->id,
        .queue_pairs = options->queue_pairs,
        .mtu = options->mtu,
        .icmp_echo = options->icmp_echo,
    };

    memcpy(config.mac, options->mac.bytes, sizeof(config.mac));
    if (options->iothread) {
        config.iothread = objects_resolve(objects, OBJECT_KIND_OBJECT, options->iothread,
                                          "iothread", NULL)->instance;
    }
    object->instance = loopback_new(&config, errp);
    return object->instance;
}

static void loopback_destroy(Object *object)
{
    VhostDevice *device = object->instance;

    device->ops->free(device);
}

const ObjectType backend_loopback_type = {
    .kind = OBJECT_KIND_BACKEND,
    .name = "loopback",
    .help = "a network device that receives what is sent, queue pair by queue pair",
    .properties = loopback_properties,
    .config_size = sizeof(LoopbackOptions),
    .defaults = &(const LoopbackOptions){
        .queue_pairs = 1,
        .mac = { { 0x02, 0, 0, 0, 0, 1 } },
        .mtu = 1500,
    },
    .check = loopback_check,
    .create = loopback_create,
    .destroy = loopback_destroy,
};
