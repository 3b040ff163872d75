/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections that end at any point, and descriptors that change, end or are missing while a
 * shadowed device works.
 */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "lib/svq-rig.h"
#include "util/event-notifier.h"

#define F(bit)          VIRTIO_F_BIT(bit)
#define M(name, ...)    { VHOST_USER_##name, __VA_ARGS__ }

/* What threads that wait may burn while we watch, and for how long we do. */
#define WATCH_MS        200
#define IDLE_MS         100
#define STARVED_ROUNDS  500

static const VmmStep start[] = {
    M(SET_OWNER), M(GET_FEATURES), M(GET_PROTOCOL_FEATURES),
    M(SET_PROTOCOL_FEATURES, 0, F(0) | F(3) | F(15) | F(16)), M(GET_QUEUE_NUM),
    M(SET_VRING_ENABLE, 0, 1), M(SET_FEATURES), M(SET_STATUS, 0, 8), M(SET_MEM_TABLE),
    M(SET_VRING_NUM, 0), M(SET_VRING_BASE, 0, VMM_START), M(SET_VRING_ADDR, 0),
    M(SET_VRING_CALL, 0), M(SET_VRING_ERR, 0), M(SET_VRING_KICK, 0), M(SET_VRING_CALL, 0),
    M(SET_VRING_NUM, 1), M(SET_VRING_BASE, 1, VMM_START), M(SET_VRING_ADDR, 1),
    M(SET_VRING_CALL, 1), M(SET_VRING_ERR, 1), M(SET_VRING_KICK, 1), M(SET_VRING_KICK, 1),
    M(SET_FEATURES), M(SET_STATUS, 0, 0xf), M(SET_VRING_ENABLE, 0, 1), M(SET_VRING_ENABLE, 1, 1),
    M(REM_MEM_REG, 3), M(SET_VRING_ENABLE, 1, 0), M(GET_VRING_BASE, 0), M(SET_STATUS, 0, 0),
    M(GET_VRING_BASE, 1),
};

static int64_t thread_cpu_ms(IOThread *iothread)
{
    /* The kernel's name for the CPU clock of a thread. */
    clockid_t clock = (clockid_t)(~(unsigned int)iothread_get_thread_id(iothread) << 3 | 6);
    struct timespec t;

    g_assert_no_errno(clock_gettime(clock, &t));
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Watches the queues' threads for a while: none may spin. */
static void assert_idle(const Rig *rig)
{
    int64_t before = thread_cpu_ms(rig->iothreads[0]) + thread_cpu_ms(rig->iothreads[1]);

    g_usleep(WATCH_MS * 1000);
    g_assert_cmpint(thread_cpu_ms(rig->iothreads[0]) + thread_cpu_ms(rig->iothreads[1]) - before,
                    <, IDLE_MS);
}

static void run_all(const Rig *rig, Vmm *v)
{
    vmm_start(v, 4);
    vmm_echo(v, 0, 30);
    vmm_echo(v, 1, 30);
    g_assert_cmpint(rig_stats(rig, 3).state, ==, SVQ_QUEUE_RUNNING);
}

static void test_ends_anywhere(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    unsigned int n, fds = 0;
    Rig rig;

    rig_init(&rig, &config);
    for (n = 0; n <= G_N_ELEMENTS(start); n++) {
        Vmm v;

        vmm_init(&v, rig.vmm.features, 64);
        vmm_connect(&rig.vmm, rig.path);
        vmm_make_ring(&rig.vmm, 0);
        vmm_make_ring(&rig.vmm, 1);
        vmm_run(&rig.vmm, start, n);
        vmm_disconnect(&rig.vmm);
        vmm_connect(&v, rig.path);
        run_all(&rig, &v);
        vmm_cleanup(&v);
        rcu_barrier();
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_STOPPED);
        if (n == G_N_ELEMENTS(start) - 1) {
            fds = peer_count_fds();
        }
    }
    /* Ours are all open by then, so what is more is theirs. */
    g_assert_cmpuint(peer_count_fds(), ==, fds);
    rig_cleanup(&rig);
}

static void test_leaves_nothing_open(void)
{
    const RigConfig config = { .format = rig_formats[3] };
    unsigned int before = 0, i;

    for (i = 0; i < 4; i++) {
        Rig rig;

        rig_init(&rig, &config);
        run_all(&rig, &rig.vmm);
        rig_cleanup(&rig);
        if (i == 0) {
            before = peer_count_fds();      /* glib and liburcu keep some of their own */
        }
    }
    g_assert_cmpuint(peer_count_fds(), ==, before);
}

