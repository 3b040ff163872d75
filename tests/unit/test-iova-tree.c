/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of IOVATree, by cases and against a naive model. */
#include "util/iova-tree.h"

#include <errno.h>
#include <glib.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "util/rcu.h"
#include "../../util/iova-node.h"

static int tree_insert(IOVATree *tree, uint64_t iova, uint64_t last, uint64_t target)
{
    const IOVAMapping mapping = { iova, last, target, IOVA_PERM_RW };

    return iova_tree_insert(tree, &mapping);
}

static int tree_alloc(IOVATree *tree, uint64_t size, uint64_t align, uint64_t *iova)
{
    IOVAMapping mapping = { .target = 0, .perm = IOVA_PERM_RW };
    int ret = iova_tree_alloc(tree, &mapping, size, align);

    if (ret == 0) {
        *iova = mapping.iova;
        g_assert_cmpuint(mapping.last - mapping.iova, ==, size - 1);
    }
    return ret;
}

static void test_insert_refuses(void)
{
    IOVATree *tree = iova_tree_new(0x1000, 0x8fff);

    g_assert_cmpint(tree_insert(tree, 0x3000, 0x3fff, 0), ==, 0);
    g_assert_cmpint(tree_insert(tree, 0x3000, 0x3fff, 0), ==, -EEXIST);
    g_assert_cmpint(tree_insert(tree, 0x3fff, 0x4000, 0), ==, -EEXIST);
    g_assert_cmpint(tree_insert(tree, 0x2000, 0x3000, 0), ==, -EEXIST);
    g_assert_cmpint(tree_insert(tree, 0x2000, 0x5000, 0), ==, -EEXIST);
    g_assert_cmpint(tree_insert(tree, 0x3800, 0x3800, 0), ==, -EEXIST);
    g_assert_cmpint(tree_insert(tree, 0xfff, 0x1000, 0), ==, -ERANGE);
    g_assert_cmpint(tree_insert(tree, 0x8000, 0x9000, 0), ==, -ERANGE);
    g_assert_cmpint(tree_insert(tree, 0x5001, 0x5000, 0), ==, -EINVAL);
    g_assert_cmpint(tree_insert(tree, 0x5000, 0x5001, UINT64_MAX), ==, -EINVAL);
    g_assert_cmpint(tree_insert(tree, 0x5000, 0x5001, UINT64_MAX - 1), ==, 0);
    g_assert_cmpint(tree_insert(tree, 0x1000, 0x2fff, 0), ==, 0);
    g_assert_cmpint(tree_insert(tree, 0x8fff, 0x8fff, 0), ==, 0);
    g_assert_cmpuint(iova_tree_size(tree), ==, 4);
    iova_tree_free(tree);
}

static void test_lookup_spans_and_cuts(void)
{
    IOVATree *tree = iova_tree_new(0, UINT64_MAX);
    IOVAMapping out[3];

    g_assert_cmpint(tree_insert(tree, 0x1000, 0x1fff, 0xa000), ==, 0);
    g_assert_cmpint(tree_insert(tree, 0x2000, 0x2fff, 0xf000), ==, 0);
    g_assert_cmpint(tree_insert(tree, 0x3000, 0x3fff, 0xc000), ==, 0);
    g_assert_cmpint(iova_tree_lookup(tree, 0x1800, 0x30ff, IOVA_PERM_RW, out, 3), ==, 3);
    g_assert_cmphex(out[0].iova, ==, 0x1800);
    g_assert_cmphex(out[0].last, ==, 0x1fff);
    g_assert_cmphex(out[0].target, ==, 0xa800);
    g_assert_cmphex(out[1].iova, ==, 0x2000);
    g_assert_cmphex(out[1].last, ==, 0x2fff);
    g_assert_cmphex(out[1].target, ==, 0xf000);
    g_assert_cmphex(out[2].iova, ==, 0x3000);
    g_assert_cmphex(out[2].last, ==, 0x30ff);
    g_assert_cmphex(out[2].target, ==, 0xc000);

    g_assert_cmpint(iova_tree_lookup(tree, 0x2800, 0x28ff, 0, out, 1), ==, 1);
    g_assert_cmphex(out[0].iova, ==, 0x2800);
    g_assert_cmphex(out[0].last, ==, 0x28ff);
    g_assert_cmphex(out[0].target, ==, 0xf800);

    g_assert_cmpint(iova_tree_lookup(tree, 0x1800, 0x30ff, 0, out, 2), ==, -E2BIG);
    g_assert_cmpint(iova_tree_lookup(tree, 0x1800, 0x1800, 0, out, 0), ==, -E2BIG);
    g_assert_cmpint(iova_tree_lookup(tree, 0x0fff, 0x1000, 0, out, 3), ==, -ENOENT);
    g_assert_cmpint(iova_tree_lookup(tree, 0x3fff, 0x4000, 0, out, 3), ==, -ENOENT);
    g_assert_cmpint(iova_tree_lookup(tree, 0x2000, 0x1fff, 0, out, 3), ==, -EINVAL);
    iova_tree_free(tree);
}

