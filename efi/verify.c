/* SPDX-License-Identifier: BSD-2-Clause
 * Decides whether a file is the kernel or system image this loader was built with, and where a
 * kernel's segments go. Pure. What a wrong file is called goes from the general to the particular:
 * truncated, of another kind, of another version, altered. Nothing of a file is used before its
 * digest matched. */
#include "loader.h"
#include "abi/bundle.h"
#include "bearssl_hash.h"

struct elf_header { /* ELF-64 object file format, version 1.5, figure 2 */
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf_segment { /* figure 6 */
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
enum { ELF_CLASS = 4, ELF_DATA = 5, ELF_VERSION = 6 };
enum { ELF_EXEC = 2, ELF_X86_64 = 62, ELF_LOAD = 1, ELF_X = 1, ELF_W = 2, ELF_R = 4 };

_Static_assert(sizeof(struct elf_header) == 64, "ELF header");
_Static_assert(sizeof(struct elf_segment) == 56, "ELF program header");

bool digest_matches(const void *data, uint64_t bytes, const uint8_t sha256[32])
{
    br_sha256_context c;
    uint8_t digest[32], difference = 0;
    br_sha256_init(&c);
    br_sha256_update(&c, data, bytes);
    br_sha256_out(&c, digest);
    for (int i = 0; i < 32; i++) difference |= digest[i] ^ sha256[i];
    return difference == 0;
}

static const struct elf_segment *segment_at(const void *file, uint32_t i)
{
    const struct elf_header *e = file;
    return (const struct elf_segment *)((const uint8_t *)file + e->phoff) + i;
}

/* One loadable segment: inside the file, page-aligned, inside the kernel's 2 MiB, not W and X. */
static bool segment_fits(const struct elf_segment *s, uint64_t bytes)
{
    const uint64_t room = KERNEL_PAGES_MAX * PAGE_SIZE;
    if (s->offset > bytes || s->filesz > bytes - s->offset || s->filesz > s->memsz) return false;
    if (s->vaddr % PAGE_SIZE || s->vaddr < KERNEL_BASE || s->vaddr - KERNEL_BASE >= room) return false;
    if (s->memsz > room - (s->vaddr - KERNEL_BASE)) return false;
    return (s->flags & (ELF_W | ELF_X)) != (ELF_W | ELF_X);
}

static const char *verify_segments(const void *file, uint64_t bytes)
{
    const struct elf_header *e = file;
    if (e->phentsize != sizeof(struct elf_segment) || e->phoff % 8 || e->phoff > bytes ||
        (uint64_t)e->phnum * e->phentsize > bytes - e->phoff)
        return "malformed program headers";
    uint64_t end = 0; /* of the segment before: ascending, so no page has two rights */
    bool entry = false;
    for (uint32_t i = 0; i < e->phnum; i++) {
        const struct elf_segment *s = segment_at(file, i);
        if (s->type != ELF_LOAD || s->memsz == 0) continue;
        if (!segment_fits(s, bytes) || s->vaddr < end) return "a segment that cannot be placed";
        end = s->vaddr + PAGES_FOR(s->memsz) * PAGE_SIZE;
        if ((s->flags & ELF_X) && e->entry >= s->vaddr && e->entry - s->vaddr < s->memsz) entry = true;
    }
    return entry ? NULL : "entry point outside its code";
}

const char *verify_kernel(const void *file, uint64_t bytes, const struct expected_file *expected)
{
    static const uint8_t magic[4] = {0x7f, 'E', 'L', 'F'};
    const struct elf_header *e = file;
    if (bytes < sizeof(*e) || bytes < expected->bytes) return "truncated";
    for (int i = 0; i < 4; i++)
        if (e->ident[i] != magic[i]) return "not an ELF file";
    if (e->ident[ELF_VERSION] != 1 || e->version != 1) return "wrong version of the ELF format";
    if (e->ident[ELF_CLASS] != 2 || e->ident[ELF_DATA] != 1 || e->machine != ELF_X86_64 ||
        e->type != ELF_EXEC)
        return "not an x86_64 kernel";
    if (bytes != expected->bytes || !digest_matches(file, bytes, expected->sha256))
        return "altered: its SHA-256 is not the one this loader was built with";
    return verify_segments(file, bytes);
}

const char *verify_image(const void *file, uint64_t bytes, const struct expected_file *expected)
{
    const struct bundle *b = file;
    if (bytes < sizeof(*b) || bytes < expected->bytes) return "truncated";
    if (b->magic != BUNDLE_MAGIC) return "not a system image";
    if (b->version != BUNDLE_VERSION) return "wrong version of the image format";
    if (bytes != expected->bytes || !digest_matches(file, bytes, expected->sha256))
        return "altered: its SHA-256 is not the one this loader was built with";
    if (b->length != bytes || bytes % PAGE_SIZE || b->count > (bytes - sizeof(*b)) / sizeof(b->entry[0]))
        return "malformed header";
    return NULL;
}

void kernel_layout(const void *file, struct kernel_layout *layout)
{
    const struct elf_header *e = file;
    *layout = (struct kernel_layout){.entry = e->entry};
    for (uint32_t i = 0; i < e->phnum; i++) {
        const struct elf_segment *s = segment_at(file, i);
        if (s->type != ELF_LOAD || s->memsz == 0) continue;
        uint64_t first = (s->vaddr - KERNEL_BASE) >> PAGE_SHIFT;
        uint8_t rights = RIGHT_READ;
        if (s->flags & ELF_W) rights |= RIGHT_WRITE;
        if (s->flags & ELF_X) rights |= RIGHT_EXECUTE;
        layout->pages = first + PAGES_FOR(s->memsz);
        for (uint64_t p = first; p < layout->pages; p++) layout->rights[p] = rights;
    }
}

void kernel_place(const void *file, void *memory)
{
    const struct elf_header *e = file;
    struct kernel_layout layout;
    kernel_layout(file, &layout);
    __builtin_memset(memory, 0, layout.pages * PAGE_SIZE);
    for (uint32_t i = 0; i < e->phnum; i++) {
        const struct elf_segment *s = segment_at(file, i);
        if (s->type == ELF_LOAD && s->memsz != 0)
            __builtin_memcpy((uint8_t *)memory + (s->vaddr - KERNEL_BASE), (const uint8_t *)file + s->offset,
                             s->filesz);
    }
}
