/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_int.h - what the files of import-queue(8) share.
 *
 * The way of a file: import_queue.c finds and opens it; import_file.c decides what is to be done with the message in it;
 * import_message.c and import_log.c read it; import_put.c puts it into our queue, or our maildrop.
 *
 * No message twice: (1) import_ledger.h has all that came in; (2) a message that is in our queue, with the same id, time of arrival and
 * length, came in by an import that was cut off before (1). A message that such an import brought in and that was delivered at once
 * comes again: as after every crash, twice rather than never.
 */
#ifndef PR_CLEANUP_IMPORT_INT_H
#define PR_CLEANUP_IMPORT_INT_H

#include <sys/stat.h>

#include "base/htable.h"
#include "cleanup/import_ledger.h"
#include "cleanup/import_message.h"
#include "mail/queue_id.h"
#include "qmgr/store.h"

enum import_state {
    IMPORT_HOLD,
    IMPORT_DEFERRED,
    IMPORT_ACTIVE,
    IMPORT_INCOMING,
    IMPORT_MAILDROP,
    IMPORT_CORRUPT, /* set aside; comes on hold */
    IMPORT_STATES
};

struct importer {
    const char *name; /* of the directory, as it was given */
    int dir;
    struct htable *logs[2]; /* enum import_log: queue id, char * path below dir */
    struct htable *traces;
    const char *queue_directory; /* ours */
    bool long_ids;
    struct store_writer *writer;
    struct store *present; /* what our queue had when the import began */
    struct import_ledger *ledger;
    struct arena *arena; /* of the message under way */
    bool stopped;        /* our side cannot take more */
    /* messages */
    unsigned long imported[IMPORT_STATES];
    unsigned long repeated;   /* were imported before */
    unsigned long finished;   /* had nobody left to be delivered to */
    unsigned long unfinished; /* were never acknowledged to whom they came from */
    unsigned long failed;
};

/* One file. */
struct import_file {
    struct importer *im;
    enum import_state state;
    const char *path; /* below the directory, for people */
    struct slice id;  /* its name */
    int fd;
    struct stat st;
};

/* import_queue.c: all of the directory. Says what it could not do; counts. */
void import_queue(struct importer *im);
/* Names a file that stays out, and why. */
void import_failed(struct importer *im, const char *path, const struct err *err);

/* import_file.c: an open queue file. */
void import_file(struct import_file *f);

/* What the two below must do: one message, or a part of its recipients. */
struct import_put {
    struct import_file *f;
    struct import_message *m; /* read before; its content is read again */
    struct mail_envelope env;
    const struct mail_rcpt *rcpts;
    size_t nrcpts;
};
/* import_put.c. Durable when they return 0. -1: with im->stopped, our side is to blame, else the file. */
NODISCARD int import_put_queue(struct import_put *p, struct err *err);
/* As sendmail hands it in. 1: a file of that name, with that time, is there already. */
NODISCARD int import_put_maildrop(struct import_put *p, struct err *err);

#endif
