/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: saved states, and states after any commands.
 *
 * The input begins with a byte that says what the rest is:
 *   0   a saved state
 *   1   the same, and its length and checksum are put right, so that what is behind them is reached
 *   2   the same without frame: its fields alone
 *   3   commands, each behind a 16-bit length; those that a device would take are applied
 * A state that cannot be loaded leaves what was there.  From one that can be, or was made by
 * commands, an equal one must come by saving and loading, and by a restore.
 */
#include "fuzz.h"

#include <glib.h>
#include <string.h>

#include "hw/net/net-ctrl-state.h"

#define HEADER_BYTES    16
#define CHECKSUM_BYTES  32

static const NetCtrlLimits limits = {
    .features = UINT64_MAX, .max_pairs = 0x8000, .max_key_bytes = 255, .max_table = 65535,
    .hash_types = UINT32_MAX,
};

/* Kept from input to input, because they are large. */
static NetCtrlState *state, *other;
static uint8_t saved[NET_CTRL_STATE_MAX_BYTES], saved_other[NET_CTRL_STATE_MAX_BYTES];

static void apply(NetCtrlState *to, const uint8_t *bytes, size_t n)
{
    NetCtrlCommand command;
    NetCtrlError error;

    if (net_ctrl_parse(&command, bytes, n, &limits, &error) == 0) {
        net_ctrl_state_apply(to, &command);
    }
}

/* What is unknown is not restored, and the last to be saved. */
static void check_restore(size_t n)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) steps = net_ctrl_state_restore(state, &limits, &error);
    size_t n_other, i;

    g_assert_no_error(error);
    net_ctrl_state_clear(other);
    for (i = 0; i < steps->len; i++) {
        gsize size;
        const uint8_t *bytes = g_bytes_get_data(g_array_index(steps, NetCtrlStep, i).bytes, &size);

        apply(other, bytes, size);
    }
    n_other = net_ctrl_state_save_to(other, saved_other, sizeof(saved_other));
    g_assert_cmpuint(n_other, <=, n);
    g_assert_cmpint(memcmp(saved_other + HEADER_BYTES, saved + HEADER_BYTES,
                           n_other - HEADER_BYTES - CHECKSUM_BYTES), ==, 0);
}

static void check_state(void)
{
    const size_t n = net_ctrl_state_save_to(state, saved, sizeof(saved));
    g_autoptr(GError) error = NULL;
    size_t n_other;

    g_assert_cmpuint(n, >, 0);
    check_restore(n);
    net_ctrl_state_load(other, saved, n, &error);
    g_assert_no_error(error);
    n_other = net_ctrl_state_save_to(other, saved_other, sizeof(saved_other));
    g_assert_cmpmem(saved_other, n_other, saved, n);
}

static void fuzz_saved(const uint8_t *bytes, size_t size)
{
    static const uint8_t before[] = { 2, 0, 9, 0 };     /* VLAN_ADD 9 */
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    apply(state, before, sizeof(before));
    if (net_ctrl_state_load(state, bytes, size, &error) == 0) {
        check_state();
        g_assert_cmpmem(saved, size, bytes, size);
        return;
    }
    g_assert_nonnull(error);
    text = net_ctrl_state_to_string(state);
    g_assert_cmpstr(text, ==, "VLAN_ADD 9\n");
}

static void put_le32(uint8_t *bytes, uint32_t number)
{
    number = GUINT32_TO_LE(number);
    memcpy(bytes, &number, sizeof(number));
}

/* Its length and its checksum are put right. */
static void fuzz_sealed(const uint8_t *bytes, size_t size)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree uint8_t *copy = g_memdup2(bytes, size);
    gsize digest = CHECKSUM_BYTES;

    put_le32(copy + 12, (uint32_t)size);
    g_checksum_update(sum, copy, (gssize)(size - CHECKSUM_BYTES));
    g_checksum_get_digest(sum, copy + size - CHECKSUM_BYTES, &digest);
    fuzz_saved(copy, size);
}

static void fuzz_fields(const uint8_t *fields, size_t size)
{
    g_autofree uint8_t *bytes = g_malloc0(HEADER_BYTES + size + CHECKSUM_BYTES);

    memcpy(bytes, "svqdctrl", 8);
    put_le32(bytes + 8, 1);
    if (size > 0) {
        memcpy(bytes + HEADER_BYTES, fields, size);
    }
    fuzz_sealed(bytes, HEADER_BYTES + size + CHECKSUM_BYTES);
}

static void fuzz_commands(const uint8_t *data, size_t size)
{
    while (size > 2) {
        const size_t n = MIN((size_t)(data[0] | data[1] << 8), size - 2);

        apply(state, data + 2, n);
        data += 2 + n;
        size -= 2 + n;
    }
    check_state();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!state) {
        state = net_ctrl_state_new();
        other = net_ctrl_state_new();
    }
    if (size == 0) {
        return 0;
    }
    net_ctrl_state_clear(state);
    switch (data[0] % 4) {
    case 0:
        fuzz_saved(data + 1, size - 1);
        break;
    case 1:
        if (size > HEADER_BYTES + CHECKSUM_BYTES) {
            fuzz_sealed(data + 1, size - 1);
        }
        break;
    case 2:
        fuzz_fields(data + 1, size - 1);
        break;
    case 3:
        fuzz_commands(data + 1, size - 1);
        break;
    }
    return 0;
}
