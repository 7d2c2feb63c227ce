/* SPDX-License-Identifier: BSD-2-Clause
 * The smallest acceptable ELF file, to make processes from or to spoil. */
#ifndef COPPICE_TESTS_ELF_FILE_H
#define COPPICE_TESTS_ELF_FILE_H

#include <elf.h>
#include <string.h>
#include "abi/types.h"

#define ELF_FILE_BYTES (2 * PAGE_SIZE + 64)
#define ELF_TEXT       USER_IMAGE_BASE
#define ELF_DATA       (USER_IMAGE_BASE + 2 * PAGE_SIZE)
#define ELF_DATA_BYTES 0x1800ul /* two pages, 64 bytes of them from the file */

struct test_elf {
    Elf64_Ehdr header;
    Elf64_Phdr segment[2]; /* text: one whole page; data: 64 bytes and bss */
};

static inline void elf_make(uint8_t *file)
{
    memset(file, 0, ELF_FILE_BYTES);
    struct test_elf *e = (void *)file;
    memcpy(e->header.e_ident, ELFMAG, SELFMAG);
    e->header.e_ident[EI_CLASS] = ELFCLASS64;
    e->header.e_ident[EI_DATA] = ELFDATA2LSB;
    e->header.e_ident[EI_VERSION] = EV_CURRENT;
    e->header.e_type = ET_EXEC;
    e->header.e_machine = EM_X86_64;
    e->header.e_version = EV_CURRENT;
    e->header.e_entry = ELF_TEXT + 0x10;
    e->header.e_phoff = offsetof(struct test_elf, segment);
    e->header.e_ehsize = sizeof e->header;
    e->header.e_phentsize = sizeof(Elf64_Phdr);
    e->header.e_phnum = 2;
    e->segment[0] = (Elf64_Phdr){.p_type = PT_LOAD,
                                 .p_flags = PF_R | PF_X,
                                 .p_offset = PAGE_SIZE,
                                 .p_vaddr = ELF_TEXT,
                                 .p_filesz = PAGE_SIZE,
                                 .p_memsz = PAGE_SIZE};
    e->segment[1] = (Elf64_Phdr){.p_type = PT_LOAD,
                                 .p_flags = PF_R | PF_W,
                                 .p_offset = 2 * PAGE_SIZE,
                                 .p_vaddr = ELF_DATA,
                                 .p_filesz = 64,
                                 .p_memsz = ELF_DATA_BYTES};
    memset(file + PAGE_SIZE, 0x90, PAGE_SIZE);
    for (unsigned i = 0; i < 64; i++) file[2 * PAGE_SIZE + i] = (uint8_t)(i + 1);
}

#endif
