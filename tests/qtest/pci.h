/* SPDX-License-Identifier: BSD-3-Clause */
/* A PCI device on bus 0 of QEMU's PC, where no firmware has run. */
#ifndef TESTS_QTEST_PCI_H
#define TESTS_QTEST_PCI_H

#include "qtest.h"

#define PCI_SLOT_FN(slot, function) ((unsigned int)((slot) << 3 | (function)))

typedef struct PciDevice {
    Qtest *qtest;
    unsigned int devfn;
} PciDevice;

/* The configuration space; @offset is aligned to the access. */
uint8_t pci_read8(const PciDevice *dev, unsigned int offset);
uint32_t pci_read32(const PciDevice *dev, unsigned int offset);
void pci_write32(const PciDevice *dev, unsigned int offset, uint32_t value);

/* Puts the memory that BAR @bar decodes at @addr, and has it decoded; its size in bytes. */
uint64_t pci_assign_bar(const PciDevice *dev, unsigned int bar, uint64_t addr);

/* Answers memory accesses and is allowed to access memory itself. */
void pci_enable(const PciDevice *dev);

/* Routes the interrupt pins of all devices to line @irq, 3 to 15. */
void pci_route_interrupts(Qtest *qtest, uint8_t irq);

/* The next capability @id after offset @after (0: the first); 0 if there is none. */
unsigned int pci_find_capability(const PciDevice *dev, uint8_t id, unsigned int after);

#endif
