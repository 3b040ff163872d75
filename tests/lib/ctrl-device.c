/* SPDX-License-Identifier: BSD-3-Clause */
/* A control virtqueue made of paper.  See ctrl-device.h. */
#include "lib/ctrl-device.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "util/event-notifier.h"

/* A command that waits for its answer. */
typedef struct Waiting {
    GBytes *bytes;
    uint16_t id;
    int64_t due_us;
    unsigned int n_answer;      /* segments that the device writes */
    VringSegment *answer;
} Waiting;

struct CtrlDevice {
    bool by_hand;
    EventNotifier wake;
    pthread_t thread;           /* while attached, but for @by_hand */

    pthread_mutex_t lock;       /* all that follows */
    CtrlDeviceKnobs knobs;
    CtrlDeviceStats stats;
    CtrlDeviceRing ring;        /* .vr NULL: not attached */
    bool running;
    bool kicked;                /* and not looked at since */
    bool broken;                /* until the next attach */
    bool quit;
    GPtrArray *commands;        /* of GBytes */
    GQueue waiting;             /* of Waiting, the oldest first */
    GString *faults;
    VringSegment segments[VRING_MAX_SIZE];
};

static void waiting_free(Waiting *command)
{
    g_bytes_unref(command->bytes);
    g_free(command->answer);
    g_free(command);
}

static void blame(CtrlDevice *ctrl, const char *what)
{
    g_string_append_printf(ctrl->faults, "control queue: %s\n", what);
    ctrl->broken = true;
}

/* What the segments hold together; NULL: one is out of reach. */
static GBytes *gather(CtrlDevice *ctrl, const VringSegment *seg, unsigned int n)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    unsigned int i;

    for (i = 0; i < n; i++) {
        const void *host = ctrl->ring.find(ctrl->ring.opaque, &seg[i]);

        if (!host) {
            blame(ctrl, "a command is out of reach");
            return NULL;
        }
        g_byte_array_append(bytes, host, seg[i].len);
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&bytes));
}

static void scatter(CtrlDevice *ctrl, const Waiting *command, const uint8_t *data, size_t n)
{
    unsigned int i;

    for (i = 0; i < command->n_answer && n; i++) {
        const size_t part = MIN(n, command->answer[i].len);
        void *host = ctrl->ring.find(ctrl->ring.opaque, &command->answer[i]);

        if (!host) {
            blame(ctrl, "room for an answer is out of reach");
            return;
        }
        memcpy(host, data, part);
        data += part;
        n -= part;
    }
}

static void accept(CtrlDevice *ctrl, const VringSegment *seg, unsigned int n, uint16_t id)
{
    unsigned int n_read = 0;
    Waiting *command;
    GBytes *bytes;

    while (n_read < n && !seg[n_read].flags) {
        n_read++;
    }
    bytes = gather(ctrl, seg, n_read);
    if (!bytes) {
        return;
    }
    if (n_read == n) {
        blame(ctrl, "a command without room for an answer");
    }
    command = g_new(Waiting, 1);
    *command = (Waiting){
        .bytes = bytes,
        .id = id,
        .due_us = g_get_monotonic_time() + ctrl->knobs.latency_us,
        .n_answer = n - n_read,
        .answer = g_memdup2(seg + n_read, (n - n_read) * sizeof(*seg)),
    };
    g_ptr_array_add(ctrl->commands, g_bytes_ref(bytes));
    g_queue_push_tail(&ctrl->waiting, command);
    ctrl->stats.taken++;
    ctrl->stats.waiting++;
    ctrl->stats.most_waiting = MAX(ctrl->stats.most_waiting, ctrl->stats.waiting);
}

static void take_all(CtrlDevice *ctrl)
{
    VringDevice *vr = ctrl->ring.vr;
    uint16_t id;
    int n;

    do {
        while (!ctrl->broken &&
               (n = vring_device_take(vr, vr->packed, NULL, ctrl->segments, 0, &id)) != 0) {
            if (n < 0) {
                g_autofree char *text = vring_error_to_string(&vr->error);

                blame(ctrl, text);
                return;
            }
            accept(ctrl, ctrl->segments, (unsigned int)n, id);
        }
    } while (!ctrl->broken && vring_device_enable_kick(vr, vr->packed));
}

static size_t room_of(const Waiting *command)
{
    size_t room = 0;
    unsigned int i;

    for (i = 0; i < command->n_answer; i++) {
        room += command->answer[i].len;
    }
    return MIN(room, CTRL_DEVICE_MAX_ANSWER);
}

