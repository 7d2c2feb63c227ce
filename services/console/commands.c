/* SPDX-License-Identifier: BSD-2-Clause
 * The console's commands: each prints what another service or the kernel says, or asks the
 * supervisor to act. Owns nothing but the table of commands; refuses words it does not know with
 * the nearest it does. */
#include "console.h"
#include "abi/protocol.h"

#define WORDS_MAX 16

struct command {
    const char *name, *arguments, *text;
    void (*run)(uint32_t count, char **word);
    uint8_t words_min, words_max; /* with the command itself */
};
static const struct command commands[];

static bool number_parse(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    if (*text == 0) return false;
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9' || value > 1000000000ul) return false;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *out = value;
    return true;
}

static void refuse(const char *what, status_t status) { print("%s: %s\n", what, status_text(status)); }

/* A call to the supervisor about the service of this name. Not replayable: nothing is killed twice.
 */
static void supervisor_named(uint16_t label, const char *name, const char *wrong_state)
{
    struct message m = {.info = 0};
    status_t status = E_NOT_FOUND;
    size_t n = strlen(name);
    memcpy(&m.w[0], name, n < MANIFEST_NAME_MAX ? n : 0);
    if (n < MANIFEST_NAME_MAX) status = service_call(cap_find("supervisor"), label, &m);
    if (status == E_NOT_FOUND)
        print("%s: no such service; `svc` lists all\n", name);
    else if (status == E_STATE)
        print("%s: %s\n", name, wrong_state);
    else if (status != OK)
        refuse(name, status);
}

/* --- ps, svc, kill --- */

static void duration_format(char *out, size_t size, uint64_t ns)
{
    if (ns == 0)
        format(out, size, "-");
    else if (ns < 10000000)
        format(out, size, "%lu us", ns / 1000);
    else
        format(out, size, "%lu ms", ns / 1000000);
}

/* recovery_ns of a given-up service is its policy: deaths | in ms << 32 (abi/protocol.def, LIST). */
static void gave_up_print(const struct service_row *row)
{
    uint32_t deaths = (uint32_t)row->recovery_ns, ms = (uint32_t)(row->recovery_ns >> 32);

    print("%-20s %-9s %4lu %8lu %10s  ", row->name, state_name(row->state), row->generation, row->restarts,
          "-");
    if (row->reason == REASON_INTENSITY)
        print("gave up: more than %u deaths in %u ms; ", deaths, ms);
    else
        print("gave up: %s; ", reason_text(row->reason));
    print("last: %s; clear with svc reset %s\n", cause_text(row->cause), row->name);
}

/* What the name of the program adds to a row: nothing while it is the one of the manifest's choice for good. */
static void version_print(const struct service_row *row)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {row->index}};
    char program[MANIFEST_NAME_MAX + 1] = {0};
    if (service_call(cap_find("supervisor"), SUPERVISOR_PROGRAM, &m) != OK || m.w[3] == 0) return;
    memcpy(program, &m.w[0], MANIFEST_NAME_MAX);
    print("%-20s is %s%s%s%s%s\n", "", m.w[3] & 8 ? PROGRAM_FROM_FILE : "", program,
          m.w[3] & 1 ? ", on probation" : "", m.w[3] & 2 ? ", an update is under way" : "",
          m.w[3] & 4 ? ": previous version, the last update did not hold" : "");
}

/* The lowest rung: requests that were given up alone, because they were in flight at too many deaths. A recovery that does
 * not run is not asked: nobody would answer. */
static void requests_print(const struct service_row *row, bool recovery_runs)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {row->index}};
    if (!recovery_runs || !(row->flags & SERVICE_DRIVER)) return;
    if (service_call(cap_find("recovery"), RECOVERY_STATUS, &m) != OK || m.w[5] == 0) return;
    print("%-20s %lu requests given up: each was in flight at %u deaths\n", "", m.w[5], SESSION_ATTEMPTS_MAX);
}

