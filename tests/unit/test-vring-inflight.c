/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue goes on from its record after a kill at any instruction, exactly.
 *
 * How it works.  A driver and a device work a ring; driver, ring and record lie in one piece of
 * memory that outlives the device and can be put back as it was.  A script of random operations
 * is run first to see what a naive model, which knows nothing of rings, says of each of its
 * steps.  Then a kill is tried: the device is forgotten, another one recovers from the record,
 * and who has which buffer must be what the model says for the step before or the step
 * after, and never for an earlier one than last time.  Then everything is put back and goes on.
 *
 * Kills are tried between operations, and, in a child process that is stepped through by ptrace,
 * between instructions: then each store that the device makes is followed by a kill.
 */
#include <errno.h>
#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/inflight-world.h"
#include "lib/sanitizer.h"

#define MAX_STEPS 4096

/* The model. */

typedef struct Taken {
    uint32_t cookie, len;
    uint32_t order;             /* the how-manieth */
    uint16_t id;
    bool done;                  /* IN_ORDER: put, but kept back */
} Taken;

typedef struct Model {
    uint32_t available[INFLIGHT_MAX_NUM], n_available;
    Taken taken[INFLIGHT_MAX_NUM];       /* oldest first */
    uint32_t n_taken, order;
    Used used[INFLIGHT_MAX_NUM];         /* put, and not collected */
    uint32_t n_used, n_published;
} Model;

/* Who has which buffer, once a device that was killed has been replaced. */
typedef struct Outcome {
    uint32_t available[INFLIGHT_MAX_NUM], n_available;
    Used used[INFLIGHT_MAX_NUM];
    uint32_t n_used;
    unsigned int completed, offered;
} Outcome;

static void remove_first(void *array, size_t size, uint32_t *n)
{
    memmove(array, (char *)array + size, --*n * size);
}

static void model_take(Model *m, uint16_t id)
{
    m->taken[m->n_taken++] = (Taken){ .cookie = m->available[0], .id = id, .order = m->order++ };
    remove_first(m->available, sizeof(m->available[0]), &m->n_available);
}

static void model_untake(Model *m)
{
    memmove(&m->available[1], &m->available[0], m->n_available++ * sizeof(m->available[0]));
    m->available[0] = m->taken[--m->n_taken].cookie;
    m->order--;
}

static void model_use(Model *m, uint32_t i, uint32_t len)
{
    m->used[m->n_used++] = (Used){ m->taken[i].cookie, len };
    memmove(&m->taken[i], &m->taken[i + 1], (--m->n_taken - i) * sizeof(m->taken[0]));
}

/* Returns how many buffers can still be offered again: the youngest, if none is missing. */
static uint32_t model_offerable(const Model *m, bool lost)
{
    uint32_t n = 0;

    while (n < m->n_taken) {
        const Taken *taken = &m->taken[m->n_taken - 1 - n];

        if (taken->order != m->order - 1 - n || taken->done ||
            (lost && !cookie_writable(taken->cookie))) {
            break;
        }
        n++;
    }
    return n;
}

/* What settling does: returns how many are completed with length 0. */
static uint32_t model_settle(Model *m, bool lost, uint32_t *offered)
{
    uint32_t completed = 0;

    *offered = model_offerable(m, lost);
    while (m->n_taken > *offered) {
        completed += !m->taken[0].done;
        model_use(m, 0, m->taken[0].done ? m->taken[0].len : 0);
    }
    while (m->n_taken) {
        model_untake(m);
    }
    return completed;
}

static void model_kill(Model *m, Outcome *outcome)
{
    uint32_t i;

    /* What was kept back for IN_ORDER only the dead process knew. */
    for (i = 0; i < m->n_taken; i++) {
        m->taken[i].done = false;
    }
    memset(outcome, 0, sizeof(*outcome));
    outcome->completed = model_settle(m, true, &outcome->offered);
    outcome->n_available = m->n_available;
    memcpy(outcome->available, m->available, m->n_available * sizeof(m->available[0]));
    outcome->n_used = m->n_used;
    memcpy(outcome->used, m->used, m->n_used * sizeof(m->used[0]));
    m->n_published = m->n_used;
}

/* The script. */

/* What is done in a world, and the model before each of its steps. */
typedef struct Script {
    InflightWorld *world;
    Op ops[MAX_STEPS];          /* Op.step: where it begins */
    uint32_t n_ops;
    Model models[MAX_STEPS + 1];
    uint32_t n_steps;           /* the model stands at models[n_steps] */
} Script;

