/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shadow virtqueue: start, stop, and what wakes its burst loops.
 *
 * How it works.  Two handlers sit in the queue's AioContext: the guest's kick (offer) and the
 * device's call (give back).  While the loop polls them, notifications are off and each
 * poll moves a burst.  When it sleeps they are on, and a wake-up moves bursts until the
 * ring is empty or the budget is spent; then the polls go on or, where there are none, the
 * work bottom half, behind the other handlers of the loop.  While another queue of the loop has
 * a buffer now and then, bursts are short.  So no queue starves its neighbours.
 *
 * A full shadow ring is no reason to watch the guest's ring: the kick stays off, and the
 * return path, which makes the room, offers what waits.
 */
#include "shadow-virtqueue-internal.h"

#include <errno.h>
#include <inttypes.h>

#undef G_LOG_DOMAIN
#define G_LOG_DOMAIN "svq"

/* Bursts that one wake-up may move in a direction before others get their turn. */
#define SVQ_BUDGET 4

/* Buffers in a burst while another queue of the loop, with fewer, may be waiting for its end. */
#define SVQ_SHARED_BURST 16

/* So many shorter ones in a row are light work, not what was left over of something larger. */
#define SVQ_LIGHT_BURSTS 8

/* Where the logging of a queue is published that has none. */
static SvqLogging *const no_logging;

ShadowVirtqueue *shadow_virtqueue_new(const char *name)
{
    ShadowVirtqueue *svq = g_aligned_alloc0(1, sizeof(*svq), SVQ_CACHE_LINE);

    svq->name = g_strdup(name);
    return svq;
}

void shadow_virtqueue_free(ShadowVirtqueue *svq)
{
    if (!svq) {
        return;
    }
    g_assert(atomic_load(&svq->state) == SVQ_QUEUE_STOPPED);
    g_free(svq->name);
    g_aligned_free(svq);
}

static void remove_handler(ShadowVirtqueue *svq, AioHandler **handler)
{
    if (*handler) {
        aio_remove_handler(svq->ctx, *handler);
        *handler = NULL;
    }
}

void svq_break(ShadowVirtqueue *svq, const char *side, const VringError *error)
{
    g_autofree char *words = NULL;

    if (!svq_is_running(svq)) {
        return;
    }
    words = vring_error_to_string(error);
    atomic_store_explicit(&svq->state, SVQ_QUEUE_BROKEN, memory_order_relaxed);
    svq_counter_add(&svq->counters.errors, 1);
    g_warning("%s: broken by the %s: %s", svq->name, side, words);
    remove_handler(svq, &svq->kick_handler);
    remove_handler(svq, &svq->call_handler);
    event_notifier_set(&svq->guest_err);
    if (svq->broken) {
        svq->broken(svq->opaque);
    }
}

unsigned int shadow_virtqueue_offer(ShadowVirtqueue *svq)
{
    return svq_is_running(svq) ? svq->offer(svq) : 0;
}

unsigned int shadow_virtqueue_return(ShadowVirtqueue *svq)
{
    return svq_is_running(svq) ? svq->give_back(svq) : 0;
}

/* Whether the guest shall kick; true if it shall and there is work already. */
static bool want_kicks(ShadowVirtqueue *svq, bool want)
{
    const SvqLogging *logging = rcu_dereference(*svq->logging);
    bool more = false;

    if (want) {
        more = vring_device_enable_kick(&svq->guest, svq->guest.packed);
    } else {
        vring_device_disable_kick(&svq->guest, svq->guest.packed);
    }
    if (G_UNLIKELY(logging)) {
        svq_log_kick_wish(svq, logging);
    }
    return more;
}

static bool waits_for_room(const ShadowVirtqueue *svq)
{
    return svq->control ? control_queue_is_full(svq->control)
                        : svq->shadow.num_free < svq->need_room;
}

/* After a burst of @done buffers: how long the next may be.  True if there was any. */
static bool had_turn(ShadowVirtqueue *svq, unsigned int done)
{
    bool light;

    if (!done) {
        return false;
    }
    svq->light_bursts = done < SVQ_SHARED_BURST ? svq->light_bursts + 1 : 0;
    light = svq->light_bursts >= SVQ_LIGHT_BURSTS;
    svq->burst_limit = aio_take_turn(svq->ctx, svq, light) ? SVQ_SHARED_BURST : SVQ_BURST;
    return true;
}

