/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue and a record that is not its own, or is damaged; and what becomes of buffers in flight,
 * by example.
 */
#include <glib.h>
#include <string.h>

#include "lib/inflight-world.h"

/* Records that are not of the ring.  Of buffers of one element, as most are: a chain leaves
 * descriptors of which nobody knows who wrote them last. */

/* Takes and puts @n buffers, leaves @n_in_flight in flight, and forgets the device. */
static void run_a_while(InflightWorld *world, unsigned int n, unsigned int n_in_flight)
{
    static const Op publish = { .type = PUBLISH };
    uint32_t cookie;
    uint16_t id;
    Used used;

    while (n--) {
        inflight_world_add_single(world, n % 2);
        g_assert_true(inflight_world_take(&world->device, &cookie, &id));
        inflight_world_perform(world, &(Op){ .type = PUT, .id = id });
        inflight_world_perform(world, &publish);
        g_assert_true(inflight_world_collect(world, &used));
    }
    while (n_in_flight--) {
        inflight_world_add_single(world, n_in_flight % 2);
        g_assert_true(inflight_world_take(&world->device, &cookie, &id));
    }
}

/* A new driver, that adds @n buffers and has the device started at the beginning. */
static void reset_driver(InflightWorld *world, unsigned int n)
{
    inflight_world_reset_driver(world);
    while (n--) {
        inflight_world_add_single(world, n % 2);
    }
}

/*
 * The restarted device must serve this driver: all that it added, and nothing else.  Where the
 * old ring stood at its beginning the new one may look the same, and then what the old one
 * had in flight is completed in the new one.
 */
static void assert_serves(InflightWorld *world)
{
    uint32_t n = vring_driver_in_flight(&world->survivors->driver, world->config.packed);
    uint32_t cookie, i;
    uint16_t id;
    Used used;

    while (inflight_world_take(&world->device, &cookie, &id)) {
        inflight_world_perform(world, &(Op){ .type = PUT, .id = id });
    }
    inflight_world_perform(world, &(Op){ .type = PUBLISH });
    for (i = 0; i < n; i++) {
        g_assert_true(inflight_world_collect(world, &used));
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
                InflightWorld *world = inflight_world_new(config, done);

                run_a_while(world, done, in_flight);
                reset_driver(world, added);
                inflight_world_perform(world, &(Op){ .type = RESTART });
                if (!world->device.recovery.recovered) {
                    g_assert_nonnull(world->device.recovery.discarded);
                }
                assert_serves(world);
                inflight_world_free(world);
            }
        }
    }
}

static void assert_discarded(InflightWorld *world, const char *why)
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
    InflightWorld *world = inflight_world_new(data, 1);
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
    inflight_world_perform(world, &(Op){ .type = RESTART });
    g_assert_true(world->device.recovery.recovered);
    inflight_world_free(world);
}

/* A VMM that finds the used index of a split ring and starts there, as QEMU does. */
static void test_split_starts_at_the_used_index(void)
{
    InflightWorld *world = inflight_world_new(&(VringConfig){ .num = 16 }, 1);

    run_a_while(world, 20, 1);
    world->config.base.avail = world->config.identity.base.avail = 20;
    inflight_world_perform(world, &(Op){ .type = RESTART });
    g_assert_true(world->device.recovery.recovered);
    /* And once more, before and after it said so. */
    world->config.base.avail = world->config.identity.base.avail = 20;
    inflight_world_perform(world, &(Op){ .type = RESTART });
    g_assert_true(world->device.recovery.recovered);
    inflight_world_free(world);
}

/* Uses all that it finds from where it was told last that the queue starts, as QEMU does. */
static void vmm_drops(InflightWorld *world)
{
    VringConfig *config = &world->config;
    VringConfig as_vmm = *config;
    VringDevice vmm;
    uint32_t cookie;
    uint16_t id;

    as_vmm.inflight = NULL;
    as_vmm.base = config->identity.base;
    g_assert_cmpint(vring_device_init(&vmm, &as_vmm), ==, 0);
    while (inflight_world_take(&vmm, &cookie, &id)) {
        vring_device_put(&vmm, true, id, 0);
        vring_device_publish(&vmm, true);
    }
    config->base = config->identity.base = vring_device_base(&vmm);
    vring_device_cleanup(&vmm);
}

