/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_map_db.c - hash and btree files with damages of the usual kind: cut off, with blocks of zeros, with another beginning, with anything
 * in the page that says what the file is.
 */
#include "damaged.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
#if PR_HAVE_BDB
    static struct damaged_table tables[] = {{.type = &map_type_hash, .head = 512},
                                            {.type = &map_type_btree, .head = 512}};

    if (damaged_cfg == NULL)
        damaged_begin(tables, ARRAY_LEN(tables));
    if (size > 0)
        damaged_run(&tables[data[0] % 2], data + 1, size - 1);
#else
    (void) data;
    (void) size;
#endif
    return 0;
}
