/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VringDriver and a device that works in order and uses batches: it writes one used
 * element for many buffers and skips the places of the others (virtio 1.3, 2.7.9 and 2.8.8).
 *
 * How it works.  The device here is as plain as can be: it reads the ring with absolute
 * positions and shares no code with VringDevice.
 */
#include <glib.h>
#include <inttypes.h>

#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "lib/random.h"

#define STEPS 1000000
#define MAX_CHAIN 5

typedef struct NaiveDevice {
    const VringConfig *config;
    uint64_t seen, used;        /* positions: split, buffers; packed, descriptors */
    GQueue ids, strides;        /* of the buffers that it has, oldest first */
} NaiveDevice;

typedef struct World {
    VringConfig config;
    VringDriver driver;
    NaiveDevice device;
    Random random;
    GQueue lengths;             /* of writable bytes, by age: what comes back if not told */
    GQueue expected;            /* lengths of what is used and not collected */
    uint32_t added, collected;
    uint64_t batches;
} World;

static uint64_t packed_meta(const NaiveDevice *device, uint64_t position)
{
    VringDesc *desc = device->config->areas.desc;

    return le64_load_acquire(&desc[position % device->config->num].meta);
}

/* Packed: whether the descriptor at @position is available on this lap. */
static bool packed_is_available(const NaiveDevice *device, uint64_t position)
{
    bool wrap = position / device->config->num % 2 == 0;
    uint16_t flags = (uint16_t)(packed_meta(device, position) >> 48);

    return !!(flags & VRING_PACKED_F_AVAIL) == wrap && !!(flags & VRING_PACKED_F_USED) != wrap;
}

static void device_look_packed(NaiveDevice *device)
{
    while (packed_is_available(device, device->seen)) {
        uint64_t first = device->seen;
        uint64_t meta;

        do {
            meta = packed_meta(device, device->seen++);
        } while (meta >> 48 & VRING_DESC_F_NEXT);
        g_queue_push_tail(&device->ids, GUINT_TO_POINTER((uint16_t)(meta >> 32)));
        g_queue_push_tail(&device->strides, GUINT_TO_POINTER(device->seen - first));
        if (device->seen - device->used == device->config->num) {
            break;      /* all of the ring is ours */
        }
    }
}

static void device_look_split(NaiveDevice *device)
{
    VringAvail *avail = device->config->areas.driver;

    while ((uint16_t)device->seen != le16_load_acquire(&avail->idx)) {
        uint16_t head = le16_load(&avail->ring[device->seen++ % device->config->num]);

        g_queue_push_tail(&device->ids, GUINT_TO_POINTER(head));
        g_queue_push_tail(&device->strides, GUINT_TO_POINTER(1));
    }
}

/* One used element, of @id, at the place of the batch's first buffer; then skip @stride. */
static void device_use(NaiveDevice *device, uint16_t id, uint32_t len, uint64_t stride)
{
    const VringConfig *config = device->config;
    uint64_t at = device->used;

    device->used += stride;
    if (config->packed) {
        bool wrap = at / config->num % 2 == 0;
        uint16_t flags = wrap ? VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED : 0;
        VringDesc *desc = config->areas.desc;

        flags |= len ? VRING_DESC_F_WRITE : 0;
        le64_store_release(&desc[at % config->num].meta, vring_packed_meta(len, id, flags));
    } else {
        VringUsed *used = config->areas.device;

        le32_store(&used->ring[at % config->num].id, id);
        le32_store(&used->ring[at % config->num].len, len);
        le16_store_release(&used->idx, (uint16_t)device->used);
    }
}

static void step_device(World *world)
{
    NaiveDevice *device = &world->device;
    uint32_t n, i, len = 0;
    uint64_t stride = 0;
    uint16_t id = 0;

    if (world->config.packed) {
        device_look_packed(device);
    } else {
        device_look_split(device);
    }
    n = device->ids.length;
    if (n == 0) {
        return;
    }
    n = random_between(&world->random, 1, n);
    for (i = 0; i < n; i++) {
        uint32_t full = GPOINTER_TO_UINT(g_queue_pop_head(&world->lengths));

        id = (uint16_t)GPOINTER_TO_UINT(g_queue_pop_head(&device->ids));
        stride += GPOINTER_TO_UINT(g_queue_pop_head(&device->strides));
        len = i + 1 < n ? full : random_below(&world->random, full + 1);
        g_queue_push_tail(&world->expected, GUINT_TO_POINTER(len));
    }
    device_use(device, id, len, stride);
    world->batches += n > 1;
}

static void step_add(World *world)
{
    VringSegment seg[MAX_CHAIN];
    unsigned int n = random_between(&world->random, 1, MIN(MAX_CHAIN, world->config.num)), i;
    uint32_t writable = 0;

    if (!vring_driver_has_room(&world->driver, n)) {
        return;
    }
    for (i = 0; i < n; i++) {
        seg[i] = (VringSegment){ 4096 * i, random_between(&world->random, 1, 4096),
                                 i ? VRING_DESC_F_WRITE : 0 };
        writable += i ? seg[i].len : 0;
    }
    vring_driver_add(&world->driver, world->config.packed, seg, n, world->added++);
    g_queue_push_tail(&world->lengths, GUINT_TO_POINTER(writable));
}

static void step_collect(World *world)
{
    uint32_t cookie = 0;
    uint32_t len = 0;
    int expected = !g_queue_is_empty(&world->expected);

    g_assert_cmpint(vring_driver_has_used(&world->driver, world->config.packed), ==, expected);
    g_assert_cmpint(vring_driver_collect(&world->driver, world->config.packed, &cookie, &len), ==,
                    expected);
    if (expected) {
        g_assert_cmpuint(cookie, ==, world->collected++);
        g_assert_cmpuint(len, ==, GPOINTER_TO_UINT(g_queue_pop_head(&world->expected)));
    }
}

static void run_history(uint32_t num, bool packed, uint64_t seed)
{
    World world = {
        .config = { .num = num, .packed = packed, .in_order = true },
        .random = { seed },
    };
    uint64_t steps = random_steps(STEPS), n;
    uint64_t round = packed ? 2 * num : 65536;

    guest_ring_alloc(&world.config);
    world.device.config = &world.config;
    g_assert_cmpint(vring_driver_init(&world.driver, &world.config, NULL, 0), ==, 0);
    for (n = 0; n < steps || world.device.used < 2 * round; n++) {
        uint32_t which = random_below(&world.random, 32);

        if (which < 15) {
            step_add(&world);
        } else if (which < 30) {
            step_collect(&world);
        } else if (which < 31) {
            step_device(&world);
        } else {
            vring_driver_publish(&world.driver, packed);
        }
    }
    g_assert_true(num == 1 || world.batches > 0);
    g_queue_clear(&world.device.ids);
    g_queue_clear(&world.device.strides);
    g_queue_clear(&world.lengths);
    g_queue_clear(&world.expected);
    vring_driver_cleanup(&world.driver);
    guest_ring_free(&world.config);
}

static void test_split(void)
{
    uint64_t seed = random_seed();

    run_history(1, false, seed);
    run_history(2, false, seed);
    run_history(64, false, seed);
    run_history(32768, false, seed);
}

static void test_packed(void)
{
    uint64_t seed = random_seed();

    run_history(1, true, seed);
    run_history(3, true, seed);
    run_history(7, true, seed);
    run_history(255, true, seed);
    run_history(32768, true, seed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vring-batches/split", test_split);
    g_test_add_func("/vring-batches/packed", test_packed);
    return g_test_run();
}
