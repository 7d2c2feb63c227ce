/* SPDX-License-Identifier: BSD-2-Clause
 * ELF files: one good one, and every field of it made wrong in turn. */
#include <criterion/criterion.h>
#include "host_kernel.h"
#include "kernel/elf_image.h"
#include "kernel/hide.h"

static _Alignas(16) uint8_t file[ELF_FILE_BYTES];
static struct test_elf *const elf = (void *)file;
static struct elf_image image;

static status_t parse(void) { return elf_parse(file, sizeof file, &image); }

TestSuite(elf);

Test(elf, good_file_is_read)
{
    elf_make(file);
    cr_assert_eq(parse(), OK);
    cr_assert_eq(image.segments, 2);
    cr_assert_eq(image.entry, ELF_TEXT + 0x10);
    cr_assert_eq(image.segment[0].prot, RIGHT_READ | RIGHT_EXECUTE);
    cr_assert_eq(image.segment[0].vaddr, ELF_TEXT);
    cr_assert_eq(image.segment[0].offset, PAGE_SIZE);
    cr_assert_eq(image.segment[1].prot, RIGHT_READ | RIGHT_WRITE);
    cr_assert_eq(image.segment[1].file_bytes, 64);
    cr_assert_eq(image.segment[1].memory_bytes, ELF_DATA_BYTES);
}

