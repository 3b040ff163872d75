/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's memory as a migration sees it.  See dirty-memory.h. */
#include "lib/dirty-memory.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/random.h"

/*
 * The regions: that of the buffers does not end on a page boundary, and ring 3's begins where it
 * ends; ring 1's begins where ring 0's ends; ring 2's has holes on both sides, is the last,
 * and does not end on a page boundary either.  Rings lie away from where two regions meet.
 */
#define DATA_GPA    UINT64_C(0x100000)
#define DATA_SIZE   UINT64_C(0x3ff400)
#define RING0_GPA   UINT64_C(0x1000000)
#define RING2_GPA   UINT64_C(0x2000000)
#define RING2_SIZE  (VMM_RING_SIZE - 0xc00)

static void place_regions(DirtyMemory *m, Vmm *v)
{
    const uint64_t data_end = DATA_GPA + DATA_SIZE;
    const uint64_t half = VMM_RING_SIZE / 2;

    v->regions[VMM_DATA].gpa = DATA_GPA;
    v->regions[VMM_DATA].size = DATA_SIZE;
    v->regions[0].gpa = RING0_GPA;
    v->regions[1].gpa = RING0_GPA + VMM_RING_SIZE;
    v->regions[2].gpa = RING2_GPA;
    v->regions[2].size = RING2_SIZE;
    v->regions[3].gpa = data_end;

    m->rings[0] = RING0_GPA;
    m->rings[1] = RING0_GPA + VMM_RING_SIZE + half;
    m->rings[2] = RING2_GPA;
    m->rings[3] = (data_end + half + DIRTY_PAGE - 1) & ~(DIRTY_PAGE - 1);

    m->extents[0] = (DirtyExtent){ DATA_GPA, DATA_SIZE + half };
    m->extents[1] = (DirtyExtent){ RING0_GPA + half, 2 * half };
    m->extents[2] = (DirtyExtent){ RING2_GPA + half, RING2_SIZE - half };
}

static void set_ring_pages(DirtyMemory *m, uint64_t gpa, uint64_t size)
{
    uint64_t page;

    for (page = gpa / DIRTY_PAGE; page <= (gpa + size - 1) / DIRTY_PAGE; page++) {
        m->is_ring[page] = true;
    }
}

void dirty_memory_init(DirtyMemory *m, Vmm *v)
{
    const bool packed = v->features & VMM_PACKED;
    unsigned int i;

    memset(m, 0, sizeof(*m));
    m->regions = v->regions;
    place_regions(m, v);
    for (i = 0; i < VMM_REGIONS; i++) {
        m->copies[i] = g_malloc0(v->regions[i].size);
    }
    for (i = 0; i < VMM_RINGS; i++) {
        set_ring_pages(m, m->rings[i] + DIRTY_DEVICE, vring_device_size(v->num, packed));
        if (packed) {
            set_ring_pages(m, m->rings[i] + DIRTY_DESC, vring_desc_size(v->num));
        }
    }
}

void dirty_memory_cleanup(DirtyMemory *m)
{
    unsigned int i;

    for (i = 0; i < VMM_REGIONS; i++) {
        g_free(m->copies[i]);
    }
}

uint8_t *dirty_memory_host(const DirtyMemory *m, uint64_t gpa)
{
    unsigned int i;

    for (i = 0; i < VMM_REGIONS; i++) {
        const VmmRegion *region = &m->regions[i];

        if (gpa - region->gpa < region->size) {
            return region->host + (gpa - region->gpa);
        }
    }
    g_assert_not_reached();
}

