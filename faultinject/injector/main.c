/* SPDX-License-Identifier: BSD-2-Clause
 * The fault injector: carries out the orders of a campaign, one JSON object a line on COM2, and answers in
 * the kernel log. Owns COM2, the inject capability and nothing else; decides nothing: where, when and
 * what is the plan's (faultinject/plan.py).
 * Invariants: one trial at a time; a trial always ends with one {"trial":...} line, within its limit; no
 * strike stays armed and no process capability is kept after it.
 * What it reports is for orientation; what happened is read from the kernel trace by the host.
 *
 * Orders: hello | rest | start seed | stop | hash | attack seed ms | flood kind ms | measure ms | leaks uncounted
 * kills seed | trial n service how [code instructions delay_us second seed limit_ms]. */
#include "abi/protocol.h"
#include "abi/trace.h"
#include "com2.h"
#include "gadgets.h"
#include "garbage.h"
#include "json.h"
#include "leaks.h"
#include "target.h"

#define BIT_LINE  1ul
#define BIT_TIMER 2ul

#define POLL_US           1000u /* rare enough to leave the recovery alone */
#define GARBAGE_POLL_US   100u
#define LIMIT_MS          300u  /* for a strike to find its target at work */
#define DETECT_MS         1500u /* from strike to death: watchdogs are far shorter */
#define SETTLE_MS         5000u
#define GARBAGE_MASKED_MS 40u   /* nobody noticed for this long: the garbage was overwritten in time */
#define NO_SERVICE        4095u /* the largest index a tag can hold; no manifest has so many */
#define CALLS_A_ROUND     16u   /* to a server that has nothing to do by itself */

struct trial {
    uint64_t n, instructions, delay_us, second, seed, limit_ms;
    const char *service, *how, *code; /* how: faults.MECHANISMS; code: a snippet of gadgets.c */
    uint32_t index;
    struct target before;
};
struct outcome {
    bool struck, second, died, settled, rescued;
    struct garbage garbage;
    const char *error;
};

static handle_t inject, trace, notification, timer, gadgets;

/* --- Time -------------------------------------------------------------------------------------------- */

static uint64_t lines_waiting; /* BIT_LINE, if it came while we waited for the timer */

void sleep_us(uint64_t us)
{
    if (us == 0 || sys_timer_arm(timer, clock_ns() + us * 1000) != OK) return;
    for (uint64_t bits = 0; !(bits & BIT_TIMER);) {
        struct sys_result r = sys_wait(notification);
        if (r.status != OK) return;
        bits = r.value;
        lines_waiting |= bits & BIT_LINE;
    }
}

static bool before(uint64_t deadline_ns) { return clock_ns() < deadline_ns; }
static uint64_t in_ms(uint64_t ms) { return clock_ns() + ms * 1000000; }

/* --- Striking ------------------------------------------------------------------------------------------ */

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static status_t arm(const struct trial *t, handle_t process)
{
    uint64_t gadget = gadget_address(t->code);

    if (is(t->how, "kill"))
        return sys_inject(inject, process, INJECT_ARM, t->instructions, INJECT_KILL, 0).status;
    status_t status =
        sys_inject(inject, process, INJECT_MAP, gadgets, GADGET_BASE, RIGHT_READ | RIGHT_EXECUTE).status;
    if (status != OK) return status;
    return sys_inject(inject, process, INJECT_ARM, t->instructions, INJECT_JUMP, gadget).status;
}

static bool died(const struct trial *t)
{
    struct target now;

    return target_read(t->index, &now) != OK || now.generation != t->before.generation ||
           now.state != SERVICE_STATE_RUNNING;
}

/* Servers that only answer calls execute nothing until somebody calls. The call outlives its server. */
void press(const char *service)
{
    handle_t endpoint = cap_find(service);
    bool pci = strcmp(service, "pci") == 0;

    for (uint32_t i = 0; endpoint != 0 && i < CALLS_A_ROUND; i++) {
        struct message m = {.info = INFO_REPLAYABLE};
        if (service_call(endpoint, pci ? PCI_LIST : ECHO_ECHO, &m) != OK) return; /* the poll finds out why */
    }
}

static bool await_death(const struct trial *t, uint64_t deadline_ns)
{
    while (before(deadline_ns)) {
        press(t->service);
        if (died(t)) return true;
        sleep_us(POLL_US);
    }
    return false;
}

/* Waits for the strike, and if it came, for the death that it must cause. */
static void strike_await(const struct trial *t, handle_t process, struct outcome *o)
{
    o->died = await_death(t, in_ms(t->limit_ms));
    if (!o->died) {
        struct sys_result r = sys_inject(inject, process, INJECT_DISARM, 0, 0, 0);
        if (r.status == OK && r.value == 1) return; /* its target slept all the time */
        o->died = await_death(t, in_ms(DETECT_MS));
    }
    o->struck = true;
    if (o->died) return;
    /* Struck, and nobody noticed: that is the result. The campaign goes on after an operator's kill. */
    o->rescued = target_kill(t->service) == OK;
}

