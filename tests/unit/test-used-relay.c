/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why the device cannot work a guest's available ring and ours of used buffers: two stories of a used
 * buffer that nobody hears of, told in docs/devel/used-relay.rst.
 *
 * How it works.  The device has the guest's descriptor table and available ring, and a used ring of
 * the relay's.  The guest has a used ring of its own, which only the relay writes, and the relay
 * runs only when the device notifies.  If one of these tests should fail some day, a used relay
 * can be built.
 */
#include <glib.h>

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"

#define NUM 8

typedef struct Relay {
    VringConfig guest;          /* the guest's ring */
    VringConfig ours;           /* of which the device has the device area */
    VringDriver driver;
    VringDevice device;
    unsigned int notified;      /* times that the device would have woken us */
} Relay;

static void relay_init(Relay *r, bool event_idx)
{
    VringConfig split;

    *r = (Relay){ .guest = { .num = NUM, .event_idx = event_idx } };
    r->ours = r->guest;
    guest_ring_alloc(&r->guest);
    guest_ring_alloc(&r->ours);
    split = r->guest;
    split.areas.device = r->ours.areas.device;
    g_assert_cmpint(vring_driver_init(&r->driver, &r->guest, NULL, 0), ==, 0);
    g_assert_cmpint(vring_device_init(&r->device, &split), ==, 0);
}

static void relay_cleanup(Relay *r)
{
    vring_driver_cleanup(&r->driver);
    vring_device_cleanup(&r->device);
    guest_ring_free(&r->guest);
    guest_ring_free(&r->ours);
}

static void guest_offers(Relay *r)
{
    const VringSegment seg = { 0x1000, 64, VRING_DESC_F_WRITE };

    vring_driver_add(&r->driver, false, &seg, 1, 0);
    vring_driver_publish(&r->driver, false);
}

/* Uses a buffer, and notifies as section 2.7.7 has it. */
static void device_uses(Relay *r)
{
    VringSegment seg[NUM];
    uint16_t id = 0;

    g_assert_cmpint(vring_device_take(&r->device, false, NULL, seg, NUM, &id), ==, 1);
    vring_device_put(&r->device, false, id, 1);
    vring_device_publish(&r->device, false);
    r->notified += vring_device_needs_call(&r->device, false);
}

/* What the relay does when it is woken: the used ring is ours up to here. */
static void relay_wakes(Relay *r)
{
    const VringUsed *from = r->ours.areas.device;
    VringUsed *to = r->guest.areas.device;
    uint16_t i;

    for (i = le16_load(&to->idx); i != le16_load(&from->idx); i++) {
        le32_store(&to->ring[i % NUM].id, le32_load(&from->ring[i % NUM].id));
        le32_store(&to->ring[i % NUM].len, le32_load(&from->ring[i % NUM].len));
    }
    le16_store_release(&to->idx, i);
}

static bool guest_collects(Relay *r)
{
    uint32_t cookie, len;

    return vring_driver_collect(&r->driver, false, &cookie, &len) == 1;
}

/* A buffer used in the device's ring, none in the guest's, nobody told, nobody about to look. */
static void assert_stuck(Relay *r)
{
    g_assert_cmpuint(r->notified, ==, 0);
    g_assert_false(vring_driver_has_used(&r->driver, false));
    g_assert_cmpuint(le16_load(&((VringUsed *)r->ours.areas.device)->idx), !=,
                     le16_load(&((VringUsed *)r->guest.areas.device)->idx));
}

/* A driver that polls asks for no interrupts, and waits for ever. */
static void test_polling_driver(const void *event_idx)
{
    Relay r;

    relay_init(&r, event_idx != NULL);
    if (event_idx) {
        /* As Linux does: far away from where it is. */
        le16_store(&((VringAvail *)r.guest.areas.driver)->ring[NUM], UINT16_MAX);
    }
    vring_driver_disable_call(&r.driver, false);
    guest_offers(&r);
    device_uses(&r);
    assert_stuck(&r);
    relay_cleanup(&r);
}

/* A driver that polls a little, allows interrupts, and looks once more, as it should. */
static void test_driver_that_looks_once_more(const void *event_idx)
{
    Relay r;

    relay_init(&r, event_idx != NULL);
    g_assert_false(vring_driver_enable_call(&r.driver, false));
    guest_offers(&r);
    guest_offers(&r);
    device_uses(&r);
    g_assert_cmpuint(r.notified, ==, 1);
    r.notified = 0;
    relay_wakes(&r);
    vring_driver_disable_call(&r.driver, false);
    g_assert_true(guest_collects(&r));
    device_uses(&r);
    /* The guest's check after allowing is the whole point of it, and it finds nothing. */
    g_assert_false(vring_driver_enable_call(&r.driver, false));
    assert_stuck(&r);
    /* It was there all the time. */
    relay_wakes(&r);
    g_assert_true(guest_collects(&r));
    relay_cleanup(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/used-relay/polling-driver/flags", NULL, test_polling_driver);
    g_test_add_data_func("/used-relay/polling-driver/event-idx", "", test_polling_driver);
    g_test_add_data_func("/used-relay/driver-that-looks-once-more/flags", NULL,
                         test_driver_that_looks_once_more);
    g_test_add_data_func("/used-relay/driver-that-looks-once-more/event-idx", "",
                         test_driver_that_looks_once_more);
    return g_test_run();
}
