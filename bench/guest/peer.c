/* SPDX-License-Identifier: BSD-2-Clause
 * Makes the bench's second processes (peer.h). The ELF file is two pages: headers, then peer.S's code.
 * It is ordinary contiguous memory, not the system image, so each process gets a copy of its one code
 * page; no authority over the system image is needed. */
#include <elf.h>
#include "bench.h"

#define NUMBER(name) _Static_assert(SYS_##name == NR_##name, "peer.h")
NUMBER(null);
NUMBER(call);
NUMBER(recv);
NUMBER(reply_recv);
NUMBER(signal);
NUMBER(wait);
NUMBER(exit);

#define PEER_QUOTA_PAGES 32
#define PEER_SERVICE     0xffe /* in tags: no service of a manifest has this index */

static handle_t image;
static struct elf_file {
    Elf64_Ehdr header;
    Elf64_Phdr segment;
} * file;

static uint64_t code_bytes(void) { return (uintptr_t)peer_end - (uintptr_t)peer_begin; }

void peer_image_make(void)
{
    void *at;

    image = check_value(sys_memory_create(0, 2, MEMORY_CONTIGUOUS), "memory for the peers' image");
    check(map_new(image, 2, RIGHT_READ | RIGHT_WRITE, &at), "mapping of the peers' image");
    file = at;
    file->header = (Elf64_Ehdr){.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                                .e_type = ET_EXEC,
                                .e_machine = EM_X86_64,
                                .e_version = EV_CURRENT,
                                .e_phoff = offsetof(struct elf_file, segment),
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
    memcpy((uint8_t *)at + PAGE_SIZE, peer_begin, code_bytes());
}

struct sys_result peer_create(const uint8_t *routine, uint32_t priority)
{
    static uint32_t generation;

    file->header.e_entry = USER_IMAGE_BASE + ((uintptr_t)routine - (uintptr_t)peer_begin);
    return sys_process_create(image, 0, PAGE_SIZE + code_bytes(), PEER_QUOTA_PAGES,
                              TAG_MAKE(PEER_SERVICE, ++generation), SCHED_MAKE(priority, 0, 0), 0);
}

void peer_open(struct peer *p, const uint8_t *routine, uint32_t priority)
{
    void *at;

    *p = (struct peer){.process = check_value(peer_create(routine, priority), "a peer process")};
    p->memory = check_value(sys_memory_create(0, 1, 0), "a peer's page");
    check(map_new(p->memory, 1, RIGHT_READ | RIGHT_WRITE, &at), "mapping of a peer's page");
    p->page = at;
    check(sys_memory_map(p->process, p->memory, PEER_PAGE, 0, 1, RIGHT_READ | RIGHT_WRITE),
          "mapping of a peer's page into the peer");
}

void peer_give(struct peer *p, handle_t h, uint32_t rights)
{
    p->page->handle[p->handles++] =
        check_value(sys_process_grant(p->process, h, rights, 0), "a grant to a peer");
}

void peer_start(struct peer *p) { check(sys_process_start(p->process, PEER_PAGE), "start of a peer"); }

void peer_close(struct peer *p)
{
    check(sys_process_destroy(p->process), "end of a peer");
    check(sys_memory_unmap(0, (uint64_t)p->page), "unmapping of a peer's page");
    check(sys_cap_delete(p->memory), "release of a peer's page");
}
