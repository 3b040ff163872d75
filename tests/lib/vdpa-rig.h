/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole SvqDevice for tests (lib/svq-rig.h) whose device side is a vDPA device on the model. */
#ifndef TESTS_LIB_VDPA_RIG_H
#define TESTS_LIB_VDPA_RIG_H

#include "lib/mode-rig.h"
#include "lib/vdpa-model.h"

typedef struct VdpaRig {
    Rig rig;                /* rig.loopback is the vDPA device */
    VdpaModel *model;
    unsigned int n_fds;
} VdpaRig;

/* config->fake_features and device_thread mean nothing here. */
void vdpa_rig_init(VdpaRig *v, const VdpaModelConfig *model, const RigConfig *config);

/* In mode=auto; @shadow: from the beginning on, for the VMM logs. */
void vdpa_rig_init_auto(VdpaRig *v, const VdpaModelConfig *model, const ModeFormat *format,
                        bool shadow);

/* Starts the first @n_rings; what was called and said for that is forgotten. */
void vdpa_rig_start(VdpaRig *v, unsigned int n_rings);

/*
 * Runs the main loop until the device runs with those queues whose bits are in @mask, and no
 * others: one whose rings are fixed is restarted a while after the VMM has said what is new.
 */
void vdpa_rig_await(VdpaRig *v, unsigned int mask);

/* The same, or until the call fails that was to: which then; free it. */
char *vdpa_rig_await_failure(VdpaRig *v, unsigned int mask);

/* How many of @calls (vdpa_model_take_calls()) are @name, whatever they are about. */
unsigned int vdpa_rig_count_calls(const char *calls, const char *name);

/* Runs the main loop until @name was called @n times since; all calls meanwhile, to be freed. */
char *vdpa_rig_await_calls(VdpaRig *v, const char *name, unsigned int n);

/*
 * Packets 0 to @n - 1 of the first pair, without waiting; the next one that comes back is @i, and
 * its buffer is posted again; the next transmit buffer that is used is that of @i.
 */
void vdpa_rig_send(VdpaRig *v, unsigned int n);
void vdpa_rig_assert_received(VdpaRig *v, unsigned int i);
void vdpa_rig_assert_sent(VdpaRig *v, unsigned int i);

/* Fails if a descriptor is left, or the model complains. */
void vdpa_rig_cleanup(VdpaRig *v);

#endif
