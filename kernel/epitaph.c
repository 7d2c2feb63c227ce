/* SPDX-License-Identifier: BSD-2-Clause
 * The epitaph. Owns the memory that the loader reserved for it. Each line is complete when its sum is: a kernel that
 * cannot even panic to the end leaves what it said so far. */
#include "epitaph.h"
#include "print.h"

static struct epitaph *epitaph;
static bool dying;

static void line_print(const char *line, size_t bytes)
{
    char text[120];
    size_t n = bytes < sizeof text - 1 ? bytes : sizeof text - 1;
    __builtin_memcpy(text, line, n);
    text[n] = 0;
    kernel_log("last panic: %s", text);
}

void epitaph_init(struct epitaph *at)
{
    epitaph = at;
    if (!at || !epitaph_good(at)) return;
    for (uint32_t i = 0, begin = 0; i < at->bytes; i++) {
        if (at->text[i] != '\n') continue;
        line_print(at->text + begin, i - begin);
        begin = i + 1;
    }
    at->magic = 0;
}

void epitaph_begin(void)
{
    if (!epitaph) return;
    epitaph->bytes = 0;
    epitaph->stored = 0;
    epitaph->sum = EPITAPH_SUM_START;
    dying = true;
}

void epitaph_add(const char *text, size_t bytes)
{
    if (!dying || bytes > sizeof epitaph->text - epitaph->bytes) return;
    __builtin_memcpy(epitaph->text + epitaph->bytes, text, bytes);
    epitaph->sum = epitaph_sum(epitaph->sum, text, bytes);
    epitaph->bytes += (uint32_t)bytes;
    epitaph->magic = EPITAPH_MAGIC;
}
