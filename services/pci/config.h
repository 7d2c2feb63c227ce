/* SPDX-License-Identifier: BSD-2-Clause
 * PCI configuration space: offsets and bits (PCI Local Bus 3.0, chapter 6; MSI-X: 6.8.2; PCI-to-PCI Bridge
 * 1.2, chapter 3; PCI Express Base 5.0, 7.5.3 and, for slots, 6.7). */
#ifndef COPPICE_PCI_CONFIG_H
#define COPPICE_PCI_CONFIG_H

#define PCI_VENDOR         0x00 /* 16: 0xffff where no function is */
#define PCI_COMMAND        0x04 /* 16 */
#define PCI_STATUS         0x06 /* 16 */
#define PCI_CLASS_REVISION 0x08 /* 32: class, subclass, interface, revision */
#define PCI_HEADER_TYPE    0x0e /* 8 */
#define PCI_BAR_0          0x10 /* 32 each */
#define PCI_SECONDARY_BUS  0x19 /* 8, bridges */
#define PCI_SUBORDINATE    0x1a /* 8, bridges: the last bus behind it */
#define PCI_MEMORY_WINDOW  0x20 /* 32, bridges: base and limit, 16 bits each, of what is passed on */
#define PCI_PREFETCH       0x24 /* 32, bridges: the same of prefetchable memory */
#define PCI_PREFETCH_BASE  0x28 /* 32: upper half of that base, */
#define PCI_PREFETCH_LIMIT 0x2c /* and limit */
#define PCI_CAPABILITIES   0x34 /* 8, head of the list */

#define PCI_COMMAND_MEMORY       0x0002u
#define PCI_COMMAND_BUS_MASTER   0x0004u
#define PCI_STATUS_CAPABILITIES  0x0010u
#define PCI_HEADER_MULTIFUNCTION 0x80u
#define PCI_HEADER_KIND          0x7fu
#define PCI_HEADER_DEVICE        0u /* six BARs */
#define PCI_HEADER_BRIDGE        1u /* two BARs, PCI_SECONDARY_BUS */

#define PCI_BAR_IO       0x1u
#define PCI_BAR_KIND     0x6u
#define PCI_BAR_KIND_64  0x4u
#define PCI_BAR_PREFETCH 0x8u
#define PCI_BAR_MEM_MASK 0xfffffff0u

#define PCI_WINDOW_MASK 0xfff0u /* of base and limit: bits 31..20 of an address */
#define PCI_WINDOW_64   0x1u    /* of a prefetchable base: there are upper halves */

#define PCI_CAP_FIRST 0x40 /* nothing in a capability list lies below */
#define PCI_CAP_LAST  0xfc
#define PCI_CAP_PCIE  0x10
#define PCI_CAP_MSIX  0x11

#define PCIE_FLAGS        2  /* 16 */
#define PCIE_LINK         12 /* 32: capabilities */
#define PCIE_LINK_STATUS  18 /* 16 */
#define PCIE_SLOT         20 /* 32: capabilities */
#define PCIE_SLOT_CONTROL 24 /* 16 */
#define PCIE_SLOT_STATUS  26 /* 16: events are cleared by writing 1 */
#define PCIE_BYTES        28
#define PCIE_FLAGS_SLOT   0x0100u   /* the port has a slot */
#define LINK_REPORTS      0x100000u /* whether it is up */
#define LINK_UP           0x2000u
#define SLOT_HOT_PLUG     0x40u
#define SLOT_SILENT       0x40000u /* does not say when a command is done */
#define SLOT_INDICATOR    0x0300u  /* of power, in the control register */
#define SLOT_ON           0x0100u
#define SLOT_BLINK        0x0200u
#define SLOT_OFF          0x0300u
#define SLOT_POWER_OFF    0x0400u
#define SLOT_BUTTON       0x0001u /* events: attention button pressed, */
#define SLOT_DONE         0x0010u /* command completed, */
#define SLOT_EVENTS       0x011fu /* any */
#define SLOT_PRESENT      0x0040u

#define MSIX_CONTROL        2 /* 16 */
#define MSIX_TABLE          4 /* 32: offset | BAR number */
#define MSIX_PBA            8 /* 32: the same */
#define MSIX_BYTES          12
#define MSIX_CONTROL_SIZE   0x07ffu /* entries - 1 */
#define MSIX_CONTROL_MASKED 0x4000u
#define MSIX_CONTROL_ENABLE 0x8000u
#define MSIX_BAR_MASK       0x7u
#define MSIX_ENTRY_BYTES    16u
#define MSIX_ENTRY_CONTROL  12u /* 32, in an entry */
#define MSIX_ENTRY_MASKED   1u

#endif
