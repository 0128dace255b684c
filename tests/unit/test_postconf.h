/* SPDX-License-Identifier: Apache-2.0 */
/* test_postconf.h - a configuration from a text, in a directory that does not exist. */
#ifndef PR_TEST_POSTCONF_H
#define PR_TEST_POSTCONF_H

#include "test_base.h"

#include "postconf/config.h"

/* dir is where master.cf would be looked for */
static inline struct config *config_of_in(const char *dir, const char *text)
{
    struct config *cfg = NULL;
    struct err err = ERR_INIT;

    if (config_load_text(dir, slice_str(text), NULL, 0, NULL, &cfg, &err) == -1)
        fail_msg("config_load_text: %s", err.text);
    return cfg;
}

static inline struct config *config_of(const char *text)
{
    return config_of_in("/nonexistent", text);
}

#endif
