/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Setting up the loopback device and its rings, and playing their driver.
 */
#include "lib/loopback-rig.h"

#include <poll.h>
#include <string.h>

#include "lib/guest.h"

#define TIMEOUT_MS 10000

static AioContext *context(const LoopbackRig *rig, unsigned int index)
{
    return iothread_get_aio_context(rig->iothreads[index / 2]);
}

void loopback_rig_init(LoopbackRig *rig, const LoopbackConfig *config, uint64_t features,
                       int64_t poll_max_ns)
{
    static const GuestRegion region = { 0, LOOPBACK_RIG_MEMORY, 0 };
    const AioPollParams params = { .max_ns = poll_max_ns };
    LoopbackConfig named = *config;
    unsigned int i;

    *rig = (LoopbackRig){ .features = features };
    named.id = "dev";
    for (i = 0; i < G_N_ELEMENTS(rig->iothreads); i++) {
        g_autofree char *id = g_strdup_printf("io%u", i);

        rig->iothreads[i] = iothread_new(id, &params, NULL, NULL);
    }
    rig->dev = loopback_new(&named, NULL);
    rig->map = guest_memory_new(&region, 1);
    rig->memory = memory_map_host(rig->map, 0, LOOPBACK_RIG_MEMORY);
    g_assert_cmpint(rig->dev->ops->set_features(rig->dev, features, NULL), ==, 0);
    g_assert_cmpint(rig->dev->ops->set_memory(rig->dev, rig->map, NULL), ==, 0);
}

void loopback_rig_cleanup(LoopbackRig *rig)
{
    unsigned int i;

    for (i = 0; i < LOOPBACK_RIG_RINGS; i++) {
        loopback_rig_stop_ring(rig, i);
    }
    rig->dev->ops->free(rig->dev);
    guest_memory_free(rig->map);
    for (i = 0; i < G_N_ELEMENTS(rig->iothreads); i++) {
        iothread_unref(rig->iothreads[i]);
    }
}

void loopback_rig_start_ring(LoopbackRig *rig, unsigned int index, uint32_t num)
{
    LoopbackRigRing *r = &rig->rings[index];

    r->config = (VringConfig){
        .num = num,
        .packed = rig->features & VIRTIO_F_BIT(VIRTIO_F_RING_PACKED),
        .event_idx = rig->features & VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
    };
    guest_ring_alloc(&r->config);
    g_assert_cmpint(vring_driver_init(&r->driver, &r->config, NULL, 0), ==, 0);
    g_assert_cmpint(event_notifier_init(&r->kick), ==, 0);
    g_assert_cmpint(event_notifier_init(&r->call), ==, 0);
    loopback_rig_give_ring(rig, index, vring_base_start(r->config.packed));
    r->started = true;
}

void loopback_rig_give_ring(LoopbackRig *rig, unsigned int index, VringBase base)
{
    const LoopbackRigRing *r = &rig->rings[index];
    const VhostRing ring = {
        .num = r->config.num,
        .base = base,
        .areas = r->config.areas,
        .kick_fd = r->kick.fd,
        .call_fd = r->call.fd,
        .ctx = context(rig, index),
    };

    g_assert_cmpint(rig->dev->ops->ring_enable(rig->dev, index, true, NULL), ==, 0);
    g_assert_cmpint(rig->dev->ops->ring_start(rig->dev, index, &ring, NULL), ==, 0);
}

VringBase loopback_rig_take_ring(LoopbackRig *rig, unsigned int index)
{
    VringBase base = { UINT16_MAX, UINT16_MAX };

    g_assert_true(rig->dev->tells_base);
    g_assert_cmpint(rig->dev->ops->ring_stop(rig->dev, index, &base, NULL), ==, 0);
    return base;
}

VringBase loopback_rig_expected_base(const LoopbackRig *rig, unsigned int index)
{
    const VringDriver *driver = &rig->rings[index].driver;
    uint16_t used = driver->used_idx;

    if (driver->packed) {
        used |= vring_packed_wrap(driver->used_flags);
    }
    return (VringBase){ used, used };
}

