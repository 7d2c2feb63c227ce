/* SPDX-License-Identifier: BSD-2-Clause
 * The command `svc update`: a service becomes a program of the system image, by the supervisor, or one from the archive on
 * the disk, by the service files. Says who refused and why. */
#include "console.h"
#include "abi/protocol.h"

static const struct {
    status_t status;
    const char *text;
} refusals[] = {
    {E_NOT_FOUND, "no such service; `svc` lists all"},
    {E_STATE, "does not run"},
    {E_BUSY, "an update is under way"},
    {E_UNSUPPORTED, "keeps its memory when it dies, which is of its program: it cannot be updated"},
};

static void refused(const char *name, status_t status)
{
    for (uint32_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        if (refusals[i].status != status) continue;
        print("%s: %s\n", name, refusals[i].text);
        return;
    }
    print("%s: %s\n", name, status_text(status));
}

static bool name_put(uint64_t *words, const char *name, const char *what)
{
    size_t n = strlen(name);
    if (n == 0 || n >= MANIFEST_NAME_MAX) {
        print("`%s`: a %s's name has 1 to %u characters\n", name, what, MANIFEST_NAME_MAX - 1);
        return false;
    }
    memcpy(words, name, n);
    return true;
}

/* Nobody would answer a call to a service that does not run. */
static bool files_serve(void)
{
    struct service_row row;
    for (uint32_t i = 0; service_row(i, &row) == OK; i++) {
        if (strcmp(row.name, "files") != 0) continue;
        if (row.state == SERVICE_STATE_RUNNING) return true;
        print("files: %s: no disk with programs (make run DISK=files.tar)\n", state_name(row.state));
        return false;
    }
    print("files: this system has no such service\n");
    return false;
}

static void update_from_file(struct message *m, const char *name, const char *file)
{
    char why[sizeof(m->w) + 1] = "";
    if (!files_serve()) return;
    status_t status = service_call(cap_find("files"), FILES_UPDATE, m);
    if (status == OK) return;
    memcpy(why, m->w, sizeof(m->w));
    if (status == E_PEER_RESTARTED)
        print("files: died meanwhile; `svc` says whether the update has begun\n");
    else if (why[0])
        print(PROGRAM_FROM_FILE "%s: %s\n", file, why);
    else
        refused(name, status);
}

void svc_update(const char *name, const char *program)
{
    struct message m = {.info = 0}; /* not replayable: nothing is begun twice */
    const size_t prefix = sizeof(PROGRAM_FROM_FILE) - 1;
    bool from_file = strncmp(program, PROGRAM_FROM_FILE, prefix) == 0;
    const char *file = from_file ? program + prefix : program;
    if (!name_put(&m.w[0], name, "service") || !name_put(&m.w[3], file, "program")) return;
    if (from_file) {
        update_from_file(&m, name, file);
        return;
    }
    status_t status = service_call(cap_find("supervisor"), SUPERVISOR_UPDATE, &m);
    if (status == E_IMAGE)
        print("%s: no such program in the system image\n", program);
    else
        refused(name, status);
}
