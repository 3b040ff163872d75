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
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/random.h"
#include "lib/sanitizer.h"

#define MAX_NUM 16
#define MAX_STEPS 4096

/* A buffer's cookie says what it is: elements, and how many of them the device only reads. */

static unsigned int cookie_elements(uint32_t cookie)
{
    return 1 + (unsigned int)(random_hash(cookie) % 3);
}

static unsigned int cookie_readable(uint32_t cookie)
{
    return (unsigned int)(random_hash(~(uint64_t)cookie) % (cookie_elements(cookie) + 1));
}

static bool cookie_writable(uint32_t cookie)
{
    return cookie_readable(cookie) < cookie_elements(cookie);
}

/* The model. */

typedef struct Used {
    uint32_t cookie, len;
} Used;

typedef struct Taken {
    uint32_t cookie, len;
    uint32_t order;             /* the how-manieth */
    uint16_t id;
    bool done;                  /* IN_ORDER: put, but kept back */
} Taken;

typedef struct Model {
    uint32_t available[MAX_NUM], n_available;
    Taken taken[MAX_NUM];       /* oldest first */
    uint32_t n_taken, order;
    Used used[MAX_NUM];         /* put, and not collected */
    uint32_t n_used, n_published;
} Model;

/* Who has which buffer, once a device that was killed has been replaced. */
typedef struct Outcome {
    uint32_t available[MAX_NUM], n_available;
    Used used[MAX_NUM];
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

/* The world. */

/* All that a kill of the device leaves. */
typedef struct Survivors {
    _Alignas(64) VringDesc desc[MAX_NUM];
    _Alignas(64) uint8_t driver_area[128];
    _Alignas(64) uint8_t device_area[192];
    _Alignas(64) uint8_t record[sizeof(VringInflight) + MAX_NUM * sizeof(uint64_t)];
    VringDriver driver;
    VringDriverSlot slots[MAX_NUM];
    uint16_t next[MAX_NUM];
    VringSegment mirror[MAX_NUM];
    uint32_t n_added;           /* the next cookie */
    _Atomic uint32_t progress;  /* operations done */
    _Atomic bool driver_at_work;
} Survivors;

typedef enum OpType { TAKE, UNTAKE, PUT, PUBLISH, ADD, COLLECT, RESTART } OpType;

typedef struct Op {
    OpType type;
    uint32_t id, len;           /* PUT, UNTAKE: which buffer */
    uint32_t step;              /* of the model, before it */
} Op;

typedef struct World {
    VringConfig config;
    Survivors *survivors;       /* shared with a child */
    VringDevice device;
    Random random;
    /* The script, and the model before each of its steps. */
    Op ops[MAX_STEPS];
    uint32_t n_ops;
    Model models[MAX_STEPS + 1];
    uint32_t n_steps;           /* the model stands at models[n_steps] */
} World;

static World *world_new(const VringConfig *config, uint64_t seed)
{
    World *world = g_new0(World, 1);
    Survivors *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                        0);
    VringDriver *driver = &s->driver;

    g_assert_true(s != MAP_FAILED);
    g_assert_cmpuint(config->num, <=, MAX_NUM);
    world->survivors = s;
    world->random.state = seed;
    world->config = *config;
    world->config.areas = (VringAreas){ s->desc, s->driver_area, s->device_area };
    world->config.base = vring_base_start(config->packed);
    world->config.inflight = (VringInflight *)s->record;
    world->config.identity = (VringIdentity){ 1, 2, 3, world->config.base };
    g_assert_cmpint(vring_driver_init(driver, &world->config, NULL, 0), ==, 0);
    memcpy(s->slots, driver->slots, config->num * sizeof(s->slots[0]));
    memcpy(s->next, driver->next, config->num * sizeof(s->next[0]));
    memcpy(s->mirror, driver->mirror, config->num * sizeof(s->mirror[0]));
    vring_driver_cleanup(driver);
    driver->slots = s->slots;
    driver->next = s->next;
    driver->mirror = s->mirror;
    g_assert_cmpint(vring_device_init(&world->device, &world->config), ==, 0);
    g_assert_false(world->device.recovery.recovered);
    g_assert_null(world->device.recovery.discarded);
    return world;
}

