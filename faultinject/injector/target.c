/* SPDX-License-Identifier: BSD-2-Clause
 * Talking to the supervisor. */
#include "target.h"
#include "abi/protocol.h"

static handle_t supervisor(void)
{
    static handle_t found;

    if (found == 0) found = cap_find("supervisor");
    return found;
}

status_t target_read(uint32_t service, struct target *out)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {service}};
    status_t status = service_call(supervisor(), SUPERVISOR_LIST, &m);

    if (status != OK) return status;
    memcpy(out->name, &m.w[0], sizeof(out->name));
    out->name[sizeof(out->name) - 1] = 0;
    out->state = (uint32_t)m.w[3] & 0xff; /* above it: its spare */
    out->flags = (uint32_t)(m.w[3] >> 32);
    out->generation = m.w[4];
    out->recovery_ns = m.w[6];
    return OK;
}

uint32_t target_find(const char *name)
{
    struct target t;

    for (uint32_t i = 0; i < TARGETS_MAX && target_read(i, &t) == OK; i++)
        if (strcmp(t.name, name) == 0) return i;
    return TARGET_NONE;
}

bool targets_settled(void)
{
    struct target t;

    for (uint32_t i = 1; i < TARGETS_MAX && target_read(i, &t) == OK; i++)
        if (t.state == SERVICE_STATE_WAITING || t.state == SERVICE_STATE_STARTING ||
            t.state == SERVICE_STATE_FAILING || t.state == SERVICE_STATE_STOPPING ||
            t.state == SERVICE_STATE_BACKOFF)
            return false;
    return true;
}

status_t target_process(uint32_t service, handle_t *out)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {service}};
    status_t status = service_call(supervisor(), SUPERVISOR_PROCESS, &m);

    if (status != OK) return status;
    *out = m.w[7];
    return *out != 0 ? OK : E_NO_SLOTS;
}

static status_t operate(uint16_t label, const char *name)
{
    struct message m = {.info = INFO_REPLAYABLE};
    char padded[MANIFEST_NAME_MAX] = {0};

    for (uint32_t i = 0; i + 1 < sizeof(padded) && name[i] != 0; i++) padded[i] = name[i];
    memcpy(&m.w[0], padded, sizeof(padded));
    return service_call(supervisor(), label, &m);
}

status_t target_kill(const char *name) { return operate(SUPERVISOR_KILL, name); }
status_t target_reset(const char *name) { return operate(SUPERVISOR_RESET, name); }

void targets_log(void)
{
    struct target t;

    for (uint32_t i = 0; i < TARGETS_MAX && target_read(i, &t) == OK; i++)
        log_line("{\"service\":{\"index\":%u,\"name\":\"%s\",\"state\":%u,\"flags\":%u,\"generation\":%lu}}",
                 i, t.name, t.state, t.flags, t.generation);
}
