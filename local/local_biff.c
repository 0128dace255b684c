/* SPDX-License-Identifier: Apache-2.0 */
/* local_biff.c - comsat(8): a datagram to this host says who has new mail, and where in his mailbox it begins. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "local/local_int.h"

#define COMSAT_PORT 512

void local_biff(const char *user, off_t offset)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(COMSAT_PORT),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct buf text = BUF_INIT(512);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    buf_printf(&text, "%s@%lld", user, (long long) offset);
    /* most hosts have nobody who listens: that is no trouble of the mail's */
    if (fd != -1)
        (void) !sendto(fd, text.ptr, text.len, 0, (const struct sockaddr *) &to, sizeof(to));
    if (fd != -1)
        (void) close(fd);
    buf_fini(&text);
}
