/* SPDX-License-Identifier: BSD-2-Clause
 * The archive on an operator's disk (services/files/archive.c). Input: changes to a good archive, whose headers then get the
 * checksum that fits them, but for some. The walk reads within the disk and ends; what is found lies within the disk, behind a
 * header. */
#include "fuzz.h"
#include "services/files/archive.c"

#define BLOCKS 12u

static uint8_t disk[BLOCKS * ARCHIVE_BLOCK];

static void sum_write(uint8_t *block)
{
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (unsigned i = 0; i < ARCHIVE_BLOCK; i++) sum += block[i];
    snprintf((char *)block + 148, 8, "%06o", sum);
}

static void file_make(unsigned at, const char *name, unsigned bytes)
{
    uint8_t *block = disk + at * ARCHIVE_BLOCK;
    strcpy((char *)block, name);
    snprintf((char *)block + 124, 12, "%011o", bytes);
    block[156] = '0';
    memcpy(block + 257, "ustar\00000", 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct archive a;
    memset(disk, 0, sizeof disk);
    file_make(0, "a.elf", 700);
    file_make(3, "b.elf", 1024);
    file_make(6, "c.elf", 10);
    uint64_t as_is = take(&in, 1), end = sizeof disk - take(&in, 1) * 64 % sizeof disk;
    static const unsigned header[] = {0, 3, 6, 8};
    while (in.left) patch(&in, disk + header[take(&in, 1) & 3] * ARCHIVE_BLOCK, ARCHIVE_BLOCK);
    for (unsigned i = 0; i < 3; i++)
        if (!(as_is >> i & 1)) sum_write(disk + header[i] * ARCHIVE_BLOCK);
    unsigned steps = 0;
    for (archive_begin(&a, "b.elf", end); a.more; steps++) {
        check(a.at % ARCHIVE_BLOCK == 0 && a.at + ARCHIVE_BLOCK <= end && steps <= BLOCKS);
        uint8_t *block = exact_copy(disk + a.at, ARCHIVE_BLOCK);
        archive_header(&a, block);
        free(block);
    }
    check(!a.found || !a.wrong);
    if (a.found) check(a.offset >= ARCHIVE_BLOCK && a.offset <= end && a.bytes <= end - a.offset);
    if (size == 0) check(a.found && a.offset == 4 * ARCHIVE_BLOCK && a.bytes == 1024);
    return 0;
}
