/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of a virtio-net driver.
 *
 * A command is laid out as Linux does, its header, its data and the byte for the device's answer
 * each in a descriptor of its own, unless --descriptors asks for more: then header and data
 * together are cut into so many pieces, wherever that is.
 */
#include "net-control.h"

#include <poll.h>
#include <string.h>

#include "hw/net/net-ctrl.h"

#define CONTROL_NUM     64
#define MAX_PIECES      (VRING_INDIRECT_MAX - 2)    /* answer and result are pieces, too */
#define BLOCK_ALIGN     64
#define TIMEOUT_NS      UINT64_C(15000000000)   /* svqd gives up on a device sooner */
#define LOOK_AGAIN_MS   10      /* a call that never comes is not what is tried here */
#define NO_ANSWER       0xff

typedef struct NetControlCommand {
    char *text;                 /* as it was given */
    uint8_t expected;           /* answer */
    GByteArray *bytes;          /* class, command, data */
    uint32_t result_size;       /* bytes that the device may write behind its answer */
    GuestBlock command, ack, result;
    uint64_t sent_ns;
} NetControlCommand;

static NetControlCommand *command_at(const NetControl *control, unsigned int i)
{
    return &g_array_index(control->commands, NetControlCommand, i);
}

static void command_clear(void *opaque)
{
    NetControlCommand *command = opaque;

    g_free(command->text);
    g_byte_array_unref(command->bytes);
}

static void done_clear(void *opaque)
{
    BenchCommand *done = opaque;

    g_free(done->text);
    g_free(done->result);
}

/* --- set-up --- */

static uint32_t result_size(const GByteArray *bytes)
{
    unsigned int i;

    for (i = 0; i < NET_CTRL_COUNT; i++) {
        const NetCtrlSpec *spec = net_ctrl_spec((NetCtrlId)i);

        if (spec->class == bytes->data[0] && spec->command == bytes->data[1]) {
            return spec->result;
        }
    }
    return 0;
}

/* Hexadecimal digits, at least those of a header; NULL: @text is something else. */
static GByteArray *parse_hex(const char *text)
{
    const size_t n = strlen(text);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    size_t i;

    for (i = 0; i < n; i += 2) {
        const int high = g_ascii_xdigit_value(text[i]);
        const int low = g_ascii_xdigit_value(text[i + 1]);      /* of the last one its end: -1 */
        uint8_t byte;

        if (high < 0 || low < 0) {
            return NULL;
        }
        byte = (uint8_t)(high << 4 | low);
        g_byte_array_append(bytes, &byte, 1);
    }
    return bytes->len >= NET_CTRL_HEADER_BYTES ? g_steal_pointer(&bytes) : NULL;
}

/* "!COMMAND" is to be answered with an error.  A command may be given as its bytes, too. */
static bool add_command(NetControl *control, const char *text, GError **errp)
{
    const char *body = text[0] == '!' ? text + 1 : text;
    NetControlCommand command = {
        .expected = text[0] == '!' ? NET_CTRL_ERR : NET_CTRL_OK,
        .bytes = parse_hex(body),
    };

    if (!command.bytes) {
        command.bytes = net_ctrl_from_string(body, errp);
    }
    if (!command.bytes) {
        g_prefix_error(errp, "--control: ");
        return false;
    }
    command.text = g_strdup(text);
    command.result_size = result_size(command.bytes);
    g_array_append_val(control->commands, command);
    return true;
}

/* "VLAN_ADD 1-3", as svqd writes several of a state; false: @text is no such range. */
static bool parse_range(const char *text, guint64 *first, guint64 *last)
{
    g_auto(GStrv) words = g_strsplit(text[0] == '!' ? text + 1 : text, " ", -1);
    const bool vlan = g_strcmp0(words[0], net_ctrl_spec(NET_CTRL_VLAN_ADD)->name) == 0 ||
                      g_strcmp0(words[0], net_ctrl_spec(NET_CTRL_VLAN_DEL)->name) == 0;
    char *dash = vlan && g_strv_length(words) == 2 ? strchr(words[1], '-') : NULL;

    if (!dash) {
        return false;
    }
    *dash = '\0';
    return g_ascii_string_to_unsigned(words[1], 10, 0, UINT16_MAX, first, NULL) &&
           g_ascii_string_to_unsigned(dash + 1, 10, *first, UINT16_MAX, last, NULL);
}

