/* SPDX-License-Identifier: BSD-3-Clause */
/* iothread-vq-mapping: which IOThread works which virtqueue. */
#include "system/error.h"
#include "system/objects/vq-mapping.h"
#include "system/properties.h"

#define VQ_INDEX_MAX    255     /* vhost-user messages have eight bits for it */
#define QUEUES_PER_TURN 2       /* receive and transmit */

typedef struct VqMappingEntry {
    const char *iothread;
    JsonArray *vqs;             /* NULL: not given */
} VqMappingEntry;

static const Property entry_properties[] = {
    PROPERTY_STRING("iothread", VqMappingEntry, iothread, "id of the iothread"),
    PROPERTY_LIST("vqs", VqMappingEntry, vqs, "virtqueues that it works"),
    PROPERTY_END,
};

static const Property vq_property = {
    .name = "vqs", .type = &property_int, .min = 0, .max = VQ_INDEX_MAX,
};

static bool read_entry(JsonArray *mapping, unsigned int i, VqMappingEntry *entry, GError **errp)
{
    JsonNode *node = json_array_get_element(mapping, i);

    *entry = (VqMappingEntry){ 0 };
    if (!JSON_NODE_HOLDS_OBJECT(node)) {
        return svqd_fail(errp, "'iothread-vq-mapping.%u' must be an object with 'iothread' and "
                         "perhaps 'vqs'", i);
    }
    if (!properties_read(entry_properties, json_node_get_object(node), entry, errp)) {
        g_prefix_error(errp, "'iothread-vq-mapping.%u': ", i);
        return false;
    }
    if (!entry->iothread) {
        return svqd_fail(errp, "'iothread-vq-mapping.%u.iothread' is missing: name an iothread by "
                         "its id", i);
    }
    return true;
}

static GArray *read_entries(JsonArray *mapping, GError **errp)
{
    unsigned int n = json_array_get_length(mapping);
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(VqMappingEntry));

    for (unsigned int i = 0; i < n; i++) {
        VqMappingEntry entry;

        if (!read_entry(mapping, i, &entry, errp)) {
            return NULL;
        }
        for (unsigned int j = 0; j < i; j++) {
            if (!g_strcmp0(entry.iothread, g_array_index(entries, VqMappingEntry, j).iothread)) {
                svqd_fail(errp, "'iothread-vq-mapping' names IOThread '%s' twice; give it one "
                          "entry", entry.iothread);
                return NULL;
            }
        }
        g_array_append_val(entries, entry);
        if (!entry.vqs != !g_array_index(entries, VqMappingEntry, 0).vqs) {
            svqd_fail(errp, "'iothread-vq-mapping' has 'vqs' in some entries only; give it to all "
                      "or to none");
            return NULL;
        }
    }
    if (n == 0) {
        svqd_fail(errp, "'iothread-vq-mapping' is empty; give it an entry, or leave it out");
        return NULL;
    }
    return g_steal_pointer(&entries);
}

/* Gives the virtqueues of @entry, number @i, to its IOThread. */
static bool assign(GPtrArray *slots, const VqMappingEntry *entry, unsigned int i,
                   unsigned int queue_count, GError **errp)
{
    unsigned int n = json_array_get_length(entry->vqs);

    for (unsigned int j = 0; j < n; j++) {
        int64_t vq;

        if (!vq_property.type->read(&vq_property, json_array_get_element(entry->vqs, j), &vq,
                                    errp)) {
            g_prefix_error(errp, "'iothread-vq-mapping.%u': ", i);
            return false;
        }
        if (queue_count && vq >= queue_count) {
            return svqd_fail(errp, "'iothread-vq-mapping.%u.vqs' names virtqueue %u, but the "
                             "device has %u; name 0 to %u", i, (unsigned int)vq, queue_count,
                             queue_count - 1);
        }
        if (vq >= slots->len) {
            g_ptr_array_set_size(slots, vq + 1);
        }
        if (slots->pdata[vq]) {
            return svqd_fail(errp, "'iothread-vq-mapping.%u.vqs' names virtqueue %u, which is "
                             "assigned already; name each once", i, (unsigned int)vq);
        }
        slots->pdata[vq] = (gpointer)entry->iothread;
    }
    return n > 0 || svqd_fail(errp, "'iothread-vq-mapping.%u.vqs' is empty; name a virtqueue", i);
}

static GPtrArray *assign_by_vqs(GArray *entries, unsigned int queue_count, bool has_ctrl,
                                GError **errp)
{
    g_autoptr(GPtrArray) slots = g_ptr_array_new();

    /* A control queue that is named makes it longer; else it comes round to the first slot. */
    g_ptr_array_set_size(slots, queue_count - has_ctrl);
    for (unsigned int i = 0; i < entries->len; i++) {
        const VqMappingEntry *entry = &g_array_index(entries, VqMappingEntry, i);

        if (!assign(slots, entry, i, queue_count, errp)) {
            return NULL;
        }
    }
    for (unsigned int vq = 0; vq < slots->len; vq++) {
        if (!slots->pdata[vq]) {
            svqd_fail(errp, "'iothread-vq-mapping' leaves out virtqueue %u; name each of 0 to %u "
                      "in one 'vqs'", vq, slots->len - 1);
            return NULL;
        }
    }
    return g_steal_pointer(&slots);
}

GPtrArray *vq_mapping_get_slots(JsonArray *mapping, unsigned int queue_count, bool has_ctrl,
                                GError **errp)
{
    g_autoptr(GArray) entries = read_entries(mapping, errp);
    GPtrArray *slots;

    if (!entries) {
        return NULL;
    }
    if (g_array_index(entries, VqMappingEntry, 0).vqs) {
        return assign_by_vqs(entries, queue_count, has_ctrl, errp);
    }
    slots = g_ptr_array_new();
    for (unsigned int i = 0; i < entries->len * QUEUES_PER_TURN; i++) {
        const VqMappingEntry *entry = &g_array_index(entries, VqMappingEntry, i / QUEUES_PER_TURN);

        g_ptr_array_add(slots, (gpointer)entry->iothread);
    }
    return slots;
}
