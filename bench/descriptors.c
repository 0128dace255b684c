/* SPDX-License-Identifier: Apache-2.0 */
/* descriptors.c - see descriptors.h. */
#include "descriptors.h"

#include <errno.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/log.h"

enum { OTHERS = 32 }; /* standard streams, the loop's, a listener */

void descriptors_raise(int64_t count)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t) count + OTHERS;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur >= wanted)
        return;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted; /* root's privilege */
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
            return;
    }
    log_warning("the limit of open files stays: %s", err_errno_text(errno, (char[128]){0}, 128));
}
