/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vDPA model's memory: IOTLB messages, and what the device reaches by them.
 *
 * How it works.  Each update makes a mapping of our own of the same pages; so what the device has
 * stays as it was, even if our side unmaps that memory or maps another file there.  In a batch,
 * maps become the device's at its end.  Under m->lock.
 */
#include "lib/vdpa-model-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t last_of(const ModelMap *map)
{
    return map->iova + (map->size - 1);
}

static void map_free(ModelMap *map)
{
    g_assert_no_errno(munmap(map->pinned, map->size));
    g_free(map);
}

/* The first map of @asid that has an address of [first, last]. */
static ModelMap *find(const VdpaModel *m, uint32_t asid, uint64_t first, uint64_t last)
{
    unsigned int i;

    for (i = 0; i < m->maps->len; i++) {
        ModelMap *map = g_ptr_array_index(m->maps, i);

        if (map->asid == asid && map->iova <= last && last_of(map) >= first) {
            return map;
        }
    }
    return NULL;
}

/* Whole maps go, even if only a part of one was named. */
void model_unmap(VdpaModel *m, uint32_t asid, uint64_t first, uint64_t last)
{
    ModelMap *map;

    while ((map = find(m, asid, first, last)) != NULL) {
        g_ptr_array_remove(m->maps, map);
        map_free(map);
    }
}

void model_unmap_all(VdpaModel *m)
{
    uint32_t asid;

    for (asid = 0; asid < VDPA_MODEL_SPACES; asid++) {
        model_unmap(m, asid, 0, UINT64_MAX);
    }
    m->spaces_made = 0;
}

static uint64_t bytes_mapped(const VdpaModel *m)
{
    uint64_t bytes = 0;
    unsigned int i;

    for (i = 0; i < m->maps->len; i++) {
        bytes += ((ModelMap *)g_ptr_array_index(m->maps, i))->size;
    }
    return bytes;
}

static int compare_maps(const void *a, const void *b)
{
    const ModelMap *x = *(ModelMap *const *)a, *y = *(ModelMap *const *)b;

    if (x->asid != y->asid) {
        return x->asid < y->asid ? -1 : 1;
    }
    return x->iova < y->iova ? -1 : 1;
}

static int update(VdpaModel *m, uint32_t asid, const struct vhost_iotlb_msg *msg)
{
    const uint64_t page_mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;
    ModelMap *map;
    void *pinned;

    if (msg->iova < m->config.iova_first || !msg->size ||
        msg->iova > UINT64_MAX - msg->size + 1 ||
        msg->iova + msg->size - 1 > m->config.iova_last) {
        return -EINVAL;
    }
    if (find(m, asid, msg->iova, msg->iova + msg->size - 1)) {
        return -EEXIST;
    }
    if ((msg->iova | msg->uaddr | msg->size) & page_mask) {
        model_complain(m, "map of a part of a page: 0x%" PRIx64 "+0x%" PRIx64,
                       (uint64_t)msg->iova, (uint64_t)msg->size);
        return -EINVAL;
    }
    if (msg->size > m->memory_limit || bytes_mapped(m) > m->memory_limit - msg->size) {
        return -ENOMEM;
    }
    /* An old size of 0 makes a second mapping; it works for shared memory only, as use_va does. */
    pinned = mremap((void *)(uintptr_t)msg->uaddr, 0, msg->size, MREMAP_MAYMOVE);
    if (pinned == MAP_FAILED) {
        return -errno;
    }
    map = g_new(ModelMap, 1);
    *map = (ModelMap){ asid, msg->iova, msg->size, msg->perm, pinned, !m->in_batch };
    g_ptr_array_add(m->maps, map);
    g_ptr_array_sort(m->maps, compare_maps);
    return 0;
}

static void end_batch(VdpaModel *m, uint32_t asid)
{
    unsigned int i;

    for (i = 0; m->in_batch && i < m->maps->len; i++) {
        ModelMap *map = g_ptr_array_index(m->maps, i);

        map->live |= map->asid == asid;
    }
    if (m->in_batch) {
        memcpy(m->looks_in, m->group_asid, sizeof(m->looks_in));
    }
    m->in_batch = false;
}

