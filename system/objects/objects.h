/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects: what -object, -chardev, -backend and -device describe.
 *
 * How it works.  Each type is an ObjectType in a file of its own: a table of properties, a
 * check and a constructor.  Objects come to life in two rounds.  objects_add() only
 * reads the properties.  objects_start() first checks every object, its references
 * included, and then makes them, kind by kind in the order of ObjectKind: so the order of
 * options does not matter, and a wrong one is found before anything is made.
 *
 * Threads: the main thread.
 */
#ifndef SYSTEM_OBJECTS_H
#define SYSTEM_OBJECTS_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "hw/vhost/vhost-socket.h"
#include "system/properties.h"

/* In the order in which they are made: each refers to earlier ones only. */
typedef enum ObjectKind {
    OBJECT_KIND_OBJECT,
    OBJECT_KIND_CHARDEV,
    OBJECT_KIND_BACKEND,
    OBJECT_KIND_DEVICE,
    OBJECT_KINDS,
} ObjectKind;

typedef struct ObjectKindInfo {
    const char *option;         /* "-object" */
    const char *type_key;       /* the key that names the type; implied in keyval */
} ObjectKindInfo;

extern const ObjectKindInfo object_kinds[OBJECT_KINDS];

typedef struct Objects Objects;
typedef struct Object Object;

typedef struct ObjectType {
    ObjectKind kind;
    const char *name;
    const char *help;
    const Property *properties;     /* type and id are not among them */
    size_t config_size;
    const void *defaults;           /* of @config_size */
    /* Values together, references.  NULL: nothing to check. */
    bool (*check)(Objects *objects, Object *object, GError **errp);
    /* Makes object->instance.  NULL: it is a description only. */
    bool (*create)(Objects *objects, Object *object, GError **errp);
    /* After every object was made.  NULL: nothing to do. */
    bool (*start)(Objects *objects, Object *object, GError **errp);
    void (*destroy)(Object *object);
} ObjectType;

struct Object {
    const ObjectType *type;
    char *id;
    char *label;                /* "-device svq,id=net0", to begin a message with */
    void *config;               /* ObjectType.config_size bytes; strings borrowed from @json */
    void *instance;             /* NULL until created */
    const Object *user;         /* of a chardev or backend: each has one */
    JsonObject *json;
};

extern const ObjectType iothread_type, chardev_socket_type, backend_vhost_user_type,
    backend_vhost_vdpa_type, backend_loopback_type, device_svq_type;

Objects *objects_new(void);

/* Destroys them, devices first. */
void objects_free(Objects *objects);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Objects, objects_free)

/*
 * Adds what an option describes; takes members out of @json.  @label: how to name it in
 * messages; NULL: by option, type and id.
 */
bool objects_add(Objects *objects, ObjectKind kind, JsonObject *json, const char *label,
                 GError **errp);

bool objects_start(Objects *objects, GError **errp);

/* All of a kind, in the order of their options: Object *. */
const GPtrArray *objects_get_all(const Objects *objects, ObjectKind kind);

/* The object that @property names.  NULL and @errp: there is none, or no name (NULL). */
Object *objects_resolve(const Objects *objects, ObjectKind kind, const char *id,
                        const char *property, GError **errp);

/* As objects_resolve(), and makes @user its only user. */
Object *objects_claim(const Objects *objects, ObjectKind kind, const char *id,
                      const char *property, const Object *user, GError **errp);

/* Prints the types of a kind, or the properties of one; false if there is no such type. */
bool objects_print_help(ObjectKind kind, const char *type_name, GError **errp);

/* The address that a -chardev socket describes. */
VhostSocketAddress chardev_socket_get_address(const Object *chardev);

/*
 * Propagates @error, why the peer at @chardev was not reached, with the remedy if it is in
 * the -chardev.  Returns false.
 */
bool chardev_socket_fail(const Object *chardev, GError *error, GError **errp);

#endif
