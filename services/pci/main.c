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

static struct claim *claim_of(uint32_t service, uint64_t index)
{
    for (uint32_t i = 0; i < pci->claim_count; i++) {
        struct claim *c = &pci->claim[i];
        if (c->function != NULL && c->service == service && c->index == index) return c;
    }
    return NULL;
}

static struct claim *claim_unused(void)
{
    for (uint32_t i = 0; i < pci->claim_count; i++)
        if (pci->claim[i].function == NULL) return &pci->claim[i];
    return pci->claim_count < CLAIMS_MAX ? &pci->claim[pci->claim_count] : NULL;
}

/* Made aside: what is not whole when this process falls, nobody knows of, and it is swept. */
static void claim_keep(struct claim *to, const struct claim *made)
{
    struct function *f = made->function;
    *to = *made;
    to->function = NULL;
    if (to == &pci->claim[pci->claim_count]) pci->claim_count++;
    f->service = made->service;
    __atomic_store_n(&to->function, f, __ATOMIC_SEQ_CST);
}

/* After boot: drivers wait for it. */
static void device_tell(uint32_t service, bool there)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {service, there}};
    if (pci->kept.phase != PHASE_SERVES) return;
    status_t status = service_call(cap_find("supervisor"), SUPERVISOR_DEVICE, &m);
    if (status != OK) log_line("pci: the supervisor refuses news of service %u: status %d", service, status);
}

static void claim_add(const struct manifest_service *s, uint32_t service, uint32_t index, bool iommu)
{
    const struct manifest_pci *want = &s->pci[index];
    struct function *f = function_match(want->vendor, want->device, want->nth);
    if (f == NULL) return; /* CLAIM answers E_NOT_FOUND; the service knows what that means to it */
    if (!iommu && !(s->flags & SERVICE_UNPROTECTED_DMA)) {
        log_line("pci: %s does not say dma = \"unprotected\" and there is no IOMMU: refused", s->name);
        return;
    }
    struct claim *unused = claim_unused();
    if (f->service != MANIFEST_NONE || unused == NULL) {
        log_line("pci: %s wants a function that is taken: refused", s->name);
        return;
    }
    struct claim c = {.function = f, .service = (uint16_t)service, .index = (uint16_t)index};
    status_t status = claim_prepare(&c);
    if (status != OK) {
        claim_unprepare(&c);
        log_line("pci: %x:%x for %s cannot be handed out: status %d", f->vendor, f->device, s->name, status);
        return;
    }
    claim_keep(unused, &c);
    const char *dma = !iommu ? "; no IOMMU: its DMA is UNPROTECTED"
                      : s->flags & SERVICE_UNPROTECTED_DMA
                          ? "; the IOMMU confines it although dma = \"unprotected\""
                          : "";
    log_line("pci: %02x:%02x.%x %04x:%04x is for %s%s", f->bdf >> 8, f->bdf >> 3 & 31, f->bdf & 7, f->vendor,
             f->device, s->name, dma);
    device_tell(service, true);
}

void claims_prepare(void)
{
    const struct manifest *m = pci->manifest;
    for (uint32_t i = 0; i < m->service_count; i++) {
        const struct manifest_service *s = &m->service[i];
        for (uint32_t n = 0; n < s->pci_count && n < MANIFEST_PCI; n++)
            if (claim_of(i, n) == NULL) claim_add(s, i, n, pci->iommu);
    }
}

/* In this order, each part as often as it takes: the driver ends, the objects go, the claim is nobody's. */
static void claim_release(struct claim *c)
{
    struct function *f = c->function;
    device_tell(c->service, false);
    claim_unprepare(c);
    __atomic_store_n(&c->function, NULL, __ATOMIC_SEQ_CST);
    f->service = MANIFEST_NONE;
}

