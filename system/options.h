/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options: svqd's command line as a list of what it describes.
 *
 * An option has one dash or two; its argument follows it, or a '='.  --socket-path and
 * --fd are short for a -chardev and a -device.
 */
#ifndef SYSTEM_OPTIONS_H
#define SYSTEM_OPTIONS_H

#include <glib.h>
#include <stdbool.h>

#include "system/objects/objects.h"

typedef enum OptionsAction {
    OPTIONS_RUN,
    OPTIONS_HELP,
    OPTIONS_VERSION,
    OPTIONS_CAPABILITIES,
    OPTIONS_HELP_KIND,          /* "-device help", "-device svq,help" */
} OptionsAction;

/* One -object, -chardev, -backend or -device, as objects_add() wants it. */
typedef struct OptionsItem {
    ObjectKind kind;
    JsonObject *json;
    const char *label;          /* the option that stands for it, or NULL */
} OptionsItem;

typedef struct Options {
    OptionsAction action;
    ObjectKind help_kind;
    char *help_type;            /* NULL: list the types */
    bool verbose;
    GArray *items;              /* OptionsItem, in the order of the options */
} Options;

/* Reads the command line; the first option that asks for help ends it. */
bool options_parse(Options *options, int argc, char *const *argv, GError **errp);
void options_clear(Options *options);

void options_print_help(void);

#endif
