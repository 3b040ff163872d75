/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A shadowed device behind the message orders of real VMMs: traffic passes and calls
 * arrive, whatever comes first; each ring stops at its exact place and goes on from there.
 */
#include "lib/svq-rig.h"

#define F(bit)          VIRTIO_F_BIT(bit)
#define M(name, ...)    { VHOST_USER_##name, __VA_ARGS__ }
#define LIST(steps)     steps, G_N_ELEMENTS(steps)

/* DPDK's virtio-user: call descriptors before features, rings in the order 0, 2, 1, 3. */
#define VIRTIO_USER_RING(i) \
    M(SET_VRING_NUM, i), M(SET_VRING_BASE, i, 0x8000), M(SET_VRING_ADDR, i), M(SET_VRING_KICK, i)

static const VmmStep virtio_user_start[] = {
    M(SET_OWNER), M(GET_FEATURES), M(GET_PROTOCOL_FEATURES), M(SET_PROTOCOL_FEATURES, 0, 0x10009),
    M(SET_VRING_CALL, 0), M(SET_VRING_CALL, 2), M(SET_VRING_CALL, 1), M(SET_VRING_CALL, 3),
    M(SET_FEATURES), M(SET_STATUS, 0, 0xb), M(GET_STATUS), M(GET_STATUS), M(SET_MEM_TABLE),
    VIRTIO_USER_RING(0), VIRTIO_USER_RING(2), VIRTIO_USER_RING(1), VIRTIO_USER_RING(3),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1), M(SET_STATUS, 0, 0xf),
    M(SET_VRING_ENABLE, 2, 1), M(SET_VRING_ENABLE, 3, 1),
};

static const VmmStep virtio_user_stop[] = {
    M(SET_VRING_ENABLE, 0, 0), M(SET_VRING_ENABLE, 1, 0),
    M(SET_VRING_ENABLE, 2, 0), M(SET_VRING_ENABLE, 3, 0),
    M(GET_VRING_BASE, 0), M(GET_VRING_BASE, 1), M(GET_VRING_BASE, 2), M(GET_VRING_BASE, 3),
};

/* QEMU 7.2: enables before anything else, features twice; two bases after status 0. */
#define QEMU_RING(i) \
    M(SET_VRING_NUM, i), M(SET_VRING_BASE, i, VMM_START), M(SET_VRING_ADDR, i), \
    M(SET_VRING_KICK, i), M(SET_VRING_CALL, i)

static const VmmStep qemu_connect[] = {
    M(GET_FEATURES), M(GET_PROTOCOL_FEATURES), M(SET_PROTOCOL_FEATURES, 0, 0x1a02b),
    M(GET_QUEUE_NUM), M(SET_OWNER), M(GET_FEATURES),
    M(SET_VRING_CALL, 0), M(SET_VRING_ERR, 0), M(SET_VRING_CALL, 1), M(SET_VRING_ERR, 1),
    M(GET_FEATURES), M(GET_PROTOCOL_FEATURES), M(SET_PROTOCOL_FEATURES, 0, 0x1a02b),
    M(GET_FEATURES),
    M(SET_VRING_CALL, 2), M(SET_VRING_ERR, 2), M(SET_VRING_CALL, 3), M(SET_VRING_ERR, 3),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_VRING_ENABLE, 2, 0), M(SET_VRING_ENABLE, 3, 0),
};

static const VmmStep qemu_start[] = {
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_FEATURES), M(GET_STATUS), M(SET_STATUS, 0, 8), M(SET_MEM_TABLE),
    QEMU_RING(0), QEMU_RING(1), M(SET_FEATURES), M(GET_STATUS), QEMU_RING(2), QEMU_RING(3),
    M(GET_STATUS), M(SET_STATUS, 0, 0xf),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_VRING_ENABLE, 2, 1), M(SET_VRING_ENABLE, 3, 1),
};

