/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_replies.h - what lookup servers answer: one parser for each protocol, of the kind that map_stream.h asks for. Any bytes may
 * come in.
 */
#ifndef PR_MAP_REPLIES_H
#define PR_MAP_REPLIES_H

#include "maps/map_stream.h"

/* tcp and socketmap: found with its value, not found, or trouble in the server's words. */
struct map_reply {
    enum map_result result;
    struct buf text;
};
#define MAP_REPLY_INIT ((struct map_reply){MAP_RETRY, BUF_INIT(MAP_VALUE_MAX)})

/* arg: struct map_reply. */
ssize_t map_tcp_reply(struct slice input, void *arg, struct err *err);
struct map_socketmap_reply {
    size_t limit; /* bytes, without what makes them a netstring */
    struct map_reply reply;
};
/* arg: struct map_socketmap_reply. */
ssize_t map_socketmap_reply(struct slice input, void *arg, struct err *err);

/* memcache: what "get" of one key is answered with; a reply that holds another key is wrong. */
struct map_memcache_get {
    struct slice key;
    size_t line_limit, data_limit;
    struct map_reply reply;
};
/* arg: struct map_memcache_get. */
ssize_t map_memcache_get_reply(struct slice input, void *arg, struct err *err);
/* "set": found means stored. arg: the same, key and data_limit unused. */
ssize_t map_memcache_set_reply(struct slice input, void *arg, struct err *err);

/* redis: a reply of RESP2, no deeper than an array of plain values. */
enum map_redis_kind {
    MAP_REDIS_NIL,
    MAP_REDIS_VALUE,  /* one element */
    MAP_REDIS_NUMBER, /* one element: its digits */
    MAP_REDIS_ARRAY,  /* any number of elements; those that are nil are left out */
    MAP_REDIS_ERROR,  /* one element: the message */
};
struct map_redis_reply {
    enum map_redis_kind kind;
    struct buf text; /* the elements, one after the other */
    struct buf ends; /* size_t for each: where it ends in text */
};
#define MAP_REDIS_REPLY_INIT                                                                       \
    ((struct map_redis_reply){MAP_REDIS_NIL, BUF_INIT(MAP_VALUE_MAX), BUF_INIT(MAP_VALUE_MAX)})
size_t map_redis_count(const struct map_redis_reply *r);
struct slice map_redis_element(const struct map_redis_reply *r, size_t i);
/* arg: struct map_redis_reply. */
ssize_t map_redis_reply(struct slice input, void *arg, struct err *err);

/* What a lookup answers with r. */
NODISCARD enum map_result map_reply_result(const struct map_reply *r, struct buf *value,
                                           struct err *err);

#endif
