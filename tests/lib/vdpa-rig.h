/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole SvqDevice for tests (lib/svq-rig.h) whose device side is a vDPA device on the model. */
#ifndef TESTS_LIB_VDPA_RIG_H
#define TESTS_LIB_VDPA_RIG_H

#include "lib/svq-rig.h"
#include "lib/vdpa-model.h"

typedef struct VdpaRig {
    Rig rig;                /* rig.loopback is the vDPA device */
    VdpaModel *model;
    unsigned int n_fds;
} VdpaRig;

/* config->fake_features and device_thread mean nothing here. */
void vdpa_rig_init(VdpaRig *v, const VdpaModelConfig *model, const RigConfig *config);

/*
 * Runs the main loop until the device runs with those queues whose bits are in @mask, and no
 * others: one whose rings are fixed is restarted a while after the VMM has said what is new.
 */
void vdpa_rig_await(VdpaRig *v, unsigned int mask);

/* The same, or until the call fails that was to: which then; free it. */
char *vdpa_rig_await_failure(VdpaRig *v, unsigned int mask);

/* Fails if a descriptor is left, or the model complains. */
void vdpa_rig_cleanup(VdpaRig *v);

#endif
