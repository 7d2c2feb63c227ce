/* SPDX-License-Identifier: BSD-2-Clause
 * /init of the Linux guest: the shortest way to a first disk read, then every suite once. */
#include "bench.h"
#include <string.h>
#include <time.h>

#define KILLS_COUNTED   30u /* as bench/guest */
#define KILLS_TIMED     120u
#define REBINDS_COUNTED 20u
#define REBINDS_TIMED   60u
#define REST_SECONDS    1 /* then nothing is left to do, and memory is looked at */

struct boot {
    uint64_t ticks;     /* from the loader's first instruction to the first block of the disk in our hands */
    uint64_t kernel_ns; /* of that, since the kernel's clock began: it was loaded and unpacked by then */
};

static struct boot boot(void)
{
    struct timespec since;

    mount_all();
    modules_load("/modules/disk");
    uint64_t read = disk_first_read();
    check(clock_gettime(CLOCK_BOOTTIME, &since) == 0, "the clock");
    return (struct boot){.ticks = read - file_number("/proc/cmdline", "coppice.tsc=%lu"),
                         .kernel_ns = (uint64_t)since.tv_sec * 1000000000 + (uint64_t)since.tv_nsec};
}

int main(int count, char **word)
{
    struct timespec rest = {.tv_sec = REST_SECONDS};

    (void)count;
    report_open();
    if (strcmp(word[0], "uio-driver") == 0) uio_driver();
    struct boot booted = boot();
    say("{\"boot\":true}");
    bool instructions = ticks_are_instructions();
    say("{\"bench\":{\"begin\":true,\"tsc_hz\":%lu,\"instructions\":%s}}", (unsigned long)ticks_hz(),
        instructions ? "true" : "false");
    say("{\"bench\":{\"boot_ticks\":%lu,\"boot_kernel_ns\":%lu}}", (unsigned long)booted.ticks,
        (unsigned long)booted.kernel_ns);
    nanosleep(&rest, NULL);
    memory_report();
    if (instructions) {
        suite_paths();
        spinner_start();
    }
    suite_reads(instructions);
    suite_rebind(instructions ? REBINDS_COUNTED : REBINDS_TIMED);
    if (!disk_confined()) suite_uio(instructions ? KILLS_COUNTED : KILLS_TIMED);
    say("{\"bench\":{\"end\":true}}");
    power_off();
}
