/* SPDX-License-Identifier: BSD-3-Clause */
/* The control queue of the loopback device: where it is, its commands, and what is no command. */
#include <stdatomic.h>
#include <string.h>

#include "lib/loopback-rig.h"
#include "lib/random.h"

#define CTRL_NUM 16
#define COMMAND_GPA 0x100
#define STATUS_GPA 0xf000
#define PACKET_BYTES 100
#define LARGE_BYTES 0x7000

enum { OK, ERR, UNTOUCHED = 0x77 };
enum { RX0, TX0, RX1, TX1, CTRL };

#define CTRL_VQ VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ)
#define MQ VIRTIO_F_BIT(VIRTIO_NET_F_MQ)

/* Ring features of a test. */
static const uint64_t formats[] = {
    0,
    VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
    VIRTIO_F_BIT(VIRTIO_F_RING_PACKED),
    VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
};

static atomic_uint warnings;

static void count_warning(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
    g_test_message("%s", text);
    atomic_fetch_add(&warnings, 1);
}

static void wait_warning(unsigned int before)
{
    while (atomic_load(&warnings) == before) {
        g_thread_yield();
    }
}

static void rig_init(LoopbackRig *rig, const void *format, uint64_t features)
{
    LoopbackConfig config = LOOPBACK_CONFIG_DEFAULT;

    config.queue_pairs = LOOPBACK_RIG_PAIRS;
    loopback_rig_init(rig, &config, LOOPBACK_RIG_FEATURES | *(const uint64_t *)format | features,
                      0);
}

static void start_all(LoopbackRig *rig)
{
    unsigned int i;

    for (i = 0; i < CTRL; i++) {
        loopback_rig_start_ring(rig, i, LOOPBACK_RIG_NUM);
    }
    loopback_rig_start_ring(rig, CTRL, CTRL_NUM);
}

/* The status of a command of @n bytes in ring @index. */
static uint8_t command(LoopbackRig *rig, unsigned int index, const uint8_t *bytes, uint32_t n)
{
    const VringSegment seg[] = {
        { COMMAND_GPA, n, 0 }, { STATUS_GPA, 1, VRING_DESC_F_WRITE },
    };

    memcpy(rig->memory + COMMAND_GPA, bytes, n);
    rig->memory[STATUS_GPA] = UNTOUCHED;
    loopback_rig_add(rig, index, seg, G_N_ELEMENTS(seg), STATUS_GPA);
    g_assert_cmpuint(loopback_rig_wait_used(rig, index, STATUS_GPA), ==, 1);
    return rig->memory[STATUS_GPA];
}

static uint8_t set_pairs(LoopbackRig *rig, unsigned int index, unsigned int n)
{
    const uint8_t bytes[] = { 4, 0, (uint8_t)n, (uint8_t)(n >> 8) };

    return command(rig, index, bytes, sizeof(bytes));
}

/* Packets that take their time; all buffers in one place, told apart by cookies. */
static void add_large(LoopbackRig *rig, unsigned int index, uint32_t cookie)
{
    const VringSegment send = { 0x8000, LARGE_BYTES, 0 };
    const VringSegment receive = { 0x10000, LARGE_BYTES, VRING_DESC_F_WRITE };

    loopback_rig_add(rig, index, index % 2 ? &send : &receive, 1, cookie % LOOPBACK_RIG_NUM);
}

static void wait_large(LoopbackRig *rig, unsigned int index, uint32_t cookie)
{
    g_assert_cmpuint(loopback_rig_wait_used(rig, index, cookie % LOOPBACK_RIG_NUM), ==,
                     index % 2 ? 0 : LARGE_BYTES);
}

/* Sends a packet on @pair; whether it came back. */
static bool comes_back(LoopbackRig *rig, unsigned int pair)
{
    const uint64_t gpa = 0x4000 + 0x1000 * pair;
    bool back;

    loopback_rig_add_one(rig, 2 * pair, gpa + 0x800, 1000);
    loopback_rig_add_one(rig, 2 * pair + 1, gpa, PACKET_BYTES);
    loopback_rig_wait_used(rig, 2 * pair + 1, (uint32_t)gpa);
    /* The receive queue is published before the transmit queue. */
    back = loopback_rig_has_used(rig, 2 * pair);
    if (back) {
        g_assert_cmpuint(loopback_rig_wait_used(rig, 2 * pair, (uint32_t)gpa + 0x800), ==,
                         PACKET_BYTES);
    }
    return back;
}

