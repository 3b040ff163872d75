/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IOVATree: versions of a tree of mappings, for one writer and many readers.
 *
 * How it works.  A change publishes a new version, a root and a size, with one store.  The
 * old version takes along the list of nodes that the new one has no more; they are freed
 * together after a grace period, with one call_rcu() a change.
 */
#include "util/iova-tree.h"

#include <errno.h>
#include <glib.h>

#include "iova-node.h"
#include "util/rcu.h"

typedef struct IOVAVersion {
    IOVANode *root;
    size_t size;
    IOVANode *retired;          /* the writer's, then the reclaimer's */
    struct rcu_head rcu;
} IOVAVersion;

struct IOVATree {
    IOVAVersion *version;       /* RCU; the writer reads it as it is */
    uint64_t first;
    uint64_t last;
};

static void version_reclaim(struct rcu_head *head)
{
    IOVAVersion *version = caa_container_of(head, IOVAVersion, rcu);

    iova_node_free_retired(version->retired);
    g_free(version);
}

static void tree_publish(IOVATree *tree, IOVANode *root, size_t size, IOVANode *retired)
{
    IOVAVersion *old = tree->version;
    IOVAVersion *version = g_new0(IOVAVersion, 1);

    version->root = root;
    version->size = size;
    /* Pairs with the rcu_dereference() of readers: they see whole nodes. */
    rcu_assign_pointer(tree->version, version);
    old->retired = retired;
    call_rcu(&old->rcu, version_reclaim);
}

IOVATree *iova_tree_new(uint64_t first, uint64_t last)
{
    IOVATree *tree = g_new0(IOVATree, 1);

    g_assert(first <= last);
    tree->version = g_new0(IOVAVersion, 1);
    tree->first = first;
    tree->last = last;
    return tree;
}

void iova_tree_free(IOVATree *tree)
{
    IOVANode *retired = NULL;

    iova_node_retire_all(tree->version->root, &retired);
    iova_node_free_retired(retired);
    g_free(tree->version);
    g_free(tree);
}

static void tree_add(IOVATree *tree, const IOVAMapping *mapping)
{
    IOVANode *retired = NULL;
    IOVANode *root = iova_node_insert(tree->version->root, mapping, &retired);

    tree_publish(tree, root, tree->version->size + 1, retired);
}

int iova_tree_insert(IOVATree *tree, const IOVAMapping *mapping)
{
    IOVAMapping below;

    if (mapping->last < mapping->iova ||
        mapping->target > UINT64_MAX - (mapping->last - mapping->iova)) {
        return -EINVAL;
    }
    if (mapping->iova < tree->first || mapping->last > tree->last) {
        return -ERANGE;
    }
    if (iova_node_find(tree->version->root, mapping->last, &below) &&
        below.last >= mapping->iova) {
        return -EEXIST;
    }
    tree_add(tree, mapping);
    return 0;
}

int iova_tree_alloc(IOVATree *tree, IOVAMapping *mapping, uint64_t size, uint64_t align)
{
    if (size == 0 || align == 0 || (align & (align - 1)) != 0 ||
        mapping->target > UINT64_MAX - (size - 1)) {
        return -EINVAL;
    }
    if (!iova_node_find_gap(tree->version->root, tree->first, tree->last, size, align,
                            &mapping->iova)) {
        return -ENOSPC;
    }
    mapping->last = mapping->iova + (size - 1);
    tree_add(tree, mapping);
    return 0;
}

int iova_tree_remove(IOVATree *tree, uint64_t iova, uint64_t last)
{
    IOVAVersion *version = tree->version;
    IOVANode *retired = NULL;
    IOVAMapping mapping;
    size_t removed = 0;
    IOVANode *root;

    if (last < iova) {
        return -EINVAL;
    }
    if (iova_node_find(version->root, iova, &mapping) && mapping.iova < iova &&
        mapping.last >= iova) {
        return -EINVAL;
    }
    /* None begins in the range, so none lies in it: keep the version. */
    if (!iova_node_find(version->root, last, &mapping) || mapping.iova < iova) {
        return 0;
    }
    if (mapping.last > last) {
        return -EINVAL;
    }
    root = iova_node_remove(version->root, iova, last, &removed, &retired);
    tree_publish(tree, root, version->size - removed, retired);
    return removed;
}

int iova_tree_lookup(IOVATree *tree, uint64_t iova, uint64_t last, uint32_t perm,
                     IOVAMapping *out, unsigned int max)
{
    const IOVANode *root = rcu_dereference(tree->version)->root;
    unsigned int n = 0;
    IOVAMapping found;

    if (last < iova) {
        return -EINVAL;
    }
    for (;;) {
        if (!iova_node_find(root, iova, &found) || found.last < iova) {
            return -ENOENT;
        }
        if ((found.perm & perm) != perm) {
            return -EACCES;
        }
        if (n == max) {
            return -E2BIG;
        }
        out[n++] = (IOVAMapping){
            .iova = iova,
            .last = MIN(found.last, last),
            .target = found.target + (iova - found.iova),
            .perm = found.perm,
        };
        if (found.last >= last) {
            return n;
        }
        iova = found.last + 1;
    }
}

size_t iova_tree_size(IOVATree *tree)
{
    return rcu_dereference(tree->version)->size;
}
