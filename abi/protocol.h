/* SPDX-License-Identifier: BSD-2-Clause
 * Labels of the messages in protocol.def: enum { RECOVERY_ATTACH = 1, ... }. */
#ifndef COPPICE_ABI_PROTOCOL_H
#define COPPICE_ABI_PROTOCOL_H

enum protocol_label {
#define MESSAGE(service, name, label, request, reply, text) service##_##name = label,
#include "protocol.def"
#undef MESSAGE
};

#endif
