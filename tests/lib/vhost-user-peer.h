/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The other end of a vhost-user connection, for tests: raw messages, and an owner of the
 * server that writes down what it is asked.
 */
#ifndef TESTS_LIB_VHOST_USER_PEER_H
#define TESTS_LIB_VHOST_USER_PEER_H

#include "../../hw/vhost/vhost-user-message.h"
#include "hw/vhost/vhost-user-server.h"
#include "hw/virtio/vring.h"

#define PEER_RINGS      8
#define PEER_CONFIG     60
#define PEER_FEATURES   (UINT64_C(1) << 32 | UINT64_C(1) << 34 | UINT64_C(1) << 15)

/* What the server's owner was told last. */
typedef struct PeerOwner {
    uint32_t queue_count;
    uint32_t max_regions;
    bool has_config;
    bool has_state;
    int fail;               /* what set_*, save_state, load_state and reset return */
    uint64_t features;
    uint8_t status;
    uint8_t config[PEER_CONFIG];
    unsigned int connections;
    bool connected;
    unsigned int resets;
    unsigned int memory_changes, log_changes;
    size_t state_size;      /* that is saved, or was loaded last, as peer_state_byte() has it */
    unsigned int saves, loads;
    unsigned int n_regions;
    MemoryRegion *regions[VHOST_USER_SLOTS_MAX];
    struct PeerRing {
        uint32_t num;
        uint32_t base;
        VhostVringAddr addr;
        int fd[3];
        bool enabled;
        bool stopped;
    } rings[PEER_RINGS];
} PeerOwner;

extern const VhostUserServerOps peer_owner_ops;

/* Warnings of the code under test since peer_init(); they are counted instead of being fatal. */
extern unsigned int peer_warnings;

/* After g_test_init(). */
void peer_init(void);

void peer_owner_init(PeerOwner *o);

/* A server on one end of a socket pair; the other end is returned, and is non-blocking. */
int peer_serve(PeerOwner *o, VhostUserServer **server);

/* Runs the main loop until it has nothing to do. */
void peer_pump(void);

/* A header with @size, and zeros for payload. */
VhostUserMessage peer_message(uint32_t request, uint32_t size);
VhostUserMessage peer_u64(uint32_t request, uint64_t value);
VhostUserMessage peer_state(uint32_t request, uint32_t index, uint32_t num);

/* Sends, with the descriptors in the message, which stay open here. */
void peer_send(int fd, const VhostUserMessage *m);

/*
 * Waits at most two seconds.  1: a message; 0: time is over; negative: end of file, or error.
 * Runs the main loop meanwhile if @pump.
 */
int peer_receive(int fd, VhostUserMessage *m, bool pump);

/* Sends and asserts that a reply comes; moves it to @reply. */
void peer_ask(int fd, const VhostUserMessage *m, VhostUserMessage *reply);

/* The same for a message with NEED_REPLY: the u64 that comes back. */
uint64_t peer_ack(int fd, const VhostUserMessage *m);

/* True if the server has hung up. */
bool peer_is_closed(int fd);

/* GET_FEATURES .. SET_FEATURES, every protocol feature that is offered. */
void peer_handshake(int fd);

/* A shared memory file of @size bytes. */
int peer_memfd(uint64_t size);

/* Byte @i of the state that the owner saves, and expects. */
uint8_t peer_state_byte(size_t i);

/* Open descriptors of this process. */
unsigned int peer_count_fds(void);

/* Resident memory of this process, KiB. */
size_t peer_rss_kib(void);

#endif
