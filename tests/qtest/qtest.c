/* SPDX-License-Identifier: BSD-3-Clause */
/* QEMU's qtest protocol and its monitor. */
#include "qtest.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "line-socket.h"
#include "wait.h"

#define QEMU "qemu-system-x86_64"
#define BIOS_SIZE 0x10000
#define RESET_VECTOR 0xfff0     /* in the last 64 KiB below 4 GiB */

struct Qtest {
    Process *process;
    LineSocket line, monitor;
    uint8_t *memory;
    uint64_t irqs;      /* raised, of the first 64 */
};

bool qtest_is_available(void)
{
    g_autofree char *path = g_find_program_in_path(QEMU);

    return path != NULL;
}

static int memory_file(const char *name, uint64_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return fd;
}

/* Firmware that does nothing: cli; hlt; and back to hlt, should anything wake it. */
static int bios_file(void)
{
    static const uint8_t code[] = { 0xfa, 0xf4, 0xeb, 0xfd };
    int fd = memory_file("bios", BIOS_SIZE);

    g_assert_cmpint(pwrite(fd, code, sizeof(code), RESET_VECTOR), ==, sizeof(code));
    return fd;
}

/* The replies to commands, with what QEMU says of interrupts in between taken out. */
static bool take_irq_line(Qtest *qtest, const char *text)
{
    char what[8];
    unsigned int n;

    if (sscanf(text, "IRQ %7s %u", what, &n) != 2) {
        return false;
    }
    g_assert_cmpuint(n, <, 64);
    if (strcmp(what, "raise") == 0) {
        qtest->irqs |= UINT64_C(1) << n;
    } else {
        qtest->irqs &= ~(UINT64_C(1) << n);
    }
    return true;
}

static uint64_t G_GNUC_PRINTF(2, 3) command(Qtest *qtest, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    line_socket_send(&qtest->line, text);
    for (;;) {
        g_autofree char *reply = line_socket_receive(&qtest->line);

        if (take_irq_line(qtest, reply)) {
            continue;
        }
        if (!g_str_has_prefix(reply, "OK")) {
            g_error("QEMU answers '%s' to '%s'", reply, text);
        }
        return g_ascii_strtoull(reply + 2, NULL, 0);
    }
}

static void monitor_wait(Qtest *qtest, const char *what)
{
    bool done;

    do {
        g_autofree char *reply = line_socket_receive(&qtest->monitor);

        if (g_str_has_prefix(reply, "{\"error\"")) {
            g_error("QEMU's monitor refuses: %s", reply);
        }
        done = g_str_has_prefix(reply, what);
    } while (!done);    /* events */
}

void qtest_monitor(Qtest *qtest, const char *name)
{
    g_autofree char *text = g_strdup_printf("{\"execute\": \"%s\"}", name);

    line_socket_send(&qtest->monitor, text);
    monitor_wait(qtest, "{\"return\"");
}

Qtest *qtest_start(const char *const *args, const char *log)
{
    static const char *const common[] = {
        QEMU, "-accel", "tcg", "-machine", "pc,memory-backend=mem", "-m", "64M", "-nodefaults",
        "-display", "none", "-bios", "/proc/self/fd/3",
        "-object", "memory-backend-file,id=mem,size=64M,share=on,mem-path=/proc/self/fd/4",
        "-chardev", "socket,id=qtest,fd=5", "-qtest", "chardev:qtest", "-qtest-log", "none",
        "-chardev", "socket,id=mon,fd=6", "-mon", "chardev=mon,mode=control",
    };
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    Qtest *qtest = g_new0(Qtest, 1);
    int fds[4];
    unsigned int i;

    for (i = 0; i < G_N_ELEMENTS(common); i++) {
        g_ptr_array_add(argv, (char *)common[i]);
    }
    while (*args) {
        g_ptr_array_add(argv, (char *)*args++);
    }
    g_ptr_array_add(argv, NULL);

    fds[0] = bios_file();
    fds[1] = memory_file("guest", QTEST_MEMORY_SIZE);
    line_socket_init(&qtest->line, &fds[2]);
    line_socket_init(&qtest->monitor, &fds[3]);
    qtest->memory = mmap(NULL, QTEST_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    g_assert_true(qtest->memory != MAP_FAILED);
    qtest->process = process_start((const char *const *)argv->pdata, log, fds, G_N_ELEMENTS(fds));
    for (i = 0; i < G_N_ELEMENTS(fds); i++) {
        close(fds[i]);
    }
    monitor_wait(qtest, "{\"QMP\"");
    qtest_monitor(qtest, "qmp_capabilities");
    return qtest;
}

void qtest_end(Qtest *qtest)
{
    int status;

    qtest_monitor(qtest, "quit");
    WAIT_FOR(!process_is_running(qtest->process));
    status = process_end(qtest->process, SIGKILL);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    line_socket_cleanup(&qtest->line);
    line_socket_cleanup(&qtest->monitor);
    munmap(qtest->memory, QTEST_MEMORY_SIZE);
    g_free(qtest);
}

Process *qtest_process(Qtest *qtest)
{
    return qtest->process;
}

uint8_t *qtest_memory(Qtest *qtest)
{
    return qtest->memory;
}

uint32_t qtest_inl(Qtest *qtest, uint16_t port)
{
    return (uint32_t)command(qtest, "inl 0x%x", port);
}

void qtest_outl(Qtest *qtest, uint16_t port, uint32_t value)
{
    command(qtest, "outl 0x%x 0x%x", port, value);
}

static char size_letter(unsigned int size)
{
    switch (size) {
    case 1:
        return 'b';
    case 2:
        return 'w';
    case 4:
        return 'l';
    case 8:
        return 'q';
    }
    g_assert_not_reached();
}

uint64_t qtest_read(Qtest *qtest, unsigned int size, uint64_t addr)
{
    return command(qtest, "read%c 0x%" G_GINT64_MODIFIER "x", size_letter(size), addr);
}

void qtest_write(Qtest *qtest, unsigned int size, uint64_t addr, uint64_t value)
{
    command(qtest, "write%c 0x%" G_GINT64_MODIFIER "x 0x%" G_GINT64_MODIFIER "x",
            size_letter(size), addr, value);
}

void qtest_intercept_irqs(Qtest *qtest)
{
    command(qtest, "irq_intercept_in ioapic");
}

bool qtest_irq_is_raised(Qtest *qtest, unsigned int irq)
{
    while (line_socket_is_ready(&qtest->line)) {
        g_autofree char *text = line_socket_receive(&qtest->line);

        g_assert_true(take_irq_line(qtest, text));
    }
    return qtest->irqs >> irq & 1;
}
