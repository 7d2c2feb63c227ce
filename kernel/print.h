/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel log (the debug port) and assertions. Assertions stay on in release. */
#ifndef COPPICE_KERNEL_PRINT_H
#define COPPICE_KERNEL_PRINT_H

#include "arch/arch.h"

/* Formats %s %c %d %u %x with l and width (0 pads with zeros). Writes one whole text. */
void kernel_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define assert(condition)                                                                \
    do {                                                                                 \
        if (__builtin_expect(!(condition), 0))                                           \
            kernel_panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* Symbols of the running kernel, from the ELF file the loader handed over. */
void symbols_init(const uint8_t *elf, uint64_t length);
const char *symbol_find(uint64_t address, uint64_t *offset); /* NULL: unknown */

#endif
