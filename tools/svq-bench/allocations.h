/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counts memory allocations, for programs that claim to make none.
 */
#ifndef TOOLS_SVQ_BENCH_ALLOCATIONS_H
#define TOOLS_SVQ_BENCH_ALLOCATIONS_H

#include <stdbool.h>
#include <stdint.h>

/* False under a sanitizer, which has an allocator of its own, and without glibc. */
bool allocations_are_counted(void);

/* Allocations that the calling thread has made, GLib's and every other library's included. */
uint64_t allocations_of_thread(void);

#endif
