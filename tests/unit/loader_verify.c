/* SPDX-License-Identifier: BSD-2-Clause
 * What the loader says of a kernel or image that is not the one it was built with, and of one whose
 * digest is right but whose content cannot be loaded. */
#include <criterion/criterion.h>
#include <elf.h>
#include <string.h>
#include "bearssl_hash.h"
#include "efi/loader.h"
#include "abi/bundle.h"

static struct {
    Elf64_Ehdr e;
    Elf64_Phdr p[3];
    uint8_t rest[3 * PAGE_SIZE];
} elf;
static union {
    struct bundle b;
    uint8_t bytes[2 * PAGE_SIZE];
} image;
static struct expected_file expected;

static void digest(const void *data, uint64_t bytes)
{
    br_sha256_context c;
    br_sha256_init(&c);
    br_sha256_update(&c, data, bytes);
    br_sha256_out(&c, expected.sha256);
    expected.bytes = bytes;
}

static void setup(void)
{
    memset(&elf, 0, sizeof(elf));
    memcpy(elf.e.e_ident, "\177ELF\2\1\1", 7);
    elf.e.e_type = ET_EXEC;
    elf.e.e_machine = EM_X86_64;
    elf.e.e_version = 1;
    elf.e.e_entry = KERNEL_BASE + 8;
    elf.e.e_phoff = sizeof(elf.e);
    elf.e.e_phentsize = sizeof(elf.p[0]);
    elf.e.e_phnum = 3;
    elf.p[0] = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, PAGE_SIZE, KERNEL_BASE, 0, 64, 64, PAGE_SIZE};
    elf.p[1] = (Elf64_Phdr){PT_LOAD, PF_R, PAGE_SIZE, KERNEL_BASE + PAGE_SIZE, 0, 16, 16, PAGE_SIZE};
    elf.p[2] = (Elf64_Phdr){PT_LOAD, PF_R | PF_W, 0, KERNEL_BASE + 4 * PAGE_SIZE, 0, 8, 2 * PAGE_SIZE, 8};
    memset(&image, 0, sizeof(image));
    image.b = (struct bundle){.magic = BUNDLE_MAGIC, .version = 1, .count = 1, .length = sizeof(image)};
}

TestSuite(loader_verify, .init = setup);

/* The verdict on the kernel as it is now, its digest being right. */
static const char *kernel_verdict(void)
{
    digest(&elf, sizeof(elf));
    const char *verdict = verify_kernel(&elf, sizeof(elf), &expected);
    return verdict ? verdict : "good";
}

static const char *image_verdict(void)
{
    digest(&image, sizeof(image));
    const char *verdict = verify_image(&image, sizeof(image), &expected);
    return verdict ? verdict : "good";
}

#define ALTERED "altered: its SHA-256 is not the one this loader was built with"

