/* SPDX-License-Identifier: BSD-2-Clause
 * The console: main.c connects and loops, editor.c edits the line, commands.c, trace.c and update.c answer.
 */
#ifndef COPPICE_CONSOLE_H
#define COPPICE_CONSOLE_H

#include "lib/session.h"
#include "abi/manifest.h"
#include "abi/trace.h"

/* --- Terminal (main.c): '\n' becomes CR LF; waits for room, so output is never lost --- */
void terminal_write(const char *text, size_t n);
void print(const char *text, ...) __attribute__((format(printf, 1, 2)));
void terminal_settings(uint32_t control); /* asks the driver for line settings */
uint32_t terminal_settings_done(void);    /* the settings in force */

/* --- Line editor (editor.c) --- */
#define PROMPT     "coppice> "
#define LINE_BYTES 200
#define HISTORY    16

enum editor_state { EDITOR_TEXT, EDITOR_AFTER_CR, EDITOR_ESCAPE, EDITOR_CSI };
struct editor {
    enum editor_state state;
    uint32_t length;
    char line[LINE_BYTES];
    char history[HISTORY][LINE_BYTES];
    uint32_t entered; /* lines ever put into history */
    uint32_t recall;  /* 0: the line being typed; n: the n-th last */
};
/* Takes one byte from the terminal and echoes. Returns the finished line, or NULL. */
char *editor_input(struct editor *e, char c);
void editor_prompt(struct editor *e); /* a fresh line */

/* --- Commands (commands.c, trace.c, update.c) --- */
void command_run(char *line);
void svc_update(const char *name, const char *program);
void trace_show(uint64_t count);

/* --- Rows of the supervisor (rows.c) --- */
struct service_row {
    char name[MANIFEST_NAME_MAX + 1];
    uint32_t index, state, flags, cause, reason; /* reason: enum give_up_reason */
    uint32_t spare;                              /* enum spare_state */
    uint64_t generation, restarts, recovery_ns;
};
status_t service_row(uint32_t index, struct service_row *row) MUST_USE; /* E_NOT_FOUND past the end */
const char *service_name(uint32_t index);
const char *status_text(status_t status);
const char *cause_text(uint64_t cause);
const char *state_name(uint32_t state);
const char *reason_text(uint32_t reason);

#endif
