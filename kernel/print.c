/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel log, panics and the symbols of backtraces. Owns the symbol table's location. A panic writes
 * its reason and backtrace to the debug port and stops the machine: nothing below it can repair it. */
#include <elf.h>
#include <stdarg.h>
#include "epitaph.h"
#include "print.h"
#include "sched.h"
#include "trace.h"

#define TRACE_TAIL     32u
#define LINE_MAX_BYTES 560u /* a process's longest line and who wrote it */

struct text {
    char *at, *end;
};

static void put(struct text *t, char c)
{
    if (t->at < t->end) *t->at++ = c;
}

static void put_number(struct text *t, uint64_t v, unsigned base, unsigned width, char pad, bool negative)
{
    char digits[24];
    unsigned n = 0;
    do {
        digits[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    if (negative) digits[n++] = '-';
    while (width > n) {
        put(t, pad);
        width--;
    }
    while (n) put(t, digits[--n]);
}

static void put_text(struct text *t, const char *s, unsigned width)
{
    unsigned n = 0;
    for (; s[n]; n++) put(t, s[n]);
    for (; n < width; n++) put(t, ' ');
}

static size_t format_line(char *out, size_t size, const char *f, va_list args)
{
    struct text t = {out, out + size};
    for (; *f; f++) {
        if (*f != '%') {
            put(&t, *f);
            continue;
        }
        f++;
        char pad = ' ';
        unsigned width = 0, longs = 0;
        if (*f == '0') pad = '0';
        while (*f >= '0' && *f <= '9') width = width * 10 + (unsigned)(*f++ - '0');
        while (*f == 'l') longs++, f++;
        switch (*f) {
        case 's': put_text(&t, va_arg(args, const char *), width); break;
        case 'c': put(&t, (char)va_arg(args, int)); break;
        case 'd': {
            int64_t v = longs ? va_arg(args, long) : va_arg(args, int);
            put_number(&t, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, width, pad, v < 0);
            break;
        }
        case 'u':
            put_number(&t, longs ? va_arg(args, unsigned long) : va_arg(args, unsigned), 10, width, pad,
                       false);
            break;
        case 'x':
            put_number(&t, longs ? va_arg(args, unsigned long) : va_arg(args, unsigned), 16, width, pad,
                       false);
            break;
        case 'p': put_number(&t, (uint64_t)va_arg(args, void *), 16, 16, '0', false); break;
        case '%': put(&t, '%'); break;
        default: put(&t, '?'); return (size_t)(t.at - out);
        }
    }
    return (size_t)(t.at - out);
}

void kernel_log(const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    size_t n = format_line(line, sizeof line - 1, format, args);
    va_end(args);
    line[n++] = '\n';
    epitaph_add(line, n);
    arch_debug_write(line, n);
}

/* The newest entries of this CPU's ring, oldest first. */
static void trace_tail(void)
{
    static const char *const name[] = {
#define EVENT(name, number, a, b, text) [number] = #name,
#include "../abi/trace.def"
#undef EVENT
    };
    const struct trace_header *h = arch_cpu()->trace;
    if (!h) return; /* a panic before there was one */
    const struct trace_entry *entries = (const void *)((const uint8_t *)h + PAGE_SIZE);
    for (uint64_t n = h->head > TRACE_TAIL ? h->head - TRACE_TAIL : 0; n < h->head; n++) {
        const struct trace_entry *e = &entries[n % TRACE_ENTRIES];
        bool known = e->event < sizeof name / sizeof name[0] && name[e->event];
        kernel_log("  trace %lu %s %u.%u 0x%lx 0x%lx", e->tsc, known ? name[e->event] : "?",
                   TAG_SERVICE(e->tag), TAG_GENERATION(e->tag), e->a, e->b);
    }
}

/* --- Symbols: .symtab and .strtab of the kernel's own ELF file ----------------------------------- */

static const Elf64_Sym *symbol_table;
static uint64_t symbol_count;
static const char *symbol_names;
static uint64_t symbol_names_bytes;

void symbols_init(const uint8_t *elf, uint64_t length)
{
    const Elf64_Ehdr *h = (const void *)elf;
    if (length < sizeof *h || h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff % 8 || h->e_shoff > length ||
        (length - h->e_shoff) / sizeof(Elf64_Shdr) < h->e_shnum)
        return;
    const Elf64_Shdr *s = (const void *)(elf + h->e_shoff);
    for (unsigned i = 0; i < h->e_shnum; i++) {
        if (s[i].sh_type != SHT_SYMTAB || s[i].sh_link >= h->e_shnum) continue;
        const Elf64_Shdr *names = &s[s[i].sh_link];
        if (s[i].sh_offset % 8 || s[i].sh_offset > length || s[i].sh_size > length - s[i].sh_offset ||
            names->sh_offset > length || names->sh_size > length - names->sh_offset || names->sh_size == 0 ||
            elf[names->sh_offset + names->sh_size - 1] != 0)
            return;
        symbol_table = (const void *)(elf + s[i].sh_offset);
        symbol_count = s[i].sh_size / sizeof(Elf64_Sym);
        symbol_names = (const char *)elf + names->sh_offset;
        symbol_names_bytes = names->sh_size;
        return;
    }
}

const char *symbol_find(uint64_t address, uint64_t *offset)
{
    const Elf64_Sym *best = NULL;
    for (uint64_t i = 0; i < symbol_count; i++) {
        const Elf64_Sym *s = &symbol_table[i];
        unsigned kind = ELF64_ST_TYPE(s->st_info);
        if ((kind != STT_FUNC && kind != STT_NOTYPE) || s->st_value > address ||
            s->st_name >= symbol_names_bytes)
            continue;
        if (!best || s->st_value >= best->st_value) best = s;
    }
    if (!best) return NULL;
    *offset = address - best->st_value;
    return symbol_names + best->st_name;
}

static void panic_frame(uint64_t rip)
{
    uint64_t offset = 0;
    const char *name = symbol_find(rip, &offset);
    if (name)
        kernel_log("  %p %s+0x%lx", (void *)rip, name, offset);
    else
        kernel_log("  %p", (void *)rip);
}

void kernel_panic(const char *format, ...)
{
    static bool panicking; /* a panic inside a panic, or on a second CPU, says no more */
    if (!__atomic_exchange_n(&panicking, true, __ATOMIC_ACQ_REL)) {
        arch_freeze();
        char reason[LINE_MAX_BYTES];
        va_list args;
        va_start(args, format);
        size_t n = format_line(reason, sizeof reason - 1, format, args);
        va_end(args);
        reason[n] = 0;
        epitaph_begin();
        arch_debug_write("\n", 1); /* an NMI or a machine check may have struck within a line */
        kernel_log("KERNEL PANIC: %s", reason);
        arch_backtrace(panic_frame);
        trace_tail();
    }
    arch_halt();
}
