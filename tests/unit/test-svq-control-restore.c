/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state of a control queue in the hands of others: the VMM that saves and loads it, and the
 * in-flight file after a kill; and how long it takes to bring a device to a large one.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hw/svq/inflight.h"
#include "lib/control-world.h"

#define STATE       "MAC_ADDR_SET 02:00:00:00:00:07\nRX_PROMISC on\nVLAN_ADD 5\n"
#define RESTORE     "MAC_ADDR_SET 02:00:00:00:00:07; RX_PROMISC on; VLAN_ADD 5"
#define MORE        "MAC_ADDR_SET 02:00:00:00:00:07\nRX_PROMISC on\nRX_ALLMULTI on\nVLAN_ADD 5\n"
#define ANNOUNCE    2u      /* in the status of the configuration space */

static char *dir, *path, *copy;

static void make_state(ControlWorld *w)
{
    control_world_do(w, "VLAN_ADD 5");
    control_world_do(w, "RX_PROMISC on");
    control_world_do(w, "MAC_ADDR_SET 02:00:00:00:00:07");
    control_world_assert_state(w, STATE);
    g_free(control_world_take_commands(w));
}

static void begin(ControlWorld *w, const ControlWorldConfig *config)
{
    control_world_init(w, config);
    control_world_start(w);
    make_state(w);
}

/* The VMM. */

static GBytes *save_state(void)
{
    ControlWorld w;
    GBytes *state;

    begin(&w, &(ControlWorldConfig){ 0 });
    g_assert_null(control_world_save(&w));
    g_assert_true(mode_has_said("net0: the state is saved when the queues are stopped"));
    control_world_pause(&w);
    state = control_world_save(&w);
    g_assert_nonnull(state);
    control_world_cleanup(&w);
    return state;
}

/* Connected, and loaded. */
static void load_into(ControlWorld *w, const ControlWorldConfig *config, GBytes *state)
{
    control_world_init(w, config);
    control_world_connect(w);
    g_assert_true(control_world_load(w, state));
    control_world_assert_state(w, STATE);
}

/* Then its guest goes on, here from the beginning of its rings. */
static void start_loaded(ControlWorld *w)
{
    unsigned int q;

    for (q = 0; q <= CONTROL_RING; q++) {
        control_world_start_ring(w, q);
    }
    control_world_driver_ok(w);
    control_world_await_running(w);
}

