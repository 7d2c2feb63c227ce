/* SPDX-License-Identifier: BSD-2-Clause
 * Freed kernel memory is out of bounds: in builds with AddressSanitizer any use of it is reported at the
 * instruction. Elsewhere this is nothing. */
#ifndef COPPICE_KERNEL_HIDE_H
#define COPPICE_KERNEL_HIDE_H

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define memory_hide(at, bytes) __asan_poison_memory_region(at, bytes)
#define memory_show(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define memory_hide(at, bytes) ((void)0)
#define memory_show(at, bytes) ((void)0)
#endif

#endif
