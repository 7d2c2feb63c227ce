/* SPDX-License-Identifier: BSD-2-Clause
 * The supervisor's messages (abi/protocol.def). The badge is the caller's tag: who asks is not said
 * by the message but by the capability it came through. A badge of an older incarnation is refused.
 */
#include "shell.h"

static uint32_t count(void) { return shell.manifest->service_count; }

#define FALLS_MAX \
    5u /* a request that was in hand so often is answered with E_POISONED: the ladder's first rung */

void answer(struct message *m, status_t status)
{
    m->info = INFO_MAKE(status, 0);
    shell.request.status = status;
}

bool caller_is(tag_t tag)
{
    uint32_t i = TAG_SERVICE(tag);
    if (i == 0 || i >= count()) return false;
    return supervisor_state_live(shell.state->service[i].state) && shell.child[i].born == TAG_GENERATION(tag);
}

/* Of a caller that is: its badge is that of the process, which a kept service keeps. */
static uint32_t generation_of(tag_t tag) { return shell.state->service[TAG_SERVICE(tag)].generation; }

static bool caller_may(tag_t tag, uint32_t flag)
{
    return (shell.manifest->service[TAG_SERVICE(tag)].flags & flag) != 0;
}

uint32_t named(const struct message *m)
{
    char name[MANIFEST_NAME_MAX];
    _Static_assert(sizeof(name) == 3 * sizeof(m->w[0]), "a name travels in three words");
    memcpy(name, m->w, sizeof(name));
    name[sizeof(name) - 1] = 0;
    uint32_t i = manifest_service_find(shell.manifest, name);
    return i == MANIFEST_NONE ? 0 : i;
}

static uint64_t ns_from_ticks(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * shell.ns_per_tick) >> 32);
}

void ready_note(uint32_t i)
{
    struct child *child = &shell.child[i];
    if (shell.state->service[i].state != SERVICE_STATE_STARTING || !child->death_tsc) return;
    child->recovery_ns = ns_from_ticks(rdtsc() - child->death_tsc);
    child->death_tsc = 0;
}

static void on_ready(struct message *m, tag_t caller)
{
    uint32_t i = TAG_SERVICE(caller);
    ready_note(i);
    answer(m, OK);
    happen(&(struct supervisor_event){
        .kind = SUPERVISOR_EVENT_READY, .service = i, .generation = generation_of(caller)});
    (void)sys_trace_mark(shell.trace, MARK_READY, i); /* a trace that refuses stops nobody */
}

static void on_list(struct message *m)
{
    uint64_t i = m->w[0];
    if (i >= count()) {
        answer(m, E_NOT_FOUND);
        return;
    }
    const struct manifest_service *entry = &shell.manifest->service[i];
    const struct supervised *s = &shell.state->service[i];
    memcpy(m->w, entry->name, 3 * sizeof(m->w[0]));
    m->w[3] = s->state | s->spare << 8 | (uint64_t)entry->flags << 32;
    m->w[4] = s->generation;
    m->w[5] = s->restarts;
    bool gave_up = s->state == SERVICE_STATE_GAVE_UP;
    m->w[6] = gave_up ? entry->intensity | (uint64_t)entry->period_ms << 32 : shell.child[i].recovery_ns;
    m->w[7] = s->cause | (uint64_t)(gave_up ? s->reason : REASON_NONE) << 32;
    answer(m, OK);
}

static void on_kill(struct message *m)
{
    uint32_t i = named(m);
    if (i == 0) {
        answer(m, E_NOT_FOUND);
        return;
    }
    enum service_state state = shell.state->service[i].state;
    bool serving = state == SERVICE_STATE_STARTING || state == SERVICE_STATE_RUNNING;
    answer(m, serving ? OK : E_STATE);
    happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_KILL, .service = i});
}

static void on_reset(struct message *m)
{
    uint32_t i = named(m);
    if (i == 0) {
        answer(m, E_NOT_FOUND);
        return;
    }
    enum service_state state = shell.state->service[i].state;
    bool down =
        state == SERVICE_STATE_GAVE_UP || state == SERVICE_STATE_ABSENT || state == SERVICE_STATE_DONE;
    answer(m, down ? OK : E_STATE);
    if (down) shell.child[i].death_tsc = 0; /* how long it was down is the operator's doing */
    happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = i});
}

static void on_group(struct message *m)
{
    uint64_t g = m->w[0];
    if (g >= shell.manifest->group_count) {
        answer(m, E_NOT_FOUND);
        return;
    }
    const struct manifest_group *group = &shell.manifest->group[g];
    const struct group_state *s = &shell.state->group[g];
    memcpy(m->w, group->name, 3 * sizeof(m->w[0]));
    m->w[3] = s->failures | (uint64_t)group->strategy << 32 | (uint64_t)s->gave_up << 40;
    m->w[4] = group->inside;
    m->w[5] = group->intensity | (uint64_t)group->period_ms << 32;
    m->w[6] = s->last | (uint64_t)s->reason << 32;
    answer(m, OK);
}

