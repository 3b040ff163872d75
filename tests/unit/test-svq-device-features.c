/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a shadowed device offers, what it negotiates with its device, what it refuses; and
 * rings of all sizes on either side.
 */
#include "lib/svq-rig.h"

#define F(bit)      VIRTIO_F_BIT(bit)
#define PACKED      VIRTIO_F_BIT(VIRTIO_F_RING_PACKED)
#define EVENT_IDX   VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX)
#define INDIRECT    VIRTIO_F_BIT(VIRTIO_F_INDIRECT_DESC)
#define IN_ORDER    VIRTIO_F_BIT(VIRTIO_F_IN_ORDER)
#define V1          VIRTIO_F_BIT(VIRTIO_F_VERSION_1)
#define CSUM        VIRTIO_F_BIT(VIRTIO_NET_F_CSUM)
#define PLATFORM    VIRTIO_F_BIT(VIRTIO_F_ACCESS_PLATFORM)
#define LOG_ALL     VIRTIO_F_BIT(26)
#define RING_BITS   (PACKED | EVENT_IDX | INDIRECT | IN_ORDER)
#define ON          ON_OFF_AUTO_ON
#define OFF         ON_OFF_AUTO_OFF
#define AUTO        ON_OFF_AUTO_AUTO
#define ALL(x)      { x, x, x, x }

typedef struct Case {
    const char *name;
    uint64_t device;            /* offers */
    SvqRingFeatures shadow, guest;
    uint64_t offered;           /* to the guest */
    uint64_t set;               /* by the guest */
    bool refused;               /* that is, the message */
    bool broken;                /* the queue that starts next */
    uint64_t negotiated;        /* with the device */
} Case;

static const Case cases[] = {
    { "auto-takes-what-there-is", V1 | CSUM | RING_BITS, ALL(AUTO), ALL(AUTO),
      V1 | CSUM | RING_BITS, V1, false, false, V1 | (RING_BITS & ~INDIRECT) },
    { "indirect-in-packed-rings-if-asked-for", V1 | RING_BITS, { AUTO, AUTO, ON, AUTO }, ALL(AUTO),
      V1 | RING_BITS, V1, false, false, V1 | RING_BITS },
    { "auto-does-without", V1 | CSUM, ALL(AUTO), ALL(AUTO),
      V1 | CSUM | RING_BITS, V1 | CSUM | RING_BITS, false, false, V1 | CSUM },
    { "off-is-off", V1 | RING_BITS, ALL(OFF), ALL(OFF), V1, V1, false, false, V1 },
    { "sides-are-independent", V1 | RING_BITS, { ON, OFF, ON, OFF }, { OFF, ON, OFF, ON },
      V1 | EVENT_IDX | IN_ORDER, V1 | EVENT_IDX | IN_ORDER, false, false, V1 | PACKED | INDIRECT },
    { "shadow-on-without-device", V1 | CSUM, { ON, AUTO, AUTO, AUTO }, ALL(AUTO),
      V1 | CSUM | RING_BITS, V1, false, true, 0 },
    { "shadow-on-with-legacy-guest", V1 | RING_BITS, { ON, AUTO, AUTO, AUTO }, ALL(AUTO),
      V1 | RING_BITS, EVENT_IDX, false, true, 0 },
    { "legacy-guest-gets-split-shadow", V1 | RING_BITS, ALL(AUTO), ALL(AUTO),
      V1 | RING_BITS, 0, false, false, EVENT_IDX | INDIRECT },
    { "legacy-device", CSUM | EVENT_IDX, ALL(AUTO), ALL(AUTO),
      CSUM | EVENT_IDX | INDIRECT, CSUM, false, false, CSUM | EVENT_IDX },
    { "guest-on-is-demanded", V1 | RING_BITS, ALL(AUTO), { ON, AUTO, AUTO, AUTO },
      V1 | RING_BITS, V1, true },
    { "guest-on-is-given", V1, ALL(AUTO), ALL(ON),
      V1 | RING_BITS, V1 | RING_BITS, false, false, V1 },
    { "guest-off-is-not-taken", V1 | RING_BITS, ALL(AUTO), { OFF, AUTO, AUTO, AUTO },
      V1 | (RING_BITS & ~PACKED), V1 | PACKED, true },
    { "device-bit-not-offered", V1, ALL(AUTO), ALL(AUTO), V1 | RING_BITS, V1 | CSUM, true },
    { "what-a-shadow-cannot-carry", V1 | PLATFORM | LOG_ALL | F(40), ALL(AUTO), ALL(AUTO),
      V1 | RING_BITS, V1, false, false, V1 },
};