static void world_free(World *world)
{
    vring_device_cleanup(&world->device);
    munmap(world->survivors, sizeof(*world->survivors));
    g_free(world);
}

static void driver_add(World *world)
{
    VringDriver *driver = &world->survivors->driver;
    const uint32_t cookie = world->survivors->n_added++;
    const unsigned int n = cookie_elements(cookie);
    VringSegment seg[3];
    unsigned int i;

    for (i = 0; i < n; i++) {
        seg[i] = (VringSegment){ (uint64_t)cookie << 8 | i, 100,
                                 i < cookie_readable(cookie) ? 0 : VRING_DESC_F_WRITE };
    }
    vring_driver_add(driver, driver->packed, seg, n, cookie);
    vring_driver_publish(driver, driver->packed);
}

static bool driver_collect(World *world, Used *used)
{
    VringDriver *driver = &world->survivors->driver;
    int ret = vring_driver_collect(driver, driver->packed, &used->cookie, &used->len);

    g_assert_cmpint(ret, >=, 0);
    return ret;
}

static bool device_take(VringDevice *device, uint32_t *cookie, uint16_t *id)
{
    static const MemoryMap no_tables;
    VringSegment seg[MAX_NUM];
    int n = vring_device_take(device, device->packed, &no_tables, seg, MAX_NUM, id);

    if (n == 0) {
        return false;
    }
    *cookie = (uint32_t)(seg[0].addr >> 8);
    g_assert_cmpint(n, ==, cookie_elements(*cookie));
    return true;
}

/* One operation, as the engine does it: with the format as a constant. */
VRING_INLINE void perform_as(World *world, const Op *op, const bool packed)
{
    Survivors *s = world->survivors;
    VringDevice *device = &world->device;
    VringSegment seg[MAX_NUM];
    uint16_t id;
    Used used;

    switch (op->type) {
    case TAKE:
        vring_device_take(device, packed, NULL, seg, MAX_NUM, &id);
        break;
    case UNTAKE:
        vring_device_untake(device, packed, (uint16_t)op->id);
        break;
    case PUT:
        vring_device_put(device, packed, op->id, op->len);
        break;
    case PUBLISH:
        vring_device_publish(device, packed);
        break;
    case RESTART:
        vring_device_cleanup(device);
        vring_device_init(device, &world->config);
        break;
    case ADD:
    case COLLECT:
        /* The driver is not killed: nobody looks before it has finished. */
        s->driver_at_work = true;
        if (op->type == ADD) {
            driver_add(world);
        } else {
            driver_collect(world, &used);
        }
        s->driver_at_work = false;
        break;
    }
}

static void __attribute__((noinline)) perform(World *world, const Op *op)
{
    if (world->config.packed) {
        perform_as(world, op, true);
    } else {
        perform_as(world, op, false);
    }
}

/* The script. */

static bool may_put(const Model *m, uint32_t *i, Random *random)
{
    if (m->n_taken == 0) {
        return false;
    }
    *i = random_below(random, m->n_taken);
    return !m->taken[*i].done;
}

