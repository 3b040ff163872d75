/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logging of a control queue whose log is another one when the answer is given: the page of
 * the answer is in the new log, and the old one, which may be gone, is left alone.
 */
#include "lib/control-rig.h"
#include "util/rcu.h"

#define LOG_PAGES 0x8000

typedef struct World {
    ControlRig rig;
    DirtyLog logs[2];
    SvqLogging logging[2];
    unsigned int command;
    RigCommand taken;
} World;

/* A command that was offered under the first log; then there is the second. */
static void world_init(World *w, const ControlRigConfig *config)
{
    unsigned int i;

    for (i = 0; i < 2; i++) {
        w->logs[i] = (DirtyLog){ .n_pages = LOG_PAGES, .refs = 1 };
        w->logs[i].words = g_malloc0(LOG_PAGES / 8);
        w->logging[i] = (SvqLogging){ .log = &w->logs[i], .data = true };
    }
    control_rig_init(&w->rig, config);
    rcu_assign_pointer(w->rig.logging, &w->logging[0]);
    w->command = control_rig_say(&w->rig, "VLAN_ADD 1");
    control_rig_step(&w->rig);
    w->taken = control_rig_take(&w->rig);
    rcu_assign_pointer(w->rig.logging, &w->logging[1]);
}

static void world_cleanup(World *w)
{
    unsigned int i;

    control_rig_cleanup(&w->rig);
    for (i = 0; i < 2; i++) {
        g_free((void *)w->logs[i].words);
    }
}

/* The page of the answer is in the second log, and that is all. */
static void check_logs(const World *w)
{
    const uint64_t gpa = control_rig_place(w->command) + CONTROL_RIG_REPLY;
    const uint64_t page = gpa >> DIRTY_LOG_PAGE_BITS;
    uint64_t i;

    for (i = 0; i < LOG_PAGES / DIRTY_LOG_WORD_BITS; i++) {
        const uint64_t bits = i == page / DIRTY_LOG_WORD_BITS
                                  ? UINT64_C(1) << page % DIRTY_LOG_WORD_BITS
                                  : 0;

        g_assert_cmphex(w->logs[0].words[i], ==, 0);
        g_assert_cmphex(le64toh(w->logs[1].words[i]), ==, bits);
    }
}

static void test_answered(const void *data)
{
    World w;

    world_init(&w, data);
    control_rig_answer(&w.rig, w.taken, NET_CTRL_OK);
    g_assert_cmpuint(shadow_virtqueue_return(w.rig.svq), ==, 1);
    control_rig_hear(&w.rig, w.command, NET_CTRL_OK);
    check_logs(&w);
    world_cleanup(&w);
}

/* Another command, which is refused at once. */
static void test_refused(const void *data)
{
    static const uint8_t short_one[] = { 0, 0 };
    World w;

    world_init(&w, data);
    w.command = control_rig_say_bytes(&w.rig, short_one, sizeof(short_one), 1);
    shadow_virtqueue_offer(w.rig.svq);
    control_rig_expect_words("is refused");
    control_rig_hear(&w.rig, w.command, NET_CTRL_ERR);
    check_logs(&w);
    world_cleanup(&w);
}

static void test_expired(const void *data)
{
    World w;

    world_init(&w, data);
    control_queue_expire(w.rig.svq, INT64_MAX);
    control_rig_expect_words("has not answered");
    control_rig_hear(&w.rig, w.command, NET_CTRL_ERR);
    check_logs(&w);
    world_cleanup(&w);
}

/* The guest's driver may give up, too: what it finds then is a refusal. */
static void test_stopped(const void *data)
{
    World w;

    world_init(&w, data);
    control_rig_stop(&w.rig, false);
    g_assert_cmpuint(*control_rig_reply(&w.rig, w.command), ==, NET_CTRL_ERR);
    check_logs(&w);
    world_cleanup(&w);
}

int main(int argc, char **argv)
{
    control_rig_test_init(&argc, &argv);
    control_rig_test_add("/dirty-log-commands/answered", test_answered);
    control_rig_test_add("/dirty-log-commands/refused", test_refused);
    control_rig_test_add("/dirty-log-commands/expired", test_expired);
    control_rig_test_add("/dirty-log-commands/stopped", test_stopped);
    return g_test_run();
}
