/* SPDX-License-Identifier: BSD-2-Clause
 * The system-call contract: numbers, the info word of messages, structures the kernel writes.
 * Register convention in syscalls.def. All structures are little-endian and naturally aligned. */
#ifndef COPPICE_ABI_SYSCALL_H
#define COPPICE_ABI_SYSCALL_H

#include "types.h"
#include "status.h"

enum syscall_number {
#define SYSCALL(number, name, arguments, results, text) SYS_##name = number,
#include "syscalls.def"
#undef SYSCALL
    SYSCALL_COUNT
};

/* Info word of a message: bits 0..15 label, 16..18 number of capabilities, then flags.
 * n capabilities travel in the last n words w[8-n]..w[7]: handles of the sender on the way in, of the
 * receiver on the way out (0 where the receiver's table was full). Each needs RIGHT_GRANT. */
#define MESSAGE_WORDS          8
#define INFO_LABEL(i)          ((uint16_t)(i))
#define INFO_CAPS(i)           (((i) >> 16) & 7)
#define INFO_MAKE(label, caps) ((uint64_t)(uint16_t)(label) | ((uint64_t)(caps) << 16))
#define INFO_REPLAYABLE        (1ul << 24) /* call: if the server dies inside it, deliver it to the next one */
#define INFO_SIGNAL            (1ul << 25) /* recv: a signal, not a message; badge holds the bits */
#define INFO_REPLAYED          (1ul << 26) /* recv: an earlier server died while serving this message */

/* memory_create flags */
#define MEMORY_CONTIGUOUS 1u /* one physical run; needed by MEMORY_DMA without an IOMMU */
#define MEMORY_DMA        2u /* may be given to a device; quarantined at its driver's death */
#define MEMORY_DEVICE     4u /* reported by memory_info only */

/* process_create: priority 1..31 (31 most urgent), budget (50 or more; 0: none) and period in microseconds.
 * The budget is for all threads of the process and of its descendants together; once it is used up they run
 * at priority 0 until the period ends. */
#define SCHED_MAKE(priority, budget_us, period_us) \
    ((uint64_t)(priority) | ((uint64_t)(budget_us) << 8) | ((uint64_t)(period_us) << 36))
#define SCHED_PRIORITY(s)  ((uint32_t)((s)&0xff))
#define SCHED_BUDGET_US(s) (((s) >> 8) & 0xfffffff)
#define SCHED_PERIOD_US(s) ((s) >> 36)
#define PRIORITIES         32

/* process_create, with the CPUs: its end is a fall. Its threads are gone, what it drove is fenced, calls that it had
 * taken are replayed or fail; its memory, mappings, capabilities and children stay, and process_start begins it anew:
 * stack and writable pages of its image as the image says, all else as it was. The image must be the system's. */
#define PROCESS_KEPT (1ul << 32)

enum irq_kind { IRQ_GSI = 0, IRQ_MSIX = 1 };
enum system_op { SYSTEM_POWER_OFF = 0, SYSTEM_REBOOT = 1 };

/* inject operations. A strike is traced as STRIKE at the moment it happens.
 * ARM: after a more user-mode instructions of the process's first thread (0: at the next one), do
 *      action b with argument c. ARM_TAG: the same, for the next process started with service index
 *      c>>32, and for as many after it as the low half says, each when it starts, anew or again (process handle 0;
 *      action must be INJECT_KILL).
 * POKE: a = address in the process, b = 8-byte value, c = width 1, 2, 4 or 8.
 * PEEK: a = address; w0 = the 8 bytes there.
 * MAP:  a = memory handle of the caller, b = vaddr, c = prot: maps all pages into the process.
 * UNMAP: a = vaddr: removes the mapping that starts there.
 * AT:   a = address in text of its own: the armed strike begins to count when the process comes to the
 *       instruction there (0 to count: that instruction is not executed before the strike).
 * DISARM: forgets an armed strike. w0 = 1 if it had not struck yet.
 * PROBE: a = address in text of its own, b = a number below INJECT_PROBES: does the process come there? Probes are of one
 *       process at a time and change nothing of what it does.
 * PROBED: w0 = bit b is set: it came to probe b. c != 0: and all of them are forgotten.
 * Text that the process shares with others (the system image's) is never written, by POKE or AT. */
