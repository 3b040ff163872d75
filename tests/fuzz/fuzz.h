/* SPDX-License-Identifier: BSD-3-Clause */
/* What a fuzz target is: called by libFuzzer, or by replay.c for each file of the kept corpus. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
