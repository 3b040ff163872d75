/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vDPA VhostDevice on the model of the kernel, with memory, and a driver that works its first
 * pair of rings and, if the model has one, its control queue: what tests of hw/vhost/vhost-vdpa
 * share.
 *
 * How it works.  The guest's memory and the arena (a region of our rings, as svqd has it) are two
 * regions; the driver's rings lie in either, its buffers in the guest's memory.  The control queue
 * has a region of its own, for its ring and its buffers.  All that was said is kept;
 * vdpa_world_cleanup() fails if a descriptor is left, or the model complains.
 */
#ifndef TESTS_LIB_VDPA_WORLD_H
#define TESTS_LIB_VDPA_WORLD_H

#include "hw/vhost/vhost-vdpa.h"
#include "hw/virtio/vring-driver.h"
#include "lib/vdpa-model.h"

#define VDPA_WORLD_GUEST    UINT64_C(0x10000000)    /* guest's memory: address and IOVA */
#define VDPA_WORLD_ARENA    UINT64_C(0x2000000000)
#define VDPA_WORLD_CONTROL  UINT64_C(0x3000000000)
#define VDPA_WORLD_SIZE     UINT64_C(0x200000)      /* of each */
#define VDPA_WORLD_CTRL     2u                      /* index of the control queue */
#define VDPA_WORLD_NUM      64u
#define VDPA_WORLD_FEATURES VIRTIO_F_BIT(VIRTIO_F_VERSION_1)
#define VDPA_WORLD_PACKED   VIRTIO_F_BIT(VIRTIO_F_RING_PACKED)

/* Of the IOTLB messages about the regions. */
#define VDPA_WORLD_GUEST_MAP "10000000+200000"
#define VDPA_WORLD_ARENA_MAP "2000000000+200000"
#define VDPA_WORLD_CONTROL_MAP "3000000000+200000"

typedef struct VdpaWorldRing {
    VringDriver driver;
    VringConfig config;
    bool made;
    bool in_arena;          /* means nothing for the control queue */
    VringBase base;         /* where it is started next */
    int kick, call;
    void *bell;             /* rung instead of @kick; NULL: not used */
} VdpaWorldRing;

typedef struct VdpaWorld {
    VdpaModel *model;
    VhostDevice *dev;       /* NULL: could not be opened */
    MemoryRegion *guest, *arena;
    MemoryRegion *control;  /* NULL: without a control queue */
    MemoryMap *map;         /* all of them */
    uint64_t features;
    unsigned int n_rings;
    VdpaWorldRing rings[3];
    uint32_t sent, commands;
    bool isolate;           /* the control queue, at each start */
    bool isolated;          /* it was, at the last one */
    unsigned int ready, gone, changed;      /* notifications */
    unsigned int n_fds;
} VdpaWorld;

/* Instead of g_test_init(). */
void vdpa_world_test_init(int *argc, char ***argv);

/* Model and memory; then the device. */
void vdpa_world_prepare(VdpaWorld *w, const VdpaModelConfig *config, uint64_t features);
int vdpa_world_open(VdpaWorld *w, GError **errp);
/* Both; it must work. */
void vdpa_world_init(VdpaWorld *w, const VdpaModelConfig *config, uint64_t features);
void vdpa_world_cleanup(VdpaWorld *w);

/* Frees the device and counts what is open. */
void vdpa_world_close(VdpaWorld *w);

/* The ring begins anew, in the arena or in the guest's memory. */
void vdpa_world_make_ring(VdpaWorld *w, unsigned int q, bool in_arena);
VhostRing vdpa_world_ring(const VdpaWorld *w, unsigned int q);

/* Moves what the ring holds into the other of the two; the driver goes on there. */
void vdpa_world_move_ring(VdpaWorld *w, unsigned int q);

/* Features, memory, status, rings as they are (made if they are not), DRIVER_OK. */
int vdpa_world_start(VdpaWorld *w, GError **errp);
/* The rings as they are. */
void vdpa_world_start_rings(VdpaWorld *w);
/* Rings, where that can be, each where it stands; then a reset. */
int vdpa_world_stop(VdpaWorld *w, GError **errp);
/* The same; it must work. */
void vdpa_world_must_start(VdpaWorld *w);
void vdpa_world_must_stop(VdpaWorld *w);
/* Makes the rings anew in the arena, starts, moves packets. */
void vdpa_world_start_anew(VdpaWorld *w);

/* Sends packets and receives them. */
void vdpa_world_echo(VdpaWorld *w, unsigned int n);
/* Adds @n buffers to ring @q, publishes, kicks. */
void vdpa_world_add(VdpaWorld *w, unsigned int q, unsigned int n);
/* Waits until @n buffers of ring @q are used. */
void vdpa_world_collect(VdpaWorld *w, unsigned int q, unsigned int n);
/*
 * Adds a command to the control queue, and its room for an ack, both in @where, and kicks; the ack
 * of the only one there is, when it is used.
 */
void vdpa_world_add_command(VdpaWorld *w, const MemoryRegion *where, const void *bytes, uint32_t n);
uint8_t vdpa_world_collect_ack(VdpaWorld *w);
/* @n commands, one after the other, that the device must acknowledge. */
void vdpa_world_command(VdpaWorld *w, unsigned int n);
/* Kicks though nothing is new. */
void vdpa_world_kick(VdpaWorld *w, unsigned int q);
/* A kick that nobody has seen is lost. */
void vdpa_world_clear_kick(VdpaWorld *w, unsigned int q);

/* Asserts on what was called since last asked. */
void vdpa_world_assert_calls(VdpaWorld *w, const char *calls);
void vdpa_world_assert_maps(VdpaWorld *w, const char *maps);

void vdpa_world_assert_words(const char *text);

/* Messages and warnings since last asked, a line each; free it. */
char *vdpa_world_take_words(void);

/* Runs the main loop until @part was said; 10 s at most. */
void vdpa_world_await_words(const char *part);

/* Runs the main loop until @calls, and nothing else, were called since last asked; 10 s at most. */
void vdpa_world_await_calls(VdpaWorld *w, const char *calls);

/* Runs the main loop until *@counter is at least @n; 10 s at most. */
void vdpa_world_await(const unsigned int *counter, unsigned int n);

#endif
