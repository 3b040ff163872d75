/* SPDX-License-Identifier: BSD-3-Clause */
/* Several queue pairs of a QEMU machine, each worked by an IOThread of its own. */
#include <string.h>

#include "rig.h"
#include "wait.h"

#define PACKETS 1500            /* on each pair: its rings go around several times */
/* CPU time, in hundredths of a second. */
#define BUSY_TICKS 5
#define IDLE_TICKS 1
#define PCI_IRQ 11

/* How many packets have gone through queue @index, which receives if it is even. */
static uint64_t packets_of(const Rig *rig, unsigned int index)
{
    const TrafficPair *pair = &rig->traffic.pairs[index / 2];

    return index % 2 ? pair->sent : pair->received;
}

/* Whether svqd has taken all that the driver has added. */
static bool all_taken(Rig *rig, SvqdQueue *queues, unsigned int n)
{
    unsigned int i;

    svqd_get_queues(rig->svqd, queues, n);
    for (i = 0; i < n; i++) {
        const uint32_t posted = i % 2 ? 0 : rig->net.queues[i].vr.num;

        if (queues[i].buffers != packets_of(rig, i) + posted) {
            return false;
        }
    }
    return true;
}

/* The queues of each pair are in the pair's IOThread, and forwarded exactly what was sent. */
static void check_queues(Rig *rig, const RigConfig *config)
{
    const RigFormats *formats = config->formats;
    g_autofree char *expected = g_strdup_printf("%s>%s", formats->guest_packed ? "packed" : "split",
                                                formats->shadow_packed ? "packed" : "split");
    SvqdQueue queues[2 * NET_MAX_PAIRS];
    unsigned int i;

    WAIT_FOR(all_taken(rig, queues, 2 * config->pairs));
    for (i = 0; i < 2 * config->pairs; i++) {
        g_autofree char *iothread = rig_iothread_of_pair(config, i / 2);

        g_assert_cmpstr(queues[i].state, ==, "running");
        g_assert_cmpstr(queues[i].iothread, ==, iothread);
        g_assert_cmpstr(queues[i].formats, ==, expected);
        g_assert_cmpuint(queues[i].errors, ==, 0);
        g_assert_cmpuint(queues[i].returned, ==, packets_of(rig, i));
    }
}

static void test_pairs(const RigFormats *formats, unsigned int pairs)
{
    const RigConfig config = { .formats = formats, .pairs = pairs };
    Rig rig;

    rig_init_running(&rig, &config);
    traffic_run(&rig.traffic, 0, pairs, PACKETS);
    check_queues(&rig, &config);
    rig_cleanup(&rig);
}

static void data_on_1_pair(const RigFormats *formats)
{
    test_pairs(formats, 1);
}

static void data_on_2_pairs(const RigFormats *formats)
{
    test_pairs(formats, 2);
}

static void data_on_4_pairs(const RigFormats *formats)
{
    test_pairs(formats, 4);
}

static void data_on_8_pairs(const RigFormats *formats)
{
    test_pairs(formats, 8);
}

/* Receive buffers that hold the third part of a packet: svqd carries all parts or none. */
static void packets_in_several_buffers(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 2 };
    Rig rig;

    rig_init(&rig, &config);
    rig.driver.rx_size = 512;
    virtio_net_start(&rig.net, &rig.driver);
    rig_set_pairs(&rig, config.pairs);
    traffic_run(&rig.traffic, 0, config.pairs, PACKETS);
    rig_cleanup(&rig);
}

static unsigned int find_thread(const SvqdThread *threads, unsigned int n, const char *name)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        if (strcmp(threads[i].name, name) == 0) {
            return i;
        }
    }
    g_error("svqd has no IOThread '%s'", name);
}

/* Keeps @pair busy until the thread at @busy of @before has used CPU time. */
static bool has_used_cpu(Rig *rig, const SvqdThread *before, unsigned int n, unsigned int pair,
                         unsigned int busy)
{
    SvqdThread now[NET_MAX_PAIRS];

    traffic_run(&rig->traffic, pair, 1, PACKETS);
    g_assert_cmpuint(svqd_get_threads(rig->svqd, now, NET_MAX_PAIRS), ==, n);
    return now[busy].cpu_ticks - before[busy].cpu_ticks >= BUSY_TICKS;
}

