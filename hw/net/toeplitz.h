/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Toeplitz hash, by which receive-side scaling tells flows apart (virtio 1.3, section
 * 5.1.6.4.3).
 *
 * Threads: any; nothing is kept between calls.
 */
#ifndef HW_NET_TOEPLITZ_H
#define HW_NET_TOEPLITZ_H

#include <stddef.h>
#include <stdint.h>

/* Of @data[0..n) with @key, which has n + 4 bytes at least. */
uint32_t toeplitz_hash(const uint8_t *key, const uint8_t *data, size_t n);

#endif
