/* SPDX-License-Identifier: Apache-2.0 */
/* master_params.c - the parameters of master and of the worker framework, and the list of this folder's sets. */
#include <string.h>

#include "master/instances.h"
#include "master/master_int.h"
#include "master/worker_int.h"
#include "postconf/findings.h"

#define W struct worker_params
static const struct param worker_rows[] = {
    PARAM_TIME("max_idle", W, max_idle_s, .def = "100s", .min = 1,
               .doc = "How long a worker without clients waits before it leaves."),
    PARAM_INT(
        "max_use", W, max_use, .def = "100", .min = 1,
        .doc =
            "Clients that a worker serves before it leaves (times the clients that it takes at once)."),
    PARAM_TIME("daemon_timeout", W, daemon_timeout_s, .def = "18000s", .min = 1,
               .doc = "Time in which a worker must be done with a client, or it is stopped."),
    PARAM_STRING("info_log_address_format", W, log_address_format, .def = "external",
                 .doc = "How log lines write mail addresses: external (quoted where SMTP wants "
                        "that), internal (as tables are asked for them)."),
    PARAM_INT("worker_threads", W, threads, .def = "100", .min = 1, .max = 10000,
              .doc = "Most threads of a threaded worker; started as needed."),
};
static void check_worker(struct map_env *env, struct findings *f)
{
    const char *format = config_get(findings_config(f), "info_log_address_format");

    (void) env;
    if (strcmp(format, "external") != 0 && strcmp(format, "internal") != 0)
        findings_error(f, "info_log_address_format", "\"%s\" is neither external nor internal",
                       format);
}

const struct param_set worker_params = PARAM_SET_CHECKED("worker", W, worker_rows, check_worker);

#define M struct master_params
static const struct param master_rows[] = {
    PARAM_INT("default_process_limit", M, default_process_limit, .def = "100", .min = 1,
              .services = "master",
              .doc = "Clients at once of a service whose maxproc column says \"-\"."),
    PARAM_INT(
        "sessions_per_process", M, sessions_per_process, .def = "500", .min = 1, .max = 100000,
        .services = "master",
        .doc =
            "Clients that share a threaded worker process; 1 isolates each in a process of its own."),
    PARAM_TIME("service_throttle_time", M, service_throttle_time_s, .def = "60s", .min = 1,
               .services = "master",
               .doc = "How long a service is not started again after it failed at its start."),
    PARAM_INT("listen_backlog", M, listen_backlog, .def = "4096", .min = 1, .max = 65535,
              .services = "master",
              .doc = "Clients that the kernel keeps waiting for each listening socket."),
    PARAM_TIME("stop_grace_time", M, stop_grace_s, .def = "5s", .min = 0, .max = 3600,
               .services = "master",
               .doc = "Time that workers have to finish when the system stops."),
    PARAM_STRING(
        "inet_interfaces", M, inet_interfaces, .def = "all", .not_empty = true,
        .doc = "Addresses on which mail comes in: all, loopback-only, or names and addresses."),
    PARAM_STRING("inet_protocols", M, inet_protocols, .def = "all", .not_empty = true,
                 .doc = "IP versions that are used: all, or ipv4, ipv6."),
    PARAM_STRING(
        "master_service_disable", M, service_disable, .def = "", .services = "master",
        .doc =
            "Services of master.cf that are not run: types (inet), or name/type; ! in front keeps one."),
    PARAM_STRING("known_tcp_ports", M, known_tcp_ports,
                 .def = "lmtp=24, smtp=25, smtps=submissions=465, submission=587",
                 .doc = "Names of ports that are known without the services database."),
    PARAM_STRING(
        "import_environment", M, import_environment,
        .def =
            "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME",
        .services = "master",
        .doc = "Environment variables that daemons keep (name) or get (name=value)."),
    PARAM_STRING("maillog_file_permissions", M, maillog_file_permissions, .def = "0600",
                 .not_empty = true, .services = "master",
                 .doc = "The mode with which maillog_file is created, octal."),
    PARAM_STRING("maillog_file_prefixes", M, maillog_file_prefixes, .def = "/var, /dev/stdout",
                 .services = "master", .doc = "Where maillog_file may lie."),
    PARAM_STRING("postlog_service_name", M, postlog_service_name, .def = "postlog",
                 .not_empty = true, .services = "master",
                 .doc = "The socket in public/ that commands send log lines to."),
};
const struct param_set master_params = PARAM_SET("master", M, master_rows);

/* Read by name. */
static const struct param by_name[] = {
    PARAM_BY_NAME(
        "alternate_config_directories", PARAM_TYPE_STRING, .def = "",
        .services = "sendmail,postdrop,postqueue",
        .doc =
            "Configuration directories that ordinary users may name to set-gid commands; of the default main.cf only."),
    PARAM_BY_NAME("debugger_command", PARAM_TYPE_STRING, .def = "",
                  .doc = "The command that a daemon runs at its start with option -D."),
    PARAM_BY_NAME("process_id_directory", PARAM_TYPE_STRING, .status = PARAM_BUILT_IN, .def = "pid",
                  .note = "always pid", .doc = "Where master.pid lies, below queue_directory."),
    PARAM_BY_NAME("postlogd_watchdog_timeout", PARAM_TYPE_TIME, .status = PARAM_BUILT_IN,
                  .def = "10s", .note = "master appends the lines itself",
                  .doc = "The watchdog of postlogd."),
    PARAM_BY_NAME("maillog_file_compressor", PARAM_TYPE_STRING, .def = "gzip",
                  .doc = "The command with which postfix logrotate compresses the old file."),
    PARAM_BY_NAME("maillog_file_rotate_suffix", PARAM_TYPE_STRING, .def = "%Y%m%d-%H%M%S",
                  .doc = "What postfix logrotate appends to the old file's name, as in date(1)."),
};
struct no_members {
    char unused;
};
static const struct param_set by_name_params =
    PARAM_SET("master by name", struct no_members, by_name);

extern const struct param_set agent_params; /* agent.c */
extern const struct param_set *const master_param_sets[];

const struct param_set *const master_param_sets[] = {
    &worker_params, &master_params, &agent_params, &instance_params, &by_name_params, NULL,
};
