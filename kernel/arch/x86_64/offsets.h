/* SPDX-License-Identifier: BSD-2-Clause
 * Offsets and selectors that assembly needs. Each is asserted against its structure in cpu.c. */
#ifndef COPPICE_X86_OFFSETS_H
#define COPPICE_X86_OFFSETS_H

#define CONTEXT_RAX    0
#define CONTEXT_RDI    8
#define CONTEXT_RSI    16
#define CONTEXT_RDX    24
#define CONTEXT_R10    32
#define CONTEXT_R8     40
#define CONTEXT_R9     48
#define CONTEXT_R12    56
#define CONTEXT_R13    64
#define CONTEXT_R14    72
#define CONTEXT_R15    80
#define CONTEXT_RBX    88
#define CONTEXT_RBP    96
#define CONTEXT_RCX    104
#define CONTEXT_R11    112
#define CONTEXT_RIP    120
#define CONTEXT_RSP    128
#define CONTEXT_RFLAGS 136
#define CONTEXT_WAY    144

/* How a thread goes back to user mode (struct arch_regs, way). SYSRET loads rip and rflags from rcx and
 * r11, so it only serves a thread that came by SYSCALL, which has given those two up. */
#define WAY_IRET   0
#define WAY_SYSRET 1

#define CPU_CONTEXT 8
#define CPU_STACK   16
#define CPU_SCRATCH 24
#define CPU_ROOT    32
#define CPU_GUARD   40
#define CPU_CURRENT 64

/* SYSCALL loads CS = KERNEL_CS, SS = KERNEL_CS + 8; SYSRET SS = base + 8, CS = base + 16 (SDM vol. 2B). */
#define KERNEL_CS   0x08
#define KERNEL_SS   0x10
#define SYSRET_BASE 0x13
#define USER_SS     0x1b
#define USER_CS     0x23
#define TSS_SEL     0x28

#define MSR_GS_BASE 0xc0000101
#define MSR_EFER    0xc0000080
#define EFER_LME    0x100
#define EFER_NXE    0x800
#define CR4_PAE     0x20
#define CR0_START   0x80010033 /* PG, WP, NE, ET, MP, PE: caches on */

#define VECTOR_NMI           2
#define VECTOR_DOUBLE_FAULT  8
#define VECTOR_MACHINE_CHECK 18
#define VECTOR_DEVICE_FIRST  48 /* device interrupts: 48..239 */
#define VECTOR_DEVICE_END    240
#define VECTOR_KICK          252
#define VECTOR_IOMMU         240
#define VECTOR_TIMER         253
#define VECTOR_ERROR         254
#define VECTOR_SPURIOUS      255

#endif
