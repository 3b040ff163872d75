/* SPDX-License-Identifier: BSD-3-Clause */
/* Starting and ending what a test runs beside itself; the frame of test programs. */
#include "rig.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <unistd.h>

#include "wait.h"

#define NET_SLOT 4
#define TEST_SECONDS 300

static const RigFormats formats_of_tests[] = {
    { "split", false, false },
    { "packed", true, true },
    { "split-packed", false, true },
    { "packed-split", true, false },
};

/* The logs of the test that runs, for when it fails. */
static char log_paths[3][128];

static char *in_dir(const Rig *rig, const char *name)
{
    return g_build_filename(rig->dir, name, NULL);
}

static char *log_path(const Rig *rig, unsigned int which, const char *name)
{
    char *path = in_dir(rig, name);

    g_strlcpy(log_paths[which], path, sizeof(log_paths[which]));
    return path;
}

static void add(GPtrArray *args, const char *option, char *value)
{
    g_ptr_array_add(args, g_strdup(option));
    g_ptr_array_add(args, value);
}

static Svqd *start_svqd(const Rig *rig, GPtrArray *args, unsigned int which, const char *name)
{
    g_autofree char *file = g_strconcat(name, ".log", NULL);
    g_autofree char *log = log_path(rig, which, file);
    g_autofree char *socket = g_strdup_printf("%s/%s.sock", rig->dir, name);
    Svqd *svqd;

    g_ptr_array_add(args, NULL);
    svqd = svqd_start((const char *const *)args->pdata, socket, log);
    g_ptr_array_unref(args);
    return svqd;
}

static Svqd *start_device(const Rig *rig, const RigConfig *config)
{
    GPtrArray *args = g_ptr_array_new_with_free_func(g_free);

    add(args, "-backend", g_strdup_printf("loopback,id=dev,queue-pairs=%u", config->pairs));
    add(args, "--socket-path", g_strdup_printf("%s/device.sock", rig->dir));
    return start_svqd(rig, args, 2, "device");
}

char *rig_iothread_of_pair(const RigConfig *config, unsigned int pair)
{
    return g_strdup_printf("io%u", config->pairs - 1 - pair);
}

/*
 * The virtqueues of each are named, but for a remote device: the one that is svqd says it had twice
 * as many as it has, for the number that vhost-user gives is taken for pairs.  There the
 * IOThreads take turns, which comes to the same.
 */
static void add_iothreads(GPtrArray *args, GString *device, const RigConfig *config)
{
    unsigned int i;

    for (i = 0; i < config->pairs; i++) {
        g_autofree char *iothread = rig_iothread_of_pair(config, i);

        add(args, "-object",
            config->poll_max_ns
                ? g_strdup_printf("iothread,id=%s,poll-max-ns=%s", iothread, config->poll_max_ns)
                : g_strdup_printf("iothread,id=%s", iothread));
        g_string_append_printf(device, ",iothread-vq-mapping.%u.iothread=%s", i, iothread);
        if (!config->remote) {
            g_string_append_printf(device, ",iothread-vq-mapping.%u.vqs.0=%u", i, 2 * i);
            g_string_append_printf(device, ",iothread-vq-mapping.%u.vqs.1=%u", i, 2 * i + 1);
        }
    }
}

static Svqd *start_shadow(const Rig *rig, const RigConfig *config)
{
    GPtrArray *args = g_ptr_array_new_with_free_func(g_free);
    GString *device = g_string_new("svq,id=net0,chardev=vm,backend=dev");

    g_string_append_printf(device, ",packed=%s", config->formats->shadow_packed ? "on" : "off");
    if (config->inflight) {
        g_string_append_printf(device, ",inflight=%s/inflight", rig->dir);
    }
    add_iothreads(args, device, config);
    add(args, "-chardev", g_strdup_printf("socket,id=vm,path=%s/vm.sock,server=on", rig->dir));
    if (config->remote) {
        add(args, "-chardev", g_strdup_printf("socket,id=dev,path=%s/device.sock,reconnect-ms=20",
                                              rig->dir));
        add(args, "-backend", g_strdup("vhost-user,id=dev,chardev=dev"));
    } else {
        add(args, "-backend", g_strdup_printf("loopback,id=dev,queue-pairs=%u", config->pairs));
    }
    add(args, "-device", g_string_free(device, FALSE));
    g_ptr_array_add(args, g_strdup("--verbose"));
    return start_svqd(rig, args, 1, "vm");
}