static void test_lookup_checks_perm(void)
{
    const IOVAMapping ro = { 0x1000, 0x1fff, 0, IOVA_PERM_RO };
    const IOVAMapping rw = { 0x2000, 0x2fff, 0, IOVA_PERM_RW };
    IOVATree *tree = iova_tree_new(0, UINT64_MAX);
    IOVAMapping out[2];

    g_assert_cmpint(iova_tree_insert(tree, &ro), ==, 0);
    g_assert_cmpint(iova_tree_insert(tree, &rw), ==, 0);
    g_assert_cmpint(iova_tree_lookup(tree, 0x1000, 0x2fff, IOVA_PERM_RO, out, 2), ==, 2);
    g_assert_cmpint(out[0].perm, ==, IOVA_PERM_RO);
    g_assert_cmpint(out[1].perm, ==, IOVA_PERM_RW);
    g_assert_cmpint(iova_tree_lookup(tree, 0x1000, 0x2fff, IOVA_PERM_WO, out, 2), ==, -EACCES);
    g_assert_cmpint(iova_tree_lookup(tree, 0x1000, 0x1fff, IOVA_PERM_RW, out, 2), ==, -EACCES);
    g_assert_cmpint(iova_tree_lookup(tree, 0x2000, 0x2fff, IOVA_PERM_WO, out, 2), ==, 1);
    iova_tree_free(tree);
}

static void test_remove(void)
{
    IOVATree *tree = iova_tree_new(0, UINT64_MAX);
    uint64_t i;

    for (i = 0; i < 10; i++) {
        g_assert_cmpint(tree_insert(tree, i * 0x1000, i * 0x1000 + 0x7ff, 0), ==, 0);
    }
    g_assert_cmpint(iova_tree_remove(tree, 0x2001, 0x4fff), ==, -EINVAL);
    g_assert_cmpint(iova_tree_remove(tree, 0x2000, 0x47fe), ==, -EINVAL);
    g_assert_cmpint(iova_tree_remove(tree, 0x2100, 0x2200), ==, -EINVAL);
    g_assert_cmpint(iova_tree_remove(tree, 0x3000, 0x2000), ==, -EINVAL);
    g_assert_cmpuint(iova_tree_size(tree), ==, 10);
    g_assert_cmpint(iova_tree_remove(tree, 0x2800, 0x2fff), ==, 0);
    g_assert_cmpint(iova_tree_remove(tree, 0x1800, 0x47ff), ==, 3);
    g_assert_cmpuint(iova_tree_size(tree), ==, 7);
    g_assert_cmpint(iova_tree_remove(tree, 0, UINT64_MAX), ==, 7);
    g_assert_cmpint(iova_tree_remove(tree, 0, UINT64_MAX), ==, 0);
    g_assert_cmpuint(iova_tree_size(tree), ==, 0);
    iova_tree_free(tree);
}

