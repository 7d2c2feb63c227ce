/* SPDX-License-Identifier: BSD-2-Clause
 * The mechanisms. After each, the target has died of the fault, or it is known to live and to serve, or to live and
 * not to serve. One that lives with a fault in it is ended by an operator's kill, after MARK_CLEANED: the next
 * trial begins with a target that nothing was done to. */
#include "strike.h"
#include "abi/protocol.h"
#include "abi/trace.h"
#include "changes.h"
#include "clock.h"
#include "corrupt.h"
#include "gadgets.h"
#include "text.h"
#include "view.h"

#define POLL_US           1000u /* rare enough to leave the recovery alone */
#define QUICK_POLL_US     100u
#define DETECT_MS         1500u /* from strike to death, of a fault that must kill: watchdogs are far shorter */
#define SETTLE_MS         5000u
#define GARBAGE_MASKED_MS 40u /* nobody noticed for this long: the garbage was overwritten in time */
#define SERVE_MS          4000u /* then its clients must get all that they wait for: recovery's patience is 1.6 s */
#define NO_SERVICE        4095u /* the largest index a tag can hold; no manifest has so many */
#define CALLS_A_ROUND     16u   /* to a server that has nothing to do by itself */
#define BREAKPOINT        0xccu

static handle_t inject, trace, gadgets;
static const uint64_t no_parameters[GADGET_PARAMETERS];

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

status_t strike_open(handle_t inject_handle, handle_t trace_handle)
{
    inject = inject_handle;
    trace = trace_handle;
    return gadgets_make(no_parameters, &gadgets);
}

bool settle(void)
{
    uint64_t deadline = in_ms(SETTLE_MS);

    while (before(deadline)) {
        if (targets_settled()) return true;
        sleep_us(POLL_US);
    }
    return false;
}

/* --- Looking at the target --------------------------------------------------------------------------- */

bool strike_died(const struct trial *t)
{
    struct target now;

    return target_read(t->index, &now) != OK || now.generation != t->before.generation ||
           now.state != SERVICE_STATE_RUNNING;
}

/* One call that makes a server do one thing; false: it failed. It outlives the server. */
static bool call_once(const char *service, uint64_t seed, uint32_t *wrong)
{
    if (is(service, "virtio_blk")) {
        struct message one = {0};
        return service_call(cap_find("workload"), WORKLOAD_ONE, &one) == OK;
    }
    bool pci = is(service, "pci"), supervisor = is(service, "supervisor"), recovery = is(service, "recovery");
    bool echo = !pci && !supervisor && !recovery;
    uint16_t label = pci ? PCI_LIST : supervisor ? SUPERVISOR_LIST : recovery ? RECOVERY_STATUS : ECHO_ECHO;
    handle_t endpoint = cap_find(service);
    struct message m = {.info = INFO_REPLAYABLE};

    for (uint64_t i = 0; echo && i < MESSAGE_WORDS; i++) m.w[i] = (seed + i) * 0x9e3779b97f4a7c15ul;
    if (endpoint == 0 || service_call(endpoint, label, &m) != OK) return false;
    for (uint64_t i = 0; echo && i < MESSAGE_WORDS; i++)
        if (m.w[i] != (seed + i) * 0x9e3779b97f4a7c15ul) ++*wrong;
    return true;
}

uint32_t press(const char *service, uint64_t seed)
{
    uint32_t wrong = 0;

    if (is(service, "virtio_blk")) return 0; /* it has work enough, if its client is to have any */
    for (uint32_t i = 0; i < CALLS_A_ROUND; i++)
        if (!call_once(service, seed, &wrong)) break; /* the poll finds out why */
    return wrong;
}

static bool await_death(const struct trial *t, struct outcome *o, uint64_t deadline_ns)
{
    while (before(deadline_ns)) {
        o->wrong += press(t->service, t->seed);
        if (strike_died(t)) return true;
        sleep_us(POLL_US);
    }
    return false;
}

/* The same, of one that may live on: most die soon, and nothing else is to happen while they recover; after half the time
 * the next order may come in. */
