/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QEMU without a guest: the test itself touches ports, registers and memory of the machine.
 *
 * How it works.  QEMU runs with TCG, because a distribution's build has no qtest accelerator,
 * and its CPU is halted by firmware of our own; so the machine counts as running, which is what
 * starts vhost devices, and nobody but the test drives it.  Registers go through QEMU's qtest
 * socket; guest memory is a memory file that we map too.  Commands like stop and cont go
 * through QEMU's monitor.
 *
 * Threads: the test's main thread.
 */
#ifndef TESTS_QTEST_QTEST_H
#define TESTS_QTEST_QTEST_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "process.h"

#define QTEST_MEMORY_SIZE (UINT64_C(64) << 20)

typedef struct Qtest Qtest;

/* Whether there is a QEMU to run. */
bool qtest_is_available(void);

/* Starts QEMU with @args (NULL-terminated) besides what every such machine has. */
Qtest *qtest_start(const char *const *args, const char *log);

/* Ends QEMU by its monitor, which must still answer, and frees everything. */
void qtest_end(Qtest *qtest);

Process *qtest_process(Qtest *qtest);

/* Guest-physical memory from address 0 on, QTEST_MEMORY_SIZE bytes. */
uint8_t *qtest_memory(Qtest *qtest);

uint32_t qtest_inl(Qtest *qtest, uint16_t port);
void qtest_outl(Qtest *qtest, uint16_t port, uint32_t value);

/* @size: 1, 2, 4 or 8 bytes. */
uint64_t qtest_read(Qtest *qtest, unsigned int size, uint64_t addr);
void qtest_write(Qtest *qtest, unsigned int size, uint64_t addr, uint64_t value);

/* From now on the interrupt lines into the I/O APIC are seen by the test. */
void qtest_intercept_irqs(Qtest *qtest);

/* Whether line @irq, below 64, is raised after all that QEMU has said so far. */
bool qtest_irq_is_raised(Qtest *qtest, unsigned int irq);

/* Executes a monitor command that takes no arguments; the test fails if QEMU refuses it. */
void qtest_monitor(Qtest *qtest, const char *command);

#endif
