/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's side of the scripted VMM: its driver, its packets.  See vmm.h. */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/vmm.h"
#include "util/event-notifier.h"

#define HEADER_SIZE 12u

static bool has(const Vmm *v, unsigned int bit)
{
    return v->features & VIRTIO_F_BIT(bit);
}

void vmm_make_ring(Vmm *v, unsigned int q)
{
    VmmRing *ring = &v->rings[q];
    uint8_t *host = v->regions[q].host;

    if (ring->made) {
        vring_driver_cleanup(&ring->driver);
    }
    ring->config = (VringConfig){
        .num = v->num,
        .packed = has(v, VIRTIO_F_RING_PACKED),
        .event_idx = has(v, VIRTIO_F_EVENT_IDX),
        .in_order = has(v, VIRTIO_F_IN_ORDER),
        .areas = { host, host + VMM_DRIVER_AREA, host + VMM_DEVICE_AREA },
    };
    ring->made = true;
    ring->next = 0;
    g_assert_cmpint(vring_driver_init(&ring->driver, &ring->config, NULL, 0), ==, 0);
}

uint32_t vmm_expected_base(const Vmm *v, unsigned int q)
{
    const VringDriver *driver = &v->rings[q].driver;
    uint16_t used = driver->used_idx;

    if (!driver->packed) {
        return used;
    }
    used |= vring_packed_wrap(driver->used_flags);
    return used | (uint32_t)used << 16;
}

uint64_t vmm_buffer_gpa(unsigned int q, unsigned int i)
{
    g_assert_cmpuint(i, <, 256);
    return UINT64_C(0x100000) + (uint64_t)(q * 256 + i) * VMM_BUFFER;
}

uint8_t *vmm_buffer(const Vmm *v, unsigned int q, unsigned int i)
{
    const VmmRegion *region = &v->regions[VMM_DATA];

    return region->host + (vmm_buffer_gpa(q, i) - region->gpa);
}

static void kick(Vmm *v, unsigned int q)
{
    VmmRing *ring = &v->rings[q];

    vring_driver_publish(&ring->driver, ring->config.packed);
    if (vring_driver_needs_kick(&ring->driver, ring->config.packed) && ring->kick >= 0) {
        EventNotifier notifier = { ring->kick };

        event_notifier_set(&notifier);
    }
}

void vmm_add(Vmm *v, unsigned int q, uint64_t gpa, uint32_t len, uint32_t cookie)
{
    VmmRing *ring = &v->rings[q];
    VringSegment seg = { gpa, len, q % 2 ? 0 : VRING_DESC_F_WRITE };

    g_assert_true(vring_driver_has_room(&ring->driver, 1));
    vring_driver_add(&ring->driver, ring->config.packed, &seg, 1, cookie);
    kick(v, q);
}

void vmm_post_rx(Vmm *v, unsigned int q, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        vmm_add(v, q, vmm_buffer_gpa(q, i), VMM_BUFFER, i);
    }
}

/*
 * True if the descriptor has become readable in time; takes what it has.  The main loop goes on
 * meanwhile, if this is its thread, for a data queue may wait for what an IOThread tells there.
 */
static bool take_wakeup(int fd, int timeout_ms)
{
    const int64_t deadline = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    EventNotifier notifier = { fd };

    while (poll(&pfd, 1, timeout_ms ? 1 : 0) == 0) {
        if (g_get_monotonic_time() >= deadline) {
            return false;
        }
        if (gettid() == getpid()) {
            g_main_context_iteration(NULL, FALSE);
        }
    }
    return event_notifier_test_and_clear(&notifier) == 1;
}

bool vmm_has_error(Vmm *v, unsigned int q)
{
    return take_wakeup(v->rings[q].err, 0);
}

void vmm_await_error(Vmm *v, unsigned int q)
{
    g_assert_true(take_wakeup(v->rings[q].err, VMM_WAIT_MS));
}

