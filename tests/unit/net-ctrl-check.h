/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of control commands share: devices, commands that pass or do not, and states. */
#ifndef TESTS_UNIT_NET_CTRL_CHECK_H
#define TESTS_UNIT_NET_CTRL_CHECK_H

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "hw/net/net-ctrl-state.h"

/* A device with 8 queue pairs and what the specification asks of RSS at least. */
static const NetCtrlLimits device = {
    .features = UINT64_MAX, .max_pairs = 8, .max_key_bytes = 40, .max_table = 128,
    .hash_types = 0x1ff,
};

/* What cannot be had: as many of everything as the fields can say. */
static const NetCtrlLimits boundless = {
    .features = UINT64_MAX, .max_pairs = 0x8000, .max_key_bytes = 255, .max_table = 65535,
    .hash_types = UINT32_MAX,
};

static inline GByteArray *from_hex(const char *hex)
{
    GByteArray *bytes = g_byte_array_new();

    for (; *hex; hex += 2) {
        uint8_t byte = (uint8_t)(g_ascii_xdigit_value(hex[0]) << 4 | g_ascii_xdigit_value(hex[1]));

        g_byte_array_append(bytes, &byte, 1);
    }
    return bytes;
}

static inline GByteArray *from_text(const char *text)
{
    GError *error = NULL;
    GByteArray *bytes = net_ctrl_from_string(text, &error);

    g_assert_no_error(error);
    return bytes;
}

/* Parses a copy that ends with its allocation: the address sanitizer sees a step over it. */
static inline int parse(const uint8_t *bytes, size_t n, const NetCtrlLimits *limits,
                        NetCtrlError *error)
{
    g_autofree uint8_t *copy = n > 0 ? g_memdup2(bytes, n) : g_malloc(1);
    NetCtrlCommand command;

    return net_ctrl_parse(&command, copy, n, limits, error);
}

static inline void check_passes(const GByteArray *bytes, const NetCtrlLimits *limits)
{
    NetCtrlError error = { NULL };

    if (parse(bytes->data, bytes->len, limits, &error) != 0) {
        g_test_message("%s (%" G_GUINT64_FORMAT ")", error.what, error.value);
        g_assert_not_reached();
    }
}

static inline void check_refused(const GByteArray *bytes, const NetCtrlLimits *limits,
                                 const char *what, uint64_t value)
{
    NetCtrlError error = { NULL };

    g_assert_cmpint(parse(bytes->data, bytes->len, limits, &error), ==, -EINVAL);
    g_assert_cmpstr(error.what, ==, what);
    g_assert_cmphex(error.value, ==, value);
    g_assert_true(g_str_has_prefix(error.section, "5.1.6.5"));
}

static inline void text_passes(const char *text)
{
    g_autoptr(GByteArray) bytes = from_text(text);

    g_test_message("%s", text);
    check_passes(bytes, &device);
}

static inline void text_refused(const char *text, const char *what, uint64_t value)
{
    g_autoptr(GByteArray) bytes = from_text(text);

    g_test_message("%s", text);
    check_refused(bytes, &device, what, value);
}

/* As if a device had acknowledged the command. */
static inline void apply(NetCtrlState *state, const uint8_t *bytes, size_t n)
{
    g_autofree uint8_t *copy = g_memdup2(bytes, n);
    NetCtrlCommand command;
    NetCtrlError error;

    g_assert_cmpint(net_ctrl_parse(&command, copy, n, &boundless, &error), ==, 0);
    net_ctrl_state_apply(state, &command);
    /* Nothing of the state is in memory of ours. */
    memset(copy, 0xa5, n);
}

/* Commands, one a line. */
static inline void apply_text(NetCtrlState *state, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    unsigned int i;

    for (i = 0; lines[i] && *lines[i]; i++) {
        g_autoptr(GByteArray) bytes = from_text(lines[i]);

        apply(state, bytes->data, bytes->len);
    }
}

static inline void check_equal(const NetCtrlState *a, const NetCtrlState *b)
{
    g_autoptr(GBytes) saved_a = net_ctrl_state_save(a), saved_b = net_ctrl_state_save(b);

    g_assert_true(g_bytes_equal(saved_a, saved_b));
}

/* A line for each step: "* " where the device must have done all before. */
static inline char *steps_to_string(GArray *steps)
{
    GString *out = g_string_new(NULL);
    unsigned int i;

    for (i = 0; i < steps->len; i++) {
        const NetCtrlStep *step = &g_array_index(steps, NetCtrlStep, i);
        g_autofree char *text = NULL;
        NetCtrlCommand command;
        NetCtrlError error;
        gsize n;
        const uint8_t *bytes = g_bytes_get_data(step->bytes, &n);

        g_assert_cmpint(net_ctrl_parse(&command, bytes, n, &boundless, &error), ==, 0);
        text = net_ctrl_to_string(&command);
        g_string_append_printf(out, "%s%s\n", step->barrier ? "* " : "", text);
    }
    return g_string_free(out, FALSE);
}

static inline GArray *restore(const NetCtrlState *state, const NetCtrlLimits *limits)
{
    GError *error = NULL;
    GArray *steps = net_ctrl_state_restore(state, limits, &error);

    g_assert_no_error(error);
    return steps;
}

#endif
