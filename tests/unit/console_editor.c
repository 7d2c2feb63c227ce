/* SPDX-License-Identifier: BSD-2-Clause
 * services/console/editor.c: what keys make of the line, and what the terminal then shows. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "services/console/editor.c"

static char screen[4096]; /* everything that was written */
static size_t written;

void terminal_write(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\b')
            written -= written > 0;
        else
            screen[written++] = text[i];
    }
    cr_assert_lt(written, sizeof(screen));
    screen[written] = 0;
}
void print(const char *text, ...)
{
    char out[512];
    va_list args;
    va_start(args, text);
    vsnprintf(out, sizeof(out), text, args);
    va_end(args);
    terminal_write(out, strlen(out));
}

static struct editor e;

/* Types the keys; returns the last finished line, or NULL. */
static const char *type(const char *keys)
{
    static char line[LINE_BYTES];
    const char *last = NULL;
    for (; *keys != 0; keys++) {
        char *done = editor_input(&e, *keys);
        if (done == NULL) continue;
        strcpy(line, done);
        last = line;
        editor_prompt(&e);
    }
    return last;
}

static void expect(const char *keys, const char *line)
{
    const char *got = type(keys);
    cr_assert_not_null(got);
    cr_assert_str_eq(got, line);
}

Test(editor, lines)
{
    expect("svc\r", "svc");
    expect("a b\n", "a b");
    expect("\r", "");
    cr_assert_null(type("\n"), "CR LF is one end of line");
    cr_assert_null(type("half"));
    expect("-typed\r", "half-typed");
}

Test(editor, deleting)
{
    expect("svx\bc\r", "svc");
    expect("svx\177c\r", "svc");
    expect("\b\b\bps\r", "ps");
    expect("kill serial\025ps\r", "ps");
    expect("kill serial\027pci\r", "kill pci");
    expect("kill serial  \027\027ps\r", "ps");
}

Test(editor, the_screen_shows_the_line)
{
    editor_prompt(&e);
    type("svx\bc");
    screen[written] = 0;
    cr_assert_str_eq(screen, PROMPT "svc");
    type("\003");
    cr_assert_str_eq(screen, PROMPT "svc^C\n" PROMPT);
    expect("ps\r", "ps");
}

Test(editor, history)
{
    type("one\rtwo\rtwo\rthree\r");
    expect("\033[A\r", "three");
    expect("\033[A\033[A\r", "two");
    expect("\033[A\033[A\033[A\033[B\r", "three");
    expect("\033[A\033[Bnew\r", "new");
    expect("\033OA!\r", "new!");
}

Test(editor, history_beyond_its_end)
{
    cr_assert_null(type("\033[A\033[A\033[B"));
    for (int i = 0; i < HISTORY + 3; i++) {
        char line[16];
        snprintf(line, sizeof(line), "%d\r", i);
        type(line);
    }
    for (int i = 0; i < 2 * HISTORY; i++) type("\033[A");
    expect("\r", "3");
}

Test(editor, unknown_sequences_and_bytes_do_nothing) { expect("p\033[1;5Cs\033x\001\377\r", "ps"); }

Test(editor, long_lines_stop_growing)
{
    for (int i = 0; i < 2 * LINE_BYTES; i++) type("x");
    const char *line = type("\r");
    cr_assert_eq(strlen(line), LINE_BYTES - 1);
}

Test(editor, any_bytes, .timeout = 30)
{
    srand(1);
    for (int i = 0; i < 2000000; i++) {
        char key[2] = {(char)(rand() % 4 == 0 ? "\033[AB\b\025\027\003\r\n"[rand() % 10] : rand()), 0};
        if (key[0] == 0) continue;
        type(key);
        cr_assert_lt(e.length, LINE_BYTES);
        written = 0;
    }
}