#define REFUSED(name, change)                          \
    Test(elf, name)                                    \
    {                                                  \
        elf_make(file);                                \
        cr_assert_eq(parse(), OK);                     \
        change;                                        \
        cr_assert_eq(parse(), E_IMAGE, "%s", #change); \
    }

REFUSED(magic, elf->header.e_ident[0] = 0)
REFUSED(magic_last_byte, elf->header.e_ident[3] = 'G')
REFUSED(class_32_bit, elf->header.e_ident[EI_CLASS] = ELFCLASS32)
REFUSED(big_endian, elf->header.e_ident[EI_DATA] = ELFDATA2MSB)
REFUSED(ident_version, elf->header.e_ident[EI_VERSION] = 2)
REFUSED(shared_object, elf->header.e_type = ET_DYN)
REFUSED(relocatable, elf->header.e_type = ET_REL)
REFUSED(other_machine, elf->header.e_machine = EM_AARCH64)
REFUSED(version, elf->header.e_version = 0)
REFUSED(header_size, elf->header.e_ehsize = 63)
REFUSED(program_header_size, elf->header.e_phentsize = 32)
REFUSED(no_program_headers, elf->header.e_phnum = 0)
REFUSED(too_many_program_headers, elf->header.e_phnum = 65)
REFUSED(program_headers_unaligned, elf->header.e_phoff += 4)
REFUSED(program_headers_past_the_end, elf->header.e_phoff = sizeof file)
REFUSED(program_headers_far_past_the_end, elf->header.e_phoff = ~7ul)
REFUSED(program_headers_cut_off, elf->header.e_phoff = sizeof file - sizeof(Elf64_Phdr))
REFUSED(entry_below_text, elf->header.e_entry = ELF_TEXT - 1)
REFUSED(entry_past_text, elf->header.e_entry = ELF_TEXT + PAGE_SIZE)
REFUSED(entry_in_data, elf->header.e_entry = ELF_DATA)
REFUSED(entry_in_no_segment, elf->header.e_entry = 0)
REFUSED(interpreter, elf->segment[1].p_type = PT_INTERP)
REFUSED(dynamic, elf->segment[1].p_type = PT_DYNAMIC)
REFUSED(thread_local, elf->segment[1].p_type = PT_TLS)
REFUSED(no_load_segment, elf->segment[0].p_type = elf->segment[1].p_type = PT_NOTE)
REFUSED(empty_segment, elf->segment[1].p_memsz = elf->segment[1].p_filesz = 0)
REFUSED(file_larger_than_memory, elf->segment[1].p_filesz = ELF_DATA_BYTES + 1)
REFUSED(unreadable, elf->segment[0].p_flags = PF_X)
REFUSED(writable_and_executable, elf->segment[0].p_flags = PF_R | PF_W | PF_X)
REFUSED(vaddr_below_user_image, elf->segment[0].p_vaddr = USER_IMAGE_BASE - PAGE_SIZE)
REFUSED(vaddr_null, elf->segment[0].p_vaddr = 0)
REFUSED(vaddr_in_dynamic, elf->segment[1].p_vaddr = USER_DYNAMIC)
REFUSED(vaddr_in_kernel, elf->segment[1].p_vaddr = KERNEL_BASE)
REFUSED(memory_reaches_dynamic, elf->segment[1].p_memsz = USER_DYNAMIC - ELF_DATA + 1)
REFUSED(memory_wraps, elf->segment[1].p_memsz = ~0ul)
REFUSED(offset_past_the_end, elf->segment[1].p_offset += PAGE_SIZE)
REFUSED(offset_wraps, elf->segment[1].p_offset = ~0ul & ~(PAGE_SIZE - 1))
REFUSED(file_part_past_the_end, elf->segment[1].p_filesz = 65)
REFUSED(offset_incongruent, elf->segment[1].p_vaddr += 8)
REFUSED(segments_descend, (elf->segment[0].p_vaddr += 4 * PAGE_SIZE, elf->header.e_entry += 4 * PAGE_SIZE))
REFUSED(segments_share_a_page, (elf->segment[0].p_memsz += 1, elf->segment[1].p_vaddr = ELF_TEXT + PAGE_SIZE))
REFUSED(segments_overlap, elf->segment[1].p_vaddr = ELF_TEXT)

Test(elf, every_shorter_file_is_refused)
{
    elf_make(file);
    for (uint64_t n = 0; n < sizeof file; n++) {
        uint8_t *cut = aligned_alloc(16, (n + 15) & ~15ul); /* a read past it is seen by the sanitizer */
        memcpy(cut, file, n);
        memory_hide(cut + n, ((n + 15) & ~15ul) - n);
        cr_assert_eq(elf_parse(cut, n, &image), E_IMAGE, "%lu bytes", n);
        memory_show(cut, (n + 15) & ~15ul);
        free(cut);
        if (n > 256 && n < 2 * PAGE_SIZE - 8) n += 61;
    }
}

Test(elf, too_many_segments_are_refused)
{
    elf_make(file);
    Elf64_Phdr *p = (void *)(file + sizeof elf->header);
    for (unsigned i = 2; i < ELF_SEGMENTS_MAX + 1; i++) {
        p[i] = p[1];
        p[i].p_vaddr = ELF_DATA + i * 4 * PAGE_SIZE;
    }
    elf->header.e_phnum = ELF_SEGMENTS_MAX;
    cr_assert_eq(parse(), OK);
    elf->header.e_phnum = ELF_SEGMENTS_MAX + 1;
    cr_assert_eq(parse(), E_IMAGE);
}

Test(elf, unaligned_file_is_refused)
{
    static _Alignas(16) uint8_t shifted[ELF_FILE_BYTES + 8];
    elf_make(file);
    memcpy(shifted + 4, file, sizeof file);
    cr_assert_eq(elf_parse(shifted + 4, sizeof file, &image), E_IMAGE);
}

/* Whatever the bytes are: no read outside the file, and what is accepted keeps the promises of the header. */
Test(elf, random_damage)
{
    uint64_t seed = 88172645463325252ul, accepted = 0;
    for (unsigned round = 0; round < 200000; round++) {
        if (round % 8 == 0) elf_make(file);
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        file[seed % sizeof(struct test_elf)] ^= (uint8_t)(seed >> 32);
        if (parse() != OK) continue;
        accepted++;
        uint64_t end = USER_IMAGE_BASE;
        for (uint32_t i = 0; i < image.segments; i++) {
            const struct elf_segment *s = &image.segment[i];
            cr_assert((s->vaddr & ~(PAGE_SIZE - 1)) >= end && s->vaddr + s->memory_bytes <= USER_DYNAMIC);
            cr_assert(s->file_bytes <= s->memory_bytes && s->offset + s->file_bytes <= sizeof file);
            cr_assert((s->prot & (RIGHT_WRITE | RIGHT_EXECUTE)) != (RIGHT_WRITE | RIGHT_EXECUTE));
            end = (s->vaddr + s->memory_bytes + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
        }
    }
    cr_assert_gt(accepted, 1000, "the damage is too crude: %lu accepted", accepted);
}