static status_t second_arm(uint32_t service, uint64_t instructions)
{
    return sys_inject(inject, 0, INJECT_ARM_TAG, instructions, INJECT_KILL, (uint64_t)service << 32).status;
}

/* A second strike that has not found its successor, or not yet, must not land in a later trial. */
static void second_disarm(const struct trial *t, struct outcome *o)
{
    handle_t process;

    if (second_arm(NO_SERVICE, 0) != OK) o->error = "the second strike cannot be taken back";
    if (target_process(t->index, &process) != OK) return; /* nothing runs that it could be armed on */
    struct sys_result r = sys_inject(inject, process, INJECT_DISARM, 0, 0, 0);
    (void)sys_cap_delete(process); /* gone already, if the process object is */
    o->second = o->struck && r.value == 0;
}

static void strike_armed(const struct trial *t, handle_t process, struct outcome *o)
{
    if (t->second != 0 && second_arm(t->index, t->second) != OK)
        o->error = "the second strike was refused";
    else if (arm(t, process) != OK)
        o->error = "the strike was refused";
    else
        strike_await(t, process, o);
    if (o->struck || is(t->how, "kill")) return;
    /* The target lives and has the snippets mapped: they go with the memory, and are made anew. */
    if (sys_cap_delete(gadgets) != OK || gadgets_make(&gadgets) != OK) o->error = "the snippets are gone";
}

static void strike_garbage(const struct trial *t, handle_t process, struct outcome *o)
{
    uint64_t limit = in_ms(t->limit_ms), half = in_ms(t->limit_ms / 2);
    status_t status = E_NOT_FOUND;

    while (status == E_NOT_FOUND && before(limit)) {
        status = garbage_strike(inject, process, (uint32_t)t->before.generation, t->seed,
                                before(half) ? 2 : 1, &o->garbage);
        if (status != OK) sleep_us(GARBAGE_POLL_US);
    }
    if (status != OK) return;
    o->struck = true;
    o->died = await_death(t, in_ms(GARBAGE_MASKED_MS));
}

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

static void strike(const struct trial *t, struct outcome *o)
{
    handle_t process;

    if (is(t->how, "all")) {
        strike_all(o);
        return;
    }
    if (target_process(t->index, &process) != OK) {
        o->error = "the target has no process";
        return;
    }
    if (is(t->how, "garbage"))
        strike_garbage(t, process, o);
    else
        strike_armed(t, process, o);
    (void)sys_cap_delete(process); /* gone already, if the process object is */
}

/* --- Orders ---------------------------------------------------------------------------------------------- */

bool settle(void)
{
    uint64_t deadline = in_ms(SETTLE_MS);

    while (before(deadline)) {
        if (targets_settled()) return true;
        sleep_us(POLL_US);
    }
    return false;
}

static bool how_known(const struct trial *t)
{
    if (is(t->how, "jump")) return gadget_address(t->code) != 0;
    return is(t->how, "kill") || is(t->how, "garbage") || is(t->how, "all");
}

static void trial_report(const struct trial *t, const struct outcome *o)
{
    struct target after;

    if (t->index == TARGET_NONE || target_read(t->index, &after) != OK) after = (struct target){.state = ~0u};
    log_line("{\"trial\":{\"n\":%lu,\"struck\":%u,\"second\":%u,\"died\":%u,\"settled\":%u,\"rescued\":%u,"
             "\"poked\":%u,"
             "\"in_flight\":%u,"
             "\"generation\":%lu,\"generation_after\":%lu,\"state_after\":%u,\"error\":\"%s\"}}",
             t->n, o->struck, o->second, o->died, o->settled, o->rescued, o->garbage.poked,
             o->garbage.in_flight, t->before.generation, after.generation, after.state, o->error);
}

static void trial_run(const struct json_object *order)
{
    struct trial t = {
        .n = json_number(order, "n", 0),
        .instructions = json_number(order, "instructions", 0),
        .delay_us = json_number(order, "delay_us", 0),
        .second = json_number(order, "second", 0),
        .seed = json_number(order, "seed", 0),
        .limit_ms = json_number(order, "limit_ms", LIMIT_MS),
        .service = json_text(order, "service"),
        .how = json_text(order, "how"),
        .code = json_text(order, "code"),
        .index = TARGET_NONE,
    };
    struct outcome o = {.error = ""};

    sleep_us(t.delay_us);
    if (!settle()) o.error = "the system did not come to rest before the trial";
    if (!how_known(&t)) o.error = "unknown fault";
    if (!is(t.how, "all")) {
        t.index = target_find(t.service);
        if (t.index == TARGET_NONE || target_read(t.index, &t.before) != OK)
            o.error = "unknown service";
        else if (t.before.state != SERVICE_STATE_RUNNING)
            o.error = "the service does not run";
    }
    (void)sys_trace_mark(trace, MARK_TRIAL, t.n);
    if (o.error[0] == 0) strike(&t, &o);
    o.settled = settle();
    if (t.second != 0) second_disarm(&t, &o);
    trial_report(&t, &o);
}

