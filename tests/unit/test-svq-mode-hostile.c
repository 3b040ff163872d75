/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a VMM, or the guest behind it, may say when rings pass through, or could: memory that the
 * device does not reach or that lies where ours does, tables that are wrong, rings that are none,
 * descriptors that are taken away.  What cannot be is refused or shadowed, and all else goes on.
 */
#include <unistd.h>

#include "lib/mode-rig.h"
#include "util/event-notifier.h"

#define OUT_OF_REACH    (UINT64_C(1) << 47)
#define SPARE           3u                      /* a region in which no ring is that is used */

#define NOT_REACHED     "the device does not reach all of the guest's memory at the guest's " \
                        "addresses"

static void can_suspend(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
}

static uint32_t takes_32(VhostDevice *dev, unsigned int index)
{
    return 32;
}

static void takes_short_rings(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
    fake->ops.ring_max_num = takes_32;
}

static void forget_words(void)
{
    g_free(mode_take_words());
}

static void move_region(Rig *rig, unsigned int index, uint64_t gpa)
{
    vmm_do(&rig->vmm, VHOST_USER_REM_MEM_REG, index, 0);
    rig->vmm.regions[index].gpa = gpa;
    vmm_do(&rig->vmm, VHOST_USER_ADD_MEM_REG, index, 0);
}

/* Whether the device finds what it was told of ring @q. */
static bool finds_ring(const Rig *rig, unsigned int q)
{
    const VhostRing *ring = &rig->fake.rings[q].ring;

    return memory_map_host_of_iova(rig->fake.map, ring->desc_iova, 16) == (void *)ring->areas.desc;
}

/*
 * All are shadows from then on, each once: a kick of after the guest's reset finds nobody, and
 * when that VMM has gone the next one's rings pass through.
 */
static void test_memory_out_of_reach(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    EventNotifier kicks[2];
    ModeTraffic traffic;
    uint64_t gpa;
    unsigned int q;
    Rig rig;

    rig_init(&rig, &config);
    gpa = rig.vmm.regions[SPARE].gpa;
    vmm_start(&rig.vmm, 2);
    forget_words();
    mode_traffic_start(&traffic, &rig.vmm, 0);
    move_region(&rig, SPARE, OUT_OF_REACH);
    g_assert_false(mode_passes_through(&rig, 0) || mode_passes_through(&rig, 1));
    g_assert_true(mode_has_said("net0: mode=auto: queue 0 cannot pass through: " NOT_REACHED
                                "; all are shadowed\n"));
    mode_traffic_await(&traffic);
    mode_traffic_end(&traffic);
    for (q = 0; q < 2; q++) {
        kicks[q].fd = dup(rig.vmm.rings[q].kick);
    }
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    for (q = 0; q < 2; q++) {
        g_assert_cmpint(rig_stats(&rig, q).state, ==, SVQ_QUEUE_STOPPED);
        event_notifier_set(&kicks[q]);
    }
    vmm_start_rings(&rig.vmm, 0, 2);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    g_assert_false(mode_passes_through(&rig, 0));
    vmm_echo(&rig.vmm, 0, 100);
    for (q = 0; q < 2; q++) {
        g_assert_cmpint(event_notifier_test_and_clear(&kicks[q]), ==, 1);
        event_notifier_cleanup(&kicks[q]);
    }
    vmm_disconnect(&rig.vmm);
    rig.vmm.regions[SPARE].gpa = gpa;
    vmm_connect(&rig.vmm, rig.path);
    vmm_start(&rig.vmm, 2);
    g_assert_true(mode_passes_through(&rig, 0));
    vmm_echo(&rig.vmm, 0, 20);
    rig_cleanup(&rig);
}

/* With no way out of it: the rings stop, and the VMM is told. */
static void test_memory_out_of_reach_passthrough_only(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_PASSTHROUGH);
    const uint64_t gpa = 4 * UINT64_C(0x1000000);
    unsigned int q;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    vmm_echo(&rig.vmm, 0, 20);
    forget_words();
    move_region(&rig, SPARE, OUT_OF_REACH);
    for (q = 0; q < 2; q++) {
        g_assert_cmpint(rig_stats(&rig, q).state, ==, SVQ_QUEUE_BROKEN);
        g_assert_true(vmm_has_error(&rig.vmm, q));
    }
    g_assert_true(mode_has_said("net0 queue 1 cannot pass through: " NOT_REACHED "\n"));
    /* They go on where they stood when that memory is gone. */
    move_region(&rig, SPARE, gpa);
    vmm_echo(&rig.vmm, 0, 20);
    g_assert_true(mode_passes_through(&rig, 0) && mode_passes_through(&rig, 1));
    rig_cleanup(&rig);
}

