/* SPDX-License-Identifier: BSD-3-Clause */
/* Objects: what -object, -chardev, -backend and -device describe, and when each is made. */
#include <stdio.h>
#include <string.h>

#include "system/error.h"
#include "system/objects/objects.h"

struct Objects {
    GPtrArray *by_kind[OBJECT_KINDS];
};

const ObjectKindInfo object_kinds[OBJECT_KINDS] = {
    [OBJECT_KIND_OBJECT] = { "-object", "qom-type" },
    [OBJECT_KIND_CHARDEV] = { "-chardev", "backend" },
    [OBJECT_KIND_BACKEND] = { "-backend", "driver" },
    [OBJECT_KIND_DEVICE] = { "-device", "driver" },
};

static const ObjectType *const types[] = {
    &iothread_type,
    &chardev_socket_type,
    &backend_vhost_user_type,
    &backend_vhost_vdpa_type,
    &backend_loopback_type,
    &device_svq_type,
};

static void object_free(void *opaque)
{
    Object *object = opaque;

    if (object->instance) {
        object->type->destroy(object);
    }
    json_object_unref(object->json);
    g_free(object->config);
    g_free(object->label);
    g_free(object->id);
    g_free(object);
}

Objects *objects_new(void)
{
    Objects *objects = g_new0(Objects, 1);

    for (unsigned int kind = 0; kind < OBJECT_KINDS; kind++) {
        objects->by_kind[kind] = g_ptr_array_new_with_free_func(object_free);
    }
    return objects;
}

void objects_free(Objects *objects)
{
    for (unsigned int kind = OBJECT_KINDS; kind-- > 0;) {
        g_ptr_array_unref(objects->by_kind[kind]);
    }
    g_free(objects);
}

const GPtrArray *objects_get_all(const Objects *objects, ObjectKind kind)
{
    return objects->by_kind[kind];
}

static char *list_types(ObjectKind kind)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if (types[i]->kind == kind) {
            g_ptr_array_add(names, (gpointer)types[i]->name);
        }
    }
    g_ptr_array_add(names, NULL);
    return g_strjoinv(", ", (char **)names->pdata);
}

static const ObjectType *find_type(ObjectKind kind, const char *name, GError **errp)
{
    const ObjectKindInfo *info = &object_kinds[kind];
    g_autofree char *have = NULL;

    for (size_t i = 0; name && i < G_N_ELEMENTS(types); i++) {
        if (types[i]->kind == kind && !strcmp(types[i]->name, name)) {
            return types[i];
        }
    }
    have = list_types(kind);
    if (name) {
        svqd_fail(errp, "%s: there is no type '%s' (have: %s)", info->option, name, have);
    } else {
        svqd_fail(errp, "%s: '%s' is missing: give a type first (have: %s)", info->option,
                  info->type_key, have);
    }
    return NULL;
}

static const Object *find_object(const Objects *objects, ObjectKind kind, const char *id)
{
    const GPtrArray *all = objects->by_kind[kind];

    for (unsigned int i = 0; i < all->len; i++) {
        const Object *object = g_ptr_array_index(all, i);

        if (!strcmp(object->id, id)) {
            return object;
        }
    }
    return NULL;
}

/* As QEMU: a letter, then letters, digits, '-', '.', '_'. */
static bool id_is_valid(const char *id)
{
    return g_ascii_isalpha(id[0]) &&
           strspn(id, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "-._") == strlen(id);
}

/* Sets object->id from @id, the value of its property. */
static bool object_set_id(Objects *objects, Object *object, const char *id, GError **errp)
{
    ObjectKind kind = object->type->kind;
    bool required = kind != OBJECT_KIND_DEVICE;

    if (id && !id_is_valid(id)) {
        return svqd_fail(errp, "%s: 'id' cannot be '%s': it must be a letter, then letters, "
                         "digits, '-', '.', '_'", object->label, id);
    }
    if (!id && required) {
        return svqd_fail(errp, "%s: 'id' is missing: others name it by its id", object->label);
    }
    object->id = id ? g_strdup(id)
                    : g_strdup_printf("%s%u", object->type->name, objects->by_kind[kind]->len);
    if (find_object(objects, kind, object->id)) {
        return svqd_fail(errp, "%s: 'id' %s is taken by another %s; choose a different one",
                         object->label, object->id, object_kinds[kind].option);
    }
    return true;
}

/* Takes a string member out of @json: false if it is something else. */
static bool take_string(JsonObject *json, const char *name, char **value, GError **errp)
{
    const Property table[] = {
        { .name = name, .type = &property_string },
        PROPERTY_END,
    };
    g_autoptr(JsonObject) only = NULL;
    const char *text = NULL;

    if (!json_object_has_member(json, name)) {
        return true;
    }
    only = json_object_new();
    json_object_set_member(only, name, json_object_dup_member(json, name));
    json_object_remove_member(json, name);
    if (!properties_read(table, only, &text, errp)) {
        return false;
    }
    *value = g_strdup(text);
    return true;
}