enum inject_op {
    INJECT_ARM,
    INJECT_ARM_TAG,
    INJECT_POKE,
    INJECT_PEEK,
    INJECT_MAP,
    INJECT_DISARM,
    INJECT_UNMAP,
    INJECT_AT,
    INJECT_PROBE,
    INJECT_PROBED,
};
#define INJECT_PROBES 16u
/* With POKE's width: it is not the process that writes, but a memory cell that turns. If the page was not copied since a
 * snapshot, the snapshot has it too. */
#define INJECT_CELL 16u
enum inject_action {
    INJECT_KILL = 0, /* end the process, cause INJECTED */
    INJECT_JUMP = 1, /* continue at address c */
    INJECT_CALL = 2, /* the same; a breakpoint there leads back to the interrupted instruction */
    INJECT_NOTE = 3, /* nothing: the instruction there is now executed, says the trace */
    INJECT_ACTIONS,
};

struct process_info { /* process_info: 144 bytes */
    tag_t tag;
    uint32_t pid;   /* unique since boot */
    uint32_t state; /* enum process_state */
    uint32_t cause; /* enum cause, once dead */
    uint64_t quota_pages, used_pages;
    uint32_t handles, threads, mappings, priority;
    uint64_t cpu_tsc; /* CPU time used so far, TSC ticks */
    uint64_t start_tsc, death_tsc;
    uint64_t fault_address; /* CR2 for a page fault */
    uint64_t fault_rip;
    uint64_t overruns; /* periods in which the budget ran out */
    uint64_t runnable; /* threads that run or wait for the CPU only */
    uint64_t objects;  /* cells in use: kernel objects and mappings that it pays for */
    /* How often a timer, or the interrupt that this call sends to the other CPUs that run it, found it running.
     * CPU time alone proves little on a virtual machine: it goes on while the host has taken the CPU away. */
    uint64_t interruptions;
    uint64_t exit_code;
    uint64_t snapshot; /* 0: it has none; else 1 + how often it has gone back to its last one */
    uint64_t
        room_pages; /* of cells and capability slots: as many as it once needed at the same time, until its end */
};
enum process_state { PROCESS_CREATED, PROCESS_RUNNING, PROCESS_DEAD, PROCESS_FALLEN };

struct process_event { /* process_event: 64 bytes */
    tag_t tag;
    uint32_t pid;
    uint32_t kind;  /* enum process_event_kind */
    uint32_t cause; /* enum cause */
    uint64_t tsc;   /* when the kernel noticed */
    uint64_t address, rip;
    uint64_t code;    /* exit code */
    handle_t process; /* the parent's own handle of it */
    uint64_t reserved;
};
enum process_event_kind { EVENT_DEATH = 1, EVENT_OVERRUN = 2, EVENT_IRQ_STORM = 3 };

struct system_info { /* system_info: 128 bytes */
    uint64_t tsc_hz;
    uint64_t pages_total, pages_free, pages_kernel; /* usable RAM; free now; image and boot structures */
    uint64_t boot_tsc;                              /* TSC at the loader's entry */
    uint64_t idle_tsc;                              /* time spent idle so far, all CPUs */
    uint64_t trace_paddr; /* physical address of struct trace_header, for a debugger outside */
    uint64_t trace_pages;
    uint64_t ecam_paddr; /* PCI Express configuration space of segment 0; 0 if none (ACPI MCFG) */
    uint32_t ecam_bus_first, ecam_bus_last;
    uint32_t cpus, iommu;
    uint64_t switches; /* context switches so far */
    uint64_t quarantined_pages;
    uint64_t processes;
    uint64_t reserved[2];
};

#endif
