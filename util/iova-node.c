/* SPDX-License-Identifier: BSD-3-Clause */
/* The nodes of an IOVATree: a persistent B+ tree of disjoint mappings. */
#include "iova-node.h"

#include <glib.h>

/* An entry with its key, on its way from one node to another. */
typedef struct Item {
    uint64_t key;
    IOVAEntry entry;
} Item;

/* What a node becomes while it is rebuilt: one entry more than fits, at most. */
typedef struct Items {
    Item item[IOVA_FANOUT + 1];
    unsigned int n;
} Items;

static void items_add(Items *items, const Item *more, unsigned int n)
{
    unsigned int i;

    g_assert(items->n + n <= G_N_ELEMENTS(items->item));
    for (i = 0; i < n; i++) {
        items->item[items->n++] = more[i];
    }
}

static void items_add_from(Items *items, const IOVANode *node, unsigned int from, unsigned int to)
{
    g_assert(items->n + (to - from) <= G_N_ELEMENTS(items->item));
    for (; from < to; from++) {
        items->item[items->n++] = (Item){ node->key[from], node->entry[from] };
    }
}

static IOVANode *node_new(unsigned int level, const Item *items, unsigned int n)
{
    IOVANode *node = g_new(IOVANode, 1);
    unsigned int i;

    node->n = n;
    node->level = level;
    node->next_retired = NULL;
    for (i = 0; i < n; i++) {
        node->key[i] = items[i].key;
        node->entry[i] = items[i].entry;
    }
    for (; i < IOVA_FANOUT; i++) {
        node->key[i] = UINT64_MAX;
    }
    return node;
}

static void node_retire(IOVANode *node, IOVANode **retired)
{
    node->next_retired = *retired;
    *retired = node;
}

/* The item that stands for @node in its parent. */
static Item node_item(IOVANode *node)
{
    Item item = { .key = node->key[0] };
    unsigned int i;

    item.entry.last = node->entry[node->n - 1].last;
    item.entry.child = node;
    item.entry.max_gap = 0;
    for (i = 0; i < node->n; i++) {
        uint64_t gap = i > 0 ? node->key[i] - node->entry[i - 1].last - 1 : 0;

        if (node->level > 0) {
            gap = MAX(gap, node->entry[i].max_gap);
        }
        item.entry.max_gap = MAX(item.entry.max_gap, gap);
    }
    return item;
}

/* How many entries begin at @addr or below. */
static inline unsigned int node_count_upto(const IOVANode *node, uint64_t addr)
{
    unsigned int count = 0;
    unsigned int i;

    /* All of them, whatever n is: cheaper than a branch that cannot be predicted. */
#pragma GCC unroll 16
    for (i = 0; i < IOVA_FANOUT; i++) {
        count += node->key[i] <= addr;
    }
    return MIN(count, node->n);
}

/* One node, or two halves if it would be too large.  Returns how many. */
static unsigned int node_build(unsigned int level, const Items *items, Item out[2])
{
    unsigned int half = items->n / 2;

    if (items->n <= IOVA_FANOUT) {
        out[0] = node_item(node_new(level, items->item, items->n));
        return 1;
    }
    out[0] = node_item(node_new(level, items->item, half));
    out[1] = node_item(node_new(level, items->item + half, items->n - half));
    return 2;
}

static unsigned int node_insert(IOVANode *node, const Item *mapping, IOVANode **retired,
                                Item out[2])
{
    unsigned int at = node_count_upto(node, mapping->key);
    unsigned int n_new = 1;
    unsigned int n_old = 0;
    Items items = { .n = 0 };
    Item new[2] = { *mapping };

    if (node->level > 0) {
        /* Below the first child's lowest: it becomes that child's lowest. */
        at -= at > 0;
        n_new = node_insert(node->entry[at].child, mapping, retired, new);
        n_old = 1;
    }
    items_add_from(&items, node, 0, at);
    items_add(&items, new, n_new);
    items_add_from(&items, node, at + n_old, node->n);
    node_retire(node, retired);
    return node_build(node->level, &items, out);
}

IOVANode *iova_node_insert(IOVANode *root, const IOVAMapping *mapping, IOVANode **retired)
{
    Item item = {
        .key = mapping->iova,
        .entry = { .last = mapping->last, .target = mapping->target, .perm = mapping->perm },
    };
    Item out[2];

    if (!root) {
        return node_new(0, &item, 1);
    }
    if (node_insert(root, &item, retired, out) == 1) {
        return out[0].entry.child;
    }
    return node_new(root->level + 1, out, 2);
}

void iova_node_retire_all(IOVANode *root, IOVANode **retired)
{
    unsigned int i;

    if (!root) {
        return;
    }
    for (i = 0; root->level > 0 && i < root->n; i++) {
        iova_node_retire_all(root->entry[i].child, retired);
    }
    node_retire(root, retired);
}

static size_t node_count_mappings(const IOVANode *node)
{
    size_t count = 0;
    unsigned int i;

    if (node->level == 0) {
        return node->n;
    }
    for (i = 0; i < node->n; i++) {
        count += node_count_mappings(node->entry[i].child);
    }
    return count;
}

