/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets of the loopback device that are received where their hash leads, and what they carry of
 * it; and that a command has taken effect when it is answered, whatever is under way.
 */
#include <string.h>

#include "lib/loopback-world.h"
#include "lib/random.h"

#define KEY \
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
#define CONFIG "MQ_RSS_CONFIG types=0x1ff unclassified=%u table=%s transmit=%u key=" KEY

enum { REPORT_NONE, REPORT_TCPV4 = 2, REPORT_TCPV6 = 5, REPORT_IPV6_EX = 7 };

typedef struct Vector {
    bool v6;
    const char *destination;
    uint16_t destination_port;
    const char *source;
    uint16_t source_port;
    uint32_t hash;              /* of addresses and ports */
} Vector;

/* The published ones. */
static const Vector vectors[] = {
    { false, "161.142.100.80", 1766, "66.9.149.187", 2794, 0x51ccc178 },
    { false, "65.69.140.83", 4739, "199.92.111.2", 14230, 0xc626b0ea },
    { false, "12.22.207.184", 38024, "24.19.198.95", 12898, 0x5c2b394a },
    { false, "209.142.163.6", 2217, "38.27.205.30", 48228, 0xafc7327f },
    { false, "202.188.127.2", 1303, "153.39.163.191", 44251, 0x10e828a2 },
    { true, "3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x40207d3d },
    { true, "ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0xdde51bbf },
    { true, "fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251,
      0x02d1feef },
};

static void make_frame(Frame *frame, const Vector *v)
{
    frame_begin(frame, "02:00:00:00:00:01");
    if (v->v6) {
        frame_ipv6(frame, v->source, v->destination, FRAME_TCP, 20);
    } else {
        frame_ipv4(frame, v->source, v->destination, FRAME_TCP, 0, 20);
    }
    frame_ports(frame, FRAME_TCP, v->source_port, v->destination_port, 0);
}

static void make_unclassified(Frame *frame)
{
    frame_begin(frame, "02:00:00:00:00:01");
    frame_append16(frame, 0x88b5);
}

/* Queues of a table of @n entries: all @others but @entry. */
static void set_table(LoopbackWorld *w, unsigned int n, unsigned int entry, unsigned int queue,
                      unsigned int others)
{
    g_autoptr(GString) table = g_string_new(NULL);
    g_autofree char *text = NULL;

    for (unsigned int i = 0; i < n; i++) {
        g_string_append_printf(table, "%s%u", i ? "," : "", i == entry ? queue : others);
    }
    text = g_strdup_printf(CONFIG, others, table->str, 2);
    loopback_world_say(w, text);
}

/* By any entry of tables of any size, whatever the pair on which it is sent. */
static void test_where_the_hash_leads(const void *format)
{
    LoopbackWorld w;
    Frame frame;

    loopback_world_init(&w, format, loopback_world_features(), false);
    for (unsigned int i = 0; i < G_N_ELEMENTS(vectors); i++) {
        make_frame(&frame, &vectors[i]);
        for (unsigned int n = 1; n <= 128; n *= 2) {
            const unsigned int queue = (i + n) % 2, entry = vectors[i].hash % n;

            set_table(&w, n, entry, queue, !queue);
            g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, queue);
            g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, queue);
            if (n > 1) {
                set_table(&w, n, (entry + 1) % n, queue, !queue);
                g_assert_cmpint(loopback_world_send(&w, i % 2, &frame), ==, !queue);
            }
        }
    }
    make_unclassified(&frame);
    set_table(&w, 2, 2, 0, 1);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 1);
    set_table(&w, 2, 2, 1, 0);
    g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, 0);
    loopback_world_cleanup(&w);
}

/* The last command says how queues are chosen (5.1.6.5.5). */
static void test_modes_of_multiqueue(const void *format)
{
    LoopbackWorld w;
    Frame frame;

    make_frame(&frame, &vectors[1]);        /* its hash is even */
    loopback_world_init(&w, format, loopback_world_features(), false);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 0);
    g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, LOOPBACK_NOWHERE);
    loopback_world_say(&w, "MQ_RSS_CONFIG types=0x2 unclassified=0 table=1,0 transmit=1 key=" KEY);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 1);
    g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, LOOPBACK_NOWHERE);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 0);
    g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, 1);
    loopback_world_say(&w, "MQ_RSS_CONFIG types=0x10 unclassified=0 table=1,1 transmit=2 key=" KEY);
    g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, 0);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 1");
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 0);
    g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, LOOPBACK_NOWHERE);
    loopback_world_cleanup(&w);
}

