/* SPDX-License-Identifier: BSD-3-Clause */
/* The internet checksum that a device completes, and where it may lie. */
#include <glib.h>

#include "../../hw/net/net-checksum.h"

/* The example of RFC 1071, and an odd number of bytes, and nothing. */
static void test_complete(void)
{
    uint8_t bytes[] = { 9, 9, 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0, 0x80 };
    uint8_t ones[] = { 0xff, 0xff, 0, 0 };

    net_checksum_complete(bytes, 12, 2, 8);
    g_assert_cmphex(bytes[10] << 8 | bytes[11], ==, 0x220d);
    bytes[10] = bytes[11] = 0;
    net_checksum_complete(bytes, 13, 2, 8);
    g_assert_cmphex(bytes[10] << 8 | bytes[11], ==, 0xa20c);
    net_checksum_complete(ones, 4, 0, 2);
    g_assert_cmphex(ones[2] << 8 | ones[3], ==, 0xffff);
}

static void test_fits(void)
{
    g_assert_true(net_checksum_fits(4, 0, 2));
    g_assert_true(net_checksum_fits(4, 2, 0));
    g_assert_false(net_checksum_fits(4, 0, 3));
    g_assert_false(net_checksum_fits(4, 4, 0));
    g_assert_false(net_checksum_fits(65535, 0xffff, 0xffff));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net-checksum/complete", test_complete);
    g_test_add_func("/net-checksum/fits", test_fits);
    return g_test_run();
}
