/* SPDX-License-Identifier: BSD-2-Clause
 * What the parts of the Linux guest share. One static program: it is /init, and the UIO driver when it is
 * started by that name. It measures as bench/guest does and says what it found in the same words, on port
 * 0xe9. All times are TSC ticks, which are instructions under `-icount shift=0`. Anything that does not work
 * ends the run with {"bench":{"error":...}}. */
#ifndef COPPICE_BENCH_LINUX_H
#define COPPICE_BENCH_LINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLES_MAX 2048
#define PAGE        4096
#define READ_BYTES  4096u
#define DEPTH_MAX   32u
#define DISK        "/dev/vda"

static inline uint64_t ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* A system call without the C library: its wrappers are not what is measured. */
static inline long call3(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

/* --- report.c ------------------------------------------------------------------------------------------- */
struct samples {
    uint32_t n;
    uint64_t v[SAMPLES_MAX];
};
void report_open(void); /* before the first say() */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
__attribute__((noreturn)) void fail(const char *what); /* with errno; ends the machine */
void check(bool good, const char *what);
void samples_add(struct samples *s, uint64_t value);
void samples_report(struct samples *s, const char *name, uint64_t each);
uint64_t random_next(void); /* xorshift, the sequence of bench/guest/storage.c */

/* --- machine.c -------------------------------------------------------------------------------------------- */
void mount_all(void);
void modules_load(const char *folder); /* folder/0.ko, folder/1.ko, ... */
void file_write(const char *path, const char *text);
uint64_t file_number(const char *path, const char *format); /* the first line's number; format: for sscanf */
bool ticks_are_instructions(void);
uint64_t ticks_hz(void);
void memory_report(void);
__attribute__((noreturn)) void power_off(void);

/* From spinner_start on the CPU never idles: time that nobody needs is what a SCHED_IDLE process counts. */
void spinner_start(void);
uint64_t idle_ticks(void);

/* --- paths.c: system calls and round trips between two address spaces ------------------------------------- */
void suite_paths(void);

/* --- disk.c: the kernel's virtio_blk ------------------------------------------------------------------------ */
uint64_t disk_first_read(void); /* one block, O_DIRECT; the TSC when it is there */
bool disk_confined(void);       /* behind an IOMMU that Linux uses: uio_pci_generic cannot serve it */
void suite_reads(bool instructions);
void suite_rebind(uint32_t rounds);

/* --- uio.c: a virtio-blk driver as a process, killed and started again ------------------------------------- */
void suite_uio(uint32_t kills);
__attribute__((noreturn)) void uio_driver(void); /* uio_driver.c: what the process runs */

#endif
