/* SPDX-License-Identifier: Apache-2.0 */
/* postkick_main.c - postkick(1): a request to a service's socket, from scripts. For pickup and qmgr that is a wake-up. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/frame.h"
#include "base/log.h"
#include "master/master_int.h"

#define CONNECT_WAIT_MS 10000

int main(int argc, char **argv)
{
    struct buf path = BUF_INIT(4096);
    struct generation *g = NULL;
    struct err err = ERR_INIT;
    const char *dir = NULL;
    const char *request;
    int c;
    int fd;

    log_open(&(struct log_target){
        .program = "postkick", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((c = getopt(argc, argv, "c:v")) != -1) {
        if (c == 'c')
            dir = optarg;
        else if (c == 'v')
            log_verbose(log_verbosity() + 1);
        else
            fatal("usage: postkick [-c config_dir] [-v] class service request");
    }
    if (argc - optind != 3)
        fatal("usage: postkick [-c config_dir] [-v] class service request");
    if (strcmp(argv[optind], "public") != 0 && strcmp(argv[optind], "private") != 0)
        fatal("the class is public or private, not \"%s\"", argv[optind]);
    if (strchr(argv[optind + 1], '/') != NULL)
        fatal("the service is a name, not a path: %s", argv[optind + 1]);
    if (generation_load_main(dir, &g, &err) == -1)
        fatal("%s", err.text);
    path_join(&path, g->common.queue_directory, argv[optind]);
    buf_printf(&path, "/%s", argv[optind + 1]);
    fd = unix_connect(buf_cstr(&path), CONNECT_WAIT_MS, &err);
    if (fd == -1)
        fatal("%s", err.text);
    request = argv[optind + 2];
    (void) signal(SIGPIPE, SIG_IGN);
    /* a service that the connection alone wakes (pickup) may have closed it already */
    if (fd_write_all(fd, request, strlen(request)) == -1 && errno != EPIPE)
        fatal("write to %s failed", buf_cstr(&path));
    fd_close(&fd);
    buf_fini(&path);
    generation_unref(&g);
    return 0;
}
