/* SPDX-License-Identifier: BSD-2-Clause
 * A supervisor on the memory of one that fell, at whatever instruction. In this order:
 *   1. it can hear and be heard again (its notification is bound to its new thread);
 *   2. what the last one had made and not yet written down is found in the capability table: a process that runs as
 *      the core wants is taken over, all else is ended;
 *   3. the core's state is brought between two steps;
 *   4. the core says again what may not have been done (RESUME);
 *   5. deaths that were heard and not told to the core, are told.
 * Each can be ended and begun again. State that cannot be ends in the last rung: the machine starts anew. */
#include "shell.h"

static enum cause own_cause(void)
{
    struct process_info info;
    return sys_process_info(0, &info) == OK ? (enum cause)info.cause : CAUSE_NONE;
}

static void lost(const char *what)
{
    log_line("supervisor: %s after its end (%s): nothing of it is believed, rebooting", what,
             cause_text(own_cause()));
    (void)sys_system(cap_find("root"), SYSTEM_REBOOT);
    fatal("supervisor: the machine does not stop");
}

/* --- What there is -------------------------------------------------------------------------- */
static bool wanted(uint32_t i, tag_t tag)
{
    const struct supervised *s = &shell.state->service[i];
    return supervisor_state_live(s->state) && tag == TAG_MAKE(i, s->generation);
}

static bool spare_wanted(uint32_t i, tag_t tag)
{
    const struct supervised *s = &shell.state->service[i];
    return s->spare != SPARE_NONE && tag == TAG_MAKE(i, s->spare_generation);
}

/* The process that is written down for a service, if it is not the one that the core speaks of, is dead. */
static void recorded(uint32_t i)
{
    struct child *child = &shell.child[i];
    struct process_info info;
    if (!child->process) return;
    caps_mark(child->process);
    if (sys_process_info(child->process, &info) != OK) {
        child->process = child->inject = 0; /* it was being buried */
    } else if (info.state == PROCESS_DEAD && !wanted(i, info.tag)) {
        grave_add(child->process, child->inject);
        child->process = child->inject = 0;
    }
}

static void stray(handle_t h)
{
    struct process_info info;
    if (sys_process_info(h, &info) != OK) {
        (void)sys_cap_delete(h); /* no process, or what the injector was to be given of one */
        return;
    }
    uint32_t i = TAG_SERVICE(info.tag);
    bool made = i > 0 && i < shell.state->count && info.state != PROCESS_CREATED;
    if (made && !shell.child[i].process && wanted(i, info.tag)) {
        shell.child[i].born = TAG_GENERATION(info.tag);
        shell.child[i].process = h;
    } else if (made && !shell.child[i].spare && spare_wanted(i, info.tag)) {
        shell.child[i].spare_generation = TAG_GENERATION(info.tag);
        shell.child[i].spare = h; /* another one of this generation there must not be */
    } else {
        grave_add(h, 0); /* with what is still in it: it was never furnished */
    }
}

static void capabilities_look(void)
{
    const handle_t own[] = {shell.notification, shell.timer, shell.chore_timer, shell.child[0].endpoint};
    for (uint32_t n = 0; n < sizeof(own) / sizeof(own[0]); n++) caps_mark(own[n]);
    for (uint32_t n = 0; n < shell.owns; n++) caps_mark(shell.own[n]);
    for (uint32_t n = 0; n < LOADED_SLOTS; n++)
        caps_mark(shell.loaded[n].at ? shell.loaded[n].memory : 0); /* or it is swept, with a mapping */
    for (uint32_t i = 1; i < shell.manifest->service_count; i++) {
        struct child *child = &shell.child[i];
        recorded(i);
        spare_again(i);
        caps_mark(child->spare);
        caps_mark(child->inject);
        caps_mark(child->endpoint);
        for (uint32_t n = 0; n < child->grants; n++) caps_mark(child->grant[n].source);
    }
    caps_sweep(stray);
    bury_all();
}

/* --- What the core does not know -------------------------------------------------------------- */
/* The events that the kernel still has were told; what is dead all the same, died in front of the last supervisor. */
static void tell(uint32_t i)
{
    const struct supervised *s = &shell.state->service[i];
    struct process_info info = {.cause = CAUSE_SPAWN};
    if (!supervisor_state_live(s->state)) return;
    handle_t process = shell.child[i].process;
    bool known = process && sys_process_info(process, &info) == OK;
    if (known && info.state < PROCESS_DEAD) return;
    child_died(&(struct process_event){.tag = TAG_MAKE(i, s->generation),
                                       .kind = EVENT_DEATH,
                                       .cause = info.cause,
                                       .tsc = info.death_tsc,
                                       .address = info.fault_address,
                                       .rip = info.fault_rip,
                                       .code = info.exit_code,
                                       .process = process});
}

static void judge_request(void)
{
    struct request *r = &shell.request;
    r->falls++;
    if (r->judged) return;
    r->done = r->steps != shell.twin.steps;
    r->judged = true;
}

static void state_look(void)
{
    static const char *const said[] = {[TWIN_WHOLE] = "as it was",
                                       [TWIN_REPAIRED] = "completed: it was within a decision",
                                       [TWIN_DIFFERENT] = "in two versions, of which one is possible"};
    enum twin_found found = twin_recover(&shell.twin, shell.manifest, shell.action,
                                         supervisor_actions_max(shell.manifest->service_count));
    if (found == TWIN_LOST) lost("its state is impossible");
    log_line("supervisor: started again after its end (%s); its state is %s", cause_text(own_cause()),
             said[found]);
}

void resume(bool whole)
{
    uint32_t where;
    if (!whole) lost("what it kept is not its own");
    if (manifest_check(shell.manifest, shell.manifest->size, &where))
        lost("the manifest is not where it was");
    if (sys_bind(shell.notification) != OK) lost("its notification is gone");
    judge_request();
    state_look();
    capabilities_look();
    if (shell.state->phase == PHASE_NEW) happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_BOOT});
    happen(&(struct supervisor_event){
        .kind = SUPERVISOR_EVENT_RESUME, .generation = TAG_GENERATION(startup()->tag), .cause = own_cause()});
    shell.chore_ns = SUPERVISOR_NEVER;
    if (sys_event_bind(shell.notification, SIGNAL_CHILD) != OK) lost("it cannot hear of its children");
    children_hear();
    for (uint32_t i = 1; i < shell.state->count; i++) tell(i);
}
