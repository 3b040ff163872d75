/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of the in-flight records: made, kept, locked, and begun anew when it is not ours.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hw/svq/inflight.h"

static char *dir, *path;

static SvqInflight *open_records(void)
{
    g_autoptr(GError) error = NULL;
    SvqInflight *inflight = svq_inflight_new(path, &error);

    g_assert_no_error(error);
    return inflight;
}

static void assert_refused(const char *where, const char *words)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(svq_inflight_new(where, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, words));
}

static void set_live(VringInflight *record)
{
    record->live = VRING_INFLIGHT_LIVE;
}

static void test_records_are_kept(void)
{
    SvqInflight *inflight = open_records();
    struct stat st;

    set_live(svq_inflight_get(inflight, 0, 256));
    set_live(svq_inflight_get(inflight, 255, VRING_MAX_SIZE));
    svq_inflight_get(inflight, 255, VRING_MAX_SIZE)->slots[VRING_MAX_SIZE - 1] = 7;
    svq_inflight_free(inflight);

    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    /* Places that no queue has used take no room. */
    g_assert_cmpint(st.st_blocks * 512, <, st.st_size / 64);

    inflight = open_records();
    g_assert_true(vring_inflight_is_live(svq_inflight_get(inflight, 0, 256)));
    g_assert_false(vring_inflight_is_live(svq_inflight_get(inflight, 1, 256)));
    g_assert_true(vring_inflight_is_live(svq_inflight_get(inflight, 255, VRING_MAX_SIZE)));
    g_assert_cmpuint(svq_inflight_get(inflight, 255, VRING_MAX_SIZE)->slots[VRING_MAX_SIZE - 1], ==,
                     7);
    svq_inflight_clear(inflight, 0);
    g_assert_false(vring_inflight_is_live(svq_inflight_get(inflight, 0, 256)));
    svq_inflight_free(inflight);
    g_assert_cmpint(g_unlink(path), ==, 0);
}

static void test_made_in_vain(void)
{
    svq_inflight_free(open_records());
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_in_use(void)
{
    SvqInflight *inflight = open_records();

    assert_refused(path, "is in use");
    svq_inflight_free(inflight);
}

static void test_cannot_be_opened(void)
{
    g_autofree char *nowhere = g_strdup_printf("%s/none/net0", dir);

    assert_refused(nowhere, nowhere);
    assert_refused("/dev/null", "is no regular file");
    assert_refused(dir, "cannot be opened");
}

static void assert_begins_anew(void)
{
    SvqInflight *inflight;

    g_test_expect_message("svq", G_LOG_LEVEL_WARNING, "*begins anew*");
    inflight = open_records();
    g_test_assert_expected_messages();
    g_assert_false(vring_inflight_is_live(svq_inflight_get(inflight, 0, 256)));
    svq_inflight_free(inflight);
}

/* Makes a file with a live record, and then does with it what @spoil does. */
static void spoil_file(void (*spoil)(FILE *file, off_t size))
{
    SvqInflight *inflight = open_records();
    struct stat st;
    FILE *file;

    set_live(svq_inflight_get(inflight, 0, 256));
    svq_inflight_free(inflight);
    g_assert_cmpint(stat(path, &st), ==, 0);
    file = fopen(path, "r+");
    g_assert_nonnull(file);
    spoil(file, st.st_size);
    fclose(file);
    assert_begins_anew();
    g_assert_cmpint(g_unlink(path), ==, 0);
}

static void truncate_it(FILE *file, off_t size)
{
    g_assert_cmpint(ftruncate(fileno(file), size / 2), ==, 0);
}

static void lengthen_it(FILE *file, off_t size)
{
    g_assert_cmpint(ftruncate(fileno(file), size + 1), ==, 0);
}

static void make_it_older(FILE *file, off_t size)
{
    g_assert_cmpint(fseek(file, 8, SEEK_SET), ==, 0);
    g_assert_cmpint(fputc(0, file), ==, 0);
}

static void blank_the_header(FILE *file, off_t size)
{
    for (unsigned int i = 0; i < 64; i++) {
        fputc(0, file);
    }
}

static void write_random_bytes(FILE *file, off_t size)
{
    g_assert_cmpint(fseek(file, 8, SEEK_SET), ==, 0);
    for (unsigned int i = 0; i < 100000; i++) {
        fputc((int)g_random_int_range(0, 256), file);
    }
}

static void test_begins_anew(void)
{
    spoil_file(truncate_it);
    spoil_file(lengthen_it);
    spoil_file(make_it_older);
    spoil_file(write_random_bytes);
    spoil_file(blank_the_header);
}

/* A slip of the pen must not cost a disk image. */
static void test_not_ours(void)
{
    static const char *const contents[] = { "x", "svqd-ifl",
                                            "somebody else's file, longer than a header" };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(contents); i++) {
        g_autofree char *is = NULL;

        g_assert_true(g_file_set_contents(path, contents[i], -1, NULL));
        assert_refused(path, "has something else in it");
        g_assert_true(g_file_get_contents(path, &is, NULL, NULL));
        g_assert_cmpstr(is, ==, contents[i]);
    }
    g_assert_cmpint(g_unlink(path), ==, 0);
}

/* The records of a full file system: what was not there is not made by looking. */
static void test_clearing_takes_no_room(void)
{
    SvqInflight *inflight = open_records();
    struct stat before, after;
    unsigned int i;

    svq_inflight_get(inflight, 0, 256);
    g_assert_cmpint(stat(path, &before), ==, 0);
    for (i = 0; i < 256; i++) {
        svq_inflight_clear(inflight, i);
    }
    g_assert_cmpint(stat(path, &after), ==, 0);
    g_assert_cmpint(after.st_blocks, ==, before.st_blocks);
    svq_inflight_free(inflight);
    g_assert_cmpint(g_unlink(path), ==, 0);
}

static void test_without_a_file(void)
{
    SvqInflight *inflight = svq_inflight_new(NULL, NULL);

    g_assert_nonnull(inflight);
    svq_inflight_clear(inflight, 3);
    set_live(svq_inflight_get(inflight, 3, 256));
    svq_inflight_clear(inflight, 3);
    g_assert_false(vring_inflight_is_live(svq_inflight_get(inflight, 3, 256)));
    svq_inflight_free(inflight);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("svq-inflight-XXXXXX", NULL);
    path = g_build_filename(dir, "net0", NULL);
    g_test_add_func("/svq-inflight/records-are-kept", test_records_are_kept);
    g_test_add_func("/svq-inflight/made-in-vain", test_made_in_vain);
    g_test_add_func("/svq-inflight/in-use", test_in_use);
    g_test_add_func("/svq-inflight/cannot-be-opened", test_cannot_be_opened);
    g_test_add_func("/svq-inflight/begins-anew", test_begins_anew);
    g_test_add_func("/svq-inflight/not-ours", test_not_ours);
    g_test_add_func("/svq-inflight/clearing-takes-no-room", test_clearing_takes_no_room);
    g_test_add_func("/svq-inflight/without-a-file", test_without_a_file);
    ret = g_test_run();
    g_assert_cmpint(g_rmdir(dir), ==, 0);
    g_free(path);
    g_free(dir);
    return ret;
}
