/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a virtqueue in the device's role does now and then: start, stop, indirect tables.
 */
#include "hw/virtio/vring-device.h"

#include <stdalign.h>

void vring_device_move(VringDevice *vr, const VringAreas *areas)
{
    vr->desc = areas->desc;
    if (vr->packed) {
        vr->driver_event = areas->driver;
        vr->device_event = areas->device;
    } else {
        vr->avail = areas->driver;
        vr->used = areas->device;
    }
}

static int start_split(VringDevice *vr, const VringConfig *config)
{
    vr->avail_idx = vr->avail_seen = config->base.avail;
    vr->used_idx = vr->used_published = le16_load(&vr->used->idx);
    if ((uint16_t)(vr->avail_idx - vr->used_idx) > vr->num) {
        return vring_fail(&vr->error, "used index in the ring does not fit the base", "2.7.8",
                          vr->avail_idx, vr->used_idx);
    }
    return 0;
}

static int start_packed(VringDevice *vr, const VringConfig *config)
{
    const uint16_t both = VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
    uint32_t in_between;        /* descriptors available or in flight that are not used */

    vr->avail_idx = config->base.avail & 0x7fff;
    vr->avail_flags = config->base.avail & 0x8000 ? VRING_PACKED_F_AVAIL : VRING_PACKED_F_USED;
    vr->used_idx = vr->used_published = config->base.used & 0x7fff;
    vr->used_flags = config->base.used & 0x8000 ? both : 0;
    if (vr->avail_idx >= vr->num || vr->used_idx >= vr->num) {
        return vring_fail(&vr->error, "base is not within the ring", "2.8.1", vr->avail_idx,
                          vr->used_idx);
    }
    in_between = vr->avail_idx - vr->used_idx;
    if ((config->base.avail ^ config->base.used) & 0x8000) {
        in_between += vr->num;
    }
    if (in_between > vr->num) {
        return vring_fail(&vr->error, "used position does not fit the available one", "2.8.1",
                          config->base.avail, config->base.used);
    }
    return 0;
}

/* The queue begins where @vr stands, with nothing in flight. */
static void begin_record(VringDevice *vr, const VringConfig *config)
{
    VringInflight *record = vr->inflight;
    const VringBase base = vring_device_base(vr);
    uint32_t i;

    vr->next_done = 0;
    vr->put = vr->put_descs = 0;
    vring_inflight_clear(record);
    vring_inflight_step();
    record->num = vr->num;
    record->packed = vr->packed;
    record->base = base;
    record->identity = config->identity;
    atomic_store_explicit(&record->taken, 0, memory_order_relaxed);
    atomic_store_explicit(&record->held, 0, memory_order_relaxed);
    atomic_store_explicit(&record->published, vring_inflight_published(base.used, base.used),
                          memory_order_relaxed);
    for (i = 0; i < vr->num; i++) {
        atomic_store_explicit(&record->slots[i], 0, memory_order_relaxed);
    }
    /* Last: now it holds. */
    vring_inflight_step();
    atomic_store_explicit(&record->live, VRING_INFLIGHT_LIVE, memory_order_relaxed);
}

/* Goes on from a live record if that is of this ring; else where the base says. */
static int start(VringDevice *vr, const VringConfig *config)
{
    int ret;

    if (vring_inflight_is_live(vr->inflight)) {
        vr->recovery.discarded = vring_device_recover(vr, config);
        if (!vr->recovery.discarded) {
            return 0;
        }
    }
    ret = config->packed ? start_packed(vr, config) : start_split(vr, config);
    if (ret == 0) {
        begin_record(vr, config);
    }
    return ret;
}

static void allocate_order(VringDevice *vr)
{
    unsigned int size = 1;

    while (size < vr->num) {
        size *= 2;
    }
    vr->order_mask = size - 1;
    vr->order = g_new0(VringDeviceOrder, size);
}

int vring_device_init(VringDevice *vr, const VringConfig *config)
{
    int ret;

    *vr = (VringDevice){
        .num = config->num,
        .packed = config->packed,
        .event_idx = config->event_idx,
        .in_order = config->in_order,
        .indirect = config->indirect,
    };
    ret = vring_config_check(config, &vr->error);
    if (ret < 0) {
        return ret;
    }
    vring_device_move(vr, &config->areas);
    vr->mask = config->packed ? 0 : config->num - 1;
    if (!config->inflight) {
        vr->own = g_aligned_alloc0(1, vring_inflight_size(vr->num), alignof(VringInflight));
    }
    vr->inflight = vr->own ? vr->own : config->inflight;
    if (vr->in_order && !config->put_in_order) {
        allocate_order(vr);
    }
    ret = start(vr, config);
    if (ret < 0) {
        vring_device_cleanup(vr);
    }
    return ret;
}

void vring_device_cleanup(VringDevice *vr)
{
    g_aligned_free(vr->own);
    g_free(vr->order);
    vr->inflight = vr->own = NULL;
    vr->order = NULL;
}

