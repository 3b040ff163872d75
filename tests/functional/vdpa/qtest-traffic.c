/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qtest-traffic PACKETS PID QEMU-OPTION...: sends packets through a virtio-net-pci at address 4 of
 * a QEMU whose guest is this program, gets them back, and prints the CPU time in microseconds that
 * QEMU, and process PID unless that is 0, have taken for them.
 *
 * How it works: one packet is a broadcast frame with its number in it; fewer are under way than the
 * device has receive buffers, since it drops what has no room.  They come back in order.  Before,
 * single packets are sent until one comes back: the first may be faster than the first receive
 * buffers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../qtest/qtest.h"
#include "../../qtest/virtio-net.h"

#define NET_DEVFN (4 << 3)
#define WINDOW 64
#define FRAME_SIZE 106
#define NUMBER_OFFSET 14        /* behind the Ethernet header */
#define SILENCE_US (10 * G_TIME_SPAN_SECOND)
#define PROBE_US (20 * G_TIME_SPAN_MILLISECOND)
#define PROBES 500

typedef struct Packets {
    VirtioNet net;
    uint64_t sent, received, goal;
    gint64 heard_us;            /* when the last one came */
} Packets;

static void make_frame(uint8_t *frame, uint64_t number)
{
    memset(frame, (int)(number % 251), FRAME_SIZE);
    memset(frame, 0xff, 6);
    memcpy(frame + NUMBER_OFFSET, &number, sizeof(number));
}

static void send_packets(Packets *packets)
{
    NetQueue *tx = virtio_net_tx(&packets->net, 0);
    const uint64_t end = MIN(packets->goal, packets->received + WINDOW);
    const bool any = packets->sent < end && tx->n_free;

    while (packets->sent < end && tx->n_free) {
        const uint32_t cookie = tx->free[--tx->n_free];
        const VringSegment segment = { tx->buffers + cookie * NET_BUFFER_SIZE,
                                       NET_HEADER_SIZE + FRAME_SIZE, 0 };
        uint8_t *buffer = virtio_net_buffer(&packets->net, tx, cookie);

        memset(buffer, 0, NET_HEADER_SIZE);
        make_frame(buffer + NET_HEADER_SIZE, packets->sent++);
        vring_driver_add(&tx->vr, tx->vr.packed, &segment, 1, cookie);
    }
    if (any) {
        virtio_net_publish(&packets->net, tx);
    }
}

/* The late answer to a probe is none. */
static void check_frame(Packets *packets, const uint8_t *frame, uint32_t size)
{
    uint8_t expected[FRAME_SIZE];
    uint64_t number;

    g_assert_cmpuint(size, ==, FRAME_SIZE);
    memcpy(&number, frame + NUMBER_OFFSET, sizeof(number));
    if (number >= packets->received) {
        make_frame(expected, packets->received++);
        g_assert_cmpmem(frame, size, expected, FRAME_SIZE);
    }
}

static void receive_packets(Packets *packets)
{
    NetQueue *rx = virtio_net_rx(&packets->net, 0), *tx = virtio_net_tx(&packets->net, 0);
    uint32_t cookie, len;
    bool any = false;

    while (virtio_net_collect(&packets->net, rx, &cookie, &len)) {
        check_frame(packets, virtio_net_buffer(&packets->net, rx, cookie) + NET_HEADER_SIZE,
                    len - NET_HEADER_SIZE);
        virtio_net_add_rx(&packets->net, rx, cookie);
        any = true;
    }
    while (virtio_net_collect(&packets->net, tx, &cookie, &len)) {
        tx->free[tx->n_free++] = cookie;
    }
    if (any) {
        virtio_net_publish(&packets->net, rx);
        packets->heard_us = g_get_monotonic_time();
    }
}

/* Whether a packet came back. */
static bool probe(Packets *packets)
{
    const gint64 end = g_get_monotonic_time() + PROBE_US;

    packets->received = packets->sent;
    packets->goal = packets->sent + 1;
    send_packets(packets);
    do {
        receive_packets(packets);
        g_usleep(50);
    } while (packets->received < packets->goal && g_get_monotonic_time() < end);
    return packets->received == packets->goal;
}

static void wait_open(Packets *packets)
{
    unsigned int n = 0;

    while (!probe(packets)) {
        if (++n == PROBES) {
            g_error("none of %u packets came back", n);
        }
    }
}

static void run(Packets *packets, uint64_t n)
{
    packets->goal = packets->sent + n;
    packets->heard_us = g_get_monotonic_time();
    while (packets->received < packets->goal) {
        send_packets(packets);
        receive_packets(packets);
        if (g_get_monotonic_time() - packets->heard_us > SILENCE_US) {
            g_error("%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " packets came back",
                    packets->received, packets->sent);
        }
        g_usleep(50);   /* whom we wait for need our CPU */
    }
}

/* User and system time of all threads of a process: fields 14 and 15 of proc(5). */
static gint64 cpu_us(int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    g_auto(GStrv) fields = NULL;

    if (!pid) {
        return 0;
    }
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    fields = g_strsplit(strrchr(text, ')') + 2, " ", 0);
    return (g_ascii_strtoll(fields[11], NULL, 10) + g_ascii_strtoll(fields[12], NULL, 10)) *
           G_TIME_SPAN_SECOND / sysconf(_SC_CLK_TCK);
}

int main(int argc, char **argv)
{
    const NetConfig config = { .pairs = 1, .rx_size = NET_BUFFER_SIZE };
    Packets packets = { .sent = 0 };
    gint64 qemu_us, other_us;
    Qtest *qtest;
    int other;

    if (argc < 4) {
        fprintf(stderr, "usage: qtest-traffic PACKETS PID QEMU-OPTION...\n");
        return EXIT_FAILURE;
    }
    other = atoi(argv[2]);
    qtest = qtest_start((const char *const *)&argv[3], "qemu.log");
    virtio_net_init(&packets.net, qtest, NET_DEVFN);
    virtio_net_start(&packets.net, &config);
    wait_open(&packets);
    qemu_us = -cpu_us(process_pid(qtest_process(qtest)));
    other_us = -cpu_us(other);
    run(&packets, g_ascii_strtoull(argv[1], NULL, 10));
    qemu_us += cpu_us(process_pid(qtest_process(qtest)));
    other_us += cpu_us(other);
    printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT "\n", qemu_us, other_us);
    virtio_net_reset(&packets.net);
    virtio_net_cleanup(&packets.net);
    qtest_end(qtest);
    return EXIT_SUCCESS;
}
