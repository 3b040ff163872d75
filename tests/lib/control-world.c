/* SPDX-License-Identifier: BSD-3-Clause */
/* A shadowed network device with a control queue.  See control-world.h. */
#include "lib/control-world.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hw/vhost/vhost-vdpa.h"
#include "util/event-notifier.h"

#define WAIT_US         (VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND)
#define HOLD_MS         60000u  /* for ever, unless the test is about it */
#define COMMANDS        32u     /* of the guest's, at a time */
#define ANSWER_OFFSET   1920u   /* within the buffer of a command */
#define ANSWER_BYTES    9u      /* the ack, and the longest result */
#define CONFIG_BYTES    24u
#define STATUS_OFFSET   6u

#define DEVICE_FEATURES \
    (VMM_FEATURES | CONTROL_WORLD_CSUM | CONTROL_WORLD_STATUS | \
     (VIRTIO_NET_CTRL_FEATURES & ~(CONTROL_WORLD_ANNOUNCE | VIRTIO_F_BIT(57) /* HASH_REPORT */)))

/* As much of everything as the fields can say. */
static const NetCtrlLimits boundless = {
    .features = UINT64_MAX, .max_pairs = 0x8000, .max_key_bytes = 255, .max_table = 65535,
    .hash_types = UINT32_MAX,
};

