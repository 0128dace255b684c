/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocking.h - a thread says that it may wait for something outside (a server, a name, a disk), so that another one
 * takes its place among those at work. Costs two uncontended locks; nothing in threads that take no work from a poller.
 *
 * What waits without saying so is noticed too, but only after some milliseconds.
 */
#ifndef PR_BLOCKING_H
#define PR_BLOCKING_H

/* May be nested. A caller may hold locks of a rank below LOCK_POLLER; errno is kept. */
void blocking_begin(void);
void blocking_end(void);

#endif