static Script *script_new(const VringConfig *config, uint64_t seed)
{
    Script *script = g_new0(Script, 1);

    script->world = inflight_world_new(config, seed);
    return script;
}

static void script_free(Script *script)
{
    inflight_world_free(script->world);
    g_free(script);
}

static bool may_put(const Script *script, const Model *m, uint32_t *i, Random *random)
{
    if (m->n_taken == 0) {
        return false;
    }
    *i = script->world->config.put_in_order ? 0 : random_below(random, m->n_taken);
    return !m->taken[*i].done;
}

/* Does @op and lets the model follow; each state that a kill may find is a step of the model. */
static void run_op(Script *script, Op *op)
{
    Model *m = &script->models[script->n_steps + 1];
    uint32_t i, offered;
    Outcome outcome;

    op->step = script->n_steps;
    *m = script->models[script->n_steps++];
    switch (op->type) {
    case TAKE: {
        uint32_t cookie = 0;
        uint16_t id = 0;

        g_assert_cmpint(inflight_world_take(&script->world->device, &cookie, &id), ==,
                        m->n_available > 0);
        if (m->n_available) {
            g_assert_cmpuint(cookie, ==, m->available[0]);
            model_take(m, id);
        }
        return;
    }
    case UNTAKE:
        model_untake(m);
        break;
    case PUT:
        for (i = 0; m->taken[i].id != op->id; i++) {
        }
        if (!script->world->config.in_order) {
            model_use(m, i, op->len);
            break;
        }
        m->taken[i].done = true;
        m->taken[i].len = op->len;
        while (m->n_taken && m->taken[0].done) {
            model_use(m, 0, m->taken[0].len);
            m[1] = m[0];
            m++;
            script->n_steps++;
        }
        break;
    case PUBLISH:
        m->n_published = m->n_used;
        break;
    case ADD:
        m->available[m->n_available++] = script->world->survivors->n_added;
        break;
    case COLLECT:
        remove_first(m->used, sizeof(m->used[0]), &m->n_used);
        m->n_published--;
        break;
    case RESTART:
        model_kill(m, &outcome);
        offered = outcome.offered;
        inflight_world_perform(script->world, op);
        g_assert_true(script->world->device.recovery.recovered);
        g_assert_cmpuint(script->world->device.recovery.completed, ==, outcome.completed);
        g_assert_cmpuint(script->world->device.recovery.offered, ==, offered);
        return;
    }
    inflight_world_perform(script->world, op);
}

/* The next operation that makes sense. */
static Op choose_op(Script *script)
{
    const Model *m = &script->models[script->n_steps];
    const Survivors *s = script->world->survivors;
    Random *random = &script->world->random;
    uint32_t i;

    for (;;) {
        switch (random_below(random, 20)) {
        case 0:
            return (Op){ .type = RESTART };
        case 1:
            if (m->n_taken && !m->taken[m->n_taken - 1].done &&
                m->taken[m->n_taken - 1].order == m->order - 1) {
                return (Op){ .type = UNTAKE, .id = m->taken[m->n_taken - 1].id };
            }
            break;
        case 2:
        case 3:
            return (Op){ .type = PUBLISH };
        case 4:
        case 5:
        case 6:
        case 7:
            if (m->n_published) {
                return (Op){ .type = COLLECT };
            }
            break;
        case 8:
        case 9:
        case 10:
        case 11:
            if (may_put(script, m, &i, random)) {
                const Taken *taken = &m->taken[i];

                return (Op){ .type = PUT, .id = taken->id,
                             .len = cookie_writable(taken->cookie)
                                        ? random_below(random, 100) : 0 };
            }
            break;
        case 12:
        case 13:
        case 14:
        case 15:
            if (vring_driver_has_room(&s->driver, cookie_elements(s->n_added))) {
                return (Op){ .type = ADD };
            }
            break;
        default:
            return (Op){ .type = TAKE };
        }
    }
}

/* The kill. */

