/* SPDX-License-Identifier: BSD-3-Clause */
/* A control queue between a guest and a device that the test plays.  See control-rig.h. */
#include "lib/control-rig.h"

#include <poll.h>
#include <string.h>

#define HOUR_NS INT64_C(3600000000000)
#define UNTOUCHED 0xee          /* what lies where an answer belongs */

const NetCtrlLimits control_rig_limits = {
    .features = UINT64_MAX, .max_pairs = 8, .max_key_bytes = 40, .max_table = 128,
    .hash_types = 0x1ff,
};

static GMutex words_lock;
static GString *words;

static void keep_words(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
    g_mutex_lock(&words_lock);
    g_string_append_printf(words, "%s\n", text);
    g_mutex_unlock(&words_lock);
}

void control_rig_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    g_log_set_always_fatal((GLogLevelFlags)(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    words = g_string_new(NULL);
    g_log_set_handler("svq", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE, keep_words, NULL);
}

void control_rig_test_add(const char *name, GTestDataFunc test)
{
    static const ControlRigConfig formats[] = {
        { .guest_packed = false, .shadow_packed = false },
        { .guest_packed = false, .shadow_packed = true },
        { .guest_packed = true, .shadow_packed = false },
        { .guest_packed = true, .shadow_packed = true },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s-%s", name,
                                                formats[i].guest_packed ? "packed" : "split",
                                                formats[i].shadow_packed ? "packed" : "split");

        g_test_add_data_func(path, &formats[i], test);
    }
}

char *control_rig_take_words(void)
{
    char *text;

    g_mutex_lock(&words_lock);
    text = g_strdup(words->str);
    g_string_truncate(words, 0);
    g_mutex_unlock(&words_lock);
    return text;
}

void control_rig_expect_words(const char *part)
{
    g_autofree char *text = control_rig_take_words();

    if (!strstr(text, part) || strchr(text, '\n') != text + strlen(text) - 1) {
        g_test_message("expected '%s', was '%s'", part, text);
        g_assert_not_reached();
    }
}

/* What the owner tells. */

static void changed(void *opaque)
{
    ControlRig *rig = opaque;

    atomic_fetch_add(&rig->changed, 1);
    if (rig->on_changed) {
        rig->on_changed(rig);
    }
}

static void sent(void *opaque)
{
    atomic_fetch_add(&((ControlRig *)opaque)->sent, 1);
}

static void announced(void *opaque)
{
    atomic_fetch_add(&((ControlRig *)opaque)->announced, 1);
}

static void through(void *opaque, unsigned int failed)
{
    ControlRig *rig = opaque;

    atomic_store(&rig->failed, failed);
    atomic_fetch_add(&rig->through, 1);
}

static void broken(void *opaque)
{
    atomic_fetch_add(&((ControlRig *)opaque)->broken, 1);
}

/* Start and stop. */

static void notifier_init(EventNotifier *notifier)
{
    g_assert_cmpint(event_notifier_init(notifier), ==, 0);
}

void control_rig_start(ControlRig *rig)
{
    const ControlRigConfig *config = &rig->config;
    const ControlQueueConfig commands = {
        .host = rig->commands,
        .iova = CONTROL_RIG_IOVA,
        .limits = control_rig_limits,
        .device_limits = control_rig_limits,
        .state = rig->state,
        .timeout_ns = config->timeout_ns ? config->timeout_ns : HOUR_NS,
        .changed = changed,
        .sent = sent,
        .announced = announced,
        .through = through,
        .opaque = rig,
    };
    const ShadowVirtqueueConfig queue = {
        .ctx = config->ctx,
        .map = &rig->map,
        .logging = &rig->logging,
        .guest = rig->guest,
        .shadow = rig->shadow,
        .guest_kick_fd = rig->guest_kick.fd,
        .guest_call_fd = rig->guest_call.fd,
        .guest_err_fd = rig->guest_err.fd,
        .device_kick_fd = rig->device_kick.fd,
        .device_call_fd = config->no_call ? -1 : rig->device_call.fd,
        .control = rig->queue,
        .broken = broken,
        .opaque = rig,
    };
    g_autoptr(GError) err = NULL;

    control_queue_configure(rig->queue, &commands);
    shadow_virtqueue_start(rig->svq, &queue, &err);
    g_assert_no_error(err);
    g_assert_cmpint(vring_device_init(&rig->device, &rig->shadow), ==, 0);
    rig->running = true;
    if (!config->mute) {
        control_queue_begin(rig->svq, NULL);
    }
}