/* Does @op and lets the model follow; each state that a kill may find is a step of the model. */
static void run_op(World *world, Op *op)
{
    Model *m = &world->models[world->n_steps + 1];
    uint32_t i, offered;
    Outcome outcome;

    op->step = world->n_steps;
    *m = world->models[world->n_steps++];
    switch (op->type) {
    case TAKE: {
        uint32_t cookie = 0;
        uint16_t id = 0;

        g_assert_cmpint(device_take(&world->device, &cookie, &id), ==, m->n_available > 0);
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
        if (!world->config.in_order) {
            model_use(m, i, op->len);
            break;
        }
        m->taken[i].done = true;
        m->taken[i].len = op->len;
        while (m->n_taken && m->taken[0].done) {
            model_use(m, 0, m->taken[0].len);
            m[1] = m[0];
            m++;
            world->n_steps++;
        }
        break;
    case PUBLISH:
        m->n_published = m->n_used;
        break;
    case ADD:
        m->available[m->n_available++] = world->survivors->n_added;
        break;
    case COLLECT:
        remove_first(m->used, sizeof(m->used[0]), &m->n_used);
        m->n_published--;
        break;
    case RESTART:
        model_kill(m, &outcome);
        offered = outcome.offered;
        perform(world, op);
        g_assert_true(world->device.recovery.recovered);
        g_assert_cmpuint(world->device.recovery.completed, ==, outcome.completed);
        g_assert_cmpuint(world->device.recovery.offered, ==, offered);
        return;
    }
    perform(world, op);
}

/* The next operation that makes sense. */
static Op choose_op(World *world)
{
    const Model *m = &world->models[world->n_steps];
    const Survivors *s = world->survivors;
    Random *random = &world->random;
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
            if (may_put(m, &i, random)) {
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
static void observe(World *world, Outcome *outcome)
{
    uint16_t ids[MAX_NUM];
    VringDevice device;
    Used used;
    uint32_t i;

    memset(outcome, 0, sizeof(*outcome));
    g_assert_cmpint(vring_device_init(&device, &world->config), ==, 0);
    g_assert_cmpstr(device.recovery.discarded, ==, NULL);
    outcome->completed = device.recovery.completed;
    outcome->offered = device.recovery.offered;
    while (driver_collect(world, &used)) {
        outcome->used[outcome->n_used++] = used;
    }
    while (device_take(&device, &outcome->available[outcome->n_available],
                       &ids[outcome->n_available])) {
        outcome->n_available++;
    }
    /* And the ring works on, until nobody owes anybody anything. */
    for (i = 0; i < outcome->n_available; i++) {
        vring_device_put(&device, device.packed, ids[i], 0);
    }
    vring_device_publish(&device, device.packed);
    for (i = 0; i < outcome->n_available; i++) {
        g_assert_true(driver_collect(world, &used));
        g_assert_cmpuint(used.cookie, ==, outcome->available[i]);
    }
    g_assert_cmpuint(world->survivors->driver.num_free, ==, world->config.num);
    vring_device_cleanup(&device);
}

/* @twice: the device that recovers is killed as well, as soon as it has. */
static void kill_and_observe(World *world, bool twice, Outcome *outcome)
{
    static Survivors saved;
    unsigned int completed = 0, offered = 0;
    VringDevice device;

    memcpy(&saved, world->survivors, sizeof(saved));
    if (twice) {
        g_assert_cmpint(vring_device_init(&device, &world->config), ==, 0);
        completed = device.recovery.completed;
        offered = device.recovery.offered;
        vring_device_cleanup(&device);
    }
    observe(world, outcome);
    outcome->completed += completed;
    outcome->offered += offered;
    memcpy(world->survivors, &saved, sizeof(saved));
}

static bool same_outcome(const Outcome *a, const Outcome *b)
{
    return a->n_available == b->n_available && a->n_used == b->n_used &&
           memcmp(a->available, b->available, sizeof(a->available)) == 0 &&
           memcmp(a->used, b->used, sizeof(a->used)) == 0;
}

static void run_history(const VringConfig *config, uint64_t seed, unsigned int n_ops)
{
    World *world = world_new(config, seed);
    unsigned int n;

    for (n = 0; n < n_ops; n++) {
        const uint32_t published = world->config.inflight->published;
        Op op = choose_op(world);
        Outcome outcome, expected;
        Model model;

        run_op(world, &op);
        if (op.type == PUBLISH && random_one_in(&world->random, 2)) {
            /* Killed before it was said, and another works on. */
            world->config.inflight->published = published;
            run_op(world, &(Op){ .type = RESTART });
        }
        model = world->models[world->n_steps];
        world->models[0] = model;
        world->n_steps = 0;
        kill_and_observe(world, n % 2, &outcome);
        model_kill(&model, &expected);
        g_assert_true(same_outcome(&outcome, &expected));
        g_assert_cmpuint(outcome.completed, ==, expected.completed);
        g_assert_cmpuint(outcome.offered, ==, expected.offered);
    }
    world_free(world);
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
static uint32_t find_step(const World *world, const Outcome *outcome, uint32_t from, uint32_t to)
{
    uint32_t step;

    for (step = from; step <= to; step++) {
        Model model = world->models[step];
        Outcome expected;

        model_kill(&model, &expected);
        if (same_outcome(&expected, outcome)) {
            return step;
        }
    }
    g_assert_not_reached();
}

static void run_traced(World *world)
{
    Survivors *s = world->survivors;
    uint32_t i;

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) {
        _exit(77);
    }
    raise(SIGSTOP);
    for (i = 0; i < world->n_ops; i++) {
        perform(world, &world->ops[i]);
        s->progress = i + 1;
    }
    _exit(0);
}

/* Makes the script; then all is as before it. */
static void write_script(World *world, uint32_t n_ops)
{
    Survivors *at_first = g_new(Survivors, 1);

    /* A start from nothing can be killed, too. */
    vring_inflight_clear(world->config.inflight);
    *at_first = *world->survivors;
    world->ops[world->n_ops++] = (Op){ .type = RESTART };
    perform(world, &world->ops[0]);
    while (world->n_ops < n_ops) {
        Op *op = &world->ops[world->n_ops++];

        *op = choose_op(world);
        run_op(world, op);
        g_assert_cmpuint(world->n_steps, <, MAX_STEPS - MAX_NUM);
    }
    *world->survivors = *at_first;
    g_free(at_first);
}

/* Where op @i begins. */
static uint32_t step_of(const World *world, uint32_t i)
{
    return i < world->n_ops ? world->ops[i].step : world->n_steps;
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
static uint32_t kill_everywhere(World *world, pid_t child)
{
    static Survivors last;
    Survivors *s = world->survivors;
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
            kill_and_observe(world, kills % 2, &outcome);
            step = find_step(world, &outcome, MAX(step, step_of(world, op)),
                             step_of(world, op + 1));
            kills++;
        }
        g_assert_cmpint(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), ==, 0);
    }
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) ? 0 : kills;
}

