/* SPDX-License-Identifier: BSD-2-Clause
 * An ELF file in memory that another CPU writes while the kernel reads it. */
#include <criterion/criterion.h>
#include <pthread.h>
#include "kernel/elf_image.h"
#include "tests/unit/elf_file.h"

static _Alignas(16) uint8_t file[ELF_FILE_BYTES];
static struct test_elf *const elf = (void *)file;
static struct elf_image image;

static int writer_stops;

/* Makes the size of a segment good and bad in turn. */
static void *writer(void *unused)
{
    volatile Elf64_Phdr *p = &elf->segment[1];
    (void)unused;
    while (!__atomic_load_n(&writer_stops, __ATOMIC_ACQUIRE)) {
        p->p_memsz = 1ul << 60;
        p->p_memsz = ELF_DATA_BYTES;
    }
    return NULL;
}

Test(elf, an_image_that_changes_while_it_is_read)
{
    pthread_t thread;
    unsigned accepted = 0;
    elf_make(file);
    cr_assert_eq(pthread_create(&thread, NULL, writer, NULL), 0);
    for (unsigned round = 0; round < 3000000; round++) {
        if (elf_parse(file, sizeof file, &image) != OK) continue;
        accepted++;
        cr_assert_eq(image.segment[1].memory_bytes, ELF_DATA_BYTES, "checked one value, used another");
    }
    __atomic_store_n(&writer_stops, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    cr_assert_gt(accepted, 0);
}