static void test_behind_all_pairs(const void *format)
{
    LoopbackRig rig;

    rig_init(&rig, format, CTRL_VQ | MQ);
    g_assert_cmpuint(rig.dev->queue_count, ==, 2 * LOOPBACK_RIG_PAIRS + 1);
    loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
    g_assert_cmpuint(set_pairs(&rig, CTRL, 1), ==, OK);
    loopback_rig_cleanup(&rig);
}

/* Stopped with a command in the ring, it takes that one first when it goes on. */
static void test_goes_on_where_it_was_stopped(const void *format)
{
    const uint8_t bytes[] = { 4, 0, 2, 0 };
    const VringSegment seg[] = {
        { COMMAND_GPA, sizeof(bytes), 0 }, { STATUS_GPA, 1, VRING_DESC_F_WRITE },
    };
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, format, CTRL_VQ | MQ);
    memcpy(rig.memory + COMMAND_GPA, bytes, sizeof(bytes));
    loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
    for (i = 0; i < 2 * CTRL_NUM; i++) {
        const VringBase expected = loopback_rig_expected_base(&rig, CTRL);
        VringBase base;

        loopback_rig_wait_asleep(&rig, CTRL);
        base = loopback_rig_take_ring(&rig, CTRL);
        g_assert_cmphex(base.avail, ==, expected.avail);
        g_assert_cmphex(base.used, ==, expected.used);
        loopback_rig_add(&rig, CTRL, seg, G_N_ELEMENTS(seg), STATUS_GPA);
        loopback_rig_give_ring(&rig, CTRL, base);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, CTRL, STATUS_GPA), ==, 1);
    }
    loopback_rig_cleanup(&rig);
}

/* A command that broke the queue is not lost by its stop: it breaks the queue again. */
static void test_a_wrong_command_stays_in_the_ring(const void *format)
{
    const unsigned int before = atomic_load(&warnings);
    VringBase expected, base;
    LoopbackRig rig;

    rig_init(&rig, format, CTRL_VQ | MQ);
    loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
    g_assert_cmpuint(set_pairs(&rig, CTRL, 1), ==, OK);
    expected = loopback_rig_expected_base(&rig, CTRL);
    loopback_rig_add_one(&rig, CTRL, LOOPBACK_RIG_MEMORY, 2);
    wait_warning(before);
    base = loopback_rig_take_ring(&rig, CTRL);
    g_assert_cmphex(base.avail, ==, expected.avail);
    g_assert_cmphex(base.used, ==, expected.used);
    loopback_rig_give_ring(&rig, CTRL, base);
    wait_warning(before + 1);
    loopback_rig_cleanup(&rig);
}

static void test_descriptors_change(const void *format)
{
    EventNotifier kick, call;
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, format, CTRL_VQ | MQ);
    loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
    for (i = 0; i < 3; i++) {
        LoopbackRigRing *ring = &rig.rings[CTRL];
        const VhostDeviceOps *ops = rig.dev->ops;

        g_assert_cmpint(event_notifier_init(&kick), ==, 0);
        g_assert_cmpint(event_notifier_init(&call), ==, 0);
        loopback_rig_wait_asleep(&rig, CTRL);
        g_assert_cmpint(ops->ring_set_fd(rig.dev, CTRL, VHOST_RING_KICK, kick.fd, NULL), ==, 0);
        g_assert_cmpint(ops->ring_set_fd(rig.dev, CTRL, VHOST_RING_CALL, call.fd, NULL), ==, 0);
        event_notifier_cleanup(&ring->kick);
        event_notifier_cleanup(&ring->call);
        ring->kick = kick;
        ring->call = call;
        g_assert_cmpuint(set_pairs(&rig, CTRL, 1 + i % 2), ==, OK);
    }
    loopback_rig_cleanup(&rig);
}

