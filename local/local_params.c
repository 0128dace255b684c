/* SPDX-License-Identifier: Apache-2.0 */
/* local_params.c - the parameters of local(8) and virtual(8), and the list of this folder's parameter sets. */
#include "local/local_params.h"

#include <string.h>

#define B struct mailbox_params
static const struct param mailbox_rows[] = {
    PARAM_STRING("mailbox_delivery_lock", B, mailbox_lock, .def = "fcntl, dotlock",
                 .services = "local", .doc = "How mbox files of users are locked."),
    PARAM_STRING("virtual_mailbox_lock", B, virtual_lock, .def = "fcntl, dotlock",
                 .services = "virtual", .doc = "How virtual mbox files are locked."),
    PARAM_INT("deliver_lock_attempts", B, lock_attempts, .def = "20", .min = 1,
              .doc = "How often a lock is tried."),
    PARAM_TIME("deliver_lock_delay", B, lock_delay_s, .def = "1s", .min = 1,
               .doc = "Time between two attempts to lock."),
    PARAM_BOOL("strict_mailbox_ownership", B, strict_ownership, .def = "yes",
               .services = "local,virtual",
               .doc = "Defer mail for an mbox file that is not its user's."),
    PARAM_TIME("stale_lock_time", B, stale_lock_s, .def = "500s", .min = 1,
               .doc = "Age at which a lock file is broken."),
};
const struct param_set mailbox_params = PARAM_SET("mailbox", B, mailbox_rows);

#define V struct virtual_params
static const struct param virtual_rows[] = {
    PARAM_STRING("virtual_mailbox_base", V, base, .def = "", .services = "virtual",
                 .doc = "What stands before every path of virtual_mailbox_maps."),
    PARAM_STRING("virtual_uid_maps", V, uid_maps, .def = "", .services = "virtual",
                 .doc = "Tables of the user ids of virtual mailboxes."),
    PARAM_STRING("virtual_gid_maps", V, gid_maps, .def = "", .services = "virtual",
                 .doc = "Tables of the group ids of virtual mailboxes."),
    PARAM_INT("virtual_minimum_uid", V, minimum_uid, .def = "100", .min = 1, .services = "virtual",
              .doc = "Least user id that mail is delivered as."),
    PARAM_INT("virtual_mailbox_limit", V, mailbox_limit, .def = "51200000", .min = 0,
              .services = "virtual",
              .doc = "Size beyond which a virtual mbox file gets no more mail; 0: none."),
    PARAM_BOOL("virtual_maildir_group_sync", V, maildir_group_sync, .def = "yes",
               .services = "virtual",
               .doc = "Messages for Maildirs that arrive together share the flushes of their file "
                      "system; no: each is flushed by itself."),
    PARAM_TIME("virtual_maildir_sync_timeout", V, maildir_sync_timeout_s, .def = "60s", .min = 1,
               .services = "virtual",
               .doc =
                   "A message that the disk has not written to a Maildir within this time is "
                   "deferred, and so is what comes in for the same file system until it answers."),
};
const struct param_set virtual_params = PARAM_SET("virtual", V, virtual_rows);

