/* SPDX-License-Identifier: BSD-3-Clause */
/* Stats: the counters of all virtqueues as a table for a person. */
#ifndef SYSTEM_STATS_H
#define SYSTEM_STATS_H

#include <stdio.h>

#include "system/objects/objects.h"

void stats_print(FILE *out, const Objects *objects);

#endif
