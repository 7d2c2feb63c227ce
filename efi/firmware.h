/* SPDX-License-Identifier: BSD-2-Clause
 * The loader's parts that talk to the firmware (UEFI 2.10). */
#ifndef COPPICE_EFI_FIRMWARE_H
#define COPPICE_EFI_FIRMWARE_H

#include <efi.h>
#include <efilib.h>
#include "loader.h"

/* Prints one line, "Coppice loader: SUBJECT: PROBLEM", and waits for a key so that it stays; then
 * gives the firmware its turn: the loader has changed nothing that the firmware relies on. */
void stop(const CHAR16 *subject, const char *problem) __attribute__((noreturn));

/* --- memory.c
 * ---------------------------------------------------------------------------------------- */
/* Zeroed pages that are the kernel's after the hand-over, with this kind; stops if there are none.
 * align: a power of two, in pages. */
uint64_t memory_take(uint64_t pages, uint64_t align, enum range_kind kind);
/* The same at an address, as it is there: not zeroed. False: the firmware uses it, or it is no RAM. */
bool memory_take_at(uint64_t paddr, uint64_t pages, enum range_kind kind);
/* One page that the firmware, too, lets us execute. */
uint64_t memory_take_code(void);
/* Reads the firmware's map, with what was taken painted over it, into r; returns the map's key. */
UINTN memory_read(struct ranges *r);
/* Ends boot services. On return nothing of the firmware may be called, and r is the final map. */
void memory_leave_firmware(EFI_HANDLE image, struct ranges *r);

/* --- files.c
 * ----------------------------------------------------------------------------------------- */
struct file {
    const CHAR16 *path;
    uint64_t paddr, bytes;
};
/* Reads a file of the volume that this loader came from into RANGE_BOOT pages; stops if it cannot.
 */
void file_read(EFI_HANDLE image, struct file *file);
EFI_FILE_HANDLE volume_open(EFI_HANDLE image, const CHAR16 *path); /* path: what for */

/* --- epitaph.c
 * ----------------------------------------------------------------------------------------- */
#define EPITAPH_FILE L"\\coppice\\epitaph.log"
/* Stores what the last kernel left; its place, for the next one (0: none). */
uint64_t epitaph_take(EFI_HANDLE image);

#endif