static void on_complaint(struct message *m)
{
    if (m->w[0] == 0 || m->w[0] >= count() ||
        (m->w[2] != CAUSE_STALLED && m->w[2] != CAUSE_PROTOCOL && m->w[2] != CAUSE_LOST_IRQ)) {
        answer(m, E_ARGUMENT);
        return;
    }
    if (m->w[2] == CAUSE_STALLED && !watch_hangs((uint32_t)m->w[0])) {
        answer(m, E_BUSY);
        return;
    }
    struct supervisor_event complaint = {.kind = SUPERVISOR_EVENT_COMPLAINT,
                                         .service = (uint32_t)m->w[0],
                                         .generation = (uint32_t)m->w[1],
                                         .cause = (enum cause)m->w[2]};
    answer(m, OK);
    happen(&complaint);
}

static void on_device(struct message *m)
{
    uint64_t i = m->w[0];
    if (i == 0 || i >= count() || m->w[1] > 1) {
        answer(m, E_ARGUMENT);
        return;
    }
    shell.child[i].death_tsc = 0; /* how long it was down is the doing of whoever pulls and plugs */
    answer(m, OK);
    happen(
        &(struct supervisor_event){.kind = SUPERVISOR_EVENT_DEVICE, .service = (uint32_t)i, .code = m->w[1]});
}

static void on_process(struct message *m)
{
    uint64_t i = m->w[0];
    if (i >= count() || (i != 0 && shell.child[i].process == 0)) {
        answer(m, i >= count() ? E_NOT_FOUND : E_STATE);
        return;
    }
    if (i == 0) shell.child[0].inject = cap_find("self");
    struct child *child = &shell.child[i];
    if (child->inject == 0) {
        struct sys_result r = sys_cap_derive(child->process, RIGHT_INJECT | RIGHT_GRANT, 0);
        if (r.status != OK) {
            answer(m, r.status);
            return;
        }
        child->inject = r.value;
    }
    m->w[0] = TAG_MAKE(i, shell.state->service[i].generation);
    m->w[7] = child->inject;
    m->info = INFO_MAKE(OK, 1);
}

static void on_stop(struct message *m)
{
    if (m->w[0] != SYSTEM_POWER_OFF && m->w[0] != SYSTEM_REBOOT) {
        answer(m, E_ARGUMENT);
        return;
    }
    answer(m, OK);
    happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_STOP, .code = m->w[0]});
}

static void on_info(struct message *m)
{
    uint64_t i = m->w[0];
    struct process_info info;
    if (i >= count()) {
        answer(m, E_NOT_FOUND);
        return;
    }
    if (i != 0 && shell.child[i].process == 0) {
        answer(m, E_STATE);
        return;
    }
    status_t status = sys_process_info(shell.child[i].process, &info); /* [0]: 0, the supervisor itself */
    if (status == OK) {
        m->w[0] = info.used_pages;
        m->w[1] = info.quota_pages;
        m->w[2] = info.handles;
        m->w[3] = ns_from_ticks(info.cpu_tsc);
        m->w[4] = info.priority;
        m->w[5] = info.pid;
    }
    answer(m, status);
}

static void on_totals(struct message *m)
{
    bury_all(); /* so that every death so far is counted */
    m->w[0] = shell.leaked_pages;
    m->w[1] = 1 + supervisor_live(shell.state);
    m->w[2] = shell.state->deaths;
    m->w[3] = shell.state->restarts;
    m->w[4] = shell.state->in_state[SERVICE_STATE_GAVE_UP];
    answer(m, OK);
}

static void on_census(struct message *m)
{
    struct process_info info;
    uint64_t sum[5] = {0}, room = 0;
    bury_all();
    for (uint32_t i = 0; i < count(); i++) {
        if (i != 0 && shell.child[i].process == 0) continue;
        if (sys_process_info(shell.child[i].process, &info) != OK) continue; /* died, and that is queued */
        const uint64_t own[5] = {info.used_pages, info.handles, info.threads, info.mappings, info.objects};
        for (uint32_t n = 0; n < 5; n++) sum[n] += own[n];
        room += info.room_pages;
    }
    memcpy(m->w, sum, sizeof(sum));
    m->w[5] = shell.leaked_pages;
    m->w[6] = room;
    answer(m, OK);
}

