/* SPDX-License-Identifier: BSD-2-Clause
 * The epitaph of the last kernel (abi/epitaph.h): its place is taken, and what is there is appended to a file. Nothing
 * here stops a boot: a machine without the place, or with a volume that cannot be written, boots as well. */
#include "firmware.h"
#include "abi/epitaph.h"

#define FILE_BYTES_MAX (1ul << 20) /* a machine that panics again and again begins the file anew */

static bool store(EFI_HANDLE image, const struct epitaph *e)
{
    EFI_FILE_HANDLE root = volume_open(image, EPITAPH_FILE), file;
    const UINT64 mode = EFI_FILE_MODE_READ | EFI_FILE_MODE_WRITE | EFI_FILE_MODE_CREATE;
    if (EFI_ERROR(root->Open(root, &file, (CHAR16 *)EPITAPH_FILE, mode, 0))) return false;
    UINT64 end = 0;
    bool good = !EFI_ERROR(file->SetPosition(file, ~0ul)) && !EFI_ERROR(file->GetPosition(file, &end));
    if (good && end > FILE_BYTES_MAX) good = !EFI_ERROR(file->SetPosition(file, 0));
    UINTN bytes = e->bytes;
    good = good && !EFI_ERROR(file->Write(file, &bytes, (void *)e->text)) && bytes == e->bytes;
    good = !EFI_ERROR(file->Flush(file)) && good;
    file->Close(file);
    root->Close(root);
    return good;
}

uint64_t epitaph_take(EFI_HANDLE image)
{
    struct epitaph *e = (struct epitaph *)EPITAPH_PADDR;
    if (!memory_take_at(EPITAPH_PADDR, EPITAPH_PAGES, RANGE_BOOT)) {
        Print(L"Coppice loader: no memory at %lx: a panic will leave no epitaph\n", EPITAPH_PADDR);
        return 0;
    }
    if (!epitaph_good(e)) {
        e->magic = 0;
    } else if (!e->stored) {
        e->stored = store(image, e);
        Print(L"Coppice loader: the last kernel panicked; its last words are %a %s\n",
              e->stored ? "appended to" : "NOT in", EPITAPH_FILE);
    }
    return EPITAPH_PADDR;
}
