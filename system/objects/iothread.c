/* SPDX-License-Identifier: BSD-3-Clause */
/* -object iothread: a thread that works virtqueues. */
#include <sched.h>
#include <unistd.h>

#include "system/error.h"
#include "system/objects/objects.h"
#include "util/iothread.h"

typedef struct IothreadConfig {
    int64_t poll_max_ns, poll_grow, poll_shrink, poll_nap_ns;
    cpu_set_t cpus;             /* empty: any */
    int64_t unused;             /* what QEMU has and we do not need */
} IothreadConfig;

/* Adds "N" or "N-M" to @cpus. */
static bool add_cpu_range(const char *range, cpu_set_t *cpus)
{
    g_auto(GStrv) ends = g_strsplit(range, "-", 2);
    uint64_t first, last;

    if (!ends[0] || !g_ascii_string_to_unsigned(ends[0], 10, 0, CPU_SETSIZE - 1, &first, NULL)) {
        return false;
    }
    last = first;
    if (ends[1] && !g_ascii_string_to_unsigned(ends[1], 10, first, CPU_SETSIZE - 1, &last, NULL)) {
        return false;
    }
    for (; first <= last; first++) {
        CPU_SET(first, cpus);
    }
    return true;
}

/* Adds a number, or a string such as "0-1,4". */
static bool add_cpus(JsonNode *node, cpu_set_t *cpus)
{
    g_autofree char *text = property_describe(node);
    g_auto(GStrv) ranges = g_strsplit(text, ",", -1);

    if (!JSON_NODE_HOLDS_VALUE(node) || !ranges[0]) {
        return false;
    }
    for (unsigned int i = 0; ranges[i]; i++) {
        if (!add_cpu_range(ranges[i], cpus)) {
            return false;
        }
    }
    return true;
}

static bool read_cpus(const Property *property, JsonNode *node, void *field, GError **errp)
{
    bool is_list = JSON_NODE_HOLDS_ARRAY(node);
    JsonArray *list = is_list ? json_node_get_array(node) : NULL;
    unsigned int n = is_list ? json_array_get_length(list) : 1;
    cpu_set_t *cpus = field;
    g_autofree char *text = NULL;

    CPU_ZERO(cpus);
    for (unsigned int i = 0; i < n; i++) {
        if (!add_cpus(is_list ? json_array_get_element(list, i) : node, cpus)) {
            CPU_ZERO(cpus);
            break;
        }
    }
    if (CPU_COUNT(cpus) > 0) {
        return true;
    }
    text = property_describe(node);
    return svqd_fail(errp, "'%s' cannot be '%s': it must be %s", property->name, text,
                     property->type->syntax);
}

static const PropertyType property_cpus = {
    "CPU numbers or ranges, such as 1 or 0-1 or 0-1,,4 or a list of them", read_cpus
};

static const Property iothread_properties[] = {
    PROPERTY_INT("poll-max-ns", IothreadConfig, poll_max_ns, 0, INT64_MAX,
                 "nanoseconds that it polls, at most, before it sleeps; 0: never (32768)"),
    PROPERTY_INT("poll-grow", IothreadConfig, poll_grow, 0, INT64_MAX,
                 "factor by which too short a polling time grows; 0: 2 (0)"),
    PROPERTY_INT("poll-shrink", IothreadConfig, poll_shrink, 0, INT64_MAX,
                 "divisor of a polling time spent in vain; 0: back to none (0)"),
    PROPERTY_INT("poll-nap-ns", IothreadConfig, poll_nap_ns, 0, INT64_MAX,
                 "while there is work: nanoseconds that it sleeps between polls; 0: none (0)"),
    { .name = "cpu-affinity", .type = &property_cpus,
      .offset = PROPERTY_OFFSET(IothreadConfig, cpus, cpu_set_t),
      .help = "CPUs where it may run, such as 1 or 0-1 or 0-1,,4 (any)" },
    PROPERTY_INT("poll-weight", IothreadConfig, unused, 0, 63, "accepted, not used"),
    PROPERTY_INT("aio-max-batch", IothreadConfig, unused, 0, INT64_MAX, "accepted, not used"),
    PROPERTY_INT("thread-pool-min", IothreadConfig, unused, 0, INT64_MAX, "accepted, not used"),
    PROPERTY_INT("thread-pool-max", IothreadConfig, unused, 0, INT64_MAX, "accepted, not used"),
    PROPERTY_END,
};

static bool iothread_check(Objects *objects, Object *object, GError **errp)
{
    const IothreadConfig *config = object->config;
    cpu_set_t ours;

    if (sched_getaffinity(0, sizeof(ours), &ours)) {
        return true;    /* more CPUs than cpu_set_t holds: the kernel will judge */
    }
    for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &config->cpus) && !CPU_ISSET(cpu, &ours)) {
            return svqd_fail(errp, "'cpu-affinity' names CPU %u, where svqd may not run; choose "
                             "among the %d that `taskset -cp %d` would show", cpu,
                             CPU_COUNT(&ours), getpid());
        }
    }
    return true;
}

static bool iothread_create(Objects *objects, Object *object, GError **errp)
{
    const IothreadConfig *config = object->config;
    AioPollParams poll = {
        .max_ns = config->poll_max_ns,
        .grow = config->poll_grow,
        .shrink = config->poll_shrink,
        .nap_ns = config->poll_nap_ns,
    };

    object->instance = iothread_new(object->id, &poll,
                                    CPU_COUNT(&config->cpus) ? &config->cpus : NULL, errp);
    return object->instance;
}

static void iothread_destroy(Object *object)
{
    iothread_unref(object->instance);
}

const ObjectType iothread_type = {
    .kind = OBJECT_KIND_OBJECT,
    .name = "iothread",
    .help = "a thread that works virtqueues",
    .properties = iothread_properties,
    .config_size = sizeof(IothreadConfig),
    .defaults = &(const IothreadConfig){ .poll_max_ns = 32768 },
    .check = iothread_check,
    .create = iothread_create,
    .destroy = iothread_destroy,
};
