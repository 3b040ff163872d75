/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty logging of rings that the device works itself: what it wrote before a shadow took over is
 * in no log, so the next one begins with all of memory.
 */
#include "lib/mode-rig.h"

static void keeps_in_flight(FakeDevice *fake)
{
    fake_device_can_suspend(fake);
    fake->keeps_in_flight = true;
}

/* The ring is stopped before the VMM gives a log. */
static void test_log_comes_after_stop(gconstpointer data)
{
    const RigConfig config = mode_fake_config(data, SVQ_MODE_AUTO, keeps_in_flight);
    ModeLog log;
    Rig rig;

    rig_init(&rig, &config);
    vmm_start(&rig.vmm, 1);
    vmm_post_rx(&rig.vmm, 0, 8);
    mode_take(&rig, 0, 0);
    mode_put(&rig, 0, mode_take(&rig, 0, 1), 1);
    mode_set_log_all(&rig, true);
    g_assert_true(mode_passes_through(&rig, 0));
    vmm_do(&rig.vmm, VHOST_USER_GET_VRING_BASE, 0, 0);
    mode_log_init(&log, &rig);
    g_assert_true(mode_log_has_all(&log, &rig.vmm));
    mode_log_cleanup(&log);
    rig_cleanup(&rig);
}

int main(int argc, char **argv)
{
    mode_test_init(&argc, &argv);
    mode_test_add("/dirty-log-modes/log-comes-after-stop", test_log_comes_after_stop, 4);
    return rig_test_run();
}
