/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether lookup and change in a large IOVATree stay within their limits: exit status 1 if
 * not.  Prints one line of JSON.  Times are this thread's processor time, medians of several
 * rounds, for others may be using the machine.
 */
#include "util/iova-tree.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "util/rcu.h"

enum { ENTRIES = 10000, ROUNDS = 15, LOOKUPS = 100000, LOOKUP_LIMIT_NS = 100,
       INSERT_LIMIT_NS = 10000 };

static int64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *times)
{
    qsort(times, ROUNDS, sizeof(*times), compare);
    return times[ROUNDS / 2];
}

/* The entries' numbers in an order of chance. */
static void shuffle(GRand *rand, uint32_t *order)
{
    uint32_t i, j, tmp;

    for (i = 0; i < ENTRIES; i++) {
        order[i] = i;
    }
    for (i = ENTRIES - 1; i > 0; i--) {
        j = g_rand_int_range(rand, 0, i + 1);
        tmp = order[i];
        order[i] = order[j];
        order[j] = tmp;
    }
}

static uint64_t entry_iova(uint32_t entry)
{
    return entry * UINT64_C(0x3000);
}

/* The reclaiming that the insertions cause is part of the machine's work, not of ours. */
static double time_inserts(IOVATree *tree, const uint32_t *order)
{
    int64_t start = cpu_ns();
    uint32_t i;

    for (i = 0; i < ENTRIES; i++) {
        const IOVAMapping mapping = {
            .iova = entry_iova(order[i]),
            .last = entry_iova(order[i]) + 0xfff,
            .target = order[i],
            .perm = IOVA_PERM_RW,
        };

        if (iova_tree_insert(tree, &mapping) != 0) {
            abort();
        }
    }
    return (double)(cpu_ns() - start) / ENTRIES;
}

static double time_lookups(IOVATree *tree, const uint32_t *order)
{
    int64_t start = cpu_ns();
    IOVAMapping out;
    uint32_t i;

    for (i = 0; i < LOOKUPS; i++) {
        uint64_t iova = entry_iova(order[i % ENTRIES]) + 0x80;

        if (iova_tree_lookup(tree, iova, iova + 0xff, IOVA_PERM_RO, &out, 1) != 1) {
            abort();
        }
    }
    return (double)(cpu_ns() - start) / LOOKUPS;
}

int main(void)
{
    static uint32_t order[ENTRIES];
    double insert_ns[ROUNDS], lookup_ns[ROUNDS];
    GRand *rand = g_rand_new_with_seed(1);
    double insert, lookup;
    int i;

    rcu_thread_enter();
    for (i = 0; i < ROUNDS; i++) {
        IOVATree *tree = iova_tree_new(0, UINT64_MAX);

        shuffle(rand, order);
        insert_ns[i] = time_inserts(tree, order);
        shuffle(rand, order);
        lookup_ns[i] = time_lookups(tree, order);
        iova_tree_free(tree);
        rcu_barrier();
    }
    rcu_thread_leave();
    g_rand_free(rand);

    insert = median(insert_ns);
    lookup = median(lookup_ns);
    printf("{\"entries\":%d,\"lookup_ns\":%.1f,\"insert_ns\":%.1f}\n", ENTRIES, lookup, insert);
    return lookup < LOOKUP_LIMIT_NS && insert < INSERT_LIMIT_NS ? EXIT_SUCCESS : EXIT_FAILURE;
}
