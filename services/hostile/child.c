/* SPDX-License-Identifier: BSD-2-Clause
 * Children: an ELF file in memory of our own, made of this very program as it stands, so a child begins with
 * our code and a copy of our data at an entry of its own. Whoever may use memory may make processes; this
 * needs no capability but our quota. */
#include <elf.h>
#include "hostile.h"

extern const uint8_t image_text[], image_text_end[], image_rodata[], image_rodata_end[]; /* lib/user.ld */
extern uint8_t image_data[], image_data_end[];

struct shared *shared;
static handle_t image, shared_memory;
static uint8_t *image_at;
static uint64_t image_bytes, child_sched;
static tag_t startup_tag; /* children have no startup page */

void child_main(uint64_t arg) __attribute__((noreturn, used));
extern const uint8_t child_entry[];
__asm__(".text\n"
        ".globl child_entry\n"
        "child_entry:\n"
        "    xorl %ebp, %ebp\n"
        "    andq $-16, %rsp\n"
        "    call child_main\n"
        "    ud2\n");

/* A child that makes children, as its creator does: the image is in the first slot of its table. */
static void fork_do(void) __attribute__((noreturn));
static void fork_do(void)
{
    struct child c = {0};

    image = HANDLE_MAKE(1, 1);
    for (;;) {
        struct sys_result r =
            sys_process_create(image, 0, image_bytes, CHILD_PAGES, startup_tag, child_sched, 0);
        __atomic_fetch_add(&((struct shared *)SHARED_AT)->calls, 1, __ATOMIC_RELAXED);
        c.process = r.value;
        if (r.status != OK) continue;
        (void)child_start(&c, CHILD_ARG(CHILD_EXIT, 0));
        child_end(&c);
    }
}

void child_main(uint64_t arg)
{
    uint64_t value = arg >> 8;

    switch (arg & 0xff) {
    case CHILD_LETHAL: lethal_do((uint32_t)value);
    case CHILD_CHAOS: chaos_do(value);
    case CHILD_FORK: fork_do();
    default: sys_exit(value);
    }
}

handle_t child_image(void) { return image; }
uint64_t child_image_bytes(void) { return image_bytes; }
uint8_t *child_image_at(void) { return image_at; }

static void segment_add(Elf64_Ehdr *h, const uint8_t *from, const uint8_t *to, uint32_t flags)
{
    Elf64_Phdr *p = (Elf64_Phdr *)(void *)(image_at + sizeof(*h)) + h->e_phnum++;
    uint64_t at = PAGE_SIZE + ((uint64_t)from - USER_IMAGE_BASE), bytes = (uint64_t)(to - from);

    *p = (Elf64_Phdr){.p_type = PT_LOAD,
                      .p_flags = flags,
                      .p_offset = at,
                      .p_vaddr = (uint64_t)from,
                      .p_filesz = bytes,
                      .p_memsz = bytes};
    memcpy(image_at + at, from, bytes);
}

bool child_image_make(void)
{
    void *at;

    child_sched = own_sched();
    startup_tag = startup()->tag;
    image_bytes = PAGE_SIZE + ((uint64_t)image_data_end - USER_IMAGE_BASE);
    struct sys_result r = sys_memory_create(0, PAGES_FOR(image_bytes), MEMORY_CONTIGUOUS);
    if (r.status != OK || map_new(r.value, PAGES_FOR(image_bytes), RIGHT_READ | RIGHT_WRITE, &at) != OK)
        return false;
    image = r.value;
    r = sys_memory_create(0, 1, 0);
    if (r.status != OK || sys_memory_map(0, r.value, SHARED_AT, 0, 1, RIGHT_READ | RIGHT_WRITE) != OK)
        return false;
    shared_memory = r.value;
    shared = (struct shared *)SHARED_AT;
    image_at = at;
    Elf64_Ehdr *h = at;
    *h = (Elf64_Ehdr){.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                      .e_type = ET_EXEC,
                      .e_machine = EM_X86_64,
                      .e_version = EV_CURRENT,
                      .e_entry = (uint64_t)child_entry,
                      .e_phoff = sizeof(*h),
                      .e_ehsize = sizeof(*h),
                      .e_phentsize = sizeof(Elf64_Phdr)};
    segment_add(h, image_text, image_text_end, PF_R | PF_X);
    segment_add(h, image_rodata, image_rodata_end, PF_R);
    segment_add(h, image_data, image_data_end, PF_R | PF_W);
    return true;
}

uint64_t own_sched(void)
{
    struct process_info info;

    if (sys_process_info(0, &info) != OK) return 0;
    return SCHED_MAKE(info.priority, arg_number("budget_us", 0), arg_number("period_us", 0));
}

status_t child_make(struct child *c, uint64_t pages, uint64_t sched)
{
    struct sys_result r = sys_process_create(image, 0, image_bytes, pages, startup()->tag, sched, 0);

    c->process = 0;
    if (r.status != OK) return r.status;
    c->process = r.value;
    c->since_ns = clock_ns();
    status_t status = sys_memory_map(c->process, shared_memory, SHARED_AT, 0, 1, RIGHT_READ | RIGHT_WRITE);
    if (status != OK) child_end(c);
    return status;
}

status_t child_start(struct child *c, uint64_t arg) { return sys_process_start(c->process, arg); }

void child_end(struct child *c)
{
    if (c->process) (void)sys_process_destroy(c->process);
    c->process = 0;
}
