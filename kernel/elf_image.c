/* SPDX-License-Identifier: BSD-2-Clause
 * Checks and reads an ELF64 executable. */
#include <elf.h>
#include "elf_image.h"

static bool header_good(const Elf64_Ehdr *h, uint64_t length)
{
    static const uint8_t ident[7] = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT};
    return !__builtin_memcmp(h->e_ident, ident, sizeof ident) && h->e_type == ET_EXEC &&
           h->e_machine == EM_X86_64 && h->e_version == EV_CURRENT && h->e_ehsize == sizeof *h &&
           h->e_phentsize == sizeof(Elf64_Phdr) && h->e_phnum > 0 && h->e_phnum <= 64 &&
           h->e_phoff % 8 == 0 && h->e_phoff <= length &&
           (length - h->e_phoff) / sizeof(Elf64_Phdr) >= h->e_phnum;
}

/* A copy that stays as it was checked: the file may lie in memory that another CPU writes at this moment. */
static void fetch(void *to, const uint8_t *from, size_t bytes)
{
    __builtin_memcpy(to, from, bytes);
    __asm__ volatile("" : : "r"(to) : "memory"); /* no field is read from the file a second time */
}

static uint32_t segment_prot(uint32_t flags)
{
    return RIGHT_READ | (flags & PF_W ? RIGHT_WRITE : 0) | (flags & PF_X ? RIGHT_EXECUTE : 0);
}

static uint64_t page_up(uint64_t v) { return (v + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1); }
static uint64_t page_down(uint64_t v) { return v & ~(PAGE_SIZE - 1); }

static bool segment_good(const Elf64_Phdr *p, uint64_t length, const struct elf_segment *before)
{
    if (p->p_memsz == 0 || p->p_filesz > p->p_memsz || !(p->p_flags & PF_R)) return false;
    if ((p->p_flags & PF_W) && (p->p_flags & PF_X)) return false;
    if (p->p_vaddr < USER_IMAGE_BASE || p->p_vaddr >= USER_DYNAMIC || p->p_memsz > USER_DYNAMIC - p->p_vaddr)
        return false;
    if (p->p_offset > length || p->p_filesz > length - p->p_offset) return false;
    if ((p->p_offset - p->p_vaddr) % PAGE_SIZE) return false;
    return !before || page_down(p->p_vaddr) >= page_up(before->vaddr + before->memory_bytes);
}

status_t elf_parse(const uint8_t *file, uint64_t length, struct elf_image *out)
{
    Elf64_Ehdr h;
    Elf64_Phdr p;
    if ((uintptr_t)file % 8 || length < sizeof h) return E_IMAGE;
    fetch(&h, file, sizeof h);
    if (!header_good(&h, length)) return E_IMAGE;
    bool entry_found = false;
    *out = (struct elf_image){.entry = h.e_entry};
    for (unsigned i = 0; i < h.e_phnum; i++) {
        fetch(&p, file + h.e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_INTERP || p.p_type == PT_DYNAMIC || p.p_type == PT_TLS) return E_IMAGE;
        if (p.p_type != PT_LOAD) continue;
        const struct elf_segment *before = out->segments ? &out->segment[out->segments - 1] : NULL;
        if (out->segments == ELF_SEGMENTS_MAX || !segment_good(&p, length, before)) return E_IMAGE;
        out->segment[out->segments++] = (struct elf_segment){.vaddr = p.p_vaddr,
                                                             .memory_bytes = p.p_memsz,
                                                             .offset = p.p_offset,
                                                             .file_bytes = p.p_filesz,
                                                             .prot = segment_prot(p.p_flags)};
        if ((p.p_flags & PF_X) && h.e_entry >= p.p_vaddr && h.e_entry - p.p_vaddr < p.p_filesz)
            entry_found = true;
    }
    return entry_found ? OK : E_IMAGE;
}
