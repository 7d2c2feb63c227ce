/* SPDX-License-Identifier: BSD-2-Clause
 * Driver of QEMU's `edu`, whose DMA goes wherever it is told: the means by which tests try what a wrong or hostile
 * driver could reach. It has a buffer of its own, may take and return a second one, and starts any transfer that
 * it is asked for, at any address. What keeps that harmless is the IOMMU, not this code: that is the point.
 * Owns one PCI function and its buffers; no sessions, no checkpoint. A transfer beside its buffers ends it. */
#include "edu.h"
#include "lib/driver.h"
#include "abi/protocol.h"

#define RW           (RIGHT_READ | RIGHT_WRITE)
#define REST_WAIT_NS 1000000000ul /* a transfer takes a tenth of it */
#define BUFFER_PAGES 1

struct buffer {
    handle_t memory; /* 0: none */
    uint64_t *at;
    iova_t iova;
};

static volatile uint8_t *registers;
static handle_t dma;
static struct buffer own, lent;

static uint64_t reg_read(uint32_t reg) { return *(volatile uint64_t *)(registers + reg); }
static void reg_write(uint32_t reg, uint64_t value) { *(volatile uint64_t *)(registers + reg) = value; }

/* --- Buffers ------------------------------------------------------------------------------------------------- */

static status_t buffer_take(struct buffer *b, uint32_t device_may)
{
    struct sys_result r = sys_memory_create(0, BUFFER_PAGES, MEMORY_DMA);
    if (r.status != OK) return r.status;
    b->memory = r.value;
    void *at;
    status_t status = map_new(b->memory, BUFFER_PAGES, RW, &at);
    if (status != OK) return status;
    b->at = at;
    r = sys_dma_map(dma, b->memory, 0, BUFFER_PAGES, device_may);
    b->iova.v = r.value;
    return r.status;
}

static status_t buffer_return(struct buffer *b)
{
    status_t status = sys_dma_unmap(dma, b->iova);
    if (status == OK) status = sys_cap_delete(b->memory);
    *b = (struct buffer){0};
    return status;
}

/* --- Calls ---------------------------------------------------------------------------------------------------- */

static status_t move(uint64_t address, uint64_t bytes, bool to_memory)
{
    if (bytes == 0 || bytes > EDU_BYTES) return E_ARGUMENT;
    if (reg_read(EDU_COMMAND) & EDU_RUN) return E_BUSY;
    reg_write(EDU_SOURCE, to_memory ? EDU_BUFFER : address);
    reg_write(EDU_TARGET, to_memory ? address : EDU_BUFFER);
    reg_write(EDU_COUNT, bytes);
    reg_write(EDU_COMMAND, EDU_RUN | (to_memory ? EDU_TO_MEMORY : 0));
    return OK;
}

static status_t fill(uint64_t pattern, uint64_t *iova)
{
    for (uint32_t i = 0; i < EDU_BYTES / sizeof(*own.at); i++) own.at[i] = pattern;
    *iova = own.iova.v;
    return OK;
}

static bool filled(uint64_t pattern)
{
    for (uint32_t i = 0; i < EDU_BYTES / sizeof(*own.at); i++)
        if (((volatile uint64_t *)own.at)[i] != pattern) return false;
    return true;
}

static status_t lend(uint64_t device_may, uint64_t *iova)
{
    if (lent.memory != 0) return E_EXISTS;
    if ((device_may & ~(uint64_t)RW) != 0) return E_ARGUMENT;
    status_t status = buffer_take(&lent, device_may == 0 ? RW : (uint32_t)device_may);
    *iova = lent.iova.v;
    return status;
}

static void edu_call(struct driver *d, struct message *m)
{
    status_t status = E_UNSUPPORTED;
    (void)d;
    switch (INFO_LABEL(m->info)) {
    case EDU_MOVE: status = move(m->w[0], m->w[1], m->w[2] != 0); break;
    case EDU_FILL: status = fill(m->w[0], &m->w[0]); break;
    case EDU_CHECK:
        status = reg_read(EDU_COMMAND) & EDU_RUN ? E_BUSY : OK;
        m->w[0] = filled(m->w[0]);
        break;
    case EDU_TAKE: status = lend(m->w[0], &m->w[0]); break;
    case EDU_RETURN: status = lent.memory != 0 ? buffer_return(&lent) : E_NOT_FOUND; break;
    }
    m->info = INFO_MAKE(status, 0);
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

static status_t edu_attach(struct driver *d)
{
    handle_t pci = cap_find("pci");
    struct message m = {.info = INFO_REPLAYABLE};
    void *at;
    (void)d;
    status_t status = service_call(pci, PCI_CLAIM, &m);
    if (status != OK) return status;
    dma = m.w[7];
    m = (struct message){.info = INFO_REPLAYABLE};
    status = service_call(pci, PCI_BAR, &m);
    if (status == OK && (m.w[0] < PAGE_SIZE || m.w[1] != 0)) status = E_PROTOCOL;
    if (status == OK) status = map_new(m.w[7], 1, RW, &at);
    if (status != OK) return status;
    registers = at;
    if ((*(volatile uint32_t *)(registers + EDU_IDENTITY) & EDU_IDENTITY_MASK) != EDU_IDENTITY_ED)
        return E_UNSUPPORTED;
    return sys_dma_attach(dma);
}

/* It has no reset register: at rest is when no transfer runs. `stuck_from` in its args plays a device that never
 * comes to rest, from that incarnation on. */
static status_t rest_await(const struct driver *d)
{
    uint64_t stuck_from = arg_number("stuck_from", 0), deadline = clock_ns() + REST_WAIT_NS;
    if (stuck_from != 0 && d->generation >= stuck_from) return E_IO;
    while (reg_read(EDU_COMMAND) & EDU_RUN) {
        if (clock_ns() > deadline) return E_IO;
        sys_yield();
    }
    return OK;
}

static status_t edu_reset(struct driver *d, const void *checkpoint)
{
    (void)checkpoint;
    status_t status = rest_await(d);
    if (status == OK) status = sys_dma_reset_done(dma);
    if (status == OK) status = buffer_take(&own, RW);
    if (status == OK) status = sys_dma_bus_master(dma, true);
    return status;
}

int main(void)
{
    static struct driver_ops ops = {.attach = edu_attach, .reset = edu_reset, .call = edu_call};
    ops.name = startup()->name; /* one program, several services */
    return driver_main(&ops);
}
