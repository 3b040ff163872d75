/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI configuration space by its two I/O ports, base addresses, capabilities. */
#include "pci.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000u

#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO_MEMORY_MASTER 7
#define PCI_BAR(n) (0x10 + 4 * (n))
#define PCI_BAR_IS_IO 1
#define PCI_BAR_TYPE_MASK 6
#define PCI_BAR_TYPE_64 4
#define PCI_CAPABILITIES 0x34
#define MAX_CAPABILITIES 48     /* that fit 192 bytes */

/* The PIIX3: a byte for each of four interrupt pins. */
#define ISA_BRIDGE PCI_SLOT_FN(1, 0)
#define BRIDGE_PIRQ_ROUTES 0x60

uint32_t pci_read32(const PciDevice *dev, unsigned int offset)
{
    qtest_outl(dev->qtest, CONFIG_ADDRESS, CONFIG_ENABLE | dev->devfn << 8 | (offset & 0xfc));
    return qtest_inl(dev->qtest, CONFIG_DATA);
}

uint8_t pci_read8(const PciDevice *dev, unsigned int offset)
{
    return (uint8_t)(pci_read32(dev, offset) >> 8 * (offset & 3));
}

void pci_write32(const PciDevice *dev, unsigned int offset, uint32_t value)
{
    qtest_outl(dev->qtest, CONFIG_ADDRESS, CONFIG_ENABLE | dev->devfn << 8 | offset);
    qtest_outl(dev->qtest, CONFIG_DATA, value);
}

uint64_t pci_assign_bar(const PciDevice *dev, unsigned int bar, uint64_t addr)
{
    uint32_t low = pci_read32(dev, PCI_BAR(bar));
    bool is_64 = (low & PCI_BAR_TYPE_MASK) == PCI_BAR_TYPE_64;
    uint64_t mask = UINT64_MAX << 32;

    g_assert_cmphex(low & PCI_BAR_IS_IO, ==, 0);
    pci_write32(dev, PCI_BAR(bar), UINT32_MAX);
    mask |= pci_read32(dev, PCI_BAR(bar)) & ~0xfu;
    pci_write32(dev, PCI_BAR(bar), (uint32_t)addr);
    if (is_64) {
        pci_write32(dev, PCI_BAR(bar + 1), (uint32_t)(addr >> 32));
    }
    g_assert_cmphex(addr & ~mask, ==, 0);
    return ~mask + 1;
}

void pci_enable(const PciDevice *dev)
{
    pci_write32(dev, PCI_COMMAND, PCI_COMMAND_IO_MEMORY_MASTER);
}

void pci_route_interrupts(Qtest *qtest, uint8_t irq)
{
    const PciDevice bridge = { qtest, ISA_BRIDGE };

    pci_write32(&bridge, BRIDGE_PIRQ_ROUTES, irq * 0x01010101u);
}

unsigned int pci_find_capability(const PciDevice *dev, uint8_t id, unsigned int after)
{
    unsigned int at = after ? pci_read8(dev, after + 1) : pci_read8(dev, PCI_CAPABILITIES);
    unsigned int i;

    for (i = 0; at && i < MAX_CAPABILITIES; i++) {
        if (pci_read8(dev, at) == id) {
            return at;
        }
        at = pci_read8(dev, at + 1);
    }
    return 0;
}