static void test_negotiation(gconstpointer data)
{
    const Case *c = data;
    const uint64_t protocol = VIRTIO_F_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
    SvqDeviceConfig config = {
        .id = "net0",
        .shadow = c->shadow,
        .guest = c->guest,
        .n_iothreads = RIG_IOTHREADS,
    };
    g_autoptr(GError) err = NULL;
    Rig rig;

    rig_init_threads(&rig, 0);
    fake_device_init(&rig.fake, c->device, FAKE_RINGS);
    config.backend = &rig.fake.dev;
    config.iothreads = rig.iothreads;
    rig.dev = svq_device_new(&config, &err);
    g_assert_no_error(err);
    rig_listen(&rig);
    vmm_init(&rig.vmm, c->set, 64);
    vmm_connect(&rig.vmm, rig.path);
    g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_FEATURES), ==,
                    c->offered | protocol | LOG_ALL);
    vmm_do(&rig.vmm, VHOST_USER_SET_PROTOCOL_FEATURES, 0, F(0) | F(3));
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0), ==, c->refused);
    if (!c->refused) {
        vmm_do(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
        vmm_start_rings(&rig.vmm, 0, 1);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==,
                        c->broken ? SVQ_QUEUE_BROKEN : SVQ_QUEUE_RUNNING);
        g_assert_cmphex(rig.fake.features, ==, c->negotiated);
    }
    rig_cleanup(&rig);
}

static void test_features_change_only_when_disabled(void)
{
    const RigConfig config = { .format = rig_formats[0], .fake_features = V1 | CSUM };
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.features = V1;
    vmm_start(&rig.vmm, 1);
    vmm_do(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    rig.vmm.features = V1 | CSUM;
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0), ==, 1);
    g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_RUNNING);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_FEATURES, 0, 0);
    g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_STOPPED);
    vmm_start_rings(&rig.vmm, 0, 1);
    g_assert_cmphex(rig.fake.features, ==, V1 | CSUM);
    rig_cleanup(&rig);
}

static void test_sizes(gconstpointer data)
{
    static const struct {
        uint32_t num, queue_size;
    } sizes[] = {
        { 1, 0 }, { 2, 0 }, { 255, 0 }, { 256, 0 }, { 1024, 0 }, { 32768, 0 },
        { 256, 16 }, { 16, 256 }, { 1, 1024 }, { 1024, 1 }, { 4096, 32768 }, { 32768, 2 },
    };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const RigConfig config = {
            .format = *(const RigFormat *)data,
            .num = sizes[i].num,
            .queue_size = sizes[i].queue_size,
            .guest_features = i % 2 ? EVENT_IDX : 0,
        };
        Rig rig;

        if (!vring_num_valid(config.num, config.format.guest_packed)) {
            continue;
        }
        g_test_message("%u descriptors, queue-size %u", config.num, config.queue_size);
        rig_init(&rig, &config);
        vmm_start(&rig.vmm, 4);
        vmm_echo(&rig.vmm, 0, 600);
        vmm_echo(&rig.vmm, 1, 100);
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
        g_assert_cmphex(rig.vmm.rings[0].base, ==, vmm_expected_base(&rig.vmm, 0));
        rig_cleanup(&rig);
    }
}

static void test_impossible_sizes(void)
{
    static const uint32_t wrong[] = { 3, 255, 32767 };
    const RigConfig config = { .format = rig_formats[0] };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SET_VRING_NUM, 2, 32769), ==, 1);
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SET_VRING_NUM, 2, 0x10000), ==, 1);
    g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SET_VRING_NUM, 0, 32), ==, 1);
    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        vmm_make_ring(&rig.vmm, 2);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_NUM, 2, wrong[i]);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_BASE, 2, VMM_START);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ADDR, 2, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ERR, 2, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_KICK, 2, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 2, 1);
        g_assert_cmpint(rig_stats(&rig, 2).state, ==, SVQ_QUEUE_BROKEN);
        vmm_await_error(&rig.vmm, 2);
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 2, 0);
    }
    vmm_start_rings(&rig.vmm, 2, 2);
    vmm_echo(&rig.vmm, 1, 50);
    vmm_echo(&rig.vmm, 0, 50);
    rig_cleanup(&rig);
}

/* Longer than those that run: they work beside them, and in their place. */
static void test_larger_rings_later(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    Rig rig;

    rig_init(&rig, &config);
    vmm_begin(&rig.vmm, F(0) | F(3));
    vmm_start_rings(&rig.vmm, 0, 2);
    rig.vmm.num = 32768;
    vmm_start_rings(&rig.vmm, 2, 2);
    vmm_echo(&rig.vmm, 0, 100);
    vmm_echo(&rig.vmm, 1, 100);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 2, 0);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 3, 0);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 1, 0);
    vmm_start_rings(&rig.vmm, 0, 4);
    vmm_echo(&rig.vmm, 0, 100);
    vmm_echo(&rig.vmm, 1, 100);
    rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    unsigned int i;

    rig_test_init(&argc, &argv);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = g_strconcat("/svq-device/negotiation/", cases[i].name, NULL);

        g_test_add_data_func(name, &cases[i], test_negotiation);
    }
    g_test_add_func("/svq-device/features-change-only-when-disabled",
                    test_features_change_only_when_disabled);
    rig_test_add("/svq-device/rings-of-all-sizes", test_sizes);
    g_test_add_func("/svq-device/impossible-sizes-break-that-queue", test_impossible_sizes);
    rig_test_add("/svq-device/larger-rings-later", test_larger_rings_later);
    return rig_test_run();
}
