/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keyval: QEMU's KEY=VALUE,... notation as a JSON tree.
 *
 * How it works.  Each item is stored in a tree of objects, its key cut at the dots; indices
 * are member names like any other.  At the end the objects whose members are all indices
 * become lists.
 */
#include <string.h>

#include "system/error.h"
#include "system/keyval.h"

/* Bounds the depth of the tree, and with it that of the recursion over it. */
#define KEY_MAX 255

/* Takes a value up to an unpaired ',' from *@text, which then stands behind that ','. */
static char *take_value(const char **text)
{
    GString *value = g_string_new(NULL);
    const char *p = *text;

    for (; *p && (p[0] != ',' || p[1] == ','); p++) {
        g_string_append_c(value, *p);
        p += p[0] == ',';
    }
    *text = *p ? p + 1 : p;
    return g_string_free(value, FALSE);
}

static bool is_index(const char *name)
{
    return g_ascii_isdigit(name[0]);
}

static bool name_is_valid(const char *name)
{
    if (is_index(name)) {
        return strspn(name, "0123456789") == strlen(name);
    }
    return name[0] && name[0] != '-' &&
           strspn(name, G_CSET_a_2_z G_CSET_A_2_Z "0123456789-_") == strlen(name);
}

/* The object @name inside @parent, made if it is not there; NULL if @name is a value. */
static JsonObject *get_group(JsonObject *parent, const char *name)
{
    JsonNode *node = json_object_get_member(parent, name);

    if (!node) {
        JsonObject *group = json_object_new();

        json_object_set_object_member(parent, name, group);
        return group;
    }
    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static bool store(JsonObject *root, const char *key, const char *value, GError **errp)
{
    g_auto(GStrv) names = g_strsplit(key, ".", -1);
    JsonObject *group = root;
    JsonNode *old;
    unsigned int i;

    for (i = 0; names[i]; i++) {
        if (!name_is_valid(names[i]) || (i == 0 && is_index(names[i]))) {
            return svqd_fail(errp, "'%s' is not a key: it must be a name, as in NAME=VALUE or "
                             "NAME.0.NAME=VALUE", key);
        }
    }
    if (i == 0) {
        return svqd_fail(errp, "there is an empty key: write KEY=VALUE,KEY=VALUE");
    }
    for (i = 0; names[i + 1]; i++) {
        group = get_group(group, names[i]);
        if (!group) {
            return svqd_fail(errp, "'%s': '%s' has a value already; use one or the other",
                             key, names[i]);
        }
    }
    old = json_object_get_member(group, names[i]);
    if (old && JSON_NODE_HOLDS_OBJECT(old)) {
        return svqd_fail(errp, "'%s' is given a value here, members elsewhere; use one or the "
                         "other", key);
    }
    json_object_set_string_member(group, names[i], value);
    return true;
}

/* An item and its ',': KEY=VALUE, or help, or as @implied_key (not NULL: first item) a VALUE. */
static bool take_item(JsonObject *root, const char **text, const char *implied_key, bool *help,
                      GError **errp)
{
    size_t len = strcspn(*text, "=,");
    g_autofree char *key = g_strndup(*text, len);
    g_autofree char *value = NULL;
    bool alone = (*text)[len] != '=';

    if (alone && (!strcmp(key, "help") || !strcmp(key, "?"))) {
        *help = true;
        *text += len + ((*text)[len] == ',');
        return true;
    }
    if (!alone && len > KEY_MAX) {
        return svqd_fail(errp, "'%.20s...' is longer than %d bytes, which no key is", key, KEY_MAX);
    }
    if (alone && !implied_key) {
        return svqd_fail(errp, *key ? "'%s' has no value: write %s=VALUE"
                                    : "there is an empty item%s%s: write KEY=VALUE,KEY=VALUE",
                         key, key);
    }
    *text += alone ? 0 : len + 1;
    value = take_value(text);
    return store(root, alone ? implied_key : key, value, errp);
}

static JsonNode *convert(JsonNode *node, const char *path, GError **errp);

static JsonNode *convert_to_list(JsonObject *object, const char *path, GError **errp)
{
    g_autoptr(JsonArray) list = json_array_new();
    unsigned int n = json_object_get_size(object);

    for (unsigned int i = 0; i < n; i++) {
        g_autofree char *index = g_strdup_printf("%u", i);
        g_autofree char *inner = g_strdup_printf("%s.%u", path, i);
        JsonNode *node = json_object_get_member(object, index);

        if (!node) {
            svqd_fail(errp, "'%s' is missing: number the elements 0, 1, 2 and so on", inner);
            return NULL;
        }
        node = convert(node, inner, errp);
        if (!node) {
            return NULL;
        }
        json_array_add_element(list, node);
    }
    return json_node_init_array(json_node_alloc(), list);
}

static JsonNode *convert_to_object(JsonObject *object, const char *path, GError **errp)
{
    g_autoptr(JsonObject) copy = json_object_new();
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;

    json_object_iter_init_ordered(&iter, object);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        g_autofree char *inner = g_strdup_printf("%s%s%s", path, *path ? "." : "", name);

        node = convert(node, inner, errp);
        if (!node) {
            return NULL;
        }
        json_object_set_member(copy, name, node);
    }
    return json_node_init_object(json_node_alloc(), copy);
}

/* A copy of @node, called @path, where an object whose members are indices is a list. */
static JsonNode *convert(JsonNode *node, const char *path, GError **errp)
{
    g_autoptr(GList) names = NULL;
    JsonObject *object;
    unsigned int n_indices = 0;

    if (!JSON_NODE_HOLDS_OBJECT(node)) {
        return json_node_copy(node);
    }
    object = json_node_get_object(node);
    names = json_object_get_members(object);
    for (GList *n = names; n; n = n->next) {
        n_indices += is_index(n->data);
    }
    if (n_indices == 0) {
        return convert_to_object(object, path, errp);
    }
    if (n_indices == json_object_get_size(object)) {
        return convert_to_list(object, path, errp);
    }
    svqd_fail(errp, "'%s' has both numbers and names behind its dot; use one or the other", path);
    return NULL;
}

JsonObject *keyval_parse(const char *text, const char *implied_key, bool *help, GError **errp)
{
    g_autoptr(JsonObject) items = json_object_new();
    g_autoptr(JsonNode) tree = NULL;

    *help = false;
    while (*text) {
        if (!take_item(items, &text, implied_key, help, errp)) {
            return NULL;
        }
        implied_key = NULL;
    }
    tree = convert_to_object(items, "", errp);
    return tree ? json_node_dup_object(tree) : NULL;
}

JsonObject *keyval_or_json_parse(const char *text, const char *implied_key, bool *help,
                                 GError **errp)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) root = NULL;

    if (text[0] != '{') {
        return keyval_parse(text, implied_key, help, errp);
    }
    *help = false;
    root = json_from_string(text, &error);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        svqd_fail(errp, "this is not JSON (%s); write it as {\"KEY\": VALUE, ...}",
                  error ? error->message : "not an object");
        return NULL;
    }
    return json_node_dup_object(root);
}
