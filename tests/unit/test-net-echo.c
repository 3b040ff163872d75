/* SPDX-License-Identifier: BSD-3-Clause */
/* The neighbour that has every address: frames and its answers, cut short and made up. */
#include <glib.h>
#include <string.h>

#include "../../hw/net/net-echo.h"
#include "lib/random.h"

#define MAX_FRAME 2048
#define ETH_SIZE 14

/* As a Linux guest with 02:00:00:00:00:02 and 10.0.2.15 sends them; sums computed elsewhere. */
typedef struct Case {
    const char *name;
    size_t least;           /* bytes of it that are enough for the answer */
    const char *frame;      /* hexadecimal */
    const char *answer;     /* NULL: the frame itself */
} Case;

static const Case cases[] = {
    { "arp-request", 42,
      "ffffffffffff020000000002080600010800060400010200000000020a00020f0000000000000a00"
      "024d000000000000000000000000000000000000",
      "020000000002026563686f0008060001080006040002026563686f000a00024d0200000000020a00"
      "020f000000000000000000000000000000000000" },
    { "arp-refresh", 42,
      "026563686f00020000000002080600010800060400010200000000020a00020f0000000000000a00"
      "024d000000000000000000000000000000000000",
      "020000000002026563686f0008060001080006040002026563686f000a00024d0200000000020a00"
      "020f000000000000000000000000000000000000" },
    { "arp-request-in-vlan", 46,
      "ffffffffffff02000000000281002064080600010800060400010200000000020a00020f00000000"
      "00000a00024d000000000000000000000000000000000000",
      "020000000002026563686f008100206408060001080006040002026563686f000a00024d02000000"
      "00020a00020f000000000000000000000000000000000000" },
    { "arp-probe", 0,
      "ffffffffffff02000000000208060001080006040001020000000002000000000000000000000a00"
      "024d000000000000000000000000000000000000",
      NULL },
    { "arp-announcement", 0,
      "ffffffffffff020000000002080600010800060400010200000000020a00020f0000000000000a00"
      "020f000000000000000000000000000000000000",
      NULL },
    { "arp-reply", 0,
      "525400123456020000000002080600010800060400020200000000020a00020f5254001234560a00"
      "024d000000000000000000000000000000000000",
      NULL },
    { "arp-of-token-ring", 0,
      "ffffffffffff020000000002080600060800060400010200000000020a00020f0000000000000a00"
      "024d000000000000000000000000000000000000",
      NULL },
    { "echo-request", 42,
      "026563686f000200000000020800450000541c460000400146080a00020f0a00024d08004a5c0b5e"
      "00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f3031323334353637",
      "020000000002026563686f000800450000541c460000400146080a00024d0a00020f0000525c0b5e"
      "00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f3031323334353637" },
    { "echo-request-of-zeros", 42,
      "026563686f0002000000000208004500001c1c460000400146400a00020f0a00024d0800f7ff0000"
      "0000000000000000000000000000000000000000",
      "020000000002026563686f0008004500001c1c460000400146400a00024d0a00020f0000ffff0000"
      "0000000000000000000000000000000000000000" },
    { "echo-request-in-vlan", 46,
      "026563686f00020000000002810000640800450000541c460000400146080a00020f0a00024d0800"
      "4a5c0b5e00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f2021"
      "22232425262728292a2b2c2d2e2f3031323334353637",
      "020000000002026563686f00810000640800450000541c460000400146080a00024d0a00020f0000"
      "525c0b5e00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f2021"
      "22232425262728292a2b2c2d2e2f3031323334353637" },
    { "echo-request-with-options", 86,
      "026563686f000200000000028100000508004f00007c1c460000400130b90a00020f0a00024d0727"
      "04000000000000000000000000000000000000000000000000000000000000000000000000000800"
      "4a5c0b5e00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f2021"
      "22232425262728292a2b2c2d2e2f3031323334353637",
      "020000000002026563686f008100000508004f00007c1c460000400130b90a00024d0a00020f0727"
      "04000000000000000000000000000000000000000000000000000000000000000000000000000000"
      "525c0b5e00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f2021"
      "22232425262728292a2b2c2d2e2f3031323334353637" },
    { "echo-request-in-fragments-1", 42,
      "026563686f000200000000020800450000741c462000400125e80a00020f0a00024d0800b5af0007"
      "0009000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d"
      "4e4f5051525354555657",
      "020000000002026563686f000800450000741c462000400125e80a00024d0a00020f0000bdaf0007"
      "0009000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d"
      "4e4f5051525354555657" },
    { "echo-request-in-fragments-2", 34,
      "026563686f000200000000020800450000501c46000c400146000a00020f0a00024d00070e151c23"
      "2a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b"
      "424950575e656c737a81888f969d",
      "020000000002026563686f000800450000501c46000c400146000a00024d0a00020f00070e151c23"
      "2a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b"
      "424950575e656c737a81888f969d" },
    { "echo-reply", 42,
      "026563686f000200000000020800450000541c460000400146080a00020f0a00024d0000525c0b5e"
      "00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f3031323334353637",
      "020000000002026563686f000800450000541c460000400146080a00024d0a00020f0000525c0b5e"
      "00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f3031323334353637" },
    { "echo-request-to-a-group", 42,
      "01005e0000010200000000020800450000541c460000400172530a00020fe000000108004a5c0b5e"
      "00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f3031323334353637",
      "020000000002026563686f000800450000541c46000040017253e00000010a00020f0000525c0b5e"
      "00019d2ab565000000008ae1060000000000101112131415161718191a1b1c1d1e1f202122232425"
      "262728292a2b2c2d2e2f3031323334353637" },
    { "udp", 42,
      "52540012345602000000000208004500002c1c460000401146200a00020f0a00024d9c4000070018"
      "41fb68656c6c6f2c206e65696768626f7572",
      "02000000000252540012345608004500002c1c460000401146200a00024d0a00020f00079c400018"
      "41fb68656c6c6f2c206e65696768626f7572" },
    { "udp-fragment", 34,
      "5254001234560200000000020800450000501c462001401125fb0a00020f0a00024d00070e151c23"
      "2a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b"
      "424950575e656c737a81888f969d",
      "0200000000025254001234560800450000501c462001401125fb0a00024d0a00020f00070e151c23"
      "2a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b"
      "424950575e656c737a81888f969d" },
    { "tcp-syn", 42,
      "52540012345602000000000208004500003c1c4600004006461b0a00020f0a00024dc73800505f37"
      "59df00000000a002faf08c7d0000020405b40402080a0a3c1d5b0000000001030307",
      "02000000000252540012345608004500003c1c4600004006461b0a00024d0a00020f0050c7385f37"
      "59df00000000a002faf08c7d0000020405b40402080a0a3c1d5b0000000001030307" },
    { "gre", 34,
      "5254001234560200000000020800450000541c460000402f45da0a00020f0a00024d000008000007"
      "0e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f"
      "262d343b424950575e656c737a81888f969d",
      "0200000000025254001234560800450000541c460000402f45da0a00024d0a00020f000008000007"
      "0e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f"
      "262d343b424950575e656c737a81888f969d" },
    { "ipv6-neighbour-solicitation", 0,
      "3333ff00004d02000000000286dd6000000000203afffe800000000000000000000000000002ff02"
      "00000000000000000001ff00004d87005a3b00000000fe80000000000000000000000000004d0101"
      "020000000002",
      NULL },
    { "ipv4-of-version-6", 0,
      "52540012345602000000000208006500001c1c460000401146300a00020f0a00024d000100020008"
      "e77f",
      NULL },
    { "ipv4-with-a-short-header", 0,
      "52540012345602000000000208004400001c1c460000401146300a00020f0a00024d000100020008"
      "e77f",
      NULL },
    { "ipv4-shorter-than-its-header", 0,
      "5254001234560200000000020800450000131c460000401146300a00020f0a00024d000100020008"
      "e77f",
      NULL },
    { "udp-without-a-header", 0,
      "52540012345602000000000208004500001b1c460000401146310a00020f0a00024d000000000000"
      "00000000000000000000000000000000000000",
      NULL },
    { "local-experiment", 0,
      "52540012345602000000000288b500070e151c232a31383f464d545b626970777e858c939aa1a8af"
      "b6bdc4cbd2d9e0e7eef5fc030a11181f262d343b424950575e656c737a81888f969d",
      NULL },
};

