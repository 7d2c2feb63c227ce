/* SPDX-License-Identifier: BSD-2-Clause
 * Registers of QEMU's teaching device `edu` (QEMU, docs/specs/edu.txt), in BAR 0. Those from 0x80 on take
 * accesses of 4 or 8 bytes, the others of 4. */
#ifndef COPPICE_EDU_H
#define COPPICE_EDU_H

#define EDU_IDENTITY 0x00 /* reads as 0xrr0000ed, rr: version */
#define EDU_SOURCE   0x80 /* of a transfer */
#define EDU_TARGET   0x88
#define EDU_COUNT    0x90 /* bytes */
#define EDU_COMMAND  0x98

#define EDU_IDENTITY_MASK 0x00ffffffu
#define EDU_IDENTITY_ED   0x000000edu

#define EDU_RUN       1u /* starts a transfer; reads as 1 until it is done, 100 ms later */
#define EDU_TO_MEMORY 2u /* else from memory to the device */

#define EDU_BUFFER 0x40000u /* the device's own memory, as source or target */
#define EDU_BYTES  2048u    /* of it: QEMU 7.2 ends itself at a transfer of all 4096 */

#endif