bool objects_add(Objects *objects, ObjectKind kind, JsonObject *json, const char *label,
                 GError **errp)
{
    const ObjectKindInfo *info = &object_kinds[kind];
    g_autofree char *type_name = NULL;
    g_autofree char *id = NULL;
    const ObjectType *type;
    Object *object;

    if (!take_string(json, info->type_key, &type_name, errp) ||
        !take_string(json, "id", &id, errp)) {
        g_prefix_error(errp, "%s: ", info->option);
        return false;
    }
    type = find_type(kind, type_name, errp);
    if (!type) {
        return false;
    }
    object = g_new0(Object, 1);
    object->type = type;
    object->json = json_object_ref(json);
    object->config = g_memdup2(type->defaults, type->config_size);
    object->label = label ? g_strdup(label)
                          : g_strdup_printf("%s %s%s%s", info->option, type_name,
                                            id ? ",id=" : "", id ? id : "");
    if (!object_set_id(objects, object, id, errp)) {
        object_free(object);
        return false;
    }
    if (!properties_read(type->properties, json, object->config, errp)) {
        g_prefix_error(errp, "%s: ", object->label);
        object_free(object);
        return false;
    }
    g_ptr_array_add(objects->by_kind[kind], object);
    return true;
}

typedef bool (*ObjectStep)(Objects *objects, Object *object, GError **errp);

static bool step_check(Objects *objects, Object *object, GError **errp)
{
    return !object->type->check || object->type->check(objects, object, errp);
}

static bool step_create(Objects *objects, Object *object, GError **errp)
{
    return !object->type->create || object->type->create(objects, object, errp);
}

static bool step_start(Objects *objects, Object *object, GError **errp)
{
    return !object->type->start || object->type->start(objects, object, errp);
}

static bool objects_for_each(Objects *objects, ObjectStep step, GError **errp)
{
    for (unsigned int kind = 0; kind < OBJECT_KINDS; kind++) {
        for (unsigned int i = 0; i < objects->by_kind[kind]->len; i++) {
            Object *object = g_ptr_array_index(objects->by_kind[kind], i);

            if (!step(objects, object, errp)) {
                g_prefix_error(errp, "%s: ", object->label);
                return false;
            }
        }
    }
    return true;
}

bool objects_start(Objects *objects, GError **errp)
{
    return objects_for_each(objects, step_check, errp) &&
           objects_for_each(objects, step_create, errp) &&
           objects_for_each(objects, step_start, errp);
}

static char *list_ids(const GPtrArray *all)
{
    GString *ids = g_string_new(NULL);

    for (unsigned int i = 0; i < all->len; i++) {
        const Object *object = g_ptr_array_index(all, i);

        g_string_append_printf(ids, "%s%s", i ? ", " : "", object->id);
    }
    return g_string_free(ids, FALSE);
}

Object *objects_resolve(const Objects *objects, ObjectKind kind, const char *id,
                        const char *property, GError **errp)
{
    const char *option = object_kinds[kind].option;
    g_autofree char *have = NULL;
    const Object *object;

    if (!id) {
        svqd_fail(errp, "'%s' is missing: name a %s by its id", property, option);
        return NULL;
    }
    object = find_object(objects, kind, id);
    if (!object) {
        have = list_ids(objects->by_kind[kind]);
        svqd_fail(errp, "'%s' names no %s '%s' (have: %s)", property, option, id,
                  *have ? have : "none");
    }
    return (Object *)object;
}

Object *objects_claim(const Objects *objects, ObjectKind kind, const char *id,
                      const char *property, const Object *user, GError **errp)
{
    Object *object = objects_resolve(objects, kind, id, property, errp);

    if (!object) {
        return NULL;
    }
    if (object->user) {
        svqd_fail(errp, "'%s' names '%s', which %s has already; give each a %s of its own",
                  property, id, object->user->label, object_kinds[kind].option);
        return NULL;
    }
    object->user = user;
    return object;
}

bool objects_print_help(ObjectKind kind, const char *type_name, GError **errp)
{
    const ObjectType *type;

    if (!type_name) {
        printf("%s TYPE:\n", object_kinds[kind].option);
        for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
            if (types[i]->kind == kind) {
                printf("  %-28s%s\n", types[i]->name, types[i]->help);
            }
        }
        return true;
    }
    type = find_type(kind, type_name, errp);
    if (!type) {
        return false;
    }
    printf("%s %s,id=ID[,PROPERTY=VALUE]...\n", object_kinds[kind].option, type_name);
    for (const Property *p = type->properties; p->name; p++) {
        printf("  %-28s%s\n", p->name, p->help);
    }
    return true;
}
