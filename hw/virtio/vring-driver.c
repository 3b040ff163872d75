/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a virtqueue in the driver's role does now and then: start, stop, indirect tables.
 */
#include "hw/virtio/vring-driver.h"

#include <string.h>

int vring_driver_init(VringDriver *vr, const VringConfig *config, VringDesc *tables,
                      uint64_t tables_addr)
{
    unsigned int i;
    int ret;

    *vr = (VringDriver){
        .num = config->num,
        .mask = config->num - 1,
        .packed = config->packed,
        .event_idx = config->event_idx,
        .in_order = config->in_order,
        .indirect = config->indirect && tables,
        .desc = config->areas.desc,
        .tables = tables,
        .tables_addr = tables_addr,
        .num_free = config->num,
        .free_tail = (uint16_t)(config->num - 1),
        .avail_flags = VRING_PACKED_F_AVAIL,
        .used_flags = VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED,
    };
    ret = vring_config_check(config, &vr->error);
    if (ret < 0) {
        return ret;
    }
    if (config->packed) {
        vr->driver_event = config->areas.driver;
        vr->device_event = config->areas.device;
    } else {
        vr->avail = config->areas.driver;
        vr->used = config->areas.device;
    }
    memset(config->areas.desc, 0, vring_desc_size(vr->num));
    memset(config->areas.driver, 0, vring_driver_size(vr->num, vr->packed));
    memset(config->areas.device, 0, vring_device_size(vr->num, vr->packed));

    vr->slots = g_new0(VringDriverSlot, vr->num);
    vr->next = g_new(uint16_t, vr->num);
    vr->mirror = g_new0(VringSegment, vr->num);
    if (vr->indirect) {
        /* Not zeroed: what of it is never used takes no memory. */
        vr->table_mirror = g_new(VringSegment, (size_t)vr->num * VRING_INDIRECT_MAX);
    }
    for (i = 0; i < vr->num; i++) {
        vr->next[i] = (uint16_t)(i + 1 < vr->num ? i + 1 : 0);
    }
    return 0;
}

void vring_driver_cleanup(VringDriver *vr)
{
    g_free(vr->slots);
    g_free(vr->next);
    g_free(vr->mirror);
    g_free(vr->table_mirror);
    vr->slots = NULL;
    vr->next = NULL;
    vr->mirror = vr->table_mirror = NULL;
}

VringSegment vring_driver_write_table(VringDriver *vr, bool packed, uint32_t id,
                                      const VringSegment *seg, const uint64_t *addrs,
                                      size_t step, unsigned int n, uint32_t *writable)
{
    const size_t first = (size_t)id * VRING_INDIRECT_MAX;
    VringDesc *table = vr->tables + first;
    unsigned int i;

    *writable = 0;
    for (i = 0; i < n; i++) {
        uint32_t flags = seg[i].flags;

        le64_store(&table[i].addr, addrs[i * step]);
        if (packed) {
            le64_store(&table[i].meta, vring_packed_meta(seg[i].len, 0, flags));
        } else {
            flags |= i + 1 < n ? VRING_DESC_F_NEXT : 0;
            le64_store(&table[i].meta, vring_split_meta(seg[i].len, flags, i + 1));
        }
        *writable += flags & VRING_DESC_F_WRITE ? seg[i].len : 0;
        vr->table_mirror[first + i] = seg[i];
    }
    return (VringSegment){
        .addr = vr->tables_addr + first * sizeof(VringDesc),
        .len = n * (uint32_t)sizeof(VringDesc),
    };
}
