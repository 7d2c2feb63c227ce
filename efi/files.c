/* SPDX-License-Identifier: BSD-2-Clause
 * Reading whole files from the volume that the loader was started from. Any failure stops the boot
 * with the file's name. */
#include "firmware.h"

EFI_FILE_HANDLE volume_open(EFI_HANDLE image, const CHAR16 *path)
{
    EFI_LOADED_IMAGE *loaded;
    EFI_FILE_IO_INTERFACE *filesystem;
    EFI_FILE_HANDLE root;
    if (EFI_ERROR(BS->HandleProtocol(image, &LoadedImageProtocol, (void **)&loaded)) ||
        EFI_ERROR(BS->HandleProtocol(loaded->DeviceHandle, &FileSystemProtocol, (void **)&filesystem)) ||
        EFI_ERROR(filesystem->OpenVolume(filesystem, &root)))
        stop(path, "the loader's own volume cannot be opened");
    return root;
}

static uint64_t file_bytes(EFI_FILE_HANDLE handle, const CHAR16 *path)
{
    union {
        EFI_FILE_INFO info;
        uint8_t room[SIZE_OF_EFI_FILE_INFO + 64 * sizeof(CHAR16)]; /* the name follows the structure */
    } buffer;
    UINTN size = sizeof(buffer);
    if (EFI_ERROR(handle->GetInfo(handle, &GenericFileInfo, &size, &buffer)))
        stop(path, "its size cannot be read");
    if (buffer.info.Attribute & EFI_FILE_DIRECTORY) stop(path, "is a directory");
    return buffer.info.FileSize;
}

void file_read(EFI_HANDLE image, struct file *file)
{
    EFI_FILE_HANDLE root = volume_open(image, file->path), handle;
    EFI_STATUS status = root->Open(root, &handle, (CHAR16 *)file->path, EFI_FILE_MODE_READ, 0);
    if (status == EFI_NOT_FOUND) stop(file->path, "missing");
    if (EFI_ERROR(status)) stop(file->path, "cannot be opened");
    file->bytes = file_bytes(handle, file->path);
    if (file->bytes == 0) stop(file->path, "truncated");
    file->paddr = memory_take(PAGES_FOR(file->bytes), 1, RANGE_BOOT);
    UINTN got = file->bytes;
    if (EFI_ERROR(handle->Read(handle, &got, (void *)file->paddr))) stop(file->path, "cannot be read");
    if (got != file->bytes) stop(file->path, "truncated");
    handle->Close(handle);
    root->Close(root);
}