/* Both directions, within the budget.  True if there is more to do. */
static bool move_bursts(ShadowVirtqueue *svq, bool offer, bool give_back)
{
    unsigned int i;

    for (i = 0; i < SVQ_BUDGET; i++) {
        bool more = false;

        if (give_back && had_turn(svq, shadow_virtqueue_return(svq))) {
            more = true;
            offer = true;       /* there is room now */
        }
        if (offer && had_turn(svq, shadow_virtqueue_offer(svq))) {
            more = true;
        }
        if (!more) {
            return false;
        }
    }
    return true;
}

/* Allows notifications again where the loop does not poll.  True if there is work already. */
static bool rearm(ShadowVirtqueue *svq)
{
    bool more = false;

    if (!svq->kick_polled && !waits_for_room(svq)) {
        more |= want_kicks(svq, true);
    }
    if (!svq->call_polled) {
        more |= vring_driver_enable_call(&svq->shadow, svq->shadow.packed);
    }
    return more;
}

static void silence(ShadowVirtqueue *svq)
{
    want_kicks(svq, false);
    vring_driver_disable_call(&svq->shadow, svq->shadow.packed);
}

/* Works off what is there, then makes sure that what comes next wakes us. */
static void work(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    /* Polls find what there is, and will do so once more when they end. */
    if (!svq_is_running(svq) || (svq->kick_polled && svq->call_polled)) {
        return;
    }
    if (move_bursts(svq, true, true) || (svq_is_running(svq) && rearm(svq))) {
        if (svq_is_running(svq)) {
            silence(svq);
            aio_bh_schedule(svq->ctx, &svq->work);
        }
    }
}

static void kick_ready(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    if (event_notifier_test_and_clear(&svq->guest_kick) < 0) {
        vring_fail(&svq->guest.error, "its kick descriptor is dead", NULL, 0,
                   (uint64_t)svq->guest_kick.fd);
        svq_break(svq, "guest", &svq->guest.error);
        return;
    }
    silence(svq);
    work(svq);
}

static void call_ready(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    /* Our own eventfd: reading it cannot fail for good. */
    event_notifier_test_and_clear(&svq->device_call);
    silence(svq);
    work(svq);
}

/*
 * A poll that finds something after polling has ended moved on from where notifications were
 * allowed: the work bottom half allows them anew.  @again: it has to run for another reason.
 */
static bool polled(ShadowVirtqueue *svq, bool hit, bool polling, bool again)
{
    svq_counter_add(hit ? &svq->counters.polls_hit : &svq->counters.polls_missed, 1);
    if (hit && (!polling || again) && svq_is_running(svq)) {
        aio_bh_schedule(svq->ctx, &svq->work);
    }
    return hit;
}

static bool kick_poll(void *opaque)
{
    ShadowVirtqueue *svq = opaque;
    /* Then kick_poll_end() has left kicks off. */
    const bool waited = !svq->kick_polled && waits_for_room(svq);
    const bool hit = had_turn(svq, shadow_virtqueue_offer(svq));

    /* A control queue may see only now that commands of ours are through. */
    if (waited && !hit && svq_is_running(svq) && !waits_for_room(svq)) {
        aio_bh_schedule(svq->ctx, &svq->work);
    }
    return polled(svq, hit, svq->kick_polled, false);
}

static bool call_poll(void *opaque)
{
    ShadowVirtqueue *svq = opaque;
    bool waited = waits_for_room(svq);
    bool hit = had_turn(svq, shadow_virtqueue_return(svq));

    /* Nobody else offers what waited for room, unless the guest's ring is polled. */
    return polled(svq, hit, svq->call_polled, waited && !svq->kick_polled);
}

static void kick_poll_begin(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->kick_polled = true;
    want_kicks(svq, false);
}

static void kick_poll_end(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->kick_polled = false;
    if (!waits_for_room(svq)) {
        /* What is there already is found by the poll that follows. */
        want_kicks(svq, true);
    }
}

static void call_poll_begin(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->call_polled = true;
    vring_driver_disable_call(&svq->shadow, svq->shadow.packed);
}

static void call_poll_end(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->call_polled = false;
    vring_driver_enable_call(&svq->shadow, svq->shadow.packed);
}

static const AioHandlerOps kick_ops = {
    .ready = kick_ready,
    .poll = kick_poll,
    .poll_begin = kick_poll_begin,
    .poll_end = kick_poll_end,
};