static void test_each_instruction(const void *data)
{
    World *world = world_new(data, random_seed());
    cpu_set_t cpus;
    uint32_t kills;
    pid_t child;

    write_script(world, 120);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        run_traced(world);
    }
    sched_getaffinity(0, sizeof(cpus), &cpus);
    stay_on_one_cpu(child);
    kills = kill_everywhere(world, child);
    sched_setaffinity(0, sizeof(cpus), &cpus);
    if (kills) {
        g_test_message("%u kills in %u operations", kills, world->n_ops);
        /* A take or a put has two or three stores, and fewer would mean that we do not see them. */
        g_assert_cmpuint(kills, >, world->n_ops);
    } else {
        g_test_skip("ptrace is not allowed here");
    }
    world_free(world);
}
#endif

/* Records that are not of the ring.  Of buffers of one element, as most are: a chain leaves
 * descriptors of which nobody knows who wrote them last. */

/* The first cookie from @cookie on that is (not) writable, with one element. */
static uint32_t find_cookie(uint32_t cookie, bool writable)
{
    while (cookie_elements(cookie) != 1 || cookie_writable(cookie) != writable) {
        cookie++;
    }
    return cookie;
}

/* Adds a buffer of one element that is (not) writable. */
static void driver_add_single(World *world, bool writable)
{
    Survivors *s = world->survivors;

    s->n_added = find_cookie(s->n_added, writable);
    driver_add(world);
}

/* Takes and puts @n buffers, leaves @n_in_flight in flight, and forgets the device. */
static void run_a_while(World *world, unsigned int n, unsigned int n_in_flight)
{
    static const Op publish = { .type = PUBLISH };
    uint32_t cookie;
    uint16_t id;
    Used used;

    while (n--) {
        driver_add_single(world, n % 2);
        g_assert_true(device_take(&world->device, &cookie, &id));
        perform(world, &(Op){ .type = PUT, .id = id });
        perform(world, &publish);
        g_assert_true(driver_collect(world, &used));
    }
    while (n_in_flight--) {
        driver_add_single(world, n_in_flight % 2);
        g_assert_true(device_take(&world->device, &cookie, &id));
    }
}

