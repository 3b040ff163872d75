/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that writes whatever it likes into its ring: each fault is found on a copy, named,
 * and nothing is taken.  docs/devel/hostile-catalogue.rst says which row is which case.
 */
#include <glib.h>
#include <inttypes.h>

#include "hw/virtio/vring-device.h"
#include "lib/guest.h"
#include "lib/random.h"

#define MEMORY_GPA 0x10000
#define MEMORY_SIZE 0x10000
#define TABLE_GPA 0x18000
#define MAX_CHAIN 64

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define AVAIL VRING_PACKED_F_AVAIL      /* on the first lap */

/* A guest's ring with the device that we are, and memory for tables. */
typedef struct Guest {
    VringConfig config;
    VringDevice device;
    MemoryMap *memory;
    VringDesc *table;           /* at TABLE_GPA */
    VringSegment seg[MAX_CHAIN];
} Guest;

static void guest_init(Guest *guest, uint32_t num, bool packed)
{
    const GuestRegion region = { MEMORY_GPA, MEMORY_SIZE, MEMORY_GPA };

    *guest = (Guest){ .config = { .num = num, .packed = packed, .indirect = true } };
    guest->memory = guest_memory_new(&region, 1);
    guest->table = memory_map_host(guest->memory, TABLE_GPA, 0x1000);
    guest_ring_alloc(&guest->config);
    g_assert_cmpint(vring_device_init(&guest->device, &guest->config), ==, 0);
}

static void guest_cleanup(Guest *guest)
{
    vring_device_cleanup(&guest->device);
    guest_ring_free(&guest->config);
    guest_memory_free(guest->memory);
}

static unsigned int in_flight(const Guest *guest)
{
    unsigned int i, n = 0;

    for (i = 0; i < guest->device.num; i++) {
        n += vring_device_is_in_flight(&guest->device, i);
    }
    return n;
}

static int guest_take(Guest *guest, uint16_t *id)
{
    return vring_device_take(&guest->device, guest->config.packed, guest->memory, guest->seg,
                             MAX_CHAIN, id);
}

static void assert_error(const VringError *error, const char *what, const char *section,
                         uint32_t index, uint64_t value)
{
    g_assert_cmpstr(error->what, ==, what);
    g_assert_cmpstr(error->section, ==, section);
    g_assert_cmpuint(error->index, ==, index);
    g_assert_cmphex(error->value, ==, value);
}

static void assert_refuses(Guest *guest, const char *what, const char *section, uint32_t index,
                           uint64_t value)
{
    uint32_t before = in_flight(guest);
    uint64_t taken = guest->device.inflight->taken;
    VringBase base = vring_device_base(&guest->device);
    uint16_t id = 0;

    g_assert_cmpint(guest_take(guest, &id), ==, -EPROTO);
    assert_error(&guest->device.error, what, section, index, value);
    /* Nothing was taken. */
    g_assert_cmpuint(in_flight(guest), ==, before);
    g_assert_cmpuint(guest->device.inflight->taken, ==, taken);
    g_assert_cmpuint(vring_device_base(&guest->device).avail, ==, base.avail);
}

static void assert_takes(Guest *guest, unsigned int n, uint16_t expected_id)
{
    uint16_t id = 0;

    g_assert_cmpint(guest_take(guest, &id), ==, n);
    g_assert_cmpuint(id, ==, expected_id);
}

/* One buffer with one fault in it. */
typedef struct Desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;      /* packed: the id */
} Desc;

typedef struct Fault {
    const char *name;
    bool packed;
    Desc desc[4];       /* of a ring of 4 */
    Desc table[4];      /* at TABLE_GPA */
    uint16_t head;      /* split */
    const char *what, *section;
    uint32_t index;
    uint64_t value;
} Fault;

