/* SPDX-License-Identifier: Apache-2.0 */
/*
 * corpus_main.c - feeds each file of a corpus directory to a fuzz target, without libFuzzer.
 *
 * Every test run replays the corpus this way, so that a mended finding stays mended with any compiler.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    size_t len = 0;
    size_t cap = 1 << 16;
    size_t n;

    if (f == NULL) {
        perror(path);
        return -1;
    }
    data = malloc(cap);
    if (data == NULL)
        abort();
    while ((n = fread(data + len, 1, cap - len, f)) > 0) {
        len += n;
        if (len == cap) {
            data = realloc(data, cap *= 2);
            if (data == NULL)
                abort();
        }
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int count = 0;

    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        struct dirent *entry;

        if (dir == NULL) {
            perror(argv[i]);
            return 1;
        }
        while ((entry = readdir(dir)) != NULL) {
            char path[4096];

            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
            if (replay(path) == -1)
                return 1;
            count++;
        }
        closedir(dir);
    }
    LLVMFuzzerTestOneInput((const uint8_t *) "", 0);
    printf("%d inputs\n", count);
    if (count == 0) {
        fprintf(stderr, "corpus is empty\n");
        return 1;
    }
    return 0;
}
