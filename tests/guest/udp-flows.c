/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs in a guest: several UDP flows at once to a host that sends each datagram back, all of whose
 * content, order and number must be right.
 *
 *     udp-flows ADDRESS FLOWS DATAGRAMS
 *
 * How it works: flow N is a thread on CPU N modulo the number of CPUs, and the driver gives each
 * CPU a transmit queue, so the flows spread evenly over the queue pairs.  A datagram is made of
 * nothing but its flow and number: random length, random content.  What comes back is compared with
 * it whole.  A queue pair keeps the order, so the only good answer is the next one.  Few datagrams
 * are under way at any time, less than any ring or socket holds: there is no excuse to lose one.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define FIRST_PORT 9000
#define WINDOW     16
#define TIMEOUT_S  20
#define LENGTH_MIN 16
#define LENGTH_MAX 1472
#define FLOWS_MAX  64

typedef struct Flow {
    pthread_t thread;
    unsigned number;
    unsigned long datagrams;
    struct sockaddr_in peer;
    uint64_t bytes;
    bool failed;
} Flow;

/* splitmix64: every state, also those that differ by one bit, leads to an unrelated value. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t value = *state += UINT64_C(0x9e3779b97f4a7c15);

    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* Writes datagram `number` of flow `flow`, whole words, and returns its length in bytes. */
static size_t datagram_make(unsigned flow, uint64_t number, uint64_t data[static LENGTH_MAX / 8])
{
    uint64_t state = (uint64_t)flow << 32 | number;
    size_t length = LENGTH_MIN + random_next(&state) % (LENGTH_MAX - LENGTH_MIN + 1);

    data[0] = flow;
    data[1] = number;
    for (size_t i = 2; i * 8 < length; i++) {
        data[i] = random_next(&state);
    }
    return length;
}

static bool flow_fail(Flow *flow, uint64_t number, const char *what)
{
    printf("GUEST: flow %u: datagram %llu: %s\n", flow->number, (unsigned long long)number, what);
    return false;
}

static bool flow_send(Flow *flow, int fd, uint64_t number)
{
    uint64_t data[LENGTH_MAX / 8];
    size_t length = datagram_make(flow->number, number, data);

    if (send(fd, data, length, 0) != (ssize_t)length) {
        return flow_fail(flow, number, strerror(errno));
    }
    return true;
}

static bool flow_receive(Flow *flow, int fd, uint64_t number)
{
    uint64_t expected[LENGTH_MAX / 8];
    uint64_t data[LENGTH_MAX / 8 + 1];
    size_t length = datagram_make(flow->number, number, expected);
    ssize_t received = recv(fd, data, sizeof(data), 0);

    if (received < 0) {
        return flow_fail(flow, number, errno == EAGAIN ? "lost" : strerror(errno));
    }
    if (received >= LENGTH_MIN && data[0] == flow->number && data[1] != number) {
        return flow_fail(flow, number,
                         data[1] < number ? "an older one came again" : "lost, or overtaken");
    }
    if ((size_t)received != length || memcmp(data, expected, length) != 0) {
        return flow_fail(flow, number, "came back changed");
    }
    flow->bytes += length;
    return true;
}

static bool flow_exchange(Flow *flow, int fd)
{
    uint64_t sent = 0;

    for (uint64_t received = 0; received < flow->datagrams; received++) {
        while (sent < flow->datagrams && sent < received + WINDOW) {
            if (!flow_send(flow, fd, sent++)) {
                return false;
            }
        }
        if (!flow_receive(flow, fd, received)) {
            return false;
        }
    }
    /* All are back; a copy of one would be waiting here. */
    if (recv(fd, &sent, sizeof(sent), MSG_DONTWAIT) >= 0) {
        return flow_fail(flow, flow->datagrams, "more came back than was sent");
    }
    return true;
}

static void *flow_run(void *opaque)
{
    Flow *flow = opaque;
    struct timeval timeout = { .tv_sec = TIMEOUT_S };
    cpu_set_t cpus;
    int fd;

    CPU_ZERO(&cpus);
    CPU_SET(flow->number % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0) {
        err(1, "sched_setaffinity");
    }
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(fd, (struct sockaddr *)&flow->peer, sizeof(flow->peer)) < 0) {
        err(1, "socket");
    }
    flow->failed = !flow_exchange(flow, fd);
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    static Flow flows[FLOWS_MAX];
    struct sockaddr_in peer = { .sin_family = AF_INET };
    unsigned n_flows = argc == 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    unsigned long datagrams = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    uint64_t bytes = 0;
    bool failed = false;

    if (n_flows == 0 || n_flows > FLOWS_MAX || datagrams == 0 ||
        inet_pton(AF_INET, argv[1], &peer.sin_addr) != 1) {
        errx(2, "usage: udp-flows ADDRESS FLOWS DATAGRAMS, at most %u flows", FLOWS_MAX);
    }
    for (unsigned i = 0; i < n_flows; i++) {
        peer.sin_port = htons((uint16_t)(FIRST_PORT + i));
        flows[i] = (Flow){ .number = i, .datagrams = datagrams, .peer = peer };
        if (pthread_create(&flows[i].thread, NULL, flow_run, &flows[i]) != 0) {
            errx(1, "pthread_create");
        }
    }
    for (unsigned i = 0; i < n_flows; i++) {
        pthread_join(flows[i].thread, NULL);
        bytes += flows[i].bytes;
        failed |= flows[i].failed;
    }
    if (!failed) {
        printf("GUEST: flows done, %llu bytes\n", (unsigned long long)bytes);
    }
    return failed;
}
