/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VhostUserServer: the back end of a vhost-user connection, towards a VMM.
 *
 * How it works.  It reads messages without ever blocking, checks each against the
 * message table (payload size, number of descriptors, state), keeps the memory table, and calls
 * whoever owns the device through VhostUserServerOps.  It answers what wants an answer.  A
 * malformed message is answered with an error where the protocol has a way to say so,
 * else the connection is closed; every descriptor received is closed or handed on.
 *
 * Threads: the main thread, in the default GLib main context.
 */
#ifndef HW_VHOST_VHOST_USER_SERVER_H
#define HW_VHOST_VHOST_USER_SERVER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/vhost/vhost-socket.h"
#include "hw/virtio/memory-map.h"

typedef struct VhostUserServer VhostUserServer;

typedef enum VhostVringFd {
    VHOST_VRING_KICK,
    VHOST_VRING_CALL,
    VHOST_VRING_ERR,
} VhostVringFd;

/* SET_VRING_ADDR; addresses are the VMM's user addresses. */
typedef struct VhostVringAddr {
    uint64_t desc, avail, used;
    bool log;           /* writes to the used ring are to be logged, at @log_gpa */
    uint64_t log_gpa;
} VhostVringAddr;

/*
 * What the owner of the device answers.  int: 0, or -errno with @errp; then the message is
 * answered with an error if it wants an answer, and the connection is closed if it does
 * not.  index is always below queue_count.  None of these may free the server.
 */
typedef struct VhostUserServerOps {
    void (*connected)(void *opaque);
    /* The VMM is gone: stop every ring, forget memory, features and status. */
    void (*disconnected)(void *opaque);

    /* virtio feature bits offered, PROTOCOL_FEATURES (30) not among them: the server adds it. */
    uint64_t (*get_features)(void *opaque);
    int (*set_features)(void *opaque, uint64_t features, GError **errp);
    uint32_t (*get_queue_count)(void *opaque);      /* virtqueues, at most 256 */
    /*
     * What GET_QUEUE_NUM says; NULL: the number of virtqueues.  That is what the
     * specification means, what vhost-user-blk in QEMU and the front ends in Rust compare their
     * virtqueues with, and QEMU's net, which compares queue pairs, is content with it too.
     * DPDK's vhost says queue pairs (128 of them, so that nobody notices).  An owner
     * that knows it is a network device may prefer that: then QEMU refuses a wrong queues=N with
     * a better message, but cloud-hypervisor refuses a right one if N pairs is all there is.
     */
    uint32_t (*get_queue_num)(void *opaque);
    uint32_t (*get_max_regions)(void *opaque);
    bool (*has_config)(void *opaque);

    /* Borrowed: takes what references it wants (memory_region_ref), builds its own map. */
    int (*set_memory)(void *opaque, MemoryRegion *const *regions, unsigned int n, GError **errp);

    /*
     * The dirty log, "gpa" 0 is its first byte; borrowed, as the regions are.  Until the VMM
     * disconnects or gives another one.
     */
    int (*set_log)(void *opaque, MemoryRegion *log, GError **errp);

    int (*set_vring_num)(void *opaque, unsigned int index, uint32_t num, GError **errp);
    int (*set_vring_addr)(void *opaque, unsigned int index, const VhostVringAddr *addr,
                          GError **errp);
    /* As it came: the owner knows the ring format. */
    int (*set_vring_base)(void *opaque, unsigned int index, uint32_t base, GError **errp);
    /* Stops the ring. */
    int (*get_vring_base)(void *opaque, unsigned int index, uint32_t *base, GError **errp);
    /* Owns @fd, on failure too; -1: none. */
    int (*set_vring_fd)(void *opaque, unsigned int index, VhostVringFd which, int fd,
                        GError **errp);
    /* Also called with true for each ring whose kick comes while bit 30 is not negotiated. */
    int (*set_vring_enable)(void *opaque, unsigned int index, bool enable, GError **errp);

    /* NULL, or false: SEND_RARP is not offered.  @mac: its first byte in bits 0..7. */
    bool (*has_rarp)(void *opaque);
    int (*send_rarp)(void *opaque, uint64_t mac, GError **errp);

    /*
     * The device's own state, for a VMM that migrates its guest (DEVICE_STATE).  NULL, or false:
     * not offered.  Called whether rings run or not: the owner refuses what it cannot do then.
     * The process ignores SIGPIPE.
     */
    bool (*has_state)(void *opaque);
    /* NULL and @errp: it cannot be saved (now). */
    GBytes *(*save_state)(void *opaque, GError **errp);
    /* @data is whatever the VMM sent. */
    int (*load_state)(void *opaque, const uint8_t *data, size_t n, GError **errp);

    int (*get_config)(void *opaque, void *data, uint32_t offset, uint32_t size, GError **errp);
    int (*set_config)(void *opaque, const void *data, uint32_t offset, uint32_t size,
                      GError **errp);
    uint8_t (*get_status)(void *opaque);
    int (*set_status)(void *opaque, uint8_t status, GError **errp);
    /* RESET_OWNER, RESET_DEVICE: stop every ring, forget features and status, keep memory. */
    int (*reset)(void *opaque, GError **errp);
} VhostUserServerOps;

/*
 * Serves connections at @address, one at a time, until freed.  @hold: as
 * vhost_user_server_hold(), from the start.
 */
VhostUserServer *vhost_user_server_new(const VhostSocketAddress *address, bool hold,
                                       const VhostUserServerOps *ops, void *opaque,
                                       GError **errp);
void vhost_user_server_free(VhostUserServer *server);

/* While held, VMMs wait in the backlog (there is no device to tell them of yet). */
void vhost_user_server_hold(VhostUserServer *server, bool hold);

/* Tells the VMM, if it gave us a request channel, that the configuration space changed. */
void vhost_user_server_config_changed(VhostUserServer *server);

/* True while a VMM is connected that negotiated protocol feature STATUS. */
bool vhost_user_server_has_status(const VhostUserServer *server);

#endif
