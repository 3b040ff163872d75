/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How it works.  For each bit of the data that is set the 32 bits of the key that begin at the same
 * place are added without carry.
 */
#include "toeplitz.h"

uint32_t toeplitz_hash(const uint8_t *key, const uint8_t *data, size_t n)
{
    uint32_t window = (uint32_t)key[0] << 24 | (uint32_t)key[1] << 16 | (uint32_t)key[2] << 8 |
                      key[3];
    uint32_t hash = 0;

    for (size_t i = 0; i < n; i++) {
        for (int bit = 7; bit >= 0; bit--) {
            hash ^= data[i] >> bit & 1 ? window : 0;
            window = window << 1 | (key[i + 4] >> bit & 1);
        }
    }
    return hash;
}
