/* SPDX-License-Identifier: BSD-3-Clause */
/* Options: svqd's command line as a list of what it describes. */
#include <stdio.h>
#include <string.h>

#include "system/error.h"
#include "system/keyval.h"
#include "system/options.h"

/* The command line while it is read. */
typedef struct Parser {
    Options *options;
    const char *socket_path;
    const char *fd;
} Parser;

typedef struct OptionInfo {
    const char *name;
    const char *argument;       /* as the help text shows it; NULL: takes none */
    const char *help;
    bool (*take)(Parser *parser, const char *argument, GError **errp);
} OptionInfo;

static void item_clear(void *item)
{
    json_object_unref(((OptionsItem *)item)->json);
}

static bool take_item(Parser *parser, ObjectKind kind, const char *argument, GError **errp)
{
    const ObjectKindInfo *info = &object_kinds[kind];
    Options *options = parser->options;
    OptionsItem item = { .kind = kind };
    bool help;

    item.json = keyval_or_json_parse(argument, info->type_key, &help, errp);
    if (!item.json) {
        return false;
    }
    g_array_append_val(options->items, item);
    if (help) {
        options->action = OPTIONS_HELP_KIND;
        options->help_kind = kind;
        options->help_type = g_strdup(json_object_get_string_member_with_default(
            item.json, info->type_key, NULL));
    }
    return true;
}

static bool take_object(Parser *parser, const char *argument, GError **errp)
{
    return take_item(parser, OBJECT_KIND_OBJECT, argument, errp);
}

static bool take_chardev(Parser *parser, const char *argument, GError **errp)
{
    return take_item(parser, OBJECT_KIND_CHARDEV, argument, errp);
}

static bool take_backend(Parser *parser, const char *argument, GError **errp)
{
    return take_item(parser, OBJECT_KIND_BACKEND, argument, errp);
}

static bool take_device(Parser *parser, const char *argument, GError **errp)
{
    return take_item(parser, OBJECT_KIND_DEVICE, argument, errp);
}

static bool take_socket_path(Parser *parser, const char *argument, GError **errp)
{
    parser->socket_path = argument;
    return true;
}

static bool take_fd(Parser *parser, const char *argument, GError **errp)
{
    parser->fd = argument;
    return true;
}

static bool take_verbose(Parser *parser, const char *argument, GError **errp)
{
    parser->options->verbose = true;
    return true;
}

static bool take_capabilities(Parser *parser, const char *argument, GError **errp)
{
    parser->options->action = OPTIONS_CAPABILITIES;
    return true;
}

static bool take_version(Parser *parser, const char *argument, GError **errp)
{
    parser->options->action = OPTIONS_VERSION;
    return true;
}

static bool take_help(Parser *parser, const char *argument, GError **errp)
{
    parser->options->action = OPTIONS_HELP;
    return true;
}

static const OptionInfo option_infos[] = {
    { "object", "TYPE,id=ID[,PROPERTY=VALUE]...", "an iothread; -object help lists all types",
      take_object },
    { "chardev", "TYPE,id=ID[,PROPERTY=VALUE]...", "the way to a peer", take_chardev },
    { "backend", "TYPE,id=ID[,PROPERTY=VALUE]...", "the device side", take_backend },
    { "device", "TYPE[,id=ID][,PROPERTY=VALUE]...", "a shadowed device; -device svq,help lists "
      "its properties", take_device },
    { "socket-path", "PATH", "serve the one -backend at PATH", take_socket_path },
    { "fd", "N", "serve the one -backend over the connected socket N", take_fd },
    { "print-capabilities", NULL, "print what this back end can do, as JSON", take_capabilities },
    { "verbose", NULL, "say more, and print the counters at the end", take_verbose },
    { "version", NULL, "print the version", take_version },
    { "help", NULL, "print this", take_help },
    { "h", NULL, NULL, take_help },
};

void options_print_help(void)
{
    printf("Usage: svqd -backend ... -device ... | svqd -backend ... --socket-path=PATH\n\n"
           "Shadow virtqueues between a VMM and a device; see svqd(8).\n\n"
           "Options have one dash or two.  TYPE,... may also be a JSON object.\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(option_infos); i++) {
        const OptionInfo *info = &option_infos[i];

        if (info->help) {
            printf("  -%s%s%s\n        %s\n", info->name, info->argument ? " " : "",
                   info->argument ? info->argument : "", info->help);
        }
    }
    printf("\nSIGUSR1 prints the counters of all virtqueues; SIGTERM ends svqd.\n");
}