static bool lives(const struct trial *t, struct outcome *o)
{
    uint64_t half = in_ms(t->watch_ms / 2), deadline = in_ms(t->watch_ms);

    while (before(deadline)) {
        o->wrong += press(t->service, t->seed);
        if (strike_died(t)) return false;
        if (before(half))
            sleep_us(POLL_US);
        else
            sleep_listening_us(POLL_US);
    }
    return true;
}

/* Struck, and alive: is what its clients wait for done in the end, by it or by its successor? */
static void watch(const struct trial *t, struct view *v, struct outcome *o)
{
    uint64_t deadline = in_ms(SERVE_MS);

    o->died = !lives(t, o);
    if (o->died) return;
    view_pending(v);
    while (!strike_died(t)) {
        if (view_served(v)) return;
        if (!before(deadline)) {
            o->stuck = true;
            return;
        }
        sleep_us(POLL_US);
    }
    o->died = true;
}

static void clean(const struct trial *t, struct outcome *o)
{
    if (o->died || strike_died(t)) return;
    (void)sys_trace_mark(trace, MARK_CLEANED, t->n);
    if (target_kill(t->service) == OK) o->cleaned = true;
}

/* --- Strikes after which nobody lives ------------------------------------------------------------------- */

static status_t arm(const struct trial *t, handle_t process)
{
    uint64_t gadget = gadget_address(t->code);
    enum inject_action action = is(t->how, "call") ? INJECT_CALL : gadget != 0 ? INJECT_JUMP : INJECT_KILL;
    status_t status = OK;

    if (gadget != 0)
        status =
            sys_inject(inject, process, INJECT_MAP, gadgets, GADGET_BASE, RIGHT_READ | RIGHT_EXECUTE).status;
    if (status != OK) return status;
    status = sys_inject(inject, process, INJECT_ARM, t->instructions, action, gadget).status;
    return status == OK && t->at != 0 ? sys_inject(inject, process, INJECT_AT, t->at, 0, 0).status : status;
}

bool strike_disarm(handle_t process)
{
    struct sys_result r = sys_inject(inject, process, INJECT_DISARM, 0, 0, 0);

    return r.status == OK && r.value == 1;
}

/* Waits for the strike, and if it came, for the death that it must cause. */
static void strike_await(const struct trial *t, handle_t process, struct outcome *o)
{
    o->died = await_death(t, o, in_ms(t->limit_ms));
    if (!o->died) {
        if (strike_disarm(process)) return; /* its target slept all the time */
        o->died = await_death(t, o, in_ms(DETECT_MS));
    }
    o->struck = true;
    if (o->died) return;
    /* Struck, and nobody noticed: that is the result. The campaign goes on after an operator's kill. */
    o->rescued = target_kill(t->service) == OK;
}

status_t strike_next(uint32_t service, uint64_t instructions, uint64_t again)
{
    return sys_inject(inject, 0, INJECT_ARM_TAG, instructions, INJECT_KILL, (uint64_t)service << 32 | again)
        .status;
}

status_t strike_kill(handle_t process, uint64_t instructions)
{
    return sys_inject(inject, process, INJECT_ARM, instructions, INJECT_KILL, 0).status;
}

bool strike_next_forget(void) { return strike_next(NO_SERVICE, 0, 0) == OK; }

void strike_second_disarm(const struct trial *t, struct outcome *o)
{
    handle_t process;

    if (t->calm || is(t->how, "update")) return; /* done */
    if (!strike_next_forget()) o->error = "the second strike cannot be taken back";
    if (target_process(t->index, &process) != OK) return; /* nothing runs that it could be armed on */
    struct sys_result r = sys_inject(inject, process, INJECT_DISARM, 0, 0, 0);
    (void)sys_cap_delete(process); /* gone already, if the process object is */
    o->second = o->struck && r.value == 0;
}

/* A target that lives has the snippets mapped: they go with the memory, and are made anew. */
static void gadgets_new(const uint64_t parameter[GADGET_PARAMETERS], struct outcome *o)
{
    if (sys_cap_delete(gadgets) != OK || gadgets_make(parameter, &gadgets) != OK)
        o->error = "the snippets are gone";
}

