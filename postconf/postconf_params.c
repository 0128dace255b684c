/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postconf_params.c - the parameters that nearly every program needs, and the list of this folder's sets.
 */
#include "postconf/findings.h"

#define C struct config_common
static const struct param rows[] = {
    PARAM_STRING(
        "queue_directory", C, queue_directory, .def = "/var/spool/postfix", .not_empty = true,
        .doc =
            "Where the queue and the sockets are; daemons run with it as their current directory."),
    PARAM_STRING("data_directory", C, data_directory, .def = "/var/lib/postfix", .not_empty = true,
                 .doc = "Where data lie that are written and are not mail: caches, locks."),
    PARAM_STRING("daemon_directory", C, daemon_directory, .def = "/usr/lib/postfix/sbin",
                 .not_empty = true, .doc = "Where the programs are that master starts."),
    PARAM_STRING("command_directory", C, command_directory, .def = "/usr/sbin", .not_empty = true,
                 .doc = "Where the administrator's commands are."),
    PARAM_STRING("config_directory", C, config_directory, .def = "/etc/postfix",
                 .doc = "Where main.cf and master.cf are."),
    PARAM_STRING("mail_owner", C, mail_owner, .def = "postfix", .not_empty = true,
                 .doc = "The account that owns the queue and that most daemons run as."),
    PARAM_STRING(
        "setgid_group", C, setgid_group, .def = "postdrop", .not_empty = true,
        .doc =
            "The group of the set-gid commands, which may put mail into the maildrop directory."),
    PARAM_STRING("syslog_name", C, syslog_name,
                 .def = "${multi_instance_name?{$multi_instance_name}:{postfix}}",
                 .doc = "What stands before the program's name in log lines."),
    PARAM_STRING("syslog_facility", C, syslog_facility, .def = "mail",
                 .doc = "The syslog facility of log lines."),
    PARAM_STRING("maillog_file", C, maillog_file, .def = "",
                 .doc = "A file (or /dev/stdout) that log lines go to in place of syslog."),
    PARAM_STRING("mail_name", C, mail_name, .def = "Postfix",
                 .doc = "The name of the mail system in banners, Received: and reports."),
    PARAM_STRING("mail_version", C, mail_version, .def = "3.7.11",
                 .doc = "The version of Postfix whose behaviour this system has."),
    PARAM_STRING("myhostname", C, myhostname, .def = "localhost.localdomain", .not_empty = true,
                 .doc = "The Internet name of this mail system."),
    PARAM_STRING("mydomain", C, mydomain, .def = "localdomain", .not_empty = true,
                 .doc = "The Internet domain of this mail system."),
    PARAM_STRING("myorigin", C, myorigin, .def = "$myhostname", .not_empty = true, .or_file = true,
                 .doc = "The domain that completes addresses of local mail; /FILE: the first line "
                        "of that file, as Debian has it in /etc/mailname."),
    PARAM_BOOL("enable_long_queue_ids", C, enable_long_queue_ids, .def = "no",
               .doc = "Use the long form of queue ids."),
};

static void check(struct map_env *env, struct findings *f)
{
    const char *name = config_get(findings_config(f), "myhostname");

    (void) env;
    if (name != NULL && strchr(name, '.') == NULL)
        findings_warn(
            f, "myhostname",
            "\"%s\" is not a fully-qualified name, and other systems may refuse mail from "
            "it: write HOST.DOMAIN",
            name);
}

const struct param_set config_common_params =
    PARAM_SET_CHECKED("common", struct config_common, rows, check);

/* Used in expansion, by name, or by several folders. */
static const struct param by_name[] = {
    PARAM_BY_NAME("mynetworks", PARAM_TYPE_STRING, .def = "127.0.0.0/8 [::1]/128",
                  .doc = "Clients that are trusted: networks and hosts."),
    PARAM_BY_NAME("mynetworks_style", PARAM_TYPE_STRING,
                  .def = "${{$compatibility_level} <level {2} ? {subnet} : {host}}",
                  .doc = "How the default of mynetworks is found: host, subnet."),
    PARAM_BY_NAME("compatibility_level", PARAM_TYPE_STRING, .def = "0",
                  .doc = "Which of the defaults that changed over time are in force."),
    PARAM_BY_NAME("cleanup_service_name", PARAM_TYPE_STRING, .def = "cleanup", .not_empty = true,
                  .doc = "The service that takes mail into the queue."),
    PARAM_BY_NAME("pickup_service_name", PARAM_TYPE_STRING, .def = "pickup", .not_empty = true,
                  .services = "postdrop",
                  .doc = "The service that is woken when there is mail of sendmail's."),
    PARAM_BY_NAME("queue_service_name", PARAM_TYPE_STRING, .def = "qmgr", .not_empty = true,
                  .doc = "The service that manages the queue."),
    PARAM_BY_NAME("virtual_maps", PARAM_TYPE_STRING, .def = "", .services = "obsolete",
                  .doc = "Of old: the default of virtual_alias_maps."),
    PARAM_BY_NAME("fallback_relay", PARAM_TYPE_STRING, .def = "", .services = "obsolete",
                  .doc = "Of old: the default of smtp_fallback_relay."),
    PARAM_BY_NAME("process_id", PARAM_TYPE_STRING, .def = "", .doc = "The process's id."),
    PARAM_BY_NAME("process_name", PARAM_TYPE_STRING, .def = "", .doc = "The program's name."),
    PARAM_BY_NAME("service_name", PARAM_TYPE_STRING, .def = "",
                  .doc = "The service's name in master.cf."),
    PARAM_BY_NAME("stress", PARAM_TYPE_STRING, .def = "",
                  .doc = "Set to yes by master for a service that is at its process limit."),
};
struct no_members {
    char unused;
};
static const struct param_set by_name_params = PARAM_SET("by name", struct no_members, by_name);

extern const struct param_set built_in_params; /* params_built_in.c */
extern const struct param_set *const postconf_param_sets[];

const struct param_set *const postconf_param_sets[] = {
    &config_common_params,
    &by_name_params,
    &built_in_params,
    NULL,
};