static void put_le16(uint8_t *bytes, unsigned int value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

/* struct virtio_net_config (5.1.4). */
static void fill_config(uint8_t config[CONFIG_BYTES], unsigned int pairs)
{
    static const uint8_t mac[] = { 0x52, 0x54, 0, 0, 0, 1 };

    memset(config, 0, CONFIG_BYTES);
    memcpy(config, mac, sizeof(mac));
    put_le16(config + STATUS_OFFSET, 1);        /* LINK_UP */
    put_le16(config + 8, pairs);
    config[17] = 40;                            /* bytes of an RSS key */
    put_le16(config + 18, 128);                 /* entries of an indirection table */
    config[20] = 0x3f;                          /* hash types */
}

static void make_paper(ControlWorld *w, const ControlWorldConfig *config)
{
    const unsigned int pairs = MAX(config->pairs, 1);
    const unsigned int queues = config->queues ? config->queues : 2 * pairs + 1;
    uint64_t features = DEVICE_FEATURES & ~config->device_without;
    FakeDevice *fake = &w->rig.fake;
    uint8_t space[CONFIG_BYTES];

    features |= config->shadow_packed ? VMM_PACKED : 0;
    w->ctrl = ctrl_device_new(false);
    fake_device_init(fake, features, queues);
    fill_config(space, pairs);
    fake_device_be_net(fake, space, config->no_config ? 0 : CONFIG_BYTES);
    fake->dev.has_config = !config->no_config;
    w->index = features & (CONTROL_WORLD_MQ | CONTROL_WORLD_RSS) ? 2 * pairs : 2;
    fake_device_host_ctrl(fake, w->index, w->ctrl);
    if (config->prepare) {
        config->prepare(fake);
    }
}

static void make_vdpa(ControlWorld *w, const VdpaModelConfig *model)
{
    VhostVdpaConfig vdpa = { .id = "vdpa0", .fd = -1 };
    g_autoptr(GError) err = NULL;

    w->model = vdpa_model_new(model);
    w->ctrl = vdpa_model_ctrl(w->model);
    w->index = model->n_queues - 1;
    vdpa.path = vdpa_model_path(w->model);
    vdpa.kernel = vdpa_model_kernel(w->model);
    w->rig.loopback = vhost_vdpa_new(&vdpa, &err);
    g_assert_no_error(err);
}

static void make_svqd(ControlWorld *w, const char *inflight)
{
    const ControlWorldConfig *config = &w->config;
    SvqDeviceConfig device = {
        .id = "net0",
        .n_iothreads = RIG_IOTHREADS,
        .mode = config->mode,
        .shadow.packed = config->shadow_packed ? ON_OFF_AUTO_ON : ON_OFF_AUTO_OFF,
        .withheld = config->withheld,
        .inflight = inflight,
        .control = config->options,
        .backend = w->model ? w->rig.loopback : &w->rig.fake.dev,
        .iothreads = w->rig.iothreads,
        .lenient_base = true,
    };
    g_autoptr(GError) err = NULL;

    w->rig.dev = svq_device_new(&device, &err);
    g_assert_no_error(err);
    rig_listen(&w->rig);
}

void control_world_init(ControlWorld *w, const ControlWorldConfig *config)
{
    Rig *rig = &w->rig;

    *w = (ControlWorld){ .config = *config, .n_fds = peer_count_fds() };
    if (!config->options.hold_ms) {
        w->config.options.hold_ms = HOLD_MS;
    }
    rig_init_threads(rig, 0);
    if (config->model) {
        make_vdpa(w, config->model);
    } else {
        make_paper(w, config);
    }
    make_svqd(w, config->inflight);
    vmm_init(&rig->vmm, VMM_FEATURES, 64);
}

void control_world_cleanup(ControlWorld *w)
{
    rig_cleanup(&w->rig);
    if (w->model) {
        vdpa_model_free(w->model);
    } else {
        ctrl_device_free(w->ctrl);
    }
    g_assert_cmpuint(peer_count_fds(), ==, w->n_fds);
}

void control_world_restart(ControlWorld *w, const char *inflight)
{
    svq_device_free(w->rig.dev);
    g_free(w->rig.path);
    vmm_disconnect(&w->rig.vmm);
    make_svqd(w, inflight);
}

/* What has never been written is not there: such a file is far longer than what is in it. */
static void copy_file(const char *from, const char *to)
{
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    const int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    off_t data = 0, hole = 0;
    uint8_t bytes[65536];
    struct stat st;

    g_assert_no_errno(fstat(in, &st));
    g_assert_no_errno(ftruncate(out, st.st_size));
    while ((data = lseek(in, hole, SEEK_DATA)) >= 0) {
        hole = lseek(in, data, SEEK_HOLE);
        while (data < hole) {
            const ssize_t n = pread(in, bytes, MIN(sizeof(bytes), (size_t)(hole - data)), data);

            g_assert_cmpint(n, >, 0);
            g_assert_cmpint(pwrite(out, bytes, (size_t)n, data), ==, n);
            data += n;
        }
    }
    close(in);
    close(out);
}

void control_world_kill(ControlWorld *w, const char *copy)
{
    copy_file(w->config.inflight, copy);
    control_world_restart(w, copy);
}

static bool has_control(const ControlWorld *w)
{
    return w->rig.vmm.features & CONTROL_WORLD_CTRL_VQ;
}

void control_world_connect(ControlWorld *w)
{
    const uint64_t status = VIRTIO_F_BIT(16);
    Vmm *v = &w->rig.vmm;
    uint64_t protocol;

    vmm_connect(v, w->rig.path);
    protocol = vmm_get(v, VHOST_USER_GET_PROTOCOL_FEATURES);
    v->features = vmm_get(v, VHOST_USER_GET_FEATURES) & ~w->config.guest_without &
                  (DEVICE_FEATURES | CONTROL_WORLD_ANNOUNCE);
    v->features |= w->config.guest_packed ? VMM_PACKED : 0;
    v->wire[CONTROL_RING] = has_control(w) ? w->index : CONTROL_RING;
    vmm_begin(v, w->config.no_status ? protocol & ~status : protocol);
}

void control_world_start_ring(ControlWorld *w, unsigned int q)
{
    vmm_start_rings(&w->rig.vmm, q, 1);
}

void control_world_continue_ring(ControlWorld *w, unsigned int q)
{
    vmm_continue_ring(&w->rig.vmm, q, VMM_KEEP_BASE);
    vmm_do(&w->rig.vmm, VHOST_USER_SET_VRING_ENABLE, q, 1);
}

void control_world_driver_ok(ControlWorld *w)
{
    if (!w->config.no_status) {
        vmm_do(&w->rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    }
}

void control_world_start(ControlWorld *w)
{
    control_world_connect(w);
    control_world_start_ring(w, 0);
    control_world_start_ring(w, 1);
    if (has_control(w)) {
        control_world_start_ring(w, CONTROL_RING);
    }
    control_world_driver_ok(w);
    control_world_await_running(w);
}

void control_world_go_on(ControlWorld *w)
{
    const unsigned int rings[] = { 0, 1, CONTROL_RING };
    unsigned int i;

    control_world_connect(w);
    for (i = 0; i < G_N_ELEMENTS(rings); i++) {
        /* It has not asked where they stand: it reads that in the rings. */
        w->rig.vmm.rings[rings[i]].base = vmm_expected_base(&w->rig.vmm, rings[i]);
        control_world_continue_ring(w, rings[i]);
    }
    control_world_driver_ok(w);
    control_world_await_running(w);
}

void control_world_pause(ControlWorld *w)
{
    vmm_do(&w->rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    vmm_do(&w->rig.vmm, VHOST_USER_GET_VRING_BASE, 1, 0);
    vmm_do(&w->rig.vmm, VHOST_USER_GET_VRING_BASE, CONTROL_RING, 0);
}

void control_world_replace_device(ControlWorld *w)
{
    fake_device_go(&w->rig.fake);
    fake_device_come(&w->rig.fake);
}

void control_world_await_running(ControlWorld *w)
{
    vmm_await_state(w->rig.dev, 0, SVQ_QUEUE_RUNNING);
    vmm_await_state(w->rig.dev, 1, SVQ_QUEUE_RUNNING);
    if (has_control(w) && w->index < svq_device_get_queue_count(w->rig.dev)) {
        vmm_await_state(w->rig.dev, w->index, SVQ_QUEUE_RUNNING);
    }
}

void control_world_await_taken(ControlWorld *w, unsigned int n)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;

    while (ctrl_device_get_stats(w->ctrl).taken < n) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
    }
}

void control_world_await_buffers(ControlWorld *w, unsigned int q, uint64_t n)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;

    while (rig_stats(&w->rig, q).counters.buffers < n) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
    }
}

