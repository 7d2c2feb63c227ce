/* SPDX-License-Identifier: BSD-2-Clause
 * The compiled manifest: what tools/manifest.py makes of the TOML files, and supervisor, recovery and pci
 * read from the system image. The grammar of the source is in docs/MANIFEST.md. Service indices are
 * positions in service[]; the supervisor itself is index 0. */
#ifndef COPPICE_ABI_MANIFEST_H
#define COPPICE_ABI_MANIFEST_H

#include "types.h"

#define MANIFEST_MAGIC    0x31494e414d504f43ul /* "COPMANI1" */
#define MANIFEST_VERSION  5
#define MANIFEST_SERVICES 2048
#define MANIFEST_DEPENDS  8
#define MANIFEST_PORTS    2
#define MANIFEST_IRQS     2
#define MANIFEST_PCI      2
#define MANIFEST_GROUPS   16
#define MANIFEST_NAME_MAX 24
#define MANIFEST_NONE     0xffffu

enum restart_kind { RESTART_PERMANENT, RESTART_TRANSIENT, RESTART_TEMPORARY };
enum strategy { STRATEGY_ONE_FOR_ONE, STRATEGY_REST_FOR_ONE, STRATEGY_ONE_FOR_ALL };
/* What follows when a service fails too often: it is given up and the system goes on without it, or starts
 * anew; or what it restarts with is restarted, at that one's cost. */
enum give_up { GIVE_UP_DEGRADED, GIVE_UP_REBOOT, GIVE_UP_ESCALATE };
enum give_up_reason {
#define REASON(name, number, text) REASON_##name = number,
#include "reasons.def"
#undef REASON
    REASONS
};
/* A dependant of a restarted service: goes on and its requests wait, or is restarted after it. */
enum depend_kind { DEPEND_HOLD_AND_REPLAY, DEPEND_RESTART_WITH };
enum service_state { /* w3 of SUPERVISOR_LIST */
#define STATE(name, number, text) SERVICE_STATE_##name = number,
#include "states.def"
#undef STATE
                     SERVICE_STATES
};
/* Of the process that stands by for a service: none, not there yet, or taken as soon as it is needed. */
enum spare_state { SPARE_NONE, SPARE_BUILDING, SPARE_READY };
enum service_flags {
    SERVICE_ENDPOINT = 1,   /* receives calls on an endpoint of its own */
    SERVICE_DRIVER = 2,     /* a target of campaigns' DRIVER=all */
    SERVICE_LOG = 4,        /* may write the kernel log */
    SERVICE_TRACE = 8,      /* may map the trace and mark without credit */
    SERVICE_INJECT = 16,    /* holds the inject capability, may ask for processes */
    SERVICE_ROOT = 32,      /* holds the root capability (pci) */
    SERVICE_IMAGE = 64,     /* may read the system image (pci and recovery read the manifest) */
    SERVICE_CONTROL = 128,  /* may KILL, RESET, STOP */
    SERVICE_OPTIONAL = 256, /* its pci device may be absent: then the service is `absent`, not failed */
    SERVICE_UNPROTECTED_DMA = 512,      /* dma = "unprotected" */
    SERVICE_PRIVILEGED_RECOVERY = 1024, /* is recovery: may send COMPLAINT */
    SERVICE_SPARE = 2048,               /* a second process stands by, to take over at its death */
    SERVICE_KEPT = 4096,                /* its process falls and goes on with its state (PROCESS_KEPT) */
};

struct manifest_depend {
    uint16_t service;
    uint16_t kind;
};
struct manifest_ports {
    uint16_t base, count;
};
struct manifest_pci {
    uint16_t vendor, device;
    uint16_t nth, reserved;
}; /* the nth function that matches */

struct manifest_service {
    char name[MANIFEST_NAME_MAX];
    char image[MANIFEST_NAME_MAX];               /* file in the bundle */
    uint32_t flags;                              /* enum service_flags */
    uint16_t restart, group;                     /* enum restart_kind; group index, MANIFEST_NONE: own */
    uint32_t intensity, period_ms;               /* more than intensity restarts within period: give up */
    uint32_t backoff_initial_ms, backoff_max_ms; /* 0: restart at once */
    uint32_t stable_ms; /* a service that served so long is forgiven one step of backoff;
                                                    0: deaths older than period are */
    uint16_t backoff_factor_pct, backoff_jitter_pct; /* each wait is so much of the last, give or take */
    uint16_t breaker;                                /* the same crash so often: given up; 0: no matter */
    uint16_t on_give_up;                             /* enum give_up */
    uint32_t watchdog_ms;      /* work pending and none completed for this long: STALLED; 0: none */
    uint32_t start_timeout_ms; /* started and not READY for this long: START_TIMEOUT */
    uint32_t probation_ms;     /* a version that dies so soon after its READY is rolled back; 0: none does */
    uint32_t priority, budget_us, budget_period_us;
    uint32_t quota_pages;
    uint32_t memory_warn_pct; /* of quota_pages: grown beyond, it is taken to leak; 0: whatever it uses */
    uint32_t irq_limit;       /* interrupts within 10 ms, each of irq[]; 0: the kernel's default */
    uint32_t cpus;            /* bit n: may run on CPU n; 0: on all */
    uint32_t session_pages;   /* of recovery's quota, that all its sessions may hold together */
    uint16_t depend_count, call_count, session_count, port_count, irq_count, pci_count;
    struct manifest_depend depend[MANIFEST_DEPENDS];
    uint16_t call[MANIFEST_DEPENDS];    /* services whose endpoint it may call */
    uint16_t session[MANIFEST_DEPENDS]; /* services with which it may open sessions */
    struct manifest_ports port[MANIFEST_PORTS];
    uint16_t irq[MANIFEST_IRQS]; /* ACPI global interrupts */
    struct manifest_pci pci[MANIFEST_PCI];
    char args[128];
};
struct manifest_group {
    char name[MANIFEST_NAME_MAX];
    uint16_t strategy; /* enum strategy; order of services in service[] is start order */
    uint16_t inside;   /* 1 + index of the group that it is a member of, which comes before it; 0: none */
    uint32_t intensity, period_ms; /* more failures of members within period: it fails; 0 ms: not counted */
};
struct manifest {
    uint64_t magic;
    uint32_t version, size; /* bytes of the whole */
    uint32_t service_size;  /* sizeof(struct manifest_service) */
    uint16_t service_count, group_count;
    struct manifest_group group[MANIFEST_GROUPS];
    struct manifest_service service[]; /* sorted so that dependencies come first */
};

#endif
