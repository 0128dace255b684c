/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_db_pages.c - is a Berkeley DB file whole? Asked before the library gets it, which trusts what it reads: on a B-tree with a block of
 * zeros in it, it goes round for ever.
 *
 * Each page has its number in its head, so that a block that was never written, or is another file's, shows. Within pages nothing
 * is looked at. In a hash, pages of zeros are as they should be: those of buckets that nothing was put into.
 *
 * Page 0, in the byte order of who wrote it: 12 magic | 20 page size | 24 encrypted | 25 type | 26 1: with checksums |
 * 28 first free page | 32 last page | 48 flags | B-tree: 76 least keys of a page,
 * 88 root | hash: 72 last bucket, 76 and 80 masks, 96 and on: what a bucket's number lacks to its page's, for each doubling.
 * Each page: 8 number | 20 entries | 25 type.
 */
#include "maps/map_int.h"

#if PR_HAVE_BDB
#include <byteswap.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_db.h"

#define META_SIZE   512
#define HEAD_SIZE   26
#define PAGES_MOST  65536 /* that are looked at: some 30 ms, if they are in memory */
#define MAGIC_BTREE 0x053162
#define FLAGS_BTREE 0x41U /* duplicates, sorted ones */
#define FLAGS_HASH  0x05U
#define MAGIC_HASH  0x061561

enum {
    TYPE_NONE = 0,
    TYPE_INTERNAL = 3,
    TYPE_LEAF = 5,
    TYPE_OVERFLOW = 7,
    TYPE_HASH = 8,
    TYPE_BTREE = 9,
    TYPE_DUPLICATES = 12
};

static uint32_t number_at(const unsigned char *p, bool swapped)
{
    uint32_t n;

    memcpy(&n, p, sizeof(n));
    return swapped ? bswap_32(n) : n;
}

static bool is_empty(const unsigned char *head)
{
    for (size_t i = 0; i < HEAD_SIZE; i++)
        if (head[i] != 0)
            return false;
    return true;
}

static bool is_sound(const unsigned char *head, uint32_t page, bool is_btree, bool swapped)
{
    if (number_at(head + 8, swapped) != page)
        return !is_btree && is_empty(head);
    if (!is_btree)
        return true;
    switch (head[25]) {
    case TYPE_INTERNAL:
        return head[20] != 0 || head[21] != 0;
    case TYPE_NONE: /* free */
    case TYPE_LEAF:
    case TYPE_OVERFLOW:
    case TYPE_DUPLICATES:
        return true;
    default:
        return false;
    }
}

/* Are all buckets in pages that there are? */
static bool has_buckets(const unsigned char *meta, uint32_t last, bool swapped)
{
    uint32_t bucket = number_at(meta + 72, swapped);
    uint32_t high = number_at(meta + 76, swapped);
    unsigned doublings = 0;

    if (bucket >= last || high < bucket || (high & (high + 1)) != 0 || high / 2 > bucket ||
        number_at(meta + 80, swapped) != high / 2)
        return false;
    for (uint32_t first = 0; first <= bucket; doublings++) {
        uint32_t most = doublings == 0 ? 0 : (UINT32_C(1) << doublings) - 1;
        uint64_t page = number_at(meta + 96 + 4 * doublings, swapped);

        page += most < bucket ? most : bucket;
        if (page < 1 || page > last)
            return false;
        first = most + 1;
    }
    return true;
}

static int damaged(const char *file, const char *what, struct err *err)
{
    return err_permanent(err, "open database %s: damaged: %s", file, what);
}

int db_check_pages(int fd, const char *file, struct err *err)
{
    unsigned char meta[META_SIZE];
    unsigned char head[HEAD_SIZE];
    struct stat st;
    uint32_t magic;
    uint32_t size;
    uint32_t last;
    bool swapped;
    bool is_btree;

    if (fstat(fd, &st) == -1)
        return err_sys(err, "stat %s", file);
    if (st.st_size == 0)
        return 0; /* one that is to be made; else the library says so */
    if (pread(fd, meta, sizeof(meta), 0) != sizeof(meta))
        return damaged(file, "its first page is cut off", err);
    magic = number_at(meta + 12, false);
    swapped = magic != MAGIC_BTREE && magic != MAGIC_HASH;
    magic = number_at(meta + 12, swapped);
    is_btree = magic == MAGIC_BTREE;
    if ((!is_btree && magic != MAGIC_HASH) || meta[24] != 0)
        return damaged(file, "no database of this kind", err);
    size = number_at(meta + 20, swapped);
    last = number_at(meta + 32, swapped);
    if (size < 512 || size > 65536 || (size & (size - 1)) != 0)
        return damaged(file, "its page size is not one", err);
    if ((uint64_t) st.st_size < ((uint64_t) last + 1) * size)
        return damaged(file, "it is shorter than it says", err);
    if (meta[25] != (is_btree ? TYPE_BTREE : TYPE_HASH) || meta[26] > 1 ||
        number_at(meta + 28, swapped) > last)
        return damaged(file, "its first page is not what it should be", err);
    if ((number_at(meta + 48, swapped) & ~(is_btree ? FLAGS_BTREE : FLAGS_HASH)) != 0 ||
        (is_btree && number_at(meta + 76, swapped) < 2))
        return damaged(file, "no table of keys and values", err);
    if (is_btree && (number_at(meta + 88, swapped) == 0 || number_at(meta + 88, swapped) > last))
        return damaged(file, "its root is nowhere", err);
    if (!is_btree && !has_buckets(meta, last, swapped))
        return damaged(file, "its buckets are nowhere", err);
    if (is_btree) /* what is behind the last page may be named by a damaged one */
        last = (uint32_t) (st.st_size / size < PAGES_MOST ? st.st_size / size - 1 : PAGES_MOST);
    for (uint32_t page = 1; page <= last && page < PAGES_MOST; page++)
        if (pread(fd, head, sizeof(head), (off_t) page * size) != sizeof(head) ||
            !is_sound(head, page, is_btree, swapped))
            return err_permanent(err, "open database %s: damaged: page %u is not what it should be",
                                 file, page);
    return 0;
}
#endif
