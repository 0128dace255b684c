/* SPDX-License-Identifier: Apache-2.0 */
/* generation.c - main.cf and master.cf read together. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "master/master_int.h"

int generation_load(const char *dir, struct generation **out, struct err *err)
{
    struct generation *g = xcalloc(1, sizeof(*g));

    if (config_load(dir, NULL, 0, NULL, &g->cfg, err) == -1 ||
        config_bind(g->cfg, &config_common_params, &g->common, err) == -1 ||
        config_bind(g->cfg, &master_params, &g->p, err) == -1 ||
        master_cf_load(config_dir(g->cfg), &g->cf, err) == -1) {
        generation_free(&g);
        return -1;
    }
    *out = g;
    return 0;
}

void generation_free(struct generation **g)
{
    if (*g == NULL)
        return;
    master_cf_free(&(*g)->cf);
    config_unref(&(*g)->cfg);
    free(*g);
    *g = NULL;
}

enum service_kind service_kind(const struct generation *g, const struct master_service *s)
{
    /* what Postfix runs as a process of its own, and we have inside others, or need not */
    static const char *const absorbed[] = {"tlsmgr", "trivial-rewrite", "scache", "flush",
                                           "showq",  "postlogd",        "anvil",  "proxymap"};
    struct buf path = BUF_INIT(8192);
    enum service_kind kind = SERVICE_RUN;

    path_join(&path, g->common.daemon_directory, s->command);
    if (access(buf_cstr(&path), X_OK) == -1) {
        kind = SERVICE_MISSING;
        for (size_t i = 0; i < ARRAY_LEN(absorbed); i++)
            if (strcmp(s->command, absorbed[i]) == 0)
                kind = SERVICE_ABSORBED;
    }
    buf_fini(&path);
    return kind;
}
