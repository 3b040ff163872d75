/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The naive engine: a ShadowVirtqueue as SVQs are written today, to compare ours with.
 *
 * How it works.  It stands in for hw/svq/shadow-virtqueue.c in svq-bench-naive, which else is
 * svq-bench, so both are measured and checked in the same way.  A buffer in flight is an element
 * that is allocated when it is taken and freed when it comes back.  Each address is looked up in a
 * GTree.  Each buffer is published by itself, in both directions, and after each there is a full
 * fence and the decision whether to notify.  What is written is logged page by page.
 *
 * What flatters it: there is but one allocation for each buffer, and the rings are worked by the same
 * functions as ours, which touch no memory twice.
 *
 * What it has not got, since svq-bench does not need it: buffers that straddle memory ranges,
 * maps that change, broken guests that are told so, a control queue.
 *
 * Threads: as in shadow-virtqueue.h.
 */
#include "hw/svq/shadow-virtqueue.h"

#include <string.h>

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "util/event-notifier.h"

/* Elements that an indirect table may have. */
#define MAX_TABLE 1024

/* A buffer in flight. */
typedef struct Element {
    uint16_t id;                /* the guest's */
    unsigned int n;
    VringSegment segments[];    /* with the guest's addresses, for the log */
} Element;

struct ShadowVirtqueue {
    AioContext *ctx;
    const MemoryMap *map;
    const SvqLogging *logging;
    GTree *ranges;              /* const MemoryRange * to itself */
    bool guest_packed, shadow_packed;
    VringDevice guest;
    VringDriver shadow;
    VringSegment *segments;     /* of the buffer at hand, with addresses as the device knows them */
    Element **in_flight;        /* by the guest's id */
    bool waits_for_room;
    AioHandler *kick_handler, *call_handler;
    EventNotifier guest_kick, guest_call, device_kick, device_call;
    bool kick_polled, call_polled;
    _Atomic uint64_t buffers, returned, kicks_sent, calls_sent;
    _Atomic int state;
};

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* --- addresses --- */

/* Ranges that overlap are equal: a lookup's key is a range of the bytes that are looked for. */
static gint compare_ranges(gconstpointer a, gconstpointer b, gpointer unused)
{
    const MemoryRange *x = a, *y = b;

    if (x->gpa + (x->size - 1) < y->gpa) {
        return -1;
    }
    return x->gpa > y->gpa + (y->size - 1);
}

static GTree *make_tree(const MemoryMap *map)
{
    GTree *tree = g_tree_new_full(compare_ranges, NULL, NULL, NULL);
    unsigned int i;

    for (i = 0; i < map->n; i++) {
        g_tree_insert(tree, &map->ranges[i], &map->ranges[i]);
    }
    return tree;
}

static bool translate(const ShadowVirtqueue *svq, VringSegment *seg)
{
    const MemoryRange key = { .gpa = seg->addr, .size = seg->len };
    const MemoryRange *range = g_tree_lookup(svq->ranges, &key);

    if (!range || !memory_range_holds(range, seg->addr, seg->len)) {
        return false;
    }
    seg->addr += range->iova_delta;
    return true;
}

/* --- elements --- */

/* The next buffer of the guest; NULL: there is none, or the guest broke the rules. */
static Element *element_take(ShadowVirtqueue *svq)
{
    VringSegment *seg = svq->segments;
    Element *element;
    uint16_t id;
    int n = vring_device_take(&svq->guest, svq->guest_packed, svq->map, seg, MAX_TABLE, &id);
    int i;

    if (n <= 0) {
        if (n < 0) {
            atomic_store(&svq->state, SVQ_QUEUE_BROKEN);
        }
        return NULL;
    }
    element = g_malloc(sizeof(*element) + (gsize)n * sizeof(*seg));
    element->id = id;
    element->n = (unsigned int)n;
    memcpy(element->segments, seg, (gsize)n * sizeof(*seg));
    for (i = 0; i < n; i++) {
        if (!translate(svq, &seg[i])) {
            g_free(element);
            atomic_store(&svq->state, SVQ_QUEUE_BROKEN);
            return NULL;
        }
    }
    return element;
}

/* --- dirty log --- */

static void log_range(const DirtyLog *log, uint64_t gpa, uint64_t len)
{
    const uint64_t last = (gpa + len - 1) >> DIRTY_LOG_PAGE_BITS;
    uint64_t page;

    for (page = gpa >> DIRTY_LOG_PAGE_BITS; page <= last; page++) {
        /* Release: pairs with the VMM's acquire when it takes the bit out. */
        atomic_fetch_or_explicit(&log->words[page / 64], htole64(UINT64_C(1) << page % 64),
                                 memory_order_release);
    }
}