/* A command, or a range of them. */
static bool add_commands(NetControl *control, const char *text, GError **errp)
{
    guint64 i, last;

    if (!parse_range(text, &i, &last)) {
        return add_command(control, text, errp);
    }
    for (; i <= last; i++) {
        g_autofree char *one = g_strdup_printf("%.*s %" G_GUINT64_FORMAT,
                                               (int)strcspn(text, " "), text, i);

        if (!add_command(control, one, errp)) {
            return false;
        }
    }
    return true;
}

/* What one --control says: commands with ; between them. */
static bool add_list(NetControl *control, const char *list, GError **errp)
{
    g_auto(GStrv) texts = g_strsplit(list, ";", -1);
    const guint before = control->commands->len;
    unsigned int i;

    for (i = 0; texts[i]; i++) {
        if (*g_strstrip(texts[i]) && !add_commands(control, texts[i], errp)) {
            return false;
        }
    }
    return control->commands->len > before || bench_fail(errp, "--control: '%s' is no command",
                                                         list);
}

bool net_control_parse(NetControl *control, const BenchOptions *options, GError **errp)
{
    char **list;

    control->pieces = (unsigned int)MIN(options->descriptors, MAX_PIECES);
    control->pipelined = options->control_pipelined;
    control->commands = g_array_new(FALSE, TRUE, sizeof(NetControlCommand));
    g_array_set_clear_func(control->commands, command_clear);
    control->done.commands = g_array_new(FALSE, TRUE, sizeof(BenchCommand));
    g_array_set_clear_func(control->done.commands, done_clear);
    /* A state that is loaded says how many there are. */
    if (options->queues > 1 && !options->load_state) {
        g_autofree char *text = g_strdup_printf("MQ_VQ_PAIRS_SET %d", options->queues);

        add_command(control, text, NULL);
    }
    for (list = options->control; list && *list; list++) {
        if (!add_list(control, *list, errp)) {
            return false;
        }
    }
    return true;
}

uint64_t net_control_memory_size(const NetControl *control)
{
    uint64_t size = guest_queue_memory_size(CONTROL_NUM);
    unsigned int i;

    for (i = 0; i < control->commands->len; i++) {
        const NetControlCommand *command = command_at(control, i);

        size += command->bytes->len + 1 + command->result_size + 3 * BLOCK_ALIGN;
    }
    return size;
}

bool net_control_init(NetControl *control, const BenchOptions *options, GuestMemory *memory,
                      GError **errp)
{
    unsigned int i;

    for (i = 0; i < control->commands->len; i++) {
        NetControlCommand *c = command_at(control, i);

        c->command = guest_memory_alloc(memory, 0, c->bytes->len, BLOCK_ALIGN);
        c->ack = guest_memory_alloc(memory, 0, 1, BLOCK_ALIGN);
        c->result = guest_memory_alloc(memory, 0, c->result_size, BLOCK_ALIGN);
        memcpy(c->command.host, c->bytes->data, c->bytes->len);
        *(uint8_t *)c->ack.host = NO_ANSWER;
    }
    return guest_queue_init(&control->queue, options, CONTROL_NUM, memory, errp);
}

void net_control_cleanup(NetControl *control)
{
    guest_queue_cleanup(&control->queue);
    g_clear_pointer(&control->commands, g_array_unref);
    g_clear_pointer(&control->done.commands, g_array_unref);
}

/* --- sending --- */

/* The elements of @command; returns how many. */
static unsigned int lay_out(const NetControl *control, const NetControlCommand *command,
                            VringSegment segments[VRING_INDIRECT_MAX])
{
    const uint32_t len = command->bytes->len;
    const uint32_t pieces = MIN(control->pieces, len);
    unsigned int n = 0;
    uint32_t i;

    if (pieces == 1) {
        segments[n++] = (VringSegment){ command->command.gpa, NET_CTRL_HEADER_BYTES, 0 };
        if (len > NET_CTRL_HEADER_BYTES) {
            segments[n++] = (VringSegment){ command->command.gpa + NET_CTRL_HEADER_BYTES,
                                            len - NET_CTRL_HEADER_BYTES, 0 };
        }
    } else {
        for (i = 0; i < pieces; i++) {
            const uint32_t begin = (uint32_t)((uint64_t)len * i / pieces);
            const uint32_t end = (uint32_t)((uint64_t)len * (i + 1) / pieces);

            segments[n++] = (VringSegment){ command->command.gpa + begin, end - begin, 0 };
        }
    }
    segments[n++] = (VringSegment){ command->ack.gpa, 1, VRING_DESC_F_WRITE };
    if (command->result_size) {
        segments[n++] = (VringSegment){ command->result.gpa, command->result_size,
                                        VRING_DESC_F_WRITE };
    }
    return n;
}

