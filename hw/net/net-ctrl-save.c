/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A state as bytes, to be kept or sent elsewhere.
 *
 * How it works.  All numbers are little-endian:
 *
 *     8 bytes   "svqdctrl"
 *     le32      version: 1
 *     le32      length of all, checksum included
 *     fields    le32 kind, le32 length, so many bytes
 *     32 bytes  SHA-256 of all before
 *
 * A field of kind 1 is a command that the device needs to come to the state, as a driver would send
 * it; the fields stand in the order in which the device needs them.  One of kind 2 is class and
 * command of what was seen and cannot be restored.
 *
 * For each state there is one such string, and no other is loaded: what was loaded is saved again
 * and compared.  So a field that is there twice or contradicts another needs no rule of its own.
 */
#include "net-ctrl-internal.h"

#include <errno.h>
#include <string.h>

#define MAGIC           "svqdctrl"
#define MAGIC_BYTES     8
#define VERSION         1
#define HEADER_BYTES    (MAGIC_BYTES + 2 * sizeof(uint32_t))
#define FIELD_BYTES     (2 * sizeof(uint32_t))
#define CHECKSUM_BYTES  32

enum { FIELD_COMMAND = 1, FIELD_UNKNOWN = 2 };

/* What does not fit is counted, too. */
typedef struct Writer {
    uint8_t *bytes;
    size_t size, n;
} Writer;

/* Room for @n bytes; NULL: there is none. */
static uint8_t *writer_take(Writer *w, size_t n)
{
    uint8_t *p = w->n + n <= w->size ? w->bytes + w->n : NULL;

    w->n += n;
    return p;
}

static uint8_t *write_field(Writer *w, uint32_t kind, size_t n)
{
    uint8_t *p = writer_take(w, FIELD_BYTES + n);

    if (!p) {
        return NULL;
    }
    net_ctrl_put32(p, kind);
    net_ctrl_put32(p + 4, (uint32_t)n);
    return p + FIELD_BYTES;
}

static void write_command(void *opaque, const NetCtrlCommand *command, bool barrier)
{
    const size_t n = net_ctrl_encode(command, NULL, 0);
    uint8_t *p = write_field(opaque, FIELD_COMMAND, n);

    if (p) {
        net_ctrl_encode(command, p, n);
    }
}

static void write_unknown(Writer *w, const NetCtrlState *state)
{
    unsigned int i;

    for (i = 0; i < state->n_unknown; i++) {
        uint8_t *p = write_field(w, FIELD_UNKNOWN, NET_CTRL_HEADER_BYTES);

        if (p) {
            p[0] = state->unknown[i].class;
            p[1] = state->unknown[i].command;
        }
    }
}

static void make_checksum(const uint8_t *bytes, size_t n, uint8_t checksum[CHECKSUM_BYTES])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize length = CHECKSUM_BYTES;

    g_checksum_update(sum, bytes, (gssize)n);
    g_checksum_get_digest(sum, checksum, &length);
}

/* All that is saved; returns its length, whether there was room for it or not. */
static size_t write_state(const NetCtrlState *state, uint8_t *bytes, size_t size)
{
    Writer w = { bytes, size };
    uint8_t *header = writer_take(&w, HEADER_BYTES);
    uint8_t *checksum;

    net_ctrl_state_walk(state, write_command, &w);
    write_unknown(&w, state);
    checksum = writer_take(&w, CHECKSUM_BYTES);
    if (checksum) {
        memcpy(header, MAGIC, MAGIC_BYTES);
        net_ctrl_put32(header + MAGIC_BYTES, VERSION);
        net_ctrl_put32(header + MAGIC_BYTES + 4, (uint32_t)w.n);
        make_checksum(bytes, w.n - CHECKSUM_BYTES, checksum);
    }
    return w.n;
}

size_t net_ctrl_state_save_to(const NetCtrlState *state, uint8_t *bytes, size_t size)
{
    const size_t n = write_state(state, bytes, size);

    return n <= size ? n : 0;
}

GBytes *net_ctrl_state_save(const NetCtrlState *state)
{
    const size_t n = write_state(state, NULL, 0);
    uint8_t *bytes = g_malloc(n);

    g_assert(n <= NET_CTRL_STATE_MAX_BYTES);
    write_state(state, bytes, n);
    return g_bytes_new_take(bytes, n);
}