static const AioHandlerOps call_ops = {
    .ready = call_ready,
    .poll = call_poll,
    .poll_begin = call_poll_begin,
    .poll_end = call_poll_end,
};

static int init_rings(ShadowVirtqueue *svq, const ShadowVirtqueueConfig *config, GError **errp)
{
    const VringError *error = &svq->guest.error;
    const char *side = "guest";
    VringConfig guest = config->guest;
    int ret;

    /* What comes back in order is put back so. */
    guest.put_in_order = config->shadow.in_order && !config->control;
    ret = vring_device_init(&svq->guest, &guest);

    if (ret == 0) {
        side = "device";
        error = &svq->shadow.error;
        ret = vring_driver_init(&svq->shadow, &config->shadow, config->tables, config->tables_iova);
        if (ret < 0) {
            vring_device_cleanup(&svq->guest);
        }
    }
    if (ret < 0) {
        g_autofree char *words = vring_error_to_string(error);

        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: ring of the %s: %s", svq->name,
                    side, words);
    }
    return ret;
}

static void report_recovery(const ShadowVirtqueue *svq)
{
    const VringRecovery *recovery = &svq->guest.recovery;

    if (recovery->recovered) {
        g_info("%s: goes on from its record; of what was in flight, completed: %u, "
               "offered again: %u", svq->name, recovery->completed, recovery->offered);
    } else if (recovery->discarded) {
        g_info("%s: begins anew, not from its record: %s; completed: %u", svq->name,
               recovery->discarded, recovery->completed);
    }
}

static void cleanup_rings(ShadowVirtqueue *svq)
{
    vring_device_cleanup(&svq->guest);
    vring_driver_cleanup(&svq->shadow);
    g_clear_pointer(&svq->segments, g_free);
    g_clear_pointer(&svq->addrs, g_free);
}

/* Adds a handler for @notifier; without a descriptor the loop polls for ever. */
static int add_handler(ShadowVirtqueue *svq, const EventNotifier *notifier,
                       const AioHandlerOps *ops, AioHandler **handler)
{
    *handler = aio_add_handler(svq->ctx, notifier->fd, ops, svq);
    return *handler ? 0 : -errno;
}

typedef struct SvqCommand {
    ShadowVirtqueue *svq;
    int fd;
} SvqCommand;

static void attach_in_owner(void *opaque)
{
    ShadowVirtqueue *svq = opaque;
    int ret = add_handler(svq, &svq->guest_kick, &kick_ops, &svq->kick_handler);

    if (ret == 0) {
        ret = add_handler(svq, &svq->device_call, &call_ops, &svq->call_handler);
    }
    if (ret == 0 && svq->control) {
        ret = control_queue_attach(svq);
    }
    if (ret < 0) {
        vring_fail(&svq->guest.error, "its kick descriptor cannot be waited for", NULL, 0,
                   (uint64_t)svq->guest_kick.fd);
        svq_break(svq, "guest", &svq->guest.error);
        return;
    }
    /* A kick may have come before there was anybody to hear it. */
    aio_bh_schedule(svq->ctx, &svq->work);
}

static void detach_in_owner(void *opaque)
{
    ShadowVirtqueue *svq = opaque;
    int running = SVQ_QUEUE_RUNNING;

    remove_handler(svq, &svq->kick_handler);
    remove_handler(svq, &svq->call_handler);
    if (svq->control) {
        control_queue_detach(svq);
    }
    atomic_compare_exchange_strong(&svq->state, &running, SVQ_QUEUE_STOPPED);
}

/* The work that was scheduled before the handlers went has run. */
static void detached_in_owner(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    /* Release: pairs with the acquire in shadow_virtqueue_detach(). */
    atomic_store_explicit(&svq->detached, true, memory_order_release);
}

static void detach_bh(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    detach_in_owner(svq);
    svq->detach.fn = detached_in_owner;
    aio_bh_schedule(svq->ctx, &svq->detach);
}

static void kick_in_owner(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq_kick_device(svq, svq->shadow.packed);
}

/* From here on the owner may be asked for something, and has to be waited for when it ends. */
static void hand_over(ShadowVirtqueue *svq)
{
    svq->detaching = false;
    atomic_store_explicit(&svq->detached, false, memory_order_relaxed);
    aio_bh_init(&svq->attach, attach_in_owner, svq);
    aio_bh_init(&svq->detach, detach_bh, svq);
    aio_bh_init(&svq->kick, kick_in_owner, svq);
}

