/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of a virtio-net driver.
 *
 * A command is laid out as Linux does: its header, its data and the byte for the device's answer
 * have a descriptor each.
 */
#include "net-control.h"

#include <poll.h>

#include "report.h"

#define CONTROL_NUM     16
#define CONTROL_SPACE   64          /* bytes for a command, or for an answer */
#define TIMEOUT_NS      UINT64_C(5000000000)
#define LOOK_AGAIN_MS   10          /* a call that never comes is not what is tried here */

#define VIRTIO_NET_CTRL_MQ              4
#define VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET 0
#define VIRTIO_NET_OK                   0
#define NO_ANSWER                       0xff

uint64_t net_control_memory_size(void)
{
    return guest_queue_memory_size(CONTROL_NUM) + 3 * CONTROL_SPACE;
}

bool net_control_init(NetControl *control, const BenchOptions *options, GuestMemory *memory,
                      GError **errp)
{
    control->command = guest_memory_alloc(memory, 0, CONTROL_SPACE, CONTROL_SPACE);
    control->ack = guest_memory_alloc(memory, 0, CONTROL_SPACE, CONTROL_SPACE);
    return guest_queue_init(&control->queue, options, CONTROL_NUM, memory, errp);
}

void net_control_cleanup(NetControl *control)
{
    guest_queue_cleanup(&control->queue);
}

/* Until the buffer that was added is used: 1; 0: in vain; -EPROTO. */
static int await_used(GuestQueue *queue)
{
    const uint64_t start = bench_now_ns();
    struct pollfd call = { .fd = queue->call.fd, .events = POLLIN };
    uint32_t cookie, len;
    int ret;

    while ((ret = vring_driver_collect(&queue->driver, queue->packed, &cookie, &len)) == 0 &&
           bench_now_ns() - start < TIMEOUT_NS) {
        if (!vring_driver_enable_call(&queue->driver, queue->packed)) {
            poll(&call, 1, LOOK_AGAIN_MS);
            event_notifier_test_and_clear(&queue->call);
        }
    }
    return ret;
}

bool net_control_set_pairs(NetControl *control, unsigned int pairs, GError **errp)
{
    const VringSegment segments[] = {
        { control->command.gpa, 2, 0 },
        { control->command.gpa + 2, 2, 0 },
        { control->ack.gpa, 1, VRING_DESC_F_WRITE },
    };
    uint8_t *command = control->command.host, *ack = control->ack.host;
    GuestQueue *queue = &control->queue;
    int ret;

    command[0] = VIRTIO_NET_CTRL_MQ;
    command[1] = VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
    command[2] = (uint8_t)pairs;
    command[3] = (uint8_t)(pairs >> 8);
    *ack = NO_ANSWER;
    guest_queue_add(queue, segments, G_N_ELEMENTS(segments), 0);
    guest_queue_publish(queue);
    ret = await_used(queue);
    if (ret < 0) {
        return bench_fail(errp, "control queue: %s", queue->driver.error.what);
    }
    if (ret == 0) {
        return bench_fail(errp, "control queue: no answer to MQ_VQ_PAIRS_SET");
    }
    return *ack == VIRTIO_NET_OK ||
           bench_fail(errp, "control queue: MQ_VQ_PAIRS_SET to %u is answered with %u", pairs,
                      *ack);
}