/* Without MQ there is one pair, whatever the device could have. */
static void test_behind_the_one_pair(const void *format)
{
    LoopbackRig rig;

    rig_init(&rig, format, CTRL_VQ);
    loopback_rig_start_ring(&rig, RX0, LOOPBACK_RIG_NUM);
    loopback_rig_start_ring(&rig, TX0, LOOPBACK_RIG_NUM);
    loopback_rig_start_ring(&rig, 2, CTRL_NUM);
    g_assert_cmpuint(set_pairs(&rig, 2, 1), ==, ERR);
    g_assert_true(comes_back(&rig, 0));
    loopback_rig_cleanup(&rig);
}

/* A VMM that keeps the control queue to itself enables and disables queues: all are active. */
static void test_not_there(const void *format)
{
    VhostRing ring = { .num = CTRL_NUM };
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, format, MQ);
    for (i = 0; i < CTRL; i++) {
        loopback_rig_start_ring(&rig, i, LOOPBACK_RIG_NUM);
    }
    g_assert_cmpint(rig.dev->ops->ring_start(rig.dev, CTRL, &ring, NULL), ==, -EINVAL);
    g_assert_cmpint(rig.dev->ops->ring_enable(rig.dev, CTRL, true, NULL), ==, 0);
    g_assert_cmpint(rig.dev->ops->ring_stop(rig.dev, CTRL, NULL, NULL), ==, 0);
    g_assert_true(comes_back(&rig, 0));
    g_assert_true(comes_back(&rig, 1));
    loopback_rig_cleanup(&rig);
}

static void test_commands(const void *format)
{
    static const struct {
        uint8_t bytes[5];
        uint32_t n;
        uint8_t status;
    } commands[] = {
        { { 4, 0, 1, 0 }, 4, OK },      { { 4, 0, 2, 0 }, 4, OK },
        { { 4, 0, 0, 0 }, 4, ERR },     { { 4, 0, 3, 0 }, 4, ERR },
        { { 4, 0, 0, 0x80 }, 4, ERR },  { { 4, 0, 1, 1 }, 4, ERR },
        { { 4, 1, 1, 0 }, 4, ERR },     { { 5, 0, 1, 0 }, 4, ERR },
        { { 0, 0, 1 }, 3, ERR },        { { 255, 255, 255, 255 }, 4, ERR },
        { { 4 }, 1, ERR },              { { 4, 0 }, 2, ERR },
        { { 4, 0, 1 }, 3, ERR },        { { 4, 0, 1, 0, 0 }, 5, ERR },
    };
    g_autofree uint8_t *flood = g_malloc0(0x8000);
    LoopbackRig rig;
    unsigned int i;

    rig_init(&rig, format, CTRL_VQ | MQ);
    loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
    for (i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_assert_cmpuint(command(&rig, CTRL, commands[i].bytes, commands[i].n), ==,
                         commands[i].status);
    }
    flood[0] = 4;
    flood[2] = 1;
    for (i = 63; i < 67; i++) {
        g_assert_cmpuint(command(&rig, CTRL, flood, i), ==, ERR);
    }
    g_assert_cmpuint(command(&rig, CTRL, flood, 0x8000), ==, ERR);
    loopback_rig_cleanup(&rig);
}

/*
 * One pair is in use before the first command, and from the answer to a command on nothing is
 * received on a pair that is not, although packets were under way there in another thread.
 */
