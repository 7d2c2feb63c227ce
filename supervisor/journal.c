/* SPDX-License-Identifier: BSD-2-Clause
 * What people read about deaths. Formatting and writing a line costs more than a restart's whole
 * decision, so entries are noted when they happen and written with the other chores. A full journal
 * is written at once: no line is lost. */
#include "shell.h"

struct entry {
    uint64_t rip, address, code, until_ns, at_ns;
    uint32_t service, generation;
    uint32_t death; /* enum cause; CAUSE_NONE: no death, a state entered */
    uint32_t state;
    uint32_t next_generation;
    enum give_up_reason reason;
    bool spare;                /* of a process that stood by */
    uint32_t version, program; /* enum mark: no death, another version */
    uint32_t group;            /* 1 + that which failed: no death */
};
#define ENTRIES (JOURNAL_BYTES / (uint32_t)sizeof(struct entry))

const char *cause_text(uint32_t cause)
{
    static const char *const text[] = {
#define CAUSE(name, number, text) [number] = text,
#include "abi/faults.def"
#undef CAUSE
    };
    return cause < sizeof(text) / sizeof(text[0]) && text[cause] ? text[cause] : "unknown cause";
}

static const char *reason_text(enum give_up_reason reason)
{
    static const char *const text[] = {
#define REASON(name, number, text) [number] = text,
#include "abi/reasons.def"
#undef REASON
    };
    return reason < REASONS ? text[reason] : "unknown reason";
}

/* Kept: a line is lost only with a supervisor that falls before it is noted, and comes twice if one falls while writing. */
static void note(uint32_t i, struct entry entry)
{
    if (shell.journal_noted == ENTRIES) journal_flush();
    entry.service = i;
    entry.at_ns = clock_ns();
    shell.journal[shell.journal_noted] = entry;
    __atomic_store_n(&shell.journal_noted, shell.journal_noted + 1, __ATOMIC_SEQ_CST);
    shell.quiet_ns = entry.at_ns + CHORE_DELAY_NS;
    chores_by(shell.quiet_ns);
}

/* Called when the core has decided: the state says what follows. */
void journal_death(uint32_t i, uint32_t generation, const struct process_event *event)
{
    const struct supervised *s = &shell.state->service[i];
    if (event->cause == CAUSE_UPDATED) return;  /* said with the new version */
    if (event->cause == CAUSE_SHUTDOWN) return; /* the last line says that all have ended */
    /* Given up, and with it the whole system: nothing is in a state any more. */
    bool last = s->state == SERVICE_STATE_DONE && s->reason != REASON_NONE;
    note(i, (struct entry){.generation = generation,
                           .death = event->cause,
                           .rip = event->rip,
                           .address = event->address,
                           .code = event->code,
                           .state = last ? SERVICE_STATE_GAVE_UP : s->state,
                           .next_generation = s->generation,
                           .reason = s->reason,
                           .until_ns = s->deadline_ns});
}

void journal_spare(uint32_t i, const struct process_event *event)
{
    note(i, (struct entry){.generation = TAG_GENERATION(event->tag),
                           .death = event->cause,
                           .rip = event->rip,
                           .address = event->address,
                           .code = event->code,
                           .spare = true});
}

void journal_version(uint32_t i, enum mark what)
{
    note(i, (struct entry){.version = what, .program = shell.state->service[i].program});
}

void journal_group(uint32_t i, uint32_t group)
{
    note(i, (struct entry){.group = 1 + group, .reason = shell.state->group[group].reason});
}

void journal_state(uint32_t i, const struct supervisor_action *report)
{
    if (report->cause != CAUSE_DEPENDENCY) return; /* follows from a death: said with it */
    note(i, (struct entry){.state = report->value});
}

static void what_follows(const struct entry *e, char *out, size_t size)
{
    switch (e->state) {
    case SERVICE_STATE_STARTING: format(out, size, "restarting, generation %u", e->next_generation); break;
    case SERVICE_STATE_RUNNING:
        format(out, size, "back at its last snapshot, generation %u", e->next_generation);
        break;
    case SERVICE_STATE_BACKOFF:
        format(out, size, "restarting in %lu ms", (e->until_ns - e->at_ns) / 1000000);
        break;
    case SERVICE_STATE_GAVE_UP: format(out, size, "giving up"); break;
    case SERVICE_STATE_ABSENT: format(out, size, "its device is not there"); break;
    case SERVICE_STATE_DONE: format(out, size, "not restarted"); break;
    default: format(out, size, "waiting for what it depends on"); break;
    }
}