bool control_world_has_ring(const ControlWorld *w, unsigned int q)
{
    return w->rig.fake.rings[q].started;
}

/* The guest. */

void control_world_post_bytes(ControlWorld *w, const uint8_t *bytes, uint32_t n)
{
    Vmm *v = &w->rig.vmm;
    VmmRing *ring = &v->rings[CONTROL_RING];
    const bool packed = ring->config.packed;
    const unsigned int i = w->posted++ % COMMANDS;
    const uint64_t gpa = vmm_buffer_gpa(CONTROL_RING, i);
    const VringSegment seg[] = {
        { gpa, n, 0 },
        { gpa + ANSWER_OFFSET, ANSWER_BYTES, VRING_DESC_F_WRITE },
    };
    const EventNotifier kick = { ring->kick };

    g_assert_cmpuint(n, <=, ANSWER_OFFSET);
    g_assert_true(vring_driver_has_room(&ring->driver, G_N_ELEMENTS(seg)));
    memcpy(vmm_buffer(v, CONTROL_RING, i), bytes, n);
    memset(vmm_buffer(v, CONTROL_RING, i) + ANSWER_OFFSET, 0xee, ANSWER_BYTES);
    vring_driver_add(&ring->driver, packed, seg, G_N_ELEMENTS(seg), i);
    vring_driver_publish(&ring->driver, packed);
    if (vring_driver_needs_kick(&ring->driver, packed)) {
        event_notifier_set(&kick);
    }
}

void control_world_post(ControlWorld *w, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) bytes = net_ctrl_from_string(text, &error);

    g_assert_no_error(error);
    control_world_post_bytes(w, bytes->data, bytes->len);
}

uint8_t control_world_await_ack(ControlWorld *w)
{
    uint32_t cookie, len;

    vmm_wait_used(&w->rig.vmm, CONTROL_RING, &cookie, &len);
    g_assert_cmpuint(len, >=, 1);
    return vmm_buffer(&w->rig.vmm, CONTROL_RING, cookie)[ANSWER_OFFSET];
}

uint8_t control_world_try(ControlWorld *w, const char *text)
{
    control_world_post(w, text);
    return control_world_await_ack(w);
}

void control_world_do(ControlWorld *w, const char *text)
{
    g_assert_cmpuint(control_world_try(w, text), ==, NET_CTRL_OK);
}

/* What has come of it. */

void control_world_assert_state_of(SvqDevice *dev, const char *lines)
{
    g_autofree char *state = svq_device_describe_state(dev);

    g_assert_cmpstr(state, ==, lines);
}

void control_world_assert_state(ControlWorld *w, const char *lines)
{
    control_world_assert_state_of(w->rig.dev, lines);
}

static void append_command(GString *all, GBytes *command)
{
    g_autofree char *words = NULL;
    NetCtrlCommand parsed;
    NetCtrlError error;
    gsize n;
    const uint8_t *bytes = g_bytes_get_data(command, &n);

    g_string_append(all, all->len ? "; " : "");
    if (net_ctrl_parse(&parsed, bytes, n, &boundless, &error) == 0) {
        words = net_ctrl_to_string(&parsed);
        g_string_append(all, words);
    } else {
        g_string_append_printf(all, "class %u command %u, %zu bytes", bytes[0], bytes[1], n);
    }
}

