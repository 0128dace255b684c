/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_main_cf.c - any bytes as main.cf: parse, expand every value, find the references. A value that config_get() lends
 * must stay the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "postconf/config_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(const char *name, bool in_master_cf, int line, void *arg)
{
    (void) in_master_cf;
    *(size_t *) arg += (size_t) line;
    *(size_t *) arg += strlen(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* so that no host name in the input is looked up */
    static const char *const overrides[] = {"inet_interfaces=all"};
    struct config *cfg = NULL;
    struct config_names *names;
    struct err err = ERR_INIT;
    size_t sum = 0;

    if (config_load_text("/", slice_of((const char *) data, size), overrides, 1, NULL, &cfg,
                         &err) == -1) {
        if (err.kind != ERR_BAD_INPUT || strstr(err.text, "/main.cf, line ") == NULL)
            abort();
        return 0;
    }
    for (size_t i = 0; i < cfg->in_order.len && i < 20; i++) {
        const struct config_entry *e = cfg->in_order.items[i];
        struct buf out = BUF_INIT(CONFIG_VALUE_MAX);
        const char *lent = config_get(cfg, e->name);

        if (config_expand(cfg, e->value, &out, &err) == 0 && out.len > CONFIG_VALUE_MAX)
            abort();
        if (lent != NULL && config_get(cfg, e->name) != lent)
            abort();
        buf_fini(&out);
    }
    names = config_names_new(cfg, NULL);
    config_names_each_undefined(names, note, &sum);
    config_names_free(&names);
    config_unref(&cfg);
    return 0;
}
