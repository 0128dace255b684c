/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg.h - typed messages: a table of fields for each, one encoder, one decoder.
 *
 * Payload: a run of fields, each 2 tag | 4 length | bytes, little-endian. Fields that equal zero or the
 * empty slice are not sent. Unknown tags are skipped; a field that is too long, of the wrong size,
 * repeated or required and missing is an error that is returned. Any bytes may come in.
 */
#ifndef PR_MSG_H
#define PR_MSG_H

#include "base/buf.h"
#include "base/err.h"

enum msg_field_type {
    MSG_U32,   /* uint32_t */
    MSG_U64,   /* uint64_t */
    MSG_I64,   /* int64_t */
    MSG_BYTES, /* struct slice; limit: longest length */
};

struct msg_field {
    uint16_t tag; /* never reused */
    uint8_t type; /* enum msg_field_type */
    bool required;
    uint32_t offset; /* into the message's struct */
    uint32_t limit;  /* MSG_BYTES: longest length; MSG_U32: greatest value; else unused */
    const char *name;
};

struct msg_def {
    uint16_t type; /* the frame's type */
    const char *name;
    size_t size; /* of the struct */
    const struct msg_field *fields;
    size_t nfields;
};

#define MSG_FIELD_U32(tag, strct, member, max)                                                     \
    {                                                                                              \
        (tag), MSG_U32, false, (uint32_t) offsetof(struct strct, member), (max), #member           \
    }
#define MSG_FIELD_U64(tag, strct, member)                                                          \
    {                                                                                              \
        (tag), MSG_U64, false, (uint32_t) offsetof(struct strct, member), 0, #member               \
    }
#define MSG_FIELD_I64(tag, strct, member)                                                          \
    {                                                                                              \
        (tag), MSG_I64, false, (uint32_t) offsetof(struct strct, member), 0, #member               \
    }
#define MSG_FIELD_BYTES(tag, strct, member, max)                                                   \
    {                                                                                              \
        (tag), MSG_BYTES, false, (uint32_t) offsetof(struct strct, member), (max), #member         \
    }
#define MSG_FIELD_BYTES_REQUIRED(tag, strct, member, max)                                          \
    {                                                                                              \
        (tag), MSG_BYTES, true, (uint32_t) offsetof(struct strct, member), (max), #member          \
    }

/* Appends the payload. Fields over their limit are a bug of the sender: err is filled, -1. */
NODISCARD int msg_encode(const struct msg_def *def, const void *m, struct buf *out,
                         struct err *err);
/* Fills *m (zeroed first); slices borrow from payload. */
NODISCARD int msg_decode(const struct msg_def *def, struct slice payload, void *m, struct err *err);

#endif