static void test_save_and_load(void)
{
    g_autoptr(GBytes) state = save_state(), again = NULL;
    ControlWorld w;

    load_into(&w, &(ControlWorldConfig){ 0 }, state);
    again = control_world_save(&w);
    g_assert_true(g_bytes_equal(state, again));
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    control_world_start_ring(&w, CONTROL_RING);
    control_world_driver_ok(&w);
    control_world_await_taken(&w, 1);
    g_assert_false(control_world_has_ring(&w, 0));
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    control_world_await_running(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    g_assert_false(control_world_load(&w, state));
    g_assert_true(mode_has_said("net0: a state is loaded before the queues are started"));
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

/* Onto a device that has been in use: it is reset before. */
static void test_load_replaces(void)
{
    g_autoptr(GBytes) state = save_state();
    g_autofree char *calls = NULL;
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ 0 });
    control_world_start(&w);
    control_world_do(&w, "RX_ALLMULTI on");
    g_free(control_world_take_commands(&w));
    control_world_pause(&w);
    g_free(fake_device_take_calls(&w.rig.fake));
    g_assert_true(control_world_load(&w, state));
    calls = fake_device_take_calls(&w.rig.fake);
    g_assert_nonnull(strstr(calls, "reset"));
    start_loaded(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_assert_state(&w, STATE);
    control_world_cleanup(&w);
}

static void test_garbage_is_refused(void)
{
    g_autoptr(GBytes) state = save_state(), empty = g_bytes_new(NULL, 0);
    g_autoptr(GBytes) shorter = g_bytes_new_from_bytes(state, 0, g_bytes_get_size(state) - 1);
    ControlWorld w;

    begin(&w, &(ControlWorldConfig){ 0 });
    control_world_do(&w, "RX_ALLMULTI on");
    control_world_pause(&w);
    g_free(control_world_take_commands(&w));
    g_free(fake_device_take_calls(&w.rig.fake));
    g_assert_false(control_world_load(&w, shorter));
    g_assert_false(control_world_load(&w, empty));
    control_world_assert_state(&w, MORE);
    mode_assert_calls(&w.rig, "");
    control_world_cleanup(&w);
}

/* The migration was given up: what was loaded is nobody's. */
static void test_loaded_and_left(void)
{
    g_autoptr(GBytes) state = save_state();
    ControlWorld w;

    load_into(&w, &(ControlWorldConfig){ 0 }, state);
    vmm_disconnect(&w.rig.vmm);
    control_world_assert_state(&w, "");
    control_world_start(&w);
    control_world_assert_commands(&w, "");
    g_assert_cmphex(control_world_net_status(&w), ==, 1);
    control_world_cleanup(&w);
}

static void test_loaded_for_guest_without(void)
{
    g_autoptr(GBytes) state = save_state();
    ControlWorld w;

    load_into(&w, &(ControlWorldConfig){ .guest_without = VIRTIO_NET_CTRL_FEATURES }, state);
    control_world_start_ring(&w, 0);
    control_world_start_ring(&w, 1);
    control_world_driver_ok(&w);
    control_world_await_running(&w);
    control_world_assert_state(&w, "");
    control_world_assert_commands(&w, "");
    control_world_cleanup(&w);
}

/* The guest has come from elsewhere, and shall say where it is now. */
static void test_announce(void)
{
    g_autoptr(GBytes) state = save_state();
    ControlWorld w;
    int news;

    load_into(&w, &(ControlWorldConfig){ 0 }, state);
    g_assert_true(w.rig.vmm.features & CONTROL_WORLD_ANNOUNCE);
    news = control_world_listen(&w);
    g_assert_cmphex(control_world_net_status(&w), ==, 1);
    start_loaded(&w);
    control_world_await_news(news);
    g_assert_cmphex(control_world_net_status(&w), ==, 1 | ANNOUNCE);
    control_world_do(&w, "ANNOUNCE_ACK");
    g_assert_cmphex(control_world_net_status(&w), ==, 1);
    /* That is between the guest and us, and a device that comes back is no other place. */
    control_world_assert_commands(&w, RESTORE);
    g_assert_false(w.rig.fake.features & CONTROL_WORLD_ANNOUNCE);
    control_world_replace_device(&w);
    control_world_await_running(&w);
    g_assert_cmphex(control_world_net_status(&w), ==, 1);
    close(news);
    control_world_cleanup(&w);
}

static void test_announce_to_guest_without(void)
{
    g_autoptr(GBytes) state = save_state();
    ControlWorld w;

    load_into(&w, &(ControlWorldConfig){ .guest_without = CONTROL_WORLD_ANNOUNCE }, state);
    start_loaded(&w);
    g_assert_cmphex(control_world_net_status(&w), ==, 1);
    g_assert_cmpuint(control_world_try(&w, "ANNOUNCE_ACK"), ==, NET_CTRL_ERR);
    control_world_cleanup(&w);
}

/* The in-flight file. */

static const ControlWorldConfig *with_file(void)
{
    static ControlWorldConfig config;

    config.inflight = path;
    g_unlink(path);
    return &config;
}

static void test_kill(void)
{
    ControlWorld w;

    begin(&w, with_file());
    control_world_kill(&w, copy);
    control_world_assert_state(&w, STATE);
    control_world_go_on(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_do(&w, "RX_ALLMULTI on");
    control_world_assert_state(&w, MORE);
    control_world_cleanup(&w);
}

/* In the middle of a command, which is not lost. */
static void test_kill_with_command_in_flight(void)
{
    ControlWorld w;

    begin(&w, with_file());
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .never = true });
    control_world_post(&w, "RX_ALLMULTI on");
    control_world_await_commands(&w, "RX_ALLMULTI on");
    control_world_kill(&w, copy);
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ 0 });
    control_world_assert_state(&w, STATE);
    control_world_go_on(&w);
    g_assert_cmpuint(control_world_await_ack(&w), ==, NET_CTRL_OK);
    control_world_assert_commands(&w, RESTORE "; RX_ALLMULTI on");
    control_world_assert_state(&w, MORE);
    control_world_cleanup(&w);
}

