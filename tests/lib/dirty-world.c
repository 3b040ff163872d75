/* SPDX-License-Identifier: BSD-3-Clause */
/* A shadowed device whose writes are logged, and its VMM.  See dirty-world.h. */
#include "lib/dirty-world.h"

static void device_stops_ring(FakeDevice *fake, unsigned int q, void *opaque)
{
    DirtyWorld *w = opaque;

    dirty_device_halt(w->traffic);
    dirty_device_forget(w->traffic, q);
    if (w->last_words) {
        w->last_words(w, q);
    }
}

static void make_device(DirtyWorld *w, const RigFormat *format, uint32_t queue_size)
{
    const AioPollParams params = { .max_ns = format->poll_max_ns };
    IOThread *iothreads[VMM_RINGS];
    SvqDeviceConfig config = {
        .id = "net0",
        .backend = &w->rig.fake.dev,
        .iothreads = iothreads,
        .n_iothreads = VMM_RINGS,
        .queue_size = queue_size,
        .shadow.packed = format->shadow_packed ? ON_OFF_AUTO_ON : ON_OFF_AUTO_OFF,
    };
    g_autoptr(GError) err = NULL;
    unsigned int i;

    for (i = 0; i < VMM_RINGS; i++) {
        g_autofree char *id = g_strdup_printf("io%u", i);

        iothreads[i] = iothread_new(id, &params, NULL, &err);
        g_assert_no_error(err);
    }
    fake_device_init(&w->rig.fake, VMM_FEATURES | VMM_PACKED | DIRTY_EVENT_IDX, FAKE_RINGS);
    w->rig.fake.stopping = device_stops_ring;
    w->rig.fake.opaque = w;
    w->rig.dev = svq_device_new(&config, &err);
    g_assert_no_error(err);
    rig_listen(&w->rig);
    for (i = 0; i < VMM_RINGS; i++) {
        /* The device has references. */
        if (i < RIG_IOTHREADS) {
            w->rig.iothreads[i] = iothreads[i];
        } else {
            iothread_unref(iothreads[i]);
        }
    }
}

static void make_ring(DirtyWorld *w, unsigned int q)
{
    VmmRing *ring = &w->rig.vmm.rings[q];
    const uint64_t gpa = w->memory->rings[q];
    uint8_t *host = dirty_memory_host(w->memory, gpa);
    const uint64_t features = w->rig.vmm.features;

    if (ring->made) {
        vring_driver_cleanup(&ring->driver);
    }
    ring->config = (VringConfig){
        .num = DIRTY_RING_NUM,
        .packed = features & VMM_PACKED,
        .event_idx = features & DIRTY_EVENT_IDX,
        .indirect = features & DIRTY_INDIRECT,
        .in_order = features & DIRTY_IN_ORDER,
        .areas = { host + DIRTY_DESC, host + DIRTY_DRIVER, host + DIRTY_DEVICE },
    };
    ring->made = true;
    g_assert_cmpint(vring_driver_init(&ring->driver, &ring->config,
                                      (VringDesc *)(host + DIRTY_TABLES), gpa + DIRTY_TABLES),
                    ==, 0);
}

void dirty_world_set_ring_addr(DirtyWorld *w, unsigned int q)
{
    Vmm *v = &w->rig.vmm;
    const uint64_t gpa = w->memory->rings[q];
    VhostUserMessage m = peer_message(VHOST_USER_SET_VRING_ADDR, sizeof(m.payload.addr));

    m.payload.addr = (VhostUserVringAddr){
        .index = q,
        .flags = v->features & DIRTY_LOG_ALL ? VHOST_USER_VRING_F_LOG : 0,
        .desc = gpa + DIRTY_DESC + VMM_USER_OFFSET,
        .avail = gpa + DIRTY_DRIVER + VMM_USER_OFFSET,
        .used = gpa + DIRTY_DEVICE + VMM_USER_OFFSET,
        .log = gpa + DIRTY_DEVICE,
    };
    g_assert_cmphex(peer_ack(v->fd, &m), ==, 0);
}

