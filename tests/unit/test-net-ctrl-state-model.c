/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of a device after generated histories of commands, against a naive model. */
#include "lib/random.h"
#include "net-ctrl-check.h"

/*
 * The naive model: the history, without the commands that a later one has replaced, in the order of
 * a restore.
 */
typedef struct Past {
    NetCtrlCommand command;
    GByteArray *bytes;
    bool gone;
} Past;

static void past_clear(void *opaque)
{
    g_byte_array_unref(((Past *)opaque)->bytes);
}

static unsigned int receive_queues(const NetCtrlCommand *command)
{
    unsigned int i, most = command->rss.unclassified_queue;

    if (command->id == NET_CTRL_MQ_VQ_PAIRS_SET) {
        return command->pairs;
    }
    for (i = 0; i < command->rss.n_table; i++) {
        most = MAX(most, command->rss.table[2 * i] + 256U * command->rss.table[2 * i + 1]);
    }
    return most + 1;
}

static bool ends_queue(const NetCtrlCommand *later, unsigned int vq)
{
    if (vq % 2 == 0) {
        return vq / 2 >= receive_queues(later);
    }
    return vq / 2 >= (later->id == NET_CTRL_MQ_VQ_PAIRS_SET ? later->pairs : later->rss.max_tx_vq);
}

static bool replaces(const NetCtrlCommand *later, const NetCtrlCommand *earlier)
{
    const NetCtrlId id = later->id, old = earlier->id;

    if (old == NET_CTRL_NOTF_COAL_VQ_SET) {
        const unsigned int vq = earlier->coal.vq;

        return (id == old && later->coal.vq == vq) ||
               (id == NET_CTRL_NOTF_COAL_TX_SET && vq % 2 == 1) ||
               (id == NET_CTRL_NOTF_COAL_RX_SET && vq % 2 == 0) ||
               ((id == NET_CTRL_MQ_VQ_PAIRS_SET || id == NET_CTRL_MQ_RSS_CONFIG) &&
                ends_queue(later, vq));
    }
    if (old == NET_CTRL_VLAN_ADD) {
        return (id == old || id == NET_CTRL_VLAN_DEL) && later->vlan == earlier->vlan;
    }
    if (id == NET_CTRL_MQ_RSS_CONFIG) {
        return old >= NET_CTRL_MQ_VQ_PAIRS_SET && old <= NET_CTRL_MQ_HASH_CONFIG;
    }
    return id == old || (id == NET_CTRL_MQ_VQ_PAIRS_SET && old == NET_CTRL_MQ_RSS_CONFIG);
}

/* Its place in a restore; the same: they are restored in the order of the history. */
static unsigned int rank(const NetCtrlCommand *command)
{
    switch (command->id) {
    case NET_CTRL_MAC_TABLE_SET:
    case NET_CTRL_MAC_ADDR_SET:
        return command->id;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
    case NET_CTRL_MQ_RSS_CONFIG:
    case NET_CTRL_MQ_HASH_CONFIG:
        return 100;
    case NET_CTRL_GUEST_OFFLOADS_SET:
        return 200;
    case NET_CTRL_VLAN_ADD:
        return 1000 + command->vlan;
    case NET_CTRL_NOTF_COAL_TX_SET:
    case NET_CTRL_NOTF_COAL_RX_SET:
        return 10000 + command->id;
    case NET_CTRL_NOTF_COAL_VQ_SET:
        return 20000 + command->coal.vq;
    default:
        return 300 + command->id;
    }
}

static int by_rank(const void *a, const void *b)
{
    const Past *const *x = a, *const *y = b;
    const unsigned int i = rank(&(*x)->command), j = rank(&(*y)->command);

    if (i != j) {
        return i < j ? -1 : 1;
    }
    return *x < *y ? -1 : *x > *y;
}

static char *model_restore(GArray *history)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new();
    GString *out = g_string_new(NULL);
    unsigned int i;

    for (i = 0; i < history->len; i++) {
        Past *past = &g_array_index(history, Past, i);

        if (!past->gone) {
            g_ptr_array_add(left, past);
        }
    }
    g_ptr_array_sort(left, by_rank);
    for (i = 0; i < left->len; i++) {
        g_autofree char *text = net_ctrl_to_string(&((Past *)left->pdata[i])->command);

        g_string_append_printf(out, "%s\n", text);
    }
    return g_string_free(out, FALSE);
}

static void model_apply(GArray *history, const char *text)
{
    Past past = { .bytes = from_text(text) };
    NetCtrlError error;
    unsigned int i;

    g_assert_cmpint(net_ctrl_parse(&past.command, past.bytes->data, past.bytes->len, &boundless,
                                   &error), ==, 0);
    for (i = 0; i < history->len; i++) {
        Past *old = &g_array_index(history, Past, i);

        old->gone = old->gone || replaces(&past.command, &old->command);
    }
    past.gone = past.command.id == NET_CTRL_VLAN_DEL ||
                past.command.id == NET_CTRL_NOTF_COAL_VQ_GET ||
                past.command.id == NET_CTRL_ANNOUNCE_ACK;
    g_array_append_val(history, past);
}

