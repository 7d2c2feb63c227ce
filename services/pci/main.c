/* SPDX-License-Identifier: BSD-2-Clause
 * The pci service: hands out PCI functions as capabilities, to the services that the manifest names
 * and to nobody else. All work is done before it says READY; a request is then a look-up and a
 * reply, because CLAIM, BAR and IRQ lie on the path of every driver's restart. Callers are known by
 * their badge. It is kept: when it falls, the next one finds the tables and goes on serving with the objects that
 * drivers hold. One that fell before it served is forgotten with all that it made. If what is kept is not sound, it
 * exits with E_STATE: then its objects die, and drivers, which depend on it with restart-with, start again after
 * it. */
#include "pci.h"
#include "abi/protocol.h"
#include "lib/bundle.h"

handle_t root;
struct pci_kept *pci = (struct pci_kept *)USER_KEPT;

static void claim_add(const struct manifest_service *s, uint32_t service, uint32_t index, bool iommu)
{
    const struct manifest_pci *want = &s->pci[index];
    struct function *f = function_match(want->vendor, want->device, want->nth);
    if (f == NULL) return; /* CLAIM answers E_NOT_FOUND; the service knows what that means to it */
    if (!iommu && !(s->flags & SERVICE_UNPROTECTED_DMA)) {
        log_line("pci: %s does not say dma = \"unprotected\" and there is no IOMMU: refused", s->name);
        return;
    }
    if (f->service != MANIFEST_NONE || pci->claim_count == CLAIMS_MAX) {
        log_line("pci: %s wants a function that is taken: refused", s->name);
        return;
    }
    struct claim *c = &pci->claim[pci->claim_count];
    *c = (struct claim){.function = f, .service = (uint16_t)service, .index = (uint16_t)index};
    status_t status = claim_prepare(c);
    if (status != OK) {
        log_line("pci: %x:%x for %s cannot be handed out: status %d", f->vendor, f->device, s->name, status);
        return;
    }
    f->service = (uint16_t)service;
    pci->claim_count++;
    const char *dma = !iommu ? "; no IOMMU: its DMA is UNPROTECTED"
                      : s->flags & SERVICE_UNPROTECTED_DMA
                          ? "; the IOMMU confines it although dma = \"unprotected\""
                          : "";
    log_line("pci: %02x:%02x.%x %04x:%04x is for %s%s", f->bdf >> 8, f->bdf >> 3 & 31, f->bdf & 7, f->vendor,
             f->device, s->name, dma);
}

static void claims_prepare(const struct manifest *m, bool iommu)
{
    for (uint32_t i = 0; i < m->service_count; i++) {
        const struct manifest_service *s = &m->service[i];
        for (uint32_t n = 0; n < s->pci_count && n < MANIFEST_PCI; n++) claim_add(s, i, n, iommu);
    }
}

static struct claim *claim_of(uint32_t service, uint64_t index)
{
    for (uint32_t i = 0; i < pci->claim_count; i++)
        if (pci->claim[i].service == service && pci->claim[i].index == index) return &pci->claim[i];
    return NULL;
}

/* What most drivers ask for next comes along if it is there: each further call is one more in a restart. */
static void add_first(struct claim *c, uint64_t bars, struct message *m)
{
    const struct bar *bar = bars != 0 ? &c->bar[__builtin_ctzl(bars)] : NULL;
    handle_t irq = 0;
    if (claim_irq(c, 0, &irq) != OK) irq = 0; /* who needs it asks, and hears why */
    m->info = INFO_MAKE(OK, 4);
    m->w[5] = irq;
    if (bar == NULL) return;
    m->w[2] |= bar->paddr % PAGE_SIZE << 32;
    m->w[3] = bar->bytes;
    m->w[4] = bar->memory;
}

static void serve_claim(struct claim *c, struct message *m)
{
    uint64_t bars = 0;
    bool more = m->w[1] != 0;
    for (uint32_t n = 0; n < BARS; n++)
        if (c->bar[n].memory != 0) bars |= 1ul << n;
    *m = (struct message){.info = INFO_MAKE(OK, 2),
                          .w = {c->function->bdf, c->function->vendor | (uint64_t)c->function->device << 16,
                                c->msix.entries | bars << 16, 0, 0, 0, c->config, c->dma}};
    if (more) add_first(c, bars, m);
}

static status_t serve_bar(struct claim *c, uint64_t n, struct message *m)
{
    if (n >= BARS || c->bar[n].bytes == 0) return E_NOT_FOUND;
    const struct bar *bar = &c->bar[n];
    if (bar->memory == 0) {
        log_line("pci: BAR %lu of %04x:%04x is refused: its pages hold MSI-X structures or another "
                 "function",
                 n, c->function->vendor, c->function->device);
        return E_RIGHTS;
    }
    *m = (struct message){.info = INFO_MAKE(OK, 1), .w = {bar->bytes, bar->paddr % PAGE_SIZE}};
    m->w[7] = bar->memory;
    return OK;
}