static void check_report(LoopbackWorld *w, const Frame *frame, unsigned int report, uint32_t hash)
{
    g_assert_cmpint(loopback_world_send(w, 0, frame), ==, 0);
    g_assert_cmpuint(GUINT16_FROM_LE(w->received.hash_report), ==, report);
    g_assert_cmphex(GUINT32_FROM_LE(w->received.hash_value), ==, hash);
    g_assert_cmpuint(w->received.padding, ==, 0);
}

/* HASH_REPORT: the header is longer, and says what was calculated. */
static void test_hash_report(const void *format)
{
    const uint64_t features = loopback_world_features() | LOOPBACK_NEEDS(MQ_HASH_CONFIG);
    LoopbackWorld w;
    Frame frame;

    for (unsigned int rss = 0; rss < 2; rss++) {
        loopback_world_init(&w, format,
                            rss ? features : features & ~LOOPBACK_NEEDS(MQ_RSS_CONFIG), false);
        w.sent.hash_value = w.sent.hash_report = w.sent.padding = 0xffff;
        for (unsigned int i = 0; i < G_N_ELEMENTS(vectors); i++) {
            const unsigned int report = vectors[i].v6 ? REPORT_TCPV6 : REPORT_TCPV4;

            make_frame(&frame, &vectors[i]);
            if (i == 0) {
                check_report(&w, &frame, REPORT_NONE, 0);
                loopback_world_say(&w, rss ? "MQ_RSS_CONFIG types=0x1ff unclassified=0 table=0 "
                                             "transmit=1 key=" KEY
                                           : "MQ_HASH_CONFIG types=0x1ff key=" KEY);
            }
            check_report(&w, &frame, report, vectors[i].hash);
        }
        make_unclassified(&frame);
        check_report(&w, &frame, REPORT_NONE, 0);
        loopback_world_say(&w, "MQ_HASH_CONFIG types=0 key=" KEY);
        make_frame(&frame, &vectors[0]);
        check_report(&w, &frame, REPORT_NONE, 0);
        loopback_world_cleanup(&w);
    }
}

/* HASH_CONFIG goes with automatic steering: the table is not used any more. */
static void test_hash_config_does_not_steer(const void *format)
{
    LoopbackWorld w;
    Frame frame;

    make_frame(&frame, &vectors[0]);
    loopback_world_init(&w, format, loopback_world_features() | LOOPBACK_NEEDS(MQ_HASH_CONFIG),
                        false);
    set_table(&w, 1, 0, 1, 1);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 1);
    g_assert_cmphex(GUINT32_FROM_LE(w.received.hash_value), ==, vectors[0].hash);
    loopback_world_say(&w, "MQ_HASH_CONFIG types=0x2 key=" KEY);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 0);
    g_assert_cmphex(GUINT32_FROM_LE(w.received.hash_value), ==, vectors[0].hash);
    /* A receive queue that the table did not name is not in use. */
    set_table(&w, 1, 0, 0, 0);
    loopback_world_say(&w, "MQ_HASH_CONFIG types=0x2 key=" KEY);
    g_assert_cmpint(loopback_world_send(&w, 1, &frame), ==, LOOPBACK_NOWHERE);
    loopback_world_cleanup(&w);
}

/* The hash of RSS_CONFIG ends with its table; that of HASH_CONFIG is not touched. */
static void test_pairs_set_ends_the_hash_of_the_table(const void *format)
{
    LoopbackWorld w;
    Frame frame;

    make_frame(&frame, &vectors[0]);
    loopback_world_init(&w, format, loopback_world_features() | LOOPBACK_NEEDS(MQ_HASH_CONFIG),
                        false);
    set_table(&w, 1, 0, 0, 0);
    check_report(&w, &frame, REPORT_TCPV4, vectors[0].hash);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    check_report(&w, &frame, REPORT_NONE, 0);
    loopback_world_say(&w, "MQ_HASH_CONFIG types=0x2 key=" KEY);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 1");
    check_report(&w, &frame, REPORT_TCPV4, vectors[0].hash);
    set_table(&w, 1, 0, 0, 0);
    loopback_world_say(&w, "MQ_HASH_CONFIG types=0x2 key=" KEY);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    check_report(&w, &frame, REPORT_TCPV4, vectors[0].hash);
    loopback_world_cleanup(&w);
}