static size_t parse(const char *hex, uint8_t bytes[MAX_FRAME])
{
    size_t i, n = strlen(hex) / 2;

    g_assert_cmpuint(n, <=, MAX_FRAME);
    for (i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(g_ascii_xdigit_value(hex[2 * i]) << 4 |
                             g_ascii_xdigit_value(hex[2 * i + 1]));
    }
    return n;
}

/* Has the first @n bytes answered in a block of just that size, for the address sanitizer. */
static void answer_with(uint8_t *frame, size_t n, bool csum_open)
{
    const size_t given = MIN(n, NET_ECHO_BYTES);
    g_autofree uint8_t *block = g_malloc(MAX(given, 1));

    memcpy(block, frame, given);
    net_echo_answer(block, given, csum_open);
    memcpy(frame, block, given);
}

static void answer(uint8_t *frame, size_t n)
{
    answer_with(frame, n, false);
}

static void test_answers(const void *opaque)
{
    const Case *c = opaque;
    uint8_t frame[MAX_FRAME], expected[MAX_FRAME];
    size_t n = parse(c->frame, frame);

    g_assert_cmpuint(parse(c->answer ? c->answer : c->frame, expected), ==, n);
    answer(frame, n);
    g_assert_cmpmem(frame, n, expected, n);
}

/* Cut short, a frame is answered if all that the answer is made of is there, or left alone. */
static void test_cut_short(const void *opaque)
{
    const Case *c = opaque;
    uint8_t frame[MAX_FRAME], expected[MAX_FRAME], cut[MAX_FRAME];
    size_t n = parse(c->frame, frame), len;

    parse(c->answer ? c->answer : c->frame, expected);
    for (len = 0; len <= n; len++) {
        memcpy(cut, frame, len);
        answer(cut, len);
        g_assert_cmpmem(cut, len, len >= c->least ? expected : frame, len);
    }
}

