/* SPDX-License-Identifier: BSD-3-Clause */
/* The sum of 16-bit words in ones' complement, an odd byte being the upper half of the last. */
#include "net-checksum.h"

bool net_checksum_fits(size_t n, uint16_t start, uint16_t offset)
{
    return (size_t)start + offset + 2 <= n;
}

void net_checksum_complete(uint8_t *frame, size_t n, uint16_t start, uint16_t offset)
{
    uint8_t *place = frame + start + offset;
    uint32_t sum = 0;           /* of less than 2^16 words: no carry is lost */

    for (size_t i = start; i < n; i++) {
        sum += (i - start) % 2 ? frame[i] : (uint32_t)frame[i] << 8;
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum = ~sum & 0xffff;
    /* Both are zero, but to UDP 0 says that there is no checksum. */
    sum = sum ? sum : 0xffff;
    place[0] = (uint8_t)(sum >> 8);
    place[1] = (uint8_t)sum;
}