VringBase control_rig_stop(ControlRig *rig, bool device_lost)
{
    shadow_virtqueue_detach(rig->svq);
    shadow_virtqueue_stop(rig->svq, device_lost, &rig->guest.base);
    vring_device_cleanup(&rig->device);
    rig->running = false;
    return rig->guest.base;
}

void control_rig_init(ControlRig *rig, const ControlRigConfig *config)
{
    static const GuestRegion regions[] = {
        { CONTROL_RIG_LOW, CONTROL_RIG_HIGH - CONTROL_RIG_LOW, UINT64_C(0x500000) },
        { CONTROL_RIG_HIGH, CONTROL_RIG_END - CONTROL_RIG_HIGH, UINT64_C(0x400000) },
        { CONTROL_RIG_PLACES, CONTROL_RIG_NUM * CONTROL_RIG_PLACE, CONTROL_RIG_PLACES },
    };

    *rig = (ControlRig){
        .config = *config,
        .map = guest_memory_new(regions, G_N_ELEMENTS(regions)),
        .guest = { .num = CONTROL_RIG_NUM, .packed = config->guest_packed,
                   .event_idx = config->event_idx, .in_order = config->guest_in_order,
                   .indirect = true },
        .shadow = { .num = config->shadow_num ? config->shadow_num : CONTROL_QUEUE_NUM,
                    .packed = config->shadow_packed, .event_idx = config->event_idx,
                    .in_order = config->device_in_order },
        .svq = shadow_virtqueue_new("control"),
        .queue = control_queue_new("control"),
        .state = net_ctrl_state_new(),
        .commands = g_malloc0(CONTROL_QUEUE_BYTES),
    };
    notifier_init(&rig->guest_kick);
    notifier_init(&rig->guest_call);
    notifier_init(&rig->guest_err);
    notifier_init(&rig->device_kick);
    notifier_init(&rig->device_call);
    guest_ring_alloc(&rig->guest);
    guest_ring_alloc(&rig->shadow);
    g_assert_cmpint(vring_driver_init(&rig->driver, &rig->guest, NULL, 0), ==, 0);
    control_rig_start(rig);
}

void control_rig_cleanup(ControlRig *rig)
{
    g_autofree char *unexpected = NULL;

    if (rig->running) {
        control_rig_stop(rig, false);
    }
    shadow_virtqueue_free(rig->svq);
    control_queue_free(rig->queue);
    net_ctrl_state_free(rig->state);
    vring_driver_cleanup(&rig->driver);
    guest_ring_free(&rig->guest);
    guest_ring_free(&rig->shadow);
    g_free(rig->commands);
    guest_memory_free(rig->map);
    event_notifier_cleanup(&rig->guest_kick);
    event_notifier_cleanup(&rig->guest_call);
    event_notifier_cleanup(&rig->guest_err);
    event_notifier_cleanup(&rig->device_kick);
    event_notifier_cleanup(&rig->device_call);
    unexpected = control_rig_take_words();
    g_assert_cmpstr(unexpected, ==, "");
}

void control_rig_step(ControlRig *rig)
{
    unsigned int moved;

    do {
        moved = shadow_virtqueue_return(rig->svq);
        moved += shadow_virtqueue_offer(rig->svq);
    } while (moved);
}

/* The guest. */

uint8_t *control_rig_host(ControlRig *rig, uint64_t gpa)
{
    return memory_map_host(rig->map, gpa, 1);
}

uint64_t control_rig_place(unsigned int c)
{
    return CONTROL_RIG_PLACES + c % CONTROL_RIG_NUM * CONTROL_RIG_PLACE;
}