/* A group says something only once it has failed. */
static void groups_print(void)
{
    for (uint64_t g = 0;; g++) {
        struct message m = {.info = INFO_REPLAYABLE, .w = {g}};
        char name[MANIFEST_NAME_MAX + 1] = {0};
        if (service_call(cap_find("supervisor"), SUPERVISOR_GROUP, &m) != OK) return;
        uint32_t failures = (uint32_t)m.w[3];
        bool gave_up = m.w[3] >> 40 & 1;
        if (!failures && !gave_up) continue;
        memcpy(name, &m.w[0], MANIFEST_NAME_MAX);
        print("group %s: failed as a whole %u times%s; last for %s: %s\n", name, failures,
              gave_up ? ", and no group is left to deal with it" : "", service_name((uint32_t)m.w[6]),
              reason_text((uint32_t)(m.w[6] >> 32)));
    }
}

static void svc_list(void)
{
    struct service_row row;
    struct message m = {.info = INFO_REPLAYABLE};
    char recovery[24];
    bool recovery_runs = false; /* it comes before all that depend on it */
    print("%-20s %-9s %4s %8s %10s  %s\n", "NAME", "STATE", "GEN", "RESTARTS", "RECOVERY", "LAST REASON");
    for (uint32_t i = 0; service_row(i, &row) == OK; i++) {
        if (row.state == SERVICE_STATE_GAVE_UP) {
            gave_up_print(&row);
            continue;
        }
        duration_format(recovery, sizeof(recovery), row.recovery_ns);
        print("%-20s %-9s %4lu %8lu %10s  %s%s\n", row.name, state_name(row.state), row.generation,
              row.restarts, recovery, row.cause == CAUSE_NONE ? "-" : cause_text(row.cause),
              row.spare == SPARE_READY ? "; a spare stands by" : "");
        version_print(&row);
        recovery_runs |= strcmp(row.name, "recovery") == 0 && row.state == SERVICE_STATE_RUNNING;
        requests_print(&row, recovery_runs);
    }
    groups_print();
    if (service_call(cap_find("supervisor"), SUPERVISOR_TOTALS, &m) == OK)
        print("%lu processes, %lu deaths, %lu restarts, %lu given up, %lu pages leaked\n", m.w[1], m.w[2],
              m.w[3], m.w[4], m.w[0]);
}

static void run_svc(uint32_t count, char **word)
{
    if (count == 1) {
        svc_list();
        return;
    }
    if (count == 4 && strcmp(word[1], "update") == 0) {
        svc_update(word[2], word[3]);
        return;
    }
    if (count != 3 || strcmp(word[1], "reset") != 0) {
        print("usage: svc [reset NAME | update NAME PROGRAM | update NAME " PROGRAM_FROM_FILE "FILE]\n");
        return;
    }
    supervisor_named(SUPERVISOR_RESET, word[2], "is not down");
}

static void run_kill(uint32_t count, char **word)
{
    (void)count;
    supervisor_named(SUPERVISOR_KILL, word[1], "does not run");
}

static void run_ps(uint32_t count, char **word)
{
    struct service_row row;
    (void)count, (void)word;
    print("%6s %-20s %-9s %4s %10s %8s %10s\n", "PID", "NAME", "STATE", "PRIO", "PAGES", "HANDLES", "CPU MS");
    for (uint32_t i = 0; service_row(i, &row) == OK; i++) {
        struct message m = {.info = INFO_REPLAYABLE, .w = {i}};
        if (service_call(cap_find("supervisor"), SUPERVISOR_INFO, &m) != OK) continue;
        char pages[24];
        format(pages, sizeof(pages), "%lu/%lu", m.w[0], m.w[1]);
        print("%6lu %-20s %-9s %4lu %10s %8lu %6lu.%03lu\n", m.w[5], row.name, state_name(row.state), m.w[4],
              pages, m.w[2], m.w[3] / 1000000, m.w[3] / 1000 % 1000);
    }
}

/* --- trace, mem, uptime --- */

static void run_trace(uint32_t count, char **word)
{
    uint64_t n = 20;
    if (count == 2 && !number_parse(word[1], &n)) {
        print("trace: `%s` is not a number\n", word[1]);
        return;
    }
    trace_show(n);
}

