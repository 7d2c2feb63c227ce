/* SPDX-License-Identifier: BSD-2-Clause
 * lib/sys.h and lib/runtime.h for targets that include sources of lib/ and drivers/: types only. A target
 * defines the few calls that its sources make. */
#ifndef COPPICE_TESTS_FUZZ_RUNTIME_H
#define COPPICE_TESTS_FUZZ_RUNTIME_H

#define COPPICE_LIB_SYS_H
#define COPPICE_LIB_RUNTIME_H

#include "fuzz.h"
#include "abi/syscall.h"
#include "abi/startup.h"

struct message {
    uint64_t badge, info, w[MESSAGE_WORDS];
};
struct sys_result {
    status_t status;
    uint64_t value, value1;
};

#endif
