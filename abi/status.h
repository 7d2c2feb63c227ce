/* SPDX-License-Identifier: BSD-2-Clause
 * Enums made from the .def lists: statuses, causes, rights, object types. */
#ifndef COPPICE_ABI_STATUS_H
#define COPPICE_ABI_STATUS_H

typedef enum {
#define STATUS(name, number, text) name = number,
#include "errors.def"
#undef STATUS
    STATUS_COUNT
} status_t;

#define MUST_USE __attribute__((warn_unused_result))

enum cause {
#define CAUSE(name, number, text) CAUSE_##name = number,
#include "faults.def"
#undef CAUSE
};

enum right {
#define RIGHT(name, bit, text) RIGHT_##name = 1 << bit,
#include "rights.def"
#undef RIGHT
    RIGHTS_ALL = 0x7f
};

enum object_type {
#define OBJECT(name, number, text) OBJECT_##name = number,
#include "objects.def"
#undef OBJECT
    OBJECT_TYPES
};

#endif