static void run_mem(uint32_t count, char **word)
{
    struct system_info info;
    (void)count, (void)word;
    status_t status = sys_system_info(&info);
    if (status != OK) {
        refuse("mem", status);
        return;
    }
    uint64_t used = info.pages_total - info.pages_free;
    print("%-22s %8lu KiB\n", "total", info.pages_total * 4);
    print("%-22s %8lu KiB\n", "free", info.pages_free * 4);
    print("%-22s %8lu KiB\n", "used", used * 4);
    print("%-22s %8lu KiB\n", "  kernel and image", info.pages_kernel * 4);
    print("%-22s %8lu KiB\n", "  DMA, in quarantine", info.quarantined_pages * 4);
}

static void run_uptime(uint32_t count, char **word)
{
    struct system_info info;
    (void)count, (void)word;
    if (sys_system_info(&info) != OK) return;
    uint64_t ms = (rdtsc() - info.boot_tsc) / (info.tsc_hz / 1000);
    uint64_t idle = info.idle_tsc / (info.tsc_hz / 1000);
    print("up %lu:%02lu:%02lu.%03lu since the loader, idle %lu %%\n", ms / 3600000, ms / 60000 % 60,
          ms / 1000 % 60, ms % 1000, ms > 0 && info.cpus > 0 ? idle * 100 / (ms * info.cpus) : 0);
}

/* --- echo, lspci, stty --- */

static void run_echo(uint32_t count, char **word)
{
    char text[MESSAGE_WORDS * 8 + 1] = "";
    size_t n = 0;
    for (uint32_t i = 1; i < count; i++) {
        size_t length = strlen(word[i]);
        if (n + length + 1 > sizeof(text) - 1) {
            print("echo: at most %lu characters\n", sizeof(text) - 2);
            return;
        }
        if (i > 1) text[n++] = ' ';
        memcpy(text + n, word[i], length);
        n += length;
    }
    struct message m = {.info = INFO_REPLAYABLE};
    memcpy(m.w, text, sizeof(m.w));
    status_t status = service_call(cap_find("echo"), ECHO_ECHO, &m);
    if (status != OK) {
        refuse("echo", status);
        return;
    }
    memcpy(text, m.w, sizeof(m.w));
    print("%s\n", text);
}

static const char *class_text(uint64_t class)
{
    static const char *const base[] = {"unclassified", "storage",   "network",       "display", "multimedia",
                                       "memory",       "bridge",    "communication", "system",  "input",
                                       "docking",      "processor", "serial bus",    "wireless"};
    return class >> 16 < sizeof(base) / sizeof(base[0]) ? base[class >> 16] : "other";
}

static void run_lspci(uint32_t count, char **word)
{
    (void)count, (void)word;
    print("%-8s %-10s %-14s %s\n", "ADDRESS", "ID", "CLASS", "DRIVER");
    for (uint64_t n = 0;; n++) {
        struct message m = {.info = INFO_REPLAYABLE, .w = {n}};
        status_t status = service_call(cap_find("pci"), PCI_LIST, &m);
        if (status == E_NOT_FOUND) return;
        if (status != OK) {
            refuse("lspci", status);
            return;
        }
        print("%02lx:%02lx.%lx  %04lx:%04lx  %-14s %s\n", m.w[0] >> 8, m.w[0] >> 3 & 31, m.w[0] & 7,
              m.w[1] & 0xffff, m.w[1] >> 16, class_text(m.w[2]),
              m.w[3] == MANIFEST_NONE ? "-" : service_name((uint32_t)m.w[3]));
    }
}

static void run_stty(uint32_t count, char **word)
{
    uint64_t baud;
    uint32_t now = terminal_settings_done();
    if (count == 1) {
        uint32_t divisor = STREAM_DIVISOR(now);
        print("%u baud, line control 0x%02x\n", divisor > 0 ? STREAM_BAUD_BASE / divisor : 0,
              STREAM_LINE(now));
        return;
    }
    if (!number_parse(word[1], &baud) || baud == 0 || STREAM_BAUD_BASE % baud != 0 ||
        STREAM_BAUD_BASE / baud > 0xffff) {
        print("stty: `%s` is no speed of this line; 115200 divided by a whole number is\n", word[1]);
        return;
    }
    terminal_settings(STREAM_CONTROL(STREAM_BAUD_BASE / baud, STREAM_8N1));
}

