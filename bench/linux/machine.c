/* SPDX-License-Identifier: BSD-2-Clause
 * The machine around the measurements: mounts, modules, clocks, memory, time that nobody needs. */
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALIBRATION_ROUNDS   100000u /* of two instructions */
#define CALIBRATION_SLACK    16u
#define CALIBRATION_TRIES    8u
#define CLOCK_NS             300000000l
#define SPINNER_INSTRUCTIONS 2 /* of one round */

void mount_all(void)
{
    static const struct {
        const char *type, *at;
    } all[] = {{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        mkdir(all[i].at, 0755);
        check(mount(all[i].type, all[i].at, all[i].type, 0, NULL) == 0, all[i].at);
    }
}

void modules_load(const char *folder)
{
    char path[64];

    for (int i = 0;; i++) {
        snprintf(path, sizeof(path), "%s/%d.ko", folder, i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT && i > 0) return;
        check(fd >= 0 && syscall(SYS_finit_module, fd, "", 0) == 0, path);
        close(fd);
    }
}

void file_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t length = (ssize_t)strlen(text);

    check(fd >= 0 && write(fd, text, (size_t)length) == length, path);
    close(fd);
}

uint64_t file_number(const char *path, const char *format)
{
    unsigned long value = 0;
    char line[512] = "";
    FILE *file = fopen(path, "re");

    check(file != NULL && fgets(line, sizeof(line), file) != NULL, path);
    const char *at = line;
    while (*at != 0 && sscanf(at, format, &value) != 1) at++;
    check(*at != 0, path);
    fclose(file);
    return value;
}

/* A loop of known length takes exactly as many ticks, or it does not: chance does not come that close. */
bool ticks_are_instructions(void)
{
    uint64_t best = ~0ul;

    for (uint32_t i = 0; i < CALIBRATION_TRIES; i++) { /* a try may be interrupted */
        uint32_t rounds = CALIBRATION_ROUNDS;
        uint64_t begin = ticks();
        __asm__ volatile("1: dec %0; jnz 1b" : "+r"(rounds) : : "cc");
        uint64_t taken = ticks() - begin;
        if (taken < best) best = taken;
    }
    return best >= 2ul * CALIBRATION_ROUNDS && best <= 2ul * CALIBRATION_ROUNDS + CALIBRATION_SLACK;
}

static uint64_t clock_ns(void)
{
    struct timespec t;

    check(clock_gettime(CLOCK_MONOTONIC_RAW, &t) == 0, "the clock");
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t ticks_hz(void)
{
    struct timespec pause = {.tv_nsec = CLOCK_NS};
    uint64_t ns = clock_ns(), begin = ticks();

    nanosleep(&pause, NULL);
    uint64_t taken = ticks() - begin;
    ns = clock_ns() - ns;
    return (uint64_t)((double)taken * 1e9 / (double)ns);
}

/* RAM as the kernel was given it ("System RAM" at the top level of /proc/iomem), in KiB. */
static uint64_t ram_kib(void)
{
    char line[128];
    uint64_t bytes = 0;
    FILE *file = fopen("/proc/iomem", "re");

    check(file != NULL, "/proc/iomem");
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long first, last;
        if (line[0] == ' ' || strstr(line, "System RAM") == NULL) continue;
        check(sscanf(line, "%lx-%lx", &first, &last) == 2, "/proc/iomem");
        bytes += last - first + 1;
    }
    fclose(file);
    return bytes / 1024;
}

void memory_report(void)
{
    char line[128];
    unsigned long value, total = 0, available = 0, unused = 0;
    FILE *file = fopen("/proc/meminfo", "re");

    check(file != NULL, "/proc/meminfo");
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemTotal: %lu", &value) == 1) total = value;
        if (sscanf(line, "MemFree: %lu", &value) == 1) unused = value;
        if (sscanf(line, "MemAvailable: %lu", &value) == 1) available = value;
    }
    fclose(file);
    check(total > 0 && available > 0, "/proc/meminfo");
    say("{\"bench\":{\"memory\":{\"ram_kib\":%lu,\"total_kib\":%lu,\"free_kib\":%lu,\"available_kib\":%lu}}}",
        (unsigned long)ram_kib(), total, unused, available);
}

void power_off(void)
{
    sync();
    reboot(RB_POWER_OFF);
    for (;;) pause();
}

static volatile uint64_t *spun; /* rounds, in a page shared with the spinner */

void spinner_start(void)
{
    struct sched_param none = {0};

    spun = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(spun != MAP_FAILED, "the spinner's page");
    pid_t child = fork();
    check(child >= 0, "the spinner");
    if (child > 0) return;
    check(call3(SYS_sched_setscheduler, 0, SCHED_IDLE, (long)&none) == 0,
          /* musl has none */ "the spinner's priority");
    for (;;) __asm__ volatile("1: incq (%0); jmp 1b" : : "r"(spun) : "memory", "cc");
}

uint64_t idle_ticks(void) { return spun != NULL ? *spun * SPINNER_INSTRUCTIONS : 0; }