void dirty_world_start_rings(DirtyWorld *w, uint64_t base)
{
    Vmm *v = &w->rig.vmm;
    unsigned int q;

    dirty_device_halt(w->traffic);
    for (q = 0; q < VMM_RINGS; q++) {
        vmm_do(v, VHOST_USER_SET_VRING_NUM, q, 0);
        vmm_do(v, VHOST_USER_SET_VRING_BASE, q, base);
        dirty_world_set_ring_addr(w, q);
        vmm_do(v, VHOST_USER_SET_VRING_CALL, q, 0);
        vmm_do(v, VHOST_USER_SET_VRING_ERR, q, 0);
        vmm_do(v, VHOST_USER_SET_VRING_KICK, q, 0);
        vmm_do(v, VHOST_USER_SET_VRING_ENABLE, q, 1);
    }
}

void dirty_world_stop_rings(DirtyWorld *w)
{
    unsigned int q;

    for (q = 0; q < VMM_RINGS; q++) {
        vmm_do(&w->rig.vmm, VHOST_USER_GET_VRING_BASE, q, 0);
        if (w->traffic->total) {
            dirty_device_go_on(w->traffic);
        }
    }
}

uint64_t dirty_world_try_log(DirtyWorld *w, const DirtyLogFile *log, uint64_t size)
{
    VhostUserMessage m = peer_message(VHOST_USER_SET_LOG_BASE, sizeof(m.payload.log));

    m.payload.log = (VhostUserLog){ .size = size, .offset = log->offset };
    m.fds[m.n_fds++] = log->fd;
    return peer_ack(w->rig.vmm.fd, &m);
}

void dirty_world_connect(DirtyWorld *w, const DirtyLogFile *log)
{
    Vmm *v = &w->rig.vmm;
    unsigned int q;

    vmm_connect(v, w->rig.path);
    vmm_begin(v, vmm_get(v, VHOST_USER_GET_PROTOCOL_FEATURES));
    if (log) {
        g_assert_cmphex(dirty_world_try_log(w, log, log->size), ==, 0);
    }
    for (q = 0; q < VMM_RINGS; q++) {
        make_ring(w, q);
    }
    dirty_world_start_rings(w, VMM_START);
    vmm_do(v, VHOST_USER_SET_STATUS, 0, 0xf);
}

void dirty_world_init(DirtyWorld *w, const RigFormat *format, uint64_t features,
                      uint32_t queue_size, uint64_t buffers)
{
    *w = (DirtyWorld){ .warnings = rig_warnings() };
    make_device(w, format, queue_size);
    vmm_init(&w->rig.vmm, VMM_FEATURES | features | (format->guest_packed ? VMM_PACKED : 0),
             DIRTY_RING_NUM);
    w->rig.vmm.ask = true;
    w->memory = g_new(DirtyMemory, 1);
    w->traffic = g_new(DirtyTraffic, 1);
    dirty_memory_init(w->memory, &w->rig.vmm);
    dirty_traffic_init(w->traffic, &w->rig.vmm, &w->rig.fake, w->memory, buffers);
    dirty_world_connect(w, NULL);
}

void dirty_world_cleanup(DirtyWorld *w)
{
    unsigned int i;

    g_assert_cmpuint(rig_warnings(), ==, w->warnings);
    dirty_driver_halt(w->traffic);
    dirty_device_halt(w->traffic);
    vmm_disconnect(&w->rig.vmm);
    dirty_traffic_cleanup(w->traffic);
    dirty_memory_cleanup(w->memory);
    rig_cleanup(&w->rig);
    for (i = 0; i < G_N_ELEMENTS(w->logs); i++) {
        dirty_log_file_cleanup(&w->logs[i]);
    }
    g_free(w->memory);
    g_free(w->traffic);
}

/* What the VMM says of logging. */

void dirty_world_set_logging(DirtyWorld *w, bool on)
{
    Vmm *v = &w->rig.vmm;
    g_autofree char *calls = NULL;
    unsigned int q;

    g_free(fake_device_take_calls(&w->rig.fake));
    v->features = on ? v->features | DIRTY_LOG_ALL : v->features & ~DIRTY_LOG_ALL;
    vmm_do(v, VHOST_USER_SET_FEATURES, 0, 0);
    for (q = 0; q < VMM_RINGS; q++) {
        dirty_world_set_ring_addr(w, q);
    }
    /* Nothing was restarted. */
    calls = fake_device_take_calls(&w->rig.fake);
    g_assert_cmpstr(calls, ==, "");
}