static const Fault faults[] = {
    { "head-not-below-size", false, .head = 4,
      .what = "available head is not below the queue size", .section = "2.7.6", .value = 4 },
    { "head-negative", false, .head = 0xffff,
      .what = "available head is not below the queue size", .section = "2.7.6", .value = 0xffff },
    { "next-not-below-size", false, { { 0, 1, NEXT, 4 } },
      .what = "next is not below the queue size", .section = "2.7.5", .value = 4 },
    { "next-negative", false, { { 0, 1, NEXT, 0xffff } },
      .what = "next is not below the queue size", .section = "2.7.5", .value = 0xffff },
    { "chain-of-one-loops", false, { { 0, 1, NEXT, 0 } },
      .what = "descriptor chain loops or is longer than the queue", .section = "2.7.5.2",
      .value = 4 },
    { "chain-of-two-loops", false, { { 0, 1, NEXT, 3 }, [3] = { 0, 1, NEXT, 0 } }, .head = 3,
      .what = "descriptor chain loops or is longer than the queue", .section = "2.7.5.2",
      .index = 3, .value = 4 },
    { "length-0", false, { { 0, 1, NEXT, 1 }, { 0, 0, 0, 0 } },
      .what = "descriptor of length 0", .section = NULL, .index = 1 },
    { "length-0-loops", false, { { 0, 0, NEXT, 0 } },
      .what = "descriptor of length 0", .section = NULL },
    { "readable-after-writable", false, { { 0, 1, NEXT | WRITE, 1 }, { 0, 1, 0, 0 } },
      .what = "device-readable descriptor after a writable one", .section = "2.7.4.2",
      .index = 1 },
    { "indirect-and-next", false, { { TABLE_GPA, 16, INDIRECT | NEXT, 1 } },
      .what = "descriptor has both INDIRECT and NEXT", .section = "2.7.5.3.1",
      .value = INDIRECT | NEXT },
    { "table-length-0", false, { { TABLE_GPA, 0, INDIRECT, 0 } },
      .what = "indirect table's length is not a multiple of 16", .section = "2.7.5.3" },
    { "table-length-odd", false, { { TABLE_GPA, 17, INDIRECT, 0 } },
      .what = "indirect table's length is not a multiple of 16", .section = "2.7.5.3",
      .value = 17 },
    { "table-outside-memory", false, { { 0x100, 16, INDIRECT, 0 } },
      .what = "indirect table leaves the guest's memory", .section = "2.7.5.3",
      .value = 0x100 },
    { "table-at-the-end-of-memory", false,
      { { MEMORY_GPA + MEMORY_SIZE - 8, 16, INDIRECT, 0 } },
      .what = "indirect table leaves the guest's memory", .section = "2.7.5.3",
      .value = MEMORY_GPA + MEMORY_SIZE - 8 },
    { "table-wraps-address-space", false, { { UINT64_MAX - 15, 64, INDIRECT, 0 } },
      .what = "indirect table leaves the guest's memory", .section = "2.7.5.3",
      .value = UINT64_MAX - 15 },
    { "table-in-table", false, { { TABLE_GPA, 32, INDIRECT, 0 } },
      { { 0, 1, NEXT, 1 }, { TABLE_GPA, 16, INDIRECT, 0 } },
      .what = "indirect descriptor inside an indirect table", .section = "2.7.5.3.1", .index = 1,
      .value = INDIRECT },
    { "table-next-beyond-table", false, { { TABLE_GPA, 32, INDIRECT, 0 } },
      { { 0, 1, NEXT, 200 } },
      .what = "next is not below the indirect table's size", .section = "2.7.5.3",
      .value = 200 },
    { "table-next-within-ring-beyond-table", false, { { TABLE_GPA, 32, INDIRECT, 0 } },
      { { 0, 1, NEXT, 2 }, { 0, 1, 0, 0 }, { 0, 1, 0, 0 } },
      .what = "next is not below the indirect table's size", .section = "2.7.5.3", .value = 2 },
    { "table-loops", false, { { TABLE_GPA, 32, INDIRECT, 0 } },
      { { 0, 1, NEXT, 1 }, { 0, 1, NEXT, 0 } },
      .what = "indirect table's chain loops", .section = "2.7.5.3", .value = 2 },
    { "table-has-length-0", false, { { TABLE_GPA, 16, INDIRECT, 0 } },
      .what = "descriptor of length 0 in an indirect table", .section = NULL },
    { "table-readable-after-writable", false,
      { { 0, 1, WRITE | NEXT, 1 }, { TABLE_GPA, 16, INDIRECT, 0 } }, { { 0, 1, 0, 0 } },
      .what = "device-readable descriptor after a writable one in an indirect table",
      .section = "2.7.4.2" },

    { "chain-longer-than-ring", true,
      { { 0, 1, AVAIL | NEXT, 0 }, { 0, 1, AVAIL | NEXT, 0 }, { 0, 1, AVAIL | NEXT, 0 },
        { 0, 1, AVAIL | NEXT, 0 } },
      .what = "descriptor chain is longer than what is free of the queue", .section = "2.8.17",
      .value = 5 },
    { "id-not-below-size", true, { { 0, 1, AVAIL, 4 } },
      .what = "buffer id is not below the queue size", .section = "2.8.22", .value = 4 },
    { "id-negative", true, { { 0, 1, AVAIL, 0xffff } },
      .what = "buffer id is not below the queue size", .section = "2.8.22", .value = 0xffff },
    { "length-0", true, { { 0, 1, AVAIL | NEXT, 0 }, { 0, 0, AVAIL, 0 } },
      .what = "descriptor of length 0", .section = NULL },
    { "readable-after-writable", true,
      { { 0, 1, AVAIL | NEXT | WRITE, 0 }, { 0, 1, AVAIL, 0 } },
      .what = "device-readable descriptor after a writable one", .section = "2.8.17",
      .value = AVAIL },
    { "indirect-and-next", true, { { TABLE_GPA, 16, AVAIL | INDIRECT | NEXT, 0 } },
      .what = "indirect descriptor in a chain", .section = "2.8.19",
      .value = AVAIL | INDIRECT | NEXT },
    { "indirect-in-chain", true,
      { { 0, 1, AVAIL | NEXT, 0 }, { TABLE_GPA, 16, AVAIL | INDIRECT, 0 } }, { { 0, 1, 0, 0 } },
      .what = "indirect descriptor in a chain", .section = "2.8.19", .value = AVAIL | INDIRECT },
    { "table-length-0", true, { { TABLE_GPA, 0, AVAIL | INDIRECT, 0 } },
      .what = "indirect table's length is not a multiple of 16", .section = "2.8.7" },
    { "table-longer-than-a-chain", true, { { TABLE_GPA, 0xfffffff0, AVAIL | INDIRECT, 0 } },
      { { 0, 1, 0, 0 } },
      .what = "descriptor of length 0 in an indirect table", .section = NULL, .index = 1 },
    { "table-outside-memory", true,
      { { MEMORY_GPA + MEMORY_SIZE, 16, AVAIL | INDIRECT, 0 } },
      .what = "indirect table leaves the guest's memory", .section = "2.8.7",
      .value = MEMORY_GPA + MEMORY_SIZE },
    { "table-readable-after-writable", true, { { TABLE_GPA, 32, AVAIL | INDIRECT, 0 } },
      { { 0, 1, WRITE, 0 }, { 0, 1, 0, 0 } },
      .what = "device-readable descriptor after a writable one in an indirect table",
      .section = "2.8.17", .index = 1 },
};

