/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_import.c - any bytes as a queue file of Postfix; behind the bytes 0 'L' 'O' 'G' 0, if they are there, as its logfile.
 */
#include <stdlib.h>
#include <string.h>

#include "cleanup/import_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char mark[] = {0, 'L', 'O', 'G', 0};

struct seen {
    uint64_t bytes;
    char last;
};

/* Wire form: no line end without CR, whatever the pieces. */
static int look(void *arg, struct slice wire, struct err *err)
{
    struct seen *s = arg;

    (void) err;
    for (size_t i = 0; i < wire.len; i++) {
        if (wire.ptr[i] == '\n' && s->last != '\r')
            abort();
        s->last = wire.ptr[i];
    }
    s->bytes += wire.len;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *log = size > 0 ? memmem(data, size, mark, sizeof(mark)) : NULL;
    struct slice all = slice_of((const char *) data, size);
    struct slice file = log != NULL ? slice_sub(all, 0, (size_t) (log - all.ptr)) : all;
    struct arena *arena = arena_new(0);
    struct seen seen = {0};
    struct import_message m;
    struct import_reader r;
    struct err err = ERR_INIT;

    import_message_init(&m, arena);
    import_reader_init_bytes(&r, file);
    if (import_message_read(&m, &r, look, &seen, &err) == 0) {
        if (seen.bytes != m.env.content_bytes || m.env.header_bytes > seen.bytes ||
            (seen.bytes > 0 && seen.last != '\n'))
            abort();
        if (log != NULL) {
            struct slice text = slice_sub(all, file.len + sizeof(mark), all.len);

            import_log_apply(&m, IMPORT_DEFER_LOG, text);
            import_log_apply(&m, IMPORT_BOUNCE_LOG, text);
        }
        for (size_t i = 0; i < m.rcpts.len; i++) {
            const struct import_rcpt *rcpt = m.rcpts.items[i];

            if ((!rcpt->done && !rcpt->reported) || rcpt->r.addr.len > MAIL_ADDR_MAX ||
                rcpt->r.reason.len > MAIL_REASON_MAX)
                abort();
        }
    } else if (err.kind == ERR_NONE) {
        abort(); /* a failure without a reason */
    }
    import_reader_fini(&r);
    import_message_fini(&m);
    arena_free(&arena);
    return 0;
}
