/* SPDX-License-Identifier: BSD-2-Clause
 * The measured process: runs every suite once and says what it found in the kernel log, for bench/bench.py
 * to read. Fails by saying so ({"bench":{"error":...}}) and ending; nothing is retried. */
#include "bench.h"
#include "abi/protocol.h"

#define KILLS_COUNTED 30u  /* -icount: recoveries in instructions */
#define KILLS_TIMED   120u /* recoveries in time: enough for a 99th percentile */

int main(void)
{
    struct message m = {0};
    uint64_t booted = suite_boot();
    bool instructions = ticks_are_instructions();

    check(service_call(cap_find("supervisor"), SUPERVISOR_READY, &m), "readiness");
    log_line("{\"bench\":{\"begin\":true,\"tsc_hz\":%lu,\"instructions\":%s}}", startup()->tsc_hz,
             instructions ? "true" : "false");
    log_line("{\"bench\":{\"boot_ticks\":%lu}}", booted);
    peer_image_make();
    bool all = arg_number("recovery_only", 0) == 0;
    if (instructions && all) suite_kernel();
    if (instructions) spinner_start();
    if (all) suite_reads(instructions);
    suite_recovery(instructions ? KILLS_COUNTED : KILLS_TIMED);
    log_line("{\"bench\":{\"end\":true}}");
    if (!instructions) suite_load(arg_number("load_rounds", 0));
    return 0;
}
