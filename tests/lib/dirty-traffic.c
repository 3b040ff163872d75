/* SPDX-License-Identifier: BSD-3-Clause */
/* Traffic that dirties memory.  See dirty-traffic.h. */
#include "lib/dirty-traffic.h"

#include <poll.h>
#include <string.h>

#define COOKIE_MASK (DIRTY_RING_NUM - 1)
#define BURST       32

/* Workers. */

static void worker_want(DirtyWorker *w, bool halt, bool quit)
{
    pthread_mutex_lock(&w->lock);
    w->halt = halt;
    w->quit = quit;
    atomic_store(&w->wanted, true);
    event_notifier_set(&w->wake);
    pthread_cond_broadcast(&w->changed);
    while (halt && !w->halted) {
        pthread_cond_wait(&w->changed, &w->lock);
    }
    pthread_mutex_unlock(&w->lock);
}

/* Between two steps: false when it is time to end. */
static bool worker_goes_on(DirtyWorker *w)
{
    bool quit;

    if (!atomic_load_explicit(&w->wanted, memory_order_relaxed)) {
        return true;
    }
    pthread_mutex_lock(&w->lock);
    while (w->halt) {
        w->halted = true;
        pthread_cond_broadcast(&w->changed);
        pthread_cond_wait(&w->changed, &w->lock);
    }
    w->halted = false;
    atomic_store(&w->wanted, false);
    quit = w->quit;
    pthread_mutex_unlock(&w->lock);
    return !quit;
}

/* A lost wake-up shows as a test that gets no further: the VMM's deadline ends it. */
static void worker_sleep(DirtyWorker *w, struct pollfd *pfds, unsigned int n)
{
    unsigned int i;

    pfds[n++] = (struct pollfd){ .fd = w->wake.fd, .events = POLLIN };
    poll(pfds, n, -1);
    for (i = 0; i < n; i++) {
        EventNotifier notifier = { pfds[i].fd };

        if (pfds[i].revents & POLLIN) {
            event_notifier_test_and_clear(&notifier);
        }
    }
}

static void worker_init(DirtyWorker *w, const char *name, GThreadFunc run, void *opaque)
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    g_assert_cmpint(event_notifier_init(&w->wake), ==, 0);
    w->halt = true;
    w->wanted = true;
    w->thread = g_thread_new(name, run, opaque);
    worker_want(w, true, false);
}

static void worker_cleanup(DirtyWorker *w)
{
    worker_want(w, false, true);
    g_thread_join(w->thread);
    event_notifier_cleanup(&w->wake);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
}

/* The driver. */

/* Anywhere in the memory, a quarter of them close together; @cookie: for the first of a buffer. */
static VringSegment random_element(DirtyTraffic *t, const uint16_t *cookie)
{
    static const unsigned int weights[DIRTY_EXTENTS] = { 6, 4, 2 };
    Random *random = &t->driver_random;
    const bool close = random_one_in(random, 4);
    const DirtyExtent *extent = t->memory->extents;
    unsigned int dice = random_below(random, 12);
    uint64_t offset, room, len;

    while (!close && dice >= weights[extent - t->memory->extents]) {
        dice -= weights[extent - t->memory->extents];
        extent++;
    }
    offset = random_below(random, close ? 4 * (uint32_t)DIRTY_PAGE : (uint32_t)extent->size);
    if (cookie) {
        offset = (offset & ~(uint64_t)COOKIE_MASK) | *cookie;
    }
    room = extent->size - offset;
    switch (random_below(random, 8)) {
    case 0:
        len = random_between(random, 1, 3 * (uint32_t)DIRTY_PAGE);
        break;
    case 1:     /* up to the end of its page */
        len = DIRTY_PAGE - (extent->gpa + offset) % DIRTY_PAGE;
        break;
    default:
        len = random_between(random, 1, 300);
    }
    return (VringSegment){ extent->gpa + offset, (uint32_t)MIN(len, room), 0 };
}

static unsigned int random_buffer(DirtyTraffic *t, VringSegment *seg, uint16_t cookie)
{
    Random *random = &t->driver_random;
    unsigned int n = random_between(random, 1, DIRTY_ELEMENTS);
    unsigned int n_readable = random_below(random, n + 1);
    unsigned int i;

    for (i = 0; i < n; i++) {
        seg[i] = random_element(t, i ? NULL : &cookie);
        seg[i].flags = i < n_readable ? 0 : VRING_DESC_F_WRITE;
    }
    return n;
}