/* From command @i on. */
static GString *commands_from(ControlWorld *w, unsigned int *i)
{
    GString *all = g_string_new(NULL);
    GBytes *command;

    while ((command = ctrl_device_get_command(w->ctrl, *i))) {
        append_command(all, command);
        g_bytes_unref(command);
        ++*i;
    }
    return all;
}

char *control_world_take_commands(ControlWorld *w)
{
    return g_string_free(commands_from(w, &w->commands_seen), FALSE);
}

void control_world_assert_commands(ControlWorld *w, const char *expected)
{
    g_autofree char *commands = control_world_take_commands(w);

    g_assert_cmpstr(commands, ==, expected);
}

void control_world_await_commands(ControlWorld *w, const char *expected)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;
    bool equal = false;

    while (!equal && g_get_monotonic_time() < end_us) {
        unsigned int i = w->commands_seen;
        GString *all = commands_from(w, &i);

        equal = strcmp(all->str, expected) == 0;
        g_string_free(all, TRUE);
        peer_pump();
        g_thread_yield();
    }
    control_world_assert_commands(w, expected);
}

/* DEVICE_STATE. */

static bool set_state_fd(ControlWorld *w, VhostUserStateDirection direction, int fd)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_DEVICE_STATE_FD,
                                      sizeof(m.payload.device_state)), reply;

    m.payload.device_state = (VhostUserDeviceState){ .direction = direction };
    m.fds[m.n_fds++] = fd;
    peer_ask(w->rig.vmm.fd, &m, &reply);
    return !(reply.payload.u64 & VHOST_USER_STATE_ERROR_MASK);
}

static bool check_state(ControlWorld *w)
{
    return vmm_get(&w->rig.vmm, VHOST_USER_CHECK_DEVICE_STATE) == 0;
}

static void make_pipe(int fds[2])
{
    g_assert_no_errno(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
}

GBytes *control_world_save(ControlWorld *w)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;
    g_autoptr(GByteArray) state = g_byte_array_new();
    uint8_t bytes[4096];
    bool begun;
    int fds[2];
    ssize_t n;

    make_pipe(fds);
    begun = set_state_fd(w, VHOST_USER_STATE_SAVE, fds[1]);
    close(fds[1]);
    while (begun && (n = read(fds[0], bytes, sizeof(bytes))) != 0) {
        g_assert_true(n > 0 || errno == EAGAIN);
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_byte_array_append(state, bytes, (guint)MAX(n, 0));
        peer_pump();
    }
    close(fds[0]);
    return begun && check_state(w) ? g_byte_array_free_to_bytes(g_steal_pointer(&state)) : NULL;
}

bool control_world_load(ControlWorld *w, GBytes *state)
{
    gsize n, done = 0;
    const uint8_t *bytes = g_bytes_get_data(state, &n);
    bool begun;
    int fds[2];

    make_pipe(fds);
    begun = set_state_fd(w, VHOST_USER_STATE_LOAD, fds[0]);
    close(fds[0]);
    while (begun && done < n) {
        const ssize_t part = write(fds[1], bytes + done, n - done);

        g_assert_true(part > 0 || errno == EAGAIN);
        done += (gsize)MAX(part, 0);
        peer_pump();
    }
    close(fds[1]);
    return begun && check_state(w);
}

uint16_t control_world_net_status(ControlWorld *w)
{
    VhostUserMessage m = peer_message(VHOST_USER_GET_CONFIG,
                                      VHOST_USER_CONFIG_HEADER_SIZE + CONFIG_BYTES);
    VhostUserMessage reply;

    m.payload.config.size = CONFIG_BYTES;
    peer_ask(w->rig.vmm.fd, &m, &reply);
    return (uint16_t)(reply.payload.config.data[STATUS_OFFSET] |
                      reply.payload.config.data[STATUS_OFFSET + 1] << 8);
}

int control_world_listen(ControlWorld *w)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_BACKEND_REQ_FD, 0);
    int fds[2];

    g_assert_no_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
    m.fds[m.n_fds++] = fds[1];
    g_assert_cmphex(peer_ack(w->rig.vmm.fd, &m), ==, 0);
    close(fds[1]);
    return fds[0];
}

void control_world_await_news(int fd)
{
    VhostUserMessage m;

    g_assert_cmpint(peer_receive(fd, &m, true), ==, 1);
    g_assert_cmpuint(m.header.request, ==, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
}
