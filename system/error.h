/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors of svqd's configuration: one domain, one code, words for a person.
 *
 * A message names the property and the remedy; callers put the option in front.
 */
#ifndef SYSTEM_ERROR_H
#define SYSTEM_ERROR_H

#include <glib.h>
#include <stdbool.h>

#define SVQD_ERROR svqd_error_quark()
GQuark svqd_error_quark(void);

/* Sets *@errp and returns false, so that a check is one statement. */
bool svqd_fail(GError **errp, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
