/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vDPA device whose kernel fails: at each call of opening, starting, changing memory, moving
 * rings and stopping; by not suspending; by vanishing.  There is one error for each, nothing is
 * left open, and the device is usable again, or gone and back.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/vdpa-world.h"
#include "lib/vhost-user-peer.h"

#define ENOTSUPP_OF_KERNEL 524

/* Of hw/vhost/vhost-vdpa-suspend.c. */
extern int vhost_vdpa_suspend_timeout_ms;

/* As the first, of an older kernel: neither batches nor persistent maps. */
static VdpaModelConfig plain;

static const struct {
    const char *name;
    const VdpaModelConfig *config;
    uint64_t features;
    bool isolate;           /* the control queue */
} kinds[] = {
    { "sim", &vdpa_model_sim, 0 },
    { "pci", &vdpa_model_pci, VDPA_WORLD_PACKED },
    { "spaces", &vdpa_model_spaces, VDPA_WORLD_PACKED },
    { "plain", &plain, 0 },
    { "isolated", &vdpa_model_sim_ctrl, 0, true },
    { "isolated-with-spaces", &vdpa_model_mlx5, VDPA_WORLD_PACKED, true },
};

/* The call that failed; NULL: there are not so many. */
static char *has_failed(VdpaWorld *w)
{
    char *failed = vdpa_model_failed(w->model);

    vdpa_model_fail(w->model, NULL, 0, 0);
    return failed;
}

/* The device works, or it was lost: then it comes back with its file, and works. */
static void assert_usable(VdpaWorld *w)
{
    g_autoptr(GError) error = NULL;

    if (!w->dev->connected) {
        g_assert_cmpint(w->dev->ops->reset(w->dev, &error), ==, -ENOTCONN);
        g_clear_error(&error);
        vdpa_world_await(&w->gone, 1);
        vdpa_model_vanish(w->model);
        vdpa_model_appear(w->model);
        vdpa_world_await(&w->ready, 1);
        g_assert_true(w->dev->connected);
    } else {
        g_assert_cmpuint(w->gone, ==, 0);
        w->dev->ops->reset(w->dev, &error);
        g_assert_no_error(error);
    }
    vdpa_world_start_anew(w);
    g_assert_cmpint(w->isolated, ==, w->isolate);
    if (w->isolate) {
        vdpa_world_command(w, 1);
    }
}

/* Whatever failed, what is ours and the guest's memory cannot reach each other. */
static void assert_isolated(VdpaWorld *w)
{
    g_autofree char *maps = vdpa_model_maps(w->model);

    g_assert_null(strstr(maps, "1:" VDPA_WORLD_GUEST_MAP));
    if (w->isolated && vdpa_model_status(w->model) & VIRTIO_STATUS_DRIVER_OK) {
        g_assert_null(strstr(maps, "0:" VDPA_WORLD_CONTROL_MAP));
        g_assert_cmpuint(vdpa_model_ring(w->model, VDPA_WORLD_CTRL).asid, ==, 1);
    }
}

/*
 * Does @step with its @k-th call failing with @err; false: it has not so many.  A call may fail
 * without harm; if the step fails it has said so.
 */
typedef int (*Step)(VdpaWorld *w, GError **errp);

static bool fail_step(VdpaWorld *w, Step step, unsigned int k, int err)
{
    g_autofree char *failed = NULL;
    g_autoptr(GError) error = NULL;
    int ret;

    vdpa_model_fail_at(w->model, k, err);
    ret = step(w, &error);
    failed = has_failed(w);
    g_test_message("call %u, %s: %s", k, failed ? failed : "none",
                   error ? error->message : "no error");
    g_assert_cmpint(ret < 0, ==, error != NULL);
    assert_isolated(w);
    if (!failed) {
        g_assert_no_error(error);
    }
    if (error) {
        g_assert_true(!w->dev || g_str_has_prefix(error->message, "vdpa0"));
        g_assert_null(strchr(error->message, '\n'));
    }
    return failed != NULL;
}

/* As it was when it was opened: no memory either. */
static void forget(VdpaWorld *w)
{
    g_autoptr(GError) error = NULL;
    MemoryMap *nothing = memory_map_new(NULL, 0, NULL);

    w->dev->ops->reset(w->dev, &error);
    g_assert_no_error(error);
    w->dev->ops->set_memory(w->dev, nothing, &error);
    g_assert_no_error(error);
    memory_map_free(nothing);
    vdpa_world_assert_maps(w, "");
    w->gone = w->ready = 0;
}