/* Replaces the device, and lets everybody show what he has.  Nothing is as before after that. */
static void observe(Script *script, Outcome *outcome)
{
    uint16_t ids[INFLIGHT_MAX_NUM];
    VringDevice device;
    Used used;
    uint32_t i;

    memset(outcome, 0, sizeof(*outcome));
    g_assert_cmpint(vring_device_init(&device, &script->world->config), ==, 0);
    g_assert_cmpstr(device.recovery.discarded, ==, NULL);
    outcome->completed = device.recovery.completed;
    outcome->offered = device.recovery.offered;
    while (inflight_world_collect(script->world, &used)) {
        outcome->used[outcome->n_used++] = used;
    }
    while (inflight_world_take(&device, &outcome->available[outcome->n_available],
                       &ids[outcome->n_available])) {
        outcome->n_available++;
    }
    /* And the ring works on, until nobody owes anybody anything. */
    for (i = 0; i < outcome->n_available; i++) {
        vring_device_put(&device, device.packed, ids[i], 0);
    }
    vring_device_publish(&device, device.packed);
    for (i = 0; i < outcome->n_available; i++) {
        g_assert_true(inflight_world_collect(script->world, &used));
        g_assert_cmpuint(used.cookie, ==, outcome->available[i]);
    }
    g_assert_cmpuint(script->world->survivors->driver.num_free, ==, script->world->config.num);
    vring_device_cleanup(&device);
}

/* @twice: the device that recovers is killed as well, as soon as it has. */
static void kill_and_observe(Script *script, bool twice, Outcome *outcome)
{
    static Survivors saved;
    unsigned int completed = 0, offered = 0;
    VringDevice device;

    memcpy(&saved, script->world->survivors, sizeof(saved));
    if (twice) {
        g_assert_cmpint(vring_device_init(&device, &script->world->config), ==, 0);
        completed = device.recovery.completed;
        offered = device.recovery.offered;
        vring_device_cleanup(&device);
    }
    observe(script, outcome);
    outcome->completed += completed;
    outcome->offered += offered;
    memcpy(script->world->survivors, &saved, sizeof(saved));
}

static bool same_outcome(const Outcome *a, const Outcome *b)
{
    return a->n_available == b->n_available && a->n_used == b->n_used &&
           memcmp(a->available, b->available, sizeof(a->available)) == 0 &&
           memcmp(a->used, b->used, sizeof(a->used)) == 0;
}

static void run_history(const VringConfig *config, uint64_t seed, unsigned int n_ops)
{
    Script *script = script_new(config, seed);
    unsigned int n;

    for (n = 0; n < n_ops; n++) {
        const uint32_t published = script->world->config.inflight->published;
        Op op = choose_op(script);
        Outcome outcome, expected;
        Model model;

        run_op(script, &op);
        if (op.type == PUBLISH && random_one_in(&script->world->random, 2)) {
            /* Killed before it was said, and another works on. */
            script->world->config.inflight->published = published;
            run_op(script, &(Op){ .type = RESTART });
        }
        model = script->models[script->n_steps];
        script->models[0] = model;
        script->n_steps = 0;
        kill_and_observe(script, n % 2, &outcome);
        model_kill(&model, &expected);
        g_assert_true(same_outcome(&outcome, &expected));
        g_assert_cmpuint(outcome.completed, ==, expected.completed);
        g_assert_cmpuint(outcome.offered, ==, expected.offered);
    }
    script_free(script);
}

static void test_histories(const void *data)
{
    const VringConfig *config = data;
    const uint64_t seed = random_seed();
    unsigned int i;

    for (i = 0; i < 50; i++) {
        run_history(config, seed + i * 1000003, (unsigned int)random_steps(200000) / 50 + 1);
    }
}

/* Killed at each instruction. */

#if !SANITIZED
/* The first step from @from to @to after which the model has @outcome; there must be one. */
static uint32_t find_step(const Script *script, const Outcome *outcome, uint32_t from, uint32_t to)
{
    uint32_t step;

    for (step = from; step <= to; step++) {
        Model model = script->models[step];
        Outcome expected;

        model_kill(&model, &expected);
        if (same_outcome(&expected, outcome)) {
            return step;
        }
    }
    g_assert_not_reached();
}

static void run_traced(Script *script)
{
    Survivors *s = script->world->survivors;
    uint32_t i;

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) {
        _exit(77);
    }
    raise(SIGSTOP);
    for (i = 0; i < script->n_ops; i++) {
        inflight_world_perform(script->world, &script->ops[i]);
        s->progress = i + 1;
    }
    _exit(0);
}

