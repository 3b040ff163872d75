/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's memory: what can be mapped, and which addresses are found in it.
 */
#include <glib.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hw/virtio/memory-map.h"
#include "lib/guest.h"
#include "lib/random.h"

static int memory_file(uint64_t size, unsigned int flags)
{
    int fd = memfd_create("memory", MFD_CLOEXEC | flags);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return fd;
}

static void assert_refused(uint64_t file_size, uint64_t offset, uint64_t gpa, uint64_t size,
                           uint64_t user_addr, const char *words)
{
    g_autoptr(GError) err = NULL;
    int fd = memory_file(file_size, 0);

    g_assert_null(memory_region_new(fd, offset, gpa, size, user_addr, &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL);
    g_assert_nonnull(strstr(err->message, words));
    /* It took the descriptor, though it failed. */
    g_assert_cmpint(close(fd), ==, -1);
}

static void test_region_refused(void)
{
    assert_refused(0x1000, 0, 0, 0, 0, "empty");
    assert_refused(0x1000, 0, UINT64_MAX - 0xfff + 1, 0x1000, 0, "wraps");
    assert_refused(0x1000, 0, UINT64_MAX - 0xfef, 0x1000, 0, "wraps");
    assert_refused(0x1000, 0, 0, 0x1000, UINT64_MAX - 0xf, "wraps");
    assert_refused(0x1000, UINT64_MAX - 0xfff, 0, 0x1000, 0, "wraps");
    assert_refused(0x1000, 0, 0, UINT64_MAX, 0, "wraps");
    assert_refused(0x1000, 0, 0, UINT64_C(1) << 63, 0, "wraps");
    assert_refused(0x1000, 0, 0, 0x1001, 0, "file ends before");
    assert_refused(0x1000, 0x1000, 0, 0x1000, 0, "file ends before");
    assert_refused(0x2000, 8, 0x1000, 0x1000, 0, "not aligned");
}

static void test_region_at_the_top(void)
{
    const GuestRegion region = { UINT64_MAX - 0xfff, 0x1000, 0 };
    MemoryMap *map = guest_memory_new(&region, 1);

    g_assert_nonnull(memory_map_host(map, UINT64_MAX - 0xfff, 0x1000));
    g_assert_nonnull(memory_map_host(map, UINT64_MAX, 1));
    g_assert_null(memory_map_host(map, UINT64_MAX, 2));
    g_assert_null(memory_map_host(map, 0, 1));
    guest_memory_free(map);
}

static void test_region_offset(void)
{
    g_autoptr(GError) err = NULL;
    int fd = memory_file(0x5000, 0);
    MemoryRegion *region;
    MemoryMap *map;

    g_assert_cmpint(pwrite(fd, "here", 4, 0x2340), ==, 4);
    region = memory_region_new(fd, 0x2340, 0x340, 0x1000, 0x7000000, &err);
    g_assert_no_error(err);
    map = memory_map_new(&region, 1, &err);
    g_assert_no_error(err);
    memory_region_unref(region);
    g_assert_cmpmem(memory_map_host(map, 0x340, 4), 4, "here", 4);
    guest_memory_free(map);
}

/* A file of huge pages is mapped in whole ones, wherever in it a region begins and ends. */
static void test_region_of_huge_pages(void)
{
    g_autoptr(GError) err = NULL;
    int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
    MemoryRegion *region;
    void *where;
    size_t size;

    if (fd < 0) {
        g_test_skip("the kernel has no 2 MB pages");
        return;
    }
    g_assert_cmpint(ftruncate(fd, 4 << 20), ==, 0);
    region = memory_region_new(fd, 0x100000, 0x100000, 0x180000, 0, &err);
    g_assert_no_error(err);
    where = region->mapping;
    size = region->mapping_size;
    g_assert_cmpuint(size, ==, 4 << 20);
    g_assert_true(region->host == (uint8_t *)where + 0x100000);
    memory_region_unref(region);
    /* It is gone: at the same place something else can be mapped. */
    g_assert_true(mmap(where, size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == where);
    munmap(where, size);
}

static void test_empty(void)
{
    MemoryMap *map = guest_memory_new(NULL, 0);

    g_assert_null(memory_map_host(map, 0, 1));
    g_assert_null(memory_map_host(map, 0, 0));
    g_assert_null(memory_map_host(map, UINT64_MAX, 1));
    g_assert_null(memory_map_host_of_user(map, 0, 1, NULL));
    g_assert_null(memory_map_host_of_iova(map, 0, 1));
    guest_memory_free(map);
}

static void test_holes_and_edges(void)
{
    const GuestRegion regions[] = {
        { 0x10000, 0x2000, 0x10000 },       /* ends where the next begins */
        { 0x12000, 0x1000, 0x80000 },
        { 0x20000, 0x1000, 0x20000 },
    };
    MemoryMap *map = guest_memory_new(regions, 3);
    uint8_t *first = memory_map_host(map, 0x10000, 1);

    g_assert_true(memory_map_host(map, 0x10000, 0x2000) == first);
    g_assert_true(memory_map_host(map, 0x11fff, 1) == first + 0x1fff);
    g_assert_null(memory_map_host(map, 0xffff, 1));
    g_assert_null(memory_map_host(map, 0xffff, 2));
    g_assert_null(memory_map_host(map, 0x11fff, 2));        /* two regions */
    g_assert_nonnull(memory_map_host(map, 0x12000, 0x1000));
    g_assert_null(memory_map_host(map, 0x13000, 1));
    g_assert_null(memory_map_host(map, 0x1ffff, 2));
    g_assert_null(memory_map_host(map, 0x20000, UINT64_MAX));
    g_assert_null(memory_map_host(map, 0x20fff, UINT64_MAX));
    g_assert_null(memory_map_host(map, UINT64_MAX, 0x20000));
    guest_memory_free(map);
}

static void test_user_and_iova(void)
{
    const GuestRegion regions[] = { { 0x10000, 0x1000, 0x80000 }, { 0x20000, 0x1000, 0x20000 } };
    MemoryMap *map = guest_memory_new(regions, 2);
    uint64_t gpa = 0;

    g_assert_true(memory_map_host_of_iova(map, 0x80010, 16) == memory_map_host(map, 0x10010, 16));
    g_assert_null(memory_map_host_of_iova(map, 0x10010, 16));
    g_assert_null(memory_map_host_of_iova(map, 0x80ff8, 9));
    g_assert_true(memory_map_host_of_user(map, GUEST_USER_OFFSET + 0x20ffc, 4, &gpa) ==
                  memory_map_host(map, 0x20ffc, 4));
    g_assert_cmphex(gpa, ==, 0x20ffc);
    g_assert_null(memory_map_host_of_user(map, GUEST_USER_OFFSET + 0x20ffd, 4, &gpa));
    g_assert_null(memory_map_host_of_user(map, 0x20000, 4, &gpa));
    guest_memory_free(map);
}

static void test_overlap_refused(void)
{
    static const uint64_t second[] = { 0x1000, 0x1ff0, 0x10, 0 };
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(second); i++) {
        g_autoptr(GError) err = NULL;
        MemoryRegion *regions[] = {
            memory_region_new(memory_file(0x2000, 0), 0, 0x1000, 0x1000, 0, &err),
            memory_region_new(memory_file(0x2000, 0), 0, second[i], i == 3 ? 0x2000 : 0x1000, 0,
                              &err),
        };

        g_assert_null(memory_map_new(regions, 2, &err));
        g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL);
        g_assert_nonnull(strstr(err->message, "overlap"));
        memory_region_unref(regions[0]);
        memory_region_unref(regions[1]);
    }
}

