/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings of the loopback device that are taken from it in the midst of what it does and given back,
 * as a device is switched between passing through and being shadowed; and their descriptors.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/loopback-rig.h"
#include "lib/random.h"

#define TX_GPA(i) (0x100u * (i))
#define RX_GPA(i) (0x8000u + 0x100u * (i))
#define HEADER 12u
#define WAIT_US (10 * G_TIME_SPAN_SECOND)

enum { RX, TX };

typedef struct Wiring {
    bool packed, event_idx, in_order;
    int64_t poll_max_ns;
} Wiring;

static atomic_uint warnings;

static void count_warning(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
    g_test_message("%s", text);
    atomic_fetch_add(&warnings, 1);
}

static void rig_init(LoopbackRig *rig, const Wiring *wiring)
{
    const LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;
    uint64_t features = LOOPBACK_RIG_FEATURES;

    features |= wiring->packed ? VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) : 0;
    features |= wiring->event_idx ? VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) : 0;
    features |= wiring->in_order ? VIRTIO_F_BIT(VIRTIO_F_IN_ORDER) : 0;
    loopback_rig_init(rig, &config, features, wiring->poll_max_ns);
    loopback_rig_start_ring(rig, RX, LOOPBACK_RIG_NUM);
    loopback_rig_start_ring(rig, TX, LOOPBACK_RIG_NUM);
}

static void take_and_check(LoopbackRig *rig, unsigned int index, VringBase *base)
{
    const VringBase expected = loopback_rig_expected_base(rig, index);

    *base = loopback_rig_take_ring(rig, index);
    g_assert_cmphex(base->avail, ==, expected.avail);
    g_assert_cmphex(base->used, ==, expected.used);
}

/*
 * A packet waits for its third receive buffer when both rings are taken away, in either order:
 * what was taken for it is in the rings again, as if the device had never seen it.
 */
static void test_what_waits_is_offered_again(const void *wiring)
{
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, wiring);
    for (i = 0; i < 3 * LOOPBACK_RIG_NUM; i++) {
        const unsigned int first = i % 2 ? TX : RX;
        VringBase base[2];

        memset(rig.memory + TX_GPA(0) + HEADER, (int)i + 1, 238);
        loopback_rig_add_one(&rig, RX, RX_GPA(0), 100);
        loopback_rig_add_one(&rig, RX, RX_GPA(1), 100);
        loopback_rig_add_one(&rig, TX, TX_GPA(0), 250);
        loopback_rig_wait_asleep(&rig, TX);
        take_and_check(&rig, first, &base[first]);
        take_and_check(&rig, !first, &base[!first]);
        loopback_rig_add_one(&rig, RX, RX_GPA(2), 100);
        loopback_rig_give_ring(&rig, first, base[first]);
        loopback_rig_give_ring(&rig, !first, base[!first]);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA(0)), ==, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA(1)), ==, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA(2)), ==, 50);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA(0)), ==, 0);
        g_assert_cmpmem(rig.memory + RX_GPA(0) + HEADER, 88, rig.memory + TX_GPA(0) + HEADER, 88);
    }
    loopback_rig_cleanup(&rig);
}

/* One ring alone is taken and given back: the other stands where it was, or behind. */
static void test_one_ring_alone(const void *wiring)
{
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, wiring);
    for (i = 0; i < 4 * LOOPBACK_RIG_NUM; i++) {
        const unsigned int one = i % 2;
        VringBase base;

        loopback_rig_add_one(&rig, RX, RX_GPA(0), 100);
        loopback_rig_add_one(&rig, TX, TX_GPA(0), 150);
        loopback_rig_wait_asleep(&rig, TX);
        take_and_check(&rig, one, &base);
        loopback_rig_add_one(&rig, RX, RX_GPA(1), 100);
        loopback_rig_give_ring(&rig, one, base);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA(0)), ==, 100);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA(1)), ==, 50);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA(0)), ==, 0);
    }
    loopback_rig_cleanup(&rig);
}

