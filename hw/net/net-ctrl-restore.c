/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands that bring a device to a state, each checked against what that device can. */
#include "net-ctrl-internal.h"

typedef struct Restore {
    const NetCtrlLimits *limits;
    int class;                  /* its commands alone; -1: all */
    GArray *steps;
    const NetCtrlSpec *failed;  /* the first that the device cannot do; and why */
    NetCtrlError error;
} Restore;

static void step_clear(void *opaque)
{
    NetCtrlStep *step = opaque;

    g_bytes_unref(step->bytes);
}

static void add_step(void *opaque, const NetCtrlCommand *command, bool barrier)
{
    const NetCtrlSpec *spec = net_ctrl_spec(command->id);
    const size_t n = net_ctrl_encode(command, NULL, 0);
    Restore *restore = opaque;
    NetCtrlCommand parsed;
    NetCtrlStep step;
    uint8_t *bytes;

    if (restore->failed || (restore->class >= 0 && restore->class != spec->class)) {
        return;
    }
    bytes = g_malloc(n);
    net_ctrl_encode(command, bytes, n);
    step = (NetCtrlStep){ g_bytes_new_take(bytes, n), barrier };
    g_array_append_val(restore->steps, step);
    if (net_ctrl_parse(&parsed, bytes, n, restore->limits, &restore->error) < 0) {
        restore->failed = spec;
    }
}

static void set_error(const Restore *restore, GError **errp)
{
    const NetCtrlSpec *spec = restore->failed;

    if (spec->needs & ~restore->limits->features) {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s cannot be restored without %s",
                    spec->name, spec->feature);
    } else {
        g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s cannot be restored on this device: %s (%" G_GUINT64_FORMAT ")", spec->name,
                    restore->error.what, restore->error.value);
    }
}

static GArray *restore_commands(const NetCtrlState *state, int class, const NetCtrlLimits *limits,
                                GError **errp)
{
    g_autoptr(GArray) steps = g_array_new(FALSE, FALSE, sizeof(NetCtrlStep));
    Restore restore = { .limits = limits, .class = class, .steps = steps };

    g_array_set_clear_func(steps, step_clear);
    net_ctrl_state_walk(state, add_step, &restore);
    if (restore.failed) {
        set_error(&restore, errp);
        return NULL;
    }
    return g_steal_pointer(&steps);
}

GArray *net_ctrl_state_restore(const NetCtrlState *state, const NetCtrlLimits *limits,
                               GError **errp)
{
    return restore_commands(state, -1, limits, errp);
}

GArray *net_ctrl_state_restore_class(const NetCtrlState *state, uint8_t class,
                                     const NetCtrlLimits *limits, GError **errp)
{
    return restore_commands(state, class, limits, errp);
}