static void test_alloc_fills_gaps(void)
{
    IOVATree *tree = iova_tree_new(0x1000, 0x9fff);
    uint64_t iova;

    g_assert_cmpint(tree_insert(tree, 0x2000, 0x2fff, 0), ==, 0);
    g_assert_cmpint(tree_insert(tree, 0x5000, 0x5fff, 0), ==, 0);
    g_assert_cmpint(tree_alloc(tree, 0x2000, 0x1000, &iova), ==, 0);
    g_assert_cmphex(iova, ==, 0x3000);
    g_assert_cmpint(tree_alloc(tree, 0x1000, 0x1000, &iova), ==, 0);
    g_assert_cmphex(iova, ==, 0x1000);
    g_assert_cmpint(tree_alloc(tree, 0x4001, 1, &iova), ==, -ENOSPC);
    g_assert_cmpint(tree_alloc(tree, 0x4000, 1, &iova), ==, 0);
    g_assert_cmphex(iova, ==, 0x6000);
    g_assert_cmpint(tree_alloc(tree, 1, 1, &iova), ==, -ENOSPC);
    g_assert_cmpint(iova_tree_remove(tree, 0x5000, 0x5fff), ==, 1);
    g_assert_cmpint(tree_alloc(tree, 1, 1, &iova), ==, 0);
    g_assert_cmphex(iova, ==, 0x5000);

    g_assert_cmpint(tree_alloc(tree, 0, 1, &iova), ==, -EINVAL);
    g_assert_cmpint(tree_alloc(tree, 1, 0, &iova), ==, -EINVAL);
    g_assert_cmpint(tree_alloc(tree, 1, 3, &iova), ==, -EINVAL);
    iova_tree_free(tree);
}

/* Gaps that are large enough, but not where alignment wants it, are passed over. */
static void test_alloc_aligns(void)
{
    IOVATree *tree = iova_tree_new(0, UINT64_MAX);
    uint64_t i, iova;

    for (i = 0; i < 100; i++) {
        g_assert_cmpint(tree_insert(tree, i * 0x1000, i * 0x1000 + 0x7ff, 0), ==, 0);
    }
    g_assert_cmpint(tree_alloc(tree, 0x800, 0x1000, &iova), ==, 0);
    g_assert_cmphex(iova, ==, 100 * 0x1000);
    g_assert_cmpint(tree_alloc(tree, 0x100, 0x400, &iova), ==, 0);
    g_assert_cmphex(iova, ==, 0x800);
    g_assert_cmpint(tree_alloc(tree, 1, UINT64_C(1) << 63, &iova), ==, 0);
    g_assert_cmphex(iova, ==, UINT64_C(1) << 63);
    g_assert_cmpint(tree_alloc(tree, 1, UINT64_C(1) << 63, &iova), ==, -ENOSPC);
    iova_tree_free(tree);
}

static void test_whole_address_space(void)
{
    IOVATree *tree = iova_tree_new(0, UINT64_MAX);
    IOVAMapping out[2];
    uint64_t iova;

    g_assert_cmpint(tree_insert(tree, 0, UINT64_MAX, 1), ==, -EINVAL);
    g_assert_cmpint(tree_insert(tree, 0, UINT64_MAX, 0), ==, 0);
    g_assert_cmpint(tree_insert(tree, UINT64_MAX, UINT64_MAX, 0), ==, -EEXIST);
    g_assert_cmpint(tree_alloc(tree, 1, 1, &iova), ==, -ENOSPC);
    g_assert_cmpint(iova_tree_lookup(tree, 0, UINT64_MAX, 0, out, 1), ==, 1);
    g_assert_cmphex(out[0].last, ==, UINT64_MAX);
    g_assert_cmpint(iova_tree_remove(tree, 0, UINT64_MAX), ==, 1);

    /* All but one byte is the largest size that there is. */
    g_assert_cmpint(tree_alloc(tree, UINT64_MAX, 1, &iova), ==, 0);
    g_assert_cmphex(iova, ==, 0);
    g_assert_cmpint(tree_alloc(tree, 2, 1, &iova), ==, -ENOSPC);
    g_assert_cmpint(tree_alloc(tree, 1, 1, &iova), ==, 0);
    g_assert_cmphex(iova, ==, UINT64_MAX);
    g_assert_cmpint(tree_alloc(tree, 1, 1, &iova), ==, -ENOSPC);
    g_assert_cmpint(iova_tree_lookup(tree, 0, UINT64_MAX, 0, out, 2), ==, 2);
    g_assert_cmpint(iova_tree_remove(tree, UINT64_MAX, UINT64_MAX), ==, 1);
    g_assert_cmpint(iova_tree_lookup(tree, 1, UINT64_MAX, 0, out, 2), ==, -ENOENT);
    iova_tree_free(tree);
}

