/* SPDX-License-Identifier: Apache-2.0 */
/* local_params.h - the parameters of local(8) and virtual(8). */
#ifndef PR_LOCAL_PARAMS_H
#define PR_LOCAL_PARAMS_H

#include "local/mailbox.h"
#include "postconf/config.h"

struct mailbox_params {
    const char *mailbox_lock, *virtual_lock;
    int64_t lock_attempts, lock_delay_s, stale_lock_s;
    bool strict_ownership;
};
struct virtual_params {
    const char *base, *uid_maps, *gid_maps;
    int64_t minimum_uid, mailbox_limit, maildir_sync_timeout_s;
    bool maildir_group_sync;
};
struct local_params {
    const char *home_mailbox, *mail_spool_directory, *forward_path, *allow_commands, *allow_files;
    const char *luser_relay, *mailbox_command, *default_privs;
    const char *mailbox_command_maps, *prepend_delivered_header, *export_environment,
        *command_directory, *command_shell;
    const char *mailbox_transport, *mailbox_transport_maps, *fallback_transport,
        *fallback_transport_maps;
    const char *command_filter, *directory_filter, *forward_filter;
    int64_t mailbox_size_limit, command_time_limit_s;
    bool expand_owner_alias, require_home_directory, biff;
};
extern const struct param_set mailbox_params, virtual_params, local_params;

/* lock: "mailbox_delivery_lock" or "virtual_mailbox_lock". */
NODISCARD int local_mailbox_options(const struct config *cfg, const char *lock,
                                    struct mailbox_options *out, struct err *err);

#endif
