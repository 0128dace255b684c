/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_stream.h - a connection to a lookup server that answers one request with one reply (tcp, socketmap, memcache, redis).
 *
 * Every call ends at its deadline. One thread at a time uses a stream.
 */
#ifndef PR_MAP_STREAM_H
#define PR_MAP_STREAM_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mtime.h"
#include "maps/map_servers.h"

struct map_stream;

/*
 * Connects to "unix:PATH", "inet:HOST:PORT", "HOST:PORT" or "HOST" (HOST may be "[ADDRESS]"; PORT a number or a service's name;
 * default_port NULL: it must be given). All addresses of HOST are tried. A host name is looked up by the system's resolver
 * with its own time limit; an address is not looked up.
 */
NODISCARD int map_stream_connect(const char *server, const char *default_port,
                                 struct mono_time deadline, struct map_stream **out,
                                 struct err *err);
void map_stream_close(struct map_stream *s);

/* Is server of the form above? Does not look up or connect. */
NODISCARD int map_stream_check(const char *server, const char *default_port, struct err *err);

/*
 * Looks for a whole reply at the front of input. Returns its length; 0: more is to come; -1: no such reply exists, err_input() says why. It
 * may be called many times with an ever longer input; what it stores in arg from an earlier call it must be able to store anew.
 */
typedef ssize_t (*map_reply_fn)(struct slice input, void *arg, struct err *err);

/* Sends request, reads until reply() has found its reply. -1, and only map_stream_close() is left: ERR_BAD_INPUT for a reply that is
 * wrong, longer than reply_max bytes, or followed by something; ERR_TEMPORARY for a connection that broke, was closed or is late, or
 * on which something came before the request. */
NODISCARD int map_stream_exchange(struct map_stream *s, struct slice request, size_t reply_max,
                                  map_reply_fn reply, void *arg, struct mono_time deadline,
                                  struct err *err);

/* For servers behind map_servers.h: connections are streams, arg is the default port (const char *, or NULL). */
extern const struct map_servers_ops map_stream_ops;

/* map_stream_exchange() for an ask() of map_servers.h. */
NODISCARD enum map_servers_answer map_stream_answer(struct map_stream *s, struct slice request,
                                                    size_t reply_max, map_reply_fn reply, void *arg,
                                                    struct mono_time deadline, struct err *err);

/* map_stream_exchange() with whichever server answers. */
NODISCARD int map_stream_ask(struct map_servers *servers, struct slice request, size_t reply_max,
                             map_reply_fn reply, void *arg, struct err *err);
#endif