/*
 * The model: an array that says of each of a few slots which mapping covers it.  Slots are
 * single addresses at @base; the tree ends where they do.
 */
enum { SLOTS = 1200, STEPS = 100000 };

typedef struct Model {
    IOVATree *tree;
    uint64_t base;
    IOVAMapping *slots[SLOTS];  /* shared by all slots of a mapping */
    size_t size;
} Model;

static bool model_free(const Model *m, unsigned int from, unsigned int to)
{
    for (; from <= to; from++) {
        if (m->slots[from]) {
            return false;
        }
    }
    return true;
}

static void model_put(Model *m, unsigned int from, unsigned int to, const IOVAMapping *mapping)
{
    IOVAMapping *copy = g_new(IOVAMapping, 1);

    *copy = *mapping;
    m->size++;
    for (; from <= to; from++) {
        m->slots[from] = copy;
    }
}

static void model_insert(Model *m, unsigned int from, unsigned int to)
{
    const IOVAMapping mapping = {
        m->base + from, m->base + to, g_test_rand_int_range(0, 1 << 20),
        g_test_rand_int_range(0, 4),
    };
    int ret = iova_tree_insert(m->tree, &mapping);

    g_assert_cmpint(ret, ==, model_free(m, from, to) ? 0 : -EEXIST);
    if (ret == 0) {
        model_put(m, from, to, &mapping);
    }
}

static void model_alloc(Model *m, unsigned int size, uint64_t align)
{
    IOVAMapping mapping = { .target = g_test_rand_int_range(0, 1 << 20), .perm = IOVA_PERM_RW };
    int ret = iova_tree_alloc(m->tree, &mapping, size, align);
    unsigned int i;

    for (i = 0; i + size <= SLOTS; i++) {
        if ((m->base + i) % align == 0 && model_free(m, i, i + size - 1)) {
            g_assert_cmpint(ret, ==, 0);
            g_assert_cmphex(mapping.iova, ==, m->base + i);
            g_assert_cmphex(mapping.last, ==, m->base + i + size - 1);
            model_put(m, i, i + size - 1, &mapping);
            return;
        }
    }
    g_assert_cmpint(ret, ==, -ENOSPC);
}

static void model_remove(Model *m, unsigned int from, unsigned int to)
{
    int ret = iova_tree_remove(m->tree, m->base + from, m->base + to);
    int removed = 0;
    unsigned int i;

    if ((m->slots[from] && m->slots[from]->iova < m->base + from) ||
        (m->slots[to] && m->slots[to]->last > m->base + to)) {
        g_assert_cmpint(ret, ==, -EINVAL);
        return;
    }
    for (i = from; i <= to; i++) {
        IOVAMapping *mapping = m->slots[i];

        m->slots[i] = NULL;
        if (mapping && mapping->last == m->base + i) {
            g_free(mapping);
            removed++;
        }
    }
    g_assert_cmpint(ret, ==, removed);
    m->size -= removed;
}

static int model_lookup(const Model *m, unsigned int from, unsigned int to, uint32_t perm,
                        IOVAMapping *out, unsigned int max)
{
    unsigned int n = 0;
    unsigned int i;

    for (i = from; i <= to; i++) {
        const IOVAMapping *mapping = m->slots[i];

        if (!mapping) {
            return -ENOENT;
        }
        if (i == from || mapping != m->slots[i - 1]) {
            if ((mapping->perm & perm) != perm) {
                return -EACCES;
            }
            if (n == max) {
                return -E2BIG;
            }
            out[n] = *mapping;
            out[n].target += m->base + i - mapping->iova;
            out[n++].iova = m->base + i;
        }
        out[n - 1].last = m->base + i;
    }
    return n;
}