static const VmmStep qemu_stop[] = {
    M(GET_VRING_BASE, 0), M(GET_VRING_BASE, 1), M(SET_STATUS, 0, 0),
    M(GET_VRING_BASE, 2), M(GET_VRING_BASE, 3),
    M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(SET_VRING_ENABLE, 2, 0), M(SET_VRING_ENABLE, 3, 0),
};

/* User Mode Linux: no status, no number of queues; the second SET_FEATURES lacks bit 30. */
#define UML_RING(i) \
    M(SET_VRING_CALL, i), M(SET_VRING_NUM, i), M(SET_VRING_BASE, i, 0), M(SET_VRING_ADDR, i)

static const VmmStep uml_connect[] = {
    M(SET_OWNER), M(GET_FEATURES), M(GET_PROTOCOL_FEATURES),
    M(SET_PROTOCOL_FEATURES, 0, F(3) | F(5) | F(9)),
};

static const VmmStep uml_start[] = {
    M(SET_FEATURES), M(SET_FEATURES, 0, F(30)), M(SET_MEM_TABLE),
    UML_RING(0), UML_RING(1), UML_RING(2), UML_RING(3),
    M(SET_VRING_KICK, 0), M(SET_VRING_KICK, 1), M(SET_VRING_KICK, 2), M(SET_VRING_KICK, 3),
};

static const VmmStep uml_stop[] = {
    M(SET_VRING_ENABLE, 3, 0), M(SET_VRING_ENABLE, 2, 0),
    M(SET_VRING_ENABLE, 1, 0), M(SET_VRING_ENABLE, 0, 0),
    M(GET_FEATURES),
};

/* Nobody does it like this; but the order of the parts is nowhere said. */
static const VmmStep backwards_start[] = {
    M(SET_OWNER), M(SET_PROTOCOL_FEATURES, 0, F(0) | F(3) | F(16)),
    M(SET_VRING_ENABLE, 3, 1), M(SET_VRING_ENABLE, 2, 1),
    M(SET_VRING_ENABLE, 1, 1), M(SET_VRING_ENABLE, 0, 1),
    M(SET_STATUS, 0, 0xf), M(SET_VRING_KICK, 3), M(SET_VRING_KICK, 2), M(SET_VRING_KICK, 1),
    M(SET_VRING_KICK, 0), M(SET_VRING_CALL, 3), M(SET_VRING_CALL, 2), M(SET_VRING_CALL, 1),
    M(SET_VRING_CALL, 0), M(SET_VRING_ADDR, 3), M(SET_VRING_ADDR, 2), M(SET_VRING_ADDR, 1),
    M(SET_VRING_ADDR, 0), M(SET_VRING_BASE, 3, VMM_START), M(SET_VRING_BASE, 2, VMM_START),
    M(SET_VRING_BASE, 1, VMM_START), M(SET_VRING_BASE, 0, VMM_START), M(SET_VRING_NUM, 3),
    M(SET_VRING_NUM, 2), M(SET_VRING_NUM, 1), M(SET_VRING_NUM, 0),
};

static const VmmStep backwards_with_memory_last[] = { M(SET_FEATURES), M(SET_MEM_TABLE) };
static const VmmStep backwards_with_features_last[] = { M(SET_MEM_TABLE), M(SET_FEATURES) };

static void make_rings(Vmm *v)
{
    unsigned int q;

    for (q = 0; q < VMM_RINGS; q++) {
        vmm_make_ring(v, q);
    }
}

static void echo_pairs(Rig *rig, unsigned int n)
{
    unsigned int warnings = rig_warnings();

    vmm_echo(&rig->vmm, 0, n);
    vmm_echo(&rig->vmm, 1, n);
    g_assert_cmpuint(rig_warnings(), ==, warnings);
}

static void check_bases(const Vmm *v)
{
    unsigned int q;

    for (q = 0; q < VMM_RINGS; q++) {
        g_assert_cmphex(v->rings[q].base, ==, vmm_expected_base(v, q));
    }
}