/* Who gave up may have left memory that a device can still write: said once, and shown by `mem` from then on. */
static void write_quarantine(const struct entry *e, const char *name)
{
    struct system_info info;
    if (e->state != SERVICE_STATE_GAVE_UP || sys_system_info(&info) != OK || !info.quarantined_pages) return;
    log_line("supervisor: with %s given up, %lu pages stay in quarantine until a device confirms its reset",
             name, info.quarantined_pages);
}

/* Why the ladder ended here, and what follows. */
static void write_gave_up(const struct entry *e, const char *name, const char *detail)
{
    const struct manifest_service *m = &shell.manifest->service[e->service];
    char why[96], follows[64];
    switch (e->reason) {
    case REASON_INTENSITY:
        format(why, sizeof(why), "more than %u deaths in %u ms", m->intensity, m->period_ms);
        break;
    case REASON_BREAKER: format(why, sizeof(why), "the same crash %u times%s", m->breaker, detail); break;
    default: format(why, sizeof(why), "%s", reason_text(e->reason)); break;
    }
    if (m->on_give_up == GIVE_UP_REBOOT)
        format(follows, sizeof(follows), "the machine starts anew");
    else
        format(follows, sizeof(follows), "clear with svc reset %s", name);
    log_line("supervisor: gave up %s: %s; %s", name, why, follows);
}

static void write_death(const struct entry *e, const char *name)
{
    char detail[64] = "", follows[64];
    if (e->death > CAUSE_NONE && e->death < CAUSE_EXIT)
        format(detail, sizeof(detail), " at rip %p", (void *)e->rip);
    if (e->death == CAUSE_PAGE_FAULT)
        format(detail, sizeof(detail), " at rip %p, address %p", (void *)e->rip, (void *)e->address);
    if (e->death == CAUSE_DMA_FAULT) format(detail, sizeof(detail), ", I/O address 0x%lx", e->address);
    if (e->death == CAUSE_EXIT) format(detail, sizeof(detail), ", code %lu", e->code);
    if (e->spare) {
        log_line("supervisor: the spare of %s died, generation %u (%s%s)", name, e->generation,
                 cause_text(e->death), detail);
        return;
    }
    what_follows(e, follows, sizeof(follows));
    if (e->death == CAUSE_REFUSED) {
        log_line("supervisor: %s is refused: %s", name, cause_text(e->death));
        return;
    }
    log_line("supervisor: %s died, generation %u (%s%s), %s", name, e->generation, cause_text(e->death),
             detail, follows);
    if (e->state != SERVICE_STATE_GAVE_UP) return;
    write_gave_up(e, name, detail);
    write_quarantine(e, name);
}

static void write_version(const struct entry *e, const char *name)
{
    const char *program = program_name(e->service, e->program);
    const char *from = program_is_loaded(e->program) ? PROGRAM_FROM_FILE : "";
    if (e->version == MARK_UPDATED)
        log_line("supervisor: %s is %s%s now, on probation for %u ms", name, from, program,
                 shell.manifest->service[e->service].probation_ms);
    else
        log_line("supervisor: the update of %s did not hold: it is %s%s, as before", name, from, program);
}

static void write_group(const struct entry *e, const char *name)
{
    const struct manifest_group *group = &shell.manifest->group[e->group - 1];
    log_line("supervisor: group %s failed, for %s: %s; restarted within %s", group->name, name,
             reason_text(e->reason), shell.manifest->group[group->inside - 1].name);
}

static void write_state(const struct entry *e, const char *name)
{
    if (e->state == SERVICE_STATE_ABSENT)
        log_line("supervisor: %s is absent, with what it depends on", name);
    else
        log_line("supervisor: gave up %s, with what it depends on", name);
}

void journal_flush(void)
{
    for (; shell.journal_written < shell.journal_noted; shell.journal_written++) {
        const struct entry *e = &shell.journal[shell.journal_written];
        const char *name = shell.manifest->service[e->service].name;
        if (e->version)
            write_version(e, name);
        else if (e->group)
            write_group(e, name);
        else if (e->death != CAUSE_NONE)
            write_death(e, name);
        else
            write_state(e, name);
    }
    shell.journal_noted = 0;
    shell.journal_written = 0;
}