/* Adds a child, or joins it with its lower neighbour if both fit in one node. */
static void items_add_child(Items *items, const Item *child, IOVANode **retired)
{
    IOVANode *upper = child->entry.child;
    Item *top = items->n > 0 ? &items->item[items->n - 1] : NULL;
    IOVANode *lower = top ? top->entry.child : NULL;
    Items both = { .n = 0 };

    if (!lower || lower->n + upper->n > IOVA_MERGE) {
        items_add(items, child, 1);
        return;
    }
    items_add_from(&both, lower, 0, lower->n);
    items_add_from(&both, upper, 0, upper->n);
    node_retire(lower, retired);
    node_retire(upper, retired);
    *top = node_item(node_new(lower->level, both.item, both.n));
}

/* An entry that lies wholly in the range goes; false if it is a node that is only cut. */
static bool entry_remove(const IOVANode *node, unsigned int i, uint64_t iova, uint64_t last,
                         size_t *removed, IOVANode **retired)
{
    if (node->level == 0) {
        (*removed)++;
        return true;
    }
    if (node->key[i] < iova || node->entry[i].last > last) {
        return false;
    }
    *removed += node_count_mappings(node->entry[i].child);
    iova_node_retire_all(node->entry[i].child, retired);
    return true;
}

static IOVANode *node_remove(IOVANode *node, uint64_t iova, uint64_t last, size_t *removed,
                             IOVANode **retired)
{
    Items items = { .n = 0 };
    unsigned int i;

    for (i = 0; i < node->n; i++) {
        Item item = { node->key[i], node->entry[i] };
        bool outside = item.entry.last < iova || item.key > last;

        if (!outside) {
            if (entry_remove(node, i, iova, last, removed, retired)) {
                continue;
            }
            item.entry.child = node_remove(item.entry.child, iova, last, removed, retired);
            if (!item.entry.child) {
                continue;
            }
            item = node_item(item.entry.child);
        }
        if (node->level == 0) {
            items_add(&items, &item, 1);
        } else {
            items_add_child(&items, &item, retired);
        }
    }
    node_retire(node, retired);
    return items.n > 0 ? node_new(node->level, items.item, items.n) : NULL;
}

IOVANode *iova_node_remove(IOVANode *root, uint64_t iova, uint64_t last, size_t *removed,
                           IOVANode **retired)
{
    root = node_remove(root, iova, last, removed, retired);
    while (root && root->level > 0 && root->n == 1) {
        node_retire(root, retired);
        root = root->entry[0].child;
    }
    return root;
}

bool iova_node_find(const IOVANode *root, uint64_t addr, IOVAMapping *mapping)
{
    const IOVANode *node = root;
    unsigned int count;

    if (!node || addr < node->key[0]) {
        return false;
    }
    /* The child begins at its key, so below the root there is always such an entry. */
    for (; node->level > 0; node = node->entry[count - 1].child) {
        count = node_count_upto(node, addr);
    }
    count = node_count_upto(node, addr);
    *mapping = (IOVAMapping){
        .iova = node->key[count - 1],
        .last = node->entry[count - 1].last,
        .target = node->entry[count - 1].target,
        .perm = node->entry[count - 1].perm,
    };
    return true;
}

/* The lowest aligned @size bytes in [lo, hi]. */
static bool fit(uint64_t lo, uint64_t hi, uint64_t size, uint64_t align, uint64_t *iova)
{
    uint64_t aligned = (lo + align - 1) & ~(align - 1);

    /* Less than lo: there is no multiple of align above lo. */
    if (aligned < lo || aligned > hi || hi - aligned < size - 1) {
        return false;
    }
    *iova = aligned;
    return true;
}

/* Between two mappings of @node. */
static bool node_find_gap(const IOVANode *node, uint64_t size, uint64_t align, uint64_t *iova)
{
    unsigned int i;

    for (i = 0; i < node->n; i++) {
        if (i > 0 && fit(node->entry[i - 1].last + 1, node->key[i] - 1, size, align, iova)) {
            return true;
        }
        /* May fail in a child only because of the alignment. */
        if (node->level > 0 && node->entry[i].max_gap >= size &&
            node_find_gap(node->entry[i].child, size, align, iova)) {
            return true;
        }
    }
    return false;
}

bool iova_node_find_gap(const IOVANode *root, uint64_t lo, uint64_t hi, uint64_t size,
                        uint64_t align, uint64_t *iova)
{
    uint64_t last;

    if (!root) {
        return fit(lo, hi, size, align, iova);
    }
    last = root->entry[root->n - 1].last;
    return (root->key[0] > lo && fit(lo, root->key[0] - 1, size, align, iova)) ||
           node_find_gap(root, size, align, iova) ||
           (last < hi && fit(last + 1, hi, size, align, iova));
}

void iova_node_free_retired(IOVANode *retired)
{
    while (retired) {
        IOVANode *next = retired->next_retired;

        g_free(retired);
        retired = next;
    }
}