uint8_t *control_rig_reply(ControlRig *rig, unsigned int c)
{
    return control_rig_host(rig, control_rig_place(c) + CONTROL_RIG_REPLY);
}

/* The queue hears of it, if it wants to. */
static unsigned int publish(ControlRig *rig)
{
    vring_driver_publish(&rig->driver, rig->guest.packed);
    if (vring_driver_needs_kick(&rig->driver, rig->guest.packed)) {
        event_notifier_set(&rig->guest_kick);
    }
    return rig->said++;
}

unsigned int control_rig_say_segments(ControlRig *rig, const VringSegment *seg, unsigned int n)
{
    g_assert_true(vring_driver_has_room(&rig->driver, n));
    /* Flat: the driver has no tables. */
    vring_driver_add(&rig->driver, rig->guest.packed, seg, n, rig->said);
    return publish(rig);
}

unsigned int control_rig_say_table(ControlRig *rig, uint64_t table, const VringSegment *seg,
                                   unsigned int n)
{
    const VringSegment whole = { table, n * (uint32_t)sizeof(VringDesc), 0 };
    VringAdding adding = vring_driver_begin_adding(&rig->driver, rig->guest.packed);
    uint32_t writable = 0;
    unsigned int i;

    for (i = 0; i < n; i++) {
        const uint32_t flags = seg[i].flags | (i + 1 < n ? VRING_DESC_F_NEXT : 0);
        const uint64_t desc[2] = {
            htole64(seg[i].addr),
            htole64(rig->guest.packed ? vring_packed_meta(seg[i].len, 0, seg[i].flags)
                                      : vring_split_meta(seg[i].len, flags, i + 1)),
        };

        memcpy(control_rig_host(rig, table + i * sizeof(desc)), desc, sizeof(desc));
        writable += seg[i].flags ? seg[i].len : 0;
    }
    vring_driver_add_one(&rig->driver, rig->guest.packed, &adding, whole, table, rig->said,
                         VRING_DESC_F_INDIRECT, writable);
    vring_driver_end_adding(&rig->driver, rig->guest.packed, &adding, 1);
    return publish(rig);
}

unsigned int control_rig_say_bytes(ControlRig *rig, const void *bytes, uint32_t n, uint32_t room)
{
    const uint64_t place = control_rig_place(rig->said);
    const VringSegment seg[] = {
        { place, n, 0 },
        { place + CONTROL_RIG_REPLY, room, VRING_DESC_F_WRITE },
    };

    memcpy(control_rig_host(rig, place), bytes, n);
    memset(control_rig_host(rig, place + CONTROL_RIG_REPLY), UNTOUCHED, 2 * NET_CTRL_MAX_RESULT);
    return control_rig_say_segments(rig, seg, G_N_ELEMENTS(seg));
}

unsigned int control_rig_say(ControlRig *rig, const char *text)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GByteArray) bytes = net_ctrl_from_string(text, &err);

    g_assert_no_error(err);
    return control_rig_say_bytes(rig, bytes->data, bytes->len, 1 + NET_CTRL_MAX_RESULT);
}

void control_rig_hear_len(ControlRig *rig, unsigned int c, uint8_t ack, uint32_t len)
{
    uint32_t cookie = 0, told = 0;

    g_assert_cmpint(vring_driver_collect(&rig->driver, rig->guest.packed, &cookie, &told), ==, 1);
    g_assert_cmpuint(cookie, ==, c);
    g_assert_cmpuint(told, ==, len);
    g_assert_cmphex(control_rig_reply(rig, c)[0], ==, ack);
    g_assert_cmphex(control_rig_reply(rig, c)[len], ==, UNTOUCHED);
}

void control_rig_hear(ControlRig *rig, unsigned int c, uint8_t ack)
{
    control_rig_hear_len(rig, c, ack, 1);
}

void control_rig_hear_nothing(ControlRig *rig)
{
    g_assert_false(vring_driver_has_used(&rig->driver, rig->guest.packed));
}

/* The device. */

