/* SPDX-License-Identifier: BSD-2-Clause
 * PCI configuration space: offsets and bits (PCI Local Bus 3.0, chapter 6; MSI-X: 6.8.2). */
#ifndef COPPICE_PCI_CONFIG_H
#define COPPICE_PCI_CONFIG_H

#define PCI_VENDOR         0x00 /* 16: 0xffff where no function is */
#define PCI_COMMAND        0x04 /* 16 */
#define PCI_STATUS         0x06 /* 16 */
#define PCI_CLASS_REVISION 0x08 /* 32: class, subclass, interface, revision */
#define PCI_HEADER_TYPE    0x0e /* 8 */
#define PCI_BAR_0          0x10 /* 32 each */
#define PCI_SECONDARY_BUS  0x19 /* 8, bridges */
#define PCI_CAPABILITIES   0x34 /* 8, head of the list */

#define PCI_COMMAND_BUS_MASTER   0x0004u
#define PCI_STATUS_CAPABILITIES  0x0010u
#define PCI_HEADER_MULTIFUNCTION 0x80u
#define PCI_HEADER_KIND          0x7fu
#define PCI_HEADER_DEVICE        0u /* six BARs */
#define PCI_HEADER_BRIDGE        1u /* two BARs, PCI_SECONDARY_BUS */

#define PCI_BAR_IO       0x1u
#define PCI_BAR_KIND     0x6u
#define PCI_BAR_KIND_64  0x4u
#define PCI_BAR_MEM_MASK 0xfffffff0u

#define PCI_CAP_FIRST 0x40 /* nothing in a capability list lies below */
#define PCI_CAP_LAST  0xfc
#define PCI_CAP_MSIX  0x11

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
