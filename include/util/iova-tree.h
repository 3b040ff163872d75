/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IOVATree: which I/O virtual addresses are in use, and what they stand for.
 *
 * How it works.  A balanced tree (a B+ tree) of disjoint mappings, ordered by address.  Nodes
 * never change once published: a writer copies the path from the root to what it changes
 * and publishes the new root with one store; old nodes are freed after a grace period.  So
 * readers take no lock and see one consistent version, and a change among n mappings
 * costs O(log n).  Each node knows the largest free gap of each subtree, so allocation is
 * O(log n) too.
 *
 * Threads: one writer at a time (the caller sees to that); readers: any thread that is
 * registered with RCU (util/rcu.h).
 */
#ifndef UTIL_IOVA_TREE_H
#define UTIL_IOVA_TREE_H

#include <stdint.h>
#include <stddef.h>

typedef struct IOVATree IOVATree;

enum { IOVA_PERM_RO = 1, IOVA_PERM_WO = 2, IOVA_PERM_RW = 3 };

typedef struct IOVAMapping {
    uint64_t iova;      /* first address */
    uint64_t last;      /* last address, inclusive, so that a mapping may end at 2^64 - 1 */
    uint64_t target;    /* what @iova stands for */
    uint32_t perm;      /* IOVA_PERM_* */
} IOVAMapping;

/* A tree for the addresses [first, last], inclusive. */
IOVATree *iova_tree_new(uint64_t first, uint64_t last);

/* No reader and no writer may be left. */
void iova_tree_free(IOVATree *tree);

/*
 * Writer.  0; -EEXIST: overlaps a mapping; -ERANGE: outside the tree's range;
 * -EINVAL: last < iova, or what the last byte stands for would be above 2^64 - 1.
 */
int iova_tree_insert(IOVATree *tree, const IOVAMapping *mapping);

/*
 * Writer.  Finds the lowest free range of @size bytes aligned to @align (a power of
 * two) and inserts mapping {.target, .perm} there; sets mapping->iova and ->last.
 * 0; -ENOSPC: no such gap; -EINVAL: size 0, align not a power of two, or as above.
 * O(log n), and O(1) for each gap below that is too small only for its alignment.
 */
int iova_tree_alloc(IOVATree *tree, IOVAMapping *mapping, uint64_t size, uint64_t align);

/*
 * Writer.  Removes every mapping that lies inside [iova, last].
 * Returns how many; -EINVAL, and nothing is removed, if one only overlaps it in part, or
 * last < iova.  Readers see all of them or none.
 */
int iova_tree_remove(IOVATree *tree, uint64_t iova, uint64_t last);

/*
 * Reader.  The mappings that cover [iova, last] without a hole, in order, the first
 * cut to begin at @iova and the last to end at @last (targets adjusted).
 * Returns how many; -ENOENT: not all covered; -EACCES: a mapping lacks a bit of @perm;
 * -E2BIG: more than @max; -EINVAL: last < iova.  The first error in the order of addresses.
 */
int iova_tree_lookup(IOVATree *tree, uint64_t iova, uint64_t last, uint32_t perm,
                     IOVAMapping *out, unsigned int max);

/* Reader: number of mappings. */
size_t iova_tree_size(IOVATree *tree);

#endif
