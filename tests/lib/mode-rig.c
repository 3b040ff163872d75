/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings, traffic, log and words for tests of the modes.  See mode-rig.h. */
#include "lib/mode-rig.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define F(bit)      VIRTIO_F_BIT(bit)
#define WAIT_US     (VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND)
#define PAGE        4096u

const ModeFormat mode_formats[6] = {
    { "split", 0, 0 },
    { "packed", F(VIRTIO_F_RING_PACKED), 0 },
    { "split+event_idx", F(VIRTIO_F_EVENT_IDX), 0 },
    { "packed+event_idx", F(VIRTIO_F_RING_PACKED) | F(VIRTIO_F_EVENT_IDX), 0 },
    { "split+in_order-polled", F(VIRTIO_F_IN_ORDER), 32768 },
    { "packed+event_idx-polled", F(VIRTIO_F_RING_PACKED) | F(VIRTIO_F_EVENT_IDX), 32768 },
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static GString *said;

static void keep_words(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
    pthread_mutex_lock(&lock);
    g_string_append_printf(said, "%s\n", text);
    pthread_mutex_unlock(&lock);
}

void mode_test_init(int *argc, char ***argv)
{
    rig_test_init(argc, argv);
    said = g_string_new(NULL);
    g_log_set_handler("svq", (GLogLevelFlags)(G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_WARNING),
                      keep_words, NULL);
}

char *mode_take_words(void)
{
    char *words;

    pthread_mutex_lock(&lock);
    words = g_string_free(said, FALSE);
    said = g_string_new(NULL);
    pthread_mutex_unlock(&lock);
    return words;
}

bool mode_has_said(const char *words)
{
    bool has;

    pthread_mutex_lock(&lock);
    has = strstr(said->str, words);
    pthread_mutex_unlock(&lock);
    return has;
}

void mode_assert_said_once(const char *words)
{
    g_autofree char *all = mode_take_words();
    const char *found = strstr(all, words);

    g_assert_nonnull(found);
    g_assert_null(strstr(found + 1, words));
}

void mode_test_add(const char *name, GTestDataFunc test, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", name, mode_formats[i].name);

        g_test_add_data_func(path, &mode_formats[i], test);
    }
}

RigConfig mode_config(const ModeFormat *format, SvqMode mode)
{
    return (RigConfig){
        .format = {
            .guest_packed = format->features & VMM_PACKED,
            .shadow_packed = format->features & VMM_PACKED,
            .poll_max_ns = format->poll_max_ns,
        },
        .guest_features = format->features,
        .mode = mode,
    };
}

RigConfig mode_fake_config(const ModeFormat *format, SvqMode mode,
                           void (*prepare)(FakeDevice *fake))
{
    RigConfig config = mode_config(format, mode);

    config.fake_features = VMM_FEATURES | format->features;
    config.prepare_fake = prepare;
    return config;
}

void mode_set_log_all(Rig *rig, bool on)
{
    if (on) {
        rig->vmm.features |= F(VHOST_F_LOG_ALL);
    } else {
        rig->vmm.features &= ~F(VHOST_F_LOG_ALL);
    }
    vmm_do(&rig->vmm, VHOST_USER_SET_FEATURES, 0, 0);
}

bool mode_passes_through(const Rig *rig, unsigned int q)
{
    return rig_stats(rig, q).passthrough;
}

uint64_t mode_forwarded(const Rig *rig)
{
    uint64_t n = 0;
    unsigned int q;

    for (q = 0; q < svq_device_get_queue_count(rig->dev); q++) {
        n += rig_stats(rig, q).counters.buffers;
    }
    return n;
}

void mode_await(Rig *rig, bool passthrough)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;

    while (mode_passes_through(rig, 0) != passthrough) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
    }
}

void mode_await_words(const char *words)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_US;

    while (!mode_has_said(words)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
    }
}

void mode_assert_calls(Rig *rig, const char *expected)
{
    g_autofree char *calls = fake_device_take_calls(&rig->fake);

    g_assert_cmpstr(calls, ==, expected);
}

void mode_forget_calls(Rig *rig)
{
    g_free(fake_device_take_calls(&rig->fake));
}

void mode_post(Rig *rig, unsigned int q, unsigned int i)
{
    vmm_add(&rig->vmm, q, vmm_buffer_gpa(q, i), VMM_BUFFER, i);
}

uint16_t mode_take(Rig *rig, unsigned int q, unsigned int i)
{
    VringSegment seg[1];
    uint16_t id = fake_device_take(&rig->fake, q, seg);

    g_assert_cmphex(seg->addr, ==, vmm_buffer_gpa(q, i));
    return id;
}

void mode_put(Rig *rig, unsigned int q, uint16_t id, unsigned int i)
{
    const uint32_t written = q % 2 ? 0 : 100 + i;
    uint32_t cookie, len;

    fake_device_put(&rig->fake, q, id, written);
    vmm_wait_used(&rig->vmm, q, &cookie, &len);
    g_assert_cmpuint(cookie, ==, i);
    g_assert_cmpuint(len, ==, written);
}

void mode_serve(Rig *rig, unsigned int q, unsigned int i)
{
    mode_put(rig, q, mode_take(rig, q, i), i);
}

static void *run_traffic(void *opaque)
{
    ModeTraffic *traffic = opaque;

    while (!traffic->end) {
        vmm_echo(traffic->vmm, traffic->pair, 20);
        traffic->rounds++;
    }
    return NULL;
}

void mode_traffic_start(ModeTraffic *traffic, Vmm *v, unsigned int pair)
{
    *traffic = (ModeTraffic){ .vmm = v, .pair = pair };
    traffic->thread = g_thread_new("traffic", run_traffic, traffic);
}

void mode_traffic_await(ModeTraffic *traffic)
{
    const unsigned int rounds = traffic->rounds;

    /* The thread gives up by itself if a packet does not come. */
    while (traffic->rounds - rounds < 2) {
        g_usleep(50);
    }
}

void mode_traffic_end(ModeTraffic *traffic)
{
    traffic->end = true;
    g_thread_join(traffic->thread);
}

void mode_log_init(ModeLog *log, Rig *rig)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_LOG_BASE, sizeof(m.payload.log));

    log->fd = peer_memfd(MODE_LOG_BYTES);
    log->bits = mmap(NULL, MODE_LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
    g_assert_true(log->bits != MAP_FAILED);
    m.payload.log = (VhostUserLog){ .size = MODE_LOG_BYTES };
    m.fds[m.n_fds++] = log->fd;
    g_assert_cmphex(peer_ack(rig->vmm.fd, &m), ==, 0);
}

void mode_log_cleanup(ModeLog *log)
{
    munmap(log->bits, MODE_LOG_BYTES);
    close(log->fd);
}

unsigned int mode_log_count(const ModeLog *log, uint64_t gpa, uint64_t len)
{
    const _Atomic uint8_t *bits = (const _Atomic uint8_t *)log->bits;
    unsigned int n = 0;
    uint64_t page;

    for (page = gpa / PAGE; page <= (gpa + len - 1) / PAGE; page++) {
        n += bits[page / 8] >> (page % 8) & 1;
    }
    return n;
}

bool mode_log_has_all(const ModeLog *log, const Vmm *v)
{
    unsigned int i;

    for (i = 0; i < VMM_REGIONS; i++) {
        const VmmRegion *region = &v->regions[i];

        if (mode_log_count(log, region->gpa, region->size) != region->size / PAGE) {
            return false;
        }
    }
    return true;
}