static void write_table(Guest *guest, unsigned int i, const Desc *desc)
{
    uint64_t meta = guest->config.packed ? vring_packed_meta(desc->len, desc->next, desc->flags)
                                         : vring_split_meta(desc->len, desc->flags, desc->next);

    le64_store(&guest->table[i].addr, desc->addr);
    le64_store(&guest->table[i].meta, meta);
}

static void write_desc(Guest *guest, unsigned int i, const Desc *desc)
{
    if (guest->config.packed) {
        guest_packed_desc(&guest->config, i, desc->addr, desc->len, desc->next, desc->flags);
    } else {
        guest_split_desc(&guest->config, i, desc->addr, desc->len, desc->flags, desc->next);
    }
}

static void test_fault(const void *data)
{
    const Fault *fault = data;
    unsigned int i;
    Guest guest;

    guest_init(&guest, 4, fault->packed);
    for (i = 0; i < 4; i++) {
        write_desc(&guest, i, &fault->desc[i]);
        write_table(&guest, i, &fault->table[i]);
    }
    if (!fault->packed) {
        guest_split_avail(&guest.config, 0, fault->head);
    }
    assert_refuses(&guest, fault->what, fault->section, fault->index, fault->value);
    /* Again, and no step further. */
    assert_refuses(&guest, fault->what, fault->section, fault->index, fault->value);
    guest_cleanup(&guest);
}

