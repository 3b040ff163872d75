/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A tap device with several queues, in a network namespace of this process's own.
 *
 * How it works.  Left to itself tap sends a flow to the queue that its last frame came from, which
 * it notes only after it has handed the frame on: the answer to the first may be faster.  So a
 * program of three instructions chooses the queue.  Where a frame came from is told by a fan-out of
 * packet sockets by the queue that the kernel noted, which it counts from 1.
 */
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UDP_DESTINATION_OFFSET 36   /* behind Ethernet, IPv4, and the source port */
#define SOCKET_BUFFER (8 << 20)

static gboolean fail(GError **errp, const char *what)
{
    const int error = errno;

    g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(error), "%s: %s", what,
                g_strerror(error));
    return FALSE;
}

static int load_steering(void)
{
    const struct bpf_insn program[] = {
        { .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_6, .src_reg = BPF_REG_1 },
        { .code = BPF_LD | BPF_ABS | BPF_H, .imm = UDP_DESTINATION_OFFSET },
        { .code = BPF_JMP | BPF_EXIT },
    };
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
        .insns = (uintptr_t)program,
        .insn_cnt = G_N_ELEMENTS(program),
        .license = (uintptr_t)"BSD",
    };

    return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* The device outlives its file: another process opens its queues. */
static gboolean make_device(const char *name, unsigned int queues, GError **errp)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE };
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    int program;

    g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
    if (queues == 1) {
        request.ifr_flags &= (short)~IFF_MULTI_QUEUE;
    }
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) < 0 || ioctl(tun, TUNSETPERSIST, 1) < 0) {
        return fail(errp, "/dev/net/tun");
    }
    program = load_steering();
    if (program < 0 || ioctl(tun, TUNSETSTEERINGEBPF, &program) < 0) {
        return fail(errp, "choice of a queue");
    }
    close(program);
    close(tun);
    return TRUE;
}

static gboolean set_up(const char *name, GError **errp)
{
    struct ifreq request = { .ifr_flags = IFF_UP | IFF_RUNNING };
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0) {
        return fail(errp, name);
    }
    close(sock);
    return TRUE;
}

/* Nothing but what the test sends: no address of its own, so nothing to say to neighbours. */
static void silence_ipv6(const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    FILE *file = fopen(path, "w");      /* not there: nobody speaks IPv6 */

    if (file) {
        fputs("1", file);
        fclose(file);
    }
}

gboolean tap_create(const char *name, unsigned int queues, GError **errp)
{
    if (unshare(CLONE_NEWNET) < 0) {
        return fail(errp, "network namespace");
    }
    if (!make_device(name, queues, errp)) {
        return FALSE;
    }
    silence_ipv6(name);
    return set_up(name, errp);
}

static gboolean open_socket(int *sock, unsigned int index, unsigned int sockets, GError **errp)
{
    const struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)index,
    };
    const int size = SOCKET_BUFFER, fanout = 1 | PACKET_FANOUT_QM << 16;

    *sock = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*sock < 0 ||
        setsockopt(*sock, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
        bind(*sock, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        (sockets > 1 &&
         setsockopt(*sock, SOL_PACKET, PACKET_FANOUT, &fanout, sizeof(fanout)) < 0)) {
        return fail(errp, "packet socket");
    }
    return TRUE;
}

gboolean tap_open_sockets(const char *name, int *sockets, unsigned int queues, GError **errp)
{
    const unsigned int index = if_nametoindex(name);
    unsigned int i;

    for (i = 0; i < queues; i++) {
        /* The first to join the fan-out gets what the last queue received, and so on. */
        if (!open_socket(&sockets[(i + queues - 1) % queues], index, queues, errp)) {
            return FALSE;
        }
    }
    return TRUE;
}
