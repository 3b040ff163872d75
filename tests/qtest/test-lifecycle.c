/* SPDX-License-Identifier: BSD-3-Clause */
/* A device that is reset, started with other features, stopped and continued. */
#include <string.h>

#include "hw/virtio/features.h"
#include "rig.h"
#include "wait.h"

#define PAIRS 4
#define PACKETS 500
#define ROUNDS 10
#define F_RING_RESET 40
#define UNTOUCHED 0x55

static void start(Rig *rig, const NetConfig *driver)
{
    virtio_net_start(&rig->net, driver);
    rig_set_pairs(rig, driver->pairs);
}

static void check_format(Rig *rig, const char *formats, unsigned int pairs)
{
    SvqdQueue queues[2 * PAIRS];
    unsigned int i;

    svqd_get_queues(rig->svqd, queues, G_N_ELEMENTS(queues));
    for (i = 0; i < G_N_ELEMENTS(queues); i++) {
        g_assert_cmpstr(queues[i].state, ==, i < 2 * pairs ? "running" : "stopped");
        if (i < 2 * pairs) {
            g_assert_cmpstr(queues[i].formats, ==, formats);
        }
    }
}

/* The driver of a next boot need not want what that of the last one had. */
static void restart_with_other_features(const RigFormats *formats)
{
    static const NetConfig drivers[] = {
        { .packed = true, .event_idx = true, .pairs = 4, .rx_size = NET_BUFFER_SIZE },
        { .packed = false, .event_idx = false, .pairs = 2, .rx_size = NET_BUFFER_SIZE },
        { .packed = true, .event_idx = false, .pairs = 1, .rx_size = NET_BUFFER_SIZE },
        { .packed = false, .event_idx = true, .pairs = 4, .rx_size = 512 },
        { .packed = true, .event_idx = true, .pairs = 3, .rx_size = NET_BUFFER_SIZE },
    };
    const RigConfig config = { .formats = formats, .pairs = PAIRS };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    for (i = 0; i < G_N_ELEMENTS(drivers); i++) {
        g_autofree char *expected = g_strdup_printf("%s>%s",
                                                    drivers[i].packed ? "packed" : "split",
                                                    formats->shadow_packed ? "packed" : "split");

        start(&rig, &drivers[i]);
        traffic_run(&rig.traffic, 0, drivers[i].pairs, PACKETS);
        check_format(&rig, expected, drivers[i].pairs);
        virtio_net_reset(&rig.net);
    }
    rig_cleanup(&rig);
}

static void fill_queue(Rig *rig, NetQueue *queue, int byte)
{
    uint8_t *memory = qtest_memory(rig->qtest);
    const uint16_t num = queue->areas.num;
    const bool packed = rig->net.config.packed;

    memset(memory + queue->areas.desc, byte, vring_desc_size(num));
    memset(memory + queue->areas.driver, byte, vring_driver_size(num, packed));
    memset(memory + queue->areas.device, byte, vring_device_size(num, packed));
    memset(memory + queue->buffers, byte, (size_t)num * NET_BUFFER_SIZE);
}

static bool is_filled(const uint8_t *memory, size_t size, uint8_t byte)
{
    return size == 0 || (memory[0] == byte && memcmp(memory, memory + 1, size - 1) == 0);
}

static void check_untouched(Rig *rig, NetQueue *queue)
{
    const uint8_t *memory = qtest_memory(rig->qtest);
    const uint16_t num = queue->areas.num;
    const bool packed = rig->net.config.packed;

    g_assert_true(is_filled(memory + queue->areas.desc, vring_desc_size(num), UNTOUCHED));
    g_assert_true(is_filled(memory + queue->areas.driver, vring_driver_size(num, packed),
                            UNTOUCHED));
    g_assert_true(is_filled(memory + queue->areas.device, vring_device_size(num, packed),
                            UNTOUCHED));
    g_assert_true(is_filled(memory + queue->buffers, (size_t)num * NET_BUFFER_SIZE, UNTOUCHED));
}