/* Rings come and go while packets fly: each arrives once, in its order. */
static void test_under_traffic(const void *wiring)
{
    const unsigned int packets = (unsigned int)random_steps(8000);
    unsigned int sent = 0, received = 0, collected = 0;
    LoopbackRig rig;
    Random random = { 7 };
    unsigned int i;

    rig_init(&rig, wiring);
    for (i = 0; i < LOOPBACK_RIG_NUM; i++) {
        loopback_rig_add_one(&rig, RX, RX_GPA(i), 0x100);
    }
    while (received < packets) {
        VringBase base[2];

        while (sent < packets && sent - collected < LOOPBACK_RIG_NUM) {
            const uint32_t gpa = TX_GPA(sent % LOOPBACK_RIG_NUM);

            memcpy(rig.memory + gpa + HEADER, &sent, sizeof(sent));
            loopback_rig_add_one(&rig, TX, gpa, HEADER + 4 + sent++ % 200);
        }
        if (random_below(&random, 2)) {
            base[RX] = loopback_rig_take_ring(&rig, RX);
            base[TX] = loopback_rig_take_ring(&rig, TX);
            loopback_rig_give_ring(&rig, RX, base[RX]);
            loopback_rig_give_ring(&rig, TX, base[TX]);
        }
        for (i = random_below(&random, sent - received) + 1; i > 0; i--) {
            const uint32_t gpa = RX_GPA(received % LOOPBACK_RIG_NUM);

            g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, gpa), ==,
                             HEADER + 4 + received % 200);
            g_assert_cmpmem(rig.memory + gpa + HEADER, 4, &received, 4);
            loopback_rig_add_one(&rig, RX, gpa, 0x100);
            received++;
        }
        for (; collected < received; collected++) {
            loopback_rig_wait_used(&rig, TX, TX_GPA(collected % LOOPBACK_RIG_NUM));
        }
    }
    loopback_rig_cleanup(&rig);
}

static int set_fd(LoopbackRig *rig, unsigned int index, VhostRingFd which, int fd)
{
    return rig->dev->ops->ring_set_fd(rig->dev, index, which, fd, NULL);
}

static void replace(LoopbackRig *rig, unsigned int index, VhostRingFd which)
{
    EventNotifier *old = which == VHOST_RING_KICK ? &rig->rings[index].kick
                                                  : &rig->rings[index].call;
    EventNotifier new;

    g_assert_cmpint(event_notifier_init(&new), ==, 0);
    g_assert_cmpint(set_fd(rig, index, which, new.fd), ==, 0);
    event_notifier_cleanup(old);
    *old = new;
}

static void echo(LoopbackRig *rig)
{
    loopback_rig_add_one(rig, RX, RX_GPA(0), 0x100);
    loopback_rig_add_one(rig, TX, TX_GPA(0), 0x80);
    g_assert_cmpuint(loopback_rig_wait_used(rig, RX, RX_GPA(0)), ==, 0x80);
    g_assert_cmpuint(loopback_rig_wait_used(rig, TX, TX_GPA(0)), ==, 0);
}

static void test_descriptors_change(const void *wiring)
{
    LoopbackRig rig;
    VringBase base;
    unsigned int i;

    rig_init(&rig, wiring);
    for (i = 0; i < 20; i++) {
        replace(&rig, i % 2, i / 2 % 2 ? VHOST_RING_KICK : VHOST_RING_CALL);
        echo(&rig);
    }
    /* While the other ring, or both, are not there, too. */
    base = loopback_rig_take_ring(&rig, TX);
    replace(&rig, RX, VHOST_RING_KICK);
    replace(&rig, RX, VHOST_RING_CALL);
    loopback_rig_give_ring(&rig, TX, base);
    echo(&rig);
    loopback_rig_cleanup(&rig);
}

/* A kick that nobody hears any more, and a call that nobody wants: what is missed comes later. */
static void test_nothing_is_missed_by_a_change(const void *wiring)
{
    LoopbackRig rig;

    rig_init(&rig, wiring);
    echo(&rig);
    /* The driver waits, but nobody is to be told. */
    g_assert_false(vring_driver_enable_call(&rig.rings[RX].driver, rig.rings[RX].driver.packed));
    g_assert_cmpint(set_fd(&rig, RX, VHOST_RING_CALL, -1), ==, 0);
    loopback_rig_add_one(&rig, RX, RX_GPA(0), 0x100);
    loopback_rig_add_one(&rig, TX, TX_GPA(0), 0x80);
    loopback_rig_wait_used(&rig, TX, TX_GPA(0));
    event_notifier_test_and_clear(&rig.rings[RX].call);
    g_assert_cmpint(set_fd(&rig, RX, VHOST_RING_CALL, rig.rings[RX].call.fd), ==, 0);
    g_assert_cmpint(event_notifier_test_and_clear(&rig.rings[RX].call), ==, 1);
    g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA(0)), ==, 0x80);
    loopback_rig_cleanup(&rig);
}

/* A file cannot be waited for: the old descriptor goes on to count. */
static void test_a_wrong_kick_is_refused(const void *wiring)
{
    const int file = memfd_create("file", MFD_CLOEXEC);
    g_autoptr(GError) error = NULL;
    LoopbackRig rig;

    rig_init(&rig, wiring);
    g_assert_cmpint(rig.dev->ops->ring_set_fd(rig.dev, TX, VHOST_RING_KICK, file, &error), ==,
                    -EINVAL);
    g_assert_cmpstr(error->message, ==,
                    "dev pair 0: cannot wait for the new kick descriptor of its transmit queue");
    echo(&rig);
    loopback_rig_cleanup(&rig);
    close(file);
}

