/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel's ELF reader (kernel/elf_image.c). Input: how much of a good file is there (2 bytes), then
 * changes to its headers. The answer must be that of a second reading of the rules, in wide arithmetic, and
 * what is accepted must be safe to map. */
#include <criterion/criterion.h>
#include "tests/unit/host_kernel.h"
#include "kernel/elf_image.c"

typedef unsigned __int128 wide;

static bool inside(wide at, wide bytes, wide low, wide high) { return at >= low && at + bytes <= high; }

/* The rules of elf_image.h and of abi/types.h, one by one. */
static bool loadable(const Elf64_Phdr *p, uint64_t length)
{
    bool w = p->p_flags & PF_W, x = p->p_flags & PF_X;
    return p->p_memsz > 0 && p->p_filesz <= p->p_memsz && (p->p_flags & PF_R) && !(w && x) &&
           inside(p->p_vaddr, p->p_memsz, USER_IMAGE_BASE, USER_DYNAMIC) &&
           inside(p->p_offset, p->p_filesz, 0, length) && p->p_offset % PAGE_SIZE == p->p_vaddr % PAGE_SIZE;
}

static bool head_good(const Elf64_Ehdr *h, uint64_t length)
{
    return length >= sizeof *h &&
           !memcmp(h->e_ident,
                   "\x7f"
                   "ELF\2\1\1",
                   7) &&
           h->e_type == ET_EXEC && h->e_machine == EM_X86_64 && h->e_version == 1 && h->e_ehsize == 64 &&
           h->e_phentsize == 56 && h->e_phnum >= 1 && h->e_phnum <= 64 && h->e_phoff % 8 == 0 &&
           inside(h->e_phoff, (wide)h->e_phnum * 56, 0, length);
}

static bool acceptable(const uint8_t *file, uint64_t length)
{
    Elf64_Ehdr h;
    Elf64_Phdr p;
    uint64_t end = 0;
    unsigned segments = 0;
    bool entry = false;
    memset(&h, 0, sizeof h);
    memcpy(&h, file, length < sizeof h ? length : sizeof h);
    if (!head_good(&h, length)) return false;
    for (unsigned i = 0; i < h.e_phnum; i++) {
        memcpy(&p, file + h.e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_INTERP || p.p_type == PT_DYNAMIC || p.p_type == PT_TLS) return false;
        if (p.p_type != PT_LOAD) continue;
        if (!loadable(&p, length) || ++segments > ELF_SEGMENTS_MAX) return false;
        if (p.p_vaddr / PAGE_SIZE < end) return false; /* a page of the segment before, or before it */
        end = (p.p_vaddr + p.p_memsz + PAGE_SIZE - 1) / PAGE_SIZE;
        entry |= (p.p_flags & PF_X) && inside(h.e_entry, 1, p.p_vaddr, (wide)p.p_vaddr + p.p_filesz);
    }
    return entry;
}

/* What process_create does with an accepted segment stays inside file and address space, W^X. */
static void segment_check(const struct elf_segment *s, const struct elf_segment *before, uint64_t length)
{
    check(s->memory_bytes && s->file_bytes <= s->memory_bytes);
    check(inside(s->offset, s->file_bytes, 0, length));
    check(inside(s->vaddr, s->memory_bytes, USER_IMAGE_BASE, USER_DYNAMIC));
    check((s->prot & RIGHT_READ) && !(s->prot & ~(uint32_t)(RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)));
    check(!(s->prot & RIGHT_WRITE) || !(s->prot & RIGHT_EXECUTE));
    check(!before || s->vaddr / PAGE_SIZE > (before->vaddr + before->memory_bytes - 1) / PAGE_SIZE);
    uint64_t pages = PAGES_FOR(s->vaddr % PAGE_SIZE + s->memory_bytes);
    if (s->file_bytes == s->memory_bytes) check(s->offset / PAGE_SIZE + pages <= PAGES_FOR(length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t whole[ELF_FILE_BYTES], good[ELF_FILE_BYTES];
    static bool made;
    struct input in = {data, size};
    struct elf_image image;
    if (!made) elf_make(good);
    made = true;
    memcpy(whole, good, sizeof whole);
    uint64_t cut = take(&in, 2), length = cut ? cut % (sizeof whole + 1) : sizeof whole;
    while (in.left) patch(&in, whole, sizeof(Elf64_Ehdr) + 12 * sizeof(Elf64_Phdr));
    uint8_t *file = exact_copy(whole, length);
    status_t s = elf_parse(file, length, &image);
    check(s == OK || s == E_IMAGE);
    check((s == OK) == acceptable(file, length));
    check(memcmp(file, whole, length) == 0);
    if (s == OK) {
        check(image.segments >= 1 && image.segments <= ELF_SEGMENTS_MAX);
        for (unsigned i = 0; i < image.segments; i++)
            segment_check(&image.segment[i], i ? &image.segment[i - 1] : NULL, length);
    }
    free(file);
    return 0;
}