static void attach(ShadowVirtqueue *svq)
{
    svq->kick_polled = svq->call_polled = false;
    atomic_store(&svq->state, SVQ_QUEUE_RUNNING);
    if (svq->ctx && !svq->held) {
        aio_bh_schedule(svq->ctx, &svq->attach);
    }
}

int shadow_virtqueue_start(ShadowVirtqueue *svq, const ShadowVirtqueueConfig *config,
                           GError **errp)
{
    const SvqForward *forward =
        &svq_forward[config->guest.packed][config->shadow.packed][config->shadow.in_order];
    int ret;

    g_assert(atomic_load(&svq->state) == SVQ_QUEUE_STOPPED);
    ret = init_rings(svq, config, errp);
    if (ret < 0) {
        return ret;
    }
    svq->control = config->control;
    svq->offer = svq->control ? control_queue_offer : forward->offer;
    svq->give_back = svq->control ? control_queue_give_back : forward->give_back;
    svq->ctx = config->ctx;
    svq->map = config->map;
    svq->logging = config->logging ? config->logging : &no_logging;
    svq->max_segments = MAX(config->guest.num, SVQ_MAX_TABLE) + SVQ_MAX_STRADDLES;
    svq->segments = g_new(VringSegment, svq->max_segments);
    svq->addrs = g_new(uint64_t, svq->max_segments);
    svq->guest_kick.fd = config->guest_kick_fd;
    svq->guest_call.fd = config->guest_call_fd;
    svq->guest_err.fd = config->guest_err_fd;
    svq->device_kick.fd = config->device_kick_fd;
    svq->device_call.fd = config->device_call_fd;
    svq->doorbell = config->doorbell;
    svq->index = config->index;
    svq->notification_data = config->notification_data;
    svq->broken = config->broken;
    svq->opaque = config->opaque;
    svq->need_room = 1;
    svq->burst_limit = SVQ_BURST;
    svq->light_bursts = 0;
    report_recovery(svq);
    if (shadow_virtqueue_has_recovered(svq)) {
        /* Of what was used before it may not have heard. */
        event_notifier_set(&svq->guest_call);
    }
    aio_bh_init(&svq->work, work, svq);
    svq->held = config->held;
    hand_over(svq);
    attach(svq);
    return 0;
}

static void release_in_owner(void *opaque)
{
    ShadowVirtqueue *svq = opaque;

    svq->held = false;
    if (svq_is_running(svq)) {
        attach_in_owner(svq);
    }
}

void shadow_virtqueue_release(ShadowVirtqueue *svq)
{
    if (svq->held) {
        aio_run_in(svq->ctx, release_in_owner, svq);
    }
}

bool shadow_virtqueue_has_recovered(const ShadowVirtqueue *svq)
{
    return svq->guest.recovery.recovered || svq->guest.recovery.discarded;
}

bool shadow_virtqueue_goes_on(const ShadowVirtqueue *svq)
{
    return svq->guest.recovery.recovered;
}

void shadow_virtqueue_begin_detach(ShadowVirtqueue *svq)
{
    if (svq->ctx && !svq->detaching) {
        svq->detaching = true;
        aio_bh_schedule(svq->ctx, &svq->detach);
    }
}

void shadow_virtqueue_detach(ShadowVirtqueue *svq)
{
    if (!svq->ctx) {
        detach_in_owner(svq);
        return;
    }
    shadow_virtqueue_begin_detach(svq);
    /* Acquire: what the owner did with the queue comes before what we do. */
    if (!atomic_load_explicit(&svq->detached, memory_order_acquire)) {
        /* With this one, all are detached that its loop was asked to before. */
        aio_drain(svq->ctx);
    }
}

void shadow_virtqueue_resume(ShadowVirtqueue *svq, const VringAreas *guest)
{
    g_return_if_fail(atomic_load(&svq->state) != SVQ_QUEUE_RUNNING);
    /* A broken queue, too: its stop settles what was in flight. */
    vring_device_move(&svq->guest, guest);
    hand_over(svq);
    if (atomic_load(&svq->state) != SVQ_QUEUE_BROKEN) {
        attach(svq);
    }
}

/*
 * What the device has used, also if the guest broke the queue, but not if the device did.
 * Bounded: each round gives back a buffer in flight, and none is added.
 */
static void give_back_all(ShadowVirtqueue *svq)
{
    while (!svq->shadow.error.what && svq->give_back(svq)) {
    }
}