static void test_virtio_user(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    Rig rig;

    rig_init(&rig, &config);
    make_rings(&rig.vmm);
    vmm_run(&rig.vmm, LIST(virtio_user_start));
    echo_pairs(&rig, 500);
    vmm_run(&rig.vmm, LIST(virtio_user_stop));
    check_bases(&rig.vmm);
    rig_cleanup(&rig);
}

static void test_qemu(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .guest_features = VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
    };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    vmm_run(&rig.vmm, LIST(qemu_connect));
    for (i = 0; i < 3; i++) {
        make_rings(&rig.vmm);
        vmm_run(&rig.vmm, LIST(qemu_start));
        echo_pairs(&rig, 300 + i);
        vmm_run(&rig.vmm, LIST(qemu_stop));
        check_bases(&rig.vmm);
    }
    rig_cleanup(&rig);
}

static void test_uml(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .guest_features = VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX),
        .lenient_base = true,
    };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.ask = rig.vmm.pipes = true;
    vmm_run(&rig.vmm, LIST(uml_connect));
    for (i = 0; i < 3; i++) {
        make_rings(&rig.vmm);
        vmm_run(&rig.vmm, LIST(uml_start));
        echo_pairs(&rig, 200 + i);
        vmm_run(&rig.vmm, LIST(uml_stop));
    }
    rig_cleanup(&rig);
}

/* A driver that comes with other features after a stop without a word. */
static void test_uml_with_other_features(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .lenient_base = true,
    };
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.ask = rig.vmm.pipes = true;
    vmm_run(&rig.vmm, LIST(uml_connect));
    make_rings(&rig.vmm);
    vmm_run(&rig.vmm, LIST(uml_start));
    echo_pairs(&rig, 200);
    vmm_run(&rig.vmm, LIST(uml_stop));

    rig.vmm.features ^= VMM_PACKED | VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX);
    make_rings(&rig.vmm);
    vmm_run(&rig.vmm, LIST(uml_start));
    echo_pairs(&rig, 200);
    vmm_run(&rig.vmm, LIST(uml_stop));

    /* At other sizes, with a base that would do for the ring that was there before. */
    rig.vmm.features ^= VMM_PACKED;
    rig.vmm.num = 128;
    make_rings(&rig.vmm);
    vmm_run(&rig.vmm, LIST(uml_start));
    echo_pairs(&rig, 200);
    rig_cleanup(&rig);
}

static void test_backwards(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    Rig rig;

    rig_init(&rig, &config);
    make_rings(&rig.vmm);
    vmm_run(&rig.vmm, LIST(backwards_start));
    vmm_run(&rig.vmm, LIST(backwards_with_memory_last));
    echo_pairs(&rig, 100);
    vmm_connect(&rig.vmm, rig.path);
    make_rings(&rig.vmm);
    vmm_run(&rig.vmm, LIST(backwards_start));
    vmm_run(&rig.vmm, LIST(backwards_with_features_last));
    echo_pairs(&rig, 100);
    rig_cleanup(&rig);
}