static void test_ends_in_traffic(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    unsigned int i, j;
    Rig rig;

    rig_init(&rig, &config);
    for (i = 0; i < 20; i++) {
        vmm_connect(&rig.vmm, rig.path);
        run_all(&rig, &rig.vmm);
        for (j = 0; j < i; j++) {
            vmm_add(&rig.vmm, 1, vmm_buffer_gpa(1, j), 500, j);
        }
        vmm_disconnect(&rig.vmm);
    }
    rig_cleanup(&rig);
}

static void test_descriptors_change(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .guest_features = F(VIRTIO_F_EVENT_IDX),
    };
    unsigned int i, q;
    Rig rig;

    rig_init(&rig, &config);
    run_all(&rig, &rig.vmm);
    for (i = 0; i < 10; i++) {
        rig.vmm.pipes = i % 2;
        for (q = 0; q < 4; q++) {
            vmm_do(&rig.vmm, VHOST_USER_SET_VRING_KICK, q, 0);
            vmm_do(&rig.vmm, VHOST_USER_SET_VRING_CALL, q, 0);
            vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ERR, q, 0);
        }
        vmm_echo(&rig.vmm, 0, 40);
        vmm_echo(&rig.vmm, 1, 40);
    }
    vmm_spoil(&rig.vmm, 3);
    vmm_await_error(&rig.vmm, 3);
    rig_cleanup(&rig);
}

/* A call that the guest's driver waits for must not be lost with the descriptor. */
static void test_call_follows_new_descriptor(void)
{
    const RigConfig config = { .format = rig_formats[0] };
    unsigned int i;
    Rig rig;

    rig_init(&rig, &config);
    run_all(&rig, &rig.vmm);
    for (i = 0; i < 50; i++) {
        uint32_t cookie, len;

        vring_driver_enable_call(&rig.vmm.rings[1].driver, false);
        vmm_add(&rig.vmm, 1, vmm_buffer_gpa(1, i), 500, i);
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_CALL, 1, 0);
        g_assert_true(vmm_has_call(&rig.vmm, 1));
        vmm_wait_used(&rig.vmm, 1, &cookie, &len);
        g_assert_cmpuint(cookie, ==, i);
        vmm_wait_used(&rig.vmm, 0, &cookie, &len);
        vmm_add(&rig.vmm, 0, vmm_buffer_gpa(0, cookie), VMM_BUFFER, cookie);
    }
    rig_cleanup(&rig);
}

static void test_polls_without_kick(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    int kicks[2];
    Rig rig;

    rig_init(&rig, &config);
    run_all(&rig, &rig.vmm);
    kicks[0] = rig.vmm.rings[0].kick;
    kicks[1] = rig.vmm.rings[1].kick;
    rig.vmm.rings[0].kick = rig.vmm.rings[1].kick = -1;
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_KICK, 0, -1);
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_KICK, 1, -1);
    vmm_echo(&rig.vmm, 0, 200);
    vmm_echo(&rig.vmm, 1, 200);
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_KICK, 0, kicks[0]);
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_KICK, 1, kicks[1]);
    rig.vmm.rings[0].kick = kicks[0];
    rig.vmm.rings[1].kick = kicks[1];
    vmm_echo(&rig.vmm, 0, 200);
    assert_idle(&rig);
    rig_cleanup(&rig);
}

/* The queue that nobody can kick any more is broken; its thread does not spin on that. */
static void test_dead_kick_breaks_that_queue(gconstpointer data)
{
    const RigConfig config = { .format = *(const RigFormat *)data };
    int fds[2];
    Rig rig;

    rig_init(&rig, &config);
    run_all(&rig, &rig.vmm);
    g_assert_no_errno(pipe2(fds, O_CLOEXEC));
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_KICK, 3, fds[0]);
    close(fds[0]);
    close(fds[1]);
    vmm_await_state(rig.dev, 3, SVQ_QUEUE_BROKEN);
    vmm_await_error(&rig.vmm, 3);
    assert_idle(&rig);
    vmm_echo(&rig.vmm, 0, 50);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 3, 0);
    g_assert_cmphex(rig.vmm.rings[3].base, ==, vmm_expected_base(&rig.vmm, 3));
    vmm_continue_ring(&rig.vmm, 3, VMM_KEEP_BASE);
    vmm_echo(&rig.vmm, 1, 50);
    rig_cleanup(&rig);
}

