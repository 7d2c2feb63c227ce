/* SPDX-License-Identifier: BSD-2-Clause
 * What a panic leaves: reason, backtrace and trace, good after each line, and read once by the next kernel. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "host_kernel.h"
#include "kernel/epitaph.h"
#include "kernel/print.h"

TestSuite(epitaph, .init = boot);

static struct epitaph *place(void)
{
    return mmap(NULL, sizeof(struct epitaph), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static bool says(const struct epitaph *e, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i + n <= e->bytes; i++)
        if (!memcmp(e->text + i, what, n)) return true;
    return false;
}

static struct epitaph *last;
static void dead(int signal)
{
    (void)signal;
    bool good = epitaph_good(last) && says(last, "KERNEL PANIC: seventeen is 17\n") &&
                says(last, " trace ") && says(last, "BOOT 0.0");
    _exit(good ? 42 : 1);
}

Test(epitaph, a_panic_writes_reason_and_trace, .exit_code = 42)
{
    setenv("HOST_QUIET", "1", 1);
    last = place();
    epitaph_init(last);
    signal(SIGABRT, dead);
    kernel_panic("seventeen is %d", 17);
}

Test(epitaph, only_a_panic_is_written)
{
    struct epitaph *e = place();
    epitaph_init(e);
    kernel_log("nothing happened");
    cr_assert_eq(e->bytes, 0);
    cr_assert(!epitaph_good(e));
}

Test(epitaph, it_is_good_after_each_line_and_forgotten_when_read)
{
    struct epitaph *e = place();
    epitaph_init(e);
    epitaph_begin();
    cr_assert(!epitaph_good(e));
    for (unsigned i = 0; i < 1000; i++) { /* more than there is room for */
        epitaph_add("a line of twenty-two..\n", 23);
        cr_assert(epitaph_good(e));
    }
    cr_assert_leq(e->bytes, sizeof e->text);
    e->text[100] ^= 1;
    cr_assert(!epitaph_good(e), "memory that forgot one bit");
    e->text[100] ^= 1;
    epitaph_init(e);
    cr_assert(!epitaph_good(e));
}

Test(epitaph, a_machine_without_a_place)
{
    epitaph_init(NULL);
    epitaph_begin();
    epitaph_add("x", 1);
}