static void answer(CtrlDevice *ctrl, Waiting *command)
{
    const CtrlDeviceKnobs *knobs = &ctrl->knobs;
    const size_t room = room_of(command);
    uint8_t data[CTRL_DEVICE_MAX_ANSWER] = { knobs->ack };
    gsize n;
    const uint8_t *bytes = g_bytes_get_data(command->bytes, &n);

    if (knobs->execute && room) {
        data[0] = knobs->execute(bytes, n, data + 1, room - 1, knobs->opaque);
    }
    scatter(ctrl, command, data, room);
    vring_device_put(ctrl->ring.vr, ctrl->ring.vr->packed, command->id,
                     knobs->has_used_len ? knobs->used_len : (uint32_t)room);
    ctrl->stats.waiting--;
    ctrl->stats.answered++;
    waiting_free(command);
}

/* Of those with the same latency the oldest is due first; a knob may have been turned since. */
static void answer_due(CtrlDevice *ctrl)
{
    const int64_t now_us = g_get_monotonic_time();
    GQueue due = G_QUEUE_INIT;
    GList *item = ctrl->waiting.head;

    while (item && !ctrl->knobs.never) {
        GList *next = item->next;

        if (((Waiting *)item->data)->due_us <= now_us) {
            g_queue_unlink(&ctrl->waiting, item);
            if (ctrl->knobs.reverse) {
                g_queue_push_head_link(&due, item);
            } else {
                g_queue_push_tail_link(&due, item);
            }
        }
        item = next;
    }
    while (!g_queue_is_empty(&due)) {
        answer(ctrl, g_queue_pop_head(&due));
    }
}

static void publish(CtrlDevice *ctrl)
{
    VringDevice *vr = ctrl->ring.vr;
    const EventNotifier call = { ctrl->ring.call_fd };

    if (!vring_device_has_unpublished(vr, vr->packed)) {
        return;
    }
    vring_device_publish(vr, vr->packed);
    if (vring_device_needs_call(vr, vr->packed) && call.fd >= 0) {
        event_notifier_set(&call);
    }
}

static int64_t us_until_due(const CtrlDevice *ctrl)
{
    int64_t next_us = INT64_MAX;
    const GList *item;

    for (item = ctrl->waiting.head; item && !ctrl->knobs.never; item = item->next) {
        next_us = MIN(next_us, ((const Waiting *)item->data)->due_us);
    }
    return next_us == INT64_MAX ? -1 : MAX(next_us - g_get_monotonic_time(), 0);
}

int64_t ctrl_device_work(CtrlDevice *ctrl, bool kicked)
{
    int64_t wait_us = -1;

    pthread_mutex_lock(&ctrl->lock);
    ctrl->kicked |= kicked;
    if (ctrl->running && !ctrl->broken) {
        if (ctrl->kicked) {
            ctrl->kicked = false;
            take_all(ctrl);
        }
        answer_due(ctrl);
        publish(ctrl);
        wait_us = us_until_due(ctrl);
    }
    pthread_mutex_unlock(&ctrl->lock);
    return wait_us;
}

/* Whether it was kicked. */
static bool await_events(CtrlDevice *ctrl, int kick_fd, int64_t wait_us)
{
    const struct timespec timeout = { wait_us / G_USEC_PER_SEC, wait_us % G_USEC_PER_SEC * 1000 };
    struct pollfd fds[] = {
        { .fd = ctrl->wake.fd, .events = POLLIN },
        { .fd = kick_fd, .events = POLLIN },
    };

    ppoll(fds, G_N_ELEMENTS(fds), wait_us < 0 ? NULL : &timeout, NULL);
    event_notifier_test_and_clear(&ctrl->wake);
    return fds[1].revents && event_notifier_test_and_clear(&(EventNotifier){ kick_fd });
}

static void *thread_run(void *opaque)
{
    CtrlDevice *ctrl = opaque;
    bool kicked = false, quit, running;

    for (;;) {
        int64_t wait_us = ctrl_device_work(ctrl, kicked);

        pthread_mutex_lock(&ctrl->lock);
        quit = ctrl->quit;
        running = ctrl->running;
        pthread_mutex_unlock(&ctrl->lock);
        if (quit) {
            return NULL;
        }
        kicked = await_events(ctrl, running ? ctrl->ring.kick_fd : -1, wait_us);
    }
}

