/* SPDX-License-Identifier: BSD-2-Clause
 * The image of the processes that are ended: two pages, headers and victim.S's code, in memory of this
 * process's own, so each of them gets a copy of its one code page. */
#include <elf.h>
#include "victim.h"

#define NUMBER(name) _Static_assert(SYS_##name == NR_##name, "victim.h")
NUMBER(null);
NUMBER(call);
NUMBER(recv);
NUMBER(reply_recv);
NUMBER(yield);
NUMBER(exit);

#define VICTIM_SERVICE 0xffd /* in tags: no service of a manifest has this index */
#define QUOTA_PAGES    40
#define PRIORITY       10 /* below ours: a round does not wait for its turn among victims */

static handle_t image;
static struct file {
    Elf64_Ehdr header;
    Elf64_Phdr segment;
} * file;

static uint64_t code_bytes(void) { return (uintptr_t)victim_end - (uintptr_t)victim_begin; }

status_t victim_image_make(void)
{
    struct sys_result r = sys_memory_create(0, 2, MEMORY_CONTIGUOUS);
    void *at;
    if (r.status != OK) return r.status;
    image = r.value;
    status_t status = map_new(image, 2, RIGHT_READ | RIGHT_WRITE, &at);
    if (status != OK) return status;
    file = at;
    file->header = (Elf64_Ehdr){.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                                .e_type = ET_EXEC,
                                .e_machine = EM_X86_64,
                                .e_version = EV_CURRENT,
                                .e_phoff = offsetof(struct file, segment),
                                .e_ehsize = sizeof(Elf64_Ehdr),
                                .e_phentsize = sizeof(Elf64_Phdr),
                                .e_phnum = 1};
    file->segment = (Elf64_Phdr){.p_type = PT_LOAD,
                                 .p_flags = PF_R | PF_X,
                                 .p_offset = PAGE_SIZE,
                                 .p_vaddr = USER_IMAGE_BASE,
                                 .p_filesz = code_bytes(),
                                 .p_memsz = code_bytes(),
                                 .p_align = PAGE_SIZE};
    memcpy((uint8_t *)at + PAGE_SIZE, victim_begin, code_bytes());
    return OK;
}

uint64_t victim_address(const uint8_t *routine)
{
    return USER_IMAGE_BASE + ((uintptr_t)routine - (uintptr_t)victim_begin);
}

struct sys_result victim_create(const uint8_t *routine, uint64_t cpus)
{
    static uint32_t generation;
    file->header.e_entry = victim_address(routine);
    return sys_process_create(image, 0, PAGE_SIZE + code_bytes(), QUOTA_PAGES,
                              TAG_MAKE(VICTIM_SERVICE, ++generation), SCHED_MAKE(PRIORITY, 0, 0), cpus);
}
