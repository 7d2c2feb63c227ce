/* SPDX-License-Identifier: BSD-2-Clause
 * Line editor: owns the half-typed line and the history. The line lives here and the bytes that are
 * still on their way live in the session, so a restart of the serial driver changes nothing on
 * screen. Keys: backspace, ^U (clear), ^W (word), ^C (drop), ^L (clear screen), arrows up and down
 * (history). */
#include "console.h"

#define KEY(c) ((c)&0x1f) /* control key */
#define DELETE 0x7f
#define ESCAPE 0x1b

void editor_prompt(struct editor *e)
{
    e->length = 0;
    e->recall = 0;
    print(PROMPT);
}

static void erase(struct editor *e, uint32_t count)
{
    for (; count > 0 && e->length > 0; count--, e->length--) terminal_write("\b \b", 3);
}

static void erase_word(struct editor *e)
{
    while (e->length > 0 && e->line[e->length - 1] == ' ') erase(e, 1);
    while (e->length > 0 && e->line[e->length - 1] != ' ') erase(e, 1);
}

static void history_add(struct editor *e)
{
    if (e->length == 0) return;
    if (e->entered > 0 && strcmp(e->history[(e->entered - 1) % HISTORY], e->line) == 0) return;
    memcpy(e->history[e->entered++ % HISTORY], e->line, LINE_BYTES);
}

static void history_show(struct editor *e, uint32_t recall)
{
    uint32_t kept = e->entered < HISTORY ? e->entered : HISTORY;
    if (recall > kept) return;
    erase(e, e->length);
    e->recall = recall;
    if (recall == 0) return;
    memcpy(e->line, e->history[(e->entered - recall) % HISTORY], LINE_BYTES);
    e->length = (uint32_t)strlen(e->line);
    terminal_write(e->line, e->length);
}

/* The last byte of an escape sequence; sequences that are not known do nothing. */
static void sequence_end(struct editor *e, char c)
{
    e->state = EDITOR_TEXT;
    if (c == 'A') history_show(e, e->recall + 1);
    if (c == 'B' && e->recall > 0) history_show(e, e->recall - 1);
}

static char *finish(struct editor *e, char c)
{
    e->state = c == '\r' ? EDITOR_AFTER_CR : EDITOR_TEXT;
    e->line[e->length] = 0;
    print("\n");
    history_add(e);
    return e->line;
}

static char *text_input(struct editor *e, char c)
{
    switch (c) {
    case '\r':
    case '\n': return finish(e, c);
    case ESCAPE: e->state = EDITOR_ESCAPE; break;
    case '\b':
    case DELETE: erase(e, 1); break;
    case KEY('U'): erase(e, e->length); break;
    case KEY('W'): erase_word(e); break;
    case KEY('C'):
        print("^C\n");
        editor_prompt(e);
        break;
    case KEY('L'):
        print("\033[H\033[2J" PROMPT);
        terminal_write(e->line, e->length);
        break;
    default:
        if (c < ' ' || c > '~' || e->length + 1 == LINE_BYTES) break;
        e->line[e->length++] = c;
        terminal_write(&c, 1);
    }
    return NULL;
}

char *editor_input(struct editor *e, char c)
{
    switch (e->state) {
    case EDITOR_AFTER_CR: /* CR LF is one end of line */
        e->state = EDITOR_TEXT;
        return c == '\n' ? NULL : text_input(e, c);
    case EDITOR_ESCAPE: e->state = c == '[' || c == 'O' ? EDITOR_CSI : EDITOR_TEXT; return NULL;
    case EDITOR_CSI:
        if (c >= '@' && c <= '~') sequence_end(e, c);
        return NULL;
    default: return text_input(e, c);
    }
}