/* What a caller must hold, by its manifest, for each label. 0: everybody may. */
static uint32_t authority(uint16_t label)
{
    switch (label) {
    case SUPERVISOR_KILL:
    case SUPERVISOR_RESET:
    case SUPERVISOR_UPDATE:
    case SUPERVISOR_LOAD:
    case SUPERVISOR_LOAD_DATA:
    case SUPERVISOR_UPDATE_LOADED:
    case SUPERVISOR_STOP: return SERVICE_CONTROL;
    case SUPERVISOR_PROCESS:
    case SUPERVISOR_CENSUS: return SERVICE_INJECT; /* its cost grows with the system */
    case SUPERVISOR_COMPLAINT: return SERVICE_PRIVILEGED_RECOVERY;
    case SUPERVISOR_DEVICE: return SERVICE_ROOT;
    default: return 0;
    }
}

/* Capabilities that came with a request are not wanted: they must not fill the table. */
static void drop_caps(const struct message *m)
{
    for (uint32_t n = INFO_CAPS(m->info), i = MESSAGE_WORDS - n; i < MESSAGE_WORDS; i++)
        if (m->w[i]) (void)sys_cap_delete(m->w[i]);
}

/* Answered when it is taken; at once if that was faster. */
static bool on_standby(struct message *m, tag_t caller)
{
    uint32_t i = TAG_SERVICE(caller);
    struct child *child = i > 0 && i < count() ? &shell.child[i] : NULL;
    if (!child || !child->spare || child->spare_generation != TAG_GENERATION(caller)) {
        answer(m, caller_is(caller) ? OK : E_RIGHTS);
        return true;
    }
    struct sys_result r = sys_reply_save();
    if (r.status != OK) {
        answer(m, r.status);
        return true;
    }
    child->spare_call = r.value;
    (void)sys_trace_mark(shell.trace, MARK_STANDBY, i); /* a trace that refuses stops nobody */
    happen(&(struct supervisor_event){
        .kind = SUPERVISOR_EVENT_STANDBY, .service = i, .generation = TAG_GENERATION(caller)});
    return false;
}

static bool dispatch(struct message *m)
{
    tag_t caller = (tag_t)m->badge;
    uint16_t label = INFO_LABEL(m->info);
    uint32_t needed = authority(label);
    if (!caller_is(caller) || (needed && !caller_may(caller, needed))) {
        answer(m, E_RIGHTS);
        return true;
    }
    switch (label) {
    case SUPERVISOR_READY: on_ready(m, caller); break;
    case SUPERVISOR_LIST: on_list(m); break;
    case SUPERVISOR_KILL: on_kill(m); break;
    case SUPERVISOR_COMPLAINT: on_complaint(m); break;
    case SUPERVISOR_DEVICE: on_device(m); break;
    case SUPERVISOR_PROCESS: on_process(m); break;
    case SUPERVISOR_RESET: on_reset(m); break;
    case SUPERVISOR_STOP: on_stop(m); break;
    case SUPERVISOR_UPDATE: on_update(m); break;
    case SUPERVISOR_PROGRAM: on_program(m); break;
    case SUPERVISOR_LOAD: on_load(m); break;
    case SUPERVISOR_LOAD_DATA: on_load_data(m); break;
    case SUPERVISOR_UPDATE_LOADED: on_update_loaded(m); break;
    case SUPERVISOR_GROUP: on_group(m); break;
    case SUPERVISOR_INFO: on_info(m); break;
    case SUPERVISOR_TOTALS: on_totals(m); break;
    case SUPERVISOR_CENSUS: on_census(m); break;
    default: answer(m, E_UNSUPPORTED); break;
    }
    return true;
}

/* It was in hand when a supervisor fell. */
static bool is_again(const struct message *m)
{
    const struct request *r = &shell.request;
    return (m->info & INFO_REPLAYED) && r->judged && r->badge == m->badge &&
           INFO_LABEL(r->info) == INFO_LABEL(m->info) && memcmp(r->w, m->w, sizeof(m->w)) == 0;
}

bool serve(struct message *m)
{
    struct request *r = &shell.request;
    drop_caps(m);
    if (INFO_LABEL(m->info) == SUPERVISOR_STANDBY)
        return on_standby(m, (tag_t)m->badge); /* as often as it comes */
    bool again = is_again(m);
    if (again && (r->done || r->falls >= FALLS_MAX)) {
        if (!r->done)
            log_line("supervisor: request %u of service %u is poisoned", INFO_LABEL(m->info),
                     TAG_SERVICE((tag_t)m->badge));
        m->info = INFO_MAKE(r->done ? r->status : E_POISONED, 0);
        return true;
    }
    uint32_t falls = again ? r->falls : 0;
    r->done = false; /* while it changes, it is not yet in hand, whatever it looks like */
    __atomic_store_n(&r->judged, true, __ATOMIC_SEQ_CST);
    r->badge = m->badge;
    r->info = m->info;
    memcpy(r->w, m->w, sizeof(r->w));
    r->falls = falls;
    r->steps = shell.twin.steps;
    __atomic_store_n(&r->judged, false, __ATOMIC_RELEASE);
    return dispatch(m);
}