/*
 * Ports, and a home address, that lie behind what is read of a frame to know it are not hashed,
 * though all of it is read to complete its checksum.
 */
static void test_hash_of_headers_far_in(const void *format)
{
    enum { EXTENSION_BYTES = 264, CSUM_START = 14 + 40 + EXTENSION_BYTES };
    const uint8_t extension[EXTENSION_BYTES] = { FRAME_TCP, EXTENSION_BYTES / 8 - 1, 1, 255,
                                                 [2 + 257] = 1, 3 };
    LoopbackWorld w;
    Frame frame;
    uint32_t hash;

    frame_begin(&frame, "02:00:00:00:00:01");
    frame_ipv6(&frame, "fe80::1", "fe80::2", 60, EXTENSION_BYTES + 20);
    frame_append(&frame, extension, sizeof(extension));
    frame_ports(&frame, FRAME_TCP, 1, 2, 0);
    loopback_world_init(&w, format, loopback_world_features() | LOOPBACK_NEEDS(MQ_HASH_CONFIG),
                        false);
    loopback_world_say(&w, "GUEST_OFFLOADS_SET 0");
    loopback_world_say(&w, "MQ_HASH_CONFIG types=0x1ff key=" KEY);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 0);
    g_assert_cmpuint(GUINT16_FROM_LE(w.received.hash_report), ==, REPORT_IPV6_EX);
    hash = w.received.hash_value;
    w.sent = (LoopbackHeader){ .flags = 1, .csum_start = GUINT16_TO_LE(CSUM_START),
                               .csum_offset = GUINT16_TO_LE(16) };
    g_assert_cmpint(loopback_world_send_bytes(&w, 0, frame.bytes, frame.n), ==, 0);
    g_assert_cmpuint(w.received.flags, ==, 0);
    g_assert_cmpuint(GUINT16_FROM_LE(w.received.hash_report), ==, REPORT_IPV6_EX);
    g_assert_cmphex(w.received.hash_value, ==, hash);
    loopback_world_cleanup(&w);
}

/* A receive buffer that holds a packet of this test's only in part. */
#define SHORT_GPA 0x100
#define SHORT_BYTES 30

static void add_short(LoopbackWorld *w, unsigned int queue)
{
    loopback_rig_add_one(&w->rig, 2 * queue, SHORT_GPA, SHORT_BYTES);
}

/* The frame in that and in another one. */
static void wait_both(LoopbackWorld *w, unsigned int queue, const Frame *frame)
{
    g_assert_cmpuint(loopback_rig_wait_used(&w->rig, 2 * queue, SHORT_GPA), ==, SHORT_BYTES);
    g_assert_cmpuint(loopback_rig_wait_used(&w->rig, 2 * queue, LOOPBACK_WORLD_RX(queue)), ==,
                     w->header_bytes + frame->n - SHORT_BYTES);
}

static void transmit_and_wait(LoopbackWorld *w, unsigned int pair, const Frame *frame)
{
    loopback_world_transmit(w, pair, frame->bytes, frame->n);
    g_assert_cmpuint(loopback_rig_wait_used(&w->rig, 2 * pair + 1, LOOPBACK_WORLD_TX(pair)), ==,
                     0);
}

/* A packet for the other pair's queue is dropped if there are too few buffers, and keeps none. */
static void test_no_receive_buffers(const void *format)
{
    LoopbackWorld w;
    Frame frame;

    make_frame(&frame, &vectors[0]);
    loopback_world_init(&w, format, loopback_world_features(), false);
    set_table(&w, 1, 0, 1, 1);
    for (unsigned int i = 0; i < 3 * LOOPBACK_RIG_NUM; i++) {
        transmit_and_wait(&w, 0, &frame);
        add_short(&w, 1);
        transmit_and_wait(&w, 0, &frame);
        g_assert_false(loopback_rig_has_used(&w.rig, RX1));
        loopback_world_post(&w, 1);
        transmit_and_wait(&w, 0, &frame);
        wait_both(&w, 1, &frame);
    }
    loopback_world_cleanup(&w);
}

