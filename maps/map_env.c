/* SPDX-License-Identifier: Apache-2.0 */
/* map_env.c - what the tables of a process share: configuration, folding, who answers for proxy:, and themselves by name. */
#include "maps/map_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/htable.h"
#include "maps/map_servers.h"

struct map_env *map_env_new(const struct config *cfg)
{
    struct map_env *env = xcalloc(1, sizeof(*env));

    env->cfg = config_ref((struct config *) (uintptr_t) cfg);
    lock_init(&env->lock, LOCK_MAP_SET);
    lock_init(&env->proxy_lock, LOCK_MAP_PROXY);
    env->maps = htable_new(false);
    env->slow_ms = map_slow_lookup_ms(cfg);
    const char *utf8 = config_get(cfg, "smtputf8_enable");
    env->folding = utf8 != NULL && strcmp(utf8, "yes") == 0 ? MAP_FOLD_UTF8 : MAP_FOLD_ASCII;
    return env;
}

void map_env_set_folding(struct map_env *env, enum map_folding how)
{
    env->folding = how;
}

enum map_folding map_env_folding(const struct map_env *env)
{
    return env->folding;
}

void map_env_free(struct map_env **env)
{
    if (*env == NULL)
        return;
    map_reopener_free(&(*env)->reopener);
    htable_free(&(*env)->maps, map_free);
    map_servers_free(&(*env)->proxy);
    config_unref(&(*env)->cfg);
    lock_fini(&(*env)->lock);
    lock_fini(&(*env)->proxy_lock);
    free(*env);
    *env = NULL;
}

void map_env_open_aside(struct map_env *env)
{
    if (env->reopener == NULL)
        env->reopener = map_reopener_new();
}

void map_env_set_proxy(struct map_env *env, enum map_proxy who)
{
    env->who = who;
}

enum map_proxy map_env_proxy(const struct map_env *env)
{
    return env->who;
}

struct map_servers *map_env_proxy_servers(struct map_env *env, struct err *err)
{
    struct map_servers *servers;

    lock_take(&env->proxy_lock);
    if (env->proxy == NULL)
        env->proxy = map_proxy_servers_new(env, false, err);
    servers = env->proxy;
    lock_release(&env->proxy_lock);
    return servers;
}

const struct config *map_env_config(const struct map_env *env)
{
    return env->cfg;
}

struct map *map_env_enter(struct map_env *env, struct slice name, struct map *m)
{
    struct map *there;

    lock_take(&env->lock);
    there = htable_get(env->maps, name);
    if (there == NULL)
        htable_put(env->maps, name, m);
    lock_release(&env->lock);
    if (there != NULL)
        map_free(m);
    return there != NULL ? there : m;
}

struct map *map_env_find(struct map_env *env, struct slice name)
{
    struct map *m;

    lock_take(&env->lock);
    m = htable_get(env->maps, name);
    lock_release(&env->lock);
    return m;
}
