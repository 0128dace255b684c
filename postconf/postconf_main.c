/* SPDX-License-Identifier: Apache-2.0 */
/* postconf_main.c - postconf(1): its options, and which of them go together. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/vec.h"
#include "maps/map.h"
#include "postconf/postconf_int.h"

enum { OPT_STATUS = 256, OPT_EXPLAIN, OPT_MANUAL };

static const struct option long_options[] = {
    {"status", no_argument, NULL, OPT_STATUS},
    {"explain", no_argument, NULL, OPT_EXPLAIN},
    {"manual", no_argument, NULL, OPT_MANUAL},
    {NULL, 0, NULL, 0},
};

static const char usage[] =
    "usage: postconf [-c config_dir] [-dfhHnpqvx] [-C class,...] [-o name=value] [name ...]\n"
    "       postconf [-c config_dir] [-e] name=value ... | -X name ... | -# name ...\n"
    "       postconf [-c config_dir] -M|-F|-P [-fhHqvx] [-o name=value] [service[/type[/name]] ...]\n"
    "       postconf [-c config_dir] -M|-F|-P [-e] service/type[/name]=value ...\n"
    "       postconf [-c config_dir] -MX|-M#|-PX service/type[/parameter] ...\n"
    "       postconf [-c config_dir] -b|-t [template_file]\n"
    "       postconf -a | -A | -l | -m | -T mode | --status\n"
    "       postconf [-c config_dir] --explain name ...";

/* What is shown or edited: one of these. */
static const char modes[] = "aAbFlmMpPtT";

/* What does not go with a mode; -p is main.cf itself. */
static const struct {
    char mode;
    const char *without;
} unfit[] = {
    {'a', "#defhHnoxX"}, {'A', "#defhHnoxX"}, {'b', "#defhHnoxX"}, {'l', "#defhHnoxX"},
    {'m', "#defhHnoxX"}, {'t', "#defhHnoxX"}, {'T', "#defhHnoxX"}, {'M', "dnhHC"},
    {'F', "dnC#X"},      {'P', "dnC#"},
};

/* Two options of main.cf, or of editing, that exclude each other. */
static const char exclusive[][2] = {
    {'d', 'n'}, {'h', 'H'}, {'d', 'o'}, {'e', '#'}, {'e', 'X'}, {'X', '#'}, {'d', 'e'},
    {'e', 'n'}, {'e', 'h'}, {'e', 'H'}, {'e', 'x'}, {'e', 'f'}, {'e', 'o'}, {'d', '#'},
    {'n', '#'}, {'h', '#'}, {'H', '#'}, {'x', '#'}, {'f', '#'}, {'o', '#'}, {'d', 'X'},
    {'n', 'X'}, {'h', 'X'}, {'H', 'X'}, {'x', 'X'}, {'f', 'X'}, {'o', 'X'},
};

static void check_options(const bool given[256])
{
    char mode = '\0';

    for (const char *m = modes; *m != '\0'; m++) {
        if (!given[(unsigned char) *m])
            continue;
        if (mode != '\0')
            fatal("specify one of -%c -%c", mode, *m);
        mode = *m;
    }
    for (size_t i = 0; i < ARRAY_LEN(unfit); i++)
        for (const char *o = unfit[i].without; unfit[i].mode == mode && *o != '\0'; o++)
            if (given[(unsigned char) *o])
                fatal("with option -%c, do not specify -%c", mode, *o);
    for (size_t i = 0; i < ARRAY_LEN(exclusive); i++)
        if (given[(unsigned char) exclusive[i][0]] && given[(unsigned char) exclusive[i][1]])
            fatal("specify one of -%c -%c", exclusive[i][0], exclusive[i][1]);
}