/* Three spellings of a packed ring's base; after any number of buffers. */
static void test_base_is_exact(gconstpointer data)
{
    static const unsigned int buffers[] = { 1, 31, 32, 33, 64, 100, 65, 7 };
    static const uint64_t starts[] = { 0x80008000, 0x8000, 0 };
    RigConfig config = { .format = *(const RigFormat *)data, .num = 64 };
    unsigned int i, spelling;
    Rig rig;

    for (spelling = 0; spelling < G_N_ELEMENTS(starts); spelling++) {
        Vmm *v = &rig.vmm;

        config.lenient_base = starts[spelling] == 0;
        rig_init(&rig, &config);
        vmm_begin(v, F(0) | F(3));
        make_rings(v);
        vmm_continue_ring(v, 0, starts[spelling]);
        vmm_continue_ring(v, 1, starts[spelling]);
        vmm_do(v, VHOST_USER_SET_VRING_ENABLE, 0, 1);
        vmm_do(v, VHOST_USER_SET_VRING_ENABLE, 1, 1);
        for (i = 0; i < G_N_ELEMENTS(buffers); i++) {
            const bool half = v->features & VMM_PACKED && i % 2;

            vmm_echo(v, 0, buffers[i]);
            vmm_do(v, VHOST_USER_GET_VRING_BASE, 0, 0);
            vmm_do(v, VHOST_USER_GET_VRING_BASE, 1, 0);
            g_assert_cmphex(v->rings[0].base, ==, vmm_expected_base(v, 0));
            g_assert_cmphex(v->rings[1].base, ==, vmm_expected_base(v, 1));
            if (starts[spelling] == 0 && v->rings[1].base == 0) {
                break;      /* cannot be told from the start */
            }
            /* The receive buffers in flight are offered again: nobody posts others. */
            vmm_continue_ring(v, 0, half ? v->rings[0].base & 0xffff : VMM_KEEP_BASE);
            vmm_continue_ring(v, 1, VMM_KEEP_BASE);
        }
        rig_cleanup(&rig);
    }
}

/* A firmware that uses one pair of short rings, then a driver with all of it, and back. */
static void test_restart_with_other_rings(gconstpointer data)
{
    static const struct {
        uint64_t features;
        uint32_t num;
        unsigned int rings;
    } drivers[] = {
        { 0, 64, 2 },
        { VMM_PACKED | VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX), 256, 4 },
        { VIRTIO_F_BIT(VIRTIO_F_EVENT_IDX) | VIRTIO_F_BIT(VIRTIO_F_IN_ORDER), 4096, 4 },
        { VMM_PACKED, 128, 2 },
    };
    RigConfig config = { .format = *(const RigFormat *)data };
    unsigned int status, i, q;
    Rig rig;

    for (status = 0; status < 2; status++) {
        Vmm *v = &rig.vmm;

        rig_init(&rig, &config);
        vmm_begin(v, F(0) | F(3) | (status ? F(16) : 0));
        for (i = 0; i < G_N_ELEMENTS(drivers); i++) {
            v->features = VMM_FEATURES | drivers[i].features;
            v->num = drivers[i].num;
            vmm_do(v, VHOST_USER_SET_FEATURES, 0, 0);
            vmm_do(v, VHOST_USER_SET_VRING_ENABLE, 3, 1);
            vmm_start_rings(v, 0, drivers[i].rings);
            if (status) {
                vmm_do(v, VHOST_USER_SET_STATUS, 0, 0xf);
            }
            for (q = 0; q < drivers[i].rings; q += 2) {
                vmm_echo(v, q / 2, 150);
            }
            for (q = 0; q < drivers[i].rings; q++) {
                vmm_do(v, VHOST_USER_GET_VRING_BASE, q, 0);
                g_assert_cmphex(v->rings[q].base, ==, vmm_expected_base(v, q));
            }
            if (status) {
                vmm_do(v, VHOST_USER_SET_STATUS, 0, 0);
            }
        }
        rig_cleanup(&rig);
    }
}

int main(int argc, char **argv)
{
    rig_test_init(&argc, &argv);
    rig_test_add("/svq-device/order-of-virtio-user", test_virtio_user);
    rig_test_add("/svq-device/order-of-qemu-7.2", test_qemu);
    rig_test_add("/svq-device/order-of-user-mode-linux", test_uml);
    rig_test_add("/svq-device/order-of-user-mode-linux-with-other-features",
                 test_uml_with_other_features);
    rig_test_add("/svq-device/order-is-backwards", test_backwards);
    rig_test_add("/svq-device/base-is-exact", test_base_is_exact);
    rig_test_add("/svq-device/restart-with-other-rings", test_restart_with_other_rings);
    return rig_test_run();
}
