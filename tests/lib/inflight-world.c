/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring of tests that kill the device. */
#include "lib/inflight-world.h"

#include <string.h>
#include <sys/mman.h>

unsigned int cookie_elements(uint32_t cookie)
{
    return 1 + (unsigned int)(random_hash(cookie) % 3);
}

static unsigned int cookie_readable(uint32_t cookie)
{
    return (unsigned int)(random_hash(~(uint64_t)cookie) % (cookie_elements(cookie) + 1));
}

bool cookie_writable(uint32_t cookie)
{
    return cookie_readable(cookie) < cookie_elements(cookie);
}

void inflight_world_reset_driver(InflightWorld *world)
{
    Survivors *s = world->survivors;
    VringDriver *driver = &s->driver;
    const uint32_t num = world->config.num;

    g_assert_cmpint(vring_driver_init(driver, &world->config, NULL, 0), ==, 0);
    /* What it has allocated must be where the ring is, to be put back with it. */
    memcpy(s->slots, driver->slots, num * sizeof(s->slots[0]));
    memcpy(s->next, driver->next, num * sizeof(s->next[0]));
    memcpy(s->mirror, driver->mirror, num * sizeof(s->mirror[0]));
    vring_driver_cleanup(driver);
    driver->slots = s->slots;
    driver->next = s->next;
    driver->mirror = s->mirror;
}

InflightWorld *inflight_world_new(const VringConfig *config, uint64_t seed)
{
    InflightWorld *world = g_new0(InflightWorld, 1);
    Survivors *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                        0);

    g_assert_true(s != MAP_FAILED);
    g_assert_cmpuint(config->num, <=, INFLIGHT_MAX_NUM);
    world->survivors = s;
    world->random.state = seed;
    world->config = *config;
    world->config.areas = (VringAreas){ s->desc, s->driver_area, s->device_area };
    world->config.base = vring_base_start(config->packed);
    world->config.inflight = (VringInflight *)s->record;
    world->config.identity = (VringIdentity){ 1, 2, 3, world->config.base };
    inflight_world_reset_driver(world);
    g_assert_cmpint(vring_device_init(&world->device, &world->config), ==, 0);
    g_assert_false(world->device.recovery.recovered);
    g_assert_null(world->device.recovery.discarded);
    return world;
}

void inflight_world_free(InflightWorld *world)
{
    vring_device_cleanup(&world->device);
    munmap(world->survivors, sizeof(*world->survivors));
    g_free(world);
}

void inflight_world_add(InflightWorld *world)
{
    VringDriver *driver = &world->survivors->driver;
    const uint32_t cookie = world->survivors->n_added++;
    const unsigned int n = cookie_elements(cookie);
    VringSegment seg[3];
    unsigned int i;

    for (i = 0; i < n; i++) {
        seg[i] = (VringSegment){ (uint64_t)cookie << 8 | i, 100,
                                 i < cookie_readable(cookie) ? 0 : VRING_DESC_F_WRITE };
    }
    vring_driver_add(driver, driver->packed, seg, n, cookie);
    vring_driver_publish(driver, driver->packed);
}

bool inflight_world_collect(InflightWorld *world, Used *used)
{
    VringDriver *driver = &world->survivors->driver;
    int ret = vring_driver_collect(driver, driver->packed, &used->cookie, &used->len);

    g_assert_cmpint(ret, >=, 0);
    return ret;
}

bool inflight_world_take(VringDevice *device, uint32_t *cookie, uint16_t *id)
{
    static const MemoryMap no_tables;
    VringSegment seg[INFLIGHT_MAX_NUM];
    int n = vring_device_take(device, device->packed, &no_tables, seg, INFLIGHT_MAX_NUM, id);

    if (n == 0) {
        return false;
    }
    *cookie = (uint32_t)(seg[0].addr >> 8);
    g_assert_cmpint(n, ==, cookie_elements(*cookie));
    return true;
}

VRING_INLINE void perform_as(InflightWorld *world, const Op *op, const bool packed)
{
    Survivors *s = world->survivors;
    VringDevice *device = &world->device;
    VringSegment seg[INFLIGHT_MAX_NUM];
    uint16_t id;
    Used used;

    switch (op->type) {
    case TAKE:
        vring_device_take(device, packed, NULL, seg, INFLIGHT_MAX_NUM, &id);
        break;
    case UNTAKE:
        vring_device_untake(device, packed, (uint16_t)op->id);
        break;
    case PUT:
        vring_device_put(device, packed, op->id, op->len);
        break;
    case PUBLISH:
        vring_device_publish(device, packed);
        break;
    case RESTART:
        vring_device_cleanup(device);
        vring_device_init(device, &world->config);
        break;
    case ADD:
    case COLLECT:
        /* The driver is not killed: nobody looks before it has finished. */
        s->driver_at_work = true;
        if (op->type == ADD) {
            inflight_world_add(world);
        } else {
            inflight_world_collect(world, &used);
        }
        s->driver_at_work = false;
        break;
    }
}

/* Not inlined: what is stepped through is this. */
void __attribute__((noinline)) inflight_world_perform(InflightWorld *world, const Op *op)
{
    if (world->config.packed) {
        perform_as(world, op, true);
    } else {
        perform_as(world, op, false);
    }
}


/* The first cookie from @cookie on that is (not) writable, with one element. */
static uint32_t find_cookie(uint32_t cookie, bool writable)
{
    while (cookie_elements(cookie) != 1 || cookie_writable(cookie) != writable) {
        cookie++;
    }
    return cookie;
}

void inflight_world_add_single(InflightWorld *world, bool writable)
{
    Survivors *s = world->survivors;

    s->n_added = find_cookie(s->n_added, writable);
    inflight_world_add(world);
}
