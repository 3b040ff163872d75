/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NetCtrlState: what a driver has made of a network device by commands that it acknowledged.
 *
 * How it works.  Each acknowledged command is applied; what was never commanded stays unset, and
 * is the device's own default.  From the state the commands are made that bring a device that was
 * reset to it.  The state can be saved and loaded: a format of its own, with version, length
 * and checksum, that names each of its fields.
 *
 * Threads: one at a time.  Only those functions allocate that say so.
 */
#ifndef HW_NET_NET_CTRL_STATE_H
#define HW_NET_NET_CTRL_STATE_H

#include "hw/net/net-ctrl.h"

/* A saved state has at most so many bytes. */
#define NET_CTRL_STATE_MAX_BYTES (256 * 1024)

typedef struct NetCtrlState NetCtrlState;

/* Allocates; nothing is set. */
NetCtrlState *net_ctrl_state_new(void);
void net_ctrl_state_free(NetCtrlState *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetCtrlState, net_ctrl_state_free)
void net_ctrl_state_copy(NetCtrlState *to, const NetCtrlState *from);
void net_ctrl_state_clear(NetCtrlState *state);
bool net_ctrl_state_is_empty(const NetCtrlState *state);

/* The device has acknowledged @command, which net_ctrl_parse() has checked. */
void net_ctrl_state_apply(NetCtrlState *state, const NetCtrlCommand *command);

/*
 * It has acknowledged one that the table does not know.  True if that is the first of its kind,
 * for a warning; 64 kinds are remembered, more are not.
 */
bool net_ctrl_state_apply_unknown(NetCtrlState *state, uint8_t class, uint8_t command);

/* What is asked of a state besides. */

/* Queue pairs in use by VQ_PAIRS_SET, or by RSS_CONFIG in either direction; 0: not set. */
uint16_t net_ctrl_state_get_pairs(const NetCtrlState *state);

/* False: not set. */
bool net_ctrl_state_get_mac(const NetCtrlState *state, uint8_t mac[6]);

/* One of the commands that restore a state. */
typedef struct NetCtrlStep {
    GBytes *bytes;              /* header and data */
    bool barrier;               /* only when the device has answered all before it */
} NetCtrlStep;

/*
 * The commands that bring a device with @limits, fresh from a reset, to @state: an array of
 * NetCtrlStep.  Allocates.  NULL and @errp: the device cannot be brought there (fewer queues, no
 * such feature).  What was unknown is left out.
 */
GArray *net_ctrl_state_restore(const NetCtrlState *state, const NetCtrlLimits *limits,
                               GError **errp);

/*
 * The commands of one command's class alone, to undo what a device has done of that class: as
 * net_ctrl_state_restore().
 */
GArray *net_ctrl_state_restore_class(const NetCtrlState *state, uint8_t class,
                                     const NetCtrlLimits *limits, GError **errp);

/* Allocates. */
GBytes *net_ctrl_state_save(const NetCtrlState *state);

/*
 * The same into @bytes; returns the number of bytes, 0 if @size is too small.  Allocates no more
 * than what GLib needs for a checksum.
 */
size_t net_ctrl_state_save_to(const NetCtrlState *state, uint8_t *bytes, size_t size);

/*
 * 0, and *state is as saved; -EINVAL with @errp: truncated, longer than it says, of another
 * version, with a field that is not known, twice there or out of range, or the checksum is wrong;
 * then *state is as before.  Whatever @bytes are.  Whether a device can do what is loaded is found
 * out by net_ctrl_state_restore().  Allocates.
 */
int net_ctrl_state_load(NetCtrlState *state, const uint8_t *bytes, size_t n, GError **errp);

/*
 * A line, with its end, for each thing that is set, as net_ctrl_to_string() says the command that
 * sets it; VLANs one after the other are one line, "VLAN_ADD 1-4094".  Free it.
 */
char *net_ctrl_state_to_string(const NetCtrlState *state);

#endif