/* A checksum that is still to be made is not touched; all else is answered as ever. */
static void test_open_checksum(const void *opaque)
{
    const Case *c = opaque;
    uint8_t frame[MAX_FRAME], expected[MAX_FRAME];
    size_t n = parse(c->frame, frame), type = frame[12] == 0x81 ? 16 : 12, icmp;

    parse(c->answer ? c->answer : c->frame, expected);
    icmp = type + 2 + (frame[type + 2] & 0xfu) * 4;
    if (g_str_has_prefix(c->name, "echo-request")) {
        memcpy(expected + icmp + 2, frame + icmp + 2, 2);
    }
    answer_with(frame, n, true);
    g_assert_cmpmem(frame, n, expected, n);
}

/* The sum that a right checksum makes 0xffff (RFC 1071), by the book. */
static unsigned int sum(const uint8_t *bytes, size_t n)
{
    uint64_t total = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        total += (uint64_t)bytes[i] << (i % 2 ? 0 : 8);
    }
    while (total >> 16) {
        total = (total & 0xffff) + (total >> 16);
    }
    return (unsigned int)total;
}

/* Echo requests of any contents: the replies' sums are right, and nothing else has changed. */
static void test_sums_of_echo_replies(void)
{
    Random random = { random_seed() };
    uint64_t steps = random_steps(100000);
    uint8_t request[MAX_FRAME], frame[MAX_FRAME];
    size_t ip = ETH_SIZE, icmp = ip + 20, n, i;

    for (i = 0; i < G_N_ELEMENTS(cases) && strcmp(cases[i].name, "echo-request"); i++) {
    }
    n = parse(cases[i].frame, request);
    while (steps--) {
        const bool sparse = random_one_in(&random, 2);
        unsigned int check;

        memset(request + icmp, 0, n - icmp);
        for (i = icmp + 4; i < n; i++) {
            request[i] = !sparse || random_one_in(&random, 64) ? (uint8_t)random_u64(&random) : 0;
        }
        request[icmp] = 8;
        check = ~sum(request + icmp, n - icmp) & 0xffff;
        request[icmp + 2] = (uint8_t)(check >> 8);
        request[icmp + 3] = (uint8_t)check;

        memcpy(frame, request, n);
        answer(frame, n);
        g_assert_cmpuint(frame[icmp], ==, 0);
        g_assert_cmphex(sum(frame + icmp, n - icmp), ==, 0xffff);
        g_assert_cmphex(sum(frame + ip, icmp - ip), ==, 0xffff);
        g_assert_cmpmem(frame + icmp + 4, n - icmp - 4, request + icmp + 4, n - icmp - 4);
    }
}

/*
 * Frames with random bytes in them.  Whatever is answered, the sum over an IPv4 packet stays
 * what it was; a frame of another kind that is not ARP is left alone.
 */
static void test_any_bytes(void)
{
    Random random = { random_seed() };
    uint64_t steps = random_steps(1000000);
    uint8_t frame[MAX_FRAME], before[MAX_FRAME];

    while (steps--) {
        const Case *c = &cases[random_below(&random, G_N_ELEMENTS(cases))];
        unsigned int changes = random_below(&random, 8);
        size_t n = parse(c->frame, frame), type = 12;

        while (changes--) {
            frame[random_below(&random, (uint32_t)MIN(n, NET_ECHO_BYTES))] =
                (uint8_t)random_u64(&random);
        }
        n = random_one_in(&random, 4) ? random_below(&random, (uint32_t)n + 1) : n;
        memcpy(before, frame, n);
        answer(frame, n);
        if (!memcmp(frame, before, n)) {
            continue;
        }
        type += before[12] == 0x81 && before[13] == 0 ? 4 : 0;
        g_assert_cmpuint(before[type], ==, 8);
        if (before[type + 1] == 0) {
            g_assert_cmphex(sum(frame + type, n - type) % 0xffff, ==,
                            sum(before + type, n - type) % 0xffff);
        } else {
            g_assert_cmphex(before[type + 1], ==, 6);
        }
        g_assert_cmpmem(frame, 6, before + 6, 6);
        g_assert_cmpuint(frame[6] & 1, ==, 0);
    }
}

int main(int argc, char **argv)
{
    unsigned int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *answers = g_strdup_printf("/net-echo/answers/%s", cases[i].name);
        g_autofree char *open = g_strdup_printf("/net-echo/open-checksum/%s", cases[i].name);
        g_autofree char *cut = g_strdup_printf("/net-echo/cut-short/%s", cases[i].name);

        g_test_add_data_func(answers, &cases[i], test_answers);
        g_test_add_data_func(open, &cases[i], test_open_checksum);
        g_test_add_data_func(cut, &cases[i], test_cut_short);
    }
    g_test_add_func("/net-echo/sums-of-echo-replies", test_sums_of_echo_replies);
    g_test_add_func("/net-echo/any-bytes", test_any_bytes);
    return g_test_run();
}