void dirty_log_file_init(DirtyLogFile *log, uint64_t offset, uint64_t size)
{
    *log = (DirtyLogFile){ .fd = peer_memfd(offset + size), .offset = offset, .size = size };
    log->mapping = mmap(NULL, offset + size, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
    g_assert_true(log->mapping != MAP_FAILED);
    log->words = (_Atomic uint64_t *)((uint8_t *)log->mapping + offset);
}

void dirty_log_file_cleanup(DirtyLogFile *log)
{
    if (log->mapping) {
        munmap(log->mapping, log->offset + log->size);
        close(log->fd);
    }
}

bool dirty_log_file_is_clean(const DirtyLogFile *log)
{
    const _Atomic uint64_t *word = log->mapping;
    const _Atomic uint64_t *end = word + (log->offset + log->size) / sizeof(*word);

    for (; word < end; word++) {
        if (atomic_load(word)) {
            return false;
        }
    }
    return true;
}

/* Pairs with the acquire in dirty_record_check(). */
static void seq_step(DirtyMemory *m)
{
    uint32_t seq = atomic_load_explicit(&m->seq, memory_order_relaxed);

    atomic_store_explicit(&m->seq, seq + 1, memory_order_release);
}

void dirty_memory_switch_begin(DirtyMemory *m)
{
    g_assert_cmpuint(m->seq % 2, ==, 0);
    seq_step(m);
}

void dirty_memory_switch_end(DirtyMemory *m)
{
    g_assert_cmpuint(m->seq % 2, ==, 1);
    seq_step(m);
}

static void step_epoch(DirtyMemory *m, uint64_t page)
{
    uint32_t epoch = atomic_load_explicit(&m->epochs[page], memory_order_relaxed);

    atomic_store_explicit(&m->epochs[page], epoch + 1, memory_order_relaxed);
}

void dirty_memory_take_log(DirtyMemory *m, DirtyLogFile *log)
{
    unsigned int i;

    for (i = 0; i < DIRTY_WORDS; i++) {
        uint64_t bits, left;

        if (!atomic_load_explicit(&log->words[i], memory_order_relaxed)) {
            continue;
        }
        /* Acquire: pairs with the release of who has put them in: the pages are seen as he saw. */
        bits = le64toh(atomic_exchange_explicit(&log->words[i], 0, memory_order_acq_rel));
        for (left = bits; left; left &= left - 1) {
            uint64_t page = i * UINT64_C(64) + (unsigned int)__builtin_ctzll(left);

            step_epoch(m, page);
            m->found[page]++;
        }
        m->taken[i] |= bits;
    }
}

void dirty_memory_take_all(DirtyMemory *m)
{
    uint64_t page;

    for (page = 0; page < DIRTY_PAGES; page++) {
        step_epoch(m, page);
    }
    memset(m->taken, 0xff, sizeof(m->taken));
}

/* Word by word, since others may be writing there; regions begin and end at multiples of 8. */
static void copy_words(uint8_t *to, const uint8_t *from, uint64_t len)
{
    const _Atomic uint64_t *source = (const _Atomic uint64_t *)from;
    uint64_t *target = (uint64_t *)to;
    uint64_t i;

    for (i = 0; i < len / sizeof(*target); i++) {
        target[i] = atomic_load_explicit(&source[i], memory_order_relaxed);
    }
}

/* The parts of @page that are memory: none in a hole, two where regions meet. */
static void copy_page(DirtyMemory *m, uint64_t page)
{
    unsigned int i;

    for (i = 0; i < VMM_REGIONS; i++) {
        const VmmRegion *region = &m->regions[i];
        uint64_t first = MAX(page * DIRTY_PAGE, region->gpa);
        uint64_t end = MIN((page + 1) * DIRTY_PAGE, region->gpa + region->size);

        if (first < end) {
            copy_words(m->copies[i] + (first - region->gpa), region->host + (first - region->gpa),
                       end - first);
        }
    }
}

unsigned int dirty_memory_round(DirtyMemory *m)
{
    DirtyLogFile *log = atomic_load(&m->log);
    unsigned int i, n = 0;

    dirty_memory_switch_begin(m);
    if (log) {
        dirty_memory_take_log(m, log);
    }
    dirty_memory_switch_end(m);
    /* Pairs with the fence in dirty_record_finish(): an old epoch there is a new page here. */
    atomic_thread_fence(memory_order_seq_cst);
    for (i = 0; i < DIRTY_WORDS; i++) {
        uint64_t bits = m->taken[i];

        n += (unsigned int)__builtin_popcountll(bits);
        m->taken[i] = 0;
        if (atomic_load_explicit(&m->driver[i], memory_order_relaxed)) {
            bits |= atomic_exchange(&m->driver[i], 0);
        }
        for (; bits; bits &= bits - 1) {
            copy_page(m, i * UINT64_C(64) + (unsigned int)__builtin_ctzll(bits));
        }
    }
    return n;
}

static bool same_page(const DirtyMemory *m, unsigned int region, uint64_t page)
{
    const VmmRegion *r = &m->regions[region];
    uint64_t first = MAX(page * DIRTY_PAGE, r->gpa);
    uint64_t end = MIN((page + 1) * DIRTY_PAGE, r->gpa + r->size);

    return first >= end || memcmp(r->host + (first - r->gpa), m->copies[region] + (first - r->gpa),
                                  end - first) == 0;
}

static bool page_is_copied(const DirtyMemory *m, uint64_t page)
{
    unsigned int i;

    for (i = 0; i < VMM_REGIONS; i++) {
        if (!same_page(m, i, page)) {
            return false;
        }
    }
    return true;
}

bool dirty_memory_page_is_copied(const DirtyMemory *m, uint64_t gpa)
{
    return page_is_copied(m, gpa / DIRTY_PAGE);
}

unsigned int dirty_memory_compare(const DirtyMemory *m)
{
    unsigned int n = 0;
    uint64_t page;

    for (page = 0; page < DIRTY_PAGES; page++) {
        if (!page_is_copied(m, page) && n++ == 0) {
            g_test_message("page 0x%" PRIx64 "%s is old in the copy", page * DIRTY_PAGE,
                           m->is_ring[page] ? ", of a ring," : "");
        }
    }
    return n;
}

void dirty_memory_check_precise(const DirtyMemory *m)
{
    uint64_t page;

    for (page = 0; page < DIRTY_PAGES; page++) {
        if (!m->is_ring[page] && m->found[page] > m->written[page]) {
            g_error("page 0x%" PRIx64 " was logged %u times and written %u times",
                    page * DIRTY_PAGE, m->found[page], m->written[page]);
        }
    }
}

void dirty_memory_guest_wrote(DirtyMemory *m, uint64_t gpa, uint64_t len)
{
    uint64_t page;

    for (page = gpa / DIRTY_PAGE; page <= (gpa + len - 1) / DIRTY_PAGE; page++) {
        atomic_fetch_or(&m->driver[page / 64], UINT64_C(1) << page % 64);
    }
}

bool dirty_memory_page_is_spared(const DirtyMemory *m, uint64_t page)
{
    return random_hash(page) % 8 == 0;
}

void dirty_record_begin(DirtyRecord *record)
{
    /* Acquire: pairs with the release in dirty_record_check(). */
    g_assert_false(atomic_load_explicit(&record->full, memory_order_acquire));
    record->n = 0;
}

void dirty_record_piece(DirtyMemory *m, DirtyRecord *record, uint64_t gpa, uint64_t len)
{
    uint64_t page;

    for (page = gpa / DIRTY_PAGE; page <= (gpa + len - 1) / DIRTY_PAGE; page++) {
        g_assert_cmpuint(record->n, <, DIRTY_PIECES);
        record->pieces[record->n++].page = (uint32_t)page;
        m->written[page]++;
    }
}

void dirty_record_finish(DirtyMemory *m, DirtyRecord *record, uint32_t len)
{
    unsigned int i;

    /* Pairs with the fence in dirty_memory_round(). */
    atomic_thread_fence(memory_order_seq_cst);
    for (i = 0; i < record->n; i++) {
        record->pieces[i].epoch =
            atomic_load_explicit(&m->epochs[record->pieces[i].page], memory_order_relaxed);
    }
    record->len = len;
    /* Release: pairs with the acquire in dirty_record_check(). */
    atomic_store_explicit(&record->full, true, memory_order_release);
}

/* Once, in between two switches: whether the log has, or had, the page since @epoch. */
static bool page_is_logged(const DirtyMemory *m, uint32_t page, uint32_t epoch)
{
    const DirtyLogFile *log = atomic_load_explicit(&m->log, memory_order_relaxed);
    uint64_t word = atomic_load_explicit(&log->words[page / 64], memory_order_acquire);

    return le64toh(word) & UINT64_C(1) << page % 64 ||
           atomic_load_explicit(&m->epochs[page], memory_order_relaxed) != epoch;
}

static void check_piece(const DirtyMemory *m, uint32_t page, uint32_t epoch)
{
    uint32_t seq;

    do {
        /* Acquire: pairs with the release in seq_step(). */
        seq = atomic_load_explicit(&m->seq, memory_order_acquire);
        if (!atomic_load(&m->tracking) || page_is_logged(m, page, epoch)) {
            return;
        }
        g_thread_yield();
        atomic_thread_fence(memory_order_acquire);
    } while (seq % 2 || seq != atomic_load_explicit(&m->seq, memory_order_relaxed));
    g_error("page 0x%" PRIx64 " was written but is not in the log when its buffer is used",
            page * DIRTY_PAGE);
}

void dirty_record_check(DirtyMemory *m, DirtyRecord *record, uint32_t len)
{
    unsigned int i;

    if (!atomic_load_explicit(&record->full, memory_order_acquire)) {
        /* Given back by a ring that was stopped: the device has not got to it. */
        g_assert_cmpuint(len, ==, 0);
        return;
    }
    g_assert_cmpuint(len, ==, record->len);
    for (i = 0; i < record->n; i++) {
        check_piece(m, record->pieces[i].page, record->pieces[i].epoch);
    }
    atomic_store_explicit(&record->full, false, memory_order_release);
}