/* The driver gets each buffer back once, whatever of it the VMM dropped, and goes on. */
static void assert_all_come_back(InflightWorld *world, unsigned int n)
{
    Survivors *s = world->survivors;
    Used used;

    inflight_world_perform(world, &(Op){ .type = RESTART });
    assert_serves(world);
    g_assert_false(inflight_world_collect(world, &used));
    while (n--) {
        inflight_world_add_single(world, false);
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
                InflightWorld *world = inflight_world_new(&config, 1);

                run_a_while(world, done, 0);
                for (i = 0; i < in_flight + waiting; i++) {
                    uint32_t cookie;
                    uint16_t id;

                    inflight_world_add_single(world, false);
                    if (i < in_flight) {
                        g_assert_true(inflight_world_take(&world->device, &cookie, &id));
                    }
                }
                vmm_drops(world);
                found += world->config.base.avail != 0x8000;
                assert_all_come_back(world, 40);
                inflight_world_free(world);
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
    InflightWorld *world = inflight_world_new(data, 1);
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
    inflight_world_free(world);
}

/* What becomes of buffers in flight, by example. */

/* Takes buffers as in @kinds: 'w' writable, 'r' only read by the device; into ids and cookies. */
static void take_kinds(InflightWorld *world, const char *kinds, uint16_t *ids, uint32_t *cookies)
{
    for (; *kinds; kinds++, ids++, cookies++) {
        inflight_world_add_single(world, *kinds == 'w');
        g_assert_true(inflight_world_take(&world->device, cookies, ids));
    }
}

/* Of buffers of these @kinds, those with the indexes in @used_indexes come back, in that order. */
static void assert_settles(const VringConfig *config, const char *kinds, bool lost, int put,
                           const char *used_indexes)
{
    InflightWorld *world = inflight_world_new(config, 1);
    uint32_t cookies[INFLIGHT_MAX_NUM], cookie, n = (uint32_t)strlen(kinds), i;
    unsigned int offered, n_used = (unsigned int)strlen(used_indexes), completed;
    uint16_t ids[INFLIGHT_MAX_NUM], id;
    Used used;

    take_kinds(world, kinds, ids, cookies);
    if (put >= 0) {
        inflight_world_perform(world, &(Op){ .type = PUT, .id = ids[put], .len = 0 });
    }
    completed = vring_device_settle(&world->device, lost, &offered);
    inflight_world_perform(world, &(Op){ .type = PUBLISH });
    g_assert_cmpuint(completed, ==, n_used - (put >= 0));
    g_assert_cmpuint(offered, ==, n - n_used);
    for (i = 0; i < n_used; i++) {
        g_assert_true(inflight_world_collect(world, &used));
        g_assert_cmpuint(used.cookie, ==, cookies[used_indexes[i] - '0']);
    }
    g_assert_false(inflight_world_collect(world, &used));
    for (i = n_used; i < n; i++) {
        g_assert_true(inflight_world_take(&world->device, &cookie, &id));
        g_assert_cmpuint(cookie, ==, cookies[i]);
    }
    g_assert_false(inflight_world_take(&world->device, &cookie, &id));
    inflight_world_free(world);
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
        { "reset-ring-is-found-out", test_reset_ring_is_found_out },
        { "other-rings", test_other_rings },
        { "damage", test_damage },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("/vring-inflight-records/%s/%s", name,
                                                tests[i].name);

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
    g_test_add_func("/vring-inflight-records/split/starts-at-the-used-index",
                    test_split_starts_at_the_used_index);
    g_test_add_func("/vring-inflight-records/packed/vmm-drops", test_vmm_drops);
    return g_test_run();
}
