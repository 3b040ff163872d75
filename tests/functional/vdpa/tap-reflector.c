/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap-reflector TAP QUEUES REPORT COMMAND...: runs QEMU beside a tap device, of which it may open
 * QUEUES queues, checks each datagram of `svq-bench vhost-user --udp` that comes out of a queue,
 * and sends it back through the same one with its addresses and ports swapped.
 *
 * On SIGUSR1 the counters of the queues are written to the file REPORT, one queue a line, and begin
 * anew: datagrams that are right, and the next one in order; datagrams that are not; other frames;
 * datagrams that could not be sent back.
 */
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_QUEUES 16
#define BATCH 64
#define FRAME_MAX 2048
#define SOURCE_PORT 50000       /* and the queue pair; so for the destination */
#define DESTINATION_PORT 51000

typedef struct __attribute__((packed)) Datagram {
    struct ether_header ether;
    struct iphdr ip;
    struct udphdr udp;
    uint8_t payload[];
} Datagram;

typedef struct Queue {
    int socket;
    uint64_t right, wrong, other, unsent;
} Queue;

typedef struct Reflector {
    const char *report;
    unsigned int n_queues;
    Queue queues[MAX_QUEUES];
    uint8_t frames[BATCH][FRAME_MAX];
    struct sockaddr_ll addresses[BATCH];
    struct iovec vectors[BATCH];
    struct mmsghdr messages[BATCH];
} Reflector;

/* Whether @payload is what svq-bench makes of @number and @pair: the number, then words, each of
 * which follows from the one before. */
static gboolean is_payload(const uint8_t *payload, size_t size, uint64_t number, unsigned int pair)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t word = (number + 1) * step ^ (uint64_t)(pair + 1) << 48;
    size_t at;

    if (size < sizeof(number) || memcmp(payload, &number, sizeof(number))) {
        return FALSE;
    }
    for (at = sizeof(number); at < size; at += sizeof(word)) {
        if (memcmp(payload + at, &word, MIN(sizeof(word), size - at))) {
            return FALSE;
        }
        word = (word << 7 | word >> 57) + step;
    }
    return TRUE;
}

static gboolean is_datagram(const Datagram *frame, size_t size)
{
    return size >= sizeof(*frame) && frame->ether.ether_type == htons(ETHERTYPE_IP) &&
           frame->ip.version == 4 && frame->ip.ihl == sizeof(frame->ip) / 4 &&
           frame->ip.protocol == IPPROTO_UDP;
}

/* Whether @frame, a datagram, is the one that queue pair @pair sends as its @number'th. */
static gboolean is_right(const Datagram *frame, size_t size, unsigned int pair, uint64_t number)
{
    return ntohs(frame->udp.source) == SOURCE_PORT + pair &&
           ntohs(frame->udp.dest) == DESTINATION_PORT + pair &&
           ntohs(frame->ip.tot_len) == size - sizeof(frame->ether) &&
           ntohs(frame->udp.len) == size - offsetof(Datagram, udp) &&
           is_payload(frame->payload, size - sizeof(*frame), number, pair);
}

static void swap(void *a, void *b, size_t size)
{
    uint8_t held[ETH_ALEN];

    memcpy(held, a, size);
    memcpy(a, b, size);
    memcpy(b, held, size);
}

static void turn_round(Datagram *frame)
{
    swap(frame->ether.ether_dhost, frame->ether.ether_shost, ETH_ALEN);
    swap((uint8_t *)frame + offsetof(Datagram, ip.saddr),
         (uint8_t *)frame + offsetof(Datagram, ip.daddr), sizeof(frame->ip.saddr));
    swap((uint8_t *)frame + offsetof(Datagram, udp.source),
         (uint8_t *)frame + offsetof(Datagram, udp.dest), sizeof(frame->udp.source));
}

static void send_back(Queue *queue, Datagram *frame, size_t size)
{
    turn_round(frame);
    if (send(queue->socket, frame, size, 0) != (ssize_t)size) {
        queue->unsent++;
    }
}