void vring_device_untake(VringDevice *vr, const bool packed, uint16_t id)
{
    VringInflight *inflight = vr->inflight;
    const uint64_t slot = atomic_load_explicit(&inflight->slots[id], memory_order_relaxed);
    const uint16_t descs = (uint16_t)vring_slot_descs(slot);

    /* First: from here on the slot does not count. */
    atomic_store_explicit(&inflight->taken,
                          atomic_load_explicit(&inflight->taken, memory_order_relaxed) - descs,
                          memory_order_relaxed);
    vring_inflight_step();
    atomic_store_explicit(&inflight->slots[id], 0, memory_order_relaxed);
    if (!packed) {
        vr->avail_idx--;
        return;
    }
    if (vr->avail_idx < descs) {
        vr->avail_idx += (uint16_t)vr->num;
        vr->avail_flags ^= VRING_PACKED_F_AVAIL | VRING_PACKED_F_USED;
    }
    vr->avail_idx -= descs;
}

VringBase vring_device_base(const VringDevice *vr)
{
    if (!vr->packed) {
        return (VringBase){ vr->avail_idx, vr->used_idx };
    }
    return (VringBase){
        .avail = vr->avail_idx | vring_packed_wrap(vr->avail_flags),
        .used = vr->used_idx | vring_packed_wrap(vr->used_flags),
    };
}

/*
 * Fetches the descriptor at @addr, each byte once: two words, or byte by byte where it is
 * misaligned or straddles regions, which no rule forbids a table.
 */
static bool fetch_entry(const MemoryMap *map, uint64_t addr, uint64_t *desc_addr, uint64_t *meta)
{
    const VringDesc *desc = memory_map_host(map, addr, sizeof(*desc));
    uint64_t words[2];
    unsigned int i;

    if (desc && addr % sizeof(le64) == 0) {
        *desc_addr = le64_load(&desc->addr);
        *meta = le64_load(&desc->meta);
        return true;
    }
    for (i = 0; i < sizeof(words); i++) {
        const _Atomic uint8_t *byte = memory_map_host(map, addr + i, 1);

        if (!byte) {
            return false;
        }
        ((uint8_t *)words)[i] = atomic_load_explicit(byte, memory_order_relaxed);
    }
    *desc_addr = le64toh(words[0]);
    *meta = le64toh(words[1]);
    return true;
}

int vring_device_peek_table(VringDevice *vr, const MemoryMap *map, uint32_t idx, uint64_t addr,
                            uint32_t len, VringSegment *seg, unsigned int n, unsigned int max,
                            uint32_t *writes)
{
    const bool packed = vr->packed;
    const uint32_t n_entries = len / sizeof(VringDesc);
    uint32_t written = *writes;
    uint32_t i = 0, seen;

    if (!vr->indirect) {
        return vring_fail(&vr->error, "indirect descriptor, but INDIRECT_DESC is not negotiated",
                          packed ? "2.8.19" : "2.7.5.3.1", idx, addr);
    }
    if (len == 0 || len % sizeof(VringDesc)) {
        return vring_fail(&vr->error, "indirect table's length is not a multiple of 16",
                          packed ? "2.8.7" : "2.7.5.3", idx, len);
    }

    for (seen = 0;; seen++) {
        uint64_t desc_addr, meta;
        uint32_t desc_len, flags;

        if (seen == n_entries) {
            return vring_fail(&vr->error, "indirect table's chain loops", "2.7.5.3",
                              idx, n_entries);
        }
        if (n >= max) {
            return vring_fail(&vr->error, "indirect table is longer than a chain may be",
                              packed ? "2.8.17" : "2.7.5.3.1", idx, n_entries);
        }
        if (!fetch_entry(map, addr + (uint64_t)i * sizeof(VringDesc), &desc_addr, &meta)) {
            return vring_fail(&vr->error, "indirect table leaves the guest's memory",
                              packed ? "2.8.7" : "2.7.5.3", idx, addr);
        }
        desc_len = (uint32_t)meta;
        flags = (uint16_t)(meta >> (packed ? 48 : 32));
        /* In a packed table all flags but WRITE are to be ignored (2.8.7). */
        if (!packed && flags & VRING_DESC_F_INDIRECT) {
            return vring_fail(&vr->error, "indirect descriptor inside an indirect table",
                              "2.7.5.3.1", i, flags);
        }
        if (desc_len == 0) {
            return vring_fail(&vr->error, "descriptor of length 0 in an indirect table", NULL, i,
                              0);
        }
        if ((flags & VRING_DESC_F_WRITE) < written) {
            return vring_fail(&vr->error,
                              "device-readable descriptor after a writable one in an indirect table",
                              packed ? "2.8.17" : "2.7.4.2", i, flags);
        }
        written = flags & VRING_DESC_F_WRITE;
        seg[n++] = (VringSegment){ desc_addr, desc_len, written };

        /* A packed table has no links: its entries follow one another to its end. */
        if (packed ? ++i == n_entries : !(flags & VRING_DESC_F_NEXT)) {
            *writes = written;
            return (int)n;
        }
        if (!packed) {
            i = (uint32_t)(meta >> 48);
            if (i >= n_entries) {
                return vring_fail(&vr->error, "next is not below the indirect table's size",
                                  "2.7.5.3", seen, i);
            }
        }
    }
}
