/* SPDX-License-Identifier: BSD-2-Clause
 * Brings a file of the archive on the disk to the supervisor and has a service updated to it (README.md). Owns one block session.
 * What the driver wrote is copied before it is looked at. A disk that does not answer is given up for the moment: who waits here is
 * a person at the console. */
#include "abi/manifest.h"
#include "abi/protocol.h"
#include "lib/session.h"
#include "archive.h"

#define CHUNK      4096u
#define ANSWER_NS  10000000000ul
#define TIMER_BIT  DOORBELL_TIMER
#define DATA_BYTES ((MESSAGE_WORDS - 1) * 8u) /* of one LOAD_DATA */

static struct block_session disk;
static handle_t notification, timer;
static char why[MESSAGE_WORDS * 8]; /* in words, if a status does not say it */

static void check(status_t status, const char *what)
{
    if (status != OK) fatal("files: %s: status %u", what, status);
}

static status_t call_supervisor(uint16_t label, struct message *m)
{
    m->info = INFO_REPLAYABLE; /* each may be carried out twice */
    return service_call(cap_find("supervisor"), label, m);
}

/* --- Disk ------------------------------------------------------------------------------------------------------ */
static status_t late(void)
{
    (void)format(why, sizeof(why), "the disk does not answer");
    return E_BUSY;
}

static status_t disk_do(enum block_op op, uint64_t at, uint32_t bytes, void *out)
{
    struct block_done done;
    uint64_t end = clock_ns() + ANSWER_NS;

    if (disk.busy != 0 && block_take(&disk, &done, 1) == 0) return late(); /* still */
    if (block_submit(&disk, op, at / SECTOR_SIZE, bytes, 0) < 0 || sys_timer_arm(timer, end) != OK)
        return E_STATE;
    while (block_take(&disk, &done, 1) == 0) {
        if (clock_ns() >= end) return late();
        if (block_arm(&disk)) (void)sys_wait(notification);
    }
    if (done.status != OK) {
        (void)format(why, sizeof(why), "the disk fails at byte %lu: status %u", at, done.status);
        return done.status;
    }
    memcpy(out, disk.data, bytes);
    return OK;
}

static status_t disk_read(uint64_t at, uint32_t bytes, void *out)
{
    return disk_do(BLOCK_READ, at, bytes, out);
}

/* --- Archive --------------------------------------------------------------------------------------------------- */
static status_t find(const char *file, struct archive *a)
{
    static uint8_t block[SECTOR_SIZE];
    struct block_info info;

    status_t status = disk_do(BLOCK_INFO, 0, SECTOR_SIZE, block);
    if (status != OK) return status;
    memcpy(&info, block, sizeof(info));
    archive_begin(a, file, info.sectors > UINT64_MAX / SECTOR_SIZE ? 0 : info.sectors * SECTOR_SIZE);
    while (a->more) {
        status = disk_read(a->at, SECTOR_SIZE, block);
        if (status != OK) return status;
        archive_header(a, block);
    }
    if (a->wrong)
        (void)format(why, sizeof(why), "archive, byte %lu: %s", a->at, a->wrong);
    else if (!a->found)
        (void)format(why, sizeof(why), "no such file among the %u in the archive", a->files);
    return a->wrong ? E_IMAGE : a->found ? OK : E_NOT_FOUND;
}

/* --- Supervisor ------------------------------------------------------------------------------------------------ */
static status_t load_begin(const char name[MANIFEST_NAME_MAX], uint64_t bytes)
{
    struct message m = {.w = {[3] = bytes}};

    memcpy(m.w, name, MANIFEST_NAME_MAX);
    status_t status = call_supervisor(SUPERVISOR_LOAD, &m);
    if (status == E_ARGUMENT) (void)format(why, sizeof(why), "%lu bytes: a program has 1 to 524288", bytes);
    if (status == E_NO_SLOTS) (void)format(why, sizeof(why), "services need all programs loaded before");
    if (status == E_NO_MEMORY || status == E_QUOTA) (void)format(why, sizeof(why), "no memory for it");
    return status;
}

