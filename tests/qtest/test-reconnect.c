/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * svqd, or the device behind it, ends under traffic and comes back: the guest's queues go on.
 *
 * How it works: packets under way may be lost, as in a network, but none comes twice, late or
 * damaged (traffic.h).  In the end every transmit buffer has come back, every receive buffer
 * takes a packet, and no process has more descriptors open than before.
 */
#include <signal.h>
#include <stdlib.h>

#include "rig.h"
#include "wait.h"

#define PAIRS 4
#define PACKETS 500
#define BURST 64u
#define DEFAULT_KILLS 5     /* SVQD_KILLS in the environment: another number */

static unsigned int number_of_kills(void)
{
    const char *kills = g_getenv("SVQD_KILLS");

    return kills ? (unsigned int)atoi(kills) : DEFAULT_KILLS;
}

static void run_for_a_while(Rig *rig)
{
    int rounds = g_test_rand_int_range(1, 50);

    while (rounds--) {
        traffic_pump(&rig->traffic, 0, PAIRS);
    }
}

/*
 * Packed: whether nobody who looks at index 0 with wrap counter 1 sees an available descriptor,
 * also after a burst.  The last one of a chain stays as the driver wrote it until the ring has
 * gone around.
 */
static bool start_stays_unavailable(const VringDriver *tx)
{
    const uint16_t flags = (uint16_t)(le64_load(&tx->desc[0].meta) >> 48);

    return (flags & (VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED)) != VRING_PACKED_F_AVAIL &&
           tx->avail_idx > 0 && tx->avail_idx + 2 * BURST <= tx->num;
}

/*
 * Leaves a burst on its way on each pair, the first of them the furthest.  As soon as svqd is gone
 * QEMU 7.2 drops what the driver has sent.  In a packed ring it looks for that not where the ring
 * is but where it began, and uses a descriptor there that seems available, from which the ring
 * never recovers.  So there is none.
 */
static void leave_under_way(Rig *rig)
{
    unsigned int i;

    for (i = 0; i < PAIRS && rig->driver.packed; i++) {
        traffic_settle(&rig->traffic, i);
        while (!start_stays_unavailable(&virtio_net_tx(&rig->net, i)->vr)) {
            traffic_run(&rig->traffic, i, 1, BURST / 2 + 1);
        }
    }
    for (i = 0; i < PAIRS; i++) {
        traffic_send(&rig->traffic, i, BURST);
    }
}

/* Traffic flows on all queues again. */
static void check_resumed(Rig *rig)
{
    unsigned int i;

    rig->traffic.may_lose = true;
    for (i = 0; i < PAIRS; i++) {
        traffic_wait_open(&rig->traffic, i);
    }
    rig->traffic.may_lose = false;
    traffic_run(&rig->traffic, 0, PAIRS, PACKETS);
}

static void check_all_buffers(Rig *rig)
{
    uint64_t lost = 0;
    unsigned int i;

    for (i = 0; i < PAIRS; i++) {
        const TrafficPair *pair = &rig->traffic.pairs[i];

        traffic_use_all_rx(&rig->traffic, i);
        g_assert_cmpuint(pair->received + pair->lost, ==, pair->sent);
        lost += pair->lost;
    }
    g_test_message("%" G_GUINT64_FORMAT " packets were lost", lost);
}

/* The VMM stays connected; what it sends meanwhile waits. */
static void device_ends(const RigFormats *formats)
{
    const RigConfig config = { .formats = formats, .pairs = PAIRS, .remote = true };
    const unsigned int kills = number_of_kills();
    unsigned int qemu_fds, svqd_fds, round, i;
    Rig rig;

    rig_init_running(&rig, &config);
    qemu_fds = process_count_fds(qtest_process(rig.qtest));
    svqd_fds = process_count_fds(svqd_process(rig.svqd));
    for (round = 0; round < kills; round++) {
        run_for_a_while(&rig);
        leave_under_way(&rig);
        svqd_kill(rig.device, round % 2 ? SIGKILL : SIGTERM);
        WAIT_FOR(svqd_count_logged(rig.svqd, "device side dev is gone") == round + 1);
        for (i = 0; i < PAIRS; i++) {
            traffic_send(&rig.traffic, i, 20);
        }
        g_assert_true(virtio_net_link_is_up(&rig.net));
        svqd_resume(rig.device);
        check_resumed(&rig);
    }
    check_all_buffers(&rig);
    g_assert_cmpuint(svqd_count_logged(rig.svqd, "net0: VMM connected"), ==, 1);
    WAIT_FOR(process_count_fds(svqd_process(rig.svqd)) == svqd_fds);
    g_assert_cmpuint(process_count_fds(qtest_process(rig.qtest)), ==, qemu_fds);
    rig_cleanup(&rig);
}

/* The guest sees its link go down, and sends nothing before it is up again. */
static void end_and_resume(Rig *rig, int signal)
{
    run_for_a_while(rig);
    leave_under_way(rig);
    svqd_kill(rig->svqd, signal);
    WAIT_FOR(!virtio_net_link_is_up(&rig->net));
    svqd_resume(rig->svqd);
    WAIT_FOR(virtio_net_link_is_up(&rig->net));
    check_resumed(rig);
}

static void end_again_and_again(const RigConfig *config, int signal)
{
    unsigned int kills = number_of_kills(), qemu_fds, svqd_fds;
    Rig rig;

    rig_init_running(&rig, config);
    end_and_resume(&rig, signal);
    qemu_fds = process_count_fds(qtest_process(rig.qtest));
    svqd_fds = process_count_fds(svqd_process(rig.svqd));
    while (--kills) {
        end_and_resume(&rig, signal);
    }
    check_all_buffers(&rig);
    WAIT_FOR(process_count_fds(svqd_process(rig.svqd)) == svqd_fds);
    WAIT_FOR(process_count_fds(qtest_process(rig.qtest)) == qemu_fds);
    rig_cleanup(&rig);
}

/*
 * Told to end, it has put everything in order.  Where to go on is in the guest's memory if the ring
 * is split; of a packed one the record must tell, for QEMU does not know.
 */
static void svqd_ends(const RigFormats *formats)
{
    const RigConfig config = {
        .formats = formats,
        .pairs = PAIRS,
        .reconnect = true,
        .inflight = formats->guest_packed,
    };

    end_again_and_again(&config, SIGTERM);
}

static void svqd_is_killed(const RigFormats *formats)
{
    const RigConfig config = {
        .formats = formats,
        .pairs = PAIRS,
        .reconnect = true,
        .inflight = true,
    };

    end_again_and_again(&config, SIGKILL);
}

static void add_tests(void)
{
    rig_add_test_all_formats("/qtest/reconnect/device-ends", device_ends);
    rig_add_test_both_formats("/qtest/reconnect/svqd-ends", svqd_ends);
    rig_add_test_both_formats("/qtest/reconnect/svqd-is-killed", svqd_is_killed);
}

int main(int argc, char **argv)
{
    return rig_run(argc, argv, add_tests);
}