static int handle(VdpaModel *m, uint32_t asid, const struct vhost_iotlb_msg *msg)
{
    const bool batch = msg->type == VHOST_IOTLB_BATCH_BEGIN || msg->type == VHOST_IOTLB_BATCH_END;

    if (!m->owned) {
        return -EPERM;
    }
    if (batch && !(m->config.backend_features & VDPA_B_BATCH)) {
        return -EINVAL;
    }
    if (msg->type == VHOST_IOTLB_UPDATE || msg->type == VHOST_IOTLB_BATCH_BEGIN) {
        if (asid >= m->config.n_spaces) {
            return -EINVAL;
        }
        m->spaces_made |= 1u << asid;
    }
    if ((m->in_batch && m->batch_asid != asid) || asid >= VDPA_MODEL_SPACES ||
        !(m->spaces_made & 1u << asid)) {
        return -EINVAL;
    }
    if (m->suspended && !batch) {
        model_complain(m, "IOTLB message while suspended");
    }
    switch (msg->type) {
    case VHOST_IOTLB_UPDATE:
        return update(m, asid, msg);
    case VHOST_IOTLB_INVALIDATE:
        model_unmap(m, asid, msg->iova, msg->iova + msg->size - 1);
        return 0;
    case VHOST_IOTLB_BATCH_BEGIN:
        m->batch_asid = asid;
        m->in_batch = true;
        return 0;
    case VHOST_IOTLB_BATCH_END:
        end_batch(m, asid);
        return 0;
    default:
        return -EINVAL;
    }
}

static int note_message(VdpaModel *m, const struct vhost_msg_v2 *message)
{
    const struct vhost_iotlb_msg *msg = &message->iotlb;

    switch (msg->type) {
    case VHOST_IOTLB_UPDATE:
    case VHOST_IOTLB_INVALIDATE:
        return model_note(m, "%s:%u:%" PRIx64 "+%" PRIx64,
                          msg->type == VHOST_IOTLB_UPDATE ? "UPDATE" : "INVALIDATE", message->asid,
                          (uint64_t)msg->iova, (uint64_t)msg->size);
    case VHOST_IOTLB_BATCH_BEGIN:
        return model_note(m, "BATCH_BEGIN:%u", message->asid);
    case VHOST_IOTLB_BATCH_END:
        return model_note(m, "BATCH_END:%u", message->asid);
    default:
        return model_note(m, "IOTLB:%u", msg->type);
    }
}

int model_write(VdpaModel *m, const struct vhost_msg_v2 *message)
{
    uint32_t asid = m->backend_features & VDPA_B_ASID ? message->asid : 0;
    int ret = note_message(m, message);

    if (ret < 0) {
        return ret;
    }
    if (message->type != VHOST_IOTLB_MSG_V2) {
        return -EINVAL;
    }
    if (message->iotlb.type == VHOST_IOTLB_UPDATE && !message->iotlb.size) {
        return -EINVAL;
    }
    /* Whatever the cause, the kernel says but this. */
    return handle(m, asid, &message->iotlb) < 0 ? -EFAULT : 0;
}

void *model_translate(VdpaModel *m, uint32_t asid, uint64_t iova, uint64_t size, uint8_t perm,
                      const char *what, unsigned int ring)
{
    const ModelMap *map = size ? find(m, asid, iova, iova) : NULL;
    const char *why = NULL;

    if (!map) {
        why = "is not mapped";
    } else if (!map->live) {
        why = "is mapped no more: the reset took it";
    } else if (map->size - (iova - map->iova) < size) {
        why = "leaves its map";
    } else if ((map->perm & perm) != perm) {
        why = "is not to be accessed like that";
    }
    if (why) {
        model_complain(m, "queue %u: %s at 0x%" PRIx64 "+0x%" PRIx64 " %s in space %u", ring, what,
                       iova, size, why, asid);
        return NULL;
    }
    return map->pinned + (iova - map->iova);
}

char *vdpa_model_maps(VdpaModel *m)
{
    GString *text = g_string_new(NULL);
    unsigned int i;

    pthread_mutex_lock(&m->lock);
    for (i = 0; i < m->maps->len; i++) {
        const ModelMap *map = g_ptr_array_index(m->maps, i);

        g_string_append_printf(text, "%s%u:%" PRIx64 "+%" PRIx64 "%s", i ? " " : "", map->asid,
                               map->iova, map->size, map->live ? "" : "!");
    }
    pthread_mutex_unlock(&m->lock);
    return g_string_free(text, FALSE);
}