/* While a pair's own packet waits for more buffers none of the others' gets those that it has. */
static void test_no_buffers_of_who_waits(const void *format)
{
    Frame frame, small;
    LoopbackWorld w;

    make_frame(&frame, &vectors[0]);
    make_unclassified(&small);
    loopback_world_init(&w, format, loopback_world_features(), false);
    set_table(&w, 1, 0, 1, 1);
    for (unsigned int i = 0; i < 3 * LOOPBACK_RIG_NUM; i++) {
        add_short(&w, 1);
        loopback_world_transmit(&w, 1, frame.bytes, frame.n);
        loopback_rig_wait_asleep(&w.rig, TX0);
        transmit_and_wait(&w, 0, &small);
        g_assert_false(loopback_rig_has_used(&w.rig, TX1));
        g_assert_false(loopback_rig_has_used(&w.rig, RX1));
        loopback_world_post(&w, 1);
        wait_both(&w, 1, &frame);
        g_assert_cmpuint(loopback_rig_wait_used(&w.rig, TX1, LOOPBACK_WORLD_TX(1)), ==, 0);
    }
    loopback_world_cleanup(&w);
}

/* What waits in its own queue goes elsewhere, and leaves its buffers, if another table says so. */
static void test_table_changes_while_a_packet_waits(const void *format)
{
    LoopbackWorld w;
    Frame frame;

    make_frame(&frame, &vectors[0]);
    loopback_world_init(&w, format, loopback_world_features(), false);
    set_table(&w, 1, 0, 0, 0);
    add_short(&w, 0);
    loopback_world_transmit(&w, 0, frame.bytes, frame.n);
    loopback_rig_wait_asleep(&w.rig, TX0);
    loopback_world_post(&w, 1);
    set_table(&w, 1, 0, 1, 1);
    g_assert_cmpuint(loopback_rig_wait_used(&w.rig, TX0, LOOPBACK_WORLD_TX(0)), ==, 0);
    g_assert_true(loopback_world_collect(&w, 1));
    g_assert_cmpmem(w.frame, w.n_frame, frame.bytes, frame.n);
    loopback_world_post(&w, 0);
    set_table(&w, 1, 0, 0, 0);
    transmit_and_wait(&w, 1, &frame);
    wait_both(&w, 0, &frame);
    loopback_world_cleanup(&w);
}

/* What waits and is not wanted any more is dropped, though nothing else happens in its pair. */
static void test_commands_drop_what_waits(const void *format)
{
    static const struct {
        unsigned int pair;
        const char *command;
    } cases[] = {
        { 1, "MQ_VQ_PAIRS_SET 1" }, { 0, "RX_PROMISC off" }, { 1, "RX_PROMISC off" },
    };
    Frame frame;

    make_frame(&frame, &vectors[0]);
    for (unsigned int i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        /* Without RSS pairs are in threads of their own. */
        const uint64_t without = i % 2 ? 0 : LOOPBACK_NEEDS(MQ_RSS_CONFIG);
        const unsigned int pair = cases[i / 2].pair;
        LoopbackWorld w;

        loopback_world_init(&w, format, loopback_world_features() & ~without, false);
        loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
        loopback_world_say(&w, "MAC_ADDR_SET 02:00:00:00:00:09");
        add_short(&w, pair);
        loopback_world_transmit(&w, pair, frame.bytes, frame.n);
        loopback_rig_wait_asleep(&w.rig, i % 2 ? RX0 : 2 * pair);
        loopback_world_say(&w, cases[i / 2].command);
        g_assert_cmpuint(loopback_rig_wait_used(&w.rig, 2 * pair + 1, LOOPBACK_WORLD_TX(pair)), ==,
                         0);
        g_assert_false(loopback_rig_has_used(&w.rig, 2 * pair));
        loopback_world_cleanup(&w);
    }
}