/* Marks what of the ring was written since the driver was at @first. */
static void mark_added(DirtyTraffic *t, unsigned int q, uint16_t first)
{
    const VringDriver *driver = &t->vmm->rings[q].driver;
    const uint64_t ring = t->memory->rings[q];
    const uint32_t size = sizeof(VringDesc);

    if (!driver->packed) {
        /* All of it: the device under test does not write there. */
        dirty_memory_guest_wrote(t->memory, ring + DIRTY_DESC, vring_desc_size(driver->num));
        dirty_memory_guest_wrote(t->memory, ring + DIRTY_DRIVER,
                                 vring_driver_size(driver->num, false));
    } else if (first < driver->avail_idx) {
        dirty_memory_guest_wrote(t->memory, ring + DIRTY_DESC + first * size,
                                 (driver->avail_idx - first) * size);
    } else {
        dirty_memory_guest_wrote(t->memory, ring + DIRTY_DESC + first * size,
                                 (driver->num - first) * size);
        if (driver->avail_idx) {
            dirty_memory_guest_wrote(t->memory, ring + DIRTY_DESC, driver->avail_idx * size);
        }
    }
}

void dirty_driver_publish(DirtyTraffic *t, unsigned int q, uint16_t first)
{
    VmmRing *ring = &t->vmm->rings[q];
    EventNotifier kick = { ring->kick };

    vring_driver_publish(&ring->driver, ring->config.packed);
    mark_added(t, q, first);
    if (vring_driver_needs_kick(&ring->driver, ring->config.packed)) {
        event_notifier_set(&kick);
    }
}

/* A burst of buffers, as long as there is room. */
static bool driver_add(DirtyTraffic *t, unsigned int q)
{
    VringDriver *driver = &t->vmm->rings[q].driver;
    const bool packed = driver->packed;
    const uint16_t first = driver->avail_idx;
    unsigned int most = random_between(&t->driver_random, 1, BURST), n;

    most = (unsigned int)MIN(most, atomic_load(&t->granted) - t->added);
    for (n = 0; n < most && t->rings[q].n_free; n++) {
        const uint16_t cookie = t->rings[q].free[t->rings[q].n_free - 1];
        const uint64_t table = driver->free_head * VRING_INDIRECT_MAX * sizeof(VringDesc);
        VringSegment seg[DIRTY_ELEMENTS];
        unsigned int n_seg = random_buffer(t, seg, cookie);

        if (!vring_driver_has_room(driver, n_seg)) {
            break;
        }
        t->rings[q].n_free--;
        vring_driver_add(driver, packed, seg, n_seg, cookie);
        if (vring_driver_uses_table(driver, n_seg)) {
            dirty_memory_guest_wrote(t->memory, t->memory->rings[q] + DIRTY_TABLES + table,
                                     n_seg * sizeof(VringDesc));
        }
        t->added++;
    }
    if (n) {
        dirty_driver_publish(t, q, first);
    }
    return n > 0;
}

static bool driver_collect(DirtyTraffic *t, unsigned int q)
{
    VringDriver *driver = &t->vmm->rings[q].driver;
    uint32_t cookie, len;
    unsigned int n = 0;
    int ret;

    while ((ret = vring_driver_collect(driver, driver->packed, &cookie, &len)) == 1) {
        dirty_record_check(t->memory, &t->records[q][cookie], len);
        t->rings[q].free[t->rings[q].n_free++] = (uint16_t)cookie;
        n++;
    }
    if (ret < 0) {
        g_error("queue %u: %s", q, vring_error_to_string(&driver->error));
    }
    if (n) {
        atomic_fetch_add_explicit(&t->collected, n, memory_order_relaxed);
    }
    return n > 0;
}

/* The driver's wish for calls, which it writes into its own area.  True if there is work. */
static bool driver_want_calls(DirtyTraffic *t, unsigned int q, bool want)
{
    VringDriver *driver = &t->vmm->rings[q].driver;
    bool more = false;

    if (want) {
        more = vring_driver_enable_call(driver, driver->packed);
    } else {
        vring_driver_disable_call(driver, driver->packed);
    }
    dirty_memory_guest_wrote(t->memory, t->memory->rings[q] + DIRTY_DRIVER,
                             vring_driver_size(driver->num, driver->packed));
    return more;
}