/* A new driver, that adds @n buffers and has the device started at the beginning. */
static void reset_driver(World *world, unsigned int n)
{
    Survivors *s = world->survivors;
    VringDriver *driver = &s->driver;

    g_assert_cmpint(vring_driver_init(driver, &world->config, NULL, 0), ==, 0);
    memcpy(s->slots, driver->slots, world->config.num * sizeof(s->slots[0]));
    memcpy(s->next, driver->next, world->config.num * sizeof(s->next[0]));
    memset(s->mirror, 0, sizeof(s->mirror));
    vring_driver_cleanup(driver);
    driver->slots = s->slots;
    driver->next = s->next;
    driver->mirror = s->mirror;
    while (n--) {
        driver_add_single(world, n % 2);
    }
}

/*
 * The restarted device must serve this driver: all that it added, and nothing else.  Where the
 * old ring stood at its beginning the new one may look the same, and then what the old one
 * had in flight is completed in the new one.
 */
static void assert_serves(World *world)
{
    uint32_t n = vring_driver_in_flight(&world->survivors->driver, world->config.packed);
    uint32_t cookie, i;
    uint16_t id;
    Used used;

    while (device_take(&world->device, &cookie, &id)) {
        perform(world, &(Op){ .type = PUT, .id = id });
    }
    perform(world, &(Op){ .type = PUBLISH });
    for (i = 0; i < n; i++) {
        g_assert_true(driver_collect(world, &used));
    }
    g_assert_cmpuint(world->survivors->driver.num_free, ==, world->config.num);
}

static void test_reset_ring_is_found_out(const void *data)
{
    const VringConfig *config = data;
    unsigned int done, in_flight, added;

    for (done = 1; done < 5 * config->num; done++) {
        for (in_flight = 0; in_flight < 3; in_flight++) {
            for (added = 0; added <= config->num; added++) {
                World *world = world_new(config, done);

                run_a_while(world, done, in_flight);
                reset_driver(world, added);
                perform(world, &(Op){ .type = RESTART });
                if (!world->device.recovery.recovered) {
                    g_assert_nonnull(world->device.recovery.discarded);
                }
                assert_serves(world);
                world_free(world);
            }
        }
    }
}

static void assert_discarded(World *world, const char *why)
{
    Survivors *s = world->survivors;
    Survivors saved = *s;
    VringDevice device;

    vring_device_init(&device, &world->config);
    g_assert_false(device.recovery.recovered);
    g_assert_cmpstr(device.recovery.discarded, ==, why);
    vring_device_cleanup(&device);
    *s = saved;
}

static void test_other_rings(const void *data)
{
    World *world = world_new(data, 1);
    VringConfig *config = &world->config;
    const VringConfig same = *config;

    run_a_while(world, 20, 1);
    config->identity.desc++;
    assert_discarded(world, "it is of another ring");
    *config = same;
    config->identity.driver++;
    assert_discarded(world, "it is of another ring");
    *config = same;
    config->identity.device++;
    assert_discarded(world, "it is of another ring");
    *config = same;
    config->num /= 2;
    assert_discarded(world, "it is of another ring");
    *config = same;
    config->packed = !config->packed;
    if (vring_num_valid(config->num, config->packed)) {
        assert_discarded(world, "it is of another ring");
    }
    *config = same;
    config->base.avail = config->identity.base.avail = 0x7fff;
    assert_discarded(world, "the queue starts somewhere else");
    *config = same;
    perform(world, &(Op){ .type = RESTART });
    g_assert_true(world->device.recovery.recovered);
    world_free(world);
}

