/* SPDX-License-Identifier: BSD-2-Clause
 * The fault injector: carries out the orders of a campaign, one JSON object a line on COM2, and answers in
 * the kernel log. Owns COM2, the inject capability and nothing else; decides nothing: where, when and
 * what is the plan's (faultinject/plan.py).
 * Invariants: one trial at a time; a trial always ends with one {"trial":...} line, within its limit; no
 * strike stays armed and no process capability is kept after it.
 * What it reports is for orientation; what happened is read from the kernel trace by the host.
 *
 * Orders: hello | mark n | rest | settle | start seed | stop | hash | attack seed ms | flood kind ms | measure ms |
 * leaks uncounted kills seed | flip service count gap_us seed cells_pct data data_bytes heap ... | trial n service how [code and what struct trial has]. A number that is 0 may be left out. */
#include "abi/protocol.h"
#include "abi/trace.h"
#include "clock.h"
#include "com2.h"
#include "flips.h"
#include "json.h"
#include "leaks.h"
#include "strike.h"

#define LIMIT_MS 300u /* for a strike to find its target at work */
#define WATCH_MS 40u  /* a target that lives is watched for so long */

static handle_t trace, notification;

/* --- Orders ---------------------------------------------------------------------------------------------- */

/* Numbers that are 0 are left out, as in orders: under QEMU a byte of the log takes 10 us. */
static void trial_report(const struct trial *t, const struct outcome *o)
{
    struct target after;
    char line[400];

    if (t->index == TARGET_NONE || target_read(t->index, &after) != OK) after = (struct target){.state = ~0u};
    const struct {
        const char *name;
        uint64_t value;
    } field[] = {{"struck", o->struck},
                 {"second", o->second},
                 {"died", o->died},
                 {"settled", o->settled},
                 {"rescued", o->rescued},
                 {"cleaned", o->cleaned},
                 {"stuck", o->stuck},
                 {"wrong", o->wrong},
                 {"answered", o->answered},
                 {"poked", o->poked},
                 {"in_flight", o->in_flight},
                 {"site", o->site},
                 {"generation", t->before.generation},
                 {"generation_after", after.generation},
                 {"state_after", after.state}};
    int at = format(line, sizeof(line), "{\"trial\":{\"n\":%lu", t->n);
    for (uint32_t i = 0; i < sizeof(field) / sizeof(field[0]); i++)
        if (field[i].value != 0)
            at += format(line + at, sizeof(line) - (size_t)at, ",\"%s\":%lu", field[i].name, field[i].value);
    if (o->error[0] != 0) at += format(line + at, sizeof(line) - (size_t)at, ",\"error\":\"%s\"", o->error);
    log_line("%s}}", line);
}

static void trial_read(const struct json_object *order, struct trial *t)
{
    char key[] = "s0"; /* to sf */

    *t = (struct trial){
        .n = json_number(order, "n", 0),
        .instructions = json_number(order, "instructions", 0),
        .delay_us = json_number(order, "delay_us", 0),
        .second = json_number(order, "second", 0),
        .again = json_number(order, "again", 0),
        .seed = json_number(order, "seed", 0),
        .limit_ms = json_number(order, "limit_ms", LIMIT_MS),
        .watch_ms = json_number(order, "watch_ms", WATCH_MS),
        .a = json_number(order, "a", 0),
        .b = json_number(order, "b", 0),
        .text = json_number(order, "text", 0),
        .pages = json_number(order, "pages", 0),
        .end = json_number(order, "end", 0),
        .driver = json_number(order, "driver", 0),
        .at = json_number(order, "at", 0),
        .calm = json_number(order, "calm", 0) != 0,
        .sweep = json_number(order, "sweep", 0) != 0,
        .service = json_text(order, "service"),
        .how = json_text(order, "how"),
        .code = json_text(order, "code"),
        .other = json_text(order, "other"),
        .starting = json_text(order, "starting"),
        .to = json_text(order, "to"),
        .back = json_text(order, "back"),
        .bad = json_text(order, "bad"),
        .index = TARGET_NONE,
    };
    for (; t->sites < SITES_MAX; t->sites++) {
        key[1] = "0123456789abcdef"[t->sites];
        t->site[t->sites] = json_text(order, key);
        if (t->site[t->sites][0] == 0) return;
    }
}

/* What a trial means to be given up is started again by the operator, or the next one finds nobody to strike. */
static bool is_given_up(const struct trial *t)
{
    struct target now;

    return strcmp(t->how, "again") == 0 && target_read(t->index, &now) == OK &&
           now.state == SERVICE_STATE_GAVE_UP;
}

/* Damage is found in the trial that did it, or it would be put down to the one that comes upon it. */
static bool swept(void)
{
    struct message m = {0};

    return service_call(cap_find("workload"), WORKLOAD_SWEEP, &m) == OK;
}

static void trial_run(const struct json_object *order)
{
    static struct trial t;
    struct outcome o = {.error = ""};

    trial_read(order, &t);
    sleep_listening_us(t.delay_us);
    if (!settle()) o.error = "the system did not come to rest before the trial";
    if (!strike_known(&t)) o.error = "unknown fault";
    if (strcmp(t.how, "all") != 0) {
        t.index = target_find(t.service);
        if (t.index == TARGET_NONE || target_read(t.index, &t.before) != OK)
            o.error = "unknown service";
        else if (t.before.state != SERVICE_STATE_RUNNING)
            o.error = "the service does not run";
    }
    (void)sys_trace_mark(trace, MARK_TRIAL, t.n);
    if (o.error[0] == 0) strike(&t, &o);
    o.settled = settle();
    if (t.second != 0) strike_second_disarm(&t, &o);
    if (is_given_up(&t)) o.settled = target_reset(t.service) == OK && settle();
    if (t.sweep && o.settled && !swept()) o.error = "the workload could not read back what it wrote";
    trial_report(&t, &o);
}