/* What was loaded is kept like what was commanded. */
static void test_kill_after_load(void)
{
    g_autoptr(GBytes) state = save_state();
    ControlWorld w;

    load_into(&w, with_file(), state);
    start_loaded(&w);
    g_free(control_world_take_commands(&w));
    control_world_kill(&w, copy);
    control_world_assert_state(&w, STATE);
    control_world_go_on(&w);
    control_world_assert_commands(&w, RESTORE);
    control_world_cleanup(&w);
}

/* The guest was reset while there was no svqd, or it is another. */
static void test_kill_and_fresh_guest(void)
{
    ControlWorld w;

    begin(&w, with_file());
    control_world_kill(&w, copy);
    control_world_start(&w);
    control_world_assert_state(&w, "");
    control_world_assert_commands(&w, "");
    control_world_restart(&w, copy);
    control_world_assert_state(&w, "");
    control_world_cleanup(&w);
}

/* A damaged file. */

#define PLACE_BYTES (SVQ_INFLIGHT_STATE_BYTES / 2)

/* Where the two last states are; which is the newer. */
typedef struct Places {
    int fd;
    off_t at[2];
    uint8_t *bytes[2];
    size_t n[2];            /* up to the last byte that is not 0 */
    unsigned int newer;
} Places;

static void places_read(Places *places, const char *file)
{
    uint64_t seq[2];
    struct stat st;
    unsigned int i;

    places->fd = open(file, O_RDWR | O_CLOEXEC);
    g_assert_no_errno(fstat(places->fd, &st));
    for (i = 0; i < 2; i++) {
        uint8_t *bytes = g_malloc(PLACE_BYTES);
        size_t n = PLACE_BYTES;

        places->at[i] = st.st_size - (off_t)(2 - i) * PLACE_BYTES;
        g_assert_cmpint(pread(places->fd, bytes, PLACE_BYTES, places->at[i]), ==, PLACE_BYTES);
        memcpy(&seq[i], bytes, sizeof(seq[i]));
        while (n && !bytes[n - 1]) {
            n--;
        }
        places->bytes[i] = bytes;
        places->n[i] = n;
    }
    places->newer = seq[1] > seq[0];
}

static void places_free(Places *places)
{
    close(places->fd);
    g_free(places->bytes[0]);
    g_free(places->bytes[1]);
}

static void put(const Places *places, unsigned int place, size_t offset, const void *bytes,
                size_t n)
{
    g_assert_cmpint(pwrite(places->fd, bytes, n, places->at[place] + (off_t)offset), ==, n);
}

/* A file whose newer state is MORE, and whose older one STATE; svqd works on another. */
static void make_file(ControlWorld *w, Places *places)
{
    begin(w, with_file());
    control_world_do(w, "RX_ALLMULTI on");
    control_world_kill(w, copy);
    control_world_restart(w, NULL);
    places_read(places, copy);
}

static void assert_file_has(ControlWorld *w, const char *lines)
{
    control_world_restart(w, copy);
    control_world_assert_state(w, lines);
    control_world_restart(w, NULL);     /* which lets go of the file */
}

