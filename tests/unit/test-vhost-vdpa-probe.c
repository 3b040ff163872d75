/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a vDPA device and its kernel cannot, and what follows from it: each absence has one
 * consequence, said once, and the device works with what is left.
 */
#include <errno.h>
#include <string.h>

#include "lib/vdpa-world.h"

#define ALL (VDPA_B_CORE | VDPA_B_SUSPEND | VDPA_B_RESUME | VDPA_B_ENABLE_AFTER | \
             VDPA_B_DESC_ASID | VDPA_B_PERSIST)

static void restart(VdpaWorld *w)
{
    vdpa_world_start_anew(w);
    vdpa_world_must_stop(w);
    vdpa_world_start_anew(w);
}

static void assert_said(const char *words, bool said)
{
    g_autofree char *all = vdpa_world_take_words();

    if (!said) {
        g_assert_null(strstr(all, words));
        return;
    }
    g_assert_nonnull(strstr(all, words));
    g_assert_null(strstr(strstr(all, words) + 1, words));
}

static void test_everything(void)
{
    g_autofree char *words = NULL;
    VdpaWorld w;

    vdpa_world_init(&w, &vdpa_model_spaces, 0);
    g_assert_cmpuint(w.dev->device_type, ==, 1);
    g_assert_cmpuint(w.dev->queue_count, ==, 4);
    g_assert_cmpuint(w.dev->max_regions, ==, MEMORY_MAP_MAX_REGIONS);
    g_assert_cmphex(w.dev->iova_first, ==, 0);
    g_assert_cmphex(w.dev->iova_last, ==, UINT64_MAX);
    g_assert_true(w.dev->connected);
    g_assert_true(w.dev->has_config);
    g_assert_true(w.dev->tells_base);
    g_assert_true(w.dev->rings_apart);
    g_assert_false(w.dev->rings_fixed);
    g_assert_cmphex(vdpa_model_backend_features(w.model), ==, ALL);
    words = vdpa_world_take_words();
    g_assert_cmpstr(words, ==, "");
    vdpa_world_cleanup(&w);
}

/* Backend features. */

typedef struct Absence {
    const char *name;
    uint64_t absent, also;      /* not offered; not negotiated either */
    bool fixed, not_apart;
    const char *words;
} Absence;

static const Absence absences[] = {
    { "suspend", VDPA_B_SUSPEND, 0, true, false, "no SUSPEND" },
    { "resume", VDPA_B_RESUME, 0, true, false, "no SUSPEND and RESUME" },
    { "enable-after-driver-ok", VDPA_B_ENABLE_AFTER, 0, true, false,
      "no ENABLE_AFTER_DRIVER_OK: a change of its rings restarts it" },
    { "persist", VDPA_B_PERSIST, 0, false, false, "no IOTLB_PERSIST" },
    { "batch", VDPA_B_BATCH, 0, false, false, "no IOTLB_BATCH" },
    { "desc-asid", VDPA_B_DESC_ASID, 0, false, true, "no DESC_ASID" },
    { "asid", VDPA_B_ASID, VDPA_B_DESC_ASID, false, true, "no DESC_ASID" },
    { "all", ALL & ~VDPA_B_MSG_V2, 0, true, true, "no SUSPEND" },
};

static void test_absent_backend_feature(gconstpointer data)
{
    const Absence *absence = data;
    VdpaModelConfig config = vdpa_model_spaces;
    VdpaWorld w;

    config.backend_features &= ~absence->absent;
    vdpa_world_init(&w, &config, VDPA_WORLD_PACKED);
    g_assert_cmphex(vdpa_model_backend_features(w.model), ==,
                    ALL & ~(absence->absent | absence->also));
    g_assert_cmpint(w.dev->rings_fixed, ==, absence->fixed);
    g_assert_cmpint(w.dev->rings_apart, ==, !absence->not_apart);
    g_assert_cmpint(w.dev->ops->suspend != NULL, ==, !absence->fixed);
    g_assert_cmpint(w.dev->ops->resume != NULL, ==, !absence->fixed);
    assert_said(absence->words, true);
    restart(&w);
    assert_said(absence->words, false);
    vdpa_world_cleanup(&w);
}

/* A kernel that offers more than it takes. */
static void test_backend_features_are_refused(void)
{
    VdpaWorld w;

    vdpa_world_prepare(&w, &vdpa_model_spaces, 0);
    vdpa_model_fail(w.model, "SET_BACKEND_FEATURES", 1, EOPNOTSUPP);
    vdpa_world_open(&w, NULL);
    g_assert_nonnull(w.dev);
    g_assert_cmphex(vdpa_model_backend_features(w.model), ==, ALL & ~VDPA_B_PERSIST);
    restart(&w);
    vdpa_world_cleanup(&w);
}

/* Calls that a kernel does not know, ever. */