int shadow_virtqueue_drain(ShadowVirtqueue *svq)
{
    give_back_all(svq);
    if (svq->shadow.error.what || !vring_device_can_offer_again(&svq->guest)) {
        return -EBUSY;
    }
    return 0;
}

void shadow_virtqueue_kick_device(ShadowVirtqueue *svq)
{
    if (svq->ctx) {
        aio_bh_schedule(svq->ctx, &svq->kick);
    } else {
        kick_in_owner(svq);
    }
}

void shadow_virtqueue_stop(ShadowVirtqueue *svq, bool device_lost, VringBase *base)
{
    give_back_all(svq);
    /* A device that broke the rules may say what it likes of what it did not complete. */
    vring_device_settle(&svq->guest, device_lost || svq->shadow.error.what, NULL);
    svq_publish_to_guest(svq, svq->guest.packed, *svq->logging);
    /* Whoever works the ring next hears of what the guest adds now, even if it never says so. */
    want_kicks(svq, true);
    *base = vring_device_base(&svq->guest);
    if (svq->control) {
        control_queue_stopped(svq->control);
    }
    cleanup_rings(svq);
    atomic_store(&svq->state, SVQ_QUEUE_STOPPED);
}

static void set_kick_in_owner(void *opaque)
{
    SvqCommand *command = opaque;
    ShadowVirtqueue *svq = command->svq;

    remove_handler(svq, &svq->kick_handler);
    svq->kick_polled = false;
    svq->guest_kick.fd = command->fd;
    if (!svq_is_running(svq) || svq->held) {
        return;
    }
    if (add_handler(svq, &svq->guest_kick, &kick_ops, &svq->kick_handler) < 0) {
        vring_fail(&svq->guest.error, "its kick descriptor cannot be waited for", NULL, 0,
                   (uint64_t)command->fd);
        svq_break(svq, "guest", &svq->guest.error);
        return;
    }
    aio_bh_schedule(svq->ctx, &svq->work);
}

static void set_call_in_owner(void *opaque)
{
    SvqCommand *command = opaque;

    command->svq->guest_call.fd = command->fd;
    /* What the guest was not told through the old descriptor it is told through the new. */
    event_notifier_set(&command->svq->guest_call);
}

static void set_err_in_owner(void *opaque)
{
    SvqCommand *command = opaque;

    command->svq->guest_err.fd = command->fd;
}

static void set_descriptor(ShadowVirtqueue *svq, int fd, void (*in_owner)(void *opaque))
{
    SvqCommand command = { .svq = svq, .fd = fd };

    aio_run_in(svq->ctx, in_owner, &command);
}

void shadow_virtqueue_set_guest_kick(ShadowVirtqueue *svq, int fd)
{
    set_descriptor(svq, fd, set_kick_in_owner);
}

void shadow_virtqueue_set_guest_call(ShadowVirtqueue *svq, int fd)
{
    set_descriptor(svq, fd, set_call_in_owner);
}

void shadow_virtqueue_set_guest_err(ShadowVirtqueue *svq, int fd)
{
    set_descriptor(svq, fd, set_err_in_owner);
}

SvqQueueState shadow_virtqueue_get_state(const ShadowVirtqueue *svq)
{
    return (SvqQueueState)atomic_load_explicit(&svq->state, memory_order_relaxed);
}

static uint64_t read_counter(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

ShadowVirtqueueCounters shadow_virtqueue_get_counters(const ShadowVirtqueue *svq)
{
    const SvqCounters *c = &svq->counters;
    const uint64_t kicks_sent = read_counter(&c->kicks_sent);
    const uint64_t kicks_suppressed = read_counter(&c->kicks_suppressed);

    return (ShadowVirtqueueCounters){
        .buffers = read_counter(&c->buffers),
        .returned = read_counter(&c->returned),
        .bytes = read_counter(&c->bytes),
        /* Each is sent a kick for, or not. */
        .bursts = kicks_sent + kicks_suppressed,
        .kicks_sent = kicks_sent,
        .kicks_suppressed = kicks_suppressed,
        .calls_sent = read_counter(&c->calls_sent),
        .calls_suppressed = read_counter(&c->calls_suppressed),
        .polls_hit = read_counter(&c->polls_hit),
        .polls_missed = read_counter(&c->polls_missed),
        .full = read_counter(&c->full),
        .errors = read_counter(&c->errors),
    };
}