/* A VMM that finds the used index of a split ring and starts there, as QEMU does. */
static void test_split_starts_at_the_used_index(void)
{
    World *world = world_new(&(VringConfig){ .num = 16 }, 1);

    run_a_while(world, 20, 1);
    world->config.base.avail = world->config.identity.base.avail = 20;
    perform(world, &(Op){ .type = RESTART });
    g_assert_true(world->device.recovery.recovered);
    /* And once more, before and after it said so. */
    world->config.base.avail = world->config.identity.base.avail = 20;
    perform(world, &(Op){ .type = RESTART });
    g_assert_true(world->device.recovery.recovered);
    world_free(world);
}

/* Uses all that it finds from where it was told last that the queue starts, as QEMU does. */
static void vmm_drops(World *world)
{
    VringConfig *config = &world->config;
    VringConfig as_vmm = *config;
    VringDevice vmm;
    uint32_t cookie;
    uint16_t id;

    as_vmm.inflight = NULL;
    as_vmm.base = config->identity.base;
    g_assert_cmpint(vring_device_init(&vmm, &as_vmm), ==, 0);
    while (device_take(&vmm, &cookie, &id)) {
        vring_device_put(&vmm, true, id, 0);
        vring_device_publish(&vmm, true);
    }
    config->base = config->identity.base = vring_device_base(&vmm);
    vring_device_cleanup(&vmm);
}

/* The driver gets each buffer back once, whatever of it the VMM dropped, and goes on. */
static void assert_all_come_back(World *world, unsigned int n)
{
    Survivors *s = world->survivors;
    Used used;

    perform(world, &(Op){ .type = RESTART });
    assert_serves(world);
    g_assert_false(driver_collect(world, &used));
    while (n--) {
        driver_add_single(world, false);
        assert_serves(world);
    }
    g_assert_cmpuint(s->driver.num_free, ==, world->config.num);
}

static void test_vmm_drops(void)
{
    const VringConfig config = { .num = 16, .packed = true };
    unsigned int done, in_flight, waiting, found = 0, i;

    for (done = 0; done < 64; done++) {
        for (in_flight = 0; in_flight <= 8; in_flight++) {
            for (waiting = 0; waiting <= 8; waiting++) {
                World *world = world_new(&config, 1);

                run_a_while(world, done, 0);
                for (i = 0; i < in_flight + waiting; i++) {
                    uint32_t cookie;
                    uint16_t id;

                    driver_add_single(world, false);
                    if (i < in_flight) {
                        g_assert_true(device_take(&world->device, &cookie, &id));
                    }
                }
                vmm_drops(world);
                found += world->config.base.avail != 0x8000;
                assert_all_come_back(world, 40);
                world_free(world);
            }
        }
    }
    g_assert_cmpuint(found, >, 100);
}

/* Neither a damaged record nor a damaged ring may harm us, whatever comes of the queue. */
static void test_damage(const void *data)
{
    const uint64_t n = random_steps(200000);
    Random random = { random_seed() };
    World *world = world_new(data, 1);
    Survivors *s = world->survivors, *whole = g_new(Survivors, 1);
    uint64_t i, recovered = 0, discarded = 0;

    run_a_while(world, 20, 3);
    *whole = *s;
    for (i = 0; i < n; i++) {
        const bool in_ring = random_one_in(&random, 3);
        uint8_t *bytes = in_ring ? (uint8_t *)s : s->record;
        size_t size = in_ring ? offsetof(Survivors, record) : sizeof(s->record);
        uint32_t flips = random_between(&random, 1, 8);
        VringDevice device;

        *s = *whole;
        while (flips--) {
            bytes[random_below(&random, (uint32_t)size)] ^=
                (uint8_t)(1u << random_below(&random, 8));
        }
        if (vring_device_init(&device, &world->config) == 0) {
            vring_device_settle(&device, false, NULL);
            vring_device_cleanup(&device);
        }
        recovered += device.recovery.recovered;
        discarded += device.recovery.discarded != NULL;
    }
    /* Some flips do no harm, many are noticed. */
    g_assert_cmpuint(recovered, >, n / 100);
    g_assert_cmpuint(discarded, >, n / 100);
    *s = *whole;
    g_free(whole);
    world_free(world);
}