static void *driver_thread(void *opaque)
{
    DirtyTraffic *t = opaque;
    unsigned int q;

    while (worker_goes_on(&t->driver_worker)) {
        struct pollfd pfds[VMM_RINGS + 1];
        bool busy = false;

        for (q = 0; q < VMM_RINGS; q++) {
            busy |= driver_collect(t, q);
            busy |= driver_add(t, q);
        }
        if (busy) {
            continue;
        }
        for (q = 0; q < VMM_RINGS; q++) {
            pfds[q] = (struct pollfd){ .fd = t->vmm->rings[q].call, .events = POLLIN };
            busy |= driver_want_calls(t, q, true);
        }
        if (!busy) {
            worker_sleep(&t->driver_worker, pfds, VMM_RINGS);
        }
        for (q = 0; q < VMM_RINGS; q++) {
            driver_want_calls(t, q, false);
        }
    }
    return NULL;
}

/* The device. */

/* Random words, or bytes where there is no whole word; others may be reading them. */
static void write_pattern(uint8_t *p, uint64_t len, uint64_t pattern)
{
    uint8_t *const end = p + len;

    while (p < end) {
        if ((uintptr_t)p % sizeof(uint64_t) == 0 && (size_t)(end - p) >= sizeof(uint64_t)) {
            atomic_store_explicit((_Atomic uint64_t *)p, pattern, memory_order_relaxed);
            p += sizeof(uint64_t);
            pattern += UINT64_C(0x0102030405060708);
        } else {
            atomic_store_explicit((_Atomic uint8_t *)p, (uint8_t)pattern, memory_order_relaxed);
            p++;
        }
    }
}

void dirty_device_write(DirtyTraffic *t, unsigned int q, const VringSegment *seg, unsigned int n,
                        uint32_t len)
{
    DirtyRecord *record = &t->records[q][seg[0].addr & COOKIE_MASK];
    uint32_t left = len;

    dirty_record_begin(record);
    for (; n && left; n--, seg++) {
        uint32_t part = MIN(seg->len, left);

        if (seg->flags & VRING_DESC_F_WRITE) {
            write_pattern(dirty_memory_host(t->memory, seg->addr), part, random_hash(t->pattern++));
            dirty_record_piece(t->memory, record, seg->addr, part);
            left -= part;
        }
    }
    g_assert_cmpuint(left, ==, 0);
    dirty_record_finish(t->memory, record, len);
}

/* Bytes of a buffer that may be written, up to the first page that is spared. */
static uint32_t writable_bytes(const DirtyTraffic *t, const VringSegment *seg, unsigned int n)
{
    uint32_t bytes = 0;

    for (; n; n--, seg++) {
        uint64_t gpa = seg->addr, end = seg->addr + seg->len;

        if (!(seg->flags & VRING_DESC_F_WRITE)) {
            continue;
        }
        while (gpa < end) {
            uint64_t next = MIN(end, (gpa / DIRTY_PAGE + 1) * DIRTY_PAGE);

            if (dirty_memory_page_is_spared(t->memory, gpa / DIRTY_PAGE)) {
                return bytes;
            }
            bytes += (uint32_t)(next - gpa);
            gpa = next;
        }
    }
    return bytes;
}

static void device_use(DirtyTraffic *t, unsigned int q, const DirtyHeld *buffer)
{
    VringDevice *vr = &t->fake->rings[q].vr;
    uint32_t len = writable_bytes(t, buffer->seg, buffer->n);

    if (random_one_in(&t->device_random, 2)) {
        len = random_below(&t->device_random, len + 1);
    } else if (random_one_in(&t->device_random, 8)) {
        len = 0;
    }
    dirty_device_write(t, q, buffer->seg, buffer->n, len);
    vring_device_put(vr, vr->packed, buffer->id, len);
}

