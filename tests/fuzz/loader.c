/* SPDX-License-Identifier: BSD-2-Clause
 * The loader's pure parts (efi/verify.c, efi/ranges.c) with a digest that always matches: defence in depth
 * behind it. Input: a kernel file as changes to a good one, or (first byte) a list of ranges to paint. An
 * accepted kernel is placed inside its pages, W^X; the painted list equals a picture of it, page by page. */
#include "fuzz.h"
#include "efi/verify.c"
#include "efi/ranges.c"

#define FILE_BYTES 0x1800u

static uint8_t good[FILE_BYTES];

static void kernel_make(void)
{
    struct elf_header *e = (void *)good;
    struct elf_segment *s = (void *)(good + sizeof *e);
    *e = (struct elf_header){.ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
                             .type = ELF_EXEC,
                             .machine = ELF_X86_64,
                             .version = 1,
                             .entry = KERNEL_BASE + 8,
                             .phoff = sizeof *e,
                             .phentsize = sizeof *s,
                             .phnum = 2};
    s[0] = (struct elf_segment){.type = ELF_LOAD,
                                .flags = ELF_R | ELF_X,
                                .offset = 0,
                                .vaddr = KERNEL_BASE,
                                .filesz = 100,
                                .memsz = 4097};
    s[1] = (struct elf_segment){.type = ELF_LOAD,
                                .flags = ELF_R | ELF_W,
                                .offset = 0x1000,
                                .vaddr = KERNEL_BASE + 0x3000,
                                .filesz = 0x800,
                                .memsz = 0x2000};
}

static void kernel_run(struct input *in)
{
    static uint8_t file[FILE_BYTES], memory[KERNEL_PAGES_MAX * PAGE_SIZE];
    static struct kernel_layout layout;
    struct expected_file expected = {.sha256 = {0}};
    if (!good[0]) kernel_make();
    memcpy(file, good, sizeof file);
    uint64_t cut = take(in, 2), bytes = cut ? cut % (FILE_BYTES + 1) : FILE_BYTES;
    bool untouched = in->left == 0 && bytes == FILE_BYTES;
    while (in->left) patch(in, file, sizeof(struct elf_header) + 6 * sizeof(struct elf_segment));
    uint8_t *exact = exact_copy(file, bytes);
    expected.bytes = bytes;
    memset(expected.sha256, bytes ? 1 : 0, sizeof expected.sha256);
    const char *wrong = verify_kernel(exact, bytes, &expected);
    check(!wrong || !untouched);
    if (!wrong) {
        kernel_layout(exact, &layout);
        check(layout.pages >= 1 && layout.pages <= KERNEL_PAGES_MAX);
        for (uint64_t i = 0; i < layout.pages; i++)
            check((layout.rights[i] & (RIGHT_WRITE | RIGHT_EXECUTE)) != (RIGHT_WRITE | RIGHT_EXECUTE));
        check(layout.entry >= KERNEL_BASE && layout.entry < KERNEL_BASE + layout.pages * PAGE_SIZE);
        check(layout.rights[(layout.entry - KERNEL_BASE) / PAGE_SIZE] & RIGHT_EXECUTE);
        if (layout.pages < 8) kernel_place(exact, memory);
    }
    free(exact);
}

#define CANVAS 256u /* pages */

static void ranges_run(struct input *in)
{
    static struct handoff_range store[HANDOFF_RANGES];
    struct ranges list = {.range = store};
    uint8_t picture[CANVAS];
    memset(picture, 0xff, sizeof picture);
    while (in->left) {
        uint64_t base = take(in, 1), pages = take(in, 1), kind = take(in, 1) % (RANGE_RESERVED + 1);
        if (base + pages > CANVAS) pages = CANVAS - base;
        ranges_paint(&list, base * PAGE_SIZE, pages, (uint32_t)kind);
        memset(picture + base, (int)kind, pages);
    }
    check(!list.overflow && list.count <= HANDOFF_RANGES);
    for (uint32_t i = 0; i < list.count; i++) {
        const struct handoff_range *r = &store[i], *before = i ? r - 1 : NULL;
        check(r->pages > 0 && (!before || range_end(before) <= r->base));
        check(!before || range_end(before) < r->base || before->kind != r->kind);
        for (uint64_t p = 0; p < r->pages; p++) {
            check(picture[r->base / PAGE_SIZE + p] == r->kind);
            picture[r->base / PAGE_SIZE + p] = 0xff;
        }
    }
    for (unsigned i = 0; i < CANVAS; i++) check(picture[i] == 0xff);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    if (take(&in, 1) & 1)
        ranges_run(&in);
    else
        kernel_run(&in);
    return 0;
}