/* A pipe whose other end is gone breaks the pair, once, instead of waking it for ever. */
static void test_a_dead_kick_breaks_the_pair(const void *wiring)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;
    const unsigned int before = atomic_load(&warnings);
    EventNotifier own;
    VringBase base[2];
    LoopbackRig rig;
    int fds[2];

    rig_init(&rig, wiring);
    g_assert_no_errno(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
    g_assert_cmpint(set_fd(&rig, TX, VHOST_RING_KICK, fds[0]), ==, 0);
    own = rig.rings[TX].kick;
    rig.rings[TX].kick.fd = fds[1];
    echo(&rig);
    close(fds[1]);
    rig.rings[TX].kick = own;
    while (atomic_load(&warnings) == before) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_thread_yield();
    }
    /* It sleeps: the loop is not woken by what it cannot read. */
    loopback_rig_wait_asleep(&rig, TX);
    loopback_rig_add_one(&rig, RX, RX_GPA(0), 0x100);
    loopback_rig_add_one(&rig, TX, TX_GPA(0), 0x80);
    loopback_rig_wait_asleep(&rig, TX);
    g_assert_false(loopback_rig_has_used(&rig, RX));
    g_assert_cmpuint(atomic_load(&warnings), ==, before + 1);
    /* Whole again with the next start. */
    take_and_check(&rig, RX, &base[RX]);
    take_and_check(&rig, TX, &base[TX]);
    loopback_rig_give_ring(&rig, RX, base[RX]);
    loopback_rig_give_ring(&rig, TX, base[TX]);
    g_assert_cmpuint(loopback_rig_wait_used(&rig, RX, RX_GPA(0)), ==, 0x80);
    g_assert_cmpuint(loopback_rig_wait_used(&rig, TX, TX_GPA(0)), ==, 0);
    loopback_rig_cleanup(&rig);
    close(fds[0]);
}

/* What broke the pair is not lost: it breaks it again. */
static void test_what_broke_the_pair_stays_in_the_ring(const void *wiring)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;
    const unsigned int before = atomic_load(&warnings);
    VringBase base[2];
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, wiring);
    echo(&rig);
    loopback_rig_add_one(&rig, RX, LOOPBACK_RIG_MEMORY - 0x10, 0x100);
    loopback_rig_add_one(&rig, TX, TX_GPA(0), 0x80);
    for (i = 1; i <= 2; i++) {
        while (atomic_load(&warnings) < before + i) {
            g_assert_cmpint(g_get_monotonic_time(), <, end_us);
            g_thread_yield();
        }
        take_and_check(&rig, TX, &base[TX]);
        take_and_check(&rig, RX, &base[RX]);
        loopback_rig_give_ring(&rig, TX, base[TX]);
        loopback_rig_give_ring(&rig, RX, base[RX]);
    }
    loopback_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc test;
    } tests[] = {
        { "what-waits-is-offered-again", test_what_waits_is_offered_again },
        { "one-ring-alone", test_one_ring_alone },
        { "under-traffic", test_under_traffic },
        { "descriptors-change", test_descriptors_change },
        { "nothing-is-missed-by-a-change", test_nothing_is_missed_by_a_change },
        { "a-wrong-kick-is-refused", test_a_wrong_kick_is_refused },
        { "a-dead-kick-breaks-the-pair", test_a_dead_kick_breaks_the_pair },
        { "what-broke-the-pair-stays-in-the-ring", test_what_broke_the_pair_stays_in_the_ring },
    };
    static const Wiring wirings[] = {
        { false, false, false, 0 }, { false, true, false, 0 }, { true, false, false, 0 },
        { true, true, false, 0 },   { false, true, true, 0 },  { true, true, true, 0 },
        { false, true, false, 32768 }, { true, false, false, 32768 },
    };
    unsigned int i, j;

    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal((GLogLevelFlags)(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    g_log_set_handler("svq", G_LOG_LEVEL_WARNING, count_warning, NULL);
    for (i = 0; i < G_N_ELEMENTS(tests); i++) {
        for (j = 0; j < G_N_ELEMENTS(wirings); j++) {
            g_autofree char *name = g_strdup_printf(
                "/loopback-rings/%s%s%s-%s/%s", wirings[j].packed ? "packed" : "split",
                wirings[j].event_idx ? "+event_idx" : "",
                wirings[j].in_order ? "+in_order" : "",
                wirings[j].poll_max_ns ? "polled" : "kicked", tests[i].name);

            g_test_add_data_func(name, &wirings[j], tests[i].test);
        }
    }
    return g_test_run();
}
