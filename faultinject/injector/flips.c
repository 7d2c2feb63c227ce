/* SPDX-License-Identifier: BSD-2-Clause
 * Turns bits of a service that goes on running: in its data, heap and stack, and in its program, of which it gets a copy
 * of its own (text.h). At any moment, whatever it is doing; whether anybody notices is not looked at here.
 * Output: one {"flips":...} line: how many were made, by area, and the supervisor's count of deaths. */
#include "flips.h"
#include "abi/protocol.h"
#include "abi/syscall.h"
#include "clock.h"
#include "strike.h"
#include "target.h"
#include "text.h"

static uint64_t random_state, made[FLIP_AREAS], cells;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 2685821657736338717ul >> 16;
}

/* Of 16 flips: text 1, data 2, stack 4, heap 9. */
static enum flip_area area_choose(void)
{
    uint64_t n = random_next() % 16;

    return n < 1 ? FLIP_TEXT : n < 3 ? FLIP_DATA : n < 7 ? FLIP_STACK : FLIP_HEAP;
}

static bool flip(handle_t inject, handle_t process, const struct flips *f)
{
    enum flip_area area = area_choose();
    uint64_t base = f->area[area].base, at = base + random_next() % f->area[area].bytes;
    uint64_t bit = 1ul << random_next() % 8;
    bool cell = area != FLIP_TEXT && random_next() % 100 < f->cells_pct;
    struct sys_result old = sys_inject(inject, process, INJECT_PEEK, at & ~7ul, 0, 0);
    uint64_t value = (old.value >> 8 * (at % 8) & 0xff) ^ bit;

    if (old.status != OK) return false;
    status_t status = sys_inject(inject, process, INJECT_POKE, at, value, cell ? 1 | INJECT_CELL : 1).status;
    if (status == E_ADDRESS &&
        area == FLIP_TEXT) { /* another process than the last time: its text is shared yet */
        text_drop();
        status = text_own(inject, process, base & ~(PAGE_SIZE - 1), PAGES_FOR(f->area[area].bytes));
        if (status == OK) status = sys_inject(inject, process, INJECT_POKE, at, value, 1).status;
    }
    made[area] += status == OK;
    cells += status == OK && cell;
    return status == OK;
}

void flips_run(handle_t inject, const struct flips *f)
{
    uint32_t service = target_find(f->service);
    struct message m = {.info = INFO_REPLAYABLE};
    uint64_t refused = 0;
    handle_t process;

    random_state = f->seed * 2 + 1;
    memset(made, 0, sizeof(made));
    cells = 0;
    for (uint64_t n = 0; n < f->count && service != TARGET_NONE; n++) {
        sleep_us(f->gap_us / 2 + random_next() % (f->gap_us + 1));
        if (target_process(service, &process) != OK) continue; /* being started anew */
        refused += !flip(inject, process, f);
        (void)sys_cap_delete(process); /* gone already, if the process is */
    }
    bool settled = settle();
    if (service_call(cap_find("supervisor"), SUPERVISOR_TOTALS, &m) != OK) settled = false;
    log_line("{\"flips\":{\"data\":%lu,\"heap\":%lu,\"stack\":%lu,\"text\":%lu,\"cells\":%lu,\"refused\":%lu,"
             "\"settled\":%u,\"deaths\":%lu,\"gave_up\":%lu}}",
             made[FLIP_DATA], made[FLIP_HEAP], made[FLIP_STACK], made[FLIP_TEXT], cells, refused, settled,
             m.w[2], m.w[4]);
}
