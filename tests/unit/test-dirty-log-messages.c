/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logging, message by message: what a VMM may say and may not, and what each message does
 * alone.
 */
#include "lib/dirty-world.h"

static bool log_has(const DirtyLogFile *log, uint64_t gpa)
{
    uint64_t page = gpa / DIRTY_PAGE;

    return le64toh(atomic_load(&log->words[page / 64])) & UINT64_C(1) << page % 64;
}

static void test_log_that_cannot_be(void)
{
    DirtyWorld world, *w = &world;

    dirty_world_init(w, &rig_formats[0], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_log_file_init(&w->logs[1], 0, DIRTY_LOG_BYTES - 8);
    dirty_world_log_on(w, &w->logs[0]);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[1], DIRTY_LOG_BYTES - 8), !=, 0);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], DIRTY_LOG_BYTES - 1), !=, 0);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[1], DIRTY_LOG_BYTES), !=, 0);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[1], UINT64_MAX), !=, 0);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[1], 0), !=, 0);
    /* The log that was there is there. */
    dirty_world_pass_buffer(w, 3, 0);
    g_assert_true(log_has(&w->logs[0], dirty_world_buffer_gpa(w, 0)));
    g_assert_true(dirty_log_file_is_clean(&w->logs[1]));
    w->warnings = rig_warnings();
    dirty_world_cleanup(w);
}

/* To the page: a log that ends with the page before the last will not do. */
static void test_memory_outgrows_log(void)
{
    DirtyWorld world, *w = &world;
    Vmm *v = &w->rig.vmm;
    uint64_t bytes;

    dirty_world_init(w, &rig_formats[0], 0, 0, 0);
    vmm_do(v, VHOST_USER_GET_VRING_BASE, 2, 0);
    vmm_do(v, VHOST_USER_REM_MEM_REG, 2, 0);
    bytes = v->regions[2].gpa / DIRTY_PAGE / 8;
    dirty_log_file_init(&w->logs[0], 0, bytes);
    dirty_log_file_init(&w->logs[1], 0, bytes + 1);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], bytes), ==, 0);
    v->features |= DIRTY_LOG_ALL;
    vmm_do(v, VHOST_USER_SET_FEATURES, 0, 0);

    v->regions[2].size = DIRTY_PAGE;
    g_assert_cmphex(vmm_try(v, VHOST_USER_ADD_MEM_REG, 2, 0), ==, 1);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[1], bytes + 1), ==, 0);
    g_assert_cmphex(vmm_try(v, VHOST_USER_ADD_MEM_REG, 2, 0), ==, 0);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], bytes), ==, 1);
    w->warnings = rig_warnings();
    dirty_world_cleanup(w);
}

/* Passes a buffer and says what of it the log has. */
typedef enum Logged { NOTHING, DATA, RING, BOTH } Logged;

static Logged pass_and_look(DirtyWorld *w, unsigned int q)
{
    DirtyLogFile *log = &w->logs[0];
    const bool packed = w->rig.vmm.features & VMM_PACKED;
    const uint64_t written = w->memory->rings[q] + (packed ? DIRTY_DESC : DIRTY_DEVICE);
    Logged logged;

    dirty_memory_take_log(w->memory, log);
    dirty_world_pass_buffer(w, q, 1);
    /* When the next one comes back, the ring has been logged, too. */
    dirty_world_pass_buffer(w, q, 2);
    logged = (log_has(log, dirty_world_buffer_gpa(w, 1)) ? DATA : NOTHING) |
             (log_has(log, written) ? RING : NOTHING);
    return logged;
}

/* Data is logged because of the features, a ring because of its address. */
static void test_each_message_counts(void)
{
    DirtyWorld world, *w = &world;
    Vmm *v = &w->rig.vmm;

    dirty_world_init(w, &rig_formats[0], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], DIRTY_LOG_BYTES), ==, 0);
    g_assert_cmpint(pass_and_look(w, 0), ==, NOTHING);
    v->features |= DIRTY_LOG_ALL;
    vmm_do(v, VHOST_USER_SET_FEATURES, 0, 0);
    g_assert_cmpint(pass_and_look(w, 0), ==, DATA);
    dirty_world_set_ring_addr(w, 0);
    g_assert_cmpint(pass_and_look(w, 0), ==, BOTH);
    v->features &= ~DIRTY_LOG_ALL;
    vmm_do(v, VHOST_USER_SET_FEATURES, 0, 0);
    g_assert_cmpint(pass_and_look(w, 0), ==, RING);
    dirty_world_set_ring_addr(w, 0);
    g_assert_cmpint(pass_and_look(w, 0), ==, NOTHING);
    g_assert_true(dirty_log_file_is_clean(&w->logs[0]));
    dirty_world_cleanup(w);
}