void claims_release(uint32_t first_bus, uint32_t last_bus)
{
    for (uint32_t i = 0; i < pci->claim_count; i++) {
        struct claim *c = &pci->claim[i];
        if (c->function == NULL) continue;
        uint32_t bus = c->function->bdf >> 8;
        if (bus >= first_bus && bus <= last_bus) claim_release(c);
    }
    for (uint32_t i = 0; i < pci->function_count; i++) {
        struct function *f = &pci->function[i];
        if (f->bdf >> 8 < first_bus || f->bdf >> 8 > last_bus) continue;
        f->vendor = VENDOR_NONE;
        f->service = MANIFEST_NONE;
    }
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
    const struct function *f = NULL; /* the n-th that is there */
    for (uint32_t i = 0; (f = function_get(i)) != NULL; i++)
        if (f->vendor != VENDOR_NONE && n-- == 0) break;
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
    struct system_info info;
    caps_sweep(stray);
    pci->function_count = pci->claim_count = pci->slot_count = 0;
    pci->notification = pci->timer = 0;
    pci->look_ns = 0;
    status_t status = manifest_map(cap_find("image"), &pci->manifest);
    if (status != OK) fatal("pci: no manifest: status %d", status);
    status = sys_system_info(&info);
    if (status != OK) fatal("pci: no system information: status %d", status);
    uint32_t count = functions_enumerate(&info);
    if (count == 0) log_line("pci: no PCI Express configuration space, or nothing in it");
    pci->iommu = info.iommu != 0;
    claims_prepare();
    status = slots_find();
    if (status != OK) fatal("pci: slots cannot be looked at: status %d", status);
    caps_save(pci->capabilities);
    __atomic_store_n(&pci->kept.phase, PHASE_SERVES, __ATOMIC_SEQ_CST);
}

static bool inside(const struct function *f)
{
    uint64_t at = (uint64_t)f - (uint64_t)pci->function;
    return at % sizeof(*f) == 0 && at / sizeof(*f) < pci->function_count;
}

static bool sound(void)
{
    if (pci->kept.phase != PHASE_SERVES || pci->function_count > FUNCTIONS_MAX ||
        pci->claim_count > CLAIMS_MAX || pci->slot_count > SLOTS_MAX ||
        pci->manifest->magic != MANIFEST_MAGIC)
        return false;
    for (uint32_t i = 0; i < pci->slot_count; i++)
        if (!inside(pci->slot[i].port) || pci->slot[i].state > SLOT_COOLING) return false;
    for (uint32_t i = 0; i < pci->claim_count; i++) {
        const struct claim *c = &pci->claim[i];
        if (c->function == NULL) continue;
        if (!inside(c->function) || c->function->service != c->service ||
            c->msix.entries > MSIX_CONTROL_SIZE + 1)
            return false;
    }
    return true;
}

static void claim_mark(const struct claim *c)
{
    const handle_t own[] = {c->config, c->dma, c->config_made, c->made, c->msix.table};
    for (uint32_t n = 0; n < sizeof(own) / sizeof(own[0]); n++) caps_mark(own[n]);
    for (uint32_t n = 0; n < BARS; n++) {
        caps_mark(c->bar[n].memory);
        caps_mark(c->bar[n].made);
    }
    for (uint32_t n = 0; n < IRQS_MAX; n++) {
        if (c->irq[n] == 0) continue;
        caps_mark(c->irq[n]);
        caps_mark(c->irq_made[n]);
    }
}

/* An interrupt that was made for a request and not yet written down whole is made again. */
static void go_on(void)
{
    if (!sound()) {
        log_line("pci: what it kept is not sound: it begins anew, and drivers with it");
        sys_exit(E_STATE);
    }
    caps_mark_saved(pci->capabilities);
    uint32_t claims = 0;
    for (uint32_t i = 0; i < pci->claim_count; i++) {
        if (pci->claim[i].function == NULL) continue;
        claim_mark(&pci->claim[i]);
        claims++;
    }
    caps_sweep(stray);
    log_line("pci: goes on with %u functions handed out", claims);
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
    status = slots_begin();
    if (status != OK) fatal("pci: slots are not heard: status %d", status);
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
        if (m.info & INFO_SIGNAL) {
            slots_look();
            status = sys_recv(endpoint, &m);
            continue;
        }
        drop_capabilities(&m);
        status = serve(&m);
        if (status != OK) m = (struct message){.info = INFO_MAKE(status, 0)};
        status = sys_reply_recv(endpoint, &m);
    }
    return (int)status;
}
