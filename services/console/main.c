/* SPDX-License-Identifier: BSD-2-Clause
 * The operator's console on the serial line. Owns the terminal session and the loop: bytes in,
 * edited line, command, output. The session outlives the serial driver, so its death is only a
 * pause. When this process dies, its half-typed line dies with it; everything else is asked anew.
 */
#include "console.h"
#include "abi/protocol.h"
#include "lib/atomic.h"

static struct stream_session terminal;
static struct editor editor;

/* Sleeps until the driver has taken something. Not stream_wait: that returns at once while there is
 * unread input, and typing ahead must not turn a full ring into a busy loop. */
static void room_wait(void)
{
    shared_store(&terminal.client->client_waiting, 1);
    memory_fence();
    if (terminal.client->tx_head - shared_load(&terminal.driver->tx_tail) < STREAM_RING) return;
    struct sys_result woken = sys_wait(terminal.notification);
    if (woken.status != OK) fatal("console: cannot wait: status %d", woken.status);
}

static void bytes_write(const char *text, size_t n)
{
    while (n > 0) {
        size_t done = stream_write(&terminal, text, n);
        text += done;
        n -= done;
        if (n > 0) room_wait();
    }
}

void terminal_write(const char *text, size_t n)
{
    char out[128];
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (used + 2 > sizeof(out)) {
            bytes_write(out, used);
            used = 0;
        }
        if (text[i] == '\n') out[used++] = '\r';
        out[used++] = text[i];
    }
    bytes_write(out, used);
}

void print(const char *text, ...)
{
    char line[256];
    va_list args;
    va_start(args, text);
    int n = format_v(line, sizeof(line), text, args);
    va_end(args);
    terminal_write(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void terminal_settings(uint32_t control) { stream_control(&terminal, control); }

uint32_t terminal_settings_done(void) { return terminal.driver->control_done; }

static void banner(void)
{
    struct system_info info;
    uint32_t generation = TAG_GENERATION(startup()->tag);
    if (sys_system_info(&info) != OK) fatal("console: no system information");
    uint64_t us = (rdtsc() - info.boot_tsc) / (info.tsc_hz / 1000000);
    if (generation > 1) {
        print("\nCoppice: console restarted, incarnation %u\n", generation);
        return;
    }
    print("\nCoppice: console ready %lu ms after the loader\nType `help` for the commands.\n", us / 1000);
    log_line("{\"event\":\"console_ready\",\"boot_us\":%lu}", us);
}

static void connect(void)
{
    struct message m = {.info = INFO_REPLAYABLE};
    status_t status = stream_open(&terminal, "serial", 0);
    if (status != OK) fatal("console: no terminal: status %d", status);
    banner();
    status = service_call(cap_find("supervisor"), SUPERVISOR_READY, &m);
    if (status != OK) fatal("console: not accepted as ready: status %d", status);
}

int main(void)
{
    char in[64];
    connect();
    editor_prompt(&editor);
    for (;;) {
        size_t n = stream_read(&terminal, in, sizeof(in));
        for (size_t i = 0; i < n; i++) {
            char *line = editor_input(&editor, in[i]);
            if (line == NULL) continue;
            command_run(line);
            editor_prompt(&editor);
        }
        if (n == 0) stream_wait(&terminal);
    }
}
