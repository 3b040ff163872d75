/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random numbers for generated histories: quick, and the same again from the same seed.
 */
#ifndef TESTS_LIB_RANDOM_H
#define TESTS_LIB_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Random {
    uint64_t state;
} Random;

/*
 * The seed of this run: SVQ_TEST_SEED if set, else another one each time.  It is printed, so
 * that a failure can be repeated.
 */
uint64_t random_seed(void);

/*
 * Steps that a history of @wanted steps makes: SVQ_TEST_STEPS if set, and a tenth in a
 * build with a sanitizer.
 */
uint64_t random_steps(uint64_t wanted);

/* A number that depends on @x alone and looks random (splitmix64). */
static inline uint64_t random_hash(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static inline uint64_t random_u64(Random *random)
{
    return random_hash(random->state++);
}

/* 0 to @n - 1. */
static inline uint32_t random_below(Random *random, uint32_t n)
{
    return (uint32_t)((random_u64(random) >> 32) * n >> 32);
}

/* @from to @to. */
static inline uint32_t random_between(Random *random, uint32_t from, uint32_t to)
{
    return from + random_below(random, to - from + 1);
}

static inline bool random_one_in(Random *random, uint32_t n)
{
    return random_below(random, n) == 0;
}

#endif