void loopback_rig_stop_ring(LoopbackRig *rig, unsigned int index)
{
    LoopbackRigRing *r = &rig->rings[index];

    if (!r->started) {
        return;
    }
    r->started = false;
    g_assert_cmpint(rig->dev->ops->ring_stop(rig->dev, index, NULL, NULL), ==, 0);
    vring_driver_cleanup(&r->driver);
    guest_ring_free(&r->config);
    event_notifier_cleanup(&r->kick);
    event_notifier_cleanup(&r->call);
}

void loopback_rig_add(LoopbackRig *rig, unsigned int index, const VringSegment *seg,
                      unsigned int n, uint32_t cookie)
{
    LoopbackRigRing *r = &rig->rings[index];
    VringDriver *driver = &r->driver;

    vring_driver_add(driver, driver->packed, seg, n, cookie);
    vring_driver_publish(driver, driver->packed);
    if (vring_driver_needs_kick(driver, driver->packed)) {
        event_notifier_set(&r->kick);
    }
}

void loopback_rig_add_one(LoopbackRig *rig, unsigned int index, uint64_t gpa, uint32_t len)
{
    const VringSegment seg = { gpa, len, index % 2 ? 0 : VRING_DESC_F_WRITE };

    loopback_rig_add(rig, index, &seg, 1, (uint32_t)gpa);
}

uint32_t loopback_rig_wait_used(LoopbackRig *rig, unsigned int index, uint32_t cookie)
{
    LoopbackRigRing *r = &rig->rings[index];
    VringDriver *driver = &r->driver;
    uint32_t found = 0, len = 0;
    int ret;

    while ((ret = vring_driver_collect(driver, driver->packed, &found, &len)) == 0) {
        struct pollfd fd = { .fd = r->call.fd, .events = POLLIN };

        if (!vring_driver_enable_call(driver, driver->packed)) {
            g_assert_cmpint(poll(&fd, 1, TIMEOUT_MS), ==, 1);
        }
        event_notifier_test_and_clear(&r->call);
    }
    g_assert_cmpint(ret, ==, 1);
    g_assert_cmphex(found, ==, cookie);
    return len;
}

bool loopback_rig_has_used(const LoopbackRig *rig, unsigned int index)
{
    const VringDriver *driver = &rig->rings[index].driver;

    return vring_driver_has_used(driver, driver->packed);
}

LoopbackRigReply loopback_rig_command(LoopbackRig *rig, unsigned int index, const void *bytes,
                                      uint32_t n, uint32_t room)
{
    const VringSegment seg[] = {
        { LOOPBACK_RIG_COMMAND, n, 0 }, { LOOPBACK_RIG_REPLY, room, VRING_DESC_F_WRITE },
    };
    const uint8_t *written = rig->memory + LOOPBACK_RIG_REPLY;
    LoopbackRigReply reply;

    g_assert_cmpuint(room, <=, 1 + NET_CTRL_MAX_RESULT);
    g_assert_cmpuint(n, <=, LOOPBACK_RIG_REPLY - LOOPBACK_RIG_COMMAND);
    memcpy(rig->memory + LOOPBACK_RIG_COMMAND, bytes, n);
    memset(rig->memory + LOOPBACK_RIG_REPLY, 0x77, 1 + NET_CTRL_MAX_RESULT);
    loopback_rig_add(rig, index, seg, G_N_ELEMENTS(seg), LOOPBACK_RIG_COMMAND);
    reply.n = loopback_rig_wait_used(rig, index, LOOPBACK_RIG_COMMAND);
    reply.ack = written[0];
    memcpy(reply.result, written + 1, sizeof(reply.result));
    return reply;
}

uint8_t loopback_rig_say(LoopbackRig *rig, unsigned int index, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) bytes = net_ctrl_from_string(text, &error);
    LoopbackRigReply reply;

    g_assert_no_error(error);
    reply = loopback_rig_command(rig, index, bytes->data, bytes->len, 1);
    g_assert_cmpuint(reply.n, ==, 1);
    return reply.ack;
}

void loopback_rig_wait_asleep(LoopbackRig *rig, unsigned int index)
{
    AioContext *ctx = context(rig, index);
    uint64_t sleeps = aio_context_sleeps(ctx);

    aio_notify(ctx);
    while (aio_context_sleeps(ctx) == sleeps) {
        g_thread_yield();
    }
}
