/* SPDX-License-Identifier: BSD-2-Clause
 * A null system call, and round trips between two address spaces over pipes and a SOCK_SEQPACKET pair. The
 * other process answers with what it got. All of it counted by two rdtsc, nothing is subtracted. */
#include "bench.h"
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS      1000u
#define WARM_UP     20u
#define BYTES_LARGE 64 /* Coppice's message: 8 words */

static struct samples samples;

/* What is between the two rdtsc is what bench/guest/stubs.S has there. */
static uint32_t timed_null(void)
{
    uint32_t taken, begin;
    __asm__ volatile("rdtsc; mov %%eax, %1; mov %2, %%eax; syscall; rdtsc; sub %1, %%eax"
                     : "=&a"(taken), "=&r"(begin)
                     : "i"(SYS_getppid)
                     : "rcx", "rdx", "r11", "memory", "cc");
    return taken;
}

static void measure_null(void)
{
    for (uint32_t i = 0; i < WARM_UP; i++) (void)timed_null();
    for (uint32_t i = 0; i < ROUNDS; i++) samples_add(&samples, timed_null());
    samples_report(&samples, "null_syscall", 1);
}

struct ends {
    int in, out;
};

static void echo(struct ends e, long bytes)
{
    char buffer[BYTES_LARGE];

    while (call3(SYS_read, e.in, (long)buffer, bytes) == bytes)
        if (call3(SYS_write, e.out, (long)buffer, bytes) != bytes) break;
    _exit(0);
}

static void round_trip(struct ends e, uint64_t seed, long bytes, bool count)
{
    uint64_t words[BYTES_LARGE / 8], first = seed & 0xff;

    for (uint32_t i = 0; i < BYTES_LARGE / 8; i++) words[i] = first + i;
    uint64_t begin = ticks();
    long sent = call3(SYS_write, e.out, (long)words, bytes);
    long received = call3(SYS_read, e.in, (long)words, bytes);
    uint64_t taken = ticks() - begin;
    check(sent == bytes && received == bytes && words[0] == first, "a round trip");
    if (count) samples_add(&samples, taken);
}

static void measure(struct ends ours, struct ends theirs, long bytes, const char *name)
{
    pid_t child = fork();

    check(child >= 0, name);
    if (child == 0) echo(theirs, bytes);
    for (uint32_t i = 0; i < WARM_UP; i++) round_trip(ours, i, bytes, false);
    for (uint32_t i = 0; i < ROUNDS; i++) round_trip(ours, i, bytes, true);
    samples_report(&samples, name, 1);
    check(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, name);
}

static void measure_pipe(long bytes, const char *name)
{
    int there[2], back[2];

    check(pipe(there) == 0 && pipe(back) == 0, "two pipes");
    measure((struct ends){.in = back[0], .out = there[1]}, (struct ends){.in = there[0], .out = back[1]},
            bytes, name);
    for (int i = 0; i < 2; i++) close(there[i]), close(back[i]);
}

static void measure_seqpacket(void)
{
    int end[2];

    check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, end) == 0, "a socket pair");
    measure((struct ends){end[0], end[0]}, (struct ends){end[1], end[1]}, BYTES_LARGE, "seqpacket_64b");
    close(end[0]), close(end[1]);
}

void suite_paths(void)
{
    measure_null();
    measure_pipe(1, "pipe_1b");
    measure_pipe(BYTES_LARGE, "pipe_64b");
    measure_seqpacket();
}
