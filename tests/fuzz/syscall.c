/* SPDX-License-Identifier: BSD-2-Clause
 * The system-call layer: the whole portable kernel on the host port, beside the reference model of tests/model.
 * Input: records of 12 bytes, each one step (a call of whichever thread runs, time, an interrupt, an
 * exception, a strike) whose bytes decide what the model test leaves to chance. The model demands refusals
 * and follows successes after each step; all invariants are compared after the last, and for one input
 * in sixteen once more when everything but the first process has ended.
 * The world (a few processes that share endpoints, notifications, memory) is made once. Before each input
 * the kernel's, the port's and the model's variables are copied back to what they were then, and those
 * frames that hold kernel structures; what the kernel takes later it clears itself. Without libFuzzer there
 * is nothing to copy: each input has a process of its own. */
#include <criterion/criterion.h>
#include <sanitizer/asan_interface.h>

#define MODEL_PROCESSES 8
#define MODEL_CAPS      256
#define MODEL_OBJECTS   192
#define MODEL_SLOTS     192
#define MODEL_MAPPINGS  16
#include "tests/model/model.h"

#define RECORD      12u /* bytes of a step: one call uses up to as many */
#define STEPS_MAX   40u
#define WORLD_STEPS 140u

/* --- Chance ----------------------------------------------------------------------------------------------- */

static bool in_world; /* the world is being made: chance comes from a fixed seed */
static struct input record;
static uint64_t mixed; /* of all bytes so far, for values that only have to differ */

static uint64_t random_next(void)
{
    mixed ^= mixed << 13;
    mixed ^= mixed >> 7;
    mixed ^= mixed << 17;
    return mixed * 2685821657736338717ul;
}
static uint64_t below(uint64_t n)
{
    if (in_world) return (random_next() >> 11) % n;
    unsigned bytes = n <= 256 ? 1 : n <= 65536 ? 2 : 4;
    uint64_t v = take(&record, bytes);
    mixed = (mixed ^ v) * 0x9e3779b97f4a7c15ul + 1;
    return v * n >> 8 * bytes;
}
static bool chance(unsigned percent) { return below(100) < percent; }

#include "tests/model/step.h"

/* --- A machine that can be made new ------------------------------------------------------------------------- */

/* Every variable of kernel, port and this file: tools/build.mk. */
extern uint8_t __start_fuzz_data[] __attribute__((weak)), __stop_fuzz_data[] __attribute__((weak));
extern uint8_t __start_fuzz_bss[] __attribute__((weak)), __stop_fuzz_bss[] __attribute__((weak));

#define PARTS_MAX 256u
#define HOLES_MAX 256u
static struct part {
    uint8_t *at, *copy;
    size_t bytes;
} parts[PARTS_MAX];
static unsigned part_count;
static uint8_t *world_end; /* of the frames in use when the world was made */

/* The sanitizer keeps red zones between variables: this copies them too, unseen. */
__attribute__((no_sanitize("address"))) static void bytes_copy(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void part_add(uint8_t *from, uint8_t *to)
{
    if (from >= to) return;
    check(part_count < PARTS_MAX);
    parts[part_count++] = (struct part){from, malloc((size_t)(to - from)), (size_t)(to - from)};
}

/* A section without the port's large tables, which no call writes or which are cleared by hand. */
static void section_add(uint8_t *from, uint8_t *to)
{
    uint8_t *skip[][2] = {{(uint8_t *)host.port_value, (uint8_t *)(&host.port_value + 1)},
                          {(uint8_t *)host.bus_master, (uint8_t *)(&host.bus_master + 1)},
                          {(uint8_t *)host.log, (uint8_t *)(&host.log + 1)}};
    for (unsigned i = 0; i < 3; i++) {
        if (skip[i][0] < from || skip[i][0] >= to) continue;
        part_add(from, skip[i][0]);
        from = skip[i][1];
    }
    part_add(from, to);
}

/* Memory of processes is theirs: the kernel never looks at what is in it. */
static bool is_user_memory(struct process *p, uint64_t frame)
{
    list_each(struct object, o, &p->objects, owned)
    {
        const struct memory *m = (const struct memory *)o;
        for (uint64_t i = 0; o->type == OBJECT_MEMORY && i < m->pages; i++)
            if (memory_frame(m, i).v == frame) return true;
    }
    list_each(struct process, child, &p->children, sibling) if (is_user_memory(child, frame)) return true;
    return false;
}

/* Behind the last frame in use that is not part of a run. Frames are given out from the bottom, but what the world
 * gave back has left holes: more frames are taken than there are holes, so that the last of them is above all. */
static paddr_t end_find(void)
{
    static paddr_t taken[HOLES_MAX];
    for (unsigned i = 0; i < HOLES_MAX; i++) taken[i] = frame_alloc(NULL);
    check(taken[HOLES_MAX - 1].v - taken[HOLES_MAX / 2].v == (HOLES_MAX - 1 - HOLES_MAX / 2) * PAGE_SIZE);
    for (unsigned i = 0; i < HOLES_MAX; i++) frame_free(NULL, taken[i]);
    paddr_t end = taken[HOLES_MAX - 1];
    while (__asan_address_is_poisoned(arch_direct((paddr_t){end.v - PAGE_SIZE}))) end.v -= PAGE_SIZE;
    return end;
}

static void machine_save(void)
{
    paddr_t end = end_find();
    world_end = arch_direct(end);
    for (uint64_t at = HOST_RAM_BASE + BOOT_PAGES * PAGE_SIZE; at < end.v; at += PAGE_SIZE) {
        uint8_t *page = arch_direct((paddr_t){at});
        if (!is_user_memory(process_root, at)) part_add(page, page + PAGE_SIZE);
    }
    section_add(__start_fuzz_data, __stop_fuzz_data);
    section_add(__start_fuzz_bss, __stop_fuzz_bss);
    for (unsigned i = 0; i < part_count; i++) bytes_copy(parts[i].copy, parts[i].at, parts[i].bytes);
}

static void machine_restore(void)
{
    __asan_unpoison_memory_region(host.ram,
                                  world_end - host.ram); /* what was freed of the world is there again */
    for (unsigned i = 0; i < part_count; i++) bytes_copy(parts[i].at, parts[i].copy, parts[i].bytes);
    for (uint32_t bdf = HOST_PCI_FIRST; bdf <= HOST_PCI_LAST; bdf += 8) host.bus_master[bdf] = false;
}

/* --- A run ------------------------------------------------------------------------------------------------------ */

static void world_make(void)
{
    in_world = true;
    mixed = 0x9e3779b97f4a7c15ul;
    model_boot();
    for (unsigned i = 0; i < 4; i++) {
        me = 0;
        run_as(root_thread());
        nursery();
        compare();
    }
    for (call_now = 1; call_now < WORLD_STEPS; call_now++) step();
    in_world = false;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    world_make();
    if (__start_fuzz_data) machine_save();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (__start_fuzz_data) machine_restore();
    mixed = 1;
    for (call_now = 1; size && call_now <= STEPS_MAX; call_now++) {
        size_t n = size < RECORD ? size : RECORD;
        record = (struct input){data, n};
        data += n;
        size -= n;
        step_make();
        flights_update();
    }
    compare();
    if (mixed & 15) return 0;
    list_each(struct process, child, &process_root->children, sibling) process_destroy(child);
    account_check(process_root);
    check(process_count() == 1);
    return 0;
}