/* --- The system --- */

static void stop(enum system_op op)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {op}};
    status_t status = service_call(cap_find("supervisor"), SUPERVISOR_STOP, &m);
    if (status != OK) refuse("supervisor", status);
}

static void run_reboot(uint32_t count, char **word)
{
    (void)count, (void)word;
    stop(SYSTEM_REBOOT);
}

static void run_shutdown(uint32_t count, char **word)
{
    (void)count, (void)word;
    stop(SYSTEM_POWER_OFF);
}

static void run_help(uint32_t count, char **word)
{
    (void)count, (void)word;
    for (const struct command *c = commands; c->name != NULL; c++) {
        char usage[32];
        format(usage, sizeof(usage), "%s %s", c->name, c->arguments);
        print("  %-18s %s\n", usage, c->text);
    }
}

static const struct command commands[] = {
    {"help", "", "this list", run_help, 1, 1},
    {"ps", "", "processes: memory, handles, CPU time", run_ps, 1, 1},
    {"svc", "[reset NAME | update NAME PROGRAM]", "services: state, generation, restarts, last recovery",
     run_svc, 1, 4},
    {"kill", "NAME", "ends a service's process; its policy decides what follows", run_kill, 2, 2},
    {"trace", "[N]", "the last N events of the kernel's trace (20)", run_trace, 1, 2},
    {"mem", "", "memory in use", run_mem, 1, 1},
    {"lspci", "", "PCI functions and who drives them", run_lspci, 1, 1},
    {"echo", "TEXT", "sends TEXT through the echo service", run_echo, 2, WORDS_MAX},
    {"stty", "[BAUD]", "speed of this line", run_stty, 1, 2},
    {"uptime", "", "time since the loader started", run_uptime, 1, 1},
    {"reboot", "", "stops everything and starts again", run_reboot, 1, 1},
    {"shutdown", "", "stops everything and powers off", run_shutdown, 1, 1},
    {NULL, NULL, NULL, NULL, 0, 0},
};

/* How well a typed word fits a name: letters of it that appear in the same order. */
static uint32_t likeness(const char *typed, const char *name)
{
    uint32_t hits = 0;
    for (; *typed != 0; typed++) {
        const char *at = name;
        while (*at != 0 && *at != *typed) at++;
        if (*at == 0) continue;
        name = at + 1;
        hits++;
    }
    return hits;
}

static void unknown(const char *typed)
{
    const struct command *best = NULL;
    uint32_t best_hits = 1; /* one letter in common is no hint */
    for (const struct command *c = commands; c->name != NULL; c++) {
        uint32_t hits = likeness(typed, c->name);
        if (hits > best_hits && hits * 4 >= strlen(typed) * 3) best_hits = hits, best = c;
    }
    if (best != NULL)
        print("%s: no such command; did you mean `%s`? `help` lists all\n", typed, best->name);
    else
        print("%s: no such command; `help` lists all\n", typed);
}

static uint32_t split(char *line, char **word)
{
    uint32_t count = 0;
    while (*line != 0 && count < WORDS_MAX) {
        while (*line == ' ') *line++ = 0;
        if (*line == 0) break;
        word[count++] = line;
        while (*line != 0 && *line != ' ') line++;
    }
    if (count == WORDS_MAX && *line == ' ') *line = 0;
    return count;
}

void command_run(char *line)
{
    char *word[WORDS_MAX];
    uint32_t count = split(line, word);
    if (count == 0) return;
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, word[0]) != 0) continue;
        if (count < c->words_min || count > c->words_max)
            print("usage: %s %s\n", c->name, c->arguments);
        else
            c->run(count, word);
        return;
    }
    unknown(word[0]);
}