static int G_GNUC_PRINTF(2, 3) refuse(GError **errp, const char *format, ...)
{
    g_autofree char *why = NULL;
    va_list args;

    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, "saved state: %s", why);
    return -EINVAL;
}

static int check_frame(const uint8_t *bytes, size_t n, GError **errp)
{
    uint8_t checksum[CHECKSUM_BYTES];
    uint32_t version, length;

    if (n < HEADER_BYTES + CHECKSUM_BYTES) {
        return refuse(errp, "%zu bytes are too few", n);
    }
    if (memcmp(bytes, MAGIC, MAGIC_BYTES) != 0) {
        return refuse(errp, "it does not begin as one");
    }
    version = net_ctrl_get32(bytes + MAGIC_BYTES);
    if (version != VERSION) {
        return refuse(errp, "version %u, and only %u is known", version, VERSION);
    }
    length = net_ctrl_get32(bytes + MAGIC_BYTES + 4);
    if (length != n || n > NET_CTRL_STATE_MAX_BYTES) {
        return refuse(errp, "it says %u bytes and has %zu, at most %u", length, n,
                      NET_CTRL_STATE_MAX_BYTES);
    }
    make_checksum(bytes, n - CHECKSUM_BYTES, checksum);
    if (memcmp(checksum, bytes + n - CHECKSUM_BYTES, CHECKSUM_BYTES) != 0) {
        return refuse(errp, "its checksum is wrong");
    }
    return 0;
}

static int load_field(NetCtrlState *state, uint32_t kind, const uint8_t *bytes, size_t n,
                      GError **errp)
{
    NetCtrlCommand command;
    NetCtrlError error;
    int ret;

    switch (kind) {
    case FIELD_COMMAND:
        ret = net_ctrl_parse(&command, bytes, n, &net_ctrl_no_limits, &error);
        if (ret == -ENOTSUP) {
            return refuse(errp, "command %u/%u is not known", bytes[0], bytes[1]);
        }
        if (ret < 0) {
            return refuse(errp, "%s (%" G_GUINT64_FORMAT ")", error.what, error.value);
        }
        net_ctrl_state_apply(state, &command);
        return 0;
    case FIELD_UNKNOWN:
        if (n != NET_CTRL_HEADER_BYTES) {
            return refuse(errp, "%zu bytes for the name of a command", n);
        }
        net_ctrl_state_apply_unknown(state, bytes[0], bytes[1]);
        return 0;
    default:
        return refuse(errp, "field of unknown kind %u", kind);
    }
}

/* The fields in @bytes[0..n). */
static int load_fields(NetCtrlState *state, const uint8_t *bytes, size_t n, GError **errp)
{
    while (n > 0) {
        uint32_t kind, length;
        int ret;

        if (n < FIELD_BYTES) {
            return refuse(errp, "%zu bytes at its end are no field", n);
        }
        kind = net_ctrl_get32(bytes);
        length = net_ctrl_get32(bytes + 4);
        bytes += FIELD_BYTES;
        n -= FIELD_BYTES;
        if (length > n) {
            return refuse(errp, "field of %u bytes where %zu are left", length, n);
        }
        ret = load_field(state, kind, bytes, length, errp);
        if (ret < 0) {
            return ret;
        }
        bytes += length;
        n -= length;
    }
    return 0;
}

static bool is_saved_as(const NetCtrlState *state, const uint8_t *bytes, size_t n)
{
    g_autoptr(GBytes) again = net_ctrl_state_save(state);

    return g_bytes_get_size(again) == n && memcmp(g_bytes_get_data(again, NULL), bytes, n) == 0;
}

int net_ctrl_state_load(NetCtrlState *state, const uint8_t *bytes, size_t n, GError **errp)
{
    g_autoptr(NetCtrlState) loaded = NULL;
    int ret;

    ret = check_frame(bytes, n, errp);
    if (ret < 0) {
        return ret;
    }
    loaded = net_ctrl_state_new();
    ret = load_fields(loaded, bytes + HEADER_BYTES, n - HEADER_BYTES - CHECKSUM_BYTES, errp);
    if (ret < 0) {
        return ret;
    }
    if (!is_saved_as(loaded, bytes, n)) {
        return refuse(errp, "a field is there twice, out of order, or not in its usual form");
    }
    net_ctrl_state_copy(state, loaded);
    return 0;
}
