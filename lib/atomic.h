/* SPDX-License-Identifier: BSD-2-Clause
 * Memory shared with another process: every access to it goes through one of these, so that it happens
 * exactly once and in the order written. x86 keeps loads in order and stores in order (Intel SDM vol.
 * 3A, 9.2): acquire and release cost nothing; only a store followed by a load needs memory_fence. */
#ifndef COPPICE_LIB_ATOMIC_H
#define COPPICE_LIB_ATOMIC_H

#include "../abi/types.h"

#define shared_load(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define shared_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define shared_or(p, bits) ((void)__atomic_fetch_or((p), (bits), __ATOMIC_SEQ_CST)) /* a fence too */
#define shared_take(p)     __atomic_exchange_n((p), 0, __ATOMIC_SEQ_CST)
#define memory_fence()     __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* The same between a store to memory that a device reads and a load of what the device writes. QEMU before
 * 8.1 translates no fence and no lock prefix if the machine has one CPU, though its devices run in threads of
 * their own: an interrupt was lost once in some five million reads. Reading the clock takes a lock there, which is
 * a fence on the host; on hardware it adds some twenty cycles to a fence that suffices by itself. */
static inline void device_fence(void)
{
    uint32_t low, high;

    memory_fence();
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
}

#endif