/* The device wrote the first @len bytes of what it may write. */
static void log_element(const ShadowVirtqueue *svq, const Element *element, uint32_t len)
{
    unsigned int i;

    for (i = 0; i < element->n && len; i++) {
        const VringSegment *seg = &element->segments[i];

        if (seg->flags & VRING_DESC_F_WRITE) {
            log_range(svq->logging->log, seg->addr, MIN(len, seg->len));
            len -= MIN(len, seg->len);
        }
    }
}

/* We wrote the used element at @idx. */
static void log_used(const ShadowVirtqueue *svq, uint16_t idx)
{
    const SvqLogging *logging = svq->logging;

    if (svq->guest_packed) {
        log_range(logging->log, logging->desc_gpa + idx * sizeof(VringDesc), sizeof(VringDesc));
        return;
    }
    log_range(logging->log,
              logging->device_gpa + offsetof(VringUsed, ring) +
                  (idx & svq->guest.mask) * sizeof(VringUsedElem),
              sizeof(VringUsedElem));
    log_range(logging->log, logging->device_gpa + offsetof(VringUsed, idx), sizeof(le16));
}

/* --- forwarding --- */

static void offer_one(ShadowVirtqueue *svq, Element *element)
{
    svq->in_flight[element->id] = element;
    vring_driver_add(&svq->shadow, svq->shadow_packed, svq->segments, element->n, element->id);
    vring_driver_publish(&svq->shadow, svq->shadow_packed);
    if (vring_driver_needs_kick(&svq->shadow, svq->shadow_packed)) {
        event_notifier_set(&svq->device_kick);
        count(&svq->kicks_sent);
    }
    count(&svq->buffers);
}

static void return_one(ShadowVirtqueue *svq, uint16_t id, uint32_t len)
{
    const uint16_t idx = svq->guest.used_idx;
    Element *element = svq->in_flight[id];

    if (svq->logging && svq->logging->data) {
        log_element(svq, element, len);
    }
    svq->in_flight[id] = NULL;
    g_free(element);
    vring_device_put(&svq->guest, svq->guest_packed, id, len);
    vring_device_publish(&svq->guest, svq->guest_packed);
    if (svq->logging && svq->logging->ring) {
        log_used(svq, idx);
    }
    if (vring_device_needs_call(&svq->guest, svq->guest_packed)) {
        event_notifier_set(&svq->guest_call);
        count(&svq->calls_sent);
    }
    count(&svq->returned);
}

unsigned int shadow_virtqueue_offer(ShadowVirtqueue *svq)
{
    unsigned int n;

    svq->waits_for_room = false;
    for (n = 0; n < svq->guest.num; n++) {
        Element *element = element_take(svq);

        if (!element) {
            break;
        }
        if (!vring_driver_has_room(&svq->shadow, element->n)) {
            vring_device_untake(&svq->guest, svq->guest_packed, element->id);
            g_free(element);
            svq->waits_for_room = true;
            break;
        }
        offer_one(svq, element);
    }
    return n;
}

unsigned int shadow_virtqueue_return(ShadowVirtqueue *svq)
{
    uint32_t id, len;
    unsigned int n;
    int ret = 0;

    for (n = 0; n < svq->shadow.num; n++) {
        ret = vring_driver_collect(&svq->shadow, svq->shadow_packed, &id, &len);
        if (ret <= 0) {
            break;
        }
        return_one(svq, (uint16_t)id, len);
    }
    if (ret < 0) {
        atomic_store(&svq->state, SVQ_QUEUE_BROKEN);
    }
    return n;
}

/* --- event loop --- */

/* Both directions, until there is nothing to do and what comes next notifies. */
static void work(ShadowVirtqueue *svq)
{
    bool more;

    do {
        vring_device_disable_kick(&svq->guest, svq->guest_packed);
        vring_driver_disable_call(&svq->shadow, svq->shadow_packed);
        while (shadow_virtqueue_return(svq) + shadow_virtqueue_offer(svq) &&
               shadow_virtqueue_get_state(svq) == SVQ_QUEUE_RUNNING) {
        }
        /* What waits for room goes on when the device returns some. */
        more = !svq->kick_polled && !svq->waits_for_room &&
               vring_device_enable_kick(&svq->guest, svq->guest_packed);
        more |= !svq->call_polled && vring_driver_enable_call(&svq->shadow, svq->shadow_packed);
    } while (more && shadow_virtqueue_get_state(svq) == SVQ_QUEUE_RUNNING);
}

static void kick_ready(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    event_notifier_test_and_clear(&svq->guest_kick);
    work(svq);
}

static void call_ready(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    event_notifier_test_and_clear(&svq->device_call);
    work(svq);
}

/*
 * A poll after poll_end moves on from where notifications were allowed, and then nobody else makes
 * up for it; nor does anybody offer what waited for room, unless the guest's ring is polled.
 */
static bool kick_poll(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    if (!shadow_virtqueue_offer(svq)) {
        return false;
    }
    if (!svq->kick_polled) {
        work(svq);
    }
    return true;
}

