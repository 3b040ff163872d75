/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a ring can be taken over from the device that worked it, and whether. */
#include "hw/virtio/vring-takeover.h"

#include <glib.h>

static const VringAvail *avail_of(const VringConfig *config)
{
    return config->areas.driver;
}

static const VringUsed *used_of(const VringConfig *config)
{
    return config->areas.device;
}

static uint16_t head_at(const VringConfig *config, uint16_t at)
{
    return le16_load(&avail_of(config)->ring[at & (config->num - 1)]);
}

/* Whether the buffers available at [used, idx) are all different, as they are if none is missing. */
static bool heads_differ(const VringConfig *config, uint16_t used, uint16_t idx)
{
    g_autofree bool *seen = g_new0(bool, config->num);
    uint16_t at;

    for (at = used; at != idx; at++) {
        uint16_t head = head_at(config, at);

        if (head >= config->num || seen[head]) {
            return false;
        }
        seen[head] = true;
    }
    return true;
}

/* Whether what was used last is what was available there, where the driver has not reused it. */
static bool used_as_available(const VringConfig *config, uint16_t used, uint16_t idx)
{
    const uint16_t remembered = (uint16_t)(config->num - (uint16_t)(idx - used));
    uint16_t i;

    /* A ring in its first lap has zeros in both places where it has not been yet. */
    for (i = 1; i <= remembered; i++) {
        const uint16_t at = (uint16_t)(used - i);

        if (le32_load(&used_of(config)->ring[at & (config->num - 1)].id) != head_at(config, at)) {
            return false;
        }
    }
    return true;
}

static int takeover_split(const VringConfig *config, VringBase told, bool usually_in_order,
                          VringBase *base, VringError *error)
{
    const uint16_t used = le16_load(&used_of(config)->idx);
    const uint16_t idx = le16_load(&avail_of(config)->idx);
    const uint16_t in_flight = (uint16_t)(told.avail - used);

    if (in_flight > config->num || (uint16_t)(idx - used) > config->num ||
        in_flight > (uint16_t)(idx - used)) {
        return vring_fail(error, "the device's position does not fit the ring", "2.7.8",
                          told.avail, used);
    }
    *base = (VringBase){ used, used };
    if (in_flight == 0 || config->in_order) {
        return 0;
    }
    if (!usually_in_order || !heads_differ(config, used, idx) ||
        !used_as_available(config, used, idx)) {
        return vring_fail(error, "buffers are in flight that the device may have overtaken", NULL,
                          told.avail, in_flight);
    }
    return 0;
}

/* Descriptors from position @from to @to, each with its wrap counter; over the size: impossible. */
static uint32_t packed_distance(uint32_t num, uint16_t from, uint16_t to)
{
    uint32_t distance = (to & 0x7fffu) - (from & 0x7fffu);

    return (from ^ to) & 0x8000 ? distance + num : distance;
}

static int takeover_packed(const VringConfig *config, VringBase told, VringBase *base,
                           VringError *error)
{
    const uint32_t in_flight = packed_distance(config->num, told.used, told.avail);

    if ((told.used & 0x7fff) >= config->num || (told.avail & 0x7fff) >= config->num ||
        in_flight > config->num) {
        return vring_fail(error, "the device's position does not fit the ring", "2.8.1",
                          told.avail, told.used);
    }
    if (in_flight && !config->in_order) {
        return vring_fail(error, "buffers are in flight that the device may have overtaken", NULL,
                          told.avail, in_flight);
    }
    *base = (VringBase){ told.used, told.used };
    return 0;
}

int vring_takeover(const VringConfig *config, VringBase told, bool usually_in_order,
                   VringBase *base, VringError *error)
{
    return config->packed ? takeover_packed(config, told, base, error)
                          : takeover_split(config, told, usually_in_order, base, error);
}

int vring_takeover_untold(const VringConfig *config, VringBase start, VringBase *base,
                          VringError *error)
{
    const VringDesc *desc = config->areas.desc;
    uint16_t flags, used_flags;

    if (!config->packed) {
        const uint16_t used = le16_load(&used_of(config)->idx);

        *base = (VringBase){ used, used };
        return 0;
    }
    used_flags = start.used & 0x8000 ? VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED : 0;
    if ((start.used & 0x7fff) >= config->num) {
        return vring_fail(error, "base is not within the ring", "2.8.1", start.avail, start.used);
    }
    flags = (uint16_t)(le64_load(&desc[start.used & 0x7fff].meta) >> 48);
    if ((flags & (VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED)) == used_flags) {
        return vring_fail(error, "the device did not tell where its packed ring stands", "2.8.1",
                          start.used, flags);
    }
    *base = (VringBase){ start.used, start.used };
    return 0;
}
