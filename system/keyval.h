/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keyval: QEMU's KEY=VALUE,... notation as a JSON tree.
 *
 *     text    = [ item { ',' item } [ ',' ] ]
 *     item    = key '=' value | 'help' | '?'
 *     key     = name { '.' ( name | index ) }
 *     value   = { any character but ',' | ',,' }
 *
 * The first item may be a value alone, that of the implied key.  ",," is a comma in a
 * value.  "a.b=x" is member b of object a, "a.0=x" is element 0 of list a; a list has
 * no holes.  A key given twice has its last value.  Every value is a JSON string: what
 * it must be is for the reader to say (system/properties.h).
 */
#ifndef SYSTEM_KEYVAL_H
#define SYSTEM_KEYVAL_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/*
 * Reads @text; @implied_key may be NULL.  *@help becomes true if "help" or "?" is among the
 * items.  NULL and @errp if the text is not keyval.
 */
JsonObject *keyval_parse(const char *text, const char *implied_key, bool *help, GError **errp);

/* Reads @text in either notation: JSON if it begins with '{', else keyval. */
JsonObject *keyval_or_json_parse(const char *text, const char *implied_key, bool *help,
                                 GError **errp);

#endif