static void check_lookup(const Model *m, unsigned int from, unsigned int to)
{
    IOVAMapping expect[8], out[8];
    unsigned int max = g_test_rand_int_range(0, 9);
    uint32_t perm = g_test_rand_int_range(0, 4);
    int ret = model_lookup(m, from, to, perm, expect, max);
    int i;

    g_assert_cmpint(iova_tree_lookup(m->tree, m->base + from, m->base + to, perm, out, max), ==,
                    ret);
    for (i = 0; i < ret; i++) {
        g_assert_cmphex(out[i].iova, ==, expect[i].iova);
        g_assert_cmphex(out[i].last, ==, expect[i].last);
        g_assert_cmphex(out[i].target, ==, expect[i].target);
        g_assert_cmpuint(out[i].perm, ==, expect[i].perm);
    }
}

/* Short ranges mostly, for long ones keep the tree empty. */
static void random_range(unsigned int *from, unsigned int *to)
{
    unsigned int span = g_test_rand_int_range(0, 500) ? 4 : SLOTS;

    *from = g_test_rand_int_range(0, SLOTS);
    *to = *from + g_test_rand_int_range(0, span);
    *to = MIN(*to, SLOTS - 1);
}

static void model_step(Model *m)
{
    unsigned int from, to;

    random_range(&from, &to);
    switch (g_test_rand_int_range(0, 8)) {
    case 0 ... 2:
        model_insert(m, from, to);
        break;
    case 3:
        model_alloc(m, to - from + 1, UINT64_C(1) << g_test_rand_int_range(0, 5));
        break;
    case 4:
        model_remove(m, from, to);
        break;
    case 5:
        /* Just one that is there. */
        if (m->slots[from]) {
            model_remove(m, m->slots[from]->iova - m->base, m->slots[from]->last - m->base);
        }
        break;
    default:
        check_lookup(m, from, to);
        break;
    }
    g_assert_cmpuint(iova_tree_size(m->tree), ==, m->size);
}

/* Histories in [base, base + SLOTS). */
static void run_model(uint64_t base)
{
    Model m = { .tree = iova_tree_new(base, base + SLOTS - 1), .base = base };
    int i;

    for (i = 0; i < STEPS; i++) {
        model_step(&m);
    }
    g_assert_cmpint(iova_tree_remove(m.tree, base, base + SLOTS - 1), ==, m.size);
    for (i = 0; i < SLOTS; i++) {
        if (m.slots[i] && m.slots[i]->last == base + i) {
            g_free(m.slots[i]);
        }
    }
    iova_tree_free(m.tree);
    rcu_barrier();
}

static void test_model_low(void)
{
    run_model(0);
}

static void test_model_middle(void)
{
    run_model((UINT64_C(1) << 63) - SLOTS / 2 - 3);
}

static void test_model_high(void)
{
    run_model(UINT64_MAX - SLOTS + 1);
}

/* What iova-node.h promises of a node and of all below it; returns the mappings. */
static size_t check_node(const IOVANode *node, size_t *leaves)
{
    size_t count = 0;
    unsigned int i;

    g_assert_cmpuint(node->n, >, 0);
    g_assert_cmpuint(node->n, <=, IOVA_FANOUT);
    for (i = 0; i < node->n; i++) {
        g_assert_cmphex(node->key[i], <=, node->entry[i].last);
        if (i > 0) {
            g_assert_cmphex(node->entry[i - 1].last, <, node->key[i]);
        }
        if (node->level > 0) {
            const IOVANode *child = node->entry[i].child;

            g_assert_cmpuint(child->level, ==, node->level - 1);
            g_assert_cmphex(child->key[0], ==, node->key[i]);
            g_assert_cmphex(child->entry[child->n - 1].last, ==, node->entry[i].last);
            count += check_node(child, leaves);
        }
    }
    *leaves += node->level == 0;
    return node->level > 0 ? count : node->n;
}

