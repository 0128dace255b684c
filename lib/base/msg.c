/* SPDX-License-Identifier: Apache-2.0 */
/* msg.c - see msg.h. */
#include "base/msg.h"

#include "base/log.h"

#define HEAD       6 /* tag and length */
#define FIELDS_MAX 64

static void put_le(char *p, uint64_t n, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (char) (unsigned char) (n >> (8 * i));
}

static uint64_t get_le(const char *p, size_t bytes)
{
    uint64_t n = 0;

    for (size_t i = 0; i < bytes; i++)
        n |= (uint64_t) (unsigned char) p[i] << (8 * i);
    return n;
}

static void put_field(struct buf *out, uint16_t tag, const char *data, size_t len)
{
    char *p = buf_reserve(out, HEAD + len);

    if (p == NULL)
        return;
    put_le(p, tag, 2);
    put_le(p + 2, len, 4);
    if (len > 0)
        memcpy(p + HEAD, data, len);
    buf_advance(out, HEAD + len);
}

int msg_encode(const struct msg_def *def, const void *m, struct buf *out, struct err *err)
{
    size_t start = out->len;

    for (size_t i = 0; i < def->nfields; i++) {
        const struct msg_field *f = &def->fields[i];
        const char *at = (const char *) m + f->offset;
        char number[8];
        uint32_t u32;
        uint64_t u64;
        struct slice s;

        switch ((enum msg_field_type) f->type) {
        case MSG_U32:
            memcpy(&u32, at, sizeof(u32));
            if (f->limit != 0 && u32 > f->limit)
                goto over;
            put_le(number, u32, 4);
            if (u32 != 0 || f->required)
                put_field(out, f->tag, number, 4);
            break;
        case MSG_U64:
        case MSG_I64:
            memcpy(&u64, at, sizeof(u64));
            put_le(number, u64, 8);
            if (u64 != 0 || f->required)
                put_field(out, f->tag, number, 8);
            break;
        case MSG_BYTES:
            memcpy(&s, at, sizeof(s));
            if (s.len > f->limit)
                goto over;
            if (s.len > 0 || f->required)
                put_field(out, f->tag, s.ptr, s.len);
            break;
        }
        continue;
    over:
        buf_truncate(out, start);
        return err_input(err, "%s: field %s is over its limit of %u", def->name, f->name, f->limit);
    }
    if (!buf_ok(out))
        return err_input(err, "%s: message is too long", def->name);
    return 0;
}

static const struct msg_field *find(const struct msg_def *def, uint16_t tag, size_t *index)
{
    for (size_t i = 0; i < def->nfields; i++) {
        if (def->fields[i].tag == tag) {
            *index = i;
            return &def->fields[i];
        }
    }
    *index = def->nfields;
    return NULL;
}

static int store(const struct msg_def *def, const struct msg_field *f, const char *data, size_t len,
                 void *m, struct err *err)
{
    char *at = (char *) m + f->offset;
    uint64_t n;
    uint32_t u32;
    struct slice s = {data, len};

    switch ((enum msg_field_type) f->type) {
    case MSG_U32:
        if (len != 4)
            return err_input(err, "%s: field %s has %zu bytes in place of 4", def->name, f->name,
                             len);
        u32 = (uint32_t) get_le(data, 4);
        if (f->limit != 0 && u32 > f->limit)
            return err_input(err, "%s: field %s is over its limit of %u", def->name, f->name,
                             f->limit);
        memcpy(at, &u32, sizeof(u32));
        return 0;
    case MSG_U64:
    case MSG_I64:
        if (len != 8)
            return err_input(err, "%s: field %s has %zu bytes in place of 8", def->name, f->name,
                             len);
        n = get_le(data, 8);
        memcpy(at, &n, sizeof(n));
        return 0;
    case MSG_BYTES:
        if (len > f->limit)
            return err_input(err, "%s: field %s is over its limit of %u", def->name, f->name,
                             f->limit);
        memcpy(at, &s, sizeof(s));
        return 0;
    }
    return err_input(err, "%s: field %s has no type", def->name, f->name);
}

int msg_decode(const struct msg_def *def, struct slice payload, void *m, struct err *err)
{
    uint64_t seen = 0;
    size_t at = 0;

    if (def->nfields > FIELDS_MAX)
        panic("%s: message of more than %d fields", def->name, FIELDS_MAX);
    memset(m, 0, def->size);
    while (at < payload.len) {
        const struct msg_field *f;
        size_t index;
        size_t len;

        if (payload.len - at < HEAD)
            return err_input(err, "%s: message is cut off", def->name);
        f = find(def, (uint16_t) get_le(payload.ptr + at, 2), &index);
        len = (size_t) get_le(payload.ptr + at + 2, 4);
        at += HEAD;
        if (len > payload.len - at)
            return err_input(err, "%s: field is longer than its message", def->name);
        if (f != NULL) {
            if ((seen & (1ULL << index)) != 0)
                return err_input(err, "%s: field %s comes twice", def->name, f->name);
            seen |= 1ULL << index;
            if (store(def, f, payload.ptr + at, len, m, err) == -1)
                return -1;
        }
        at += len;
    }
    for (size_t i = 0; i < def->nfields; i++)
        if (def->fields[i].required && (seen & (1ULL << i)) == 0)
            return err_input(err, "%s: field %s is missing", def->name, def->fields[i].name);
    return 0;
}