/* Commands are carried out in one thread while pairs come and go in others. */
static void test_pairs_stop_while_commands_come(const void *format)
{
    const VringSegment seg[] = {
        { LOOPBACK_RIG_COMMAND, 3, 0 }, { LOOPBACK_RIG_REPLY, 1, VRING_DESC_F_WRITE },
    };
    LoopbackWorld w;
    Frame frame;

    make_frame(&frame, &vectors[0]);
    loopback_world_init(&w, format, loopback_world_features() & ~LOOPBACK_NEEDS(MQ_RSS_CONFIG),
                        false);
    loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
    memcpy(w.rig.memory + LOOPBACK_RIG_COMMAND, "\0\0\1", 3);
    for (unsigned int i = 0; i < 300; i++) {
        const unsigned int pair = i % 2, ring = 2 * pair + i / 2 % 2;

        loopback_rig_add(&w.rig, CTRL, seg, G_N_ELEMENTS(seg), i);
        loopback_rig_give_ring(&w.rig, ring, loopback_rig_take_ring(&w.rig, ring));
        g_assert_cmpuint(loopback_rig_wait_used(&w.rig, CTRL, i), ==, 1);
        g_assert_cmpuint(w.rig.memory[LOOPBACK_RIG_REPLY], ==, NET_CTRL_OK);
        g_assert_cmpint(loopback_world_send(&w, pair, &frame), ==, pair);
    }
    loopback_world_cleanup(&w);
}

/* A queue that is stopped, disabled or broken receives nothing, and the others go on. */
static void test_receiver_is_away(const void *format)
{
    const VringSegment readable = { SHORT_GPA, SHORT_BYTES, 0 };
    LoopbackWorld w;
    Frame frame;
    VringBase base;

    make_frame(&frame, &vectors[0]);
    loopback_world_init(&w, format, loopback_world_features(), false);
    set_table(&w, 1, 0, 1, 1);
    for (unsigned int i = 0; i < 20; i++) {
        const unsigned int ring = i % 2 ? RX1 : TX1;

        g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 1);
        loopback_world_post(&w, 1);
        loopback_rig_wait_asleep(&w.rig, TX0);
        base = loopback_rig_take_ring(&w.rig, ring);
        transmit_and_wait(&w, 0, &frame);
        g_assert_false(loopback_rig_has_used(&w.rig, RX1));
        loopback_rig_give_ring(&w.rig, ring, base);
    }
    w.rig.dev->ops->ring_enable(w.rig.dev, RX1, false, NULL);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, LOOPBACK_NOWHERE);
    w.rig.dev->ops->ring_enable(w.rig.dev, RX1, true, NULL);
    g_assert_cmpint(loopback_world_send(&w, 0, &frame), ==, 1);

    /* Two, and one warning: who is broken is not asked again. */
    loopback_rig_add(&w.rig, RX1, &readable, 1, 1);
    loopback_rig_add(&w.rig, RX1, &readable, 1, 2);
    g_test_expect_message("svq", G_LOG_LEVEL_WARNING, "*pair 1: receive queue: *wrong direction*");
    for (unsigned int i = 0; i < 3; i++) {
        transmit_and_wait(&w, 0, &frame);
    }
    g_test_assert_expected_messages();
    set_table(&w, 1, 0, 0, 0);
    loopback_world_post(&w, 0);
    transmit_and_wait(&w, 0, &frame);
    g_assert_true(loopback_world_collect(&w, 0));
    loopback_world_cleanup(&w);
}

/* Large packets in flight on both pairs, all buffers in one place, told apart by cookies. */
enum { BURST = LOOPBACK_RIG_NUM, LARGE = 0x2000 };

typedef struct Traffic {
    LoopbackWorld *w;
    unsigned int posted[2], received[2];
} Traffic;

static void fill(Traffic *t)
{
    for (unsigned int i = 0; i < 2; i++) {
        const VringSegment seg = { LOOPBACK_WORLD_RX(i), LARGE, VRING_DESC_F_WRITE };

        for (; t->posted[i] < t->received[i] + BURST; t->posted[i]++) {
            loopback_rig_add(&t->w->rig, 2 * i, &seg, 1, t->posted[i] % BURST);
        }
    }
}

static void drain(Traffic *t)
{
    for (unsigned int i = 0; i < 2; i++) {
        for (; loopback_rig_has_used(&t->w->rig, 2 * i); t->received[i]++) {
            g_assert_cmpuint(loopback_rig_wait_used(&t->w->rig, 2 * i, t->received[i] % BURST), ==,
                             LARGE);
        }
    }
}

/* All that was sent, while what is received makes room for more. */
static void wait_sent(Traffic *t)
{
    for (unsigned int i = 0; i < 2 * BURST; i++) {
        const unsigned int ring = i % 2 ? TX1 : TX0;

        while (!loopback_rig_has_used(&t->w->rig, ring)) {
            drain(t);
            fill(t);
            g_thread_yield();
        }
        loopback_rig_wait_used(&t->w->rig, ring, i / 2);
    }
    drain(t);
}

