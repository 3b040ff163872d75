/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: rings whose other side writes whatever it likes.
 *
 * How it works.  The first bytes choose the formats, features and sizes and what is tried:
 * a VringDevice against a guest, a VringDriver against a device, or a shadow virtqueue
 * between both.  The rest is a list of moves: the other side writes into ring areas and
 * memory, we do what we do.  The areas are heap blocks of exactly their size, so the address
 * sanitizer sees a step over the edge; what we were told is checked against what is known.
 */
#include "fuzz.h"

#include <glib.h>
#include <string.h>

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"

#define MEMORY_SIZE 0x2000
#define MAX_NUM 16
#define MAX_CHAIN 32
#define TABLES_IOVA (UINT64_C(1) << 40)

typedef struct Input {
    const uint8_t *data;
    size_t size;
} Input;

typedef struct Fuzz {
    Input in;
    VringConfig guest, shadow;
    VringDevice device;                 /* on the guest's ring */
    VringDriver driver;                 /* on the shadow ring */
    ShadowVirtqueue *svq;
    VringDesc tables[MAX_NUM * VRING_INDIRECT_MAX];
    bool in_flight[MAX_NUM];            /* by id, or by cookie */
    bool broken;
} Fuzz;

static MemoryMap *memory;

static uint8_t next_u8(Input *in)
{
    if (in->size == 0) {
        return 0;
    }
    in->size--;
    return *in->data++;
}

static uint16_t next_u16(Input *in)
{
    uint16_t low = next_u8(in);

    return (uint16_t)(low | next_u8(in) << 8);
}

static VringConfig next_config(Input *in)
{
    static const uint8_t sizes[] = { 1, 2, 4, 8, 16, 3, 5, 7 };
    uint8_t bits = next_u8(in);
    bool packed = bits & 1;

    return (VringConfig){
        .packed = packed,
        .event_idx = bits & 2,
        .indirect = bits & 4,
        .in_order = bits & 8,
        .num = sizes[(bits >> 4) % (packed ? 8 : 5)],
    };
}

/* What the other side does. */

static void write_bytes(Input *in, void *area, size_t area_size)
{
    size_t at = next_u16(in) % area_size;
    size_t n = next_u8(in);

    n = MIN(n, MIN(area_size - at, in->size));
    memcpy((uint8_t *)area + at, in->data, n);
    in->data += n;
    in->size -= n;
}

static void write_area(Input *in, const VringConfig *ring)
{
    switch (next_u8(in) % 4) {
    case 0:
        write_bytes(in, ring->areas.desc, vring_desc_size(ring->num));
        break;
    case 1:
        write_bytes(in, ring->areas.driver, vring_driver_size(ring->num, ring->packed));
        break;
    case 2:
        write_bytes(in, ring->areas.device, vring_device_size(ring->num, ring->packed));
        break;
    default:
        write_bytes(in, memory_map_host(memory, 0, MEMORY_SIZE), MEMORY_SIZE);
        break;
    }
}

static void write_desc(Input *in, const VringConfig *ring)
{
    uint32_t i = next_u8(in) % ring->num;
    uint64_t addr = next_u16(in);
    uint32_t len = next_u16(in);
    uint16_t flags = next_u16(in);
    uint16_t next = next_u8(in);

    if (ring->packed) {
        guest_packed_desc(ring, i, addr, len, next, flags);
    } else {
        guest_split_desc(ring, i, addr, len, flags, next);
    }
}

static void write_avail(Input *in, const VringConfig *ring)
{
    VringAvail *avail = ring->areas.driver;

    if (!ring->packed) {
        guest_split_avail(ring, le16_load(&avail->idx), next_u8(in));
    }
}

static void write_used(Input *in, const VringConfig *ring)
{
    VringUsed *used = ring->areas.device;

    if (!ring->packed) {
        uint16_t idx = le16_load(&used->idx);

        le32_store(&used->ring[idx % ring->num].id, next_u8(in));
        le32_store(&used->ring[idx % ring->num].len, next_u16(in));
        le16_store_release(&used->idx, (uint16_t)(idx + 1));
    }
}

static void other_side_moves(Fuzz *fuzz, const VringConfig *ring)
{
    switch (next_u8(&fuzz->in) % 4) {
    case 0:
        write_area(&fuzz->in, ring);
        break;
    case 1:
        write_desc(&fuzz->in, ring);
        break;
    case 2:
        write_avail(&fuzz->in, ring);
        break;
    default:
        write_used(&fuzz->in, ring);
        break;
    }
}

