/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that can only be shadowed, or only pass through, or not have this guest's memory or
 * rings: what is said, and what they do instead.
 */
#include "lib/mode-rig.h"

#define F(bit)      VIRTIO_F_BIT(bit)
#define RING_GPA(q) (UINT64_C(0x1000000) * ((q) + 1))

static void tells_no_base(FakeDevice *fake)
{
    fake->dev.tells_base = false;
}

static void rings_fixed(FakeDevice *fake)
{
    fake->dev.rings_fixed = true;
}

static void rings_fixed_untold(FakeDevice *fake)
{
    fake->dev.rings_fixed = true;
    fake->dev.tells_base = false;
}

/* Rings 0 and 1 and the buffers are within its reach, rings 2 and 3 are not. */
static void reaches_little(FakeDevice *fake)
{
    fake->dev.iova_first = 0x1000;
    fake->dev.iova_last = RING_GPA(2) - 1;
}

/* Not even if everything is put elsewhere. */
static void reaches_nothing(FakeDevice *fake)
{
    fake->dev.iova_first = 0x1000;
    fake->dev.iova_last = 0x7fffff;
}

static uint32_t takes_32(VhostDevice *dev, unsigned int index)
{
    return 32;
}

static void takes_short_rings(FakeDevice *fake)
{
    fake->ops.ring_max_num = takes_32;
}

static void assert_words(const char *expected)
{
    g_autofree char *words = mode_take_words();

    g_assert_cmpstr(words, ==, expected);
}

static void forget_words(void)
{
    g_free(mode_take_words());
}

/* Said when it is known, which is before any VMM comes. */
static void test_cannot_switch(void)
{
    static void (*const prepare[])(FakeDevice *fake) = { tells_no_base, rings_fixed };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(prepare); i++) {
        const RigConfig config = mode_fake_config(&mode_formats[0], SVQ_MODE_AUTO, prepare[i]);
        Rig rig;

        forget_words();
        rig_init(&rig, &config);
        assert_words("net0: mode=auto: fake cannot be suspended and asked where its rings stand; "
                     "they are shadowed all the time\n");
        vmm_start(&rig.vmm, 1);
        vmm_await_state(rig.dev, 0, SVQ_QUEUE_RUNNING);
        g_assert_false(mode_passes_through(&rig, 0));
        mode_set_log_all(&rig, true);
        mode_set_log_all(&rig, false);
        g_assert_false(mode_passes_through(&rig, 0));
        vmm_post_rx(&rig.vmm, 0, 1);
        mode_serve(&rig, 0, 0);
        rig_cleanup(&rig);
    }
}

static void test_memory_out_of_reach(void)
{
    static const SvqMode modes[] = { SVQ_MODE_PASSTHROUGH, SVQ_MODE_AUTO };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(modes); i++) {
        const bool strict = modes[i] == SVQ_MODE_PASSTHROUGH;
        const RigConfig config = mode_fake_config(&mode_formats[0], modes[i], reaches_little);
        Rig rig;

        rig_init(&rig, &config);
        forget_words();
        vmm_start(&rig.vmm, 1);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==,
                        strict ? SVQ_QUEUE_BROKEN : SVQ_QUEUE_RUNNING);
        g_assert_true(vmm_has_error(&rig.vmm, 0) == strict);
        assert_words(strict ? "net0 queue 0 cannot pass through: the device does not reach all of "
                              "the guest's memory at the guest's addresses\n"
                            : "net0: mode=auto: queue 0 cannot pass through: the device does not "
                              "reach all of the guest's memory at the guest's addresses; all are "
                              "shadowed\n");
        if (!strict) {
            unsigned int region;

            vmm_post_rx(&rig.vmm, 0, 1);
            mode_serve(&rig, 0, 0);
            for (region = 0; region < rig.fake.map->n; region++) {
                const MemoryRegion *r = rig.fake.map->regions[region];

                g_assert_cmphex(r->iova, >=, rig.fake.dev.iova_first);
                g_assert_cmphex(r->iova + (r->size - 1), <=, rig.fake.dev.iova_last);
            }
        }
        rig_cleanup(&rig);
    }
}

