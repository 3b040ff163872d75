/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The internet checksum (RFC 1071), for a sender that has left it to the device.
 *
 * Threads: any; nothing is kept between calls.
 */
#ifndef HW_NET_NET_CHECKSUM_H
#define HW_NET_NET_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether the checksum of a frame of @n bytes, from @start on, has its place @offset bytes behind.
 */
bool net_checksum_fits(size_t n, uint16_t start, uint16_t offset);

/* Puts it there, where the sum of the pseudo header is already.  It fits. */
void net_checksum_complete(uint8_t *frame, size_t n, uint16_t start, uint16_t offset);

#endif