/* One receive buffer is there, the packet needs eight: its device waits, and sleeps. */
static void test_starved_loopback_sleeps(gconstpointer data)
{
    const RigConfig config = {
        .format = *(const RigFormat *)data,
        .guest_features = F(VIRTIO_F_EVENT_IDX),
    };
    uint32_t cookie, len;
    unsigned int i, round;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    for (round = 0; round < STARVED_ROUNDS; round++) {
        vmm_add(&rig.vmm, 0, vmm_buffer_gpa(0, 0), 64, 0);
        vmm_add(&rig.vmm, 1, vmm_buffer_gpa(1, 0), 500, 0);
        if (round == 0) {
            assert_idle(&rig);
        }
        for (i = 1; i < 8; i++) {
            vmm_add(&rig.vmm, 0, vmm_buffer_gpa(0, i), 64, i);
        }
        for (i = 0; i < 8; i++) {
            vmm_wait_used(&rig.vmm, 0, &cookie, &len);
            g_assert_cmpuint(cookie, ==, i);
            g_assert_cmpuint(len, ==, i < 7 ? 64 : 500 - 7 * 64);
        }
        vmm_wait_used(&rig.vmm, 1, &cookie, &len);
        g_assert_cmpuint(vmm_buffer(&rig.vmm, 0, 0)[10], ==, 8);
    }
    rig_cleanup(&rig);
}

/* A packet that waits for receive buffers, in a pair that is disabled meanwhile. */
static void test_starved_loopback_is_disabled(void)
{
    const RigConfig config = { .format = rig_formats[0] };
    uint32_t cookie, len;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    vmm_add(&rig.vmm, 1, vmm_buffer_gpa(1, 0), 500, 3);
    assert_idle(&rig);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    vmm_post_rx(&rig.vmm, 0, 2);
    vmm_wait_used(&rig.vmm, 1, &cookie, &len);
    g_assert_cmpuint(cookie, ==, 3);
    vmm_wait_used(&rig.vmm, 0, &cookie, &len);
    g_assert_cmpuint(len, ==, 500);
    vmm_echo(&rig.vmm, 0, 10);
    rig_cleanup(&rig);
}

/* After a migration QEMU wants the switches told, unless the guest does it itself. */
static void test_rarp_reaches_the_device(void)
{
    const RigConfig config = { .format = rig_formats[0], .fake_features = VMM_FEATURES };
    const uint64_t mac = UINT64_C(0x020000000002);
    unsigned int with;
    Rig rig;

    for (with = 0; with < 2; with++) {
        g_autofree char *before = NULL, *calls = NULL;

        rig_init(&rig, &config);
        rig.fake.dev.has_rarp = with;
        vmm_start(&rig.vmm, 2);
        g_assert_cmphex(vmm_get(&rig.vmm, VHOST_USER_GET_PROTOCOL_FEATURES) & F(2), ==,
                        with ? F(2) : 0);
        before = fake_device_take_calls(&rig.fake);
        g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SEND_RARP, 0, mac), ==, !with);
        calls = fake_device_take_calls(&rig.fake);
        g_assert_cmpstr(calls, ==, with ? "rarp:020000000002" : "");
        if (with) {
            g_assert_cmpuint(vmm_try(&rig.vmm, VHOST_USER_SEND_RARP, 0, mac << 8), ==, 1);
            fake_device_go(&rig.fake);
            vmm_do(&rig.vmm, VHOST_USER_SEND_RARP, 0, mac);
        }
        rig_cleanup(&rig);
    }
}

int main(int argc, char **argv)
{
    rig_test_init(&argc, &argv);
    g_test_add_func("/svq-device/rarp-reaches-the-device", test_rarp_reaches_the_device);
    rig_test_add("/svq-device/connection-ends-anywhere", test_ends_anywhere);
    g_test_add_func("/svq-device/leaves-nothing-open", test_leaves_nothing_open);
    rig_test_add("/svq-device/connection-ends-in-traffic", test_ends_in_traffic);
    rig_test_add("/svq-device/descriptors-change", test_descriptors_change);
    g_test_add_func("/svq-device/call-follows-new-descriptor", test_call_follows_new_descriptor);
    rig_test_add("/svq-device/polls-without-kick", test_polls_without_kick);
    rig_test_add("/svq-device/dead-kick-breaks-that-queue", test_dead_kick_breaks_that_queue);
    rig_test_add("/svq-device/starved-loopback-sleeps", test_starved_loopback_sleeps);
    g_test_add_func("/svq-device/starved-loopback-is-disabled",
                    test_starved_loopback_is_disabled);
    return rig_test_run();
}