static void test_indirect_not_negotiated(const void *packed)
{
    Guest guest;

    guest_init(&guest, 4, packed != NULL);
    guest.device.indirect = false;
    if (packed) {
        guest_packed_desc(&guest.config, 0, TABLE_GPA, 16, 0, AVAIL | INDIRECT);
    } else {
        guest_split_desc(&guest.config, 0, TABLE_GPA, 16, INDIRECT, 0);
        guest_split_avail(&guest.config, 0, 0);
    }
    assert_refuses(&guest, "indirect descriptor, but INDIRECT_DESC is not negotiated",
                   packed ? "2.8.19" : "2.7.5.3.1", 0, TABLE_GPA);
    guest_cleanup(&guest);
}

static void test_index_jumps(void)
{
    VringAvail *avail;
    Guest guest;

    guest_init(&guest, 4, false);
    guest_split_desc(&guest.config, 0, 0, 1, 0, 0);
    avail = guest.config.areas.driver;
    le16_store(&avail->idx, 5);
    assert_refuses(&guest, "available index jumps further than the queue is long", "2.7.6", 0, 5);
    /* Backwards is as far as it gets. */
    le16_store(&avail->idx, 0xffff);
    assert_refuses(&guest, "available index jumps further than the queue is long", "2.7.6", 0,
                   0xffff);
    le16_store(&avail->idx, 0);
    g_assert_cmpint(guest_take(&guest, &(uint16_t){ 0 }), ==, 0);
    guest_cleanup(&guest);
}

static void test_split_head_twice(void)
{
    Guest guest;

    guest_init(&guest, 4, false);
    guest_split_desc(&guest.config, 1, 0, 1, 0, 0);
    guest_split_avail(&guest.config, 0, 1);
    guest_split_avail(&guest.config, 1, 1);
    assert_takes(&guest, 1, 1);
    assert_refuses(&guest, "available head is in flight already", "2.7.13.1", 1, 1);
    guest_cleanup(&guest);
}

static void test_packed_id_twice(void)
{
    Guest guest;

    guest_init(&guest, 4, true);
    guest_packed_desc(&guest.config, 0, 0, 1, 2, AVAIL);
    guest_packed_desc(&guest.config, 1, 0, 1, 2, AVAIL);
    assert_takes(&guest, 1, 2);
    assert_refuses(&guest, "buffer id is in flight already", "2.8.21.1", 1, 2);
    guest_cleanup(&guest);
}

/* The guest makes descriptors available that we still have: no more than the ring is long. */
static void test_packed_more_than_the_ring(void)
{
    const uint16_t second_lap = VRING_PACKED_F_USED;
    unsigned int i;
    Guest guest;

    guest_init(&guest, 4, true);
    for (i = 0; i < 4; i++) {
        guest_packed_desc(&guest.config, i, 0, 1, (uint16_t)i, AVAIL);
        assert_takes(&guest, 1, (uint16_t)i);
    }
    guest_packed_desc(&guest.config, 0, 0, 1, 0, second_lap);
    assert_refuses(&guest, "descriptor chain is longer than what is free of the queue", "2.8.17", 0,
                   1);
    guest_cleanup(&guest);
}