/* Each byte of the newer in turn: the older one is taken. */
static void test_damaged_byte(void)
{
    ControlWorld w;
    Places places;
    size_t i;

    make_file(&w, &places);
    assert_file_has(&w, MORE);
    for (i = 0; i < places.n[places.newer]; i++) {
        const uint8_t *byte = &places.bytes[places.newer][i];
        const uint8_t wrong = *byte ^ (uint8_t)(1u << i % 8);

        put(&places, places.newer, i, &wrong, 1);
        assert_file_has(&w, STATE);
        put(&places, places.newer, i, byte, 1);
    }
    assert_file_has(&w, MORE);
    places_free(&places);
    control_world_cleanup(&w);
}

/* Both: no state, but a life after it. */
static void test_damaged_twice(void)
{
    const uint8_t wrong = 0x55;
    ControlWorld w;
    Places places;

    make_file(&w, &places);
    put(&places, 0, places.n[0] - 1, &wrong, 1);
    put(&places, 1, places.n[1] - 1, &wrong, 1);
    control_world_restart(&w, copy);
    control_world_assert_state(&w, "");
    control_world_start(&w);
    make_state(&w);
    control_world_restart(&w, copy);
    control_world_assert_state(&w, STATE);
    places_free(&places);
    control_world_cleanup(&w);
}

/* A kill at any store of the next state: over the older one, whose number is taken away first. */
static void test_torn_write(void)
{
    static const uint64_t none;
    ControlWorld w;
    Places places;
    unsigned int older;
    size_t i, n;

    make_file(&w, &places);
    older = !places.newer;
    n = MAX(places.n[0], places.n[1]);
    put(&places, older, 0, &none, sizeof(none));
    for (i = sizeof(none); i <= n; i++) {
        put(&places, older, i, places.bytes[places.newer] + i, 1);
        assert_file_has(&w, MORE);
    }
    places_free(&places);
    control_world_cleanup(&w);
}

static void test_file_of_version_1(void)
{
    static const uint32_t version = 1;
    ControlWorld w;
    int fd;

    begin(&w, with_file());
    control_world_kill(&w, copy);
    control_world_restart(&w, NULL);
    fd = open(copy, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, &version, sizeof(version), 8), ==, sizeof(version));
    close(fd);
    control_world_restart(&w, copy);
    g_assert_true(mode_has_said("is damaged or of another version of svqd: it begins anew"));
    control_world_assert_state(&w, "");
    control_world_go_on(&w);
    control_world_do(&w, "RX_PROMISC on");
    control_world_assert_state(&w, "RX_PROMISC on\n");
    control_world_cleanup(&w);
}

/* A large state, on a device that takes a millisecond for a command, and any number at once. */

#define LATENCY_US  1000
#define SERIAL      64u         /* commands by which that is measured */

static void apply(NetCtrlState *state, const char *text)
{
    static const NetCtrlLimits limits = {
        .features = UINT64_MAX, .max_pairs = 1, .max_key_bytes = 40, .max_table = 128,
        .hash_types = 0x3f,
    };
    g_autoptr(GByteArray) bytes = net_ctrl_from_string(text, NULL);
    NetCtrlCommand command;
    NetCtrlError error;

    g_assert_cmpint(net_ctrl_parse(&command, bytes->data, bytes->len, &limits, &error), ==, 0);
    net_ctrl_state_apply(state, &command);
}

/* 64 addresses, 4094 VLANs, an indirection table of 128 entries. */
static GBytes *large_state(void)
{
    g_autoptr(GString) macs = g_string_new("MAC_TABLE_SET");
    g_autoptr(GString) rss = g_string_new("MQ_RSS_CONFIG types=0x3f unclassified=0 table=0");
    g_autoptr(NetCtrlState) state = net_ctrl_state_new();
    unsigned int i;

    for (i = 0; i < 64; i++) {
        g_string_append_printf(macs, " 02:00:00:00:01:%02x", i);
    }
    g_string_append(macs, " /");
    for (i = 1; i < 128; i++) {
        g_string_append(rss, ",0");
    }
    g_string_append(rss, " transmit=1 key=");
    for (i = 0; i < 40; i++) {
        g_string_append_printf(rss, "%02x", i);
    }
    apply(state, macs->str);
    apply(state, rss->str);
    for (i = 1; i <= 4094; i++) {
        g_autofree char *vlan = g_strdup_printf("VLAN_ADD %u", i);

        apply(state, vlan);
    }
    return net_ctrl_state_save(state);
}

