/* SPDX-License-Identifier: BSD-2-Clause
 * In the place of lib/sys.h, for a test that is the kernel itself: the types of its calls. Which calls there are, and what they
 * do, each test says, before it includes the program under test. */
#ifndef COPPICE_TESTS_SYS_TYPES_H
#define COPPICE_TESTS_SYS_TYPES_H

#define COPPICE_LIB_SYS_H
#include "abi/syscall.h"

struct message {
    uint64_t badge, info, w[MESSAGE_WORDS];
};
struct sys_result {
    status_t status;
    uint64_t value, value1;
};

#endif
