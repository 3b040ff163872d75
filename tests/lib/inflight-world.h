/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver and a device that work a ring, for tests that kill the device: driver, ring and record
 * lie in one piece of memory that outlives the device and can be put back as it was.
 */
#ifndef TESTS_LIB_INFLIGHT_WORLD_H
#define TESTS_LIB_INFLIGHT_WORLD_H

#include "hw/virtio/vring-device.h"
#include "hw/virtio/vring-driver.h"
#include "lib/random.h"

#define INFLIGHT_MAX_NUM 16

typedef struct Used {
    uint32_t cookie, len;
} Used;

/* All that a kill of the device leaves. */
typedef struct Survivors {
    _Alignas(64) VringDesc desc[INFLIGHT_MAX_NUM];
    _Alignas(64) uint8_t driver_area[128];
    _Alignas(64) uint8_t device_area[192];
    _Alignas(64) uint8_t record[sizeof(VringInflight) + INFLIGHT_MAX_NUM * sizeof(uint64_t)];
    VringDriver driver;
    VringDriverSlot slots[INFLIGHT_MAX_NUM];
    uint16_t next[INFLIGHT_MAX_NUM];
    VringSegment mirror[INFLIGHT_MAX_NUM];
    uint32_t n_added;           /* the next cookie */
    _Atomic uint32_t progress;  /* operations done */
    _Atomic bool driver_at_work;
} Survivors;

typedef enum OpType { TAKE, UNTAKE, PUT, PUBLISH, ADD, COLLECT, RESTART } OpType;

typedef struct Op {
    OpType type;
    uint32_t id, len;           /* PUT, UNTAKE: which buffer */
    uint32_t step;              /* the test's own */
} Op;

typedef struct InflightWorld {
    VringConfig config;
    Survivors *survivors;       /* shared with a child */
    VringDevice device;
    Random random;
} InflightWorld;

/* A buffer's cookie says what it is: elements, and whether the device may write to it. */
unsigned int cookie_elements(uint32_t cookie);
bool cookie_writable(uint32_t cookie);

/* A fresh ring as in @config, its record, and a device that has started. */
InflightWorld *inflight_world_new(const VringConfig *config, uint64_t seed);
void inflight_world_free(InflightWorld *world);

/* A driver that begins, with a cleared ring. */
void inflight_world_reset_driver(InflightWorld *world);

/* The driver adds the next buffer and publishes it; or one of one element, (not) writable. */
void inflight_world_add(InflightWorld *world);
void inflight_world_add_single(InflightWorld *world, bool writable);

/* The driver collects a buffer; false: there is none. */
bool inflight_world_collect(InflightWorld *world, Used *used);

/* @device, which may be another than the world's, takes a buffer; false: there is none. */
bool inflight_world_take(VringDevice *device, uint32_t *cookie, uint16_t *id);

/* One operation, as the engine does it: with the format as a constant. */
void inflight_world_perform(InflightWorld *world, const Op *op);

#endif