static Qtest *start_qemu(const Rig *rig, const RigConfig *config)
{
    g_autofree char *log = log_path(rig, 0, "qemu.log");
    g_autofree char *chardev = g_strdup_printf("socket,id=vm,path=%s/vm.sock%s", rig->dir,
                                               config->reconnect ? ",reconnect=1" : "");
    g_autofree char *netdev = g_strdup_printf("vhost-user,id=net0,chardev=vm,queues=%u",
                                              config->pairs);
    g_autofree char *device = g_strdup_printf("virtio-net-pci,netdev=net0,addr=%d,vectors=0"
                                              ",disable-legacy=on,romfile=,mq=%s,packed=on",
                                              NET_SLOT, config->pairs > 1 ? "on" : "off");
    const char *args[] = { "-chardev", chardev, "-netdev", netdev, "-device", device, NULL };

    return qtest_start(args, log);
}

void rig_init(Rig *rig, const RigConfig *config)
{
    g_autoptr(GError) error = NULL;

    *rig = (Rig){ .dir = g_dir_make_tmp("svqd-qtest-XXXXXX", &error) };
    g_assert_no_error(error);
    rig->driver = (NetConfig){
        .packed = config->formats->guest_packed,
        .event_idx = true,
        .pairs = config->pairs,
        .rx_size = NET_BUFFER_SIZE,
    };
    rig->device = config->remote ? start_device(rig, config) : NULL;
    rig->svqd = start_shadow(rig, config);
    rig->qtest = start_qemu(rig, config);
    virtio_net_init(&rig->net, rig->qtest, PCI_SLOT_FN(NET_SLOT, 0));
    g_assert_cmpuint(rig->net.max_pairs, ==, config->pairs);
    rig->traffic.net = &rig->net;
}

void rig_init_running(Rig *rig, const RigConfig *config)
{
    rig_init(rig, config);
    virtio_net_start(&rig->net, &rig->driver);
    rig_set_pairs(rig, config->pairs);
}

/* QEMU answers when it has told svqd, which is before svqd has done it. */
void rig_set_pairs(Rig *rig, unsigned int pairs)
{
    const unsigned int all = rig->net.config.pairs;

    if (all > 1) {
        g_assert_cmpuint(virtio_net_set_pairs(&rig->net, pairs), ==, 0);
    }
    WAIT_FOR(svqd_queues_are(rig->svqd, 0, 2 * pairs, "running"));
    WAIT_FOR(svqd_queues_are(rig->svqd, 2 * pairs, 2 * (all - pairs), "stopped"));
}

static void remove_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        g_assert_cmpint(g_unlink(file), ==, 0);
    }
    g_assert_cmpint(g_rmdir(path), ==, 0);
}

void rig_cleanup(Rig *rig)
{
    virtio_net_cleanup(&rig->net);
    qtest_end(rig->qtest);
    svqd_end(rig->svqd, SIGTERM);
    if (rig->device) {
        svqd_end(rig->device, SIGTERM);
    }
    remove_dir(rig->dir);
    g_free(rig->dir);
}

/*
 * A test has failed (SIGABRT, g_error()'s SIGTRAP) or takes too long (SIGALRM): what the processes
 * said is what one wants to read.
 */
static void print_logs(int signal)
{
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(log_paths); i++) {
        int fd = open(log_paths[i], O_RDONLY);
        char text[4096];
        ssize_t n;

        while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0 && write(2, text, (size_t)n) > 0) {
        }
        close(fd);
    }
    raise(signal);      /* its handler was reset */
}

typedef struct Case {
    RigTest *test;
    const RigFormats *formats;
} Case;

static void run_case(const void *data)
{
    const Case *c = data;
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(log_paths); i++) {
        log_paths[i][0] = 0;
    }
    alarm(TEST_SECONDS);
    c->test(c->formats);
    alarm(0);
}

void rig_add_test(const char *name, const RigFormats *formats, RigTest *test)
{
    g_autofree char *path = g_strdup_printf("%s/%s", name, formats->name);
    Case *c = g_new(Case, 1);

    *c = (Case){ test, formats };
    g_test_add_data_func_full(path, c, run_case, g_free);
}

static void add_tests_of_formats(const char *name, RigTest *test, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        rig_add_test(name, &formats_of_tests[i], test);
    }
}

void rig_add_test_all_formats(const char *name, RigTest *test)
{
    add_tests_of_formats(name, test, G_N_ELEMENTS(formats_of_tests));
}

void rig_add_test_both_formats(const char *name, RigTest *test)
{
    add_tests_of_formats(name, test, 2);
}

static void skip_all(void)
{
    g_test_skip("there is no qemu-system-x86_64");
}

int rig_run(int argc, char **argv, void (*add_tests)(void))
{
    const struct sigaction action = { .sa_handler = print_logs, .sa_flags = (int)SA_RESETHAND };

    g_test_init(&argc, &argv, NULL);
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGTRAP, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    if (qtest_is_available()) {
        add_tests();
    } else {
        g_test_add_func("/qtest", skip_all);
    }
    return g_test_run();
}
