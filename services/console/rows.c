/* SPDX-License-Identifier: BSD-2-Clause
 * What the supervisor says of its services, and words for the numbers in it. Names are fixed for a
 * boot and kept; everything else is asked anew each time. */
#include "console.h"
#include "abi/protocol.h"

#define NAMES_KEPT 64

status_t service_row(uint32_t index, struct service_row *row)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {index}};
    status_t status = service_call(cap_find("supervisor"), SUPERVISOR_LIST, &m);
    if (status != OK) return status;
    *row = (struct service_row){.index = index,
                                .state = (uint32_t)m.w[3] & 0xff,
                                .spare = (uint32_t)m.w[3] >> 8 & 0xff,
                                .flags = (uint32_t)(m.w[3] >> 32),
                                .generation = m.w[4],
                                .restarts = m.w[5],
                                .recovery_ns = m.w[6],
                                .cause = (uint32_t)m.w[7],
                                .reason = (uint32_t)(m.w[7] >> 32)};
    memcpy(row->name, &m.w[0], MANIFEST_NAME_MAX);
    return OK;
}

const char *service_name(uint32_t index)
{
    static char names[NAMES_KEPT][MANIFEST_NAME_MAX + 1];
    static char number[16];
    struct service_row row;
    if (index < NAMES_KEPT && names[index][0] != 0) return names[index];
    if (index >= NAMES_KEPT || service_row(index, &row) != OK) {
        format(number, sizeof(number), "#%u", index);
        return number;
    }
    memcpy(names[index], row.name, sizeof(row.name));
    return names[index];
}

const char *status_text(status_t status)
{
    switch (status) {
#define STATUS(name, number, text) \
    case name:                     \
        return text;
#include "abi/errors.def"
#undef STATUS
    default: return "unknown status";
    }
}

const char *cause_text(uint64_t cause)
{
    switch (cause) {
#define CAUSE(name, number, text) \
    case number:                  \
        return text;
#include "abi/faults.def"
#undef CAUSE
    default: return "unknown cause";
    }
}

const char *reason_text(uint32_t reason)
{
    switch (reason) {
#define REASON(name, number, text) \
    case number:                   \
        return text;
#include "abi/reasons.def"
#undef REASON
    default: return "unknown reason";
    }
}

const char *state_name(uint32_t state)
{
    switch (state) {
#define STATE(name, number, text) \
    case number:                  \
        return #name;
#include "abi/states.def"
#undef STATE
    default: return "?";
    }
}
