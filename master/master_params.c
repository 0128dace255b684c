/* SPDX-License-Identifier: Apache-2.0 */
/* master_params.c - the parameters of master and of the worker framework, and the list of this folder's sets. */
#include "master/master_int.h"
#include "master/worker_int.h"

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
    PARAM_INT("worker_threads", W, threads, .def = "100", .min = 1, .max = 10000,
              .doc = "Most threads of a threaded worker; started as needed."),
};
const struct param_set worker_params = PARAM_SET("worker", W, worker_rows);

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
    PARAM_BY_NAME(
        "import_environment", PARAM_TYPE_STRING,
        .def =
            "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME",
        .services = "master",
        .doc = "Environment variables that workers keep (name) or get (name=value)."),
};
const struct param_set master_params = PARAM_SET("master", M, master_rows);

extern const struct param_set *const master_param_sets[];

const struct param_set *const master_param_sets[] = {
    &worker_params,
    &master_params,
    NULL,
};