/* Walks all calls of @step in a device that @before has prepared. */
static void walk(unsigned int kind, Step before, Step step, int err)
{
    unsigned int k, q;
    bool more = true;
    VdpaWorld w;

    vdpa_world_init(&w, kinds[kind].config, kinds[kind].features);
    w.isolate = kinds[kind].isolate;
    for (k = 1; more; k++) {
        g_autoptr(GError) error = NULL;

        for (q = 0; q < w.n_rings; q++) {
            vdpa_world_make_ring(&w, q, true);
        }
        if (before) {
            before(&w, &error);
            g_assert_no_error(error);
        }
        more = fail_step(&w, step, k, err);
        assert_usable(&w);
        forget(&w);
    }
    g_assert_cmpuint(k, >, 2);
    vdpa_world_cleanup(&w);
}

static void walk_with_all_errors(gconstpointer kind, Step before, Step step)
{
    walk(GPOINTER_TO_UINT(kind), before, step, EIO);
    walk(GPOINTER_TO_UINT(kind), before, step, EINVAL);
    walk(GPOINTER_TO_UINT(kind), before, step, ENODEV);
}

static void test_open(gconstpointer kind)
{
    const unsigned int i = GPOINTER_TO_UINT(kind);
    unsigned int k, n_errors = 0;
    bool more = true;
    VdpaWorld w;

    vdpa_world_prepare(&w, kinds[i].config, kinds[i].features);
    for (k = 1; more; k++) {
        more = fail_step(&w, vdpa_world_open, k, EIO);
        if (!w.dev) {
            n_errors++;
            g_assert_false(vdpa_model_is_open(w.model));
            vdpa_world_open(&w, NULL);
        }
        vdpa_world_start_anew(&w);
        vdpa_world_close(&w);
    }
    vdpa_world_cleanup(&w);
    /* open, and what the device cannot be without */
    g_assert_cmpuint(n_errors, >=, 5);
}

static void test_start(gconstpointer kind)
{
    walk_with_all_errors(kind, NULL, vdpa_world_start);
}

static int restart(VdpaWorld *w, GError **errp)
{
    int ret = vdpa_world_start(w, errp);

    return ret < 0 ? ret : vdpa_world_stop(w, errp);
}

static void test_second_start(gconstpointer kind)
{
    walk_with_all_errors(kind, restart, vdpa_world_start);
}

static void test_stop(gconstpointer kind)
{
    walk_with_all_errors(kind, vdpa_world_start, vdpa_world_stop);
}

/* Memory: one region goes, two come. */
static int change_memory(VdpaWorld *w, GError **errp)
{
    MemoryRegion *more = memory_region_new(peer_memfd(0x2000), 0, 0x1000, 0x2000, 0, NULL);
    MemoryRegion *other = memory_region_new(peer_memfd(0x2000), 0, 0x8000, 0x2000, 0, NULL);
    MemoryMap *map = memory_map_new((MemoryRegion *[]){ w->arena, more, other, w->control },
                                    w->control ? 4 : 3, NULL);
    int ret = w->dev->ops->set_memory(w->dev, map, errp);
    g_autofree char *maps = vdpa_model_maps(w->model);

    /* All of it or nothing. */
    if (ret == 0) {
        g_assert_nonnull(strstr(maps, "0:1000+2000 0:8000+2000"));
        g_assert_null(strstr(maps, VDPA_WORLD_GUEST_MAP));
    } else if (w->dev->connected) {
        g_assert_null(strstr(maps, "0:1000+2000"));
        g_assert_null(strstr(maps, "0:8000+2000"));
        g_assert_nonnull(strstr(maps, VDPA_WORLD_GUEST_MAP));
    }
    memory_map_free(map);
    memory_region_unref(more);
    memory_region_unref(other);
    return ret;
}

static void test_memory(gconstpointer kind)
{
    walk_with_all_errors(kind, vdpa_world_start, change_memory);
}

/* The kernel refuses a map, and goes on to refuse it. */
static void test_memory_is_refused(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    vdpa_model_fail(w.model, "UPDATE:0:8000+2000", 0, EFAULT);
    g_assert_cmpint(change_memory(&w, &error), ==, -EFAULT);
    g_assert_nonnull(strstr(error->message, "0x8000-0x9fff cannot be mapped: the kernel refuses"));
    vdpa_world_echo(&w, 5);
    vdpa_world_cleanup(&w);
}