static const OptionInfo *find_option(const char *name, size_t len)
{
    for (size_t i = 0; i < G_N_ELEMENTS(option_infos); i++) {
        const OptionInfo *info = &option_infos[i];

        if (strlen(info->name) == len && !memcmp(info->name, name, len)) {
            return info;
        }
    }
    return NULL;
}

/* Takes the option at *@argv and its argument; *@argv then stands behind them. */
static bool take_option(Parser *parser, char *const **argv, GError **errp)
{
    const char *text = *(*argv)++;
    const char *name = text + (text[0] == '-') + (text[0] == '-' && text[1] == '-');
    size_t len = strcspn(name, "=");
    const char *argument = name[len] ? name + len + 1 : NULL;
    const OptionInfo *info = name > text ? find_option(name, len) : NULL;

    if (!info) {
        return svqd_fail(errp, "%s: there is no such option; see svqd --help", text);
    }
    if (!info->argument && argument) {
        return svqd_fail(errp, "%s: takes no value; write -%s", text, info->name);
    }
    if (info->argument && !argument) {
        argument = *(*argv)++;
    }
    if (info->argument && !argument) {
        return svqd_fail(errp, "%s: its argument is missing: write -%s %s", text, info->name,
                         info->argument);
    }
    if (!info->take(parser, argument, errp)) {
        g_prefix_error(errp, "-%s: ", info->name);
        return false;
    }
    return true;
}

static void add_item(Options *options, ObjectKind kind, const char *label, JsonObject *json)
{
    OptionsItem item = { .kind = kind, .json = json, .label = label };

    g_array_append_val(options->items, item);
}

/* The chardev and the device that --socket-path or --fd stand for. */
static void add_short_form(Parser *parser, const char *label, const char *backend_id)
{
    JsonObject *chardev = json_object_new();
    JsonObject *device = json_object_new();

    json_object_set_string_member(chardev, "backend", "socket");
    json_object_set_string_member(chardev, "id", label + 2);
    if (parser->fd) {
        json_object_set_string_member(chardev, "fd", parser->fd);
    } else {
        json_object_set_string_member(chardev, "path", parser->socket_path);
        json_object_set_string_member(chardev, "server", "on");
    }
    add_item(parser->options, OBJECT_KIND_CHARDEV, label, chardev);

    json_object_set_string_member(device, "driver", "svq");
    json_object_set_string_member(device, "chardev", label + 2);
    json_object_set_string_member(device, "backend", backend_id);
    add_item(parser->options, OBJECT_KIND_DEVICE, label, device);
}

/* Checks what there is to serve, and expands --socket-path and --fd. */
static bool complete(Parser *parser, GError **errp)
{
    const char *label = parser->fd ? "--fd" : "--socket-path";
    const GArray *items = parser->options->items;
    const OptionsItem *backend = NULL;
    unsigned int n[OBJECT_KINDS] = { 0 };

    for (unsigned int i = 0; i < items->len; i++) {
        const OptionsItem *item = &g_array_index(items, OptionsItem, i);

        n[item->kind]++;
        backend = item->kind == OBJECT_KIND_BACKEND ? item : backend;
    }
    if (parser->socket_path && parser->fd) {
        return svqd_fail(errp, "--socket-path and --fd exclude each other; give one");
    }
    if (!parser->socket_path && !parser->fd) {
        return n[OBJECT_KIND_DEVICE] > 0 ||
               svqd_fail(errp, "there is nothing to serve: give a -device, or one -backend with "
                         "--socket-path or --fd");
    }
    if (n[OBJECT_KIND_DEVICE] > 0 || n[OBJECT_KIND_BACKEND] != 1) {
        return svqd_fail(errp, "%s is for one -backend and no -device; with more, give each "
                         "-device a -chardev", label);
    }
    add_short_form(parser, label,
                   json_object_get_string_member_with_default(backend->json, "id", ""));
    return true;
}

bool options_parse(Options *options, int argc, char *const *argv, GError **errp)
{
    Parser parser = { .options = options };

    *options = (Options){ .action = OPTIONS_RUN };
    options->items = g_array_new(FALSE, FALSE, sizeof(OptionsItem));
    g_array_set_clear_func(options->items, item_clear);
    argv += argc > 0;
    while (*argv && options->action == OPTIONS_RUN) {
        if (!take_option(&parser, &argv, errp)) {
            return false;
        }
    }
    return options->action != OPTIONS_RUN || complete(&parser, errp);
}

void options_clear(Options *options)
{
    g_clear_pointer(&options->items, g_array_unref);
    g_clear_pointer(&options->help_type, g_free);
}