Test(loader_verify, sha256_is_sha256)
{
    static const uint8_t abc[32] = {/* FIPS 180-2, appendix B.1 */
                                    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                    0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                    0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    cr_assert(digest_matches("abc", 3, abc));
    cr_assert_not(digest_matches("abd", 3, abc));
}

Test(loader_verify, good_kernel_and_its_layout)
{
    static struct kernel_layout layout;
    cr_assert_str_eq(kernel_verdict(), "good");
    kernel_layout(&elf, &layout);
    cr_assert_eq(layout.entry, elf.e.e_entry);
    cr_assert_eq(layout.pages, 6);
    cr_assert_eq(layout.rights[0], RIGHT_READ | RIGHT_EXECUTE);
    cr_assert_eq(layout.rights[1], RIGHT_READ);
    cr_assert_eq(layout.rights[2], 0);
    cr_assert_eq(layout.rights[5], RIGHT_READ | RIGHT_WRITE);
}

Test(loader_verify, placing_copies_segments_and_zeroes_the_rest)
{
    static uint8_t memory[6 * PAGE_SIZE];
    memset(memory, 0xaa, sizeof(memory));
    kernel_place(&elf, memory);
    cr_assert_eq(memcmp(memory, (uint8_t *)&elf + PAGE_SIZE, 64), 0);
    cr_assert_eq(memcmp(memory + 4 * PAGE_SIZE, &elf, 8), 0);
    for (size_t i = 4 * PAGE_SIZE + 8; i < sizeof(memory); i++) cr_assert_eq(memory[i], 0);
}

Test(loader_verify, kernel_truncated)
{
    digest(&elf, sizeof(elf));
    cr_assert_str_eq(verify_kernel(&elf, sizeof(elf) - 1, &expected), "truncated");
    cr_assert_str_eq(verify_kernel(&elf, 3, &expected), "truncated");
}

Test(loader_verify, kernel_altered_or_extended)
{
    digest(&elf, sizeof(elf));
    elf.rest[PAGE_SIZE] ^= 1;
    cr_assert_str_eq(verify_kernel(&elf, sizeof(elf), &expected), ALTERED);
    elf.rest[PAGE_SIZE] ^= 1;
    digest(&elf, sizeof(elf) - 1);
    cr_assert_str_eq(verify_kernel(&elf, sizeof(elf), &expected), ALTERED);
}

Test(loader_verify, kernel_of_another_kind)
{
    elf.e.e_ident[1] = 'e';
    cr_assert_str_eq(kernel_verdict(), "not an ELF file");
    elf.e.e_ident[1] = 'E';
    elf.e.e_machine = EM_AARCH64;
    cr_assert_str_eq(kernel_verdict(), "not an x86_64 kernel");
    elf.e.e_version = 2;
    cr_assert_str_eq(kernel_verdict(), "wrong version of the ELF format");
}

Test(loader_verify, kernel_segments_that_cannot_be_placed)
{
    static const struct {
        int segment;
        Elf64_Phdr p;
    } bad[] = {
        {0, {PT_LOAD, PF_R | PF_X | PF_W, 0, KERNEL_BASE, 0, 64, 64, PAGE_SIZE}},      /* W and X */
        {0, {PT_LOAD, PF_R | PF_X, 0, KERNEL_BASE - PAGE_SIZE, 0, 64, 64, PAGE_SIZE}}, /* below the base */
        {0, {PT_LOAD, PF_R | PF_X, 0, 0, 0, 64, 64, PAGE_SIZE}},
        {0, {PT_LOAD, PF_R | PF_X, 0, KERNEL_BASE + 16, 0, 64, 64, PAGE_SIZE}},     /* not on a page */
        {0, {PT_LOAD, PF_R | PF_X, ~0ul - 8, KERNEL_BASE, 0, 64, 64, PAGE_SIZE}},   /* outside the file */
        {0, {PT_LOAD, PF_R | PF_X, 0, KERNEL_BASE, 0, 64, 32, PAGE_SIZE}},          /* file > memory */
        {2, {PT_LOAD, PF_R | PF_W, 0, KERNEL_BASE + PAGE_SIZE, 0, 8, 8, 8}},        /* shares a page */
        {2, {PT_LOAD, PF_R | PF_W, 0, KERNEL_BASE + 4 * PAGE_SIZE, 0, 8, ~0ul, 8}}, /* too large */
        {2, {PT_LOAD, PF_R | PF_W, 0, KERNEL_BASE + (2ul << 20), 0, 8, 8, 8}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setup();
        elf.p[bad[i].segment] = bad[i].p;
        cr_assert_str_eq(kernel_verdict(), "a segment that cannot be placed", "case %zu", i);
    }
}

Test(loader_verify, kernel_program_headers_outside_the_file)
{
    elf.e.e_phoff = ~0ul - 7;
    cr_assert_str_eq(kernel_verdict(), "malformed program headers");
    elf.e.e_phoff = sizeof(elf) - 56;
    cr_assert_str_eq(kernel_verdict(), "malformed program headers");
}

Test(loader_verify, kernel_entry_must_be_code)
{
    elf.e.e_entry = KERNEL_BASE + 4 * PAGE_SIZE;
    cr_assert_str_eq(kernel_verdict(), "entry point outside its code");
}

Test(loader_verify, image_verdicts)
{
    cr_assert_str_eq(image_verdict(), "good");
    cr_assert_str_eq(verify_image(&image, PAGE_SIZE, &expected), "truncated");
    image.bytes[PAGE_SIZE] = 1;
    cr_assert_str_eq(verify_image(&image, sizeof(image), &expected), ALTERED);
    image.b.length = PAGE_SIZE;
    cr_assert_str_eq(image_verdict(), "malformed header");
    image.b.length = sizeof(image);
    image.b.count = 1000;
    cr_assert_str_eq(image_verdict(), "malformed header");
    image.b.version = 2;
    cr_assert_str_eq(image_verdict(), "wrong version of the image format");
    image.b.magic = 0;
    cr_assert_str_eq(image_verdict(), "not a system image");
}
