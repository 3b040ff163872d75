/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counts memory allocations by standing in front of the C library's allocator.
 *
 * How it works.  The program defines malloc() and its sisters; the dynamic linker binds every
 * library's calls to them.  They count, then go on to glibc's own entry points.  The counter
 * is the thread's, and lies in the program's initial TLS block, so that to reach it needs
 * no allocation.
 */
#include "allocations.h"

#ifdef COUNT_ALLOCATIONS

#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t align, size_t size);

static _Thread_local uint64_t allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}

void *memalign(size_t align, size_t size)
{
    allocations++;
    return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **result, size_t align, size_t size)
{
    void *memory;

    if (align % sizeof(void *) || (align & (align - 1)) || align == 0) {
        return EINVAL;
    }
    memory = memalign(align, size);
    if (!memory) {
        return ENOMEM;
    }
    *result = memory;
    return 0;
}

bool allocations_are_counted(void)
{
    return true;
}

uint64_t allocations_of_thread(void)
{
    return allocations;
}

#else

bool allocations_are_counted(void)
{
    return false;
}

uint64_t allocations_of_thread(void)
{
    return 0;
}

#endif