/* A VringDevice. */

static void device_take(Fuzz *fuzz, bool untake)
{
    VringSegment seg[MAX_CHAIN];
    uint16_t id = 0;
    int n = vring_device_take(&fuzz->device, fuzz->guest.packed, memory, seg, MAX_CHAIN, &id), i;

    fuzz->broken |= n < 0;
    if (n <= 0) {
        return;
    }
    g_assert_cmpint(n, <=, MAX_CHAIN);
    g_assert_cmpuint(id, <, fuzz->guest.num);
    g_assert_false(fuzz->in_flight[id]);
    for (i = 0; i < n; i++) {
        g_assert_cmpuint(seg[i].len, >, 0);
        g_assert_cmpuint(seg[i].flags & ~VRING_DESC_F_WRITE, ==, 0);
        g_assert_true(i == 0 || seg[i].flags >= seg[i - 1].flags);
    }
    if (untake) {
        vring_device_untake(&fuzz->device, fuzz->guest.packed, id);
    } else {
        fuzz->in_flight[id] = true;
    }
}

static void device_put(Fuzz *fuzz)
{
    uint16_t id = next_u8(&fuzz->in) % fuzz->guest.num;

    if (fuzz->in_flight[id]) {
        /* With IN_ORDER the ring has it until those before it are put: no new one has its id. */
        fuzz->in_flight[id] = false;
        vring_device_put(&fuzz->device, fuzz->guest.packed, id, next_u16(&fuzz->in));
    }
}

static void fuzz_device(Fuzz *fuzz)
{
    const bool packed = fuzz->guest.packed;
    unsigned int i;

    g_assert_cmpint(vring_device_init(&fuzz->device, &fuzz->guest), ==, 0);
    while (fuzz->in.size && !fuzz->broken) {
        switch (next_u8(&fuzz->in) % 8) {
        case 0:
        case 1:
            device_take(fuzz, false);
            break;
        case 2:
            device_take(fuzz, true);
            break;
        case 3:
            device_put(fuzz);
            break;
        case 4:
            vring_device_publish(&fuzz->device, packed);
            vring_device_needs_call(&fuzz->device, packed);
            break;
        case 5:
            if (next_u8(&fuzz->in) & 1) {
                vring_device_enable_kick(&fuzz->device, packed);
            } else {
                vring_device_disable_kick(&fuzz->device, packed);
            }
            break;
        default:
            other_side_moves(fuzz, &fuzz->guest);
            break;
        }
    }
    vring_device_settle(&fuzz->device, false, NULL);
    vring_device_publish(&fuzz->device, packed);
    for (i = 0; i < fuzz->guest.num; i++) {
        g_assert_false(vring_device_is_in_flight(&fuzz->device, i));
    }
    vring_device_cleanup(&fuzz->device);
}

/* A VringDriver. */

static void driver_add(Fuzz *fuzz)
{
    VringSegment seg[MAX_CHAIN];
    unsigned int cookie = next_u8(&fuzz->in) % fuzz->shadow.num;
    unsigned int n = 1 + next_u8(&fuzz->in) % 20, i;

    if (fuzz->in_flight[cookie] || !vring_driver_has_room(&fuzz->driver, n)) {
        return;
    }
    for (i = 0; i < n; i++) {
        seg[i] = (VringSegment){ i, 8, i & 1 ? VRING_DESC_F_WRITE : 0 };
    }
    vring_driver_add(&fuzz->driver, fuzz->shadow.packed, seg, n, cookie);
    fuzz->in_flight[cookie] = true;
}

static void driver_collect(Fuzz *fuzz)
{
    uint32_t cookie = 0;
    uint32_t len = 0;
    int ret = vring_driver_collect(&fuzz->driver, fuzz->shadow.packed, &cookie, &len);

    fuzz->broken |= ret < 0;
    if (ret == 1) {
        g_assert_cmpuint(cookie, <, fuzz->shadow.num);
        g_assert_true(fuzz->in_flight[cookie]);
        g_assert_cmpuint(len, <=, 8 * 10);
        fuzz->in_flight[cookie] = false;
    }
    g_assert_cmpuint(fuzz->driver.num_free, <=, fuzz->shadow.num);
}