/* The same while the rings are shadows anyway: they stay that when LOG_ALL goes. */
static void test_memory_out_of_reach_while_logging(gconstpointer data)
{
    const RigConfig config = mode_config(data, SVQ_MODE_AUTO);
    ModeTraffic traffic;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    mode_set_log_all(&rig, true);
    mode_traffic_start(&traffic, &rig.vmm, 0);
    forget_words();
    move_region(&rig, SPARE, OUT_OF_REACH);
    mode_set_log_all(&rig, false);
    g_assert_false(mode_passes_through(&rig, 0) || mode_passes_through(&rig, 1));
    g_assert_true(mode_has_said("cannot pass through: " NOT_REACHED "; all are shadowed\n"));
    mode_traffic_await(&traffic);
    mode_traffic_end(&traffic);
    rig_cleanup(&rig);
}

static void test_kick_taken_away_while_logging(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, can_suspend);
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    mode_set_log_all(&rig, true);
    mode_forget_calls(&rig);
    vmm_set_fd(&rig.vmm, VHOST_USER_SET_VRING_KICK, 0, -1);
    g_assert_true(mode_has_said("net0: mode=auto: queue 0 cannot pass through: the VMM gives no "
                                "kick descriptor that the device could wait for; all are "
                                "shadowed\n"));
    forget_words();
    mode_set_log_all(&rig, false);
    g_assert_false(mode_passes_through(&rig, 0) || mode_passes_through(&rig, 1));
    mode_assert_calls(&rig, "");
    g_assert_false(mode_has_said("cannot pass through"));
    mode_post(&rig, 0, 0);
    mode_serve(&rig, 0, 0);
    mode_post(&rig, 1, 0);
    mode_serve(&rig, 1, 0);
    rig_cleanup(&rig);
}

/* In mode=passthrough there is no ring without one: the one before stays. */
static void test_kick_taken_away_passthrough_only(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
    const VhostUserMessage no_kick = peer_u64(VHOST_USER_SET_VRING_KICK, VHOST_USER_VRING_NO_FD);
    int kick_fd;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    kick_fd = rig.fake.rings[0].ring.kick_fd;
    mode_forget_calls(&rig);
    g_assert_cmphex(peer_ack(rig.vmm.fd, &no_kick), ==, 1);
    mode_assert_calls(&rig, "");
    g_assert_cmpint(rig.fake.rings[0].ring.kick_fd, ==, kick_fd);
    mode_post(&rig, 0, 0);
    g_assert_cmpint(event_notifier_test_and_clear(&(EventNotifier){ kick_fd }), ==, 1);
    mode_serve(&rig, 0, 0);
    rig_cleanup(&rig);
}

/* It starts as a shorter shadow, and is not passed through when LOG_ALL goes. */
static void test_ring_too_long_while_logging(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, takes_short_rings);
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.features |= VIRTIO_F_BIT(VHOST_F_LOG_ALL);
    vmm_start(&rig.vmm, 1);
    g_assert_cmpuint(rig.fake.rings[0].ring.num, ==, 32);
    mode_forget_calls(&rig);
    mode_set_log_all(&rig, false);
    mode_assert_calls(&rig, "");
    g_assert_true(mode_has_said("queue 0 cannot pass through: the device takes shorter rings only; "
                                "all are shadowed\n"));
    g_assert_false(mode_passes_through(&rig, 0));
    mode_post(&rig, 0, 0);
    mode_serve(&rig, 0, 0);
    rig_cleanup(&rig);
}

/*
 * Two regions at one guest address, the new one first.  Nothing of that table comes to pass: the
 * ring, which lies in the other, goes on, and is still found where it was when it starts again.
 */
static void test_table_refused(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
    VmmRegion of_ring, other;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    of_ring = rig.vmm.regions[0];
    other = rig.vmm.regions[SPARE];
    rig.vmm.regions[0] = other;
    rig.vmm.regions[0].gpa = of_ring.gpa;
    rig.vmm.regions[SPARE] = of_ring;
    mode_forget_calls(&rig);
    g_assert_cmphex(vmm_try(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0), ==, 1);
    rig.vmm.regions[0] = of_ring;
    rig.vmm.regions[SPARE] = other;
    mode_assert_calls(&rig, "");
    mode_post(&rig, 0, 0);
    mode_serve(&rig, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0);
    vmm_continue_ring(&rig.vmm, 0, VMM_KEEP_BASE);
    vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
    g_assert_true(finds_ring(&rig, 0));
    g_assert_cmphex(rig.fake.rings[0].ring.desc_iova, ==, of_ring.gpa);
    mode_post(&rig, 0, 1);
    mode_serve(&rig, 0, 1);
    rig_cleanup(&rig);
}

