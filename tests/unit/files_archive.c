/* SPDX-License-Identifier: BSD-2-Clause
 * The walk through a tar archive: what is found, and every way in which an archive can be wrong, each with its place. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "services/files/archive.c"

static uint8_t disk[64 * ARCHIVE_BLOCK];
static uint64_t used, end;

static void sum_write(uint8_t *block)
{
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (unsigned i = 0; i < ARCHIVE_BLOCK; i++) sum += block[i];
    snprintf((char *)block + 148, 8, "%06o", sum);
}

/* One header and its content; returns the header. */
static uint8_t *add(const char *name, char type, unsigned bytes)
{
    uint8_t *block = disk + used;
    memcpy(block, name, strlen(name));
    snprintf((char *)block + 124, 12, "%011o", bytes);
    block[156] = (uint8_t)type;
    memcpy(block + 257, "ustar\00000", 8);
    sum_write(block);
    used += ARCHIVE_BLOCK + (bytes + ARCHIVE_BLOCK - 1) / ARCHIVE_BLOCK * ARCHIVE_BLOCK;
    end = used + 2 * ARCHIVE_BLOCK;
    return block;
}

static struct archive walk(const char *name)
{
    struct archive a;
    archive_begin(&a, name, end);
    while (a.more) {
        uint8_t *block = malloc(ARCHIVE_BLOCK); /* its end is watched */
        cr_assert_leq(a.at + ARCHIVE_BLOCK, end);
        memcpy(block, disk + a.at, ARCHIVE_BLOCK);
        archive_header(&a, block);
        free(block);
    }
    return a;
}

static void wrong(const char *name, uint64_t at, const char *what)
{
    struct archive a = walk(name);
    cr_assert_not(a.found);
    cr_assert_not_null(a.wrong);
    cr_assert_str_eq(a.wrong, what);
    cr_assert_eq(a.at, at);
}

Test(files_archive, a_file_is_found_where_it_is)
{
    add("a.elf", '0', 700);
    add("b.elf", '0', 512);
    add("empty", '0', 0);
    struct archive a = walk("b.elf");
    cr_assert(a.found && !a.wrong);
    cr_assert_eq(a.offset, 4 * ARCHIVE_BLOCK);
    cr_assert_eq(a.bytes, 512);
    a = walk("empty");
    cr_assert(a.found && a.bytes == 0);
    a = walk("b.el");
    cr_assert(!a.found && !a.wrong && a.files == 3);
    a = walk("b.elf2");
    cr_assert(!a.found && !a.wrong);
}

Test(files_archive, gnu_headers_and_old_types_and_a_dot_in_front)
{
    uint8_t *block = add("./a.elf", 0, 10);
    memcpy(block + 257, "ustar  ", 8);
    memcpy(block + 345, "12345670123", 11); /* times, of GNU's; a prefix of POSIX's */
    sum_write(block);
    cr_assert(walk("a.elf").found);
    memcpy(block + 257, "ustar\00000", 8);
    sum_write(block);
    cr_assert_not(walk("a.elf").found, "it has a folder in front");
}

Test(files_archive, the_last_of_a_name_counts)
{
    add("a.elf", '0', 100);
    add("a.elf", '0', 200);
    cr_assert_eq(walk("a.elf").bytes, 200);
    add("a.elf", '5', 0);
    cr_assert_not(walk("a.elf").found, "it has become a folder");
}

Test(files_archive, what_has_no_content_is_passed_whatever_its_size_says)
{
    add("link", '2', 0);
    uint8_t *block = disk;
    memcpy(block + 124, "00000007000", 11);
    sum_write(block);
    add("more", 'x', 30);
    add("a.elf", '0', 5);
    cr_assert(walk("a.elf").found);
    cr_assert_not(walk("link").found);
    cr_assert_not(walk("more").found);
}

Test(files_archive, a_name_that_fills_its_field)
{
    char name[ARCHIVE_NAME_MAX + 2] = {0};
    memset(name, 'n', ARCHIVE_NAME_MAX);
    uint8_t *block = add("x", '0', 1);
    memcpy(block, name, ARCHIVE_NAME_MAX);
    sum_write(block);
    cr_assert(walk(name).found);
    name[ARCHIVE_NAME_MAX - 1] = 0;
    cr_assert_not(walk(name).found);
}

Test(files_archive, no_archive)
{
    end = 0;
    wrong("a", 0, "the disk is empty");
    end = 511;
    wrong("a", 0, "the disk is empty");
    end = sizeof(disk);
    wrong("a", 0, "the disk holds no tar archive");
    memset(disk, 'x', sizeof(disk));
    wrong("a", 0, "the disk holds no tar archive");
}

Test(files_archive, damage_is_named_with_its_place)
{
    add("a.elf", '0', 700);
    uint8_t *block = add("b.elf", '0', 100), good[ARCHIVE_BLOCK];
    memcpy(good, block, sizeof(good));
    for (unsigned i = 0; i < ARCHIVE_BLOCK; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            block[i] ^= (uint8_t)(1u << bit);
            bool sum_itself = i >= 148 && i < 156; /* a zero behind its digits may become a space */
            struct archive a = walk("a.elf");
            if (!sum_itself) cr_assert(a.wrong && !a.found && a.at == 3 * ARCHIVE_BLOCK, "byte %u", i);
            block[i] ^= (uint8_t)(1u << bit);
        }
    }
    block[0] = 'c';
    wrong("a.elf", 3 * ARCHIVE_BLOCK, "wrong checksum of a header");
    memcpy(block, good, sizeof(good));
    block[257] = 'U';
    wrong("a.elf", 3 * ARCHIVE_BLOCK, "no header where one must be");
    memcpy(block, good, sizeof(good));
    cr_assert(walk("a.elf").found);
}

static void size_is(const char *text, unsigned length, uint64_t at, const char *what)
{
    memset(disk + 124, 0, 12);
    memcpy(disk + 124, text, length);
    sum_write(disk);
    wrong("a.elf", at, what);
}

Test(files_archive, sizes_that_cannot_be)
{
    add("a.elf", '0', 100);
    size_is("0000008", 7, 0, "a size that is no octal number");
    size_is("", 0, 0, "a size that is no octal number");
    size_is("           ", 11, 0, "a size that is no octal number");
    size_is("\x80\0\0\0\0\0\0\0\0\0\0\x10", 12, 0, "a size that is no octal number");
    size_is("17 1", 4, 0, "a size that is no octal number");
    size_is("777777777777", 12, 0, "a file that ends behind the disk");
    size_is("00000003001", 11, 0, "a file that ends behind the disk"); /* one byte more than there is */
    size_is("00000003000", 11, end, "cut off: the empty block at its end is missing");
}

Test(files_archive, cut_off)
{
    add("a.elf", '0', 700);
    end = used;
    wrong("a.elf", used, "cut off: the empty block at its end is missing");
    end = used - ARCHIVE_BLOCK;
    wrong("a.elf", 0, "a file that ends behind the disk");
    end = used + ARCHIVE_BLOCK;
    cr_assert(walk("a.elf").found, "one empty block is enough");
}

Test(files_archive, a_walk_ends)
{
    uint8_t block[ARCHIVE_BLOCK];
    struct archive a;
    add("a", '0', 0);
    memcpy(block, disk, sizeof(block));
    archive_begin(&a, "b", UINT64_MAX);
    unsigned n = 0;
    for (; a.more; n++) archive_header(&a, block);
    cr_assert_eq(n, ARCHIVE_FILES_MAX + 1);
    cr_assert_str_eq(a.wrong, "more than 10000 files");
}