static unsigned take_classes(const char *text)
{
    static const struct {
        const char *name;
        unsigned class;
    } classes[] = {
        {"builtin", POSTCONF_BUILTIN},
        {"service", POSTCONF_SERVICE},
        {"user", POSTCONF_USER},
        {"all", POSTCONF_ALL},
    };
    struct slice rest = slice_str(text);
    struct slice word;
    unsigned found = 0;

    while (slice_token(&rest, ", \t", &word)) {
        size_t i = 0;

        while (i < ARRAY_LEN(classes) && !slice_eq_str(word, classes[i].name))
            i++;
        if (i == ARRAY_LEN(classes))
            fatal("unknown -C option value \"%.*s\" in \"%s\"", SLICE_FMT(word), text);
        found |= classes[i].class;
    }
    return found;
}

static void print_map_type(const char *name, void *arg)
{
    (void) arg;
    puts(name);
}

/* Without a main.cf, modules are looked for where they are installed. */
static int print_map_types(const struct postconf *p)
{
    struct config *cfg = NULL;
    struct err err = ERR_INIT;

    if (config_load(p->dir, p->overrides, p->noverrides, NULL, &cfg, &err) == -1)
        log_warning("%s", err.text);
    map_type_names_each(cfg, print_map_type, NULL);
    config_unref(&cfg);
    return 0;
}

static int run(struct postconf *p, const bool given[256], int what)
{
    if (what == OPT_STATUS)
        return postconf_status();
    if (what == OPT_MANUAL)
        return postconf_manual();
    if (what == OPT_EXPLAIN)
        return postconf_explain(p);
    if (given['m'])
        return print_map_types(p);
    if (given['l']) {
        puts("flock\nfcntl\ndotlock");
        return 0;
    }
    /* No plug-in type is built in so far: an empty list. */
    if (given['a'] || given['A'])
        return 0;
    if (given['b'] || given['t'])
        return postconf_templates(p, given['b']);
    if (given['T'])
        return postconf_tls(p->tls_mode);
    for (const char *mode = "MFP"; *mode != '\0'; mode++)
        if (given[(unsigned char) *mode] && p->edit != 0)
            return postconf_edit_master_cf(p, *mode);
    if (given['M'])
        return postconf_show_services(p);
    if (given['F'])
        return postconf_show_fields(p);
    if (given['P'])
        return postconf_show_service_parameters(p);
    return p->edit != 0 ? postconf_edit_main_cf(p) : postconf_show(p);
}

int main(int argc, char **argv)
{
    struct postconf p = {.classes = POSTCONF_ALL};
    struct vec overrides = VEC_INIT;
    bool given[256] = {false};
    int verbosity = 0;
    int what = 0;
    int c;
    int status;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "postconf",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+aAbc:C:defFhHlmMno:pPqtT:vxX#", long_options, NULL)) !=
           -1) {
        if (c == '?')
            fatal("%s", usage);
        if (c < 256)
            given[c] = true;
        else
            what = c;
        if (c == 'c')
            p.dir = optarg;
        else if (c == 'C')
            p.classes = take_classes(optarg);
        else if (c == 'o')
            vec_push(&overrides, optarg);
        else if (c == 'T')
            p.tls_mode = optarg;
        else if (c == 'v')
            log_verbose(++verbosity);
    }
    p.names = argv + optind;
    p.count = (size_t) (argc - optind);
    for (size_t i = 0; i < p.count && !given['#'] && !given['X'] && what == 0; i++)
        if (strchr(p.names[i], '=') != NULL)
            given['e'] = true;
    check_options(given);
    p.overrides = (const char *const *) overrides.items;
    p.noverrides = overrides.len;
    p.defaults = given['d'];
    p.only_set = given['n'];
    p.no_name = given['h'];
    p.no_value = given['H'];
    p.fold = given['f'];
    p.expand = given['x'];
    p.quiet = given['q'];
    p.edit = given['e'] ? 'e' : given['X'] ? 'X' : given['#'] ? '#' : 0;
    status = run(&p, given, what);
    vec_fini(&overrides);
    if (fflush(stdout) != 0 || ferror(stdout) != 0)
        fatal("write to standard output failed");
    return status;
}
