/* SPDX-License-Identifier: BSD-2-Clause
 * The exchange of text pages. The target does not run meanwhile: the injector's priority is above that of
 * every driver. */
#include "text.h"
#include "gadgets.h"

static uint64_t words[TEXT_PAGES_MAX * PAGE_SIZE / 8]; /* as it was */
static uint64_t text_start;
static handle_t copy;

static status_t text_read(handle_t inject, handle_t process, uint64_t start, uint64_t pages)
{
    for (uint64_t i = 0; i < pages * PAGE_SIZE / 8; i++) {
        struct sys_result r = sys_inject(inject, process, INJECT_PEEK, start + 8 * i, 0, 0);
        if (r.status != OK) return r.status;
        words[i] = r.value;
    }
    return OK;
}

status_t text_own(handle_t inject, handle_t process, uint64_t start, uint64_t pages)
{
    if (pages == 0 || pages > TEXT_PAGES_MAX || start % PAGE_SIZE != 0) return E_ARGUMENT;
    status_t status = text_read(inject, process, start, pages);
    if (status != OK) return status;
    struct sys_result r = sys_memory_create(0, pages, 0);
    if (r.status != OK) return r.status;
    copy = r.value;
    text_start = start;
    status = sys_memory_map(0, copy, WINDOW, 0, pages, RIGHT_READ | RIGHT_WRITE);
    if (status != OK) return status;
    memcpy((void *)WINDOW, words, pages * PAGE_SIZE);
    status = sys_memory_unmap(0, WINDOW); /* nobody writes what somebody executes */
    if (status == OK) status = sys_inject(inject, process, INJECT_UNMAP, start, 0, 0).status;
    if (status == OK)
        status = sys_inject(inject, process, INJECT_MAP, copy, start, RIGHT_READ | RIGHT_EXECUTE).status;
    return status;
}

void text_drop(void)
{
    if (copy != 0 && sys_cap_delete(copy) != OK) log_line("{\"error\":\"a copy of text is gone\"}");
    copy = 0;
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What follows it is *rest. */
static uint64_t hexadecimal(const char *digits, const char **rest)
{
    uint64_t value = 0;

    for (; nibble(*digits) >= 0; digits++) value = value << 4 | (uint64_t)nibble(*digits);
    *rest = digits;
    return value;
}

uint64_t text_address(const char *site) { return hexadecimal(site, &site); }

status_t text_change(handle_t inject, handle_t process, const char *site, uint64_t *at, uint32_t *bytes)
{
    status_t status = OK;

    *at = hexadecimal(site, &site);
    if (*site++ != ':') return E_ARGUMENT;
    for (*bytes = 0; status == OK && nibble(site[0]) >= 0 && nibble(site[1]) >= 0; site += 2, ++*bytes) {
        uint64_t byte = (uint64_t)(nibble(site[0]) << 4 | nibble(site[1]));
        status = sys_inject(inject, process, INJECT_POKE, *at + *bytes, byte, 1).status;
    }
    return *site != 0 || *bytes > TEXT_SITE_MAX ? E_ARGUMENT : status;
}

status_t text_restore(handle_t inject, handle_t process, uint64_t at, uint32_t bytes)
{
    const uint8_t *was = (const uint8_t *)words + (at - text_start);
    status_t status = OK;

    for (uint32_t i = 0; status == OK && i < bytes; i++)
        status = sys_inject(inject, process, INJECT_POKE, at + i, was[i], 1).status;
    return status;
}
