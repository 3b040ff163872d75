/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's memory as a migration sees it: the original, the copy, and the bitmaps that say
 * which pages are to be copied once more.
 *
 * How it works.  Two bitmaps tell of writes: the log, shared with the device under test, and that
 * of the guest's driver, as KVM would keep it.  A round takes the bits out of both, word by word,
 * and copies the pages.  So a page that was written and not logged is old in the copy, unless
 * somebody else's write brings it along.  To find that too, each page has an epoch, which counts
 * how often the log has had it: who writes a page in the device's stead remembers its epoch
 * after the write, and when the guest has the buffer back the page is in the log, or its
 * epoch is another one.  Nothing else will do, since a page is logged before its buffer is used.
 *
 * Threads: the VMM's, but for what is said to be the driver's or the device's.  @seq is odd
 * while bits are on their way from the log to the epochs, or logging is being switched: who
 * looks for a page waits for that to be over.
 */
#ifndef TESTS_LIB_DIRTY_MEMORY_H
#define TESTS_LIB_DIRTY_MEMORY_H

#include "lib/vmm.h"

#define DIRTY_PAGE          UINT64_C(4096)
#define DIRTY_PAGES         0x2100u     /* below the end of the memory, holes included */
#define DIRTY_WORDS         (DIRTY_PAGES / 64)
#define DIRTY_LOG_BYTES     (DIRTY_WORDS * 8)   /* the shortest log that will do */
#define DIRTY_RING_NUM      1024u
#define DIRTY_EXTENTS       3

/*
 * Where the parts of a ring lie, from a page boundary on.  A split ring's used index, its
 * elements and its event field, and a packed ring's event field, are on pages of their own; a
 * packed ring's descriptors share their pages with nothing.
 */
#define DIRTY_DESC          0x0800u
#define DIRTY_DRIVER        0x6000u
#define DIRTY_DEVICE        0x8ffcu
#define DIRTY_TABLES        0x10000u    /* VRING_INDIRECT_MAX descriptors for each id */

/* A log as a VMM gives it: @size bytes at @offset of a file. */
typedef struct DirtyLogFile {
    int fd;
    uint64_t offset, size;
    void *mapping;              /* of the file up to the log's end */
    _Atomic uint64_t *words;
} DirtyLogFile;

typedef struct DirtyExtent {
    uint64_t gpa, size;
} DirtyExtent;

typedef struct DirtyMemory {
    const VmmRegion *regions;
    uint8_t *copies[VMM_REGIONS];
    /* For buffers; begin and end at multiples of DIRTY_RING_NUM; in two of them regions meet. */
    DirtyExtent extents[DIRTY_EXTENTS];
    uint64_t rings[VMM_RINGS];              /* where the parts of each ring begin */
    bool is_ring[DIRTY_PAGES];              /* pages that the device under test writes itself */

    _Atomic(DirtyLogFile *) log;            /* NULL: none yet */
    _Atomic bool tracking;                  /* writes are to be found in @log */
    _Atomic uint32_t seq;
    _Atomic uint64_t driver[DIRTY_WORDS];
    _Atomic uint32_t epochs[DIRTY_PAGES];
    uint64_t taken[DIRTY_WORDS];            /* scratch of a round */
    uint32_t found[DIRTY_PAGES];            /* times that a log had the page */
    uint32_t written[DIRTY_PAGES];          /* pieces of buffers written there; the device's */
} DirtyMemory;

/* What the device has written of one buffer: handed from the device to the driver by @full. */
#define DIRTY_PIECES 32
typedef struct DirtyRecord {
    _Atomic bool full;
    uint32_t len;
    unsigned int n;
    struct {
        uint32_t page, epoch;
    } pieces[DIRTY_PIECES];
} DirtyRecord;

/* Moves the regions of @v, which no device knows yet, to where this test wants them. */
void dirty_memory_init(DirtyMemory *m, Vmm *v);
void dirty_memory_cleanup(DirtyMemory *m);

/* The original at @gpa; within one region.  Any thread. */
uint8_t *dirty_memory_host(const DirtyMemory *m, uint64_t gpa);

void dirty_log_file_init(DirtyLogFile *log, uint64_t offset, uint64_t size);
void dirty_log_file_cleanup(DirtyLogFile *log);
bool dirty_log_file_is_clean(const DirtyLogFile *log);

/* Around what switches logging on, off, or over to another log. */
void dirty_memory_switch_begin(DirtyMemory *m);
void dirty_memory_switch_end(DirtyMemory *m);

/* While switching: moves the bits of @log, which the device uses no more, to the next round. */
void dirty_memory_take_log(DirtyMemory *m, DirtyLogFile *log);

/* While switching, when logging is on: all pages are copied in the next round. */
void dirty_memory_take_all(DirtyMemory *m);

/* Takes what is in the log and copies it.  Returns the pages that the log had. */
unsigned int dirty_memory_round(DirtyMemory *m);

/* Pages of the copy that differ; the first of them is said in words. */
unsigned int dirty_memory_compare(const DirtyMemory *m);

/* Whether the page at @gpa is the same in the copy. */
bool dirty_memory_page_is_copied(const DirtyMemory *m, uint64_t gpa);

/* When nothing runs: no page was logged more often than it was written. */
void dirty_memory_check_precise(const DirtyMemory *m);

/* Driver: the guest has written [gpa, gpa + len). */
void dirty_memory_guest_wrote(DirtyMemory *m, uint64_t gpa, uint64_t len);

/* Device: pages that it never writes, so that they are never logged. */
bool dirty_memory_page_is_spared(const DirtyMemory *m, uint64_t page);

/* Device: a buffer is written; [gpa, gpa + len) was, for it; all of it was, @len bytes. */
void dirty_record_begin(DirtyRecord *record);
void dirty_record_piece(DirtyMemory *m, DirtyRecord *record, uint64_t gpa, uint64_t len);
void dirty_record_finish(DirtyMemory *m, DirtyRecord *record, uint32_t len);

/* Driver: the buffer has come back.  Asserts that all pages of it are, or were, in the log. */
void dirty_record_check(DirtyMemory *m, DirtyRecord *record, uint32_t len);

#endif