/* The limit is what the kernel does not say. */
static void test_locked_memory(void)
{
    g_autoptr(GError) error = NULL;
    struct rlimit limit, small;
    VdpaWorld w;

    g_assert_no_errno(getrlimit(RLIMIT_MEMLOCK, &limit));
    small = (struct rlimit){ .rlim_cur = MIN(1024 * 1024, limit.rlim_max),
                             .rlim_max = limit.rlim_max };
    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_model_limit_memory(w.model, VDPA_WORLD_SIZE);
    g_assert_no_errno(setrlimit(RLIMIT_MEMLOCK, &small));
    g_assert_cmpint(vdpa_world_start(&w, &error), ==, -ENOMEM);
    g_assert_no_errno(setrlimit(RLIMIT_MEMLOCK, &limit));
    g_assert_nonnull(strstr(error->message, "2 MiB have to be locked in memory"));
    g_assert_nonnull(strstr(error->message, "the limit is 1 MiB; raise it (ulimit -l"));
    vdpa_world_assert_maps(&w, "");
    vdpa_model_limit_memory(w.model, UINT64_MAX);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

/* Rings move while the device is suspended: as a whole, a step that fails anywhere. */
static int move_rings(VdpaWorld *w, GError **errp)
{
    const VhostDeviceOps *ops = w->dev->ops;
    unsigned int q;
    int ret = ops->suspend(w->dev, errp);

    for (q = 0; q < 2 && ret == 0; q++) {
        ret = ops->ring_stop(w->dev, q, &w->rings[q].base, errp);
    }
    for (q = 0; q < 2 && ret == 0; q++) {
        VhostRing ring;

        vdpa_world_move_ring(w, q);
        ring = vdpa_world_ring(w, q);
        ret = ops->ring_enable(w->dev, q, true, errp);
        if (ret == 0) {
            ret = ops->ring_start(w->dev, q, &ring, errp);
        }
    }
    return ret < 0 ? ret : ops->resume(w->dev, errp);
}

static void test_moving_rings(gconstpointer kind)
{
    walk_with_all_errors(kind, vdpa_world_start, move_rings);
}

/* A single ring of a running device: whatever fails, the other goes on. */
static int stop_one(VdpaWorld *w, GError **errp)
{
    return w->dev->ops->ring_stop(w->dev, 1, &w->rings[1].base, errp);
}

static void test_stopping_one(gconstpointer kind)
{
    walk_with_all_errors(kind, vdpa_world_start, stop_one);
}

/* Suspending. */

static void test_suspend_fails(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    vdpa_model_fail(w.model, "SUSPEND", 1, EIO);
    g_assert_cmpint(w.dev->ops->suspend(w.dev, &error), ==, -EIO);
    g_assert_nonnull(strstr(error->message, "SUSPEND"));
    g_assert_true(w.dev->connected);
    vdpa_world_echo(&w, 5);
    vdpa_world_cleanup(&w);
}

/* It has stopped a part of its rings by then; they go on. */
static void test_suspend_fails_halfway(void)
{
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    vdpa_model_suspend_halfway(w.model, true);
    g_free(vdpa_model_take_calls(w.model));
    g_assert_cmpint(w.dev->ops->suspend(w.dev, NULL), ==, -EIO);
    vdpa_world_assert_calls(&w, "SUSPEND RESUME");
    vdpa_world_echo(&w, 5);

    vdpa_model_fail(w.model, "RESUME", 1, EIO);
    g_assert_cmpint(w.dev->ops->suspend(w.dev, NULL), <, 0);
    g_assert_false(w.dev->connected);
    vdpa_model_suspend_halfway(w.model, false);
    vdpa_world_await(&w.ready, 1);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

static void test_suspend_never_ends(void)
{
    g_autofree char *words = NULL;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    g_free(vdpa_world_take_words());
    vhost_vdpa_suspend_timeout_ms = 20;
    vdpa_model_hang_suspend(w.model);
    g_assert_cmpint(w.dev->ops->suspend(w.dev, &error), ==, -ENOTCONN);
    g_assert_false(w.dev->connected);
    g_assert_cmpuint(w.gone, ==, 0);
    g_assert_nonnull(strstr(error->message, "not after 20 ms"));
    vhost_vdpa_suspend_timeout_ms = 2000;
    words = vdpa_world_take_words();
    g_assert_true(g_str_has_prefix(words, "vdpa0: given up: it was to be suspended"));
    g_assert_true(strchr(words, '\n') == words + strlen(words) - 1);
    vdpa_world_await(&w.gone, 1);
    g_assert_true(vdpa_model_is_open(w.model));
    vdpa_world_await_words("it was to be suspended, and still is not; tried again");

    /* When the kernel lets go of it at last, it is there again. */
    vdpa_model_release_suspend(w.model);
    vdpa_world_await(&w.ready, 1);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

static void test_resume_fails(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    w.dev->ops->suspend(w.dev, &error);
    g_assert_no_error(error);
    vdpa_model_fail(w.model, "RESUME", 1, EIO);
    g_assert_cmpint(w.dev->ops->resume(w.dev, &error), ==, -EIO);
    assert_usable(&w);
    vdpa_world_cleanup(&w);
}

/* Vanishing. */

static void test_vanishes(void)
{
    g_autofree char *words = NULL;
    g_autoptr(GError) error = NULL;
    uint8_t byte;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_world_must_start(&w);
    vdpa_world_echo(&w, 3);
    g_free(vdpa_world_take_words());
    vdpa_model_vanish(w.model);
    vdpa_world_await(&w.gone, 1);
    words = vdpa_world_take_words();
    g_assert_cmpstr(words, ==, "vdpa0: given up: its file has vanished\n");
    /* Or `vdpa dev del` would wait for ever. */
    g_assert_false(vdpa_model_is_open(w.model));
    g_assert_false(w.dev->connected);
    g_assert_cmpint(w.dev->ops->set_features(w.dev, 0, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->set_memory(w.dev, w.map, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->set_status(w.dev, 3, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->ring_stop(w.dev, 0, NULL, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->ring_enable(w.dev, 0, true, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->suspend(w.dev, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->resume(w.dev, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->get_config(w.dev, &byte, 0, 1, NULL), ==, -ENOTCONN);
    g_assert_cmpint(w.dev->ops->reset(w.dev, &error), ==, -ENOTCONN);
    g_assert_cmpstr(error->message, ==, "vdpa0 is gone");

    vdpa_model_appear(w.model);
    vdpa_world_await(&w.ready, 1);
    vdpa_world_start_anew(&w);
    vdpa_model_vanish(w.model);
    vdpa_world_await(&w.gone, 2);
    vdpa_world_cleanup(&w);
}

/* It is there again, but somebody else has it, or may not be opened: tried until it works. */
static void test_comes_back_busy(void)
{
    VdpaWorld w;
    int fd;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    vdpa_model_vanish(w.model);
    vdpa_world_await(&w.gone, 1);
    g_free(vdpa_world_take_words());
    vdpa_model_appear(w.model);
    fd = vdpa_model_open(w.model);
    g_assert_cmpint(fd, >=, 0);
    vdpa_world_await_words("in use by another process");
    vdpa_model_kernel(w.model)->close(vdpa_model_kernel(w.model), fd);
    vdpa_world_await(&w.ready, 1);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

/* It is removed after it was opened, and before it could be seen that it is there. */
static void test_vanishes_while_opened(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    vdpa_model_vanish_at_open(w.model);
    g_assert_cmpint(vdpa_world_open(&w, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "has vanished while it was opened"));
    g_assert_false(vdpa_model_is_open(w.model));

    vdpa_model_appear(w.model);
    g_assert_cmpint(vdpa_world_open(&w, NULL), ==, 0);
    vdpa_model_vanish(w.model);
    vdpa_world_await(&w.gone, 1);
    g_free(vdpa_model_take_calls(w.model));
    vdpa_model_vanish_at_open(w.model);
    vdpa_model_appear(w.model);
    vdpa_world_await_calls(&w, "open close");
    g_assert_cmpuint(w.ready, ==, 0);
    vdpa_model_appear(w.model);
    vdpa_world_await(&w.ready, 1);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

/* One that is lost as soon as it is used is opened less and less often. */
static void test_lost_again_and_again(void)
{
    const int64_t begin_us = g_get_monotonic_time();
    unsigned int i;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_sim, 0);
    for (i = 1; i <= 5; i++) {
        vdpa_model_fail(w.model, "SET_STATUS:3", 1, ENODEV);
        g_assert_cmpint(vdpa_world_start(&w, NULL), ==, -ENOTCONN);
        vdpa_world_await(&w.ready, i);
    }
    /* 50 + 100 + 200 + 400 + 800 ms; timers may be a little early. */
    g_assert_cmpint(g_get_monotonic_time() - begin_us, >=, 1500 * G_TIME_SPAN_MILLISECOND);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

/* Opening. */

static void test_open_errors(void)
{
    static const struct {
        int err;
        const char *words;
    } cases[] = {
        { EBUSY, "it is in use by another process" },
        { ENOTSUPP_OF_KERNEL, "its bus has no IOMMU" },
        { EACCES, "Permission denied" },
    };
    VdpaWorld w;
    unsigned int i;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        vdpa_model_fail(w.model, "open", 1, cases[i].err);
        g_assert_cmpint(vdpa_world_open(&w, &error), <, 0);
        g_assert_nonnull(strstr(error->message, cases[i].words));
        g_assert_nonnull(strstr(error->message, vdpa_model_path(w.model)));
    }
    vdpa_model_vanish(w.model);
    g_assert_cmpint(vdpa_world_open(&w, NULL), <, 0);
    vdpa_world_cleanup(&w);
}

static VhostDevice *open_fd(VdpaWorld *w, int fd, GError **errp)
{
    const VhostVdpaConfig config = {
        .id = "vdpa0",
        .fd = fd,
        .kernel = vdpa_model_kernel(w->model),
    };

    return vhost_vdpa_new(&config, errp);
}

static void test_descriptor(void)
{
    VdpaWorld w;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    w.dev = open_fd(&w, vdpa_model_open(w.model), NULL);
    g_assert_nonnull(w.dev);
    vdpa_world_start_anew(&w);
    vdpa_world_cleanup(&w);
}

static void test_wrong_descriptor(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;
    int fd;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    fd = peer_memfd(4096);
    g_assert_null(open_fd(&w, fd, &error));
    g_assert_nonnull(strstr(error->message, "the descriptor is no vhost-vdpa device"));
    g_assert_cmpint(fcntl(fd, F_GETFD), <, 0);
    g_clear_error(&error);
    g_assert_null(open_fd(&w, 4000, &error));
    g_assert_nonnull(error);
    vdpa_world_cleanup(&w);
}

/* Without a path it cannot come back. */
static void test_descriptor_is_gone(void)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    w.dev = open_fd(&w, vdpa_model_open(w.model), &error);
    g_assert_no_error(error);
    vdpa_model_fail(w.model, "SET_STATUS:3", 1, ENODEV);
    g_assert_cmpint(vdpa_world_start(&w, &error), ==, -ENOTCONN);
    g_assert_false(w.dev->connected);
    g_assert_false(vdpa_model_is_open(w.model));
    peer_pump();
    vdpa_world_cleanup(&w);
}

static void add_kinds(const char *name, GTestDataFunc test, bool suspend)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/vhost-vdpa-faults/%s/%s", name, kinds[i].name);

        if (!suspend || kinds[i].config->backend_features & VDPA_B_SUSPEND) {
            g_test_add_data_func(path, GUINT_TO_POINTER(i), test);
        }
    }
}

int main(int argc, char **argv)
{
    vdpa_world_test_init(&argc, &argv);
    plain = vdpa_model_sim;
    plain.backend_features &= ~(VDPA_B_BATCH | VDPA_B_PERSIST);
    add_kinds("each-call/open", test_open, false);
    add_kinds("each-call/start", test_start, false);
    add_kinds("each-call/second-start", test_second_start, false);
    add_kinds("each-call/stop", test_stop, false);
    add_kinds("each-call/memory", test_memory, false);
    add_kinds("each-call/moving-rings", test_moving_rings, true);
    add_kinds("each-call/stopping-one", test_stopping_one, true);
    g_test_add_func("/vhost-vdpa-faults/memory/refused", test_memory_is_refused);
    g_test_add_func("/vhost-vdpa-faults/memory/locked", test_locked_memory);
    g_test_add_func("/vhost-vdpa-faults/suspend/fails", test_suspend_fails);
    g_test_add_func("/vhost-vdpa-faults/suspend/fails-halfway", test_suspend_fails_halfway);
    g_test_add_func("/vhost-vdpa-faults/suspend/never-ends", test_suspend_never_ends);
    g_test_add_func("/vhost-vdpa-faults/suspend/resume-fails", test_resume_fails);
    g_test_add_func("/vhost-vdpa-faults/vanishes", test_vanishes);
    g_test_add_func("/vhost-vdpa-faults/vanishes-while-opened", test_vanishes_while_opened);
    g_test_add_func("/vhost-vdpa-faults/lost-again-and-again", test_lost_again_and_again);
    g_test_add_func("/vhost-vdpa-faults/comes-back-busy", test_comes_back_busy);
    g_test_add_func("/vhost-vdpa-faults/open/errors", test_open_errors);
    g_test_add_func("/vhost-vdpa-faults/descriptor/works", test_descriptor);
    g_test_add_func("/vhost-vdpa-faults/descriptor/wrong", test_wrong_descriptor);
    g_test_add_func("/vhost-vdpa-faults/descriptor/gone", test_descriptor_is_gone);
    return g_test_run();
}