/* One call of a target that has nothing else to do: struck on the way, or answered untouched. */
static void strike_calm(const struct trial *t, handle_t process, struct outcome *o)
{
    o->answered = call_once(t->service, t->seed, &o->wrong);
    o->struck = !strike_disarm(process);
    if (!o->struck) return;
    o->died = await_death(t, o, in_ms(DETECT_MS));
    if (!o->died) o->rescued = target_kill(t->service) == OK;
}

static void strike_fatal(const struct trial *t, handle_t process, struct outcome *o)
{
    struct view v;

    view_take(&v, inject, process, t->driver);
    if (is(t->code, "flood")) {
        if (v.sessions == 0) return;
        gadgets_new((uint64_t[GADGET_PARAMETERS]){v.session[0].client, v.session[0].client_bits}, o);
    }
    if (t->second != 0 && strike_next(t->index, t->second, t->again) != OK)
        o->error = "the second strike was refused";
    else if (arm(t, process) != OK)
        o->error = "the strike was refused";
    else if (is(t->how, "recovering") && target_kill(VICTIM) != OK)
        o->error = "nobody died whose recovery it could be struck in";
    else if (t->calm && is(t->how, "recovering"))
        nested_end(t, process, o);
    else if (t->calm)
        strike_calm(t, process, o);
    else
        strike_await(t, process, o);
    bool kept = t->index == 0 || (t->before.flags & SERVICE_KEPT); /* what it had mapped outlives it */
    if ((!o->struck || kept) && gadget_address(t->code) != 0) gadgets_new(no_parameters, o);
}

/* --- Strikes that the target may survive ------------------------------------------------------------------- */

/* A code that goes to memory needs an address: the order's, or a word of what the target has mapped. */
static bool address_choose(const struct trial *t, const struct view *v, uint64_t *out)
{
    bool word = is(t->code, "flip_word") || is(t->code, "store");

    *out = t->a;
    if (!word || t->a > 1) return true;
    uint64_t page = t->a == 0 ? view_heap_page(v, t->end, t->seed) : view_data_page(v, t->seed);
    *out = page + (t->seed >> 12) % (PAGE_SIZE / 8) * 8;
    return page != 0;
}

/* The trace says whether it was struck; here it is asked for in order to wait no longer than needed. */
bool strike_comes(const struct trial *t, handle_t process, struct outcome *o, uint64_t deadline_ns)
{
    while (before(deadline_ns)) {
        uint64_t byte = t->at == 0 ? 0 : sys_inject(inject, process, INJECT_PEEK, t->at, 0, 0).value & 0xff;
        if (strike_died(t) || (t->at != 0 && byte != BREAKPOINT)) return true;
        o->wrong += press(t->service, t->seed);
        sleep_us(QUICK_POLL_US);
    }
    return !strike_disarm(process);
}

static void strike_call(struct trial *t, handle_t process, struct view *v, struct outcome *o)
{
    uint64_t address;

    if (!address_choose(t, v, &address)) return;
    gadgets_new((uint64_t[GADGET_PARAMETERS]){address, t->b}, o);
    if (t->at != 0 && text_own(inject, process, t->text, t->pages) != OK)
        o->error = "the target's text cannot be exchanged";
    else if (arm(t, process) != OK)
        o->error = "the strike was refused";
    else
        o->struck = strike_comes(t, process, o, in_ms(t->at != 0 ? t->limit_ms : t->limit_ms / 10));
    if (o->struck) watch(t, v, o);
}

/* Changed instructions, until one is executed. */
static void strike_text(struct trial *t, handle_t process, struct view *v, struct outcome *o)
{
    if (text_own(inject, process, t->text, t->pages) != OK)
        o->error = "the target's text cannot be exchanged";
    else
        changes_run(inject, process, t, o);
    if (o->struck) watch(t, v, o);
}

