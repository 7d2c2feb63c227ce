/* SPDX-License-Identifier: BSD-2-Clause
 * \EFI\BOOT\BOOTX64.EFI of the Linux disk: notes the TSC at its first instruction, as Coppice's loader does,
 * and starts \linux\vmlinuz (an EFI program) from the same volume with \linux\initrd.img. What it noted goes
 * along on the command line. So both systems are timed from the moment the firmware hands over. A problem is
 * one line on the console, and the firmware has its turn. */
#include <efi.h>
#include <efilib.h>

#ifndef OPTIONS
#define OPTIONS ""
#endif
#define WIDE_(text) L##text
#define WIDE(text)  WIDE_(text)
#define COMMAND_LINE \
    L"initrd=\\linux\\initrd.img console=ttyS0 quiet panic=-1 " WIDE(OPTIONS) L" coppice.tsc=%lu"

static UINT64 read_tsc(void)
{
    UINT32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (UINT64)high << 32 | low;
}

EFI_STATUS efi_main(EFI_HANDLE self, EFI_SYSTEM_TABLE *system_table)
{
    UINT64 tsc = read_tsc();
    static CHAR16 options[256];
    EFI_LOADED_IMAGE *loaded;
    EFI_HANDLE kernel = NULL;

    InitializeLib(self, system_table);
    EFI_STATUS status = BS->HandleProtocol(self, &LoadedImageProtocol, (void **)&loaded);
    if (!EFI_ERROR(status))
        status = BS->LoadImage(FALSE, self, FileDevicePath(loaded->DeviceHandle, L"\\linux\\vmlinuz"), NULL,
                               0, &kernel);
    if (!EFI_ERROR(status)) status = BS->HandleProtocol(kernel, &LoadedImageProtocol, (void **)&loaded);
    if (!EFI_ERROR(status)) {
        SPrint(options, sizeof(options), COMMAND_LINE, tsc);
        loaded->LoadOptions = options;
        loaded->LoadOptionsSize = (StrLen(options) + 1) * sizeof(CHAR16);
        status = BS->StartImage(kernel, NULL, NULL); /* returns only if it failed */
    }
    Print(L"Linux loader: \\linux\\vmlinuz: %r\n", status);
    return status;
}