static void test_pairs_in_use(const void *format)
{
    enum { BURST = LOOPBACK_RIG_NUM, ROUNDS = 300 };
    unsigned int posted = 0, seen = 0, round, i;
    LoopbackRig rig;

    rig_init(&rig, format, CTRL_VQ | MQ);
    start_all(&rig);
    g_assert_true(comes_back(&rig, 0));
    for (; posted < LOOPBACK_RIG_NUM; posted++) {
        add_large(&rig, RX1, posted);
    }
    add_large(&rig, TX1, 0);
    wait_large(&rig, TX1, 0);
    g_assert_false(loopback_rig_has_used(&rig, RX1));

    for (round = 0; round < ROUNDS; round++) {
        g_assert_cmpuint(set_pairs(&rig, CTRL, 2), ==, OK);
        for (i = 0; i < BURST; i++) {
            add_large(&rig, TX1, i);
        }
        g_assert_cmpuint(set_pairs(&rig, CTRL, 1), ==, OK);
        for (; loopback_rig_has_used(&rig, RX1); seen++) {
            wait_large(&rig, RX1, seen);
        }
        for (i = 0; i < BURST; i++) {
            wait_large(&rig, TX1, i);
        }
        g_assert_false(loopback_rig_has_used(&rig, RX1));
        for (; posted < seen + LOOPBACK_RIG_NUM; posted++) {
            add_large(&rig, RX1, posted);
        }
    }
    g_test_message("%u of %u packets came back", seen, ROUNDS * BURST);
    g_assert_true(comes_back(&rig, 0));

    /* While it is in use, all comes. */
    g_assert_cmpuint(set_pairs(&rig, CTRL, 2), ==, OK);
    for (i = 0; i < BURST; i++, seen++) {
        add_large(&rig, TX1, i);
        wait_large(&rig, RX1, seen);
        wait_large(&rig, TX1, i);
    }
    loopback_rig_cleanup(&rig);
}

/* A disabled queue answers nothing; enabled, it answers what has come meanwhile. */
static void test_answers_once_enabled(const void *format)
{
    const VringSegment seg[] = {
        { COMMAND_GPA, 4, 0 }, { STATUS_GPA, 1, VRING_DESC_F_WRITE },
    };
    LoopbackRig rig;

    rig_init(&rig, format, CTRL_VQ | MQ);
    start_all(&rig);
    rig.dev->ops->ring_enable(rig.dev, CTRL, false, NULL);
    memcpy(rig.memory + COMMAND_GPA, "\4\0\2\0", 4);
    loopback_rig_add(&rig, CTRL, seg, G_N_ELEMENTS(seg), 1);
    g_assert_false(comes_back(&rig, 1));
    g_assert_false(loopback_rig_has_used(&rig, CTRL));
    rig.dev->ops->ring_enable(rig.dev, CTRL, true, NULL);
    g_assert_cmpuint(loopback_rig_wait_used(&rig, CTRL, 1), ==, 1);
    g_assert_cmpuint(rig.memory[STATUS_GPA], ==, OK);
    loopback_rig_cleanup(&rig);
}

/* Stopped between a kick and its answer, it lets go of the ring, which is freed at once. */
static void test_stops_at_any_moment(const void *format)
{
    const VringSegment seg[] = {
        { COMMAND_GPA, 4, 0 }, { STATUS_GPA, 1, VRING_DESC_F_WRITE },
    };
    LoopbackRig rig;
    unsigned int i, j;

    rig_init(&rig, format, CTRL_VQ | MQ);
    memcpy(rig.memory + COMMAND_GPA, "\4\0\1\0", 4);
    for (i = 0; i < 500; i++) {
        loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
        for (j = 0; j < i % 8; j++) {
            loopback_rig_add(&rig, CTRL, seg, G_N_ELEMENTS(seg), j);
        }
        loopback_rig_stop_ring(&rig, CTRL);
    }
    loopback_rig_cleanup(&rig);
}

/* A buffer and what is to come of it. */
typedef struct Buffer {
    VringSegment seg[CTRL_NUM];
    unsigned int n, n_readable;
    bool outside;           /* it leaves the memory: the queue breaks */
    bool good;              /* else: the command in it is one that is done */
} Buffer;