static bool call_poll(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    if (!shadow_virtqueue_return(svq)) {
        return false;
    }
    if (!svq->call_polled || svq->waits_for_room) {
        work(svq);
    }
    return true;
}

static void kick_poll_begin(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->kick_polled = true;
    vring_device_disable_kick(&svq->guest, svq->guest_packed);
}

static void kick_poll_end(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->kick_polled = false;
    if (!svq->waits_for_room) {
        vring_device_enable_kick(&svq->guest, svq->guest_packed);
    }
}

static void call_poll_begin(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->call_polled = true;
    vring_driver_disable_call(&svq->shadow, svq->shadow_packed);
}

static void call_poll_end(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->call_polled = false;
    vring_driver_enable_call(&svq->shadow, svq->shadow_packed);
}

static void attach(void *opaque)
{
    static const AioHandlerOps kick_ops = { kick_ready, kick_poll, kick_poll_begin, kick_poll_end };
    static const AioHandlerOps call_ops = { call_ready, call_poll, call_poll_begin, call_poll_end };
    ShadowVirtqueue *svq = opaque;

    svq->kick_handler = aio_add_handler(svq->ctx, svq->guest_kick.fd, &kick_ops, svq);
    svq->call_handler = aio_add_handler(svq->ctx, svq->device_call.fd, &call_ops, svq);
    g_assert(svq->kick_handler && svq->call_handler);   /* svq-bench's own eventfds */
    work(svq);
}

static void detach(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    aio_remove_handler(svq->ctx, svq->kick_handler);
    aio_remove_handler(svq->ctx, svq->call_handler);
}

/* --- life --- */

ShadowVirtqueue *shadow_virtqueue_new(const char *name)
{
    return g_new0(ShadowVirtqueue, 1);
}

void shadow_virtqueue_free(ShadowVirtqueue *svq)
{
    g_free(svq);
}

int shadow_virtqueue_start(ShadowVirtqueue *svq, const ShadowVirtqueueConfig *config, GError **errp)
{
    if (vring_device_init(&svq->guest, &config->guest) < 0 ||
        vring_driver_init(&svq->shadow, &config->shadow, config->tables, config->tables_iova) < 0) {
        /* svq-bench has checked its options. */
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "a ring is not valid");
        return -EINVAL;
    }
    svq->guest_packed = config->guest.packed;
    svq->shadow_packed = config->shadow.packed;
    svq->ctx = config->ctx;
    svq->map = *config->map;
    svq->logging = config->logging ? *config->logging : NULL;
    svq->ranges = make_tree(svq->map);
    svq->segments = g_new(VringSegment, config->guest.num + MAX_TABLE);
    svq->in_flight = g_new0(Element *, config->guest.num);
    svq->guest_kick.fd = config->guest_kick_fd;
    svq->guest_call.fd = config->guest_call_fd;
    svq->device_kick.fd = config->device_kick_fd;
    svq->device_call.fd = config->device_call_fd;
    atomic_store(&svq->state, SVQ_QUEUE_RUNNING);
    if (svq->ctx) {
        aio_run_in(svq->ctx, attach, svq);
    }
    return 0;
}

void shadow_virtqueue_detach(ShadowVirtqueue *svq)
{
    if (svq->ctx) {
        aio_run_in(svq->ctx, detach, svq);
    }
}

void shadow_virtqueue_stop(ShadowVirtqueue *svq, bool device_lost, VringBase *base)
{
    unsigned int i;

    for (i = 0; i < svq->guest.num; i++) {
        g_free(svq->in_flight[i]);
    }
    vring_device_settle(&svq->guest, device_lost, NULL);
    *base = vring_device_base(&svq->guest);
    g_free(svq->in_flight);
    g_free(svq->segments);
    g_tree_unref(svq->ranges);
    vring_device_cleanup(&svq->guest);
    vring_driver_cleanup(&svq->shadow);
    atomic_store(&svq->state, SVQ_QUEUE_STOPPED);
}

SvqQueueState shadow_virtqueue_get_state(const ShadowVirtqueue *svq)
{
    return (SvqQueueState)atomic_load_explicit(&svq->state, memory_order_relaxed);
}

/* Each buffer is a burst. */
ShadowVirtqueueCounters shadow_virtqueue_get_counters(const ShadowVirtqueue *svq)
{
    return (ShadowVirtqueueCounters){
        .buffers = atomic_load_explicit(&svq->buffers, memory_order_relaxed),
        .bursts = atomic_load_explicit(&svq->buffers, memory_order_relaxed),
        .returned = atomic_load_explicit(&svq->returned, memory_order_relaxed),
        .kicks_sent = atomic_load_explicit(&svq->kicks_sent, memory_order_relaxed),
        .calls_sent = atomic_load_explicit(&svq->calls_sent, memory_order_relaxed),
    };
}
