/* SPDX-License-Identifier: BSD-3-Clause */
/* The vDPA model's calls: what they are called, which one is to fail.  See vdpa-model.h. */
#include "lib/vdpa-model-internal.h"

#include <string.h>

static bool call_matches(const char *call, const char *pattern)
{
    size_t n = strlen(pattern);

    return strncmp(call, pattern, n) == 0 && (call[n] == '\0' || call[n] == ':');
}

/* Whether the fault that the test wants is due at @call. */
static bool fault_is_due(VdpaModel *m, const char *call)
{
    if (m->fail_at) {
        return --m->fail_at == 0;
    }
    if (!m->fail_call || !call_matches(call, m->fail_call)) {
        return false;
    }
    if (m->fail_nth == 0) {
        return true;
    }
    if (--m->fail_nth == 0) {
        g_clear_pointer(&m->fail_call, g_free);
        return true;
    }
    return false;
}

int model_note(VdpaModel *m, const char *format, ...)
{
    g_autofree char *call = NULL;
    va_list args;

    va_start(args, format);
    call = g_strdup_vprintf(format, args);
    va_end(args);
    g_string_append_printf(m->calls, "%s%s", m->calls->len ? " " : "", call);
    if (!fault_is_due(m, call)) {
        return 0;
    }
    g_free(m->failed);
    m->failed = g_steal_pointer(&call);
    return -m->fail_with;
}

void model_complain(VdpaModel *m, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_string_append_vprintf(m->complaints, format, args);
    va_end(args);
    g_string_append_c(m->complaints, '\n');
}

typedef enum Shape { PLAIN, STATUS, RING, RING_NUM, RING_HEX, RING_FD } Shape;

typedef struct Name {
    unsigned long request;
    const char *name;
    Shape shape;            /* of what is written down */
} Name;

static const Name names[] = {
    { VHOST_GET_FEATURES, "GET_FEATURES", PLAIN },
    { VHOST_SET_FEATURES, "SET_FEATURES", PLAIN },
    { VHOST_SET_OWNER, "SET_OWNER", PLAIN },
    { VHOST_GET_BACKEND_FEATURES, "GET_BACKEND_FEATURES", PLAIN },
    { VHOST_SET_BACKEND_FEATURES, "SET_BACKEND_FEATURES", PLAIN },
    { VHOST_SET_VRING_NUM, "SET_VRING_NUM", RING_NUM },
    { VHOST_SET_VRING_ADDR, "SET_VRING_ADDR", RING },
    { VHOST_SET_VRING_BASE, "SET_VRING_BASE", RING_HEX },
    { VHOST_GET_VRING_BASE, "GET_VRING_BASE", RING },
    { VHOST_SET_VRING_KICK, "SET_VRING_KICK", RING_FD },
    { VHOST_SET_VRING_CALL, "SET_VRING_CALL", RING_FD },
    { VHOST_SET_VRING_ERR, "SET_VRING_ERR", RING_FD },
    { VHOST_VDPA_GET_DEVICE_ID, "GET_DEVICE_ID", PLAIN },
    { VHOST_VDPA_GET_STATUS, "GET_STATUS", PLAIN },
    { VHOST_VDPA_SET_STATUS, "SET_STATUS", STATUS },
    { VHOST_VDPA_GET_CONFIG, "GET_CONFIG", PLAIN },
    { VHOST_VDPA_SET_CONFIG, "SET_CONFIG", PLAIN },
    { VHOST_VDPA_SET_VRING_ENABLE, "SET_VRING_ENABLE", RING_NUM },
    { VHOST_VDPA_GET_VRING_NUM, "GET_VRING_NUM", PLAIN },
    { VHOST_VDPA_SET_CONFIG_CALL, "SET_CONFIG_CALL", PLAIN },
    { VHOST_VDPA_GET_IOVA_RANGE, "GET_IOVA_RANGE", PLAIN },
    { VHOST_VDPA_GET_CONFIG_SIZE, "GET_CONFIG_SIZE", PLAIN },
    { VHOST_VDPA_GET_AS_NUM, "GET_AS_NUM", PLAIN },
    { VHOST_VDPA_GET_VRING_GROUP, "GET_VRING_GROUP", RING },
    { VHOST_VDPA_SET_GROUP_ASID, "SET_GROUP_ASID", RING_NUM },
    { VHOST_VDPA_SUSPEND, "SUSPEND", PLAIN },
    { VHOST_VDPA_RESUME, "RESUME", PLAIN },
    { VHOST_VDPA_GET_VRING_DESC_GROUP, "GET_VRING_DESC_GROUP", RING },
    { VHOST_VDPA_GET_VQS_COUNT, "GET_VQS_COUNT", PLAIN },
    { VHOST_VDPA_GET_GROUP_NUM, "GET_GROUP_NUM", PLAIN },
    { VHOST_VDPA_GET_VRING_SIZE, "GET_VRING_SIZE", RING },
};

int model_note_ioctl(VdpaModel *m, unsigned long request, const void *argument)
{
    const struct vhost_vring_state *s = argument;
    const struct vhost_vring_file *file = argument;
    const Name *name = names;

    while (name < names + G_N_ELEMENTS(names) && name->request != request) {
        name++;
    }
    if (name == names + G_N_ELEMENTS(names)) {
        return model_note(m, "0x%lx", request);
    }
    switch (name->shape) {
    case STATUS:
        return model_note(m, "%s:%x", name->name, *(const uint8_t *)argument);
    case RING:
        return model_note(m, "%s:%u", name->name, s->index);
    case RING_NUM:
        return model_note(m, "%s:%u:%u", name->name, s->index, s->num);
    case RING_HEX:
        return model_note(m, "%s:%u:%x", name->name, s->index, s->num);
    case RING_FD:
        return model_note(m, "%s:%u%s", name->name, file->index,
                          file->fd == VHOST_FILE_UNBIND ? ":-1" : "");
    default:
        return model_note(m, "%s", name->name);
    }
}

char *vdpa_model_take_calls(VdpaModel *m)
{
    char *calls;

    pthread_mutex_lock(&m->lock);
    calls = g_strdup(m->calls->str);
    g_string_truncate(m->calls, 0);
    pthread_mutex_unlock(&m->lock);
    return calls;
}

static void set_fault(VdpaModel *m, const char *call, unsigned int nth, unsigned int at, int err)
{
    pthread_mutex_lock(&m->lock);
    g_free(m->fail_call);
    g_clear_pointer(&m->failed, g_free);
    m->fail_call = g_strdup(call);
    m->fail_nth = nth;
    m->fail_at = at;
    m->fail_with = err;
    pthread_mutex_unlock(&m->lock);
}

void vdpa_model_fail(VdpaModel *m, const char *call, unsigned int nth, int err)
{
    set_fault(m, call, nth, 0, err);
}

void vdpa_model_fail_at(VdpaModel *m, unsigned int k, int err)
{
    set_fault(m, NULL, 0, k, err);
}

char *vdpa_model_failed(VdpaModel *m)
{
    char *failed;

    pthread_mutex_lock(&m->lock);
    failed = g_strdup(m->failed);
    pthread_mutex_unlock(&m->lock);
    return failed;
}
