/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postconf_int.h - what the files of the postconf command share. Each command function returns the exit status; errors
 * that end it are logged by fatal().
 */
#ifndef PR_POSTCONF_INT_H
#define PR_POSTCONF_INT_H

#include "postconf/config_int.h"

enum { POSTCONF_BUILTIN = 1, POSTCONF_SERVICE = 2, POSTCONF_USER = 4, POSTCONF_ALL = 7 };

struct postconf {
    const char *dir;              /* -c; NULL: MAIL_CONFIG or the built-in one */
    const char *const *overrides; /* -o */
    size_t noverrides;
    bool defaults, only_set; /* -d, -n */
    bool no_name, no_value;  /* -h, -H */
    bool fold, expand;       /* -f, -x */
    bool quiet;              /* -q: no warnings about what is unused, unknown or without effect */
    const char *tls_mode;    /* -T */
    unsigned classes;        /* -C */
    char edit;               /* 'e', 'X', '#', or 0: show */
    char *const *names;      /* the arguments */
    size_t count;
};

/* postconf_main_cf.c: shows main.cf. */
int postconf_show(const struct postconf *p);
/* The configuration that p means (with -d an empty one). Ends the program if there is none. */
struct config *postconf_load(const struct postconf *p);
/* master.cf, or NULL after a warning: it cannot be read, or is_broken. */
struct master_cf *postconf_load_master(const struct config *cfg, bool *is_broken);
bool postconf_is_obsolete(const struct param *row);
/* "smtp_destination_recipient_limit" and the like: there if there is such a service. */
bool postconf_is_family_default(const struct param *row);
/*
 * postconf_warn.c. The warnings: ignored and replaced lines, undefined names, -o parameters that nothing uses; of main.cf's also, with
 * POSTCONF_WARN_ALL also what has no effect or a bad value.
 */
enum postconf_warnings { POSTCONF_WARN_MASTER, POSTCONF_WARN_NAMES, POSTCONF_WARN_ALL };
void postconf_warn(const struct postconf *p, const struct config *cfg, const struct master_cf *m,
                   enum postconf_warnings which);

/* A value that main.cf sets, or a default that it has a part in, cannot be expanded. */
bool postconf_has_broken(const struct config *cfg);

/* postconf_master.c: -M, -F, -P. */
int postconf_show_services(const struct postconf *p);
int postconf_show_fields(const struct postconf *p);
int postconf_show_service_parameters(const struct postconf *p);
/* Appends a service as one line; with fold on several, as an editor would like them. */
void postconf_put_service(const struct master_service *s, bool fold, struct buf *out);
extern const char *const postconf_field_names[MASTER_COLUMNS + 1];
/* "name/type/rest" against a service; a part that is missing or "*" fits all. rest: what follows, or "*". */
bool postconf_match_service(const char *pattern, const struct master_service *s,
                            struct slice *rest);

/* postconf_edit.c, postconf_edit_master.c: -e, -X, -#, of main.cf; with mode 'M', 'F' or 'P' of master.cf. */
int postconf_edit_main_cf(const struct postconf *p);
int postconf_edit_master_cf(const struct postconf *p, char mode);
/* Reads FILE of the configuration directory, lets fn write the new text, and puts it in place; one editor at a time. */
int postconf_edit_file(const struct postconf *p, const char *file,
                       void (*fn)(const struct postconf *p, struct slice text, struct buf *out,
                                  void *arg),
                       void *arg);
/* Cuts the first physical line, without its line end, from *text. */
bool postconf_next_line(struct slice *text, struct slice *line);

/* postconf_print.c: "name = value" on standard output, white space made single; -h, -H, -f as p says. */
void postconf_print(const struct postconf *p, const char *name, const char *value);
/* Appends words with a blank before each, or in fold mode a line break; *column is where the line is. */
void postconf_put_words(struct buf *out, size_t *column, struct slice words, bool fold);

/* postconf_bounce.c: -b (expanded) and -t: the bounce templates of a file, or of bounce_template_file. */
int postconf_templates(const struct postconf *p, bool expanded);

/* postconf_tls.c: -T; a word that is no mode gives a warning and exit status 1. */
int postconf_tls(const char *mode);

/* postconf_about.c: what we have beyond Postfix's postconf. */
int postconf_status(void);
int postconf_explain(const struct postconf *p);
int postconf_manual(void);

#endif