static void test_large_state(void)
{
    const unsigned int commands = 2 + 4094;
    g_autoptr(GBytes) state = large_state();
    int64_t restore_us, serial_us;
    CtrlDeviceStats stats;
    unsigned int i;
    ControlWorld w;

    control_world_init(&w, &(ControlWorldConfig){ 0 });
    ctrl_device_set(w.ctrl, &(CtrlDeviceKnobs){ .latency_us = LATENCY_US });
    control_world_connect(&w);
    g_assert_true(control_world_load(&w, state));
    restore_us = g_get_monotonic_time();
    start_loaded(&w);
    restore_us = g_get_monotonic_time() - restore_us;
    stats = ctrl_device_get_stats(w.ctrl);
    g_assert_cmpuint(stats.answered, ==, commands);

    serial_us = g_get_monotonic_time();
    for (i = 0; i < SERIAL; i++) {
        control_world_do(&w, "RX_PROMISC on");
    }
    serial_us = (g_get_monotonic_time() - serial_us) * commands / SERIAL;
    g_test_message("%u commands: %" G_GINT64_FORMAT " us, up to %u at once; one after the other %"
                   G_GINT64_FORMAT " us; a ratio of 1/%.1f", commands, restore_us,
                   stats.most_waiting, serial_us, (double)serial_us / (double)restore_us);
    g_assert_cmpint(serial_us, >=, (int64_t)commands * LATENCY_US);
    g_assert_cmpint(restore_us, <, serial_us / 8);
    control_world_cleanup(&w);
}

int main(int argc, char **argv)
{
    int ret;

    mode_test_init(&argc, &argv);
    dir = g_dir_make_tmp("svq-XXXXXX", NULL);
    path = g_build_filename(dir, "inflight", NULL);
    copy = g_build_filename(dir, "copy", NULL);
    g_test_add_func("/svq-control-restore/save-and-load", test_save_and_load);
    g_test_add_func("/svq-control-restore/load-replaces", test_load_replaces);
    g_test_add_func("/svq-control-restore/garbage-is-refused", test_garbage_is_refused);
    g_test_add_func("/svq-control-restore/loaded-and-left", test_loaded_and_left);
    g_test_add_func("/svq-control-restore/loaded-for-guest-without", test_loaded_for_guest_without);
    g_test_add_func("/svq-control-restore/announce", test_announce);
    g_test_add_func("/svq-control-restore/announce-to-guest-without",
                    test_announce_to_guest_without);
    g_test_add_func("/svq-control-restore/kill", test_kill);
    g_test_add_func("/svq-control-restore/kill-with-command-in-flight",
                    test_kill_with_command_in_flight);
    g_test_add_func("/svq-control-restore/kill-after-load", test_kill_after_load);
    g_test_add_func("/svq-control-restore/kill-and-fresh-guest", test_kill_and_fresh_guest);
    g_test_add_func("/svq-control-restore/damaged-byte", test_damaged_byte);
    g_test_add_func("/svq-control-restore/damaged-twice", test_damaged_twice);
    g_test_add_func("/svq-control-restore/torn-write", test_torn_write);
    g_test_add_func("/svq-control-restore/file-of-version-1", test_file_of_version_1);
    g_test_add_func("/svq-control-restore/large-state", test_large_state);
    ret = rig_test_run();
    g_unlink(path);
    g_unlink(copy);
    g_rmdir(dir);
    g_free(path);
    g_free(copy);
    g_free(dir);
    return ret;
}
