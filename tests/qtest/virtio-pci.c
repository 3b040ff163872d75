/* SPDX-License-Identifier: BSD-3-Clause */
/* Virtio over PCI: finding the registers, and what is done with them. */
#include "virtio-pci.h"

#include "hw/virtio/features.h"
#include "wait.h"

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_CAP_VENDOR 9
#define BAR_ADDR 0xe0000000u    /* any place above the memory */

/* struct virtio_pci_cap (4.1.4). */
enum { CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_NOTIFY_MULTIPLIER = 16 };
enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_ISR = 3, CFG_DEVICE = 4 };

/* struct virtio_pci_common_cfg (4.1.4.3). */
enum {
    DEVICE_FEATURE_SELECT = 0,
    DEVICE_FEATURE = 4,
    DRIVER_FEATURE_SELECT = 8,
    DRIVER_FEATURE = 12,
    DEVICE_STATUS = 20,
    QUEUE_SELECT = 22,
    QUEUE_SIZE = 24,
    QUEUE_ENABLE = 28,
    QUEUE_NOTIFY_OFF = 30,
    QUEUE_DESC = 32,
    QUEUE_DRIVER = 40,
    QUEUE_DEVICE = 48,
};

static void take_capability(VirtioPci *dev, unsigned int cap, int *bar)
{
    const PciDevice *pci = &dev->pci;
    const uint64_t addr = BAR_ADDR + pci_read32(pci, cap + CAP_OFFSET);

    switch (pci_read8(pci, cap + CAP_TYPE)) {
    case CFG_COMMON:
        dev->common = addr;
        *bar = pci_read8(pci, cap + CAP_BAR);
        break;
    case CFG_NOTIFY:
        dev->notify = addr;
        dev->notify_multiplier = pci_read32(pci, cap + CAP_NOTIFY_MULTIPLIER);
        break;
    case CFG_ISR:
        dev->isr = addr;
        break;
    case CFG_DEVICE:
        dev->config = addr;
        break;
    }
}

void virtio_pci_init(VirtioPci *dev, Qtest *qtest, unsigned int devfn, uint16_t id)
{
    unsigned int cap = 0;
    int bar = -1;

    *dev = (VirtioPci){ .qtest = qtest, .pci = { qtest, devfn } };
    g_assert_cmphex(pci_read32(&dev->pci, 0), ==, (uint32_t)id << 16 | PCI_VENDOR_VIRTIO);
    while ((cap = pci_find_capability(&dev->pci, PCI_CAP_VENDOR, cap))) {
        take_capability(dev, cap, &bar);
    }
    g_assert_true(dev->common && dev->notify && dev->isr && dev->config);
    /* QEMU has all four in one BAR. */
    pci_assign_bar(&dev->pci, (unsigned int)bar, BAR_ADDR);
    pci_enable(&dev->pci);
}

static uint64_t common_read(VirtioPci *dev, unsigned int size, unsigned int offset)
{
    return qtest_read(dev->qtest, size, dev->common + offset);
}

static void common_write(VirtioPci *dev, unsigned int size, unsigned int offset, uint64_t value)
{
    qtest_write(dev->qtest, size, dev->common + offset, value);
}

uint8_t virtio_pci_get_status(VirtioPci *dev)
{
    return (uint8_t)common_read(dev, 1, DEVICE_STATUS);
}

void virtio_pci_add_status(VirtioPci *dev, uint8_t status)
{
    common_write(dev, 1, DEVICE_STATUS, virtio_pci_get_status(dev) | status);
}

void virtio_pci_reset(VirtioPci *dev)
{
    common_write(dev, 1, DEVICE_STATUS, 0);
    WAIT_FOR(virtio_pci_get_status(dev) == 0);
}

uint64_t virtio_pci_get_features(VirtioPci *dev)
{
    uint64_t features = 0;
    unsigned int i;

    for (i = 0; i < 2; i++) {
        common_write(dev, 4, DEVICE_FEATURE_SELECT, i);
        features |= common_read(dev, 4, DEVICE_FEATURE) << 32 * i;
    }
    return features;
}

void virtio_pci_set_features(VirtioPci *dev, uint64_t features)
{
    unsigned int i;

    virtio_pci_add_status(dev, VIRTIO_STATUS_ACKNOWLEDGE);
    virtio_pci_add_status(dev, VIRTIO_STATUS_DRIVER);
    for (i = 0; i < 2; i++) {
        common_write(dev, 4, DRIVER_FEATURE_SELECT, i);
        common_write(dev, 4, DRIVER_FEATURE, (uint32_t)(features >> 32 * i));
    }
    virtio_pci_add_status(dev, VIRTIO_STATUS_FEATURES_OK);
    g_assert_cmphex(virtio_pci_get_status(dev) & VIRTIO_STATUS_FEATURES_OK, !=, 0);
}

uint16_t virtio_pci_queue_size(VirtioPci *dev, unsigned int index)
{
    common_write(dev, 2, QUEUE_SELECT, index);
    return (uint16_t)common_read(dev, 2, QUEUE_SIZE);
}

void virtio_pci_queue_enable(VirtioPci *dev, unsigned int index, const VirtioPciQueue *queue)
{
    common_write(dev, 2, QUEUE_SELECT, index);
    common_write(dev, 2, QUEUE_SIZE, queue->num);
    common_write(dev, 8, QUEUE_DESC, queue->desc);
    common_write(dev, 8, QUEUE_DRIVER, queue->driver);
    common_write(dev, 8, QUEUE_DEVICE, queue->device);
    common_write(dev, 2, QUEUE_ENABLE, 1);
}

uint64_t virtio_pci_queue_notify_addr(VirtioPci *dev, unsigned int index)
{
    common_write(dev, 2, QUEUE_SELECT, index);
    return dev->notify + common_read(dev, 2, QUEUE_NOTIFY_OFF) * dev->notify_multiplier;
}

uint8_t virtio_pci_read_isr(VirtioPci *dev)
{
    return (uint8_t)qtest_read(dev->qtest, 1, dev->isr);
}

uint64_t virtio_pci_read_config(VirtioPci *dev, unsigned int offset, unsigned int size)
{
    return qtest_read(dev->qtest, size, dev->config + offset);
}