/* Some are a right command, cut anywhere; others have any bytes, lengths and addresses. */
static void make_buffer(Random *random, uint8_t *memory, Buffer *b)
{
    uint64_t gpa = random_below(random, 0x8000);
    uint8_t bytes[4] = { 4, 0, (uint8_t)random_below(random, 4), 0 }, all[CTRL_NUM * 20];
    unsigned int length = 0, i;

    b->n = random_between(random, 1, CTRL_NUM);
    b->n_readable = random_below(random, b->n + !random_below(random, 8));
    b->outside = false;
    memset(all, 0, sizeof(all));
    for (i = 0; i < b->n; i++) {
        bool readable = i < b->n_readable;
        uint32_t len = random_one_in(random, 4) ? random_between(random, 1, 20) : 1;

        /* What is left of a right command, mostly. */
        if (readable && i + 1 == b->n_readable && length < 4 && !random_one_in(random, 4)) {
            len = 4 - length;
        }
        b->seg[i] = (VringSegment){ gpa, len, readable ? 0 : VRING_DESC_F_WRITE };
        if (random_one_in(random, 200)) {
            b->seg[i].addr = LOOPBACK_RIG_MEMORY - len + 1;
            b->outside = true;
        } else if (readable) {
            for (uint32_t j = 0; j < len; j++, length++) {
                all[length] = random_one_in(random, 40) ? (uint8_t)random_u64(random)
                              : length < 4              ? bytes[length]
                                                        : 0;
                memory[gpa + j] = all[length];
            }
        }
        gpa += len + random_below(random, 100);
    }
    b->good = length == 4 && all[0] == 4 && all[1] == 0 && all[3] == 0 && all[2] >= 1 &&
              all[2] <= LOOPBACK_RIG_PAIRS;
}

/*
 * A driver may spread a command over as many descriptors as it likes and put anything there.
 * What has no place for the status, or leaves the memory, breaks the queue until it is
 * started anew.
 */
static void test_any_buffers(const void *format)
{
    Random random = { random_seed() };
    uint64_t steps = random_steps(20000);
    uint64_t good = 0, bad = 0, broken = 0;
    LoopbackRig rig;
    Buffer b;

    rig_init(&rig, format, CTRL_VQ | MQ);
    loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
    while (steps--) {
        unsigned int before = atomic_load(&warnings);
        uint8_t *status;

        make_buffer(&random, rig.memory, &b);
        status = b.n_readable < b.n ? rig.memory + b.seg[b.n_readable].addr : NULL;
        if (b.outside || !status) {
            loopback_rig_add(&rig, CTRL, b.seg, b.n, 1);
            wait_warning(before);
            g_assert_false(loopback_rig_has_used(&rig, CTRL));
            loopback_rig_stop_ring(&rig, CTRL);
            loopback_rig_start_ring(&rig, CTRL, CTRL_NUM);
            broken++;
            continue;
        }
        *status = UNTOUCHED;
        loopback_rig_add(&rig, CTRL, b.seg, b.n, 2);
        g_assert_cmpuint(loopback_rig_wait_used(&rig, CTRL, 2), ==, 1);
        g_assert_cmpuint(*status, ==, b.good ? OK : ERR);
        g_assert_cmpuint(atomic_load(&warnings), ==, before);
        good += b.good;
        bad += !b.good;
    }
    g_assert_cmpuint(good, >, 0);
    g_assert_cmpuint(bad, >, 0);
    g_assert_cmpuint(broken, >, 0);
    loopback_rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc test;
    } tests[] = {
        { "behind-all-pairs", test_behind_all_pairs },
        { "behind-the-one-pair", test_behind_the_one_pair },
        { "not-there", test_not_there },
        { "commands", test_commands },
        { "pairs-in-use", test_pairs_in_use },
        { "answers-once-enabled", test_answers_once_enabled },
        { "stops-at-any-moment", test_stops_at_any_moment },
        { "any-buffers", test_any_buffers },
        { "goes-on-where-it-was-stopped", test_goes_on_where_it_was_stopped },
        { "a-wrong-command-stays-in-the-ring", test_a_wrong_command_stays_in_the_ring },
        { "descriptors-change", test_descriptors_change },
    };
    unsigned int i, j;

    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal((GLogLevelFlags)(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    g_log_set_handler("svq", G_LOG_LEVEL_WARNING, count_warning, NULL);
    for (i = 0; i < G_N_ELEMENTS(tests); i++) {
        for (j = 0; j < G_N_ELEMENTS(formats); j++) {
            g_autofree char *name = g_strdup_printf(
                "/loopback-ctrl/%s%s-%s",
                formats[j] & VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) ? "packed" : "split",
                formats[j] & VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) ? "+event_idx" : "", tests[i].name);

            g_test_add_data_func(name, &formats[j], tests[i].test);
        }
    }
    return g_test_run();
}
