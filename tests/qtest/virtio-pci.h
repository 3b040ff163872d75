/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's end of virtio over PCI, without legacy (virtio 1.3, section 4.1).
 *
 * MSI-X stays off, for QEMU 7.2 with TCG crashes when a vhost device is started with it: a used
 * buffer shows in the ISR status and on the interrupt line.
 */
#ifndef TESTS_QTEST_VIRTIO_PCI_H
#define TESTS_QTEST_VIRTIO_PCI_H

#include "pci.h"

typedef struct VirtioPci {
    PciDevice pci;
    Qtest *qtest;
    uint64_t common, notify, isr, config;   /* guest-physical addresses */
    uint32_t notify_multiplier;
} VirtioPci;

/* Where the areas of a virtqueue are, guest-physical, and its size. */
typedef struct VirtioPciQueue {
    uint16_t num;
    uint64_t desc, driver, device;
} VirtioPciQueue;

/* Finds the device's registers; it must have the PCI device id @id. */
void virtio_pci_init(VirtioPci *dev, Qtest *qtest, unsigned int devfn, uint16_t id);

/* Resets the device and waits until it is. */
void virtio_pci_reset(VirtioPci *dev);

/* Adds to the status. */
void virtio_pci_add_status(VirtioPci *dev, uint8_t status);
uint8_t virtio_pci_get_status(VirtioPci *dev);

uint64_t virtio_pci_get_features(VirtioPci *dev);

/* From reset to FEATURES_OK, which the device must accept. */
void virtio_pci_set_features(VirtioPci *dev, uint64_t features);

uint16_t virtio_pci_queue_size(VirtioPci *dev, unsigned int index);
void virtio_pci_queue_enable(VirtioPci *dev, unsigned int index, const VirtioPciQueue *queue);

/* Where writing the queue's index notifies the device. */
uint64_t virtio_pci_queue_notify_addr(VirtioPci *dev, unsigned int index);

/* The ISR status (4.1.4.5).  Reading clears it. */
#define VIRTIO_ISR_QUEUE 1
uint8_t virtio_pci_read_isr(VirtioPci *dev);

uint64_t virtio_pci_read_config(VirtioPci *dev, unsigned int offset, unsigned int size);

#endif
