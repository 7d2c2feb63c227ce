/* SPDX-License-Identifier: BSD-2-Clause
 * Labels of the messages in protocol.def: enum { RECOVERY_ATTACH = 1, ... }. */
#ifndef COPPICE_ABI_PROTOCOL_H
#define COPPICE_ABI_PROTOCOL_H

enum protocol_label {
#define MESSAGE(service, name, label, request, reply, text) service##_##name = label,
#include "protocol.def"
#undef MESSAGE
};

/* In names of programs, for people: not of the system image, but of the archive that files reads. */
#define PROGRAM_FROM_FILE "disk:"

enum flood_kind { /* w0 of HOSTILE_FLOOD */
                  FLOOD_SPAWN = 1,
                  FLOOD_CALLS,
                  FLOOD_SIGNALS,
                  FLOOD_CAPABILITIES,
                  FLOOD_MEMORY,
                  FLOOD_TIMERS,
                  FLOOD_LOG,
                  FLOOD_MAPPINGS,
                  FLOOD_MARKS,
                  FLOOD_REQUESTS,
                  FLOOD_SESSIONS,
                  FLOOD_LONGEST, /* no flood: the longest system calls, one of each */
};

#endif