static void rest_report(void)
{
    struct system_info i;
    struct message m = {.info = INFO_REPLAYABLE}, c = m;
    handle_t supervisor = cap_find("supervisor");

    if (sys_system_info(&i) != OK || service_call(supervisor, SUPERVISOR_TOTALS, &m) != OK ||
        service_call(supervisor, SUPERVISOR_CENSUS, &c) != OK) {
        log_line("{\"error\":\"the totals cannot be read\"}");
        return;
    }
    log_line("{\"rest\":{\"pages_free\":%lu,\"pages_total\":%lu,\"quarantined\":%lu,\"processes\":%lu,"
             "\"dead_pages\":%lu,\"deaths\":%lu,\"restarts\":%lu,\"gave_up\":%lu,\"objects\":%lu,\"room\":%"
             "lu,\"idle_tsc\":%lu,\"tsc\":%lu}}",
             i.pages_free, i.pages_total, i.quarantined_pages, i.processes, m.w[0], m.w[2], m.w[3], m.w[4],
             c.w[4], c.w[6], i.idle_tsc, rdtsc());
}

static void order_report(const char *op, status_t status)
{
    log_line("{\"order\":{\"op\":\"%s\",\"status\":%u}}", op, (uint32_t)status);
}

/* Orders for others are passed on to the process that does the work. */
static void pass_on(const char *op, const char *service, uint16_t label, uint64_t value, uint64_t ms)
{
    struct message m = {.w = {value, ms}};
    handle_t endpoint = cap_find(service);
    status_t status = endpoint == 0 ? E_NOT_FOUND : service_call(endpoint, label, &m);

    order_report(op, status);
}

/* Any call of a service that this one's manifest lets it call: its answer, and two words of it. */
static void call_run(const struct json_object *order)
{
    const char *service = json_text(order, "service");
    handle_t endpoint = cap_find(service);
    uint64_t label = json_number(order, "label", 0);
    struct message m = {
        .info = json_number(order, "replayable", 0) != 0 ? INFO_REPLAYABLE : 0,
        .w = {json_number(order, "w0", 0), json_number(order, "w1", 0), json_number(order, "w2", 0)}};
    status_t status = endpoint == 0 ? E_NOT_FOUND : service_call(endpoint, (uint16_t)label, &m);

    log_line("{\"call\":{\"service\":\"%s\",\"label\":%lu,\"status\":%u,\"w0\":%lu,\"w1\":%lu}}", service,
             label, (uint32_t)status, m.w[0], m.w[1]);
}

static void flips_order(const struct json_object *order)
{
    struct flips f = {
        .service = json_text(order, "service"),
        .area = {[FLIP_DATA] = {json_number(order, "data", 0), json_number(order, "data_bytes", 1)},
                 [FLIP_HEAP] = {json_number(order, "heap", 0), json_number(order, "heap_bytes", 1)},
                 [FLIP_STACK] = {json_number(order, "stack", 0), json_number(order, "stack_bytes", 1)},
                 [FLIP_TEXT] = {json_number(order, "text", 0), json_number(order, "text_bytes", 1)}},
        .count = json_number(order, "count", 0),
        .gap_us = json_number(order, "gap_us", 1000),
        .seed = json_number(order, "seed", 0),
        .cells_pct = json_number(order, "cells_pct", 0),
    };

    flips_run(cap_find("inject"), &f);
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
    else if (strcmp(op, "mark") == 0) /* a trial that the host carries out begins */
        order_report(op, sys_trace_mark(trace, MARK_TRIAL, json_number(&order, "n", 0)));
    else if (strcmp(op, "settle") == 0)
        order_report(op, settle() ? OK : E_BUSY);
    else if (strcmp(op, "start") == 0)
        pass_on(op, "workload", WORKLOAD_START, json_number(&order, "seed", 0),
                json_number(&order, "calm", 0));
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
    else if (strcmp(op, "flip") == 0)
        flips_order(&order);
    else if (strcmp(op, "leaks") == 0)
        leaks_run(cap_find("inject"), json_number(&order, "uncounted", 0), json_number(&order, "kills", 0),
                  json_number(&order, "seed", 0));
    else if (strcmp(op, "hello") == 0) {
        bool settled = settle();
        targets_log();
        log_line("{\"injector\":{\"hello\":1,\"settled\":%u}}", settled);
    } else
        log_line(
            "{\"error\":\"bad order, unknown op '%s'; known: call flip hello mark rest settle start stop "
            "hash attack flood "
            "leaks measure trial\"}",
            op);
}

static status_t open_all(void)
{
    status_t status = clock_open(&notification);

    trace = cap_find("trace");
    if (status == OK) status = strike_open(cap_find("inject"), trace);
    return status == OK ? com2_open(notification, BIT_LINE) : status;
}

int main(void)
{
    char line[COM2_LINE_MAX];
    bool cut;
    struct message m = {.info = INFO_REPLAYABLE};
    status_t status = open_all();

    if (status != OK) fatal("{\"fatal\":\"injector: cannot start, status %u\"}", (uint32_t)status);
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("injector: not accepted as ready");
    log_line("{\"injector\":{\"ready\":1}}");
    for (;;) {
        while (com2_line(line, &cut)) order_run(line, cut);
        if (lines_take()) continue;
        if (sys_wait(notification).status != OK) fatal("{\"fatal\":\"injector: its notification is gone\"}");
    }
}
