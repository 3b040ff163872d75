/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Properties: a table says what members an object of the JSON tree may have, and where
 * in a structure each one goes.
 *
 * The tree comes from JSON or from keyval, so a value may be of its JSON type or a string that
 * spells it.  Strings and lists are borrowed from the tree, which outlives the structure.
 */
#ifndef SYSTEM_PROPERTIES_H
#define SYSTEM_PROPERTIES_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hw/svq/svq-device.h"

typedef struct Property Property;

/* Of a station; all 0: none was given. */
typedef struct MacAddress {
    uint8_t bytes[6];
} MacAddress;

/* How a value is written, for the help text, and how it is read into its field. */
typedef struct PropertyType {
    const char *syntax;
    bool (*read)(const Property *property, JsonNode *node, void *field, GError **errp);
} PropertyType;

struct Property {
    const char *name;           /* NULL ends a table */
    const PropertyType *type;
    size_t offset;              /* of its field */
    int64_t min, max;           /* numbers */
    const char *help;
};

extern const PropertyType property_string;          /* const char * */
extern const PropertyType property_bool;            /* bool */
extern const PropertyType property_int;             /* int64_t; decimal, or hexadecimal after 0x */
extern const PropertyType property_on_off_auto;     /* OnOffAuto */
extern const PropertyType property_mac;             /* MacAddress */
extern const PropertyType property_list;            /* JsonArray * */

/* offsetof() that refuses a field of another type than T. */
#define PROPERTY_OFFSET(S, field, T) \
    (offsetof(S, field) + 0 * sizeof(&((S *)0)->field == (T *)0))

#define PROPERTY_STRING(n, S, field, text) \
    { .name = n, .type = &property_string, .offset = PROPERTY_OFFSET(S, field, const char *), \
      .help = text }
#define PROPERTY_BOOL(n, S, field, text) \
    { .name = n, .type = &property_bool, .offset = PROPERTY_OFFSET(S, field, bool), .help = text }
#define PROPERTY_INT(n, S, field, lo, hi, text) \
    { .name = n, .type = &property_int, .offset = PROPERTY_OFFSET(S, field, int64_t), \
      .min = lo, .max = hi, .help = text }
#define PROPERTY_ON_OFF_AUTO(n, S, field, text) \
    { .name = n, .type = &property_on_off_auto, .offset = PROPERTY_OFFSET(S, field, OnOffAuto), \
      .help = text }
#define PROPERTY_MAC(n, S, field, text) \
    { .name = n, .type = &property_mac, .offset = PROPERTY_OFFSET(S, field, MacAddress), \
      .help = text }
#define PROPERTY_LIST(n, S, field, text) \
    { .name = n, .type = &property_list, .offset = PROPERTY_OFFSET(S, field, JsonArray *), \
      .help = text }
#define PROPERTY_END { .name = NULL }

/*
 * Reads every member of @object into the structure at @out; fields of members that are not
 * there stay as they are.  False and @errp: a member that is not in @table, or a value that it
 * cannot have.
 */
bool properties_read(const Property *table, JsonObject *object, void *out, GError **errp);

/* The names in @table, with commas between them. */
char *properties_list_names(const Property *table);

/* What a value is, for a message. */
char *property_describe(JsonNode *node);

#endif