/* Memory is given anew, and a ring that runs has another guest-physical address. */
static void test_ring_moves(void)
{
    const uint64_t moved_gpa = UINT64_C(0x1800000);
    const VmmStep step = { VHOST_USER_SET_MEM_TABLE, 0, 0 };
    DirtyWorld world, *w = &world;
    VhostUserMessage m;

    dirty_world_init(w, &rig_formats[3], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_log_on(w, &w->logs[0]);
    m = vmm_message(&w->rig.vmm, &step);
    m.payload.mem_table.regions[0].gpa = moved_gpa;
    g_assert_cmphex(peer_ack(w->rig.vmm.fd, &m), ==, 0);
    vhost_user_message_clear(&m);
    /* When the second is back, the ring has been logged for the first. */
    dirty_world_pass_buffer(w, 0, 0);
    dirty_world_pass_buffer(w, 0, 1);
    g_assert_true(log_has(&w->logs[0], moved_gpa + DIRTY_DESC));
    g_assert_false(log_has(&w->logs[0], w->memory->rings[0] + DIRTY_DESC));
    dirty_world_cleanup(w);
}

/* QEMU gives the log first; others may not. */
static void test_features_before_log(void)
{
    DirtyWorld world, *w = &world;

    dirty_world_init(w, &rig_formats[0], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_set_logging(w, true);
    dirty_world_pass_buffer(w, 0, 0);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], DIRTY_LOG_BYTES), ==, 0);
    dirty_world_pass_buffer(w, 0, 1);
    g_assert_false(log_has(&w->logs[0], dirty_world_buffer_gpa(w, 0)));
    g_assert_true(log_has(&w->logs[0], dirty_world_buffer_gpa(w, 1)));
    g_assert_true(log_has(&w->logs[0], w->memory->rings[0] + DIRTY_DEVICE));
    g_assert_false(log_has(&w->logs[0], w->memory->rings[1] + DIRTY_DRIVER));
    dirty_world_cleanup(w);
}

static void test_logged_from_the_start(void)
{
    DirtyWorld world, *w = &world;
    const unsigned int last = VMM_RINGS - 1;
    uint64_t gpa;

    dirty_world_init(w, &rig_formats[3], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    /* In another place than the one that the device knows from before; no message comes after. */
    gpa = w->memory->rings[last];
    w->memory->rings[last] = w->memory->rings[0];
    w->memory->rings[0] = gpa;
    w->rig.vmm.features |= DIRTY_LOG_ALL;
    dirty_world_connect(w, &w->logs[0]);
    g_assert_cmpint(pass_and_look(w, last), ==, BOTH);
    dirty_world_cleanup(w);
}

static void test_next_vmm(void)
{
    DirtyWorld world, *w = &world;

    dirty_world_init(w, &rig_formats[0], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_log_on(w, &w->logs[0]);
    dirty_world_pass_buffer(w, 0, 0);
    atomic_store(&w->memory->tracking, false);
    w->rig.vmm.features &= ~DIRTY_LOG_ALL;
    vmm_disconnect(&w->rig.vmm);
    dirty_memory_round(w->memory);

    dirty_world_connect(w, NULL);
    dirty_world_set_logging(w, true);
    dirty_world_pass_buffer(w, 0, 1);
    g_assert_true(dirty_log_file_is_clean(&w->logs[0]));
    dirty_world_cleanup(w);
}

static bool log_has_all(const DirtyLogFile *log, const Vmm *v)
{
    unsigned int i;

    for (i = 0; i < VMM_REGIONS; i++) {
        if (!log_has(log, v->regions[i].gpa) ||
            !log_has(log, v->regions[i].gpa + (v->regions[i].size - 1))) {
            return false;
        }
    }
    return true;
}

/* Rings that go on from their records: nobody knows what was written before, so it is all. */
static void test_rings_that_go_on(void)
{
    DirtyWorld world, *w = &world;
    Vmm *v = &w->rig.vmm;

    dirty_world_init(w, &rig_formats[3], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_pass_buffer(w, 0, 0);
    vmm_connect(v, w->rig.path);
    vmm_begin(v, vmm_get(v, VHOST_USER_GET_PROTOCOL_FEATURES));
    dirty_world_start_rings(w, VMM_START);      /* where they were, not where they are */
    vmm_do(v, VHOST_USER_SET_STATUS, 0, 0xf);
    dirty_world_set_logging(w, true);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], DIRTY_LOG_BYTES), ==, 0);
    g_assert_true(log_has_all(&w->logs[0], v));
    /* Once, that is. */
    dirty_memory_take_log(w->memory, &w->logs[0]);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], DIRTY_LOG_BYTES), ==, 0);
    g_assert_true(dirty_log_file_is_clean(&w->logs[0]));
    dirty_world_cleanup(w);
}

