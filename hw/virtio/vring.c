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

static bool misaligned(const void *area, unsigned int align)
{
    return (uintptr_t)area % align != 0;
}

int vring_config_check(const VringConfig *config, VringError *error)
{
    const VringAreas *areas = &config->areas;

    if (!vring_num_valid(config->num, config->packed)) {
        vring_fail(error, "queue size is not 1 to 32768 (split: a power of two)",
                   config->packed ? "2.8.10.1" : "2.7", 0, config->num);
        return -EINVAL;
    }
    if (misaligned(areas->desc, VRING_DESC_ALIGN) ||
        misaligned(areas->driver,
                   config->packed ? VRING_PACKED_EVENT_ALIGN : VRING_SPLIT_DRIVER_ALIGN) ||
        misaligned(areas->device,
                   config->packed ? VRING_PACKED_EVENT_ALIGN : VRING_SPLIT_DEVICE_ALIGN)) {
        vring_fail(error, "an area of the queue is misaligned", config->packed ? "2.8.11" : "2.7.1", 0,
                   (uintptr_t)areas->desc);
        return -EINVAL;
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