/* A table with the first ring's region changed by the caller; the answer. */
static uint64_t try_table(Rig *rig, uint64_t gpa, uint64_t fd_offset)
{
    const VmmStep step = { VHOST_USER_SET_MEM_TABLE, 0, 0 };
    VhostUserMessage m = vmm_message(&rig->vmm, &step);
    uint64_t answer;

    m.payload.mem_table.regions[0].gpa = gpa;
    m.payload.mem_table.regions[0].fd_offset = fd_offset;
    answer = peer_ack(rig->vmm.fd, &m);
    vhost_user_message_clear(&m);
    return answer;
}

/* The VMM has the ring where it was, and the guest has it elsewhere: so has the device. */
static void test_guest_address_changes(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
    const uint64_t gpa = UINT64_C(0x41000000);
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 2);
    mode_post(&rig, 0, 0);
    mode_serve(&rig, 0, 0);
    mode_forget_calls(&rig);
    g_assert_cmphex(try_table(&rig, gpa, 0), ==, 0);
    mode_assert_calls(&rig, "stop:0 memory enable:0:1 start:0");
    g_assert_cmphex(rig.fake.rings[0].ring.desc_iova, ==, gpa);
    g_assert_true(finds_ring(&rig, 0));
    mode_post(&rig, 0, 1);
    mode_serve(&rig, 0, 1);
    rig_cleanup(&rig);
}

/* The device is not given a ring that is none; what is set right goes. */
static void test_ring_is_none(gconstpointer data)
{
    static const VmmStep wrong[] = {
        { VHOST_USER_SET_VRING_NUM, 0, 63 },
        { VHOST_USER_SET_VRING_ADDR, 0, 1 },
        { VHOST_USER_SET_VRING_ADDR, 0, 8 },
    };
    const ModeFormat *format = data;
    unsigned int i;

    /* A packed ring may have any length. */
    for (i = format->features & VMM_PACKED ? 2 : 0; i < 2 * G_N_ELEMENTS(wrong); i++) {
        const SvqMode mode = i % 2 ? SVQ_MODE_PASSTHROUGH : SVQ_MODE_AUTO;
        const RigConfig config = mode_fake_config(format, mode, NULL);
        const VmmStep *step = &wrong[i / 2];
        Rig rig;

        rig_init(&rig, &config);
        vmm_begin(&rig.vmm, vmm_get(&rig.vmm, VHOST_USER_GET_PROTOCOL_FEATURES));
        vmm_make_ring(&rig.vmm, 0);
        vmm_continue_ring(&rig.vmm, 0, VMM_START);
        vmm_do(&rig.vmm, step->request, step->index, step->value);
        forget_words();
        vmm_do(&rig.vmm, VHOST_USER_SET_VRING_ENABLE, 0, 1);
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_BROKEN);
        g_assert_true(vmm_has_error(&rig.vmm, 0));
        g_assert_true(mode_has_said("net0 queue 0: ring of the guest: "));
        mode_assert_calls(&rig, "features memory status:b");
        vmm_do(&rig.vmm, step->request, step->index, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_STATUS, 0, 0xf);
        mode_assert_calls(&rig, "enable:0:1 start:0 status:f");
        g_assert_true(mode_passes_through(&rig, 0));
        mode_post(&rig, 0, 0);
        mode_serve(&rig, 0, 0);
        rig_cleanup(&rig);
    }
}

/* A file offset by which a ring that passes through is none any more. */
static void test_ring_becomes_misaligned(gconstpointer data)
{
    static const uint64_t offsets[] = { 8, 1 };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(offsets); i++) {
        const RigConfig config = mode_fake_config(data, SVQ_MODE_PASSTHROUGH, NULL);
        uint64_t gpa;
        Rig rig;

        rig_init(&rig, &config);
        vmm_start(&rig.vmm, 2);
        gpa = rig.vmm.regions[0].gpa;
        mode_post(&rig, 0, 0);
        mode_serve(&rig, 0, 0);
        mode_forget_calls(&rig);
        forget_words();
        g_assert_cmphex(try_table(&rig, gpa + offsets[i], offsets[i]), ==, 0);
        mode_assert_calls(&rig, "stop:0 memory");
        g_assert_cmpint(rig_stats(&rig, 0).state, ==, SVQ_QUEUE_BROKEN);
        g_assert_true(vmm_has_error(&rig.vmm, 0));
        g_assert_true(mode_has_said("net0 queue 0: its ring is not within the guest's memory any "
                                    "more, or misaligned\n"));
        mode_post(&rig, 1, 0);
        mode_serve(&rig, 1, 0);
        /* What it had is not there to be read: the guest begins anew. */
        vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
        vmm_do(&rig.vmm, VHOST_USER_SET_MEM_TABLE, 0, 0);
        vmm_make_ring(&rig.vmm, 0);
        vmm_continue_ring(&rig.vmm, 0, VMM_START);
        g_assert_true(finds_ring(&rig, 0));
        mode_post(&rig, 0, 1);
        mode_serve(&rig, 0, 1);
        rig_cleanup(&rig);
    }
}