/* What becomes of buffers in flight, by example. */

/* Takes buffers as in @kinds: 'w' writable, 'r' only read by the device; into ids and cookies. */
static void take_kinds(World *world, const char *kinds, uint16_t *ids, uint32_t *cookies)
{
    for (; *kinds; kinds++, ids++, cookies++) {
        driver_add_single(world, *kinds == 'w');
        g_assert_true(device_take(&world->device, cookies, ids));
    }
}

/* Of buffers of these @kinds, those with the indexes in @used_indexes come back, in that order. */
static void assert_settles(const VringConfig *config, const char *kinds, bool lost, int put,
                           const char *used_indexes)
{
    World *world = world_new(config, 1);
    uint32_t cookies[MAX_NUM], cookie, n = (uint32_t)strlen(kinds), i;
    unsigned int offered, n_used = (unsigned int)strlen(used_indexes), completed;
    uint16_t ids[MAX_NUM], id;
    Used used;

    take_kinds(world, kinds, ids, cookies);
    if (put >= 0) {
        perform(world, &(Op){ .type = PUT, .id = ids[put], .len = 0 });
    }
    completed = vring_device_settle(&world->device, lost, &offered);
    perform(world, &(Op){ .type = PUBLISH });
    g_assert_cmpuint(completed, ==, n_used - (put >= 0));
    g_assert_cmpuint(offered, ==, n - n_used);
    for (i = 0; i < n_used; i++) {
        g_assert_true(driver_collect(world, &used));
        g_assert_cmpuint(used.cookie, ==, cookies[used_indexes[i] - '0']);
    }
    g_assert_false(driver_collect(world, &used));
    for (i = n_used; i < n; i++) {
        g_assert_true(device_take(&world->device, &cookie, &id));
        g_assert_cmpuint(cookie, ==, cookies[i]);
    }
    g_assert_false(device_take(&world->device, &cookie, &id));
    world_free(world);
}

static void test_settling(const void *data)
{
    const VringConfig *config = data;

    /* A device that was stopped: all that it did not process is offered again. */
    assert_settles(config, "wwww", false, -1, "");
    assert_settles(config, "rrrr", false, -1, "");
    assert_settles(config, "wrwr", false, -1, "");
    assert_settles(config, "wrwr", false, 0, "0");
    /* One that is lost: not what it may have sent, nor what is older. */
    assert_settles(config, "wwww", true, -1, "");
    assert_settles(config, "rrrr", true, -1, "0123");
    assert_settles(config, "wwrw", true, -1, "012");
    assert_settles(config, "rwww", true, -1, "0");
    assert_settles(config, "wwwr", true, -1, "0123");
    /* Overtaken. */
    if (config->in_order) {
        assert_settles(config, "wwww", true, 1, "01");
        assert_settles(config, "rrrr", false, 2, "012");
    } else {
        assert_settles(config, "wwww", true, 1, "10");
        assert_settles(config, "rrrr", false, 2, "201");
        assert_settles(config, "wwww", true, 3, "3012");
    }
}

static void add_tests(const char *name, const VringConfig *config)
{
    static const struct {
        const char *name;
        void (*func)(const void *data);
    } tests[] = {
        { "settling", test_settling },
        { "histories", test_histories },
#if !SANITIZED
        { "each-instruction", test_each_instruction },
#endif
        { "reset-ring-is-found-out", test_reset_ring_is_found_out },
        { "other-rings", test_other_rings },
        { "damage", test_damage },
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

    g_test_init(&argc, &argv, NULL);
    add_tests("split", &split);
    add_tests("split+in_order", &split_in_order);
    add_tests("packed", &packed);
    add_tests("packed-7", &packed_odd);
    add_tests("packed+in_order", &packed_in_order);
    g_test_add_func("/vring-inflight/split/starts-at-the-used-index",
                    test_split_starts_at_the_used_index);
    g_test_add_func("/vring-inflight/packed/vmm-drops", test_vmm_drops);
    return g_test_run();
}
