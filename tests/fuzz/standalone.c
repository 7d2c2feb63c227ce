/* SPDX-License-Identifier: BSD-2-Clause
 * Feeds files to a fuzz target without libFuzzer: the kept corpus in `make test`, or one input that is to be
 * looked at. Each input gets a process of its own, as a finding ends the process.
 *   NAME FILE...            exit code 0: none of them breaks the target */
#include <sys/wait.h>
#include <unistd.h>
#include "fuzz.h"

static unsigned inputs, broken;

static void input_run(const uint8_t *bytes, size_t n, const char *path, unsigned line)
{
    inputs++;
    pid_t child = fork();
    if (child == 0) {
        LLVMFuzzerTestOneInput(bytes, n);
        _exit(0);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) {
        broken++;
        fprintf(stderr, "breaks the target: %s:%u\n", path, line);
    }
}

/* A kept corpus: an input a line, in hexadecimal. */
static void lines_run(FILE *f, const char *path)
{
    static char line[1 << 16];
    static uint8_t bytes[sizeof line / 2];
    for (unsigned number = 1; fgets(line, sizeof line, f); number++) {
        size_t n = 0;
        unsigned v;
        while (sscanf(line + 2 * n, "%2x", &v) == 1) bytes[n++] = (uint8_t)v;
        input_run(bytes, n, path, number);
    }
}

static void file_run(const char *path)
{
    static uint8_t bytes[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(2);
    }
    const char *dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".hex") == 0)
        lines_run(f, path);
    else
        input_run(bytes, fread(bytes, 1, sizeof bytes, f), path, 0);
    fclose(f);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) file_run(argv[i]);
    printf("%u inputs, %u break the target\n", inputs, broken);
    return inputs && !broken ? 0 : 1;
}
