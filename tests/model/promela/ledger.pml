/* SPDX-License-Identifier: BSD-2-Clause
 * The ledger and restart protocol, for spin: one client, one driver that may die at any step, its device,
 * recovery's take-over, the kernel's fence and the supervisor's restart. Properties: docs/INVARIANTS.md.
 * Each step names the function that it stands for; tests/model/promela/check.sh sees that they exist.
 *
 * With one slot the client writes, flushes, and writes to the same sector again (requests 1, 2, 3); with
 * two it writes to two sectors at once (1, 2). A slot has a sector of its own.
 *
 * Left out by a macro, each of these steps makes a property fail; check.sh tries all:
 *   NO_DRAIN        replay before the device is quiet               no_late_effect
 *   NO_REPLAY       pending requests are not issued again           settles
 *   NO_ANNOUNCE     completed requests are not announced again      settles
 *   NO_FENCE        a successor starts while its predecessor lives  one_incarnation
 *   NO_GENERATION   a complaint about an old incarnation is taken   blame_its_own
 *   NO_SECOND_LOOK  a driver sleeps without looking once more       settles
 *   NO_TAKING       a client does not free the slot it has taken    exactly_once
 *   NO_EXECUTION    a write is completed when the device has it     acknowledged_is_done
 *   NO_FLUSH        a flush is completed and not carried out        barrier_order
 * settles is checked as "no state without a next step but the good ones" and, with -a, as the LTL below. */

#ifndef KILLS
#define KILLS 2 /* deaths by themselves; a complaint is one more */
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#if SLOTS == 2
#define each(step) step(0); step(1)
#define any(array) (array[0] || array[1])
#else
#define each(step) step(0)
#define any(array) (array[0])
#endif
#define ATTEMPTS_MAX 2 /* SESSION_ATTEMPTS_MAX */
#define WRITE 0
#define FLUSH 1
#define LAST 3 /* request */

/* --- Memory that outlives the driver: a session (abi/session.h) and what recovery knows -------------- */
byte slot_id[SLOTS];      /* session_slot.id; 0: free */
bit slot_op[SLOTS];
byte issued_id[SLOTS];    /* session_entry */
byte issued_gen[SLOTS];
byte completed_id[SLOTS];
bit poisoned[SLOTS];      /* status of the completion: E_POISONED */
bit hint_submit[SLOTS], hint_complete[SLOTS];
bit driver_waiting, client_waiting;
bit doorbell, notification;
byte attempts[SLOTS], attempt_id[SLOTS];
byte attached;            /* server.generation */

/* --- The machine ---------------------------------------------------------------------------------------- */
byte device_id[SLOTS];    /* what the device works on */
bit device_done[SLOTS];   /* executed, its driver has not taken it */
byte captured[SLOTS];     /* a write that the device holds since its driver died */
bit resetting;
byte disk[SLOTS], stable[SLOTS];
byte alive;               /* drivers */
byte dead;                /* generations up to this one are dead */
byte left = KILLS;        /* faults to come */
byte condemned;           /* process_kill: no instruction of this generation runs after it */

/* --- The supervisor ---------------------------------------------------------------------------------------- */
byte generation = 1;
chan deaths = [KILLS + 2] of { byte };
chan complaints = [1] of { byte };

/* --- The checker's book -------------------------------------------------------------------------------- */
byte delivered[LAST + 1];
byte acknowledged[SLOTS]; /* last write that completed with OK */
bit finished;
byte past_reset;          /* generation that has seen its device quiet */

/* A step of the driver, before which it may die: by itself, or because the supervisor killed it. */
#define STEP(...)                                                                                        \
    atomic {                                                                                             \
        if                                                                                               \
        :: condemned == g -> goto die                                                                    \
        :: condemned != g && left > 0 && !finished -> left--; goto die                                   \
        :: condemned != g                                                                                \
        fi;                                                                                              \
        __VA_ARGS__                                                                                      \
    }

/* death_fence: DMA ends; a write may be with the device already. */
inline capture(n) {
    if
    :: device_id[n] != 0 && !device_done[n] && slot_op[n] == WRITE && captured[n] == 0 -> captured[n] = device_id[n]
    :: true
    fi;
    device_id[n] = 0;
    device_done[n] = 0
}

