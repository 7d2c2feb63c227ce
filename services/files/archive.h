/* SPDX-License-Identifier: BSD-2-Clause
 * Finding a file in a tar archive, block by block (POSIX 1003.1, pax, "ustar Interchange Format"; GNU's older header with
 * the same fields). Pure: the caller reads the block at `at` and hands it over, until `more` is false. The whole archive is
 * walked: of several files of one name the last counts, as when it is unpacked, and an archive that is damaged anywhere is not
 * used. */
#ifndef COPPICE_SERVICES_FILES_ARCHIVE_H
#define COPPICE_SERVICES_FILES_ARCHIVE_H

#include "abi/types.h"

#define ARCHIVE_BLOCK     512u
#define ARCHIVE_NAME_MAX  100u   /* of a header's name field */
#define ARCHIVE_FILES_MAX 10000u /* a walk ends */

struct archive {
    char name[ARCHIVE_NAME_MAX + 1]; /* sought */
    uint64_t at, end;                /* the next header; bytes of the disk */
    uint32_t headers, files;         /* files: of what is plain */
    bool more;
    bool found;
    uint64_t offset, bytes; /* of what was found: within `end` */
    const char *wrong;      /* what is, with the header at `at`; NULL: nothing */
};

void archive_begin(struct archive *a, const char *name, uint64_t disk_bytes);
void archive_header(struct archive *a, const uint8_t block[ARCHIVE_BLOCK]);

#endif