static unsigned int check_nodes(const IOVANode *root, size_t size)
{
    size_t leaves = 0;

    g_assert_cmpuint(root ? check_node(root, &leaves) : 0, ==, size);
    /* Not a promise, but what it is for. */
    g_assert_cmpuint(leaves, <=, 8 + size / (IOVA_FANOUT / 3));
    return root ? root->level : 0;
}

/* Up to some thousand nodes and down again, with single mappings and with ranges. */
static void test_nodes_stay_balanced(void)
{
    enum { N = 30000, SPREAD = 1 << 16 };
    IOVANode *retired = NULL;
    IOVANode *root = NULL;
    size_t size = 0;
    unsigned int max_level = 0;
    int i;

    for (i = 0; i < N; i++) {
        uint64_t iova = g_test_rand_int_range(0, SPREAD);
        uint64_t span = i < N / 2 || i % 16 ? 0 : SPREAD / 64;
        IOVAMapping mapping = { .iova = iova, .last = iova };
        IOVAMapping found;
        size_t removed = 0;

        if (span == 0 && (!iova_node_find(root, iova, &found) || found.iova != iova)) {
            root = iova_node_insert(root, &mapping, &retired);
            size++;
        } else {
            root = root ? iova_node_remove(root, iova, iova + span, &removed, &retired) : NULL;
            g_assert_true(span > 0 || removed == 1);
            size -= removed;
        }
        if (i % 100 == 0) {
            unsigned int level = check_nodes(root, size);

            max_level = MAX(max_level, level);
            iova_node_free_retired(retired);
            retired = NULL;
        }
    }
    g_assert_cmpuint(max_level, >=, 3);
    g_assert_cmpuint(max_level, <=, 4);
    iova_node_retire_all(root, &retired);
    iova_node_free_retired(retired);
}

/* What is left when most have gone lies in few nodes again. */
static void test_nodes_join(void)
{
    enum { N = 4096, KEPT = 16 };
    IOVANode *retired = NULL;
    IOVANode *root = NULL;
    size_t removed = 0;
    uint64_t i;

    for (i = 0; i < N; i++) {
        root = iova_node_insert(root, &(IOVAMapping){ .iova = i, .last = i }, &retired);
    }
    g_assert_cmpuint(check_nodes(root, N), >=, 2);
    for (i = 0; i < N; i++) {
        if (i % KEPT != 0) {
            root = iova_node_remove(root, i, i, &removed, &retired);
        }
    }
    g_assert_cmpuint(removed, ==, N - N / KEPT);
    check_nodes(root, N / KEPT);
    root = iova_node_remove(root, 1, N, &removed, &retired);
    g_assert_cmpuint(check_nodes(root, 1), ==, 0);
    iova_node_retire_all(root, &retired);
    iova_node_free_retired(retired);
}

/* In orders that would make a tree without balancing a list. */
static void test_takes_thousands(void)
{
    enum { N = 20000 };
    IOVATree *tree = iova_tree_new(0, UINT64_MAX);
    IOVAMapping out;
    uint64_t i;

    for (i = 0; i < N; i++) {
        g_assert_cmpint(tree_insert(tree, i * 2, i * 2, i), ==, 0);
        g_assert_cmpint(tree_insert(tree, UINT64_MAX - i * 2, UINT64_MAX - i * 2, i), ==, 0);
    }
    for (i = 0; i < N; i++) {
        g_assert_cmpint(iova_tree_lookup(tree, i * 2, i * 2, 0, &out, 1), ==, 1);
        g_assert_cmpuint(out.target, ==, i);
    }
    g_assert_cmpint(iova_tree_remove(tree, 100, UINT64_MAX - 101), ==, 2 * N - 50 - 51);
    g_assert_cmpuint(iova_tree_size(tree), ==, 101);
    iova_tree_free(tree);
    rcu_barrier();
}

/*
 * One writer, many readers.  Even pages always exist.  The odd ones come and go two at a time,
 * removed with one change: a reader that sees a version sees both or neither.
 */
enum { PAGES = 64, READERS = 3, ROUNDS = 3000 };

typedef struct Race {
    IOVATree *tree;
    atomic_bool stop;
    atomic_uint running;
} Race;