bool vmm_has_call(Vmm *v, unsigned int q)
{
    return take_wakeup(v->rings[q].call, 0);
}

void vmm_wait_used(Vmm *v, unsigned int q, uint32_t *cookie, uint32_t *len)
{
    VmmRing *ring = &v->rings[q];
    const bool packed = ring->config.packed;
    int ret = vring_driver_collect(&ring->driver, packed, cookie, len);

    while (ret == 0) {
        if (!vring_driver_enable_call(&ring->driver, packed)) {
            /* Too long a sleep is a wake-up lost, here or on the way. */
            g_assert_true(take_wakeup(ring->call, VMM_WAIT_MS));
        }
        ret = vring_driver_collect(&ring->driver, packed, cookie, len);
    }
    g_assert_cmpint(ret, ==, 1);
}

/* Lengths vary, so that a packet in the wrong place shows. */
static uint32_t packet_size(uint32_t seq)
{
    return HEADER_SIZE + 60 + seq % 1000;
}

static void fill_packet(uint8_t *data, unsigned int pair, uint32_t seq)
{
    memset(data, 0, HEADER_SIZE);
    memset(data + HEADER_SIZE, (int)(seq % 251), packet_size(seq) - HEADER_SIZE);
    memcpy(data + HEADER_SIZE, &pair, sizeof(pair));
    memcpy(data + HEADER_SIZE + sizeof(pair), &seq, sizeof(seq));
}

static void check_packet(const uint8_t *data, uint32_t len, unsigned int pair, uint32_t seq)
{
    uint8_t expected[VMM_BUFFER];

    fill_packet(expected, pair, seq);
    expected[10] = 1;       /* num_buffers */
    g_assert_cmpmem(data, len, expected, packet_size(seq));
}

static void receive(Vmm *v, unsigned int pair)
{
    const unsigned int q = 2 * pair;
    uint32_t cookie, len;

    vmm_wait_used(v, q, &cookie, &len);
    check_packet(vmm_buffer(v, q, cookie), len, pair, v->rings[q].next++);
    vmm_add(v, q, vmm_buffer_gpa(q, cookie), VMM_BUFFER, cookie);
}

void vmm_echo(Vmm *v, unsigned int pair, unsigned int n)
{
    const unsigned int rx = 2 * pair, tx = rx + 1;
    const unsigned int room = MIN(v->num, VMM_RX_POSTED);
    unsigned int sent, burst, i;

    if (!vring_driver_in_flight(&v->rings[rx].driver, v->rings[rx].config.packed)) {
        vmm_post_rx(v, rx, room);
    }
    for (sent = 0; sent < n; sent += burst) {
        burst = MIN(n - sent, 1 + sent % room);
        for (i = 0; i < burst; i++) {
            uint32_t seq = v->rings[tx].next++;

            fill_packet(vmm_buffer(v, tx, i), pair, seq);
            vmm_add(v, tx, vmm_buffer_gpa(tx, i), packet_size(seq), i);
        }
        for (i = 0; i < burst; i++) {
            receive(v, pair);
        }
        for (i = 0; i < burst; i++) {
            uint32_t cookie, len;

            vmm_wait_used(v, tx, &cookie, &len);
            g_assert_cmpuint(len, ==, 0);
        }
    }
}

void vmm_spoil(Vmm *v, unsigned int q)
{
    VmmRing *ring = &v->rings[q];
    VringDriver *driver = &ring->driver;
    EventNotifier notifier = { ring->kick };

    if (ring->config.packed) {
        le64_store_release(&driver->desc[driver->avail_idx].meta,
                           vring_packed_meta(64, driver->num, driver->avail_flags));
    } else {
        le16_store(&driver->avail->ring[driver->avail_idx & driver->mask], (uint16_t)driver->num);
        le16_store_release(&driver->avail->idx, (uint16_t)(driver->avail_idx + 1));
    }
    event_notifier_set(&notifier);
}