#define P struct local_params
static const struct param local_rows[] = {
    PARAM_STRING("home_mailbox", P, home_mailbox, .def = "", .services = "local",
                 .doc = "Mailbox below the user's home directory; ending in /: a Maildir."),
    PARAM_STRING("mail_spool_directory", P, mail_spool_directory, .def = "/var/mail",
                 .services = "local", .doc = "Where users' mbox files are."),
    PARAM_RAW("forward_path", P, forward_path,
              .def = "$home/.forward${recipient_delimiter}${extension}, $home/.forward",
              .services = "local", .doc = "Where users' forward files are looked for."),
    PARAM_STRING("allow_mail_to_commands", P, allow_commands, .def = "alias, forward",
                 .services = "local", .doc = "Who may name commands: alias, forward, include."),
    PARAM_STRING("allow_mail_to_files", P, allow_files, .def = "alias, forward",
                 .services = "local", .doc = "Who may name files: alias, forward, include."),
    PARAM_RAW("luser_relay", P, luser_relay, .def = "", .services = "local",
              .doc = "Where mail for unknown local users goes; knows $user, $local, $extension, "
                     "$domain, $recipient and $recipient_delimiter."),
    PARAM_RAW("mailbox_command", P, mailbox_command, .def = "", .services = "local",
              .doc = "Command that gets users' mail in place of a mailbox."),
    PARAM_STRING("mailbox_transport", P, mailbox_transport, .def = "", .services = "local",
                 .doc = "Transport and next hop that get mail for all users, after aliases and "
                        ".forward files."),
    PARAM_STRING("mailbox_transport_maps", P, mailbox_transport_maps, .def = "",
                 .services = "local", .doc = "Tables of such transports by user."),
    PARAM_STRING("fallback_transport", P, fallback_transport, .def = "", .services = "local",
                 .doc = "Transport and next hop that get mail for names that no user has."),
    PARAM_STRING("fallback_transport_maps", P, fallback_transport_maps, .def = "",
                 .services = "local", .doc = "Tables of such transports by name."),
    PARAM_STRING("mailbox_command_maps", P, mailbox_command_maps, .def = "", .services = "local",
                 .doc = "Tables of such commands by user; what they name goes before it."),
    PARAM_STRING("prepend_delivered_header", P, prepend_delivered_header,
                 .def = "command, file, forward", .services = "local",
                 .doc = "Deliveries that put Delivered-To: in front: command, file, forward."),
    PARAM_STRING("export_environment", P, export_environment, .def = "TZ MAIL_CONFIG LANG",
                 .services = "local",
                 .doc = "Variables that commands get: NAME as it is here, or NAME=value."),
    PARAM_RAW("command_execution_directory", P, command_directory, .def = "", .services = "local",
              .doc = "Where commands run; empty: in the user's home directory, or where there is "
                     "none, in /."),
    PARAM_STRING("local_command_shell", P, command_shell, .def = "", .services = "local",
                 .doc = "The shell that runs commands, as \"SHELL -c\" has it; empty: /bin/sh."),
#define HARMLESS "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    PARAM_STRING("command_expansion_filter", P, command_filter, .def = HARMLESS,
                 .services = "local",
                 .doc = "Characters that variables of commands may have; others become _."),
    PARAM_STRING("execution_directory_expansion_filter", P, directory_filter, .def = HARMLESS,
                 .services = "local", .doc = "The same for $name in command_execution_directory."),
    PARAM_STRING("forward_expansion_filter", P, forward_filter, .def = HARMLESS,
                 .services = "local", .doc = "The same for $name in forward_path."),
    PARAM_BOOL("biff", P, biff, .def = "yes", .services = "local",
               .doc = "Tell the comsat service of this host of new mail in users' mbox files."),
    PARAM_STRING("default_privs", P, default_privs, .def = "nobody", .services = "local",
                 .doc = "User for commands and files named by root-owned aliases."),
    PARAM_INT("mailbox_size_limit", P, mailbox_size_limit, .def = "51200000", .min = 0,
              .services = "local",
              .doc = "Size beyond which a user's mbox file gets no more mail; 0: none."),
    PARAM_TIME("command_time_limit", P, command_time_limit_s, .def = "1000s", .min = 1,
               .services = "local", .doc = "Time that a command may take."),
    PARAM_BOOL("expand_owner_alias", P, expand_owner_alias, .def = "no", .services = "local",
               .doc = "Use what owner-NAME expands to as sender."),
    PARAM_BOOL("require_home_directory", P, require_home_directory, .def = "no",
               .services = "local", .doc = "Defer mail for users whose home directory is missing."),
};
const struct param_set local_params = PARAM_SET("local", P, local_rows);

extern const struct param_set *const local_param_sets[];

const struct param_set *const local_param_sets[] = {
    &mailbox_params,
    &virtual_params,
    &local_params,
    NULL,
};

int local_mailbox_options(const struct config *cfg, const char *lock, struct mailbox_options *out,
                          struct err *err)
{
    struct mailbox_params p;
    struct slice rest;
    struct slice word;

    if (config_bind(cfg, &mailbox_params, &p, err) == -1)
        return -1;
    *out = (struct mailbox_options){
        .myhostname = config_get(cfg, "myhostname"),
        .lock_attempts = p.lock_attempts,
        .lock_delay_s = p.lock_delay_s,
        .stale_lock_s = p.stale_lock_s,
        .strict_ownership = p.strict_ownership,
    };
    rest = slice_str(strcmp(lock, "virtual_mailbox_lock") == 0 ? p.virtual_lock : p.mailbox_lock);
    while (slice_token(&rest, ", \t", &word)) {
        if (slice_eq_str(word, "fcntl"))
            out->fcntl_lock = true;
        else if (slice_eq_str(word, "dotlock"))
            out->dotlock = true;
        else if (slice_eq_str(word, "flock"))
            out->flock_lock = true;
        else
            return err_input(err, "%s: unknown lock method \"%.*s\"", lock, SLICE_FMT(word));
    }
    return 0;
}