/* --- Recovery: recovery_attach, ledger_take_over, slot_take_over, slot_in_flight --------------------------- */
inline take_over(n) {
    if
    :: slot_id[n] == 0 -> issued_id[n] = 0; completed_id[n] = 0 /* slot_clear */
    :: slot_id[n] != 0 && completed_id[n] == slot_id[n] && issued_id[n] != slot_id[n] ->
        issued_id[n] = 0; completed_id[n] = 0 /* entry_nonsense */
    :: slot_id[n] != 0 && completed_id[n] != slot_id[n] && issued_id[n] == slot_id[n] && issued_gen[n] == attached ->
#ifndef NO_TAKE_OVER
        if
        :: attempt_id[n] != slot_id[n] -> attempts[n] = 0
        :: else
        fi;
        attempt_id[n] = slot_id[n];
        attempts[n]++;
        if
        :: attempts[n] >= ATTEMPTS_MAX -> poisoned[n] = 1; completed_id[n] = slot_id[n]
        :: else
        fi
#else
        skip
#endif
    :: else
    fi
}

/* --- The driver: lib/driver.c, lib/driver_block.c ------------------------------------------------------- */
#define pending(n) (slot_id[n] != 0 && completed_id[n] != slot_id[n])

inline slot_offer(n) { /* slot_issue: issued_id is in the ledger before the device knows */
    if
    :: !issued[n] && pending(n) ->
        STEP(issued_gen[n] = g; issued_id[n] = slot_id[n]);
        STEP(device_id[n] = slot_id[n]; device_done[n] = 0; issued[n] = 1)
    :: else
    fi
}
#ifdef NO_REPLAY
#define slot_replay(n) skip
#else
#define slot_replay(n) slot_offer(n)
#endif
inline block_replay(n) {
    if
#ifdef NO_ANNOUNCE
    :: slot_id[n] != 0 && completed_id[n] == slot_id[n]
#else
    :: slot_id[n] != 0 && completed_id[n] == slot_id[n] -> done[n] = 1
#endif
    :: pending(n) -> slot_replay(n)
    :: slot_id[n] == 0
    fi
}
inline driver_complete(n) {
    if
#ifdef NO_EXECUTION
    :: device_id[n] != 0 ->
#else
    :: device_id[n] != 0 && device_done[n] ->
#endif
        STEP(device_done[n] = 0; device_id[n] = 0); /* taken from the device */
        STEP(poisoned[n] = 0; completed_id[n] = issued_id[n]; issued[n] = 0; done[n] = 1) /* it is done */
    :: else
    fi
}
inline block_serve(n) {
    if
    :: hint_submit[n] -> STEP(hint_submit[n] = 0); slot_offer(n)
    :: else
    fi
}
inline block_report(n) {
    if
    :: done[n] -> STEP(hint_complete[n] = 1; done[n] = 0; wake = 1)
    :: else
    fi
}
inline sessions_report() {
    each(block_report);
    if
    :: wake -> STEP(wake = 0; notification = notification || client_waiting)
    :: else
    fi
}
inline hint_forget(n) { hint_submit[n] = 0 } /* every slot is looked at anyway */

proctype driver(byte g) {
    bit issued[SLOTS], done[SLOTS], wake;

    /* One call to recovery: recovery_attach. */
    STEP(each(take_over); driver_waiting = 0; attached = g);
#ifndef NO_DRAIN
    resetting = 1; /* reset: until the device says that it is quiet */
    !any(captured);
    resetting = 0;
#endif
    STEP(past_reset = g; each(hint_forget));
    each(block_replay);
    sessions_report();
    do /* driver_serve */
    :: true ->
        STEP(doorbell = 0);
        each(driver_complete);
        each(block_serve);
        sessions_report();
        STEP(driver_waiting = 1); /* driver_may_sleep */
        if
#ifndef NO_SECOND_LOOK
        :: any(hint_submit)
        :: !any(hint_submit) -> end_idle:
#else
        :: true -> end_idle:
#endif
            if
            :: doorbell
            :: atomic { left > 0 && !finished -> left--; goto die }
            :: condemned == g -> goto die
            fi
        fi;
        driver_waiting = 0
    od;
die:
    skip;
    d_step { alive--; dead = g; driver_waiting = 0; resetting = 0 }
    atomic { each(capture); deaths ! g }
}