typedef struct Unknown {
    const char *call;
    const VdpaModelConfig *config;
    void (*check)(VdpaWorld *w);
} Unknown;

static void check_no_backend_features(VdpaWorld *w)
{
    g_assert_cmphex(vdpa_model_backend_features(w->model), ==, 0);
    g_assert_true(w->dev->rings_fixed);
}

static void check_four_queues(VdpaWorld *w)
{
    g_assert_cmpuint(w->dev->queue_count, ==, 4);
}

static void check_config(VdpaWorld *w)
{
    g_autoptr(GError) error = NULL;
    uint8_t data[12];

    g_assert_true(w->dev->has_config);
    g_assert_cmpint(w->dev->ops->get_config(w->dev, data, 6, 6, &error), ==, 0);
    g_assert_cmpmem(data, 6, vdpa_model_sim.config + 6, 6);
    /* Now it is the kernel that checks. */
    g_assert_cmpint(w->dev->ops->get_config(w->dev, data, 8, 5, &error), ==, -EINVAL);
    g_assert_nonnull(error);
}

static void check_any_iova(VdpaWorld *w)
{
    g_assert_cmphex(w->dev->iova_first, ==, 0);
    g_assert_cmphex(w->dev->iova_last, ==, 0);
}

static void check_not_apart(VdpaWorld *w)
{
    g_assert_false(w->dev->rings_apart);
}

/* All buffers are in group 0 then. */
static void check_apart(VdpaWorld *w)
{
    vdpa_world_start_anew(w);
    g_assert_cmpuint(vdpa_model_ring(w->model, 0).desc_asid, ==, 1);
    vdpa_world_assert_maps(w, "0:" VDPA_WORLD_GUEST_MAP " 1:" VDPA_WORLD_ARENA_MAP);
}

static void check_ring_among_buffers(VdpaWorld *w)
{
    vdpa_world_start_anew(w);
    g_assert_cmpuint(vdpa_model_ring(w->model, 0).desc_asid, ==, 0);
    vdpa_world_assert_maps(w, "0:" VDPA_WORLD_GUEST_MAP " 0:" VDPA_WORLD_ARENA_MAP
                              " 1:" VDPA_WORLD_ARENA_MAP);
}

static void check_base_is_not_told(VdpaWorld *w)
{
    g_assert_false(w->dev->tells_base);
    assert_said("does not tell where its rings stand", true);
}

static void check_max_num(VdpaWorld *w)
{
    g_assert_cmpuint(w->dev->ops->ring_max_num(w->dev, 0), ==, 256);
}

static void check_no_doorbell(VdpaWorld *w)
{
    g_assert_null(w->dev->ops->ring_doorbell(w->dev, 0));
}

static const Unknown unknowns[] = {
    { "GET_BACKEND_FEATURES", &vdpa_model_sim, check_no_backend_features },
    { "SET_BACKEND_FEATURES", &vdpa_model_sim, check_no_backend_features },
    { "GET_VQS_COUNT", &vdpa_model_sim, check_four_queues },
    { "GET_CONFIG_SIZE", &vdpa_model_sim, check_config },
    { "GET_IOVA_RANGE", &vdpa_model_sim, check_any_iova },
    { "GET_AS_NUM", &vdpa_model_spaces, check_not_apart },
    { "GET_GROUP_NUM", &vdpa_model_spaces, check_ring_among_buffers },
    { "GET_VRING_GROUP", &vdpa_model_spaces, check_apart },
    { "GET_VRING_DESC_GROUP", &vdpa_model_spaces, check_ring_among_buffers },
    { "GET_VRING_BASE", &vdpa_model_sim, check_base_is_not_told },
    { "GET_VRING_SIZE", &vdpa_model_sim, check_max_num },
    { "mmap", &vdpa_model_pci, check_no_doorbell },
};

static void test_unknown_call(gconstpointer data)
{
    const Unknown *unknown = data;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_prepare(&w, unknown->config, 0);
    vdpa_model_fail(w.model, unknown->call, 0, ENOTTY);
    vdpa_world_open(&w, &error);
    g_assert_no_error(error);
    unknown->check(&w);
    restart(&w);
    vdpa_world_cleanup(&w);
}

/* Those without which there is no device. */
static void test_needed_call(gconstpointer call)
{
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    vdpa_model_fail(w.model, call, 0, EIO);
    g_assert_cmpint(vdpa_world_open(&w, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "Input/output error"));
    vdpa_world_cleanup(&w);
}

static void test_no_virtqueues(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    config.n_queues = 0;
    vdpa_world_prepare(&w, &config, 0);
    g_assert_cmpint(vdpa_world_open(&w, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "has no virtqueues"));
    vdpa_world_cleanup(&w);
}