static void test_too_many_refused(void)
{
    g_autofree MemoryRegion **regions = g_new0(MemoryRegion *, MEMORY_MAP_MAX_REGIONS + 1);
    g_autoptr(GError) err = NULL;

    g_assert_null(memory_map_new(regions, MEMORY_MAP_MAX_REGIONS + 1, &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL);
}

static void test_maps_share_regions(void)
{
    g_autoptr(GError) err = NULL;
    MemoryRegion *region = memory_region_new(memory_file(0x1000, 0), 0, 0, 0x1000, 0, &err);
    MemoryMap *a = memory_map_new(&region, 1, &err);
    MemoryMap *b = memory_map_new(&region, 1, &err);

    memory_region_unref(region);
    guest_memory_free(a);
    /* Still mapped. */
    *(uint8_t *)memory_map_host(b, 0xfff, 1) = 1;
    guest_memory_free(b);
    memory_map_free(NULL);
}

/* The search against a linear one, for each number of regions up to 40. */
static void test_find_agrees_with_linear_search(void)
{
    Random random = { random_seed() };
    GuestRegion regions[40];
    unsigned int n, i, tries;

    for (n = 1; n <= G_N_ELEMENTS(regions); n++) {
        uint64_t gpa = random_below(&random, 4) * UINT64_C(0x1000);
        MemoryMap *map;

        for (i = 0; i < n; i++) {
            uint64_t size = (1 + random_below(&random, 3)) * UINT64_C(0x1000);

            regions[i] = (GuestRegion){ gpa, size, gpa };
            gpa += size + random_below(&random, 2) * UINT64_C(0x1000);
        }
        map = guest_memory_new(regions, n);
        for (tries = 0; tries < 1000; tries++) {
            uint64_t addr = random_below(&random, (uint32_t)gpa + 0x2000);
            const GuestRegion *expected = NULL;
            const MemoryRange *found = memory_map_find(map, addr, 1);

            for (i = 0; i < n; i++) {
                if (addr >= regions[i].gpa && addr < regions[i].gpa + regions[i].size) {
                    expected = &regions[i];
                }
            }
            g_assert_cmpint(found != NULL, ==, expected != NULL);
            g_assert_true(!expected || found->gpa == expected->gpa);
        }
        guest_memory_free(map);
    }
}

/*
 * The same with lengths, for layouts that are hard for granules: regions of a few bytes, far apart or
 * side by side, up to the end of all addresses, as many as there may be.  They are of no memory.
 */
static void check_layout(Random *random, unsigned int n, uint64_t first, uint64_t step, bool to_top)
{
    g_autofree MemoryRegion *regions = g_new0(MemoryRegion, n);
    g_autofree MemoryRegion **list = g_new(MemoryRegion *, n);
    g_autoptr(GError) err = NULL;
    uint64_t gpa = first;
    unsigned int i, tries;
    MemoryMap *map;

    for (i = 0; i < n; i++) {
        regions[i] = (MemoryRegion){
            .gpa = gpa,
            .size = 1 + random_u64(random) % step,
            .iova = random_u64(random),
            .refs = 2,
        };
        if (random_one_in(random, 3) || step == 1) {
            regions[i].size = step;     /* the next is adjacent */
        }
        if (to_top && i == n - 1) {
            regions[i].gpa = gpa = MAX(gpa, UINT64_MAX - (step - 1));
            regions[i].size = UINT64_MAX - gpa + 1;
        }
        gpa += step * (random_one_in(random, 2) ? 1 : 1 + random_below(random, 64));
        list[n - 1 - i] = &regions[i];
    }
    map = memory_map_new(list, n, &err);
    g_assert_no_error(err);
    for (tries = 0; tries < 20000; tries++) {
        const MemoryRegion *near = &regions[random_below(random, n)];
        const uint64_t at = near->gpa - 2 + random_u64(random) % (near->size + 4);
        const uint64_t len = 1 + (random_one_in(random, 2) ? random_below(random, 3)
                                                           : random_u64(random) % (near->size + 2));
        const MemoryRange *found = memory_map_find(map, at, len);
        const MemoryRegion *expected = NULL;

        for (i = (unsigned int)(near - regions) + 5; i-- > 0;) {
            if (i < n && at - regions[i].gpa < regions[i].size &&
                len <= regions[i].size - (at - regions[i].gpa)) {
                expected = &regions[i];
            }
            if (&regions[i] + 4 < near) {
                break;
            }
        }
        if (!expected) {
            g_assert_null(found);
        } else {
            g_assert_nonnull(found);
            g_assert_cmphex(found->gpa, ==, expected->gpa);
            g_assert_cmphex(found->iova_delta, ==, expected->iova - expected->gpa);
        }
    }
    memory_map_free(map);
    rcu_barrier();
}

static void test_layouts(void)
{
    static const unsigned int counts[] = { 1, 2, 3, 31, 32, 33, 1000, MEMORY_MAP_MAX_REGIONS };
    Random random = { random_seed() };
    unsigned int i, shift;

    for (i = 0; i < G_N_ELEMENTS(counts); i++) {
        for (shift = 0; shift < 40; shift += 5) {
            const uint64_t step = UINT64_C(1) << shift;

            check_layout(&random, counts[i], random_below(&random, 3) * step, step, false);
            check_layout(&random, counts[i], 16 + random_below(&random, 1000), step, true);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory-map/region-refused", test_region_refused);
    g_test_add_func("/memory-map/region-at-the-top", test_region_at_the_top);
    g_test_add_func("/memory-map/region-offset", test_region_offset);
    g_test_add_func("/memory-map/region-of-huge-pages", test_region_of_huge_pages);
    g_test_add_func("/memory-map/empty", test_empty);
    g_test_add_func("/memory-map/holes-and-edges", test_holes_and_edges);
    g_test_add_func("/memory-map/user-and-iova", test_user_and_iova);
    g_test_add_func("/memory-map/overlap-refused", test_overlap_refused);
    g_test_add_func("/memory-map/too-many-refused", test_too_many_refused);
    g_test_add_func("/memory-map/maps-share-regions", test_maps_share_regions);
    g_test_add_func("/memory-map/find-agrees-with-linear-search",
                    test_find_agrees_with_linear_search);
    g_test_add_func("/memory-map/layouts", test_layouts);
    return g_test_run();
}
