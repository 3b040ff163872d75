/* SPDX-License-Identifier: BSD-3-Clause */
/* Queue pairs that come into use and go out of use while others carry traffic. */
#include "rig.h"

#define PAIRS 4
#define PACKETS 500
#define BURST 8         /* all bursts of a pair out of use fit its ring */

/*
 * Changes the pairs in use while each has packets under way.  A pair that goes out of use keeps
 * them, whichever way they have gone so far, and what is sent then waits with them.
 */
static void set_pairs(Rig *rig, unsigned int pairs)
{
    uint64_t next[PAIRS];
    unsigned int i;

    for (i = 0; i < PAIRS; i++) {
        traffic_send(&rig->traffic, i, BURST);
    }
    rig_set_pairs(rig, pairs);
    for (i = pairs; i < PAIRS; i++) {
        traffic_receive(&rig->traffic, i);
        next[i] = rig->traffic.pairs[i].next;
        traffic_send(&rig->traffic, i, BURST);
    }
    traffic_run(&rig->traffic, 0, pairs, PACKETS);
    for (i = pairs; i < PAIRS; i++) {
        traffic_receive(&rig->traffic, i);
        g_assert_cmpuint(rig->traffic.pairs[i].next, ==, next[i]);
    }
}

/* Never a packet is lost. */
static void up_and_down(const RigFormats *formats)
{
    static const unsigned int changes[] = { 1, 4, 2, 3, 1, 4, 1, 2, 4 };
    const RigConfig config = { .formats = formats, .pairs = PAIRS };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    virtio_net_start(&rig.net, &rig.driver);
    for (i = 0; i < G_N_ELEMENTS(changes); i++) {
        set_pairs(&rig, changes[i]);
    }
    for (i = 0; i < PAIRS; i++) {
        traffic_use_all_rx(&rig.traffic, i);
        g_assert_cmpuint(rig.traffic.pairs[i].received, ==, rig.traffic.pairs[i].sent);
    }
    rig_cleanup(&rig);
}

/* QEMU refuses a number that the device has not; nothing changes. */
static void refused_number_changes_nothing(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = 2 };
    Rig rig;

    rig_init_running(&rig, &config);
    g_assert_cmpuint(virtio_net_set_pairs(&rig.net, 3), !=, 0);
    g_assert_cmpuint(virtio_net_set_pairs(&rig.net, 0), !=, 0);
    traffic_run(&rig.traffic, 0, 2, PACKETS);
    rig_cleanup(&rig);
}

static void add_tests(void)
{
    rig_add_test_all_formats("/qtest/queue-pairs/up-and-down", up_and_down);
    rig_add_test_both_formats("/qtest/queue-pairs/refused-number-changes-nothing",
                              refused_number_changes_nothing);
}

int main(int argc, char **argv)
{
    return rig_run(argc, argv, add_tests);
}