static void test_memory_fits_nowhere(void)
{
    const RigConfig config = mode_fake_config(&mode_formats[0], SVQ_MODE_SHADOW, reaches_nothing);
    Rig rig;

    rig_init(&rig, &config);
    vmm_do(&rig.vmm, VHOST_USER_SET_OWNER, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_GET_FEATURES, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_PROTOCOL_FEATURES, 0, F(0) | F(3) | F(15) | F(16));
    vmm_do(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    g_assert_cmphex(vmm_try(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0), ==, 1);
    rig_cleanup(&rig);
}

/* A ring that is too long for the device is shadowed by a shorter one, or refused. */
static void test_ring_too_long(void)
{
    static const SvqMode modes[] = { SVQ_MODE_PASSTHROUGH, SVQ_MODE_AUTO };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(modes); i++) {
        const bool strict = modes[i] == SVQ_MODE_PASSTHROUGH;
        const RigConfig config = mode_fake_config(&mode_formats[0], modes[i], takes_short_rings);
        Rig rig;

        rig_init(&rig, &config);
        forget_words();
        vmm_start(&rig.vmm, 1);
        assert_words(strict ? "net0 queue 0 cannot pass through: the device takes shorter rings "
                              "only\n"
                            : "net0: mode=auto: queue 0 cannot pass through: the device takes "
                              "shorter rings only; all are shadowed\n");
        if (!strict) {
            g_assert_cmpuint(rig.fake.rings[0].ring.num, ==, 32);
            vmm_post_rx(&rig.vmm, 0, 1);
            mode_serve(&rig, 0, 0);
        }
        rig_cleanup(&rig);
    }
}

/* A guest's packed ring may have any size; a device with a limit takes powers of two. */
static void test_ring_of_an_odd_size(void)
{
    static const ModeFormat packed = { "packed", VMM_FEATURES | VMM_PACKED };
    const RigConfig config = mode_fake_config(&packed, SVQ_MODE_AUTO, takes_short_rings);
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.num = 12;
    forget_words();
    vmm_start(&rig.vmm, 1);
    assert_words("net0: mode=auto: queue 0 cannot pass through: the device takes rings only whose "
                 "size is a power of two; all are shadowed\n");
    g_assert_cmpuint(rig.fake.rings[0].ring.num, ==, 16);
    vmm_post_rx(&rig.vmm, 0, 1);
    mode_serve(&rig, 0, 0);
    rig_cleanup(&rig);
}

static void await_calls(Rig *rig, const char *last)
{
    const int64_t end_us = g_get_monotonic_time() + VMM_WAIT_MS * G_TIME_SPAN_MILLISECOND;

    while (!g_str_has_suffix(rig->fake.calls->str, last)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        peer_pump();
        g_thread_yield();
    }
}

/*
 * A device that takes no ring once it runs gets them all before DRIVER_OK, and for one that comes
 * or goes later it is started anew as a whole.  Before its reset it is asked where its rings stand,
 * if it can tell.
 */
