/* SPDX-License-Identifier: BSD-3-Clause */
/* A vDPA device on the model, and its driver.  See vdpa-world.h. */
#include "lib/vdpa-world.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "lib/vhost-user-peer.h"
#include "util/event-notifier.h"

#define WAIT_MS     10000
#define LEN         200u            /* of a packet */

/* Where the parts of ring @q lie in a region; buffers only in the guest's memory. */
#define DESC(q)     ((q) * UINT64_C(0x10000))
#define DRIVER(q)   (DESC(q) + 0x4000)
#define DEVICE(q)   (DESC(q) + 0x8000)
#define BUFFER(q, i) (UINT64_C(0x100000) + (q) * 0x40000 + (i) * 0x1000)
#define ACK(i)      (BUFFER(VDPA_WORLD_CTRL, i) + 0x800)

static GString *words;
static pthread_mutex_t words_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_words(const char *domain, GLogLevelFlags level, const char *text, void *opaque)
{
    pthread_mutex_lock(&words_lock);
    g_string_append_printf(words, "%s\n", text);
    pthread_mutex_unlock(&words_lock);
}

void vdpa_world_test_init(int *argc, char ***argv)
{
    words = g_string_new(NULL);
    g_test_init(argc, argv, NULL);
    g_log_set_always_fatal((GLogLevelFlags)(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    /* An error that is set twice. */
    g_log_set_fatal_mask("GLib", (GLogLevelFlags)(G_LOG_FATAL_MASK | G_LOG_LEVEL_WARNING));
    g_log_set_handler("svq", (GLogLevelFlags)(G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE),
                      keep_words, NULL);
}

char *vdpa_world_take_words(void)
{
    char *text;

    pthread_mutex_lock(&words_lock);
    text = g_strdup(words->str);
    g_string_truncate(words, 0);
    pthread_mutex_unlock(&words_lock);
    return text;
}

static void count_ready(void *opaque)
{
    ((VdpaWorld *)opaque)->ready++;
}

static void count_gone(void *opaque)
{
    ((VdpaWorld *)opaque)->gone++;
}

static void count_changed(void *opaque)
{
    ((VdpaWorld *)opaque)->changed++;
}

static const VhostDeviceNotify notify = {
    .ready = count_ready,
    .gone = count_gone,
    .config_changed = count_changed,
};

static MemoryRegion *make_region(uint64_t address)
{
    g_autoptr(GError) error = NULL;
    MemoryRegion *region = memory_region_new(peer_memfd(VDPA_WORLD_SIZE), 0, address,
                                             VDPA_WORLD_SIZE, address, &error);

    g_assert_no_error(error);
    return region;
}

void vdpa_world_prepare(VdpaWorld *w, const VdpaModelConfig *config, uint64_t features)
{
    unsigned int q;

    /* What was freed after a grace period, and what GLib opens once, is not to be counted. */
    peer_pump();
    rcu_barrier();
    *w = (VdpaWorld){ .features = VDPA_WORLD_FEATURES | features, .n_fds = peer_count_fds() };
    w->model = vdpa_model_new(config);
    w->guest = make_region(VDPA_WORLD_GUEST);
    w->arena = make_region(VDPA_WORLD_ARENA);
    w->arena->rings = true;
    if (config->n_queues % 2) {
        w->control = make_region(VDPA_WORLD_CONTROL);
        w->control->control = true;
        w->features |= VIRTIO_F_BIT(VIRTIO_NET_F_CTRL_VQ);
    }
    w->n_rings = w->control ? 3 : 2;
    w->map = memory_map_new((MemoryRegion *[]){ w->guest, w->arena, w->control }, w->n_rings, NULL);
    for (q = 0; q < w->n_rings; q++) {
        EventNotifier kick, call;

        g_assert_cmpint(event_notifier_init(&kick), ==, 0);
        g_assert_cmpint(event_notifier_init(&call), ==, 0);
        w->rings[q].kick = kick.fd;
        w->rings[q].call = call.fd;
    }
    g_free(vdpa_world_take_words());
}

int vdpa_world_open(VdpaWorld *w, GError **errp)
{
    const VhostVdpaConfig config = {
        .id = "vdpa0",
        .path = vdpa_model_path(w->model),
        .fd = -1,
        .kernel = vdpa_model_kernel(w->model),
    };

    w->dev = vhost_vdpa_new(&config, errp);
    if (!w->dev) {
        return -1;
    }
    w->dev->notify = &notify;
    w->dev->notify_opaque = w;
    return 0;
}

void vdpa_world_init(VdpaWorld *w, const VdpaModelConfig *config, uint64_t features)
{
    g_autoptr(GError) error = NULL;

    vdpa_world_prepare(w, config, features);
    vdpa_world_open(w, &error);
    g_assert_no_error(error);
    g_free(vdpa_model_take_calls(w->model));
}

void vdpa_world_close(VdpaWorld *w)
{
    if (w->dev) {
        w->dev->ops->free(w->dev);
    }
    w->dev = NULL;
    g_assert_false(vdpa_model_is_open(w->model));
}

void vdpa_world_cleanup(VdpaWorld *w)
{
    unsigned int q;

    vdpa_world_close(w);
    vdpa_model_free(w->model);
    for (q = 0; q < w->n_rings; q++) {
        if (w->rings[q].made) {
            vring_driver_cleanup(&w->rings[q].driver);
        }
        close(w->rings[q].kick);
        close(w->rings[q].call);
    }
    memory_map_free(w->map);
    rcu_barrier();
    /* Nobody has kept a reference that he should have dropped. */
    g_assert_cmpint(w->guest->refs, ==, 1);
    g_assert_cmpint(w->arena->refs, ==, 1);
    memory_region_unref(w->guest);
    memory_region_unref(w->arena);
    if (w->control) {
        g_assert_cmpint(w->control->refs, ==, 1);
        memory_region_unref(w->control);
    }
    g_assert_cmpuint(peer_count_fds(), ==, w->n_fds);
}

static MemoryRegion *region_of(const VdpaWorld *w, const VdpaWorldRing *ring)
{
    if (ring == &w->rings[VDPA_WORLD_CTRL]) {
        return w->control;
    }
    return ring->in_arena ? w->arena : w->guest;
}

static VringAreas areas_of(const VdpaWorld *w, unsigned int q)
{
    uint8_t *host = region_of(w, &w->rings[q])->host;

    return (VringAreas){ host + DESC(q), host + DRIVER(q), host + DEVICE(q) };
}

void vdpa_world_make_ring(VdpaWorld *w, unsigned int q, bool in_arena)
{
    VdpaWorldRing *ring = &w->rings[q];
    const EventNotifier call = { ring->call };

    if (ring->made) {
        vring_driver_cleanup(&ring->driver);
    }
    event_notifier_test_and_clear(&call);
    ring->in_arena = in_arena;
    ring->config = (VringConfig){
        .num = VDPA_WORLD_NUM,
        .packed = w->features & VDPA_WORLD_PACKED,
        .event_idx = w->features & VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
        .areas = areas_of(w, q),
    };
    ring->base = vring_base_start(ring->config.packed);
    g_assert_cmpint(vring_driver_init(&ring->driver, &ring->config, NULL, 0), ==, 0);
    ring->made = true;
}

VhostRing vdpa_world_ring(const VdpaWorld *w, unsigned int q)
{
    const VdpaWorldRing *ring = &w->rings[q];
    const uint64_t iova = region_of(w, ring)->iova;

    return (VhostRing){
        .num = VDPA_WORLD_NUM,
        .base = ring->base,
        .areas = ring->config.areas,
        .desc_iova = iova + DESC(q),
        .driver_iova = iova + DRIVER(q),
        .device_iova = iova + DEVICE(q),
        .kick_fd = ring->kick,
        .call_fd = ring->call,
    };
}

void vdpa_world_move_ring(VdpaWorld *w, unsigned int q)
{
    VdpaWorldRing *ring = &w->rings[q];
    VringDriver *driver = &ring->driver;
    const uint8_t *from = ring->config.areas.desc;

    ring->in_arena = !ring->in_arena;
    ring->config.areas = areas_of(w, q);
    memcpy(ring->config.areas.desc, from, 0x10000);
    driver->desc = ring->config.areas.desc;
    if (ring->config.packed) {
        driver->driver_event = ring->config.areas.driver;
        driver->device_event = ring->config.areas.device;
    } else {
        driver->avail = ring->config.areas.driver;
        driver->used = ring->config.areas.device;
    }
}

static int start_rings(VdpaWorld *w, GError **errp)
{
    unsigned int q;
    int ret = 0;

    for (q = 0; q < w->n_rings && ret == 0; q++) {
        VhostRing ring;

        if (!w->rings[q].made) {
            vdpa_world_make_ring(w, q, true);
        }
        ring = vdpa_world_ring(w, q);
        ret = w->dev->ops->ring_enable(w->dev, q, true, errp);
        if (ret == 0) {
            ret = w->dev->ops->ring_start(w->dev, q, &ring, errp);
        }
    }
    return ret;
}

void vdpa_world_start_rings(VdpaWorld *w)
{
    g_autoptr(GError) error = NULL;

    start_rings(w, &error);
    g_assert_no_error(error);
}

int vdpa_world_start(VdpaWorld *w, GError **errp)
{
    VhostDevice *dev = w->dev;
    int ret = dev->ops->set_features(dev, w->features, errp);

    w->isolated = ret == 0 && w->isolate && dev->ops->ring_isolate(dev, VDPA_WORLD_CTRL);
    if (ret == 0) {
        ret = dev->ops->set_memory(dev, w->map, errp);
    }
    if (ret == 0) {
        ret = dev->ops->set_status(dev, 0xb, errp);
    }
    if (ret == 0) {
        ret = start_rings(w, errp);
    }
    return ret < 0 ? ret : dev->ops->set_status(dev, 0xf, errp);
}

int vdpa_world_stop(VdpaWorld *w, GError **errp)
{
    unsigned int q;
    int ret = 0;

    for (q = 0; q < w->n_rings && ret == 0 && !w->dev->rings_fixed; q++) {
        ret = w->dev->ops->ring_stop(w->dev, q, &w->rings[q].base, errp);
    }
    return ret < 0 ? ret : w->dev->ops->reset(w->dev, errp);
}

void vdpa_world_must_start(VdpaWorld *w)
{
    g_autoptr(GError) error = NULL;

    vdpa_world_start(w, &error);
    g_assert_no_error(error);
}

void vdpa_world_must_stop(VdpaWorld *w)
{
    g_autoptr(GError) error = NULL;

    vdpa_world_stop(w, &error);
    g_assert_no_error(error);
}

void vdpa_world_start_anew(VdpaWorld *w)
{
    unsigned int q;

    for (q = 0; q < w->n_rings; q++) {
        vdpa_world_make_ring(w, q, true);
    }
    vdpa_world_must_start(w);
    vdpa_world_echo(w, 3);
}

void vdpa_world_kick(VdpaWorld *w, unsigned int q)
{
    const EventNotifier kick = { w->rings[q].kick };

    if (w->rings[q].bell) {
        le16_store(w->rings[q].bell, (uint16_t)q);
    } else {
        event_notifier_set(&kick);
    }
}

void vdpa_world_clear_kick(VdpaWorld *w, unsigned int q)
{
    const EventNotifier kick = { w->rings[q].kick };

    event_notifier_test_and_clear(&kick);
}

void vdpa_world_add(VdpaWorld *w, unsigned int q, unsigned int n)
{
    VdpaWorldRing *ring = &w->rings[q];
    unsigned int i;

    for (i = 0; i < n; i++) {
        const uint32_t slot = q ? w->sent++ % VDPA_WORLD_NUM : 0;
        const VringSegment seg = { VDPA_WORLD_GUEST + BUFFER(q, slot), LEN,
                                   q ? 0 : VRING_DESC_F_WRITE };

        memset(w->guest->host + BUFFER(q, slot), q ? (int)(slot + 1) : 0, LEN);
        vring_driver_add(&ring->driver, ring->config.packed, &seg, 1, slot);
    }
    vring_driver_publish(&ring->driver, ring->config.packed);
    if (vring_driver_needs_kick(&ring->driver, ring->config.packed)) {
        vdpa_world_kick(w, q);
    }
}

/* What the device says that it has written to a buffer. */
static uint32_t used_len(unsigned int q)
{
    return q == VDPA_WORLD_CTRL ? 1 : q ? 0 : LEN;
}

void vdpa_world_collect(VdpaWorld *w, unsigned int q, unsigned int n)
{
    VdpaWorldRing *ring = &w->rings[q];
    const EventNotifier call = { ring->call };
    uint32_t cookie, len = 0;

    while (n) {
        struct pollfd pfd = { .fd = ring->call, .events = POLLIN };
        int ret = vring_driver_collect(&ring->driver, ring->config.packed, &cookie, &len);

        if (ret == 0) {
            if (!vring_driver_enable_call(&ring->driver, ring->config.packed)) {
                g_assert_cmpint(poll(&pfd, 1, WAIT_MS), ==, 1);
                event_notifier_test_and_clear(&call);
            }
            continue;
        }
        g_assert_cmpint(ret, ==, 1);
        g_assert_cmpuint(len, ==, used_len(q));
        n--;
    }
}

void vdpa_world_add_command(VdpaWorld *w, const MemoryRegion *where, const void *bytes, uint32_t n)
{
    VdpaWorldRing *ring = &w->rings[VDPA_WORLD_CTRL];
    const uint32_t slot = w->commands++ % (VDPA_WORLD_NUM / 2);
    const uint64_t at = BUFFER(VDPA_WORLD_CTRL, slot);
    const VringSegment segs[] = {
        { where->iova + at, n, 0 },
        { where->iova + ACK(slot), 1, VRING_DESC_F_WRITE },
    };

    memcpy(where->host + at, bytes, n);
    where->host[ACK(slot)] = 0xff;
    vring_driver_add(&ring->driver, ring->config.packed, segs, 2, slot);
    vring_driver_publish(&ring->driver, ring->config.packed);
    if (vring_driver_needs_kick(&ring->driver, ring->config.packed)) {
        vdpa_world_kick(w, VDPA_WORLD_CTRL);
    }
}

uint8_t vdpa_world_collect_ack(VdpaWorld *w)
{
    vdpa_world_collect(w, VDPA_WORLD_CTRL, 1);
    return w->control->host[ACK((w->commands - 1) % (VDPA_WORLD_NUM / 2))];
}

void vdpa_world_command(VdpaWorld *w, unsigned int n)
{
    const uint8_t allmulti_on[] = { 0, 1, 1 };
    unsigned int i;

    for (i = 0; i < n; i++) {
        vdpa_world_add_command(w, w->control, allmulti_on, sizeof(allmulti_on));
        g_assert_cmpuint(vdpa_world_collect_ack(w), ==, 0);
    }
}

void vdpa_world_echo(VdpaWorld *w, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        const uint64_t at = BUFFER(1, w->sent % VDPA_WORLD_NUM);

        vdpa_world_add(w, 0, 1);
        vdpa_world_add(w, 1, 1);
        vdpa_world_collect(w, 0, 1);
        vdpa_world_collect(w, 1, 1);
        /* But for num_buffers, in the header. */
        g_assert_cmpmem(w->guest->host + BUFFER(0, 0) + 12, LEN - 12, w->guest->host + at + 12,
                        LEN - 12);
    }
}

void vdpa_world_assert_words(const char *text)
{
    g_autofree char *were = vdpa_world_take_words();

    g_assert_cmpstr(were, ==, text);
}

void vdpa_world_assert_calls(VdpaWorld *w, const char *calls)
{
    g_autofree char *were = vdpa_model_take_calls(w->model);

    g_assert_cmpstr(were, ==, calls);
}

void vdpa_world_assert_maps(VdpaWorld *w, const char *maps)
{
    g_autofree char *are = vdpa_model_maps(w->model);

    g_assert_cmpstr(are, ==, maps);
}

static void run_main_loop_until(int64_t end_us)
{
    g_assert_cmpint(g_get_monotonic_time(), <, end_us);
    if (!g_main_context_iteration(NULL, FALSE)) {
        g_usleep(1000);
    }
}

void vdpa_world_await(const unsigned int *counter, unsigned int n)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (*counter < n) {
        run_main_loop_until(end_us);
    }
    g_assert_cmpuint(*counter, ==, n);
}

static bool has_said(const char *part)
{
    bool found;

    pthread_mutex_lock(&words_lock);
    found = strstr(words->str, part);
    pthread_mutex_unlock(&words_lock);
    return found;
}

void vdpa_world_await_words(const char *part)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (!has_said(part)) {
        run_main_loop_until(end_us);
    }
}

void vdpa_world_await_calls(VdpaWorld *w, const char *calls)
{
    const int64_t end_us = g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND;
    GString *were = g_string_new(NULL);

    while (strlen(were->str) < strlen(calls)) {
        g_autofree char *more = NULL;

        run_main_loop_until(end_us);
        more = vdpa_model_take_calls(w->model);
        g_string_append_printf(were, "%s%s", were->len && *more ? " " : "", more);
    }
    g_assert_cmpstr(were->str, ==, calls);
    g_string_free(were, TRUE);
}
