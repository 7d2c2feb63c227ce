/* SPDX-License-Identifier: BSD-2-Clause
 * Memory shared with another process: every access to it goes through one of these, so that it happens
 * exactly once and in the order written. x86 keeps loads in order and stores in order (Intel SDM vol.
 * 3A, 9.2): acquire and release cost nothing; only a store followed by a load needs memory_fence. */
#ifndef COPPICE_LIB_ATOMIC_H
#define COPPICE_LIB_ATOMIC_H

#define shared_load(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define shared_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define shared_or(p, bits) ((void)__atomic_fetch_or((p), (bits), __ATOMIC_SEQ_CST)) /* a fence too */
#define shared_take(p)     __atomic_exchange_n((p), 0, __ATOMIC_SEQ_CST)
#define memory_fence()     __atomic_thread_fence(__ATOMIC_SEQ_CST)

#endif
