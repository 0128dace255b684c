/* SPDX-License-Identifier: Apache-2.0 */
/* maildrop.c - see maildrop.h. */
#include "mail/maildrop.h"

#include "base/file.h"

#define HEAD      8
#define READ_SIZE 65536

void maildrop_put(struct buf *out, uint16_t type, struct slice payload)
{
    char head[HEAD] = {0};

    for (int i = 0; i < 4; i++)
        head[i] = (char) (unsigned char) (payload.len >> (8 * i));
    head[4] = (char) (unsigned char) type;
    head[5] = (char) (unsigned char) (type >> 8);
    buf_put(out, head, HEAD);
    buf_put_slice(out, payload);
}

int maildrop_put_msg(struct buf *out, const struct msg_def *def, const void *m, struct err *err)
{
    struct buf payload = BUF_INIT(FRAME_PAYLOAD_MAX);
    int ret = msg_encode(def, m, &payload, err);

    if (ret == 0)
        maildrop_put(out, def->type, buf_view(&payload));
    buf_fini(&payload);
    return ret;
}

void maildrop_reader_init(struct maildrop_reader *r, int fd)
{
    r->fd = fd;
    r->at = 0;
    buf_init(&r->in, FRAME_PAYLOAD_MAX + HEAD + READ_SIZE);
}

void maildrop_reader_fini(struct maildrop_reader *r)
{
    buf_fini(&r->in);
}

int maildrop_read(struct maildrop_reader *r, struct frame *out, struct err *err)
{
    for (;;) {
        size_t have = r->in.len - r->at;
        char *room;
        ssize_t n;

        if (have >= HEAD) {
            const unsigned char *p = (const unsigned char *) r->in.ptr + r->at;
            size_t len =
                (size_t) p[0] | (size_t) p[1] << 8 | (size_t) p[2] << 16 | (size_t) p[3] << 24;

            if (len > FRAME_PAYLOAD_MAX || p[6] != 0 || p[7] != 0)
                return err_input(err, "not a message for maildrop");
            if (have - HEAD >= len) {
                out->type = (uint16_t) (p[4] | p[5] << 8);
                out->payload = slice_of(r->in.ptr + r->at + HEAD, len);
                out->fd = -1;
                r->at += HEAD + len;
                return 1;
            }
        }
        buf_consume(&r->in, r->at);
        r->at = 0;
        room = buf_reserve(&r->in, READ_SIZE);
        if (room == NULL)
            return err_input(err, "not a message for maildrop");
        n = fd_read_some(r->fd, room, READ_SIZE);
        if (n == -1)
            return err_sys(err, "read");
        if (n == 0)
            return r->in.len == 0 ? 0 : err_input(err, "the message is cut off");
        buf_advance(&r->in, (size_t) n);
    }
}