/* Takes what queue @index has received, a batch at most. */
static void reflect(Reflector *r, unsigned int index)
{
    Queue *queue = &r->queues[index];
    int n = recvmmsg(queue->socket, r->messages, BATCH, MSG_DONTWAIT, NULL);

    for (int i = 0; i < n; i++) {
        Datagram *frame = (Datagram *)r->frames[i];
        const size_t size = r->messages[i].msg_len;

        if (r->addresses[i].sll_pkttype == PACKET_OUTGOING) {
            continue;
        }
        if (!is_datagram(frame, size)) {
            queue->other++;
            continue;
        }
        if (is_right(frame, size, index, queue->right)) {
            queue->right++;
        } else {
            queue->wrong++;
        }
        send_back(queue, frame, size);
    }
}

/* Whoever waits for the file finds it whole. */
static void write_report(Reflector *r)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    for (unsigned int i = 0; i < r->n_queues; i++) {
        Queue *queue = &r->queues[i];

        g_string_append_printf(text, "%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %"
                               G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n", queue->right,
                               queue->wrong, queue->other, queue->unsent);
        queue->right = queue->wrong = queue->other = queue->unsent = 0;
    }
    if (!g_file_set_contents(r->report, text->str, -1, &error)) {
        g_printerr("tap-reflector: %s\n", error->message);
    }
}

/* The signals of the reflector; blocked, since they are read from a file. */
static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Until the command has ended; its status. */
static int run(Reflector *r, int signals)
{
    struct pollfd polled[MAX_QUEUES + 1];
    struct signalfd_siginfo info;
    int status;

    for (unsigned int i = 0; i < r->n_queues; i++) {
        polled[i] = (struct pollfd){ .fd = r->queues[i].socket, .events = POLLIN };
    }
    polled[r->n_queues] = (struct pollfd){ .fd = signals, .events = POLLIN };
    for (;;) {
        poll(polled, r->n_queues + 1, -1);
        for (unsigned int i = 0; i < r->n_queues; i++) {
            if (polled[i].revents) {
                reflect(r, i);
            }
        }
        if (!polled[r->n_queues].revents || read(signals, &info, sizeof(info)) != sizeof(info)) {
            continue;
        }
        if (info.ssi_signo == SIGUSR1) {
            write_report(r);
        } else if (waitpid(-1, &status, WNOHANG) > 0) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
        }
    }
}

static void start_command(char **argv)
{
    sigset_t none;

    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execvp(argv[0], argv);
        g_printerr("tap-reflector: %s: %s\n", argv[0], g_strerror(errno));
        _exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv)
{
    g_autofree Reflector *r = g_new0(Reflector, 1);
    g_autoptr(GError) error = NULL;
    int sockets[MAX_QUEUES];
    int signals;

    r->n_queues = argc > 4 ? (unsigned int)g_ascii_strtoull(argv[2], NULL, 10) : 0;
    if (!r->n_queues || r->n_queues > MAX_QUEUES) {
        g_printerr("usage: tap-reflector TAP QUEUES REPORT COMMAND...\n");
        return EXIT_FAILURE;
    }
    r->report = argv[3];
    if (!tap_create(argv[1], r->n_queues, &error) ||
        !tap_open_sockets(argv[1], sockets, r->n_queues, &error)) {
        g_printerr("tap-reflector: %s\n", error->message);
        return EXIT_FAILURE;
    }
    for (unsigned int i = 0; i < r->n_queues; i++) {
        r->queues[i].socket = sockets[i];
    }
    for (unsigned int i = 0; i < BATCH; i++) {
        r->vectors[i] = (struct iovec){ r->frames[i], FRAME_MAX };
        r->messages[i].msg_hdr = (struct msghdr){ .msg_iov = &r->vectors[i], .msg_iovlen = 1,
                                                  .msg_name = &r->addresses[i],
                                                  .msg_namelen = sizeof(r->addresses[i]) };
    }
    signals = open_signals();
    start_command(&argv[4]);
    return run(r, signals);
}
