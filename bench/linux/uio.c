/* SPDX-License-Identifier: BSD-2-Clause
 * The disk behind a driver process: gives the device to uio_pci_generic, starts the driver (uio_driver.c), and
 * again and again kills it with SIGKILL while the device has requests, and starts it anew. Measured from just
 * before the kill until this process knows of the new incarnation's first completed read. The reads that the old
 * one had are lost; nobody replays them. */
#include "uio.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILL_EVERY_MIN_NS 12000000ul /* as bench/guest/storage.c */
#define KILL_EVERY_SPREAD 8000000ul
#define PAGEMAP_FRAME     ((1ul << 55) - 1) /* Linux, Documentation/admin-guide/mm/pagemap.rst */

static struct uio_memory *memory;
static struct samples busy, elapsed;
static int first_read; /* the driver's report: our end of the pipe */

static void function_find(char *name, size_t room)
{
    char link[256] = "";

    check(readlink("/sys/block/vda", link, sizeof(link) - 1) > 0, "/sys/block/vda");
    char *end = strstr(link, "/virtio"); /* ../devices/pci0000:00/0000:00:03.0/virtio0/block/vda */
    check(end != NULL, link);
    *end = 0;
    const char *at = strrchr(link, '/') + 1;
    check(strlen(at) < room, at);
    memcpy(name, at, strlen(at) + 1);
}

static void device_hand_over(void)
{
    char path[96], id[32];

    modules_load("/modules/uio");
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", memory->function);
    unsigned vendor = (unsigned)file_number(path, "%lx");
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", memory->function);
    snprintf(id, sizeof(id), "%04x %04x", vendor, (unsigned)file_number(path, "%lx"));
    file_write("/sys/bus/pci/drivers/virtio-pci/unbind", memory->function);
    file_write("/sys/bus/pci/drivers/uio_pci_generic/new_id", id);
}

static void addresses_find(void)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    check(fd >= 0, "/proc/self/pagemap");
    for (size_t i = 0; i < sizeof(*memory) / PAGE; i++) {
        uint64_t entry;
        off_t at = (off_t)(((uintptr_t)memory / PAGE + i) * sizeof(entry));
        check(pread(fd, &entry, sizeof(entry), at) == sizeof(entry) && (entry & PAGEMAP_FRAME) != 0,
              "a physical address");
        memory->physical[i] = (entry & PAGEMAP_FRAME) * PAGE;
    }
    close(fd);
}

static void memory_make(void)
{
    int fd = (int)syscall(SYS_memfd_create, "uio", 0);

    check(fd >= 0 && ftruncate(fd, sizeof(*memory)) == 0 && dup2(fd, UIO_MEMORY_FD) >= 0, "a memory file");
    memory = mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(memory != MAP_FAILED && mlock(memory, sizeof(*memory)) == 0, "a memory file");
    memset(memory, 0, sizeof(*memory));
    memory->random = random_next();
    addresses_find();
}

static pid_t driver_start(void)
{
    char *word[] = {"uio-driver", NULL}, *environment[] = {NULL};
    pid_t child = vfork();

    if (child == 0) {
        execve("/init", word, environment);
        _exit(1);
    }
    check(child > 0, "the UIO driver");
    return child;
}

static void first_read_wait(void)
{
    char byte;

    check(read(first_read, &byte, 1) == 1, "the UIO driver's report");
}

static void pause_at_random(void)
{
    uint64_t ns = KILL_EVERY_MIN_NS + random_next() % KILL_EVERY_SPREAD;

    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

void suite_uio(uint32_t kills)
{
    int end[2];
    uint32_t in_flight = 0;

    memory_make();
    memory->places = file_number("/sys/block/vda/size", "%lu") * 512 / READ_BYTES;
    function_find(memory->function, sizeof(memory->function));
    check(pipe(end) == 0 && dup2(end[1], UIO_FIRST_FD) >= 0, "a pipe");
    first_read = end[0];
    device_hand_over();
    pid_t driver = driver_start();
    first_read_wait();
    for (uint32_t i = 0; i < kills; i++) {
        pause_at_random();
        uint64_t idle = idle_ticks(), begin = ticks();
        check(kill(driver, SIGKILL) == 0 && waitpid(driver, NULL, 0) == driver, "the kill");
        in_flight += memory->flying > 0;
        driver = driver_start();
        first_read_wait();
        uint64_t taken = ticks() - begin;
        samples_add(&elapsed, taken);
        samples_add(&busy, taken - (idle_ticks() - idle));
    }
    check(kill(driver, SIGKILL) == 0 && waitpid(driver, NULL, 0) == driver, "the last kill");
    samples_report(&busy, "uio_busy", 1);
    samples_report(&elapsed, "uio_elapsed", 1);
    say("{\"bench\":{\"uio_kills\":%u,\"in_flight\":%u,\"reads\":%lu}}", kills, in_flight,
        (unsigned long)memory->reads);
}
