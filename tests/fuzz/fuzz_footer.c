/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_footer.c - any bytes as smtpd_reject_footer; the first line is the reply that gets it. Whatever the template says, what comes out is
 * one reply: lines with its code, CRLF, and no other line ends.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "smtpd/smtpd_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct slice out, struct slice code)
{
    bool more = true;

    while (more) {
        ptrdiff_t nl = slice_find(out, '\n');
        struct slice line = slice_sub(out, 0, nl == -1 ? 0 : (size_t) nl);

        if (nl == -1 || line.len < 5 || line.ptr[line.len - 1] != '\r' ||
            slice_find(slice_sub(line, 0, line.len - 1), '\r') != -1 ||
            !slice_eq(slice_sub(line, 0, 3), code))
            abort();
        out = slice_sub(out, (size_t) nl + 1, out.len);
        more = line.ptr[3] == '-';
        if (!more && line.ptr[3] != ' ')
            abort();
    }
    if (out.len > 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice all = slice_of((const char *) data, size);
    ptrdiff_t nl = slice_find(all, '\n');
    struct smtpd g = {0};
    struct session s = {.g = &g, .out = BUF_INIT(SIZE_MAX)};
    struct buf reply = BUF_INIT(SIZE_MAX);
    char *footer;

    if (nl == -1)
        return 0;
    log_open(&(struct log_target){.program = "fuzz", .maillog_fd = -1, .no_syslog = true});
    footer = slice_dup(slice_sub(all, (size_t) nl + 1, all.len));
    g.p.reject_footer = footer;
    g.p.expansion_filter = "\\t\\40!abcdefghijklmnopqrstuvwxyz0123456789.:-\\\\\\057";
    g.p.myhostname = "mx.example.test";
    s.addr = SLICE_LIT("192.0.2.1");
    s.port = SLICE_LIT("25");
    buf_puts(&reply, "550 ");
    for (size_t i = 0; i < (size_t) nl; i++) /* our own words: no control characters */
        buf_putc(&reply, all.ptr[i] >= ' ' ? all.ptr[i] : '?');
    smtpd_put_refusal(&s, buf_view(&reply));
    check(buf_view(&s.out), SLICE_LIT("550"));
    free(footer);
    buf_fini(&reply);
    buf_fini(&s.out);
    return 0;
}
