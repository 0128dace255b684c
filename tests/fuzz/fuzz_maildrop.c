/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_maildrop.c - any bytes as a file in maildrop/: as pickup reads its frames, and as postcat shows it. Both must find the same message,
 * or none.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "mail/maildrop.h"
#include "qmgr/queue_maildrop.h"

#define NAME "0123456789ABC"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    size_t rcpts;
    uint64_t bytes;
    bool whole;
};

static void read_frames(int fd, struct seen *seen)
{
    struct maildrop_reader r;
    struct frame f;
    struct err err = ERR_INIT;
    bool has_envelope = false;
    int got;

    maildrop_reader_init(&r, fd);
    while ((got = maildrop_read(&r, &f, &err)) == 1 && f.type != PROTO_END) {
        struct mail_envelope env;
        struct mail_rcpt rcpt;

        if (f.type == PROTO_ENVELOPE && proto_decode(&f, &msg_envelope, &env, &err) == 0)
            has_envelope = true;
        else if (f.type == PROTO_RCPT && proto_decode(&f, &msg_rcpt, &rcpt, &err) == 0)
            seen->rcpts++;
        else if (f.type == PROTO_DATA)
            seen->bytes += f.payload.len;
        else
            break;
    }
    seen->whole = got == 1 && f.type == PROTO_END && has_envelope;
    maildrop_reader_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char directory[] = "/tmp/fuzz_maildrop.XXXXXX";
    static int dir = -1;
    struct seen seen = {0};
    struct arena *arena = arena_new(0);
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    struct err err = ERR_INIT;
    size_t n;
    int fd;

    if (dir == -1) {
        if (mkdtemp(directory) == NULL || chdir(directory) == -1 || mkdir("maildrop", 0700) == -1 ||
            (dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
            abort();
    }
    fd = openat(dir, "maildrop/" NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (fd == -1 || fd_write_all(fd, data, size) == -1 || lseek(fd, 0, SEEK_SET) == -1)
        abort();
    read_frames(fd, &seen);
    close(fd);
    switch (queue_maildrop_read(directory, NAME, arena, -1, &env, &rcpts, &n, &err)) {
    case 1:
        if (!seen.whole || n != seen.rcpts || env.content_bytes != seen.bytes)
            abort();
        break;
    case -1:
        if (seen.whole || err.text[0] == '\0')
            abort();
        break;
    default:
        abort();
    }
    if (unlinkat(dir, "maildrop/" NAME, 0) == -1)
        abort();
    arena_free(&arena);
    return 0;
}
