/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A ShadowVirtqueue with a ControlQueue between a guest and a device, both played by the test.
 *
 *   ControlRig rig;
 *   control_rig_init(&rig, &(ControlRigConfig){ .guest_packed = true });
 *   unsigned int c = control_rig_say(&rig, "VLAN_ADD 5");
 *   control_rig_step(&rig);
 *   control_rig_answer(&rig, control_rig_take(&rig), NET_CTRL_OK);
 *   control_rig_step(&rig);
 *   control_rig_hear(&rig, c, NET_CTRL_OK);
 *
 * How it works.  Without an AioContext the test steps the queue; with one the queue's thread runs
 * it, and the test rings bells and waits.  The device's memory is a heap block of its own, and
 * nothing else has an address there: a command that names the guest's memory to the device fails
 * the test.
 *
 * Threads: the test's, but for what the queue's owner tells us, which is counted in atomics.
 */
#ifndef TESTS_LIB_CONTROL_RIG_H
#define TESTS_LIB_CONTROL_RIG_H

#include "hw/svq/shadow-virtqueue.h"
#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/guest.h"
#include "util/event-notifier.h"

/* The inside of the engine. */
#include "../../hw/svq/control-queue.h"

#define CONTROL_RIG_NUM     128         /* of the guest's ring */
#define CONTROL_RIG_IOVA    UINT64_C(0x700000000)
#define CONTROL_RIG_WAIT_MS 20000       /* longer than anything lasts */

/* The guest's memory: two regions side by side, and a place for each command. */
#define CONTROL_RIG_LOW     UINT64_C(0x10000)
#define CONTROL_RIG_HIGH    UINT64_C(0x11000)
#define CONTROL_RIG_END     UINT64_C(0x12000)
#define CONTROL_RIG_PLACES  UINT64_C(0x1000000)
#define CONTROL_RIG_PLACE   UINT64_C(0x40000)   /* bytes */
#define CONTROL_RIG_REPLY   UINT64_C(0x30000)   /* of the answer in a place */

typedef struct ControlRigConfig {
    bool guest_packed, shadow_packed;
    bool event_idx;                     /* of both rings */
    bool guest_in_order, device_in_order;
    uint32_t shadow_num;                /* 0: CONTROL_QUEUE_NUM */
    int64_t timeout_ns;                 /* 0: an hour */
    AioContext *ctx;
    bool mute;                          /* control_queue_begin() is for the test */
    bool no_call;                       /* the device never calls: its ring is polled */
} ControlRigConfig;

typedef struct ControlRig {
    ControlRigConfig config;
    MemoryMap *map;
    VringConfig guest, shadow;
    VringDriver driver;
    VringDevice device;
    ShadowVirtqueue *svq;
    ControlQueue *queue;
    NetCtrlState *state;
    uint8_t *commands;                  /* CONTROL_QUEUE_BYTES */
    SvqLogging *logging;
    EventNotifier guest_kick, guest_call, guest_err, device_kick, device_call;
    unsigned int said;                  /* commands */
    bool running;

    /* How often the owner told us, and what. */
    atomic_uint changed, sent, announced, through, failed, broken;

    /* Called in the middle of a burst, if set. */
    void (*on_changed)(struct ControlRig *rig);
} ControlRig;

/* A command that the device has. */
typedef struct RigCommand {
    uint16_t id;
    uint32_t n;                         /* bytes */
    uint8_t *bytes;
    uint32_t room;                      /* for an answer */
    uint8_t *reply;
} RigCommand;

/* Instead of g_test_init(): what the code under test says is kept, see control_rig_take_words(). */
void control_rig_test_init(int *argc, char ***argv);

/* Adds "NAME/FORMATS" for each pair; the test gets its ControlRigConfig. */
void control_rig_test_add(const char *name, GTestDataFunc test);

/* The limits of either side. */
extern const NetCtrlLimits control_rig_limits;

void control_rig_init(ControlRig *rig, const ControlRigConfig *config);
/* Fails the test if the code under test has said what nobody took. */
void control_rig_cleanup(ControlRig *rig);

/* Messages and warnings since the last time, a line each; free it. */
char *control_rig_take_words(void);
/* That was one line, with @part in it. */
void control_rig_expect_words(const char *part);

/* Stops the queue: where the guest's ring goes on.  @device_lost as shadow_virtqueue_stop(). */
VringBase control_rig_stop(ControlRig *rig, bool device_lost);
/* Starts it there, with a device that knows nothing. */
void control_rig_start(ControlRig *rig);

/* Both directions, until nothing moves. */
void control_rig_step(ControlRig *rig);

/* The guest. */

/* Says the command that @text is (net_ctrl_from_string), or these bytes; returns its number. */
unsigned int control_rig_say(ControlRig *rig, const char *text);
unsigned int control_rig_say_bytes(ControlRig *rig, const void *bytes, uint32_t n, uint32_t room);
/* The same in elements of the test's. */
unsigned int control_rig_say_segments(ControlRig *rig, const VringSegment *seg, unsigned int n);
/* With all elements in a table that lies at @table. */
unsigned int control_rig_say_table(ControlRig *rig, uint64_t table, const VringSegment *seg,
                                   unsigned int n);

/* The guest's memory at @gpa; and where command @c lies, and its answer. */
uint8_t *control_rig_host(ControlRig *rig, uint64_t gpa);
uint64_t control_rig_place(unsigned int c);
uint8_t *control_rig_reply(ControlRig *rig, unsigned int c);

/* The next answer is of command @c, of @len bytes and with @ack; there is none. */
void control_rig_hear(ControlRig *rig, unsigned int c, uint8_t ack);
void control_rig_hear_len(ControlRig *rig, unsigned int c, uint8_t ack, uint32_t len);
void control_rig_hear_nothing(ControlRig *rig);

/* The device. */

/* The next command. */
RigCommand control_rig_take(ControlRig *rig);
bool control_rig_try_take(ControlRig *rig, RigCommand *command);
void control_rig_take_nothing(ControlRig *rig);
/* That and what it says. */
RigCommand control_rig_take_text(ControlRig *rig, const char *text);
/* Answers with this ack alone. */
void control_rig_answer(ControlRig *rig, RigCommand command, uint8_t ack);
/* Says that it wrote @len bytes; what it did write is the test's. */
void control_rig_use(ControlRig *rig, uint16_t id, uint32_t len);

/* The guest's command goes all the way. */
void control_rig_do(ControlRig *rig, const char *text);

/* The state is what net_ctrl_state_to_string() says. */
void control_rig_check_state(ControlRig *rig, const char *lines);

/* Steps of the commands in @lines: "* " before one with a barrier. */
GArray *control_rig_steps(const char *lines);

/* Waits, for the owner's thread. */
void control_rig_await(EventNotifier *notifier);

#endif