static status_t serve_irq(struct claim *c, uint64_t entry, struct message *m)
{
    handle_t irq;
    status_t status = claim_irq(c, entry, &irq);
    if (status != OK) return status;
    *m = (struct message){.info = INFO_MAKE(OK, 1)};
    m->w[7] = irq;
    return OK;
}

static status_t serve_list(uint64_t n, struct message *m)
{
    const struct function *f = n < FUNCTIONS_MAX ? function_get((uint32_t)n) : NULL;
    if (f == NULL) return E_NOT_FOUND;
    *m = (struct message){.info = INFO_MAKE(OK, 0),
                          .w = {f->bdf, f->vendor | (uint64_t)f->device << 16, f->class, f->service}};
    return OK;
}

static status_t serve(struct message *m)
{
    uint16_t label = INFO_LABEL(m->info);
    if (label == PCI_LIST) return serve_list(m->w[0], m);
    struct claim *c = claim_of(TAG_SERVICE((tag_t)m->badge), m->w[0]);
    if (c == NULL) return E_NOT_FOUND;
    switch (label) {
    case PCI_CLAIM: serve_claim(c, m); return OK;
    case PCI_BAR: return serve_bar(c, m->w[1], m);
    case PCI_IRQ: return serve_irq(c, m->w[1], m);
    default: return E_ARGUMENT;
    }
}

/* Nobody has business sending capabilities here; what comes along is dropped, or it would fill the
 * table. */
static void drop_capabilities(const struct message *m)
{
    for (uint32_t i = 0; i < INFO_CAPS(m->info); i++) {
        handle_t h = m->w[MESSAGE_WORDS - 1 - i];
        if (h != 0 && sys_cap_delete(h) != OK) log_line("pci: a received capability vanished");
    }
}

static void stray(handle_t h) { (void)sys_cap_delete(h); /* or it went with another */ }

static void find_and_make(void)
{
    const struct manifest *manifest;
    struct system_info info;
    caps_sweep(stray);
    pci->function_count = pci->claim_count = 0;
    status_t status = manifest_map(cap_find("image"), &manifest);
    if (status != OK) fatal("pci: no manifest: status %d", status);
    status = sys_system_info(&info);
    if (status != OK) fatal("pci: no system information: status %d", status);
    uint32_t count = functions_enumerate(&info);
    if (count == 0) log_line("pci: no PCI Express configuration space, or nothing in it");
    claims_prepare(manifest, info.iommu != 0);
    caps_save(pci->capabilities);
    __atomic_store_n(&pci->kept.phase, PHASE_SERVES, __ATOMIC_SEQ_CST);
}

static bool sound(void)
{
    if (pci->kept.phase != PHASE_SERVES || pci->function_count > FUNCTIONS_MAX ||
        pci->claim_count > CLAIMS_MAX)
        return false;
    for (uint32_t i = 0; i < pci->claim_count; i++) {
        const struct claim *c = &pci->claim[i];
        uint64_t at = (uint64_t)c->function - (uint64_t)pci->function;
        bool inside = at % sizeof(struct function) == 0 && at / sizeof(struct function) < pci->function_count;
        if (!inside || c->function->service != c->service || c->msix.entries > MSIX_CONTROL_SIZE + 1)
            return false;
    }
    return true;
}

/* An interrupt that was made for a request and not yet written down whole is made again. */
static void go_on(void)
{
    if (!sound()) {
        log_line("pci: what it kept is not sound: it begins anew, and drivers with it");
        sys_exit(E_STATE);
    }
    caps_mark_saved(pci->capabilities);
    for (uint32_t i = 0; i < pci->claim_count; i++) {
        for (uint32_t n = 0; n < IRQS_MAX; n++) {
            struct claim *c = &pci->claim[i];
            if (c->irq[n] == 0) continue;
            caps_mark(c->irq[n]);
            caps_mark(c->irq_made[n]);
        }
    }
    caps_sweep(stray);
    log_line("pci: goes on with %u functions handed out", pci->claim_count);
}

static void start(void)
{
    struct message m = {.info = INFO_REPLAYABLE};
    struct kept *kept;
    root = cap_find("root");
    status_t status = kept_open(sizeof(*pci), &kept);
    if (status != OK) sys_exit(status);
    if (kept->phase == 0)
        find_and_make();
    else
        go_on();
    status = service_call(cap_find("supervisor"), SUPERVISOR_READY, &m);
    if (status != OK) fatal("pci: not accepted as ready: status %d", status);
}

int main(void)
{
    start();
    handle_t endpoint = cap_find("endpoint");
    struct message m = {.info = 0};
    status_t status = sys_recv(endpoint, &m);
    while (status == OK) {
        if (!(m.info & INFO_SIGNAL)) {
            drop_capabilities(&m);
            status = serve(&m);
            if (status != OK) m = (struct message){.info = INFO_MAKE(status, 0)};
        }
        status = sys_reply_recv(endpoint, &m);
    }
    return (int)status;
}