static uint8_t *find_command(ControlRig *rig, const VringSegment *seg)
{
    g_assert_cmphex(seg->addr, >=, CONTROL_RIG_IOVA);
    g_assert_cmphex(seg->addr + seg->len, <=, CONTROL_RIG_IOVA + CONTROL_QUEUE_BYTES);
    return rig->commands + (seg->addr - CONTROL_RIG_IOVA);
}

bool control_rig_try_take(ControlRig *rig, RigCommand *command)
{
    VringSegment seg[CONTROL_QUEUE_NUM];
    uint16_t id = 0;
    int n = vring_device_take(&rig->device, rig->shadow.packed, NULL, seg, 0, &id);

    g_assert_cmpint(n, >=, 0);
    if (n == 0) {
        return false;
    }
    g_assert_cmpint(n, ==, 2);
    g_assert_cmpuint(seg[0].flags, ==, 0);
    g_assert_cmpuint(seg[1].flags, ==, VRING_DESC_F_WRITE);
    *command = (RigCommand){
        .id = id,
        .n = seg[0].len,
        .bytes = find_command(rig, &seg[0]),
        .room = seg[1].len,
        .reply = find_command(rig, &seg[1]),
    };
    return true;
}

RigCommand control_rig_take(ControlRig *rig)
{
    RigCommand command = { 0 };

    g_assert_true(control_rig_try_take(rig, &command));
    return command;
}

void control_rig_take_nothing(ControlRig *rig)
{
    RigCommand command;

    g_assert_false(control_rig_try_take(rig, &command));
}

RigCommand control_rig_take_text(ControlRig *rig, const char *text)
{
    const RigCommand command = control_rig_take(rig);
    g_autoptr(GError) err = NULL;
    g_autoptr(GByteArray) bytes = net_ctrl_from_string(text, &err);

    g_assert_no_error(err);
    g_assert_cmpmem(command.bytes, command.n, bytes->data, bytes->len);
    return command;
}

void control_rig_use(ControlRig *rig, uint16_t id, uint32_t len)
{
    vring_device_put(&rig->device, rig->shadow.packed, id, len);
    vring_device_publish(&rig->device, rig->shadow.packed);
    if (vring_device_needs_call(&rig->device, rig->shadow.packed)) {
        event_notifier_set(&rig->device_call);
    }
}

void control_rig_answer(ControlRig *rig, RigCommand command, uint8_t ack)
{
    command.reply[0] = ack;
    control_rig_use(rig, command.id, 1);
}

void control_rig_do(ControlRig *rig, const char *text)
{
    const unsigned int c = control_rig_say(rig, text);

    control_rig_step(rig);
    control_rig_answer(rig, control_rig_take_text(rig, text), NET_CTRL_OK);
    control_rig_step(rig);
    control_rig_hear(rig, c, NET_CTRL_OK);
}

void control_rig_check_state(ControlRig *rig, const char *lines)
{
    g_autofree char *text = net_ctrl_state_to_string(rig->state);

    g_assert_cmpstr(text, ==, lines);
}

GArray *control_rig_steps(const char *lines)
{
    GArray *steps = control_queue_steps_new();
    g_auto(GStrv) line = g_strsplit(lines, "\n", -1);
    unsigned int i;

    for (i = 0; line[i] && *line[i]; i++) {
        const bool barrier = g_str_has_prefix(line[i], "* ");
        g_autoptr(GError) err = NULL;
        GByteArray *bytes = net_ctrl_from_string(line[i] + (barrier ? 2 : 0), &err);
        NetCtrlStep step = { .barrier = barrier };

        g_assert_no_error(err);
        step.bytes = g_byte_array_free_to_bytes(bytes);
        g_array_append_val(steps, step);
    }
    return steps;
}

void control_rig_await(EventNotifier *notifier)
{
    struct pollfd pfd = { .fd = notifier->fd, .events = POLLIN };

    g_assert_cmpint(poll(&pfd, 1, CONTROL_RIG_WAIT_MS), ==, 1);
    event_notifier_test_and_clear(notifier);
}