static void fuzz_driver(Fuzz *fuzz)
{
    const bool packed = fuzz->shadow.packed;

    g_assert_cmpint(vring_driver_init(&fuzz->driver, &fuzz->shadow, fuzz->tables, TABLES_IOVA),
                    ==, 0);
    while (fuzz->in.size && !fuzz->broken) {
        switch (next_u8(&fuzz->in) % 8) {
        case 0:
        case 1:
            driver_add(fuzz);
            break;
        case 2:
            vring_driver_publish(&fuzz->driver, packed);
            vring_driver_needs_kick(&fuzz->driver, packed);
            break;
        case 3:
        case 4:
            driver_collect(fuzz);
            break;
        case 5:
            if (next_u8(&fuzz->in) & 1) {
                vring_driver_enable_call(&fuzz->driver, packed);
            } else {
                vring_driver_disable_call(&fuzz->driver, packed);
            }
            break;
        default:
            other_side_moves(fuzz, &fuzz->shadow);
            break;
        }
    }
    vring_driver_cleanup(&fuzz->driver);
}

/* A shadow virtqueue. */

static void svq_start(Fuzz *fuzz)
{
    const ShadowVirtqueueConfig config = {
        .map = &memory,
        .guest = fuzz->guest,
        .shadow = fuzz->shadow,
        .tables = fuzz->tables,
        .tables_iova = TABLES_IOVA,
        .guest_kick_fd = -1,
        .guest_call_fd = -1,
        .guest_err_fd = -1,
        .device_kick_fd = -1,
        .device_call_fd = -1,
    };
    g_autoptr(GError) err = NULL;

    /* A guest may have moved the used index: then it does not start. */
    fuzz->broken = shadow_virtqueue_start(fuzz->svq, &config, &err) < 0;
    g_assert_cmpint(fuzz->broken, ==, err != NULL);
}

static void svq_stop(Fuzz *fuzz)
{
    if (!fuzz->broken) {
        shadow_virtqueue_detach(fuzz->svq);
        shadow_virtqueue_stop(fuzz->svq, false, &fuzz->guest.base);
    }
}

static void fuzz_engine(Fuzz *fuzz)
{
    fuzz->svq = shadow_virtqueue_new("fuzz");
    svq_start(fuzz);
    while (fuzz->in.size && !fuzz->broken) {
        switch (next_u8(&fuzz->in) % 8) {
        case 0:
        case 1:
            g_assert_cmpuint(shadow_virtqueue_offer(fuzz->svq), <=, SVQ_BURST);
            break;
        case 2:
        case 3:
            g_assert_cmpuint(shadow_virtqueue_return(fuzz->svq), <=, SVQ_BURST);
            break;
        case 4:
            if (next_u8(&fuzz->in) % 4 == 0) {
                svq_stop(fuzz);
                svq_start(fuzz);
            }
            break;
        case 5:
            other_side_moves(fuzz, &fuzz->shadow);
            break;
        default:
            other_side_moves(fuzz, &fuzz->guest);
            break;
        }
    }
    svq_stop(fuzz);
    shadow_virtqueue_free(fuzz->svq);
}

static void say_nothing(const char *domain, GLogLevelFlags level, const char *message, void *opaque)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(Fuzz *) = { fuzz_device, fuzz_driver, fuzz_engine };
    const GuestRegion regions[] = {
        { 0, MEMORY_SIZE, 0 },
        { MEMORY_SIZE, MEMORY_SIZE, 0x100000 },
    };
    g_autofree Fuzz *fuzz = g_new0(Fuzz, 1);
    unsigned int target;

    if (!memory) {
        memory = guest_memory_new(regions, G_N_ELEMENTS(regions));
        g_log_set_default_handler(say_nothing, NULL);
    }
    memset(memory_map_host(memory, 0, MEMORY_SIZE), 0, MEMORY_SIZE);
    fuzz->in = (Input){ data, size };
    target = next_u8(&fuzz->in) % G_N_ELEMENTS(targets);
    fuzz->guest = next_config(&fuzz->in);
    fuzz->shadow = next_config(&fuzz->in);
    guest_ring_alloc(&fuzz->guest);
    guest_ring_alloc(&fuzz->shadow);
    targets[target](fuzz);
    guest_ring_free(&fuzz->guest);
    guest_ring_free(&fuzz->shadow);
    return 0;
}