/* The same where the log is there before they go on. */
static void test_rings_that_go_on_logged(void)
{
    DirtyWorld world, *w = &world;
    Vmm *v = &w->rig.vmm;

    dirty_world_init(w, &rig_formats[3], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_pass_buffer(w, 0, 0);
    v->features |= DIRTY_LOG_ALL;
    vmm_connect(v, w->rig.path);
    vmm_begin(v, vmm_get(v, VHOST_USER_GET_PROTOCOL_FEATURES));
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[0], DIRTY_LOG_BYTES), ==, 0);
    g_assert_false(log_has_all(&w->logs[0], v));
    dirty_world_start_rings(w, VMM_START);
    vmm_do(v, VHOST_USER_SET_STATUS, 0, 0xf);
    g_assert_true(log_has_all(&w->logs[0], v));
    dirty_world_cleanup(w);
}

/* The driver starts anew while it is migrated: QEMU gives the log only when the rings run. */
static void test_log_after_restart(void)
{
    DirtyWorld world, *w = &world;

    dirty_world_init(w, &rig_formats[0], 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_log_file_init(&w->logs[1], 0, DIRTY_LOG_BYTES);
    dirty_world_log_on(w, &w->logs[0]);
    dirty_world_pass_buffer(w, 0, 1);
    dirty_world_stop_rings(w);
    dirty_memory_round(w->memory);
    dirty_world_start_rings(w, VMM_KEEP_BASE);
    dirty_world_pass_buffer(w, 0, 5);
    g_assert_cmphex(dirty_world_try_log(w, &w->logs[1], DIRTY_LOG_BYTES), ==, 0);
    g_assert_true(log_has(&w->logs[1], dirty_world_buffer_gpa(w, 5)));
    dirty_world_cleanup(w);
}

/* A queue that is disabled and enabled has missed nothing. */
static void test_toggled_queue(gconstpointer format)
{
    DirtyWorld world, *w = &world;

    dirty_world_init(w, format, 0, 0, 0);
    dirty_log_file_init(&w->logs[0], 0, DIRTY_LOG_BYTES);
    dirty_world_log_on(w, &w->logs[0]);
    dirty_memory_round(w->memory);
    vmm_do(&w->rig.vmm, VHOST_USER_SET_VRING_ENABLE, 1, 0);
    vmm_do(&w->rig.vmm, VHOST_USER_SET_VRING_ENABLE, 1, 1);
    g_assert_false(log_has(&w->logs[0], dirty_world_buffer_gpa(w, 5)));
    dirty_world_cleanup(w);
}

int main(int argc, char **argv)
{
    rig_test_init(&argc, &argv);
    g_test_add_func("/dirty-log-messages/log-that-cannot-be-is-refused", test_log_that_cannot_be);
    g_test_add_func("/dirty-log-messages/memory-beyond-the-log-is-refused",
                    test_memory_outgrows_log);
    g_test_add_func("/dirty-log-messages/each-message-counts", test_each_message_counts);
    g_test_add_func("/dirty-log-messages/ring-that-moves", test_ring_moves);
    g_test_add_func("/dirty-log-messages/features-before-log", test_features_before_log);
    g_test_add_func("/dirty-log-messages/logged-from-the-start", test_logged_from_the_start);
    g_test_add_func("/dirty-log-messages/log-ends-with-its-vmm", test_next_vmm);
    g_test_add_func("/dirty-log-messages/rings-that-go-on", test_rings_that_go_on);
    g_test_add_func("/dirty-log-messages/rings-that-go-on-logged", test_rings_that_go_on_logged);
    g_test_add_func("/dirty-log-messages/log-after-restart", test_log_after_restart);
    rig_test_add("/dirty-log-messages/toggled-queue", test_toggled_queue);
    return rig_test_run();
}