static void check_version(IOVATree *tree, unsigned int page)
{
    IOVAMapping out[4];
    int ret;

    page &= ~1u;
    ret = iova_tree_lookup(tree, page * 0x1000, page * 0x1000 + 0xfff, IOVA_PERM_RW, out, 1);
    g_assert_cmpint(ret, ==, 1);
    g_assert_cmphex(out[0].target, ==, page);

    /* An even page and both halves of the odd one above it, or a hole. */
    ret = iova_tree_lookup(tree, page * 0x1000, page * 0x1000 + 0x1fff, IOVA_PERM_RW, out, 4);
    if (ret != -ENOENT) {
        g_assert_cmpint(ret, ==, 3);
        g_assert_cmphex(out[1].target, ==, out[2].target);
    }
    g_assert_cmpuint(iova_tree_size(tree), >=, PAGES / 2);
}

static void *reader_run(void *opaque)
{
    Race *race = opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    rcu_thread_enter();
    atomic_fetch_add(&race->running, 1);
    while (!atomic_load_explicit(&race->stop, memory_order_relaxed)) {
        check_version(race->tree, g_rand_int_range(rand, 0, PAGES));
        rcu_thread_quiescent();
    }
    rcu_thread_leave();
    return NULL;
}

static void write_round(IOVATree *tree, uint64_t round)
{
    uint64_t odd = g_test_rand_int_range(0, PAGES / 2) * 2 + 1;
    uint64_t iova = odd * 0x1000;
    IOVAMapping out[2];

    if (iova_tree_lookup(tree, iova, iova, 0, out, 1) == -ENOENT) {
        g_assert_cmpint(tree_insert(tree, iova, iova + 0x7ff, round), ==, 0);
        g_assert_cmpint(tree_insert(tree, iova + 0x800, iova + 0xfff, round), ==, 0);
    } else {
        g_assert_cmpint(iova_tree_remove(tree, iova, iova + 0xfff), ==, 2);
    }
}

static void test_readers_see_versions(void)
{
    Race race = { .tree = iova_tree_new(0, UINT64_MAX) };
    GThread *readers[READERS];
    uint64_t i;

    for (i = 0; i < PAGES; i += 2) {
        g_assert_cmpint(tree_insert(race.tree, i * 0x1000, i * 0x1000 + 0xfff, i), ==, 0);
    }
    for (i = 0; i < READERS; i++) {
        readers[i] = g_thread_new("reader", reader_run, &race);
    }
    while (atomic_load(&race.running) < READERS) {
        sched_yield();
    }
    for (i = 0; i < ROUNDS; i++) {
        write_round(race.tree, i);
    }
    atomic_store(&race.stop, true);
    for (i = 0; i < READERS; i++) {
        g_thread_join(readers[i]);
    }
    iova_tree_free(race.tree);
    rcu_barrier();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iova-tree/insert-refuses", test_insert_refuses);
    g_test_add_func("/iova-tree/lookup-spans-and-cuts", test_lookup_spans_and_cuts);
    g_test_add_func("/iova-tree/lookup-checks-permissions", test_lookup_checks_perm);
    g_test_add_func("/iova-tree/remove-takes-whole-mappings", test_remove);
    g_test_add_func("/iova-tree/alloc-fills-gaps", test_alloc_fills_gaps);
    g_test_add_func("/iova-tree/alloc-aligns", test_alloc_aligns);
    g_test_add_func("/iova-tree/whole-address-space", test_whole_address_space);
    g_test_add_func("/iova-tree/model/low", test_model_low);
    g_test_add_func("/iova-tree/model/middle", test_model_middle);
    g_test_add_func("/iova-tree/model/high", test_model_high);
    g_test_add_func("/iova-tree/nodes-stay-balanced", test_nodes_stay_balanced);
    g_test_add_func("/iova-tree/nodes-join-when-they-empty", test_nodes_join);
    g_test_add_func("/iova-tree/takes-thousands-in-order", test_takes_thousands);
    g_test_add_func("/iova-tree/readers-see-whole-versions", test_readers_see_versions);
    return g_test_run();
}