static void append_macs(Random *random, GString *text)
{
    unsigned int n = random_below(random, 4);

    while (n-- > 0) {
        g_string_append_printf(text, " 02:00:00:00:%02x:%02x", random_below(random, 256),
                               random_below(random, 256));
    }
}

static void append_rss(Random *random, GString *text)
{
    unsigned int i, n = 1U << random_below(random, 4);

    g_string_append_printf(text, " types=0x%x unclassified=%u table=%u",
                           random_below(random, 0x200), random_below(random, 8),
                           random_below(random, 8));
    for (i = 1; i < n; i++) {
        g_string_append_printf(text, ",%u", random_below(random, 8));
    }
    g_string_append_printf(text, " transmit=%u key=%.*s", random_between(random, 1, 8),
                           2 * (int)random_below(random, 5), "6d5a56da");
}

/* Few different values, so that commands meet. */
static char *random_command(Random *random)
{
    const NetCtrlId id = random_below(random, NET_CTRL_COUNT);
    GString *text = g_string_new(net_ctrl_spec(id)->name);

    switch (id) {
    case NET_CTRL_MAC_TABLE_SET:
        append_macs(random, text);
        g_string_append(text, " /");
        append_macs(random, text);
        break;
    case NET_CTRL_MAC_ADDR_SET:
        g_string_append_printf(text, " 02:00:00:00:00:%02x", random_below(random, 256));
        break;
    case NET_CTRL_VLAN_ADD:
    case NET_CTRL_VLAN_DEL:
        g_string_append_printf(text, " %u", random_one_in(random, 8) ?
                               random_below(random, 4096) : 60 + random_below(random, 8));
        break;
    case NET_CTRL_ANNOUNCE_ACK:
        break;
    case NET_CTRL_MQ_VQ_PAIRS_SET:
        g_string_append_printf(text, " %u", random_between(random, 1, 8));
        break;
    case NET_CTRL_MQ_RSS_CONFIG:
        append_rss(random, text);
        break;
    case NET_CTRL_MQ_HASH_CONFIG:
        g_string_append_printf(text, " types=0x%x key=5a", random_below(random, 0x200));
        break;
    case NET_CTRL_GUEST_OFFLOADS_SET:
        g_string_append_printf(text, " 0x%x", random_below(random, 16) << 7);
        break;
    case NET_CTRL_NOTF_COAL_VQ_SET:
        g_string_append_printf(text, " vq=%u packets=%u usecs=1", random_below(random, 16),
                               random_below(random, 100));
        break;
    case NET_CTRL_NOTF_COAL_VQ_GET:
        g_string_append_printf(text, " vq=%u", random_below(random, 16));
        break;
    case NET_CTRL_NOTF_COAL_TX_SET:
    case NET_CTRL_NOTF_COAL_RX_SET:
        g_string_append_printf(text, " packets=%u usecs=1", random_below(random, 100));
        break;
    default:
        g_string_append(text, random_one_in(random, 2) ? " on" : " off");
        break;
    }
    return g_string_free(text, FALSE);
}

/* What is restored is what the model says, and makes an equal state of an empty one. */
static void check_history(const NetCtrlState *state, GArray *history)
{
    g_autoptr(NetCtrlState) other = net_ctrl_state_new();
    g_autofree char *expected = model_restore(history), *text = NULL;
    g_autoptr(GArray) steps = restore(state, &device);
    g_auto(GStrv) without_barriers = NULL;
    g_autoptr(GBytes) saved = NULL;
    g_autoptr(GError) error = NULL;
    unsigned int i;
    gsize n;

    for (i = 0; i < steps->len; i++) {
        const uint8_t *bytes = g_bytes_get_data(g_array_index(steps, NetCtrlStep, i).bytes, &n);

        apply(other, bytes, n);
    }
    text = steps_to_string(steps);
    without_barriers = g_strsplit(text, "* ", -1);
    g_free(text);
    text = g_strjoinv("", without_barriers);
    g_assert_cmpstr(text, ==, expected);
    check_equal(other, state);

    saved = net_ctrl_state_save(state);
    net_ctrl_state_load(other, g_bytes_get_data(saved, NULL), g_bytes_get_size(saved), &error);
    g_assert_no_error(error);
    check_equal(other, state);
}

static void histories_agree_with_the_model(void)
{
    Random random = { random_seed() };
    uint64_t n = random_steps(20000), i;
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    g_autoptr(GArray) history = NULL;

    for (i = 0; i < n; i++) {
        g_autofree char *command = random_command(&random);

        if (i % 200 == 0) {
            g_clear_pointer(&history, g_array_unref);
            history = g_array_new(FALSE, FALSE, sizeof(Past));
            g_array_set_clear_func(history, past_clear);
            net_ctrl_state_clear(state);
        }
        model_apply(history, command);
        apply_text(state, command);
        if (random_one_in(&random, 4)) {
            check_history(state, history);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-ctrl-state/histories-agree-with-the-model",
                    histories_agree_with_the_model);
    return g_test_run();
}