static void strike_corrupt(const struct trial *t, struct view *v, struct outcome *o)
{
    uint64_t limit = in_ms(t->limit_ms);
    status_t status = E_NOT_FOUND;

    while (status == E_NOT_FOUND && before(limit)) {
        status = corrupt(t->code, v, t->seed, t->a, &o->poked, &o->in_flight);
        if (status != OK) sleep_us(QUICK_POLL_US);
    }
    o->struck = o->poked != 0;
    if (o->struck) watch(t, v, o);
}

static void strike_checkpoint(const struct trial *t, handle_t process, struct outcome *o)
{
    handle_t recovery;

    if (target_process(target_find("recovery"), &recovery) != OK) {
        o->error = "recovery has no process";
        return;
    }
    status_t status = corrupt_checkpoint(inject, recovery, t->index, t->seed, &o->poked);
    (void)sys_cap_delete(recovery);
    if (status == OK) strike_fatal(t, process, o);
}

static void strike_garbage(const struct trial *t, handle_t process, struct outcome *o)
{
    uint64_t limit = in_ms(t->limit_ms), half = in_ms(t->limit_ms / 2);
    struct garbage garbage = {0};
    status_t status = E_NOT_FOUND;

    while (status == E_NOT_FOUND && before(limit)) {
        status = garbage_strike(inject, process, (uint32_t)t->before.generation, t->seed,
                                before(half) ? 2 : 1, &garbage);
        if (status != OK) sleep_us(QUICK_POLL_US);
    }
    o->poked = garbage.poked;
    o->in_flight = garbage.in_flight;
    if (status != OK) return;
    o->struck = true;
    o->died = await_death(t, o, in_ms(GARBAGE_MASKED_MS));
}

/* --- All of them -------------------------------------------------------------------------------------------- */

static void strike_all(struct outcome *o)
{
    struct target t;

    for (uint32_t i = 1; i < TARGETS_MAX && target_read(i, &t) == OK; i++) {
        if (!(t.flags & SERVICE_DRIVER) || t.state != SERVICE_STATE_RUNNING) continue;
        if (target_kill(t.name) == OK)
            o->struck = o->died = true;
        else
            o->error = "a kill was refused";
    }
}

/* Whatever it does meanwhile is right: it is watched as one that lives with a fault, and needs no end after it. */
static void strike_starve(const struct trial *t, struct view *v, struct outcome *o)
{
    struct message m = {.w = {t->a}};

    o->struck = service_call(cap_find("hog"), HOG_SPIN, &m) == OK;
    if (!o->struck) return;
    sleep_us(t->a);
    watch(t, v, o);
}

bool strike_known(const struct trial *t)
{
    if (is(t->how, "jump") || is(t->how, "call")) return gadget_address(t->code) != 0;
    if (is(t->how, "corrupt")) return corrupt_known(t->code);
    return is(t->how, "kill") || is(t->how, "recovering") || is(t->how, "text") || is(t->how, "checkpoint") ||
           is(t->how, "garbage") || is(t->how, "update") || is(t->how, "all") || is(t->how, "again") ||
           is(t->how, "starve");
}

void strike(struct trial *t, struct outcome *o)
{
    struct view v;
    handle_t process;

    if (is(t->how, "all")) {
        strike_all(o);
        return;
    }
    if (target_process(t->index, &process) != OK) {
        o->error = "the target has no process";
        return;
    }
    view_take(&v, inject, process, t->driver);
    if (is(t->how, "garbage"))
        strike_garbage(t, process, o);
    else if (is(t->how, "update"))
        nested_update(t, process, o);
    else if (is(t->how, "checkpoint"))
        strike_checkpoint(t, process, o);
    else if (is(t->how, "kill") || is(t->how, "jump") || is(t->how, "recovering") || is(t->how, "again"))
        strike_fatal(t, process, o);
    else if (is(t->how, "starve"))
        strike_starve(t, &v, o);
    else {
        if (is(t->how, "call")) strike_call(t, process, &v, o);
        if (is(t->how, "text")) strike_text(t, process, &v, o);
        if (is(t->how, "corrupt")) strike_corrupt(t, &v, o);
        clean(t, o);
    }
    text_drop();
    (void)sys_cap_delete(process); /* gone already, if the process object is */
}
