/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors of svqd's configuration. */
#include "system/error.h"

G_DEFINE_QUARK(svqd-error-quark, svqd_error)

bool svqd_fail(GError **errp, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_propagate_error(errp, g_error_new_valist(SVQD_ERROR, 0, format, args));
    va_end(args);
    return false;
}
