/* SPDX-License-Identifier: Apache-2.0 */
/*
 * param.h - main.cf parameters: one table row each, declared beside the code that it steers.
 *
 *   struct smtpd_limits { int64_t hard_error_limit; int64_t timeout_s; const char *banner; bool helo_required; };
 *   static const struct param rows[] = {
 *       PARAM_INT("smtpd_hard_error_limit", struct smtpd_limits, hard_error_limit,
 *                 .def = "${stress?{1}:{20}}", .min = 1, .services = "smtpd", .doc = "..."),
 *   };
 *   const struct param_set smtpd_limit_params = PARAM_SET("smtpd limits", struct smtpd_limits, rows);
 *
 * and one line in the folder's FOLDER_params.c. A row stores by offset into its struct, so that a new
 * generation is parsed beside the old one. Strings are expanded and live as long as the struct config
 * they were bound from. Rows that nobody has taken over stand in params_pending.c: known, with their
 * default, reported as not yet effective when set; taking one over means moving it out of there.
 */
#ifndef PR_PARAM_H
#define PR_PARAM_H

#include "base/base.h"

enum param_type {
    PARAM_TYPE_STRING, /* const char *: $name expanded */
    PARAM_TYPE_RAW,    /* const char *: kept as written, expanded by its user */
    PARAM_TYPE_INT,    /* int64_t */
    PARAM_TYPE_BOOL,   /* bool */
    PARAM_TYPE_TIME,   /* int64_t seconds */
};

enum param_status {
    PARAM_EFFECTIVE = 0,
    PARAM_BUILT_IN, /* accepted; our design does it in another way: note says how */
    PARAM_PENDING,  /* known, not yet effective: a warning where it is set */
};

struct config;

struct param {
    const char *name; /* "*_suffix" for a per-transport family (config_get_service_*) */
    const char *def;  /* as postconf -d prints it */
    /* when the default is computed (myhostname, mynetworks): heap string or NULL with def used */
    char *(*def_fn)(const struct config *cfg);
    uint8_t type;
    uint8_t status;
    char unit; /* PARAM_TYPE_TIME: of a number without one; 0: 's' */
    bool not_empty;
    bool
        or_file; /* a value that begins with "/" names a file, the first line of which is the value */
    int64_t min, max; /* INT, TIME; max 0: none */
    uint32_t offset;
    const char *services; /* "smtpd,cleanup"; NULL: all */
    const char *doc;      /* one sentence of our own */
    const char *note;     /* BUILT_IN: why */
};

struct map_env;
struct findings;

struct param_set {
    const char *name;
    size_t size; /* of the struct */
    const struct param *rows;
    size_t count;
    /* Beyond the rows: what is wrong or odd in what the values say (lists that do not parse, rules that nothing reaches).
     * Asked by postfix check, start and reload, with main.cf and again with each service's -o; what cannot be read has a
     * stand-in (findings.h). NULL: nothing to ask. env: of maps/map.h; findings.h tells how to report. */
    void (*check)(struct map_env *env, struct findings *f);
};

/* The added term is 0 and checks the member's type at compile time. */
#define PARAM_OFFSET_(strct, member, ctype)                                                        \
    (uint32_t)(offsetof(strct, member) +                                                           \
               0 * sizeof(char[_Generic(((strct *) 0)->member, ctype : 1, default                  \
                                        : -1)]))
#define PARAM_STRING(n, strct, member, ...)                                                        \
    {                                                                                              \
        .name = (n), .type = PARAM_TYPE_STRING,                                                    \
        .offset = PARAM_OFFSET_(strct, member, const char *), __VA_ARGS__                          \
    }
#define PARAM_RAW(n, strct, member, ...)                                                           \
    {                                                                                              \
        .name = (n), .type = PARAM_TYPE_RAW, .offset = PARAM_OFFSET_(strct, member, const char *), \
        __VA_ARGS__                                                                                \
    }
#define PARAM_INT(n, strct, member, ...)                                                           \
    {                                                                                              \
        .name = (n), .type = PARAM_TYPE_INT, .offset = PARAM_OFFSET_(strct, member, int64_t),      \
        __VA_ARGS__                                                                                \
    }
#define PARAM_BOOL(n, strct, member, ...)                                                          \
    {                                                                                              \
        .name = (n), .type = PARAM_TYPE_BOOL, .offset = PARAM_OFFSET_(strct, member, bool),        \
        __VA_ARGS__                                                                                \
    }
#define PARAM_TIME(n, strct, member, ...)                                                          \
    {                                                                                              \
        .name = (n), .type = PARAM_TYPE_TIME, .offset = PARAM_OFFSET_(strct, member, int64_t),     \
        __VA_ARGS__                                                                                \
    }
/* Used through config_get*() only (families, or read by name): no struct member. */
#define PARAM_BY_NAME(n, ptype, ...)                                                               \
    {                                                                                              \
        .name = (n), .type = (ptype), .offset = UINT32_MAX, __VA_ARGS__                            \
    }
#define PARAM_SET(n, strct, table)                                                                 \
    {                                                                                              \
        (n), sizeof(strct), (table), sizeof(table) / sizeof((table)[0]), NULL                      \
    }
#define PARAM_SET_CHECKED(n, strct, table, fn)                                                     \
    {                                                                                              \
        (n), sizeof(strct), (table), sizeof(table) / sizeof((table)[0]), (fn)                      \
    }

/* Every set of every folder (postconf/all_params.c), NULL-terminated lists in a NULL-terminated list. */
extern const struct param_set *const *const all_param_sets[];

/* The row of a name; families match ("smtp_destination_rate_delay" finds "*_destination_rate_delay");
 * NULL: unknown. An effective row wins over a pending one. */
const struct param *param_find(const char *name);
/* Each row once, sorted by name. */
void param_each(void (*fn)(const struct param *p, void *arg), void *arg);
/* The known name nearest to a misspelt one, with ": did you mean " before and "?" behind it, or "". Cut to what has room. */
#define PARAM_SUGGESTION_MAX 300
const char *param_suggestion(const char *name, char text[PARAM_SUGGESTION_MAX]);

#endif
