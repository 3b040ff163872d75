/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest whose ring is wrong loses that queue, and no other, until it resets the device. */
#include "rig.h"
#include "wait.h"

#define PAIRS 2
#define BAD_PAIR 1
#define PACKETS 500
#define RX (2 * BAD_PAIR)
#define TX (2 * BAD_PAIR + 1)

/* What svqd says of them. */
#define LEAVES "broken by the guest: buffer leaves the guest's memory"
#define RX_LEAVES "queue 2: " LEAVES
#define TX_LEAVES "queue 3: " LEAVES
#define TX_MISALIGNED "queue 3: ring of the guest: an area of the queue is misaligned"
#define TX_OUTSIDE "queue 3: its ring is not within the guest's memory"

#define OUTSIDE UINT64_C(0x90000000)    /* neither memory nor anything else */

static void post(Rig *rig, NetQueue *queue, uint64_t addr, uint32_t len, uint32_t flags)
{
    const VringSegment segment = { addr, len, flags };

    vring_driver_add(&queue->vr, queue->vr.packed, &segment, 1, 0);
    virtio_net_publish(&rig->net, queue);
}

static void check_others_run(Rig *rig, unsigned int index)
{
    SvqdQueue queues[2 * PAIRS];
    unsigned int i;

    svqd_get_queues(rig->svqd, queues, G_N_ELEMENTS(queues));
    for (i = 0; i < G_N_ELEMENTS(queues); i++) {
        g_assert_cmpstr(queues[i].state, ==, i == index ? "broken" : "running");
    }
}

/* Queue @index is broken, which was said once, as @words; the other pair goes on; a reset heals. */
static void check_broken_and_heal(Rig *rig, unsigned int index, const char *words)
{
    WAIT_FOR(svqd_queues_are(rig->svqd, index, 1, "broken"));
    traffic_run(&rig->traffic, 0, 1, PACKETS);
    check_others_run(rig, index);
    g_assert_cmpuint(svqd_count_logged(rig->svqd, words), ==, 1);
    g_assert_true(process_is_running(qtest_process(rig->qtest)));

    virtio_net_reset(&rig->net);
    traffic_forget(&rig->traffic);
    virtio_net_start(&rig->net, &rig->driver);
    rig_set_pairs(rig, PAIRS);
    traffic_run(&rig->traffic, 0, PAIRS, PACKETS);
    g_assert_cmpuint(svqd_count_logged(rig->svqd, words), ==, 1);
}

static void start(Rig *rig, const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = PAIRS };

    rig_init_running(rig, &config);
}

static void transmit_buffer_outside_memory(const RigFormats *formats)
{
    Rig rig;

    start(&rig, formats);
    post(&rig, virtio_net_tx(&rig.net, BAD_PAIR), OUTSIDE, 100, 0);
    check_broken_and_heal(&rig, TX, TX_LEAVES);
    rig_cleanup(&rig);
}

static void receive_buffer_outside_memory(const RigFormats *formats)
{
    NetQueue *rx;
    uint32_t cookie, len;
    Rig rig;

    start(&rig, formats);
    /* Its ring is full: a packet makes room for one more. */
    traffic_send(&rig.traffic, BAD_PAIR, 1);
    rx = virtio_net_rx(&rig.net, BAD_PAIR);
    WAIT_FOR(virtio_net_collect(&rig.net, rx, &cookie, &len));
    post(&rig, rx, OUTSIDE, NET_BUFFER_SIZE, VRING_DESC_F_WRITE);
    check_broken_and_heal(&rig, RX, RX_LEAVES);
    rig_cleanup(&rig);
}

/* From within memory to beyond its end. */
static void buffer_leaves_memory(const RigFormats *formats)
{
    Rig rig;

    start(&rig, formats);
    post(&rig, virtio_net_tx(&rig.net, BAD_PAIR), QTEST_MEMORY_SIZE - 64, 128, 0);
    check_broken_and_heal(&rig, TX, TX_LEAVES);
    rig_cleanup(&rig);
}

/* Starts with the descriptor area of BAD_PAIR's transmit queue @bytes further on. */
static void start_with_ring_moved(Rig *rig, const RigFormats *formats, uint64_t bytes)
{
    const RigConfig config = { .formats = formats, .pairs = PAIRS };
    NetQueue *tx;

    rig_init(rig, &config);
    virtio_net_set_up(&rig->net, &rig->driver);
    tx = virtio_net_tx(&rig->net, BAD_PAIR);
    tx->areas.desc += bytes;
    virtio_pci_queue_enable(&rig->net.dev, tx->index, &tx->areas);
    virtio_net_driver_ok(&rig->net);
    virtio_net_fill_rx(&rig->net, 0);
    virtio_net_fill_rx(&rig->net, 1);
    g_assert_cmpuint(virtio_net_set_pairs(&rig->net, PAIRS), ==, 0);
}

static void misaligned_ring(const RigFormats *formats)
{
    Rig rig;

    start_with_ring_moved(&rig, formats, 8);
    check_broken_and_heal(&rig, TX, TX_MISALIGNED);
    rig_cleanup(&rig);
}

static void ring_outside_memory(const RigFormats *formats)
{
    Rig rig;

    start_with_ring_moved(&rig, formats, OUTSIDE);
    check_broken_and_heal(&rig, TX, TX_OUTSIDE);
    rig_cleanup(&rig);
}

static void add_tests(void)
{
    rig_add_test_all_formats("/qtest/ring-faults/transmit-buffer-outside-memory",
                             transmit_buffer_outside_memory);
    rig_add_test_all_formats("/qtest/ring-faults/receive-buffer-outside-memory",
                             receive_buffer_outside_memory);
    rig_add_test_both_formats("/qtest/ring-faults/buffer-leaves-memory", buffer_leaves_memory);
    rig_add_test_both_formats("/qtest/ring-faults/misaligned-ring", misaligned_ring);
    rig_add_test_both_formats("/qtest/ring-faults/ring-outside-memory", ring_outside_memory);
}

int main(int argc, char **argv)
{
    return rig_run(argc, argv, add_tests);
}
