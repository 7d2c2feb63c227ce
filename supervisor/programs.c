/* SPDX-License-Identifier: BSD-2-Clause
 * Which program a service is, and how it becomes another: of the system image, or from a file. A file is brought by a
 * service that can read it (services/files), in messages, into memory of the supervisor's own: nobody can take that away
 * or change it, and it is there for every restart to come, also after the supervisor's own fall. */
#include "shell.h"

#define DATA_BYTES ((MESSAGE_WORDS - 1) * 8u) /* of one LOAD_DATA */

static uint32_t files(void) { return shell.bundle->count; }

/* NULL: the program is no file that was loaded. */
static const struct loaded *loaded_of(uint32_t program)
{
    return program > files() && program <= files() + LOADED_SLOTS ? &shell.loaded[program - files() - 1]
                                                                  : NULL;
}

bool program_is_loaded(uint32_t program) { return loaded_of(program) != NULL; }

const char *program_name(uint32_t i, uint32_t program)
{
    const struct loaded *l = loaded_of(program);
    if (l) return l->name;
    return program ? shell.bundle->entry[program - 1].name : shell.manifest->service[i].image;
}

bool program_find(uint32_t i, uint32_t program, struct program *out)
{
    const struct loaded *l = loaded_of(program);
    struct bundle_file file = shell.child[i].image;
    if (l) {
        *out = (struct program){l->memory, 0, l->bytes};
        return loaded_whole(l);
    }
    if (program && bundle_file_at(shell.bundle, program - 1, &file) != OK) return false;
    *out = (struct program){shell.image, file.offset, file.length};
    return true;
}

/* --- Becoming another ------------------------------------------------------------------------------------------ */
static status_t update_possible(uint32_t i)
{
    const struct supervised *s = &shell.state->service[i];
    if (i == 0) return E_NOT_FOUND;
    if (s->updating) return E_BUSY;
    if (s->state != SERVICE_STATE_RUNNING) return E_STATE;
    return shell.manifest->service[i].flags & SERVICE_KEPT ? E_UNSUPPORTED
                                                           : OK; /* what it kept is of its program */
}

static void update(uint32_t i, uint32_t program)
{
    happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_UPDATE, .service = i, .code = program});
}

void on_update(struct message *m)
{
    char program[BUNDLE_NAME_MAX];
    uint32_t i = named(m);
    _Static_assert(sizeof(program) == 3 * sizeof(m->w[0]), "a name travels in three words");
    memcpy(program, &m->w[3], sizeof(program));
    program[sizeof(program) - 1] = 0;
    uint32_t number = bundle_number(shell.bundle, program);
    status_t status = update_possible(i);
    if (status != E_NOT_FOUND && number == BUNDLE_NONE) status = E_IMAGE;
    bool as_by_manifest = strncmp(program, shell.manifest->service[i].image, sizeof(program)) == 0;
    answer(m, status);
    if (status == OK) update(i, as_by_manifest ? 0 : number + 1);
}

void on_program(struct message *m)
{
    uint64_t i = m->w[0];
    if (i >= shell.manifest->service_count) {
        answer(m, E_NOT_FOUND);
        return;
    }
    const struct supervised *s = &shell.state->service[i];
    const char *name = program_name((uint32_t)i, s->program);
    memset(m->w, 0, sizeof(m->w));
    memcpy(m->w, name, strlen(name));
    m->w[3] = (uint64_t)s->on_probation | (uint64_t)s->updating << 1 | (uint64_t)s->rolled_back << 2 |
              (uint64_t)program_is_loaded(s->program) << 3;
    answer(m, OK);
}

/* --- Files ------------------------------------------------------------------------------------------------------- */
/* The place is written down last: what a fall leaves without one is unmade with its mapping (again.c). */
static status_t memory_for(struct loaded *l)
{
    void *at;
    if (l->at) return OK;
    struct sys_result r = sys_memory_create(0, PAGES_FOR(LOADED_BYTES_MAX), MEMORY_CONTIGUOUS);
    if (r.status != OK) return r.status;
    l->memory = r.value;
    status_t status = map_new(l->memory, PAGES_FOR(LOADED_BYTES_MAX), RIGHT_READ | RIGHT_WRITE, &at);
    if (status != OK) {
        (void)sys_cap_delete(l->memory);
        l->memory = 0;
        return status;
    }
    __atomic_store_n(&l->at, at, __ATOMIC_SEQ_CST);
    return OK;
}

void on_load(struct message *m)
{
    char name[MANIFEST_NAME_MAX];
    uint64_t bytes = m->w[3];
    tag_t caller = (tag_t)m->badge;
    if (bytes == 0 || bytes > LOADED_BYTES_MAX || m->w[0] == 0) {
        answer(m, E_ARGUMENT);
        return;
    }
    uint32_t n = loaded_choose(shell.loaded, shell.state, files() + 1, caller, caller_is);
    if (n == LOADED_NONE) {
        answer(m, E_NO_SLOTS);
        return;
    }
    status_t status = memory_for(&shell.loaded[n]);
    memcpy(name, m->w, sizeof(name));
    journal_flush(); /* a line in it may be about what was in this slot */
    if (status == OK) loaded_begin(shell.loaded, n, caller, name, (uint32_t)bytes);
    answer(m, status);
}

void on_load_data(struct message *m)
{
    uint32_t n = loaded_by(shell.loaded, (tag_t)m->badge), bytes = DATA_BYTES;
    uint64_t offset = m->w[0];
    if (n == LOADED_NONE || loaded_in_use(shell.state, files() + 1 + n)) {
        answer(m, E_STATE);
        return;
    }
    struct loaded *l = &shell.loaded[n];
    if (offset < l->bytes && l->bytes - offset < bytes) bytes = (uint32_t)(l->bytes - offset);
    answer(m, loaded_take(l, offset, &m->w[1], bytes) ? OK : E_ARGUMENT);
}

/* What the kernel would say of it, it says now: a process of this service is made of it, and unmade. */
void on_update_loaded(struct message *m)
{
    uint32_t i = named(m), n = loaded_by(shell.loaded, (tag_t)m->badge);
    status_t status = update_possible(i);
    if (status == OK && (n == LOADED_NONE || !loaded_whole(&shell.loaded[n]))) status = E_ARGUMENT;
    if (status == OK) status = spawn_try(i, files() + 1 + n);
    answer(m, status);
    if (status == OK) update(i, files() + 1 + n);
}
