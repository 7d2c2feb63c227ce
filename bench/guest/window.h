/* SPDX-License-Identifier: BSD-2-Clause
 * Where measured windows begin and end: a table in the program's file, so that it costs no instruction.
 * bench/breakdown.py steps from the one to the other. Entry: address, kind, name of the figure in 48 bytes.
 * In a debug section: the linker keeps those, and what is booted has none. For the assembler: stubs.S. */
#ifndef COPPICE_BENCH_WINDOW_H
#define COPPICE_BENCH_WINDOW_H

#define WINDOW_BEGIN 0 /* the RDTSC that starts the clock */
#define WINDOW_END   1 /* the RDTSC that stops it */
#define WINDOW_ROUND 2 /* from here to the next time here */

#ifndef __ASSEMBLER__
#define WINDOW_TEXT_(x)    #x
#define WINDOW_TEXT(x)     WINDOW_TEXT_(x)
#define WINDOW(kind, name) /* of the label 9 before it */          \
    ".pushsection .debug_windows, \"\", @progbits\n\t"             \
    ".quad 9b, " WINDOW_TEXT(kind) "\n8:\t.ascii \"" name "\"\n\t" \
                                   ".fill 48 - (. - 8b), 1, 0\n\t.popsection"

#define window_round(name) __asm__ volatile("9:\n\t" WINDOW(WINDOW_ROUND, name))
#endif

#endif
