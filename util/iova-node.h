/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The nodes of an IOVATree: a persistent B+ tree of disjoint mappings.
 *
 * How it works.  Nodes are only ever made, never changed.  A change makes a new node for
 * each one on the path that it touches, and puts those that they replace on a list, for
 * the caller to free when nobody reads them any more.
 *
 * All leaves are equally deep.  A node holds up to IOVA_FANOUT entries: mappings in a leaf,
 * nodes above.  A search reads the keys of a node, which lie together, and one entry: for ten
 * thousand mappings that is four nodes, where a binary tree misses the cache a dozen times.
 * An insertion splits a full node in halves, a removal joins neighbours with one parent that
 * hold up to IOVA_MERGE entries together: less than is full, lest the next insertion split
 * them again.  So nodes are half full, mostly, and never empty.
 *
 * Addresses run up to 2^64 - 1, so ranges are inclusive on both ends everywhere: a size may
 * not fit its type, a difference of two addresses does.
 */
#ifndef UTIL_IOVA_NODE_H
#define UTIL_IOVA_NODE_H

#include <stdbool.h>

#include "util/iova-tree.h"

enum { IOVA_FANOUT = 16, IOVA_MERGE = 12 };

typedef struct IOVANode IOVANode;

typedef struct IOVAEntry {
    uint64_t last;              /* highest address mapped by it */
    union {
        uint64_t target;        /* of a mapping */
        IOVANode *child;
    };
    union {
        uint32_t perm;          /* of a mapping */
        uint64_t max_gap;       /* bytes in the largest gap between two mappings of the child */
    };
} IOVAEntry;

struct IOVANode {
    uint64_t key[IOVA_FANOUT];  /* lowest address of each entry; above n: 2^64 - 1 */
    IOVAEntry entry[IOVA_FANOUT];
    unsigned int n;
    unsigned int level;         /* 0: leaf */
    IOVANode *next_retired;
};

/*
 * With @mapping, which overlaps none: the new root.  @root may be NULL.  What it replaces is
 * put on the list @retired.
 */
IOVANode *iova_node_insert(IOVANode *root, const IOVAMapping *mapping, IOVANode **retired);

/*
 * Without the mappings in [iova, last], neither end of which cuts one: the new root, NULL if
 * none is left.  Adds their number to @removed.
 */
IOVANode *iova_node_remove(IOVANode *root, uint64_t iova, uint64_t last, size_t *removed,
                           IOVANode **retired);

/* The mapping that begins at @addr or is the last to begin before it.  False: there is none. */
bool iova_node_find(const IOVANode *root, uint64_t addr, IOVAMapping *mapping);

/* The lowest aligned @size bytes in [lo, hi], which holds all mappings, that are free. */
bool iova_node_find_gap(const IOVANode *root, uint64_t lo, uint64_t hi, uint64_t size,
                        uint64_t align, uint64_t *iova);

/* Frees a list of retired nodes. */
void iova_node_free_retired(IOVANode *retired);

/* Puts all nodes of a tree on the list. */
void iova_node_retire_all(IOVANode *root, IOVANode **retired);

#endif
