/* SPDX-License-Identifier: BSD-3-Clause */
/* What virtqueues of both roles share out of line: checking a configuration, naming an error. */
#include "hw/virtio/vring.h"

#include <glib.h>
#include <inttypes.h>

void vring_error_set(VringError *error, const char *what, const char *section, uint32_t index,
                     uint64_t value)
{
    *error = (VringError){ .what = what, .section = section, .index = index, .value = value };
}

int vring_config_check(const VringConfig *config, VringError *error)
{
    const bool packed = config->packed;
    const struct {
        const void *area;
        unsigned int align;
    } parts[] = {
        { config->areas.desc, VRING_DESC_ALIGN },
        { config->areas.driver, packed ? VRING_PACKED_EVENT_ALIGN : VRING_SPLIT_DRIVER_ALIGN },
        { config->areas.device, packed ? VRING_PACKED_EVENT_ALIGN : VRING_SPLIT_DEVICE_ALIGN },
    };
    unsigned int i;

    if (!vring_num_valid(config->num, packed)) {
        vring_fail(error, "queue size is not 1 to 32768 (split: a power of two)",
                   packed ? "2.8.10.1" : "2.7", 0, config->num);
        return -EINVAL;
    }
    for (i = 0; i < G_N_ELEMENTS(parts); i++) {
        /* By how much, not where: the address is ours, and nobody else's business. */
        const uintptr_t off = (uintptr_t)parts[i].area % parts[i].align;

        if (off) {
            vring_fail(error, "an area of the queue is misaligned", packed ? "2.8.11" : "2.7.1", i,
                       off);
            return -EINVAL;
        }
    }
    return 0;
}

char *vring_error_to_string(const VringError *error)
{
    return g_strdup_printf("%s (index %" PRIu32 ", value 0x%" PRIx64 "; %s%s)", error->what,
                           error->index, error->value,
                           error->section ? "virtio 1.3, section " : "a rule of svqd's",
                           error->section ? error->section : "");
}