static bool device_use_held(DirtyTraffic *t, unsigned int q, unsigned int most)
{
    bool any = false;

    for (; most && t->n_held[q]; most--) {
        unsigned int i = random_below(&t->device_random, t->n_held[q]);

        device_use(t, q, &t->held[q][i]);
        t->held[q][i] = t->held[q][--t->n_held[q]];
        any = true;
    }
    return any;
}

/* A burst of one ring: of what comes, a part is used at once, a part is kept for later. */
static bool device_burst(DirtyTraffic *t, unsigned int q)
{
    VringDevice *vr = &t->fake->rings[q].vr;
    EventNotifier call = { t->fake->rings[q].ring.call_fd };
    unsigned int n;

    for (n = 0; n < BURST; n++) {
        DirtyHeld buffer;
        int ret = vring_device_take(vr, vr->packed, NULL, buffer.seg, G_N_ELEMENTS(buffer.seg),
                                    &buffer.id);

        g_assert_cmpint(ret, >=, 0);
        if (ret == 0) {
            break;
        }
        buffer.n = (unsigned int)ret;
        if (t->n_held[q] < DIRTY_HELD && random_one_in(&t->device_random, 3)) {
            t->held[q][t->n_held[q]++] = buffer;
        } else {
            device_use(t, q, &buffer);
        }
    }
    if (!device_use_held(t, q, n ? random_below(&t->device_random, 4) : DIRTY_HELD) && !n) {
        return false;
    }
    if (vring_device_has_unpublished(vr, vr->packed)) {
        vring_device_publish(vr, vr->packed);
        if (vring_device_needs_call(vr, vr->packed)) {
            event_notifier_set(&call);
        }
    }
    return true;
}

static void *device_thread(void *opaque)
{
    DirtyTraffic *t = opaque;
    unsigned int q, n;

    while (worker_goes_on(&t->device_worker)) {
        struct pollfd pfds[VMM_RINGS + 1];
        bool busy = false;

        for (q = 0; q < VMM_RINGS; q++) {
            busy |= t->fake->rings[q].started && device_burst(t, q);
        }
        for (q = 0, n = 0; q < VMM_RINGS && !busy; q++) {
            VringDevice *vr = &t->fake->rings[q].vr;

            if (t->fake->rings[q].started) {
                pfds[n++] = (struct pollfd){ t->fake->rings[q].ring.kick_fd, POLLIN, 0 };
                busy |= vring_device_enable_kick(vr, vr->packed);
            }
        }
        if (!busy) {
            worker_sleep(&t->device_worker, pfds, n);
        }
    }
    return NULL;
}

void dirty_device_forget(DirtyTraffic *t, unsigned int q)
{
    t->n_held[q] = 0;
}

/* Both. */

void dirty_traffic_init(DirtyTraffic *t, Vmm *v, FakeDevice *fake, DirtyMemory *m, uint64_t total)
{
    unsigned int q, i;

    memset(t, 0, sizeof(*t));
    t->vmm = v;
    t->fake = fake;
    t->memory = m;
    t->total = total;
    t->driver_random.state = random_seed();
    t->device_random.state = ~t->driver_random.state;
    t->pattern = t->driver_random.state;
    for (q = 0; q < VMM_RINGS; q++) {
        for (i = 0; i < DIRTY_RING_NUM; i++) {
            t->rings[q].free[t->rings[q].n_free++] = (uint16_t)i;
        }
    }
    worker_init(&t->driver_worker, "driver", driver_thread, t);
    worker_init(&t->device_worker, "device", device_thread, t);
}

void dirty_traffic_cleanup(DirtyTraffic *t)
{
    worker_cleanup(&t->driver_worker);
    worker_cleanup(&t->device_worker);
}

void dirty_driver_halt(DirtyTraffic *t)
{
    worker_want(&t->driver_worker, true, false);
}

void dirty_driver_go_on(DirtyTraffic *t)
{
    worker_want(&t->driver_worker, false, false);
}

void dirty_driver_grant(DirtyTraffic *t, uint64_t collected)
{
    atomic_store(&t->granted, MIN(t->total, collected + DIRTY_GRANT));
    event_notifier_set(&t->driver_worker.wake);
}

void dirty_device_halt(DirtyTraffic *t)
{
    worker_want(&t->device_worker, true, false);
}

void dirty_device_go_on(DirtyTraffic *t)
{
    worker_want(&t->device_worker, false, false);
}