/* What is under way when a command comes is received before its answer or not at all. */
static void test_takes_effect_before_the_answer(const void *format)
{
    static const struct {
        const char *open, *shut;
        bool silent[2];         /* receive queues, after @shut */
    } commands[] = {
        { "RX_NOUNI off", "RX_NOUNI on", { true, true } },
        { "MAC_ADDR_SET 02:00:00:00:00:01", "MAC_ADDR_SET 02:00:00:00:00:02", { true, true } },
        { "MQ_VQ_PAIRS_SET 2", "MQ_VQ_PAIRS_SET 1", { false, true } },
        { "MQ_RSS_CONFIG types=0x2 unclassified=0 table=1 transmit=2 key=" KEY,
          "MQ_RSS_CONFIG types=0x2 unclassified=0 table=0 transmit=2 key=" KEY, { false, true } },
        { "MQ_VQ_PAIRS_SET 2",
          "MQ_RSS_CONFIG types=0x2 unclassified=0 table=1 transmit=2 key=" KEY, { true, false } },
    };
    const uint64_t rounds = random_steps(400);
    LoopbackWorld w;
    Frame frame;

    make_frame(&frame, &vectors[0]);
    for (unsigned int c = 0; c < G_N_ELEMENTS(commands); c++) {
        Traffic t = { &w };

        loopback_world_init(&w, format, loopback_world_features(), false);
        loopback_world_say(&w, "RX_PROMISC off");
        loopback_world_say(&w, "MQ_VQ_PAIRS_SET 2");
        memcpy(w.rig.memory + LOOPBACK_WORLD_TX(0) + w.header_bytes, frame.bytes, frame.n);
        for (uint64_t round = 0; round < rounds; round++) {
            const VringSegment seg = { LOOPBACK_WORLD_TX(0), LARGE, 0 };
            unsigned int before[2];

            fill(&t);
            g_assert_cmpuint(loopback_rig_say(&w.rig, CTRL, commands[c].open), ==, NET_CTRL_OK);
            for (unsigned int i = 0; i < 2 * BURST; i++) {
                loopback_rig_add(&w.rig, i % 2 ? TX1 : TX0, &seg, 1, i / 2);
            }
            g_assert_cmpuint(loopback_rig_say(&w.rig, CTRL, commands[c].shut), ==, NET_CTRL_OK);
            drain(&t);
            memcpy(before, t.received, sizeof(before));
            wait_sent(&t);
            for (unsigned int i = 0; i < 2; i++) {
                g_assert_true(!commands[c].silent[i] || t.received[i] == before[i]);
            }
        }
        g_test_message("%s: %u and %u packets received", commands[c].shut, t.received[0],
                       t.received[1]);
        loopback_world_cleanup(&w);
    }
}

int main(int argc, char **argv)
{
    static const uint64_t formats[] = {
        VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
        VIRTIO_F_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
    };
    static const struct {
        const char *name;
        GTestDataFunc test;
    } tests[] = {
        { "where-the-hash-leads", test_where_the_hash_leads },
        { "modes-of-multiqueue", test_modes_of_multiqueue },
        { "hash-report", test_hash_report },
        { "hash-config-does-not-steer", test_hash_config_does_not_steer },
        { "pairs-set-ends-the-hash-of-the-table", test_pairs_set_ends_the_hash_of_the_table },
        { "hash-of-headers-far-in", test_hash_of_headers_far_in },
        { "no-receive-buffers", test_no_receive_buffers },
        { "no-buffers-of-who-waits", test_no_buffers_of_who_waits },
        { "table-changes-while-a-packet-waits", test_table_changes_while_a_packet_waits },
        { "commands-drop-what-waits", test_commands_drop_what_waits },
        { "pairs-stop-while-commands-come", test_pairs_stop_while_commands_come },
        { "receiver-is-away", test_receiver_is_away },
        { "takes-effect-before-the-answer", test_takes_effect_before_the_answer },
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned int i = 0; i < G_N_ELEMENTS(tests); i++) {
        for (unsigned int j = 0; j < G_N_ELEMENTS(formats); j++) {
            g_autofree char *name = g_strdup_printf("/loopback-steering/%s-%s",
                                                    j ? "packed" : "split", tests[i].name);

            g_test_add_data_func(name, &formats[j], tests[i].test);
        }
    }
    return g_test_run();
}
