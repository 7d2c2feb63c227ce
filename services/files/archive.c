/* SPDX-License-Identifier: BSD-2-Clause
 * See archive.h. Every field is a stranger's: a length is believed once it lies within the disk. */
#include "archive.h"

struct field {
    uint32_t at, length;
};
static const struct field name_field = {0, ARCHIVE_NAME_MAX}, size_field = {124, 12}, sum_field = {148, 8},
                          magic_field = {257, 5}, version_field = {262, 3}, prefix_field = {345, 155};
#define TYPE_AT 156u

void archive_begin(struct archive *a, const char *name, uint64_t disk_bytes)
{
    uint32_t n = 0;
    *a = (struct archive){.end = disk_bytes & ~(uint64_t)(ARCHIVE_BLOCK - 1), .more = true};
    for (; n < ARCHIVE_NAME_MAX && name[n]; n++) a->name[n] = name[n];
    if (a->end == 0) {
        a->more = false;
        a->wrong = "the disk is empty";
    }
}

static bool all_zero(const uint8_t *block)
{
    for (uint32_t i = 0; i < ARCHIVE_BLOCK; i++)
        if (block[i]) return false;
    return true;
}

/* Octal digits, then spaces or zeros; spaces may come first. */
static bool octal(const uint8_t *block, struct field f, uint64_t *out)
{
    const uint8_t *at = block + f.at, *end = at + f.length;
    uint64_t value = 0;
    while (at < end && *at == ' ') at++;
    const uint8_t *first = at;
    for (; at < end && *at >= '0' && *at <= '7'; at++) value = value * 8 + (uint64_t)(*at - '0');
    if (at == first) return false;
    for (; at < end; at++)
        if (*at != ' ' && *at != 0) return false;
    *out = value;
    return true;
}

/* Of all bytes, its own field taken as spaces. */
static bool sum_right(const uint8_t *block)
{
    uint64_t said, sum = 0;
    for (uint32_t i = 0; i < ARCHIVE_BLOCK; i++)
        sum += i >= sum_field.at && i < sum_field.at + sum_field.length ? ' ' : block[i];
    return octal(block, sum_field, &said) && said == sum;
}

/* All of the field; the zero behind the text may be its last byte. */
static bool text_is(const uint8_t *block, struct field f, const char *text)
{
    for (uint32_t i = 0; i < f.length; i++)
        if (block[f.at + i] != (uint8_t)text[i]) return false;
    return true;
}

static bool is_posix(const uint8_t *block) { return text_is(block, version_field, "\00000"); }

static bool is_header(const uint8_t *block)
{
    return text_is(block, magic_field, "ustar") && (is_posix(block) || text_is(block, version_field, "  "));
}

/* "./" in front says nothing. What is in a folder has another name: FOLDER/FILE. */
static bool is_named(const struct archive *a, const uint8_t *block)
{
    const uint8_t *at = block + name_field.at, *end = at + name_field.length;
    uint32_t n = 0;
    if (is_posix(block) && block[prefix_field.at]) return false; /* too long to be sought */
    while (at + 1 < end && at[0] == '.' && at[1] == '/') at += 2;
    for (; at < end && *at; at++, n++)
        if (n == ARCHIVE_NAME_MAX || (uint8_t)a->name[n] != *at) return false;
    return n > 0 && a->name[n] == 0;
}

/* Links, devices and folders have no content, whatever their size field says. */
static bool has_content(uint8_t type) { return type < '1' || type > '6'; }
static bool is_plain(uint8_t type) { return type == '0' || type == 0 || type == '7'; }

static const char *header_wrong(const struct archive *a, const uint8_t *block, uint64_t *bytes)
{
    if (!is_header(block)) return a->at ? "no header where one must be" : "the disk holds no tar archive";
    if (!sum_right(block)) return "wrong checksum of a header";
    if (!octal(block, size_field, bytes)) return "a size that is no octal number";
    if (!has_content(block[TYPE_AT])) *bytes = 0;
    if (*bytes > a->end - a->at - ARCHIVE_BLOCK) return "a file that ends behind the disk";
    if (a->headers == ARCHIVE_FILES_MAX) return "more than 10000 files";
    return NULL;
}

void archive_header(struct archive *a, const uint8_t block[ARCHIVE_BLOCK])
{
    uint64_t bytes = 0;
    if (a->at && all_zero(block)) {
        a->more = false;
        return;
    }
    a->wrong = header_wrong(a, block, &bytes);
    if (a->wrong) {
        a->more = a->found = false;
        return;
    }
    if (is_named(a, block)) {
        a->found = is_plain(block[TYPE_AT]);
        a->offset = a->at + ARCHIVE_BLOCK;
        a->bytes = bytes;
    }
    a->headers++;
    a->files += is_plain(block[TYPE_AT]);
    a->at += ARCHIVE_BLOCK + (bytes + ARCHIVE_BLOCK - 1) / ARCHIVE_BLOCK * ARCHIVE_BLOCK;
    if (a->at < a->end) return;
    a->more = a->found = false;
    a->wrong = "cut off: the empty block at its end is missing";
}
