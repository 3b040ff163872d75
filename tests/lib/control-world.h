/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole shadowed network device with a control queue: a device of paper (lib/fake-device.h), or a
 * vDPA device on the model, whose control queue works by itself (lib/ctrl-device.h), and a guest
 * that sends commands.
 *
 *   ControlWorld w;
 *   control_world_init(&w, &(ControlWorldConfig){ 0 });
 *   control_world_start(&w);
 *   control_world_do(&w, "RX_PROMISC on");
 *   control_world_assert_state(&w, "RX_PROMISC on\n");
 *   control_world_cleanup(&w);
 *
 * The guest's rings 0 and 1 are the first queue pair, or 0 to 3 two of them, without a control
 * queue; else ring 2 is its control queue, whatever the virtqueue's index.
 */
#ifndef TESTS_LIB_CONTROL_WORLD_H
#define TESTS_LIB_CONTROL_WORLD_H

#include "hw/net/net-ctrl-state.h"
#include "lib/mode-rig.h"
#include "lib/vdpa-model.h"

#define CONTROL_RING 2u

/* What the device has, beside VMM_FEATURES. */
#define CONTROL_WORLD_CSUM      VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_CSUM)
#define CONTROL_WORLD_STATUS    VIRTIO_F_BIT(VIRTIO_NET_F_STATUS)
#define CONTROL_WORLD_MQ        VIRTIO_F_BIT(VIRTIO_NET_F_MQ)
#define CONTROL_WORLD_RSS       VIRTIO_F_BIT(60)
#define CONTROL_WORLD_CTRL_VQ   VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ)
#define CONTROL_WORLD_CTRL_RX   VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_RX)
#define CONTROL_WORLD_CTRL_MAC  VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR)
#define CONTROL_WORLD_ANNOUNCE  VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE)

/* What a guest leaves out whose VMM has the control queue. */
#define CONTROL_WORLD_KEPT      (VIRTIO_NET_CTRL_FEATURES & ~CONTROL_WORLD_MQ)

typedef struct ControlWorldConfig {
    bool guest_packed, shadow_packed;
    unsigned int pairs;         /* of the device; 0: 1 */
    unsigned int queues;        /* virtqueues that it has; 0: those, and the control queue */
    uint64_t device_without;    /* features that it has not */
    uint64_t guest_without;     /* features that the guest does not take */
    bool no_config;             /* it has no configuration space */
    bool no_status;             /* the VMM does not speak of the device status */
    uint64_t withheld;
    SvqMode mode;
    SvqControlOptions options;
    const char *inflight;
    void (*prepare)(FakeDevice *fake);      /* before the device under test knows it */
    /* A vDPA device instead; then what is said of the device above does not count. */
    const VdpaModelConfig *model;
} ControlWorldConfig;

typedef struct ControlWorld {
    Rig rig;
    VdpaModel *model;           /* NULL: the device is rig.fake */
    CtrlDevice *ctrl;
    ControlWorldConfig config;
    unsigned int index;         /* of the device's control virtqueue */
    unsigned int commands_seen; /* by control_world_take_commands() */
    unsigned int posted;
    unsigned int n_fds;
} ControlWorld;

/* The VMM is not connected. */
void control_world_init(ControlWorld *w, const ControlWorldConfig *config);

/* Fails if a descriptor is left, or the device has seen its driver break a rule. */
void control_world_cleanup(ControlWorld *w);

/*
 * svqd ends, and the next one begins, with the in-flight file @inflight; the device has been reset.
 * The VMM and its guest live on, but are not connected.
 */
void control_world_restart(ControlWorld *w, const char *inflight);

/* The same after a kill: the file is as it is now, and ends up in @copy. */
void control_world_kill(ControlWorld *w, const char *copy);

/* Connects, up to features and memory. */
void control_world_connect(ControlWorld *w);

/* The same, and starts pair 0 and the control queue anew, up to DRIVER_OK; waits until they run. */
void control_world_start(ControlWorld *w);

/* The same for a guest that has lived on while its VMM had no connection. */
void control_world_go_on(ControlWorld *w);

/* Ring @q begins anew, or goes on where GET_VRING_BASE said. */
void control_world_start_ring(ControlWorld *w, unsigned int q);
void control_world_continue_ring(ControlWorld *w, unsigned int q);

/* DRIVER_OK, if this VMM speaks of it. */
void control_world_driver_ok(ControlWorld *w);

/* GET_VRING_BASE for pair 0 and the control queue. */
void control_world_pause(ControlWorld *w);

/* The device of paper goes, and comes back; fresh, of course. */
void control_world_replace_device(ControlWorld *w);

/* Runs the main loop until rings 0 and 1 run, and the control queue, too, if the guest has it. */
void control_world_await_running(ControlWorld *w);

/* Runs the main loop until the device has taken @n commands since it was made. */
void control_world_await_taken(ControlWorld *w, unsigned int n);

/* Runs the main loop until @n buffers of virtqueue @q were forwarded since svqd began. */
void control_world_await_buffers(ControlWorld *w, unsigned int q, uint64_t n);

/* Whether the device has data ring @q. */
bool control_world_has_ring(const ControlWorld *w, unsigned int q);

/* The guest sends a command, as net_ctrl_from_string() has it; and gets an answer to any. */
void control_world_post(ControlWorld *w, const char *text);
void control_world_post_bytes(ControlWorld *w, const uint8_t *bytes, uint32_t n);
uint8_t control_world_await_ack(ControlWorld *w);

/* Both. */
uint8_t control_world_try(ControlWorld *w, const char *text);
void control_world_do(ControlWorld *w, const char *text);

/* What svqd says of the state. */
void control_world_assert_state(ControlWorld *w, const char *lines);

/* The same, of any device. */
void control_world_assert_state_of(SvqDevice *dev, const char *lines);

/* What the device was commanded since this was asked last, with "; " between; free it. */
char *control_world_take_commands(ControlWorld *w);
void control_world_assert_commands(ControlWorld *w, const char *expected);

/* Runs the main loop until that is it. */
void control_world_await_commands(ControlWorld *w, const char *expected);

/* By DEVICE_STATE: NULL, or false: svqd refuses. */
GBytes *control_world_save(ControlWorld *w);
bool control_world_load(ControlWorld *w, GBytes *state);

/* The status field of the configuration space, as the guest reads it. */
uint16_t control_world_net_status(ControlWorld *w);

/* The VMM listens for news of the configuration space: our end. */
int control_world_listen(ControlWorld *w);

/* Runs the main loop until there is some. */
void control_world_await_news(int fd);

#endif