void dirty_world_log_on(DirtyWorld *w, DirtyLogFile *log)
{
    dirty_memory_switch_begin(w->memory);
    atomic_store(&w->memory->log, log);
    atomic_store(&w->memory->tracking, true);
    g_assert_cmphex(dirty_world_try_log(w, log, log->size), ==, 0);
    dirty_world_set_logging(w, true);
    dirty_memory_take_all(w->memory);
    dirty_memory_switch_end(w->memory);
    dirty_memory_round(w->memory);
}

void dirty_world_log_off(DirtyWorld *w)
{
    dirty_memory_switch_begin(w->memory);
    atomic_store(&w->memory->tracking, false);
    dirty_world_set_logging(w, false);
    dirty_memory_take_log(w->memory, atomic_load(&w->memory->log));
    dirty_memory_switch_end(w->memory);
}

void dirty_world_log_replace(DirtyWorld *w, DirtyLogFile *log)
{
    DirtyLogFile *old = atomic_load(&w->memory->log);

    dirty_memory_switch_begin(w->memory);
    g_assert_cmphex(dirty_world_try_log(w, log, log->size), ==, 0);
    dirty_memory_take_log(w->memory, old);
    atomic_store(&w->memory->log, log);
    dirty_memory_switch_end(w->memory);
}

void dirty_world_finish_copy(DirtyWorld *w)
{
    dirty_memory_round(w->memory);
    g_assert_cmpuint(dirty_memory_compare(w->memory), ==, 0);
    dirty_memory_check_precise(w->memory);
    /* Nothing beside the log, and nothing after the last answer. */
    g_assert_true(dirty_log_file_is_clean(atomic_load(&w->memory->log)));
}

/* By hand. */

uint64_t dirty_world_buffer_gpa(const DirtyWorld *w, unsigned int i)
{
    uint64_t page = w->memory->extents[0].gpa / DIRTY_PAGE + i * 4;

    while (dirty_memory_page_is_spared(w->memory, page)) {
        page++;
    }
    return page * DIRTY_PAGE;
}

void dirty_world_add_buffer(DirtyWorld *w, unsigned int q, unsigned int i)
{
    VringDriver *driver = &w->rig.vmm.rings[q].driver;
    const VringSegment seg = { dirty_world_buffer_gpa(w, i) + i, DIRTY_BUFFER, VRING_DESC_F_WRITE };
    const uint16_t first = driver->avail_idx;

    vring_driver_add(driver, driver->packed, &seg, 1, i);
    dirty_driver_publish(w->traffic, q, first);
}

void dirty_world_use_buffer(DirtyWorld *w, unsigned int q, uint16_t id, const VringSegment *seg)
{
    dirty_device_write(w->traffic, q, seg, 1, seg->len);
    fake_device_put(&w->rig.fake, q, id, seg->len);
}

void dirty_world_collect_buffer(DirtyWorld *w, unsigned int q, unsigned int i, uint32_t expected)
{
    uint32_t cookie, len;

    vmm_wait_used(&w->rig.vmm, q, &cookie, &len);
    dirty_memory_guest_wrote(w->memory, w->memory->rings[q] + DIRTY_DRIVER,
                             vring_driver_size(DIRTY_RING_NUM, w->rig.vmm.rings[q].config.packed));
    g_assert_cmpuint(cookie, ==, i);
    g_assert_cmpuint(len, ==, expected);
    dirty_record_check(w->memory, &w->traffic->records[q][cookie], len);
}

void dirty_world_pass_buffer(DirtyWorld *w, unsigned int q, unsigned int i)
{
    VringSegment seg;
    uint16_t id;

    dirty_world_add_buffer(w, q, i);
    id = fake_device_take(&w->rig.fake, q, &seg);
    dirty_world_use_buffer(w, q, id, &seg);
    dirty_world_collect_buffer(w, q, i, DIRTY_BUFFER);
}