static void rest_report(void)
{
    struct system_info i;
    struct message m = {0};

    if (sys_system_info(&i) != OK || service_call(cap_find("supervisor"), SUPERVISOR_TOTALS, &m) != OK) {
        log_line("{\"error\":\"the totals cannot be read\"}");
        return;
    }
    log_line(
        "{\"rest\":{\"pages_free\":%lu,\"pages_total\":%lu,\"quarantined\":%lu,\"processes\":%lu,"
        "\"dead_pages\":%lu,\"deaths\":%lu,\"restarts\":%lu,\"gave_up\":%lu,\"idle_tsc\":%lu,\"tsc\":%lu}}",
        i.pages_free, i.pages_total, i.quarantined_pages, i.processes, m.w[0], m.w[2], m.w[3], m.w[4],
        i.idle_tsc, rdtsc());
}

/* Orders for others are passed on to the process that does the work. */
static void pass_on(const char *op, const char *service, uint16_t label, uint64_t value, uint64_t ms)
{
    struct message m = {.w = {value, ms}};
    handle_t endpoint = cap_find(service);
    status_t status = endpoint == 0 ? E_NOT_FOUND : service_call(endpoint, label, &m);

    log_line("{\"order\":{\"op\":\"%s\",\"status\":%u}}", op, (uint32_t)status);
}

/* Any call of a service that this one's manifest lets it call: its answer, and two words of it. */
static void call_run(const struct json_object *order)
{
    const char *service = json_text(order, "service");
    handle_t endpoint = cap_find(service);
    uint64_t label = json_number(order, "label", 0);
    struct message m = {
        .w = {json_number(order, "w0", 0), json_number(order, "w1", 0), json_number(order, "w2", 0)}};
    status_t status = endpoint == 0 ? E_NOT_FOUND : service_call(endpoint, (uint16_t)label, &m);

    log_line("{\"call\":{\"service\":\"%s\",\"label\":%lu,\"status\":%u,\"w0\":%lu,\"w1\":%lu}}", service,
             label, (uint32_t)status, m.w[0], m.w[1]);
}

static void order_run(const char *line, bool cut)
{
    static struct json_object order;

    if (cut || !json_parse(line, &order)) {
        log_line("{\"error\":\"bad order, column %u: %s\"}", cut ? COM2_LINE_MAX : order.error_column,
                 cut ? "the line is too long" : order.error);
        return;
    }
    const char *op = json_text(&order, "op");
    if (strcmp(op, "trial") == 0)
        trial_run(&order);
    else if (strcmp(op, "rest") == 0)
        rest_report();
    else if (strcmp(op, "start") == 0)
        pass_on(op, "workload", WORKLOAD_START, json_number(&order, "seed", 0), 0);
    else if (strcmp(op, "stop") == 0)
        pass_on(op, "workload", WORKLOAD_STOP, 0, 0);
    else if (strcmp(op, "hash") == 0)
        pass_on(op, "diskhash", DISKHASH_START, 0, 0);
    else if (strcmp(op, "attack") == 0)
        pass_on(op, "hostile", HOSTILE_ATTACK, json_number(&order, "seed", 0), json_number(&order, "ms", 0));
    else if (strcmp(op, "flood") == 0)
        pass_on(op, "hostile", HOSTILE_FLOOD, json_number(&order, "kind", 0), json_number(&order, "ms", 0));
    else if (strcmp(op, "measure") == 0)
        pass_on(op, "meter", METER_MEASURE, json_number(&order, "ms", 0), 0);
    else if (strcmp(op, "call") == 0)
        call_run(&order);
    else if (strcmp(op, "leaks") == 0)
        leaks_run(inject, json_number(&order, "uncounted", 0), json_number(&order, "kills", 0),
                  json_number(&order, "seed", 0));
    else if (strcmp(op, "hello") == 0) {
        bool settled = settle();
        targets_log();
        log_line("{\"injector\":{\"hello\":1,\"settled\":%u}}", settled);
    } else
        log_line(
            "{\"error\":\"bad order, unknown op '%s'; known: call hello rest start stop hash attack flood "
            "leaks measure trial\"}",
            op);
}

static status_t open_all(void)
{
    struct sys_result r = sys_notification_create(startup()->tag);

    if (r.status != OK) return r.status;
    notification = r.value;
    r = sys_timer_create(notification, BIT_TIMER);
    if (r.status != OK) return r.status;
    timer = r.value;
    inject = cap_find("inject");
    trace = cap_find("trace");
    status_t status = gadgets_make(&gadgets);
    return status == OK ? com2_open(notification, BIT_LINE) : status;
}

int main(void)
{
    char line[COM2_LINE_MAX];
    bool cut;
    struct message m = {0};
    status_t status = open_all();

    if (status != OK) fatal("{\"fatal\":\"injector: cannot start, status %u\"}", (uint32_t)status);
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("injector: not accepted as ready");
    log_line("{\"injector\":{\"ready\":1}}");
    for (;;) {
        while (com2_line(line, &cut)) order_run(line, cut);
        if (lines_waiting) {
            lines_waiting = 0;
            continue;
        }
        if (sys_wait(notification).status != OK) fatal("{\"fatal\":\"injector: its notification is gone\"}");
    }
}