/* Makes the script; then all is as before it. */
static void write_script(Script *script, uint32_t n_ops)
{
    Survivors *at_first = g_new(Survivors, 1);

    /* A start from nothing can be killed, too. */
    vring_inflight_clear(script->world->config.inflight);
    *at_first = *script->world->survivors;
    script->ops[script->n_ops++] = (Op){ .type = RESTART };
    inflight_world_perform(script->world, &script->ops[0]);
    while (script->n_ops < n_ops) {
        Op *op = &script->ops[script->n_ops++];

        *op = choose_op(script);
        run_op(script, op);
        g_assert_cmpuint(script->n_steps, <, MAX_STEPS - INFLIGHT_MAX_NUM);
    }
    *script->world->survivors = *at_first;
    g_free(at_first);
}

/* Where op @i begins. */
static uint32_t step_of(const Script *script, uint32_t i)
{
    return i < script->n_ops ? script->ops[i].step : script->n_steps;
}

/* Two that take turns need one CPU: together they are much quicker there. */
static void stay_on_one_cpu(pid_t child)
{
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET((unsigned int)sched_getcpu(), &cpus);
    sched_setaffinity(child, sizeof(cpus), &cpus);
    sched_setaffinity(0, sizeof(cpus), &cpus);
}

/* Steps through the child; at each store of the device's it is as if it had been killed. */
static uint32_t kill_everywhere(Script *script, pid_t child)
{
    static Survivors last;
    Survivors *s = script->world->survivors;
    uint32_t kills = 0, step = 0;
    int status = 0;

    for (;;) {
        Outcome outcome;

        g_assert_cmpint(waitpid(child, &status, 0), ==, child);
        if (!WIFSTOPPED(status)) {
            break;
        }
        if (!s->driver_at_work && memcmp(&last, s, sizeof(last)) != 0) {
            const uint32_t op = s->progress;

            memcpy(&last, s, sizeof(last));
            kill_and_observe(script, kills % 2, &outcome);
            step = find_step(script, &outcome, MAX(step, step_of(script, op)),
                             step_of(script, op + 1));
            kills++;
        }
        g_assert_cmpint(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), ==, 0);
    }
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) ? 0 : kills;
}

static void test_each_instruction(const void *data)
{
    Script *script = script_new(data, random_seed());
    cpu_set_t cpus;
    uint32_t kills;
    pid_t child;

    write_script(script, 120);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        run_traced(script);
    }
    sched_getaffinity(0, sizeof(cpus), &cpus);
    stay_on_one_cpu(child);
    kills = kill_everywhere(script, child);
    sched_setaffinity(0, sizeof(cpus), &cpus);
    if (kills) {
        g_test_message("%u kills in %u operations", kills, script->n_ops);
        /* A take or a put has two or three stores, and fewer would mean that we do not see them. */
        g_assert_cmpuint(kills, >, script->n_ops);
    } else {
        g_test_skip("ptrace is not allowed here");
    }
    script_free(script);
}
#endif

static void add_tests(const char *name, const VringConfig *config)
{
    static const struct {
        const char *name;
        void (*func)(const void *data);
    } tests[] = {
        { "histories", test_histories },
#if !SANITIZED
        { "each-instruction", test_each_instruction },
#endif
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("/vring-inflight/%s/%s", name, tests[i].name);

        g_test_add_data_func(path, config, tests[i].func);
    }
}

int main(int argc, char **argv)
{
    static const VringConfig split = { .num = 16 };
    static const VringConfig split_in_order = { .num = 16, .in_order = true };
    static const VringConfig packed = { .num = 16, .packed = true };
    static const VringConfig packed_odd = { .num = 7, .packed = true };
    static const VringConfig packed_in_order = { .num = 16, .packed = true, .in_order = true };
    static const VringConfig split_put_in_order = {
        .num = 16, .in_order = true, .put_in_order = true,
    };
    static const VringConfig packed_put_in_order = {
        .num = 16, .packed = true, .in_order = true, .put_in_order = true,
    };
    static const VringConfig packed_odd_put_in_order = {
        .num = 7, .packed = true, .in_order = true, .put_in_order = true,
    };

    g_test_init(&argc, &argv, NULL);
    add_tests("split", &split);
    add_tests("split+in_order", &split_in_order);
    add_tests("packed", &packed);
    add_tests("packed-7", &packed_odd);
    add_tests("packed+in_order", &packed_in_order);
    add_tests("split+put_in_order", &split_put_in_order);
    add_tests("packed+put_in_order", &packed_put_in_order);
    add_tests("packed-7+put_in_order", &packed_odd_put_in_order);
    return g_test_run();
}