static uint64_t arena_iova(const Rig *rig)
{
    const MemoryMap *map = rig->fake.map;
    unsigned int i;

    for (i = 0; i < map->n; i++) {
        if (map->regions[i]->rings) {
            return map->regions[i]->iova;
        }
    }
    g_assert_not_reached();
}

/* Memory of the guest's where our rings lie: refused, and all that there was is as it was. */
static void test_memory_over_our_rings(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, can_suspend);
    unsigned int i;
    uint64_t gpa;
    Rig rig;

    rig_init(&rig, &config);
    gpa = rig.vmm.regions[SPARE].gpa;
    vmm_start(&rig.vmm, 1);
    for (i = 0; i < 4; i++) {
        const uint64_t arena = arena_iova(&rig);
        const MemoryMap *map;

        mode_set_log_all(&rig, i % 2);
        vmm_do(&rig.vmm, VHOST_USER_REM_MEM_REG, SPARE, 0);
        map = rig.fake.map;
        mode_forget_calls(&rig);
        rig.vmm.regions[SPARE].gpa = i < 2 ? arena : arena - VMM_RING_SIZE + 0x1000;
        g_assert_cmphex(vmm_try(&rig.vmm, VHOST_USER_ADD_MEM_REG, SPARE, 0), ==, 1);
        mode_assert_calls(&rig, "");
        g_assert_true(rig.fake.map == map);
        g_assert_true(mode_passes_through(&rig, 0) == (i % 2 == 0));
        mode_post(&rig, 0, 2 * i);
        mode_serve(&rig, 0, 2 * i);
        rig.vmm.regions[SPARE].gpa = gpa;
        vmm_do(&rig.vmm, VHOST_USER_ADD_MEM_REG, SPARE, 0);
        mode_post(&rig, 0, 2 * i + 1);
        mode_serve(&rig, 0, 2 * i + 1);
    }
    mode_set_log_all(&rig, false);
    g_assert_true(mode_passes_through(&rig, 0));
    rig_cleanup(&rig);
}

/* A device whose last address is within the memory at @SPARE: our rings go elsewhere. */
static void ends_within_memory(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
    fake->dev.iova_last = UINT64_C(0xfff7ffff);
}

static void test_memory_over_the_end(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, ends_within_memory);
    Rig rig;

    rig_init(&rig, &config);
    rig.vmm.regions[SPARE].gpa = rig.fake.dev.iova_last + 1 - VMM_RING_SIZE / 2;
    vmm_start(&rig.vmm, 1);
    g_assert_false(mode_passes_through(&rig, 0));
    mode_post(&rig, 0, 0);
    mode_serve(&rig, 0, 0);
    rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/svq-mode-hostile/memory-out-of-reach", test_memory_out_of_reach,
                  G_N_ELEMENTS(mode_formats));
    mode_test_add("/svq-mode-hostile/memory-out-of-reach-passthrough-only",
                  test_memory_out_of_reach_passthrough_only, 2);
    mode_test_add("/svq-mode-hostile/memory-out-of-reach-while-logging",
                  test_memory_out_of_reach_while_logging, 4);
    mode_test_add("/svq-mode-hostile/kick-taken-away-while-logging",
                  test_kick_taken_away_while_logging, 4);
    mode_test_add("/svq-mode-hostile/kick-taken-away-passthrough-only",
                  test_kick_taken_away_passthrough_only, 2);
    mode_test_add("/svq-mode-hostile/ring-too-long-while-logging",
                  test_ring_too_long_while_logging, 2);
    mode_test_add("/svq-mode-hostile/table-refused", test_table_refused, 2);
    mode_test_add("/svq-mode-hostile/guest-address-changes", test_guest_address_changes, 2);
    mode_test_add("/svq-mode-hostile/ring-is-none", test_ring_is_none, 2);
    mode_test_add("/svq-mode-hostile/ring-becomes-misaligned", test_ring_becomes_misaligned, 2);
    mode_test_add("/svq-mode-hostile/memory-over-our-rings", test_memory_over_our_rings, 2);
    mode_test_add("/svq-mode-hostile/memory-over-the-end", test_memory_over_the_end, 2);
    return rig_test_run();
}
