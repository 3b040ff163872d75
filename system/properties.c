/* SPDX-License-Identifier: BSD-3-Clause */
/* Properties: reads objects of the JSON tree into structures, by table. */
#include <errno.h>
#include <string.h>

#include "system/error.h"
#include "system/properties.h"

char *property_describe(JsonNode *node)
{
    if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING) {
        return g_strdup(json_node_get_string(node));
    }
    return json_to_string(node, FALSE);
}

static bool refuse(const Property *property, JsonNode *node, GError **errp)
{
    g_autofree char *value = property_describe(node);

    return svqd_fail(errp, "'%s' cannot be '%s': it must be %s", property->name, value,
                     property->type->syntax);
}

/* The string that @node is, or NULL. */
static const char *get_string(JsonNode *node)
{
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING) {
        return NULL;
    }
    return json_node_get_string(node);
}

static bool read_string(const Property *property, JsonNode *node, void *field, GError **errp)
{
    const char *value = get_string(node);

    if (!value || !*value) {
        return refuse(property, node, errp);
    }
    *(const char **)field = value;
    return true;
}

/* QEMU's words for a boolean. */
static bool parse_bool(JsonNode *node, bool *value)
{
    static const char *const on[] = { "on", "yes", "true", "y", NULL };
    static const char *const off[] = { "off", "no", "false", "n", NULL };
    const char *text = get_string(node);

    if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_BOOLEAN) {
        *value = json_node_get_boolean(node);
        return true;
    }
    if (!text || (!g_strv_contains(on, text) && !g_strv_contains(off, text))) {
        return false;
    }
    *value = g_strv_contains(on, text);
    return true;
}

static bool read_bool(const Property *property, JsonNode *node, void *field, GError **errp)
{
    return parse_bool(node, field) || refuse(property, node, errp);
}

static bool read_on_off_auto(const Property *property, JsonNode *node, void *field, GError **errp)
{
    bool on;

    if (!g_strcmp0(get_string(node), "auto")) {
        *(OnOffAuto *)field = ON_OFF_AUTO_AUTO;
        return true;
    }
    if (!parse_bool(node, &on)) {
        return refuse(property, node, errp);
    }
    *(OnOffAuto *)field = on ? ON_OFF_AUTO_ON : ON_OFF_AUTO_OFF;
    return true;
}

static bool parse_int(JsonNode *node, int64_t *value)
{
    const char *text = get_string(node);
    const char *digits;
    unsigned int base;
    char *end;

    if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_INT64) {
        *value = json_node_get_int(node);
        return true;
    }
    if (!text) {
        return false;
    }
    digits = text + (text[0] == '-');
    base = g_str_has_prefix(digits, "0x") ? 16 : 10;
    /* strtoll would skip blanks and a second sign. */
    if (!g_ascii_isdigit(digits[0])) {
        return false;
    }
    errno = 0;
    *value = g_ascii_strtoll(text, &end, base);
    return errno == 0 && *end == '\0';
}

static bool read_int(const Property *property, JsonNode *node, void *field, GError **errp)
{
    g_autofree char *text = NULL;
    int64_t value;

    if (parse_int(node, &value) && value >= property->min && value <= property->max) {
        *(int64_t *)field = value;
        return true;
    }
    text = property_describe(node);
    return svqd_fail(errp, "'%s' cannot be '%s': it must be a number from %" G_GINT64_FORMAT
                     " to %" G_GINT64_FORMAT, property->name, text, property->min,
                     property->max);
}

static bool read_list(const Property *property, JsonNode *node, void *field, GError **errp)
{
    if (!JSON_NODE_HOLDS_ARRAY(node)) {
        return refuse(property, node, errp);
    }
    *(JsonArray **)field = json_node_get_array(node);
    return true;
}

/* "xx:xx:xx:xx:xx:xx", a station's own address. */
static bool parse_mac(const char *text, MacAddress *mac)
{
    const MacAddress none = { { 0 } };

    if (strlen(text) != 17) {
        return false;
    }
    for (unsigned int i = 0; i < 6; i++) {
        int high = g_ascii_xdigit_value(text[3 * i]);
        int low = g_ascii_xdigit_value(text[3 * i + 1]);

        if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':')) {
            return false;
        }
        mac->bytes[i] = high << 4 | low;
    }
    return !(mac->bytes[0] & 1) && memcmp(mac, &none, sizeof(none));
}

static bool read_mac(const Property *property, JsonNode *node, void *field, GError **errp)
{
    g_autofree char *text = property_describe(node);

    return parse_mac(text, field) || refuse(property, node, errp);
}

const PropertyType property_string = { "a text that is not empty", read_string };
const PropertyType property_bool = { "on or off", read_bool };
const PropertyType property_int = { "a number", read_int };
const PropertyType property_on_off_auto = { "auto, on or off", read_on_off_auto };
const PropertyType property_mac = { "a unicast address such as 02:00:00:00:00:01", read_mac };
const PropertyType property_list = { "a list (NAME.0=...,NAME.1=... or a JSON array)", read_list };

static const Property *find_property(const Property *table, const char *name)
{
    for (; table->name; table++) {
        if (!strcmp(table->name, name)) {
            return table;
        }
    }
    return NULL;
}

char *properties_list_names(const Property *table)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (; table->name; table++) {
        g_ptr_array_add(names, (gpointer)table->name);
    }
    g_ptr_array_add(names, NULL);
    return g_strjoinv(", ", (char **)names->pdata);
}

bool properties_read(const Property *table, JsonObject *object, void *out, GError **errp)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;

    json_object_iter_init_ordered(&iter, object);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        const Property *property = find_property(table, name);

        if (!property) {
            g_autofree char *names = properties_list_names(table);

            return svqd_fail(errp, "there is no property '%s' (have: %s)", name, names);
        }
        if (!property->type->read(property, node, (char *)out + property->offset, errp)) {
            return false;
        }
    }
    return true;
}