static void check_rings_fixed(const ModeFormat *format, SvqMode mode, bool tells_base)
{
    const RigConfig config = mode_fake_config(format, mode,
                                              tells_base ? rings_fixed : rings_fixed_untold);
    const bool passes = mode == SVQ_MODE_PASSTHROUGH;
    g_autofree char *late = g_strconcat(
        tells_base ? "stop:0 stop:1 " : "",
        "reset features memory status:b enable:0:1 start:0 enable:1:1 start:1 enable:2:1 start:2 "
        "enable:3:1 start:3 status:f", NULL);
    /* It has used a buffer of that, and a packed ring does not tell how many. */
    const bool loses = passes && !tells_base && format->features & VMM_PACKED;
    g_autofree char *left = g_strconcat(
        tells_base ? "stop:0 stop:1 stop:2 stop:3 " : "", "reset features memory status:b ",
        loses ? "" : "enable:0:1 start:0 ", "enable:1:1 start:1 enable:2:1 start:2 status:f", NULL);
    Rig rig;

    rig_init(&rig, &config);
    forget_words();
    vmm_start(&rig.vmm, 2);
    await_calls(&rig, "status:f");
    mode_assert_calls(&rig, "features memory status:b enable:0:1 start:0 enable:1:1 start:1 "
                            "status:f");
    vmm_post_rx(&rig.vmm, 0, 8);
    if (!passes) {
        /* Of what the device has of a shadow nothing is lost. */
        mode_take(&rig, 0, 0);
    }
    /* Two late rings, one restart. */
    vmm_start_rings(&rig.vmm, 2, 2);
    await_calls(&rig, "status:f");
    mode_assert_calls(&rig, late);
    mode_serve(&rig, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 3, 0);
    await_calls(&rig, "status:f");
    mode_assert_calls(&rig, left);
    g_assert_cmphex(rig.vmm.rings[3].base, ==, vmm_expected_base(&rig.vmm, 3));
    g_assert_true(mode_passes_through(&rig, 0) == (passes && !loses));
    if (loses) {
        g_assert_true(mode_has_said("net0 queue 0: where it goes on is uncertain"));
        g_assert_true(mode_has_said("net0 queue 0: nobody knows where it stands"));
        vmm_await_error(&rig.vmm, 0);
    } else {
        mode_serve(&rig, 0, 1);
        g_assert_false(mode_has_said("uncertain"));
    }
    rig_cleanup(&rig);
}

/* Rather no third ring than the loss of two. */
static void test_late_ring_that_others_would_pay_for(void)
{
    static const ModeFormat packed = { "packed", VMM_FEATURES | VMM_PACKED };
    const RigConfig config = mode_fake_config(&packed, SVQ_MODE_PASSTHROUGH, rings_fixed_untold);
    Rig rig;

    rig_init(&rig, &config);
    forget_words();
    vmm_start(&rig.vmm, 2);
    await_calls(&rig, "status:f");
    vmm_post_rx(&rig.vmm, 0, 8);
    mode_serve(&rig, 0, 0);
    g_free(fake_device_take_calls(&rig.fake));
    vmm_start_rings(&rig.vmm, 2, 1);
    vmm_await_state(rig.dev, 2, SVQ_QUEUE_BROKEN);
    g_assert_true(mode_has_said("net0 queue 2: cannot be added"));
    mode_assert_calls(&rig, "");
    mode_serve(&rig, 0, 1);
    rig_cleanup(&rig);
}

static void test_rings_fixed(gconstpointer data)
{
    check_rings_fixed(data, SVQ_MODE_SHADOW, false);
    check_rings_fixed(data, SVQ_MODE_SHADOW, true);
    check_rings_fixed(data, SVQ_MODE_PASSTHROUGH, false);
    check_rings_fixed(data, SVQ_MODE_PASSTHROUGH, true);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    g_test_add_func("/svq-mode-devices/cannot-switch", test_cannot_switch);
    g_test_add_func("/svq-mode-devices/memory-out-of-reach", test_memory_out_of_reach);
    g_test_add_func("/svq-mode-devices/memory-fits-nowhere", test_memory_fits_nowhere);
    g_test_add_func("/svq-mode-devices/ring-too-long", test_ring_too_long);
    g_test_add_func("/svq-mode-devices/ring-of-an-odd-size", test_ring_of_an_odd_size);
    g_test_add_func("/svq-mode-devices/late-ring-that-others-would-pay-for",
                    test_late_ring_that_others_would_pay_for);
    mode_test_add("/svq-mode-devices/rings-fixed", test_rings_fixed, 2);
    return rig_test_run();
}
