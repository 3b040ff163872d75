/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands, each as a change of a copy of the settings. */
#include "loopback-commands.h"

#include <string.h>

#include "hw/virtio/features.h"
#include "util/rcu.h"

enum { RX, TX };

static void settings_free(LoopbackSettings *settings)
{
    if (settings) {
        net_filter_cleanup(&settings->filter);
        g_free(settings);
    }
}

static LoopbackSettings *settings_copy(const LoopbackSettings *from)
{
    LoopbackSettings *settings = g_new(LoopbackSettings, 1);

    *settings = *from;
    net_filter_copy(&settings->filter, &from->filter);
    return settings;
}

/* When it returns all pairs see @settings. */
static void publish(LoopbackCommands *commands, LoopbackSettings *settings)
{
    LoopbackSettings *old = commands->settings;

    settings->hashes = settings->rss.hash_types || settings->rss.steers;
    atomic_store_explicit(&commands->mac, settings->filter.address, memory_order_relaxed);
    /* Pairs with rcu_dereference() of loopback-pair.c. */
    rcu_assign_pointer(commands->settings, settings);
    if (old) {
        synchronize_rcu();
        settings_free(old);
    }
}

void loopback_commands_init(LoopbackCommands *commands, const uint8_t mac[6],
                            void (*changed)(void *opaque), void *opaque)
{
    commands->changed = changed;
    commands->opaque = opaque;
    memcpy(commands->reset_mac, mac, sizeof(commands->reset_mac));
}

void loopback_commands_cleanup(LoopbackCommands *commands)
{
    g_clear_pointer(&commands->settings, settings_free);
}

void loopback_commands_reset(LoopbackCommands *commands, const NetCtrlLimits *limits,
                             unsigned int n_pairs)
{
    LoopbackSettings *settings = g_new0(LoopbackSettings, 1);

    commands->limits = *limits;
    memset(commands->coal, 0, sizeof(commands->coal));
    memset(commands->queue_coal, 0, sizeof(commands->queue_coal));
    /*
     * Where there is a command for it, one pair is in use before it (5.1.6.5.6).  A VMM that
     * keeps the control queue to itself enables and disables queues instead.
     */
    settings->tx_pairs = net_ctrl_vq_index(limits) >= 0 && limits->max_pairs > 1 ? 1 : n_pairs;
    settings->rx_pairs = settings->tx_pairs;
    settings->guest_csum = limits->features & VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_CSUM);
    settings->filter.promiscuous = true;
    settings->filter.by_vlan = limits->features & net_ctrl_spec(NET_CTRL_VLAN_ADD)->needs;
    settings->filter.address = net_filter_address(commands->reset_mac);
    publish(commands, settings);
}

static bool is_in_use(const LoopbackSettings *settings, unsigned int queue)
{
    return queue / 2 < (queue % 2 == TX ? settings->tx_pairs : settings->rx_pairs);
}

/* A queue that is not in use begins anew with what all of its kind have. */
static void settle_coal(LoopbackCommands *commands)
{
    for (unsigned int i = 0; i < G_N_ELEMENTS(commands->queue_coal); i++) {
        if (!is_in_use(commands->settings, i)) {
            commands->queue_coal[i] = commands->coal[i % 2];
        }
    }
}

static void set_coal(LoopbackCommands *commands, unsigned int direction, const NetCtrlCoal *coal)
{
    commands->coal[direction] = *coal;
    for (unsigned int i = direction; i < G_N_ELEMENTS(commands->queue_coal); i += 2) {
        commands->queue_coal[i] = *coal;
    }
}

static size_t tell_coal(const NetCtrlCoal *coal, uint8_t *result)
{
    const uint32_t words[] = { htole32(coal->max_packets), htole32(coal->max_usecs) };

    memcpy(result, words, sizeof(words));
    return sizeof(words);
}

static void set_rss(LoopbackSettings *settings, const NetCtrlRss *rss)
{
    net_rss_set_hash(&settings->rss, rss);
    net_rss_set_table(&settings->rss, rss);
    settings->rx_pairs = net_rss_last_queue(&settings->rss) + 1;
    settings->tx_pairs = rss->max_tx_vq;
}

static void change(LoopbackSettings *settings, const NetCtrlCommand *command)
{
    NetFilter *filter = &settings->filter;

    switch (command->id) {
    case NET_CTRL_RX_PROMISC:
        filter->promiscuous = command->on;
        break;
    case NET_CTRL_RX_ALLMULTI:
        filter->all_multicast = command->on;
        break;
    case NET_CTRL_RX_ALLUNI:
        filter->all_unicast = command->on;
        break;
    case NET_CTRL_RX_NOMULTI:
        filter->no_multicast = command->on;
        break;
    case NET_CTRL_RX_NOUNI:
        filter->no_unicast = command->on;
        break;
    case NET_CTRL_RX_NOBCAST:
        filter->no_broadcast = command->on;
        break;
    case NET_CTRL_MAC_TABLE_SET:
        net_filter_set_addresses(filter, command->table.unicast, command->table.n_unicast,
                                 command->table.multicast, command->table.n_multicast);
        break;
    case NET_CTRL_MAC_ADDR_SET:
        filter->address = net_filter_address(command->mac);
        break;
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
        net_filter_set_vlan(filter, command->vlan, command->id == NET_CTRL_VLAN_ADD);
        break;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        settings->rx_pairs = settings->tx_pairs = command->pairs;
        net_rss_end_table(&settings->rss);
        break;
    case NET_CTRL_MQ_RSS_CONFIG:
        set_rss(settings, &command->rss);
        break;
    case NET_CTRL_MQ_HASH_CONFIG:
        net_rss_set_hash(&settings->rss, &command->rss);
        settings->rss.steers = false;
        break;
    case NET_CTRL_GUEST_OFFLOADS_SET:
        settings->guest_csum = command->offloads & VIRTIO_F_BIT(VIRTIO_NET_F_GUEST_CSUM);
        break;
    default:
        g_assert_not_reached();     /* no settings of the pairs */
    }
}

uint8_t loopback_commands_execute(LoopbackCommands *commands, const uint8_t *bytes, size_t n,
                                  uint8_t result[NET_CTRL_MAX_RESULT], size_t *n_result)
{
    LoopbackSettings *settings;
    NetCtrlCommand command;
    NetCtrlError error;

    *n_result = 0;
    if (net_ctrl_parse(&command, bytes, n, &commands->limits, &error) < 0) {
        return NET_CTRL_ERR;
    }
    switch (command.id) {
    case NET_CTRL_ANNOUNCE_ACK:
        break;
    case NET_CTRL_NOTF_COAL_RX_SET:
        set_coal(commands, RX, &command.coal.coal);
        break;
    case NET_CTRL_NOTF_COAL_TX_SET:
        set_coal(commands, TX, &command.coal.coal);
        break;
    case NET_CTRL_NOTF_COAL_VQ_SET:
    case NET_CTRL_NOTF_COAL_VQ_GET:
        if (!is_in_use(commands->settings, command.coal.vq)) {
            return NET_CTRL_ERR;
        }
        if (command.id == NET_CTRL_NOTF_COAL_VQ_SET) {
            commands->queue_coal[command.coal.vq] = command.coal.coal;
        } else {
            *n_result = tell_coal(&commands->queue_coal[command.coal.vq], result);
        }
        break;
    default:
        settings = settings_copy(commands->settings);
        change(settings, &command);
        publish(commands, settings);
        commands->changed(commands->opaque);
        settle_coal(commands);
    }
    return NET_CTRL_OK;
}