static void test_no_addresses(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    g_autoptr(GError) error = NULL;
    VdpaWorld w;

    config.iova_first = 0x1000000;
    config.iova_last = 0xfff;
    vdpa_world_prepare(&w, &config, 0);
    g_assert_cmpint(vdpa_world_open(&w, &error), <, 0);
    g_assert_cmpstr(error->message, ==,
                    "vdpa0 reaches no addresses: it says 0x1000000-0xfff");
    g_assert_false(vdpa_model_is_open(w.model));
    vdpa_world_cleanup(&w);
}

/* The kernel takes powers of two, and some parents have other limits. */
static void test_odd_size(void)
{
    VdpaModelConfig config = vdpa_model_sim;
    VdpaWorld w;

    config.num_max = 100;
    vdpa_world_init(&w, &config, 0);
    g_assert_cmpuint(w.dev->ops->ring_max_num(w.dev, 0), ==, 64);
    vdpa_world_cleanup(&w);
    config.num_max = 1;
    vdpa_world_init(&w, &config, 0);
    g_assert_cmpuint(w.dev->ops->ring_max_num(w.dev, 0), ==, 1);
    vdpa_world_cleanup(&w);
}

/* A descriptor whose owner is another: what he does goes on. */
static void test_owned_descriptor(void)
{
    g_autoptr(GError) error = NULL;
    VhostVdpaKernel *kernel;
    uint8_t status = 3;
    VdpaWorld w;
    int fd;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    kernel = vdpa_model_kernel(w.model);
    fd = vdpa_model_open(w.model);
    g_assert_cmpint(kernel->ioctl(kernel, fd, VHOST_SET_OWNER, NULL), ==, 0);
    g_assert_cmpint(kernel->ioctl(kernel, fd, VHOST_VDPA_SET_STATUS, &status), ==, 0);
    g_free(vdpa_model_take_calls(w.model));
    g_assert_null(vhost_vdpa_new(&(VhostVdpaConfig){ .id = "vdpa0", .fd = fd, .kernel = kernel },
                                 &error));
    g_assert_cmpstr(error->message, ==,
                    "vdpa0: the descriptor has an owner, who may be using it");
    vdpa_world_assert_calls(&w, "GET_DEVICE_ID SET_OWNER close");
    vdpa_world_cleanup(&w);
}

/* A descriptor that was handed to us has been used, and its rings run. */
static void test_used_descriptor(void)
{
    VdpaWorld w;
    VhostVdpaKernel *kernel;
    uint8_t status = 3;
    int fd;

    vdpa_world_prepare(&w, &vdpa_model_sim, 0);
    kernel = vdpa_model_kernel(w.model);
    fd = vdpa_model_open(w.model);
    g_assert_cmpint(kernel->ioctl(kernel, fd, VHOST_VDPA_SET_STATUS, &status), ==, 0);
    w.dev = vhost_vdpa_new(&(VhostVdpaConfig){ .id = "vdpa0", .fd = fd, .kernel = kernel }, NULL);
    g_assert_nonnull(w.dev);
    g_assert_cmphex(vdpa_model_status(w.model), ==, 0);
    restart(&w);
    vdpa_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    static const char *const needed[] = {
        "GET_DEVICE_ID", "SET_STATUS", "SET_OWNER", "GET_FEATURES", "GET_VRING_NUM",
    };
    unsigned int i;

    vdpa_world_test_init(&argc, &argv);
    g_test_add_func("/vhost-vdpa-probe/everything", test_everything);
    g_test_add_func("/vhost-vdpa-probe/backend-features-are-refused",
                    test_backend_features_are_refused);
    g_test_add_func("/vhost-vdpa-probe/no-virtqueues", test_no_virtqueues);
    g_test_add_func("/vhost-vdpa-probe/no-addresses", test_no_addresses);
    g_test_add_func("/vhost-vdpa-probe/odd-size", test_odd_size);
    g_test_add_func("/vhost-vdpa-probe/used-descriptor", test_used_descriptor);
    g_test_add_func("/vhost-vdpa-probe/owned-descriptor", test_owned_descriptor);
    for (i = 0; i < G_N_ELEMENTS(absences); i++) {
        g_autofree char *path = g_strdup_printf("/vhost-vdpa-probe/absent/%s", absences[i].name);

        g_test_add_data_func(path, &absences[i], test_absent_backend_feature);
    }
    for (i = 0; i < G_N_ELEMENTS(unknowns); i++) {
        g_autofree char *path = g_strdup_printf("/vhost-vdpa-probe/unknown/%s", unknowns[i].call);

        g_test_add_data_func(path, &unknowns[i], test_unknown_call);
    }
    for (i = 0; i < G_N_ELEMENTS(needed); i++) {
        g_autofree char *path = g_strdup_printf("/vhost-vdpa-probe/needed/%s", needed[i]);

        g_test_add_data_func(path, needed[i], test_needed_call);
    }
    return g_test_run();
}