static void test_split_more_than_the_ring(void)
{
    unsigned int i;
    Guest guest;

    guest_init(&guest, 4, false);
    for (i = 0; i < 4; i++) {
        guest_split_desc(&guest.config, i, 0, 1, 0, 0);
        guest_split_avail(&guest.config, (uint16_t)i, (uint16_t)i);
        assert_takes(&guest, 1, (uint16_t)i);
    }
    guest_split_avail(&guest.config, 4, 2);
    assert_refuses(&guest, "available head is in flight already", "2.7.13.1", 4, 2);
    g_assert_cmpuint(in_flight(&guest), ==, 4);
    guest_cleanup(&guest);
}

/* The limit of a table is not used for the ring after it. */
static void test_direct_after_indirect(void)
{
    static const Desc table[] = {
        { 0, 1, NEXT, 9 }, [9] = { 0, 1, NEXT, 15 }, [15] = { 0, 1, 0, 0 },
    };
    unsigned int i;
    Guest guest;

    guest_init(&guest, 4, false);
    for (i = 0; i < G_N_ELEMENTS(table); i++) {
        write_table(&guest, i, &table[i]);
    }
    guest_split_desc(&guest.config, 0, TABLE_GPA, 16 * 16, INDIRECT, 0);
    guest_split_desc(&guest.config, 1, 0, 1, NEXT, 9);
    guest_split_avail(&guest.config, 0, 0);
    guest_split_avail(&guest.config, 1, 1);
    assert_takes(&guest, 3, 0);
    assert_refuses(&guest, "next is not below the queue size", "2.7.5", 1, 9);
    guest_cleanup(&guest);
}

/* More elements than the caller has room for, whichever way they come. */
static void test_table_longer_than_room(const void *packed)
{
    const Desc desc = { 0, 1, packed ? 0 : NEXT, 0 };
    unsigned int i;
    Guest guest;

    guest_init(&guest, 4, packed != NULL);
    for (i = 0; i < MAX_CHAIN + 1; i++) {
        Desc linked = desc;

        linked.next = packed ? 0 : (uint16_t)(i + 1);
        write_table(&guest, i, &linked);
    }
    if (packed) {
        guest_packed_desc(&guest.config, 0, TABLE_GPA, 16 * (MAX_CHAIN + 1), 0, AVAIL | INDIRECT);
    } else {
        guest_split_desc(&guest.config, 0, TABLE_GPA, 16 * (MAX_CHAIN + 1), INDIRECT, 0);
        guest_split_avail(&guest.config, 0, 0);
    }
    assert_refuses(&guest, "indirect table is longer than a chain may be",
                   packed ? "2.8.17" : "2.7.5.3.1", 0, MAX_CHAIN + 1);
    guest_cleanup(&guest);
}

/* A fault in each place of a chain: nothing of the chain is kept, the next one is taken. */
static void test_fault_in_each_place(const void *packed)
{
    unsigned int bad, i;

    for (bad = 0; bad < 4; bad++) {
        Guest guest;
        uint16_t id = 0;

        guest_init(&guest, 4, packed != NULL);
        for (i = 0; i < 4; i++) {
            const uint16_t more = i < 3 ? NEXT : 0;

            write_desc(&guest, i, &(Desc){ 0, i != bad, (packed ? AVAIL : 0) | more,
                                           packed ? 0 : (uint16_t)(i + 1) });
        }
        if (!packed) {
            guest_split_avail(&guest.config, 0, 0);
        }
        g_assert_cmpint(guest_take(&guest, &id), ==, -EPROTO);
        g_assert_cmpuint(in_flight(&guest), ==, 0);
        write_desc(&guest, bad, &(Desc){ 0, 1, packed ? AVAIL : 0, 0 });
        assert_takes(&guest, bad + 1, 0);
        guest_cleanup(&guest);
    }
}