/* Makes commands from @next on available, as many as may be and there is room for. */
static unsigned int send_some(NetControl *control, unsigned int next, unsigned int in_flight)
{
    const unsigned int first = next;
    GuestQueue *queue = &control->queue;
    unsigned int i;

    while (next < control->commands->len && (control->pipelined || in_flight == 0)) {
        VringSegment segments[VRING_INDIRECT_MAX];
        const unsigned int n = lay_out(control, command_at(control, next), segments);

        if (queue->driver.num_free < (queue->indirect ? 1 : n)) {
            break;
        }
        guest_queue_add(queue, segments, n, next++);
        in_flight++;
    }
    for (i = first; i < next; i++) {
        command_at(control, i)->sent_ns = bench_now_ns();
    }
    if (next > first) {
        guest_queue_publish(queue);
    }
    return next;
}

/* Until a buffer is used: 1; 0: in vain; -EPROTO. */
static int await_used(GuestQueue *queue, uint32_t *cookie, uint32_t *len)
{
    const uint64_t start = bench_now_ns();
    struct pollfd call = { .fd = queue->call.fd, .events = POLLIN };
    int ret;

    while ((ret = vring_driver_collect(&queue->driver, queue->packed, cookie, len)) == 0 &&
           bench_now_ns() - start < TIMEOUT_NS) {
        if (!vring_driver_enable_call(&queue->driver, queue->packed)) {
            poll(&call, 1, LOOK_AGAIN_MS);
            event_notifier_test_and_clear(&queue->call);
        }
    }
    return ret;
}

static char *to_hex(const uint8_t *bytes, size_t n)
{
    GString *out = g_string_sized_new(2 * n);
    size_t i;

    for (i = 0; i < n; i++) {
        g_string_append_printf(out, "%02x", bytes[i]);
    }
    return g_string_free(out, FALSE);
}

/* The device has written @len bytes in answer to command @index. */
static bool take_answer(NetControl *control, uint32_t index, uint32_t len, GError **errp)
{
    const NetControlCommand *command = command_at(control, index);
    const BenchCommand done = {
        .text = g_strdup(command->text),
        .ack = *(const uint8_t *)command->ack.host,
        .ns = bench_now_ns() - command->sent_ns,
        .result = len > 1 ? to_hex(command->result.host, len - 1) : NULL,
    };

    g_array_index(control->done.commands, BenchCommand, index) = done;
    if (len == 0) {
        return bench_fail(errp, "control queue: no byte of an answer to %s", command->text);
    }
    if (done.ack != command->expected) {
        return bench_fail(errp, "control queue: %s is answered with %s", command->text,
                          bench_ack_name(done.ack));
    }
    return true;
}

bool net_control_run(NetControl *control, GError **errp)
{
    const uint64_t start = bench_now_ns();
    GuestQueue *queue = &control->queue;
    unsigned int next = 0, answered;

    /* In the order in which they are sent, whatever that of the answers. */
    g_array_set_size(control->done.commands, control->commands->len);
    for (answered = 0; answered < control->commands->len; answered++) {
        uint32_t index, len;
        int ret;

        next = send_some(control, next, next - answered);
        ret = await_used(queue, &index, &len);
        if (ret < 0) {
            return bench_fail(errp, "control queue: %s", queue->driver.error.what);
        }
        if (ret == 0) {
            return bench_fail(errp, "control queue: no answer to %s",
                              command_at(control, next - 1)->text);
        }
        if (!take_answer(control, index, len, errp)) {
            return false;
        }
    }
    control->done.ns = bench_now_ns() - start;
    return true;
}