static void start_thread(CtrlDevice *ctrl)
{
    if (!ctrl->by_hand) {
        ctrl->quit = false;
        g_assert_cmpint(pthread_create(&ctrl->thread, NULL, thread_run, ctrl), ==, 0);
    }
}

static void join_thread(CtrlDevice *ctrl)
{
    if (!ctrl->by_hand) {
        pthread_mutex_lock(&ctrl->lock);
        ctrl->quit = true;
        pthread_mutex_unlock(&ctrl->lock);
        event_notifier_set(&ctrl->wake);
        g_assert_cmpint(pthread_join(ctrl->thread, NULL), ==, 0);
    }
}

CtrlDevice *ctrl_device_new(bool by_hand)
{
    CtrlDevice *ctrl = g_new0(CtrlDevice, 1);

    ctrl->by_hand = by_hand;
    ctrl->commands = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    ctrl->faults = g_string_new(NULL);
    g_queue_init(&ctrl->waiting);
    pthread_mutex_init(&ctrl->lock, NULL);
    g_assert_cmpint(event_notifier_init(&ctrl->wake), ==, 0);
    return ctrl;
}

void ctrl_device_free(CtrlDevice *ctrl)
{
    g_assert_null(ctrl->ring.vr);
    g_assert_cmpstr(ctrl->faults->str, ==, "");
    g_ptr_array_free(ctrl->commands, TRUE);
    g_string_free(ctrl->faults, TRUE);
    event_notifier_cleanup(&ctrl->wake);
    pthread_mutex_destroy(&ctrl->lock);
    g_free(ctrl);
}

void ctrl_device_attach(CtrlDevice *ctrl, const CtrlDeviceRing *ring)
{
    g_assert_null(ctrl->ring.vr);
    ctrl->ring = *ring;
    ctrl->running = ctrl->broken = ctrl->kicked = false;
    start_thread(ctrl);
}

void ctrl_device_run(CtrlDevice *ctrl, bool run)
{
    pthread_mutex_lock(&ctrl->lock);
    ctrl->running = run;
    pthread_mutex_unlock(&ctrl->lock);
    event_notifier_set(&ctrl->wake);
}

void ctrl_device_set_fds(CtrlDevice *ctrl, int kick_fd, int call_fd)
{
    join_thread(ctrl);
    ctrl->ring.kick_fd = kick_fd;
    ctrl->ring.call_fd = call_fd;
    start_thread(ctrl);
}

void ctrl_device_detach(CtrlDevice *ctrl)
{
    Waiting *command;

    join_thread(ctrl);
    pthread_mutex_lock(&ctrl->lock);
    while ((command = g_queue_pop_head(&ctrl->waiting))) {
        waiting_free(command);
        ctrl->stats.waiting--;
        ctrl->stats.forgotten++;
    }
    ctrl->ring.vr = NULL;
    ctrl->running = false;
    pthread_mutex_unlock(&ctrl->lock);
}

void ctrl_device_set(CtrlDevice *ctrl, const CtrlDeviceKnobs *knobs)
{
    pthread_mutex_lock(&ctrl->lock);
    ctrl->knobs = *knobs;
    pthread_mutex_unlock(&ctrl->lock);
    event_notifier_set(&ctrl->wake);
}

CtrlDeviceStats ctrl_device_get_stats(CtrlDevice *ctrl)
{
    CtrlDeviceStats stats;

    pthread_mutex_lock(&ctrl->lock);
    stats = ctrl->stats;
    pthread_mutex_unlock(&ctrl->lock);
    return stats;
}

GBytes *ctrl_device_get_command(CtrlDevice *ctrl, unsigned int i)
{
    GBytes *bytes = NULL;

    pthread_mutex_lock(&ctrl->lock);
    if (i < ctrl->commands->len) {
        bytes = g_bytes_ref(g_ptr_array_index(ctrl->commands, i));
    }
    pthread_mutex_unlock(&ctrl->lock);
    return bytes;
}

char *ctrl_device_take_faults(CtrlDevice *ctrl)
{
    char *faults;

    pthread_mutex_lock(&ctrl->lock);
    faults = g_strdup(ctrl->faults->str);
    g_string_truncate(ctrl->faults, 0);
    pthread_mutex_unlock(&ctrl->lock);
    return faults;
}

int ctrl_device_get_wake_fd(CtrlDevice *ctrl)
{
    return ctrl->wake.fd;
}