static status_t load_data(uint64_t offset, const uint8_t *data, uint64_t bytes)
{
    status_t status = OK;

    for (uint64_t at = 0; at < bytes && status == OK; at += DATA_BYTES) {
        struct message m = {.w = {offset + at}};
        memcpy(&m.w[1], data + at, bytes - at < DATA_BYTES ? bytes - at : DATA_BYTES);
        status = call_supervisor(SUPERVISOR_LOAD_DATA, &m);
    }
    return status;
}

/* A whole number of messages a read, so that each but the last is full. */
#define READ_BYTES (CHUNK / DATA_BYTES * DATA_BYTES)

static status_t load(const char name[MANIFEST_NAME_MAX], const struct archive *a)
{
    static uint8_t data[2 * CHUNK];
    status_t status = load_begin(name, a->bytes);

    for (uint64_t at = 0; at < a->bytes && status == OK; at += READ_BYTES) {
        uint64_t from = a->offset + at, left = a->bytes - at, bytes = left < READ_BYTES ? left : READ_BYTES;
        uint64_t start = from / SECTOR_SIZE * SECTOR_SIZE, skip = from - start;
        uint64_t read = (skip + bytes + SECTOR_SIZE - 1) / SECTOR_SIZE * SECTOR_SIZE;
        status = disk_read(start, (uint32_t)read, data);
        if (status == OK) status = load_data(at, data + skip, bytes);
    }
    return status;
}

static status_t update(const char service[MANIFEST_NAME_MAX], const char file[MANIFEST_NAME_MAX])
{
    struct archive archive;
    struct message m = {0};

    why[0] = 0;
    status_t status = find(file, &archive);
    if (status == OK) status = load(file, &archive);
    if (status != OK) return status;
    memcpy(m.w, service, MANIFEST_NAME_MAX);
    status = call_supervisor(SUPERVISOR_UPDATE_LOADED, &m);
    if (status == E_IMAGE) (void)format(why, sizeof(why), "not an ELF program for this system");
    if (status == E_QUOTA || status == E_NO_MEMORY)
        (void)format(why, sizeof(why), "no memory for a process of it");
    log_line("files: %s: %s, %lu bytes from byte %lu: status %u", service, file, archive.bytes,
             archive.offset, status);
    return status;
}

static void serve(struct message *m)
{
    char service[MANIFEST_NAME_MAX], file[MANIFEST_NAME_MAX];

    for (uint32_t n = INFO_CAPS(m->info), i = MESSAGE_WORDS - n; i < MESSAGE_WORDS; i++)
        if (m->w[i]) (void)sys_cap_delete(m->w[i]); /* not wanted */
    if (INFO_LABEL(m->info) != FILES_UPDATE) {
        m->info = INFO_MAKE(E_UNSUPPORTED, 0);
        return;
    }
    memcpy(service, &m->w[0], sizeof(service));
    memcpy(file, &m->w[3], sizeof(file));
    service[sizeof(service) - 1] = file[sizeof(file) - 1] = 0;
    status_t status = update(service, file);
    memcpy(m->w, why, sizeof(why));
    m->info = INFO_MAKE(status, 0);
}

int main(void)
{
    handle_t endpoint = cap_find("endpoint");
    struct message m = {0};

    struct sys_result r = sys_notification_create(startup()->tag);
    check(r.status, "a notification");
    notification = r.value;
    r = sys_timer_create(notification, TIMER_BIT);
    check(r.status, "a timer");
    timer = r.value;
    check(block_open(&disk, "virtio_disk", 1, 2 * CHUNK, notification), "a session");
    check(call_supervisor(SUPERVISOR_READY, &m), "readiness");
    check(sys_recv(endpoint, &m), "a request");
    for (;;) {
        serve(&m);
        check(sys_reply_recv(endpoint, &m), "a request");
    }
}