static void test_start_refused(void)
{
    VringConfig config = { .num = 4 };
    VringDevice device;

    guest_ring_alloc(&config);
    config.num = 0;
    g_assert_cmpint(vring_device_init(&device, &config), ==, -EINVAL);
    config.num = 3;
    g_assert_cmpint(vring_device_init(&device, &config), ==, -EINVAL);
    config.num = 4;
    config.areas.device = (uint8_t *)config.areas.device + 2;
    g_assert_cmpint(vring_device_init(&device, &config), ==, -EINVAL);
    config.areas.device = (uint8_t *)config.areas.device - 2;
    config.base.avail = 5;
    g_assert_cmpint(vring_device_init(&device, &config), ==, -EPROTO);
    assert_error(&device.error, "used index in the ring does not fit the base", "2.7.8", 5, 0);
    guest_ring_free(&config);
}

static void test_packed_base_refused(void)
{
    /* avail and used: beyond the ring, used ahead of avail, more than a ring between them. */
    static const VringBase bases[] = {
        { 0x8004, 0x8000 }, { 0x8000, 0x8004 }, { 0xffff, 0x8000 }, { 0x8001, 0x8002 },
        { 0x0002, 0x8001 },
    };
    VringConfig config = { .num = 4, .packed = true };
    VringDevice device;
    unsigned int i;

    guest_ring_alloc(&config);
    for (i = 0; i < G_N_ELEMENTS(bases); i++) {
        config.base = bases[i];
        g_assert_cmpint(vring_device_init(&device, &config), ==, -EPROTO);
        g_assert_cmpstr(device.error.section, ==, "2.8.1");
    }
    config.base = (VringBase){ 0x0001, 0x8001 };     /* a full ring */
    g_assert_cmpint(vring_device_init(&device, &config), ==, 0);
    vring_device_cleanup(&device);
    guest_ring_free(&config);
}

/* Rings are found by their user addresses: each area whole in one region, or not at all. */
static void test_ring_address(void)
{
    const GuestRegion regions[] = { { 0x1000, 0x1000, 0x1000 }, { 0x2000, 0x1000, 0x2000 } };
    MemoryMap *memory = guest_memory_new(regions, 2);
    const uint64_t top = GUEST_USER_OFFSET + 0x3000;
    const size_t size = vring_desc_size(16);

    g_assert_nonnull(memory_map_host_of_user(memory, top - size, size, NULL));
    g_assert_null(memory_map_host_of_user(memory, top - size + 16, size, NULL));
    g_assert_null(memory_map_host_of_user(memory, top - 0x1000 - 16, size, NULL));
    g_assert_null(memory_map_host_of_user(memory, UINT64_MAX - 15, size, NULL));
    g_assert_null(memory_map_host_of_user(memory, 0, size, NULL));
    guest_memory_free(memory);
}

/*
 * The racer: a thread that rewrites descriptors all the time.  Each value that it writes has
 * a length that tells its flags and its next, so a mixture of two fetches is seen.
 */
#define RACER_TAKES 2000000

typedef struct Racer {
    Guest *guest;
    uint64_t seed;
    _Atomic bool stop;
} Racer;

static uint32_t telling_length(uint16_t flags, uint16_t next_or_id)
{
    return 1 + (((uint32_t)flags & 0xff) << 16 | next_or_id);
}

static uint64_t telling_meta(bool packed, uint16_t flags, uint16_t next)
{
    uint32_t len = telling_length(flags & 7, next);

    return packed ? vring_packed_meta(len, next, flags) : vring_split_meta(len, flags, next);
}

