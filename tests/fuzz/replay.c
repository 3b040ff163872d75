/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs a fuzz target over files, without libFuzzer: the kept corpus is a test with any compiler,
 * and a file that crashed the target can be looked at in a debugger.
 *
 * Arguments: files, or directories of files.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static unsigned int n_files;

static void replay_file(const char *path)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *data = NULL;
    size_t size;

    if (!g_file_get_contents(path, &data, &size, &err)) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
    LLVMFuzzerTestOneInput((const uint8_t *)data, size);
    n_files++;
}

static void replay(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    if (!dir) {
        replay_file(path);
        return;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        replay_file(file);
    }
}

int main(int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; i++) {
        replay(argv[i]);
    }
    if (n_files == 0) {
        fprintf(stderr, "no input files\n");
        return 1;
    }
    printf("%u files\n", n_files);
    return 0;
}