/* --- The device --------------------------------------------------------------------------------------------- */
inline make_stable(m) { stable[m] = disk[m] }
inline execute(n) {
    if
    :: slot_op[n] == WRITE -> disk[n] = device_id[n]
#ifdef NO_FLUSH
    :: else
#else
    :: else -> each(make_stable)
#endif
    fi;
    device_done[n] = 1;
    doorbell = 1 /* its interrupt */
}
inline execute_late(n) {
    assert(past_reset <= dead); /* no_late_effect: nothing of the dead after its successor's reset */
    disk[n] = captured[n];
    captured[n] = 0
}

active proctype device() {
end:
    do
    :: atomic { device_id[0] != 0 && !device_done[0] -> execute(0) }
    :: atomic { captured[0] != 0 -> execute_late(0) }
    :: atomic { captured[0] != 0 && resetting -> captured[0] = 0 }
#if SLOTS == 2
    :: atomic { device_id[1] != 0 && !device_done[1] -> execute(1) }
    :: atomic { captured[1] != 0 -> execute_late(1) }
    :: atomic { captured[1] != 0 && resetting -> captured[1] = 0 }
#endif
    od
}

/* --- The supervisor: supervisor/core.c --------------------------------------------------------------------- */
active proctype supervisor() {
    byte g;

    alive = 1;
    run driver(generation);
end:
    do
    :: atomic { deaths ? g ->
            if
            :: g == generation -> /* is_current, on_death, start */
                generation++;
                alive++;
                assert(alive == 1); /* one_incarnation */
                run driver(generation)
            :: else
            fi }
    :: atomic { complaints ? g ->
            if
#ifndef NO_GENERATION
            :: g == generation && dead < generation -> /* is_current, on_complaint, step_kill */
#else
            :: dead < generation ->
#endif
                assert(g == generation); /* blame_its_own */
#ifdef NO_FENCE
                generation++;
                alive++;
                assert(alive == 1);
                run driver(generation)
#else
                condemned = generation
#endif
            :: else
            fi }
    od
}

/* --- A complaint --------------------------------------------------------------------------------------- */
#ifndef NO_COMPLAINT
active proctype complainer() { /* about whoever lives now; it may arrive late */
end:
    atomic { alive == 1 && !finished && dead < generation -> complaints ! generation }
}
#endif

/* --- The client: lib/session_block.c ------------------------------------------------------------------------ */
inline block_submit(n, id, op) {
    d_step { slot_op[n] = op; slot_id[n] = id }; /* id last: from here on it is pending */
    hint_submit[n] = 1; /* block_kick */
    if
    :: driver_waiting -> doorbell = 1
    :: else
    fi
}
inline block_take_slot(n) {
    if
    :: hint_complete[n] ->
        hint_complete[n] = 0;
        if
        :: slot_id[n] != 0 && completed_id[n] == slot_id[n] && issued_id[n] == slot_id[n] ->
            atomic {
                delivered[slot_id[n]]++;
                assert(delivered[slot_id[n]] == 1); /* exactly_once */
                if
                :: poisoned[n] -> assert(attempts[n] >= ATTEMPTS_MAX) /* poisoned_alone */
                :: !poisoned[n] && slot_op[n] == WRITE ->
                    assert(disk[n] == slot_id[n]); /* acknowledged_is_done */
                    acknowledged[n] = slot_id[n]
                :: else -> /* barrier_order */
                    assert(stable[0] >= acknowledged[0])
                fi;
#ifdef NO_TAKING
                hint_complete[n] = 1
#else
                slot_id[n] = 0
#endif
            }
        :: else
        fi
    :: else
    fi
}
inline block_take_all() {
    do
    :: !any(slot_id) -> break
    :: else ->
        each(block_take_slot);
        if
        :: !any(slot_id) -> break
        :: else
        fi;
        client_waiting = 1; /* block_arm */
        if
        :: any(hint_complete)
        :: else -> notification; notification = 0 /* block_wait */
        fi;
        client_waiting = 0
    od
}

active proctype client() {
#if SLOTS == 2
    block_submit(0, 1, WRITE);
    block_submit(1, 2, WRITE);
    block_take_all();
#else
    block_submit(0, 1, WRITE);
    block_take_all();
    block_submit(0, 2, FLUSH);
    block_take_all();
    block_submit(0, 3, WRITE);
    block_take_all();
#endif
    finished = 1
}

/* settles: under finitely many faults the client finishes. */
ltl settles { <> finished }
