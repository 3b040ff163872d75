/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lets User Mode Linux run on CPUs with more register state than it knows of; preloaded into it.
 *
 * How it works: UML keeps the XSAVE area of a process in a buffer whose size was right when
 * AVX-512 was the latest thing.  The host reads an area out in any length but takes it back only
 * whole: with AMX, which adds 8 KiB, UML dies when it starts init.  So a short area that UML wants
 * to set is put over the process's present one, which has the size that the host wants, and the
 * components that UML did not have are marked as in their initial state, which is where its
 * processes left them.  On other hosts every call goes through as it is.
 */
#include <cpuid.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Intel SDM, volume 1, 13.4: the header, which starts with XSTATE_BV, follows the legacy region. */
#define XSTATE_BV_OFFSET  512
#define XSTATE_BYTES_MAX  65536
#define XSTATE_COMPONENTS 63

typedef long PtraceFunc(int request, ...);

static PtraceFunc *real_ptrace;

static void __attribute__((constructor)) find_real_ptrace(void)
{
    real_ptrace = (PtraceFunc *)(uintptr_t)dlsym(RTLD_NEXT, "ptrace");
}

/* The components that lie within the first `size` bytes of an area, as bits of XSTATE_BV. */
static uint64_t components_within(size_t size)
{
    uint64_t components = 3; /* x87 and SSE, which are the legacy region */

    for (unsigned i = 2; i < XSTATE_COMPONENTS; i++) {
        unsigned bytes, offset, flags, reserved;

        /* Those of the host's kernel have no offset, and are not in what ptrace() shows. */
        if (__get_cpuid_count(0xd, i, &bytes, &offset, &flags, &reserved) && offset > 0 &&
            (uint64_t)offset + bytes <= size) {
            components |= UINT64_C(1) << i;
        }
    }
    return components;
}

static long set_xstate(pid_t pid, void *type, const struct iovec *wanted)
{
    static __thread unsigned char area[XSTATE_BYTES_MAX] __attribute__((aligned(64)));
    struct iovec whole = { .iov_base = area, .iov_len = sizeof(area) };
    uint64_t present;

    if (real_ptrace(PTRACE_GETREGSET, pid, type, &whole) < 0) {
        return -1;
    }
    if (whole.iov_len <= wanted->iov_len || wanted->iov_len < XSTATE_BV_OFFSET + sizeof(present)) {
        return real_ptrace(PTRACE_SETREGSET, pid, type, wanted);
    }
    memcpy(area, wanted->iov_base, wanted->iov_len);
    memcpy(&present, area + XSTATE_BV_OFFSET, sizeof(present));
    present &= components_within(wanted->iov_len);
    memcpy(area + XSTATE_BV_OFFSET, &present, sizeof(present));
    return real_ptrace(PTRACE_SETREGSET, pid, type, &whole);
}

/* In place of the C library's, whose declaration has the type of the request in its own way. */
long __attribute__((visibility("default"))) ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;

    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE) {
        return set_xstate(pid, address, data);
    }
    return real_ptrace((int)request, pid, address, data);
}
