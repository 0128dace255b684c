/* SPDX-License-Identifier: Apache-2.0 */
/* generation.c - main.cf and master.cf read together, main.cf kept as it was read. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "master/master_int.h"

#define MAIN_CF_MAX (16U << 20)

static int snapshot(struct slice text, struct err *err)
{
    int fd = memfd_create("main.cf", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd == -1)
        return err_sys(err, "memory for main.cf");
    if (fd_write_all(fd, text.ptr, text.len) == -1 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == -1) {
        err_sys(err, "memory for main.cf");
        fd_close(&fd);
    }
    return fd;
}

/*
 * A main.cf that comes from another host may say where that one's daemons are. Ours are run in their stead; check_generation() tells.
 */
static void find_daemons(struct generation *g)
{
    struct buf path = BUF_INIT(8192);
    char *own = config_default_directory("daemon_directory");
    bool are_there;

    path_join(&path, g->common.daemon_directory, "master");
    are_there = access(buf_cstr(&path), X_OK) == 0;
    buf_reset(&path);
    path_join(&path, own, "master");
    if (!are_there && access(buf_cstr(&path), X_OK) == 0) {
        g->common.daemon_directory = g->daemons = own;
        own = NULL;
    }
    free(own);
    buf_fini(&path);
}

static int load_main(const char *dir, bool salvage, struct generation *g, struct err *err)
{
    struct buf text = BUF_INIT(MAIN_CF_MAX);
    struct buf whole = BUF_INIT(MAIN_CF_MAX);
    struct buf path = BUF_INIT(8192);
    int ret = -1;

    if (dir == NULL || dir[0] == '\0')
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
        dir = getenv("MAIL_CONFIG");
    if (dir == NULL || dir[0] == '\0')
        dir = CONFIG_DEFAULT_DIR;
    path_join(&path, dir, "main.cf");
    if (file_read(buf_cstr(&path), &text, err) == -1)
        goto done;
    if (salvage) {
        config_text_salvage(buf_view(&text), &whole);
        buf_reset(&text);
        buf_put_slice(&text, buf_view(&whole));
    }
    if (config_load_text(dir, buf_view(&text), NULL, 0, NULL, &g->cfg, err) == -1 ||
        config_bind(g->cfg, &config_common_params, &g->common, err) == -1 ||
        config_bind(g->cfg, &master_params, &g->p, err) == -1)
        goto done;
    find_daemons(g);
    g->config_fd = snapshot(buf_view(&text), err);
    ret = g->config_fd == -1 ? -1 : 0;
done:
    buf_fini(&path);
    buf_fini(&whole);
    buf_fini(&text);
    return ret;
}

static struct generation *generation_new(void)
{
    static uint64_t serial; /* master and postfix(1) have one thread */
    struct generation *g = xcalloc(1, sizeof(*g));

    g->refs = 1;
    g->serial = ++serial;
    g->config_fd = -1;
    return g;
}

static int load_main_only(const char *dir, bool salvage, struct generation **out, struct err *err)
{
    struct generation *g = generation_new();

    if (load_main(dir, salvage, g, err) == -1) {
        generation_unref(&g);
        return -1;
    }
    *out = g;
    return 0;
}

int generation_load_main(const char *dir, struct generation **out, struct err *err)
{
    return load_main_only(dir, false, out, err);
}

int generation_salvage(const char *dir, struct generation **out, struct err *err)
{
    return load_main_only(dir, true, out, err);
}

/* master_service_disable: "inet" is a type, "smtp/inet" one service; what comes first counts, '!' keeps it. */
static bool is_disabled(const struct generation *g, const struct master_service *s)
{
    struct slice rest = slice_str(g->p.service_disable);
    const char *type = service_type_name(s->type);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        bool keep = word.ptr[0] == '!';
        struct slice pattern = slice_sub(word, keep, word.len);
        ptrdiff_t slash = slice_rfind(pattern, '/');
        struct slice name = slice_sub(pattern, 0, slash == -1 ? 0 : (size_t) slash);

        if (slice_eq_str(slice_sub(pattern, (size_t) (slash + 1), pattern.len), type) &&
            (slash == -1 || slice_eq_str(name, s->name)))
            return !keep;
    }
    return false;
}

static int drop_disabled(struct generation *g, struct err *err)
{
    struct slice rest = slice_str(g->p.service_disable);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        struct slice type = slice_sub(word, (size_t) (slice_rfind(word, '/') + 1), word.len);

        if (slice_starts_with(type, SLICE_LIT("!")))
            type = slice_sub(type, 1, type.len);
        if (!service_type_is_known(type))
            return err_input(err, "master_service_disable: \"%.*s\" names no service type",
                             SLICE_FMT(word));
    }
    for (size_t i = g->cf->services.len; i-- > 0;)
        if (is_disabled(g, g->cf->services.items[i]))
            vec_remove(&g->cf->services, i);
    return 0;
}

int generation_load(const char *dir, struct generation **out, struct err *err)
{
    struct generation *g = generation_new();

    if (load_main(dir, false, g, err) == -1 ||
        master_cf_load(config_dir(g->cfg), &g->cf, err) == -1 || drop_disabled(g, err) == -1) {
        generation_unref(&g);
        return -1;
    }
    *out = g;
    return 0;
}

struct generation *generation_ref(struct generation *g)
{
    g->refs++;
    return g;
}

void generation_unref(struct generation **generation)
{
    struct generation *g = *generation;

    *generation = NULL;
    if (g == NULL || --g->refs > 0)
        return;
    master_cf_free(&g->cf);
    config_unref(&g->cfg);
    fd_close(&g->config_fd);
    free(g->daemons);
    free(g);
}

void service_program(const struct generation *g, const struct master_service *s, struct buf *out)
{
    /* the old queue manager's configuration is served by the one there is */
    path_join(out, g->common.daemon_directory,
              strcmp(s->command, "oqmgr") == 0 ? "qmgr" : s->command);
}

enum service_kind service_kind(const struct generation *g, const struct master_service *s)
{
    /* what Postfix runs as a process of its own, and we have inside others, or need not */
    static const char *const absorbed[] = {
        "tlsmgr", "trivial-rewrite", "scache",  "flush",    "showq",
        "anvil",  "postlogd",        "dnsblog", "tlsproxy",
    };
    struct buf path = BUF_INIT(8192);
    enum service_kind kind = SERVICE_MISSING;

    service_program(g, s, &path);
    if (access(buf_cstr(&path), X_OK) == 0)
        kind = SERVICE_RUN;
    for (size_t i = 0; kind == SERVICE_MISSING && i < ARRAY_LEN(absorbed); i++)
        if (strcmp(s->command, absorbed[i]) == 0)
            kind = SERVICE_ABSORBED;
    /* postlogd is the one user of datagrams, and part of master */
    if (kind == SERVICE_RUN && s->type == SERVICE_UNIX_DGRAM)
        kind = SERVICE_NO_TYPE;
    buf_fini(&path);
    return kind;
}