/* Packets are under way at the reset.  When it has been done, memory is the guest's alone. */
static void reset_under_traffic(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 2 };
    unsigned int round, i;
    Rig rig;

    rig_init(&rig, &config);
    for (round = 0; round < ROUNDS; round++) {
        start(&rig, &rig.driver);
        traffic_run(&rig.traffic, 0, 2, 100);
        for (i = 0; i < 2; i++) {
            traffic_send(&rig.traffic, i, 100);
        }
        virtio_net_reset(&rig.net);
        for (i = 0; i < 4; i++) {
            fill_queue(&rig, &rig.net.queues[i], UNTOUCHED);
        }
        g_assert_true(svqd_queues_are(rig.svqd, 0, 4, "stopped"));
        for (i = 0; i < 4; i++) {
            check_untouched(&rig, &rig.net.queues[i]);
        }
        traffic_forget(&rig.traffic);
    }
    rig_cleanup(&rig);
}

/* Lets the device take packets for which it has no receive buffers. */
static void fill_up(Rig *rig, unsigned int pair)
{
    const VringDriver *rx = &virtio_net_rx(&rig->net, pair)->vr;

    while (vring_driver_in_flight(rx, rx->packed)) {
        traffic_send(&rig->traffic, pair, 8);
        traffic_drain(&rig->traffic, pair);
    }
    while (traffic_send(&rig->traffic, pair, 8)) {
    }
}

/*
 * Both kinds of buffers are in flight: packets without receive buffers on pair 0, receive buffers
 * without packets on pair 1.  Each is used after the machine goes on, once.
 */
static void stop_and_continue(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 2 };
    unsigned int round;
    Rig rig;

    rig_init_running(&rig, &config);
    for (round = 0; round < ROUNDS; round++) {
        traffic_run(&rig.traffic, 0, 2, 50);
        fill_up(&rig, 0);
        qtest_monitor(rig.qtest, "stop");
        g_assert_true(svqd_queues_are(rig.svqd, 0, 4, "stopped"));
        qtest_monitor(rig.qtest, "cont");
        WAIT_FOR(svqd_queues_are(rig.svqd, 0, 4, "running"));
        virtio_net_fill_rx(&rig.net, 0);
        traffic_settle(&rig.traffic, 0);
        traffic_use_all_rx(&rig.traffic, 1);
    }
    g_assert_cmpuint(rig.traffic.pairs[0].received, ==, rig.traffic.pairs[0].sent);
    g_assert_cmpuint(rig.traffic.pairs[1].received, ==, rig.traffic.pairs[1].sent);
    rig_cleanup(&rig);
}

/* While packets fly in both directions. */
static void stop_and_continue_under_traffic(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 4 };
    unsigned int round, i;
    Rig rig;

    rig_init_running(&rig, &config);
    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < 1 + round; i++) {
            traffic_pump(&rig.traffic, 0, 4);
        }
        qtest_monitor(rig.qtest, "stop");
        qtest_monitor(rig.qtest, "cont");
        traffic_run(&rig.traffic, 0, 4, 50);
    }
    for (i = 0; i < 4; i++) {
        traffic_use_all_rx(&rig.traffic, i);
        g_assert_cmpuint(rig.traffic.pairs[i].lost, ==, 0);
    }
    rig_cleanup(&rig);
}

/* vhost-user has no message for it, so it must not be there to be asked for (2.6.1). */
static void queue_reset_is_not_offered(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 1 };
    Rig rig;

    rig_init(&rig, &config);
    g_assert_cmphex(virtio_pci_get_features(&rig.net.dev) & VIRTIO_F_BIT(F_RING_RESET), ==, 0);
    rig_cleanup(&rig);
}

static void add_tests(void)
{
    rig_add_test_both_formats("/qtest/lifecycle/restart-with-other-features",
                              restart_with_other_features);
    rig_add_test_all_formats("/qtest/lifecycle/reset-under-traffic", reset_under_traffic);
    rig_add_test_all_formats("/qtest/lifecycle/stop-and-continue", stop_and_continue);
    rig_add_test_all_formats("/qtest/lifecycle/stop-and-continue-under-traffic",
                             stop_and_continue_under_traffic);
    rig_add_test_both_formats("/qtest/lifecycle/queue-reset-is-not-offered",
                              queue_reset_is_not_offered);
}

int main(int argc, char **argv)
{
    return rig_run(argc, argv, add_tests);
}