static uint64_t random_meta(Random *random, bool packed)
{
    uint16_t flags = (uint16_t)random_below(random, 4);
    uint16_t next = (uint16_t)random_below(random, 5);

    if (random_one_in(random, 4)) {
        uint32_t len = random_below(random, 4) * 16;

        /* Of a table: its length tells nothing. */
        return packed ? vring_packed_meta(len, next, INDIRECT | AVAIL)
                      : vring_split_meta(len, INDIRECT, next);
    }
    return telling_meta(packed, flags | (packed ? AVAIL : 0), next);
}

static void *racer_thread(void *opaque)
{
    Racer *racer = opaque;
    Guest *guest = racer->guest;
    VringDesc *desc = guest->config.areas.desc;
    Random random = { racer->seed };

    while (!atomic_load_explicit(&racer->stop, memory_order_relaxed)) {
        unsigned int i = random_below(&random, 4);
        uint64_t addr = random_one_in(&random, 2) ? TABLE_GPA : MEMORY_GPA + MEMORY_SIZE - 32;

        le64_store(&desc[i].addr, addr);
        le64_store(&desc[i].meta, random_meta(&random, guest->config.packed));
        le64_store(&guest->table[i].meta,
                   telling_meta(guest->config.packed, (uint16_t)random_below(&random, 4),
                                (uint16_t)random_below(&random, 5)));
    }
    return NULL;
}

/* What was taken is something that the racer wrote, each descriptor in one piece. */
static void check_taken(const Guest *guest, int n)
{
    int i;

    g_assert_cmpint(n, <=, MAX_CHAIN);
    for (i = 0; i < n; i++) {
        uint32_t tells = guest->seg[i].len - 1;
        uint16_t flags = (uint16_t)(tells >> 16);

        /* An entry in the unwritten rest of memory has length 0 and is refused. */
        g_assert_cmpuint(tells & 0xffff, <, 5);
        g_assert_cmpuint(flags & WRITE, ==, guest->seg[i].flags);
        g_assert_true(i == n - 1 || guest->config.packed || flags & NEXT);
    }
}

static void test_racer(const void *packed)
{
    Guest guest;
    Racer racer = { .guest = &guest, .seed = random_seed() };
    uint64_t takes = random_steps(RACER_TAKES), taken = 0, n;
    GThread *thread;

    guest_init(&guest, 4, packed != NULL);
    if (!packed) {
        guest_split_avail(&guest.config, 0, 0);
    }
    thread = g_thread_new("racer", racer_thread, &racer);
    for (n = 0; n < takes || !taken; n++) {
        uint16_t id = 0;
        int ret = guest_take(&guest, &id);

        if (ret > 0) {
            check_taken(&guest, ret);
            g_assert_cmpuint(id, <, 4);
            vring_device_untake(&guest.device, guest.config.packed, id);
            taken++;
        } else {
            g_assert_true(ret == 0 || ret == -EPROTO);
        }
    }
    atomic_store(&racer.stop, true);
    g_thread_join(thread);
    g_assert_cmpuint(in_flight(&guest), ==, 0);
    guest_cleanup(&guest);
}

/* The available index bounces: at most a ring's worth is ever taken, whatever it says. */
static void *index_racer_thread(void *opaque)
{
    Racer *racer = opaque;
    VringAvail *avail = racer->guest->config.areas.driver;
    Random random = { racer->seed };

    while (!atomic_load_explicit(&racer->stop, memory_order_relaxed)) {
        le16_store_release(&avail->idx, (uint16_t)random_below(&random, 8));
    }
    return NULL;
}