static void check_only_one_is_busy(Rig *rig, const RigConfig *config, unsigned int pair)
{
    g_autofree char *name = rig_iothread_of_pair(config, pair);
    SvqdThread before[NET_MAX_PAIRS], after[NET_MAX_PAIRS];
    unsigned int n = svqd_get_threads(rig->svqd, before, NET_MAX_PAIRS), busy, i;

    g_assert_cmpuint(n, ==, config->pairs);
    busy = find_thread(before, n, name);
    WAIT_FOR(has_used_cpu(rig, before, n, pair, busy));
    g_assert_cmpuint(svqd_get_threads(rig->svqd, after, NET_MAX_PAIRS), ==, n);
    for (i = 0; i < n; i++) {
        g_assert_cmpint(after[i].id, ==, before[i].id);
        if (i != busy) {
            g_assert_cmpuint(after[i].cpu_ticks - before[i].cpu_ticks, <=, IDLE_TICKS);
        }
    }
}

/* CPU time says which thread works: that of the busy pair, and no other. */
static void each_pair_in_its_iothread(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 4, .poll_max_ns = "0" };
    Rig rig;
    unsigned int i;

    rig_init_running(&rig, &config);
    for (i = 0; i < config.pairs; i++) {
        check_only_one_is_busy(&rig, &config, i);
    }
    check_queues(&rig, &config);
    rig_cleanup(&rig);
}

static bool isr_is_clear(Rig *rig)
{
    return virtio_pci_read_isr(&rig->net.dev) == 0 && !qtest_irq_is_raised(rig->qtest, PCI_IRQ);
}

static uint64_t calls_sent(Rig *rig)
{
    SvqdQueue queues[4];

    svqd_get_queues(rig->svqd, queues, G_N_ELEMENTS(queues));
    return queues[0].calls + queues[1].calls + queues[2].calls + queues[3].calls;
}

/* A call reaches the guest as an interrupt, and is made only if the driver wants one. */
static void used_buffers_interrupt(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 2 };
    const bool packed = formats->guest_packed;
    uint64_t calls;
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    qtest_intercept_irqs(rig.qtest);
    pci_route_interrupts(rig.qtest, PCI_IRQ);
    virtio_net_start(&rig.net, &rig.driver);
    rig_set_pairs(&rig, config.pairs);
    for (i = 0; i < 2 * config.pairs; i++) {
        vring_driver_disable_call(&rig.net.queues[i].vr, packed);
    }
    traffic_run(&rig.traffic, 0, config.pairs, 100);
    calls = calls_sent(&rig);
    traffic_run(&rig.traffic, 0, config.pairs, 100);
    g_assert_cmpuint(calls_sent(&rig), ==, calls);

    WAIT_FOR(isr_is_clear(&rig));
    g_assert_false(vring_driver_enable_call(&virtio_net_rx(&rig.net, 1)->vr, packed));
    traffic_send(&rig.traffic, 1, 1);
    WAIT_FOR(qtest_irq_is_raised(rig.qtest, PCI_IRQ));
    g_assert_cmphex(virtio_pci_read_isr(&rig.net.dev), ==, VIRTIO_ISR_QUEUE);
    g_assert_cmphex(virtio_pci_read_isr(&rig.net.dev), ==, 0);
    g_assert_false(qtest_irq_is_raised(rig.qtest, PCI_IRQ));
    g_assert_cmpuint(calls_sent(&rig), ==, calls + 1);
    traffic_settle(&rig.traffic, 1);
    rig_cleanup(&rig);
}

static void add_tests(void)
{
    rig_add_test_all_formats("/qtest/multiqueue/data-on-1-pair", data_on_1_pair);
    rig_add_test_all_formats("/qtest/multiqueue/data-on-2-pairs", data_on_2_pairs);
    rig_add_test_all_formats("/qtest/multiqueue/data-on-4-pairs", data_on_4_pairs);
    rig_add_test_all_formats("/qtest/multiqueue/data-on-8-pairs", data_on_8_pairs);
    rig_add_test_all_formats("/qtest/multiqueue/packets-in-several-buffers",
                             packets_in_several_buffers);
    rig_add_test_both_formats("/qtest/multiqueue/each-pair-in-its-iothread",
                              each_pair_in_its_iothread);
    rig_add_test_both_formats("/qtest/multiqueue/used-buffers-interrupt", used_buffers_interrupt);
}

int main(int argc, char **argv)
{
    return rig_run(argc, argv, add_tests);
}
