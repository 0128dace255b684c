/* SPDX-License-Identifier: Apache-2.0 */
/* postmap_int.h - what the files of the commands postmap(1) and postalias(1) share. */
#ifndef PR_MAPS_POSTMAP_INT_H
#define PR_MAPS_POSTMAP_INT_H

#include <stdio.h>

#include "maps/map_build.h"

struct command {
    const char *program;
    struct config *cfg;
    struct map_env *env;
    struct map_build_options build;
    const char *query;  /* -q */
    const char *remove; /* -d */
    bool list;          /* -s */
    bool add;           /* -i */
    bool json;          /* -j */
    bool live;          /* --live */
    bool utf8;          /* keys and values must be UTF-8 */
    bool headers, body, mime;
};

/* "type:path" of an operand; in space where that is made. No such type: fatal. */
const char *postmap_full_name(const struct command *c, const char *spec, struct buf *space);
/* A JSON string. Bytes that are not UTF-8 become the characters of the same number. */
void postmap_put_json(struct slice s);

/* postmap_live.c: -q, of the running system's processes. The exit status. */
NODISCARD int postmap_live(const struct command *c, int n, char **specs);

/* postmap_query.c. Each returns the exit status; trouble is fatal. */
NODISCARD int postmap_query(const struct command *c, int n, char **specs);
void postmap_list(const struct command *c, const char *spec);
/* One line of a file, without its line feed; buf is the line's place. False at the end. */
bool postmap_read_line(FILE *in, char **line, size_t *cap, struct slice *out);

/* postmap_message.c: the keys that header_checks(5) and body_checks(5) see of the message in. */
void postmap_message_keys(FILE *in, bool headers, bool body, bool mime,
                          void (*key)(struct slice key, void *arg), void *arg);

#endif
