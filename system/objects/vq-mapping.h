/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iothread-vq-mapping: which IOThread works which virtqueue; meaning and errors are QEMU's.
 *
 * It is a list of { "iothread": ID, "vqs": [INDEX, ...] }, with vqs in every entry or in
 * none.  Without vqs the entries take turns; a turn is a queue pair, not a queue: both rings of
 * a network device's pair belong in one thread, for what is sent on one is often answered on
 * the other.
 */
#ifndef SYSTEM_VQ_MAPPING_H
#define SYSTEM_VQ_MAPPING_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/*
 * The ids of IOThreads, such that slot q % len is that of virtqueue q; borrowed from
 * @mapping.  @queue_count: of the device; 0: not known yet, then any number is possible
 * that leaves no virtqueue out.  @has_ctrl: the last of them is a control queue, which need
 * not be named: then it goes with virtqueue 0.  NULL and @errp: the mapping cannot be.
 */
GPtrArray *vq_mapping_get_slots(JsonArray *mapping, unsigned int queue_count, bool has_ctrl,
                                GError **errp);

#endif
