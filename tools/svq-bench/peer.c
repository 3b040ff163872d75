/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread that is both driver and device of a shadow virtqueue.
 */
#include "peer.h"

void peer_init(Peer *peer, Rig *rig, Rig *flood, const BenchOptions *options, unsigned int index,
               const _Atomic bool *stop)
{
    load_init(&peer->load, rig, options, options->buffers, stop,
              options->ping_pong ? &peer->latency : NULL);
    if (flood) {
        load_init(&peer->flood, flood, options, 0, &peer->flood_stop, NULL);
    }
    peer->waiter = waiter_of_queue(options, index, options->cpus[index].peer, &rig->guest_call,
                                   &rig->device_kick);
}

/* All that the device can do, published a burst at a time.  *call: SVQ is to be told. */
static unsigned int device_step(const Load *load, bool *call)
{
    unsigned int n, all = 0;

    *call = false;
    do {
        bool call_burst;

        n = rig_device_work_burst(load->rig, load->burst, &call_burst);
        *call |= call_burst;
        all += n;
    } while (n);
    return all;
}

/*
 * All that can be done now.  SVQ is told at the end: sooner it would, on the same CPU, push us
 * aside for a single burst.
 */
static unsigned int peer_step(Peer *peer)
{
    Rig *rig = peer->load.rig;
    unsigned int n;
    bool kick, call;

    n = load_step(&peer->load, &kick);
    n += device_step(&peer->load, &call);
    if (call) {
        event_notifier_set(&rig->device_call);
    }
    if (kick) {
        event_notifier_set(&rig->guest_kick);
    }
    return n;
}

/* A piece of work for the flooded queue. */
static unsigned int flood_step(Peer *peer)
{
    Load *load = &peer->flood;
    Rig *rig = load->rig;
    unsigned int n = 0;
    bool notify;

    switch (peer->flood_turn++ % 3) {
    case 0:
        n = rig_driver_collect_burst(rig, load->burst);
        break;
    case 1:
        n = load_add_burst(load, &notify);
        if (notify) {
            event_notifier_set(&rig->guest_kick);
        }
        break;
    case 2:
        n = rig_device_work_burst(rig, load->burst, &notify);
        if (notify) {
            event_notifier_set(&rig->device_call);
        }
        break;
    }
    return n;
}

/* Asks SVQ for notifications.  True if there is work already. */
static bool enable_notifications(Rig *rig)
{
    bool more = vring_device_enable_kick(&rig->device, rig->shadow_packed);

    return vring_driver_enable_call(&rig->driver, rig->guest_packed) || more;
}

static void disable_notifications(Rig *rig)
{
    vring_device_disable_kick(&rig->device, rig->shadow_packed);
    vring_driver_disable_call(&rig->driver, rig->guest_packed);
}

/* One turn, and a rest if there was nothing to do.  False: nothing will come any more. */
static bool take_turn(Peer *peer)
{
    Rig *rig = peer->load.rig;
    unsigned int n = peer_step(peer);

    if (peer->flood.rig) {
        n += flood_step(peer);
    }
    if (n) {
        waiter_reset(&peer->waiter);
        return true;
    }
    if (waiter_gives_up(&peer->waiter)) {
        return false;
    }
    if (waiter_wants_sleep(&peer->waiter)) {
        if (!enable_notifications(rig)) {
            waiter_sleep(&peer->waiter);
        }
        disable_notifications(rig);
    }
    return true;
}

void peer_work(Peer *peer)
{
    Load *flood = &peer->flood;

    disable_notifications(peer->load.rig);
    if (flood->rig) {
        disable_notifications(flood->rig);
    }
    while (!load_is_done(&peer->load) && take_turn(peer)) {
    }
    if (flood->rig) {
        atomic_store_explicit(&peer->flood_stop, true, memory_order_relaxed);
        while (!load_is_done(flood) && take_turn(peer)) {
        }
    }
}