static void test_index_racer(void)
{
    Guest guest;
    Racer racer = { .guest = &guest, .seed = random_seed() };
    uint64_t takes = random_steps(RACER_TAKES), n;
    GThread *thread;
    unsigned int i;

    guest_init(&guest, 4, false);
    for (i = 0; i < 4; i++) {
        guest_split_desc(&guest.config, i, 0, 1, 0, 0);
        le16_store(&((VringAvail *)guest.config.areas.driver)->ring[i], (uint16_t)i);
    }
    thread = g_thread_new("racer", index_racer_thread, &racer);
    for (n = 0; n < takes; n++) {
        uint16_t id = 0;
        int ret = guest_take(&guest, &id);

        g_assert_true(ret == 1 || ret == 0 || ret == -EPROTO);
        g_assert_cmpuint(in_flight(&guest), <=, 4);
    }
    atomic_store(&racer.stop, true);
    g_thread_join(thread);
    guest_cleanup(&guest);
}

/* Loads of shared fields are single-copy atomic: a torn one would mix the two values. */
static void *tearing_thread(void *opaque)
{
    Racer *racer = opaque;
    VringDesc *desc = racer->guest->config.areas.desc;
    VringAvail *avail = racer->guest->config.areas.driver;

    while (!atomic_load_explicit(&racer->stop, memory_order_relaxed)) {
        le64_store(&desc->meta, 0);
        le16_store(&avail->idx, 0x00ff);
        le64_store(&desc->meta, UINT64_MAX);
        le16_store(&avail->idx, 0xff00);
    }
    return NULL;
}

static void test_loads_do_not_tear(void)
{
    Guest guest;
    Racer racer = { .guest = &guest };
    uint64_t loads = random_steps(RACER_TAKES), n;
    const VringDesc *desc;
    const VringAvail *avail;
    GThread *thread;

    guest_init(&guest, 4, false);
    desc = guest.config.areas.desc;
    avail = guest.config.areas.driver;
    thread = g_thread_new("racer", tearing_thread, &racer);
    for (n = 0; n < loads; n++) {
        uint64_t meta = le64_load(&desc->meta);
        uint16_t idx = le16_load(&avail->idx);

        g_assert_true(meta == 0 || meta == UINT64_MAX);
        g_assert_true(idx == 0 || idx == 0x00ff || idx == 0xff00);
    }
    atomic_store(&racer.stop, true);
    g_thread_join(thread);
    guest_cleanup(&guest);
}

static void add_both(const char *name, GTestDataFunc test)
{
    g_autofree char *split = g_strdup_printf("/guest-ring/split-%s", name);
    g_autofree char *packed = g_strdup_printf("/guest-ring/packed-%s", name);

    g_test_add_data_func(split, NULL, test);
    g_test_add_data_func(packed, "packed", test);
}

int main(int argc, char **argv)
{
    unsigned int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(faults); i++) {
        g_autofree char *path = g_strdup_printf("/guest-ring/%s-%s",
                                                faults[i].packed ? "packed" : "split",
                                                faults[i].name);

        g_test_add_data_func(path, &faults[i], test_fault);
    }
    add_both("indirect-not-negotiated", test_indirect_not_negotiated);
    g_test_add_func("/guest-ring/split-index-jumps", test_index_jumps);
    g_test_add_func("/guest-ring/split-head-twice", test_split_head_twice);
    g_test_add_func("/guest-ring/packed-id-twice", test_packed_id_twice);
    g_test_add_func("/guest-ring/split-more-than-the-ring", test_split_more_than_the_ring);
    g_test_add_func("/guest-ring/packed-more-than-the-ring", test_packed_more_than_the_ring);
    g_test_add_func("/guest-ring/split-direct-after-indirect", test_direct_after_indirect);
    add_both("table-longer-than-room", test_table_longer_than_room);
    add_both("fault-in-each-place", test_fault_in_each_place);
    g_test_add_func("/guest-ring/start-refused", test_start_refused);
    g_test_add_func("/guest-ring/packed-base-refused", test_packed_base_refused);
    g_test_add_func("/guest-ring/ring-address", test_ring_address);
    add_both("racer", test_racer);
    g_test_add_func("/guest-ring/split-index-racer", test_index_racer);
    g_test_add_func("/guest-ring/loads-do-not-tear", test_loads_do_not_tear);
    return g_test_run();
}
