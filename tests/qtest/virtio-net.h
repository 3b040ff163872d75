/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver of a network device with several queue pairs, in a machine driven over qtest.
 *
 * How it works: its rings and buffers are in the guest's memory, which we map; so vring-driver
 * works on them as it does on any ring, and only notifications go through QEMU.  Queue 2N
 * receives and 2N + 1 transmits for pair N; the control queue stands behind the pairs that the
 * device has (5.1.2).
 *
 * Threads: the test's main thread.
 */
#ifndef TESTS_QTEST_VIRTIO_NET_H
#define TESTS_QTEST_VIRTIO_NET_H

#include "hw/virtio/vring-driver.h"
#include "virtio-pci.h"

#define NET_MAX_PAIRS 8
#define NET_HEADER_SIZE 12
#define NET_BUFFER_SIZE 2048

/* What the driver asks for. */
typedef struct NetConfig {
    bool packed, event_idx;
    unsigned int pairs;         /* to set up */
    uint32_t rx_size;           /* of a receive buffer, bytes; a packet may take several */
} NetConfig;

typedef struct NetQueue {
    unsigned int index;
    VirtioPciQueue areas;       /* guest-physical */
    VringDriver vr;
    uint64_t notify_addr;
    uint64_t buffers;           /* one of NET_BUFFER_SIZE bytes for each cookie, guest-physical */
    uint32_t n_free;            /* transmit: cookies that may be used */
    uint32_t *free;
} NetQueue;

typedef struct VirtioNet {
    VirtioPci dev;
    Qtest *qtest;
    NetConfig config;
    unsigned int max_pairs;     /* that the device has */
    NetQueue queues[2 * NET_MAX_PAIRS];
    NetQueue control;
} VirtioNet;

void virtio_net_init(VirtioNet *net, Qtest *qtest, unsigned int devfn);
void virtio_net_cleanup(VirtioNet *net);

/*
 * From reset to DRIVER_OK, in three steps so that a test may do something in between: features
 * and queues, DRIVER_OK, receive buffers.  The device then uses one pair.
 */
void virtio_net_set_up(VirtioNet *net, const NetConfig *config);
void virtio_net_driver_ok(VirtioNet *net);
void virtio_net_fill_rx(VirtioNet *net, unsigned int pair);

/* All three, for all pairs. */
void virtio_net_start(VirtioNet *net, const NetConfig *config);

/* Whether the device says that its link is up (5.1.4). */
bool virtio_net_link_is_up(VirtioNet *net);

/* Resets the device; its queues are not touched any more. */
void virtio_net_reset(VirtioNet *net);

/* Has the device use @pairs queue pairs; the class's ack, 0: done (5.1.6.5.5). */
uint8_t virtio_net_set_pairs(VirtioNet *net, unsigned int pairs);

NetQueue *virtio_net_rx(VirtioNet *net, unsigned int pair);
NetQueue *virtio_net_tx(VirtioNet *net, unsigned int pair);

/* The buffer @cookie of @queue in our memory. */
uint8_t *virtio_net_buffer(VirtioNet *net, NetQueue *queue, uint32_t cookie);

/* Adds buffer @cookie of a receive queue again. */
void virtio_net_add_rx(VirtioNet *net, NetQueue *queue, uint32_t cookie);

/* Publishes what was added, and notifies the device if it asked for that. */
void virtio_net_publish(VirtioNet *net, NetQueue *queue);

/* The next used buffer; false: none.  The test fails if the device broke the rules. */
bool virtio_net_collect(VirtioNet *net, NetQueue *queue, uint32_t *cookie, uint32_t *len);

#endif
