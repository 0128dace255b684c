/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - one generation of main.cf: parsed, expanded on request, never changed after config_load().
 * Counted references; threads may share it.
 */
#ifndef PR_CONFIG_H
#define PR_CONFIG_H

#include "base/buf.h"
#include "base/err.h"
#include "postconf/param.h"

#define CONFIG_VALUE_MAX   (1U << 20)
#define CONFIG_DEFAULT_DIR "/etc/postfix"

/*
 * Reads DIR/main.cf (dir NULL: MAIL_CONFIG, else the built-in /etc/postfix). overrides: "name=value" strings
 * (-o), applied on top; may be NULL. service: its name, for $service_name, or NULL. A syntax error is -1 with
 * "FILE, line N: ..." in err; a missing main.cf too, and a directory that this process may not use (config_authorized.c).
 */
NODISCARD int config_load(const char *dir, const char *const *overrides, size_t noverrides,
                          const char *service, struct config **out, struct err *err);
/* The same with main.cf's text given: dir is only where it belongs. What main.cf was when a reload checked it. */
NODISCARD int config_load_text(const char *dir, struct slice text, const char *const *overrides,
                               size_t noverrides, const char *service, struct config **out,
                               struct err *err);
/* Appends the lines of main.cf's text that are whole, for who must get on with what there is: stopping a system whose main.cf
 * somebody has just broken. */
void config_text_salvage(struct slice text, struct buf *out);
struct config *config_ref(struct config *cfg);
void config_unref(struct config **cfg);

const char *config_dir(const struct config *cfg); /* absolute */
/*
 * Expanded value of any known or user-defined parameter, or its default; NULL if unknown. The string lives as long
 * as cfg. A broken expansion is reported by config_check() and bind, here it gives NULL.
 */
const char *config_get(const struct config *cfg, const char *name);
/* As written, unexpanded; NULL when main.cf (and -o) do not set it. */
const char *config_raw(const struct config *cfg, const char *name);
bool config_is_set(const struct config *cfg, const char *name);
/* Line of main.cf that set it last; 0 if it is not set there. */
int config_line(const struct config *cfg, const char *name);
/* Expands $name, ${name}, $(name), ${name?text}, ${name:text}, ${name?{..}:{..}}, ${{a} == {b} ? {x} : {y}}, $$. Recursion
 * is an error that shows the chain. */
NODISCARD int config_expand(const struct config *cfg, const char *text, struct buf *out,
                            struct err *err);
/* Fills *out (of set->size) from every row of the set; range and syntax errors name file and line. */
NODISCARD int config_bind(const struct config *cfg, const struct param_set *set, void *out,
                          struct err *err);
/*
 * Per-service families: SERVICE_suffix, else the family's default ("default_..."): config_get_service_int(cfg,
 * "relay", "destination_concurrency_limit"). -1 with err on a bad value. Times in seconds.
 */
NODISCARD int config_get_service_int(const struct config *cfg, const char *service,
                                     const char *suffix, int64_t *out, struct err *err);
const char *config_get_service_str(const struct config *cfg, const char *service,
                                   const char *suffix);

/* Every finding about main.cf: unknown names (with suggestion), unused, not yet effective, out of range, repeated. */
enum config_finding { CONFIG_WARNING, CONFIG_FATAL };
void config_check(const struct config *cfg,
                  void (*report)(enum config_finding kind, const char *file, int line,
                                 const char *text, void *arg),
                  void *arg);

/*
 * cfg with stand-ins for the values that cannot be read (the default, or nothing), so that the rest can be looked at. A
 * reference to cfg itself where all can be read.
 */
NODISCARD struct config *config_readable(const struct config *cfg);
/* Is cfg of config_readable(), and this value not the one that was meant? */
bool config_is_stand_in(const struct config *cfg, const char *name);

struct master_cf;
/* Names in both files: -o of what is no parameter and nothing refers to, and $names that nothing defines. */
void config_check_names(const struct config *cfg, const struct master_cf *m,
                        void (*report)(enum config_finding kind, const char *file, int line,
                                       const char *text, void *arg),
                        void *arg);

/* Where things are when main.cf does not say: relative to the executable in an installed prefix that is not
 * the built-in one, else Postfix's. NUL-terminated, never fails. "daemon_directory", "command_directory". */
char *config_default_directory(const char *name);

/* A list value split at commas and white space, {...} kept together: calls fn with each element. */
void config_list_each(const char *value, void (*fn)(struct slice element, void *arg), void *arg);

/* Parameters that nearly every program needs. */
struct config_common {
    const char *queue_directory, *data_directory, *daemon_directory, *command_directory,
        *config_directory;
    const char *mail_owner, *setgid_group, *syslog_name, *syslog_facility, *maillog_file,
        *mail_name, *mail_version;
    const char *myhostname, *mydomain, *myorigin;
    bool enable_long_queue_ids;
};
extern const struct param_set config_common_params;

#endif
