/* SPDX-License-Identifier: BSD-2-Clause
 * What every process has: start-up, its capabilities by name, address-space placement, clock, log, and
 * the few functions of <string.h> that the compiler needs. A program defines `int main(void)`. */
#ifndef COPPICE_LIB_RUNTIME_H
#define COPPICE_LIB_RUNTIME_H

#include <stdarg.h>
#include "sys.h"
#include "../abi/startup.h"

int main(void);
/* What a program does before it is anybody: memory, tables. It has no capability of its service yet, but "supervisor",
 * "log", "trace" and "image". Optional. A spare does it ahead, so that its service's restart need not. */
void program_prepare(void);

static inline const struct startup *startup(void) { return (const struct startup *)USER_STARTUP; }
const struct startup_cap *cap_entry(const char *name); /* NULL: not given */
handle_t cap_find(const char *name);                   /* 0: not given */
/* A "key=value" word of startup()->args; returns fallback if absent or not a number. */
uint64_t arg_number(const char *key, uint64_t fallback);
bool arg_text(const char *key, char *out, size_t size);

/* Maps the first pages of a memory object at a fresh address, which is never reused. map_range starts
 * at offset_pages. sys_memory_unmap(0, (uint64_t)address) ends it. */
status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out) MUST_USE;
status_t map_range(handle_t memory, uint64_t offset_pages, uint64_t pages, uint32_t prot,
                   void **out) MUST_USE;
void map_position_keep(
    uint64_t *at);       /* what map_range has given out so far is counted there from now (kept.c) */
uint64_t clock_ns(void); /* from the TSC, no system call */
uint64_t rdtsc(void);

/* Formats %s %c %d %u %x %p with widths, 0 and -, l; writes at most size bytes with the final zero. */
int format(char *out, size_t size, const char *text, ...) __attribute__((format(printf, 3, 4)));
int format_v(char *out, size_t size, const char *text, va_list args);
/* A line to the kernel log: needs the "log" or "trace" capability, else it is dropped. */
void log_line(const char *text, ...) __attribute__((format(printf, 1, 2)));
/* Logs and exits with code 1: for a start-up that cannot go on. */
void fatal(const char *text, ...) __attribute__((noreturn, format(printf, 1, 2)));

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);

/* A call to another service: status of the call or, if that was OK, of the reply. In: m->w, and m->info
 * with flags and number of capabilities (0: none; INFO_REPLAYABLE; INFO_MAKE(0, n)). */
status_t service_call(handle_t endpoint, uint16_t label, struct message *m) MUST_USE;

#endif
